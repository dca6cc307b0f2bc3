"""Attacks: searches for images near others that a network classifies wrong.

```python
from lipnets import attacks

adversarial = attacks.apgd(network, images, labels, radius=36 / 255, loss="margin")
distances = attacks.minimum_norm(network, images, labels).lengths
```

What is found refutes robustness; that nothing is found proves nothing.  A network is any module that
maps images in [0, 1] to rows of logits, in evaluation mode.  It is searched in its own dtype, and what is
found is judged by another function, if one is given: `lipnets.probes.attacked` searches in float32 and
judges by the program in float64 that is certified.

References:
    | Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks
    | (Croce & Hein, 2020) https://arxiv.org/abs/2003.01690: APGD and the DLR losses

Written from the paper.  What differs: points are projected onto the intersection of the ball and the
box, not onto one after the other; coordinates at the border of the box do not count in the length of a
gradient that points outwards; logits are divided by the median margin, or cross-entropy in float32 has
no gradient where margins are large; a gradient that is zero or not finite is replaced by noise; and an
image leaves the search as soon as it is broken.
"""

__all__ = [
    "LOSSES",
    "Found",
    "Judge",
    "Norm",
    "Tally",
    "apgd",
    "autoattack",
    "lengths",
    "losses_for",
    "median_margin",
    "minimum_norm",
    "search",
    "steepest_pairs",
]

from ._ascent import Tally
from ._autoattack import autoattack
from ._balls import Norm, lengths
from ._losses import LOSSES, losses_for
from ._minimum import minimum_norm
from ._search import Found, Judge, apgd, median_margin, search
from ._slopes import steepest_pairs
