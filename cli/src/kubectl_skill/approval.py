"""Find what waits for a person, and what changed in it: grants first, then the code against what runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from kubectl_skill.errors import CliError
from kubectl_skill.kept_code import KeptRevision, read_accepted, read_kept
from kubectl_skill.kubectl import Kubectl
from kubectl_skill.skills import SkillView
from skill_operator import naming
from skill_operator.api.conditions import BUILT
from skill_operator.api.v1alpha1 import ApprovalRequest
from skill_operator.untrusted.line_diff import unified_diff

REJECTED: Final = "Rejected"
GRANTS: Final = ("egress", "secrets", "resources", "runtimeClassName", "callTimeoutSeconds", "input", "output")
"""Fields of the spec that an approval covers, in the order in which they are shown."""
MAX_DIFF_LINES: Final = 2000


def find_pending(skill: SkillView, *, or_rejected: bool = False) -> ApprovalRequest:
    """Return what waits for a person. Raises CliError where nothing does.

    With `or_rejected`, what a person rejected last can be approved after all, where nothing else waits.
    """
    if skill.status.approval_request is not None:
        return skill.status.approval_request
    built, rejection = skill.condition(BUILT), skill.status.rejection
    if or_rejected and built is not None and built.reason == REJECTED and rejection is not None:
        if not rejection.source_digest:  # other code may be there by now, and its sight must approve nothing
            raise CliError(f"the status of {skill.name} does not say which code was rejected")
        return ApprovalRequest(
            token=rejection.token, revision=rejection.revision, source_digest=rejection.source_digest
        )
    state = skill.holdup
    why = f" ({state.reason}: {state.message})" if state is not None else ""
    raise CliError(f"nothing of {skill.name} waits for approval{why}")


def answer_annotations(skill: SkillView, token: str, user: str, words: str | None = None) -> dict[str, str | None]:
    """Return the annotations of an approval, or of a rejection with its words.

    The other answer to the same revision goes away with it, since admission takes no two.
    """
    approve = {naming.APPROVE_ANNOTATION: token, naming.APPROVED_BY_ANNOTATION: user}
    reject = {
        naming.REJECT_ANNOTATION: token,
        naming.REJECTED_BY_ANNOTATION: user,
        naming.REJECT_MESSAGE_ANNOTATION: words,
    }
    mine, other = (approve, reject) if words is None else (reject, approve)
    known = skill.metadata.annotations
    is_contrary = known.get(next(iter(other))) == token
    return {**mine, **({name: None for name in other if name in known} if is_contrary else {})}


@dataclass(frozen=True)
class ReviewedChange:
    """ReviewedChange is what a person looks at before they answer."""

    grants: tuple[str, ...]
    """Lines of what it may do; a changed one begins with `-` or `+`."""
    code: tuple[str, ...]
    """Lines of a unified diff, or of the whole code where nothing runs."""
    against: str
    """Label of the revision that the code is compared with; empty: with none."""


def review(kubectl: Kubectl, skill: SkillView, pending: ApprovalRequest) -> ReviewedChange:
    """Return what an approval would cover. Raises CliError where the code cannot be had as the operator checked it."""
    source = read_accepted(kubectl, skill, pending.source_digest)
    running = read_kept(kubectl, skill, skill.status.revision) if skill.status.revision else None
    return ReviewedChange(
        tuple(compare_grants(skill.raw.get("spec") or {}, running.spec if running is not None else None)),
        tuple(_compare_code(source, running)),
        running.label if running is not None else "",
    )


def compare_grants(spec: dict[str, Any], former: dict[str, Any] | None) -> Iterator[str]:
    """Yield what a Skill may do and use: marked where that differs from the spec that runs, plain where it does not."""
    for name in GRANTS:
        now, before = spec.get(name), (former or {}).get(name)
        if former is None or now == before:
            if name in {"input", "output"} or not now:
                continue
            yield from (f"  {line}" for line in _lines(name, now))
        else:
            yield from (f"- {line}" for line in _lines(name, before))
            yield from (f"+ {line}" for line in _lines(name, now))


def _lines(name: str, value: Any) -> list[str]:
    if value in (None, "", [], {}):
        return [f"{name}: none"]
    if isinstance(value, list):
        return [f"{name}: {json.dumps(item, sort_keys=True, ensure_ascii=False)}" for item in value]
    return [f"{name}: {json.dumps(value, sort_keys=True, ensure_ascii=False)}"]


def _compare_code(source: str, running: KeptRevision | None) -> Iterator[str]:
    lines = source.splitlines()
    if running is None:
        yield from (f"{number:4}  {line}" for number, line in enumerate(lines[:MAX_DIFF_LINES], 1))
        return
    if len(lines) + len(running.source.splitlines()) > MAX_DIFF_LINES:
        yield f"(the code has {len(lines)} lines, too many for a diff: kubectl skill export)"
        return
    yield from unified_diff(running.source, source, f"{running.label}/skill.py", "skill.py")
