"""The mirror of a node: what it passes on to the registry, and what it does not."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skill_operator.registry import mirror
from skill_operator.registry.docker_config import RegistryCredential, render_docker_config
from tests.unit.raw_http import exchange

DIGEST = b"sha256:" + b"a" * 64
BLOB = b"/v2/skills/team/add/blobs/" + DIGEST


CREDENTIAL = RegistryCredential("mirror", "p" * 43)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / ".dockerconfigjson"
    file.write_text(render_docker_config(CREDENTIAL, "registry:5000"))
    return file


@contextlib.asynccontextmanager
async def serving(config: Path, response: bytes, seen: list[bytes]) -> AsyncIterator[int]:
    """Yield the port of a mirror whose registry answers each request with `response`."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(response)
        await writer.drain()
        writer.close()

    registry = await asyncio.start_server(answer, "127.0.0.1", 0)
    upstream = f"localhost:{registry.sockets[0].getsockname()[1]}"
    async with registry, await mirror.serve(upstream, config, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_a_read_is_passed_on_and_its_bytes_come_back(method: bytes, config: Path) -> None:
    response = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 300_000
    seen: list[bytes] = []
    async with serving(config, response, seen) as port:
        assert (
            await exchange(port, method + b" " + BLOB + b" HTTP/1.1\r\nHost: localhost\r\nRange: bytes=1-\r\n\r\n")
            == response
        )
    (request,) = seen
    first, *fields = request.removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert first == method + b" " + BLOB + b" HTTP/1.1"
    assert b"Range: bytes=1-" in fields
    assert b"Connection: close" in fields
    assert [field for field in fields if field.startswith(b"Authorization:")] == [
        f"Authorization: {CREDENTIAL.header}".encode()
    ]


REFUSED = [
    *(method + b" " + BLOB + b" HTTP/1.1" for method in (b"POST", b"PUT", b"PATCH", b"DELETE", b"CONNECT", b"get")),
    *(b"GET " + path + b" HTTP/1.1" for path in (b"/", b"/v1/", b"/debug/vars", b"http://elsewhere/v2/", b"*", b"")),
    b"GET /v2/ HTTP/1.0",
    b"GET /v2/",
    b"GET /v2/ x HTTP/1.1",
    b"",
]


@pytest.mark.parametrize("first", REFUSED)
async def test_anything_else_is_refused_here(first: bytes, config: Path) -> None:
    seen: list[bytes] = []
    async with serving(config, b"", seen) as port:
        assert (await exchange(port, first + b"\r\nHost: localhost\r\n\r\n")).startswith(b"HTTP/1.1 405 ")
    assert seen == []


async def test_a_head_has_a_bound(config: Path) -> None:
    seen: list[bytes] = []
    async with serving(config, b"", seen) as port:
        head = b"GET /v2/ HTTP/1.1\r\nX: " + b"x" * 2 * mirror.MAX_HEAD_BYTES + b"\r\n\r\n"
        with contextlib.suppress(ConnectionError):
            assert (await exchange(port, head)).startswith(b"HTTP/1.1 405 ")
    assert seen == []


@pytest.mark.parametrize(
    "field",
    [
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"Expect: x",
        b"CONNECTION : x",
        b"authorization: Basic mine",
    ],
)
def test_what_frames_a_request_is_not_passed_on(field: bytes) -> None:
    head = mirror.rewrite(b"GET /v2/ HTTP/1.1\r\n" + field + b"\r\nAccept: a\r\n\r\n", "registry:5001", "Basic x")
    assert (
        head
        == b"GET /v2/ HTTP/1.1\r\nAccept: a\r\nHost: registry:5001\r\nAuthorization: Basic x\r\nConnection: close\r\n\r\n"
    )


async def test_a_runtime_that_tries_tls_first_is_told_at_once_that_this_is_http(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Go's client, which container runtimes use, falls back to HTTP when the answer to its hello begins with `HTTP/`."""
    monkeypatch.setattr(mirror, "HEAD_TIMEOUT_SECONDS", 3600)  # no answer of a deadline is waited for
    context = ssl.create_default_context()
    seen: list[bytes] = []
    async with serving(config, b"", seen) as port:
        with pytest.raises(ssl.SSLError) as told:
            await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        assert told.value.reason == "WRONG_VERSION_NUMBER"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        hello = ssl.MemoryBIO()
        with contextlib.suppress(ssl.SSLWantReadError):
            context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost").do_handshake()
        writer.write(hello.read())
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()
    assert seen == []


async def test_a_registry_that_is_away_is_said(config: Path) -> None:
    async with await mirror.serve("127.0.0.1:1", config, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert (await exchange(port, b"GET /v2/ HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 502 ")


async def test_pulls_go_on_while_the_cluster_has_no_dns(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise OSError("no name resolves")

    async with serving(config, b"HTTP/1.1 200 OK\r\n\r\n", []) as port:
        assert (await exchange(port, b"GET /v2/ HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
        assert (await exchange(port, b"GET /v2/ HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
