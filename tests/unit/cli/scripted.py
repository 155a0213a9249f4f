"""A kubectl of the tests: it keeps objects in a folder, and notes what it was asked."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from kubectl_skill.app import app, run

PROGRAM = """#!{python}
import json, pathlib, sys
folder = pathlib.Path({folder!r})
words, options, it = [], {{}}, iter(sys.argv[1:])
for word in it:
    if word in ("-o", "-p", "--type", "-f", "-l"):
        options[word] = next(it)
    elif word.startswith("--"):
        key, _, value = word.partition("=")
        options[key] = value
    else:
        words.append(word)
stdin = "" if sys.stdin is None or "-f" not in options else sys.stdin.read()
with (folder / "asked.jsonl").open("a") as file:
    file.write(json.dumps({{"words": words, "options": options, "stdin": stdin}}) + "\\n")
def end(value):
    print(json.dumps(value)); sys.exit(0)
def fail(text):
    sys.stderr.write(text + "\\n"); sys.exit(1)
def path(kind, name):
    return folder / f"{{kind.split('.')[0].rstrip('s')}}-{{name}}.json"
def merge(into, patch):
    for key, value in patch.items():
        if value is None: into.pop(key, None)
        elif isinstance(value, dict): merge(into.setdefault(key, {{}}), value)
        else: into[key] = value
if (folder / "fail").exists():
    fail((folder / "fail").read_text())
match words:
    case ["auth", "whoami"]:
        end({{"status": {{"userInfo": {{"username": "jane"}}}}}})
    case ["config", "view"]:
        print("team"); sys.exit(0)
    case ["get", "configmaps"]:
        wanted = dict(part.split("=", 1) for part in options["-l"].split(","))
        found = [json.loads(p.read_text()) for p in sorted(folder.glob("configmap-*.json"))]
        end({{"items": [o for o in found if wanted.items() <= o["metadata"].get("labels", {{}}).items()]}})
    case ["get", kind, name]:
        away = folder / "away"
        if away.exists() and int(away.read_text()):
            away.write_text(str(int(away.read_text()) - 1))
            fail("The connection to the server 127.0.0.1:1 was refused - did you specify the right host or port?")
        queued = sorted(folder.glob(f"next-{{name}}-*.json"))
        if queued: queued[0].rename(path(kind, name))
        if not path(kind, name).exists():
            fail(f'Error from server (NotFound): {{kind}} "{{name}}" not found')
        end(json.loads(path(kind, name).read_text()))
    case ["patch", kind, name]:
        file = path(kind, name)
        if not file.exists(): fail(f'Error from server (NotFound): {{kind}} "{{name}}" not found')
        found, patch = json.loads(file.read_text()), json.loads(options["-p"])
        if options["--type"] == "merge":
            merge(found, patch)
        else:
            for step in patch:
                if step["op"] == "add" and step["path"].endswith("/-"):
                    found["spec"]["examples"].append(step["value"])
                elif step["op"] == "add":
                    found["spec"]["examples"] = step["value"]
        if (folder / "prunes").exists(): found["spec"].pop("revision", None)
        file.write_text(json.dumps(found)); end(found)
    case ["apply"]:
        items = json.loads(stdin)["items"]
        for item in items:
            item["metadata"] |= {{"namespace": "team", "generation": 2}}
            file = path(item["kind"].lower(), item["metadata"]["name"])
            if not file.exists(): file.write_text(json.dumps(item))
        end(items[0] if len(items) == 1 else {{"kind": "List", "items": items}})
    case _:
        fail(f"the double knows no {{words}}")
