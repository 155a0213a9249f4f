"""A language model that reads its replies from a script: real HTTP, no cleverness. One file, standard library only.

    python3 server.py --script script.json --port 8000

A script maps a marker to the replies of every conversation whose messages contain the marker (the longest one wins).
A description's first sentence makes a good marker; so does any word that only one Skill's prompt holds. Instead of a
list, a marker may have `{"match": text, "replies": [...]}`, and is then only a label. The last reply repeats.

A reply is `{"text": ...}` with, optionally, `finish_reason`, `usage` (`{"prompt_tokens": 1, "completion_tokens": 2}`),
`delay` (seconds before the answer) and `fault`, one of:

    429, 500, 401, ...  that status, with `message`; `retry_after` becomes the header of that name
    hang                no answer until the caller gives up (or `seconds` have passed)
    drip                the right answer, one byte every `interval` (1.0) seconds
    disconnect          half of the answer, then the connection is closed
    truncated           200, JSON that ends in the middle
    huge                200, JSON whose text has `bytes` (50 MB) characters
    html200             a web page
    wrong_content_type  the right answer, called text/plain
    no_usage            no `usage`
    null_content        `content` is null
    reject_max_tokens   400 while the request has max_tokens, as o-series models answer; then the reply
    refuse_temperature  400 while the request has temperature; then the reply
    reject_system       400 while the request has a system message, as Gemma's template answers; then the reply
    error200            200, and an error with `message` and `code` (429) instead of an answer
    refusal             no content, and the words of `text` in the field `refusal`
    reasoning           no content while max_tokens is below `needs` (6000), cut off and charged whole; then the reply

Beside POST /v1/chat/completions there are GET /requests (what was asked; names of headers in lower case),
DELETE /requests, PUT /script (a new script; counting starts anew), PATCH /script (adds markers, or replaces those of
the same label; the others keep their count), GET /v1/models and GET /healthz. A conversation without a script is a 404
that says so.
"""

from __future__ import annotations

import argparse
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Json = dict[str, Any]
COMPLETIONS = "/v1/chat/completions"
REJECTED = {"reject_max_tokens": "max_tokens", "refuse_temperature": "temperature"}
FAULTS = frozenset(
    {
        "hang", "drip", "disconnect", "truncated", "huge", "html200", "wrong_content_type", "no_usage", "null_content",
        "reject_system", "error200", "refusal", "reasoning",
    }
    | REJECTED.keys()
)  # fmt: skip
PIECE_BYTES = 64 * 1024


class ScriptError(ValueError):
    """ScriptError says which part of a script cannot be used."""


class Script:
    """Replies by marker, and how many of each were given. Safe for threads."""

    def __init__(self, script: Json) -> None:
        self._replies: dict[str, list[Json]] = {}
        self._given: dict[str, int] = {}
        self._lock = threading.Lock()
        self.add(script)

    def add(self, script: Json) -> None:
        """Add markers; one that is there already gets these replies, from the first on. Raises ScriptError."""
        added: dict[str, list[Json]] = {}
        for label, value in script.items():
            marker, replies = (value.get("match"), value.get("replies")) if isinstance(value, dict) else (label, value)
            if not isinstance(marker, str) or not marker or not isinstance(replies, list) or not replies:
                raise ScriptError(f"{label}: a list of replies, or match and replies, must stand here")
            for at, reply in enumerate(replies):
                if not isinstance(reply, dict) or not _known(str(reply.get("fault", ""))):
                    known = ", ".join(sorted(FAULTS))
                    raise ScriptError(f"{label}, reply {at + 1}: no such fault; there are {known}, and HTTP statuses")
            added[marker] = replies
        with self._lock:
            self._replies |= added
            self._given |= dict.fromkeys(added, 0)

    def reply(self, request: Json) -> tuple[str, Json] | None:
        """Return the marker and its next reply, or None where no marker fits.

        A reply that rejects a parameter of this request is not used up by it.
        """
        text = "\n".join(str(message.get("content", "")) for message in request.get("messages", []))
        with self._lock:
            marker = max((m for m in self._replies if m in text), key=len, default=None)
            if marker is None:
                return None
            replies = self._replies[marker]
            reply = replies[min(self._given[marker], len(replies) - 1)]
            if not _rejects(request, reply) and not _is_cut(request, reply):
                self._given[marker] += 1
            return marker, reply


