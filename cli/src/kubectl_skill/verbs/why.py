"""`kubectl skill why`: one paragraph that says the state of a Skill, its cause, and the next step."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import Any, NamedTuple

import typer

from kubectl_skill import output
from kubectl_skill.kubectl import SKILL_PREFIX
from kubectl_skill.options import ContextOption, KubeconfigOption, NamespaceOption, OutputOption, SkillName, connect
from kubectl_skill.skills import SkillView, age, read_skill
from skill_operator.api import conditions as types
from skill_operator.api.reasons import NOTHING, REASONS
from skill_operator.api.v1alpha1 import Condition

MAX_WIDTH = 100
STAGES = (types.GENERATED, types.VERIFIED, types.BUILT, types.DEPLOYED, types.ACTIVE, types.ISOLATED)
NO_STATUS = "The operator has not looked at it yet."
NO_STATUS_NEXT = "Wait a moment. If it lasts, look whether the operator runs: kubectl skill doctor."
SENTENCES = {
    "Ready": "can be called, and a pod of it runs",
    "Asleep": "can be called: it is asleep, and wakes on the next call",
    "Archived": "is in the archive: nothing of it runs until somebody calls or restores it",
    "Working": "cannot be called yet: the operator works or waits, and goes on by itself",
    "Stalled": "is stalled: a changed spec or a person must help",
    "Suspended": "is suspended: the operator only takes away what is no longer granted",
    "Deleting": "is being deleted: nothing of it runs any more",
    "New": "is new",
}


class Explanation(NamedTuple):
    """Explanation is what `why` says, in its parts."""

    state: str
    reason: str
    condition: str
    since: str
    cause: str
    next: str
    besides: list[str]


def command(
    ctx: typer.Context,
    name: SkillName,
    output_format: OutputOption = None,
    namespace: NamespaceOption = "",
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Say why a Skill is as it is, and what to do next.

    The words are those of its conditions and of the troubleshooting guide.
    """
    skill = read_skill(connect(ctx, namespace, context, kubeconfig).get_skill(name))
    explanation = explain(skill)
    if output_format is not None:
        fields: dict[str, Any] = {"namespace": skill.namespace, "name": skill.name, **explanation._asdict()}
        output.write_object(fields, output_format, f"{SKILL_PREFIX}{skill.name}")
        return
    text = paragraph(skill, explanation)
    if sys.stdout.isatty():
        width = min(MAX_WIDTH, shutil.get_terminal_size().columns)
        text = textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
    output.write(text)


def explain(skill: SkillView) -> Explanation:
    """Return the state of a Skill with its cause and the next step."""
    holdup = skill.holdup
    if holdup is None:
        return Explanation(skill.state, "", "", "", NO_STATUS, NO_STATUS_NEXT, [])
    stage = _stage_of(skill, holdup)
    known = REASONS.get(holdup.reason)
    message = (stage.message or holdup.message).strip()
    parts = [known.meaning if known is not None and not _is_well(skill, holdup) else "", _sentence(message)]
    parts.append(_last_failure(skill))
    action = known.action if known is not None else "See the operator's log: kubectl skill doctor."
    return Explanation(
        skill.state,
        holdup.reason,
        stage.type,
        age(stage.last_transition_time),
        " ".join(part for part in parts if part),
        action,
        _besides(skill, stage),
    )


def paragraph(skill: SkillView, explanation: Explanation) -> str:
    """Return the explanation as one paragraph."""
    because = f" ({explanation.reason}, for {explanation.since})" if explanation.reason and explanation.since else ""
    parts = [f"{skill.namespace}/{skill.name} {SENTENCES[explanation.state]}{because}.", explanation.cause]
    parts += explanation.besides
    if explanation.next != NOTHING:
        parts.append(f"Next: {explanation.next}")
    else:
        parts.append(NOTHING)
    return " ".join(" ".join(part.split()) for part in parts if part)


def _is_well(skill: SkillView, holdup: Condition) -> bool:
    return holdup.type == types.READY and holdup.status == "True" and skill.state in {"Ready", "Asleep", "Deleting"}


def _stage_of(skill: SkillView, holdup: Condition) -> Condition:
    """Return the condition of the stage that holds the Skill up: it has the same reason and the full message."""
    found = [skill.condition(type_) for type_ in STAGES]
    stages = [stage for stage in found if stage is not None and stage.reason == holdup.reason]
    return stages[0] if stages and holdup.reason != "Ready" else holdup


def _last_failure(skill: SkillView) -> str:
    """Return what was wrong with the last candidate, while there is no accepted code."""
    generation = skill.status.generation
    if generation is None or generation.last_failure is None or skill.holds(types.VERIFIED):
        return ""
    failure = generation.last_failure
    line = f", line {failure.line}" if failure.line else ""
    tried = f"Attempt {generation.attempts} of {skill.spec.generation.max_attempts}"
    return f"{tried} was refused by {failure.gate}{line}: {_sentence(failure.message)}"


def _besides(skill: SkillView, shown: Condition) -> list[str]:
    """Return what else is not well: a stage that is False or Unknown beside the one that was shown."""
    others = []
    if not (skill.holds(types.READY) or skill.holds(types.STALLED)):
        return []
    for type_ in STAGES:
        stage = skill.condition(type_)
        if stage is None or stage is shown or stage.status == "True" or stage.reason in {shown.reason, "Pending"}:
            continue
        if type_ == types.ACTIVE and skill.state in {"Asleep", "Archived"}:
            continue
        others.append(f"Besides, {type_} is {stage.status} ({stage.reason}): {_sentence(stage.message)}")
    return others


def _sentence(text: str) -> str:
    """Return a message as a sentence: messages of conditions begin in lower case and have no period."""
    line = " ".join(text.split())
    if not line:
        return ""
    first, _, _ = line.partition(" ")
    if first.isalpha() and first.islower():
        line = line[0].upper() + line[1:]
    return line if line.endswith((".", "!", "?", ":")) else f"{line}."
