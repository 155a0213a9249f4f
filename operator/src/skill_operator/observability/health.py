"""Serve /healthz, /readyz and /metrics; and documents for other parts of the operator, on ports of their own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

log = logging.getLogger(__name__)
MAX_SCRAPES = 4  # of /metrics, in hand and waiting
Check = Callable[[], str | None]


@asynccontextmanager
async def serve(port: int, live: Mapping[str, Check], ready: Mapping[str, Check]) -> AsyncIterator[None]:
    """Serve the endpoints while the context is open. Each check returns a problem, or None."""
    app = web.Application()
    app.router.add_get("/healthz", _serve_checks(live))
    app.router.add_get("/readyz", _serve_checks(ready))
    app.router.add_get("/metrics", _serve_metrics())
    async with _listen(app, port):
        yield


@asynccontextmanager
async def serve_document(port: int, path: str, render: Callable[[], str]) -> AsyncIterator[None]:
    """Serve the JSON that `render` returns at the path, and nothing else, while the context is open."""
    app = web.Application()
    app.router.add_get(path, _serve_json(render))
    async with _listen(app, port):
        yield


@asynccontextmanager
async def _listen(app: web.Application, port: int) -> AsyncIterator[None]:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", port).start()
    try:
        yield
    finally:
        await runner.cleanup()


def _serve_checks(checks: Mapping[str, Check]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(_: web.Request) -> web.Response:
        problems = [f"{name}: {problem}" for name, check in checks.items() if (problem := _run(check))]
        return web.Response(status=503 if problems else 200, text="\n".join(problems or ["ok"]) + "\n")

    return handler


def _serve_json(render: Callable[[], str]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=render(), content_type="application/json")

    return handler


def _run(check: Check) -> str | None:
    """Return the problem that the check found. A check that raises is a problem, too."""
    try:
        return check()
    except Exception as error:
        log.exception("a health check failed")
        return f"the check itself failed: {type(error).__name__}"


def _serve_metrics() -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return the handler of /metrics. A thread makes one text at a time, so that calls do not wait for it."""
    turn, scrapes = asyncio.Lock(), 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal scrapes
        if scrapes >= MAX_SCRAPES:
            return web.Response(status=503, text="too many scrapes at once\n")
        scrapes += 1
        try:
            async with turn:
                body = await asyncio.to_thread(generate_latest)
        finally:
            scrapes -= 1
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    return handler
