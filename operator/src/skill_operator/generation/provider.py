"""The provider calls an endpoint of the OpenAI Chat Completions API.

It is the only module that imports the `openai` client. What the refusals of endpoints teach is in `dialect.py`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import httpx2
import openai

from skill_operator.generation.chat_response import CUT_OFF, FILTERED, ChatResponse, decode_response
from skill_operator.generation.dialect import Dialect, next_dialects
from skill_operator.generation.endpoint_error import EndpointError, is_filtered, is_out_of_credit, read_error
from skill_operator.generation.prompt import Message
from skill_operator.settings import BEARER_HEADER, ModelEndpoint, endpoint_problem
from skill_operator.untrusted.text import printable
from skill_operator.untrusted.worker import Worker, WorkerFailed

log = logging.getLogger(__name__)

BYTES_PER_TOKEN: Final = 3  # of UTF-8; low on purpose: an estimate must not be lower than the bill
TOKENS_PER_MESSAGE: Final = 16  # for what separates messages
MAX_RESPONSE_BYTES: Final = 512 * 1024  # eight times the longest source
MAX_STREAM_BYTES: Final = 8 * 1024 * 1024  # a stream wraps each token in some 250 bytes
MAX_ERROR_RESPONSE_BYTES: Final = 16 * 1024  # the client parses errors itself; what is longer is cut
MAX_USAGE_FACTOR: Final = 2  # usage beyond what the request allowed, times this, is no usage of it
MAX_RETRY_AFTER_SECONDS: Final = 600.0
MAX_ERROR_CHARACTERS: Final = 300  # of an endpoint's error message
MIN_KEY_CHARACTERS: Final = 12  # a shorter key may be part of any word
DEFAULT_TEMPERATURE: Final = 0.2
MAX_REQUEST_FORMS: Final = 8  # the last one of as many changes as the rules of dialect.py can make, one for each form
MAX_REPLY_LIMIT_FACTOR: Final = 4  # of maxReplyTokens: what an endpoint whose replies are cut off may get to begin with
_MAY_HAVE_WRITTEN: Final = frozenset({408, 504})  # a proxy gave up; the model behind it may not have
_RETRIED_STATUSES: Final = frozenset({408, 409, 425, 429, 499})
_SECONDS: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*s\s*")


class ModelUnavailable(Exception):
    """ModelUnavailable is a temporary fault of the endpoint or the network: the call is made again.

    `billed`: the call may have cost tokens all the same; `tokens` is their number where the endpoint tells it.
    `retry_after`: seconds that the endpoint asked to wait.
    """

    def __init__(
        self, message: str, retry_after: float | None = None, *, billed: bool = False, tokens: int | None = None
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.billed = billed
        self.tokens = tokens


class ModelRefused(Exception):
    """ModelRefused is a permanent refusal of the endpoint: a person has to change the settings, or to pay.

    `tokens` were charged all the same.
    """

    def __init__(self, message: str, *, tokens: int = 0) -> None:
        super().__init__(message)
        self.tokens = tokens


@dataclass(frozen=True)
class Completion:
    """Completion is the text of one reply, and its price in tokens, of which `reasoning_tokens` are not in the text.

    `reasoning` is the text of the field `reasoning_field`, beside the reply. `refusal` holds the words in which the
    model or a filter declines. `tool` is the name of a tool that it calls. `reply_limit` is the number of tokens that
    the reply could have at most, where the endpoint allows fewer than were wanted; else 0.
    """

    text: str
    finish_reason: str
    tokens: int
    estimated: bool
    reasoning_tokens: int = 0
    reasoning: str = ""
    reasoning_field: str = ""
    refusal: str = ""
    tool: str = ""
    reply_limit: int = 0


@dataclass(frozen=True)
class ReplyLimits:
    """ReplyLimits are what an endpoint has taught: tokens that a reply needs, and those it may have; 0 if unknown."""

    needed_tokens: int = 0
    max_tokens: int = 0


@dataclass(frozen=True)
class _ErrorResponse:
    """_ErrorResponse tells an error, by its status or under 200. `tokens` are what it reports to charge, if it does."""

    error: EndpointError
    retry_after: float | None
    tokens: int | None = None


class Provider:
    """Provider calls endpoints, and remembers the dialect of each, so that it sends an unaccepted form only once.

    Responses are decoded by `worker`. `transport` replaces the network in tests.
    """

    def __init__(self, transport: httpx2.AsyncBaseTransport | None = None, worker: Worker | None = None) -> None:
        self._worker = worker or Worker()
        self._dialects: dict[str, Dialect] = {}
        self._needed_tokens: dict[str, int] = {}
        self._transport = transport

    def reply_limits(self, endpoint: ModelEndpoint) -> ReplyLimits:
        """Return what is known about the length of the endpoint's replies."""
        dialect = self._dialects.get(endpoint.name, Dialect())
        return ReplyLimits(self._needed_tokens.get(endpoint.name, 0), dialect.max_reply_tokens)

    def record_cut_reply(self, endpoint: ModelEndpoint, limit: int) -> None:
        """Remember that reasoning filled a reply of `limit` tokens: the next first reply gets twice as many.

        It gets no more than a few times what the settings say, or one Skill that is too hard would raise it for all.
        """
        needed = min(2 * limit, MAX_REPLY_LIMIT_FACTOR * endpoint.max_reply_tokens)
        self._needed_tokens[endpoint.name] = max(needed, self._needed_tokens.get(endpoint.name, 0))

    async def complete(
        self,
        endpoint: ModelEndpoint,
        api_key: str,
        messages: list[Message],
        max_tokens: int,
        temperature: float = DEFAULT_TEMPERATURE,
    ) -> Completion:
        """Return the completion of the messages.

        Raises ModelUnavailable or ModelRefused; their messages never contain the key.
        """
        if problem := endpoint_problem(endpoint):
            raise ModelRefused(f"{endpoint.name} cannot be called: {problem}")
        if not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise ModelRefused(
                f"the key of {endpoint.name} is no key: it contains blanks or letters that no HTTP header may contain"
            )
        tls = await _load_trust(endpoint)
        deadline = asyncio.get_running_loop().time() + endpoint.timeout_seconds  # for all forms of the request together
        prompt_tokens, charged = estimate(messages), 0
        dialect, sent_forms = self._dialects.get(endpoint.name, Dialect()), set[Dialect]()
        for _ in range(MAX_REQUEST_FORMS):
            sent_forms.add(dialect)
            limit = dialect.reply_limit(max_tokens, prompt_tokens)
            body = dialect.request_body(endpoint.model, messages, limit, temperature)
            try:
                response = await self._exchange(endpoint, api_key, body, tls, deadline)
            except ModelUnavailable:
                self._remember(endpoint, dialect)
                raise
            if not isinstance(response, _ErrorResponse):
                self._remember(endpoint, dialect)
                completion = _make_completion(response, endpoint, api_key, prompt_tokens, limit)
                limited = limit if limit < max_tokens else 0
                return replace(completion, tokens=completion.tokens + charged, reply_limit=limited)
            charged += min(response.tokens or 0, MAX_USAGE_FACTOR * (prompt_tokens + limit))
            forms = next_dialects(dialect, response.error, limit, prompt_tokens)
            next_form = next((form for form in forms if form not in sent_forms), None)
            if next_form is None:
                if is_filtered(response.error):
                    self._remember(endpoint, dialect)
                    return _filtered_completion(response.error, api_key, prompt_tokens + charged)
                fault = _fault(endpoint, api_key, response, charged)
                if isinstance(fault, ModelUnavailable):  # else it may have named a field and meant something else
                    self._remember(endpoint, dialect)
                raise fault
            dialect = next_form
        raise ModelRefused(
            f"{endpoint.name} refuses every form of the request; see models[] in the chart's values", tokens=charged
        )

    def _remember(self, endpoint: ModelEndpoint, dialect: Dialect) -> None:
        if self._dialects.get(endpoint.name, Dialect()) != dialect:
            log.info(
                "an endpoint takes another form of request", extra={"endpoint": endpoint.name, "form": str(dialect)}
            )
        self._dialects[endpoint.name] = dialect

    async def _exchange(
        self, endpoint: ModelEndpoint, api_key: str, body: dict[str, Any], tls: ssl.SSLContext, deadline: float
    ) -> ChatResponse | _ErrorResponse:
        """Send one form of the request until `deadline`, a time of the event loop, and return the response."""
        try:
            async with asyncio.timeout_at(deadline):  # a slow trickle of bytes resets every other timeout
                data = await _post(endpoint, api_key, body, tls, self._transport)
        except TimeoutError:
            message = f"{endpoint.name} did not answer within {endpoint.timeout_seconds:.0f} s, its timeoutSeconds."
            raise ModelUnavailable(message, billed=True) from None
        if isinstance(data, _ErrorResponse):
            return data
        response = await self._decode(data, endpoint)
        if "error" not in response:
            return response
        return _ErrorResponse(response["error"], None, _reported_tokens(response["usage"], ""))

    async def _decode(self, body: bytes, endpoint: ModelEndpoint) -> ChatResponse:
        """Return the decoded body of a response."""
        try:
            response: ChatResponse | None = await self._worker.call(decode_response, body.decode("latin-1"))
        except WorkerFailed:
            response = None
        if response is None:
            is_html = body[:MAX_ERROR_CHARACTERS].lstrip()[:1] == b"<"
            hint = "it is no Chat Completions endpoint" if is_html else "the response is malformed"
            raise ModelUnavailable(f"{endpoint.name} at {url_without_login(endpoint)}: {hint}.", billed=not is_html)
        return response


