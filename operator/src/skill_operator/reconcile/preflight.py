"""Checks that come before any stage: a readable, permitted spec, known networks and a known base image."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from skill_operator.api import conditions as api
from skill_operator.api.egress_networks import BlockedNetwork
from skill_operator.api.v1alpha1 import Skill, SkillSpec
from skill_operator.api.validation import MAX_PROBLEMS, SpecProblem, never_granted
from skill_operator.isolation.cluster_networks import ClusterNetworksUnknown
from skill_operator.k8s.interface import UNREADABLE, Object
from skill_operator.reconcile import registry_away
from skill_operator.reconcile.context import ReconcileContext
from skill_operator.reconcile.result import ConditionUpdate, Result
from skill_operator.reconcile.spec_check import SpecCheck
from skill_operator.registry.client import BaseImage, RegistryUnavailable
from skill_operator.registry.monitor import RegistryState
from skill_operator.settings import Settings

log = logging.getLogger(__name__)
SPEC_CHECK_POLL_SECONDS = 1.0
CLUSTER_NETWORKS_RETRY_SECONDS = 60.0


@dataclass(frozen=True)
class Prerequisites:
    """Prerequisites are the facts that preflight found and the stages build on."""

    base: BaseImage
    registry: RegistryState
    blocked_networks: tuple[BlockedNetwork, ...]


class Preflight:
    """Preflight checks what concerns a Skill before anything of it is observed."""

    def __init__(self, settings: Settings, context: ReconcileContext) -> None:
        self._settings = settings
        self._context = context
        self._spec_check = SpecCheck()

    def check_namespace(self, skill: Skill) -> Result | None:
        """Return that no Skill may be where the operator's own objects are, since their names would meet; else None."""
        if skill.metadata.namespace not in {self._settings.namespace, self._settings.builder_namespace}:
            return None
        message = f"namespace {skill.metadata.namespace} is the operator's own: move the Skill to another namespace"
        reserved = ConditionUpdate(api.GENERATED, "False", "NamespaceReserved", message)
        return Result.stalled(reserved, ConditionUpdate(api.ACTIVE, "False", "NamespaceReserved", "no pod runs"))

    def check_spec(self, skill: Skill, body: Object) -> Result | None:
        """Return why this spec must not run, as far as spec and settings alone tell; else None.

        A result without conditions waits for the check of a spec that takes long.
        """
        known = self._spec_check.problems(skill, body["spec"])
        if known is None:
            return Result.waiting(after=SPEC_CHECK_POLL_SECONDS)
        found = [*known, *self._not_allowed(skill.spec)]
        return _invalid(f"{problem.path}: {problem.message}" for problem in found) if found else None

    async def check_installation(self, skill: Skill) -> Prerequisites | Result:
        """Return what the stages build on, or what is missing. A result without conditions leaves the status alone."""
        try:
            blocked_networks = await self._context.blocked_networks() if skill.spec.egress else ()
        except ClusterNetworksUnknown as error:
            update = ConditionUpdate(api.GENERATED, "False", "ClusterRangesUnknown", f"spec.egress: {error}")
            return Result.stalled(update, after=CLUSTER_NETWORKS_RETRY_SECONDS)
        if found := never_granted(skill.spec, blocked_networks):
            return _invalid(map(str, found))
        registry = await self._context.read_registry()
        if registry.base is not None:
            return Prerequisites(registry.base, registry, blocked_networks)
        problem = registry.problem or RegistryUnavailable("the registry has not been read yet")
        is_ready = api.is_true(skill.status.conditions, api.READY, skill.metadata.generation)
        if is_ready and skill.status.archive is None:  # the base is for changes alone
            return Result.done(registry_away.keep(skill.status.image, problem))
        return registry_away.hold(api.GENERATED, problem)

    def _not_allowed(self, spec: SkillSpec) -> Iterator[SpecProblem]:
        """Yield what the installation forbids: a Skill must not choose weaker isolation than the installation's."""
        allowed = self._settings.isolation.allowed_runtime_classes
        if spec.runtime_class_name and spec.runtime_class_name not in allowed:
            names = ", ".join(sorted(allowed - {""})) or "none"
            message = f"must be one that isolation.runtimeClassNames in the chart's values allows: {names}"
            yield SpecProblem("spec.runtimeClassName", message)
        if not self._settings.egress_proxy.address:
            for index, host, _ in spec.hosts:
                message = (
                    f"{host} is called through the egress proxy, which is disabled: set egressProxy.enabled: true in "
                    "the chart's values, or grant a cidr"
                )
                yield SpecProblem(f"spec.egress[{index}].host", message)


def parse(body: Object) -> tuple[Skill, Result | None]:
    """Return the Skill, and why its stored spec cannot be read: then the Skill has an empty spec and no status."""
    if UNREADABLE in body:
        return _bare(body), _invalid([f"spec: {body[UNREADABLE]}"])
    try:
        return Skill.model_validate(body), None
    except ValidationError as error:  # stored before a rule was there; the API server refuses it today
        errors = error.errors()[:MAX_PROBLEMS]
        found = [(".".join(map(str, each["loc"])), each["msg"]) for each in errors]
        log.warning("a stored Skill does not fit its own schema", extra={"where": found[0][0]})
        return _bare(body), _invalid(f"{field}: {message}" for field, message in found)


def _bare(body: Object) -> Skill:
    """Return the Skill without its spec and its status."""
    metadata = {key: value for key, value in body["metadata"].items() if value is not None}
    spec = {"description": "?", "input": {}, "output": {}}
    return Skill.model_validate({**body, "metadata": metadata, "spec": spec, "status": {}})


def check_suspended(skill: Skill) -> Result | None:
    """Return that the Skill is suspended, if it is."""
    if not skill.spec.suspend:
        return None
    message = "spec.suspend is true: until it is false, the operator only takes away what is no longer granted"
    return Result.stalled(ConditionUpdate(api.READY, "False", "Suspended", message))


def _invalid(lines: Iterable[str]) -> Result:
    return Result.stalled(ConditionUpdate(api.GENERATED, "False", "SpecInvalid", "\n".join(lines)))
