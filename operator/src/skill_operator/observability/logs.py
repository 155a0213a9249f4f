"""JSON logs on stderr; each line of a pass says which Skill it is about."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

_context: ContextVar[dict[str, str]] = ContextVar("log_context", default={})  # noqa: B039 - never changed in place
_SECRET = re.compile(
    r"((?i:bearer|basic)\s+)[\w.~+/=-]{16,}"  # of an Authorization header
    r"|eyJ[\w-]{8,}\.[\w-]+\.[\w-]+"  # a JSON Web Token, such as a service account's
    r"|\bsk-[\w-]{16,}"  # a key of a model's provider
    r"|(?<=://)[^\s/@]+:[^\s/@]+(@)"  # of a URL
)
_SUSPECT = re.compile(r"(?i:bearer|basic)|eyJ|sk-|://")  # without any of these there is no secret: cheap to tell
_OWN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


@contextmanager
def context(**fields: str) -> Iterator[None]:
    """Fields of every line logged inside, in this task and those it starts."""
    token = _context.set(_context.get() | fields)
    try:
        yield
    finally:
        _context.reset(token)


def _without_secrets(value: Any) -> Any:
    """A net under all who log: what looks like a credential never reaches a log, whoever put it into an error."""
    match value:
        case str():
            return _SECRET.sub(lambda found: f"{found[1] or ''}[removed]{found[2] or ''}", value)
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
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
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


def configure(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # no line tells of them
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("kopf.objects", "httpx", "httpx2", "openai", "aiohttp.access", "asyncio", "uvicorn.error", "mcp"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