async def _post(
    endpoint: ModelEndpoint,
    api_key: str,
    body: dict[str, Any],
    tls: ssl.SSLContext,
    transport: httpx2.AsyncBaseTransport | None,
) -> bytes | _ErrorResponse:
    """Return the body of a response of status 200, or the error that another status tells."""
    name, url = endpoint.name, url_without_login(endpoint)
    headers = {"Accept-Encoding": "identity", **_key_headers(endpoint, api_key)}
    try:
        async with _client(endpoint, api_key, tls, transport) as client:
            raw = client.chat.completions.with_streaming_response
            async with raw.create(**body, extra_headers=headers) as response:
                data: bytes = await response.read()
                return data
    except openai.APITimeoutError as error:
        was_sent = not isinstance(error.__cause__, httpx2.ConnectTimeout | httpx2.PoolTimeout)
        raise ModelUnavailable(f"{name} at {url} did not answer in time.", billed=was_sent) from None
    except openai.APIConnectionError as error:
        was_sent = not isinstance(error.__cause__, httpx2.ConnectError | httpx2.ProxyError | httpx2.UnsupportedProtocol)
        detail = _clean(error.__cause__ or error, endpoint, api_key)
        hint = "; see caSecret of the model" if "CERTIFICATE_VERIFY_FAILED" in detail else ""
        by = f" by the proxy {_without_login(endpoint.proxy)}" if endpoint.proxy else ""
        raise ModelUnavailable(f"{name} at {url} cannot be reached{by}: {detail}{hint}.", billed=was_sent) from None
    except openai.APIStatusError as error:
        found = read_error(error.body, error.status_code)
        location = error.response.headers.get("location", "")
        if location and error.status_code < 400:
            found = {**found, "message": f"it redirects to {location}"}
        return _ErrorResponse(found, _retry_after(error.response.headers))
    except (httpx2.HTTPError, OSError) as error:
        detail = _clean(error, endpoint, api_key)
        raise ModelUnavailable(f"{name} closed the connection early: {detail}.", billed=True) from None
    except (openai.OpenAIError, httpx2.InvalidURL, UnicodeError) as error:
        detail = _clean(error, endpoint, api_key)
        raise ModelRefused(f"{name} cannot be called: {detail}; see models[] in the chart's values") from None


