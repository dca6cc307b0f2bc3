"""Normalizations that keep a proved Lipschitz constant.

References:
    | Batch Normalization: Accelerating Deep Network Training (Ioffe & Szegedy, 2015)
    | https://arxiv.org/abs/1502.03167
    | Layer Normalization (Ba, Kiros & Hinton, 2016) https://arxiv.org/abs/1607.06450
    | Sorting out Lipschitz function approximation (Anil, Lucas & Grosse, 2019)
    | https://arxiv.org/abs/1811.05381
    | The layers of these names in deel-torchlip, https://github.com/deel-ai/deel-torchlip

Batch normalization divides each channel by its own deviation, by which it multiplies distances
without limit, and layer normalization is not Lipschitz at all.  What is left of them: subtracting
means, and one scale for a whole layer, here never above a given constant.
"""

__all__ = ["BatchCentering", "BatchLipNorm", "LayerCentering"]

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor, nn

from ..bounds import Bound, NotCertifiedError, Shape, rule
from ..distributed import batch_mean
from ..linalg import mul_up, sqrt_up
from ..program import Affine, AxisMaps, channels, lowering
from ._registry import Card, add


class BatchCentering(nn.Module):
    """Subtracts from each channel its mean over the batch, or in evaluation a running mean of those.

    Arguments:
        num_features: The number of channels.
        momentum: The weight of each batch in the running mean.
        affine: Whether to learn a bias for each channel.
    """

    bias: Tensor | None
    running_mean: Tensor

    def __init__(
        self,
        num_features: int,
        momentum: float = 0.1,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_features, self.momentum = num_features, momentum
        zeros = torch.zeros(num_features, device=device, dtype=dtype)
        self.register_parameter("bias", nn.Parameter(zeros.clone()) if affine else None)
        self.register_buffer("running_mean", zeros)

    def extra_repr(self) -> str:
        return f"{self.num_features}, momentum={self.momentum:g}"

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C, ...)
        shift = -_mean(self, x)  # one pass over the input for both
        return x + _column(shift if self.bias is None else self.bias + shift, x)


class BatchLipNorm(nn.Module):
    """Subtracts from each channel its mean, and multiplies the layer by one number for all channels.

    The number is 1/σ, with σ² the mean over channels of their variance in the batch, or in evaluation
    of a running mean of those; where 1/σ exceeds a given constant it is that constant.

    Arguments:
        num_features: The number of channels.
        lipschitz: The largest number to multiply by, which bounds the Lipschitz constant.
        eps: What is added to variances.
        momentum: The weight of each batch in the running statistics.
        affine: Whether to learn a bias for each channel.

    Raises:
        ValueError: If the constant is not positive, or `eps` is negative.
    """

    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        num_features: int,
        lipschitz: float = 1.0,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not lipschitz > 0 or not eps >= 0:
            raise ValueError(
                f"'lipschitz' should be positive and 'eps' not negative, got {lipschitz} and {eps}."
            )
        self.num_features, self.momentum = num_features, momentum
        self.lipschitz, self.eps = float(lipschitz), float(eps)
        self.least = 1 / self.lipschitz**2  # of the variance that is divided by
        zeros = torch.zeros(num_features, device=device, dtype=dtype)
        self.register_parameter("bias", nn.Parameter(zeros.clone()) if affine else None)
        self.register_buffer("running_mean", zeros)
        self.register_buffer("running_var", torch.ones(num_features, device=device, dtype=dtype))

    def extra_repr(self) -> str:
        return f"{self.num_features}, lipschitz={self.lipschitz:g}, momentum={self.momentum:g}"

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C, ...)
        centered = x - _column(_mean(self, x), x)
        variances = self.running_var
        if self.training:
            variances = batch_mean(centered.square(), _but_channels(x))
            _update(self.running_var, variances, self.momentum)
        deviation = (variances.mean() + self.eps).clamp_min(self.least).sqrt()
        return _shift(centered / deviation, self.bias)


