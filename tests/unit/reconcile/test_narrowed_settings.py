"""What runs never has more than the installation allows now: a `helm upgrade` that takes away is held as a spec is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from skill_operator import naming, runtime_contract
from skill_operator.reconcile.narrowing import END_SECONDS, REVIEW_SECONDS
from skill_operator.settings import Settings
from tests.unit.generation.world import NAME, NAMESPACE, Object, World
from tests.unit.reconcile.samples import SETTINGS, SOURCE
from tests.unit.reconcile.tenancy import CHILD, another, live, running, store, upgrade
from tests.unit.reconcile.test_archive import archive_token, archived, reports
from tests.unit.reconcile.test_narrowing import STATES, deleted, invalid, pod, suspended, unapproved, valid
from tests.unit.reconcile.test_registry_away import make_ready


def isolation(settings: Settings = SETTINGS, **values: Any) -> Settings:
    return settings.model_copy(update={"isolation": settings.isolation.model_copy(update=values)})


def without_proxy() -> Settings:
    return SETTINGS.model_copy(update={"egress_proxy": SETTINGS.egress_proxy.model_copy(update={"address": ""})})


def pod_specs(world: World) -> Iterator[Object]:
    """Yield the specs of what makes pods, and of pods that have more than seconds."""
    if (deployment := live(world, "Deployment")) is not None:
        yield deployment["spec"]["template"]["spec"]
    for (kind, namespace, _), obj in world.store.objects.items():
        if (kind, namespace) != ("Pod", NAMESPACE) or "status" in obj:  # that of a check
            continue
        if obj["metadata"].get("deletionGracePeriodSeconds", END_SECONDS + 1) > END_SECONDS:
            yield obj["spec"]


def of_class(name: str) -> Callable[[World], bool]:
    return lambda world: any(spec.get("runtimeClassName", "") == name for spec in pod_specs(world))


def unproven(world: World) -> bool:
    optional = runtime_contract.ISOLATION_OPTIONAL
    return any(one.get("value") == optional for s in pod_specs(world) for c in s["containers"] for one in c["env"])


def on_host_users(world: World) -> bool:
    return any(spec.get("hostUsers", True) for spec in pod_specs(world))


def proxy_is_open(world: World) -> bool:
    policy = live(world, "NetworkPolicy")
    return policy is not None and any("podSelector" in to for rule in policy["spec"]["egress"] for to in rule["to"])


def anything_runs(world: World) -> bool:
    return any(True for _ in pod_specs(world))


@dataclass(frozen=True)
class Narrowed:
    """A setting that is narrowed: what it was and is, and whether what runs still has what is gone."""

    name: str
    before: Settings
    after: Settings
    has_excess: Callable[[World], bool]
    reason: str
    spec: dict[str, Any]

    def __str__(self) -> str:
        return self.name


CLASS, TIGHTENED = "RuntimeClassNotAllowed", "IsolationTightened"
GVISOR, BOTH = isolation(runtime_class_name="gvisor"), isolation(runtime_class_names=["gvisor", "runc"])
SETTINGS_TAKEN = [
    Narrowed("a class of the list", BOTH, GVISOR, of_class("runc"), CLASS, {"runtimeClassName": "runc"}),
    Narrowed("the last class", BOTH, SETTINGS, of_class("runc"), CLASS, {"runtimeClassName": "runc"}),
    Narrowed("another default", GVISOR, isolation(runtime_class_name="kata"), of_class("gvisor"), CLASS, {}),
    Narrowed("no default any more", GVISOR, SETTINGS, of_class("gvisor"), CLASS, {}),
    Narrowed("a default where was none", SETTINGS, GVISOR, of_class(""), CLASS, {}),
    Narrowed("a demand of proof", isolation(required=False), SETTINGS, unproven, TIGHTENED, {}),
    Narrowed(
        "a demand of user namespaces",
        isolation(user_namespaces="Never"),
        isolation(user_namespaces="Required"),
        on_host_users,
        TIGHTENED,
        {},
    ),
    Narrowed(
        "the egress proxy",
        SETTINGS,
        without_proxy(),
        proxy_is_open,
        "EgressNarrowed",
        {"egress": [{"host": "api.example.com", "ports": [443]}]},
    ),
    Narrowed(
        "the namespace",
        SETTINGS,
        SETTINGS.model_copy(update={"builder_namespace": NAMESPACE}),
        anything_runs,
        "NamespaceReserved",
        {},
    ),
]
_RUNNING: dict[str, World] = {}


async def running_before(narrowed: Narrowed) -> World:
    """Return a world whose Skill runs by the former settings, without Secrets: no review of these comes to help."""
    if narrowed.name not in _RUNNING:
        spec = {"secrets": [], "egress": []} | narrowed.spec
        _RUNNING[narrowed.name] = await running(narrowed.before, **spec)
    return another(_RUNNING[narrowed.name])


# More states of a Skill, beside those in which it is when a grant ends.


async def asleep(world: World) -> None:
    world.store.objects["Deployment", NAMESPACE, CHILD]["spec"]["replicas"] = 0


async def pinned(world: World) -> None:
    """The revision that runs is pinned, and another spec would be next."""
    world.skill(revision=world.status["revision"], source={"inline": SOURCE + "\n"})
    await world.reconcile()


async def without_registry(world: World) -> None:
    world.knows_base = False


ALL_STATES = [*STATES, asleep, pinned, without_registry]


@pytest.mark.parametrize("state", ALL_STATES, ids=lambda state: state.__name__)
@pytest.mark.parametrize("narrowed", SETTINGS_TAKEN, ids=str)
async def test_one_reconcile_ends_what_the_installation_no_longer_allows(
    narrowed: Narrowed, state: Callable[[World], Any]
) -> None:
    world = await running_before(narrowed)
    await state(world)
    running_pod = pod(world)
    assert narrowed.has_excess(world), "the setting gave nothing that could be taken away"
    upgrade(world, narrowed.after)
    after = await world.reconcile()
    if narrowed.reason in {CLASS, TIGHTENED}:
        assert running_pod["metadata"]["deletionGracePeriodSeconds"] == END_SECONDS
        assert ("ReplicaSet", NAMESPACE, "skill-echo-1") not in world.store.objects, "it makes the pod anew"
        assert after is not None
        assert after <= REVIEW_SECONDS, "a disruption budget may keep the pod"
    if narrowed.reason != "NamespaceReserved":  # such pods end as those of a Skill that is deleted
        assert not narrowed.has_excess(world)
    assert live(world, "Deployment") is None or not narrowed.has_excess(world)
    settled = len(store(world).writes)
    await world.reconcile(2)
    rewritten = [place for place in store(world).writes[settled:] if place[2] == CHILD]
    assert len(rewritten) == len({*rewritten}), "what was narrowed is written again and again"


@pytest.mark.parametrize("state", [valid, suspended, invalid, unapproved], ids=lambda state: state.__name__)
@pytest.mark.parametrize("narrowed", SETTINGS_TAKEN, ids=str)
async def test_what_the_installation_ended_is_told_once_and_says_what_to_do(
    narrowed: Narrowed, state: Callable[[World], Any]
) -> None:
    world = await running_before(narrowed)
    await state(world)
    upgrade(world, narrowed.after)
    world.events.recorded.clear()
    await world.reconcile()
    told = [message for reason, message in world.events.recorded if reason == narrowed.reason]
    assert told, world.events.recorded
    if narrowed.reason == CLASS:
        chosen = world.store.objects["Skill", NAMESPACE, NAME]["spec"].get("runtimeClassName", "")
        assert all(chosen in message and "isolation.runtimeClassName" in message for message in told)
    if narrowed.reason != "EgressNarrowed":
        assert world.condition("Active")["status"] == "False"
    world.events.recorded.clear()
    await world.reconcile(2)
    assert narrowed.reason not in [reason for reason, _ in world.events.recorded]


@pytest.mark.parametrize("narrowed", SETTINGS_TAKEN, ids=str)
async def test_what_is_not_narrowed_runs_on(narrowed: Narrowed) -> None:
    world = await running_before(narrowed)
    before = live(world, "Deployment"), live(world, "NetworkPolicy")
    upgrade(world, narrowed.before)
    await world.reconcile(2)
    assert (live(world, "Deployment"), live(world, "NetworkPolicy")) == before


async def test_a_skill_that_sleeps_stays_asleep_when_its_class_changes() -> None:
    """A new default would wake all Skills of the cluster at once, if each began awake."""
    world = await running_before(SETTINGS_TAKEN[4])
    await asleep(world)
    upgrade(world, GVISOR)
    await world.reconcile(2)
    deployment = live(world, "Deployment")
    assert deployment is not None
    assert deployment["spec"]["replicas"] == 0
    assert deployment["spec"]["template"]["spec"]["runtimeClassName"] == "gvisor"
    assert world.condition("Active")["reason"] == "Asleep"


async def test_a_class_that_comes_back_is_granted_by_the_run_stage() -> None:
    world = await running_before(SETTINGS_TAKEN[0])
    upgrade(world, GVISOR)
    await world.reconcile(2)
    assert live(world, "Deployment") is None
    assert world.reason == "SpecInvalid"
    upgrade(world, BOTH)
    await world.reconcile(2)
    assert of_class("runc")(world)


@pytest.mark.parametrize("where", ["Pod", "Deployment"])
async def test_a_class_that_a_webhook_of_the_cluster_chose_ends_nothing(where: str) -> None:
    world = await running(SETTINGS, secrets=[], egress=[])
    pod(world)
    obj = world.store.objects["Pod", NAMESPACE, "p"] if where == "Pod" else live(world, "Deployment")
    assert obj is not None
    spec = obj["spec"] if where == "Pod" else obj["spec"]["template"]["spec"]
    spec["runtimeClassName"] = "sandboxed"
    await world.reconcile()
    assert live(world, "Deployment") is not None
    assert "deletionTimestamp" not in world.store.objects["Pod", NAMESPACE, "p"]["metadata"]


@pytest.mark.parametrize("after", [BOTH, GVISOR, SETTINGS], ids=["allowed", "another default", "no default"])
async def test_pods_of_an_earlier_version_end_unless_their_class_is_allowed(after: Settings) -> None:
    """They do not say which class was chosen for them."""
    world = await running_before(SETTINGS_TAKEN[0])
    template = world.store.objects["Deployment", NAMESPACE, CHILD]["spec"]["template"]
    del template["metadata"]["annotations"][naming.RUNTIME_CLASS_ANNOTATION]
    old = pod(world)
    await suspended(world)
    allowed = after is BOTH
    upgrade(world, after)
    await world.reconcile()
    assert (live(world, "Deployment") is not None) == allowed
    assert ("deletionGracePeriodSeconds" in old["metadata"]) != allowed


async def test_pods_of_an_earlier_version_by_the_default_class_outlive_the_upgrade_to_this_one() -> None:
    world = await running_before(SETTINGS_TAKEN[2])
    template = world.store.objects["Deployment", NAMESPACE, CHILD]["spec"]["template"]
    del template["metadata"]["annotations"][naming.RUNTIME_CLASS_ANNOTATION]
    old = pod(world)
    await suspended(world)
    await world.reconcile()
    assert live(world, "Deployment") is not None
    assert "deletionTimestamp" not in old["metadata"]


async def test_what_is_archived_does_not_come_back_by_a_class_that_is_gone() -> None:
    world = World(BOTH)
    world.skill(source={"inline": SOURCE}, archiveAfterSeconds=600, runtimeClassName="runc")
    await make_ready(world)
    await world.reconcile(2)
    await archived(world)
    upgrade(world, GVISOR)
    reports(world, archive_token(world))
    await world.reconcile(3)
    assert live(world, "Deployment") is None
    assert world.reason == "SpecInvalid"


@pytest.mark.parametrize("state", ALL_STATES, ids=lambda state: state.__name__)
async def test_what_isolates_the_namespace_follows_the_settings_while_anything_runs(
    state: Callable[[World], Any],
) -> None:
    """What runs may be scaled up meanwhile, and others may have changed the policy."""
    world = await running(SETTINGS, secrets=[], egress=[])
    await state(world)
    if state is deleted:
        return
    policy = world.store.objects["NetworkPolicy", NAMESPACE, naming.SHARED_POLICY]
    policy["spec"]["egress"] = [{}]
    upgrade(world, isolation(namespace_pods=7))
    await world.reconcile()
    assert world.store.objects["NetworkPolicy", NAMESPACE, naming.SHARED_POLICY]["spec"]["egress"] == []
    assert world.store.objects["ResourceQuota", NAMESPACE, naming.SHARED_QUOTA]["spec"]["hard"]["pods"] == "7"


# Of every setting somebody has thought what becomes of it in what runs.

ENDED = "what runs is held against it in every reconcile (the tests above)"
FOLLOWED = "the object that it shapes is written in every reconcile while anything runs"
BLOCKED = "the live policy is narrowed by it in every reconcile (test_narrowing.py)"
AT_START = "the process reads it at its start, and nothing that runs has it"
NEXT_JOB = "of Jobs, which end by their own deadline"
ROLLED = "it is no grant: pods keep it until the run stage writes their Deployment anew (documented)"
KEPT = "who is served: where the operator has no rights any more it can end nothing (documented)"
THOUGHT_OF = {
    "namespace": ENDED,
    "builder_namespace": ENDED,
    "watch_namespaces": KEPT,
    "registry": ROLLED,
    "images": ROLLED,
    "models": AT_START,
    "gateway_url": AT_START,
    "gateway_labels": ROLLED,
    "gateway": AT_START,
    "egress_proxy": ENDED,
    "registry_labels": AT_START,
    "registry_cidrs": AT_START,
    "priority_class_name": ROLLED,
    "generation": AT_START,
    "check": NEXT_JOB,
    "build": NEXT_JOB,
    "isolation.required": ENDED,
    "isolation.user_namespaces": ENDED,
    "isolation.runtime_class_name": ENDED,
    "isolation.runtime_class_names": ENDED,
    "isolation.cluster_cidrs": BLOCKED,
    "isolation.beacon": ROLLED,
    "isolation.prober": AT_START,
    "isolation.namespace_pods": FOLLOWED,
    "isolation.namespace_cpu": FOLLOWED,
    "isolation.namespace_memory": FOLLOWED,
    "workers": AT_START,
    "resync_seconds": AT_START,
    "lease_seconds": AT_START,
    "listen_port": AT_START,
    "beacon_port": AT_START,
    "judge_port": AT_START,
    "usage_port": AT_START,
    "health_port": AT_START,
    "log_level": AT_START,
}


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if name == "isolation" and isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _fields(inner, f"{name}.")
        else:
            yield prefix + name


def test_of_every_setting_it_is_known_what_becomes_of_it_in_what_runs() -> None:
    assert {*_fields(Settings)} == THOUGHT_OF.keys()
