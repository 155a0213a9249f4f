"""What runs never has more than what is granted now, whatever the spec says beside."""

from __future__ import annotations

import asyncio
import contextlib
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from ipaddress import ip_address, ip_network
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_operator import naming
from skill_operator.api.egress_networks import block
from skill_operator.isolation.monitor import IsolationVerdict
from skill_operator.k8s.errors import ClusterError, TooMuch, Unavailable
from skill_operator.k8s.interface import UNREADABLE
from skill_operator.reconcile.foreign_policies import read_policies
from skill_operator.reconcile.narrowing import END_SECONDS, REVIEW_SECONDS
from skill_operator.resources.network_policy import narrowed_policy, skill_policy
from tests.unit.generation.world import NAME, NAMESPACE, Object, World
from tests.unit.reconcile.samples import SETTINGS, SOURCE, skill
from tests.unit.reconcile.tenancy import (
    CHILD,
    EGRESS,
    SECRETS,
    advance,
    another,
    another_running,
    ending,
    live,
    running,
    store,
    tenant_world,
)

NEWER = SOURCE.replace("what", "WHAT")
DOUBT = IsolationVerdict("Unknown", "ProberSilent", "the prober does not answer")


# What the spec says beside. Each gets the world there from one where the Skill runs.


async def valid(world: World) -> None:
    """All goes well."""


async def suspended(world: World) -> None:
    world.skill(suspend=True)


async def invalid(world: World) -> None:
    world.skill(description="   ")


async def unreadable(world: World) -> None:
    world.skill(callTimeoutSeconds="soon")


async def refused(world: World) -> None:
    world.skill(source={"inline": NEWER})
    await world.reconcile()
    world.verdict(passed=False, gate="ruff", message="F821")
    await world.reconcile()


async def checked(world: World) -> None:
    world.skill(source={"inline": NEWER})
    await world.reconcile()


async def unapproved(world: World) -> None:
    world.skill(source={"inline": NEWER}, review="Manual")
    await world.reconcile()
    world.verdict(passed=True)
    await world.reconcile()


async def unwritten(world: World) -> None:
    world.skill(source=None)


async def never_granted(world: World) -> None:
    world.skill(egress=[*EGRESS, {"cidr": "169.254.0.0/16", "ports": [80]}])


async def deleted(world: World) -> None:
    body = world.store.objects["Skill", NAMESPACE, NAME]
    kept = {"deletionTimestamp": "2030-01-01T12:00:00Z", "finalizers": ["example.com/mine"]}
    world.store.put(body | {"metadata": body["metadata"] | kept})


STATES = [valid, suspended, invalid, unreadable, refused, checked, unapproved, unwritten, never_granted, deleted]


# What is taken away.


def nothing(world: World) -> None:
    """All rights stay."""


def grant(world: World) -> None:
    store(world).granted.clear()


def secret(world: World) -> None:
    world.skill(secrets=[])


def key(world: World) -> None:
    world.skill(secrets=[SECRETS[0] | {"secretKeyRef": {"name": "billing", "key": "another"}}])


def egress(world: World) -> None:
    world.skill(egress=[])


def some_egress(world: World) -> None:
    world.skill(egress=[{"cidr": "203.0.113.0/25", "ports": [443]}, {"cidr": "192.0.2.0/24", "ports": [443]}])


def ports(world: World) -> None:
    world.skill(egress=[grant | {"ports": [8443]} for grant in EGRESS])


def network(world: World) -> None:
    world.blocked = block("the node two", "203.0.113.7")


def proof(world: World) -> None:
    world.isolation = DOUBT


RIGHTS = [grant, secret, key, egress, some_egress, ports, network, proof]


def opens(policy: Object, address: str, port: int) -> bool:
    """Return whether a policy of the operator's lets this out."""
    return any(
        ip_address(address) in ip_network(peer["ipBlock"]["cidr"])
        and not any(ip_address(address) in ip_network(one) for one in peer["ipBlock"].get("except", ()))
        and any(port == one["port"] for one in rule["ports"])
        for rule in policy["spec"].get("egress") or ()
        for peer in rule["to"]
    )


