"""Evaluations: networks from wherever they come, every probe once, and files for people.

```python
target = open_target("runs/demo")
records = list(examine(target, {"certified": {}, "attacked": {"limit": 200}}))
write_evaluation(target.out, target, records)
```

What a probe found is kept beside the report, under the weights, the data, the settings and the code that
it is of: an evaluation that was interrupted goes on, and one that is asked for again takes no time.
"""

__all__ = [
    "Examination",
    "Target",
    "TargetError",
    "open_target",
    "refuse_incomparable",
    "write_comparison",
    "write_evaluation",
]

from .comparable import refuse_incomparable
from .examination import Examination
from .targets import Target, TargetError, open_target
from .writing import write_comparison, write_evaluation
