"""The form of responses over MCP: JSON or an event stream, as the caller takes them, with the tools of a list in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum, auto
from itertools import chain
from typing import Any, NamedTuple

from starlette.datastructures import Headers
from starlette.types import Message, Scope, Send

from skill_operator.gateway.problems import Problem

JSON = "application/json"
EVENTS = "text/event-stream"
MAX_ACCEPTED_RANGES = 32
CHUNK_BYTES = 1 << 16
_NO_TOOLS = b'"tools":[]'  # in a list, and nowhere before it: in texts of JSON the quotes are escaped
_STATE_KEY = "listed_tools"


class ResponseForm(Enum):
    """ResponseForm is what carries an answer."""

    JSON = auto()
    EVENTS = auto()


class Accepted(NamedTuple):
    """Accepted is the form of a response, and the request as the SDK wants it."""

    form: ResponseForm
    scope: Scope
    events_alone: bool  # the caller takes nothing else


def check_content_type(content_type: str) -> None:
    """Raise Problem (415) for a body that is said to be something else than JSON."""
    if content_type and content_type.partition(";")[0].strip().lower() != JSON:
        raise Problem("unsupported-media-type", f"a request over MCP is JSON; send Content-Type: {JSON}, or none")


def negotiate(scope: Scope) -> Accepted:
    """Return what the caller accepts. Raises Problem (406).

    An event stream goes to who names it (the protocol asks clients to name both), JSON to who names JSON alone,
    anything or nothing.
    """
    accept = ",".join(Headers(scope=scope).getlist("accept"))
    ranges = dict(_ranges(accept)) or {"*/*": 1.0}
    json, events = _quality(ranges, JSON), _quality(ranges, EVENTS)
    names_events = EVENTS in ranges or "text/*" in ranges
    if not json and not events:
        raise Problem("not-acceptable", f"the gateway answers in {JSON} or {EVENTS}; accept both")
    form = ResponseForm.EVENTS if not json or (names_events and events >= json) else ResponseForm.JSON
    accepted = f"{JSON}, {EVENTS}" if events else JSON
    replaced = {b"accept": accepted.encode(), b"content-type": JSON.encode()}
    headers = [pair for pair in scope["headers"] if pair[0] not in replaced]
    return Accepted(form, {**scope, "headers": [*headers, *replaced.items()]}, not json)


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    """Yield the media ranges of a header Accept (RFC 9110, 12.5.1) with their weights."""
    for part in accept.split(",", MAX_ACCEPTED_RANGES)[:MAX_ACCEPTED_RANGES]:
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if media:
            named = {name.strip(): value.strip() for name, _, value in (each.partition("=") for each in parameters)}
            yield media, _weight(named.get("q", "1"))


def _weight(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 0.0


def _quality(ranges: dict[str, float], media: str) -> float:
    """Return the weight of a media type: that of the range that names it most closely."""
    kind = media.partition("/")[0]
    return next((ranges[name] for name in (media, f"{kind}/*", "*/*") if name in ranges), 0.0)


class McpResponse:
    """McpResponse sends what the SDK answers on to the caller.

    It puts the tools of a list where the SDK, which would take each of them apart, has none. It makes an event of JSON
    where the caller takes events alone. A refusal that has no body becomes a problem.
    """

    def __init__(self, accepted: Accepted, send: Send) -> None:
        self._state: dict[str, Any] = accepted.scope["state"]
        self._send = send
        self._events_alone = accepted.events_alone
        self._start: Message | None = None  # waits for the body, whose length it has
        self._prefix = self._suffix = b""

    @staticmethod
    def insert_tools(scope: Scope, tools: list[bytes]) -> None:
        """Have the response to this request list these tools, each of which is JSON."""
        scope["state"][_STATE_KEY] = tools

    async def send(self, message: Message) -> None:
        """Send a message of ASGI. Raises Problem (406)."""
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif message["type"] == "http.response.body":
            await self._continue(message)
        else:
            await self._send(message)

    async def _begin(self, message: Message) -> None:
        if message["status"] == 406:
            raise Problem("not-acceptable", f"what changes is told as {EVENTS} alone; accept it")
        headers = Headers(raw=message["headers"])
        if self._events_alone and message["status"] == 200 and headers.get("content-type") == JSON:
            self._prefix, self._suffix = b"event: message\r\ndata: ", b"\r\n\r\n"
            self._start = _with_header(message, "content-type", EVENTS)
        elif "content-length" in headers:
            self._start = message
        else:
            await self._send(message)

    async def _continue(self, message: Message) -> None:
        """Send a part of the body. A list goes in chunks, so that no request holds all of it once more."""
        body, more = message.get("body", b""), message.get("more_body", False)
        tools: list[bytes] = []
        if _STATE_KEY in self._state and _NO_TOOLS in body:
            tools = self._state.pop(_STATE_KEY)
        before, _, after = body.partition(_NO_TOOLS) if tools else (b"", b"", body)
        before, after = self._prefix + before, after + (b"" if more else self._suffix)
        self._prefix = b""
        if self._start is not None:
            inserted = len(_NO_TOOLS) + sum(map(len, tools)) + len(tools) - 1 if tools else 0
            start = _with_header(self._start, "content-length", str(len(before) + inserted + len(after)))
            self._start = None
            await self._send(start)
        for chunk in filter(None, chain([before], _joined(tools) if tools else ())):
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self._send({"type": "http.response.body", "body": after, "more_body": more})


def _joined(tools: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the member of a list's result that holds its tools, in chunks."""
    chunk = bytearray(b'"tools":[')
    for number, tool in enumerate(tools):
        chunk += (b"," if number else b"") + tool
        if len(chunk) >= CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
    yield bytes(chunk + b"]")


def _with_header(message: Message, name: str, value: str) -> Message:
    headers = [pair for pair in message["headers"] if pair[0] != name.encode()]
    return {**message, "headers": [*headers, (name.encode(), value.encode())]}
