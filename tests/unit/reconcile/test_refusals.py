"""Whatever refuses whichever write, the Skill tells it once, nothing runs unisolated, and all goes on by itself."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from skill_operator.k8s.errors import ClusterError, Conflict, Forbidden, Invalid, NotFound, TooManyRequests, Unavailable
from skill_operator.reconcile.reconciler import MAX_REFUSAL_RETRY_SECONDS, MIN_REFUSAL_RETRY_SECONDS
from skill_operator.reconcile.refusals import ENDING_RETRY_SECONDS, QUICK_RETRY_SECONDS, equal_words
from tests.unit.generation.world import NAME, NAMESPACE, Object, World
from tests.unit.reconcile.samples import SETTINGS, SOURCE
from tests.unit.reconcile.tenancy import (
    CHILD,
    TenantStore,
    advance,
    another_running,
    live,
    running,
    store,
    tenant_world,
)

BUILDS = SETTINGS.builder_namespace
TARGETS = [
    ("ConfigMap", NAMESPACE), ("Deployment", NAMESPACE), ("Job", NAMESPACE), ("NetworkPolicy", NAMESPACE),
    ("ResourceQuota", NAMESPACE), ("Service", NAMESPACE), ("ServiceAccount", NAMESPACE),
    ("ConfigMap", BUILDS), ("Job", BUILDS),
]  # fmt: skip
# Words of real API servers, webhooks and policy engines.
LASTING = {
    "object quota": Forbidden('configmaps "x" is forbidden: exceeded quota: tenant, requested: configmaps=1', 403),
    "rights": Forbidden('jobs.batch is forbidden: User "system:serviceaccount:a:b" cannot create resource "jobs"', 403),
    "kyverno": Forbidden('admission webhook "validate.kyverno.svc-fail" denied the request: require-team-label', 403),
    "webhook": Forbidden('admission webhook "validation.example" denied the request: [owner] missing', 403),
    "policy": Invalid("ValidatingAdmissionPolicy 'team' with binding 'b' denied request: name a team", 422),
    "schema": Invalid('Deployment.apps "skill-x" is invalid: spec.selector: field is immutable', 422),
    "size": Invalid("Request entity too large: limit is 3145728", 413),
    "method": Invalid("the server does not allow this method on the requested resource", 405),
    "kind": NotFound("the server could not find the requested resource", 404),
}
PASSING = {
    "quota conflict": Conflict(
        'Operation cannot be fulfilled on resourcequotas "t": the object has been modified', 409
    ),
    "rate": TooManyRequests("the server has received too many requests and has asked us to try again later", 429),
    "webhook down": Unavailable('Internal error occurred: failed calling webhook "v.example": connection refused', 500),
    "webhook slow": Unavailable('failed calling webhook "v.example": context deadline exceeded', 504),
    "aggregated": Unavailable("the server is currently unable to handle the request", 503),
}
REFUSALS = LASTING | PASSING


class PolicyStore(TenantStore):
    """The store of a cluster that counts requests, and whose webhooks change what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.refused_status: ClusterError | None = None
        self.widens = False

    async def get(self, kind: str, namespace: str | None, name: str) -> Object | None:
        self.reads += 1
        return await super().get(kind, namespace, name)

    async def list(self, *arguments: Any) -> list[Object]:
        self.reads += 1
        return await super().list(*arguments)

    async def apply_status(self, obj: Object) -> Object:
        self.writes.append(("status", NAMESPACE, NAME))
        if self.refused_status is not None:
            raise self.refused_status
        return await super().apply_status(obj)

    async def apply(self, obj: Object) -> Object:
        if self.widens and obj["kind"] == "NetworkPolicy":
            everything = {"to": [{"namespaceSelector": {}}]}
            obj = copy.deepcopy(obj)
            obj["spec"].setdefault("egress", []).append(everything)
        return await super().apply(obj)


def policy_world(**spec: Any) -> World:
    world = tenant_world()
    world.store = PolicyStore()
    world.operators = [world.operator()]
    world.skill(**({"source": {"inline": SOURCE}} | spec))
    return world


