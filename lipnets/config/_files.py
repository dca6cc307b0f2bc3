"""From YAML files and assignments on the command line to one tree of plain data."""

__all__ = ["ConfigError", "dump", "merge", "read_file", "read_overrides", "shipped"]

import copy
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..invocation import spelled

Tree = dict[str, Any]

_CONFIGS = Path(__file__).parents[1] / "configs"  # in a clone, a link to those at its root


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
    """Reads a file on top of those that its `base` names; what is wrong is added to `problems`.

    Where there is no such file, it is looked for among the configs that come with lipnets.
    """
    return _read(_located(path), (), problems)


def shipped() -> list[str]:
    """The configs that come with lipnets, as a command line names them: `configs/digits/sll.yaml`."""
    paths = sorted(_CONFIGS.glob("*/*.yaml"))
    return [f"configs/{each.relative_to(_CONFIGS).as_posix()}" for each in paths]


def read_overrides(overrides: Sequence[str], problems: list[str]) -> Tree:
    """Reads assignments such as `"optimizer.lr=0.05"`; what is wrong is added to `problems`."""
    tree: Tree = {}
    for line in overrides:
        key, equals, text = line.partition("=")
        keys = [part.strip() for part in key.split(".")]
        if not equals or not all(keys):
            problems.append(f"'{line}': should read \"key.sub=value\", without spaces")
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
        problems.append(f"{path}: there is no such file{_nearest(path)}")
        return {}
    except IsADirectoryError:
        run = f", that of a run: its config is {path / 'config.yaml'}"
        which = run if (path / "config.yaml").is_file() else ""
        problems.append(f"{path}: should be a YAML file, and is a directory{which}")
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
        beside = path.parent / base
        file = beside if beside.exists() else _located(Path(base), beside)
        inherited = _read(file, (*above, path.resolve()), problems)
        merged = merge(merged, inherited)
    return merge(merged, tree)


def _located(path: Path, otherwise: Path | None = None) -> Path:
    """A file that exists, or that of the same name among the configs that come with lipnets."""
    inside = path.parts[1:] if path.parts[:1] == ("configs",) else path.parts
    if not path.exists() and (_CONFIGS.joinpath(*inside)).is_file():
        return _CONFIGS.joinpath(*inside)
    return otherwise or path


def _nearest(path: Path) -> str:
    """What there is instead of a file that does not exist, as the end of a sentence."""
    beside = {each.stem: each.name for each in sorted(path.parent.glob("*.yaml"))}
    close = difflib.get_close_matches
    near = [str(path.with_name(beside[each])) for each in close(path.stem, beside)]
    near = near or close(path.as_posix(), shipped(), n=2, cutoff=0.75)
    near = near or [each for each in shipped() if Path(each).stem == path.stem]
    if near:
        return f": did you mean {' or '.join(map(repr, near))}?"
    if beside:
        return f"; there are {', '.join(beside.values())}"
    return f"; {spelled('train')} --list names those that come with lipnets"


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
