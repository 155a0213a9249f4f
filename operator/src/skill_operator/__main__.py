"""`skill-operator controller`, `skill-operator gateway`: two processes that share no memory."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import secrets
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import uvloop

from skill_operator.controller import Controller
from skill_operator.generation.provider import Provider
from skill_operator.handlers import Informer
from skill_operator.isolation.beacon import serve_beacon
from skill_operator.isolation.cluster_networks import ClusterNetworks
from skill_operator.isolation.monitor import IsolationMonitor
from skill_operator.isolation.service_addresses import resolve_service_addresses
from skill_operator.isolation.user_namespaces import NodeFeaturesCache
from skill_operator.k8s.client import connect
from skill_operator.k8s.events import Recorder
from skill_operator.k8s.lease import Lease
from skill_operator.k8s.watch_health import WatchHealth
from skill_operator.naming import SkillKey
from skill_operator.observability import health, logs
from skill_operator.reconcile.build_queue import BuildQueue
from skill_operator.reconcile.context import ReconcileContext
from skill_operator.reconcile.egress_proxy import EgressProxy
from skill_operator.reconcile.reconciler import Reconciler
from skill_operator.reconcile.stages.source import Author
from skill_operator.reconcile.usage_collector import UsageCollector, over_http
from skill_operator.registry import client, garbage_collector
from skill_operator.registry.push_secret import ensure
from skill_operator.settings import Settings, SettingsError, load
from skill_operator.work_queue import WorkQueue

log = logging.getLogger("skill_operator")
LEASE = "skill-operator-controller"


def _now() -> datetime:
    return datetime.now(UTC)


async def controller(settings: Settings) -> int:
    """Lead, or wait to lead. Exit code 1 when the lead was lost: whatever ran is not to be trusted any more."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    settings = await resolve_service_addresses(settings)
    identity = f"{os.environ.get('HOSTNAME', 'local')}-{secrets.token_hex(4)}"
    queue = WorkQueue()
    async with connect("skill-operator-controller") as cluster, aiohttp.ClientSession(trust_env=False) as session:
        gateways = UsageCollector(cluster, settings, over_http(session, settings.health_port), queue.add)
        lease = Lease(cluster, settings.namespace, LEASE, identity, settings.lease_seconds)
        recorder = Recorder(cluster, "skill-operator")
        watch_health = WatchHealth()
        slots = BuildQueue(cluster, settings, queue.add)
        author = Author(settings, Provider(), lambda namespace, name: queue.add(SkillKey(namespace, name)), _now)
        proxy = EgressProxy(cluster, settings)
        around = ReconcileContext(
            lambda: client.read_base(settings),
            ClusterNetworks(cluster, settings).read,
            lambda: watch.verdict,
            NodeFeaturesCache(cluster, settings.isolation).read,
            proxy.serve,
        )
        reconciler = Reconciler(cluster, settings, author, recorder, around, _now, slots, watch_health, gateways)
        work = Controller(cluster, settings, reconciler, queue, watch_health, proxy)
        watch = IsolationMonitor(settings, work.look_again)
        informer = Informer(settings, lambda namespace, name: queue.add(SkillKey(namespace, name)), watch_health)
        live = {"controller": lambda: work.problem() if lease.held else None}
        async with health.serve(settings.health_port, live, {}):
            leading = asyncio.create_task(lease.acquire())
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait({leading, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not leading.done():
                leading.cancel()
                await asyncio.gather(leading, return_exceptions=True)
                await lease.release()  # it may just have been won
                return 0
            tasks = [asyncio.create_task(part.run()) for part in (work, recorder, gateways, watch)]
            watching = asyncio.create_task(informer.run(stop))
            lost = asyncio.create_task(lease.lost.wait())
            await asyncio.wait({stopped, lost, watching, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            broken = [t for t in (watching, *tasks) if t.done() and not stop.is_set()]
            for task in broken:
                log.error("a part of the controller ended", exc_info=task.exception() if not task.cancelled() else None)
            stop.set()
            for task in tasks:
                task.cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(10):
                    await asyncio.gather(watching, *tasks, return_exceptions=True)
            await lease.release()
            return 1 if broken or lease.lost.is_set() else 0


async def gateway(settings: Settings) -> int:
    from skill_operator.gateway.http.tls import CertificateError
    from skill_operator.gateway.server import serve  # the controller needs none of its 70 MiB

    async with connect("skill-operator-gateway") as cluster, serve_beacon(settings.beacon_port):
        try:
            await serve(settings, cluster)
        except CertificateError as error:
            sys.exit(f"skill-operator: {error}")
    return 0


async def examination(settings: Settings) -> int:
    from skill_operator.doctor import doctor

    async with connect("skill-operator-doctor") as cluster:
        return await doctor(cluster, settings)


async def credentials(settings: Settings, htpasswd: Path) -> int:
    async with connect("skill-operator-registry") as cluster:
        await ensure(cluster, settings, htpasswd)
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="skill-operator", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("controller", help="reconcile Skills (one at a time leads, by Lease)")
    commands.add_parser(
        "doctor", help="say what this cluster can do of what the operator needs; run it in a controller's pod"
    )
    commands.add_parser("gateway", help="relay calls to skills (any number)")
    wanted = commands.add_parser("registry-credentials", help="make the builder's credential for the embedded registry")
    wanted.add_argument("htpasswd", type=Path, help="file to write for the registry")
    wanted = commands.add_parser("registry-sweep", help="free the embedded registry's disk of images of dead skills")
    wanted.add_argument("root", type=Path, help="folder that the registry keeps its data in")
    wanted.add_argument("--once", action="store_true", help="now, and no more")
    wanted.add_argument("--grace", type=float, help="seconds; leave alone what is younger (registry.sweepGraceSeconds)")
    options = parser.parse_args()
    try:
        settings = load()
    except SettingsError as error:
        sys.exit(f"skill-operator: {error}")
    logs.configure(settings.log_level)
    match options.command:
        case "controller":
            run = controller(settings)
        case "doctor":
            run = examination(settings)
        case "gateway":
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # it relays; the others wait
                sys.exit(runner.run(gateway(settings)))
        case "registry-sweep":
            run = garbage_collector.run(settings, options.root, once=options.once, grace=options.grace)
        case _:
            run = credentials(settings, options.htpasswd)
    try:
        sys.exit(asyncio.run(run))
    except SettingsError as error:
        sys.exit(f"skill-operator: {error}")


if __name__ == "__main__":
    main()
