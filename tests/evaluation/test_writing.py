"""Tests of the files of an evaluation."""

import csv
import json
from dataclasses import replace

import torch
from torch import nn

from lipnets.evaluation import Examination, Target, write_comparison, write_evaluation
from lipnets.report import figures


def test_numbers_are_in_tables_as_they_are_in_records(target: Target) -> None:
    records = Examination(target, limit=5).examine({"certified": {}})
    write_evaluation(target, records)
    with (target.out / "summary.csv").open(newline="") as file:
        rows = {(row["name"], row["details"]): row for row in csv.DictReader(file)}
    accuracy = next(record for record in records if record.name == "accuracy")
    (row,) = [row for (name, _), row in rows.items() if name == "accuracy"]
    assert float(row["value"]) == accuracy.value
    assert float(row["low"]) == accuracy.details["low"]
    radii = [
        json.loads(details)["radius"] for name, details in rows if name == "certified_accuracy"
    ]
    assert radii == [0, 36 / 255, 72 / 255, 108 / 255, 1]
    assert not any(name.startswith(("image/", "example")) for name, _ in rows)


def test_examples_have_a_row_each(target: Target) -> None:
    examination = Examination(target, limit=5)
    write_evaluation(target, examination.examine({"certified": {}}))
    with (target.out / "examples.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    subject = examination.subject
    assert [int(row["index"]) for row in rows] == subject.indices.tolist()
    assert [int(row["label"]) for row in rows] == subject.labels.tolist()
    assert [float(row["radius"]) for row in rows] == subject.radii.tolist()


def test_figures_are_files_of_both_kinds_and_old_ones_go(target: Target) -> None:
    target.out.mkdir()
    (target.out / "old.png").write_bytes(b"old")
    (target.out / "notes.txt").write_text("mine")
    records = Examination(target).examine({"certified": {}})
    write_evaluation(target, records)
    names = {path.name for path in target.out.iterdir() if path.is_file()}
    assert names >= {"certified_curve.png", "certified_curve.svg", "notes.txt", "report.html"}
    assert "old.png" not in names
    drawing = (target.out / "certified_curve.svg").read_text()
    assert drawing.startswith("<?xml")
    assert "var(--" not in drawing


def test_a_comparison_is_a_page_with_its_files(target: Target) -> None:
    records = Examination(target).examine({"certified": {}})
    out = target.out.parent / "comparison"
    files = {"report.html": "<!doctype html>", "comparison.jsonl": ""}
    path = write_comparison(out, files, figures(records))
    assert path.read_text() == "<!doctype html>"
    assert {each.name for each in out.iterdir()} == {
        *files,
        "certified_curve.png",
        "certified_curve.svg",
    }


def test_a_network_of_more_classes_than_the_data_has_a_page(target: Target) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 5)).float().eval()
    with torch.no_grad():
        network[1].bias[4] = 9.0  # which no label is, and which everything is taken for
    records = Examination(replace(target, model=network)).examine({"certified": {}})
    page = write_evaluation(target, records).read_text()
    assert "taken for class 4" in page
