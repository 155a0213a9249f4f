"""Put a Skill into words for the page: its state, its stages, the evidence for its code, and where that came from.

These are pure functions of what the watches told, and of the whole object where the caller may read that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from skill_operator.api.conditions import (
    ACTIVE,
    BUILT,
    DEPLOYED,
    GENERATED,
    READY,
    RECONCILING,
    STALLED,
    VERIFIED,
    get_condition,
    is_true,
)
from skill_operator.api.listed_tool import short_description
from skill_operator.api.reasons import CONDITIONS, REASONS
from skill_operator.api.v1alpha1 import Condition, Evidence, Provenance, Skill
from skill_operator.gateway.pods.directory import SkillEntry
from skill_operator.gateway.pods.usage_tracker import SkillActivity
from skill_operator.untrusted.text import printable, single_line

MAX_MESSAGE_CHARACTERS: Final = 4096
MAX_SUMMARY_CHARACTERS: Final = 280
AWAITING_APPROVAL: Final = "AwaitingApproval"
STAGES: Final = ((GENERATED, "Code"), (VERIFIED, "Check"), (BUILT, "Build"), (DEPLOYED, "Run"))
ARCHIVED: Final = "archived"  # a group that is shown where it is asked for, or searched
SUMMARIES: Final = frozenset({READY, RECONCILING, STALLED})
FILTERS: Final = (
    ("", "All"),
    ("ready", "Ready"),
    ("working", "In the making"),
    ("attention", "Needs a person"),
    (ARCHIVED, "Archived"),
)


class StateChip(NamedTuple):
    """StateChip is the state of a Skill in a word; `tone` is its colour, `group` what the list is filtered by."""

    label: str
    tone: str
    group: str


class SkillRow(NamedTuple):
    """SkillRow is one Skill in the list."""

    namespace: str
    name: str
    summary: str
    chip: StateChip
    last_call: str
    note: str


class StageStep(NamedTuple):
    """StageStep is one step on the way from words to a running skill; `state` is done, now, failed or next."""

    title: str
    state: str
    words: str


class TimelineEntry(NamedTuple):
    """TimelineEntry is one condition, with what its reason means and what to do."""

    type: str
    status: str
    tone: str
    about: str
    reason: str
    message: str
    action: str
    time: str
    ago: str


def state_chip(entry: SkillEntry, awake: bool) -> StateChip:
    """Return the state of a Skill in a word."""
    if entry.skill is None:
        return StateChip("Unreadable", "bad", "attention")
    conditions, ready = entry.skill.status.conditions, entry.ready
    active = get_condition(conditions, ACTIVE)
    if entry.meta.deletion_timestamp is not None:
        return StateChip("Being deleted", "quiet", "attention")
    if entry.archive or (active is not None and active.reason == "Archived"):
        return StateChip("Archived", "quiet", ARCHIVED)
    if ready is not None and ready.status == "True":
        return StateChip("Awake", "good", "ready") if awake else StateChip("Asleep", "rest", "ready")
    if entry.skill.spec.suspend or (ready is not None and ready.reason == "Suspended"):
        return StateChip("Suspended", "quiet", "attention")
    if is_awaiting_approval(entry.skill):
        return StateChip("Needs approval", "warn", "attention")
    if is_true(conditions, STALLED):
        return StateChip("Stopped", "bad", "attention")
    return StateChip("In the making", "busy", "working")


def is_awaiting_approval(skill: Skill) -> bool:
    """Return whether the Skill waits for a person who approves its code."""
    built = get_condition(skill.status.conditions, BUILT)
    return built is not None and built.status != "True" and built.reason == AWAITING_APPROVAL


def is_settled(entry: SkillEntry) -> bool:
    """Return whether nothing is expected to change by itself soon, so that the page need not look again."""
    if entry.skill is None or is_awaiting_approval(entry.skill):
        return True
    return state_chip(entry, awake=False).group != "working" and not is_true(entry.skill.status.conditions, RECONCILING)


def skill_row(entry: SkillEntry, awake: bool, activity: SkillActivity | None, now: datetime) -> SkillRow:
    """Return one Skill as the list shows it."""
    chip = state_chip(entry, awake)
    summary = (
        printable(" ".join(short_description(entry.skill.spec).split()), MAX_SUMMARY_CHARACTERS) if entry.skill else ""
    )
    ready = entry.ready
    note = ""
    if chip.group not in {"ready", ARCHIVED} and ready is not None:
        note = single_line(_ready_message(ready) or ready.reason, MAX_SUMMARY_CHARACTERS)
    return SkillRow(entry.meta.namespace, entry.meta.name, summary, chip, last_call(entry, activity, now), note)


def last_call(entry: SkillEntry, activity: SkillActivity | None, now: datetime) -> str:
    """Return in words when the Skill was last called, as far as this gateway and the status know."""
    if activity is not None and activity.open_calls:
        return "now"
    moments = []
    if activity is not None and activity.idle_seconds is not None:
        moments.append(activity.idle_seconds)
    if entry.skill is not None and entry.skill.status.last_active_time is not None:
        moments.append((now - entry.skill.status.last_active_time).total_seconds())
    return f"{duration(min(moments))} ago" if moments else ""


def stage_steps(entry: SkillEntry) -> list[StageStep]:
    """Return the way of a Skill from words to running software; its first step, the words, is always done."""
    steps = [StageStep("Words", "done", "")]
    if entry.skill is None:
        return steps
    conditions, generation = entry.skill.status.conditions, entry.skill.metadata.generation
    stalled, open_before = is_true(conditions, STALLED), False
    for type_, title in STAGES:
        found = get_condition(conditions, type_)
        if found is not None and found.status == "True" and found.observed_generation >= generation and not open_before:
            steps.append(StageStep(title, "done", ""))
            continue
        state = "next" if open_before else "failed" if stalled else "now"
        words = "" if open_before or found is None else spaced(found.reason)
        steps.append(StageStep(title, state, words))
        open_before = True
    return steps


def timeline(conditions: Iterable[Condition], now: datetime) -> list[TimelineEntry]:
    """Return the conditions, the latest change first; those of one moment in the order of the stages."""
    order = {type_: place for place, type_ in enumerate(CONDITIONS)}
    ranked = sorted(conditions, key=lambda one: (-one.last_transition_time.timestamp(), -order.get(one.type, 0)))
    stage_messages = {condition.message for condition in ranked if condition.type not in SUMMARIES}
    return [_timeline_entry(condition, now, repeats=condition.message in stage_messages) for condition in ranked]


def _timeline_entry(condition: Condition, now: datetime, *, repeats: bool) -> TimelineEntry:
    """Return one condition; a summary that `repeats` the message of a stage goes without."""
    known = REASONS.get(condition.reason)
    if repeats and condition.type in SUMMARIES:
        known, condition = None, condition.model_copy(update={"message": ""})
    bad_when_true = condition.type == STALLED
    tone = "good" if condition.status == "True" else "bad" if condition.status == "False" else "busy"
    if bad_when_true and condition.status == "True":
        tone = "bad"
    elif condition.type == RECONCILING:
        tone = "busy"
    elif condition.type == ACTIVE and condition.status == "False":
        tone = "rest"
    return TimelineEntry(
        condition.type,
        condition.status,
        tone,
        CONDITIONS.get(condition.type, ""),
        condition.reason,
        printable(condition.message, MAX_MESSAGE_CHARACTERS),
        "" if known is None or condition.status == "True" else known.action,
        condition.last_transition_time.strftime("%Y-%m-%d %H:%M:%S UTC"),
        f"{duration((now - condition.last_transition_time).total_seconds())} ago",
    )


def evidence_words(evidence: Evidence | None, deterministic: bool = True) -> list[str]:
    """Return in sentences what was tried on the code, and so how much its examples are worth."""
    if evidence is None:
        return ["Nothing was tried on its code yet."]
    total = evidence.visible + evidence.held_out
    if not total:
        words = ["It has no examples: nobody has said what it must answer."]
    elif evidence.author == "pinned":
        words = [f"It passes {_counted(total, 'example')}."]
    elif evidence.author == "same":
        words = [f"It passes {_counted(total, 'example')}, which the author of the code wrote too."]
    else:
        held_out = evidence.held_out
        known = f"{held_out} of which the model was never shown" if held_out else "all of which the model was shown"
        words = [f"It passes {_counted(total, 'example')}, {known}."]
    if evidence.promises:
        words.append(f"It kept the promises of its schemas on {_counted(evidence.promises, 'made input')}.")
    mutants = evidence.mutants
    if mutants.skipped:
        words.append(f"No variants with small mistakes were tried: {_SKIPPED.get(mutants.skipped, mutants.skipped)}.")
    elif mutants.of:
        missed = mutants.of - mutants.killed
        found = "the check finds each of them" if not missed else f"the check would miss {missed} of them"
        words.append(f"Of {_counted(mutants.of, 'variant')} with a small mistake, {found}.")
    words.append(_OPINIONS[evidence.second_opinion])
    return words


_SKIPPED: Final = {
    "Granted": "egress or secrets are granted",
    "NotDeterministic": "its answers may differ from call to call",
    "Slow": "the code is too slow",
    "Memory": "they took too much memory",
}
_OPINIONS: Final = {
    "NotAsked": "No second program was written to compare it with.",
    "Agrees": "A second program, written without sight of it, answers alike.",
    "Differs": "A second program, written without sight of it, answers otherwise somewhere. See the question.",
    "NoOpinion": "A second program was tried, and cannot be compared.",
}


def provenance_words(provenance: Provenance | None) -> list[tuple[str, str]]:
    """Return who wrote the code, and what that took, as names and values."""
    if provenance is None:
        return []
    facts = [("Author", "pinned in the spec" if provenance.author == "pinned" else provenance.model or "a model")]
    if provenance.author == "model":
        facts += [("Attempts", str(provenance.attempts)), ("Tokens", f"{provenance.tokens:,}")]
        facts += [("Prompt", provenance.prompt_version)] if provenance.prompt_version else []
    if provenance.time is not None:
        facts.append(("Written", provenance.time.strftime("%Y-%m-%d %H:%M UTC")))
    return [*facts, ("SHA-256 of skill.py", provenance.source_digest)]


def grants(skill: Skill) -> list[str]:
    """Return in words what the Skill's code may reach, read and use: a person approves it together with the code."""
    spec = skill.spec
    words = [
        f"connects to {way.host or way.cidr}, {'port' if len(way.ports) == 1 else 'ports'} "
        f"{', '.join(map(str, way.ports)) or 'any'}"
        for way in spec.egress
    ] or ["connects to nothing"]
    words += [f"reads Secret {one.secret_key_ref.name}, key {one.secret_key_ref.key}" for one in spec.secrets]
    limits = spec.resources.limits
    words.append(
        f"uses {limits.cpu} CPU and {limits.memory} of memory at most, and {spec.call_timeout_seconds} s for a call"
    )
    return words


