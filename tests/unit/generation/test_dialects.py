"""Endpoints as they are: each dialect spoken on loopback, with what comes of it and what it costs.

Every row goes through the real provider and the real reader of completions, twice: what an endpoint taught the first
time is known the second time.
"""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from skill_operator.certificates import issuing
from skill_operator.generation.chat_response import decode_response
from skill_operator.generation.completion_reader import CompletionParts, read_completion
from skill_operator.generation.dialect import Dialect, next_dialects, shape_messages
from skill_operator.generation.endpoint_error import read_error
from skill_operator.generation.provider import (
    MAX_REQUEST_FORMS,
    Completion,
    ModelRefused,
    ModelUnavailable,
    Provider,
    estimate,
)
from skill_operator.settings import ModelEndpoint
from tests.unit.generation.loopback import (
    CODE,
    FENCED,
    PRICE,
    Answer,
    Json,
    Loopback,
    Respond,
    completion,
    error,
    limit,
    refuses,
    roles,
)
from tests.unit.generation.world import InlineWorker

KEY = "sk-very-secret-0123456789"
WANTED = 4096
MESSAGES = [
    {"role": "system", "content": "These are the rules."},
    {"role": "user", "content": "This is the task. " * 200},
    {"role": "user", "content": "This was wrong."},
]
PROMPT = estimate(MESSAGES)


@dataclass(frozen=True)
class Outcome:
    """What comes of a call: `code`, a flaw, `refused` or `unavailable`; its price; and the words that people read."""

    kind: str
    tokens: int
    words: str
    completion: Completion | None = None
    retry_after: float | None = None


async def call(provider: Provider, url: str, key: str = KEY, **settings: Any) -> Outcome:
    endpoint = ModelEndpoint(name="main", base_url=url, model="m-1", timeout_seconds=20, **settings)
    try:
        done = await provider.complete(endpoint, key, MESSAGES, WANTED)
    except ModelUnavailable as fault:
        unknown = PROMPT + WANTED if fault.tokens is None else fault.tokens
        return Outcome("unavailable", unknown if fault.billed else 0, str(fault), None, fault.retry_after)
    except ModelRefused as fault:
        return Outcome("refused", fault.tokens, str(fault))
    parts: CompletionParts = {
        "text": done.text,
        "finish_reason": done.finish_reason,
        "reasoning": done.reasoning,
        "reasoning_field": done.reasoning_field,
        "reasoning_tokens": done.reasoning_tokens,
        "refusal": done.refusal,
        "tool": done.tool,
    }
    content = read_completion(parts, "")
    assert content.source in {"", CODE}
    return Outcome(content.flaw or "code", done.tokens, f"{content.message} {content.words}", done)


def provider() -> Provider:
    return Provider(worker=InlineWorker())


def stream(*chunks: Any) -> Answer:
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return Answer(
        ": processing\n\n" + "".join(lines) + "data: [DONE]\n\n", headers={"Content-Type": "text/event-stream"}
    )


def delta(finish_reason: Any = None, **values: Any) -> Json:
    return {"choices": [{"index": 0, "delta": values, "finish_reason": finish_reason}]}


