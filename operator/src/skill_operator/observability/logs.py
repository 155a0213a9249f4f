"""JSON logs on stderr; each line of a pass says which Skill it is about."""

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

LATER_SECONDS = 0.02
MOST_LATER = 256
_context: ContextVar[dict[str, str]] = ContextVar("log_context", default={})  # noqa: B039 - never changed in place
_SECRET = re.compile(
    r"((?i:bearer|basic)\s+)[\w.~+/=-]{16,}"  # of an Authorization header
    r"|eyJ[\w-]{8,}\.[\w-]+\.[\w-]+"  # a JSON Web Token, such as a service account's
    r"|\bsk-[\w-]{16,}"  # a key of a model's provider
    r"|(?<=://)[^\s/@]+:[^\s/@]+(@)"  # of a URL
)
_SUSPECT = re.compile(r"(?i:bearer|basic)|eyJ|sk-|://")  # without any of these there is no secret: cheap to tell
_OWN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_later: deque[tuple[float, Callable[..., str], tuple[Any, ...]]] = deque()


@contextmanager
def context(**fields: str) -> Iterator[None]:
    """Fields of every line logged inside, in this task and those it starts."""
    token = _context.set(_context.get() | fields)
    try:
        yield
    finally:
        _context.reset(token)


def _redacted(text: str) -> str:
    return _SECRET.sub(lambda found: f"{found[1] or ''}[removed]{found[2] or ''}", text)


def _without_secrets(value: Any) -> Any:
    """A net under all who log: what looks like a credential never reaches a log, whoever put it into an error."""
    match value:
        case str():
            return _redacted(value)
        case dict():
            return {k: _without_secrets(v) for k, v in value.items()}
        case list() | tuple():
            return [_without_secrets(v) for v in value]
        case None | bool() | int() | float():
            return value
        case _:
            return _without_secrets(str(value))


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _moment(record.created),
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
        return json.dumps(_without_secrets(line), default=str, ensure_ascii=True)


class _Handler(logging.StreamHandler[Any]):
    def emit(self, record: logging.LogRecord) -> None:
        flush()  # lines stay in order
        super().emit(record)


def _moment(now: float) -> str:
    second = int(now)
    return f"{_date(second)}.{int((now - second) * 1000):03d}+00:00"


@lru_cache(2)
def _date(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


# Lines of which there are thousands a second. `logging` takes 25 µs and a system call for each.


def quoted(text: str) -> str:
    """A text as it may stand in a line that is made by hand: JSON, and without what looks like a credential."""
    if text.isascii() and text.isalnum():  # every credential that is known here has something else in it
        return f'"{text}"'
    return encode_basestring_ascii(text if _SUSPECT.search(text) is None else _redacted(text))


def later(made: Callable[..., str], *told: Any) -> None:
    """A line of level info, `made` of what is told: the members of its object but the time. It is made and written a
    moment later, together with others, and before any line that is logged after it. Takes a running loop."""
    if not _later:
        asyncio.get_running_loop().call_later(LATER_SECONDS, flush)
    _later.append((time.time(), made, told))
    if len(_later) >= MOST_LATER:
        flush()


def flush() -> None:
    """Write what is left for later now."""
    taken = []
    with suppress(IndexError):
        while True:  # other threads log, too
            taken.append(_later.popleft())
    if taken:
        lines = (f'{{"time": "{_moment(now)}", "level": "info", {made(*told)}}}\n' for now, made, told in taken)
        with suppress(OSError, ValueError):  # as logging does: no call fails for want of a log
            sys.stderr.write("".join(lines))
            sys.stderr.flush()


atexit.register(flush)


def configure(level: str) -> None:
    handler = _Handler(sys.stderr)
    handler.setFormatter(_Formatter())
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # no line tells of them
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("kopf.objects", "httpx", "httpx2", "openai", "aiohttp.access", "asyncio", "uvicorn.error", "mcp"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
