"""The pages: their code runs from top to bottom, their commands run in small, their links lead somewhere.

A block that cannot run in seconds has `<!-- not run: why -->` on the line above it.
"""

import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from lipnets import bounds, data, layers, losses, models, probes, program, rounding, studies, verify
from lipnets.commands import evaluate, train
from lipnets.config import load_config
from lipnets.layers import _registry as layer_cards
from lipnets.models import _registry as model_cards
from lipnets.probes import _registry as probe_presets
from lipnets.studies import __main__ as study

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "benchmarks" / "README.md"]
)
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<why>[^>]+) -->\n)?^```(?P<kind>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
SLOW = {  # those with several commands
    f"docs/{name}.md" for name in ("dynamics", "evaluation", "frequency", "training")
} | {"README.md"}

# Stands for what a reader puts there.
WORDS = {"CONFIG": "configs/digits/lipconvnet_aol.yaml", "DIR": "data", "RUN": "runs/demo"}
DATA = "data={name: digits, limit: 32, batch_size: 16}"
SMALL = [DATA, "schedule.max_steps=1", "schedule.epochs=1", "schedule.warmup_epochs=0"]


class Block(NamedTuple):
    """A fenced block of a page: its language, its lines, and why it is not run, if so."""

    kind: str
    code: str
    why: str | None


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text()
    found = [Block(match["kind"], match["code"], match["why"]) for match in BLOCK.finditer(text)]
    assert 2 * len(found) == len(re.findall(r"^```", text, flags=re.MULTILINE)), (
        "a block is not closed"
    )
    return found


WITH_BLOCKS = [page for page in PAGES if blocks(page)]


@pytest.fixture
def _registries_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a page registers is gone afterwards."""
    registries = (layers.registry, models.registry, losses.registry, probes.registry)
    for registry in (*registries, data.datasets):
        monkeypatch.setattr(registry, "_table", dict(registry._table))
    for module, name in (
        (layer_cards, "_CARDS"),
        (model_cards, "_CARDS"),
        (probe_presets, "PRESETS"),
        (bounds, "_RULES"),
        (rounding, "_RULES"),
        (program, "_LOWERINGS"),
    ):
        monkeypatch.setattr(module, name, dict(getattr(module, name)))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a small network, of one step."""
    path = tmp_path_factory.mktemp("demo") / "run"
    torch.set_default_dtype(torch.float32)
    config = ROOT / "configs" / "digits" / "lipmlp_cayley.yaml"
    assert train.main([str(config), *SMALL, "model.widths=[16]", "--out", str(path)]) == 0
    return path


