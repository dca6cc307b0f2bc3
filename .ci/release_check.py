"""Builds the wheel, looks at what is in it, and uses it as one who has nothing else.

It is built of the files that git knows, as they are in the working tree, and installed into a fresh
environment in a temporary directory.  There a model is built, and a network trained, evaluated and
verified.  An installed torch is seen from inside the environment, as by `make demo`.

    make release-check      # a few minutes; the wheel is in dist/
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")
ABOUT = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt")

IMPORTED = """
import pathlib, sys
import lipnets, timm, torch

assert pathlib.Path(sys.prefix) in pathlib.Path(lipnets.__file__).parents, lipnets.__file__
images, labels = torch.rand(4, 1, 28, 28), torch.zeros(4, dtype=torch.long)
model = lipnets.create_model("lipconvnet_s", num_classes=10, in_chans=1, img_size=28).eval()
print("Lipschitz bound", lipnets.lipschitz(model, (1, 28, 28)).value)
assert lipnets.certified_radii(model, images, labels).isfinite().all()
assert timm.create_model("lipnets_lipmlp_s", num_classes=3).eval()(torch.rand(1, 3, 32, 32)).shape == (1, 3)
"""

MINE = """
base: configs/digits/lipmlp_cayley.yaml
schedule: {epochs: 3}
"""


def main() -> int:
    """Runs the check, and returns its exit status."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lipnets-release-") as directory:
        home = Path(directory).resolve()
        wheel = build(home / "source")
        if problems := [*misplaced(wheel), *misdescribed(wheel)]:
            print("error:", *problems, sep="\n  ", file=sys.stderr)
            return 1
        try:
            use(wheel, home)
        except subprocess.CalledProcessError as error:
            print(f"error: {error}\n{error.stdout}\n{error.stderr}", file=sys.stderr)
            return 1
    print(f"The wheel is complete and works ({time.monotonic() - started:.0f} s): {wheel}")
    return 0


def tracked() -> list[str]:
    """The files that git knows, and that are there."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [each for each in listed.split("\0") if each and os.path.lexists(ROOT / each)]


def build(source: Path) -> Path:
    """Builds the wheel of a copy, in which nothing lies about."""
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name, follow_symlinks=False)
    dist = ROOT / "dist"
    for old in dist.glob("lipnets-*.whl"):
        old.unlink()
    run("build", source, sys.executable, *PIP, "wheel", ".", "--no-deps", "-w", str(dist))
    [wheel] = dist.glob("lipnets-*.whl")
    return wheel


def misplaced(wheel: Path) -> list[str]:
    """What the wheel lacks, and what should not be there: it holds the package, and a license."""
    prefix = "-".join(wheel.name.split("-")[:2]) + ".dist-info/"
    files = [
        name for name in tracked() if name.startswith("lipnets/") and name != "lipnets/configs"
    ]
    files += [f"lipnets/{name}" for name in tracked() if name.startswith("configs/")]
    expected = {*files, *(prefix + name for name in ABOUT)}
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if not name.endswith("/")}
    lacks = [f"the wheel lacks {name}" for name in sorted(expected - found)]
    return lacks + [f"{name} should not be in the wheel" for name in sorted(found - expected)]


def misdescribed(wheel: Path) -> list[str]:
    """What an index would show wrong."""
    with zipfile.ZipFile(wheel) as archive:
        [name] = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        about = archive.read(name).decode()
        [name] = [
            each for each in archive.namelist() if each.endswith(".dist-info/licenses/LICENSE")
        ]
        terms = archive.read(name)
    wanted = ["License-Expression: MIT", "Requires-Python: >=3.11", "Requires-Dist: torch"]
    wanted.append((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[0])
    problems = [f"its METADATA should hold '{each}'" for each in wanted if each not in about]
    same = terms == (ROOT / "LICENSE").read_bytes()
    return problems if same else [*problems, "its LICENSE is not that of the repository"]


def use(wheel: Path, home: Path) -> None:
    """Installs the wheel, and does with it what the README says."""
    outside, environment = home / "outside", home / "environment"
    outside.mkdir()
    shared = ["--system-site-packages"] if importlib.util.find_spec("torch") else []
    run("environment", outside, sys.executable, "-m", "venv", *shared, str(environment))
    commands = environment / ("Scripts" if os.name == "nt" else "bin")
    python = str(commands / "python")
    run("install", outside, python, *PIP, "install", str(wheel))
    run("import", outside, python, "-c", IMPORTED)
    (outside / "mine.yaml").write_text(MINE, encoding="utf-8")
    train, evaluate, verify = (
        str(commands / f"lipnets-{n}") for n in ("train", "evaluate", "verify")
    )
    run("list", outside, train, "--list")
    run("train", outside, train, "mine.yaml", "--out", "run")
    run("resume", outside, train, "--resume", "--out", "run")
    run("evaluate", outside, evaluate, "run", "--quick", "--limit", "100")
    run("verify", outside, verify, "run/evaluation/certificate.npz")
    run("verify", outside, python, "-m", "lipnets.verify", "run/certificate.npz")
    run("studies", outside, python, "-m", "lipnets.studies", "--list")
    page = (outside / "run" / "evaluation" / "report.html").read_text(encoding="utf-8")
    if not page.rstrip().endswith("</html>") or "<style>" not in page:
        raise SystemExit("error: the report is not whole")


def run(what: str, where: Path, *command: str) -> None:
    """Runs a command without what this process has set for Python, and says how long it took."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    started = time.monotonic()
    done = subprocess.run(
        command, cwd=where, env=kept, capture_output=True, text=True, check=True, encoding="utf-8"
    )
    last = done.stdout.strip().splitlines()[-1:] or [""]
    print(f"{what}: {time.monotonic() - started:.0f} s  {last[0][:90]}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
