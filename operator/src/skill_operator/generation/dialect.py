"""A dialect is the form of the request that one endpoint accepts. What an endpoint refuses teaches the next form.

There is no standard for refusals: the words are read, and each rule below quotes what it was made for. A rule changes
one thing, so that a form that is refused again is known by what changed. All functions are pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from skill_operator.generation.endpoint_error import EndpointError
from skill_operator.generation.prompt import Message

MIN_REPLY_TOKENS: Final = 64  # a limit that leaves less is none that a file fits into
LIMIT_FIELDS: Final = ("max_tokens", "max_completion_tokens")
TEACHING_STATUSES: Final = frozenset({400, 422})
TEMPLATE_STATUSES: Final = frozenset({500, 501})  # llama.cpp reports an error of a chat template as its own

SystemRole = Literal["system", "developer", "user"]  # user: such endpoints take no system message

_NUMBER: Final = re.compile(
    r"(?<![\w.\-])(?:\d{1,3}(?:,\d{3})+|\d+)(?!\w|,\d{3}|\.\d|-\w)"
)  # not of a name: gpt-4-0613
_UNKNOWN_FIELD: Final = re.compile(
    r"unrecogni[sz]ed|unknown|unexpected|extra|unsupported (?:parameter|argument|field|property)|not permitted|"
    r"is not supported|(?:is|are) not allowed|instead",
    re.IGNORECASE,
)
_LIMIT_WORDS: Final = re.compile(
    r"max_?(?:completion|new|output)?_?tokens|(?:completion|output|generated|new) tokens|maxOutputTokens|num_predict",
    re.IGNORECASE,
)
_BOUND: Final = re.compile(
    r"at most|maximum|\bmax\b|less than|<|>|≤|≥|\ble\b|exceed|range|between|too (?:large|high|big|many)|greater|"
    r"up to|no more than|limit|above|higher|cannot be more|upper bound",
    re.IGNORECASE,
)
_EXCLUSIVE_BOUND: Final = re.compile(
    r"exclusive|(?:less|lower|smaller) than (?!or equal)|must be <\s*\d", re.IGNORECASE
)
_CONTEXT: Final = re.compile(
    r"(?:context[ _](?:length|len|window|size)|max_model_len|n_ctx|maximum (?:sequence|total) length)"
    r"(?:[^\d.]|\.(?!\s)){0,60}?(\d[\d,]*)|"
    r"tokens?`? \+ `?max_(?:new_)?tokens`? must be <= (\d[\d,]*)",
    re.IGNORECASE,
)
_PROMPT: Final = re.compile(
    r"(\d[\d,]*)(?: tokens?)?(?: in (?:the|your) (?:messages|prompt|input)| `?inputs?`? tokens| "
    r"(?:prompt|input) tokens| from the (?:input )?(?:messages|prompt)| of text input)|"
    r"(?:prompt|request|messages|input)(?: tokens?)?(?: \(| has| have| contains?| resulted in|:| =)? ?(\d[\d,]*)",
    re.IGNORECASE,
)
_REQUESTED: Final = re.compile(r"requested(?: a total of| about)? (\d[\d,]*)", re.IGNORECASE)
_ROLES: Final = re.compile(
    r"\bsystem\b|must alternate|roles? alternat|only user(?:,| and)|developer instruction|raise_exception|jinja|"
    r"(?:chat|prompt) template|template (?:error|render)|(?:invalid|unexpected|unknown|unsupported) role|"
    r"messages?\W.*role",
    re.IGNORECASE,
)
_TEMPLATE: Final = re.compile(r"must alternate|system role|raise_exception|jinja|template", re.IGNORECASE)
_DEVELOPER: Final = re.compile(r"developer(?! instruction)", re.IGNORECASE)
_NEEDS_STREAM: Final = re.compile(
    r"only supports? stream|stream(?:ing)? (?:is |mode )?(?:required|only)|requires? stream|(?:set|use|enable)"
    r"[^.]{0,30}\bstream|stream[`'\"]? ?(?:must be|=|:|to) ?true",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Dialect:
    """Dialect is the form of the request that one endpoint accepts.

    `max_reply_tokens` is the endpoint's own limit of one reply, and `context_tokens` that of prompt and reply together;
    0 while it is unknown. `prompt_ratio` is the number of tokens of a prompt as the endpoint counts them, by the
    estimated number.
    """

    limit_field: str = "max_tokens"
    omitted_fields: frozenset[str] = field(default_factory=frozenset)
    system_role: SystemRole = "system"
    stream: bool = False
    max_reply_tokens: int = 0
    context_tokens: int = 0
    prompt_ratio: float = 1.0

    def reply_limit(self, tokens: int, prompt_tokens: int) -> int:
        """Return the limit of one reply, where `tokens` are wanted after a prompt of an estimated `prompt_tokens`."""
        limit = min(tokens, self.max_reply_tokens or tokens)
        room = self.context_tokens - math.ceil(self.prompt_ratio * prompt_tokens)
        return min(limit, room) if self.context_tokens and room >= MIN_REPLY_TOKENS else limit

    def request_body(self, model: str, messages: list[Message], limit: int, temperature: float) -> dict[str, Any]:
        """Return the body of the request, with the limit of the reply as it is."""
        body: dict[str, Any] = {
            "model": model,
            "messages": shape_messages(messages, self.system_role),
            self.limit_field: limit,
            "temperature": temperature,
        }
        if self.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}  # else it is not said what it costs
        return {name: value for name, value in body.items() if name not in self.omitted_fields}


@dataclass(frozen=True)
class RefusedForm:
    """RefusedForm is a request that was refused. `limit` is that of its reply; `prompt_tokens` are estimated."""

    dialect: Dialect
    words: str
    limit: int
    prompt_tokens: int


def shape_messages(messages: list[Message], system_role: SystemRole) -> list[Message]:
    """Return the messages with the system's in that role, and with the turns of one role in a row as one.

    Many chat templates take no two turns of one role in a row (Gemma, Mistral, Llama 2).
    """
    turns = list[Message]()
    for message in messages:
        role = system_role if message["role"] == "system" else message["role"]
        if turns and turns[-1]["role"] == role:
            turns[-1] = {"role": role, "content": f"{turns[-1]['content']}\n\n{message['content']}"}
        else:
            turns.append({**message, "role": role})
    return turns


def next_dialects(dialect: Dialect, error: EndpointError, limit: int, prompt_tokens: int) -> Iterator[Dialect]:
    """Yield the forms that may be accepted instead, by the endpoint's words, the most likely first."""
    form = RefusedForm(dialect, f"{error['code']} {error['message']}", limit, prompt_tokens)
    for rule in _rules(error):
        changed = rule(form)
        if changed is not None and changed != dialect:
            yield changed


