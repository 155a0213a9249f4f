"""Keep the last calls that this user made with `kubectl skill call`, on this machine alone, by their request ids.

The cluster keeps no input and no output of a call: they may hold anything. Who made a call may keep it, and turn a
wrong answer into an example. SKILL_CALL_JOURNAL=off keeps none.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kubectl_skill.kubectl import state_folder
from skill_operator.runtime_contract import REQUEST_ID_PATTERN

VARIABLE: Final = "SKILL_CALL_JOURNAL"
MAX_CALLS: Final = 50
MAX_CALL_BYTES: Final = 1 << 17
"""The largest call that is kept, with its answer."""
_PREFIX, _SUFFIX = "call-", ".json"


@dataclass(frozen=True)
class JournaledCall:
    """JournaledCall is one call of this user, and what came of it."""

    request_id: str
    namespace: str
    name: str
    input: Any
    status: int
    """The HTTP status; 200 is an answer."""
    answer: Any


def record_call(call: JournaledCall) -> bool:
    """Keep a call, and forget the oldest beyond MAX_CALLS. Returns whether it is kept; it never fails."""
    if os.environ.get(VARIABLE) == "off" or not _is_request_id(call.request_id):
        return False
    text = json.dumps(call.__dict__, ensure_ascii=False, separators=(",", ":"))
    data = text.encode("utf-8", "surrogatepass")
    if len(data) > MAX_CALL_BYTES:
        return False
    try:
        folder = _folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{_PREFIX}{call.request_id}{_SUFFIX}"
        draft = folder / f".{path.name}.{os.getpid()}"
        with suppress(FileNotFoundError):
            draft.unlink()
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        draft.replace(path)
        _forget(folder)
    except OSError:
        return False
    return True


def find_call(request_id: str) -> JournaledCall | None:
    """Return the call of this request id, or None where none is kept."""
    if not _is_request_id(request_id):
        return None
    try:
        with (_folder() / f"{_PREFIX}{request_id}{_SUFFIX}").open("rb") as file:
            value = json.loads(file.read(MAX_CALL_BYTES + 1))
        return JournaledCall(**value)
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def recent_ids() -> list[str]:
    """Return the request ids that are kept, the latest first."""
    with suppress(OSError):
        return [_id_of(path) for path in _by_age(_folder())]
    return []


def _folder() -> Path:
    return Path(state_folder()) / "calls"


def _by_age(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if path.name.startswith(_PREFIX) and path.name.endswith(_SUFFIX)]
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)


def _forget(folder: Path) -> None:
    for path in _by_age(folder)[MAX_CALLS:]:
        with suppress(FileNotFoundError):
            path.unlink()


def _id_of(path: Path) -> str:
    return path.name[len(_PREFIX) : -len(_SUFFIX)]


def _is_request_id(text: str) -> bool:
    return re.fullmatch(REQUEST_ID_PATTERN, text) is not None
