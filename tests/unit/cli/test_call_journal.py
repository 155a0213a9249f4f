"""The journal of calls is small, private, and never in the way."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from kubectl_skill import call_journal
from kubectl_skill.call_journal import JournaledCall, find_call, recent_ids, record_call


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "kubectl-skill" / "calls"


def call(request_id: str = "id", value: object = 1) -> JournaledCall:
    return JournaledCall(request_id, "team", "echo", value, 200, {"a": None})


def test_a_call_is_found_again_and_nobody_else_may_read_it(folder: Path) -> None:
    assert record_call(call())
    assert find_call("id") == call()
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_oldest_are_forgotten(folder: Path) -> None:
    for number in range(call_journal.MAX_CALLS + 5):
        assert record_call(call(f"id-{number}"))
        os.utime(folder / f"call-id-{number}.json", ns=(number, number))
    record_call(call("last"))
    assert len(list(folder.iterdir())) == call_journal.MAX_CALLS
    assert find_call("id-0") is None
    assert recent_ids()[0] == "last"


@pytest.mark.parametrize("request_id", ["", "../x", "a/b", "a b", "x" * 65, "\x1b"])
def test_a_strange_id_names_no_file(folder: Path, request_id: str) -> None:
    assert not record_call(call(request_id))
    assert find_call(request_id) is None
    assert not folder.exists()


def test_a_large_call_is_not_kept() -> None:
    assert not record_call(call(value="x" * call_journal.MAX_CALL_BYTES))


def test_it_can_be_turned_off(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("SKILL_CALL_JOURNAL", "off")
    assert not record_call(call())
    assert not folder.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', json.dumps({"request_id": "id"}), "[" * 10_000])
def test_a_broken_file_is_no_call(folder: Path, text: str) -> None:
    folder.mkdir(parents=True)
    (folder / "call-id.json").write_text(text)
    assert find_call("id") is None


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert not record_call(call())
    assert recent_ids() == []
