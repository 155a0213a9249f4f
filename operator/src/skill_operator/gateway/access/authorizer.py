"""The interfaces of authentication, authorization and limits, and the ones that allow everything."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import NamedTuple, Protocol

from skill_operator.gateway.pods.directory import SkillEntry
from skill_operator.gateway.problems import Problem
from skill_operator.naming import SkillKey

SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"


class Caller(NamedTuple):
    """Caller is the user of the cluster for whom a call is made, as the API server describes it."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def namespace(self) -> str:
        """The namespace of a ServiceAccount; of another user its name, since it has no namespace."""
        return _namespace(self.name)


@lru_cache(4096)
def _namespace(name: str) -> str:
    return (
        name.removeprefix(SERVICE_ACCOUNT_PREFIX).partition(":")[0]
        if name.startswith(SERVICE_ACCOUNT_PREFIX)
        else f"user:{name}"
    )


class Authorizer(Protocol):
    """Authorizer decides who a caller is and what the caller may call.

    `authorization` is the header of that name, empty where there is none.
    """

    def cached_caller(self, authorization: str, key: SkillKey) -> Caller | None:
        """Return the caller if it is known already that it may call the Skill. It runs for each call, without I/O."""

    async def authenticate(self, authorization: str, address: str = "") -> Caller:
        """Return the caller, whose connection is from this address. Raises Problem (401, 429)."""

    async def authorize(self, caller: Caller, key: SkillKey) -> None:
        """Raise Problem (403) unless the caller may call this Skill, which may not exist."""

    async def filter_visible(self, caller: Caller, keys: Iterable[SkillKey]) -> set[SkillKey]:
        """Return those of the Skills that the caller may call. Raises Problem (503)."""

    async def authorize_creation(self, caller: Caller, namespace: str) -> None:
        """Raise Problem (403, 503) unless the caller may create Skills in this namespace, which may not exist."""

    async def may_approve(self, caller: Caller, namespace: str) -> bool:
        """Return whether the caller may approve and promote Skills in this namespace. Raises Problem (503)."""


class Limiter(Protocol):
    """Limiter bounds the concurrency and the rate of calls."""

    def admit(self, caller: Caller, entry: SkillEntry) -> AbstractContextManager[None]:
        """Return a context that is open while the call is in flight. Raises Problem (429)."""


class AllowAll:
    """AllowAll lets every caller in: NetworkPolicies alone decide who reaches the gateway."""

    _caller = Caller("anonymous")

    def cached_caller(self, authorization: str, key: SkillKey) -> Caller | None:
        """Return the anonymous caller."""
        return self._caller

    async def authenticate(self, authorization: str, address: str = "") -> Caller:
        """Return the anonymous caller."""
        return self._caller

    async def authorize(self, caller: Caller, key: SkillKey) -> None:
        """Allow the call."""
        return

    async def filter_visible(self, caller: Caller, keys: Iterable[SkillKey]) -> set[SkillKey]:
        """Return all of the Skills."""
        return set(keys)

    async def authorize_creation(self, caller: Caller, namespace: str) -> None:
        """Refuse: what nobody is known to have asked for has no maker. Raises Problem (403)."""
        raise Problem("creation-forbidden", "with gateway.auth none, nobody is known who could ask for a Skill")

    async def may_approve(self, caller: Caller, namespace: str) -> bool:
        """Return False: nobody is known who could."""
        return False


class NoLimits:
    """NoLimits is a Limiter without limits."""

    _open = nullcontext()

    def admit(self, caller: Caller, entry: SkillEntry) -> AbstractContextManager[None]:
        """Admit the call."""
        return self._open
