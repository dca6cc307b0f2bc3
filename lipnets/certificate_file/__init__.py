"""The form of certificates in files: the program as data, and what is claimed of it.

A file is an `.npz` without pickles: a description in JSON, and arrays.  It holds the program itself, in
the few operations of `normal_form`, each with the bound that was proved of it and by what rule, so that
whoever reads it can run the program and prove everything again: `lipnets.verify` does, with numpy
alone.  See docs/certificate-file.md.
"""

__all__ = ["describe", "read", "refuse_claims", "restore", "rewritten", "same_program", "write"]

import hashlib
import io
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..bounds import NotCertifiedError, Shape, remembering
from ..exact import Sums
from ..normal_form import normal_form
from ..rounding import FLOAT64
from ..verify import FIXED
from . import _forms
from ._claims import error_bound, radii_in_file
from ._nodes import PAD, Arrays, Node, Writer, describe, describe_chain, product, restore


def write(certificate: Any, images: Tensor | None = None, labels: Tensor | None = None) -> bytes:
    """The content of a file that holds a certificate.

    Arguments:
        certificate: The certificate, with its program.
        images: Images to say the radii of, with shape (B, *shape), in [0, 1].
        labels: Their classes, with shape (B,).

    Raises:
        ValueError: If images are out of [0, 1], or without labels.
    """
    shape = certificate.shape
    meta: dict[str, Any] = {
        **FIXED,
        "program": "float64",
        "arithmetic": certificate.arithmetic,
        "shape": [int(n) for n in shape],
        "classes": certificate.num_classes,
        "weights": certificate.weights,
        "versions": {"torch": str(torch.__version__), "numpy": np.__version__},
    }
    try:
        certificate = rewritten(certificate)
        with remembering(certificate._facts.proved):  # noqa: SLF001 - each module is bounded once
            network, arrays = describe(certificate.program, shape)
        meta |= {"network": network, "lipschitz": product(network)}
    except NotCertifiedError as error:
        if images is not None:
            raise
        network, arrays = [], {}
        meta |= {"network": str(error), "lipschitz": certificate.lipschitz * PAD}
    program = certificate.program
    analysis = Sums(FLOAT64, certificate._facts)  # noqa: SLF001 - what is known of its program
    diagonal = math.sqrt(math.prod(shape))
    sizes = torch.full((1,), diagonal, dtype=torch.float64)
    kept: Arrays = {
        "images": np.zeros((0, *shape)),
        "labels": np.zeros(0, "<i8"),
        "logits": np.zeros((0, certificate.num_classes)),
        "radii": np.zeros(0),
    }
    if images is not None:
        if labels is None or len(labels) != len(images):
            raise ValueError("Images to be stored should have a label each.")
        if not bool(((images >= 0) & (images <= 1)).all()):
            raise ValueError("Images to be stored should be in [0, 1].")
        logits = certificate.logits(images)
        radii, exact = radii_in_file(certificate, network, analysis, images, labels.cpu(), logits)
        meta["program"] = "exact" if exact else "float64"
        pixels = images.detach().cpu()
        kept["images"] = (pixels if pixels.dtype == torch.float64 else pixels.float()).numpy()
        kept |= {"labels": labels.cpu().numpy().astype("<i8"), "logits": logits.numpy()}
        kept["radii"] = radii.numpy()
    else:
        try:
            exact = analysis.are_exact(program, shape, sizes)
            meta["program"] = "exact" if exact else "float64"
        except NotCertifiedError:  # of a rounding: radii are refused, bounds are not
            exact = False
    meta |= {"domain": diagonal, "error": error_bound(analysis, program, shape, sizes, exact)}
    arrays = {**arrays, **kept}
    meta["arrays"] = {name: digest(array) for name, array in arrays.items()}
    text = json.dumps(meta, allow_nan=False).encode()
    buffer = io.BytesIO()
    members: dict[str, Any] = {"meta": np.frombuffer(text, dtype=np.uint8), **arrays}
    np.savez_compressed(buffer, **members)
    return buffer.getvalue()


def rewritten(certificate: Any) -> Any:
    """The certificate of the program as files hold it: see `normal_form`.

    Raises:
        NotCertifiedError: If an operation has no form in files.
    """
    from ..certify import certify  # which imports this module

    return certify(normal_form(certificate.program, certificate.shape), certificate.shape)


def read(content: bytes) -> tuple[dict[str, Any], nn.Module]:
    """Reads what `write` gave: the description, and the program.

    Raises:
        ValueError: If it is not of this format, or damaged, or its program has no form.
    """
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    meta = json.loads(arrays.pop("meta").tobytes())
    if meta["format"] != FIXED["format"]:
        raise ValueError(
            f"its format is {meta['format']!r}, not {FIXED['format']!r}: certify the model and save "
            "it anew"
        )
    if meta["arrays"] != {name: digest(array) for name, array in arrays.items()}:
        raise ValueError("its arrays are not those that it has the hashes of")
    if isinstance(meta["network"], str):
        raise ValueError(f"{meta['network']} Certify the model itself")  # noqa: TRY004 - of a file
    return meta, restore(meta["network"], arrays, tuple(meta["shape"]))


def refuse_claims(certificate: Any, meta: dict[str, Any]) -> None:
    """Makes sure that a program supports what a file claims of it.

    Raises:
        ValueError: If a bound of the file is below the one that is proved.
    """
    with remembering(certificate._facts.proved):  # noqa: SLF001 - each module is bounded once
        proved, _ = describe(certificate.program, certificate.shape)
    claims, found = list(_claims(meta["network"])), list(_claims(proved))
    if [name for name, _ in claims] != [name for name, _ in found]:
        raise ValueError("its program is not the one that it describes")
    claims.append(("the whole", meta["lipschitz"]))
    found.append(("the whole", product(proved)))
    for (name, claim), (_, lip) in zip(claims, found, strict=True):
        if not (isinstance(claim, float) and lip <= claim * PAD):
            raise ValueError(f"it claims a bound of {claim} for {name!r}, and {lip:.9g} is proved")


def _claims(nodes: list[Node]) -> Iterator[tuple[str, Any]]:
    """Operations and their bounds, from the outside in."""
    for node in nodes:
        yield node["op"], node["lip"]
        for branch in node.get("branches", [node.get("activation", [])]):
            yield from _claims(branch)
        if "inner" in node:
            yield node["inner"]["op"], node["inner"]["lip"]


def same_program(one: nn.Module, other: nn.Module, shape: Shape) -> bool:
    """Whether two programs are the same operations with the same numbers, bit by bit, once rewritten."""
    (a, arrays), (b, others) = (_plain(program, shape) for program in (one, other))
    return a == b and arrays == others


@torch.no_grad()
def _plain(program: nn.Module, shape: Shape) -> tuple[str, list[str]]:
    """A program without what is proved of it, nor how its modules are called."""
    writer = Writer(prove=False)
    nodes = describe_chain(normal_form(program, shape), tuple(shape), "program", writer)
    names = {name: f"a{i}" for i, name in enumerate(writer.arrays)}

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: renamed(v) for k, v in value.items() if k not in ("lip", "rule")}
        if isinstance(value, list):
            return [renamed(each) for each in value]
        return names.get(value, value) if isinstance(value, str) else value

    return json.dumps(renamed(nodes)), [digest(array) for array in writer.arrays.values()]


def digest(array: np.ndarray) -> str:
    """The SHA-256 of the dtype, the shape and the bytes of an array."""
    data = f"{array.dtype.str} {array.shape} ".encode() + array.tobytes()
    return hashlib.sha256(data).hexdigest()
