"""ONNX files: the graph computes the network, and the certificate is proved of the weights in the file."""

import copy
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lipnets import certify, export, models
from lipnets import onnx as files
from lipnets.layers import MaxMin, Residual, SymbolConv2d

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

SHAPE = (3, 6, 6)


@pytest.fixture(autouse=True, scope="module")
def _graphs_are_written_once() -> Iterator[None]:
    """Of the same modules with the same weights torch writes the same graph, in seconds."""
    write, known = files._graph, {}

    def graph(plain: nn.Module, shape: tuple[int, ...]) -> Any:
        weights = b"".join(each.numpy().tobytes() for each in plain.state_dict().values())
        key = (str(plain), shape, hashlib.sha256(weights).hexdigest())
        if key not in known:
            known[key] = write(plain, shape)
        return copy.deepcopy(known[key])

    files._graph = graph
    yield
    files._graph = write


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), MaxMin(),
        Residual(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())),
        nn.MaxPool2d(2), nn.Flatten(), nn.utils.parametrizations.orthogonal(nn.Linear(72, 6)),
        nn.ReLU(), nn.Linear(6, 4),
    )  # fmt: skip
    model[1].running_mean.normal_()
    model[1].running_var.uniform_(0.5, 2)
    return model.float().eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "network.onnx"
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    files.save(network(), SHAPE, path)
    torch.set_default_dtype(before)
    return path


def test_the_graph_computes_the_network_for_any_batch(saved) -> None:
    session = runtime.InferenceSession(saved.read_bytes(), providers=["CPUExecutionProvider"])
    model = network()
    for count in (1, 7):
        x = torch.rand(count, *SHAPE).float()
        (found,) = session.run(["logits"], {"images": x.numpy()})
        assert np.allclose(found, model(x).detach().numpy(), atol=1e-5)


def test_the_file_tells_what_is_proved_of_its_weights(saved) -> None:
    certificate = certify(network(), SHAPE)
    told = files.metadata(saved)
    assert float.fromhex(told["bound"]) == certificate.lipschitz
    slopes = [[float.fromhex(slope) for slope in row] for row in told["slopes"]]
    assert slopes == certificate.slopes.tolist()
    plain = export(network(), SHAPE)
    for name, tensor in plain.named_parameters():
        array = tensor.detach().numpy()
        data = f"float32 {array.shape} ".encode() + array.tobytes()
        assert told["weights"][name] == hashlib.sha256(data).hexdigest()


def test_the_bound_is_proved_of_the_weights_in_the_file_and_of_no_others(saved) -> None:
    other = network(seed=1)
    certificate = files.verify(saved, other)
    expected = certify(network(), SHAPE)
    x, labels = torch.rand(9, *SHAPE), torch.zeros(9, dtype=torch.long)
    assert certificate.lipschitz == expected.lipschitz != certify(other, SHAPE).lipschitz
    assert torch.equal(certificate.radii(x, labels), expected.radii(x, labels))
    assert certificate.weights == expected.weights


def changed(path: Path, tmp_path: Path, change) -> Path:
    """A copy of a file after `change(model, told)`, its hashes and its certificate written anew."""
    model = onnx.load(path)
    (entry,) = model.metadata_props
    told = json.loads(entry.value)
    change(model, told)
    if change is not second_weight:  # of which there are no hashes
        told["weights"] = files._hashes(model)
    entry.value = json.dumps(told)
    target = tmp_path / "changed.onnx"
    target.write_bytes(model.SerializeToString())
    return target


def scaled(model: Any, name: str, factor: float) -> None:
    for each in model.graph.initializer:
        if each.name == name:
            array = onnx.numpy_helper.to_array(each) * np.float32(factor)
            each.CopyFrom(onnx.numpy_helper.from_array(array, name))


def larger_weight(model: Any, told: dict[str, Any]) -> None:
    scaled(model, "0.weight", 1.001)


def smaller_bound(model: Any, told: dict[str, Any]) -> None:
    told["bound"] = (float.fromhex(told["bound"]) * (1 - 1e-7)).hex()


def smaller_slope(model: Any, told: dict[str, Any]) -> None:
    told["slopes"][0][1] = (float.fromhex(told["slopes"][0][1]) * (1 - 1e-7)).hex()


def fewer_slopes(model: Any, told: dict[str, Any]) -> None:
    told["slopes"] = told["slopes"][:-1]


def other_padding(model: Any, told: dict[str, Any]) -> None:
    (node,) = [each for each in model.graph.node if each.op_type == "MaxPool"]
    for attribute in node.attribute:
        if attribute.name == "strides":
            attribute.ints[:] = [2, 1]


def no_activation(model: Any, told: dict[str, Any]) -> None:
    next(each for each in model.graph.node if each.op_type == "Relu").op_type = "Identity"


def doubled_sum(model: Any, told: dict[str, Any]) -> None:
    node = next(each for each in model.graph.node if each.op_type == "Add")
    node.input[1] = node.input[0]


def other_epsilon(model: Any, told: dict[str, Any]) -> None:
    node = next(each for each in model.graph.node if each.op_type == "BatchNormalization")
    for attribute in node.attribute:
        if attribute.name == "epsilon":
            attribute.f = 1e-3


