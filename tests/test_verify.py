"""The checker in numpy: what is true is proved, and whatever is changed in a file is doubted."""

import copy
import hashlib
import inspect
import io
import itertools
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lipnets
from lipnets import layers, models, verify
from lipnets.certificate_file import restore, same_program
from lipnets.certify import certify
from lipnets.exact import Round
from lipnets.export import export
from lipnets.layers import GroupSort, MaxMin, Parallel, Residual
from lipnets.layers.concat import Concat
from lipnets.program import Affine, AxisMaps, Gather

SHAPE = (2, 6, 6)
KINDS = ["float64", "exact"]
Meta, Arrays = dict[str, Any], dict[str, np.ndarray]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    branch = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), nn.ReLU())
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        MaxMin(),
        Residual(branch),
        nn.Conv2d(4, 8, 2, stride=2, groups=2, padding=1),
        GroupSort(4),
        nn.PixelShuffle(2),
        nn.Flatten(),
        nn.Linear(128, 6),
        MaxMin(),
        nn.Linear(6, 4),
    )
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.weight.data *= 2  # margins of the order of 1
    return model.eval()


def pictures(count: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (count, *shape), generator=generator).float() / 255


@cache
def content(kind: str) -> bytes:
    model = network()
    model = export(model, SHAPE, program="exact") if kind == "exact" else model
    return saved(model, SHAPE, 6)


def saved(model: nn.Module, shape: tuple[int, ...], count: int) -> bytes:
    certificate, images = certify(model.eval(), shape), pictures(count, shape)
    path = Path(f"/tmp/lipnets-test-{id(model)}.npz")
    try:
        certificate.save(path, images, certificate.logits(images).argmax(dim=1))
        return path.read_bytes()
    finally:
        path.unlink(missing_ok=True)


def parts_of(data: bytes) -> tuple[Meta, Arrays]:
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        arrays = {name: file[name].copy() for name in file.files}
    return json.loads(arrays.pop("meta").tobytes()), arrays


def packed(meta: Meta | str, arrays: Arrays, *, rehash: bool = True) -> bytes:
    if rehash and isinstance(meta, dict):
        meta["arrays"] = {
            name: hashlib.sha256(f"{a.dtype.str} {a.shape} ".encode() + a.tobytes()).hexdigest()
            for name, a in arrays.items()
        }
    text = meta if isinstance(meta, str) else json.dumps(meta)
    buffer = io.BytesIO()
    description: Any = {"meta": np.frombuffer(text.encode(), np.uint8)}
    np.savez(buffer, **description, **arrays)
    return buffer.getvalue()


def check(data: bytes, tmp_path: Path) -> int:
    path = tmp_path / "certificate.npz"
    path.write_bytes(data)
    return verify.main([str(path)])


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    """All operations of a program, from the outside in."""
    if isinstance(node, dict):
        yield node
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from (each for each in nodes(part) if "op" in each)


def head(meta: Meta) -> dict[str, Any]:
    """The matrix that gives the logits."""
    return meta["network"][-1]


def node(meta: Meta, op: str, index: int = 0) -> dict[str, Any]:
    return [each for each in nodes(meta["network"]) if each["op"] == op][index]


# What is true


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_true_is_proved(kind, tmp_path, capsys) -> None:
    assert check(content(kind), tmp_path) == 0
    said = capsys.readouterr().out
    assert "all that it claims is proved" in said
    assert "6, of which 6 with a radius" in said
    assert ("same to the bit" in said) == (kind == "exact")


@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_it_proves_is_that_of_the_certificate(kind, tmp_path) -> None:
    model = export(network(), SHAPE, program="exact") if kind == "exact" else network()
    meta, _ = parts_of(content(kind))
    assert certify(model, SHAPE).lipschitz <= meta["lipschitz"]
    assert meta["lipschitz"] == pytest.approx(certify(model, SHAPE).lipschitz, rel=1e-6)


