"""Authentication and authorization by the API server, which knows every identity of the cluster.

It reviews the bearer token (RFC 6750) with a TokenReview, and the right to `create` `skills/call` with a
SubjectAccessReview. Whatever the API server authenticates is thereby an identity here.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import math
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, Literal, NamedTuple

from skill_operator import naming
from skill_operator.gateway.access.authorizer import Caller
from skill_operator.gateway.access.decision_cache import DecisionCache
from skill_operator.gateway.access.limits import FairShares, RateLimiter
from skill_operator.gateway.problems import Problem
from skill_operator.k8s.errors import ClusterError, TooManyRequests, Unavailable
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.naming import SkillKey
from skill_operator.observability import metrics
from skill_operator.untrusted.text import printable

log = logging.getLogger(__name__)
AUDIENCE = "skill-gateway"
MAX_HEADER_CHARACTERS = 1 << 14
VALID_TOKEN_SECONDS = 60.0  # how long a TokenReview holds
INVALID_TOKEN_SECONDS = 10.0
ALLOWED_SECONDS = 10.0  # how long a SubjectAccessReview holds
DENIED_SECONDS = 5.0
STALE_SECONDS = 300.0  # while the API server is unavailable
REVIEW_TIMEOUT_SECONDS = 5.0
MAX_CONCURRENT_REVIEWS = 32
MAX_CONCURRENT_RENEWALS = 8  # besides, for what was allowed before
MAX_WAITING_REVIEWS = 512
MAX_CACHED_TOKENS = 10_000, 1_000  # accepted, refused
MAX_CACHED_RIGHTS = 100_000, 20_000
MAX_CACHED_NAMESPACE_RIGHTS = 10_000, 2_000
MAX_REFUSED_TOKENS_PER_MINUTE = 600  # from one address, a sixth of them at once
_Right = Literal["create", "approve"]
_RIGHTS: Final[dict[_Right, dict[str, str]]] = {
    "create": {"verb": "create"},
    "approve": {"verb": "update", "subresource": "approval"},
}
"""The rights on all Skills of a namespace, as a SubjectAccessReview has them."""
CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"  # another one in each token of the same caller
ALL_SKILLS = SkillKey("", "")
CLOCK_SKEW_SECONDS = 60.0  # that is allowed for, as the API server does
_BEARER = re.compile(r"(?i:bearer) +([A-Za-z0-9._~+/-]+=*)")


class _Identity(NamedTuple):
    """_Identity is what a token stands for: a caller, or the reason why none. `expires_at` is the token's own end."""

    caller: Caller | None
    expires_at: float  # Unix time
    reason: str = ""


