"""Registries refuse what they do not know, and suggest what may have been meant."""

import pytest

from lipnets.records import Record
from lipnets.registry import Registry, closest


@pytest.fixture
def shapes() -> Registry:
    registry: Registry = Registry("shape")

    @registry.register
    def square(side: float = 1.0) -> float:
        return side * side

    @registry.register
    def circle(radius: float) -> float:
        return 3 * radius * radius

    return registry


def test_build_calls_by_name(shapes) -> None:
    assert shapes.build("square", side=3.0) == 9
    assert shapes.names() == ["circle", "square"]
    assert shapes.names("sq*") == ["square"]
    assert "circle" in shapes
    assert shapes.resolve("circle") is shapes["circle"]
    assert shapes.resolve(len) is len


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda r: r["sqare"], ValueError, "No shape is called 'sqare': did you mean 'square'?"),
        (lambda r: r["hexagon"], ValueError, "No shape is called 'hexagon': it has circle, square"),
        (
            lambda r: r.build("square", sid=1),
            TypeError,
            "has no argument 'sid': did you mean 'side'?",
        ),
        (lambda r: r.build("circle"), TypeError, "shape 'circle': missing a required argument"),
        (lambda r: r.add("circle", len), ValueError, "shape 'circle' is registered twice"),
    ],
)
def test_mistakes_are_named(shapes, call, error, message) -> None:
    with pytest.raises(error) as raised:
        call(shapes)
    assert message in str(raised.value)


def test_errors_inside_a_function_are_its_own(shapes) -> None:
    with pytest.raises(TypeError, match=r"can't multiply|unsupported"):
        shapes.build("square", side="long")


def test_closest_of_nothing() -> None:
    assert closest("a", []) == ": it has none"


def test_records_leave_out_what_they_do_not_have() -> None:
    record = Record("accuracy", 0.0, "fraction", count=0, details={"radius": 0.0})
    expected = {
        "name": "accuracy",
        "value": 0.0,
        "unit": "fraction",
        "count": 0,
        "details": {"radius": 0.0},
    }
    assert record.to_dict() == expected
    assert "details" not in Record("accuracy", 1.0, "fraction").to_dict()
