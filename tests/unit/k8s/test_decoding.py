"""One object that is too much costs no other object anything: it is its skeleton, and all others are whole."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from kopf._cogs.clients.api import iter_jsonlines

from skill_operator import handlers
from skill_operator.gateway.pods.directory import Directory
from skill_operator.k8s import client, decoding
from skill_operator.k8s.client import ApiServer
from skill_operator.k8s.interface import UNREADABLE
from skill_operator.reconcile.preflight import parse
from tests.unit.k8s.test_client import Server, api, server

__all__ = ["api", "server"]
DEEP = 10_000


def skill(name: str, filler: str = "1", managed: str = "{}") -> str:
    meta = (
        f'{{"name":"{name}","namespace":"team","uid":"u-{name}","resourceVersion":"7","generation":1,'
        f'"labels":{{"a]}}":"\\"[{{"}},"managedFields":[{{"fieldsV1":{managed}}}]}}'
    )
    spec = (
        f'{{"description":"d","input":{{"type":"object"}},"output":{{}},"examples":[{{"name":"a","input":{filler}}}]}}'
    )
    return f'{{"kind":"Skill","metadata":{meta},"spec":{spec}}}'


def metadata(text: str) -> str:
    """What the API server returns of an object where its metadata alone is asked for."""
    meta = text[text.index('"metadata":') : text.index(',"spec":')]
    return f'{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1",{meta}}}'


WIDE = "[" + ",".join(["[]"] * 70_000) + "]"
TOO_MUCH = {
    "lists in lists": skill("bad", "[" * DEEP + "]" * DEEP),
    "objects in objects": skill("bad", '{"a":' * DEEP + "1" + "}" * DEEP),
    "managed fields": skill("bad", "1", '{"f:a":' * DEEP + "{}" + "}" * DEEP),
    "empty lists": skill("bad", WIDE),
    "numbers": skill("bad", "[" + "0," * 70_000 + "0]"),
    "one long text": skill("bad", '"' + "\\u003c" * 360_000 + '"'),
    "brackets in a text, then depth": skill("bad", '["' + '\\"]}[{' * 1000 + '",' + "[" * DEEP + "]" * DEEP + "]"),
}


@pytest.mark.parametrize("what", TOO_MUCH)
async def test_an_object_that_is_too_much_is_its_skeleton(what: str) -> None:
    value, whole = await decoding.parse_object(TOO_MUCH[what].encode())
    assert not whole
    assert {key: value["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")} == {
        "name": "bad", "namespace": "team", "uid": "u-bad", "resourceVersion": "7",
    }  # fmt: skip
    assert len(json.dumps(value)) < 1 << 20
    bare, refusal = parse(decoding.mark(value))
    assert bare.metadata.name == "bad"
    assert refusal is not None
    assert "too deeply" in refusal.conditions[0].message


@pytest.mark.parametrize("what", TOO_MUCH)
async def test_a_list_has_all_others(server: Server, api: ApiServer, what: str) -> None:
    """Pages are halved until the object stands alone, and grow again."""
    objects = [skill(f"s{n}") for n in range(20)]
    objects.insert(11, TOO_MUCH[what])

    async def page(request: web.Request) -> web.Response:
        start, size = int(request.query.get("continue", 0)), int(request.query["limit"])
        meta: dict[str, Any] = {"resourceVersion": "9"}
        if start + size < len(objects):
            meta["continue"] = str(start + size)
        accept = request.headers["Accept"]
        assert accept in ("application/json", decoding.METADATA_LIST)
        alone = accept == decoding.METADATA_LIST
        items = ",".join(metadata(text) if alone else text for text in objects[start : start + size])
        return web.Response(text=f'{{"apiVersion":"v1","items":[{items}],"metadata":{json.dumps(meta)}}}')

    server.answers = [page] * 30
    listed = await api.list("Skill")
    assert [obj["metadata"]["name"] for obj in listed if UNREADABLE not in obj] == [f"s{n}" for n in range(20)]
    assert [obj["metadata"]["name"] for obj in listed if UNREADABLE in obj] == ["bad"]
    assert {(obj["apiVersion"], obj["kind"]) for obj in listed} == {("skill-operator.dev/v1alpha1", "Skill")}
    assert len(server.requests) < 20


@pytest.mark.parametrize("what", TOO_MUCH)
async def test_a_watch_goes_on(server: Server, api: ApiServer, what: str) -> None:
    server.will(200, {"items": [], "metadata": {"resourceVersion": "1"}})
    lines = [f'{{"type":"ADDED","object":{text}}}\n'.encode() for text in (skill("a"), TOO_MUCH[what], skill("b"))]
    server.will_stream(*lines)
    directory, seen = Directory(), []
    async for change, obj in api.watch("Skill"):
        if change == "ADDED":
            directory.on_skill(change, obj)
            seen.append(obj["metadata"]["name"])
        if seen[-1:] == ["b"]:
            break
    assert seen == ["a", "bad", "b"]
    assert [key.name for key, entry in directory.entries.items() if entry.skill is None] == ["bad"]


async def test_each_spec_is_told_once(server: Server, api: ApiServer, caplog: pytest.LogCaptureFixture) -> None:
    """The operator itself makes a new version, when it writes into the status that it cannot read the object."""
    for generation, version in ((1, 7), (1, 8), (1, 8), (2, 9)):
        text = TOO_MUCH["lists in lists"].replace('"resourceVersion":"7"', f'"resourceVersion":"{version}"')
        server.will(200, text.replace('"generation":1', f'"generation":{generation}'))
        assert UNREADABLE in (await api.get("Skill", "team", "bad") or {})
    assert len([record for record in caplog.records if "too much" in record.message]) == 2


async def test_without_a_generation_each_version_is_told(
    server: Server, api: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    for version in (7, 7, 8):
        text = TOO_MUCH["lists in lists"].replace('"resourceVersion":"7"', f'"resourceVersion":"{version}"')
        server.will(200, text.replace(',"generation":1', ""))
        await api.get("ConfigMap", "team", "bad")
    assert len([record for record in caplog.records if "too much" in record.message]) == 2


@pytest.fixture
async def informer(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    """The session that the informer gives to kopf."""
    async with aiohttp.ClientSession(
        f"http://127.0.0.1:{server.port}/",  # type: ignore[attr-defined]
        response_class=handlers._Response,
        middlewares=(handlers._ask_for_metadata,),
    ) as session:
        yield session


@pytest.mark.parametrize("what", TOO_MUCH)
async def test_the_informer_can_parse_what_it_lists(server: Server, informer: Any, what: str) -> None:
    server.will(200, f'{{"items":[{skill("a")},{TOO_MUCH[what]}],"metadata":{{"resourceVersion":"9"}}}}')
    listed = await (await informer.get("skills")).json()
    assert [item["metadata"]["uid"] for item in listed["items"]] == ["u-a", "u-bad"]
    assert listed["metadata"] == {"resourceVersion": "9"}


@pytest.mark.parametrize("what", TOO_MUCH)
async def test_the_informer_can_parse_what_it_watches(server: Server, informer: Any, what: str) -> None:
    texts = (skill("a"), TOO_MUCH[what], skill("b"))
    server.will_stream(*(f'{{"type":"ADDED","object":{text}}}\n'.encode() for text in texts))
    async with informer.get("skills?watch=true") as response:
        events = [json.loads(line) async for line in iter_jsonlines(response.content)]
    assert [event["object"]["metadata"]["uid"] for event in events] == ["u-a", "u-bad", "u-b"]


async def test_the_informer_asks_for_metadata_alone(server: Server, informer: Any) -> None:
    for body in ({"items": None, "metadata": {}}, {}, {}):
        server.will(200, body)
    assert (await (await informer.get("skills?limit=16")).json())["items"] == []
    await informer.get("skills?watch=true")
    await informer.get("apis")
    accepted = [request.headers["Accept"] for request in server.requests]
    assert accepted == [decoding.METADATA_LIST, decoding.METADATA, "*/*"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["]", '"', "\\", '\\"[', "{"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=30,
)


def shallow(value: Any, levels: int) -> Any:
    if isinstance(value, dict | list) and levels == 0:
        return None
    if isinstance(value, dict):
        return {key: shallow(child, levels - 1) for key, child in value.items()}
    return [shallow(child, levels - 1) for child in value] if isinstance(value, list) else value


@given(JSON, st.integers(0, 5), st.booleans())
@settings(max_examples=100, deadline=None)
def test_a_cut_is_what_a_parser_would_cut(value: Any, levels: int, escaped: bool) -> None:
    text = json.dumps(value, ensure_ascii=escaped).encode()
    assert json.loads(decoding.cut(text, levels)) == shallow(value, levels)


@given(JSON, JSON, st.integers(0, 2), st.booleans())
@settings(max_examples=100, deadline=None)
def test_metadata_alone_is_what_a_parser_would_leave(meta: Any, other: Any, outer: int, first: bool) -> None:
    """A text "metadata", or a key inside other values, does not count."""
    alone = {"kind": "metadata", "more": {"metadata": other} if first else 0, "metadata": {"a": meta}}
    text: Any = alone | {"spec": other, "status": {"metadata": {}}}
    for _ in range(outer):
        alone, text = {"object": alone}, {"object": text}
    found = json.loads(decoding.metadata_alone(json.dumps(text, separators=(",", ":")).encode(), outer))
    assert found == shallow(alone, outer + decoding.OBJECT_LEVELS)


def test_the_spec_is_not_read_for_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    monkeypatch.setattr(decoding, "cut", lambda raw, _: read.append(len(raw)) or raw)
    decoding.metadata_alone(TOO_MUCH["empty lists"].encode())
    assert read[0] < 1000


@given(JSON)
@settings(max_examples=100, deadline=None)
def test_no_document_has_more_values_than_is_counted(value: Any) -> None:
    def count(node: Any) -> int:
        inside = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        return 1 + sum(map(count, inside))

    raw = json.dumps(value).encode()
    assert count(value) <= 1 + raw.count(b",") + raw.count(b"[") + raw.count(b"{")


def test_pages_are_small() -> None:
    assert client.PAGE_SIZE <= 100
    assert handlers.PAGE_SIZE * 3 << 19 <= 32 << 20