class _ReviewQueue:
    """_ReviewQueue bounds the reviews that wait for the API server, in fair shares, and those that it makes at once."""

    def __init__(self, concurrency: int) -> None:
        self.waiting = FairShares(MAX_WAITING_REVIEWS)
        self._slots = asyncio.Semaphore(concurrency)

    @asynccontextmanager
    async def turn(self, namespace: str, name: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it while the context is open. Raises TooManyRequests."""
        with self.waiting.hold(namespace, name) as admitted:
            if not admitted:
                raise TooManyRequests("too many callers are being reviewed")
            async with self._slots:
                yield


class KubernetesAuthorizer:
    """KubernetesAuthorizer asks the API server who calls and what the caller may (`gateway.auth: kubernetes`)."""

    def __init__(
        self,
        cluster: Cluster,
        audiences: Iterable[str] = (AUDIENCE,),
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._cluster = cluster
        self._audiences = list(audiences)
        self._now = now
        self._salt = secrets.token_bytes(16)
        self._reviews = _ReviewQueue(MAX_CONCURRENT_REVIEWS)
        self._renewals = _ReviewQueue(MAX_CONCURRENT_RENEWALS)
        self._refused_tokens = RateLimiter(MAX_REFUSED_TOKENS_PER_MINUTE, clock)
        self._identities = DecisionCache[bytes, _Identity](
            self._ttl,
            self._stale_ttl,
            lambda _, identity: identity.caller.namespace if identity.caller else None,
            MAX_CACHED_TOKENS,
            clock,
        )
        self._rights = DecisionCache[tuple[Caller, SkillKey], bool](
            lambda allowed: ALLOWED_SECONDS if allowed else DENIED_SECONDS,
            lambda allowed: STALE_SECONDS if allowed else DENIED_SECONDS,
            lambda key, allowed: key[0].namespace if allowed else None,
            MAX_CACHED_RIGHTS,
            clock,
        )
        self._namespace_rights = DecisionCache[tuple[Caller, _Right, str], bool](
            lambda allowed: ALLOWED_SECONDS if allowed else DENIED_SECONDS,
            lambda _: DENIED_SECONDS,  # what is written is decided by an API server that answers
            lambda key, allowed: key[0].namespace if allowed else None,
            MAX_CACHED_NAMESPACE_RIGHTS,
            clock,
        )

    def cached_caller(self, authorization: str, key: SkillKey) -> Caller | None:
        """Return the caller from the caches alone. It is on the way of every call: the key is the header as it is."""
        identity = self._identities.peek(self._digest(authorization), lambda: self._review_token(authorization, ""))
        if identity is None or identity.caller is None or self._now() >= identity.expires_at:
            return None
        caller = identity.caller
        return caller if self._rights.peek((caller, key), lambda: self._review_access(caller, key)) else None

    async def authenticate(self, authorization: str, address: str = "") -> Caller:
        """Return the caller whose token it is. Raises Problem (401, 429, 503)."""
        token = _token(authorization)
        if not token:
            raise _unauthenticated("the header holds no bearer token" if authorization else "")
        if _token_expiry(token) <= self._now():
            raise _unauthenticated("the token has expired")
        try:
            identity = await self._identities.get(
                self._digest(authorization), lambda: self._review_token(authorization, address)
            )
        except ClusterError as error:
            raise _authorization_unavailable("who you are", error) from error
        if identity.caller is None:
            raise _unauthenticated(identity.reason)
        return identity.caller

    async def authorize(self, caller: Caller, key: SkillKey) -> None:
        """Raise Problem (403, 503) unless the caller may call this Skill, which may not exist."""
        if not await self._allowed(caller, key):
            namespace, name = (printable(part, 63) for part in key)
            detail = (
                f"{printable(caller.name, 200)} may not create skills/call of {name} in namespace {namespace}; whoever "
                f"may grant it can bind the ClusterRole skill-caller there"
            )
            raise Problem("forbidden", detail)

    async def filter_visible(self, caller: Caller, keys: Iterable[SkillKey]) -> set[SkillKey]:
        """Return those of the Skills that the caller may call. Raises Problem (503).

        Most callers may call all, or all of some namespaces: so that is asked first, and then only what is still open.
        """
        candidates = set(keys)
        if await self._allowed(caller, ALL_SKILLS):
            return candidates
        spaces = {namespace for namespace, _ in candidates}
        whole = {space for space, _ in await self._allowed_keys(caller, {SkillKey(space, "") for space in spaces})}
        single = {key for key in candidates if key[0] not in whole}
        return (candidates - single) | await self._allowed_keys(caller, single)

    async def authorize_creation(self, caller: Caller, namespace: str) -> None:
        """Raise Problem (403, 503) unless the caller may create Skills in this namespace, which may not exist."""
        if not await self._may(caller, "create", namespace, "whether you may create Skills"):
            where = f"in namespace {printable(namespace, 63)}" if namespace else "in all namespaces"
            detail = f"{printable(caller.name, 200)} may not create skills {where}; ask whoever may grant it"
            raise Problem("creation-forbidden", detail)

    async def may_approve(self, caller: Caller, namespace: str) -> bool:
        """Return whether the caller may approve and promote Skills in this namespace. Raises Problem (503)."""
        return await self._may(caller, "approve", namespace, "whether you may approve Skills")

    async def _may(self, caller: Caller, right: _Right, namespace: str, question: str) -> bool:
        """Return whether the caller has a right on all Skills of a namespace. Raises Problem (503)."""
        attributes = {"namespace": namespace, **_RIGHTS[right]}
        review = partial(self._review_right, caller, attributes, self._reviews)
        try:
            return await self._namespace_rights.get((caller, right, namespace), review)
        except ClusterError as error:
            raise _authorization_unavailable(question, error) from error

    async def _allowed_keys(self, caller: Caller, keys: set[SkillKey]) -> set[SkillKey]:
        result: set[SkillKey] = set()
        for batch in _batches(sorted(keys)):
            decisions = await asyncio.gather(*(self._allowed(caller, key) for key in batch))
            result |= {key for key, allowed in zip(batch, decisions, strict=True) if allowed}
        return result

    async def _allowed(self, caller: Caller, key: SkillKey) -> bool:
        try:
            return await self._rights.get((caller, key), lambda: self._review_access(caller, key))
        except ClusterError as error:
            raise _authorization_unavailable("whether you may call", error) from error

    def _digest(self, authorization: str) -> bytes:
        """Return the key of a token in the cache: nobody who reads a dump of the memory can use it."""
        return hashlib.sha256(self._salt + authorization.encode()).digest()

    def _ttl(self, identity: _Identity) -> float:
        return VALID_TOKEN_SECONDS if identity.caller else INVALID_TOKEN_SECONDS

    def _stale_ttl(self, identity: _Identity) -> float:
        return STALE_SECONDS if identity.caller else INVALID_TOKEN_SECONDS

    async def _review_token(self, authorization: str, address: str) -> _Identity:
        """Return whose token it is. An address that sends many bad ones waits; a token that was good does not."""
        renewal = self._digest(authorization) in self._identities
        if not renewal:
            self._refused_tokens.check(address, "those from your address with tokens that nobody knows")
        token = _token(authorization)
        spec = {"token": token, "audiences": self._audiences}
        queue = self._renewals if renewal else self._reviews
        identity = self._identify(token, await self._review("TokenReview", spec, queue, "tokens", address))
        if identity.caller is None:
            self._refused_tokens.record(address)
        return identity

    def _identify(self, token: str, status: Object) -> _Identity:
        """Return the identity of a token, of which this is the status of a TokenReview."""
        expires_at = _token_expiry(token)
        if status.get("authenticated") is not True:
            return _Identity(None, expires_at, str(status.get("error") or "the API server does not know the token"))
        # An API server that knows no audiences leaves this out; then the token may have been meant for anybody.
        if not set(self._audiences) & set(status.get("audiences") or ()):
            return _Identity(
                None, expires_at, f"the token is for another service; request one for audience {self._audiences[0]}"
            )
        user = status.get("user") or {}
        if not user.get("username"):
            return _Identity(None, expires_at, "the API server does not say whose token it is")
        values_by_name = (user.get("extra") or {}).items()
        extra = tuple(sorted((name, tuple(values)) for name, values in values_by_name if name != CREDENTIAL_ID))
        caller = Caller(user["username"], tuple(user.get("groups") or ()), user.get("uid", ""), extra)
        return _Identity(caller, expires_at)

    async def _review_access(self, caller: Caller, key: SkillKey) -> bool:
        queue = self._renewals if (caller, key) in self._rights else self._reviews
        namespace, name = key
        attributes = {"verb": "create", "subresource": "call", "namespace": namespace, "name": name}
        return await self._review_right(caller, attributes, queue)

    async def _review_right(self, caller: Caller, attributes: dict[str, str], queue: _ReviewQueue) -> bool:
        """Return whether the caller may do what these attributes say, of Skills."""
        resource = {"group": naming.GROUP, "version": naming.VERSION, "resource": "skills"}
        spec: Object = {"user": caller.name, "groups": list(caller.groups), "resourceAttributes": resource | attributes}
        spec |= {"uid": caller.uid, "extra": {name: list(values) for name, values in caller.extra}}
        status = await self._review("SubjectAccessReview", spec, queue, caller.namespace, caller.name)
        return status.get("allowed") is True and status.get("denied") is not True

    async def _review(self, kind: str, spec: Object, queue: _ReviewQueue, namespace: str, name: str) -> Object:
        """Return the status of a review, for which this one waits in the queue.

        A flood of unknown tokens must not become a flood at the API server. Raises ClusterError.
        """
        start_time, outcome = time.monotonic(), "failed"
        try:
            async with asyncio.timeout(REVIEW_TIMEOUT_SECONDS), queue.turn(namespace, name):
                status = await self._cluster.review(kind, spec)
                outcome = "yes" if status.get("authenticated") or status.get("allowed") else "no"
                return status
        except TimeoutError as error:
            raise Unavailable(f"no {kind} within {REVIEW_TIMEOUT_SECONDS:.0f} s") from error
        finally:
            metrics.record_authorization(kind, outcome, time.monotonic() - start_time)


def _batches(keys: list[SkillKey]) -> Iterator[list[SkillKey]]:
    """Yield the keys in batches that leave other callers their turn."""
    step = MAX_CONCURRENT_REVIEWS // 2
    return (keys[start : start + step] for start in range(0, len(keys), step))


def _token(authorization: str) -> str:
    """Return the token of an Authorization header (RFC 6750), or nothing where it holds none."""
    match = _BEARER.fullmatch(authorization) if len(authorization) <= MAX_HEADER_CHARACTERS else None
    return match[1] if match else ""


def _token_expiry(token: str) -> float:
    """Return when a JSON Web Token (RFC 7519) ends, in Unix time.

    The claim is unverified: it can only make the gateway reject sooner.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return math.inf
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return float(claims["exp"]) + CLOCK_SKEW_SECONDS
    except (ValueError, LookupError, TypeError, RecursionError, OverflowError):
        return math.inf


def _unauthenticated(reason: str) -> Problem:
    prefix = f"{printable(reason, 300)}. " if reason else ""
    detail = (
        f"{prefix}Send Authorization: Bearer TOKEN; for a ServiceAccount, TOKEN is what "
        f"`kubectl create token NAME --audience {AUDIENCE}` prints"
    )
    challenge = f'Bearer realm="{AUDIENCE}"' + (', error="invalid_token"' if reason else "")
    return Problem("unauthenticated", detail, headers={"WWW-Authenticate": challenge})


def _authorization_unavailable(question: str, error: ClusterError) -> Problem:
    log.error("the API server cannot be asked %s: %s", question, error.message)
    detail = f"the API server, which decides it, cannot be asked {question} at the moment; call again"
    return Problem("authorization-unavailable", detail, 2)
