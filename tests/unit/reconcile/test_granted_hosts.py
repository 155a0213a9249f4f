"""Hosts open for pods that were deployed with them, so for nothing that nobody approved."""

from __future__ import annotations

from typing import Any

import pytest

from skill_operator import naming
from skill_operator.gateway.egress_authorizer import EgressAuthorizer
from skill_operator.gateway.pods.directory import Directory
from skill_operator.reconcile.stages import run
from tests.unit.generation.world import NAME, NAMESPACE, World
from tests.unit.reconcile.samples import SETTINGS, SOURCE, observed, skill, stage_context
from tests.unit.reconcile.stages.test_run import READY, mine, progress
from tests.unit.reconcile.tenancy import advance, live, tenant_world

API, OTHER = "api.example.com", "other.example.com"
ONE: dict[str, Any] = {"host": API, "ports": [443]}
MORE: dict[str, Any] = {"host": OTHER, "ports": [443]}
ADDRESS = "10.0.0.1"


def reached(world: World) -> set[str]:
    """Return the hosts that the gateway opens for a pod that the Deployment makes, by the stored Skill."""
    directory = Directory(unsynced=set())
    authorizer = EgressAuthorizer(directory)
    directory.on_skill("ADDED", world.store.objects["Skill", NAMESPACE, NAME])
    deployment = live(world, "Deployment")
    assert deployment is not None
    meta = deployment["spec"]["template"]["metadata"] | {"name": "p", "namespace": NAMESPACE, "uid": "p"}
    directory.on_pod("ADDED", {"metadata": meta, "status": {"phase": "Running", "podIP": ADDRESS}})
    return {host for host in (API, OTHER) if authorizer.decide(ADDRESS, host, 443).allowed}


async def granted(**spec: Any) -> World:
    """Return a world whose Skill runs and may call one host."""
    world = tenant_world()
    world.skill(source={"inline": SOURCE}, egress=[ONE], **spec)
    await advance(world)
    assert reached(world) == {API}
    return world


async def test_a_host_that_awaits_an_approval_is_closed_until_it_has_one() -> None:
    world = tenant_world()
    world.skill(source={"inline": SOURCE}, egress=[ONE], review="Manual")
    await advance(world)
    await approve(world)
    assert reached(world) == {API}
    world.skill(egress=[ONE, MORE])
    await advance(world)
    assert world.condition("Built")["reason"] == "AwaitingApproval"
    assert reached(world) == {API}
    await approve(world)
    assert reached(world) == {API, OTHER}


async def approve(world: World) -> None:
    world.annotate(naming.APPROVE_ANNOTATION, world.status["approvalRequest"]["token"])
    world.annotate(naming.APPROVED_BY_ANNOTATION, "ada")
    await advance(world)


@pytest.mark.parametrize("beside", [{"description": "   "}, {"callTimeoutSeconds": "soon"}, {"suspend": True}])
async def test_a_spec_that_does_not_get_to_the_pods_opens_nothing(beside: dict[str, Any]) -> None:
    world = await granted()
    world.skill(egress=[ONE, MORE], **beside)
    await advance(world)
    assert live(world, "Deployment") is None or reached(world) <= {API}


async def test_a_host_that_is_taken_away_is_closed_at_once_whatever_the_spec_says_beside() -> None:
    world = await granted()
    world.skill(egress=[MORE], description="   ")
    assert reached(world) == set()
    await advance(world)
    assert reached(world) == set()


async def test_a_pinned_revision_may_call_what_both_specs_grant() -> None:
    world = await granted()
    first = world.status["revision"]
    world.skill(source={"inline": SOURCE + "# another\n"}, egress=[ONE, MORE])
    await advance(world)
    assert reached(world) == {API, OTHER}
    world.skill(revision=first)
    await advance(world)
    assert world.condition("Generated")["reason"] == "RevisionPinned"
    assert reached(world) == {API}


def template(*egress: dict[str, Any]) -> Any:
    result = run.run(observed(skill(egress=list(egress))), progress(), stage_context(SETTINGS))
    return next(each for each in result.apply if each["kind"] == "Deployment")["spec"]["template"]


def test_the_template_says_which_hosts_are_granted_in_one_order() -> None:
    ways = [{"host": OTHER, "ports": [8443, 443]}, {"host": API, "ports": [80]}]
    annotations = template(*ways)["metadata"]["annotations"]
    assert annotations[naming.HOSTS_ANNOTATION] == f"{API}:80 {OTHER}:443,8443"
    assert template(*reversed(ways)) == template(*ways)


def test_a_skill_without_hosts_keeps_its_pods_on_an_upgrade() -> None:
    annotations = template({"cidr": "203.0.113.0/24", "ports": [443]})["metadata"]["annotations"]
    assert {*annotations} == {naming.CONTRACT_HASH, naming.REVISION_DIGEST}


@pytest.mark.parametrize(
    ("deployed", "done"),
    [("", False), (f"{API}:443", True), (f"{API}:443 {OTHER}:443", True), (f"{API}:80 {OTHER}:443", False)],
)
def test_ready_needs_a_pod_that_may_call_all_that_is_granted(deployed: str, done: bool) -> None:
    found = mine(conditions=READY)
    found["metadata"]["annotations"][naming.HOSTS_ANNOTATION] = deployed
    state = observed(skill(egress=[ONE]), pods=(found,), egress_proxy_ready=True)
    assert run.run(state, progress(), stage_context(SETTINGS)).is_done is done
