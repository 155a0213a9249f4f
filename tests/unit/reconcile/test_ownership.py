"""Nothing of others is written over, owned or deleted, whatever its name; and what the cluster refuses is told."""

from __future__ import annotations

import asyncio
import copy

import pytest

from skill_operator import naming
from skill_operator.k8s.errors import Forbidden, Invalid
from skill_operator.naming import SkillKey
from skill_operator.reconcile.reconciler import MAX_REFUSAL_RETRY_SECONDS, MIN_REFUSAL_RETRY_SECONDS
from skill_operator.settings import ModelEndpoint
from tests.unit.generation.world import NAME, NAMESPACE, Object, Place, World, completion_response
from tests.unit.reconcile.samples import SETTINGS, SOURCE
from tests.unit.reconcile.tenancy import (
    CHILD,
    FOREIGN_UID,
    advance,
    another_running,
    finish_build,
    live,
    store,
    tenant_world,
)

UID = "uid-of-the-skill"
MODEL = ModelEndpoint(name="main", base_url="http://m/v1", model="m")


def created(world: World, uid: str = UID, **spec: object) -> World:
    """Return the world with the Skill as its user made it."""
    world.skill(**({"source": {"inline": SOURCE}} | spec))
    world.store.objects["Skill", NAMESPACE, NAME]["metadata"]["uid"] = uid
    return world


def made_objects(world: World) -> dict[Place, Object]:
    return {place: obj for place, obj in world.store.objects.items() if place[0] not in {"Skill", "Pod"}}


async def _every_object() -> dict[Place, Object]:
    """Return all that is made on the way of a Skill, also what is deleted again."""
    world = created(tenant_world())
    found: dict[Place, Object] = {}
    for _ in range(8):
        await world.reconcile()
        found |= copy.deepcopy(made_objects(world))
        if world.check() is not None:
            world.verdict(passed=True)
        finish_build(world)
    return found


OBJECTS = asyncio.run(_every_object())
KINDS = {
    "ConfigMap", "Deployment", "Job", "NetworkPolicy", "ResourceQuota", "Service", "ServiceAccount"
}  # fmt: skip
OF_THE_SKILL = {place: obj for place, obj in OBJECTS.items() if naming.UID_LABEL in obj["metadata"]["labels"]}


def test_every_kind_is_tried() -> None:
    assert {kind for kind, _, _ in OBJECTS} == KINDS
    assert {kind for kind, namespace, _ in OBJECTS if namespace == SETTINGS.builder_namespace} == {"ConfigMap", "Job"}


def foreign(place: Place, labels: dict[str, str]) -> Object:
    kind, namespace, name = place
    meta = {"name": name, "namespace": namespace, "uid": FOREIGN_UID, "labels": labels, "resourceVersion": "1"}
    body: Object = {"data": {"orders.sql": "select 1"}} if kind == "ConfigMap" else {"spec": {"selector": {"a": "b"}}}
    if kind in {"Deployment", "Job"}:
        body["spec"]["template"] = {"metadata": {"labels": labels}, "spec": {"containers": []}}
    return {"apiVersion": "v1", "kind": kind, "metadata": meta, **body}


def another_skill(world: World) -> None:
    world.store.objects["Skill", NAMESPACE, "other"] = {
        "apiVersion": naming.API_VERSION,
        "kind": "Skill",
        "metadata": {"name": "other", "namespace": NAMESPACE, "uid": "uid-of-another", "resourceVersion": "1"},
        "spec": {},
    }


