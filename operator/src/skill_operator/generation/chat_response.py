"""Decode a response of the Chat Completions API. It is foreign bytes: a worker process does it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, NotRequired, TypedDict, TypeGuard

from skill_operator.generation.endpoint_error import EndpointError, read_error

MAX_FINISH_REASON_CHARACTERS: Final = 64
MAX_REFUSAL_CHARACTERS: Final = 2000
MAX_TOOL_NAME_CHARACTERS: Final = 64
HIGHEST_COUNT: Final = 2**53  # what every reader of JSON holds exactly
REASONING_FIELDS: Final = ("reasoning_content", "reasoning", "thinking")  # of a message, beside its content
CUT_OFF: Final = "length"
FILTERED: Final = "content_filter"
_FINISH_REASONS: Final = {
    **dict.fromkeys(("max_tokens", "max_length", "model_length", "max_output_tokens", "token_limit"), CUT_OFF),
    **dict.fromkeys(("safety", "recitation", "blocklist", "prohibited_content", "refusal", "sensitive"), FILTERED),
}
_ERROR_FIELDS: Final = ("error", "detail", "message", "errors", "msg")


class ChatResponse(TypedDict):
    """ChatResponse is the first choice of a response; `usage` holds the counts of tokens that are numbers at all.

    `finish_reason` is `length` or `content_filter` for every name of the two. `reasoning` is the text of
    `reasoning_field`, `refusal` the words in which the model declines, and `tool` the name of a tool that it calls.
    `error` is what the endpoint says instead of an answer, under status 200 all the same.
    """

    text: str
    finish_reason: str
    usage: dict[str, int]
    reasoning: str
    reasoning_field: str
    refusal: str
    tool: str
    error: NotRequired[EndpointError]


def decode_response(body: str) -> ChatResponse | None:
    """Return the response in a body, or None if it is none. The body is given as Latin-1: a character for each byte.

    A stream of server-sent events, which some endpoints send unasked, is read as the one response that it makes.
    """
    try:
        data = body.encode("latin-1")
        is_stream = data.lstrip()[:5] == b"data:" or data.lstrip()[:1] == b":"
        return _read(_joined_chunks(data) if is_stream else json.loads(data))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None


def _read(parsed: Any) -> ChatResponse:
    usage = _usage(parsed.get("usage"))
    choices = parsed.get("choices")
    if not choices:
        return _failed({key: parsed[key] for key in (*_ERROR_FIELDS, "code", "type") if parsed.get(key)}, usage)
    choice = choices[0]
    reason = str(choice.get("finish_reason") or "")[:MAX_FINISH_REASON_CHARACTERS]
    if choice.get("error") or reason.lower() == "error":
        return _failed(choice.get("error") or parsed.get("error") or "finish_reason is error", usage)
    message = choice["message"] if "message" in choice or "text" not in choice else {"content": choice["text"]}
    field = next((name for name in REASONING_FIELDS if isinstance(message.get(name), str) and message[name]), "")
    refusal = message.get("refusal")
    return {
        "text": _message_text(message.get("content")),
        "finish_reason": _FINISH_REASONS.get(reason.lower(), reason.lower() if reason.isupper() else reason),
        "usage": usage,
        "reasoning": message[field] if field else "",
        "reasoning_field": field,
        "refusal": refusal[:MAX_REFUSAL_CHARACTERS] if isinstance(refusal, str) else "",
        "tool": _tool_name(message),
    }


def _failed(error: Any, usage: dict[str, int]) -> ChatResponse:
    """Return a response without an answer, with what its error says."""
    return {
        "text": "",
        "finish_reason": "error",
        "usage": usage,
        "reasoning": "",
        "reasoning_field": "",
        "refusal": "",
        "tool": "",
        "error": _named(read_error(error)),
    }


def _named(error: EndpointError) -> EndpointError:
    """Return the error, with words where the endpoint gives none."""
    return error if error["message"] else {**error, "message": "the response has no choices"}


def _message_text(content: Any) -> str:
    """Return the text of a message, which may be a list of parts. Null is an empty reply, not a fault."""
    if isinstance(content, list):
        return "".join(part if isinstance(part, str) else _part_text(part) for part in content)
    if content is not None and not isinstance(content, str):
        raise TypeError("content is no text")
    return content or ""


def _part_text(part: dict[str, Any]) -> str:
    """Return the text of one part. What the model thinks, and what is no text, is left out."""
    is_text = part.get("type", "text") in {"text", "output_text"}
    return part["text"] if is_text and isinstance(part.get("text"), str) else ""


def _tool_name(message: dict[str, Any]) -> str:
    """Return the name of the tool that a message calls, or an empty string."""
    calls = message.get("tool_calls")
    call = calls[0] if isinstance(calls, list) and calls else {"function": message.get("function_call")}
    function = call.get("function")
    if not isinstance(function, dict):
        return ""
    return str(function.get("name") or "without a name")[:MAX_TOOL_NAME_CHARACTERS]


def _usage(usage: Any) -> dict[str, int]:
    """Return the counts of tokens: `prompt`, `completion`, `total`, and `reasoning`, which completion may include."""
    counts = usage if isinstance(usage, dict) else {}
    details = counts.get("completion_tokens_details")
    reasoning = details.get("reasoning_tokens") if isinstance(details, dict) else counts.get("reasoning_tokens")
    found = [(kind, counts.get(f"{kind}_tokens")) for kind in ("prompt", "completion", "total")]
    return {kind: int(count) for kind, count in [*found, ("reasoning", reasoning)] if _is_count(count)}


def _is_count(value: Any) -> TypeGuard[int]:
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return is_whole and not isinstance(value, bool) and 0 <= value <= HIGHEST_COUNT


def _joined_chunks(data: bytes) -> dict[str, Any]:
    """Return the response that the chunks of a stream make together."""
    texts: dict[str, list[str]] = {name: [] for name in ("content", "refusal", *REASONING_FIELDS)}
    response: dict[str, Any] = {"usage": None}
    choice: dict[str, Any] = {}
    message: dict[str, Any] = {}
    for chunk in _chunks(data):
        response.update({key: chunk[key] for key in ("usage", "error") if chunk.get(key)})
        for part in (chunk.get("choices") or [])[:1]:
            choice.update({key: part[key] for key in ("finish_reason", "error") if part.get(key)})
            delta = part.get("delta") or part.get("message") or {}
            for name, pieces in texts.items():
                if isinstance(delta.get(name), str):
                    pieces.append(delta[name])
            message.update({key: delta[key] for key in ("tool_calls",) if delta.get(key) and key not in message})
    message.update({name: "".join(pieces) for name, pieces in texts.items()})
    if response.get("error"):
        return response
    if "finish_reason" not in choice and not data.rstrip().endswith(b"[DONE]"):
        raise ValueError("the stream is cut")
    return response | {"choices": [choice | {"message": message}]}


def _chunks(data: bytes) -> Iterator[dict[str, Any]]:
    """Yield the decoded events of a stream. Raises ValueError for one that is cut."""
    for line in data.splitlines():
        value = line.removeprefix(b"data:").strip() if line.startswith(b"data:") else b""
        if value and value != b"[DONE]":
            yield json.loads(value)
