"""Who calls, and what he may: Kubernetes decides both. A token is reviewed (TokenReview), then the right to `create` on
`skills/call` is (SubjectAccessReview). Whatever the API server authenticates is thereby an identity here."""

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
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from skill_operator import naming
from skill_operator.gateway.access.authorizer import Caller
from skill_operator.gateway.access.decision_cache import DecisionCache
from skill_operator.gateway.problems import Problem
from skill_operator.k8s.errors import ClusterError, TooManyRequests, Unavailable
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.naming import SkillKey
from skill_operator.observability import metrics
from skill_operator.untrusted.text import printable

log = logging.getLogger(__name__)
AUDIENCE = "skill-gateway"
LONGEST_TOKEN = 1 << 14
KNOWN_SECONDS = 60.0  # how long a token that was taken is
REFUSED_SECONDS = 10.0  # and one that was not
MAY_SECONDS = 10.0
MAY_NOT_SECONDS = 5.0
STALE_SECONDS = 300.0  # while the API server is away
ASK_SECONDS = 5.0
AT_ONCE = 32  # questions to the API server
MOST_WAITING = 512
MOST_TOKENS = 10_000
MOST_RIGHTS = 100_000
ANYWHERE = SkillKey("", "")
LEEWAY_SECONDS = 60.0  # of clocks, as the API server's
_BEARER = re.compile(r"(?i:bearer) +([A-Za-z0-9._~+/-]+=*)")


class _Identity(NamedTuple):
    """What came of a token: a caller, or why not. `ends` is when the token itself does, on the wall clock."""

    caller: Caller | None
    ends: float
    why: str = ""


