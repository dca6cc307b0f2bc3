"""How the commands of lipnets are called on this machine, where one of them is spoken of."""

__all__ = ["spelled", "under_torchrun"]

import sys
from pathlib import Path

_CLONE = Path(__file__).parents[1]


def spelled(name: str) -> str:
    """How a command is called: by the script of a clone, or by what a wheel installed.

    Arguments:
        name: `train` or `evaluate`.

    Returns:
        `python train.py` or `lipnets-train`, and so on.
    """
    installed = Path(sys.argv[0]).name.startswith("lipnets-")
    if (_CLONE / f"{name}.py").is_file() and not installed:
        return f"python {name}.py"
    return f"lipnets-{name}"


def under_torchrun(name: str, processes: str) -> str:
    """How several processes run a command together.

    Arguments:
        name: `train` or `evaluate`.
        processes: Their number.
    """
    called = spelled(name).removeprefix("python ")
    script = called if called.endswith(".py") else f"--no-python {called}"
    return f"torchrun --nproc-per-node={processes} {script}"
