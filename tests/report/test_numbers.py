"""Tests of how numbers are written: against exact rationals."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipnets.report import numbers


def read(text: str) -> Fraction:
    return Fraction(text)


@given(st.floats(min_value=1e-300, max_value=1e300), st.integers(1, 8))
def test_bounds_are_never_written_smaller_than_they_are(value: float, decimals: int) -> None:
    written = read(numbers.bound(value, decimals))
    assert value <= written
    assert written <= Fraction(value) * (1 + Fraction(1000, 10**decimals))


@given(st.floats(min_value=1e-300, max_value=1e300), st.integers(1, 8))
def test_slopes_are_never_written_larger_than_they_are(value: float, decimals: int) -> None:
    written = read(numbers.slope(value, decimals))
    assert written <= value
    assert Fraction(value) <= written + max(1, Fraction(value)) * Fraction(1, 10**decimals)


@given(st.floats(min_value=0, max_value=1e6))
def test_radii_are_never_written_larger_than_they_are(value: float) -> None:
    written = read(numbers.radius(value))
    assert written <= value < written + Fraction(1, 1000)


@pytest.mark.parametrize(
    ("share", "written"),
    [
        *[(0, "0.0"), (1, "100.0"), (0.5, "50.0"), (0.9344, "93.4"), (9999 / 10000, "> 99.9")],
        *[(1 / 10000, "< 0.1"), (0.9994, "99.9"), (0.9995, "> 99.9"), (0.0005, "0.1")],
    ],
)
def test_percentages_are_whole_only_if_they_are(share: float, written: str) -> None:
    assert numbers.percent(share, unit=False) == written
    assert numbers.percent(share) == f"{written}\u202f%"


@pytest.mark.parametrize(
    ("radius", "written"),
    [(0.0, "0"), (36 / 255, "36/255"), (108 / 255, "108/255"), (1.0, "1"), (0.25, "0.25")],
)
def test_radii_have_the_names_that_the_field_gives_them(radius: float, written: str) -> None:
    assert numbers.radius_name(radius) == written


def test_thousands_are_set_apart() -> None:
    assert [numbers.count(n) for n in (7, 1234, 1234567)] == [
        "7",
        "1\u202f234",
        "1\u202f234\u202f567",
    ]


def test_numbers_that_are_not_finite_are_written() -> None:
    assert numbers.bound(math.inf) == "∞"
    assert numbers.radius(math.inf) == "∞"
    assert numbers.bound(0.0) == "0"
