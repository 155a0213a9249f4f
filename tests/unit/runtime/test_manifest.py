"""The manifest tells what is there, and what of it the image's maker asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skill_runtime import __main__ as program
from skill_runtime import manifest

ROOT = Path(__file__).parents[3]


def test_libraries_are_the_modules_of_what_was_asked_for() -> None:
    made = manifest.describe(
        Path("/"), ["# pydantic", "", "PyYAML >= 6", "Python_Dateutil[x]==3; python_version > '3'", "-r other", "h11"]
    )
    assert made["libraries"] == ["dateutil", "yaml"]
    assert "pydantic" in made["modules"]


def test_without_a_list_every_module_counts_as_asked_for() -> None:
    made = manifest.describe(Path("/"))
    assert made["libraries"] == sorted(made["modules"])
    assert "h11" not in made["libraries"]


def test_the_image_reads_the_list_that_its_libraries_are_locked_by(capsys: pytest.CaptureFixture[str]) -> None:
    path = ROOT / "base-image/requirements.in"
    assert "manifest /tmp/requirements.in" in (ROOT / "base-image/Dockerfile").read_text()
    assert program.main(["manifest", str(path)]) == 0
    libraries = json.loads(capsys.readouterr().out)["libraries"]
    assert "yaml" in libraries
    assert not {"h11", "jsonschema_rs", "certifi", "typing_extensions"} & set(libraries)
