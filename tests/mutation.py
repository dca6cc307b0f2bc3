"""Tests the tests of the trusted kernel: which changes to its code do they not notice?

    python tests/mutation.py [--every N] [FILE ...]        # default: the whole kernel, some hours

Works on a copy, in `build/mutation`: mutmut leaves decorated functions alone, so that rules are
registered below their definitions there.  Survivors are printed as differences.  With `--every N`, the first of
N changes of each function are made, the (N + 1)-th, and so on: a sample.
"""

import argparse
import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "mutation"
TESTS = {
    "linalg": ["test_linalg.py"],
    "convolutions": ["test_convolutions.py"],
    "bounds": ["layers/test_contract.py", "test_certify.py", "test_export.py"],
    "rules": ["layers/test_contract.py", "test_convolutions.py"],
    **{
        f"certify/{name}": ["test_certify.py", "test_export.py"]
        for name in ("__init__", "_certificate", "_fingerprints", "_margins")
    },
    "program": ["test_program.py"],
    "rounding": ["test_rounding.py", "test_rounding_attacks.py"],
    "rounding_rules": ["test_rounding.py", "test_rounding_attacks.py"],
    "rounding_elementwise": ["test_rounding.py", "layers/test_layer_rounding.py"],
    "operations": ["test_certify.py", "test_verify.py"],
    "exact": ["test_exact.py", "test_verify.py"],
    "verify": ["test_verify.py", "test_verify_attacks.py", "test_verify_smooth.py"],
    "bands": ["test_bands.py"],
    "tighter/frequencies": ["test_frequencies.py"],
    **{
        f"layers/{name}": [f"layers/test_{name}.py"]
        for name in ("attention", "concat", "normalization", "potential", "residual", "sandwich")
    },
}


def undecorated(source: str) -> str:
    """The same module, with `@rule(...)` and the like above a function turned into a call below it."""
    lines = source.splitlines()
    for node in reversed(ast.parse(source).body):
        if isinstance(node, ast.FunctionDef) and len(node.decorator_list) == 1:
            (decorator,) = node.decorator_list
            call = ast.unparse(decorator)
            if call.startswith(("rule(", "rounding_rule(", "lowering(")):
                lines[node.end_lineno : node.end_lineno] = ["", "", f"{call}({node.name})"]
                del lines[decorator.lineno - 1 : node.lineno - 1]
    return "\n".join(lines) + "\n"


def run(name: str, every: int = 1) -> None:
    """Mutates one file, and prints what survives of the changes, or of one in so many."""
    shutil.rmtree(WORK, ignore_errors=True)
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    for folder in ("lipnets", "tests", "benchmarks"):
        shutil.copytree(ROOT / folder, WORK / folder, ignore=ignore)
    path = WORK / "lipnets" / f"{name}.py"
    path.write_text(undecorated(path.read_text()))
    tests = [f"tests/{test}" for test in TESTS[name]]
    (WORK / "pyproject.toml").write_text(
        (ROOT / "pyproject.toml").read_text()
        + f'\n[tool.mutmut]\nsource_paths = ["lipnets/{name}.py"]\n'
        + f"pytest_add_cli_args_test_selection = {tests}\n"
        + 'also_copy = ["lipnets", "tests", "benchmarks"]\n'
    )
    mutmut = [sys.executable, "-m", "mutmut"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    numbers = range(1, 1000, every) if every > 1 else ()
    chosen = [f"*__mutmut_{number}" for number in numbers]
    subprocess.run([*mutmut, "run", *chosen], cwd=WORK, env=environment, check=False)
    results = subprocess.run(
        [*mutmut, "results"], cwd=WORK, capture_output=True, text=True, check=True
    )
    for line in results.stdout.splitlines():
        mutant, _, verdict = line.strip().partition(": ")
        if verdict not in ("killed", "not checked"):
            print(f"\n{verdict}: {mutant}", flush=True)
            subprocess.run([*mutmut, "show", mutant], cwd=WORK, check=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Changes the kernel, and looks who notices.")
    parser.add_argument("files", nargs="*", default=list(TESTS))
    parser.add_argument("--every", type=int, default=1)
    given = parser.parse_args()
    for each in given.files:
        run(each.removeprefix("lipnets/").removesuffix(".py"), given.every)
