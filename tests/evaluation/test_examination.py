"""Tests of evaluations: what is found is kept, under all that it depends on."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lipnets import probes, verify
from lipnets.evaluation import Examination, Target
from lipnets.evaluation.cache import Cache, digest_of_files
from lipnets.probes import InvariantError, Subject
from lipnets.records import Record


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A probe `counted` that says how often it ran, and one that finds a contradiction."""
    calls: list[str] = []

    def counted(scale: float = 1.0, limit: int | None = None) -> probes.Probe:
        def probe(subject: Subject) -> Iterator[Record]:
            calls.append("counted")
            yield subject.record("mean", scale * float(subject.images.mean()), "1", len(subject))

        return probe

    def broken() -> probes.Probe:
        def probe(subject: Subject) -> Iterator[Record]:
            calls.append("broken")
            raise InvariantError("one is not two")
            yield

        return probe

    table = {**probes.registry._table, "counted": counted, "broken": broken}
    monkeypatch.setattr(probes.registry, "_table", table)
    return calls


def test_what_was_found_is_not_looked_for_again(target: Target, calls: list[str]) -> None:
    told: list[tuple[str, bool]] = []

    def tell(name: str, seconds: float | None) -> None:
        told.append((name, seconds is None))

    first = Examination(target).examine({"counted": {}}, tell)
    again = Examination(target).examine({"counted": {}}, tell)
    assert calls == ["counted"]
    assert first == again
    assert told == [("counted", False), ("counted", True)]


def test_a_cached_evaluation_runs_no_network(
    target: Target, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Examination(target).examine({"counted": {}})
    monkeypatch.setattr(Subject, "of", None)
    assert len(Examination(target).examine({"counted": {}})) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"scale": 2.0}},
        {"options": {"limit": 6}},
        {"options": {"fresh": True}},
        {"target": {"weights": "01"}},
        {"target": {"history": [Record("bound/network", 1.0, "1", step=1, epoch=1.0)]}},
    ],
)
def test_whatever_it_depends_on_makes_it_another(
    target: Target, calls: list[str], change: dict[str, Any]
) -> None:
    Examination(target).examine({"counted": {}})
    other = dataclasses.replace(target, **change.get("target", {}))
    examination = Examination(other, **change.get("options", {}))
    examination.examine({"counted": change.get("settings", {})})
    assert calls == ["counted", "counted"]


def test_other_images_are_other_data(target: Target, calls: list[str]) -> None:
    Examination(target).examine({"counted": {}})
    data = target.dataset
    images = data.test.images.clone()
    images[0, 0, 0, 0] += 1 / 255
    other = dataclasses.replace(data, test=type(data.test)(images, data.test.labels))
    Examination(dataclasses.replace(target, dataset=other)).examine({"counted": {}})
    assert calls == ["counted", "counted"]


def test_the_batch_size_changes_nothing(target: Target, calls: list[str]) -> None:
    Examination(target, batch_size=5).examine({"counted": {}})
    Examination(target, batch_size=7).examine({"counted": {}})
    assert calls == ["counted"]


def test_files_that_come_into_the_data_directory_are_noticed(tmp_path: Path) -> None:
    before = digest_of_files(tmp_path)
    (tmp_path / "more").mkdir()
    between = digest_of_files(tmp_path)
    (tmp_path / "more" / "images.npz").write_bytes(b"1")
    after = digest_of_files(tmp_path)
    (tmp_path / "more" / "images.npz").write_bytes(b"12")
    assert len({before, between, after, digest_of_files(tmp_path)}) == 4
    assert digest_of_files(tmp_path) == digest_of_files(tmp_path)
    assert digest_of_files(None) == digest_of_files(tmp_path / "nothing")


def test_files_of_the_same_size_that_are_written_anew_are_noticed(tmp_path: Path) -> None:
    file = tmp_path / "images.npz"
    digests = set()
    for seconds in (1, 2):
        file.write_bytes(b"1")
        os.utime(file, (seconds, seconds))
        digests.add(digest_of_files(tmp_path))
    assert len(digests) == 2