def not_finite(model: Any, told: dict[str, Any]) -> None:
    told["bound"] = "inf"


def other_format(model: Any, told: dict[str, Any]) -> None:
    told["format"] = "lipnets onnx 0"


def other_shape(model: Any, told: dict[str, Any]) -> None:
    told["shape"] = [3, 8, 8]


def constant_logits(model: Any, told: dict[str, Any]) -> None:
    model.graph.output[0].name = model.graph.node[0].output[0]


def second_weight(model: Any, told: dict[str, Any]) -> None:
    model.graph.initializer.add().CopyFrom(model.graph.initializer[0])
    scaled(model, model.graph.initializer[0].name, 1.0)


TAMPERINGS = [
    *(larger_weight, smaller_bound, smaller_slope, fewer_slopes, other_padding, no_activation),
    *(doubled_sum, other_epsilon, not_finite, other_format, other_shape, constant_logits),
    second_weight,
]


@pytest.mark.parametrize("change", TAMPERINGS)
def test_files_that_were_changed_are_refused(saved, tmp_path, change) -> None:
    path = changed(saved, tmp_path, change)
    with pytest.raises((ValueError, TypeError)):
        files.verify(path, network())


def test_the_same_file_written_anew_is_accepted(saved, tmp_path) -> None:
    """What refuses the changed files is the change."""
    files.verify(changed(saved, tmp_path, lambda model, told: None), network())


def test_weights_that_are_not_hashed_anew_are_refused_without_a_model(saved, tmp_path) -> None:
    model = onnx.load(saved)
    scaled(model, "0.weight", 1.001)
    path = tmp_path / "weights.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="not those that its certificate is about"):
        files.metadata(path)


def test_other_models_and_other_files_are_refused(saved, tmp_path) -> None:
    smaller = copy.deepcopy(network())
    smaller[8] = nn.Linear(6, 3).float()
    with pytest.raises(ValueError, match=r"'8\.\w+' in"):
        files.verify(saved, smaller)
    deeper = nn.Sequential(*network(), nn.Linear(4, 4).float()).eval()
    with pytest.raises(ValueError, match="lacks weights"):
        files.verify(saved, deeper)
    path = tmp_path / "text.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(ValueError, match="not a readable ONNX file"):
        files.metadata(path)
    plain = onnx.load(saved)
    del plain.metadata_props[:]
    path.write_bytes(plain.SerializeToString())
    with pytest.raises(ValueError, match="should hold one certificate, got 0"):
        files.metadata(path)


def test_missing_packages_are_named(monkeypatch) -> None:
    monkeypatch.setattr(files, "import_module", _missing)
    with pytest.raises(ImportError, match=r"lipnets\[export\]"):
        files.metadata("any.onnx")


def _missing(name: str) -> Any:
    raise ImportError(name)


def test_weights_of_fewer_bits_are_saved_with_a_certificate_of_their_own(tmp_path) -> None:
    plain = export(network(), SHAPE, weights="int8")
    certificate = files.save(plain, SHAPE, tmp_path / "int8.onnx")
    assert certificate.lipschitz != certify(network(), SHAPE).lipschitz
    assert float.fromhex(files.metadata(tmp_path / "int8.onnx")["bound"]) == certificate.lipschitz


FAMILIES = sorted({models.card(name).family for name in models.names()})
QUICK = {"plain_mlp", "sandwich"}  # graphs of the others take torch seconds each


@pytest.mark.parametrize(
    "family",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in FAMILIES],
)
def test_every_family_is_saved_and_proved_anew(family, tiny_member, tmp_path) -> None:
    torch.set_default_dtype(torch.float32)
    shape, path = (1, 8, 8), tmp_path / "family.onnx"
    model = tiny_member(family).eval()
    written = files.save(model, shape, path)
    assert files.verify(path, model).lipschitz == written.lipschitz
    session = runtime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    for count in (1, 3):
        x = torch.rand(count, *shape)
        (found,) = session.run(["logits"], {"images": x.numpy()})
        expected = copy.deepcopy(model).double()(x.double()).detach().numpy()
        assert np.allclose(found, expected, rtol=0, atol=2e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("padding", ["zeros", pytest.param("circular", marks=pytest.mark.slow)])
def test_matrices_at_frequencies_are_real_numbers_in_graphs(tmp_path, padding) -> None:
    """Complex tensors that are written in place have no operation in ONNX."""
    torch.set_default_dtype(torch.float32)
    layer = SymbolConv2d(2, 2, 3, padding="same", padding_mode=padding)
    model = nn.Sequential(layer, MaxMin(), nn.Flatten(), nn.Linear(40, 3)).eval()
    path = tmp_path / "frequencies.onnx"
    written = files.save(model, (2, 4, 5), path)
    assert files.verify(path, model).lipschitz == written.lipschitz
    session = runtime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    x = torch.rand(3, 2, 4, 5)
    (found,) = session.run(["logits"], {"images": x.numpy()})
    expected = copy.deepcopy(model).double()(x.double()).detach().numpy()
    assert np.allclose(found, expected, rtol=0, atol=1e-5)