PROBES = [*product(("203.0.113.1", "203.0.113.7", "203.0.113.200", "198.51.100.1", "192.0.2.1"), (443, 8443, 80))]


def excess(world: World) -> Iterator[Any]:
    """Yield what the live objects give that nothing grants."""
    body = world.store.objects["Skill", NAMESPACE, NAME]
    gone = "deletionTimestamp" in body["metadata"] or body["spec"].get("callTimeoutSeconds") == "soon"
    secrets = [] if gone else [s["secretKeyRef"] for s in body["spec"].get("secrets", ())]
    granted = {(ref["name"], ref["key"]) for ref in secrets if ref["name"] in store(world).granted}
    deployment = live(world, "Deployment")
    for volume in deployment["spec"]["template"]["spec"]["volumes"] if deployment is not None else ():
        for source in volume.get("projected", {}).get("sources", ()):
            item = (source["secret"]["name"], source["secret"]["items"][0]["key"])
            if item not in granted:
                yield item
    ways = [] if gone else body["spec"].get("egress", ())
    policy = live(world, "NetworkPolicy")
    assert policy is not None
    for address, port in PROBES:
        blocked = any(ip_address(address) in one.network for one in world.blocked)
        named = any(ip_address(address) in ip_network(way["cidr"]) and port in way["ports"] for way in ways)
        if opens(policy, address, port) and (blocked or not named):
            yield address, port


@pytest.fixture(scope="module")
def runs() -> World:
    return asyncio.run(running())


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
@pytest.mark.parametrize("right", RIGHTS, ids=lambda right: right.__name__)
async def test_one_reconcile_takes_away_what_is_not_granted_any_more(
    runs: World, state: Callable[[World], Any], right: Callable[[World], None]
) -> None:
    world = another(runs)
    await state(world)
    right(world)
    await world.reconcile()
    assert [*excess(world)] == []
    settled = len(store(world).writes)
    await world.reconcile()
    await world.reconcile()
    assert [*excess(world)] == []
    rewritten = [place for place in store(world).writes[settled:] if place[2] == CHILD]
    assert len(rewritten) == len({*rewritten}), "what was narrowed is written again and again"


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
async def test_nothing_is_taken_away_without_need(runs: World, state: Callable[[World], Any]) -> None:
    world = another(runs)
    await state(world)
    deployment, policy = live(world, "Deployment"), live(world, "NetworkPolicy")
    await world.reconcile()
    if state is deleted:
        assert live(world, "Deployment") is None
    elif state is not unreadable:
        assert (live(world, "Deployment"), live(world, "NetworkPolicy")) == (deployment, policy)


@pytest.mark.parametrize("state", STATES[:-1], ids=lambda state: state.__name__)
async def test_the_end_of_a_grant_is_looked_for_within_a_minute(runs: World, state: Callable[[World], Any]) -> None:
    world = another(runs)
    await state(world)
    if state is unreadable:
        return
    after = await world.reconcile()
    assert after is not None
    assert after <= REVIEW_SECONDS < 60
    assert store(world).reviewed[-1] == "billing"


@pytest.mark.parametrize("state", [suspended, invalid, refused], ids=lambda state: state.__name__)
async def test_what_was_ended_is_told(runs: World, state: Callable[[World], Any]) -> None:
    world = another(runs)
    await state(world)
    grant(world)
    await world.reconcile()
    assert world.condition("Deployed")["reason"] == "SecretNotGranted"
    assert "kubectl create rolebinding" in world.condition("Deployed")["message"]
    assert world.condition("Active")["status"] == "False"
    secret_named = world.reason
    await world.reconcile()
    assert world.condition("Deployed")["reason"] == "SecretNotGranted"
    assert state is refused or world.reason == secret_named


async def test_a_suspended_skill_is_told_that_its_isolation_is_in_doubt_and_when_it_is_not(runs: World) -> None:
    world = another(runs)
    await suspended(world)
    world.isolation = DOUBT
    await world.reconcile()
    assert world.condition("Isolated")["reason"] == "ProberSilent"
    assert world.reason == "Suspended"
    world.isolation = runs.isolation
    await world.reconcile()
    assert world.condition("Isolated")["reason"] == "EgressRefused"


