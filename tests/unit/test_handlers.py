"""What the informer queues, and for whom."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import kopf
import pytest
from kopf._cogs.structs.references import Resource
from kopf._core.engines.indexing import OperatorIndexers
from kopf._core.reactor.inventory import ResourceMemories
from kopf._core.reactor.processing import process_resource_event

from skill_operator import naming
from skill_operator.handlers import Informer, operator_settings
from skill_operator.k8s.watch_health import WatchHealth
from skill_operator.naming import SkillKey
from tests.unit.reconcile.samples import SETTINGS

BUILDER = SETTINGS.builder_namespace


class Queued(list[SkillKey]):
    """Queued is what the informer put into the queue."""

    def __init__(self) -> None:
        super().__init__()
        self.informer = Informer(SETTINGS, self.append, WatchHealth())

    async def skill(self, namespace: str, name: str, uid: str, change: str = "ADDED") -> None:
        meta = {"uid": uid, "resourceVersion": "1"}
        await self.informer._on_skill(namespace=namespace, name=name, meta=meta, event={"type": change})

    async def child(self, namespace: str, change: str = "MODIFIED", **meta: Any) -> None:
        meta = {"uid": "j-1", "resourceVersion": "1"} | meta
        await self.informer._on_child(namespace=namespace, meta=meta, event={"type": change})


def labels(uid: str, name: str = "echo", namespace: str = "") -> dict[str, str]:
    found = naming.labels(name, uid, "check")
    return found | ({naming.NAMESPACE_LABEL: namespace} if namespace else {})


async def test_a_skill_is_queued_for_each_event_of_its_own_objects() -> None:
    queued = Queued()
    await queued.skill("team", "a.b", "u-1")
    await queued.child("team", labels=labels("u-1", "a.b"))
    await queued.child(BUILDER, labels=labels("u-1", "a.b", "team"))
    assert queued == [("team", "a.b")] * 3, "by its uid: a label holds no dots and no long names"


async def test_the_end_of_a_deleted_skills_build_is_noticed() -> None:
    queued = Queued()
    await queued.child(BUILDER, "DELETED", labels=labels("u-1", "echo", "team"))
    assert queued == [("team", "echo")]


@pytest.mark.parametrize(
    "meta",
    [
        {"labels": labels("u-2")},
        {"labels": labels("")},
        {"labels": labels("u-1") | {naming.UID_LABEL: "u-other"}},
        {"labels": labels("u-elsewhere", "echo", "elsewhere")},
        {"labels": naming.MANAGED | {naming.SKILL_LABEL: "Bad_1"}},
        {"labels": naming.MANAGED | {naming.SKILL_LABEL: "echo"}},
        {"labels": naming.MANAGED | {naming.UID_LABEL: "u-2", naming.NAMESPACE_LABEL: "No/Name"}},
        {"labels": labels("u-2"), "ownerReferences": [{"kind": "Skill", "name": "Bad_1", "uid": "u-2"}]},
        {"ownerReferences": [{"kind": "Skill", "name": "echo", "uid": "u-1"}]},
        {},
    ],
)
async def test_what_others_label_queues_nothing(meta: dict[str, Any]) -> None:
    queued = Queued()
    await queued.skill("team", "echo", "u-1")
    await queued.skill("elsewhere", "echo", "u-elsewhere")
    for _ in range(100):
        await queued.child("team", **meta)
    assert queued == [("team", "echo"), ("elsewhere", "echo")]


@pytest.mark.parametrize("name", ["Bad_1", "", "a/b", "..", "x" * 64])
async def test_a_label_that_is_no_name_queues_nothing_even_in_the_builder_namespace(name: str) -> None:
    queued = Queued()
    label = {naming.UID_LABEL: "u-1", naming.NAMESPACE_LABEL: "team", naming.SKILL_LABEL: name}
    await queued.child(BUILDER, labels=naming.MANAGED | label)
    await queued.child(
        BUILDER, labels=naming.MANAGED | label | {naming.SKILL_LABEL: "echo", naming.NAMESPACE_LABEL: name}
    )
    assert queued == []


async def test_a_deleted_skill_is_known_no_more() -> None:
    queued = Queued()
    await queued.skill("team", "echo", "u-1")
    await queued.skill("team", "echo", "u-1", "DELETED")
    await queued.child("team", labels=labels("u-1"))
    assert queued == [("team", "echo")] * 2
    assert not queued.informer._skills


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"a": value}
    return value


async def through_kopf(queued: Queued, body: dict[str, Any]) -> None:
    """Give an event to kopf as its watch does."""
    await process_resource_event(
        lifecycle=kopf.lifecycles.all_at_once,
        indexers=OperatorIndexers(),
        registry=queued.informer._registry,
        settings=operator_settings(),
        memories=ResourceMemories(),
        memobase=cast("Any", kopf.Memo()),
        resource=Resource(naming.GROUP, naming.VERSION, "skills", kind="Skill", namespaced=True),
        raw_event={"type": "MODIFIED", "object": body},  # type: ignore[typeddict-item]
        event_queue=asyncio.Queue(),
        no_throttling=True,
    )


STATE = "kopf.zalando.org/last-handled-configuration"


@pytest.mark.parametrize(
    ("meta", "spec"),
    [
        ({}, {}),
        ({"annotations": {STATE: "no JSON"}}, {}),
        ({"annotations": {STATE: "[]"}}, {}),
        ({"annotations": {STATE: '{"spec": 1}'}}, {"input": {}}),
        ({"annotations": {STATE: json.dumps(nested(200))}}, nested(200)),
        ({"annotations": {STATE: "[" * 5000}}, {}),
        ({"annotations": {"kopf.zalando.org/touch-dummy": "x", "kopf.zalando.org/_on_skill": "{"}}, {}),
        ({"annotations": {"kopf.zalando.org/managed-by": "x", "x.example/kopf-managed": "yes"}}, {}),
        ({"finalizers": ["kopf.zalando.org/KopfFinalizerMarker"]}, {}),
        ({"finalizers": ["kopf.zalando.org/KopfFinalizerMarker"], "deletionTimestamp": "2030-01-01T00:00:00Z"}, {}),
        ({}, {"input": nested(500)}),
        ({}, {"input": nested(9000)}),
        ({}, {"input": {"a": [[]] * 100_000}}),
    ],
)
async def test_kopf_delivers_whatever_people_write_and_writes_nothing(meta: dict[str, Any], spec: Any) -> None:
    """What it does not deliver would be taken for a dead watch, and the controller restarted for it."""
    queued = Queued()
    meta = {"name": "echo", "namespace": "team", "uid": "u-1", "resourceVersion": "1"} | meta
    body = {"apiVersion": naming.API_VERSION, "kind": "Skill", "metadata": meta, "spec": spec, "status": {"kopf": "x"}}
    await through_kopf(queued, body)
    assert queued == [("team", "echo")]