def _rejects(request: Json, reply: Json) -> bool:
    """Return whether the reply rejects the form of this request."""
    fault = str(reply.get("fault", ""))
    if fault == "reject_system":
        return any(message.get("role") == "system" for message in request.get("messages", []))
    return REJECTED.get(fault) in request


def _is_cut(request: Json, reply: Json) -> bool:
    """Return whether hidden reasoning takes up the whole reply to this request."""
    limit = int(request.get("max_tokens") or request.get("max_completion_tokens") or 0)
    return reply.get("fault") == "reasoning" and limit < int(reply.get("needs", 6000))


def _known(fault: str) -> bool:
    return not fault or fault in FAULTS or (fault.isdecimal() and 300 <= int(fault) <= 599)


class ScriptedModel:
    """ScriptedModel is the server; tests use it in their own process: `with ScriptedModel(script) as model: …`."""

    def __init__(self, script: Json, host: str = "127.0.0.1", port: int = 0) -> None:
        self.script = Script(script)
        self.requests: list[Json] = []
        self.stopped = threading.Event()
        self._server = _Server((host, port), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def port(self) -> int:
        """Return the port that the server listens on."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Return the base URL of the API."""
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def serve(self) -> None:
        """Serve until the process ends."""
        self._server.serve_forever()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], model: ScriptedModel) -> None:
        self.model = model
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers that hang up are what half of the script is about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        if self.path == "/healthz":
            self._json(200, {"status": "ok"})
        elif self.path == "/requests":
            self._json(200, self.server.model.requests)
        elif self.path == "/v1/models":
            self._json(200, {"object": "list", "data": [{"id": "scripted", "object": "model"}]})
        else:
            self._error(404, f"no such path: {self.path}")

    def do_DELETE(self) -> None:
        self._body()
        if self.path == "/requests":
            self.server.model.requests.clear()
            self._json(200, {})
        else:
            self._error(404, f"no such path: {self.path}")

    def do_PUT(self) -> None:
        self._change_script(replace=True)

    def do_PATCH(self) -> None:
        self._change_script(replace=False)

    def _change_script(self, *, replace: bool) -> None:
        body = self._body()
        if self.path != "/script":
            self._error(404, f"no such path: {self.path}")
            return
        try:
            change = json.loads(body)
            if replace:
                self.server.model.script = Script(change)
            else:
                self.server.model.script.add(change)
        except (ValueError, AttributeError) as error:
            self._error(400, str(error))
        else:
            self._json(200, {})

    def do_POST(self) -> None:
        body = self._body()
        if self.path != COMPLETIONS:
            self._error(404, f"no such path: {self.path}; the API is at {COMPLETIONS}")
            return
        try:
            request = json.loads(body)
            found = self.server.model.script.reply(request)
        except (ValueError, AttributeError) as error:
            self._error(400, f"the request is not understood: {error}")
            return
        marker, reply = found or ("", {})
        headers = {name.lower(): value for name, value in self.headers.items()}
        entry = {"at": time.time(), "marker": marker, "headers": headers, "body": request}
        self.server.model.requests.append(entry)
        if found is None:
            self._error(404, "the script has no reply for this conversation: none of its markers is in the messages")
            return
        self.server.model.stopped.wait(float(reply.get("delay", 0)))
        self._answer(request, reply)

    def _answer(self, request: Json, reply: Json) -> None:
        fault = str(reply.get("fault", ""))
        if fault == "reject_system" and _rejects(request, reply):
            self._error(400, "System role not supported")
            return
        if (parameter := REJECTED.get(fault, "")) in request:
            instead = " Use 'max_completion_tokens' instead." if parameter == "max_tokens" else ""
            message = f"Unsupported parameter: '{parameter}' is not supported with this model.{instead}"
            self._error(400, message, param=parameter, code="unsupported_parameter")
            return
        whole = json.dumps(completion(request, reply), ensure_ascii=False).encode("utf-8", "surrogatepass")
        match fault:
            case "hang":
                self._hang(float(reply.get("seconds", 3600)))
            case "drip":
                drops = (whole[at : at + 1] for at in range(len(whole)))
                self._send(200, drops, len(whole), float(reply.get("interval", 1.0)))
            case "disconnect":
                self._send(200, iter([whole[: len(whole) // 2]]), len(whole))
                self.close_connection = True
            case "truncated":
                self._send(200, iter([whole[: len(whole) // 2]]), len(whole) // 2)
            case "huge":
                pieces, size = _huge(request, int(reply.get("bytes", 50_000_000)))
                self._send(200, pieces, size)
            case "error200":
                error = {"message": str(reply.get("message", "the script says so")), "code": reply.get("code", 429)}
                self._json(200, {"error": error})
            case "html200":
                page = b"<!doctype html><html><body><h1>Sign in to continue</h1></body></html>"
                self._send(200, iter([page]), len(page), kind="text/html; charset=utf-8")
            case "wrong_content_type":
                self._send(200, iter([whole]), len(whole), kind="text/plain")
            case _ if fault.isdecimal():
                after = {"Retry-After": str(reply["retry_after"])} if "retry_after" in reply else {}
                self._error(int(fault), str(reply.get("message", "the script says so")), headers=after)
            case _:
                self._send(200, iter([whole]), len(whole))

    def _hang(self, seconds: float) -> None:
        """Wait until the caller hangs up, the time is over or the server ends."""
        self.close_connection = True
        self.connection.settimeout(0.05)
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.server.model.stopped.is_set():
            try:
                if not self.connection.recv(1, socket.MSG_PEEK):
                    return
            except TimeoutError:
                continue

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _json(self, status: int, value: object) -> None:
        data = json.dumps(value).encode()
        self._send(status, iter([data]), len(data))

    def _error(
        self, status: int, message: str, *, param: str = "", code: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Send an error in the shape that OpenAI uses."""
        error = {"message": message, "type": "invalid_request_error", "param": param or None, "code": code or None}
        data = json.dumps({"error": error}).encode()
        self._send(status, iter([data]), len(data), headers=headers)

    def _send(
        self,
        status: int,
        pieces: Iterator[bytes],
        size: int,
        interval: float = 0,
        *,
        kind: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        for piece in pieces:
            self.wfile.write(piece)
            self.wfile.flush()
            if interval and self.server.model.stopped.wait(interval):
                return

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name http.server gives it
        """GET /requests tells more than a log line."""


def completion(request: Json, reply: Json) -> Json:
    """Return the body of a chat completion."""
    text = str(reply.get("text", ""))
    prompt = sum(len(str(message.get("content", ""))) for message in request.get("messages", []))
    usage = {"prompt_tokens": prompt // 4, "completion_tokens": len(text) // 4} | reply.get("usage", {})
    usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
    has_content = reply.get("fault") not in {"null_content", "refusal"} and not _is_cut(request, reply)
    message: Json = {"role": "assistant", "content": text if has_content else None}
    if reply.get("fault") == "refusal":
        message["refusal"] = text
    finish_reason = reply.get("finish_reason", "stop")
    if _is_cut(request, reply):
        finish_reason = "length"
        limit = int(request.get("max_tokens") or request.get("max_completion_tokens") or 0)
        usage |= {"completion_tokens": limit, "completion_tokens_details": {"reasoning_tokens": limit}}
        usage["total_tokens"] = usage["prompt_tokens"] + limit
    body: Json = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.get("model", ""),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}],
    }
    return body if reply.get("fault") == "no_usage" else body | {"usage": usage}


def _huge(request: Json, size: int) -> tuple[Iterator[bytes], int]:
    """Return the pieces and the size of a well-formed reply with so many characters."""
    start, end = json.dumps(completion(request, {"text": "\0"})).encode().split(b"\\u0000")

    def pieces() -> Iterator[bytes]:
        yield start
        for at in range(0, size, PIECE_BYTES):
            yield b"x" * min(PIECE_BYTES, size - at)
        yield end

    return pieces(), len(start) + size + len(end)


def main() -> None:
    """Serve a script until the process ends."""
    parser = argparse.ArgumentParser(description="an OpenAI-compatible server that answers from a script")
    parser.add_argument("--script", type=Path, required=True)
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    model = ScriptedModel(json.loads(options.script.read_bytes()), options.host, options.port)
    print(f"listening on {options.host}:{model.port}", flush=True)
    model.serve()


if __name__ == "__main__":
    main()