async def test_a_narrowed_policy_is_told_once(runs: World) -> None:
    world = another(runs)
    world.skill(egress=[], suspend=True)
    await world.reconcile(3)
    assert [reason for reason, _ in world.events.recorded].count("EgressNarrowed") == 1


async def test_without_secrets_and_ways_out_nothing_is_asked_or_scheduled(runs: World) -> None:
    world = await running(secrets=[], egress=[])
    world.skill(suspend=True)
    assert await world.reconcile() is None
    assert store(world).reviewed == []


NAMED = {"name": "vault"}
WAYS_TO_HOLD: list[Object] = [
    {"volumes": [{"name": "v", "secret": {"secretName": "vault"}}]},
    {"volumes": [{"name": "v", "secret": {"secretName": "vault", "items": [{"key": "a", "path": "b"}]}}]},
    {"volumes": [{"name": "v", "projected": {"sources": [{"secret": NAMED}]}}]},
    {"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "billing"}}]}}]},
    {"volumes": [{"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": NAMED}}]},
    {"volumes": [{"name": "v", "cephfs": {"monitors": [], "secretRef": NAMED}}]},
    {"volumes": [{"name": "v", "azureFile": {"secretName": "vault", "shareName": "s"}}]},
    *(
        {kind: [{"name": "c", **env}]}
        for kind in ("containers", "initContainers", "ephemeralContainers")
        for env in (
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": NAMED | {"key": "a"}}}]},
            {"envFrom": [{"secretRef": NAMED}]},
        )
    ),
]


@pytest.mark.parametrize("way", WAYS_TO_HOLD, ids=str)
@pytest.mark.parametrize("holder", ["Deployment", "Pod"])
async def test_a_secret_is_found_however_it_is_held(runs: World, way: Object, holder: str) -> None:
    world = another(runs)
    await suspended(world)
    if holder == "Pod":
        older = pod(world, way)
        await world.reconcile()
        assert older["metadata"]["deletionGracePeriodSeconds"] == END_SECONDS
        assert live(world, "Deployment") is not None, "its pods hold what is granted"
    else:
        world.store.objects["Deployment", NAMESPACE, CHILD]["spec"]["template"]["spec"] |= way
        await world.reconcile()
        assert live(world, "Deployment") is None


OPEN = [SECRETS[0] | {"disclosure": "Allowed"}]


def discloses(owner: Object | LivePod | None) -> bool:
    """Return whether answers of these pods may carry a Secret."""
    return owner is not None and naming.OPEN_SECRETS_ANNOTATION in owner["metadata"].get("annotations", {})


def template(world: World) -> Object | None:
    deployment = live(world, "Deployment")
    return None if deployment is None else deployment["spec"]["template"]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
async def test_a_disclosure_that_is_taken_back_ends_with_one_reconcile(state: Callable[[World], Any]) -> None:
    world = await another_running(secrets=OPEN)
    running_pod = pod(
        world,
        annotations=world.store.objects["Deployment", NAMESPACE, CHILD]["spec"]["template"]["metadata"]["annotations"],
    )
    assert discloses(template(world))
    await state(world)
    world.skill(secrets=SECRETS)
    await world.reconcile()
    assert not discloses(template(world))
    assert running_pod["metadata"]["deletionGracePeriodSeconds"] == END_SECONDS
    assert ("ReplicaSet", NAMESPACE, "skill-echo-1") not in world.store.objects, "it makes the pod anew"


@pytest.mark.parametrize("state", [valid, suspended, invalid, refused, unapproved], ids=lambda state: state.__name__)
async def test_a_disclosure_that_stays_ends_nothing(state: Callable[[World], Any]) -> None:
    world = await another_running(secrets=OPEN)
    await state(world)
    before = live(world, "Deployment")
    await world.reconcile()
    assert live(world, "Deployment") == before


