"""Write logs as JSON lines on stderr. Each line of a reconcile names its Skill."""

from __future__ import annotations

import asyncio
import atexit
import json
import logging
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any

DELAY_SECONDS = 0.02
MAX_PENDING = 256
_context: ContextVar[dict[str, str]] = ContextVar("log_context", default={})  # noqa: B039 - never changed in place
_SECRET = re.compile(
    r"((?i:bearer|basic)\s+)[\w.~+/=-]{16,}"  # of an Authorization header
    r"|eyJ[\w-]{8,}\.[\w-]+\.[\w-]+"  # a JSON Web Token, such as a service account's
    r"|\bsk-[\w-]{16,}"  # a key of a model's provider
    r"|(?<=://)[^\s/@]+:[^\s/@]+(@)"  # of a URL
)
_SUSPECT = re.compile(r"(?i:bearer|basic)|eyJ|sk-|://")  # without any of these there is no secret: a cheap test
_OWN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_pending: deque[tuple[float, Callable[..., str], tuple[Any, ...]]] = deque()


@contextmanager
def context(**fields: str) -> Iterator[None]:
    """Add fields to every line that is logged inside the context, in this task and those it starts."""
    token = _context.set(_context.get() | fields)
    try:
        yield
    finally:
        _context.reset(token)


def _redact(text: str) -> str:
    return _SECRET.sub(lambda found: f"{found[1] or ''}[removed]{found[2] or ''}", text)


def _redact_value(value: Any) -> Any:
    """Replace what looks like a credential, so that it never reaches a log, whoever put it into an error."""
    match value:
        case str():
            return _redact(value)
        case dict():
            return {k: _redact_value(v) for k, v in value.items()}
        case list() | tuple():
            return [_redact_value(v) for v in value]
        case None | bool() | int() | float():
            return value
        case _:
            return _redact_value(str(value))


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _format_time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= _context.get()
        line |= {k: v for k, v in vars(record).items() if k not in _OWN and not k.startswith("k8s_")}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        text = json.dumps(line, default=str, ensure_ascii=True)
        if _SUSPECT.search(text) is None:
            return text
        return json.dumps(_redact_value(line), default=str, ensure_ascii=True)


class _OrderedHandler(logging.StreamHandler[Any]):
    def emit(self, record: logging.LogRecord) -> None:
        flush()  # lines stay in order
        super().emit(record)


def _format_time(now: float) -> str:
    second = int(now)
    return f"{_format_second(second)}.{int((now - second) * 1000):03d}+00:00"


@lru_cache(2)
def _format_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


# Lines of which there are thousands a second. `logging` takes 25 µs and a system call for each.


def quote(text: str) -> str:
    """Return a text as JSON, without what looks like a credential, for a line that is composed by hand."""
    if text.isascii() and text.isalnum():  # every credential that is known here has something else in it
        return f'"{text}"'
    return encode_basestring_ascii(text if _SUSPECT.search(text) is None else _redact(text))


def log_later(compose: Callable[..., str], *values: Any) -> None:
    """Log a line of level info a moment later, together with others, and before any line that is logged after it.

    `compose` makes the members of the line's JSON object, without the time, of the values. It needs a running loop.
    """
    if not _pending:
        asyncio.get_running_loop().call_later(DELAY_SECONDS, flush)
    _pending.append((time.time(), compose, values))
    if len(_pending) >= MAX_PENDING:
        flush()


def flush() -> None:
    """Write the pending lines now."""
    taken = []
    with suppress(IndexError):
        while True:  # other threads log, too
            taken.append(_pending.popleft())
    if taken:
        lines = (
            f'{{"time": "{_format_time(now)}", "level": "info", {compose(*values)}}}\n'
            for now, compose, values in taken
        )
        with suppress(OSError, ValueError):  # as logging does: no call fails for want of a log
            sys.stderr.write("".join(lines))
            sys.stderr.flush()


atexit.register(flush)


def configure(level: str) -> None:
    """Send all logs to stderr as JSON, from this level on."""
    handler = _OrderedHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter())
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # no line reports them
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("kopf.objects", "httpx", "httpx2", "openai", "aiohttp.access", "asyncio", "uvicorn.error", "mcp"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