def _rules(error: EndpointError) -> tuple[Callable[[RefusedForm], Dialect | None], ...]:
    if error["status"] in TEACHING_STATUSES:
        return (
            _omit_named,
            _fit_context,
            _rename_limit,
            _lower_limit,
            _stream,
            _move_system_text,
            _rename_mentioned_limit,
        )
    is_template = error["status"] in TEMPLATE_STATUSES and _TEMPLATE.search(error["message"])
    return (_move_system_text,) if is_template else ()


def _omit_named(form: RefusedForm) -> Dialect | None:
    """Omit a field that a model has no choice of: "'temperature' does not support 0.2 with this model"."""
    names = (*(("stream_options",) if form.dialect.stream else ()), "temperature")
    for name in names:
        if name in form.words.lower() and name not in form.dialect.omitted_fields:
            return replace(form.dialect, omitted_fields=form.dialect.omitted_fields | {name})
    return None


def _fit_context(form: RefusedForm) -> Dialect | None:
    """Learn the context: "maximum context length is 2048 tokens. However, you requested 4196 tokens"."""
    found = _CONTEXT.search(form.words)
    context = _int(found) if found else 0
    if context < MIN_REPLY_TOKENS:
        return None
    prompt_tokens = _counted_prompt(form, context)
    ratio = prompt_tokens / max(1, form.prompt_tokens) if prompt_tokens else 1.0
    changed = replace(form.dialect, context_tokens=context, prompt_ratio=ratio)
    fits_better = changed.reply_limit(form.limit, form.prompt_tokens) < form.limit
    return changed if fits_better else None


def _counted_prompt(form: RefusedForm, context: int) -> int:
    """Return the tokens of the prompt as the refusal counts them, or 0."""
    total = _REQUESTED.search(form.words)
    counts = [_int(found) for found in _PROMPT.finditer(form.words)]
    if total is not None:
        counts.append(_int(total) - form.limit)
    return next((count for count in counts if 0 < count < context), 0)


def _rename_limit(form: RefusedForm) -> Dialect | None:
    """Use the other name of the limit: "Unsupported parameter: 'max_tokens'", or extra_forbidden at body.max_tokens."""
    return _rename_mentioned_limit(form) if _UNKNOWN_FIELD.search(form.words) else None


def _rename_mentioned_limit(form: RefusedForm) -> Dialect | None:
    if form.dialect.limit_field not in form.words:
        return None
    first, second = LIMIT_FIELDS
    return replace(form.dialect, limit_field=second if form.dialect.limit_field == first else first)


def _lower_limit(form: RefusedForm) -> Dialect | None:
    """Learn the longest reply: "supports at most 2048 completion tokens", "the range of max_tokens is [1, 8192]"."""
    if not (_LIMIT_WORDS.search(form.words) and _BOUND.search(form.words)):
        return None
    numbers = [int(found[0].replace(",", "")) for found in _NUMBER.finditer(form.words)]
    margin = 1 if _EXCLUSIVE_BOUND.search(form.words) else 0
    limits = [number for number in numbers if MIN_REPLY_TOKENS < number < form.limit + margin]
    lower = [number for number in limits if number < form.limit]  # the limit itself is quoted, too
    return replace(form.dialect, max_reply_tokens=max(lower or limits) - margin) if limits else None


def _stream(form: RefusedForm) -> Dialect | None:
    """Ask for a stream: "This model only supports streaming: set stream=true"."""
    return replace(form.dialect, stream=True) if _NEEDS_STREAM.search(form.words) else None


def _move_system_text(form: RefusedForm) -> Dialect | None:
    """Give the system's text another role: "System role not supported", "Conversation roles must alternate"."""
    if form.dialect.system_role == "user" or not _ROLES.search(form.words):
        return None
    wants_developer = form.dialect.system_role == "system" and _DEVELOPER.search(form.words)
    return replace(form.dialect, system_role="developer" if wants_developer else "user")


def _int(found: re.Match[str]) -> int:
    return int(next(group for group in found.groups() if group).replace(",", ""))
