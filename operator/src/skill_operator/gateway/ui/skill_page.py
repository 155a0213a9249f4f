"""All that the page of one Skill shows, from what the watches told and from what its caller may read."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from skill_operator import naming
from skill_operator.api.listed_tool import short_description
from skill_operator.api.v1alpha1 import Example, Skill
from skill_operator.gateway.pods.directory import SkillEntry
from skill_operator.gateway.pods.usage_tracker import SkillActivity
from skill_operator.gateway.ui import code_view, skill_view
from skill_operator.gateway.ui.call_outcome import MAX_SHOWN_JSON_CHARACTERS, pretty
from skill_operator.gateway.ui.reading import ReadableSkill
from skill_operator.gateway.ui.session import PREFIX
from skill_operator.observability import metrics
from skill_operator.untrusted.text import printable

MAX_SHOWN_EXAMPLES: Final = 64


def make_view(
    entry: SkillEntry, readable: ReadableSkill, activity: SkillActivity | None, *, awake: bool
) -> dict[str, Any]:
    """Return all that the page of a Skill shows. It takes a while for a large one, so a thread calls it."""
    now, meta = skill_view.now_utc(), entry.meta
    view = progress_view(entry, awake=awake) | {
        "tool": naming.tool(meta.namespace, meta.name),
        "missing": readable.missing,
        "readable": readable,
        "last_call": skill_view.last_call(entry, activity, now),
        "figures": skill_view.call_figures(*metrics.skill_calls(meta.namespace, meta.name)),
        "approval": None,
        "timeline": [],
        "code": [],
        "generation": None,
        "awake": awake,
    }
    if entry.skill is not None:
        spec = entry.skill.spec
        view |= {
            "summary": printable(short_description(spec), 1024),
            "description": printable(spec.description, MAX_SHOWN_JSON_CHARACTERS, lines=True),
            "url": printable(entry.skill.status.url, 2048),
            "schemas": [("Input", pretty(spec.input)), ("Output", pretty(spec.output))],
            "examples": [_example(one) for one in spec.examples[:MAX_SHOWN_EXAMPLES]],
            "evidence": skill_view.evidence_words(entry.skill.status.evidence),
        }
    if readable.skill is not None:
        skill = readable.skill
        pinned = skill.spec.source.inline if skill.spec.source is not None else ""
        source = code_view.read_source(readable.source_map) or pinned
        generation = skill.status.generation
        view |= {
            "timeline": skill_view.timeline(skill.status.conditions, now),
            "grants": skill_view.grants(skill),
            "provenance": skill_view.provenance_words(skill.status.provenance),
            "tokens": generation.tokens if generation is not None else None,
            "people": _people(skill),
            "approval": _approval(skill, readable, source),
            "history": skill.status.history,
            "code": code_view.code_lines(source) if source and _may_read_code(readable, pinned) else [],
            "generation": code_view.read_generation(readable.generation_map),
        }
    return view


def progress_view(entry: SkillEntry, *, awake: bool) -> dict[str, Any]:
    """Return what the part of a page shows that changes while the Skill is made."""
    generation = entry.skill.status.generation if entry.skill is not None else None
    return {
        "entry": entry,
        "path": path_of(entry),
        "chip": skill_view.state_chip(entry, awake),
        "steps": skill_view.stage_steps(entry),
        "ready": skill_view.describe_ready(entry),
        "settled": skill_view.is_settled(entry),
        "attempts": generation.attempts if generation is not None else 0,
        "version": version_of(entry, awake=awake),
    }


def version_of(entry: SkillEntry, *, awake: bool) -> str:
    """Return what changes with all that the progress of a Skill shows."""
    version = entry.skill.metadata.resource_version if entry.skill is not None else ""
    return naming.shorten(naming.digest(entry.meta.uid, version, awake))


def path_of(entry: SkillEntry) -> str:
    """Return the path of a Skill's page."""
    return f"{PREFIX}/skills/{quote(entry.meta.namespace, safe='')}/{quote(entry.meta.name, safe='')}"


def _approval(skill: Skill, readable: ReadableSkill, source: str) -> dict[str, Any] | None:
    """Return what is asked of a person who approves, or None where nothing is."""
    if not skill_view.is_awaiting_approval(skill):
        return None
    request, meta = skill.status.approval_request, skill.metadata
    changed = ", ".join(request.changed) if request is not None else ""
    news = f"Changed since the last approval: {printable(changed, 1000)}." if changed else "Nothing was approved yet."
    if request is not None and request.doubt:
        news = f"A person is asked since {printable(request.doubt, 256)}. {news}"
    digest = naming.source_digest(source) if source else ""
    return {
        "token": request.token if request is not None else "",
        "news": news,
        "allowed": readable.may_approve,
        "digest": digest,
        "differs": bool(request is not None and digest and request.source_digest != digest),
        "commands": [
            f"kubectl skill approve {meta.name} -n {meta.namespace}",
            f"kubectl skill reject {meta.name} -n {meta.namespace} -m 'what to change'",
        ],
    }


def _may_read_code(readable: ReadableSkill, pinned: str) -> bool:
    """Return whether the caller has read the code: as a ConfigMap, or pinned in the Skill itself."""
    return readable.source_map is not None or bool(pinned)


def _people(skill: Skill) -> list[tuple[str, str]]:
    """Return who had a part in the Skill, as admission knew them."""
    review, rejection = skill.status.review, skill.status.rejection
    named = (("Asked for by", naming.CREATED_BY_ANNOTATION), ("Promoted by", naming.PROMOTED_BY_ANNOTATION))
    annotations = skill.metadata.annotations
    people = [(title, printable(annotations[key], 200)) for title, key in named if annotations.get(key)]
    if review is not None:
        people.append(("Approved by", f"{printable(review.by, 200) or 'not known'}, {review.at:%Y-%m-%d %H:%M}"))
    if rejection is not None:
        who = f"{printable(rejection.by, 200) or 'not known'}, {rejection.at:%Y-%m-%d %H:%M}"
        people.append(("Rejected by", f"{who}: {printable(rejection.message, 1024)}"))
    return people


def _example(example: Example) -> dict[str, str]:
    answer = f"raises {example.error}" if example.error else pretty(example.output)
    return {"name": example.name, "input": pretty(example.input), "output": answer}
