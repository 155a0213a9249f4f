"""The ConfigMaps of generation.

The ledger history and the daily usage lie in the operator's namespace, which only the operator may write. The
candidates and the accepted source lie in the Skill's namespace, for its people to read.
"""

from __future__ import annotations

import json

from skill_operator import naming, runtime_contract
from skill_operator.api.v1alpha1 import Skill
from skill_operator.generation import ledger_history
from skill_operator.generation.daily_quota import DailyUsage
from skill_operator.generation.ledger import REVIEW_GATE, Attempt, Ledger, SecondOpinion
from skill_operator.generation.ledger_history import LedgerHistory
from skill_operator.generation.request import task_hash
from skill_operator.k8s.interface import Object
from skill_operator.naming import source_digest
from skill_operator.resources.common import metadata
from skill_operator.settings import Settings
from skill_operator.untrusted.line_diff import unified_diff

HISTORY_KEY = "ledger.json"
DAILY_USAGE_KEY = "account.json"
CANDIDATES_KEY = "ledger.json"
SOURCE_KEY = "skill.py"
OPINION = "second-opinion"
MAX_DIFF_LINES = 4000
MAX_DIFF_CHARACTERS = 32 * 1024  # a longer one is cut: both files are there


def history_map(skill: Skill, settings: Settings, history: LedgerHistory, stored_map: Object | None) -> Object:
    """Return the ConfigMap of a Skill's ledger history, which replaces only that version of `stored_map`.

    No Skill can own it across namespaces; the sweeper removes it.
    """
    meta = skill.metadata
    labels = naming.labels(meta.name, meta.uid, naming.LEDGER) | {naming.NAMESPACE_LABEL: meta.namespace}
    return _operator_map(
        settings, naming.ledger(meta.uid), labels, {HISTORY_KEY: history.model_dump_json()}, stored_map
    )


def daily_usage_map(settings: Settings, usage: DailyUsage, stored_map: Object | None) -> Object:
    """Return the ConfigMap of the daily usage, which replaces only that version of `stored_map`."""
    labels = naming.MANAGED | {naming.COMPONENT: "account"}
    return _operator_map(settings, naming.ACCOUNT, labels, {DAILY_USAGE_KEY: usage.model_dump_json()}, stored_map)


def _operator_map(
    settings: Settings, name: str, labels: dict[str, str], data: dict[str, str], stored_map: Object | None
) -> Object:
    """Return a ConfigMap in the operator's namespace. With the stored resourceVersion, a write over another fails."""
    meta: Object = {"name": name, "namespace": settings.namespace, "labels": labels}
    if stored_map is not None:
        meta["resourceVersion"] = stored_map["metadata"]["resourceVersion"]
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def read_history(stored_map: Object | None) -> LedgerHistory:
    """Return the stored ledger history, or an empty one where none can be read."""
    text = stored_map.get("data", {}).get(HISTORY_KEY, "") if stored_map is not None else ""
    return ledger_history.read(text) or LedgerHistory()


def read_daily_usage(stored_map: Object | None) -> str:
    """Return the text of the stored daily usage, or an empty string."""
    return str(stored_map.get("data", {}).get(DAILY_USAGE_KEY, "")) if stored_map is not None else ""


def candidates_map(skill: Skill, ledger: Ledger) -> Object:
    """Return the ConfigMap with the code, the verdict and the diff of each attempt.

    The operator never reads it back, so an edit of it misleads only people.
    """
    attempts = [attempt for attempt in ledger.attempts if attempt.state != "reserved"]
    figures = [attempt.model_dump(mode="json", exclude={"source"}) for attempt in attempts]
    stop = {"reason": ledger.stop, "message": ledger.stop_message}
    opinion = ledger.opinion.model_dump(mode="json", exclude={"source"}) if ledger.opinion is not None else None
    summary = {
        "tokens": ledger.tokens,
        "stop": stop if ledger.stop else None,
        "attempts": figures,
        "secondOpinion": opinion,
    }
    data = {CANDIDATES_KEY: json.dumps(summary, indent=1, ensure_ascii=False)}
    previous: Attempt | None = None
    for attempt in attempts:
        if not attempt.source:
            continue
        name = f"attempt-{attempt.number}"
        data[f"{name}.py"] = attempt.source
        data[f"{name}.txt"] = _describe_verdict(attempt)
        if previous is not None and (diff := _diff(previous, attempt)):
            data[f"{name}.diff"] = diff
        previous = attempt
    if ledger.opinion is not None and ledger.opinion.source:
        data |= {f"{OPINION}.py": ledger.opinion.source, f"{OPINION}.txt": _describe_opinion(ledger.opinion)}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(skill, naming.candidates(skill.metadata.name), "generation"),
        "data": data,
    }


