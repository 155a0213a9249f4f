"""A process that runs one call at a time. It is the skill's: PID 1 believes nothing that comes from here."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

from skill_runtime import exception_report, frames


def serve(connection: socket.socket, run: Callable[[Any], Any], path: str, most: int) -> None:
    """Answer calls until the other side closes."""
    while (body := frames.receive(connection)) is not None:
        reply = answer(body, run, path, most)
        exception_report.flush()
        connection.sendall(frames.pack(reply))


def answer(body: bytes, run: Callable[[Any], Any], path: str, most: int) -> bytes:
    """The reply to one call."""
    try:
        result = run(json.loads(body))
    except BaseException as error:  # noqa: BLE001 - SystemExit is a fault of the call, not an order to us
        return _error("raised", exception_report.describe(error, path))
    try:
        text = json.dumps(result, allow_nan=False, separators=(",", ":")).encode()
    except BaseException as error:  # noqa: BLE001 - the result may be any object
        return _error("unserialisable", exception_report.describe(error, path))
    if len(text) > most:
        return _error("oversized", {"types": [], "message": f"{len(text)} bytes", "line": None})
    return frames.OUTPUT + text


def _error(kind: str, description: dict[str, Any]) -> bytes:
    return frames.ERROR + json.dumps({"kind": kind, **description}).encode()
