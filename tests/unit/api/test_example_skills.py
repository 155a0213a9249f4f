"""The example Skills are good, and each can come true: a reference solution meets every example."""

import csv
import io
import statistics
import sys
import types
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest
import yaml

from skill_operator.api.v1alpha1 import Skill
from skill_operator.api.validation import read_spec
from skill_operator.untrusted.json_values import canonical

FOLDER = Path(__file__).parents[3] / "examples" / "skills"
FILES = sorted(FOLDER.glob("*.yaml"))


def invoice_total(body):
    if not body["lines"]:
        raise ValueError("no lines")
    total = sum(Decimal(str(line["qty"])) * Decimal(str(line["price"])) for line in body["lines"])
    total *= 1 - Decimal(str(body.get("discount", 0)))
    return {"total": float(total.quantize(Decimal("0.01"), ROUND_HALF_UP))}


def csv_stats(body):
    rows = list(csv.DictReader(io.StringIO(body["csv"]), skipinitialspace=True))
    if not all(body["column"] in row for row in rows):
        raise ValueError("no such column")
    values = [float(row[body["column"]]) for row in rows if row[body["column"]]]
    if not values:
        raise ValueError("no value")
    return {
        "count": len(values),
        "missing": len(rows) - len(values),
        "min": min(values),
        "max": max(values),
        "mean": round(statistics.fmean(values), 6),
        "median": round(statistics.median(values), 6),
    }


REFERENCES = {"invoice-total": invoice_total, "csv-stats": csv_stats}


def solution(spec, name, monkeypatch):
    """The pinned source where there is one, else the reference."""
    if spec.source is None:
        return REFERENCES[name]
    contract = types.ModuleType("skill_types")
    contract.Input = contract.Output = dict
    monkeypatch.setitem(sys.modules, "skill_types", contract)
    scope = {}
    exec(compile(spec.source.inline, "skill.py", "exec"), scope)  # noqa: S102 - our own text
    return scope["run"]


def test_there_are_examples():
    assert {path.stem for path in FILES} >= {"word-count", "invoice-total", "csv-stats"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_example_skill(path, monkeypatch):
    body = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert read_spec(body["spec"])[1] == []
    skill = Skill.model_validate(body)
    assert (skill.api_version, skill.kind, skill.metadata.name) == (body["apiVersion"], body["kind"], path.stem)
    assert len(skill.spec.examples) >= 4
    assert any(example.error for example in skill.spec.examples)
    run = solution(skill.spec, path.stem, monkeypatch)
    for example in skill.spec.examples:
        if example.error is None:
            assert canonical(run(example.input)) == canonical(example.output), example.name
        else:
            with pytest.raises(ValueError):  # noqa: PT011 - the class is what an example promises
                run(example.input)
            assert example.error == "ValueError"
