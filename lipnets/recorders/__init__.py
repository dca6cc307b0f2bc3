"""Recorders: functions that measure a training while it runs, from one step to records.

No recorder changes what it looks at: the model, its mode and the random state are left as they are.
One that remembers something has a `state_dict`, so that a training that was interrupted goes on with it.

```python
record = every(100, lipnets.recorders.build("bounds"))
for step in fit(model, batches, loss_fn, optimizer, scheduler, steps_per_epoch=100):
    run.log(record(step))
```
"""

__all__ = [
    "Recorder",
    "Stateful",
    "bounds",
    "build",
    "certified",
    "drivers",
    "every",
    "frequencies",
    "geometry",
    "ledger",
    "loss",
    "loss_of_probes",
    "names",
    "registry",
    "together",
]

from ._registry import Recorder, Stateful, registry, together
from .bounds import bounds
from .certified import certified
from .drivers import drivers, loss_of_probes
from .frequencies import frequencies
from .geometry import geometry
from .ledger import ledger
from .loss import loss
from .rhythm import every

build, names = registry.build, registry.names