async def test_a_disclosure_that_is_given_waits_for_the_run_stage() -> None:
    world = await another_running()
    await invalid(world)
    world.skill(secrets=OPEN)
    before = live(world, "Deployment")
    await world.reconcile()
    assert live(world, "Deployment") == before
    assert not discloses(template(world))


async def test_a_disclosure_is_of_a_secret_and_not_of_the_name_of_its_file() -> None:
    """Two files change places: what was closed must not be given out under the name of what was open."""
    world = tenant_world()
    store(world).granted.add("payroll")
    keys = [{"name": "billing", "key": "token"}, {"name": "payroll", "key": "token"}]
    files = [{"name": "a", "disclosure": "Allowed"}, {"name": "b"}]
    world.skill(
        source={"inline": SOURCE},
        egress=[],
        secrets=[file | {"secretKeyRef": key} for file, key in zip(files, keys, strict=True)],
    )
    await advance(world)
    assert discloses(template(world))
    world.skill(secrets=[file | {"secretKeyRef": key} for file, key in zip(files, keys[::-1], strict=True)])
    await suspended(world)
    await world.reconcile()
    assert live(world, "Deployment") is None


@pytest.mark.parametrize("state", [suspended, invalid], ids=lambda state: state.__name__)
async def test_the_end_of_a_disclosure_is_told(state: Callable[[World], Any]) -> None:
    world = await another_running(secrets=OPEN)
    await state(world)
    world.skill(secrets=SECRETS)
    await world.reconcile()
    assert world.condition("Deployed")["message"] == "spec.secrets no longer lets answers carry Secret billing"
    assert world.condition("Active")["status"] == "False"