class LayerCentering(nn.Module):
    """Subtracts from each example, or from parts of it, the mean over its last axes.

    Arguments:
        normalized_shape: The sizes of the last axes, as for `nn.LayerNorm`.
        elementwise_affine: Whether to learn a bias for each entry.
    """

    bias: Tensor | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        elementwise_affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
        self.normalized_shape = tuple(sizes)
        zeros = torch.zeros(self.normalized_shape, device=device, dtype=dtype)
        self.register_parameter("bias", nn.Parameter(zeros) if elementwise_affine else None)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}"

    def forward(self, x: Tensor) -> Tensor:  # (B, ...) -> (B, ...)
        axes = tuple(range(-len(self.normalized_shape), 0))
        if tuple(x.shape[axes[0] :]) != self.normalized_shape or x.ndim <= len(axes):
            raise ValueError(
                f"The last axes should have sizes {self.normalized_shape} after that of the batch, "
                f"got shape {tuple(x.shape)}."
            )
        centered = x - x.mean(dim=axes, keepdim=True)
        return centered if self.bias is None else centered + self.bias


def _mean(module: BatchCentering | BatchLipNorm, x: Tensor) -> Tensor:
    """The mean of each channel, in training that of the batch, which moves the running mean."""
    if x.ndim < 2 or x.shape[1] != module.num_features:
        raise ValueError(
            f"Inputs should have {module.num_features} channels in dimension 1, got shape "
            f"{tuple(x.shape)}."
        )
    if not module.training:
        return module.running_mean
    mean = batch_mean(x, _but_channels(x))
    _update(module.running_mean, mean, module.momentum)
    return mean


@torch.no_grad()
def _update(running: Tensor, batch: Tensor, momentum: float) -> None:
    running.lerp_(batch.detach().to(running.dtype), momentum)


def _but_channels(x: Tensor) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _column(values: Tensor, x: Tensor) -> Tensor:
    """One value for each channel, as a tensor that broadcasts to x."""
    return values.to(x.dtype).view(-1, *[1] * (x.ndim - 2))


