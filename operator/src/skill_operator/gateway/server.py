"""The gateway's process: its parts, and how it starts and stops."""

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
from skill_operator.gateway.access.limits import CallLimiter, ConnectionLimiter, FairShares
from skill_operator.gateway.access.origins import allowed_origins
from skill_operator.gateway.access.protected_resource import ProtectedResource
from skill_operator.gateway.egress_authorizer import EgressAuthorizer, serve_authorizer
from skill_operator.gateway.http import routes
from skill_operator.gateway.http.connection import GatewayServices
from skill_operator.gateway.http.deadlines import Deadlines
from skill_operator.gateway.http.protocol import GatewayServer, ServerConfig
from skill_operator.gateway.http.tls import Certificate, CertificateError
from skill_operator.gateway.invocation import POD_PORT, Invoker
from skill_operator.gateway.mcp import McpServer
from skill_operator.gateway.pods.activator import Activator
from skill_operator.gateway.pods.connection import ConnectionPool
from skill_operator.gateway.pods.directory import Directory, SkillEntry
from skill_operator.gateway.skill_search import SkillSearch
from skill_operator.gateway.ui.page_routes import SkillPages
from skill_operator.gateway.workshop.workshop import Workshop
from skill_operator.k8s.interface import CallerCluster, Cluster
from skill_operator.observability import health, metrics
from skill_operator.settings import Settings

log = logging.getLogger(__name__)
DRAIN_SECONDS = 8.0  # until no Service leads here any more: EndpointSlices and kube-proxy take seconds on a busy node
MAX_END_SECONDS = 3  # after the last calls were told that they take too long, until what else runs is cut off
CERTIFICATE_WAIT_SECONDS = 0.5  # between two looks, until there is a first certificate
MAX_PIPELINED_REQUESTS = 4096  # that wait for the one before them on their connection
MAX_REQUESTS = 1024  # in flight, of those that are no calls over HTTP
GC_THRESHOLD = 20_000  # new objects between collections: calls make no cycles, and one takes as long as several calls


async def serve(settings: Settings, cluster: Cluster, callers: CallerCluster | None = None) -> None:
    """Run the gateway until SIGTERM. Raises CertificateError.

    `callers` is the API server as the page's callers reach it, with their own tokens. The gateway stops in order: it
    leaves the Services, then takes no more calls, then finishes those in flight, or tells them that it cannot.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    certificate = await _load_certificate(settings, stop)
    if stop.is_set():
        return
    directory = Directory(skill_listeners=[_forget_metrics])
    ready = {
        "directory": lambda: None if directory.ready else "skills and pods are not listed yet",
        "stopping": lambda: "the gateway is stopping" if stop.is_set() else None,
    }
    egress_authorizer = EgressAuthorizer(directory)
    watch_task = asyncio.create_task(directory.watch(cluster, settings.watch_namespaces))
    certificate_task = asyncio.create_task(certificate.watch()) if certificate else None
    live = {"directory": lambda: "the watches have ended" if watch_task.done() else None}
    pool = ConnectionPool(POD_PORT)
    activator = Activator(cluster, directory, pool, settings.gateway.wake)
    invoker = Invoker(directory, pool, activator, CallLimiter(settings.gateway.limits))
    egress = (
        serve_authorizer(egress_authorizer, settings.judge_port)
        if settings.egress_proxy.address
        else contextlib.nullcontext()
    )
    usage = health.serve_document(settings.usage_port, usage_report.PATH, invoker.usage_report)
    async with egress, usage, health.serve(settings.health_port, live, ready):
        with pool.open():
            stop_server = asyncio.Event()
            server = make_server(invoker, make_authorizer(cluster, settings), settings, certificate, callers, cluster)
            server_task = asyncio.create_task(server.run_until(stop_server))
            freeze_garbage_collector()
            log.info("listening", extra={"port": settings.listen_port, "tls": certificate is not None})
            stop_task = asyncio.create_task(stop.wait())
            await asyncio.wait({stop_task, watch_task, server_task}, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                await asyncio.sleep(DRAIN_SECONDS)
            stop_server.set()
            await server_task
        stop_task.cancel()
        watch_task.cancel()
        if certificate_task:
            certificate_task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch_task


async def _load_certificate(settings: Settings, stop: asyncio.Event) -> Certificate | None:
    """Return the certificate, or None for plain HTTP. Raises CertificateError where it cannot be used.

    One that the controller makes is waited for instead, until the startup probe gives up: it makes a missing or spoilt
    one anew.
    """
    folder, problem = Path(settings.gateway.tls_folder), ""
    if not settings.gateway.tls_folder:
        return None
    while True:
        try:
            return Certificate(folder)
        except CertificateError as error:
            if not settings.gateway.self_signed.enabled:
                raise
            if stop.is_set():
                return None
            if str(error) != problem:
                problem = str(error)
                log.warning("the gateway waits for its certificate: %s", problem)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), CERTIFICATE_WAIT_SECONDS)


def freeze_garbage_collector() -> None:
    """Exempt the objects that exist at the start from collection: they stay. Collect the later ones rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


def make_server(
    invoker: Invoker,
    authorizer: Authorizer,
    settings: Settings,
    certificate: Certificate | None = None,
    callers: CallerCluster | None = None,
    cluster: Cluster | None = None,
) -> GatewayServer:
    """Return the server for callers, over HTTP and MCP; with a certificate it speaks TLS.

    `cluster` is where it writes the Skills that agents ask for, where the settings let them.
    """
    connections = ConnectionLimiter(settings.gateway.connections)
    requests, pipelined = FairShares(MAX_REQUESTS), FairShares(MAX_PIPELINED_REQUESTS)
    origins = allowed_origins(settings)
    search = SkillSearch(invoker.directory)
    resource = ProtectedResource(settings)
    workshop = None
    if settings.gateway.workshop.enabled and cluster is not None:
        workshop = Workshop(cluster, invoker.directory, authorizer, search, settings.gateway.workshop)
    services = GatewayServices(
        invoker, authorizer, origins, resource, Deadlines(), connections, requests, pipelined, search, workshop
    )
    mcp_server = McpServer(services, settings.gateway.mcp)
    pages = SkillPages(services, settings, callers).routes() if settings.gateway.ui.enabled else []
    app = routes.make_app(services, mcp_server, settings, pages)
    options: dict[str, Any] = {"host": "0.0.0.0", "port": settings.listen_port}
    finish_seconds = settings.gateway.finish_seconds
    options |= {"timeout_graceful_shutdown": finish_seconds + MAX_END_SECONDS}
    if certificate:
        options["ssl_context_factory"] = lambda *_: certificate.context
    return GatewayServer(ServerConfig(app, services, **options), mcp_server.close, finish_seconds)


def make_authorizer(cluster: Cluster, settings: Settings) -> Authorizer:
    """Return the authorizer that `gateway.auth` names."""
    if settings.gateway.auth == "kubernetes":
        return KubernetesAuthorizer(cluster, settings.gateway.audiences)
    log.warning("ANYBODY MAY CALL EVERY SKILL: gateway.auth is none, so whoever reaches the gateway needs no token")
    return AllowAll()


def _forget_metrics(before: SkillEntry | None, after: SkillEntry | None) -> None:
    if before is not None and after is None:
        metrics.forget_skill(before.meta.namespace, before.meta.name)
