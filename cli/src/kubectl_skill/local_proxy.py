"""A proxy on 127.0.0.1 that adds the user's token, for a browser of this very user.

Whoever can use it has the user's rights, and 127.0.0.1 is shared: by other users of the machine, and by every web site
that the user's browser shows. So

- the first request takes a path that cannot be guessed and works once; it sets a cookie (SameSite=Strict, HttpOnly);
- every other request needs that cookie, and a Host that is the proxy's own, which stops DNS rebinding;
- a request that a page of another origin made is refused, by Sec-Fetch-Site and Origin, since cookies do not tell ports
  of one host apart;
- on Linux the other end of the connection must belong to the user who started the proxy, as the kernel says.

The browser never sees the token.
"""

from __future__ import annotations

import contextlib
import hmac
import http.client
import os
import re
import secrets
import sys
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from kubectl_skill.errors import CliError
from kubectl_skill.gateway import GatewayAddress

COOKIE: Final = "kubectl-skill-ui"
START: Final = "/ui"
MAX_BODY_BYTES = 2 * 1024 * 1024
MAX_CONNECTIONS = 64
CHUNK_BYTES = 64 * 1024
TIMEOUT_SECONDS = 900.0
SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
# Of one connection alone (RFC 9110, 7.6.1), or made anew here.
_NOT_PASSED: Final = frozenset(
    [
        "authorization",
        "connection",
        "content-length",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)


class Refused(Exception):
    """Refused is raised for a request that does not come from the user's own page; its text is for the user."""


class LocalProxy:
    """LocalProxy serves until it is closed. `read_token` is asked for each request, and may remember."""

    def __init__(self, address: GatewayAddress, read_token: Callable[[], str], port: int = 0) -> None:
        self.address = address
        self.read_token = read_token
        self._start_key: str | None = secrets.token_urlsafe(32)
        self._session = secrets.token_urlsafe(32)
        self._lock = threading.Lock()
        self.places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._server = _ProxyServer(("127.0.0.1", port), ProxyHandler)
        self._server.proxy = self
        self.port = int(self._server.server_address[1])
        self.start_url = f"http://127.0.0.1:{self.port}/{self._start_key}"

    @property
    def authority(self) -> str:
        """Return the only Host that is served."""
        return f"127.0.0.1:{self.port}"

    def serve(self) -> None:
        """Serve until `close` is called."""
        self._server.serve_forever(poll_interval=0.5)

    def close(self) -> None:
        """Stop serving in another thread."""
        self._server.shutdown()
        self.stop_listening()

    def stop_listening(self) -> None:
        """Close the port, once nothing serves it any more."""
        self._server.server_close()

    def start(self, path: str) -> bool:
        """Return whether this is the path that begins a session; it works once."""
        with self._lock:
            key = self._start_key
            if key is None or not hmac.compare_digest(path.encode(), f"/{key}".encode()):
                return False
            self._start_key = None
            return True

    @property
    def cookie(self) -> str:
        """Return what Set-Cookie says to the browser that began the session."""
        return f"{COOKIE}={self._session}; Path=/; HttpOnly; SameSite=Strict"

    def check_session(self, cookies: Iterable[str]) -> None:
        """Raise Refused unless one of the Cookie headers holds the session."""
        for each in ";".join(cookies).split(";"):
            name, _, value = each.strip().partition("=")
            if name == COOKIE and hmac.compare_digest(value.encode(), self._session.encode()):
                return
        raise Refused(
            "This is not the browser that `kubectl skill ui` opened. Start it again and use the link it prints."
        )


class _ProxyServer(ThreadingHTTPServer):
    """_ProxyServer has a thread for each connection, up to a bound."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    proxy: LocalProxy

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection, or close it where too many are open."""
        if not self.proxy.places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection in its own thread, and give its place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.proxy.places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing where a browser closed its connection."""


class ProxyHandler(BaseHTTPRequestHandler):
    """ProxyHandler checks each request and passes it on with the token."""

    server: _ProxyServer
    protocol_version = "HTTP/1.1"
    server_version = "kubectl-skill"
    sys_version = ""
    timeout = 60.0  # seconds for the head of a request

    def _handle(self) -> None:
        proxy = self.server.proxy
        self.close_connection = True
        try:
            self._check_sender(proxy)
            if self.command == "GET" and proxy.start(self.path):
                self._answer(
                    303, [("Location", START), ("Set-Cookie", proxy.cookie), ("Referrer-Policy", "no-referrer")]
                )
                return
            proxy.check_session(self.headers.get_all("Cookie") or [])
            self._pass_on(proxy)
        except Refused as error:
            self._answer(403, [("Content-Type", "text/plain; charset=utf-8")], f"{error}\n".encode())
        except CliError as error:
            self._answer(502, [("Content-Type", "text/plain; charset=utf-8")], f"{error.message}\n".encode())

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815  # http.server's names

    def _check_sender(self, proxy: LocalProxy) -> None:
        """Raise Refused where the request is not one that the user's own browser makes for the proxy's own page."""
        if not is_own_connection(self.client_address[1], proxy.port):
            raise Refused("Another user of this machine opened this connection.")
        hosts = self.headers.get_all("Host") or []
        if hosts != [proxy.authority]:
            raise Refused(f"This address is http://{proxy.authority} and no other.")
        if not self.path.startswith("/") or self.path.startswith("//"):
            raise Refused("The path must begin with one slash.")
        if self.headers.get("Transfer-Encoding") is not None:
            raise Refused("Send a body with a Content-Length.")
        site = self.headers.get("Sec-Fetch-Site", "none")
        if site not in {"none", "same-origin"} and not self._is_first_visit(proxy):
            raise Refused("A page of another site made this request.")
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{proxy.authority}":
            raise Refused("A page of another origin made this request.")
        if self.command not in SAFE_METHODS and origin is None and site != "same-origin":
            raise Refused("A request that changes something must come from the page itself.")

    def _is_first_visit(self, proxy: LocalProxy) -> bool:
        """Return whether a link of another program leads here, as a terminal's does in some browsers."""
        return self.command == "GET" and self.headers.get("Sec-Fetch-Mode") == "navigate" and self.path.count("/") == 1

    def _pass_on(self, proxy: LocalProxy) -> None:
        body = self._read_body()
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _NOT_PASSED}
        others = [
            each.strip()
            for each in ";".join(self.headers.get_all("Cookie") or []).split(";")
            if each.strip() and each.strip().partition("=")[0] != COOKIE
        ]
        if others:
            headers["Cookie"] = "; ".join(others)
        token = proxy.read_token()
        headers["Host"] = proxy.authority  # as Origin is: the page compares the two
        headers["Connection"] = "close"
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection = proxy.address.connect(TIMEOUT_SECONDS)
        try:
            connection.request(self.command, proxy.address.path + self.path, body=body, headers=headers)
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise CliError(f"the gateway does not answer: {type(error).__name__}") from error
        try:
            self._relay(answer)
        finally:
            connection.close()

    def _read_body(self) -> bytes | None:
        given = self.headers.get_all("Content-Length") or []
        if not given:
            return None
        if len(given) > 1 or not re.fullmatch(r"\d{1,8}", given[0]) or int(given[0]) > MAX_BODY_BYTES:
            raise Refused("The body is too large.")
        return self.rfile.read(int(given[0]))

    def _relay(self, answer: http.client.HTTPResponse) -> None:
        """Pass the answer on as it comes, so that what is shown live is live."""
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _NOT_PASSED | {"server", "date"} or name.lower() == "content-length":
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        with contextlib.suppress(OSError, http.client.HTTPException):
            while self.command != "HEAD" and (chunk := answer.read1(CHUNK_BYTES)):
                self.wfile.write(chunk)
                self.wfile.flush()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes = b"") -> None:
        with contextlib.suppress(OSError):
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # http.server's name
        """Log nothing: paths hold what the user looks at."""


def is_own_connection(client_port: int, server_port: int) -> bool:
    """Return whether the client's end of a connection over 127.0.0.1 belongs to this user, where the kernel says it.

    Elsewhere than on Linux the cookie alone decides.
    """
    if not sys.platform.startswith("linux"):
        return True
    wanted = (f"0100007F:{client_port:04X}", f"0100007F:{server_port:04X}")
    if sys.byteorder == "big":
        wanted = (f"7F000001:{client_port:04X}", f"7F000001:{server_port:04X}")
    try:
        with open("/proc/self/net/tcp", encoding="ascii") as table:
            for line in table:
                fields = line.split()
                if tuple(fields[1:3]) == wanted:
                    return int(fields[7]) == os.getuid()
    except OSError:
        return True  # a system without it has no answer
    return False