NEEDED = [
    *(("ConfigMap", NAMESPACE, name) for name in (naming.source(NAME), naming.candidates(NAME))),
    *((kind, NAMESPACE, CHILD) for kind in ("ServiceAccount", "NetworkPolicy", "Service", "Deployment")),
]
"""What every generated Skill has, by a name of its own."""
LABELS: dict[str, dict[str, str]] = {
    "unlabelled": {},
    "another's label": {naming.MANAGED_BY: "Helm", "app": "shop"},
    "the uid without the mark": {naming.UID_LABEL: UID},
    "of another Skill": naming.labels("other", "uid-of-another", "skill"),
    "of another Skill by our name": naming.labels(NAME, "uid-of-another", "skill"),
    "of nobody": naming.labels("third", "uid-of-nobody", "skill"),
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("place", OBJECTS, ids=str)
async def test_what_is_anothers_stays_as_it_is_and_is_told(place: Place, labels: dict[str, str]) -> None:
    if place not in OF_THE_SKILL and labels.get(naming.MANAGED_BY) == naming.MANAGER and naming.UID_LABEL not in labels:
        return
    kind, namespace, name = place
    world = tenant_world()
    if namespace == SETTINGS.builder_namespace and labels:
        labels = labels | {naming.NAMESPACE_LABEL: NAMESPACE}
    theirs = world.store.objects[place] = foreign(place, labels)
    before = copy.deepcopy(theirs)
    created(world)
    another_skill(world)
    await advance(world)
    assert world.store.objects[place] == before
    assert place not in store(world).writes or kind == "Job"  # whose creation finds that it is there
    assert (world.reason, world.condition("Stalled")["reason"]) == ("NameTaken", "NameTaken")
    message = world.condition("Ready")["message"]
    whose = "the operator's" if name in naming.SHARED_NAMES else "this Skill's"
    assert f"{kind} {namespace}/{name} is not {whose}" in message
    assert ("rename the Skill" in message) == (name not in naming.SHARED_NAMES), "no name of a Skill would help"
    assert "NameTaken" in [reason for reason, _ in world.events.recorded]
    if kind != "Job":
        assert live(world, "Deployment") is None or kind == "Deployment", "half a Skill was made"


@pytest.mark.parametrize("place", OF_THE_SKILL, ids=str)
async def test_what_a_former_skill_of_this_name_left_is_replaced(place: Place) -> None:
    """It was orphaned by `kubectl delete --cascade=orphan`, or restored from a backup."""
    world = tenant_world()
    left = copy.deepcopy(OF_THE_SKILL[place])
    former = "uid-of-the-former"
    left["metadata"] |= {"uid": "left", "labels": left["metadata"]["labels"] | {naming.UID_LABEL: former}}
    left["metadata"].pop("ownerReferences", None)
    if place[0] == "Deployment":
        left["spec"]["selector"]["matchLabels"][naming.UID_LABEL] = former
        left["spec"]["template"]["metadata"]["labels"] |= {naming.UID_LABEL: former}
    world.store.objects[place] = left
    created(world)
    await advance(world)
    assert world.condition("Deployed")["reason"] == "Starting", world.status
    now = world.store.objects.get(place)
    assert now is None or now["metadata"]["labels"][naming.UID_LABEL] == UID
    deployment = live(world, "Deployment")
    assert deployment is not None
    assert deployment["spec"]["selector"]["matchLabels"][naming.UID_LABEL] == UID
    if place[0] == "Deployment":
        assert deployment["metadata"]["uid"] != "left"
        assert "LeftoverDeleted" in [reason for reason, _ in world.events.recorded]


@pytest.mark.parametrize("spec", [{"suspend": True}, {"description": " "}], ids=["suspended", "invalid"])
async def test_what_a_former_skill_left_running_ends_whatever_the_spec_says(spec: Object) -> None:
    world = tenant_world()
    left = copy.deepcopy(OF_THE_SKILL["Deployment", NAMESPACE, CHILD])
    left["spec"]["template"]["metadata"]["labels"] |= {naming.UID_LABEL: "uid-of-the-former"}
    world.store.objects["Deployment", NAMESPACE, CHILD] = left
    created(world, **spec)
    await world.reconcile()
    assert live(world, "Deployment") is None


async def test_a_name_that_is_free_again_is_taken() -> None:
    world = tenant_world()
    place = ("Service", NAMESPACE, CHILD)
    world.store.objects[place] = foreign(place, {})
    created(world)
    await advance(world)
    assert world.reason == "NameTaken"
    del world.store.objects[place]
    await advance(world)
    assert world.condition("Deployed")["reason"] == "Starting"
    assert live(world, "Service") is not None


async def test_candidates_are_written_over_nobodys_configmap() -> None:
    """Their ConfigMap is made for generated Skills alone."""
    world = World(SETTINGS.model_copy(update={"models": [MODEL]}))
    world.store = type(tenant_world().store)()
    world.operators = [world.operator()]
    place = ("ConfigMap", NAMESPACE, naming.candidates(NAME))
    before = world.store.objects[place] = foreign(place, {})
    created(world, source=None)
    await world.receive(completion_response(f"```python\n{SOURCE}```", (10, 10)))
    await world.reconcile()
    assert world.store.objects[place] == before
    assert world.reason == "NameTaken"


@pytest.mark.parametrize("place", NEEDED, ids=str)
async def test_no_model_is_asked_while_a_name_is_taken(place: Place) -> None:
    world = World(SETTINGS.model_copy(update={"models": [MODEL]}))
    world.store = type(tenant_world().store)()
    world.operators = [world.operator()]
    before = world.store.objects[place] = foreign(place, {})
    created(world, source=None)
    await advance(world)
    assert world.store.objects[place] == before
    assert (world.condition("Generated")["reason"], world.reason) == ("NameTaken", "NameTaken")
    assert world.wire.requests == []
    del world.store.objects[place]
    await world.receive(completion_response(f"```python\n{SOURCE}```", (10, 10)))
    assert len(world.wire.requests) == 1


REFUSALS = {
    "quota": Forbidden('"x" is forbidden: exceeded quota: tenant, requested: count/x=1, used: 5, limited: 5', 403),
    "webhook": Forbidden('admission webhook "validate.kyverno.svc-fail" denied the request: require-team-label', 403),
    "invalid": Invalid("spec.selector: Invalid value: field is immutable", 422),
}
CREATED = {(kind, namespace) for kind, namespace, _ in OBJECTS}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("target", sorted(CREATED), ids="/".join)
async def test_what_the_cluster_refuses_is_told_and_tried_again(
    target: tuple[str, str], refusal: Forbidden | Invalid
) -> None:
    world = created(tenant_world())
    store(world).refusals[target] = refusal
    await advance(world)
    assert world.reason == "ObjectRefused", world.status
    assert refusal.message in world.condition("Ready")["message"]
    assert ("ObjectRefused", world.condition("Ready")["message"]) in world.events.recorded
    after = await world.reconcile()
    assert after is not None
    assert MIN_REFUSAL_RETRY_SECONDS <= after <= MAX_REFUSAL_RETRY_SECONDS
    told = len(world.events.recorded)
    await world.reconcile(3)
    assert len(world.events.recorded) == told, "each try is told"
    store(world).refusals.clear()
    await advance(world)
    assert world.condition("Deployed")["reason"] == "Starting"


async def test_a_refused_end_of_pods_is_told_and_narrows_all_else() -> None:
    world = await another_running()
    store(world).refusals["Deployment", NAMESPACE] = REFUSALS["webhook"]
    store(world).granted.clear()
    world.skill(suspend=True, egress=[])
    await world.reconcile()
    assert world.reason == "ObjectRefused"
    policy = live(world, "NetworkPolicy")
    assert policy is not None
    assert policy["spec"]["egress"] == []


@pytest.mark.parametrize("namespace", [SETTINGS.namespace, SETTINGS.builder_namespace])
@pytest.mark.parametrize("name", ["operator-prober", "operator-gateway", "operator-controller", NAME])
@pytest.mark.parametrize("spec", [{}, {"suspend": True}, {"description": " "}], ids=["valid", "suspended", "invalid"])
async def test_no_skill_is_made_where_the_operators_own_objects_are(namespace: str, name: str, spec: Object) -> None:
    world = created(tenant_world(), **spec)
    body = world.store.objects.pop(("Skill", NAMESPACE, NAME))
    world.store.put(body | {"metadata": body["metadata"] | {"name": name, "namespace": namespace}})
    own = ("ServiceAccount", namespace, naming.child(name))
    world.store.objects[own] = foreign(own, {naming.MANAGED_BY: "Helm"})
    await world.operators[0].reconciler.reconcile(SkillKey(namespace, name))
    conditions = world.store.objects["Skill", namespace, name]["status"]["conditions"]
    assert {c["reason"] for c in conditions if c["type"] in {"Ready", "Stalled"}} == {"NamespaceReserved"}
    assert store(world).writes == []
    assert world.store.created == []
