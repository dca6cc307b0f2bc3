"""From bounds to radii within which a prediction cannot change.

**Theorem.**  Let the margin f_y − f_j of a classifier be L_yj-Lipschitz for the ℓ2 norm.  Within the
distance min_j (f_y(x) − f_j(x)) / L_yj of x, no other class overtakes y.

If the classifier is f = Wh + b with an L-Lipschitz backbone h, then L_yj = L ‖w_y − w_j‖, which is
at most √2 L ‖W‖ and usually much less; for any other L-Lipschitz classifier, L_yj = √2 L.

What is certified is a program: the exported network, whose weights are those in use, to the bit,
in the operations of `program`, in one arithmetic.  Bounds include every rounding of the proofs, and
radii every rounding of the program (`rounding`):

**Theorem.**  Let F be the program, ε_yj ≥ |(F_y − F_j) − (f_y − f_j)| for the logits that were computed at
x, and ε′_yj the same for whatever the deployed program computes within r of x.  Its prediction is y
at all inputs within r of x if

    r ≤ min_j (F_y(x) − F_j(x) − ε_yj − ε′_yj) / L_yj.

*Proof.*  At x′ within r, F_y − F_j ≥ f_y − f_j − ε′ ≥ f_y(x) − f_j(x) − L r − ε′ ≥ F_y(x) − F_j(x) − ε − ε′ − L r ≥ 0,
where a tie is left to r itself: radii are rounded down.  ∎

Inputs are real: that the program reads them in its own format is one of its errors.
"""

__all__ = ["Certificate", "certified_radii", "certify"]

import copy

import torch
from torch import Tensor, nn

from ..bounds import NotCertifiedError, Shape, output_shape
from ..export import export
from ..linalg import mul_up
from ..program import lower
from ..rounding import Analysis
from ._certificate import Certificate
from ._fingerprints import hashes, state
from ._margins import slopes_of


@torch.no_grad()
def certify(model: nn.Module, shape: Shape) -> Certificate:
    """Proves bounds of a classifier, layer by layer, from the weights in use.

    Arguments:
        model: A classifier of images in [0, 1], in evaluation mode.  If it is an `nn.Sequential`
            that ends in an `nn.Linear`, its head is bounded by pairs of classes.
        shape: The shape of one image, without batch dimension.

    Returns:
        The certificate.

    Raises:
        NotCertifiedError: If no rule covers a module; if the model is in training mode, hooked or
            patched; if a weight is not finite.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)).eval()
        >>> certificate = certify(model, (1, 2, 2))
        >>> radii = certificate.radii(torch.rand(8, 1, 2, 2), torch.zeros(8, dtype=torch.long))
    """
    if model.training:
        raise NotCertifiedError(
            f"{type(model).__name__} is in training mode: call .eval() before certifying."
        )
    plain = export(model, shape)
    # In float64 first: layers that compute their weights in each forward do so in float64 then.
    program = lower(copy.deepcopy(plain).double(), shape)
    facts = Analysis()
    bound = facts.bound(program, shape)
    outputs = output_shape(program, shape)
    if len(outputs) != 1:
        raise NotCertifiedError(
            f"A classifier should give one row of logits for an image, got shape {outputs}."
        )
    backbone = mul_up(1.0, *(part.value for part in bound.parts[:-1]))
    slopes = slopes_of(program, bound.value, backbone, outputs[0])
    return Certificate(
        bound=bound,
        slopes=slopes,
        shape=tuple(shape),
        weights=hashes(plain),
        program=program,
        _facts=facts,
        _state=state(program),
    )


def certified_radii(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Radii around images in which the prediction of a classifier stays the label.

    Arguments:
        model: The classifier: see `certify`.
        images: The images, with shape (B, *S), in [0, 1] and floating point.
        labels: The classes, with shape (B,).

    Returns:
        The radii, ℓ2 in the units of `images`, with shape (B,): negative where the prediction is
        wrong, 0 for ties and for logits that are not finite, infinite for a single class.

    Raises:
        ValueError: If images or labels are not as described, or there are none.
        NotCertifiedError: If the classifier cannot be certified.
    """
    return certify(model, tuple(images.shape[1:])).radii(images, labels)
