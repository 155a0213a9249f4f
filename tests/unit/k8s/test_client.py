"""What is known without a cluster: which error an answer is, and what a broken API server does to us."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from skill_operator import naming
from skill_operator.k8s import client
from skill_operator.k8s.client import ApiServer, connect
from skill_operator.k8s.errors import ClusterError
from tests.unit.fat_metadata import FAT_METADATA

pytestmark = pytest.mark.timeout(20)
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """A server on loopback that says what the test wants: faults that no real API server can be asked for."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[web.Request] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        return await (self.answers.pop(0) if self.answers else hang)(request)

    def will(self, status: int, body: Any, **headers: str) -> None:
        text = body if isinstance(body, str) else json.dumps(body)

        async def answer(_: web.Request) -> web.Response:
            return web.Response(status=status, text=text, headers={k.replace("_", "-"): v for k, v in headers.items()})

        self.answers.append(answer)

    def will_stream(self, *lines: Any) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for line in lines:
                await response.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
            return response

        self.answers.append(answer)


async def hang(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.port = runner.addresses[0][1]  # type: ignore[attr-defined]
    yield made
    await runner.cleanup()


@pytest.fixture
async def api(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServer]:
    kubeconfig = {
        "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": f"http://127.0.0.1:{server.port}"}}],  # type: ignore[attr-defined]
        "users": [{"name": "x", "user": {"token": "t0ken"}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setattr(client, "MIN_WATCH_SECONDS", 0.01)
    monkeypatch.setattr(client, "MAX_PAUSE_SECONDS", 0.01)
    async with connect("tests") as made:
        yield made


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (301, client.Unavailable, True),
        (400, client.Invalid, False),
        (401, client.Forbidden, False),
        (403, client.Forbidden, False),
        (404, client.NotFound, False),
        (405, client.Invalid, False),
        (408, client.Unavailable, True),
        (409, client.Conflict, True),
        (410, client.Gone, True),
        (413, client.Invalid, False),
        (422, client.Invalid, False),
        (429, client.TooManyRequests, True),
        (500, client.Unavailable, True),
        (503, client.Unavailable, True),
    ],
)
async def test_one_class_for_each_way_to_react(
    api: ApiServer, server: Server, status: int, kind: type[ClusterError], retryable: bool
) -> None:
    server.will(status, {"kind": "Status", "message": "because"}, Retry_After="7", Location="/elsewhere")
    with pytest.raises(ClusterError) as caught:
        await api.create({"kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}})
    error = caught.value
    assert (type(error), error.retryable, error.status, error.retry_after) == (kind, retryable, status, 7.0)
    assert error.message == "because"
    assert len(server.requests) == 1, "nothing is done twice behind the caller's back"


async def test_a_field_unknown_to_server_side_apply_is_our_fault(api: ApiServer, server: Server) -> None:
    """The API server calls it an internal error."""
    server.will(500, {"message": "failed to create typed patch object: .spec.x: field not declared in schema"})
    with pytest.raises(client.Invalid, match="not declared"):
        await api.apply({"kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}})


@pytest.mark.parametrize("body", ["<html>bad gateway</html>", "[]", "7", '{"message": null}', ""])
async def test_errors_of_somebody_in_between(api: ApiServer, server: Server, body: str) -> None:
    server.will(502, body)
    with pytest.raises(client.Unavailable) as caught:
        await api.get("ConfigMap", "b", "a")
    assert caught.value.message == (body or "HTTP 502")


@pytest.mark.parametrize("body", ["<html>login</html>", "", "[1]", "{"])
async def test_an_answer_that_is_no_object(api: ApiServer, server: Server, body: str) -> None:
    server.will(200, body)
    with pytest.raises(client.Unavailable):
        await api.get("ConfigMap", "b", "a")


async def test_no_answer(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TIMEOUT_SECONDS", 0.1)
    with pytest.raises(client.Unavailable):
        await api.get("ConfigMap", "b", "a")


async def test_what_is_sent(api: ApiServer, server: Server) -> None:
    """Nulls too: an example's output may be null."""
    sent: list[Any] = []

    async def keep(request: web.Request) -> web.Response:
        sent.append(await request.json())
        return web.json_response({})

    server.answers.append(keep)
    obj = {"kind": "Skill", "metadata": {"name": "a", "namespace": "b"}, "spec": {"examples": [{"output": None}]}}
    await api.apply(obj)
    (request,) = server.requests
    assert sent == [obj]
    assert request.path == "/apis/skill-operator.dev/v1alpha1/namespaces/b/skills/a"
    assert dict(request.query) == {"fieldManager": "tests", "force": "true", "fieldValidation": "Strict"}
    assert request.headers["Content-Type"] == "application/apply-patch+yaml"
    assert request.headers["Authorization"].lower() == "bearer t0ken"


def listed(*names: str, version: str = "5", more: str = "") -> dict[str, Any]:
    meta = {"resourceVersion": version, "continue": more}
    return {"apiVersion": "v1", "kind": "ConfigMapList", "metadata": meta, "items": [item(name) for name in names]}


def item(name: str, version: str = "1") -> dict[str, Any]:
    meta = {"name": name, "namespace": "b", "uid": name, "resourceVersion": version, "managedFields": [1]}
    return {"metadata": meta, "data": {"a": "x" * 100}}


async def told(api: ApiServer, count: int) -> list[tuple[str, str]]:
    found = []
    changes = api.watch("ConfigMap", "b")
    async with asyncio.timeout(5):
        for _ in range(count):
            change, obj = await anext(changes)
            found.append((change, obj["metadata"]["name"] if obj else ""))
    await changes.aclose()  # type: ignore[attr-defined]
    return found


async def test_a_list_of_several_pages(api: ApiServer, server: Server) -> None:
    server.will(200, listed("one", more="next"))
    server.will(200, listed("two"))
    assert [o["metadata"]["name"] for o in await api.list("ConfigMap", "b")] == ["one", "two"]
    assert [r.query.get("continue") for r in server.requests] == [None, "next"]


@pytest.mark.parametrize(
    "end",
    [
        {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}},
        {"type": "ERROR", "object": {"kind": "Status", "message": "etcd is sad"}},
        b"<html>\n",
        b"[]\n",
        b'{"type": "MODIFIED", "object": {}}\n',
        b'{"type": "MODIFIED", "object": null}\n',
    ],
    ids=str,
)
async def test_after_a_broken_watch_everything_is_listed_again(api: ApiServer, server: Server, end: Any) -> None:
    server.will(200, listed("kept", "gone"))
    server.will_stream({"type": "ADDED", "object": item("new", "7")}, end)
    server.will(200, listed("kept", "later"))
    changes = await told(api, 9)
    assert changes[:5] == [("ADDED", "kept"), ("ADDED", "gone"), ("SYNCED", ""), ("ADDED", "new"), ("CUT", "")]
    assert changes[5] == ("ADDED", "later")
    assert sorted(changes[6:8]) == [("DELETED", "gone"), ("DELETED", "new")]
    assert changes[8:] == [("SYNCED", "")]


async def test_an_object_is_gone_before_another_has_its_name(api: ApiServer, server: Server) -> None:
    server.will(200, listed("one"))
    server.will_stream({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}})
    again = listed("one")
    again["items"][0]["metadata"]["uid"] = "another"
    server.will(200, again)
    assert await told(api, 6) == [
        ("ADDED", "one"), ("SYNCED", ""), ("CUT", ""), ("DELETED", "one"), ("ADDED", "one"), ("SYNCED", ""),
    ]  # fmt: skip


async def test_a_list_of_skills_holds_what_is_read_of_all(api: ApiServer, server: Server) -> None:
    page = listed("one")
    page["items"][0]["spec"] = {"input": {}, "examples": [{}], "description": "d", "egress": [{"host": "a.example"}]}
    server.will(200, page)
    (skill,) = await api.list("Skill", "b")
    assert skill["spec"] == {"egress": [{"host": "a.example"}]}


async def test_a_watch_that_ends_in_the_middle_of_a_line_is_resumed(api: ApiServer, server: Server) -> None:
    server.will(200, listed())
    server.will_stream({"type": "ADDED", "object": item("one", "7")}, b'{"type": "ADD')
    server.will_stream({"type": "ADDED", "object": item("two", "8")})
    assert await told(api, 3) == [("SYNCED", ""), ("ADDED", "one"), ("ADDED", "two")]
    assert [r.query.get("resourceVersion") for r in server.requests] == [None, "5", "7"]


async def test_a_bookmark_moves_the_watch_on(api: ApiServer, server: Server) -> None:
    server.will(200, listed("one"))
    server.will_stream({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "99"}}})
    server.will_stream({"type": "DELETED", "object": item("one", "100")})
    assert await told(api, 3) == [("ADDED", "one"), ("SYNCED", ""), ("DELETED", "one")]
    assert [r.query.get("resourceVersion") for r in server.requests] == [None, "5", "99"]


async def test_a_line_of_a_megabyte_in_small_pieces(api: ApiServer, server: Server) -> None:
    big = item("big")
    big["data"] = {"a": "x" * (1 << 20)}
    raw = json.dumps({"type": "ADDED", "object": big}).encode() + b"\n\n"
    server.will(200, listed())
    server.will_stream(*(raw[start : start + 50_000] for start in range(0, len(raw), 50_000)))
    assert await told(api, 2) == [("SYNCED", ""), ("ADDED", "big")]


async def test_a_server_that_keeps_refusing_is_asked_ever_more_seldom(
    api: ApiServer, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MAX_PAUSE_SECONDS", 30.0)
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(client.asyncio, "sleep", pause)
    for _ in range(9):
        server.will(503, {"message": "overloaded"})
    server.will(200, listed())
    assert await told(api, 10) == [*[("CUT", "")] * 9, ("SYNCED", "")]
    assert len(pauses) == 9
    assert 0.3 < pauses[0] < 0.5
    assert 24 <= pauses[-1] <= 36
    assert pauses[:6] == sorted(pauses[:6])


async def test_a_server_that_ends_every_watch_at_once_is_not_hammered(
    api: ApiServer, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(client, "MIN_WATCH_SECONDS", 60.0)
    monkeypatch.setattr(client.asyncio, "sleep", pause)
    server.will(200, listed())
    for _ in range(3):
        server.will_stream()
    server.will_stream({"type": "ADDED", "object": item("one", "7")})
    assert await told(api, 2) == [("SYNCED", ""), ("ADDED", "one")]
    assert pauses == [60.0] * 3


async def test_an_end_is_told_once(api: ApiServer, server: Server) -> None:
    server.will(200, listed("one"))
    server.will_stream({"type": "DELETED", "object": item("one", "7")}, b"[]\n")
    server.will(200, listed())
    once = [("ADDED", "one"), ("SYNCED", ""), ("DELETED", "one"), ("CUT", ""), ("SYNCED", "")]
    assert await told(api, 5) == once


def test_a_watch_keeps_no_more_than_it_needs() -> None:
    trace = client._trace(item("a") | {"kind": "ConfigMap"})
    assert trace["metadata"] == {"name": "a", "namespace": "b", "uid": "a", "resourceVersion": "1"}
    assert "data" not in trace


@pytest.mark.parametrize("field", FAT_METADATA)
def test_nothing_is_kept_of_metadata_that_a_tenant_filled(field: str) -> None:
    fat = item("a") | {"kind": "Skill", "spec": {"secrets": []}}
    own = {naming.UID_LABEL: "u-1", naming.MANAGED_BY: naming.MANAGER}
    more = FAT_METADATA[field] | own if field == "labels" else FAT_METADATA[field]
    fat["metadata"] = fat["metadata"] | {field: more}
    assert len(json.dumps(client._trace(fat))) < 500
    assert len(json.dumps(client._outline(fat))) < 500
    if field == "labels":
        assert client._trace(fat)["metadata"]["labels"] == own


class Strangers:
    """Strangers are objects that a tenant stored: served in pages of the asked size, or as metadata alone."""

    def __init__(self, count: int, meta: dict[str, Any], spec: dict[str, Any]) -> None:
        self.count = count
        self._meta = meta
        self._spec = spec
        self.bytes_sent = 0

    async def __call__(self, request: web.Request) -> web.Response:
        start, limit = int(request.query.get("continue") or 0), int(request.query["limit"])
        end = min(self.count, start + limit)
        fields = {} if "PartialObjectMetadata" in request.headers["Accept"] else {"spec": self._spec}
        items = [{"metadata": self._named(n) | self._meta, **fields} for n in range(start, end)]
        meta = {"resourceVersion": "5", "continue": str(end) if end < self.count else ""}
        text = json.dumps({"metadata": meta, "items": items})
        self.bytes_sent += len(text)
        return web.Response(text=text)

    def _named(self, number: int) -> dict[str, Any]:
        return {"name": f"p{number:04}", "namespace": "b", "uid": f"u{number}", "resourceVersion": "1"}


FAT_LABELS = {"labels": {f"x{n:06}": "" for n in range(60_000)}}
FAT_SPEC = {"podSelector": {"matchLabels": {f"k{n:05}": "v" * 30 for n in range(30_000)}}}
FATS = [(FAT_LABELS, {}), ({}, FAT_SPEC)]


def kept_bytes(objects: Any) -> int:
    return len(json.dumps(objects))


@pytest.mark.parametrize(("meta", "spec"), FATS, ids=["labels", "spec"])
async def test_a_scan_ends_at_its_bound_of_bytes(api: ApiServer, server: Server, meta: Any, spec: Any) -> None:
    strangers = Strangers(60, meta, spec)
    server.answers = [strangers] * 200
    seen = 0

    async def scan() -> None:
        nonlocal seen
        async for _ in api.scan("NetworkPolicy", "b"):
            seen += 1

    with pytest.raises(client.TooMuch):
        await scan()
    assert 0 < seen < 60
    assert len(server.requests) <= 2 * client.MAX_SCAN_BYTES / (1 << 20)


async def test_a_scan_of_usual_objects_yields_all(api: ApiServer, server: Server) -> None:
    server.answers = [Strangers(1000, {}, {"podSelector": {"matchLabels": {"app": "x"}}, "ingress": [{}]})] * 30
    found = [policy["metadata"]["name"] async for policy in api.scan("NetworkPolicy", "b")]
    assert len(found) == len({*found}) == 1000


@pytest.mark.parametrize("kind", ["NetworkPolicy", "ResourceQuota"])
@pytest.mark.parametrize(("meta", "spec"), FATS, ids=["labels", "spec"])
async def test_a_list_keeps_little_of_what_a_tenant_filled(
    api: ApiServer, server: Server, kind: str, meta: Any, spec: Any
) -> None:
    server.answers = [Strangers(5, meta, spec)] * 30
    found = await api.list(kind, "b", naming.MANAGED)
    assert [obj["metadata"]["name"] for obj in found] == [f"p{n:04}" for n in range(5)]
    assert kept_bytes(found) < 5 * 500


@pytest.mark.parametrize("field", FAT_METADATA)
@pytest.mark.parametrize("kind", ["Job", "Pod", "ConfigMap", "Deployment"])
def test_a_list_keeps_of_metadata_what_is_read(field: str, kind: str) -> None:
    own = {naming.UID_LABEL: "u-1", naming.MANAGED_BY: naming.MANAGER, naming.COMPONENT: "check", "job-name": "j"}
    fat = item("a") | {"kind": kind}
    maker = {"kind": "ReplicaSet", "name": "r", "uid": "u", "controller": True}
    crowd = {f"app.kubernetes.io/{n:06}": "" for n in range(10_000)}
    more: dict[str, Any] = {
        "labels": crowd | FAT_METADATA["labels"] | own,
        "annotations": FAT_METADATA["annotations"] | {naming.APPLIED_ANNOTATION: "d"},
        "ownerReferences": [*FAT_METADATA["ownerReferences"], maker],
        "finalizers": FAT_METADATA["finalizers"],
    }
    fat["metadata"] = fat["metadata"] | {field: more[field]}
    kept = client._trim(fat)["metadata"]
    assert len(json.dumps(kept)) < 8000
    read = {"labels": own, "annotations": {naming.APPLIED_ANNOTATION: "d"}}
    if field in read:
        assert kept[field] == read[field]
    if field == "ownerReferences":
        assert kept[field][0] == maker


def test_a_list_leaves_usual_metadata_as_it_is() -> None:
    usual = item("a") | {"kind": "Node", "spec": {"x": 1}}
    usual["metadata"] = usual["metadata"] | {
        "labels": {f"feature.node.kubernetes.io/{n:03}": "true" for n in range(200)},
        "annotations": {"example.com/note": "v" * 2000},
        "ownerReferences": [{"kind": "Skill", "name": "s", "uid": "u"}],
    }
    whole = {key: value for key, value in usual["metadata"].items() if key != "managedFields"}
    assert client._trim(usual) == usual | {"metadata": whole}


class Events(Strangers):
    """Events are warnings about one pod, each with a message and an annotation of this size."""

    def __init__(self, count: int, size: int) -> None:
        super().__init__(count, {"annotations": {"a": "x" * size}}, {})
        self._more = {"type": "Warning", "reason": "FailedMount", "message": "m" * size, "lastTimestamp": "2030-01-01"}

    async def __call__(self, request: web.Request) -> web.Response:
        answer = json.loads((await super().__call__(request)).text or "")
        answer["items"] = [event | self._more for event in answer["items"]]
        return web.Response(text=json.dumps(answer))


@pytest.mark.parametrize(("count", "size", "all_read"), [(500, 100, True), (500, 6000, True), (90, 700_000, False)])
async def test_warnings_however_large_they_are(
    api: ApiServer, server: Server, count: int, size: int, all_read: bool
) -> None:
    server.answers = [Events(count, size)] * 200
    found = await api.warnings("b", "u")
    assert (len(found) >= count) is all_read
    assert found
    assert {event["reason"] for event in found} == {"FailedMount"}
    assert kept_bytes(found) <= len(found) * (client.MAX_EVENT_CHARACTERS + 200)
    assert all(request.query["fieldSelector"] == "involvedObject.uid=u,type=Warning" for request in server.requests)


async def test_an_event_of_too_many_values_says_nothing_and_breaks_nothing(api: ApiServer, server: Server) -> None:
    server.answers = [Strangers(2, FAT_LABELS, {})] * 50
    assert await api.warnings("b", "u") == [{}, {}]


@pytest.mark.parametrize(
    "body",
    [
        {"metadata": {"resourceVersion": "1"}},
        {"metadata": {"resourceVersion": "1"}, "items": None},
        {"metadata": {"resourceVersion": "1"}, "items": {}},
        {"metadata": {}, "items": []},
        {"items": []},
        {"metadata": None, "items": []},
        {},
    ],
    ids=str,
)
async def test_a_list_that_is_none_is_no_empty_list(api: ApiServer, server: Server, body: Any) -> None:
    for ask in (api.list("Job", "b"), api.warnings("b", "u")):
        server.will(200, body)
        with pytest.raises(client.Unavailable):
            await ask