@pytest.fixture
def place(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory such as a reader's, with a run, images and a network of their own."""
    torch.set_default_dtype(torch.float32)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    shutil.copytree(demo, tmp_path / "runs" / "demo")
    shutil.copy(demo / "certificate.npz", tmp_path)
    images = np.random.default_rng(0).integers(256, size=(40, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(40) % 10)
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n\n\ndef network():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    "page",
    [pytest.param(each, marks=pytest.mark.slow) if each in SLOW else each for each in WITH_BLOCKS],
)
@pytest.mark.usefixtures("_registries_stay")
def test_the_blocks_of_a_page_run_in_order(page: str, place: Path) -> None:
    names: dict[str, object] = {"__name__": page}
    for block in blocks(page):
        if block.why is not None:
            assert len(block.why) > 10, "say why it is not run"
        elif block.kind == "python":
            exec(compile(block.code, page, "exec"), names)  # noqa: S102 - a page of ours
        elif block.kind == "yaml":
            check_config(block.code, place)
        else:
            assert block.kind in ("", "sh"), f"no test runs blocks of '{block.kind}'"
            for line in block.code.splitlines():
                run(line, place)


def check_config(text: str, place: Path) -> None:
    """A config with its path in the first line is written there; a part of one is laid over another."""
    named = re.match(r"# (\S+\.yaml)\n", text)
    if named:
        (place / named[1]).write_text(text)
        return
    part = place / "part.yaml"
    part.write_text(f"base: {ROOT}/configs/digits/lipconvnet_aol.yaml\n{text}")
    load_config(part)


def run(line: str, place: Path) -> None:
    """Runs a command of a page in this process, on little data; what takes hours is only looked at."""
    words = shlex.split(line.partition(" > ")[0], comments=True)
    words = [WORDS.get(word, word.replace("NAME", "demo")) for word in words]
    match [word.removeprefix(".venv/bin/") for word in words]:
        case [] | ["source", _] | ["python3", "-m", "venv", ".venv"]:
            pass
        case ["mkdir", name]:
            (place / name).mkdir()
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        case ["pip" | "python", *_, "install", "-e" | "--editable", what]:
            assert_extras(what)
        case ["python", "-m", "pytest", *_]:
            pass
        case ["python", "train.py", *arguments]:
            if not {"--resume", "--list", "--schema"} & {*arguments}:
                arguments = smaller(arguments)
                shutil.rmtree(train.parse(arguments).out, ignore_errors=True)  # of the line before
            assert train.main(arguments) == 0
        case ["torchrun", _, "train.py", *arguments]:
            train.parse(arguments)
        case ["python", "evaluate.py", *arguments]:
            assert evaluate.main(quicker(arguments, place)) == 0
        case ["python", "-m", "lipnets.verify", file]:
            assert verify.main([file]) == 0
        case ["python", "-m", "lipnets.studies", *arguments]:
            parsed = study.parse(arguments)
            assert parsed.list or parsed.study in studies.names()
        case ["python", script, *arguments]:
            text = (ROOT / script).read_text()
            for flag in arguments:
                assert not flag.startswith("--") or f'"{flag}"' in text, f"{script} has no {flag}"
        case _:
            raise AssertionError(f"no test runs '{line}'")


def smaller(arguments: list[str]) -> list[str]:
    """Arguments of `train.py` for one step on digits, on this machine."""
    ours = Path(arguments[0]).parts[0] == "configs"
    kept = [word for word in arguments if word not in ("--device", "cuda", "--compile")]
    return [*kept, *(SMALL if ours else [*SMALL[1:], "data.limit=64"])]


def quicker(arguments: list[str], place: Path) -> list[str]:
    """Arguments of `evaluate.py` for the cheapest probe on four images, of data that are there."""
    for word in arguments:
        if word.startswith("runs/") and not (place / word).exists():
            shutil.copytree(place / "runs" / "demo", place / word)
    several = len(evaluate.parse(arguments).targets) > 1  # are compared by what this probe says
    probe = ["--probes", "certified" if several else "repeatable"]
    probe = [] if "--probes" in arguments else probe
    kept = ["digits" if word == "cifar10" else word for word in arguments]
    return [*kept, "--limit", "4", *probe]


def assert_extras(what: str) -> None:
    """The extras of `.[a,b]` are declared."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = re.findall(r"\w+", what.partition("[")[2])
    assert {*wanted} <= declared["optional-dependencies"].keys()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target, anchor in links(page):
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), f"{page} links to {target}"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{page} links to {target}#{anchor}"


def links(page: str) -> Iterator[tuple[str, str]]:
    text = BLOCK.sub("", (ROOT / page).read_text())
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not link.startswith(("https://", "http://")):
            target, _, anchor = link.partition("#")
            yield target, anchor


def anchors(path: Path) -> set[str]:
    """Anchors of headings, as they are commonly made: lower case, no punctuation, hyphens for spaces."""
    text = BLOCK.sub("", path.read_text())
    titles = [
        re.sub(r"[^\w\- ]", "", title.lower())
        for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    ]
    return {title.strip().replace(" ", "-") for title in titles}


def test_a_block_that_is_not_run_says_why(tmp_path: Path) -> None:
    text = "<!-- not run: it takes hours -->\n```\nmake all\n```\n\n```python\n1 / 0\n```\n"
    first, second = (match["why"] for match in BLOCK.finditer(text))
    assert first == "it takes hours"
    assert second is None


@pytest.mark.parametrize("line", ["rm -rf /", "python benchmarks/recipes.py --nothing"])
def test_commands_that_nobody_tests_are_refused(line: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        run(line, tmp_path)


def test_every_page_of_docs_stands_in_its_index() -> None:
    index = {target for target, _ in links("docs/README.md")}
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages <= index, "add a row to docs/README.md"
