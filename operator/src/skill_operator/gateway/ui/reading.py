"""Read what the API server shows a caller of a Skill, with the caller's own token and never with the gateway's rights.

The right to call a Skill is not the right to read its code. So the page has what /v1/skills says for everybody who may
call, and the rest for those whom the API server lets read it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final, NamedTuple, TypeVar

from pydantic import ValidationError

from skill_operator import naming
from skill_operator.api.v1alpha1 import Skill
from skill_operator.gateway.access.authorizer import Caller
from skill_operator.gateway.access.limits import FairShares
from skill_operator.gateway.pods.directory import SkillEntry
from skill_operator.gateway.problems import Problem
from skill_operator.k8s.caller_client import is_token_refused
from skill_operator.k8s.errors import ClusterError, Forbidden
from skill_operator.k8s.interface import CallerCluster, Object
from skill_operator.untrusted.text import printable

T = TypeVar("T")
MAX_CONCURRENT_READS: Final = 16
MAX_MESSAGE_CHARACTERS: Final = 400
APPROVAL: Final = {"group": naming.GROUP, "resource": "skills", "subresource": "approval", "verb": "update"}


class ReadableSkill(NamedTuple):
    """ReadableSkill is what a caller may read of a Skill; `missing` says in words what it may not, and why.

    `token_accepted` is whether the API server knows the caller's token, so that it can be used for decisions.
    """

    skill: Skill | None = None
    source_map: Object | None = None
    generation_map: Object | None = None
    may_approve: bool = False
    token_accepted: bool = False
    missing: tuple[str, ...] = ()


class CallerReader:
    """CallerReader reads and decides at the API server as a caller."""

    def __init__(self, cluster: CallerCluster | None) -> None:
        """`cluster` is None where the gateway has no API server for callers."""
        self._cluster = cluster
        self.audience = cluster.audience if cluster is not None else ""
        self._reads = FairShares(MAX_CONCURRENT_READS)

    async def read(self, caller: Caller, token: str, entry: SkillEntry, *, decide: bool) -> ReadableSkill:
        """Return what the caller may read. With `decide`, it says whether the caller may approve, too."""
        meta = entry.meta
        if self._cluster is None or not token:
            return ReadableSkill(missing=(_no_token(entry),))
        with self._reads.hold(caller.namespace, caller.name) as admitted:
            if not admitted:
                raise Problem("overloaded", "your pages hold their share of what is read at once; load it again", 1)
            cluster, namespace = self._cluster, meta.namespace
            review = {"resourceAttributes": APPROVAL | {"namespace": namespace, "name": meta.name}}
            skill, source, generation, right = await asyncio.gather(
                _tried(cluster.get(token, "Skill", namespace, meta.name)),
                _tried(cluster.get(token, "ConfigMap", namespace, naming.source(meta.name))),
                _tried(cluster.get(token, "ConfigMap", namespace, naming.candidates(meta.name))),
                _tried(cluster.review(token, "SelfSubjectAccessReview", review)) if decide else _nothing(),
            )
        errors = [one for one in (skill, source, generation) if isinstance(one, ClusterError)]
        if any(map(is_token_refused, errors)):
            return ReadableSkill(missing=(_other_audience(entry),))
        missing = []
        if isinstance(skill, ClusterError):
            missing.append(_may_not("get skills", namespace, "conditions, grants and origin", skill))
        if failed := next((one for one in (source, generation) if isinstance(one, ClusterError)), None):
            missing.append(_may_not("get configmaps", namespace, "code and attempts", failed))
        return ReadableSkill(
            _parsed(skill, entry),
            _owned(source, entry),
            _owned(generation, entry),
            isinstance(right, dict) and right.get("allowed") is True,
            token_accepted=True,
            missing=tuple(missing),
        )

    async def annotate(self, token: str, entry: SkillEntry, by: str, annotations: dict[str, str | None]) -> str:
        """Set these annotations of a Skill as the caller, and `by` to the caller's name, which is returned.

        The API server's admission judges it. Raises ClusterError.
        """
        if self._cluster is None or not token:
            raise Forbidden(_no_token(entry), 401)
        user = (await self._cluster.review(token, "SelfSubjectReview", {})).get("userInfo")
        name = user.get("username") if isinstance(user, dict) else None
        if not isinstance(name, str) or not name:
            raise Forbidden("the API server does not say who you are", 401)
        meta = entry.meta
        changes = {"metadata": {"uid": meta.uid, "annotations": annotations | {by: name}}}
        await self._cluster.patch(token, "Skill", meta.namespace, meta.name, changes)
        return name


async def _tried(request: Awaitable[T]) -> T | ClusterError:
    """Return what was requested, or why it cannot be had."""
    try:
        return await request
    except ClusterError as error:
        return error


async def _nothing() -> None:
    return None


def _parsed(found: Object | ClusterError | None, entry: SkillEntry) -> Skill | None:
    """Return the very Skill of the entry; one of another uid is another Skill."""
    if not isinstance(found, dict):
        return None
    try:
        skill = Skill.model_validate(found)
    except (ValidationError, RecursionError):
        return None
    return skill if skill.metadata.uid == entry.meta.uid else None


def _owned(found: Object | ClusterError | None, entry: SkillEntry) -> Object | None:
    """Return a ConfigMap that the operator made for this Skill, and no other of its name."""
    if not isinstance(found, dict):
        return None
    labels = found.get("metadata", {}).get("labels", {})
    own = labels.get(naming.UID_LABEL) == entry.meta.uid and labels.get(naming.MANAGED_BY) == naming.MANAGER
    return found if own else None


def _no_token(entry: SkillEntry) -> str:
    return (
        "Code, attempts and conditions are read with your own token, and you sent none: sign in to see what you may "
        f"read, or run kubectl describe skill -n {entry.meta.namespace} {entry.meta.name}."
    )


def _other_audience(entry: SkillEntry) -> str:
    return (
        "Code, attempts and conditions are read with your own token, and the API server does not take it: it is for "
        "the gateway alone. Sign in with one for both, or run kubectl describe skill "
        f"-n {entry.meta.namespace} {entry.meta.name}."
    )


def _may_not(right: str, namespace: str, what: str, error: ClusterError) -> str:
    if isinstance(error, Forbidden):
        return f"You may not {right} in namespace {namespace}, so {what} are not shown."
    return f"Not shown: {what}. {printable(error.message, MAX_MESSAGE_CHARACTERS)}"