def test_a_damaged_file_is_found_anew(target: Target, calls: list[str]) -> None:
    Examination(target).examine({"counted": {}})
    (path,) = (target.out / "cache").glob("counted-*.jsonl")
    content = path.read_bytes()
    for damaged in (content[:-5], content[:70], b"", content.replace(b"mean", b"lean")):
        path.write_bytes(damaged)
        Examination(target).examine({"counted": {}})
        assert path.read_bytes() == content
    assert calls == ["counted"] * 5


def test_probes_before_a_contradiction_are_kept(target: Target, calls: list[str]) -> None:
    with pytest.raises(InvariantError):
        Examination(target).examine({"counted": {}, "broken": {}})
    with pytest.raises(InvariantError):
        Examination(target).examine({"counted": {}, "broken": {}})
    assert calls == ["counted", "broken", "broken"]


def test_settings_that_are_not_there_are_refused_before_anything_runs(
    target: Target, calls: list[str]
) -> None:
    with pytest.raises(TypeError, match="no argument 'scales': did you mean 'scale'"):
        Examination(target).examine(
            {"counted": {}, "certified": {}, "bands": {"scales": 1}} | {"counted": {"scales": 2}}
        )
    assert calls == []


def test_a_file_that_is_a_setting_counts_by_what_is_in_it(tmp_path: Path) -> None:
    file, cache = tmp_path / "records.jsonl", Cache(tmp_path / "cache", {})
    file.write_text("one")
    cache.keep("counted", {"baseline": file}, [Record("mean", 0.5, "1", 3)])
    assert cache.find("counted", {"baseline": file})
    file.write_text("two")
    assert cache.find("counted", {"baseline": file}) is None


def test_a_cache_knows_its_origin(tmp_path: Path) -> None:
    record = Record("mean", 0.5, "1", 3)
    Cache(tmp_path, {"weights": "a"}).keep("counted", {}, [record])
    assert Cache(tmp_path, {"weights": "a"}).find("counted", {}) == [record]
    assert Cache(tmp_path, {"weights": "b"}).find("counted", {}) is None
    assert Cache(tmp_path, {"weights": "a"}).find("other", {}) is None


def test_the_certificate_is_written_once_and_anew_where_it_was_changed(target: Target) -> None:
    path = Examination(target).save_certificate()
    assert path
    content = path.read_bytes()
    assert verify.main([str(path)]) == 0
    path.write_bytes(content[:-1])
    assert Examination(target).save_certificate() == path
    assert path.read_bytes() == content


def test_a_network_that_no_rule_covers_has_no_certificate(target: Target) -> None:
    class Mystery(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, :3].sin()

    target.out.mkdir()
    (target.out / "certificate.npz").write_bytes(b"of the network before")
    mystery = dataclasses.replace(target, model=Mystery().eval())
    examination = Examination(mystery)
    assert examination.save_certificate() is None
    assert not (target.out / "certificate.npz").exists()
    records = examination.examine({"certified": {}})
    assert {"accuracy", "uncertified"} <= {record.name for record in records}
    assert "certified_accuracy" not in {record.name for record in records}


@pytest.mark.parametrize("what", ["code", "torch", "name"])
def test_other_code_another_torch_and_another_name_find_anew(
    target: Target, calls: list[str], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Examination(target).examine({"counted": {}})
    if what == "code":
        monkeypatch.setattr("lipnets.evaluation.examination.digest_of_code", lambda: "other")
    elif what == "torch":
        monkeypatch.setattr(torch, "__version__", "0.0")
    else:  # which decides on radii, and on what is in distribution
        renamed = dataclasses.replace(target.dataset, name="mnist")
        target = dataclasses.replace(target, dataset=renamed)
    Examination(target).examine({"counted": {}})
    assert calls == ["counted", "counted"]
