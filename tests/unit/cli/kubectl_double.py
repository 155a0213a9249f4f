"""A kubectl that says what a test wrote down, and Skills as an API server has them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = f"""#!{sys.executable}
import json, os, sys
with open(os.environ["SCRIPTED_LOG"], "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
line = " ".join(a for a in sys.argv[1:] if not a.startswith(("--request-timeout", "--context", "--namespace", "--kubeconfig")))
for part, out, err, code in json.load(open(os.environ["SCRIPTED_ANSWERS"])):
    if part in line:
        sys.stdout.buffer.write(out.encode("utf-8", "surrogateescape")); sys.stderr.write(err); sys.exit(code)
sys.stderr.write("error: not scripted: " + line); sys.exit(99)
"""


class ScriptedKubectl:
    """The kubectl of PATH; the first answer whose words are part of the command line is given."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._answers: list[tuple[str, str, str, int]] = []
        self._file, self._log = folder / "answers.json", folder / "log"
        program = folder / "bin" / "kubectl"
        program.parent.mkdir()
        program.write_text(SCRIPT)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("SCRIPTED_ANSWERS", str(self._file))
        monkeypatch.setenv("SCRIPTED_LOG", str(self._log))
        monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
        for name in ("SKILL_TOKEN", "SKILL_GATEWAY_URL", "SKILL_OPERATOR_NAMESPACE", "NO_COLOR"):
            monkeypatch.delenv(name, raising=False)
        self._file.write_text("[]")

    def says(self, words: str, out: Any = "", err: str = "", code: int = 0) -> None:
        text = out if isinstance(out, str) else json.dumps(out)
        self._answers.append((words, text, err, code))
        self._file.write_text(json.dumps(self._answers))

    @property
    def commands(self) -> list[list[str]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()] if self._log.exists() else []


def condition(type_: str, status: str, reason: str, message: str = "") -> dict[str, Any]:
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }


def skill(name: str = "echo", status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    wanted = {
        "description": "Says it.",
        "input": {"type": "object"},
        "output": {"type": "object"},
        **spec,
    }
    meta = {
        "name": name,
        "namespace": "finance",
        "uid": "0b1c",
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    made: dict[str, Any] = {
        "apiVersion": "skill-operator.dev/v1alpha1",
        "kind": "Skill",
        "metadata": meta,
        "spec": wanted,
    }
    if status is not None:
        made["status"] = status
    return made


def ready(**more: Any) -> dict[str, Any]:
    stages = [
        condition(t, "True", "Ready") for t in ("Generated", "Verified", "Built", "Deployed", "Active", "Isolated")
    ]
    return {"observedGeneration": 1, "conditions": [*stages, condition("Ready", "True", "Ready")], **more}
