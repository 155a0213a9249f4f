"""Who calls, whether they may, and how much: what the gateway asks, whoever answers it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

from skill_operator.gateway.pods.directory import SkillEntry
from skill_operator.naming import SkillKey


class Caller(NamedTuple):
    """Whom a call is made for, as the cluster knows them."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Authorizer(Protocol):
    """`authorization` is the header of that name, empty where there is none."""

    def known(self, authorization: str, key: SkillKey) -> Caller | None:
        """The caller, where it is known already that they may call it. Asked for each call, so it looks nothing up."""

    async def caller(self, authorization: str) -> Caller:
        """Raises Problem (401)."""

    async def permit(self, caller: Caller, key: SkillKey) -> None:
        """Whether they may call this Skill, which may not exist. Raises Problem (403)."""

    async def visible(self, caller: Caller, keys: Iterable[SkillKey]) -> set[SkillKey]:
        """Those of the Skills that they may call. Raises Problem (503)."""


class Limiter(Protocol):
    """How many calls at once, and how often."""

    def admit(self, caller: Caller, entry: SkillEntry) -> AbstractContextManager[None]:
        """Open while the call is in flight. Raises Problem (429)."""


class AllowAll:
    """Lets everybody in: who may reach the gateway is up to NetworkPolicies."""

    _caller = Caller("anonymous")

    def known(self, authorization: str, key: SkillKey) -> Caller | None:
        return self._caller

    async def caller(self, authorization: str) -> Caller:
        return self._caller

    async def permit(self, caller: Caller, key: SkillKey) -> None:
        return None

    async def visible(self, caller: Caller, keys: Iterable[SkillKey]) -> set[SkillKey]:
        return set(keys)


class NoLimits:
    """Bounds nothing."""

    _open = nullcontext()

    def admit(self, caller: Caller, entry: SkillEntry) -> AbstractContextManager[None]:
        return self._open
