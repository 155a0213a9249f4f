"""An endpoint on loopback that answers as it is told to: what it takes, what it refuses in which words, and its reply."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Json = dict[str, Any]
CODE = "def run(input):\n    return {}\n"
FENCED = f"```python\n{CODE}```"
USAGE = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
PRICE = 150


@dataclass(frozen=True)
class Answer:
    """`body` is sent as it is if it is text or bytes, else as JSON."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def data(self) -> bytes:
        body = self.body if isinstance(self.body, str | bytes) else json.dumps(self.body)
        return body if isinstance(body, bytes) else body.encode()


Respond = Callable[[Json], Answer]


def completion(content: Any = FENCED, finish_reason: Any = "stop", usage: Any = USAGE, **message: Any) -> Answer:
    """As the API documents it."""
    choice = {
        "index": 0,
        "finish_reason": finish_reason,
        "message": {"role": "assistant", "content": content, **message},
    }
    return Answer({"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage})


def error(status: int, message: Any, headers: dict[str, str] | None = None, **values: Any) -> Answer:
    """In the shape that OpenAI uses."""
    return Answer({"error": {"message": message, "type": "invalid_request_error", **values}}, status, headers or {})


def refuses(*rules: tuple[Callable[[Json], Any], Answer], then: Answer | None = None) -> Respond:
    """Answer by the first rule that holds of the request, and else with the reply."""

    def respond(request: Json) -> Answer:
        return next((answer for holds, answer in rules if holds(request)), then or completion())

    return respond


def roles(request: Json) -> list[str]:
    return [message["role"] for message in request["messages"]]


def limit(request: Json) -> int:
    return int(request.get("max_tokens") or request.get("max_completion_tokens") or 0)


class Loopback:
    """A real server: `with Loopback(respond) as endpoint: … endpoint.url`. `requests` are the bodies, in order."""

    def __init__(self, respond: Respond | Answer, tls: ssl.SSLContext | None = None) -> None:
        self.respond: Respond = respond if callable(respond) else lambda _: respond
        self.requests: list[Json] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self._scheme = "https" if tls is not None else "http"
        self._server = _LoopbackServer(("127.0.0.1", 0), self)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def address(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{self.address}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _LoopbackServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], endpoint: Loopback) -> None:
        self.endpoint = endpoint
        super().__init__(address, _LoopbackHandler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers hang up."""


class _LoopbackHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _LoopbackServer

    def do_POST(self) -> None:
        endpoint = self.server.endpoint
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        endpoint.requests.append(request)
        endpoint.paths.append(self.path)
        endpoint.headers.append({name.lower(): value for name, value in self.headers.items()})
        answer = endpoint.respond(request)
        data = answer.data()
        self.send_response(answer.status)
        for name, value in ({"Content-Type": "application/json"} | answer.headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name http.server gives it
        """Requests are recorded."""