def _shift(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x + _column(bias, x)


@rule(BatchCentering)
def _batch_centering(module: BatchCentering, shape: Shape) -> Bound:
    """In evaluation a translation, by a running mean and a bias for each channel."""
    _check_channels(module, shape)
    return Bound(1.0, "BatchCentering: subtracts a stored mean")


@lowering(BatchCentering)
def _lowered_batch_centering(module: BatchCentering, shape: Shape) -> nn.Module:
    """One shift for each channel."""
    shift = -module.running_mean.double()
    return Affine(shift=channels(_biased(shift, module.bias), shape))


def _biased(shift: Tensor, bias: Tensor | None) -> Tensor:
    return shift if bias is None else bias.double() + shift


@rule(LayerCentering)
def _layer_centering(module: LayerCentering, shape: Shape) -> Bound:
    """An orthogonal projection, I − 11ᵀ/n on each part, and a translation: at most 1.

    0 if the parts have one entry, which is its own mean.
    """
    alone = all(size == 1 for size in module.normalized_shape)
    if tuple(shape[-len(module.normalized_shape) :]) != module.normalized_shape:
        raise NotCertifiedError(
            f"LayerCentering of {module.normalized_shape} does not take examples of shape {shape}."
        )
    if module.bias is not None and tuple(module.bias.shape) != module.normalized_shape:
        raise NotCertifiedError(
            f"LayerCentering of {module.normalized_shape} holds a bias of {tuple(module.bias.shape)}."
        )
    return Bound(0.0 if alone else 1.0, "LayerCentering: projection along constants")


@lowering(LayerCentering)
def _lowered_layer_centering(module: LayerCentering, shape: Shape) -> nn.Module:
    """A projection along one axis; along several, a reflection of each that makes constants a coordinate.

    With the reflection H of the first basis vector e to 1/√n along each axis, constants are the multiples
    of H e ⊗ H e, and the projection is (H ⊗ H)(I − eeᵀ ⊗ eeᵀ)(H ⊗ H).
    """
    sizes = module.normalized_shape
    kept: list[Tensor | None] = [None] * (len(shape) - len(sizes))
    wide = [axis for axis, size in enumerate(sizes) if size > 1]
    if len(wide) < 2:
        size = math.prod(sizes)
        projection = torch.eye(size, dtype=torch.float64) - 1 / size
        axis = wide[0] if wide else len(sizes) - 1
        own = [projection if each == axis else None for each in range(len(sizes))]
        parts: list[nn.Module] = [AxisMaps([*kept, *own])]
    else:
        mirrors = [_mirror(size) if size > 1 else None for size in sizes]
        mask = torch.ones(sizes, dtype=torch.float64)
        mask[(0,) * len(sizes)] = 0
        parts = [AxisMaps([*kept, *mirrors]), Affine(mask), AxisMaps([*kept, *mirrors])]
    if module.bias is not None:
        parts.append(Affine(shift=module.bias))
    return nn.Sequential(*parts)


def _mirror(size: int) -> Tensor:
    """The reflection that swaps the first basis vector and 1/√n, with shape (n, n)."""
    normal = torch.full((size,), -(size**-0.5), dtype=torch.float64)
    normal[0] += 1
    return torch.eye(size, dtype=torch.float64) - 2 * torch.outer(normal, normal) / (
        normal @ normal
    )


@rule(BatchLipNorm)
def _batch_lip_norm(module: BatchLipNorm, shape: Shape) -> Bound:
    """In evaluation a translation, and division by √max(v̄ + ε, 1/λ²), v̄ the mean of the variances.

    The root is taken of the exact number, with 1/λ² as the module holds it, and rounded upwards.
    """
    _check_channels(module, shape)
    variances = [Fraction(value) for value in module.running_var.double().tolist()]
    if min(variances) < 0:
        raise NotCertifiedError("BatchLipNorm holds a negative running variance.")
    mean = sum(variances, Fraction(0)) / len(variances) + Fraction(module.eps)
    square = max(mean, Fraction(module.least))
    value = sqrt_up(mul_up(1 / square))
    return Bound(value, "BatchLipNorm: the smaller of λ and 1/σ of the whole layer")


@lowering(BatchLipNorm)
def _lowered_batch_lip_norm(module: BatchLipNorm, shape: Shape) -> nn.Module:
    """One factor for all channels, and one shift for each."""
    mean = module.running_var.double().mean()
    scale = 1 / (mean + module.eps).clamp_min(module.least).sqrt()
    shift = -module.running_mean.double() * scale
    return Affine(scale, channels(_biased(shift, module.bias), shape))


def _check_channels(module: BatchCentering | BatchLipNorm, shape: Shape) -> None:
    if not shape or shape[0] != module.num_features:
        raise NotCertifiedError(
            f"{type(module).__name__} of {module.num_features} channels does not take examples of "
            f"shape {tuple(shape)}."
        )
    for values in (module.running_mean, module.bias):  # others would repeat channels
        if values is not None and values.numel() != module.num_features:
            raise NotCertifiedError(
                f"{type(module).__name__} of {module.num_features} channels holds values of "
                f"{values.numel()}."
            )


_TORCHLIP = {
    "kind": "normalization",
    "paper": "Serrurier et al., 2021",
    "url": "https://arxiv.org/abs/2006.06520",
    "shape": (4, 3, 2),
}
add(
    "batch_centering",
    BatchCentering,
    Card(
        guarantee="1-Lipschitz",
        choose="In place of batch normalization: it costs nothing in the certificate.",
        arguments={"num_features": 4},
        **_TORCHLIP,
    ),
)
add(
    "batch_lip_norm",
    BatchLipNorm,
    Card(
        guarantee="bounded",
        choose="Where activations grow: it shrinks a whole layer, and stretches up to its constant.",
        arguments={"num_features": 4},
        **_TORCHLIP,
    ),
)
add(
    "layer_centering",
    LayerCentering,
    Card(
        guarantee="1-Lipschitz",
        choose="In place of layer normalization: the same in training and evaluation.",
        arguments={"normalized_shape": (3, 2)},
        **_TORCHLIP,
    ),
)
add(
    "batch_norm2d",
    nn.BatchNorm2d,
    Card(
        kind="normalization",
        guarantee="none",
        paper="Ioffe & Szegedy, 2015",
        url="https://arxiv.org/abs/1502.03167",
        choose="As an unconstrained baseline, whose constant is certified all the same.",
        arguments={"num_features": 4},
        shape=(4, 3, 2),
    ),
)