def _fault(
    endpoint: ModelEndpoint, api_key: str, response: _ErrorResponse, charged: int
) -> ModelUnavailable | ModelRefused:
    """Return the error that a status means (RFC 9110), with the endpoint's own words. `charged`: tokens it reports."""
    name, code, retry_after = endpoint.name, response.error["status"], response.retry_after
    words = _clean(response.error["message"], endpoint, api_key).rstrip(" .")
    detail = f": {words}" if words else ""
    if is_out_of_credit(response.error) and code in {402, 403, 429} and retry_after is None:
        return ModelRefused(f"{name} has no credit left ({code}){detail}. Somebody has to pay", tokens=charged)
    if code >= 500 or code in _RETRIED_STATUSES:
        fault = "reports too many requests" if code == 429 else "failed"
        may_be_billed = charged > 0 or code in _MAY_HAVE_WRITTEN
        tokens = charged or None
        return ModelUnavailable(f"{name} {fault} ({code}){detail}.", retry_after, billed=may_be_billed, tokens=tokens)
    if code == 401:
        message = f"{name} refuses the key (401){detail}. See apiKeySecret in the chart's values"
    elif code == 403:
        message = f"{name} refuses access (403){detail}. If it means the key, see apiKeySecret in the chart's values"
    elif code == 404:
        where = f"{url_without_login(endpoint)} and model {endpoint.model}"
        message = f"{name} knows no such model or path (404){detail}. Check {where}"
    else:
        message = f"{name} refuses the request ({code}){detail}"
    return ModelRefused(message, tokens=charged)


