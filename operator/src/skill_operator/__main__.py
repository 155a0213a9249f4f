"""The command line. `skill-operator controller` and `skill-operator gateway` are two processes that share no memory."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import secrets
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import aiohttp
import uvloop

from skill_operator.controller import Controller, Resync
from skill_operator.generation.author import Author
from skill_operator.generation.provider import Provider
from skill_operator.handlers import Informer
from skill_operator.isolation.beacon import serve_beacon
from skill_operator.isolation.cluster_networks import ClusterNetworks
from skill_operator.isolation.monitor import IsolationMonitor
from skill_operator.isolation.service_addresses import resolve_service_addresses
from skill_operator.isolation.user_namespaces import NodeFeaturesCache
from skill_operator.k8s.caller_client import connect_for_callers
from skill_operator.k8s.client import connect
from skill_operator.k8s.events import EventRecorder
from skill_operator.k8s.interface import Cluster
from skill_operator.k8s.lease import Lease
from skill_operator.k8s.watch_health import WatchHealth
from skill_operator.observability import health, logs, metrics
from skill_operator.reconcile.context import ReconcileContext
from skill_operator.reconcile.egress_proxy import EgressProxy
from skill_operator.reconcile.job_queue import make_job_queues
from skill_operator.reconcile.reconciler import Reconciler
from skill_operator.reconcile.usage_collector import UsageCollector, over_http
from skill_operator.registry import garbage_collector
from skill_operator.registry.monitor import RegistryMonitor
from skill_operator.registry.push_secret import ensure_push_secret, ensure_read_secret
from skill_operator.registry.seed import SeedError, seed
from skill_operator.registry.storage import RegistryStorage
from skill_operator.settings import Settings, SettingsError, load
from skill_operator.sweeper import Sweeper
from skill_operator.termination import exit_on_sigterm
from skill_operator.work_queue import REST_SECONDS, WorkQueue

log = logging.getLogger("skill_operator")
LEASE_NAME = "skill-operator-controller"
SHUTDOWN_SECONDS = 10.0
SWITCH_SECONDS = 0.001  # so long a thread that works through a stranger's bytes makes the loop wait, not 5 ms


def _now() -> datetime:
    return datetime.now(UTC)


class _Part(Protocol):
    """_Part is what the leading controller runs until it stops leading."""

    async def run(self) -> None:
        """Run until cancelled."""


def _certificate_rotator(cluster: Cluster, settings: Settings) -> _Part:
    from skill_operator.certificates import rotator  # who brings a certificate needs none of its OpenSSL

    names = rotator.server_names(settings, rotator.read_resolv_conf())
    return rotator.CertificateRotator(cluster, settings, _now, names)


async def controller(settings: Settings) -> int:
    """Run the controller: lead, or wait to lead.

    Return the exit code: 1 when the lease was lost, since whatever ran is not to be trusted any more, or when a part of
    the controller ended.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    settings = await resolve_service_addresses(settings)
    identity = f"{os.environ.get('HOSTNAME', 'local')}-{secrets.token_hex(4)}"
    async with (
        connect("skill-operator-controller", metrics.record_unreadable_object) as cluster,
        aiohttp.ClientSession(trust_env=False) as session,
    ):
        queue, watch_health = WorkQueue(settings.workers, REST_SECONDS), WatchHealth()
        informer = Informer(settings, queue.add, watch_health)
        resync = Resync(cluster, settings, queue, watch_health)
        monitor = IsolationMonitor(settings, resync.queue_all)
        registry = RegistryMonitor(settings, resync.queue_all, _now)
        usage_collector = UsageCollector(cluster, settings, over_http(session, settings.usage_port), queue.add)
        egress_proxy = EgressProxy(cluster, settings)
        recorder = EventRecorder(cluster, "skill-operator")
        context = ReconcileContext(
            read_registry=registry.read,
            is_image_lost=lambda image, ask_again: registry.is_lost(image, ask_again=ask_again),
            blocked_networks=ClusterNetworks(cluster, settings).read,
            isolation=lambda: monitor.verdict,
            node_features=NodeFeaturesCache(cluster, settings.isolation).read,
            start_egress_proxy=egress_proxy.start,
        )
        reconciler = Reconciler(
            cluster,
            settings,
            Author(settings, Provider(), queue.add, _now),
            recorder,
            context,
            _now,
            make_job_queues(cluster, settings, queue.add),
            watch_health,
            usage_collector,
        )
        reconciler.hold_refused_writes(time.monotonic)
        sweeper = Sweeper(cluster, settings, resync.list_skills, egress_proxy.stop)
        work = Controller(settings, reconciler, queue, resync, sweeper)
        lease = Lease(cluster, settings.namespace, LEASE_NAME, identity, settings.lease_seconds)
        live = {"controller": lambda: resync.find_problem() if lease.is_held else None}
        async with health.serve(settings.health_port, live, {}):
            leading = asyncio.create_task(lease.acquire())
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait({leading, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not leading.done():
                leading.cancel()
                await asyncio.gather(leading, return_exceptions=True)
                await lease.release()  # it may just have been won
                return 0
            parts: list[_Part] = [work, recorder, usage_collector, monitor, registry]
            if settings.gateway.self_signed.enabled:
                parts.append(_certificate_rotator(cluster, settings))
            tasks = [asyncio.create_task(part.run()) for part in parts]
            watching = asyncio.create_task(informer.run(stop))
            lost = asyncio.create_task(lease.lost.wait())
            await asyncio.wait({stopped, lost, watching, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            failed = [t for t in (watching, *tasks) if t.done() and not stop.is_set()]
            for task in failed:
                log.error("a part of the controller ended", exc_info=task.exception() if not task.cancelled() else None)
            stop.set()
            for task in tasks:
                task.cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SHUTDOWN_SECONDS):
                    await asyncio.gather(watching, *tasks, return_exceptions=True)
            await lease.release()
            return 1 if failed or lease.lost.is_set() else 0


async def gateway(settings: Settings) -> int:
    """Run the gateway until it is stopped. Return the exit code."""
    from skill_operator.gateway.http.tls import CertificateError
    from skill_operator.gateway.server import serve  # the controller needs none of its 70 MiB

    async with (
        connect("skill-operator-gateway", metrics.record_unreadable_object) as cluster,
        connect_for_callers("skill-operator-page") as callers,
        serve_beacon(settings.beacon_port),
    ):
        try:
            await serve(settings, cluster, callers)
        except CertificateError as error:
            sys.exit(f"skill-operator: {error}")
    return 0


async def run_doctor(settings: Settings) -> int:
    """Report what this cluster offers of what the operator needs. Return the exit code."""
    from skill_operator.doctor import doctor

    async with connect("skill-operator-doctor") as cluster:
        return await doctor(cluster, settings)


async def ensure_credentials(settings: Settings, writers: Path, readers: Path) -> int:
    """Make the credentials of builder and mirrors for the embedded registry. Return the exit code."""
    async with connect("skill-operator-registry") as cluster:
        await ensure_push_secret(cluster, settings, writers)
        await ensure_read_secret(cluster, settings, readers)
    return 0


async def seed_registry(settings: Settings, layout: Path, root: Path) -> int:
    """Put the base images into the data of the embedded registry. Return the exit code.

    Where that fails, the registry starts all the same: nodes pull what it has, and Skills report what it lacks.
    """
    try:
        seed(settings, layout, RegistryStorage(root, settings.registry.sweep_grace_seconds))
    except (SeedError, OSError) as error:
        log.warning("the registry gets no base images: %s", error)
    return 0


def main() -> None:
    """Run the subcommand that the command line names."""
    parser = argparse.ArgumentParser(prog="skill-operator", description=__doc__)
    add = parser.add_subparsers(dest="command", required=True).add_parser
    add("controller", help="reconcile Skills (one at a time leads, by Lease)")
    add("doctor", help="report what this cluster offers of what the operator needs; run it in a controller's pod")
    add("gateway", help="relay calls to skills (any number)")
    command = add("registry-credentials", help="make the credentials of builder and mirrors for the embedded registry")
    command.add_argument("writers", type=Path, help="htpasswd file of who pushes, to write for the registry")
    command.add_argument("readers", type=Path, help="htpasswd file of who reads, to write for the registry")
    command = add("registry-seed", help="put the base images into the embedded registry's data before it starts")
    command.add_argument("layout", type=Path, help="folder of the OCI image layout that holds them")
    command.add_argument("root", type=Path, help="folder in which the registry keeps its data")
    command = add("registry-sweep", help="free the embedded registry's disk of images of deleted skills")
    command.add_argument("root", type=Path, help="folder in which the registry keeps its data")
    command.add_argument("--once", action="store_true", help="sweep once, now")
    command.add_argument("--grace", type=float, help="seconds; keep what is younger (registry.sweepGraceSeconds)")
    options = parser.parse_args()
    exit_on_sigterm()  # controller and gateway have handlers of their own, once they have something to finish
    try:
        settings = load()
    except SettingsError as error:
        sys.exit(f"skill-operator: {error}")
    logs.configure(settings.log_level)
    sys.setswitchinterval(SWITCH_SECONDS)
    match options.command:
        case "controller":
            run = controller(settings)
        case "doctor":
            run = run_doctor(settings)
        case "gateway":
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # it relays; the others wait
                sys.exit(runner.run(gateway(settings)))
        case "registry-seed":
            run = seed_registry(settings, options.layout, options.root)
        case "registry-sweep":
            run = garbage_collector.run(settings, options.root, once=options.once, grace=options.grace)
        case _:
            run = ensure_credentials(settings, options.writers, options.readers)
    try:
        sys.exit(asyncio.run(run))
    except SettingsError as error:
        sys.exit(f"skill-operator: {error}")


if __name__ == "__main__":
    main()
