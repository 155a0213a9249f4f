"""The ConfigMaps of what models wrote: the books and the day's account, which only the operator may write, and what
the people of the Skill's namespace may read: candidates, and the source that was accepted."""

from __future__ import annotations

import difflib
import json

from skill_operator import naming
from skill_operator.api.v1alpha1 import Skill
from skill_operator.generation import ledger_history as shelf
from skill_operator.generation.daily_quota import DailyUsage
from skill_operator.generation.ledger import Attempt, Ledger
from skill_operator.generation.ledger_history import LedgerHistory
from skill_operator.generation.request import task_hash
from skill_operator.k8s.interface import Object
from skill_operator.resources.common import metadata
from skill_operator.settings import Settings

KEY = "ledger.json"
ACCOUNT_KEY = "account.json"
LARGEST_DIFF = 32 * 1024  # characters; whoever needs more has both files


def history_map(skill: Skill, settings: Settings, books: LedgerHistory, seen: Object | None) -> Object:
    """Not owned by the Skill, which lives elsewhere; the sweeper removes it."""
    meta = skill.metadata
    labels = naming.labels(meta.name, meta.uid, naming.LEDGER) | {naming.NAMESPACE_LABEL: meta.namespace}
    return _own(settings, naming.ledger(meta.uid), labels, {KEY: books.model_dump_json()}, seen)


def daily_usage_map(settings: Settings, account: DailyUsage, seen: Object | None) -> Object:
    labels = naming.MANAGED | {naming.COMPONENT: "account"}
    return _own(settings, naming.ACCOUNT, labels, {ACCOUNT_KEY: account.model_dump_json()}, seen)


def _own(settings: Settings, name: str, labels: dict[str, str], data: dict[str, str], seen: Object | None) -> Object:
    """In the operator's namespace. With the version that was seen, it can only replace that."""
    meta: Object = {"name": name, "namespace": settings.namespace, "labels": labels}
    if seen is not None:
        meta["resourceVersion"] = seen["metadata"]["resourceVersion"]
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def read_history(seen: Object | None) -> LedgerHistory:
    """Empty ones where there are none that can be read."""
    return (shelf.read(seen.get("data", {}).get(KEY, "")) if seen is not None else None) or LedgerHistory()


def read_daily_usage(seen: Object | None) -> str:
    return str(seen.get("data", {}).get(ACCOUNT_KEY, "")) if seen is not None else ""


def candidates_map(skill: Skill, ledger: Ledger) -> Object:
    """A file for each candidate, one for the verdict on it and one for what changed: never read back by the operator,
    so whoever edits it fools only themselves."""
    shown = [attempt for attempt in ledger.attempts if attempt.state != "reserved"]
    plain = [a.model_dump(mode="json", exclude={"source"}) for a in shown]
    stop = {"reason": ledger.stop, "message": ledger.stop_message}
    summary = {"tokens": ledger.tokens, "stop": stop if ledger.stop else None, "attempts": plain}
    data = {KEY: json.dumps(summary, indent=1, ensure_ascii=False)}
    before: Attempt | None = None
    for attempt in shown:
        if not attempt.source:
            continue
        name = f"attempt-{attempt.number}"
        data[f"{name}.py"] = attempt.source
        data[f"{name}.txt"] = _verdict(attempt)
        if before is not None and (changes := _diff(before, attempt)):
            data[f"{name}.diff"] = changes
        before = attempt
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(skill, naming.candidates(skill.metadata.name), "generation"),
        "data": data,
    }


def _verdict(attempt: Attempt) -> str:
    price = f"{attempt.tokens} tokens{', estimated' if attempt.estimated else ''}"
    by = f"written by {attempt.endpoint}, {price}" if attempt.number else "accepted before for the same task"
    where = f", line {attempt.line}" if attempt.line else ""
    said = {
        "candidate": "is being checked",
        "passed": "passed every check",
        "repeat": f"was not checked: {attempt.message}",
        "failed": f"was refused by {attempt.gate}{where}:\n{attempt.message}",
    }
    return f"{by}\n{said.get(attempt.state, attempt.state)}\n"


def _diff(before: Attempt, after: Attempt) -> str:
    names = (f"attempt-{before.number}.py", f"attempt-{after.number}.py")
    lines = difflib.unified_diff(before.source.splitlines(), after.source.splitlines(), *names, lineterm="")
    return "\n".join(lines)[:LARGEST_DIFF]


def source_map(skill: Skill, source: str) -> Object:
    """The code that was accepted. Generated code says what it was written for, so that it is tried before a model is
    asked again, should the rest of the world change."""
    meta = metadata(skill, naming.source(skill.metadata.name), "skill")
    if skill.spec.source is None:
        meta["annotations"] = {naming.TASK_HASH: task_hash(skill.spec)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"skill.py": source}}


def accepted(skill: Skill, config_maps: dict[str, Object]) -> str:
    """Code that was accepted for this very task. It comes from the Skill's namespace: a candidate, no more."""
    seen = config_maps.get(naming.source(skill.metadata.name))
    if seen is None or seen["metadata"].get("annotations", {}).get(naming.TASK_HASH) != task_hash(skill.spec):
        return ""
    return str(seen.get("data", {}).get("skill.py", ""))
