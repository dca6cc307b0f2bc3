"""Imports go one way, and public names are what they say."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import lipnets

PACKAGE = Path(lipnets.__file__).parent
ROOT = Path(__file__).resolve().parents[1]
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
LEVELS = [  # a room may import from the rooms above it, and from itself
    {"verify"},
    {"atomic", "invocation", "linalg", "registry", "records", "compat", "seeds", "distributed"},
    {"convolutions"},
    {"bounds"},
    {
        "operations",
        "program",
        "rounding",
        "rounding_elementwise",
        "rounding_rules",
        "rules",
        "exact",
        "layers",
        "parametrizations",
    },
    {"models"},
    {"bands", "tighter"},
    {"casting", "snapping"},
    {
        "certificate_file",
        "certify",
        "normal_form",
        "deployed",
        "export",
        "onnx",
        "estimates",
        "audit",
        "margin_slopes",
    },
    {"dynamics"},
    {
        "attacks",
        "metrics",
        "losses",
        "optim",
        "data",
        "nonfinite",
        "training",
        "recorders",
        "probes",
    },
    {"locks", "states"},
    {"runs", "comparison", "config", "report"},
    {"resuming", "stopping", "tensorboard"},
    {"experiment"},
    {"evaluation"},
    {"studies"},
    {"commands"},
]


def rooms() -> dict[str, int]:
    return {room: level for level, names in enumerate(LEVELS) for room in names}


def imported(path: Path) -> set[str]:
    """The rooms of lipnets that a file imports when it is imported itself."""
    depth = len(path.relative_to(PACKAGE).parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            if node.level == depth:
                names = [node.module] if node.module else [alias.name for alias in node.names]
            elif node.level == 0 and (node.module or "").split(".")[0] == "lipnets":
                names = [node.module.partition(".")[2] or alias.name for alias in node.names]
            else:
                continue
            found |= {name.split(".")[0] for name in names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("lipnets.")}
    return found


def test_imports_go_one_way() -> None:
    levels = rooms()
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room in ("__init__", "conftest"):
            continue
        assert room in levels, f"{path.name} is in no room: place it in LEVELS"
        wrong += [
            f"{path.relative_to(PACKAGE)} imports {other}"
            for other in imported(path)
            if other != room and levels[other] > levels[room]
        ]
    assert not wrong


def test_contributors_are_shown_every_room_in_the_order_of_imports() -> None:
    levels, last, shown = rooms(), 0, set()
    table = re.findall(r"^\| (`.*?`) \| ", CONTRIBUTING.read_text(), flags=re.MULTILINE)
    for cell in table:
        paths = [path for name in named(cell) for path in PACKAGE.glob(name.rstrip("/"))]
        row = {path.stem for path in paths}
        assert len(paths) == len(row) >= len(named(cell)), cell
        assert last <= min(levels[room] for room in row), cell
        last, shown = max(levels[room] for room in row), shown | row
    assert shown == set(levels)


def test_paths_that_contributors_are_told_of_exist() -> None:
    paths = [each for each in named(CONTRIBUTING.read_text()) if "NAME" not in each]
    paths = [each for each in paths if re.fullmatch(r"[\w./*-]+", each)]
    paths = [each for each in paths if "/" in each or each.endswith((".py", ".md", ".json"))]
    assert len(paths) > 60
    missing = [
        e for e in paths if not any([*ROOT.glob(e.rstrip("/")), *PACKAGE.glob(e.rstrip("/"))])
    ]
    assert not missing


def named(text: str) -> list[str]:
    """What a page sets as code."""
    return re.findall(r"`([^`\n]+)`", text)


@pytest.mark.parametrize("name", [name for name in lipnets.__all__ if name != "__version__"])
def test_every_public_name_loads(name) -> None:
    value = getattr(lipnets, name)
    assert isinstance(value, ModuleType) == (name in lipnets._MODULES)


@pytest.mark.parametrize("name", ["certify", "export", "audit"])
def test_a_function_keeps_its_name_where_its_module_bears_the_same(name) -> None:
    code = f"import lipnets.{name}; from lipnets.{name} import {name}; import lipnets as l; "
    code += f"assert l.{name} is {name}, l.{name}; from lipnets import {name} as again; "
    code += f"assert again is {name}; print('same')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout == "same\n", run.stderr


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, lipnets; dir(lipnets); print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_timm_is_not_needed_to_certify() -> None:
    modules = ", ".join(f"lipnets.{each}" for each in ("rules", "layers", "models", "certify"))
    code = f"import sys; sys.modules['timm'] = None; import {modules}; print('fine')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout == "fine\n", run.stderr


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lipshitz'"):
        lipnets.lipshitz  # noqa: B018


def test_submodules_import_by_name() -> None:
    assert importlib.import_module("lipnets.certify").Certificate is lipnets.Certificate
