"""Studies: experiments on how Lipschitz constants move in training, as commands.

`python -m lipnets.studies NAME`.  Each trains a grid of runs, goes on where it was interrupted, and ends
in a figure, a table and a sentence that says whether a claim was confirmed, and at which scale.
"""

__all__ = ["Finding", "Lab", "build", "names", "registry"]

from ._registry import registry
from .batch_size import batch_size
from .compensation import compensation
from .conditions import initialization, label_noise, long_training, regularizers
from .derivatives import singular_values
from .drivers import drivers
from .error_split import error_split
from .f_principle import f_principle
from .finding import Finding
from .frequencies import frequencies
from .frequency_noise import frequency_noise
from .lab import Lab
from .learning_order import learning_order
from .moments import moments
from .prediction import cross_layer, martingale

build, names = registry.build, registry.names
