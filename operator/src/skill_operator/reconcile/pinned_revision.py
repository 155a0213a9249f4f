"""A pinned revision: what `spec.revision` names in the history, and what it may do now.

The code was accepted under another spec. It keeps the schemas and examples of that spec, and gets no grant and no limit
beyond those that both specs give: going back never widens, and taking away wins. How the Skill is operated (when it
sleeps, how often it is called, which runtime class it has) is up to the spec that pins it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import TypeVar

from skill_operator.api.egress_networks import contains
from skill_operator.api.quantity import value
from skill_operator.api.v1alpha1 import (
    Egress,
    ResourceLimits,
    ResourceRequests,
    Resources,
    Revision,
    SecretGrant,
    Skill,
    SkillSpec,
)
from skill_operator.k8s.interface import Object
from skill_operator.resources import kept_revision

MAX_LABELS = 11
T = TypeVar("T", ResourceLimits, ResourceRequests)


class UnknownRevision(ValueError):
    """UnknownRevision says why the history has nothing to run for `spec.revision`."""


@dataclass(frozen=True)
class PinnedRevision:
    """PinnedRevision is an entry of the history with its code, and the spec by which it runs now.

    `accepted` is the spec that the code was accepted under, and `declared` the one that pins it. `withheld` are grants
    of the former that the latter lacks.
    """

    entry: Revision
    source: str
    accepted: SkillSpec
    declared: SkillSpec
    spec: SkillSpec
    withheld: tuple[str, ...] = ()


def find_pinned(skill: Skill, config_maps: Mapping[str, Object]) -> PinnedRevision | None:
    """Return the revision that the spec pins, or None where it pins none. Raises UnknownRevision."""
    wanted = skill.spec.revision
    if not wanted:
        return None
    history = skill.status.history
    found = [entry for entry in history if entry.revision_digest.startswith(wanted)]
    if len(found) > 1:
        raise UnknownRevision(
            f"spec.revision {wanted} begins more than one: give all of status.history's revisionDigest"
        )
    if not found:
        raise UnknownRevision(f"status.history has no revision {wanted}. {_advise(history)}")
    (entry,) = found
    kept = kept_revision.read(skill, entry, config_maps)
    if kept is None:
        others = [other for other in history if other is not entry]
        raise UnknownRevision(
            f"the ConfigMap that kept revision {entry.revision} is gone or changed. {_advise(others)}"
        )
    source, accepted = kept
    spec = narrow_spec(accepted, skill.spec)
    return PinnedRevision(entry, source, accepted, skill.spec, spec, tuple(_withheld(accepted, spec)))


def _advise(history: Iterable[Revision]) -> str:
    labels = ", ".join(f"{entry.revision} ({entry.time:%Y-%m-%dT%H:%MZ})" for entry in history)
    return f"It has {labels}: name one of them, or remove spec.revision" if labels else "Remove spec.revision"


def narrow_spec(accepted: SkillSpec, declared: SkillSpec) -> SkillSpec:
    """Return the spec by which a revision runs that was accepted under one spec and is pinned by another."""
    kept = {name: getattr(accepted, name) for name in ("description", "summary", "input", "output", "examples")}
    return declared.model_copy(
        update={
            **kept,
            "deterministic": accepted.deterministic,
            "source": None,
            "egress": list(_common_egress(accepted.egress, declared.egress)),
            "secrets": list(_common_secrets(accepted.secrets, declared.secrets)),
            "resources": _smaller_resources(accepted.resources, declared.resources),
            "call_timeout_seconds": min(accepted.call_timeout_seconds, declared.call_timeout_seconds),
        }
    )


def _common_egress(accepted: Iterable[Egress], declared: Iterable[Egress]) -> Iterator[Egress]:
    """Yield what both lists grant: hosts that both name, and of two networks the inner one."""
    found: dict[str, Egress] = {}
    for one in accepted:
        for other in declared:
            ports = [port for port in one.ports if port in other.ports]
            to = _common_place(one, other)
            if not ports or to is None:
                continue
            known = found.get(to.to)
            ports = ports if known is None else [*known.ports, *(port for port in ports if port not in known.ports)]
            found[to.to] = to.model_copy(update={"ports": ports})
    yield from found.values()


def _common_place(one: Egress, other: Egress) -> Egress | None:
    """Return the grant of the smaller place, or None where the two have nothing in common."""
    if one.host is not None or other.host is not None:
        return one if one.host == other.host else None
    try:
        first, second = ip_network(one.cidr or "", strict=False), ip_network(other.cidr or "", strict=False)
    except ValueError:
        return None
    if contains(second, first):
        return one
    return other if contains(first, second) else None


def _common_secrets(accepted: Iterable[SecretGrant], declared: Iterable[SecretGrant]) -> Iterator[SecretGrant]:
    """Yield the files that both lists fill from the same key. A value is disclosed only where both allow it."""
    granted = {grant.name: grant for grant in declared}
    for one in accepted:
        other = granted.get(one.name)
        if other is not None and other.secret_key_ref == one.secret_key_ref:
            yield one if one.disclosure == "Redacted" else other


def _smaller_resources(accepted: Resources, declared: Resources) -> Resources:
    limits = _smaller(accepted.limits, declared.limits)
    requests = _smaller(accepted.requests, declared.requests)
    bounded = {name: _min(getattr(requests, name), getattr(limits, name)) for name in ("cpu", "memory")}
    return Resources.model_construct(requests=requests.model_copy(update=bounded), limits=limits)


def _smaller(one: T, other: T) -> T:
    return one.model_copy(
        update={name: _min(text, getattr(other, name)) for name, text in one if isinstance(text, str)}
    )


def _min(one: str, other: str) -> str:
    return one if value(one) <= value(other) else other


def _withheld(accepted: SkillSpec, spec: SkillSpec) -> Iterator[str]:
    """Yield in words which grants of the accepted spec the code does not have now."""
    ports = {(way.to, port) for way in spec.egress for port in way.ports}
    for way in accepted.egress:
        missing = [str(port) for port in way.ports if (way.to, port) not in ports]
        if missing:
            yield f"egress to {way.to} on {', '.join(missing)}"
    files = {grant.name for grant in spec.secrets}
    yield from (f"secret {grant.name}" for grant in accepted.secrets if grant.name not in files)
