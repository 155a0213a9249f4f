"""What the gateway makes of what the watches tell it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from skill_operator import naming
from skill_operator.api.listed_tool import listed_tool
from skill_operator.gateway.http.openapi import encode_openapi
from skill_operator.gateway.pods import directory as directory_module
from skill_operator.gateway.pods import entry_budget
from skill_operator.gateway.pods.directory import (
    KINDS,
    NOT_KEPT,
    NOT_SHOWN,
    Backend,
    Directory,
    parse_backend,
    parse_skill,
)
from skill_operator.gateway.tool_catalog import encode_tool
from skill_operator.naming import SkillKey
from skill_operator.untrusted import json_schema, patterns
from tests.unit.fat_metadata import FAT_METADATA
from tests.unit.gateway.objects import ARCHIVE, UID, deployment, pod, skill


def addresses(directory: Directory) -> set[str]:
    return {backend.address for backend in directory.backends(directory.entries["finance", "invoice"].meta)}


def test_pods_come_and_go() -> None:
    directory = Directory()
    directory.on_pod("ADDED", pod("a", "10.0.0.1"))  # the two watches are not in step
    directory.on_skill("ADDED", skill())
    directory.on_pod("ADDED", pod("b", "10.0.0.2"))
    assert addresses(directory) == {"10.0.0.1", "10.0.0.2"}
    directory.on_pod("MODIFIED", pod("a", "10.0.0.3"))
    assert addresses(directory) == {"10.0.0.3", "10.0.0.2"}
    directory.on_pod("DELETED", pod("a", "10.0.0.3"))
    ending = pod("b", "10.0.0.2")
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    directory.on_pod("MODIFIED", ending)
    assert addresses(directory) == set()
    directory.on_pod("DELETED", ending)
    assert directory == Directory(entries=directory.entries), "nothing is left of them"


FAKES: list[dict[str, Any]] = [
    {"name": "another"},
    {"name": "skill-another"},
    {"name": "another", "ownerReferences": []},
    {"ownerReferences": []},
    {"ownerReferences": [{"kind": "Skill", "name": "invoice", "uid": UID}]},
    {"ownerReferences": [{"kind": "Skill", "name": "invoice", "uid": "u-of-another", "controller": True}]},
    {"ownerReferences": [{"kind": "ConfigMap", "name": "x", "uid": UID, "controller": True}]},
    {"labels": naming.MANAGED},
    {"labels": {}},
]


@pytest.mark.parametrize("fake", FAKES)
@pytest.mark.parametrize("change", ["ADDED", "MODIFIED", "DELETED"])
def test_a_deployment_that_is_only_labelled_changes_no_scale(fake: dict[str, Any], change: str) -> None:
    """Whoever may make Deployments may label them, and name an owner."""
    directory = Directory()
    directory.on_skill("ADDED", skill())
    meta = directory.entries["finance", "invoice"].meta
    fraud = deployment(7, drain_token="forged")
    fraud["metadata"] |= fake
    directory.on_deployment(change, fraud)
    assert directory.scale(meta) is None
    assert directory.drain_tokens() == {}
    if "name" in fake:  # else the real one has its name, and so its place
        directory.on_deployment("ADDED", deployment(0, drain_token="m1"))
        directory.on_deployment(change, fraud)
        scale = directory.scale(meta)
        assert scale is not None
        assert (scale.replicas, directory.drain_token(meta)) == (0, "m1")


def test_of_a_deleted_deployment_only_metadata_may_be_left() -> None:
    directory = Directory()
    directory.on_deployment("ADDED", deployment(1, drain_token="m1"))
    directory.on_deployment("DELETED", {"metadata": deployment(1)["metadata"]})
    assert directory == Directory()


def test_a_tool_leads_to_its_own_skill() -> None:
    directory = Directory()
    names = [
        "a.b",
        "a-b",
        "a" * 253,
        *(naming.tool("finance", name)[9:].replace("_", "-") for name in ("a.b", "a" * 253)),
    ]
    names += [f"a-b-{naming.digest('a.b')[:length]}" for length in (8, 16, 32)]
    for name in names:
        directory.on_skill("ADDED", skill(name))
    for name in names:
        assert directory.tools[naming.tool("finance", name)] == ("finance", name)
    for name in names:
        directory.on_skill("DELETED", skill(name))
    assert not directory.tools


@pytest.mark.parametrize(
    ("status", "backend"),
    [
        ({}, None),
        ({"phase": "Pending"}, None),
        ({"phase": "Pending", "podIP": "10.0.0.1"}, Backend("10.0.0.1", ready=False)),
        ({"phase": "Running", "podIP": "10.0.0.1", "conditions": []}, Backend("10.0.0.1", ready=False)),
        ({"phase": "Running", "podIP": "fd00::1"}, Backend("[fd00::1]", ready=False)),
        ({"phase": "Failed", "podIP": "10.0.0.1"}, None),
        ({"phase": "Succeeded", "podIP": "10.0.0.1"}, None),
    ],
)
def test_which_pods_may_answer(status: dict[str, Any], backend: Backend | None) -> None:
    body = pod("a", "")
    body["status"] = status
    assert parse_backend(body) == backend


def test_pods_of_a_former_skill_of_the_same_name_are_not_its_own() -> None:
    directory = Directory()
    directory.on_pod("ADDED", pod("old", "10.0.0.1", uid="former"))
    directory.on_skill("ADDED", skill())
    assert addresses(directory) == set()


def test_the_late_end_of_a_former_skill_does_not_end_its_successor() -> None:
    directory = Directory()
    directory.on_skill("ADDED", skill())
    former = skill()
    former["metadata"]["uid"] = "former"
    directory.on_skill("DELETED", former)
    assert ("finance", "invoice") in directory.entries


@pytest.mark.parametrize("broken", [{"input": 7}, {"callTimeoutSeconds": "soon"}, {"examples": [{}]}])
def test_one_skill_that_cannot_be_read_hides_no_other(broken: dict[str, Any]) -> None:
    directory = Directory()
    directory.on_skill("ADDED", skill(name="strange", **broken))
    directory.on_skill("ADDED", skill())
    strange = directory.entries["finance", "strange"]
    assert (strange.skill, strange.meta.uid, directory.input_schema(strange)) == (None, UID, None)
    assert len(directory.entries) == 2


def test_a_schema_is_compiled_once_for_each_generation() -> None:
    directory = Directory()
    directory.on_skill("ADDED", skill())
    first = directory.input_schema(directory.entries["finance", "invoice"])
    directory.on_skill("MODIFIED", skill(description="as before, in other words"))
    assert first is not None
    assert directory.input_schema(directory.entries["finance", "invoice"]) is first
    changed = skill(generation=2)
    directory.on_skill("MODIFIED", changed)
    assert directory.input_schema(directory.entries["finance", "invoice"]) is None, "not deployed yet"
    changed["status"]["conditions"][0]["observedGeneration"] = 2
    directory.on_skill("MODIFIED", changed)
    assert directory.input_schema(directory.entries["finance", "invoice"]) not in {None, first}


EARLIER: dict[str, Any] = {
    "revision": "0123456789",
    "digest": "d" * 64,
    "description": "Count lines.",
    "input": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
    "output": {"type": "integer"},
    "callTimeoutSeconds": 7,
}


def serving(**more: Any) -> dict[str, Any]:
    body = skill()
    body["status"]["serving"] = {key: value for key, value in (EARLIER | more).items() if value is not None}
    return body


def test_callers_get_the_contract_of_what_runs() -> None:
    directory = Directory()
    directory.on_skill("ADDED", skill())
    before = directory.entries["finance", "invoice"]
    present = directory.input_schema(before)
    directory.on_skill("MODIFIED", serving())
    entry = directory.entries["finance", "invoice"]
    assert entry.skill is not None
    spec = entry.skill.spec
    assert (spec.description, spec.output, spec.call_timeout_seconds) == ("Count lines.", {"type": "integer"}, 7)
    assert spec.input == EARLIER["input"]
    assert spec.examples == [], "those of the spec may not fit"
    served = directory.input_schema(entry)
    assert served is not None
    assert served is not present
    assert entry.version != before.version
    directory.on_skill("MODIFIED", skill())
    assert directory.input_schema(directory.entries["finance", "invoice"]) not in {None, served}


def test_a_contract_too_long_for_the_status_is_not_shown_and_left_to_the_pods() -> None:
    directory = Directory()
    directory.on_skill("ADDED", serving(input=None))
    entry = directory.entries["finance", "invoice"]
    assert entry.skill is not None
    assert entry.skill.spec.input == NOT_SHOWN
    assert directory.input_schema(entry) is None


@pytest.mark.parametrize("broken", [{"input": 7}, {"callTimeoutSeconds": "soon"}, {"callTimeoutSeconds": None}])
def test_a_served_contract_that_cannot_be_read_hides_no_other_skill(broken: dict[str, Any]) -> None:
    directory = Directory()
    directory.on_skill("ADDED", serving(**broken))
    assert directory.entries["finance", "invoice"].skill is None


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"$ref": "http://127.0.0.1:1/x"}, {"$ref": "#/nowhere"}])
def test_a_schema_that_is_none_judges_nothing(schema: dict[str, Any]) -> None:
    directory = Directory()
    directory.on_skill("ADDED", skill(input=schema))
    assert directory.input_schema(directory.entries["finance", "invoice"]) is None


class Watches:
    """The watch side of a cluster: what is put into a queue is reported."""

    def __init__(self) -> None:
        self.queues: dict[tuple[str, str | None], asyncio.Queue[tuple[str, dict[str, Any]]]] = {}
        self.labels: dict[str, dict[str, str] | None] = {}

    async def watch(
        self, kind: str, namespace: str | None = None, labels: dict[str, str] | None = None
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        self.labels[kind] = labels
        queue = self.queues.setdefault((kind, namespace), asyncio.Queue())
        while True:
            yield await queue.get()

    def tell(self, kind: str, namespace: str | None, change: str, body: dict[str, Any]) -> None:
        self.queues.setdefault((kind, namespace), asyncio.Queue()).put_nowait((change, body))


async def test_it_is_ready_when_every_list_of_every_namespace_is_complete() -> None:
    watches, directory = Watches(), Directory()
    following = asyncio.create_task(directory.watch(watches, ["finance", "lab"]))  # type: ignore[arg-type]
    lists = [(kind, namespace) for kind in KINDS for namespace in ("finance", "lab")]
    for kind, namespace in lists:
        await asyncio.sleep(0.01)
        assert not directory.ready
        watches.tell(kind, namespace, "SYNCED", {})
    watches.tell("Skill", "finance", "ADDED", skill())
    watches.tell("Pod", "finance", "ADDED", pod("a", "10.0.0.1"))
    await asyncio.sleep(0.01)
    assert directory.ready
    assert addresses(directory) == {"10.0.0.1"}
    assert watches.labels["Pod"] == {
        "app.kubernetes.io/managed-by": "skill-operator",
        "app.kubernetes.io/component": "skill",
    }
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following


async def test_nobody_is_called_with_what_a_dead_watch_knew() -> None:
    """If following ends, it ends with an error: the process restarts rather than grow stale."""

    class Dead(Watches):
        async def watch(self, *_: Any, **__: Any) -> AsyncIterator[tuple[str, dict[str, Any]]]:
            raise RuntimeError("bug")
            yield "", {}

    with pytest.raises(ExceptionGroup):
        await Directory().watch(Dead(), [])  # type: ignore[arg-type]


def nested(levels: int, key: str) -> dict[str, Any]:
    return json.loads(f'{{"{key}":' * levels + "{}" + "}" * levels)


DOUBLING = {"$ref": "#/$defs/a0", "$defs": {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(60)}}
HOSTILE: dict[str, dict[str, Any]] = {
    "deep schema": {"input": {"type": "object"} | nested(300, "not")},
    "deep output": {"output": nested(300, "items")},
    "wide schema": {"input": {"type": "object", "enum": [[]] * 20_000}},
    "long schema": {"input": {"type": "object", "description": "x" * 1_400_000}},
    "deep example": {"examples": [{"name": "a", "input": nested(700, "a"), "output": 1}]},
    "wide example": {"examples": [{"name": "a", "input": [[]] * 20_000, "output": 1}]},
    "long example": {"examples": [{"name": "a", "input": "x" * 1_400_000, "output": 1}]},
    "many examples": {"examples": [{"name": f"e{n}", "input": {"a": "x" * 20_000}, "output": 1} for n in range(64)]},
    "half a pair": {"examples": [{"name": "a", "input": "\ud800", "output": 1}]},
    "foreign reference": {"input": {"type": "object", "$ref": "http://203.0.113.1/"}},
    "no schema": {"output": {"type": 7}},
    "source and more": {"source": {"inline": "x" * 65_000}, "description": "\U0001f600" * 16_000},
    "what may just be": {
        "input": {"type": "object", "properties": {f"p{n:04}": {"title": "t"} for n in range(1300)}},
        "output": {"enum": [{f"p{n}": {}} for n in range(1300)]},
        "description": "\U0001f600" * 16_000,
    },
}


def annotated(body: dict[str, Any], number: int) -> dict[str, Any]:
    """The Skill as a watch reports it again, after somebody wrote an annotation of it."""
    again = json.loads(json.dumps(body))
    again["metadata"] |= {"resourceVersion": str(number), "annotations": {"someone.example/n": str(number)}}
    return again


@pytest.fixture
def schemas_looked_at(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The schemas that were looked at, each as often as it was."""
    looked_at: list[Any] = []

    def is_presentable(schema: Any) -> bool:
        looked_at.append(schema)
        return json_schema.is_presentable(schema)

    monkeypatch.setattr(directory_module, "is_presentable", is_presentable)
    return looked_at