USED = {"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 50}}
STREAM = stream(delta(content=FENCED[:9]), delta(content=FENCED[9:]), delta("stop"), USED)
THOUGHT = "The task wants an empty object, so that is what it gets."
PLAIN = completion().body


# Replies that hold code, and the price.
CODE_AS_IT_COMES: dict[str, tuple[Answer, int]] = {
    "plain": (completion(), PRICE),
    "content in parts": (completion([{"type": "text", "text": FENCED}]), PRICE),
    "content in parts of another type": (completion([{"type": "output_text", "text": FENCED}]), PRICE),
    "content in parts without a type": (completion([{"text": FENCED[:9]}, {"text": FENCED[9:]}]), PRICE),
    "content in strings": (completion([FENCED]), PRICE),
    "thinking in a part": (
        completion([{"type": "thinking", "thinking": [{"text": "hm"}]}, {"type": "text", "text": FENCED}]), PRICE,
    ),
    "reasoning_content beside the content": (completion(reasoning_content=f"A draft:\n{FENCED}\nNo."), PRICE),
    "a thought before the answer": (completion(f"<think>\n{THOUGHT}\n</think>\n{FENCED}"), PRICE),
    "content null, code in reasoning_content": (completion(None, reasoning_content=f"{THOUGHT}\n{FENCED}"), PRICE),
    "content empty, code in reasoning": (completion("", reasoning=f"{THOUGHT}\n{FENCED}"), PRICE),
    "text of the older API": (Answer({"choices": [{"text": FENCED, "finish_reason": "stop"}], "usage": PLAIN["usage"]}), PRICE),
    "blanks before the JSON": (Answer(b"\n\n  \n" + json.dumps(PLAIN).encode()), PRICE),
    "a byte order mark": (Answer(b"\xef\xbb\xbf" + json.dumps(PLAIN).encode()), PRICE),
    "a stream that nobody asked for": (STREAM, PRICE),
    "another name for the end": (completion(finish_reason="eos"), PRICE),
    "no name for the end": (completion(finish_reason=None), PRICE),
    "end in capitals": (completion(finish_reason="STOP"), PRICE),
    "usage in floats": (completion(usage={"prompt_tokens": 100.0, "completion_tokens": 50.0}), PRICE),
    "usage null": (completion(usage=None), PROMPT + -(-len(FENCED) // 3)),
    "usage zero": (completion(usage=dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), 0)), PROMPT + -(-len(FENCED) // 3)),
    "error null beside the choices": (Answer(PLAIN | {"error": None}), PRICE),
    "reasoning in the total alone": (
        completion(usage={"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 1150}), 1150,
    ),
    "reasoning beside the completion": (
        completion(usage={"prompt_tokens": 100, "completion_tokens": 50, "completion_tokens_details": {"reasoning_tokens": 1000}}), 1150,
    ),
    "reasoning in the completion": (
        completion(usage={"prompt_tokens": 100, "completion_tokens": 1050, "completion_tokens_details": {"reasoning_tokens": 1000}}), 1150,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CODE_AS_IT_COMES)
async def test_code_is_found_where_the_endpoint_puts_it(name: str) -> None:
    answer, tokens = CODE_AS_IT_COMES[name]
    with Loopback(answer) as endpoint:
        outcome = await call(provider(), endpoint.url)
        assert (outcome.kind, outcome.tokens, len(endpoint.requests)) == ("code", tokens, 1), outcome


async def test_reasoning_tokens_are_shown_apart() -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 1050, "completion_tokens_details": {"reasoning_tokens": 1000}}
    with Loopback(completion(usage=usage)) as endpoint:
        outcome = await call(provider(), endpoint.url)
    assert outcome.completion is not None
    assert (outcome.completion.tokens, outcome.completion.reasoning_tokens) == (1150, 1000)


def has(name: str) -> Any:
    return lambda request: name in request


def over(tokens: int) -> Any:
    return lambda request: limit(request) > tokens


def validation(kind: str, place: list[Any], message: str) -> Json:
    return {"type": kind, "loc": place, "msg": message, "input": 1}


def first_is(role: str) -> Any:
    return lambda request: roles(request)[0] == role


def not_alternating(request: Json) -> bool:
    rest = [role for role in roles(request) if role != "system"]
    return any(role != ("user", "assistant")[number % 2] for number, role in enumerate(rest)) or "system" in roles(
        request
    )


RENAMED = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
FIXED = (
    "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is supported."
)
FORBIDDEN = [validation("extra_forbidden", ["body", "max_tokens"], "Extra inputs are not permitted")]
VLLM_CONTEXT = (
    "This model's maximum context length is {0} tokens. However, you requested {1} tokens ({2} in the messages, {3} in "
    "the completion). Please reduce the length of the messages or completion."
)
VLLM_ROOM = (
    "'max_tokens' or 'max_completion_tokens' is too large: {3}. This model's maximum context length is {0} tokens and your "
    "request has {2} input tokens ({3} > {0} - {2})."
)
SGLANG = (
    "Requested token count exceeds the model's maximum context length of {0} tokens. You requested a total of {1} tokens: "
    "{2} tokens from the input messages and {3} tokens for the completion."
)
TGI = "Input validation error: `inputs` tokens + `max_new_tokens` must be <= {0}. Given: {2} `inputs` tokens and {3} `max_new_tokens`"
PLAIN_CONTEXT = "the request exceeds the available context size ({0} tokens), try increasing it"
COUNTED = 900  # tokens of the prompt, as those endpoints count them
CONTEXT = 2048


def in_context(words: str, status: int = 400) -> Respond:
    """The context of a small model, whose tokens are larger than the estimate."""

    def respond(request: Json) -> Answer:
        wanted = limit(request)
        if COUNTED + wanted <= CONTEXT:
            return completion()
        return error(status, words.format(CONTEXT, COUNTED + wanted, COUNTED, wanted))

    return respond


# What is refused, with the number of requests of the first call, and what the last request must look like.
LEARNT: dict[str, tuple[Respond, int, Any]] = {
    "max_tokens renamed": (refuses((has("max_tokens"), error(400, RENAMED, param="max_tokens"))), 2, has("max_completion_tokens")),
    "max_tokens renamed, o-series": (
        refuses((has("max_tokens"), error(400, RENAMED)), (has("temperature"), error(400, FIXED))), 3,
        lambda request: "temperature" not in request and limit(request) == WANTED,
    ),
    "max_tokens forbidden by FastAPI": (refuses((has("max_tokens"), Answer({"detail": FORBIDDEN}, 422))), 2, has("max_completion_tokens")),
    "max_tokens forbidden by Mistral": (
        refuses((has("max_tokens"), Answer({"object": "error", "message": {"detail": FORBIDDEN}}, 422))), 2, has("max_completion_tokens"),
    ),
    "max_tokens forbidden in a line": (refuses((has("max_tokens"), error(422, "body.max_tokens: Extra inputs are not permitted"))), 2, has("max_completion_tokens")),
    "max_tokens unknown to Go": (refuses((has("max_tokens"), Answer({"error": 'json: unknown field "max_tokens"'}, 400))), 2, has("max_completion_tokens")),
    "max_tokens unknown to Java": (
        refuses((has("max_tokens"), Answer({"message": 'Unrecognized field "max_tokens" (class Request), not marked as ignorable'}, 400))), 2, has("max_completion_tokens"),
    ),
    "temperature fixed": (refuses((has("temperature"), error(400, FIXED, param="temperature"))), 2, lambda r: "temperature" not in r),
    "temperature fixed, 422": (refuses((has("temperature"), error(422, "temperature: only 1 is allowed for this model"))), 2, lambda r: "temperature" not in r),
    "temperature forbidden by FastAPI": (
        refuses((has("temperature"), Answer({"detail": [validation("extra_forbidden", ["body", "temperature"], "Extra inputs are not permitted")]}, 422))),
        2, lambda r: "temperature" not in r,
    ),
    "both forbidden at once": (
        refuses((lambda r: "max_tokens" in r or "temperature" in r, Answer({"detail": [
            *FORBIDDEN, validation("extra_forbidden", ["body", "temperature"], "Extra inputs are not permitted")]}, 422))),
        3, lambda r: "temperature" not in r and "max_completion_tokens" in r,
    ),
    "no system role": (refuses((first_is("system"), error(400, "System role not supported"))), 2, first_is("user")),
    "no system role, o1": (
        refuses((first_is("system"), error(400, "Unsupported value: 'messages[0].role' does not support 'system' with this model."))), 2, first_is("user"),
    ),
    "no system role, Gemma at Google": (
        refuses((first_is("system"), Answer([{"error": {"code": 400, "message": "Developer instruction is not enabled for models/gemma-3-27b-it", "status": "INVALID_ARGUMENT"}}], 400))),
        2, first_is("user"),
    ),
    "no system role, FastAPI": (
        refuses((first_is("system"), Answer({"detail": [validation("literal_error", ["body", "messages", 0, "role"], "Input should be 'user' or 'assistant'")]}, 422))),
        2, first_is("user"),
    ),
    "roles must alternate": (
        refuses((not_alternating, error(400, "Conversation roles must alternate user/assistant/user/assistant/..."))), 2, first_is("user"),
    ),
    "only two roles": (refuses((first_is("system"), error(400, "Only user and assistant roles are supported!"))), 2, first_is("user")),
    "a template of LM Studio": (
        refuses((first_is("system"), error(400, "Error rendering prompt with jinja template: Cannot call something that is not a function: raise_exception"))), 2, first_is("user"),
    ),
    "a template of llama.cpp, as its own fault": (
        refuses((first_is("system"), error(500, "Jinja Exception: System role not supported", code=500))), 2, first_is("user"),
    ),
    "an error of that kind under 200": (
        refuses((first_is("system"), Answer({"error": {"code": 400, "message": "System role not supported"}}))), 2, first_is("user"),
    ),
    "developer wanted": (
        refuses((first_is("system"), error(400, "Invalid role 'system'. Use 'developer' instead."))), 2, first_is("developer"),
    ),
    "neither system nor developer": (
        refuses((lambda r: roles(r)[0] != "user", error(400, "Unsupported role: use 'developer' or 'user', not 'system'"))), 3, first_is("user"),
    ),
    "streams alone": (
        refuses((lambda r: not r.get("stream"), error(400, "This model only supports streaming: set stream=true")), then=STREAM), 2, has("stream_options"),
    ),
    "streams alone, without options": (
        refuses(
            (lambda r: not r.get("stream"), error(400, "This model only support stream mode, please enable the stream parameter")),
            (has("stream_options"), error(400, "Unknown parameter: 'stream_options'.")), then=STREAM,
        ), 3, lambda r: r["stream"] and "stream_options" not in r,
    ),
    **{
        f"limit of the model: {words[:40]}": (refuses((over(2048), error(status, words))), 2, lambda r: limit(r) == 2048)
        for status, words in (
            (400, "max_tokens is too large: 4096. This model supports at most 2048 completion tokens, whereas you provided 4096."),
            (400, "`max_tokens` must be less than or equal to `2048`, the maximum value for `max_tokens` of this model gpt-4-0613"),
            (400, "Invalid max_tokens value, the valid range of max_tokens is [1, 2048]"),
            (400, "Range of max_tokens should be [1, 2048]"),
            (400, "max_tokens: 4096 > 2048, which is the maximum allowed number of output tokens for m-2.5-3000"),
            (400, "Unable to submit request: maxOutputTokens is 4096 but the supported range is from 1 (inclusive) to 2049 (exclusive)"),
            (422, "`max_new_tokens` must be <= 2048. Given: 4096"),
            (400, "too many tokens: max_tokens must be at most 2,048"),
        )
    },
    "limit of the model, FastAPI": (
        refuses((over(2048), Answer({"detail": [validation("less_than_equal", ["body", "max_tokens"], "Input should be less than or equal to 2048")]}, 422))),
        2, lambda r: limit(r) == 2048,
    ),
    "renamed, and then too large": (
        refuses(
            (has("max_tokens"), error(400, RENAMED)),
            (over(2048), error(400, "max_completion_tokens is too large: 4096. This model supports at most 2048 completion tokens")),
        ), 3, lambda r: r["max_completion_tokens"] == 2048,
    ),
    **{
        f"context: {words[:30]}": (in_context(words, status), 2, lambda r: 700 <= limit(r) <= CONTEXT - COUNTED)
        for status, words in ((400, VLLM_CONTEXT), (400, VLLM_ROOM), (400, SGLANG), (422, TGI), (400, PLAIN_CONTEXT))
    },
}  # fmt: skip


@pytest.mark.parametrize("name", LEARNT)
async def test_a_refused_form_is_sent_once(name: str) -> None:
    respond, requests, accepted = LEARNT[name]
    with Loopback(respond) as endpoint:
        ours = provider()
        for number in (requests, requests + 1):
            outcome = await call(ours, endpoint.url)
            assert (outcome.kind, outcome.tokens) == ("code", PRICE), outcome
            assert len(endpoint.requests) == number
            assert accepted(endpoint.requests[-1]), endpoint.requests[-1]
        texts = ["\n\n".join(m["content"] for m in request["messages"]) for request in endpoint.requests]
        assert set(texts) == {"\n\n".join(m["content"] for m in MESSAGES)}, "every form says the same"


async def test_a_lower_limit_is_told_with_the_completion() -> None:
    with Loopback(LEARNT["renamed, and then too large"][0]) as endpoint:
        ours = provider()
        outcome = await call(ours, endpoint.url)
        assert outcome.completion is not None
        assert outcome.completion.reply_limit == 2048
        model = ModelEndpoint(name="main", base_url=endpoint.url, model="m-1")
        assert ours.reply_limits(model).max_tokens == 2048


@pytest.mark.parametrize("fault", [error(429, "slow down"), error(503, "loading")])
async def test_a_form_that_was_learnt_before_an_outage_is_not_sent_again(fault: Answer) -> None:
    answers = [fault]
    refusal = error(400, RENAMED)
    with Loopback(lambda r: refusal if "max_tokens" in r else answers.pop() if answers else completion()) as endpoint:
        ours = provider()
        assert (await call(ours, endpoint.url)).kind == "unavailable"
        assert (await call(ours, endpoint.url)).kind == "code"
        assert ["max_tokens" in request for request in endpoint.requests] == [True, False, False]


async def test_an_endpoint_that_takes_neither_limit_is_not_called_without_one() -> None:
    refusal = error(400, "Unrecognized request argument supplied: max_tokens, max_completion_tokens")
    with Loopback(refuses((lambda r: limit(r) > 0, refusal))) as endpoint:
        outcome = await call(provider(), endpoint.url)
        assert outcome.kind == "refused"
        assert "Unrecognized request argument" in outcome.words
        assert all(map(limit, endpoint.requests)), "the reservation must cover the bill"


@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum context length is 800 tokens. However, your messages resulted in 900 tokens.",
        "line 1 column 1234: invalid JSON",
        "The model m-1 does not exist in this region; 2048 others do",
        "messages: text is too long",
    ],
)
async def test_words_that_teach_nothing_are_told(words: str) -> None:
    with Loopback(error(400, words)) as endpoint:
        outcome = await call(provider(), endpoint.url)
        assert (outcome.kind, outcome.tokens) == ("refused", 0)
        assert words[:60] in outcome.words
        assert len(endpoint.requests) <= 2


def test_turns_of_one_role_are_one_turn() -> None:
    assert [message["role"] for message in shape_messages(MESSAGES, "system")] == ["system", "user"]
    (one,) = shape_messages(MESSAGES, "user")
    assert one["content"] == "\n\n".join(message["content"] for message in MESSAGES)
    assert [message["role"] for message in MESSAGES] == ["system", "user", "user"], "they are not changed"


def under_200(**error_: Any) -> Answer:
    return Answer({"error": error_})


LIMITED = "Rate limit exceeded: free-models-per-min."
QUOTA = "You exceeded your current quota, please check your plan and billing details."
# Errors: what becomes of each, its price, and words that must be told.
ERRORS: dict[str, tuple[Answer, str, int, tuple[str, ...]]] = {
    "200: 429": (under_200(message=LIMITED, code=429), "unavailable", 0, ("429", "free-models-per-min")),
    "200: '429'": (under_200(message=LIMITED, code="429"), "unavailable", 0, ("429",)),
    "200: rate_limit_exceeded": (under_200(message=LIMITED, code="rate_limit_exceeded"), "unavailable", 0, ("429", "free-models")),
    "200: 402": (Answer({"id": "", "choices": None, "error": {"message": "insufficient credits", "code": 402}}), "refused", 0, ("402", "insufficient credits")),
    "200: 401": (under_200(message="No auth credentials found", code=401), "refused", 0, ("401", "apiKeySecret", "No auth")),
    "200: 403": (under_200(message="Not in your region", code=403), "refused", 0, ("403", "Not in your region")),
    "200: model_not_found": (under_200(message="no m-1 here", code="model_not_found"), "refused", 0, ("404", "no m-1 here")),
    "200: 502": (under_200(message="Bad gateway", code=502), "unavailable", 0, ("502", "Bad gateway")),
    "200: a code of its own": (under_200(message="The moon is full", code="moon"), "unavailable", 0, ("The moon is full",)),
    "200: text": (Answer({"error": "model is overloaded"}), "unavailable", 0, ("model is overloaded",)),
    "200: detail": (Answer({"detail": "not today"}), "unavailable", 0, ("not today",)),
    "200: vLLM's older shape": (Answer({"object": "error", "message": "engine is dead", "code": 500}), "unavailable", 0, ("engine is dead",)),
    "200: wrapped by a gateway": (
        under_200(message="Provider returned error", code=503, metadata={"raw": '{"why": "no more GPUs"}', "provider_name": "x"}), "unavailable", 0,
        ("Provider returned error", "no more GPUs"),
    ),
    "200: with usage": (Answer({"error": {"message": "Timed out", "code": 504}, "usage": {"prompt_tokens": 70, "completion_tokens": 7}}), "unavailable", 77, ("Timed out",)),
    "200: in the choice": (
        Answer({"choices": [{"error": {"message": "Provider disconnected", "code": 502}, "finish_reason": "error", "message": {"role": "assistant", "content": ""}}]}),
        "unavailable", 0, ("Provider disconnected", "502"),
    ),
    "200: in the choice, with usage": (
        Answer({"choices": [{"error": {"message": "Provider disconnected", "code": 502}, "message": {"content": "half"}}], "usage": {"prompt_tokens": 70, "completion_tokens": 7}}),
        "unavailable", 77, ("Provider disconnected",),
    ),
    "200: finish_reason error": (Answer({"choices": [{"finish_reason": "error", "message": {"content": "half of"}}]}), "unavailable", 0, ("finish_reason is error",)),
    "200: choices null": (Answer({"id": "x", "choices": None}), "unavailable", 0, ("no choices",)),
    "200: choices empty": (Answer({"id": "x", "choices": []}), "unavailable", 0, ("no choices",)),
    "200: choices empty, with usage": (Answer({"choices": [], "usage": {"prompt_tokens": 70, "completion_tokens": 0, "total_tokens": 70}}), "unavailable", 70, ("no choices",)),
    "200: error in a stream": (stream(delta(content="half"), {"error": {"message": "lost the node", "code": 502}}), "unavailable", 0, ("lost the node",)),
    "200: a page": (Answer("<!doctype html><title>Sign in</title>", headers={"Content-Type": "text/html"}), "unavailable", 0, ("no Chat Completions endpoint",)),
    "429": (error(429, LIMITED), "unavailable", 0, ("429", "too many requests", "free-models-per-min")),
    "429: quota": (error(429, QUOTA, code="insufficient_quota"), "refused", 0, ("429", "no credit", "check your plan")),
    "429: quota that comes back": (error(429, QUOTA, {"Retry-After": "37"}), "unavailable", 0, ("429", "check your plan")),
    "402": (error(402, "Insufficient Balance"), "refused", 0, ("402", "no credit", "Insufficient Balance")),
    "401": (error(401, "Incorrect API key provided"), "refused", 0, ("401", "apiKeySecret", "Incorrect API key")),
    "403: region": (error(403, "Country, region, or territory not supported", code="unsupported_country_region_territory"), "refused", 0, ("403", "territory not supported")),
    "404": (error(404, "The model `m-1` does not exist or you do not have access to it"), "refused", 0, ("404", "m-1", "do not have access")),
    "404: a path": (Answer({"detail": "Not Found"}, 404), "refused", 0, ("404", "/v1", "Not Found")),
    "413": (error(413, "Request too large"), "refused", 0, ("413", "Request too large")),
    "307": (Answer("", 307, {"Location": "https://elsewhere.example/v1"}), "refused", 0, ("307", "elsewhere.example")),
    "500": (Answer("upstream connect error or disconnect/reset before headers", 500), "unavailable", 0, ("500", "upstream connect error")),
    "502: a page": (Answer("<html><head><title>502 Bad Gateway</title></head>", 502), "unavailable", 0, ("502 Bad Gateway",)),
    "503": (error(503, "Loading model", {"Retry-After": "20"}), "unavailable", 0, ("503", "Loading model")),
    "504": (error(504, "The model took too long"), "unavailable", PROMPT + WANTED, ("504", "took too long")),
    "529": (Answer({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, 529), "unavailable", 0, ("529", "Overloaded")),
    "compressed all the same": (Answer(b"\x1f\x8b", headers={"Content-Encoding": "gzip"}), "unavailable", PROMPT + WANTED, ("compresses",)),
    "a stream that is cut": (Answer('data: {"choices": [{"delta": {"content": "x"}}]}\n\n'), "unavailable", PROMPT + WANTED, ("malformed",)),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
async def test_an_error_is_told_in_the_words_of_the_endpoint(name: str) -> None:
    answer, kind, tokens, words = ERRORS[name]
    with Loopback(answer) as endpoint:
        outcome = await call(provider(), endpoint.url)
        assert (outcome.kind, outcome.tokens, len(endpoint.requests)) == (kind, tokens, 1), outcome
        for word in words:
            assert word in outcome.words
        assert outcome.words.isprintable()


async def test_a_short_key_is_hidden_as_a_word_and_leaves_other_words_whole() -> None:
    with Loopback(error(429, "check your plan: key k is worn", code="insufficient_quota")) as endpoint:
        assert "check your plan: key [key] is worn" in (await call(provider(), endpoint.url, "k")).words
    with Loopback(completion()) as endpoint:
        assert (await call(provider(), endpoint.url, "run")).kind == "code"


async def test_a_reply_that_quotes_the_key_is_read_without_it() -> None:
    with Loopback(completion(f"Your key {KEY} is no good.")) as endpoint:
        outcome = await call(provider(), endpoint.url)
    assert (outcome.kind, KEY in outcome.words, "Your key [key]" in outcome.words) == ("no-code", False, True)


async def test_an_error_cannot_report_more_than_the_request_allowed() -> None:
    lie = Answer({"error": {"message": "no", "code": 500}, "usage": {"prompt_tokens": 10**12, "completion_tokens": 1}})
    with Loopback(lie) as endpoint:
        assert (await call(provider(), endpoint.url)).tokens == 2 * (PROMPT + WANTED)


@pytest.mark.parametrize("status", [200, 400, 401, 402, 403, 404, 422, 429, 500, 503])
async def test_no_words_show_the_key_nor_play_with_the_terminal(status: int) -> None:
    hostile = f"key {KEY} \x1b[31m \u202e {'z' * 270} {KEY}"
    with Loopback(error(status, hostile, code=status if status > 200 else 503)) as endpoint:
        outcome = await call(provider(), endpoint.url)
    assert KEY[:8] not in outcome.words
    assert outcome.words.isprintable()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"Retry-After": "2.5"}, 2.5), ({"Retry-After": "20s"}, 20.0), ({"retry-after-ms": "1500"}, 1.5)],
)
async def test_the_wait_is_what_the_endpoint_says(headers: dict[str, str], seconds: float) -> None:
    with Loopback(error(429, "slow", headers)) as endpoint:
        assert (await call(provider(), endpoint.url)).retry_after == seconds


DECLINED = "I cannot help with that."
# Replies without code: the flaw, the price, and what is told.
FLAWS: dict[str, tuple[Answer, str, int, str]] = {
    "refusal": (completion(None, refusal=DECLINED), "refused", PRICE, DECLINED),
    "refusal as text": (completion("I'm sorry, but I can't assist with that request."), "refused", PRICE, "can't assist"),
    "content_filter": (completion("", "content_filter"), "refused", PRICE, "a content filter"),
    "SAFETY": (completion(None, "SAFETY"), "refused", PRICE, "a content filter"),
    "a prompt that Azure filters": (
        error(400, "The response was filtered due to the prompt triggering the content management policy.", code="content_filter"),
        "refused", PROMPT, "content management policy",
    ),
    "all of it reasoning": (completion(None, reasoning_content=THOUGHT), "empty", PRICE, "reasoning_content"),
    "all of it reasoning, by another name": (completion("", reasoning=THOUGHT), "empty", PRICE, "field reasoning"),
    "a tool": (
        completion(None, "tool_calls", tool_calls=[{"id": "1", "type": "function", "function": {"name": "python", "arguments": "{}"}}]),
        "empty", PRICE, "called a tool",
    ),
    "a function": (completion(None, "function_call", function_call={"name": "python", "arguments": "{}"}), "empty", PRICE, "called a tool"),
    "a chat": (completion("What a nice task!"), "no-code", PRICE, "What a nice task!"),
    "nothing": (completion(""), "empty", PRICE, "empty"),
    **{
        f"{reason}: cut": (completion(f"```python\n{CODE}", reason), "cut-off", PRICE, "cut off")
        for reason in ("length", "max_tokens", "MAX_TOKENS", "model_length", "max_output_tokens")
    },
    "length: nothing but hidden reasoning": (completion("", "length"), "no-answer", PRICE, "cut off"),
    "length: null, without usage": (completion(None, "length", None), "no-answer", PROMPT + WANTED, "cut off"),
    "length: reasoning with a draft": (completion(None, "length", reasoning_content=f"A draft:\n{FENCED}\nBut"), "no-answer", PRICE, "cut off"),
    "length: a thought with a draft": (completion(f"<think>A draft:\n{FENCED}\nBut", "length"), "no-answer", PRICE, "cut off"),
    "MAX_TOKENS: half an answer after reasoning": (
        completion("```python\ndef run(", "MAX_TOKENS", {"prompt_tokens": 100, "completion_tokens": 50, "completion_tokens_details": {"reasoning_tokens": 40}}),
        "no-answer", PRICE, "cut off",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FLAWS)
async def test_why_there_is_no_code_is_told(name: str) -> None:
    answer, flaw, tokens, words = FLAWS[name]
    with Loopback(answer) as endpoint:
        outcome = await call(provider(), endpoint.url)
        assert (outcome.kind, outcome.tokens, len(endpoint.requests)) == (flaw, tokens, 1), outcome
    assert words in outcome.words


async def test_an_endpoint_whose_replies_are_cut_off_begins_with_more() -> None:
    ours = provider()
    model = ModelEndpoint(name="main", base_url="http://model/v1", model="m-1", max_reply_tokens=1000)
    assert ours.reply_limits(model).needed_tokens == 0
    for cut_at, needed in ((1000, 2000), (2000, 4000), (1000, 4000), (4000, 4000)):
        ours.record_cut_reply(model, cut_at)
        assert ours.reply_limits(model).needed_tokens == needed
    other = ModelEndpoint(name="other", base_url="http://model/v1", model="m-1")
    assert ours.reply_limits(other).needed_tokens == 0


async def test_the_query_of_the_address_goes_with_each_request_and_the_key_in_its_header() -> None:
    with Loopback(completion()) as endpoint:
        url = f"{endpoint.address}/openai/deployments/d/?api-version=2024-10-21&x="
        outcome = await call(provider(), url, auth_header="api-key")
        assert outcome.kind == "code", outcome
        assert endpoint.paths == ["/openai/deployments/d/chat/completions?api-version=2024-10-21&x="]
        (headers,) = endpoint.headers
    assert headers["api-key"] == KEY
    assert "authorization" not in headers


async def test_requests_go_through_the_proxy_of_the_endpoint_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with Loopback(completion()) as proxy, Loopback(completion()) as direct:
        assert (await call(provider(), "http://model.invalid/v1", proxy=proxy.address)).kind == "code"
        assert proxy.paths == ["http://model.invalid/v1/chat/completions"]
        assert (await call(provider(), direct.url)).kind == "code"
        assert len(direct.requests) == 1
    gone = await call(provider(), "http://model.invalid/v1", proxy=proxy.address.replace("//", "//me:hunter2hunter2@"))
    assert (gone.kind, gone.tokens) == ("unavailable", 0)
    assert "hunter2" not in gone.words
    assert "by the proxy http://127.0.0.1" in gone.words


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.sampled_from(["429", "error", "length"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(
            ["choices", "error", "message", "content", "usage", "code", "detail", "loc", "msg", "reasoning", "metadata",
             "raw", "tool_calls", "function", "name", "finish_reason", "refusal", "text", "delta", "prompt_tokens",
             "completion_tokens", "completion_tokens_details", "reasoning_tokens", "param", "errors", "type"]
        ),
        inner, max_size=5,
    ),
    max_leaves=25,
)  # fmt: skip


@given(JSON, st.booleans())
def test_any_body_is_a_response_or_none(value: Any, as_stream: bool) -> None:
    body = json.dumps(value)
    response = decode_response(f"data: {body}\n\ndata: [DONE]" if as_stream else body)
    if response is not None:
        assert all(
            isinstance(response[name], str) for name in ("text", "finish_reason", "reasoning", "refusal", "tool")
        )
        assert all(isinstance(count, int) and count >= 0 for count in response["usage"].values())
    error_ = read_error(value, 400)
    assert len(error_["message"]) <= 2000
    for form in next_dialects(Dialect(), error_, WANTED, PROMPT):
        assert 64 <= form.reply_limit(WANTED, PROMPT) <= WANTED


@pytest.mark.parametrize(
    "body", ["[" * 900 + "]" * 900, '{"error":' * 900 + "1" + "}" * 900, '{"choices":' + "9" * 5000 + "}"]
)
def test_nesting_and_size_end_in_no_crash(body: str) -> None:
    decode_response(body)
    try:
        value = json.loads(body)
    except ValueError:
        return
    assert read_error(value, 400)["status"] == 400


WORDS = ["max_tokens", "at most", "context length", "2048", "99999", "system", "role", "developer", "stream", "true", "tokens",
         "requested", "temperature", "(", "messages", "is not supported", "jinja", "1,024", "<=", "prompt", "[", "must"]  # fmt: skip


@given(st.lists(st.sampled_from(WORDS), max_size=200).map(" ".join), st.sampled_from([400, 422, 500, 404]))
def test_any_words_teach_a_few_forms_that_keep_a_limit(words: str, status: int) -> None:
    """Following every refusal comes to an end, within the number of forms that are sent."""
    dialect, sent = Dialect(), set[Dialect]()
    for _ in range(MAX_REQUEST_FORMS + 8):
        sent.add(dialect)
        limited = dialect.reply_limit(WANTED, PROMPT)
        body = dialect.request_body("m", MESSAGES, limited, 0.2)
        assert 64 <= limit(body) <= WANTED
        forms = next_dialects(dialect, {"status": status, "code": "", "message": words}, limited, PROMPT)
        following = next((form for form in forms if form not in sent), None)
        if following is None:
            return
        dialect = following
    pytest.fail("it never ends")


@pytest.fixture
def authority(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """A CA of one's own, and the context of a server that it vouches for."""
    now = datetime.now(UTC)
    ca = issuing.issue_authority(now, ["127.0.0.1"])
    files = issuing.issue_serving(now, ["127.0.0.1"], ca).encode()
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "ca.pem").write_bytes(ca.certificate.public_bytes(Encoding.PEM))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    return tmp_path / "ca.pem", context


async def test_a_ca_of_ones_own_is_trusted_where_it_is_named(authority: tuple[Path, ssl.SSLContext]) -> None:
    ca_file, context = authority
    with Loopback(completion(), context) as endpoint:
        assert (await call(provider(), endpoint.url, ca_file=str(ca_file))).kind == "code"
        stranger = await call(provider(), endpoint.url)
        assert (stranger.kind, stranger.tokens) == ("unavailable", 0)
        assert "CERTIFICATE_VERIFY_FAILED" in stranger.words
        assert "caSecret" in stranger.words
        ca_file.write_text("no certificate")
        broken = await call(provider(), endpoint.url, ca_file=str(ca_file))
        ca_file.unlink()
        gone = await call(provider(), endpoint.url, ca_file=str(ca_file))
        for outcome in (broken, gone):
            assert (outcome.kind, "the CA of main cannot be read" in outcome.words) == ("refused", True)
        assert len(endpoint.requests) == 1
