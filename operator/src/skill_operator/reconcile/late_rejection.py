"""A rejection that comes late: somebody edited the spec while a person read, so it names no longer what waits.

Its token is that of an earlier request. The status remembers the latest of them, and of which code they were: that code
is rejected, whatever waits by now.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from skill_operator import naming
from skill_operator.api.v1alpha1 import MAX_EARLIER_REQUESTS, ApprovalRequest, EarlierRequest, Rejection, Skill
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import StatusPatch
from skill_operator.reconcile.stages.review import NO_WORDS, reviewer_name, reviewer_words
from skill_operator.reconcile.stages.source import add_rejected


def find_answered(skill: Skill, now: datetime) -> Rejection | None:
    """Return the rejection of a request that a person was shown, be it answered in time or late."""
    token = skill.metadata.annotations.get(naming.REJECT_ANNOTATION)
    request = next((each for each in _requests(skill) if each.token == token), None)
    if request is None:
        return None
    return Rejection(
        by=reviewer_name(skill),
        at=now,
        message=reviewer_words(skill) or NO_WORDS,
        token=request.token,
        source_digest=request.source_digest,
        revision=request.revision,
        outdated_approval=skill.metadata.annotations.get(naming.APPROVE_ANNOTATION) == token,
    )


def with_rejection(observed: Observed, rejection: Rejection | None) -> tuple[Observed, StatusPatch]:
    """Return what the stages are to see, and what of it the status must keep even if none of them gets so far."""
    skill = observed.skill
    if rejection is None:
        return observed, {}
    rejected = add_rejected(skill, rejection.source_digest)
    status = skill.status.model_copy(update={"rejection": rejection, "rejected": rejected})
    updated = replace(observed, skill=skill.model_copy(update={"status": status}))
    return updated, {"rejection": rejection, "rejected": rejected}


def earlier_requests(
    skill: Skill, present: ApprovalRequest | None, answered: Rejection | None = None
) -> list[EarlierRequest]:
    """Return the latest requests but the present one, newest first. One that was rejected is answered for good."""
    gone = {each.token for each in (present, answered) if each is not None}
    found = {each.token: each for each in _requests(skill) if each.token not in gone}
    return [*found.values()][:MAX_EARLIER_REQUESTS]


def _requests(skill: Skill) -> Iterator[EarlierRequest]:
    if (last := skill.status.approval_request) is not None:
        yield EarlierRequest(token=last.token, revision=last.revision, source_digest=last.source_digest)
    yield from skill.status.earlier_requests
