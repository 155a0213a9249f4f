"""One call of an OpenAI-compatible endpoint. The only module that imports its client."""

from __future__ import annotations

import asyncio
import json
import math
import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Final, TypeGuard

import httpx2
import openai

from skill_operator.generation.prompt import Message
from skill_operator.generation.reply import LARGEST_REPLY
from skill_operator.settings import ModelEndpoint
from skill_operator.untrusted.text import printable

BYTES_PER_TOKEN: Final = 3  # of UTF-8, on the safe side: an estimate must not be lower than the bill
LARGEST_BODY: Final = 2 * LARGEST_REPLY
LONGEST_PAUSE: Final = 600.0
LONGEST_TEXT: Final = 300  # of what an endpoint says about its failure
STEADY: Final = 0.2  # temperature
FORMS: Final = 3  # of one request: as it is, with the other limit field, without temperature


class ModelUnavailable(Exception):
    """The endpoint's fault or the network's: it is asked again. `billed`: it may have cost tokens all the same."""

    def __init__(self, message: str, retry_after: float | None = None, *, billed: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.billed = billed


class ModelRefused(Exception):
    """The endpoint will never answer this: a person has to change the settings."""


@dataclass(frozen=True)
class Completion:
    text: str
    finish_reason: str
    tokens: int
    estimated: bool


@dataclass(frozen=True)
class Dialect:
    """What an endpoint was found not to understand."""

    limit_field: str = "max_tokens"
    dropped: frozenset[str] = field(default_factory=frozenset)


class Provider:
    """Remembers each endpoint's dialect, so that it is asked wrongly once. `transport`: instead of the network."""

    def __init__(self, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self._dialects: dict[str, Dialect] = {}
        self._transport = transport

    async def complete(
        self,
        endpoint: ModelEndpoint,
        api_key: str,
        messages: list[Message],
        max_tokens: int,
        temperature: float = STEADY,
    ) -> Completion:
        """Raises ModelUnavailable or ModelRefused; neither ever holds the key."""
        if not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise ModelRefused(
                f"the key of {endpoint.name} is no key: it holds blanks or letters that no header may hold"
            )
        try:
            async with asyncio.timeout(endpoint.timeout_seconds):  # a dripping reply resets every other clock
                body = await self._asked(endpoint, api_key, messages, max_tokens, temperature)
        except TimeoutError:
            late = f"{endpoint.name} did not answer within {endpoint.timeout_seconds:.0f} s."
            raise ModelUnavailable(late, billed=True) from None
        return _completion(body, messages, endpoint)

    async def _asked(
        self, endpoint: ModelEndpoint, api_key: str, messages: list[Message], max_tokens: int, temperature: float
    ) -> bytes:
        """The body of the answer, in whatever form the endpoint takes the request."""
        dialect = self._dialects.get(endpoint.name, Dialect())
        for _ in range(FORMS):
            try:
                asked = _body(endpoint, dialect, messages, max_tokens, temperature)
                body = await _post(endpoint, api_key, asked, self._transport)
            except openai.BadRequestError as error:
                other = _learn(dialect, str(error))
                if other is None:
                    said = _clean(error, api_key)
                    raise ModelRefused(f"{endpoint.name} refuses the request (400): {said}") from None
                dialect = other
            else:
                self._dialects[endpoint.name] = dialect  # not earlier: a 400 may name a field and mean another thing
                return body
        raise ModelRefused(f"{endpoint.name} refuses every form of the request; see models[] in the chart's values")


async def _post(
    endpoint: ModelEndpoint, api_key: str, body: dict[str, Any], transport: httpx2.AsyncBaseTransport | None
) -> bytes:
    name, place = endpoint.name, _place(endpoint)
    try:
        async with _client(endpoint, api_key, transport) as client:
            raw = client.chat.completions.with_streaming_response
            no_key = {} if api_key else {"Authorization": openai.Omit()}
            async with raw.create(**body, extra_headers={"Accept-Encoding": "identity", **no_key}) as response:
                data: bytes = await response.read()
                return data
    except openai.APITimeoutError as error:
        sent = not isinstance(error.__cause__, httpx2.ConnectTimeout | httpx2.PoolTimeout)
        raise ModelUnavailable(f"{name} at {place} did not answer in time.", billed=sent) from None
    except openai.APIConnectionError as error:
        sent = not isinstance(error.__cause__, httpx2.ConnectError | httpx2.ProxyError | httpx2.UnsupportedProtocol)
        why = _clean(error.__cause__ or error, api_key)
        raise ModelUnavailable(f"{name} at {place} cannot be reached: {why}.", billed=sent) from None
    except openai.BadRequestError:
        raise
    except openai.APIStatusError as error:
        raise _refusal(endpoint, api_key, error) from None
    except (httpx2.HTTPError, OSError) as error:
        raise ModelUnavailable(f"{name} broke off: {_clean(error, api_key)}.", billed=True) from None
    except (openai.OpenAIError, httpx2.InvalidURL, UnicodeError) as error:
        why = _clean(error, api_key)
        raise ModelRefused(f"{name} cannot be asked: {why}; see models[] in the chart's values") from None


def _refusal(endpoint: ModelEndpoint, api_key: str, error: openai.APIStatusError) -> ModelUnavailable | ModelRefused:
    """What a status other than 200 means to whoever has to act on it."""
    name, code = endpoint.name, error.status_code
    if code == 429:
        return ModelUnavailable(f"{name} says too many requests (429).", _retry_after(error.response.headers))
    if code >= 500 or code in {408, 409, 425}:
        late = code in {408, 504}  # a proxy gave up; the model behind it may not have
        return ModelUnavailable(f"{name} failed ({code}).", _retry_after(error.response.headers), billed=late)
    if code in {401, 403}:
        return ModelRefused(f"{name} refuses the key ({code}): see apiKeySecret in the chart's values")
    if code == 404:
        where = f"{_place(endpoint)} and model {endpoint.model}"
        return ModelRefused(f"{name} knows no such model or path (404): check {where}")
    return ModelRefused(f"{name} refuses the request ({code}): {_clean(error, api_key)}")


def _client(endpoint: ModelEndpoint, api_key: str, transport: httpx2.AsyncBaseTransport | None) -> openai.AsyncOpenAI:
    async def guard(response: httpx2.Response) -> None:
        """Also on what comes with an error, which the SDK reads to its end."""
        if response.headers.get("content-encoding", "identity") != "identity":
            raise ModelUnavailable(f"{endpoint.name} compresses its answer, though it was asked not to.")
        if isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _Capped(response.stream, endpoint.name)

    http = httpx2.AsyncClient(
        trust_env=False,
        timeout=endpoint.timeout_seconds,
        event_hooks={"response": [guard]},
        verify=_trusted(),
        transport=transport,
    )
    return openai.AsyncOpenAI(
        base_url=endpoint.base_url,
        api_key=api_key or "none",  # the SDK insists on one; the header is left out
        max_retries=0,
        timeout=endpoint.timeout_seconds,
        http_client=http,
    )


@cache
def _trusted() -> ssl.SSLContext:
    """Read once: it takes a tenth of a second, in which the event loop stands still."""
    return ssl.create_default_context()


class _Capped(httpx2.AsyncByteStream):
    """A body that ends with an error once it is too large, before it is in memory."""

    def __init__(self, stream: httpx2.AsyncByteStream, name: str) -> None:
        self._stream = stream
        self._name = name

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > LARGEST_BODY:
                raise ModelUnavailable(f"{self._name} sent more than {LARGEST_BODY // 1024} KiB.", billed=True)
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


def estimate(messages: list[Message]) -> int:
    """Tokens of a prompt, at most."""
    return sum(_tokens(m["content"]) + 16 for m in messages)


def _tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def _body(
    endpoint: ModelEndpoint, dialect: Dialect, messages: list[Message], max_tokens: int, temperature: float
) -> dict[str, Any]:
    body = {
        "model": endpoint.model,
        "messages": messages,
        dialect.limit_field: max_tokens,
        "temperature": temperature,
    }
    return {k: v for k, v in body.items() if k not in dialect.dropped}


def _learn(dialect: Dialect, message: str) -> Dialect | None:
    """The next form to try, if the refusal names something that can be left out or said otherwise."""
    if dialect.limit_field == "max_tokens" and "max_tokens" in message:
        return replace(dialect, limit_field="max_completion_tokens")
    if "temperature" in message and "temperature" not in dialect.dropped:
        return replace(dialect, dropped=dialect.dropped | {"temperature"})
    return None


def _completion(body: bytes, messages: list[Message], endpoint: ModelEndpoint) -> Completion:
    try:
        parsed = json.loads(body)
        choice = parsed["choices"][0]
        text = _text(choice["message"].get("content"))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        page = body.lstrip()[:1] == b"<"
        hint = "it is no Chat Completions endpoint" if page else "the answer is broken"
        raise ModelUnavailable(f"{endpoint.name} at {_place(endpoint)}: {hint}.", billed=not page) from None
    charged = _charged(parsed.get("usage"), text)
    guess = estimate(messages) + _tokens(text)
    reason = str(choice.get("finish_reason") or "")
    return Completion(text, reason, guess if charged is None else charged, charged is None)


def _text(content: Any) -> str:
    """Some endpoints send a list of parts. Nothing at all is an empty reply, not a fault."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part.get("type") == "text")
    if content is not None and not isinstance(content, str):
        raise TypeError("content is no text")
    return content or ""


def _charged(usage: Any, text: str) -> int | None:
    """What the endpoint says it charges, if it says so and it can be true."""
    counts = usage if isinstance(usage, dict) else {}
    asked, answered, total = (counts.get(f"{kind}_tokens") for kind in ("prompt", "completion", "total"))
    if _count(asked) and _count(answered) and (answered or not text):
        return max(asked + answered, total if _count(total) else 0)
    return total if _count(total) and total else None


def _count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _retry_after(headers: httpx2.Headers) -> float | None:
    """Seconds, or a date, which is measured by the endpoint's own clock."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            until, sent = parsedate_to_datetime(value), parsedate_to_datetime(headers.get("date", ""))
            seconds = (until - sent).total_seconds()
        except (ValueError, TypeError):  # no date; or one of them without a zone
            return None
    return min(LONGEST_PAUSE, max(0.0, seconds)) if math.isfinite(seconds) else None


def _place(endpoint: ModelEndpoint) -> str:
    """The base URL without a name and password that it may hold."""
    return re.sub(r"//[^/@]*@", "//", endpoint.base_url, count=1)


def _clean(error: object, api_key: str) -> str:
    """The key goes first: what is cut off must not leave half of it."""
    text = str(error)
    return printable(text.replace(api_key, "[key]") if api_key else text, LONGEST_TEXT)
