"""The proxy of `ui` serves the browser that the user opened, and nobody else."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from kubectl_skill import local_proxy
from kubectl_skill.errors import CliError
from kubectl_skill.gateway import GatewayAddress
from kubectl_skill.local_proxy import COOKIE, LocalProxy, is_own_connection

TOKEN = "secret-token"


class Gateway(BaseHTTPRequestHandler):
    """Says what it was sent."""

    def do_GET(self) -> None:
        if self.path == "/ui/slow":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"first\n")
            self.wfile.flush()
            self.server.go.wait(10)  # type: ignore[attr-defined]
            self.wfile.write(b"second\n")
            return
        size = int(self.headers.get("Content-Length", 0))
        body = json.dumps(
            {
                "path": self.path,
                "method": self.command,
                "headers": dict(self.headers),
                "body": self.rfile.read(size).decode(),
            }
        )
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Set-Cookie", "theirs=1")
        self.send_header("Content-Security-Policy", "default-src 'self'")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body.encode())

    do_POST = do_HEAD = do_GET  # noqa: N815  # http.server's names

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def gateway() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    server.go = threading.Event()  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.go.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


@pytest.fixture
def proxy(gateway: ThreadingHTTPServer) -> Iterator[LocalProxy]:
    made = LocalProxy(GatewayAddress("127.0.0.1", gateway.server_address[1]), lambda: TOKEN)
    threading.Thread(target=made.serve, daemon=True).start()
    yield made
    made.close()


def ask(
    proxy: LocalProxy, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def sign_in(proxy: LocalProxy) -> str:
    status, headers, _ = ask(proxy, proxy.start_url.removeprefix(f"http://127.0.0.1:{proxy.port}"))
    assert status == 303
    assert headers["Location"] == "/ui"
    cookie, *attributes = headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} == set(attributes)
    return cookie


def test_the_token_is_added_and_never_shown(proxy: LocalProxy) -> None:
    cookie = sign_in(proxy)
    status, headers, text = ask(proxy, "/ui/x?y=1", Cookie=f"theirs=1; {cookie}", Authorization="Bearer other")
    assert status == 200
    sent = json.loads(text)
    assert sent["path"] == "/ui/x?y=1"
    assert sent["headers"]["Authorization"] == f"Bearer {TOKEN}"
    assert sent["headers"]["Host"] == proxy.authority
    assert sent["headers"]["Cookie"] == "theirs=1"
    assert headers["Content-Security-Policy"] == "default-src 'self'"
    assert TOKEN not in cookie


def test_the_link_works_once(proxy: LocalProxy) -> None:
    sign_in(proxy)
    status, _, text = ask(proxy, proxy.start_url.partition(str(proxy.port))[2])
    assert status == 403
    assert "Start it again" in text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Cookie": f"{COOKIE}=wrong"},
        {"Cookie": f"{COOKIE}="},
        {"Cookie": "ü"},
        {"Authorization": "Bearer x"},
    ],
)
@pytest.mark.parametrize("path", ["/", "/ui", "/ui/x", "/v1/skills", "/wrong-start-path"])
def test_without_the_cookie_nothing_is_served(path: str, headers: dict[str, str], proxy: LocalProxy) -> None:
    sign_in(proxy)
    status, _, text = ask(proxy, path, **headers)
    assert status == 403
    assert TOKEN not in text


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1"},
        {"Host": "localhost"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_pages_of_others_cannot_ride_it(headers: dict[str, str], proxy: LocalProxy) -> None:
    assert ask(proxy, "/ui", Cookie=sign_in(proxy), **headers)[0] == 403


def test_the_page_itself_may_change_things(proxy: LocalProxy) -> None:
    cookie = sign_in(proxy)
    own = f"http://{proxy.authority}"
    status, _, text = ask(proxy, "/ui/approve", "POST", b"a=b", Cookie=cookie, Origin=own)
    assert status == 200
    assert json.loads(text)["body"] == "a=b"
    assert json.loads(text)["headers"]["Origin"] == own
    assert ask(proxy, "/ui/approve", "POST", b"a=b", Cookie=cookie)[0] == 403
    assert ask(proxy, "/ui/approve", "POST", b"a=b", Cookie=cookie, Sec_Fetch_Site="none")[0] == 403


def test_what_could_be_read_in_two_ways_is_refused(proxy: LocalProxy) -> None:
    cookie, own = sign_in(proxy), f"http://{proxy.authority}"
    status, _, text = ask(proxy, "//evil.example/ui", Cookie=cookie)
    assert status == 403 or json.loads(text)["path"] == "/evil.example/ui"
    assert ask(proxy, "http://evil.example/", Cookie=cookie)[0] == 403
    raw = (
        f"POST /ui HTTP/1.1\r\nHost: {proxy.authority}\r\nCookie: {cookie}\r\nOrigin: {own}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    twice = f"POST /ui HTTP/1.1\r\nHost: {proxy.authority}\r\nCookie: {cookie}\r\nOrigin: {own}\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"
    hosts = f"GET /ui HTTP/1.1\r\nHost: {proxy.authority}\r\nHost: evil.example\r\nCookie: {cookie}\r\n\r\n"
    large = f"POST /ui HTTP/1.1\r\nHost: {proxy.authority}\r\nCookie: {cookie}\r\nOrigin: {own}\r\nContent-Length: 99999999\r\n\r\n"
    for text in (raw, twice, hosts, large):
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
            connection.sendall(text.encode())
            assert b" 403 " in connection.recv(100)


def test_an_answer_is_passed_on_as_it_comes(proxy: LocalProxy, gateway: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
    connection.request("GET", "/ui/slow", headers={"Cookie": sign_in(proxy)})
    answer = connection.getresponse()
    assert answer.readline() == b"first\n"
    gateway.go.set()
    assert answer.readline() == b"second\n"
    assert answer.read() == b""


def test_head(proxy: LocalProxy) -> None:
    assert ask(proxy, "/ui", "HEAD", Cookie=sign_in(proxy))[2] == ""


def test_a_gateway_that_is_away_is_said(gateway: ThreadingHTTPServer) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy = LocalProxy(GatewayAddress("127.0.0.1", unused.getsockname()[1]), lambda: TOKEN)
        threading.Thread(target=proxy.serve, daemon=True).start()
        try:
            status, _, text = ask(proxy, "/ui", Cookie=sign_in(proxy))
        finally:
            proxy.close()
    assert status == 502
    assert "does not accept connections" in text


def test_a_token_that_cannot_be_had_is_said(gateway: ThreadingHTTPServer) -> None:
    def fail() -> str:
        raise CliError("sign in again")

    proxy = LocalProxy(GatewayAddress("127.0.0.1", gateway.server_address[1]), fail)
    threading.Thread(target=proxy.serve, daemon=True).start()
    try:
        assert ask(proxy, "/ui", Cookie=sign_in(proxy))[::2] == (502, "sign in again\n")
    finally:
        proxy.close()


def test_connections_are_bounded(proxy: LocalProxy) -> None:
    waiting = [
        socket.create_connection(("127.0.0.1", proxy.port), timeout=10) for _ in range(local_proxy.MAX_CONNECTIONS + 8)
    ]
    try:
        for connection in waiting[:]:
            connection.settimeout(0.2)
        closed = 0
        for connection in waiting:
            with contextlib.suppress(TimeoutError):
                closed += connection.recv(1) == b""
            if closed == 8:
                break
        assert closed == 8
    finally:
        for connection in waiting:
            connection.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells whose a connection is")
class TestWhose:
    def test_of_this_user(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
            assert is_own_connection(client.getsockname()[1], server.getsockname()[1])

    def test_of_nobody(self) -> None:
        assert not is_own_connection(1, 2)

    @pytest.mark.skipif(sys.platform.startswith("linux") and os.getuid() != 0, reason="only root can be two users")
    def test_of_another_user(self, proxy: LocalProxy) -> None:
        cookie = sign_in(proxy)
        program = (
            "import os, socket, sys; os.setuid(65534); s = socket.socket(); s.connect(('127.0.0.1', int(sys.argv[1])));"
            "s.sendall(sys.argv[2].encode()); print(s.recv(4096).decode())"
        )
        request = f"GET /ui HTTP/1.1\r\nHost: {proxy.authority}\r\nCookie: {cookie}\r\n\r\n"
        done = subprocess.run(
            [sys.executable, "-c", program, str(proxy.port), request], capture_output=True, text=True, check=True
        )
        assert " 403 " in done.stdout