def policies(world: World) -> PolicyStore:
    assert isinstance(world.store, PolicyStore)
    return world.store


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("target", TARGETS, ids="/".join)
async def test_a_refusal_is_told_once_in_its_own_words_and_gone_on_from(
    target: tuple[str, str], refusal: ClusterError
) -> None:
    world = policy_world()
    store(world).refusals[target] = refusal
    await advance(world)
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ObjectRefused"), world.status
    assert refusal.message in ready["message"]
    assert f"the cluster refuses {target[0]} {target[1]}/" in ready["message"]
    assert world.condition("Reconciling")["reason"] == "ObjectRefused", "it goes on by itself"
    assert [reason for reason, _ in world.events.recorded].count("ObjectRefused") == 1
    written = dict(world.store.objects)
    events = len(world.events.recorded)
    await world.reconcile(3)
    assert world.store.objects == written
    assert len(world.events.recorded) == events
    store(world).refusals.clear()
    await advance(world)
    assert world.condition("Deployed")["reason"] == "Starting", world.status


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("target", TARGETS, ids="/".join)
async def test_what_runs_stays_whatever_of_its_successor_is_refused(
    target: tuple[str, str], refusal: ClusterError
) -> None:
    world = await another_running()
    before = {kind: live(world, kind) for kind in ("Deployment", "NetworkPolicy", "Service", "ServiceAccount")}
    store(world).refusals[target] = refusal
    world.skill(source={"inline": SOURCE.replace("said", "told")}, output={"type": "object", "minProperties": 1})
    await advance(world)
    after = {kind: live(world, kind) for kind in before}
    assert {kind for kind, obj in after.items() if obj is None} == set()
    assert after["Deployment"] is not None
    assert before["Deployment"] is not None
    if target[0] != "Deployment":
        return
    assert after["Deployment"]["spec"] == before["Deployment"]["spec"]


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
async def test_no_pod_is_made_while_a_policy_is_refused(refusal: ClusterError) -> None:
    world = policy_world()
    store(world).refusals["NetworkPolicy", NAMESPACE] = refusal
    await advance(world)
    assert {kind for kind, _, _ in world.store.objects} == {"Skill"}


async def test_no_pod_is_made_behind_a_policy_that_a_webhook_widens() -> None:
    world = policy_world()
    policies(world).widens = True
    await advance(world)
    assert world.reason == "ObjectRefused"
    assert (
        "says more than the operator writes, so that it would let more in or out" in world.condition("Ready")["message"]
    )
    assert {kind for kind, _, _ in world.store.objects} == {"Skill", "NetworkPolicy"}
    policies(world).widens = False
    await advance(world)
    assert world.condition("Deployed")["reason"] == "Starting"


@pytest.mark.parametrize("refusal", PASSING.values(), ids=PASSING)
@pytest.mark.parametrize("target", TARGETS, ids="/".join)
async def test_what_is_over_at_once_is_told_nobody(target: tuple[str, str], refusal: ClusterError) -> None:
    world = policy_world()
    for _ in range(8):
        store(world).refusals[target] = refusal
        after = await world.reconcile()
        store(world).refusals.clear()
        if after in QUICK_RETRY_SECONDS:
            break
        await advance_once(world)
    assert "ObjectRefused" not in [reason for reason, _ in world.events.recorded]
    await advance(world)
    assert world.condition("Deployed")["reason"] == "Starting"


async def advance_once(world: World) -> None:
    await world.reconcile()
    if world.check() is not None:
        world.verdict(passed=True)


@pytest.mark.parametrize(("asked", "after"), [(2, 60), (30, 60), (90, 90), (10_000, 600)])
async def test_a_server_that_asks_for_time_gets_it(asked: float, after: float) -> None:
    world = policy_world()
    refusal = TooManyRequests("later", 429)
    refusal.retry_after = asked
    store(world).refusals["ConfigMap", NAMESPACE] = refusal
    for _ in range(3):
        told = await world.reconcile()
    assert told == after