class LivePod:
    """A pod of the Skill, of a ReplicaSet: read again each time."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name

    def __getitem__(self, key: str) -> Any:
        return self._world.store.objects["Pod", NAMESPACE, self._name][key]


def pod(world: World, spec: Object | None = None, **meta: Any) -> LivePod:
    """Add a pod of the Skill, as its Deployment makes them, or of another spec."""
    template = world.store.objects["Deployment", NAMESPACE, CHILD]["spec"]["template"]
    owner = {"kind": "ReplicaSet", "name": "skill-echo-1", "uid": "uid-of-skill-echo-1", "controller": True}
    foreign = {"kind": "ReplicaSet", "name": "shop-1", "uid": "uid-of-shop-1"}
    place = {"namespace": NAMESPACE, "name": "skill-echo-1"}
    world.store.put({"kind": "ReplicaSet", "metadata": place | {"uid": owner["uid"]}})
    world.store.put(
        {"kind": "ReplicaSet", "metadata": {"namespace": NAMESPACE, "name": "shop-1", "uid": foreign["uid"]}}
    )
    made = {"name": "p", "uid": "uid-of-p", **template["metadata"]}
    found = place | made | meta
    whole = {"terminationGracePeriodSeconds": 3607, **(spec or template["spec"])}
    world.store.put({"kind": "Pod", "metadata": found | {"ownerReferences": [owner, foreign]}, "spec": whole})
    return LivePod(world, "p")


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
async def test_a_pod_that_loses_a_secret_has_seconds_however_long_its_calls_take(
    runs: World, state: Callable[[World], Any]
) -> None:
    world = another(runs)
    await state(world)
    running_pod = pod(world)
    grant(world)
    await world.reconcile()
    assert running_pod["metadata"]["deletionGracePeriodSeconds"] == END_SECONDS
    assert ("ReplicaSet", NAMESPACE, "skill-echo-1") not in world.store.objects, "it makes the pod anew"
    assert ("ReplicaSet", NAMESPACE, "shop-1") in world.store.objects, "whoever may write pods may add owners"
    assert REVIEW_SECONDS + END_SECONDS < 60
    done = len([place for place in store(world).writes if place[0] == "Pod"])
    await world.reconcile(3)
    assert len([place for place in store(world).writes if place[0] == "Pod"]) == done


@pytest.mark.parametrize("state", [valid, suspended, deleted], ids=lambda state: state.__name__)
async def test_a_pod_that_is_ending_is_reviewed_until_it_has_ended(runs: World, state: Callable[[World], Any]) -> None:
    """It may take an hour over a call, and its grant may end meanwhile."""
    world = another(runs)
    await state(world)
    slow = pod(world, **ending(3607))
    after = await world.reconcile()
    assert after is not None
    assert after <= REVIEW_SECONDS
    assert slow["metadata"]["deletionGracePeriodSeconds"] == 3607
    grant(world)
    await world.reconcile()
    assert slow["metadata"]["deletionGracePeriodSeconds"] == END_SECONDS


HOSTS = [{"host": "api.example.com", "ports": [443, 8443]}, {"host": "www.example.com", "ports": [443]}]


def no_host(world: World) -> None:
    world.skill(egress=EGRESS)


def some_hosts(world: World) -> None:
    world.skill(egress=[*EGRESS, *HOSTS[:1]])


def ports_of_hosts(world: World) -> None:
    world.skill(egress=[*EGRESS, *(one | {"ports": [443]} for one in HOSTS)])


def another_host(world: World) -> None:
    world.skill(egress=[*EGRESS, *HOSTS[:1], {"host": "new.example.com", "ports": [443]}])


@pytest.fixture(scope="module")
def calls_hosts() -> World:
    return asyncio.run(running(egress=[*EGRESS, *HOSTS]))


STAYING = [valid, suspended, invalid, refused, checked, unapproved, unwritten]
LESS_EGRESS = [egress, some_egress, ports, no_host, some_hosts, ports_of_hosts, another_host]


@pytest.mark.parametrize("state", STAYING, ids=lambda state: state.__name__)
@pytest.mark.parametrize("less", LESS_EGRESS, ids=lambda less: less.__name__)
async def test_a_pod_from_before_egress_was_narrowed_is_replaced(
    calls_hosts: World, state: Callable[[World], Any], less: Callable[[World], None]
) -> None:
    """It may hold connections, and a network plugin lets go on what is open."""
    world = another(calls_hosts)
    await state(world)
    older = pod(world)
    await world.reconcile()
    assert "deletionTimestamp" not in older["metadata"]
    less(world)
    await world.reconcile()
    assert older["metadata"]["deletionGracePeriodSeconds"] == END_SECONDS
    assert live(world, "Deployment") is not None, "it makes the next pod"
    assert [message for reason, message in world.events.recorded if reason == "EgressNarrowed" and "1 pod" in message]
    del world.store.objects["Pod", NAMESPACE, "p"]
    newer = pod(world, uid="uid-of-the-next")
    settled = len(store(world).writes)
    await world.reconcile(3)
    assert "deletionTimestamp" not in newer["metadata"]
    assert len(store(world).writes) <= settled + 2, "the policy, without the pod that is gone, and what comes after"


@pytest.mark.parametrize("state", [suspended, refused], ids=lambda state: state.__name__)
async def test_a_pod_that_lost_egress_is_ended_by_the_next_operator_too(
    calls_hosts: World, state: Callable[[World], Any]
) -> None:
    """The policy was written, and then the operator died, or the API server refused."""
    world = another(calls_hosts)
    await state(world)
    older = pod(world)
    store(world).refusals["Pod", NAMESPACE] = store(world).refusals["ReplicaSet", NAMESPACE] = Unavailable("no", 503)
    egress(world)
    with contextlib.suppress(ClusterError):
        await world.reconcile()
    assert [*excess(world)] == []
    assert "deletionTimestamp" not in older["metadata"]
    store(world).refusals.clear()
    await world.reconcile()
    assert older["metadata"]["deletionGracePeriodSeconds"] == END_SECONDS


@pytest.mark.parametrize("change", [network, proof], ids=lambda change: change.__name__)
async def test_a_pod_keeps_its_connections_while_nothing_of_the_spec_s_egress_goes(
    calls_hosts: World, change: Callable[[World], None]
) -> None:
    world = another(calls_hosts)
    kept = pod(world)
    change(world)
    await world.reconcile(2)
    assert "deletionTimestamp" not in kept["metadata"]


async def test_an_orphaned_pod_ends_too(runs: World) -> None:
    """Whoever may delete a Deployment may leave its pods behind."""
    world = another(runs)
    await suspended(world)
    orphan = pod(world)
    del world.store.objects["Deployment", NAMESPACE, CHILD]
    assert await world.reconcile() == REVIEW_SECONDS
    assert "deletionTimestamp" not in orphan["metadata"]
    grant(world)
    await world.reconcile()
    assert orphan["metadata"]["deletionGracePeriodSeconds"] == END_SECONDS


async def test_a_disruption_budget_keeps_no_pod_that_loses_a_secret(runs: World) -> None:
    world = another(runs)
    await suspended(world)
    kept = pod(world)
    grant(world)
    store(world).disruption_budget = True
    await world.reconcile()
    assert ("ReplicaSet", NAMESPACE, "skill-echo-1") not in world.store.objects
    assert world.condition("Deployed")["reason"] == "SecretNotGranted"
    body = world.store.objects["Pod", NAMESPACE, "p"]  # the garbage collector deletes it next
    world.store.put(body | {"metadata": body["metadata"] | ending(3607)})
    await world.reconcile()
    assert kept["metadata"]["deletionGracePeriodSeconds"] == END_SECONDS


async def test_an_update_that_rolls_keeps_its_deployment(runs: World) -> None:
    """A pod of the template before holds what the template no longer does."""
    world = another(runs)
    older = pod(world, {"volumes": [{"secret": {"secretName": "vault"}}]})
    await world.reconcile()
    assert older["metadata"]["deletionGracePeriodSeconds"] == END_SECONDS
    assert live(world, "Deployment") is not None


async def test_a_deployment_without_its_labels_is_known_by_its_pods(runs: World) -> None:
    """Labels are anybody's to take off who may write Deployments; a selector cannot change."""
    world = another(runs)
    await suspended(world)
    world.store.objects["Deployment", NAMESPACE, CHILD]["metadata"]["labels"] = {}
    grant(world)
    await world.reconcile()
    assert live(world, "Deployment") is None