class TestChangesThatLeaveTheSpec:
    @pytest.mark.parametrize("body", [skill(), serving(), *(skill(**spec) for spec in HOSTILE.values())])
    def test_a_spec_is_looked_at_once_for_each_version(
        self, body: dict[str, Any], schemas_looked_at: list[Any]
    ) -> None:
        directory = Directory()
        directory.on_skill("ADDED", body)
        first = directory.entries["finance", "invoice"]
        assert first.skill is not None
        schemas_looked_at.clear()
        for number in range(3):
            directory.on_skill("MODIFIED", annotated(body, number))
        entry = directory.entries["finance", "invoice"]
        assert schemas_looked_at == []
        assert entry.skill is not None
        assert entry.skill.spec is first.skill.spec
        assert entry.meta.resource_version == "2"

    @pytest.mark.parametrize("broken", [{"callTimeoutSeconds": "soon"}, {"examples": [{}]}])
    def test_neither_is_one_that_cannot_be_read(self, broken: dict[str, Any], schemas_looked_at: list[Any]) -> None:
        directory = Directory()
        directory.on_skill("ADDED", skill(**broken))
        schemas_looked_at.clear()
        directory.on_skill("MODIFIED", annotated(skill(**broken), 1))
        assert (schemas_looked_at, directory.entries["finance", "invoice"].skill) == ([], None)
        directory.on_skill("MODIFIED", skill(generation=2))
        assert directory.entries["finance", "invoice"].skill is not None

    def test_neither_is_one_that_its_namespace_has_no_room_for(
        self, schemas_looked_at: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(entry_budget, "MAX_NAMESPACE_UNITS", 20)
        directory = Directory()
        directory.on_skill("ADDED", skill())
        schemas_looked_at.clear()
        directory.on_skill("MODIFIED", annotated(skill(), 1))
        reduced = directory.entries["finance", "invoice"]
        assert reduced.skill is not None
        assert (schemas_looked_at, reduced.skill.spec.input) == ([], NOT_KEPT)
        monkeypatch.setattr(entry_budget, "MAX_NAMESPACE_UNITS", 2000)
        directory.on_skill("MODIFIED", annotated(skill(), 2))
        assert directory.entries["finance", "invoice"] == parse_skill(annotated(skill(), 2)), "there is room again"

    @pytest.mark.parametrize(
        "change",
        [
            {"metadata": {"annotations": {naming.CREATED_BY_ANNOTATION: "bob"}}},
            {"metadata": {"annotations": {naming.PROMOTED_BY_ANNOTATION: "carol"}}},
            {"metadata": {"annotations": {naming.REQUEST_ANNOTATION: "d"}}},
            {"metadata": {"labels": {"a": "b"}, "resourceVersion": "9"}},
            {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
            {"metadata": {"generation": 2}, "spec": {"description": "Another."}},
            {"metadata": {"uid": "u-of-another"}, "spec": {"input": {"type": "object"}, "examples": []}},
            {"status": {"conditions": []}},
            {"status": {"image": "registry/x@sha256:1", "archive": ARCHIVE, "history": []}},
            {"status": {"conditions": "none"}},
            {"status": {"serving": EARLIER}},
            {"status": {"serving": EARLIER | {"description": "In other words, with the same digest."}}},
            {"status": {"serving": EARLIER | {"callTimeoutSeconds": 8}}},
            {"status": {"serving": 7}},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("before", [skill(), serving()])
    def test_an_entry_is_that_of_the_present_object(self, before: dict[str, Any], change: dict[str, Any]) -> None:
        directory = Directory()
        after = {part: value | change.get(part, {}) for part, value in before.items() if isinstance(value, dict)}
        for body in (before, after, before, after):
            directory.on_skill("MODIFIED", json.loads(json.dumps(body)))
            assert directory.entries["finance", "invoice"] == parse_skill(body)

    def test_a_status_nested_without_end_ends_no_watch(self) -> None:
        directory = Directory()
        for _ in range(2):
            deep: dict[str, Any] = {}
            for _ in range(9000):
                deep = {"a": deep}
            directory.on_skill("MODIFIED", serving(input=deep))
        assert directory.entries["finance", "invoice"].skill is not None


@contextlib.contextmanager
def memory_traced() -> Iterator[Callable[[], int]]:
    """Yield a function that returns how many bytes were taken since, and are not garbage."""

    def taken() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        yield taken
    finally:
        tracemalloc.stop()


def test_a_namespace_that_fills_up_takes_no_memory_from_others_and_is_still_called() -> None:
    body = json.dumps(skill(**HOSTILE["what may just be"]))
    directory = Directory()

    def store(change: str, namespace: str, number: int) -> SkillKey:
        made = json.loads(body)
        made["metadata"] |= {"namespace": namespace, "name": f"s{number}", "uid": f"{namespace}-{number}"}
        directory.on_skill(change, made)
        return SkillKey(namespace, f"s{number}")

    def kept(key: SkillKey) -> bool:
        entry = directory.entries[key]
        assert entry.skill is not None
        return entry.skill.spec.output != NOT_KEPT

    with memory_traced() as taken:
        keys = [store("ADDED", "mallory", number) for number in range(300)]
        assert taken() < 64 << 20
    assert kept(keys[0])
    assert not kept(keys[-1])
    assert kept(store("ADDED", "alice", 0))
    beyond = directory.entries[keys[-1]]
    assert directory.input_schema(beyond) is None, "its pod looks at the input"
    encode_openapi([beyond], "https://skills.example", authenticated=True)
    for number in range(299):
        store("DELETED", "mallory", number)
    assert kept(store("MODIFIED", "mallory", 299)), "there is room again"
    store("DELETED", "mallory", 299)
    assert not directory._budget._totals.keys() - {"alice"}


@pytest.mark.parametrize("shown", [True, False])
def test_what_is_served_meanwhile_takes_no_memory_beyond_what_is_counted(
    shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schemas in `status.serving`, where the namespace has no room for them, or where they cannot be shown."""
    monkeypatch.setattr(entry_budget, "MAX_NAMESPACE_UNITS", 20)
    words = {"description": "x" * 16_000, "summary": "y" * 1_000}
    schema = {"type": "object", "properties": {f"p{n:05}": {"type": "string"} for n in range(4_000)}}
    body = json.dumps(serving(**words, input=schema, output=schema if shown else {"type": 7, "const": "z" * 120_000}))
    with memory_traced() as taken:
        directory = Directory()
        directory.on_skill("ADDED", json.loads(body))
        directory.on_skill("MODIFIED", annotated(json.loads(body), 1))
        assert taken() < 64 << 10
    assert directory.entries["finance", "invoice"].skill is not None


@pytest.mark.parametrize("field", FAT_METADATA)
def test_an_entry_keeps_nothing_of_metadata_that_a_tenant_filled(field: str) -> None:
    body = skill()
    body["metadata"][field] = FAT_METADATA[field]
    if field == "annotations":
        body["metadata"][field] = FAT_METADATA[field] | {naming.CREATED_BY_ANNOTATION: "u" * 200_000}
    raw = json.dumps(body)
    with memory_traced() as taken:
        entry = parse_skill(json.loads(raw))
        assert taken() < 64 << 10
    assert entry.skill is not None
    assert entry.meta == entry.skill.metadata
    assert entry.meta.uid == body["metadata"]["uid"]


@pytest.mark.parametrize("what", HOSTILE)
def test_an_entry_is_small_and_can_be_shown(what: str) -> None:
    body = json.dumps(skill(**HOSTILE[what]))
    parsed = json.loads(body)
    with memory_traced() as taken:
        entry = parse_skill(parsed)
        del parsed
        assert taken() < 2 << 20
        copied = parse_skill(json.loads(body))
        assert taken() < 2 << 20
    assert entry.skill is not None
    assert copied.skill is not None
    encode_openapi([entry], "https://skills.example", authenticated=True)
    assert len(encode_tool(listed_tool("finance", "invoice", entry.skill.spec), entry, "2026-07-28")) < 80_000


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {f"p{n}": {"pattern": r"^\p{L}{1,64}$"} for n in range(4)}},
        {"properties": {f"p{n}": {"pattern": r"^\p{L}+$"} for n in range(64)}},
        {"patternProperties": {r"^.{1,2000}$": {}}},
        {"pattern": "(?=a)(a+)+$"},
        {"$ref": "#/$defs/a"},
        nested(300, "not"),
    ],
    ids=str,
)
def test_costly_patterns_are_left_to_the_pods(schema: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    compiled_kib = 0

    def count(pattern: str, max_kib: int = 4096) -> int | None:
        nonlocal compiled_kib
        found = patterns.compiled_kib(pattern, max_kib)
        compiled_kib += found or 0
        return found

    monkeypatch.setattr(json_schema, "compiled_kib", count)
    directory = Directory()
    directory.on_skill("ADDED", skill(input={"type": "object"} | schema))
    assert directory.input_schema(next(iter(directory.entries.values()))) is None
    assert compiled_kib <= directory_module.MAX_PATTERNS_KIB


def test_few_schemas_are_kept_compiled() -> None:
    directory = Directory()
    for n in range(directory_module.MAX_COMPILED_SCHEMAS + 20):
        body = skill(f"s{n}")
        body["metadata"]["uid"] = f"u{n}"
        directory.on_skill("ADDED", body)
        assert directory.input_schema(directory.entries[SkillKey("finance", f"s{n}")]) is not None
    assert len(directory._input_schemas) == directory_module.MAX_COMPILED_SCHEMAS
