"""From signatures to schemas, and from what pydantic complains of to sentences."""

__all__ = ["Section", "describe", "is_plain", "one_of"]

import inspect
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import ErrorDetails

from ..registry import Registry, closest


class Section(BaseModel):
    """A part of a config: immutable, and without room for keys that nobody reads."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=()
    )


def one_of(base: type[Section], registry: Registry[Any], *, without: Iterable[str] = ()) -> Any:
    """The type of sections that name one function of a registry and give its arguments.

    Arguments:
        base: The section, with a `name` and what every function of the registry takes.
        registry: The functions.
        without: Arguments that are not for configs.
    """
    variants = [_variant(base, name, registry[name], set(without)) for name in registry.names()]
    if len(variants) == 1:
        return variants[0]
    return Annotated[Union[tuple(variants)], Field(discriminator="name")]  # noqa: UP007


def is_plain(value: Any) -> bool:
    """Whether a value can be written in YAML and read back as it is."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    return value is None or isinstance(value, bool | int | float | str)


def describe(error: ValidationError, schema: type[BaseModel]) -> list[str]:
    """A sentence for every mistake that pydantic found, by key."""
    sentences: dict[str, list[str]] = {}
    for detail in error.errors():
        path, sections = _locate(detail, schema)
        rest, sentence = _sentence(detail, sections)
        sentences.setdefault(path + rest, []).append(sentence)
    return [f"{path}: {' or '.join(each)}" for path, each in sentences.items()]


def _variant(
    base: type[Section], name: str, fn: Callable[..., Any], without: set[str]
) -> type[Section]:
    fields: dict[str, Any] = {"name": (Literal[name], ...)}
    for parameter in inspect.signature(fn, eval_str=True).parameters.values():
        if parameter.name in without or parameter.name in base.model_fields:
            continue
        empty = inspect.Parameter.empty
        annotation = Any if parameter.annotation is empty else _plain_part(parameter.annotation)
        default = ... if parameter.default is empty else parameter.default
        fields[parameter.name] = (annotation, default)
    return create_model(name, __base__=base, __doc__=_first_paragraph(fn), **fields)


def _plain_part(annotation: Any) -> Any:
    """What of an annotation can be written in YAML: names, but no functions."""
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [part for part in get_args(annotation) if _can_be_written(part)]
        return Union[tuple(parts)] if parts else Any  # noqa: UP007
    return annotation if _can_be_written(annotation) else Any


def _can_be_written(annotation: Any) -> bool:
    plain = (int, float, bool, str, list, tuple, dict, type(None), Sequence, Mapping, Literal, Any)
    return (get_origin(annotation) or annotation) in plain


def _first_paragraph(fn: Callable[..., Any]) -> str | None:
    text = inspect.getdoc(fn)
    return text.split("\n\n")[0] if text else None


def _locate(detail: ErrorDetails, schema: type[BaseModel]) -> tuple[str, list[type[BaseModel]]]:
    """The path of a mistake in the words of the config, and the sections that may stand there.

    Among the keys, pydantic puts the names of variants and of the types that it tried.
    """
    path, sections = "", [schema]
    for item in detail["loc"]:
        if isinstance(item, int):
            path += f"[{item}]"
        elif len(sections) > 1 and any(each.__name__ == item for each in sections):
            sections = [each for each in sections if each.__name__ == item]
        elif owners := [each for each in sections if item in each.model_fields]:
            path += f".{item}"
            sections = list(_sections(owners[0].model_fields[item].annotation))
        elif detail["type"] == "extra_forbidden":
            path += f".{item}"
        else:
            break  # the name of a type
    return path.removeprefix("."), sections


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)


def _sentence(detail: ErrorDetails, sections: list[type[BaseModel]]) -> tuple[str, str]:
    """The rest of the path, and what is wrong there."""
    value = detail["input"]
    got = f" (got {value!r})" if is_plain(value) else ""
    match detail["type"]:
        case "missing":
            return "", "is missing"
        case "extra_forbidden":
            known = {field for section in sections for field in section.model_fields}
            return "", f"unknown key{closest(str(detail['loc'][-1]), known)}{got}"
        case "union_tag_not_found":
            return ".name", "is missing"
        case "union_tag_invalid":
            known = [section.__name__ for section in sections]
            name = str(detail.get("ctx", {}).get("tag"))
            return ".name", f"unknown name '{name}'{closest(name, known)}"
        case "model_attributes_type" | "model_type":
            such = f", such as {{name: {value}}}" if isinstance(value, str) and value else ""
            return "", f"should hold keys and values{such}{got}"
        case "tuple_type":
            return "", f"should be a list{got}"
        case "value_error":
            return "", detail["msg"].removeprefix("Value error, ")
        case _:
            return "", detail["msg"].replace("Input should", "should") + got
