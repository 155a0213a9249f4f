"""Serve /healthz, /readyz and /metrics."""

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
    documents: Mapping[str, Callable[[], str]] | None = None,
) -> AsyncIterator[None]:
    """Serve the endpoints while the context is open.

    Each check returns a problem, or None. `documents` returns JSON for further paths.
    """
    app = web.Application()
    app.router.add_get("/healthz", _serve_checks(live))
    app.router.add_get("/readyz", _serve_checks(ready))
    app.router.add_get("/metrics", _metrics)
    for path, render in (documents or {}).items():
        app.router.add_get(path, _serve_json(render))
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


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