def _key_headers(endpoint: ModelEndpoint, api_key: str) -> dict[str, Any]:
    """Return the headers that replace the SDK's own for the key."""
    if not api_key:
        return {"Authorization": openai.Omit()}
    if endpoint.auth_header.lower() == BEARER_HEADER.lower():
        return {}
    return {"Authorization": openai.Omit(), endpoint.auth_header: api_key}


def _client(
    endpoint: ModelEndpoint, api_key: str, tls: ssl.SSLContext, transport: httpx2.AsyncBaseTransport | None
) -> openai.AsyncOpenAI:
    async def limit_body(response: httpx2.Response) -> None:
        """Bound every response, also that of an error, which the SDK reads to its end."""
        if response.headers.get("content-encoding", "identity") != "identity":
            message = f"{endpoint.name} compresses its response although the request forbids it."
            raise ModelUnavailable(message, billed=not response.is_error)
        if isinstance(response.stream, httpx2.AsyncByteStream):
            is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
            limit = MAX_STREAM_BYTES if is_stream else MAX_RESPONSE_BYTES
            response.stream = _LimitedStream(response.stream, endpoint.name, limit, is_error=response.is_error)

    url = urlsplit(endpoint.base_url)
    http = httpx2.AsyncClient(
        trust_env=False,
        timeout=endpoint.timeout_seconds,
        event_hooks={"response": [limit_body]},
        verify=tls,
        proxy=_proxy(endpoint, tls),
        transport=transport,
    )
    return openai.AsyncOpenAI(
        base_url=urlunsplit(url._replace(query="")),
        default_query=dict(parse_qsl(url.query, keep_blank_values=True)),
        api_key=api_key or "none",  # the SDK requires one; the header is omitted
        max_retries=0,
        timeout=endpoint.timeout_seconds,
        http_client=http,
    )


def _proxy(endpoint: ModelEndpoint, tls: ssl.SSLContext) -> httpx2.Proxy | None:
    if not endpoint.proxy:
        return None
    is_encrypted = urlsplit(endpoint.proxy).scheme == "https"
    return httpx2.Proxy(endpoint.proxy, ssl_context=tls if is_encrypted else None)


