"""Decode a response of the Chat Completions API. It is foreign bytes: a worker process does it."""

from __future__ import annotations

import json
from typing import Any, Final, NotRequired, TypedDict, TypeGuard

MAX_FINISH_REASON_CHARACTERS: Final = 64
MAX_ERROR_CHARACTERS: Final = 1000
HIGHEST_COUNT: Final = 2**53  # what every reader of JSON holds exactly


class ChatResponse(TypedDict):
    """ChatResponse is the first choice of a response; `usage` holds the counts of tokens that are numbers at all.

    `error` is what the endpoint says instead of an answer, under status 200 all the same.
    """

    text: str
    finish_reason: str
    usage: dict[str, int]
    error: NotRequired[str]


def decode_response(body: str) -> ChatResponse | None:
    """Return the response in a body, or None if it is none. The body is given as Latin-1: a character for each byte."""
    try:
        parsed = json.loads(body.encode("latin-1"))
        if not parsed.get("choices") and parsed.get("error"):
            return _failed(parsed["error"])
        choice = parsed["choices"][0]
        reason = str(choice.get("finish_reason") or "")[:MAX_FINISH_REASON_CHARACTERS]
        if choice.get("error") or reason == "error":
            return _failed(choice.get("error") or parsed.get("error") or "finish_reason is error")
        text = _message_text(choice["message"].get("content"))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None
    return {"text": text, "finish_reason": reason, "usage": _usage(parsed.get("usage"))}


def _failed(error: Any) -> ChatResponse:
    """Return a response without an answer, with what its error says."""
    details = error if isinstance(error, dict) else {"message": error}
    words = [str(details[key]) for key in ("code", "message") if isinstance(details.get(key), str | int)]
    return {"text": "", "finish_reason": "error", "usage": {}, "error": ": ".join(words)[:MAX_ERROR_CHARACTERS]}


def _message_text(content: Any) -> str:
    """Return the text of a message, which may be a list of parts. Null is an empty reply, not a fault."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part.get("type") == "text")
    if content is not None and not isinstance(content, str):
        raise TypeError("content is no text")
    return content or ""


def _usage(usage: Any) -> dict[str, int]:
    counts = usage if isinstance(usage, dict) else {}
    found = ((kind, counts.get(f"{kind}_tokens")) for kind in ("prompt", "completion", "total"))
    return {kind: count for kind, count in found if _is_count(count)}


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= HIGHEST_COUNT
