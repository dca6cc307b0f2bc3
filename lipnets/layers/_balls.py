"""Rounding of combinators: what is known of branches, put together."""

__all__ = ["at_zero", "root_of_squares", "side_by_side", "together"]

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..bounds import Shape
from ..rounding import UP, Analysis, Ball, Number, number


def root_of_squares(values: Sequence[Number]) -> Tensor:
    """√Σv² of numbers that are not negative, rounded upwards.

    Squares that underflow are below 2⁻¹⁰⁷⁴ each, and the root of their sum is below 2⁻⁵³⁰ for the
    numbers of branches there are.
    """
    numbers = [number(value) for value in values]
    squares, total = torch.zeros(()).double(), torch.zeros(()).double()
    for value in numbers:
        squares, total = squares + value * value, total + value
    return squares.sqrt() * UP + 2.0**-530 * (total > 0)


def at_zero(module: nn.Module, shape: Shape, analysis: Analysis) -> Number:
    """A bound of ‖f(0)‖: at most what is computed at 0, and how far that is from it."""

    def compute() -> Tensor:
        after = analysis(module, shape, Ball(norm=0.0))
        return ((number(after.norm) + number(after.error)) * UP).max()

    return analysis.once(module, ("at zero", analysis.arithmetic.name, shape), compute)


def together(
    module: nn.Module,
    shape: Shape,
    ball: Ball,
    analysis: Analysis,
    *,
    local: Number,
    offset: Number,
    norm: Number,
    center: Tensor | None,
    grid: int | None,
) -> Ball:
    """The ball behind a combinator whose branches were followed from a ball of error 0.

    With error 0, inputs are what they are, and the errors of branches those of the branches alone: they
    make up a local error e of the combinator, to which its own constant applies, which is below that of
    its branches one by one.  The theorem of `Analysis.move` holds with the centers of the branches
    put together, which is what the combinator makes of the center in float64.

    Arguments:
        module: The combinator.
        shape: The shape of an example.
        ball: The ball of its inputs.
        analysis: The analysis that asks.
        local: The local error e.
        offset: A bound of ‖f(0)‖.
        norm: A bound of ‖F(X)‖ from those of the branches.
        center: The centers of the branches put together, if activations were measured.
        grid: The grid of the outputs, if they are on one.
    """
    constant = analysis.lipschitz(module, shape)
    if center is None:
        ball = replace(ball, center=None)
    after = analysis.move(
        ball, lambda x: x if center is None else center, constant, local, offset=offset, grid=grid
    )
    return replace(after, norm=torch.minimum(number(after.norm), number(norm)))


def side_by_side(
    module: nn.Module,
    shape: Shape,
    ball: Ball,
    analysis: Analysis,
    branches: Sequence[tuple[nn.Module, Shape]],
    starts: Sequence[Ball],
) -> Ball:
    """The ball behind branches whose outputs are concatenated, which is exact: see `together`.

    Arguments:
        module: The combinator.
        shape: The shape of an example.
        ball: The ball of its inputs.
        analysis: The analysis that asks.
        branches: The branches, each with the shape of an example of its input.
        starts: The balls of their inputs, of error 0.
    """
    pairs = zip(branches, starts, strict=True)
    parts = [analysis(branch, own, start) for (branch, own), start in pairs]
    centers = [part.center for part in parts if part.center is not None]
    grids = [part.grid for part in parts if part.grid is not None]
    return together(
        module,
        shape,
        ball,
        analysis,
        local=root_of_squares([part.error for part in parts]),
        offset=root_of_squares([at_zero(branch, own, analysis) for branch, own in branches]),
        norm=root_of_squares([part.norm for part in parts]),
        center=torch.cat(centers, dim=1) if len(centers) == len(parts) else None,
        grid=max(grids) if len(grids) == len(parts) else None,
    )
