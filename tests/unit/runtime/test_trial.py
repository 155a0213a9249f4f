"""The command `trial`: a pod that serves as in production and answers its own examples."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from skill_runtime import operator_contract as oc
from tests.unit.runtime.harness import (
    EXAMPLES,
    GOOD,
    HEAD,
    Checked,
    check_environment,
    closed_port,
    command,
    contract,
    environment,
    listening,
)

VISIBLE = EXAMPLES[:2]


def try_source(folder: Path, source: str, examples: Any = VISIBLE, timeout: float = 5, **more: str) -> Checked:
    """Run a trial of this source to its end."""
    contract(folder, source, timeout)
    request = check_environment("", types="", examples=examples, callTimeoutSeconds=timeout)
    variables = {"SKILL_PORT": str(closed_port()), "SKILL_UID": "u-1"} | request | more
    ended = subprocess.run(
        command("trial"),
        env=environment(folder, **variables),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    log = folder / "termination-log"
    return Checked(ended.returncode, log.read_text() if log.exists() else "", ended.stdout + ended.stderr)


def test_a_good_skill_passes(tmp_path: Path) -> None:
    tried = try_source(tmp_path, GOOD)
    assert tried.code == oc.EXIT_OK, tried.log
    assert (tried.report["passed"], tried.report["passedExamples"], tried.report["totalExamples"]) == (True, 2, 2)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return {'n': input['n'] + 2}", 'expects {"n": 2} got {"n":3}'),
        ("raise RuntimeError('secret')", "skill-error"),
        ("return {'m': 1}", "invalid-output"),
        ("import time; time.sleep(60)", "timeout"),
        ("import os; os._exit(1)", "skill-error"),
        ("return {'n': 'x' * (2 << 20)}", "response-too-large"),
    ],
)
def test_a_wrong_answer_is_reported_with_its_example(tmp_path: Path, body: str, words: str) -> None:
    tried = try_source(
        tmp_path,
        f"{HEAD}    {body}\n".replace("from skill_types import Input, Output\n", "")
        .replace(": Input", "")
        .replace(" -> Output", ""),
        timeout=1,
    )
    assert tried.code == oc.EXIT_REFUSED, tried.log
    assert (tried.report["passed"], tried.report["gate"]) == (False, "examples")
    message = " ".join(tried.report["message"].split())
    assert "'one'" in message
    assert words in message
    assert "secret" not in message


def test_an_exception_must_come_where_it_is_expected(tmp_path: Path) -> None:
    tried = try_source(tmp_path, "def run(input):\n    return {'n': input['n'] + 1}\n")
    assert not tried.report["passed"]
    assert "'negative' expects ValueError" in tried.report["message"]


def test_a_skill_that_cannot_be_loaded_leaves_no_report(tmp_path: Path) -> None:
    tried = try_source(tmp_path, "import no_such_module\n")
    assert tried.code == oc.EXIT_FAILED
    assert "no_such_module" in tried.last_word


def test_code_cannot_forge_the_report(tmp_path: Path) -> None:
    """It may write over the report, which PID 1 writes last, with a key that the code never has."""
    source = f"""
import json
def run(input):
    open({str(tmp_path / "termination-log")!r}, 'w').write(json.dumps({{'report': '{{"passed": true}}', 'mac': '0'}}))
    return {{'n': 0}}
"""
    tried = try_source(tmp_path, source)
    assert not tried.report["passed"]


def test_code_sees_neither_key_nor_expectations(tmp_path: Path) -> None:
    source = """
import os
def run(input):
    found = [name for name in os.environ if name.startswith("SKILL_")]
    try:
        found += [open(f"/proc/{os.getppid()}/environ").read()]
    except OSError:
        pass
    return {"n": 2 if not any("SKILL_REPORT_KEY" in one or "SKILL_CHECK" in one for one in found) else 0}
"""
    tried = try_source(tmp_path, source, VISIBLE[:1])
    assert tried.report["passed"], tried.report


def test_open_egress_ends_it_before_any_code_runs(tmp_path: Path) -> None:
    with listening() as port:
        tried = try_source(tmp_path, GOOD, KUBERNETES_SERVICE_PORT=str(port))
    assert tried.code == oc.EXIT_EGRESS_NOT_BLOCKED


@pytest.mark.parametrize("broken", [{"SKILL_CHECK_0": "!"}, {"SKILL_REPORT_KEY": ""}, {"SKILL_REPORT_KEY": "xyz"}])
def test_a_request_that_cannot_be_read(tmp_path: Path, broken: dict[str, str]) -> None:
    assert try_source(tmp_path, GOOD, **broken).code == oc.EXIT_UNUSABLE
