"""The process: what it is made of, and how it starts and ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from pathlib import Path
from typing import Any

from skill_operator.api import activity
from skill_operator.gateway import api
from skill_operator.gateway.auth import Kubernetes
from skill_operator.gateway.callers import Anybody, Gatekeeper
from skill_operator.gateway.calls import POD_PORT, Calls
from skill_operator.gateway.directory import Directory, Entry
from skill_operator.gateway.egress import Judge, answering
from skill_operator.gateway.front import Front, Listener
from skill_operator.gateway.limits import Limits
from skill_operator.gateway.mcp import Agents
from skill_operator.gateway.pages import pages as own_pages
from skill_operator.gateway.tls import Certificate
from skill_operator.gateway.upstream import Pool
from skill_operator.gateway.wake import Waker
from skill_operator.k8s.client import Cluster
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
    certificate = Certificate(Path(settings.gateway.tlsFolder)) if settings.gateway.tlsFolder else None
    directory = Directory(watchers=[_forget])
    ready = {
        "directory": lambda: None if directory.ready else "skills and pods are not listed yet",
        "stopping": lambda: "it is" if stop.is_set() else None,
    }
    judge = Judge(directory)
    following = asyncio.create_task(directory.follow(cluster, settings.watchNamespaces))
    renewing = asyncio.create_task(certificate.keep()) if certificate else None
    live = {"directory": lambda: "the watches have ended" if following.done() else None}
    pool = Pool(POD_PORT)
    waker = Waker(cluster, directory, pool, settings.gateway.wake)
    calls = Calls(directory, pool, waker, Limits(settings.gateway.limits))
    judging = answering(judge, settings.judgePort) if settings.egressProxy.address else contextlib.nullcontext()
    async with judging, health.serve(settings.healthPort, live, ready, {activity.PATH: calls.report}):
        with pool.open():
            end = asyncio.Event()
            made = listener(calls, doorman(cluster, settings), settings, certificate)
            listening = asyncio.create_task(made.run_until(end))
            settle()
            log.info("listening", extra={"port": settings.listenPort, "tls": certificate is not None})
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
    calls: Calls, gatekeeper: Gatekeeper, settings: Settings, certificate: Certificate | None = None
) -> Listener:
    pages = own_pages(settings)
    agents = Agents(calls.directory, calls, gatekeeper, pages)
    made = api.app(calls.directory, calls, gatekeeper, pages, agents, settings)
    where: dict[str, Any] = {"host": "0.0.0.0", "port": settings.listenPort}
    where |= {"timeout_graceful_shutdown": GRACE_SECONDS}
    if certificate:
        where["ssl_context_factory"] = lambda *_: certificate.context
    return Listener(Front(made, calls, gatekeeper, pages, agents.close, **where))


def doorman(cluster: Cluster, settings: Settings) -> Gatekeeper:
    if settings.gateway.auth == "kubernetes":
        return Kubernetes(cluster, settings.gateway.audiences)
    log.warning("ANYBODY MAY CALL EVERY SKILL: gateway.auth is none, so whoever reaches the gateway needs no token")
    return Anybody()


def _forget(before: Entry | None, after: Entry | None) -> None:
    if before is not None and after is None:
        metrics.forget(before.meta.namespace, before.meta.name)
