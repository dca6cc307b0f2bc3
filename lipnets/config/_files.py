"""From YAML files and assignments on the command line to one tree of plain data."""

__all__ = ["ConfigError", "dump", "merge", "read_file", "read_overrides"]

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

Tree = dict[str, Any]


class ConfigError(ValueError):
    """A config that is not valid: says all that is wrong with it.

    Arguments:
        source: The file that it is from, if any.
        problems: A sentence for each mistake.
    """

    def __init__(self, source: str, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        head = f"The config {source} is not valid:" if source else "The config is not valid:"
        super().__init__("\n  ".join([head, *self.problems]))


def read_file(path: Path, problems: list[str]) -> Tree:
    """Reads a file on top of those that its `base` names; what is wrong is added to `problems`."""
    return _read(path, (), problems)


def read_overrides(overrides: Sequence[str], problems: list[str]) -> Tree:
    """Reads assignments such as `"optimizer.lr=0.05"`; what is wrong is added to `problems`."""
    tree: Tree = {}
    for line in overrides:
        key, equals, text = line.partition("=")
        keys = [part.strip() for part in key.split(".")]
        if not equals or not all(keys):
            problems.append(f"'{line}': should read \"key.sub=value\"")
            continue
        try:
            _assign(tree, keys, yaml.load(text, Loader=_Loader))
        except yaml.YAMLError as error:
            problems.append(f"'{line}': the value is not YAML: {_first_line(error)}")
    return tree


def merge(tree: Mapping[str, Any], update: Mapping[str, Any]) -> Tree:
    """A new tree with the values of `update` over those of `tree`.

    Where both have a `name`, and another one, the update replaces the tree.
    """
    if "name" in tree and "name" in update and tree["name"] != update["name"]:
        return copy.deepcopy(dict(update))
    merged = copy.deepcopy(dict(tree))
    for key, value in update.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else copy.deepcopy(value)
    return merged


def dump(tree: Tree) -> str:
    """The text of a YAML file that holds `tree`."""
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, default_flow_style=None)


def _read(path: Path, above: tuple[Path, ...], problems: list[str]) -> Tree:
    """The tree of a file, merged into that of its bases; problems are appended."""
    if path.resolve() in above:
        circle = " → ".join(each.name for each in (*above, path))
        problems.append(f"base: files go round in a circle: {circle}")
        return {}
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        nearby = sorted(each.name for each in path.parent.glob("*.yaml"))
        hint = f"; there are {', '.join(nearby)}" if nearby else ""
        problems.append(f"{path}: there is no such file{hint}")
        return {}
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path}: cannot be read: {error}")
        return {}
    except yaml.YAMLError as error:
        problems.append(f"{path}: is not YAML: {_first_line(error)}")
        return {}
    if not isinstance(tree, Mapping):
        problems.append(f"{path}: should hold keys and values, got {_kind(tree)}")
        return {}

    tree = dict(tree)
    bases = tree.pop("base", [])
    merged: Tree = {}
    for base in [bases] if isinstance(bases, str) else bases:
        inherited = _read(path.parent / base, (*above, path.resolve()), problems)
        merged = merge(merged, inherited)
    return merge(merged, tree)


def _assign(tree: Tree, keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        if not isinstance(tree.get(key), dict):
            tree[key] = {}
        tree = tree[key]
    tree[keys[-1]] = value


def _first_line(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        line, column = error.problem_mark.line + 1, error.problem_mark.column + 1
        return f"line {line}, column {column}: {error.problem or error.context}"
    return str(error).splitlines()[0]


def _kind(tree: Any) -> str:
    return "nothing" if tree is None else f"a {type(tree).__name__}"


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-3 is a float, and a key that comes twice a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                problem = f"the key '{key.value}' comes twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return mapping


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)
