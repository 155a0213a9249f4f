"""One call, to one pod. The pod runs a stranger's code: its answer is read as one would read an enemy's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import aiohttp
from aiohttp import web

from skill_operator.gateway.directory import Backend, Directory
from skill_operator.gateway.problems import Problem

log = logging.getLogger(__name__)
POD_PORT = 8080
REQUEST_ID = web.RequestKey("request_id", str)
LARGEST_ANSWER = 1 << 24
AT_ONCE = 1 << 16  # a shorter answer is read in full before the caller hears of it, so that it is never half an answer
CONNECT_SECONDS = 2.0
PASSED_IN = ("Accept", "traceparent", "tracestate")
# What the runtime answers. A redirect would send the caller, credentials and all, to where the skill likes.
STATUSES = frozenset({200, 400, 413, 422, 500, 503, 504})
TYPES = frozenset({"application/json", "application/problem+json"})
NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class Relay:
    """`port` is for tests, whose pods are on loopback."""

    def __init__(self, directory: Directory, session: aiohttp.ClientSession, port: int = POD_PORT) -> None:
        self._directory = directory
        self._session = session
        self._port = port

    async def call(
        self, request: web.Request, backends: Sequence[Backend], body: bytes, seconds: float
    ) -> web.StreamResponse:
        """The answer of the first that can be reached. A call of which one byte was sent is never made again.

        Raises Problem, and TimeoutError when nothing was said within `seconds`. When that happens, or the pod breaks
        off, after the caller has had the first bytes, the caller's connection is cut: a shortened answer must not
        look whole.
        """
        response: web.StreamResponse | None = None
        try:
            async with asyncio.timeout(seconds):
                backend, answer = await self._send(request, backends, body)
                with self._directory.busy(backend):
                    async with answer:
                        _check(answer)
                        if answer.content_length is not None and answer.content_length <= AT_ONCE:
                            return web.Response(
                                status=answer.status, body=await answer.read(), headers=_headers(answer)
                            )
                        response = web.StreamResponse(status=answer.status, headers=_headers(answer))
                        response.content_length = answer.content_length
                        await _copy(answer, request, response)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError too
            if response is not None and response.prepared:
                log.warning("the answer was cut off: %s", str(error) or type(error).__name__)
                _abort(request)
            elif isinstance(error, TimeoutError):
                raise
            else:
                detail = f"its pod broke off the call ({type(error).__name__}); whether it took effect is not known"
                raise Problem(502, "pod-broke-off", "The skill's pod broke off", detail) from error
        if response is None:
            raise AssertionError("unreachable: every path above returns, raises or prepares a response")
        return response

    async def _send(
        self, request: web.Request, backends: Sequence[Backend], body: bytes
    ) -> tuple[Backend, aiohttp.ClientResponse]:
        """An allow-list of headers: no credential of the caller's reaches a skill."""
        headers = {name: request.headers[name] for name in PASSED_IN if name in request.headers}
        headers |= {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "X-Request-Id": request[REQUEST_ID],
        }
        for backend in backends:
            try:
                with self._directory.busy(backend):
                    answer = await self._session.post(
                        f"http://{backend.address}:{self._port}/",
                        data=body,
                        headers=headers,
                        timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS),
                        allow_redirects=False,
                    )
            except NOT_SENT as error:
                log.info("pod %s cannot be reached: %s", backend.address, error)
            else:
                return backend, answer
        detail = "no pod of it takes calls yet, though one is there; call again"
        raise Problem(503, "not-answering", "The skill does not answer yet", detail, 1)


async def _copy(answer: aiohttp.ClientResponse, request: web.Request, response: web.StreamResponse) -> None:
    """Bytes as they come, no faster than the caller takes them."""
    left = LARGEST_ANSWER
    async for chunk in answer.content.iter_any():
        left -= len(chunk)
        if left < 0:
            if response.prepared:
                log.warning("the answer was cut off: more than %d bytes", LARGEST_ANSWER)
                return _abort(request)
            raise _too_large()
        if not response.prepared:
            await response.prepare(request)
        await response.write(chunk)
    if not response.prepared:
        await response.prepare(request)
    return await response.write_eof()


def _check(answer: aiohttp.ClientResponse) -> None:
    if answer.status not in STATUSES:
        raise _strange(f"status {answer.status}")
    if answer.content_type not in TYPES:
        raise _strange("something that is not JSON")
    if "Content-Encoding" in answer.headers:
        raise _strange("an encoding that it was not asked for")
    if answer.content_length is not None and answer.content_length > LARGEST_ANSWER:
        raise _too_large()


def _headers(answer: aiohttp.ClientResponse) -> dict[str, str]:
    """Nothing of a skill's headers is passed on but its type: no cookie, nothing that a browser would act on."""
    kept = {"Content-Type": answer.content_type}
    wait = answer.headers.get("Retry-After", "")
    if answer.status == 503:
        kept["Retry-After"] = wait if wait.isdecimal() and len(wait) < 5 else "1"
    return kept


def _strange(what: str) -> Problem:
    detail = f"its pod answered with {what}, which no skill does; whoever owns the skill should look at its pod's log"
    return Problem(502, "strange-answer", "The skill's pod does not speak as skills do", detail)


def _too_large() -> Problem:
    detail = f"it is more than {LARGEST_ANSWER} bytes; ask for less"
    return Problem(502, "answer-too-large", "The answer is too large", detail)


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