def _describe_verdict(attempt: Attempt) -> str:
    price = f"{attempt.tokens} tokens{', estimated' if attempt.estimated else ''}"
    origin = f"written by {attempt.endpoint}, {price}" if attempt.number else "accepted before for the same task"
    line = f", line {attempt.line}" if attempt.line else ""
    held_out = f"\nWhat no model is shown:\n{attempt.private}" if attempt.private else ""
    verdicts = {
        "candidate": "is being checked",
        "passed": "passed every check",
        "repeat": f"was not checked: {attempt.message}",
        "failed": f"was refused by {attempt.gate}{line}:\n{attempt.message}{held_out}",
    }
    if attempt.gate == REVIEW_GATE:
        verdicts["failed"] = f"passed every check, and a reviewer rejected it:\n{attempt.message}"
    return f"{origin}\n{verdicts.get(attempt.state, attempt.state)}\n"


def _describe_opinion(opinion: SecondOpinion) -> str:
    states = {"candidate": "is being compared", "agrees": "agrees", "differs": "differs", "none": "has no opinion"}
    differences = (f"{one.input}: {one.accepted} or {one.other}?" for one in opinion.differences)
    verdict = f"{states.get(opinion.state, opinion.state)}{f': {opinion.message}' if opinion.message else ''}"
    price = f"{opinion.tokens} tokens{', estimated' if opinion.estimated else ''}"
    return "\n".join((f"written by {opinion.endpoint}, {price}", verdict, *differences, ""))


def _diff(previous: Attempt, attempt: Attempt) -> str:
    """Return the unified diff of two attempts, cut to MAX_DIFF_CHARACTERS, or nothing for too many lines."""
    names = (f"attempt-{previous.number}.py", f"attempt-{attempt.number}.py")
    if max(previous.source.count("\n"), attempt.source.count("\n")) > MAX_DIFF_LINES:
        return ""
    return "\n".join(unified_diff(previous.source, attempt.source, *names))[:MAX_DIFF_CHARACTERS]


def source_map(skill: Skill, source: str) -> Object:
    """Return the ConfigMap of the accepted code.

    Generated code carries the hash of its task, so that it is tried before a model is called again when anything but
    the task changes.
    """
    meta = metadata(skill, naming.source(skill.metadata.name), "skill")
    if skill.spec.source is None:
        meta["annotations"] = {naming.TASK_HASH: task_hash(skill.spec)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {SOURCE_KEY: source}}


def accepted_source(skill: Skill, config_maps: dict[str, Object], ledger_map: Object | None) -> str:
    """Return code of a model that was accepted for this very task, or an empty string.

    It comes from the Skill's namespace, where others may write. So it counts only if the status or the ledger knows it;
    else what somebody wrote by hand would pass as a model's. It is a candidate, and no more.
    """
    source = _stored_source(skill, config_maps)
    return source if source and _was_accepted(source, skill, ledger_map) else ""


def _was_accepted(source: str, skill: Skill, ledger_map: Object | None) -> bool:
    """Return whether a model wrote this code and it passed its check, as far as that is known.

    The status outlives a lost ledger, and the ledger is written before the status.
    """
    digest = source_digest(source)
    known = (skill.status.provenance, *(revision.provenance for revision in skill.status.history))
    if any(made is not None and made.author == "model" and made.source_digest == digest for made in known):
        return True
    history = read_history(ledger_map)
    ledgers = (history.present, *history.past)
    return any(a.state == "passed" and a.source == source for ledger in ledgers for a in ledger.attempts)


def _stored_source(skill: Skill, config_maps: dict[str, Object]) -> str:
    """Return what the ConfigMap of the accepted code holds, if it names this task, or an empty string."""
    stored_map = config_maps.get(naming.source(skill.metadata.name))
    if stored_map is None or stored_map["metadata"].get("annotations", {}).get(naming.TASK_HASH) != task_hash(
        skill.spec
    ):
        return ""
    source = str(stored_map.get("data", {}).get(SOURCE_KEY, ""))
    return source if len(source.encode("utf-8", "replace")) <= runtime_contract.MAX_SOURCE_BYTES else ""
