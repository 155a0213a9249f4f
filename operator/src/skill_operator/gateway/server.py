"""The process: what it is made of, and how it starts and ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from pathlib import Path
from typing import Any

from skill_operator.api import usage_report
from skill_operator.gateway.access.authorizer import AllowAll, Authorizer
from skill_operator.gateway.access.kubernetes import KubernetesAuthorizer
from skill_operator.gateway.access.limits import CallLimiter
from skill_operator.gateway.access.origins import pages as own_pages
from skill_operator.gateway.egress_authorizer import EgressAuthorizer, serve_authorizer
from skill_operator.gateway.http import routes
from skill_operator.gateway.http.protocol import Server, ServerConfig
from skill_operator.gateway.http.tls import Certificate
from skill_operator.gateway.invocation import POD_PORT, Invoker
from skill_operator.gateway.mcp import McpServer
from skill_operator.gateway.pods.activator import Activator
from skill_operator.gateway.pods.connection import ConnectionPool
from skill_operator.gateway.pods.directory import Directory, SkillEntry
from skill_operator.k8s.interface import Cluster
from skill_operator.observability import health, metrics
from skill_operator.settings import Settings

log = logging.getLogger(__name__)
DRAIN_SECONDS = 8.0  # until no Service leads here any more: EndpointSlices and kube-proxy take seconds on a busy node
GRACE_SECONDS = 25
GARBAGE = 20_000  # new objects between two looks for cycles: calls make none, and a look takes as long as several calls


async def serve(settings: Settings, cluster: Cluster) -> None:
    """Until SIGTERM: then first out of the Services, then no more calls, then the end. Raises CertificateError."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    certificate = Certificate(Path(settings.gateway.tls_folder)) if settings.gateway.tls_folder else None
    directory = Directory(watchers=[_forget])
    ready = {
        "directory": lambda: None if directory.ready else "skills and pods are not listed yet",
        "stopping": lambda: "it is" if stop.is_set() else None,
    }
    judge = EgressAuthorizer(directory)
    following = asyncio.create_task(directory.follow(cluster, settings.watch_namespaces))
    renewing = asyncio.create_task(certificate.keep()) if certificate else None
    live = {"directory": lambda: "the watches have ended" if following.done() else None}
    pool = ConnectionPool(POD_PORT)
    waker = Activator(cluster, directory, pool, settings.gateway.wake)
    calls = Invoker(directory, pool, waker, CallLimiter(settings.gateway.limits))
    judging = (
        serve_authorizer(judge, settings.judge_port) if settings.egress_proxy.address else contextlib.nullcontext()
    )
    async with judging, health.serve(settings.health_port, live, ready, {usage_report.PATH: calls.report}):
        with pool.open():
            end = asyncio.Event()
            made = listener(calls, make_authorizer(cluster, settings), settings, certificate)
            listening = asyncio.create_task(made.run_until(end))
            settle()
            log.info("listening", extra={"port": settings.listen_port, "tls": certificate is not None})
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({stopping, following, listening}, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                await asyncio.sleep(DRAIN_SECONDS)
            end.set()
            await listening
        stopping.cancel()
        following.cancel()
        if renewing:
            renewing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


def settle() -> None:
    """What is there at the start stays, and is not looked through for garbage again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE)


def listener(
    calls: Invoker, gatekeeper: Authorizer, settings: Settings, certificate: Certificate | None = None
) -> Server:
    pages = own_pages(settings)
    agents = McpServer(calls.directory, calls, gatekeeper, pages)
    made = routes.app(calls.directory, calls, gatekeeper, pages, agents, settings)
    where: dict[str, Any] = {"host": "0.0.0.0", "port": settings.listen_port}
    where |= {"timeout_graceful_shutdown": GRACE_SECONDS}
    if certificate:
        where["ssl_context_factory"] = lambda *_: certificate.context
    return Server(ServerConfig(made, calls, gatekeeper, pages, agents.close, **where))


def make_authorizer(cluster: Cluster, settings: Settings) -> Authorizer:
    if settings.gateway.auth == "kubernetes":
        return KubernetesAuthorizer(cluster, settings.gateway.audiences)
    log.warning("ANYBODY MAY CALL EVERY SKILL: gateway.auth is none, so whoever reaches the gateway needs no token")
    return AllowAll()


def _forget(before: SkillEntry | None, after: SkillEntry | None) -> None:
    if before is not None and after is None:
        metrics.forget_skill(before.meta.namespace, before.meta.name)