class KubernetesAuthorizer:
    """gateway.auth: kubernetes."""

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
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._identities = DecisionCache[bytes, _Identity](self._holds, self._stale, MOST_TOKENS, clock)
        self._rights = DecisionCache[tuple[Caller, SkillKey], bool](
            lambda may: MAY_SECONDS if may else MAY_NOT_SECONDS,
            lambda may: STALE_SECONDS if may else MAY_NOT_SECONDS,
            MOST_RIGHTS,
            clock,
        )

    def known(self, authorization: str, key: SkillKey) -> Caller | None:
        """On the way of every call: the header as it is finds who sent it before."""
        identity = self._identities.peek(self._digest(authorization), lambda: self._review(authorization))
        if identity is None or identity.caller is None or self._now() >= identity.ends:
            return None
        caller = identity.caller
        return caller if self._rights.peek((caller, key), lambda: self._ask(caller, key)) else None

    async def caller(self, authorization: str) -> Caller:
        token = _token(authorization)
        if not token:
            raise _unauthenticated("it is no bearer token" if authorization else "")
        if _end_of(token) <= self._now():
            raise _unauthenticated("the token has expired")
        try:
            identity = await self._identities.get(self._digest(authorization), lambda: self._review(authorization))
        except ClusterError as error:
            raise _cannot_ask("who you are", error) from error
        if identity.caller is None:
            raise _unauthenticated(identity.why)
        return identity.caller

    async def permit(self, caller: Caller, key: SkillKey) -> None:
        if not await self._may(caller, key):
            namespace, name = (printable(part, 63) for part in key)
            detail = (
                f"{printable(caller.name, 200)} may not create skills/call of {name} in namespace {namespace}; whoever "
                f"may grant it can bind the ClusterRole skill-caller there"
            )
            raise Problem("forbidden", detail)

    async def visible(self, caller: Caller, keys: Iterable[SkillKey]) -> set[SkillKey]:
        """Most may call all, or all of some namespaces: so that is asked first, and then only what is still open."""
        wanted = set(keys)
        if await self._may(caller, ANYWHERE):
            return wanted
        spaces = {namespace for namespace, _ in wanted}
        whole = {space for space, _ in await self._which(caller, {SkillKey(space, "") for space in spaces})}
        some = {key for key in wanted if key[0] not in whole}
        return (wanted - some) | await self._which(caller, some)

    async def _which(self, caller: Caller, keys: set[SkillKey]) -> set[SkillKey]:
        found: set[SkillKey] = set()
        for some in _some(sorted(keys)):
            answers = await asyncio.gather(*(self._may(caller, key) for key in some))
            found |= {key for key, may in zip(some, answers, strict=True) if may}
        return found

    async def _may(self, caller: Caller, key: SkillKey) -> bool:
        try:
            return await self._rights.get((caller, key), lambda: self._ask(caller, key))
        except ClusterError as error:
            raise _cannot_ask("whether you may", error) from error

    def _digest(self, authorization: str) -> bytes:
        """What is kept of a token: nobody who reads a dump of our memory can use it."""
        return hashlib.sha256(self._salt + authorization.encode()).digest()

    def _holds(self, identity: _Identity) -> float:
        return KNOWN_SECONDS if identity.caller else REFUSED_SECONDS

    def _stale(self, identity: _Identity) -> float:
        return STALE_SECONDS if identity.caller else REFUSED_SECONDS

    async def _review(self, authorization: str) -> _Identity:
        token = _token(authorization)
        status = await self._asked("TokenReview", {"token": token, "audiences": self._audiences})
        ends = _end_of(token)
        if status.get("authenticated") is not True:
            return _Identity(None, ends, str(status.get("error") or "the API server does not know the token"))
        # An API server that knows no audiences leaves this out; then the token may have been meant for anybody.
        if not set(self._audiences) & set(status.get("audiences") or ()):
            return _Identity(None, ends, f"it is meant for somebody else; ask for audience {self._audiences[0]}")
        user = status.get("user") or {}
        if not user.get("username"):
            return _Identity(None, ends, "the API server does not say whose it is")
        extra = tuple(sorted((name, tuple(values)) for name, values in (user.get("extra") or {}).items()))
        caller = Caller(user["username"], tuple(user.get("groups") or ()), user.get("uid", ""), extra)
        return _Identity(caller, ends)

    async def _ask(self, caller: Caller, key: SkillKey) -> bool:
        namespace, name = key
        wanted = {"group": naming.GROUP, "version": naming.VERSION, "resource": "skills", "subresource": "call"}
        wanted |= {"verb": "create", "namespace": namespace, "name": name}
        spec: Object = {"user": caller.name, "groups": list(caller.groups), "resourceAttributes": wanted}
        spec |= {"uid": caller.uid, "extra": {name: list(values) for name, values in caller.extra}}
        status = await self._asked("SubjectAccessReview", spec)
        return status.get("allowed") is True and status.get("denied") is not True

    async def _asked(self, kind: str, spec: Object) -> Object:
        """A flood of tokens that nobody knows must not become a flood at the API server."""
        if self._waiting >= MOST_WAITING:
            raise TooManyRequests("too many callers are being looked at")
        self._waiting += 1
        began, outcome = time.monotonic(), "failed"
        try:
            async with asyncio.timeout(ASK_SECONDS), self._gate:
                status = await self._cluster.review(kind, spec)
                outcome = "yes" if status.get("authenticated") or status.get("allowed") else "no"
                return status
        except TimeoutError as error:
            raise Unavailable(f"no {kind} within {ASK_SECONDS:.0f} s") from error
        finally:
            self._waiting -= 1
            metrics.record_authorization(kind, outcome, time.monotonic() - began)


def _some(keys: list[SkillKey]) -> Iterator[list[SkillKey]]:
    """So many at once that others have their turn too."""
    step = AT_ONCE // 2
    return (keys[at : at + step] for at in range(0, len(keys), step))


def _token(authorization: str) -> str:
    """Of an Authorization header; empty if there is none that could be one."""
    found = _BEARER.fullmatch(authorization) if len(authorization) <= LONGEST_TOKEN else None
    return found[1] if found else ""


def _end_of(token: str) -> float:
    """When a JSON Web Token ends, by its own unproven word: it can only make us refuse sooner."""
    parts = token.split(".")
    if len(parts) != 3:
        return math.inf
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return float(claims["exp"]) + LEEWAY_SECONDS
    except (ValueError, LookupError, TypeError, RecursionError, OverflowError):
        return math.inf


def _unauthenticated(why: str) -> Problem:
    told = f"{printable(why, 300)}. " if why else ""
    detail = (
        f"{told}Send Authorization: Bearer TOKEN; for a ServiceAccount, TOKEN is what "
        f"`kubectl create token NAME --audience {AUDIENCE}` prints"
    )
    challenge = f'Bearer realm="{AUDIENCE}"' + (', error="invalid_token"' if why else "")
    return Problem("unauthenticated", detail, headers={"WWW-Authenticate": challenge})


def _cannot_ask(what: str, error: ClusterError) -> Problem:
    log.error("the API server cannot be asked %s: %s", what, error.message)
    detail = f"the API server, which decides it, cannot be asked {what} at the moment; call again"
    return Problem("authorization-unavailable", detail, 2)