async def _load_trust(endpoint: ModelEndpoint) -> ssl.SSLContext:
    """Return the certificate authorities that an endpoint is trusted by. Raises ModelRefused."""
    try:
        return await asyncio.to_thread(_read_trust, endpoint.ca_file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        detail = error.strerror or error if isinstance(error, OSError) else error
        message = (
            f"the CA of {endpoint.name} cannot be read: {detail}; see caSecret and caConfigMap in the chart's values"
        )
        raise ModelRefused(message) from None


def _read_trust(ca_file: str) -> ssl.SSLContext:
    return _tls_context(Path(ca_file).read_text(encoding="utf-8") if ca_file else "")


@lru_cache(maxsize=16)
def _tls_context(ca: str) -> ssl.SSLContext:
    """Return the system's trust store with the certificates `ca` (PEM): reading it takes 0.1 s of a processor."""
    context = ssl.create_default_context()
    if ca:
        context.load_verify_locations(cadata=ca)
    return context


class _LimitedStream(httpx2.AsyncByteStream):
    """_LimitedStream raises an error once a body is too large, before it is in memory. That of an error is cut."""

    def __init__(self, stream: httpx2.AsyncByteStream, name: str, limit: int, *, is_error: bool) -> None:
        self._stream = stream
        self._name = name
        self._limit = limit
        self._is_error = is_error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            room = MAX_ERROR_RESPONSE_BYTES - size if self._is_error else len(chunk)
            size += len(chunk)
            if size > self._limit:
                raise ModelUnavailable(f"{self._name} sent more than {self._limit // 1024} KiB.", billed=True)
            if room > 0:
                yield chunk[:room]

    async def aclose(self) -> None:
        await self._stream.aclose()


def estimate(messages: list[Message]) -> int:
    """Return an upper bound of the tokens of a prompt."""
    return sum(_estimate_tokens(message["content"]) + TOKENS_PER_MESSAGE for message in messages)


def _estimate_tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def _make_completion(
    response: ChatResponse, endpoint: ModelEndpoint, api_key: str, prompt_tokens: int, limit: int
) -> Completion:
    """Return the completion of a response. `prompt_tokens` are estimated; `limit` is the most that may follow them."""
    reported = _reported_tokens(response["usage"], response["text"])
    highest = MAX_USAGE_FACTOR * (prompt_tokens + limit)
    if reported is not None and reported > highest:
        log.warning(
            "a model reports more tokens than its request allowed; they are estimated",
            extra={"endpoint": endpoint.name, "reported": reported, "allowed": highest},
        )
        reported = None
    written = sum(_estimate_tokens(response[name]) for name in ("text", "reasoning", "refusal"))
    if response["finish_reason"] == CUT_OFF:
        written = max(written, limit)  # what was hidden was written, too
    tokens = prompt_tokens + written if reported is None else reported
    return Completion(
        text=_without_long_key(response["text"], api_key),
        finish_reason=response["finish_reason"],
        tokens=tokens,
        estimated=reported is None,
        reasoning_tokens=0 if reported is None else min(response["usage"].get("reasoning", 0), reported),
        reasoning=_without_long_key(response["reasoning"], api_key),
        reasoning_field=response["reasoning_field"],
        refusal=_clean(response["refusal"], endpoint, api_key),
        tool=_clean(response["tool"], endpoint, api_key),
    )


def _filtered_completion(error: EndpointError, api_key: str, tokens: int) -> Completion:
    """Return the completion of a prompt that a filter refused. The prompt is charged: Azure does."""
    words = printable(_without_key(error["message"], api_key), MAX_ERROR_CHARACTERS)
    return Completion("", FILTERED, tokens, estimated=True, refusal=words)


def _reported_tokens(usage: dict[str, int], text: str) -> int | None:
    """Return the tokens that the endpoint reports to charge, or None if the report is missing or contradicts itself.

    Reasoning is part of the completion (OpenAI), unless that has fewer tokens (xAI, Gemini); the total has it always.
    """
    prompt, completion, total = (usage.get(kind) for kind in ("prompt", "completion", "total"))
    if prompt is not None and completion is not None and (completion or not text):
        reasoning = usage.get("reasoning", 0)
        return max(prompt + completion + (reasoning if reasoning > completion else 0), total or 0)
    return total or None


def _retry_after(headers: httpx2.Headers) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110); a date is measured by the endpoint's own clock.

    Some endpoints send `retry-after-ms` beside it, or write `20s`.
    """
    value = headers.get("retry-after", "")
    try:
        if "retry-after-ms" in headers:
            seconds = float(headers["retry-after-ms"]) / 1000
        else:
            seconds = float(found[1] if (found := _SECONDS.fullmatch(value)) else value)
    except ValueError:
        try:
            until, date = parsedate_to_datetime(value), parsedate_to_datetime(headers.get("date", ""))
            seconds = (until - date).total_seconds()
        except (ValueError, TypeError):  # no date, or one of the two has no time zone
            return None
    return min(MAX_RETRY_AFTER_SECONDS, max(0.0, seconds)) if math.isfinite(seconds) else None


def url_without_login(endpoint: ModelEndpoint) -> str:
    """Return the base URL without the user name and password that it may contain."""
    return _without_login(endpoint.base_url)


def _without_login(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url, count=1)


def _without_long_key(text: str, api_key: str) -> str:
    """Return a reply without the key, which a gateway may quote. A short one is left: it may be a name in the code."""
    return _without_key(text, api_key) if len(api_key) >= MIN_KEY_CHARACTERS else text


def _without_key(text: str, secret: str) -> str:
    """Return the text without the key or password. A short one is replaced as a word of its own alone."""
    if len(secret) >= MIN_KEY_CHARACTERS or not secret:
        return text.replace(secret, "[key]") if secret else text
    return re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "[key]", text)


def _clean(error: object, endpoint: ModelEndpoint, api_key: str) -> str:
    """Return the error's text without the key and without the logins of URLs.

    The key is removed before the text is cut, so that no half of it can remain.
    """
    text = str(error)
    for secret in (api_key, urlsplit(endpoint.proxy).password, urlsplit(endpoint.base_url).password):
        text = _without_key(text, secret or "")
    return printable(text, MAX_ERROR_CHARACTERS)