class Clock:
    """A clock of the hour in which a refusal lasts: it stands still but for what the test waits."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def at_leisure(world: World) -> Clock:
    clock = Clock()
    world.operators[0].reconciler.hold_refused_writes(clock)
    return clock


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("target", TARGETS, ids="/".join)
async def test_a_refused_skill_is_at_most_one_write_and_twelve_reads_a_minute(
    target: tuple[str, str], refusal: ClusterError
) -> None:
    world = policy_world()
    clock = at_leisure(world)
    store(world).refusals[target] = refusal
    await advance(world)
    assert world.reason == "ObjectRefused"
    counted, chance = policies(world), random.Random(str(target))
    due = MIN_REFUSAL_RETRY_SECONDS
    counted.writes.clear()
    counted.reads = 0
    minutes = 6
    while clock.seconds < 60 * minutes:
        clock.seconds, world.now = clock.seconds + due, world.now + timedelta(seconds=due)
        after = await world.reconcile()
        assert after is not None
        assert after <= MAX_REFUSAL_RETRY_SECONDS
        due = after
        if chance.random() < 0.3:  # an event of something else
            writes = len(counted.writes)
            reads = counted.reads
            again = await world.reconcile()
            assert again == pytest.approx(after, abs=1)
            assert len(counted.writes) == writes, "an event makes it try again"
            counted.reads = reads
    assert len(counted.writes) <= minutes
    assert counted.reads <= 12 * minutes
    store(world).refusals.clear()
    clock.seconds, world.now = clock.seconds + due, world.now + timedelta(seconds=due)
    await advance(world)
    assert world.condition("Deployed")["reason"] == "Starting"


async def test_a_changed_spec_is_tried_at_once() -> None:
    world = policy_world()
    at_leisure(world)
    store(world).refusals["Job", NAMESPACE] = LASTING["kyverno"]
    await advance(world)
    store(world).refusals.clear()
    await world.reconcile()
    assert world.reason == "ObjectRefused", "it is not due"
    world.skill(source={"inline": SOURCE + "\n"})
    await advance(world)
    assert world.condition("Deployed")["reason"] == "Starting"


STATUS_REFUSALS = {name: refusal for name, refusal in REFUSALS.items() if not isinstance(refusal, NotFound)}


@pytest.mark.parametrize("refusal", STATUS_REFUSALS.values(), ids=STATUS_REFUSALS)
async def test_a_refused_status_is_told_by_one_event(refusal: ClusterError) -> None:
    world = policy_world()
    clock = at_leisure(world)
    policies(world).refused_status = refusal
    await world.reconcile(len(QUICK_RETRY_SECONDS) + 1)
    ((reason, message),) = world.events.recorded
    assert reason == "ObjectRefused"
    assert refusal.message in message
    policies(world).writes.clear()
    for _ in range(10):
        assert await world.reconcile() == pytest.approx(MIN_REFUSAL_RETRY_SECONDS, abs=1)
    assert ("status", NAMESPACE, NAME) not in policies(world).writes
    clock.seconds += MIN_REFUSAL_RETRY_SECONDS
    assert await world.reconcile() == MIN_REFUSAL_RETRY_SECONDS
    assert len(world.events.recorded) == 1
    policies(world).refused_status = None
    clock.seconds += MIN_REFUSAL_RETRY_SECONDS
    await world.reconcile()
    assert world.status


ENDING = {
    "ends": Forbidden('x is forbidden: unable to create new content in namespace team because it is being terminated', 403),
    "ended": NotFound('namespaces "team" not found', 404),
}  # fmt: skip


@pytest.mark.parametrize("refusal", ENDING.values(), ids=ENDING)
@pytest.mark.parametrize("target", [target for target in TARGETS if target[1] == NAMESPACE], ids="/".join)
async def test_a_namespace_ends_without_a_word(target: tuple[str, str], refusal: ClusterError) -> None:
    world = policy_world()
    store(world).refusals[target] = refusal
    await advance(world)
    told = [c for c in world.status.get("conditions", []) if c["reason"] == "ObjectRefused"]
    assert (told, [r for r, _ in world.events.recorded if r == "ObjectRefused"]) == ([], [])
    assert await world.reconcile() == ENDING_RETRY_SECONDS


async def test_the_end_of_the_builders_namespace_is_told() -> None:
    world = policy_world()
    words = f"unable to create new content in namespace {BUILDS} because it is being terminated"
    store(world).refusals["ConfigMap", BUILDS] = Forbidden(words, 403)
    await advance(world)
    assert words in world.condition("Ready")["message"]


@pytest.mark.parametrize("error", [LASTING["rights"], LASTING["method"]], ids=["403", "405"])
@pytest.mark.parametrize("kind", [*sorted({kind for kind, _ in TARGETS}), "Pod"])
async def test_a_refused_read_is_told(kind: str, error: ClusterError) -> None:
    world = policy_world()
    real_get, real_list = world.store.get, world.store.list

    async def refuse(requested: str, real: Any, *arguments: Any) -> Any:
        if requested == kind:
            raise error
        return await real(requested, *arguments)

    setattr(world.store, "get", lambda kind, *more: refuse(kind, real_get, *more))  # noqa: B010
    setattr(world.store, "list", lambda kind, *more: refuse(kind, real_list, *more))  # noqa: B010
    await advance(world)
    assert world.reason == "ObjectRefused"
    assert error.message in world.condition("Ready")["message"]
    assert await world.reconcile(3) == MIN_REFUSAL_RETRY_SECONDS
    assert [reason for reason, _ in world.events.recorded].count("ObjectRefused") == 1


@pytest.mark.parametrize("refusal", STATUS_REFUSALS.values(), ids=STATUS_REFUSALS)
async def test_a_refused_deletion_is_told_by_one_event(refusal: ClusterError) -> None:
    world = await another_running(secrets=[], egress=[])
    skill = world.store.objects["Skill", NAMESPACE, NAME]
    skill["metadata"] |= {"deletionTimestamp": "2030-01-01T12:00:00Z", "finalizers": ["example.com/mine"]}
    store(world).refusals["Deployment", NAMESPACE] = refusal
    for _ in range(6):
        after = await world.reconcile()
    assert after == MIN_REFUSAL_RETRY_SECONDS
    ((reason, message),) = world.events.recorded
    assert reason == "ObjectRefused"
    assert refusal.message in message
    store(world).refusals.clear()
    await world.reconcile()
    assert live(world, "Deployment") is None


@pytest.mark.parametrize(
    "words", ["denied: " + "x" * 5000, "denied\n\x1b[31m\u202e" + "y " * 3000], ids=["long", "hostile"]
)
async def test_what_to_do_is_said_after_words_of_any_length(words: str) -> None:
    world = policy_world()
    store(world).refusals["ConfigMap", NAMESPACE] = Forbidden(words, 403)
    await world.reconcile()
    message = world.condition("Ready")["message"]
    assert message.isprintable()
    assert "change the policy, or exempt" in message
    assert len(message) < 1024


async def test_a_grant_is_reviewed_in_time_whatever_is_refused() -> None:
    """Its pods have the rest of a minute to end in."""
    world = tenant_world()
    world.store = PolicyStore()
    world.operators = [world.operator()]
    world.store.objects = copy.deepcopy((await running()).store.objects)
    for target in (*TARGETS, ("status", "")):
        store(world).refusals = {target: LASTING["kyverno"]}
        policies(world).refused_status = LASTING["kyverno"] if target == ("status", "") else None
        world.skill(description=f"Says what it is told, with {target[0]}.")
        after = await world.reconcile(3)
        assert after is not None
        assert after <= 45, target


async def test_an_api_server_that_is_away_refuses_nothing() -> None:
    world = policy_world()
    store(world).refusals["ConfigMap", NAMESPACE] = Unavailable("the API server does not answer: timeout")
    with pytest.raises(Unavailable):
        await world.reconcile(3)
    assert world.events.recorded == []


async def test_a_patch_that_a_policy_denies_is_told() -> None:
    """A JSON Patch whose test failed is 422 too, and nobody's business."""
    world = await another_running(secrets=[], egress=[])

    async def patch(*_: Any) -> None:
        raise LASTING["policy"]

    setattr(world.store, "patch", patch)  # noqa: B010
    deployment = world.store.objects["Deployment", NAMESPACE, CHILD]
    deployment["spec"]["replicas"] = 2
    deployment["metadata"].setdefault("annotations", {})["skill-operator.dev/draining"] = (
        "2030-01-01T12:00:00.000+00:00"
    )
    pod_meta = copy.deepcopy(deployment["spec"]["template"]["metadata"]) | {"name": "p", "namespace": NAMESPACE}
    status = {"conditions": [{"type": "Ready", "status": "True"}], "podIP": "10.0.0.1"}
    world.store.put({"kind": "Pod", "metadata": pod_meta, "spec": {}, "status": status})
    after = await world.reconcile()
    assert world.reason == "ObjectRefused", world.status
    assert after == MIN_REFUSAL_RETRY_SECONDS


def _numbered(chance: random.Random) -> Iterator[str]:
    """Yield words as API servers count, stamp and name requests."""
    for _ in range(50):
        n, port = chance.randrange(1000), chance.randrange(30_000, 60_000)
        yield (
            f'admission webhook "a.b" denied the request {chance.getrandbits(64):016x} at 2030-01-01T12:{n % 60:02}:00Z: '
            f"exceeded quota: used: pods={n}; dial tcp 10.0.0.{n % 250}:{port}: i/o timeout after {n}ms"
        )


def test_words_that_differ_by_numbers_alone_are_equal() -> None:
    words = list(_numbered(random.Random(14)))
    assert all(equal_words(words[0], other) for other in words)
    assert not equal_words("exceeded quota: tenant", "denied by team")
    assert all(not equal_words(re.sub("quota", "limit", words[0]), other) for other in words)