def call_figures(outcomes: Mapping[str, int], seconds: float) -> list[tuple[str, str]]:
    """Return how this gateway's calls of a Skill ended, as names and values."""
    total = sum(outcomes.values())
    if not total:
        return []
    good = outcomes.get("2xx", 0)
    facts = [("Calls", f"{total:,}"), ("Answered", f"{good:,}"), ("Mean time", f"{seconds / total * 1000:,.0f} ms")]
    return facts + [(name, f"{count:,}") for name, count in sorted(outcomes.items()) if name != "2xx"][:8]


def duration(seconds: float) -> str:
    """Return a duration in its largest unit."""
    seconds = max(0.0, seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def now_utc() -> datetime:
    """Return the time of now."""
    return datetime.now(UTC)


def describe_ready(entry: SkillEntry) -> dict[str, Any]:
    """Return reason, message and next step of the condition Ready."""
    ready = entry.ready
    if ready is None:
        return {"reason": "pending", "message": "The operator has not looked at it yet.", "action": ""}
    known = REASONS.get(ready.reason)
    action = "" if known is None or ready.status == "True" or ready.reason == AWAITING_APPROVAL else known.action
    return {
        "reason": spaced(ready.reason),
        "message": printable(_ready_message(ready), MAX_MESSAGE_CHARACTERS),
        "action": action,
    }


def _ready_message(ready: Condition) -> str:
    """Return the message of the condition Ready; the one about an approval is for the command line."""
    return "A person must approve its code before it runs." if ready.reason == AWAITING_APPROVAL else ready.message


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def spaced(reason: str) -> str:
    """Return a reason as words: `AwaitingApproval` as `awaiting approval`."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in reason).strip()
