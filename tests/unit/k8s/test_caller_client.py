"""What is sent to the API server on behalf of a caller: that caller's token, and nothing of this process."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from skill_operator.k8s import caller_client
from skill_operator.k8s.caller_client import CallerApiServer, connect_for_callers, own_audience
from skill_operator.k8s.errors import ClusterError, Forbidden, Invalid, Unavailable
from tests.unit.web_server import served

pytestmark = pytest.mark.timeout(20)


class Server:
    """A server on loopback that answers what the test wants."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.status = 200
        self.body = b"{}"
        self.headers: dict[str, str] = {}
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append((request.method, str(request.rel_url), dict(request.headers), await request.read()))
        return web.Response(status=self.status, body=self.body, headers=self.headers)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    async with served(app) as host:
        made.url = f"http://{host}"
        yield made


@pytest.fixture
async def api(server: Server) -> AsyncIterator[CallerApiServer]:
    made = CallerApiServer(server.url, tls=True, agent="test")
    yield made
    await made.close()


async def test_the_callers_token_is_all_that_is_sent(server: Server, api: CallerApiServer) -> None:
    server.headers = {"Set-Cookie": "a=b"}
    for _ in range(2):
        await api.get("tok.en", "ConfigMap", "finance", "invoice-source")
    for method, path, headers, _ in server.requests:
        assert (method, path) == ("GET", "/api/v1/namespaces/finance/configmaps/invoice-source")
        assert headers["Authorization"] == "Bearer tok.en"
        assert "Cookie" not in headers


@pytest.mark.parametrize("token", ["", " ", "a b", "a\r\nX: y", "é", "Bearer x"])
async def test_without_a_token_nothing_is_sent(server: Server, api: CallerApiServer, token: str) -> None:
    with pytest.raises(Forbidden) as raised:
        await api.get(token, "Skill", "finance", "invoice")
    assert caller_client.is_token_refused(raised.value)
    assert server.requests == []


@pytest.mark.parametrize(
    ("namespace", "name"), [("..", "x"), ("finance", ""), ("", "x"), ("finance", "a/b"), ("finance", "A"), ("a?b", "c")]
)
async def test_a_crooked_name_is_no_other_request(
    server: Server, api: CallerApiServer, namespace: str, name: str
) -> None:
    with pytest.raises(Invalid):
        await api.get("t", "Skill", namespace, name)
    with pytest.raises(Invalid):
        await api.patch("t", "Skill", namespace, name, {})
    assert server.requests == []


@pytest.mark.parametrize(("status", "refused"), [(401, True), (403, False), (409, False), (500, False)])
async def test_errors_tell_a_token_from_a_right(
    server: Server, api: CallerApiServer, status: int, refused: bool
) -> None:
    server.status, server.body = status, json.dumps({"message": "why"}).encode()
    with pytest.raises(ClusterError, match="why") as raised:
        await api.get("t", "Skill", "finance", "invoice")
    assert caller_client.is_token_refused(raised.value) is refused
    assert raised.value.status == status


async def test_what_is_not_there_is_none(server: Server, api: CallerApiServer) -> None:
    server.status = 404
    assert await api.get("t", "Skill", "finance", "invoice") is None


@pytest.mark.parametrize(
    "body", [b"x" * (5 << 20), b"no json", b"[]", b'{"metadata": {}, "a": ' + b"[" * 1000 + b"]" * 1000 + b"}"]
)
async def test_a_response_that_is_no_object_or_too_large(server: Server, api: CallerApiServer, body: bytes) -> None:
    server.body = body
    try:
        found: Any = await api.get("t", "Skill", "finance", "invoice")
    except Unavailable:
        return
    assert isinstance(found, dict)  # a thousand levels are read where the parser can


async def test_a_redirect_is_not_followed_with_the_token(server: Server, api: CallerApiServer) -> None:
    server.status, server.headers = 302, {"Location": "http://127.0.0.1:1/"}
    with pytest.raises(ClusterError):
        await api.get("t", "Skill", "finance", "invoice")
    assert len(server.requests) == 1


async def test_decisions_and_reviews_are_sent_as_the_api_server_wants_them(
    server: Server, api: CallerApiServer
) -> None:
    await api.patch("t", "Skill", "finance", "invoice", {"metadata": {"annotations": {"a": None}}})
    server.body = b'{"status": {"userInfo": {"username": "alice"}}}'
    assert await api.review("t", "SelfSubjectReview", {}) == {"userInfo": {"username": "alice"}}
    patch, review = server.requests
    assert patch[0] == "PATCH"
    assert patch[1].startswith("/apis/skill-operator.dev/v1alpha1/namespaces/finance/skills/invoice?fieldManager=test")
    assert patch[2]["Content-Type"] == "application/merge-patch+json"
    assert json.loads(patch[3]) == {"metadata": {"annotations": {"a": None}}}
    assert review[1] == "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    assert json.loads(review[3])["kind"] == "SelfSubjectReview"
    server.body = b"{}"
    with pytest.raises(Unavailable):
        await api.review("t", "SelfSubjectReview", {})


async def test_lists_are_bounded(server: Server, api: CallerApiServer) -> None:
    server.body = b'{"items": [{"a": 1}, 5]}'
    assert await api.list("t", "ConfigMap", "finance", {"b": "c"}) == [{"a": 1}]
    assert "limit=50" in server.requests[0][1]
    assert "labelSelector=b%3Dc" in server.requests[0][1].replace("=b=c", "=b%3Dc")


async def test_the_identity_of_kubeconfig_stays_behind(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server.url}}],
        "users": [{"name": "u", "user": {"token": "secret-of-this-process"}}],
    }
    file = tmp_path / "config"
    file.write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(file))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    async with connect_for_callers("test") as api:
        await api.get("mine", "Skill", "finance", "invoice")
    assert server.requests[0][2]["Authorization"] == "Bearer mine"


def test_the_audience_is_that_of_the_own_token(tmp_path: Path) -> None:
    def write(payload: str) -> Path:
        file = tmp_path / "token"
        file.write_text(f"e30.{base64.urlsafe_b64encode(payload.encode()).decode().rstrip('=')}.c2ln")
        return file

    assert own_audience(write('{"aud": ["https://api"]}')) == "https://api"
    assert own_audience(write('{"aud": "one"}')) == "one"
    for odd in ("{}", '{"aud": []}', "[]", "x"):
        assert own_audience(write(odd)) == ""
    assert own_audience(tmp_path / "none") == ""