# The narrowed policy opens what both open: no more, and no less.

NETWORKS = ["203.0.0.0/16", "203.0.112.0/23", "203.0.113.0/24", "203.0.113.0/25", "203.0.113.7/32", "198.51.100.0/24"]
WAYS = st.lists(
    st.fixed_dictionaries(
        {"cidr": st.sampled_from(NETWORKS), "ports": st.lists(st.sampled_from([80, 443]), min_size=1, unique=True)}
    ),
    max_size=4,
)
BLOCKED = st.lists(st.sampled_from(["203.0.113.7/32", "203.0.113.64/26", "203.0.0.0/17"]), max_size=2)
POINTS = [*product(("203.0.1.1", "203.0.112.1", "203.0.113.7", "203.0.113.65", "203.0.113.200", "198.51.100.9"),
                   (80, 443, 22))]  # fmt: skip


@given(WAYS, WAYS, BLOCKED)
def test_a_narrowed_policy_opens_what_both_open(
    deployed: list[Object], present: list[Object], blocked_later: list[str]
) -> None:
    before = skill_policy(skill(egress=deployed), SETTINGS, ())
    later = block("a node", *blocked_later)
    narrowed = narrowed_policy(before, skill(egress=present), SETTINGS, later)
    after = narrowed or before
    for address, port in POINTS:
        blocked = any(ip_address(address) in one.network for one in later)
        named = any(ip_address(address) in ip_network(way["cidr"]) and port in way["ports"] for way in present)
        assert opens(after, address, port) == (opens(before, address, port) and named and not blocked)
    assert narrowed_policy(after, skill(egress=present), SETTINGS, later) is None


