"""Names of models, chosen as timm chooses them: by wildcards, and by what their cards say."""

__all__ = ["list_models"]

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from ..registry import closest
from ._registry import card, registry


def list_models(
    filter: str | Iterable[str] = "",
    family: str | Iterable[str] = "",
    *,
    exclude_filters: str | Iterable[str] = "",
    one_lipschitz: bool = False,
) -> list[str]:
    """Names of variants, those that differ by a number in the order of that number.

    Arguments:
        filter: Shell patterns, of which a name is to match one; all names if there is none.
        family: Families, to one of which a variant is to belong, such as `lipconvnet`.
        exclude_filters: Shell patterns, of which a name is to match none.
        one_lipschitz: Whether to leave out families that promise no bound of 1.

    Raises:
        ValueError: If there is no such family.

    Example:
        >>> list_models("lipconvnet1*", exclude_filters="*5")
        ['lipconvnet10']
        >>> list_models(["*mlp_s", "*mlp_m"], exclude_filters=["aol*"], one_lipschitz=True)
        ['lipmlp_m', 'lipmlp_s']
    """
    included, families, excluded = _several(filter), _several(family), _several(exclude_filters)
    names = registry.names()
    known = {card(name).family for name in names}
    for each in families:
        if each not in known:
            raise ValueError(f"No family of models is called '{each}'{closest(each, known)}")
    chosen = [
        name
        for name in names
        if (not included or any(fnmatchcase(name, each) for each in included))
        and not any(fnmatchcase(name, each) for each in excluded)
        and (not families or card(name).family in families)
        and (not one_lipschitz or card(name).guarantee == "1-Lipschitz")
    ]
    return sorted(chosen, key=_natural)


def _several(given: str | Iterable[str]) -> list[str]:
    """The texts that were given: none, one or several."""
    return [given] * bool(given) if isinstance(given, str) else list(given)


def _natural(name: str) -> list[tuple[int, str]]:
    """What to sort a name by, so that lipconvnet5 comes before lipconvnet10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
