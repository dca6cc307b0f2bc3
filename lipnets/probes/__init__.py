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
    "PRESETS",
    "InvariantError",
    "Probe",
    "Subject",
    "Uncertified",
    "bands",
    "build",
    "certified",
    "corruptions",
    "dynamics",
    "frequency",
    "heatmap",
    "jacobian",
    "names",
    "paths",
    "registry",
    "response",
    "rounding",
    "shapley",
    "symbols",
    "shifts",
    "tightness",
]

from ._registry import PRESETS, Probe, registry
from .bands import bands
from .certified import certified
from .corruptions import corruptions
from .dynamics import dynamics
from .frequency import frequency
from .heatmap import heatmap
from .invariants import InvariantError
from .jacobian import jacobian
from .paths import paths
from .response import response
from .rounding import rounding
from .shapley import shapley
from .shifts import shifts
from .subject import Subject
from .symbols import symbols
from .tightness import tightness
from .uncertified import Uncertified

build, names = registry.build, registry.names
