"""Templates of pages, and how they write numbers."""

__all__ = ["environment", "read"]

from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from . import numbers


def environment() -> Environment:
    """Where templates of pages are found, with the filters that they use."""
    found = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=PackageLoader("lipnets", "report"),
    )
    found.filters |= {
        "bound": numbers.bound,
        "count": numbers.count,
        "percent": numbers.percent,
        "radius": numbers.radius,
        "radius_name": numbers.radius_name,
        "slope": numbers.slope,
    }
    found.globals["interval"] = numbers.interval
    return found


def read(name: str) -> str:
    """A file that pages hold whole, such as their style."""
    return (files("lipnets.report") / name).read_text(encoding="utf-8")
