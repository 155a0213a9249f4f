"""Read the code of a completion, wherever the endpoint put it, or why there is none.

Endpoints differ in where they put what: code in a field for reasoning, words of refusal beside an empty content, a call
of a tool that nobody offered. A worker process does this, as the text is foreign.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, TypedDict

from skill_operator.generation.chat_response import CUT_OFF, FILTERED
from skill_operator.generation.ledger import NO_ANSWER, REFUSED
from skill_operator.generation.reply import read_reply

MAX_QUOTED_CHARACTERS: Final = 300  # of a reply without code, for people
_OPEN_THOUGHT: Final = re.compile(r"\s*<(think|thinking|thought|reasoning)>")
_REFUSAL: Final = re.compile(
    r"\b(?:I|we)(?:['\u2019]m| am| are)?,? (?:can(?:no|['\u2019])t|won['\u2019]t|will not|unable to|not able to)\s+"
    r"(?:\w+\s+){0,3}?(?:help|assist|comply|provide|fulfil|create|write|generate|do that)",
    re.IGNORECASE,
)


class CompletionParts(TypedDict):
    """CompletionParts are the parts of a completion in which code, or the reason for none, may be."""

    text: str
    finish_reason: str
    reasoning: str
    reasoning_field: str
    reasoning_tokens: int
    refusal: str
    tool: str


class CompletionContent(NamedTuple):
    """CompletionContent is the code of a completion with its fingerprint; or the flaw, and what explains it.

    `message` is the operator's own text, which a prompt may quote. `words` are foreign, and for people alone.
    """

    source: str
    flaw: str
    message: str
    fingerprint: str
    words: str


def read_completion(parts: CompletionParts, accepted_source: str) -> CompletionContent:
    """Return what a completion holds. `accepted_source` is code that was accepted before, or empty."""
    text, was_cut = parts["text"], parts["finish_reason"] == CUT_OFF
    if was_cut and _is_open_thought(text):
        return _without_code(NO_ANSWER, "the reply was cut off at its length limit before the answer began")
    source, flaw, message, fingerprint = read_reply(text, parts["finish_reason"], accepted_source)
    if source:
        return CompletionContent(source, "", "", fingerprint, "")
    if was_cut:
        thought = bool(parts["reasoning_tokens"] or parts["reasoning"].strip() or not text.strip())
        return _without_code(NO_ANSWER if thought else flaw, message)
    if parts["refusal"] or parts["finish_reason"] == FILTERED:
        who = "a content filter withheld the reply" if parts["finish_reason"] == FILTERED else "the model declined"
        return _without_code(REFUSED, who, parts["refusal"] or text)
    if parts["tool"]:
        return _without_code(flaw, "the reply called a tool, and there is none", parts["tool"])
    if text.strip():
        is_refusal = _REFUSAL.search(text, 0, MAX_QUOTED_CHARACTERS) is not None
        return _without_code(REFUSED, "the model declined", text) if is_refusal else _without_code(flaw, message, text)
    if not parts["reasoning"].strip():
        return _without_code(flaw, message)
    source, _, _, fingerprint = read_reply(parts["reasoning"], parts["finish_reason"], accepted_source)
    if source:
        return CompletionContent(source, "", "", fingerprint, "")
    return _without_code(
        flaw, f"{message}: all of its text was in the field {parts['reasoning_field']}", parts["reasoning"]
    )


def _is_open_thought(text: str) -> bool:
    opening = _OPEN_THOUGHT.match(text)
    return opening is not None and f"</{opening[1]}>" not in text


def _without_code(flaw: str, message: str, words: str = "") -> CompletionContent:
    return CompletionContent("", flaw, message, "", words.strip()[:MAX_QUOTED_CHARACTERS])
