"""Whatever strangers put where the operator reads: it stays up, stays small, and says only what can be printed.

Strangers write the model's replies, the checks' reports and last words, the ConfigMaps of a namespace, the messages of
Kubernetes about their pods, and what a worker of a skill answers to PID 1.
"""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from skill_operator.api import conditions
from skill_operator.generation.ledger import Ledger
from skill_operator.generation.reply import extract_source
from skill_operator.k8s import pod_status
from skill_operator.k8s.events import EventRecorder
from skill_operator.observability.logs import _JsonFormatter
from skill_operator.reconcile import check_report
from skill_operator.reconcile.result import Progress
from skill_operator.reconcile.stages.build import build
from skill_runtime import replies
from tests.unit.reconcile.samples import NOW, observed, pod, stage_context

BYTES = {
    "nothing": "",
    "nested lists": "[" * 100_000,
    "nested lists, closed": "[" * 100_000 + "]" * 100_000,
    "nested objects": '{"report":' * 100_000,
    "huge integer": '{"passed": true, "line": ' + "9" * 100_000 + "}",
    "huge float": '{"passed": true, "line": 1e999999}',
    "not a number": '{"passed": true, "line": NaN}',
    "NUL": '{"passed": true, "message": "a\\u0000b"}\0',
    "ANSI": '{"passed": false, "gate": "\x1b[2J", "message": "\\u001b[31mred\\u001b]0;title\\u0007"}',
    "right to left": '{"passed": false, "gate": "ruff", "message": "\u202egnp.exe\u2066"}',
    "half a surrogate": '{"passed": false, "gate": "ruff", "message": "\\ud800"}',
    "alias bomb": "a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nd: [*c,*c,*c,*c]\n" * 100,
    "ten megabytes": '{"passed": false, "message": "' + "x" * 10_000_000 + '"}',
    "a million lines": "\n" * 1_000_000,
    "keys without end": "{" + ",".join(f'"{n}": 0' for n in range(30_000)) + "}",
    "wrong types": '{"report": {"passed": []}, "mac": 7}',
    "mypy.ini": "```mypy.ini\n[mypy]\nplugins = evil.py\n```\n```conftest.py\nimport os; os.abort()\n```\n",
    "sitecustomize": "```python\n# sitecustomize.py\nimport os; os.abort()\n```\n```evil.pth\nimport os; os.abort()\n```\n",
}


def last_words(text: str) -> list[str]:
    """What becomes of a container's termination message, in conditions. The kubelet cuts it."""
    text = text[:4096]
    end = {"exitCode": 1, "message": text, "finishedAt": "2030-01-01T11:59:59Z", "reason": text[:100]}
    job = {"metadata": {"name": "j", "annotations": {}}, "status": {}}
    seen = observed(builds={}, jobs={})
    found = build(seen, Progress(source="x"), stage_context())
    name = found.create[0]["metadata"]["name"]
    failed = observed(builds={name: job | {"metadata": {"name": name}}}, build_pods=(pod(name, end),))
    told = [f.message for f in build(failed, Progress(source="x"), stage_context()).conditions]
    told.append(pod_status.explain_termination(end).message)
    warning = {"reason": "FailedMount", "message": text}
    creating = {"metadata": {"name": "p"}, "spec": {"nodeName": "n"}, "status": {"phase": "Pending"}}
    stuck = pod_status.pod_problem(creating, [warning])
    assert stuck is not None
    return [*told, stuck.message, pod_status.explain_refusal(text).message]


def ledger(text: str) -> list[str]:
    try:
        Ledger.model_validate_json(text)
    except (ValidationError, ValueError) as error:
        return [str(error)[:1000]]
    return []


def worker(text: str) -> list[str]:
    reply = replies.parse_reply(b"e" + text.encode("utf-8", "surrogatepass"))
    return [reply.exception] if isinstance(reply, replies.WorkerFailure) else []


READERS: dict[str, Callable[[str], list[str]]] = {
    "reply of a model": lambda text: [extract_source(text, "stop").message],
    "report of a check": lambda text: [str(check_report.read_signed(text, "00"))],
    "stored report": lambda text: [str(check_report.parse(text))],
    "stored ledger": ledger,
    "last words": last_words,
    "worker of a skill": worker,
}


def printed(text: str) -> bool:
    return all(c == "\n" or unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for c in text)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("what", BYTES)
def test_it_is_read_or_refused_in_no_time_and_told_in_print(what: str, reader: str) -> None:
    began = time.process_time()
    told = READERS[reader](BYTES[what])
    assert time.process_time() - began < 3
    for message in told:
        (condition,) = conditions.set_condition([], "Verified", "False", "Refused", message, 1, NOW)
        assert printed(condition.message)
        assert len(condition.message) <= conditions.LIMIT


class _Nowhere:
    async def apply(self, obj: Any) -> Any:
        return obj


@pytest.mark.parametrize("what", BYTES)
def test_events_and_log_lines_are_printable(what: str) -> None:
    text = BYTES[what]
    recorder = EventRecorder(_Nowhere(), "test")  # type: ignore[arg-type]
    recorder.record({"metadata": {"name": "n", "uid": "u", "namespace": "s"}}, "Warning", "Refused", text)
    (event,) = recorder._waiting.values()
    assert printed(event["message"])
    assert len(event["message"]) <= 1024
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_JsonFormatter())
    record = logging.makeLogRecord({"name": "n", "msg": "read: %s", "args": (text[:100_000],), "gate": text[:100]})
    handler.emit(record)
    (line,) = stream.getvalue().splitlines()
    assert line.isascii()
    assert line.isprintable()
    json.loads(line)


def test_reading_all_of_it_takes_a_bounded_amount_of_memory() -> None:
    """In a process of its own, whose peak is its own; half of the controller's default limit."""
    code = "from tests.unit.untrusted import test_foreign_bytes as t; t.read_everything()"
    root = Path(__file__).parents[3]
    paths = f"{root}:{root}/operator/src:{root}/base-image/src"
    ended = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": paths}, cwd=root, capture_output=True, text=True, check=True
    )
    assert int(ended.stdout) < 384 * 1024, f"{ended.stdout} KiB"


def read_everything() -> None:
    for text in BYTES.values():
        for reader in READERS.values():
            reader(text)
    # Not ru_maxrss: that begins with the peak of whoever started this process.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    sys.stdout.write(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))
