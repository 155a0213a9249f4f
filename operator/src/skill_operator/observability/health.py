"""/healthz, /readyz and /metrics."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

log = logging.getLogger(__name__)
Check = Callable[[], str | None]


@asynccontextmanager
async def serve(
    port: int,
    live: Mapping[str, Check],
    ready: Mapping[str, Check],
    more: Mapping[str, Callable[[], str]] | None = None,
) -> AsyncIterator[None]:
    """Each check returns what is wrong, or None. `more`: JSON at further paths."""
    app = web.Application()
    app.router.add_get("/healthz", _answer(live))
    app.router.add_get("/readyz", _answer(ready))
    app.router.add_get("/metrics", _metrics)
    for path, tell in (more or {}).items():
        app.router.add_get(path, _json(tell))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", port).start()
    try:
        yield
    finally:
        await runner.cleanup()


def _answer(checks: Mapping[str, Check]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(_: web.Request) -> web.Response:
        problems = [f"{name}: {problem}" for name, check in checks.items() if (problem := _ask(check))]
        return web.Response(status=503 if problems else 200, text="\n".join(problems or ["ok"]) + "\n")

    return handler


def _json(tell: Callable[[], str]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=tell(), content_type="application/json")

    return handler


def _ask(check: Check) -> str | None:
    """A check that fails is a problem too."""
    try:
        return check()
    except Exception as error:
        log.exception("a health check failed")
        return f"the check itself failed: {type(error).__name__}"


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
