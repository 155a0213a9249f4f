"""The worker: a process that runs one call at a time. It is the skill's: PID 1 believes nothing that it sends."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

from skill_runtime import exception_report, frames, plain_values


def serve(connection: socket.socket, run: Callable[[Any], Any], path: str, max_reply_bytes: int) -> None:
    """Handle calls until the other side closes."""
    while (body := frames.receive(connection)) is not None:
        reply = handle_call(body, run, path, max_reply_bytes)
        exception_report.flush_output()
        connection.sendall(frames.pack(reply))


def handle_call(body: bytes, run: Callable[[Any], Any], path: str, max_reply_bytes: int) -> bytes:
    """Run one call and return the reply's payload."""
    try:
        result = run(json.loads(body))
    except BaseException as error:  # noqa: BLE001 - SystemExit is a failure of the call, not an order to us
        return _error_reply("raised", exception_report.describe(error, path))
    try:
        text = plain_values.encode(result)
    except BaseException as error:  # noqa: BLE001 - the result may be any object
        return _error_reply("unserialisable", exception_report.describe(error, path))
    if len(text) > max_reply_bytes:
        message = f"the output is {len(text)} bytes of JSON in UTF-8, and may be {max_reply_bytes}"
        return _error_reply("oversized", {"types": [], "message": message, "line": None})
    return frames.OUTPUT + text


def _error_reply(kind: str, description: dict[str, Any]) -> bytes:
    return frames.ERROR + json.dumps({"kind": kind, **description}).encode()
