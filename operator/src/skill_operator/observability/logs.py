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
MAX_KNOWN_SECRETS = 64
MIN_SECRET_CHARACTERS = 8  # what is shorter would be found in innocent words
# Each branch reads a text at most once: a log line may hold what a stranger wrote.
_SECRET = re.compile(
    r"((?i:bearer|basic)\s+)[\w.~+/=-]{16,}"  # of an Authorization header
    r"|((?i:api[-_]?key|token|password|passwd|secret)[\"']?\s?[:=]\s?[\"']?)[^\s\"',;&]{8,}"  # of a header or a form
    r"|eyJ[\w-]++(?:\.[\w-]++\.([\w-]))?+[\w-]*+"  # a JSON Web Token, such as a service account's
    r"|\bsk-[\w-]{16,}"  # a key of a model's provider
    r"|\b(?:hf_|gh[oprsu]_|github_pat_|glpat-|xox[abeprs]-|AIza|AKIA|ASIA)[\w-]{12,}"  # keys of others, by their prefix
    r"|(?<=://)[^\s/@:]*+:(?:[^\s/@]*+(@))++"  # of a URL
)
_UNGROUPED_JWT = re.compile(r"eyJ[\w-]*")  # it begins like a token, and is none
_PREFIXES = ("AKIA", "ASIA", "AIza")  # of keys that are letters and digits alone
_MARKS = (
    *(
        "bearer",
        "basic",
        "apikey",
        "api-key",
        "api_key",
        "token",
        "passw",
        "secret",
        "eyj",
        "sk-",
        "hf_",
        "github_pat_",
    ),
    *("gho_", "ghp_", "ghr_", "ghs_", "ghu_", "glpat-", "xox", "aiza", "akia", "asia", "://"),
)
_known_secrets: list[str] = []
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


def hide_secret(secret: str) -> None:
    """Keep a secret out of all later lines. Only the latest are known, so that rotated ones do not add up."""
    if len(secret) < MIN_SECRET_CHARACTERS or secret in _known_secrets:
        return
    forms = dict.fromkeys((secret, json.dumps(secret)[1:-1]))
    _known_secrets[:] = [*_known_secrets, *forms][-MAX_KNOWN_SECRETS:]  # at once: other threads read it


def _is_suspect(text: str) -> bool:
    """Return whether a text may hold a secret: a cheap test, much cheaper than the search for one."""
    lowered = text.lower()
    return any(mark in lowered for mark in _MARKS) or any(secret in text for secret in _known_secrets)


def _redact(text: str) -> str:
    for secret in _known_secrets:
        text = text.replace(secret, "[removed]")
    return _SECRET.sub(_replace, text)


def _replace(found: re.Match[str]) -> str:
    if _UNGROUPED_JWT.fullmatch(found[0]):
        return found[0]
    return f"{found[1] or found[2] or ''}[removed]{found[4] or ''}"


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
        if not _is_suspect(text):
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
    if text.isascii() and text.isalnum() and not text.startswith(_PREFIXES) and text not in _known_secrets:
        return f'"{text}"'
    return encode_basestring_ascii(_redact(text) if _is_suspect(text) else text)


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
