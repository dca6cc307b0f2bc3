"""The docstrings of all that is public: there are some, they name every argument, and what is raised.

Short forms: what layers of torch.nn take is documented there; "those of `Other`" and "see `Other`" send to
another docstring, which must have what is missing; one or two arguments may be told in the sentence.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from torch import nn

import lipnets

TORCH = {
    name
    for cls in (nn.Linear, nn.Conv3d, nn.ConvTranspose3d)
    for name in inspect.signature(cls).parameters
}
FEW = 2


def public() -> Iterator[tuple[str, Any]]:
    """Names and values of the functions and classes that the package and its rooms export."""
    for room in ("", *lipnets._MODULES):
        module = getattr(lipnets, room) if room else lipnets
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                yield f"{room}.{name}".lstrip("."), value


PUBLIC = dict(public())


def docstring(value: Any) -> str:
    """Its own docstring, none that is inherited."""
    own = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    return inspect.cleandoc(own or "")


def told(text: str) -> set[str]:
    """The names under Arguments."""
    section = re.search(r"^Arguments:\n((?: {4}.*\n?|\n)*)", text, flags=re.MULTILINE)
    heads = re.findall(r"^ {4}([\w*, ]+):", section[1] if section else "", flags=re.MULTILINE)
    return {name for head in heads for name in re.findall(r"\w+", head)}


def missing(text: str, arguments: set[str], known: Callable[[str], str]) -> set[str]:
    """Arguments that a docstring should tell and does not; `known` gives the docstrings of others."""
    names = told(text)
    for other in re.findall(r"(?:those of|see|As) `(?:nn\.)?(\w+)`", text):
        names |= told(known(other)) | (TORCH if hasattr(nn, other) else set())
        if hasattr(nn, other):
            names |= {*inspect.signature(getattr(nn, other)).parameters}
    few = not told(text) and len(arguments) <= FEW
    return set() if few else arguments - names - TORCH


def named(name: str) -> str:
    """The docstring of a public class or function, whatever its room; empty if there is none."""
    for path, value in PUBLIC.items():
        if path.rpartition(".")[2] == name:
            return docstring(value)
    return ""


def raised(value: Any) -> set[str]:
    """The exceptions that the body of a function, or of a constructor, raises itself."""
    function = value.__init__ if inspect.isclass(value) else inspect.unwrap(value)
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(tree, ast.FunctionDef)
    return {*exceptions(ast.Module(tree.body, type_ignores=[]))}


def exceptions(node: ast.AST) -> Iterator[str]:
    """Names of exceptions that are raised below a node, but not in functions that it defines."""
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        yield ast.unparse(node.exc.func)
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.ClassDef):
            yield from exceptions(child)


def has_body(value: Any) -> bool:
    """Whether it is a function, or a class with a constructor that somebody wrote."""
    if not inspect.isclass(value):
        return True
    made = hasattr(value, "__dataclass_fields__") or getattr(value, "_is_protocol", False)
    return "__init__" in vars(value) and not made


WITH_BODY = [name for name, value in PUBLIC.items() if has_body(value)]


@pytest.mark.parametrize("name", PUBLIC)
def test_the_first_line_is_a_sentence(name: str) -> None:
    text = docstring(PUBLIC[name])
    assert text, f"{name} has no docstring"
    assert text.splitlines()[0].endswith((".", ":"))


@pytest.mark.parametrize(
    "name", [*WITH_BODY, *(n for n, v in PUBLIC.items() if hasattr(v, "__dataclass_fields__"))]
)
def test_every_argument_is_told(name: str) -> None:
    parameters = inspect.signature(PUBLIC[name]).parameters
    arguments = {each for each in parameters if not each.startswith("_")}
    assert not missing(docstring(PUBLIC[name]), arguments, named), name


@pytest.mark.parametrize("name", WITH_BODY)
def test_what_is_raised_is_told(name: str) -> None:
    text = docstring(PUBLIC[name])
    section = text.partition("\nRaises:\n")[2] or text[text.find("errors, are those of") :]
    for error in raised(PUBLIC[name]):
        assert error in section, f"{name} raises {error}, and does not say so"


def test_the_audit_finds_what_is_missing() -> None:
    text = "Adds.\n\nArguments:\n    a: The first.\n    b, *c: Others.\n"
    assert told(text) == {"a", "b", "c"}
    assert missing(text, {"a", "d"}, named) == {"d"}
    assert missing("Adds two numbers.", {"a", "b"}, named) == set()
    assert missing("Adds three numbers.", {"a", "b", "d"}, named) == {"a", "b", "d"}
    assert missing("Arguments are those of `f`.", {"a", "b", "d"}, {"f": text}.__getitem__) == {"d"}


def test_the_audit_finds_what_is_raised() -> None:
    def refuse(a: int) -> Callable[[], None]:
        if a:
            raise ValueError("no.")

        def later() -> None:
            raise KeyError("not by the outer one.")

        return later

    assert raised(refuse) == {"ValueError"}
