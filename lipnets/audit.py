"""Every layer between two numbers: the bound that is proved, and the slope that is attained."""

__all__ = ["AuditRow", "audit", "format_table", "named_layers"]

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .bounds import Shape, chain, output_shape
from .estimates import attained_slope
from .export import export
from .linalg import show
from .rules import lipschitz


@dataclass(frozen=True)
class AuditRow:
    """One layer, or the whole network.

    Arguments:
        name: The qualified name of the layer; empty for the network.
        module: The name of its class.
        shape: The shape of its input, without batch dimension.
        bound: The proved bound of its Lipschitz constant, from above.
        slope: The largest slope that was found, from below.
        ratio: The slope over the bound: 1 where the bound is attained, never more.
        rule: The theorem behind the bound.
    """

    name: str
    module: str
    shape: Shape
    bound: float
    slope: float
    ratio: float
    rule: str


def audit(
    model: nn.Module, shape: Shape, images: Tensor | None = None, *, steps: int = 40
) -> list[AuditRow]:
    """Bounds every layer from above and from below, at the size of its input in the network.

    Arguments:
        model: The model.  It is exported, in evaluation mode and in float64.
        shape: The shape of one image, without batch dimension.
        images: Images to search for slopes at, with shape (B, *shape); by default four images of
            uniform noise in [0, 1].  Layers are searched at what reaches them from there.
        steps: The number of power iterations at each point.

    Returns:
        A row for each layer, then one for the network.

    Raises:
        NotCertifiedError: If no rule covers a layer.
    """
    program = export(model, shape).double().cpu()
    if images is None:
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(4, *shape, generator=generator, dtype=torch.float64)
    images = images.detach().to("cpu", torch.float64)

    rows, inputs = [], images
    layers = list(named_layers(program, shape))
    for name, layer, layer_shape in [*layers, ("", program, tuple(shape))]:
        if not name and layer is program:
            inputs = images
        bound = lipschitz(layer, layer_shape)
        slope = attained_slope(layer, inputs, steps=steps)
        ratio = slope / bound.value if bound.value else float(slope > 0)
        rows.append(
            AuditRow(name, type(layer).__name__, layer_shape, bound.value, slope, ratio, bound.rule)
        )
        with torch.no_grad():
            inputs = layer(inputs.clone())  # which may work in place
    return rows


def named_layers(
    module: nn.Module, shape: Shape, prefix: str = ""
) -> Iterator[tuple[str, nn.Module, Shape]]:
    """The layers that a network composes, with their qualified names and the shapes of their input.

    Only `nn.Sequential` is opened: the product of the bounds of these layers bounds the network.

    Arguments:
        module: The network, in evaluation mode.
        shape: The shape of one example, without batch dimension.
        prefix: What qualified names start with.
    """
    children = chain(module)
    if not children:
        yield prefix, module, tuple(shape)
    for name, child in children:
        yield from named_layers(child, shape, f"{prefix}.{name}" if prefix else name)
        shape = output_shape(child, shape)


def format_table(rows: Sequence[AuditRow]) -> str:
    """The rows as a table of text."""
    head = ("layer", "module", "input", "bound", "slope", "slope/bound", "proved by")
    body = [
        (
            row.name or "network",
            row.module,
            "×".join(map(str, row.shape)),
            show(row.bound),
            show(row.slope, upwards=False),
            f"{row.ratio:.4f}",
            row.rule,
        )
        for row in rows
    ]
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
    lines = [
        "  ".join(
            text.rjust(width) if 3 <= i <= 5 else text.ljust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in [head, *body]
    ]
    return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:]])
