"""The run directory: all that an experiment leaves behind, each file whole or not there.

```
config.yaml            the experiment, resolved
history.jsonl          one record a line
model.safetensors      the weights
config.json            how to build the model, for `lipnets.from_pretrained` and timm
certificate.npz        what is proved of them, and of some held-out images
state/a.state          what resuming needs, and SHA-256 of the history until then ...
state/b.state          ... and the same of a moment before or after: they are written in turn
checksums.json         SHA-256 of the files above, but for the history, which grows, and the states
lock                   held by the process that trains, as long as it runs
evaluation/            what `evaluate.py` writes, with a certificate of the images it was asked about
```

A file is written beside its place, flushed to the disk and moved there.  Its checksum is noted
before that and joins those of the files it may replace, so that an interruption at any moment
leaves an intact file.  Nothing in a run directory is read by unpickling objects.
"""

__all__ = [
    "DamagedFileError",
    "Run",
    "RunBusyError",
    "RunError",
    "RunExistsError",
    "UnwritableError",
    "certificate_bytes",
    "format_records",
    "parse_records",
    "write_atomic",
]

from ..atomic import UnwritableError, write_atomic
from ._errors import DamagedFileError, RunBusyError, RunError, RunExistsError
from ._records import format_records, parse_records
from ._run import Run, certificate_bytes