HOST = {"host": "api.example.com", "ports": [443]}
STRANGE_RULES: list[Object] = [
    {},
    {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]},
    {"ports": [{"protocol": "TCP", "port": 443}]},
    {"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"protocol": "TCP", "port": 1, "endPort": 65535}]},
    {"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"protocol": "UDP", "port": 443}]},
    {"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"protocol": "TCP", "port": "https"}]},
    {"to": [{"namespaceSelector": {}}], "ports": [{"protocol": "TCP", "port": 443}]},
    {"to": [{"podSelector": {}}, {"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"protocol": "TCP", "port": 443}]},
]


@pytest.mark.parametrize("rule", STRANGE_RULES, ids=str)
def test_a_rule_that_the_operator_would_not_write_opens_nothing(rule: Object) -> None:
    of = skill(egress=[*EGRESS, HOST])
    before = skill_policy(of, SETTINGS, ())
    wanted = [*before["spec"]["egress"]]
    before["spec"]["egress"].append(rule)
    narrowed = narrowed_policy(before, of, SETTINGS, ())
    assert narrowed is not None
    assert narrowed["spec"]["egress"] == wanted


def test_the_way_to_the_egress_proxy_ends_with_the_last_host() -> None:
    before = skill_policy(skill(egress=[*EGRESS, HOST]), SETTINGS, ())
    narrowed = narrowed_policy(before, skill(egress=EGRESS), SETTINGS, ())
    assert narrowed is not None
    assert narrowed["spec"] == skill_policy(skill(egress=EGRESS), SETTINGS, ())["spec"]
    assert narrowed_policy(before, skill(egress=[*EGRESS, HOST]), SETTINGS, ()) is None


def fill(world: World, kind: str, name: str) -> Object:
    """Make an object one of which the API server's answer holds more than is read, as the client returns it."""
    place = (kind, NAMESPACE, name)
    whole = world.store.objects[place]
    world.store.objects[place] = {key: whole[key] for key in ("kind", "metadata")} | {UNREADABLE: "too much"}
    return world.store.objects[place]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
@pytest.mark.parametrize("kind", ["Deployment", "NetworkPolicy"])
async def test_what_cannot_be_read_is_taken_for_more_than_is_granted(
    runs: World, kind: str, state: Callable[[World], Any]
) -> None:
    world = another(runs)
    await state(world)
    filled = fill(world, kind, CHILD)
    await world.reconcile()
    made = live(world, kind)
    assert made is None or UNREADABLE not in made
    assert made is None or made["metadata"]["uid"] != filled["metadata"]["uid"]
    assert "UnreadableDeleted" in [reason for reason, _ in world.events.recorded]


@pytest.mark.parametrize("state", [valid, suspended], ids=lambda state: state.__name__)
async def test_a_pod_that_hides_its_secrets_ends(runs: World, state: Callable[[World], Any]) -> None:
    world = another(runs)
    await state(world)
    filled = pod(world)
    fill(world, "Pod", "p")
    await world.reconcile()
    assert filled["metadata"]["deletionGracePeriodSeconds"] == END_SECONDS


@pytest.mark.parametrize("right", RIGHTS, ids=lambda right: right.__name__)
@pytest.mark.parametrize("failure", [None, TooMuch("too many"), Unavailable("a timeout")], ids=repr)
async def test_policies_of_others_that_are_not_read_keep_nothing_from_narrowing(
    runs: World, right: Callable[[World], None], failure: ClusterError | None
) -> None:
    world = another(runs)
    world.store.put({"kind": "NetworkPolicy", "metadata": {"namespace": NAMESPACE, "name": "theirs"}, "spec": {}})
    store(world).scan_failure = failure
    if failure is None:
        fill(world, "NetworkPolicy", "theirs")
    right(world)
    await world.reconcile()
    assert [*excess(world)] == []
    if right is not proof and world.condition("Isolated"):
        assert world.condition("Isolated")["reason"] in {"PoliciesUnread", "EgressRefused"}


async def test_of_policies_of_others_names_alone_are_kept() -> None:
    class Fat:
        async def scan(self, kind: str, namespace: str) -> AsyncIterator[Object]:
            for n in range(60):
                labels = {f"k{i:05}": f"v{n}-{i}" for i in range(2_000)}
                yield {"kind": kind, "metadata": {"name": f"p{n}", "labels": labels}, "spec": {"ingress": [{}]}}

    tracemalloc.start()
    try:
        _, found = await read_policies(Fat(), skill())  # type: ignore[arg-type]
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found.widening) == 60
    assert kept < 100_000
    assert peak < 4 << 20
