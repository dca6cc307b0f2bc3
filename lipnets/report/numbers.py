"""Numbers as a reader wants them: few digits, and never better than they are."""

__all__ = ["bound", "count", "interval", "percent", "radius", "radius_name", "slope"]

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

THIN = "\u202f"  # narrow no-break space, between a number and its unit


def percent(share: float, unit: bool = True) -> str:
    """A share in percent, which is 100 or 0 only if it is.

    Example:
        >>> percent(0.9344, unit=False), percent(0.99999, unit=False), percent(1.0, unit=False)
        ('93.4', '> 99.9', '100.0')
    """
    if 0.9995 <= share < 1:
        text = "> 99.9"
    elif 0 < share < 0.0005:
        text = "< 0.1"
    else:
        text = f"{100 * share:.1f}"
    return f"{text}{THIN}%" if unit else text


def interval(low: float, high: float) -> str:
    """The ends of an interval of shares, in percent."""
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def bound(value: float, decimals: int = 5) -> str:
    """An upper bound, rounded upwards.

    Example:
        >>> bound(1.0000001), bound(0.25), bound(123456.7), bound(2e-9)
        ('1.00001', '0.25000', '1.23457e+5', '2.00001e-9')
    """
    return _rounded(value, decimals, ROUND_CEILING)


def slope(value: float, decimals: int = 5) -> str:
    """A number that is attained, rounded downwards."""
    return _rounded(value, decimals, ROUND_FLOOR)


def radius(value: float, decimals: int = 3) -> str:
    """A certified radius, rounded downwards.

    Example:
        >>> radius(0.1419), radius(2.0), radius(math.inf)
        ('0.141', '2.000', '∞')
    """
    if math.isinf(value):
        return "∞"
    return f"{Decimal(value).quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_FLOOR):f}"


def radius_name(value: float) -> str:
    """A radius as the field writes it.

    Example:
        >>> radius_name(36 / 255), radius_name(1.0), radius_name(0.25)
        ('36/255', '1', '0.25')
    """
    levels = 255 * value
    if value != round(value) and math.isclose(levels, round(levels), rel_tol=1e-9):
        return f"{round(levels)}/255"
    return f"{value:g}"


def count(number: int) -> str:
    """A whole number, its thousands set apart."""
    return f"{number:,}".replace(",", THIN)


def _rounded(value: float, decimals: int, rounding: str) -> str:
    if not math.isfinite(value) or value == 0:
        return f"{value:g}".replace("inf", "∞")
    exact = Decimal(value)
    exponent = 0 if 1e-3 <= abs(value) < 1e4 else exact.adjusted()
    unit = Decimal(1).scaleb(exponent - decimals)
    text = exact.quantize(unit, rounding=rounding).scaleb(-exponent)
    return f"{text:f}e{exponent:+d}" if exponent else f"{text:f}"
