"""Bounds of Lipschitz constants below the product of those of layers, each of them proved.

`joint` bounds a small network in one matrix inequality, for all pairs of classes; `chains` cuts a larger
one into pieces that are small, and folds factors of channels into the linear maps beside them; `local`
bounds a network around an image.  `Certificate.tightened` and `Certificate.local_radii` use them.
"""

__all__ = ["LocalBounds", "Tightened", "local_radii", "tighter_pairs"]

from .chains import Tightened, tighter_pairs
from .local import LocalBounds, local_radii
