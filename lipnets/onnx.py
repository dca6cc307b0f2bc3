"""ONNX files that carry their certificate, and checks of it on the weights that the file holds.

What is written is the plain export of a network, in its own dtype, and beside the graph, as metadata,
what is proved of it: the bound, the slopes of margins, the arithmetic, and the SHA-256 of each weight.

`verify` takes none of that on trust.  It reads the weights from the file, proves the bound anew of a
network with these, and writes that network as a graph again: the graphs have to be the same, node by node,
so that what was proved is proved of what the file computes.

The packages `onnx`, `onnxscript` and `onnxruntime` come with `pip install "lipnets[export]"`.
"""

__all__ = ["metadata", "save", "verify"]

import hashlib
import json
import os
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .atomic import write_atomic
from .bounds import NotCertifiedError, Shape
from .certify import Certificate, certify
from .export import export
from .rounding import Analysis, Ball, norms

_FORMAT = "lipnets onnx 1"
_KEY = "lipnets.certificate"


def save(model: nn.Module, shape: Shape, path: str | os.PathLike[str]) -> Certificate:
    """Writes the plain export of a classifier as an ONNX file, with its certificate.

    The graph takes "images", with shape (batch, *shape), and returns "logits".

    Arguments:
        model: A classifier in evaluation mode.
        shape: The shape of one image, without batch dimension.
        path: The file, written whole or not at all.

    Returns:
        The certificate.

    Raises:
        ImportError: If a package is missing.
        NotCertifiedError: If the classifier cannot be certified.
        ValueError: If torch cannot write it as an ONNX graph.
    """
    certificate = certify(model, tuple(shape))
    graph = _graph(export(model, tuple(shape)), tuple(shape))
    told = {
        "format": _FORMAT,
        "shape": list(certificate.shape),
        "arithmetic": certificate.arithmetic,
        "bound": certificate.lipschitz.hex(),
        "derivation": str(certificate.bound),
        "slopes": [[slope.hex() for slope in row] for row in certificate.slopes.tolist()],
        "weights": _hashes(graph),
        "versions": {"torch": torch.__version__, "onnx": _package("onnx").__version__},
    }
    entry = graph.metadata_props.add()
    entry.key, entry.value = _KEY, json.dumps(told)
    write_atomic(path, graph.SerializeToString())
    return certificate


def metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a file says of itself; its weights have the hashes it tells, which proves nothing else.

    Raises:
        ImportError: If a package is missing.
        ValueError: If the file is no ONNX file with a certificate, or holds other weights.
    """
    return _told(_read(path), path)


def verify(
    path: str | os.PathLike[str], model: nn.Module, images: Tensor | None = None
) -> Certificate:
    """Proves the bound of an ONNX file anew, of the weights that it holds.

    Arguments:
        path: The file.
        model: A network with the layers of the one that was saved, such as what `lipnets.create_model`
            returns for its name, whatever its weights.
        images: Images to run the graph on, in onnxruntime, with shape (B, *shape); random ones by default.

    Returns:
        The certificate that was proved, whose program has the weights of the file.

    Raises:
        ImportError: If a package is missing.
        ValueError: If the file is damaged, does not fit the model, or tells another bound than is proved.
        NotCertifiedError: If what onnxruntime computes is farther from the certified program than
            float32 may round.
    """
    graph = _read(path)
    told = _told(graph, path)
    shape = tuple(told["shape"])
    plain = export(model, shape)
    _fill(plain, graph, path)
    certificate = certify(plain, shape)
    slopes = [[slope.hex() for slope in row] for row in certificate.slopes.tolist()]
    if float.fromhex(told["bound"]) < certificate.lipschitz * (1 - 1e-9) or not _covers(
        told["slopes"], slopes
    ):
        raise ValueError(
            f"'{path}' tells a bound of {float.fromhex(told['bound'])!r}; proved of its weights is "
            f"{certificate.lipschitz!r}, or slopes of margins above those that it tells."
        )
    again = _graph(plain, shape)
    if _nodes(again) != _nodes(graph) or _hashes(again) != _hashes(graph):
        raise ValueError(
            f"The graph in '{path}' is not that of the model with the weights of the file: give the model "
            f"that was saved; or it was written by torch {told['versions']['torch']}, and this is "
            f"{torch.__version__}."
        )
    _run(graph, certificate, torch.rand(8, *shape) if images is None else images)
    return certificate


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"ONNX files need the package '{name}': python -m pip install \"lipnets[export]\"."
        ) from error


def _graph(plain: nn.Module, shape: Shape) -> Any:
    """A network as an ONNX model, with its weights under their own names, nothing folded."""
    for name in ("onnx", "onnxscript"):
        _package(name)
    dtype = next((p.dtype for p in plain.parameters()), torch.float32)
    example = torch.zeros(2, *shape, dtype=dtype)
    plain = plain.requires_grad_(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what torch does not do as it will do
            program = torch.onnx.export(
                plain,
                (example,),
                dynamo=True,
                optimize=False,  # would fold weights into others
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                verbose=False,
            )
    except Exception as error:
        raise ValueError(f"torch cannot write this network as an ONNX graph: {error}") from error
    model = program.model_proto  # pyright: ignore[reportOptionalMemberAccess]
    size = model.graph.input[0].type.tensor_type.shape.dim[0]
    if not size.dim_param:
        raise ValueError("torch made the number of images in a batch a part of the ONNX graph.")
    return model


def _read(path: str | os.PathLike[str]) -> Any:
    onnx = _package("onnx")
    try:
        model = onnx.load_model_from_string(Path(path).read_bytes())
        onnx.checker.check_model(model)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"'{path}' is not a readable ONNX file: {error}") from error
    return model


def _told(graph: Any, path: str | os.PathLike[str]) -> dict[str, Any]:
    texts = [entry.value for entry in graph.metadata_props if entry.key == _KEY]
    if len(texts) != 1:
        raise ValueError(f"'{path}' should hold one certificate, got {len(texts)}.")
    try:
        told = json.loads(texts[0])
        form, weights = told["format"], told["weights"]
        numbers = [told["bound"], *(slope for row in told["slopes"] for slope in row)]
        finite = all(0 <= float.fromhex(number) < float("inf") for number in numbers)
        sizes = all(isinstance(size, int) and size > 0 for size in told["shape"])
        versions = isinstance(told["versions"]["torch"], str)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"The certificate in '{path}' is not readable: {error!r}.") from error
    if form != _FORMAT or not (finite and sizes and versions):
        raise ValueError(f"The certificate in '{path}' is not of the format {_FORMAT!r}.")
    if weights != _hashes(graph):
        raise ValueError(f"The weights in '{path}' are not those that its certificate is about.")
    return told


def _arrays(graph: Any) -> dict[str, Any]:
    to_array = _package("onnx").numpy_helper.to_array
    arrays = {each.name: to_array(each) for each in graph.graph.initializer}
    if len(arrays) != len(graph.graph.initializer):
        raise ValueError("Two weights of the ONNX graph have one name.")
    return arrays


def _hashes(graph: Any) -> dict[str, str]:
    """The SHA-256 of each weight: of its dtype, its shape and its bytes."""
    return {
        name: hashlib.sha256(f"{array.dtype} {array.shape} ".encode() + array.tobytes()).hexdigest()
        for name, array in _arrays(graph).items()
    }


def _fill(plain: nn.Module, graph: Any, path: str | os.PathLike[str]) -> None:
    """Gives a network the weights of a graph; buffers that no graph uses stay.

    Graphs hold constants besides, which are compared with those of the graph that is written anew.
    """
    arrays, tensors = _arrays(graph), plain.state_dict(keep_vars=True)
    parameters = {name for name, _ in plain.named_parameters()}
    if not parameters <= set(arrays):
        lacking = sorted(parameters - set(arrays))
        raise ValueError(f"'{path}' lacks weights of the model: see {lacking[:4]}.")
    with torch.no_grad():
        for name in set(arrays) & set(tensors):
            value = torch.from_numpy(arrays[name].copy())
            if value.shape != tensors[name].shape or value.dtype != tensors[name].dtype:
                raise ValueError(
                    f"'{name}' in '{path}' should be {tensors[name].dtype} of shape "
                    f"{tuple(tensors[name].shape)}, got {value.dtype} of {tuple(value.shape)}."
                )
            tensors[name].copy_(value)


def _nodes(model: Any) -> list[bytes]:
    """Inputs, outputs, operations and functions of a graph, without names of files and lines."""
    copy = type(model)()
    copy.CopyFrom(model)
    del copy.graph.initializer[:]
    del copy.graph.value_info[:]
    parts = [*copy.graph.node, *copy.graph.input, *copy.graph.output, *copy.functions]
    for part in parts:
        for name in ("metadata_props", "value_info"):
            if hasattr(part, name):
                part.ClearField(name)
        if hasattr(part, "doc_string"):
            part.doc_string = ""
        for node in getattr(part, "node", ()):
            node.ClearField("metadata_props")
    parts += [*copy.opset_import, *copy.graph.sparse_initializer]
    return [part.SerializeToString(deterministic=True) for part in parts]


def _covers(told: list[list[str]], proved: list[list[str]]) -> bool:
    """Whether no slope that is told is below one that is proved, but for what machines differ in."""
    if [len(row) for row in told] != [len(row) for row in proved]:
        return False
    pairs = zip(sum(told, []), sum(proved, []), strict=True)  # noqa: RUF017 - a few rows
    return all(float.fromhex(one) >= float.fromhex(other) * (1 - 1e-9) for one, other in pairs)


def _run(graph: Any, certificate: Certificate, images: Tensor) -> None:
    """Runs the graph in onnxruntime, operation by operation, beside the certified program.

    Both are near the real function: each within its own bound.
    """
    runtime = _package("onnxruntime")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = runtime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    kind = session.get_inputs()[0].type
    dtype = torch.float64 if kind == "tensor(double)" else torch.float32
    read = images.to(dtype)
    (found,) = session.run(None, {"images": read.numpy()})
    logits = certificate.logits(read)
    allowed = torch.zeros(len(read), dtype=torch.float64)
    program = certificate.program
    assert program is not None
    for name in ("float64", str(dtype).removeprefix("torch.")):
        ball = Ball(norm=norms(read))  # images that both read as they are
        allowed = allowed + Analysis(name)(program, certificate.shape, ball).error
    off = (torch.from_numpy(found).double() - logits).norm(dim=1)
    if not bool((off <= allowed).all()):
        raise NotCertifiedError(
            f"onnxruntime is {off.max():.2g} off the certified program, and {dtype} may be "
            f"{allowed.min():.2g} off: it computes something else."
        )
