"""CPL, the network of convex potential layers.

References:
    | A Dynamical System Perspective for Lipschitz Neural Networks
    | (Meunier, Delattre, Araujo & Allauzen, 2022) https://arxiv.org/abs/2110.12690
    | Its layers: https://github.com/MILES-PSL/Convex-Potential-Layer (c6dc197, model.py)
    | Its sizes: https://github.com/araujoalexandre/Lipschitz-SLL-Networks (1abe5e1, main.py)

The repository of the paper has the skeleton and no table of sizes.  Those here are of SLL, which took
the network over; the largest agrees with the 236 million parameters that Prach et al. count for CPL.

What differs from the paper: the norms of kernels are those of the weights in use, on the torus, not
what a power iteration had reached; blocks start orthogonal; nothing is learned beside weights and
biases, where the paper's dense blocks have one more, unused, number each.
"""

__all__ = ["cpl"]

from collections.abc import Sequence

from ._parts import Spec
from ._potential import potential_network
from ._registry import Published, Variant, family
from .network import Network

_PRACH = "Prach et al., 2023, table 4"

VARIANTS = {
    # For CPUs.
    "cpl_xs": Variant(
        {"width": 16, "depth": 6, "hidden_channels": 16, "linear_depth": 4, "hidden_features": 256}
    ),
    "cpl_s": Variant({"width": 45, "depth": 20, "linear_depth": 7}),
    "cpl_m": Variant({"width": 60, "depth": 30, "linear_depth": 10}),
    "cpl_l": Variant({"width": 90, "depth": 50, "linear_depth": 10}),
    "cpl_xl": Variant(
        {"width": 120, "depth": 70, "linear_depth": 15},
        parameters=236e6,
        source=_PRACH,
        published=(Published("CIFAR-10", 78.5, {36: 64.4, 72: 48.0, 108: 33.0}, source=_PRACH),),
    ),
}


@family(VARIANTS, paper="Meunier et al., 2022", url="https://arxiv.org/abs/2110.12690")
def cpl(
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: int | Sequence[int] = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    width: int = 45,
    depth: int = 20,
    hidden_channels: int = 5,
    linear_depth: int = 7,
    hidden_features: int = 2048,
    patch: int = 4,
    conv: Spec = "cpl_conv2d",
    linear: Spec = "cpl_linear",
    act: Spec = "relu",
    pool: Spec = "scaled_avg_pool2d",
    head: Spec = "unit_norm_linear",
) -> Network:
    """Builds a CPL network: residual convolutions, a pooling, residual dense layers, and a head.

    Arguments, and errors, are those of `sll`.
    """
    return potential_network(**locals())
