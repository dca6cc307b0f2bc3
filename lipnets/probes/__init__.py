"""Probes: what `evaluate.py` measures.  A probe looks at a network and images, and yields records.

```python
subject = Subject.of(model, dataset.test)
for record in lipnets.probes.build("corruptions", limit=200)(subject):
    print(record)
```

The numbers do not depend on the batch size, and a probe leaves the model, its mode and the random
state as they were.  On its way it checks what must be true of every network: an `InvariantError`
says that the certificate, or the code that uses it, is wrong.
"""

__all__ = [
    "ORDER",
    "PRESETS",
    "InvariantError",
    "Probe",
    "Subject",
    "Uncertified",
    "attacked",
    "bands",
    "build",
    "calibration",
    "certified",
    "corruptions",
    "cost",
    "detection",
    "dynamics",
    "frequency",
    "heatmap",
    "jacobian",
    "names",
    "paths",
    "registry",
    "repeatable",
    "response",
    "rounding",
    "shapley",
    "shifts",
    "smoothing",
    "symbols",
    "tightness",
]

from ._registry import PRESETS, Probe, registry
from .attacked import attacked
from .bands import bands
from .calibration import calibration
from .certified import certified
from .corruptions import corruptions
from .cost import cost
from .detection import detection
from .dynamics import dynamics
from .frequency import frequency
from .heatmap import heatmap
from .invariants import InvariantError
from .jacobian import jacobian
from .paths import paths
from .repeatable import repeatable
from .response import response
from .rounding import rounding
from .shapley import shapley
from .shifts import shifts
from .smoothing import smoothing
from .subject import Subject
from .symbols import symbols
from .tightness import tightness
from .uncertified import Uncertified

build, names = registry.build, registry.names

ORDER = (  # of an evaluation: what a reader wants first, and what later probes would be in vain without
    "certified",
    "repeatable",
    "attacked",
    "rounding",
    "bands",
    "corruptions",
    "shifts",
    "detection",
    "frequency",
    "heatmap",
    "jacobian",
    "response",
    "shapley",
    "symbols",
    "paths",
    "dynamics",
    "calibration",
    "tightness",
    "cost",
)
