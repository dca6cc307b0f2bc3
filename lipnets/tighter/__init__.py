"""Bounds of Lipschitz constants below the product of those of layers, each of them proved.

`joint` bounds a small network in one matrix inequality, for all pairs of classes; `frequencies` bounds
convolutions of any size and what is between them, with one for each frequency; `chains` cuts a larger
network into such pieces, and folds factors of channels into the linear maps beside them; `local` bounds a
network around an image.  `Certificate.tightened` and `Certificate.local_radii` use them.
"""

__all__ = ["LocalBounds", "Tightened", "local_radii", "tighter_pairs"]

from .chains import Tightened, tighter_pairs
from .local import LocalBounds, local_radii