"""


@dataclass
class ScriptedKubectl:
    """ScriptedKubectl is the folder of the double: what it knows, and what it was asked."""

    folder: Path

    def put(self, kind: str, value: dict[str, Any]) -> None:
        """Keep an object."""
        (self.folder / f"{kind}-{value['metadata']['name']}.json").write_text(json.dumps(value))

    def then(self, *states: dict[str, Any]) -> None:
        """Have each `get` of a Skill find the next of these."""
        for number, state in enumerate(states):
            (self.folder / f"next-{state['metadata']['name']}-{number:03}.json").write_text(json.dumps(state))

    def skill(self, name: str = "echo") -> dict[str, Any]:
        """Return a Skill as it is now."""
        found: dict[str, Any] = json.loads((self.folder / f"skill-{name}.json").read_text())
        return found

    def asked(self, verb: str) -> list[dict[str, Any]]:
        """Return the requests of a verb."""
        file = self.folder / "asked.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [asked for line in lines if (asked := json.loads(line))["words"][:1] == [verb]]

    def fails(self, text: str) -> None:
        """Have it refuse everything."""
        (self.folder / "fail").write_text(text)


def install(monkeypatch: pytest.MonkeyPatch, folder: Path) -> ScriptedKubectl:
    """Put the double into PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "state"
    state.mkdir()
    program = folder / "kubectl"
    program.write_text(PROGRAM.format(python=sys.executable, folder=str(state)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "xdg"))
    return ScriptedKubectl(state)


@dataclass(frozen=True)
class Ended:
    """Ended is how a command line ended, and what it wrote."""

    code: int
    out: str
    err: str


def skill_command(capsys: pytest.CaptureFixture[str], *arguments: str) -> Ended:
    """Run a command line as the program does, errors and all."""
    capsys.readouterr()
    code = run(list(arguments))
    written = capsys.readouterr()
    return Ended(code, written.out, written.err)


def invoke(*arguments: str, stdin: str = "") -> Result:
    """Run a command line by typer's own runner, with answers on standard input."""
    return CliRunner().invoke(app, list(arguments), input=stdin)


SOURCE = 'def run(input: dict) -> dict:\n    return {"text": input["text"]}\n'
OLD_SOURCE = 'def run(input: dict) -> dict:\n    return {"text": ""}\n'
TOKEN = "ab" * 32
SPEC: dict[str, Any] = {
    "description": "Give the text back.",
    "input": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    "output": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    "examples": [{"name": "a", "input": {"text": "a"}, "output": {"text": "a"}}],
    "review": "Manual",
    "generation": {"maxAttempts": 3},
    "suspend": False,
}


def sha256(text: str) -> str:
    """Return the hex SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def condition(type_: str, status: str, reason: str, message: str = "", generation: int = 2) -> dict[str, Any]:
    """Return a condition."""
    return {
        "type": type_, "status": status, "reason": reason, "message": message, "observedGeneration": generation,
        "lastTransitionTime": "2026-11-29T12:00:00Z",
    }  # fmt: skip


def made_skill(*conditions: dict[str, Any], **status: Any) -> dict[str, Any]:
    """Return a Skill with a history of two revisions."""
    history = [
        {"revision": label, "image": "r/x@sha256:0", "time": "2026-11-29T12:00:00Z",
         "provenance": {"author": "model", "sourceDigest": sha256(source)}}
        for label, source in (("1111aaaa11", SOURCE), ("2222bbbb22", OLD_SOURCE))
    ]  # fmt: skip
    return {
        "apiVersion": "skill-operator.dev/v1alpha1",
        "kind": "Skill",
        "metadata": {
            "name": "echo", "namespace": "team", "uid": "u", "generation": 2, "resourceVersion": "7",
            "labels": {"team": "a", "app.kubernetes.io/managed-by": "Helm"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "skill-operator.dev/retry": "1"},
            "managedFields": [],
        },
        "spec": json.loads(json.dumps(SPEC)),
        "status": {
            "observedGeneration": 2, "conditions": list(conditions), "revision": "1111aaaa11", "history": history,
            "provenance": {"author": "model", "sourceDigest": sha256(SOURCE)}, **status,
        },
    }  # fmt: skip


def source_map(source: str = SOURCE) -> dict[str, Any]:
    """Return the ConfigMap of the accepted code."""
    return {"metadata": {"name": "echo-source"}, "data": {"skill.py": source}}


def kept_map(label: str, source: str, spec: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the ConfigMap that keeps a revision."""
    labels = {
        "app.kubernetes.io/managed-by": "skill-operator", "app.kubernetes.io/component": "revision",
        "skill-operator.dev/skill": "echo", "skill-operator.dev/revision": label,
    }  # fmt: skip
    data = {"skill.py": source, "spec.json": json.dumps(spec or SPEC)}
    return {"metadata": {"name": f"echo-revision-{label}", "labels": labels}, "data": data}
