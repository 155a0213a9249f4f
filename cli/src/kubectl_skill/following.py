"""Follow Skills until each is Ready or Stalled, as kstatus means it, and say in words what changes meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from kubectl_skill import output
from kubectl_skill.errors import CliError, ExitCode
from kubectl_skill.gate_text import write_finding
from kubectl_skill.kubectl import SKILLS, Kubectl
from kubectl_skill.output import Color
from kubectl_skill.skills import SkillView, read_skill
from skill_operator.api.conditions import READY, RECONCILING, STALLED
from skill_operator.api.v1alpha1 import Condition
from skill_operator.untrusted.text import single_line

POLL_SECONDS: Final = 1.0
DEFAULT_TIMEOUT_SECONDS: Final = 300
MAX_MESSAGE_CHARACTERS: Final = 400
_COLORS: Final = {"True": Color.GREEN, "False": Color.RED, "Unknown": Color.YELLOW}


@dataclass
class FollowedSkill:
    """FollowedSkill is a Skill that was written, and what was said of it so far."""

    namespace: str
    name: str
    generation: int
    """The generation that was written: what is said of an earlier one does not count."""
    outcome: ExitCode | None = None
    printed: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    printed_failure: str = ""
    is_away: bool = False
    """The cluster did not respond when it was looked at last."""


def follow(kubectl: Kubectl, skills: Sequence[FollowedSkill], timeout_seconds: float) -> ExitCode:
    """Print each change of these Skills until all are Ready or Stalled, and return the worst outcome.

    DONE where all are Ready, UNWELL where one is Stalled, TIMEOUT where one is neither at the deadline.
    """
    start = time.monotonic()
    wide = max((len(skill.name) for skill in skills), default=0) if len(skills) > 1 else 0
    while True:
        elapsed = time.monotonic() - start
        for skill in skills:
            if skill.outcome is None:
                _look(kubectl, skill, lambda: _stamp(start), wide)
        waiting = [skill for skill in skills if skill.outcome is None]
        if not waiting:
            break
        if elapsed >= timeout_seconds:
            for skill in waiting:
                skill.outcome = ExitCode.TIMEOUT
                output.fail(
                    f"{skill.name} is neither Ready nor Stalled after {timeout_seconds:.0f} s: "
                    f"kubectl skill why {skill.name}"
                )
            break
        time.sleep(min(POLL_SECONDS, max(0.0, timeout_seconds - elapsed)))
    found = {skill.outcome for skill in skills}
    return next((code for code in (ExitCode.UNWELL, ExitCode.TIMEOUT) if code in found), ExitCode.DONE)


def judge(skill: SkillView, generation: int) -> ExitCode | None:
    """Return how a Skill ended as of this generation, or None while it is on its way."""
    if skill.status.observed_generation < generation:
        return None
    stalled, ready = skill.condition(STALLED), skill.condition(READY)
    if stalled is not None and stalled.status == "True" and stalled.observed_generation >= generation:
        return ExitCode.UNWELL
    if ready is not None and ready.status == "True" and ready.observed_generation >= generation:
        return ExitCode.DONE
    return None


def _look(kubectl: Kubectl, followed: FollowedSkill, stamp: Callable[[], str], wide: int) -> None:
    here = replace(kubectl, namespace_option=followed.namespace)
    try:
        raw: dict[str, Any] = here.json("get", SKILLS, followed.name)
    except CliError as error:
        if error.code is not ExitCode.NO_CLUSTER:
            raise
        if not followed.is_away:
            output.note(f"{error.message}; looking again until the deadline")
        followed.is_away = True
        return
    followed.is_away = False
    if raw.get("metadata", {}).get("deletionTimestamp"):
        raise CliError(f"somebody deleted the Skill {followed.name}", ExitCode.NOT_FOUND)
    skill = read_skill(raw)
    name = f"{followed.name:{wide}}  " if wide else ""
    _write_failure(skill, followed, stamp, name)
    for condition in skill.status.conditions:
        known = (condition.status, condition.reason, condition.message)
        is_new = condition.observed_generation >= followed.generation
        if (
            condition.type in {RECONCILING, READY, STALLED}
            or not is_new
            or followed.printed.get(condition.type) == known
        ):
            continue
        followed.printed[condition.type] = known
        _write_condition(condition, stamp(), name)
    followed.outcome = judge(skill, followed.generation)
    if followed.outcome is not None:
        ended = skill.condition(READY if followed.outcome is ExitCode.DONE else STALLED)
        if ended is not None:
            _write_condition(ended, stamp(), name, is_end=True)


def _write_condition(condition: Condition, stamp: str, name: str, *, is_end: bool = False) -> None:
    color = _COLORS[condition.status]
    if condition.type == STALLED:
        color = Color.RED
    mark = output.paint(f"{condition.type:9}", color)
    message = single_line(condition.message, MAX_MESSAGE_CHARACTERS if not is_end else 4 * MAX_MESSAGE_CHARACTERS)
    output.write_parts(output.clean(f"{stamp}  {name}"), mark, output.clean(f"  {condition.reason}: {message}"))


def _write_failure(skill: SkillView, followed: FollowedSkill, stamp: Callable[[], str], name: str) -> None:
    """Write why the last candidate was not accepted, once: the failing example, with its colours."""
    generation = skill.status.generation
    failure = generation.last_failure if generation is not None else None
    if generation is None or failure is None or skill.status.observed_generation < followed.generation:
        return
    known = f"{generation.attempts} {failure.gate} {failure.message}"
    if followed.printed_failure == known:
        return
    followed.printed_failure = known
    mark = output.paint("Refused  ", Color.RED)
    line = f" at line {failure.line}" if failure.line else ""
    text = f"  attempt {generation.attempts}: the gate {failure.gate} refused it{line}"
    output.write_parts(output.clean(f"{stamp()}  {name}"), mark, output.clean(text))
    write_finding(failure.message, "        ")


def _stamp(start: float) -> str:
    return f"{time.monotonic() - start:4.0f}s"