def test_a_program_of_its_own_runs_it_without_torch_and_without_lipnets(tmp_path) -> None:
    path = tmp_path / "certificate.npz"
    path.write_bytes(content("exact"))
    script = Path(verify.__file__)
    code = f"""
import sys, runpy
sys.modules["torch"] = sys.modules["lipnets"] = None
sys.argv = ["verify.py", {str(path)!r}]
runpy.run_path({str(script)!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "all that it claims is proved" in done.stdout


def test_the_module_exits_with_1_and_a_sentence_where_there_is_a_doubt(tmp_path) -> None:
    meta, arrays = parts_of(content("float64"))
    arrays["radii"][0] += 1e-6
    (tmp_path / "c.npz").write_bytes(packed(meta, arrays))
    command = [sys.executable, "-m", "lipnets.verify", str(tmp_path / "c.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "NOT proved: a radius is not proved" in done.stderr


# Tampering: each function changes a file, whose hashes are then made right again


def _node(op: str, index: int = 0, /, **changes: Any) -> Callable[[Meta, Arrays], None]:
    return lambda meta, arrays: node(meta, op, index).update(copy.deepcopy(changes))


def _meta(**changes: Any) -> Callable[[Meta, Arrays], None]:
    return lambda meta, arrays: meta.update(changes)


def _lower(op: str, index: int) -> Callable[[Meta, Arrays], None]:
    def change(meta: Meta, arrays: Arrays) -> None:
        node(meta, op, index)["lip"] *= 1 - 1e-7

    return change


def _children(change: Callable[[list[Any]], Any]) -> Callable[[Meta, Arrays], None]:
    return lambda meta, arrays: change(meta["network"])


def _first(children: list[Any], op: str) -> int:
    return next(i for i, child in enumerate(children) if child["op"] == op)


def _array(name: str, change: Callable[[np.ndarray], Any]) -> Callable[[Meta, Arrays], None]:
    """Replaces an array of the file, or the array that an operation names, by what a function gives."""

    def replaced(meta: Meta, arrays: Arrays) -> None:
        key = name
        if "." in name:
            op, field = name.split(".")
            own = [head(meta)] if op == "head" else nodes(meta["network"])
            key = next(each[field] for each in own if op in ("head", each["op"]) and each[field])
        result = change(arrays[key])
        arrays[key] = arrays[key] if result is None else result

    return replaced


def _set(index: Any, value: Any) -> Callable[[np.ndarray], None]:
    return lambda array: array.__setitem__(index, value)


def _flip(labels: np.ndarray) -> None:
    labels[0] = (labels[0] + 1) % 4


def _bit(weight: np.ndarray) -> None:
    weight.view(np.uint8).reshape(-1)[-2] ^= 16


def _scaled(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: (array * factor).astype(array.dtype)


def _drop_images(meta: Meta, arrays: Arrays) -> None:
    del arrays["images"]


def _bias_of_one(meta: Meta, arrays: Arrays) -> None:
    """A bias that would broadcast."""
    arrays[head(meta)["bias"]] = arrays[head(meta)["bias"]][:1]


def _branch_that_broadcasts(meta: Meta, arrays: Arrays) -> None:
    """A branch of one channel where the other has four."""
    branch = node(meta, "branches")["branches"][1]
    convolution = next(each for each in nodes(branch) if each["op"] == "conv")
    arrays[convolution["weight"]] = arrays[convolution["weight"]][:, :1]
    arrays[convolution["bias"]] = arrays[convolution["bias"]][:1]


def _groups(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Meta, Arrays], None]:
    """Changes the weight of the convolution that has two groups."""

    def changed(meta: Meta, arrays: Arrays) -> None:
        own = [each["weight"] for each in nodes(meta["network"]) if each["op"] == "conv"]
        [name] = [name for name in own if len(arrays[name]) == 2]
        arrays[name] = change(arrays[name])

    return changed


def _shared_array(meta: Meta, arrays: Arrays) -> None:
    node(meta, "conv", 0)["weight"] = node(meta, "conv", 1)["weight"]


TAMPERS: dict[str, Callable[[Meta, Arrays], None]] = {
    "a smaller bound of a linear map": _lower("conv", -1),
    "a smaller bound of a convolution": _lower("conv", 0),
    "a smaller bound of a circular convolution": _lower("conv", 1),
    "a smaller bound of a strided convolution": _lower("conv", 2),
    "a smaller bound of the sum": _lower("branches", 0),
    "a smaller bound of a sort": _lower("groups", 0),
    "a smaller bound of an activation": _lower("pieces", 0),
    "a smaller bound of a gather": _lower("gather", -1),
    "a bound of a sort that is nan": _node("groups", lip=float("nan")),
    "a rule that is no text": _node("groups", rule=1),
    "a bound of zero": _node("conv", -1, lip=0.0),
    "a negative bound": _node("conv", -1, lip=-1.0),
    "a bound that is no float": _node("conv", -1, lip=True),
    "a bound in words": _node("conv", -1, lip="1"),
    "a smaller bound of all": lambda m, a: m.update(lipschitz=m["lipschitz"] * (1 - 1e-6)),
    "a smaller error": lambda m, a: m.update(error=m["error"] / 1e3),
    "a larger domain": lambda m, a: m.update(domain=m["domain"] * 1e9),
    "a larger radius": _array("radii", lambda r: r + 1e-6),
    "a huge radius": _array("radii", _set(0, 1e300)),
    "a negative radius": _array("radii", _set(0, -1e-9)),
    "a radius that is nan": _array("radii", _set(0, np.nan)),
    "a radius that is infinite": _array("radii", _set(0, np.inf)),
    "radii in float32": _array("radii", lambda r: r.astype("<f4")),
    "one radius for all": _array("radii", lambda r: r[:1]),
    "another label": _array("labels", _flip),
    "a label that is no class": _array("labels", _set(0, 4)),
    "a negative label": _array("labels", _set(0, -1)),
    "labels as floats": _array("labels", lambda y: y.astype("<f8")),
    "another logit": _array("logits", lambda z: z + 1e-9 * np.eye(4)[0]),
    "larger margins": _array("logits", _scaled(1.001)),
    "a logit that is nan": _array("logits", _set((0, 0), np.nan)),
    "another pixel": _array("images", _set((0, 0, 0, 0), 0.5)),
    "a pixel that is nan": _array("images", _set((0, 0, 0, 0), np.nan)),
    "images as bytes": _array("images", lambda x: (x * 255).astype("|u1")),
    "images out of [0, 1]": _array("images", lambda x: x * 2),
    "images of another shape": _array("images", lambda x: x.reshape(-1, 2, 4, 9)),
    "fewer images": _array("images", lambda x: x[:-1]),
    "no images": _drop_images,
    "another bit of a weight": _array("head.weight", _bit),
    "another bit of a kernel": _array("conv.weight", _bit),
    "a weight that is nan": _array("head.weight", _set((0, 0), np.nan)),
    "a weight that is infinite": _array("conv.weight", _set((0, 0, 0, 0), np.inf)),
    "a weight that is huge": _array("conv.weight", _set((0, 0, 0, 0), 1e38)),
    "a weight in integers": _array("head.weight", lambda w: w.astype("<i8")),
    "a weight that is complex": _array("head.weight", lambda w: w.astype("<c16")),
    "a weight in half precision": _array("head.weight", lambda w: w.astype("<f2")),
    "a weight in another byte order": _array("head.weight", lambda w: w.astype(">f8")),
    "a transposed weight": _array("head.weight", lambda w: np.ascontiguousarray(w.T)),
    "a bias that broadcasts": _bias_of_one,
    "a bias with an axis": _array("head.bias", lambda b: b[None]),
    "a smaller circle": _node("gather", 0, shape=[2, 6, 6]),
    "a larger circle": _node("gather", 0, shape=[2, 8, 7]),
    "a circle with an axis more": _node("gather", 0, shape=[2, 7, 7, 1]),
    "a circle of none": _node("gather", 0, shape=[2, 7, 0]),
    "a circle in words": _node("gather", 0, shape="image"),
    "the circle of the image for one with zeros": _children(lambda c: c.pop(_first(c, "gather"))),
    "padding": _node("conv", 0, padding=[1, 1]),
    "fewer groups": _groups(lambda w: w.reshape(1, 8, *w.shape[2:])),
    "more groups": _groups(lambda w: w.reshape(4, 2, *w.shape[2:])),
    "no groups": _groups(lambda w: w[:0]),
    "a weight without groups": _groups(lambda w: w[0]),
    "taps elsewhere": _groups(lambda w: w[..., ::-1].copy()),
    "a sum side by side": _node("branches", join="stack"),
    "a sum of groups of channels": _node("branches", join=[2, 2]),
    "branches joined in no way": _node("branches", join="product"),
    "a convolution dropped": _children(lambda c: c.pop(_first(c, "conv"))),
    "an activation dropped": _children(lambda c: c.pop(_first(c, "groups"))),
    "a sum dropped": _children(lambda c: c.pop(_first(c, "branches"))),
    "a layer doubled": _children(lambda c: c.insert(0, copy.deepcopy(c[_first(c, "branches")]))),
    "a layer in another place": _children(lambda c: c.insert(0, c.pop(_first(c, "branches")))),
    "layers in reverse": _children(lambda c: c.reverse()),
    "no layers": _children(lambda c: c.clear()),
    "an unknown operation": _node("groups", op="softmax"),
    "an operation that is a method": _node("groups", op="chain"),
    "an operation that is a list": _node("groups", op=["groups"]),
    "a function of groups that is none": _node("groups", function="mean"),
    "norms in the place of a sort": _node("groups", function="norm"),
    "a function of groups that is a list": _node("groups", function=["sort"]),
    "no operation": lambda m, a: node(m, "groups").pop("op"),
    "a network that is a table": _meta(network={}),
    "a network in words": _meta(network="a network"),
    "an extra field": _node("groups", note="trust me"),
    "a missing field": lambda m, a: node(m, "conv").pop("bias"),
    "an extra key": _meta(extra=1),
    "a missing key": lambda m, a: m.pop("classes"),
    "another number of classes": _meta(classes=3),
    "another shape": _meta(shape=[2, 6, 7]),
    "a shape of another order": _meta(shape=[6, 6, 2]),
    "a shape of floats": _meta(shape=[2.0, 6.0, 6.0]),
    "another arithmetic": _meta(arithmetic="float32"),
    "another program": _meta(program="bfloat16"),
    "another statement": _meta(statement="All images are safe."),
    "the old format": _meta(format="lipnets certificate 2"),
    "a bound of all that is nan": _meta(lipschitz=float("nan")),
    "an error that is infinite": _meta(error=float("inf")),
    "weights that are no hashes": _meta(weights=[]),
    "groups to sort that do not fit": _node("groups", size=3),
    "groups to sort of none": _node("groups", size=0),
    "larger groups to sort": _node("groups", size=4),
    "an index out of range": _array("gather.index", _set(0, 128)),
    "an index below": _array("gather.index", _set(0, -2)),
    "an index twice": _array("gather.index", lambda i: i.__setitem__(slice(0, 2), i[5])),
    "an index in another order": _array("gather.index", lambda i: i[::-1].copy()),
    "an index that is shorter": _array("gather.index", lambda i: i[:-1]),
    "an index of floats": _array("gather.index", lambda i: i.astype("<f8")),
    "a branch that broadcasts": _branch_that_broadcasts,
    "a third branch": lambda m, a: node(m, "branches")["branches"].append([]),
    "a slope of another sign": _array("pieces.slopes", _set((0, 0), -1.0)),
    "a larger slope": _array("pieces.slopes", _set((0, 1), 1.5)),
    "a knot elsewhere": _array("pieces.knots", _set((0, 0), 0.25)),
    "another value at a knot": _array("pieces.first", _set(0, 0.25)),
    "a knot too many": _array("pieces.knots", lambda k: np.zeros((1, 2), k.dtype)),
    "knots of no channel": _array("pieces.first", lambda v: v[:0]),
    "an array used twice": _shared_array,
    "an array without a use": lambda m, a: a.update(extra=np.zeros(3)),
    "an empty array": _array("head.bias", lambda b: b[:0]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tamper", TAMPERS)
def test_tampering_is_doubted(kind, tamper, tmp_path, capsys) -> None:
    meta, arrays = parts_of(content(kind))
    TAMPERS[tamper](meta, arrays)
    assert check(packed(meta, arrays), tmp_path) == 1
    said = capsys.readouterr()
    assert "NOT proved" in said.err
    assert said.out == ""


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_hashed_right_is_doubted(kind, tmp_path, capsys) -> None:
    for change in ("byte", "missing", "empty", "other", "extra"):
        meta, arrays = parts_of(content(kind))
        name = head(meta)["bias"]
        if change == "byte":
            arrays[name].view(np.uint8)[0] ^= 1
        elif change == "missing":
            del meta["arrays"]
        elif change == "empty":
            meta["arrays"] = {}
        elif change == "other":
            meta["arrays"][name] = "0" * 64
        else:
            meta["arrays"]["more"] = "0" * 64
        assert check(packed(meta, arrays, rehash=False), tmp_path) == 1, change


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_are_no_files_are_doubted(kind, tmp_path, capsys) -> None:
    data = content(kind)
    meta, arrays = parts_of(data)
    pickled = io.BytesIO()
    np.savez(pickled, meta=np.array([meta], dtype=object))
    doubled, odd = io.BytesIO(data), io.BytesIO(data)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(doubled, "a") as file:
        file.writestr("radii.npy", b"")
    with zipfile.ZipFile(odd, "a") as file:
        file.writestr("readme.txt", b"")
    text = json.dumps(meta)
    twice = text[:-1] + ', "lipschitz": 0.5}'
    broken = {
        "nothing": b"",
        "text": b"certificate",
        "truncated": data[: len(data) // 2],
        "the end cut off": data[:-30],
        "a byte of an array": data[:200] + bytes([data[200] ^ 1]) + data[201:],
        "pickled": pickled.getvalue(),
        "a member twice": doubled.getvalue(),
        "a member that is no array": odd.getvalue(),
        "a key twice": packed(twice, arrays),
        "no JSON": packed(text[:-1], arrays),
        "JSON of a list": packed("[]", arrays),
        "deep": packed("[" * 100000, arrays),
    }
    for name, bad in broken.items():
        assert check(bad, tmp_path) == 1, name
    assert verify.main([str(tmp_path / "missing.npz")]) == 1
    assert "NOT proved" in capsys.readouterr().err
    assert verify.main([]) == 2


def test_products_that_are_not_conventional_are_doubted(tmp_path, capsys, monkeypatch) -> None:
    """Single precision in the place of double."""
    verify.check_products.cache_clear()

    class Loose(np.ndarray):
        def __matmul__(self, other: Any) -> Any:
            return (np.asarray(self, np.float32) @ np.asarray(other, np.float32)).astype(float)

    monkeypatch.setattr(verify.np, "eye", lambda n: np.identity(n).view(Loose))
    true = np.indices
    monkeypatch.setattr(verify.np, "indices", lambda n: true(n).astype(float).view(Loose))
    assert check(content("float64"), tmp_path) == 1
    assert "products" in capsys.readouterr().err


def test_numbers_that_are_rounded_to_a_grid_after_an_inexact_sum_are_not_exact(tmp_path) -> None:
    """The sum depends on its order, and so may what it is rounded to."""
    head = nn.Linear(8, 3)
    head.weight.data, head.bias.data = torch.randint(-8, 8, (3, 8)) / 8.0, torch.zeros(3)
    model = nn.Sequential(Round(24), nn.Linear(6, 8), Round(24), head)
    meta, arrays = parts_of(saved(model, (6,), 3))
    assert meta["program"] == "float64"
    assert check(packed(meta, arrays), tmp_path) == 0
    assert check(packed(meta | {"program": "exact"}, arrays), tmp_path) == 1
    model[1].weight.data, model[1].bias.data = torch.randint(-8, 8, (8, 6)) / 8.0, torch.zeros(8)
    meta, arrays = parts_of(saved(model, (6,), 3))
    assert meta["program"] == "exact"
    assert check(packed(meta, arrays), tmp_path) == 0


def test_logits_within_rounding_do_not_make_radii_larger(tmp_path, capsys) -> None:
    """Radii are proved from the logits of the checker, not from those of the file."""
    meta, arrays = parts_of(content("float64"))
    label = int(arrays["labels"][0])
    arrays["logits"][0, label] = np.nextafter(arrays["logits"][0, label], np.inf)
    assert check(packed(meta, arrays), tmp_path) == 0
    arrays["radii"][0] *= 1 + 1e-8
    assert check(packed(meta, arrays), tmp_path) == 1
    assert "a radius is not proved" in capsys.readouterr().err


# Norms, against explicit matrices


def explicit(conv: nn.Module, shape: tuple[int, ...]) -> np.ndarray:
    eye = torch.eye(int(np.prod(shape))).double().reshape(-1, *shape)
    return (conv.double()(eye) - conv(eye[:1] * 0)).flatten(1).detach().numpy()


@pytest.mark.slow
def test_norms_of_convolutions_are_above_those_of_their_matrices_and_close(tmp_path) -> None:
    """A bound of 1e-6 below the true norm is never proved, for each geometry, and that on the torus is."""
    for geometry in itertools.product((1, 2, 3), (1, 2), (1, 2), (1, 2), (0, 1, 2), (False, True)):
        _check_norm(geometry, tmp_path)


@pytest.mark.parametrize(
    "geometry",
    [(3, 1, 1, 1, 1, False), (3, 2, 1, 1, 1, False), (2, 1, 2, 2, 0, True), (3, 2, 1, 1, 0, True)],
)
def test_norms_of_some_convolutions_are_above_those_of_their_matrices(geometry, tmp_path) -> None:
    _check_norm(geometry, tmp_path)


def _check_norm(geometry: tuple[int, int, int, int, int, bool], tmp_path: Path) -> None:
    torch.manual_seed(0)
    for k, s, d, g, pad, circular in [geometry]:
        padding = d * (k - 1) // 2 if circular else pad
        if circular and (pad or d * (k - 1) % 2):
            continue
        mode = "circular" if circular else "zeros"
        conv = nn.Conv2d(2, 4, k, s, padding, d, g, padding_mode=mode).double().eval()
        shape = (2, 6, 5)
        meta, arrays = parts_of(saved(nn.Sequential(conv, nn.Flatten()), shape, 1))
        true = np.linalg.norm(explicit(conv, shape), 2)
        claim = node(meta, "conv")["lip"]
        assert claim >= true * (1 - 1e-12)
        assert check(packed(meta, arrays), tmp_path) == 0, (k, s, d, g, pad, circular)
        node(meta, "conv")["lip"] = true * (1 - 1e-6)
        assert check(packed(meta, arrays), tmp_path) == 1, (k, s, d, g, pad, circular)


def test_a_norm_on_the_torus_of_the_image_is_not_taken_for_that_with_zeros(
    tmp_path, capsys
) -> None:
    """Attack D of the guide: a checkerboard on 5 pixels, 6.854 in a circle, 7.464 with zeros around."""
    conv = nn.Conv2d(1, 1, 3, padding=1, bias=False).double()
    conv.weight.data = torch.tensor([[1.0, -1, 1], [-1, 1, -1], [1, -1, 1]]).double()[None, None]
    assert np.linalg.norm(explicit(conv, (1, 5, 5)), 2) == pytest.approx(7.464, abs=1e-3)
    meta, arrays = parts_of(saved(nn.Sequential(conv, nn.Flatten()), (1, 5, 5), 1))
    assert check(packed(meta, arrays), tmp_path) == 0
    node(meta, "conv")["lip"] = 6.855
    assert check(packed(meta, arrays), tmp_path) == 1


# Every operation, and every family

IMAGE = (4, 6, 5)


def spline() -> nn.Module:
    module = layers.LinearSpline(4, 5)
    nn.init.uniform_(module.slopes, -1, 1)
    return module


def householder(cls: type[nn.Module]) -> nn.Module:
    module = cls(4)
    nn.init.uniform_(module.angles, -3, 3)
    return module


def n_activation() -> nn.Module:
    module = layers.NActivation(4)
    nn.init.uniform_(module.thresholds, 0, 0.5)
    return module


OPERATIONS: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "leaky relu": lambda: nn.LeakyReLU(0.3),
    "prelu": lambda: nn.PReLU(4),
    "abs": layers.Abs,
    "beta abs": lambda: layers.BetaAbs(0.6),
    "hardtanh": lambda: nn.Hardtanh(-0.5, 0.3),
    "softshrink": lambda: nn.Softshrink(0.2),
    "n activation": n_activation,
    "spline": spline,
    "householder": lambda: householder(layers.Householder),
    "householder 2": lambda: householder(layers.Householder2),
    "maxmin": MaxMin,
    "group sort": lambda: GroupSort(4),
    "full sort": layers.FullSort,
    "max pool": lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    "dilated max pool": lambda: nn.MaxPool2d(2, 1, dilation=2),
    "adaptive max pool": lambda: nn.AdaptiveMaxPool2d((4, 3)),
    "l2 pool": lambda: layers.L2NormPool2d(3, 2, 1),
    "adaptive l2 pool": lambda: layers.AdaptiveL2NormPool2d((4, 3)),
    "average pool": lambda: nn.AvgPool2d(3, 2, 1),
    "adaptive average pool": lambda: nn.AdaptiveAvgPool2d((4, 3)),
    "batch norm": lambda: nn.BatchNorm2d(4),
    "affine": lambda: Affine(torch.rand(4, 1, 1).double(), torch.rand(6, 5).double()),
    "shift": lambda: Affine(None, torch.rand(1).double()),
    "axes": lambda: AxisMaps([torch.rand(3, 4).double(), None, torch.rand(5, 5).double()]),
    "gather": lambda: Gather(torch.arange(-1, 59).double().remainder(50).long(), (3, 4, 5)),
    "unshuffle": lambda: nn.Sequential(nn.ZeroPad2d((0, 1, 0, 0)), nn.PixelUnshuffle(2)),
    "constant pad": lambda: nn.ConstantPad2d((1, 0, 2, 1), 0.25),
    "linear on rows": lambda: nn.Linear(5, 3),
    "depthwise": lambda: nn.Conv2d(4, 8, 3, padding=1, groups=4),
    "dilated": lambda: nn.Conv2d(4, 3, 3, dilation=2, padding=(2, 1), stride=(1, 2)),
    "same": lambda: nn.Conv2d(4, 3, 2, padding="same"),
    "circular and strided": lambda: nn.Conv2d(4, 3, 3, 2, 1, padding_mode="circular"),
    "transposed": lambda: nn.ConvTranspose2d(4, 2, 3, 2, 1, output_padding=1),
    "transposed in groups": lambda: nn.ConvTranspose2d(4, 4, 2, 1, groups=2, dilation=2),
    "residual": lambda: Residual(nn.Conv2d(4, 4, 3, padding=1)),
    "shortcut": lambda: Residual(nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 3, padding=1)),
    "concat": lambda: Concat(nn.Conv2d(4, 2, 1), nn.Identity()),
    "parallel": lambda: Parallel([nn.ReLU(), nn.Conv2d(3, 2, 1)], [1, 3]),
    "sll": lambda: layers.sll_conv2d(4, 4, 3, padding=1),
    "sll in groups": lambda: layers.sll_conv2d(4, 4, 3, padding=1, groups=2, hidden_channels=6),
    "cpl in a circle": lambda: layers.cpl_conv2d(4, 4, 2, padding="same", padding_mode="circular"),
    "cpl of rows": lambda: layers.cpl_linear(5, 5, hidden_features=7),
    "sandwich": lambda: layers.sandwich_conv2d(4, 6, 3, padding=1),
    "sandwich of rows": lambda: layers.sandwich_linear(5, 3, activation=nn.LeakyReLU(0.1)),
    "sandwich with clamps": lambda: layers.sandwich_linear(5, 3, activation=nn.Hardtanh()),
}


def around_again(name: str) -> nn.Sequential:
    torch.manual_seed(0)
    return around(OPERATIONS[name]())


def around(operation: nn.Module) -> nn.Sequential:
    """A network around an operation."""
    shape = lipnets.bounds.output_shape(operation.eval(), IMAGE)
    return nn.Sequential(
        Affine(torch.full((1,), 2.0).double(), torch.full((1,), -1.0).double()),  # both signs
        operation,
        nn.Flatten(),
        nn.Linear(int(np.prod(shape)), 3),
    ).eval()


SMOOTH: dict[str, Callable[[], nn.Module]] = {
    "attention": lambda: nn.Sequential(nn.Flatten(2), layers.L2SelfAttention(30, 3, 4)),
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "gelu by tanh": lambda: nn.GELU("tanh"),
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "flat elu": lambda: nn.ELU(0.3),
    "steep elu": lambda: nn.ELU(2.0),
    "softplus": nn.Softplus,
    "steep softplus": lambda: nn.Softplus(3.0, 30.0),
    "soft huber": layers.SoftHuber,
    "softsign": nn.Softsign,
    "logsigmoid": nn.LogSigmoid,
    "tanhshrink": nn.Tanhshrink,
    "cpl around tanh": lambda: layers.cpl_conv2d(4, 4, 3, padding=1, activation=nn.Tanh()),
    "sandwich around a sigmoid": lambda: layers.sandwich_linear(5, 3, activation=nn.Sigmoid()),
    "sandwich around elu": lambda: layers.sandwich_linear(5, 3, activation=nn.ELU(0.5)),
}
OPERATIONS |= SMOOTH
QUICK = {"attention", "steep softplus", "cpl around tanh"}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SMOOTH and name not in QUICK else [])
        for name in OPERATIONS
    ],
)
def test_every_operation_is_proved_and_its_bound_is_needed(name, tmp_path, capsys) -> None:
    meta, arrays = parts_of(saved(around_again(name), IMAGE, 6))
    assert check(packed(meta, arrays), tmp_path) == 0, capsys.readouterr().err
    restored = restore(meta["network"], arrays, IMAGE)
    assert same_program(restored, restored, IMAGE)  # what is in its form stays as it is
    x = pictures(3, IMAGE).double()
    lowered = certify(around_again(name), IMAGE).program
    assert lowered is not None
    torch.testing.assert_close(restored(x), lowered(x), rtol=1e-9, atol=1e-9)
    for i, operation in enumerate(meta["network"][1:-1]):
        changed = copy.deepcopy(meta)
        changed["network"][i + 1]["lip"] *= 0.99
        assert not operation["lip"] or check(packed(changed, arrays), tmp_path) == 1


TINY = {"width": 8, "depth": 2, "blocks": 2, "hidden": (6,), "embed_dim": 8, "linear_depth": 1}
TINY |= {"hidden_channels": 4, "hidden_features": 8, "channels": 4, "num_heads": 2}
FAMILIES = sorted({models.card(name).family for name in models.names()})


SLOWEST = {
    "lipvit",
    "bronet",
    "cpl",
    "kwlarge",
    "lipconvnet",
    "onelip_convnet",
    "resnet",
    "sandwich",
    "lipmlp",
}


@pytest.mark.parametrize(
    "family",
    [pytest.param(f, marks=[pytest.mark.slow] if f in SLOWEST else []) for f in FAMILIES],
)
def test_families_are_proved(family, tmp_path, capsys) -> None:
    """Bounds as the checker proves them are within 1e-3 of those of the certificate: 1e-6 here."""
    name = next(name for name in models.names() if models.card(name).family == family)
    taken = inspect.signature(models.registry[name]).parameters
    tiny = {key: value for key, value in TINY.items() if key in taken}
    torch.manual_seed(0)
    model = lipnets.create_model(name, num_classes=4, in_chans=1, img_size=8, **tiny).eval()
    data = saved(model, (1, 8, 8), 4)
    assert check(data, tmp_path) == 0, capsys.readouterr().err
    bound = float(capsys.readouterr().out.split("proved here: ")[1].split(";")[0])
    assert bound == pytest.approx(certify(model, (1, 8, 8)).lipschitz, rel=1e-6)
