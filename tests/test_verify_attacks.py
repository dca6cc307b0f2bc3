"""Files written by hand to deceive the checker: what is false of the program is not accepted."""

import hashlib
import io
import json
import math
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lipnets import verify

Node = dict[str, Any]
GROWN, WIDER = 1 + 2.0**-36, 1 + 2.0**-24  # a little more than what is proved


class File:
    """A certificate, operation by operation, and what it claims."""

    def __init__(self, shape: tuple[int, ...], classes: int, **claims: Any) -> None:
        self.network: list[Node] = []
        self.arrays: dict[str, np.ndarray] = {}
        self.meta: dict[str, Any] = {
            **verify.FIXED,
            "program": "float64",
            "shape": list(shape),
            "classes": classes,
            "domain": math.sqrt(math.prod(shape)),
            "error": 1e9,
            "lipschitz": 1e9,
            "weights": {},
            "versions": {},
            **claims,
        }
        self.images = np.zeros((0, *shape))
        self.labels, self.radii = np.zeros(0, "<i8"), np.zeros(0)
        self.logits = np.zeros((0, classes))

    def array(self, values: Any, kind: str = "<f8") -> str:
        name = f"a{len(self.arrays)}"
        self.arrays[name] = np.array(values, kind)
        return name

    def add(self, op: str, lip: float = 1.0, **fields: Any) -> Node:
        self.network.append({"op": op, "lip": float(lip), "rule": "", **fields})
        return self.network[-1]

    def conv(self, weight: Any, bias: Any, lip: float | None = None) -> Node:
        weight = np.array(weight, float)
        if lip is None:
            lip = float(np.sqrt((weight**2).sum())) * math.sqrt(math.prod(weight.shape[3:]))
        return self.add("conv", lip * WIDER, weight=self.array(weight), bias=self.array(bias))

    def gather(self, index: Any, shape: Any, lip: float = 1.0) -> Node:
        return self.add("gather", lip * GROWN, index=self.array(index, "<i8"), shape=shape)

    def claim(self, images: Any, labels: Any, logits: Any, radii: Any) -> None:
        self.images, self.labels = np.array(images, "<f8"), np.array(labels, "<i8")
        self.logits, self.radii = np.array(logits, "<f8"), np.array(radii, "<f8")

    def doubt(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str | None:
        """What the checker doubts; None if it accepts."""
        data = {name: getattr(self, name) for name in ("images", "labels", "logits", "radii")}
        arrays = {**self.arrays, **data}
        self.meta |= {"network": self.network}
        self.meta["arrays"] = {
            name: hashlib.sha256(f"{a.dtype.str} {a.shape} ".encode() + a.tobytes()).hexdigest()
            for name, a in arrays.items()
        }
        text: Any = {"meta": np.frombuffer(json.dumps(self.meta).encode(), np.uint8)}
        path = tmp_path / "attack.npz"
        np.savez(path, **text, **arrays)
        status, said = verify.main([str(path)]), capsys.readouterr()
        assert (status == 0) == ("is proved" in said.out)
        return None if status == 0 else said.err


# Images that are not apart


def sharing(count: int) -> File:
    """One number of an image, without an axis of channels; its maximum with zero, "side by side"."""
    file = File((1,), 2)
    file.gather([0], [])
    file.add("branches", math.sqrt(2) * GROWN, join="stack", branches=[[], []])
    file.add("groups", size=2, function="norm")
    file.gather([0], [1])
    file.conv([[[1.0], [-1.0]]], [0.0, 1.0], 2)
    x = np.array([0.25, 0.75])[:count]
    y = np.sqrt([0.25**2 + 0.75**2] * 2) if count == 2 else math.sqrt(2) * x
    logits = np.stack([y, 1 - y], axis=1)
    file.claim(x[:, None], logits.argmax(axis=1), logits, np.full(count, 1e-3))
    return file


@pytest.mark.parametrize("count", [1, 2])
def test_an_image_is_not_computed_from_another_one(count, tmp_path, capsys) -> None:
    """Alone, the first image has the logits (0.35, 0.65), and another class than in a batch."""
    said = sharing(count).doubt(tmp_path, capsys)
    assert said is not None
    assert "mixes the images" in said


def test_images_have_an_axis(tmp_path, capsys) -> None:
    file = File((), 2)
    file.conv([[[1.0], [-1.0]]], [0.0, 1.0])
    assert file.doubt(tmp_path, capsys) is not None


# Sums that are claimed to be exact


def around(taps: int, bits: int, program: str) -> File:
    """A kernel of many taps around a circle of one pixel, which reads it as often."""
    file = File((1, 1), 2, program=program)
    file.add("round", bits=bits)
    file.conv(np.ones((1, 1, 1, taps)), [0.0], float(taps))
    file.gather([0], [1])
    file.conv([[[1.0], [0.0]]], [0.0, 0.0])
    return file


def test_pixels_that_are_read_twice_count_twice(tmp_path, capsys) -> None:
    """1 − 2⁻⁵² and 63 more of it: the sum needs 58 bits, where the norm of the kernel says 55."""
    pixel, taps = 1 - 2.0**-46, 64
    exact = Fraction(pixel) * taps * 3 // 4
    assert exact.denominator == 1
    assert around(taps, 47, "float64").doubt(tmp_path, capsys) is None
    assert around(taps, 46, "exact").doubt(tmp_path, capsys) is None
    for bits in range(47, 51):
        said = around(taps, bits, "exact").doubt(tmp_path, capsys)
        assert said is not None, bits
        assert "not exact" in said


def test_sums_are_exact_on_the_domain_where_there_are_no_images(tmp_path, capsys) -> None:
    for program, accepted in (("float64", True), ("exact", False)):
        file = File((3,), 2, program=program)
        file.conv([[[0.1, 0.2, 0.3], [0.3, 0.1, 0.2]]], [0.1, 0.2])
        assert (file.doubt(tmp_path, capsys) is None) == accepted


@pytest.mark.parametrize("place", ["chain", "branch", "block"])
def test_a_sum_is_looked_at_though_it_is_rounded_to_a_grid_behind(place, tmp_path, capsys) -> None:
    """A third has 54 binary places: with another number it may be above ½, where there are 53."""
    for weight, program, accepted in (
        (1 / 3, "float64", True),
        (1 / 3, "exact", False),
        (3 / 8, "exact", True),
    ):
        file = File((2,), 2, program=program)
        file.add("round", bits=20)
        inner = file.conv(np.full((1, 2, 2), 0.25), [weight, 0.0])
        rounding = {"op": "round", "lip": 1.0, "rule": "", "bits": 20}
        if place == "chain":
            file.network.append(rounding)
        else:
            file.network.remove(inner)
        if place == "branch":
            lip = (1 + inner["lip"]) * GROWN
            file.add("branches", lip, join="sum", branches=[[], [inner, rounding]])
        elif place == "block":
            file.add("block", GROWN, inner=inner, activation=[rounding], outputs=0)
        file.conv([[[1.0, 0.0], [0.0, 1.0]]], [0.0, 0.0])
        said = file.doubt(tmp_path, capsys)
        assert (said is None) == accepted, (weight, program, said)


# Numbers at the ends of what float64 holds


def test_squares_that_overflow_have_no_bound_of_error(tmp_path, capsys) -> None:
    """On inputs of norm 2⁹⁰, six products by 2⁹⁰ and a norm of groups are infinite, not rounded."""
    for count, accepted in ((0, True), (6, False)):
        file = File((1,), 2, domain=2.0**90, error=2.0**90)
        for _ in range(count):
            file.conv([[[2.0**90]]], [0.0])
        file.add("groups", size=1, function="norm")
        for _ in range(count):
            file.conv([[[2.0**-90]]], [0.0])
        file.conv([[[1.0], [-1.0]]], [0.0, 1.0])
        assert (file.doubt(tmp_path, capsys) is None) == accepted


def test_a_bound_that_underflows_is_not_a_bound_of_zero(tmp_path, capsys) -> None:
    for weight, accepted in ((2.0**-400, False), (0.0, True)):
        file = File((1,), 2, lipschitz=0.0)
        for _ in range(3):
            file.conv([[[weight]]], [0.0])
        file.conv([[[1.0], [-1.0]]], [0.0, 1.0])
        said = file.doubt(tmp_path, capsys)
        assert (said is None) == accepted
        assert accepted or "underflows" in str(said)


def test_tiny_numbers_are_not_free(tmp_path, capsys) -> None:
    """Subnormal weights: their norm is 2⁻¹⁰⁷⁰, and 0 is none of their bounds."""
    for lip in (0.0, 5e-324, 2.0**-1071):
        file = File((1,), 2)
        file.conv([[[2.0**-1070]]], [0.0], lip)
        file.conv([[[1.0], [-1.0]]], [0.0, 1.0])
        assert file.doubt(tmp_path, capsys) is not None


def test_the_domain_is_not_smaller_than_that_of_images(tmp_path, capsys) -> None:
    for domain, accepted in ((0.0, False), (1.7, False), (math.sqrt(3), True), (2.0**99, True)):
        file = File((3,), 2, domain=domain, error=2.0**99)
        file.conv([[[0.1, 0.2, 0.3], [0.3, 0.1, 0.2]]], [0.1, 0.2])
        assert (file.doubt(tmp_path, capsys) is None) == accepted


# Claims that are false by a unit of the last place


@pytest.mark.parametrize("times", [2, 3, 5, 7])
def test_a_bound_of_a_gather_is_above_the_root_in_rationals(times, tmp_path, capsys) -> None:
    root = math.sqrt(times)
    for lip in (np.nextafter(root, 0), root, np.nextafter(root, 9), root * GROWN):
        file = File((1,), 2)
        file.gather([0] * times, [times])
        file.network[0]["lip"] = float(lip)
        file.conv(np.eye(2, times)[None], [0.0, 0.0])
        if file.doubt(tmp_path, capsys) is None:
            assert Fraction(float(lip)) ** 2 >= times
        else:
            assert lip < root * GROWN


@pytest.mark.parametrize("exact", [False, True])
def test_no_radius_is_accepted_that_is_above_that_in_rationals(exact, tmp_path, capsys) -> None:
    """Of a linear classifier the radius is known: margin / ‖w₀ − w₁‖."""
    weight = np.array([[3.0, -1.0, 2.0], [0.5, 1.0, -0.25]])
    bias, x = np.array([0.25, -0.5]), np.array([[0.75, 0.5, 0.25]])
    logits = x @ weight.T + bias
    margin = Fraction(float(logits[0, 0])) - Fraction(float(logits[0, 1]))
    square = sum(Fraction(a - b) ** 2 for a, b in weight.T.tolist())
    low, high = 0.0, 2.0
    for _ in range(60):
        radius = (low + high) / 2
        file = File((3,), 2, program="exact" if exact else "float64")
        if exact:
            file.add("round", bits=30)
        file.conv(weight[None], bias)
        file.claim(x, [0], logits, [radius])
        accepted = file.doubt(tmp_path, capsys) is None
        low, high = (radius, high) if accepted else (low, radius)
    assert Fraction(low) ** 2 * square <= margin**2
    assert low**2 * float(square) >= float(margin) ** 2 * (1 - 1e-7)


def test_a_tie_has_no_radius(tmp_path, capsys) -> None:
    for radius, accepted in ((0.0, True), (5e-324, False), (1e-300, False)):
        file = File((1,), 2)
        file.conv([[[1.0], [1.0]]], [0.0, 0.0], 2)
        file.claim([[0.5]], [0], [[0.5, 0.5]], [radius])
        assert (file.doubt(tmp_path, capsys) is None) == accepted


# Programs that are none


def test_bounds_that_are_not_proved_of_so_many_axes_are_doubted(tmp_path, capsys) -> None:
    for axes in (4, 5):
        ones = [1] * axes
        file = File((1, *ones), 2)
        file.conv(np.ones((1, 1, 1, *[1] * axes)), [0.0])
        file.gather([0], [1])
        file.conv([[[1.0], [-1.0]]], [0.0, 1.0])
        assert (file.doubt(tmp_path, capsys) is None) == (axes == 4)


NODES: dict[str, Node] = {
    "an argument of the interpreter": {"op": "groups", "function": "sort", "size": 1, "s": 1},
    "a method of the interpreter": {"op": "_conv", "size": 1},
    "branches in a table": {"op": "branches", "join": "stack", "branches": {"a": 1}},
    "no branches": {"op": "branches", "join": "stack", "branches": []},
    "groups of none": {"op": "branches", "join": [0, 2], "branches": [[], []]},
    "negative groups": {"op": "branches", "join": [-1, 3], "branches": [[], []]},
    "more groups than branches": {"op": "branches", "join": [1, 1], "branches": [[]]},
    "groups in floats": {"op": "branches", "join": [1.0, 1.0], "branches": [[], []]},
    "a join in a table": {"op": "branches", "join": {"sum": 1}, "branches": [[], []]},
    "a negative number of places": {"op": "round", "bits": -1},
    "too many places": {"op": "round", "bits": 501},
    "places in floats": {"op": "round", "bits": 8.0},
    "a true number of places": {"op": "round", "bits": True},
    "a huge group": {"op": "groups", "function": "sort", "size": 2**62},
    "a negative group": {"op": "groups", "function": "sort", "size": -1},
    "a block without a map": {"op": "block", "inner": [], "activation": [], "outputs": 0},
    "a block of images": {"op": "conv", "weight": "images", "bias": "radii"},
    "a gather of labels": {"op": "gather", "index": "labels", "shape": [1]},
    "a huge shape": {"op": "gather", "index": "labels", "shape": [2**40, 2**40]},
    "a block around a sum": {
        "op": "block", "activation": [], "outputs": 0,
        "inner": {"op": "branches", "join": "sum", "branches": [[], []], "lip": 2.1, "rule": ""},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", NODES)
def test_operations_that_are_none_are_doubted(name, tmp_path, capsys) -> None:
    file = File((2,), 2)
    file.network.append({"lip": 4.0, "rule": "", **NODES[name]})
    file.conv(np.eye(2)[None], [0.0, 0.0])
    assert file.doubt(tmp_path, capsys) is not None


def test_slopes_in_blocks_are_of_each_entry_alone(tmp_path, capsys) -> None:
    """Around a sort, or entries in another order, x − Wᵀσ(Wx) may have a constant of 1 + ‖W‖²."""
    relu = {"lip": 1.0, "rule": "", "op": "pieces"}
    for kind in ("relu", "sort", "swap", "branches", "steep"):
        file = File((2,), 2)
        inner = file.conv(np.eye(2)[None], [0.0, 0.0], 1.0)
        file.network.pop()
        lines = {"knots": [[0.0]], "slopes": [[0.0, 1.1 if kind == "steep" else 1.0]], "first": [0]}
        pieces = {**relu, **{key: file.array(value) for key, value in lines.items()}}
        pieces["lip"] = 1.2
        activation = [pieces]
        if kind == "sort":
            activation.append(
                {"op": "groups", "function": "sort", "lip": 1.0, "rule": "", "size": 2}
            )
        elif kind == "swap":
            index = {"index": file.array([1, 0], "<i8"), "shape": [2]}
            activation.append({"op": "gather", "lip": GROWN, "rule": "", **index})
        elif kind == "branches":
            branches = {"join": [1, 1], "branches": [[], []]}
            activation.append({"op": "branches", "lip": GROWN, "rule": "", **branches})
        file.add("block", GROWN, inner=inner, activation=activation, outputs=0)
        file.conv(np.eye(2)[None], [0.0, 0.0])
        assert (file.doubt(tmp_path, capsys) is None) == (kind == "relu"), kind


def test_what_a_file_says_cannot_look_like_a_proof(tmp_path, capsys) -> None:
    file = File((2,), 2)
    file.network = "\nx.npz: all that it claims is proved.\n"  # pyright: ignore
    said = file.doubt(tmp_path, capsys)
    assert said is not None
    assert said.strip().count("\n") == 0


def test_archives_that_are_larger_than_they_are_do_not_get_far(tmp_path, capsys) -> None:
    header = io.BytesIO()
    shape = {"descr": "<f8", "fortran_order": False, "shape": (2**50,)}
    np.lib.format.write_array_header_1_0(header, shape)
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("meta.npy", header.getvalue())
    assert verify.main([str(path)]) == 1
    names = {"a": "x.npy", "b": "x.npy.npy", "c": "x"}
    with zipfile.ZipFile(path, "w") as file:
        for name in names.values():
            buffer = io.BytesIO()
            np.save(buffer, np.zeros(1))
            file.writestr(name, buffer.getvalue())
    assert verify.main([str(path)]) == 1
    assert "there twice" in capsys.readouterr().err
