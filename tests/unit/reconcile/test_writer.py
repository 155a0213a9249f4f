"""What counts as different. That the API server agrees is tested on a cluster."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from skill_operator.k8s.errors import Conflict
from skill_operator.k8s.interface import UNREADABLE
from skill_operator.reconcile.refusals import NotWritten
from skill_operator.reconcile.writer import apply_changed, create_absent, holds
from skill_operator.resources.deployment import deployment
from skill_operator.resources.network_policy import default_deny, skill_policy
from tests.unit.reconcile.samples import SETTINGS, skill


class Cluster:
    def __init__(self, live: dict[str, Any] | None) -> None:
        self.live = live
        self.applied: list[dict[str, Any]] = []

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        return self.live

    async def apply(self, wanted: dict[str, Any]) -> dict[str, Any]:
        self.applied.append(wanted)
        return wanted


async def stored(wanted: dict[str, Any]) -> dict[str, Any]:
    """As the API server gives it back: it leaves empty lists out."""
    cluster = Cluster(None)
    live = deepcopy(await apply_changed(cluster, wanted))  # type: ignore[arg-type]
    live["metadata"]["resourceVersion"] = "7"
    live["spec"] = {key: value for key, value in live["spec"].items() if value != []}
    return live


@pytest.mark.parametrize("wanted", [default_deny("team"), skill_policy(skill(), SETTINGS, ())], ids=["shared", "own"])
async def test_a_policy_that_is_as_wanted_is_not_written(wanted: dict[str, Any]) -> None:
    cluster = Cluster(await stored(wanted))
    await apply_changed(cluster, wanted)  # type: ignore[arg-type]
    assert cluster.applied == []


ANYWHERE = [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]


@pytest.mark.parametrize("wanted", [default_deny("team"), skill_policy(skill(), SETTINGS, ())], ids=["shared", "own"])
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("egress",), ANYWHERE),
        (("ingress",), [{}]),
        (("policyTypes",), ["Ingress"]),
        (("podSelector", "matchExpressions"), [{"key": "never", "operator": "Exists"}]),
        (("podSelector", "matchLabels", "never"), "there"),
    ],
)
async def test_a_policy_that_somebody_changed_is_written_anew(
    wanted: dict[str, Any], path: tuple[str, ...], value: Any
) -> None:
    live = await stored(wanted)
    inside = live["spec"]
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    cluster = Cluster(live)
    await apply_changed(cluster, wanted)  # type: ignore[arg-type]
    assert [one["spec"] for one in cluster.applied] == [wanted["spec"]]


def shaped(*, replicas: int | None = None, runtime_class: str = "") -> dict[str, Any]:
    body = skill(runtimeClassName=runtime_class)
    return deployment(body, SETTINGS, "r", "image", replicas=replicas, user_namespace=True)


async def test_what_is_no_longer_said_is_taken_back() -> None:
    cluster = Cluster(await stored(shaped(runtime_class="gvisor")))
    await apply_changed(cluster, shaped())  # type: ignore[arg-type]
    (applied,) = cluster.applied
    assert "runtimeClassName" not in applied["spec"]["template"]["spec"]


async def test_how_many_pods_there_are_is_no_difference() -> None:
    live = await stored(shaped(replicas=1))
    live["spec"]["replicas"] = 0
    cluster = Cluster(live)
    await apply_changed(cluster, shaped())  # type: ignore[arg-type]
    assert cluster.applied == []


@pytest.mark.parametrize(
    ("live", "wanted", "same"),
    [
        ({"a": 1, "default": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        ({}, {"a": 1}, False),
        ({}, {"a": []}, True),
        ({"a": [1]}, {"a": []}, False),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": [{"b": 1, "c": 2}]}, {"a": [{"b": 1}]}, True),
        ({"a": "x"}, {"a": []}, False),
    ],
)
def test_what_the_api_server_added_is_no_difference(live: Any, wanted: Any, same: bool) -> None:
    assert holds(live, wanted) is same


class TakenCluster(Cluster):
    """TakenCluster has an object of each name already. It has no list: whose others there are tells nothing."""

    async def create(self, wanted: dict[str, Any]) -> dict[str, Any]:
        raise Conflict("it exists")


async def test_who_has_the_name_of_what_exists_is_read_by_that_name() -> None:
    wanted = shaped()
    assert await create_absent(TakenCluster(wanted), wanted) is None  # type: ignore[arg-type]
    theirs = {"kind": wanted["kind"], "metadata": wanted["metadata"] | {"labels": {}}}
    with pytest.raises(NotWritten):
        await create_absent(TakenCluster(theirs), wanted)  # type: ignore[arg-type]


async def test_a_policy_that_comes_back_unreadable_is_not_taken_for_written() -> None:
    class Filled(Cluster):
        async def apply(self, wanted: dict[str, Any]) -> dict[str, Any]:
            return {"kind": wanted["kind"], "metadata": wanted["metadata"], UNREADABLE: "too much"}

    wanted = default_deny("team")
    live = {"kind": wanted["kind"], "metadata": wanted["metadata"], UNREADABLE: "too much"}
    with pytest.raises(NotWritten, match="somebody has filled it: delete it") as refusal:
        await apply_changed(Filled(live), wanted)  # type: ignore[arg-type]
    assert "webhook" not in str(refusal.value)


async def test_a_policy_that_comes_back_with_more_words_may_be_another_writer_s() -> None:
    class Owned(Cluster):
        async def apply(self, wanted: dict[str, Any]) -> dict[str, Any]:
            selector = {"matchLabels": wanted["spec"]["podSelector"]["matchLabels"] | {"tier": "front"}}
            return wanted | {"spec": wanted["spec"] | {"podSelector": selector}}

    with pytest.raises(NotWritten, match=r"another writer .* or a mutating webhook"):
        await apply_changed(Owned(None), default_deny("team"))  # type: ignore[arg-type]
