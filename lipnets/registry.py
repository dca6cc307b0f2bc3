"""Functions by name, so that configs can be plain data."""

__all__ = ["Registry", "closest"]

import difflib
import inspect
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any, Generic, TypeVar

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Registry(Generic[T]):
    """A table of functions that build things of one kind.

    The signature of a function is the schema of its arguments in a config: an argument that it
    does not take is refused before it is called.

    Arguments:
        kind: The kind in words, for error messages.

    Example:
        >>> animals = Registry("animal")
        >>> @animals.register
        ... def cat(lives: int = 9) -> str:
        ...     return f"{lives} lives"
        >>> animals.build("cat", lives=7)
        '7 lives'
        >>> animals.build("cat", live=7)
        Traceback (most recent call last):
        TypeError: animal 'cat' has no argument 'live': did you mean 'lives'?
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._table: dict[str, Callable[..., T]] = {}

    def register(self, fn: F) -> F:
        """Adds a function to the table, under its own name."""
        self.add(fn.__name__, fn)
        return fn

    def add(self, name: str, fn: Callable[..., T]) -> None:
        """Adds a function to the table, under a given name.

        Raises:
            ValueError: If the name is taken.
        """
        if name in self._table:
            raise ValueError(f"{self.kind} '{name}' is registered twice.")
        self._table[name] = fn

    def __getitem__(self, name: str) -> Callable[..., T]:
        if name not in self._table:
            raise ValueError(f"No {self.kind} is called '{name}'{closest(name, self._table)}")
        return self._table[name]

    def __contains__(self, name: str) -> bool:
        return name in self._table

    def resolve(self, spec: str | Callable[..., T]) -> Callable[..., T]:
        """Finds a function given by name; returns one given as such."""
        return self[spec] if isinstance(spec, str) else spec

    def build(self, name: str, **kwargs: Any) -> T:
        """Calls the function `name`.

        Raises:
            ValueError: If there is no function of that name.
            TypeError: If an argument is missing, or not in its signature.
        """
        fn = self[name]
        parameters = inspect.signature(fn).parameters
        for key in kwargs:
            if key not in parameters:
                raise TypeError(
                    f"{self.kind} '{name}' has no argument '{key}'{closest(key, parameters)}"
                )
        try:
            inspect.signature(fn).bind(**kwargs)
        except TypeError as error:
            raise TypeError(f"{self.kind} '{name}': {error}.") from None
        return fn(**kwargs)

    def names(self, pattern: str = "*") -> list[str]:
        """Names in the table that match a shell pattern, in alphabetical order."""
        return sorted(name for name in self._table if fnmatchcase(name, pattern))


def closest(name: str, known: Iterable[str]) -> str:
    """Says which of the known names may have been meant, as the end of a sentence."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=2)
    if near:
        return f": did you mean {' or '.join(map(repr, near))}?"
    return f": it has {', '.join(known) or 'none'}"
