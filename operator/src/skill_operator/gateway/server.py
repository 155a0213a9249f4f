"""The process: what it is made of, and how it starts and ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal

from skill_operator.gateway import api
from skill_operator.gateway.callers import Anybody
from skill_operator.gateway.calls import POD_PORT, Calls
from skill_operator.gateway.directory import Directory
from skill_operator.gateway.front import Front, Listener
from skill_operator.gateway.upstream import Pool
from skill_operator.k8s.client import Cluster
from skill_operator.observability import health
from skill_operator.settings import Settings

log = logging.getLogger(__name__)
DRAIN_SECONDS = 2.0  # until no Service leads here any more
GRACE_SECONDS = 25


async def serve(settings: Settings, cluster: Cluster) -> None:
    """Until SIGTERM: then first out of the Services, then no more calls, then the end."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    directory = Directory()
    ready = {
        "directory": lambda: None if directory.ready else "skills and pods are not listed yet",
        "stopping": lambda: "it is" if stop.is_set() else None,
    }
    following = asyncio.create_task(directory.follow(cluster, settings.watchNamespaces))
    live = {"directory": lambda: "the watches have ended" if following.done() else None}
    async with health.serve(settings.healthPort, live, ready):
        with Pool(POD_PORT).open() as pool:
            end = asyncio.Event()
            listening = asyncio.create_task(listener(directory, pool, settings).run_until(end))
            log.info("listening", extra={"port": settings.listenPort})
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({stopping, following, listening}, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                await asyncio.sleep(DRAIN_SECONDS)
            end.set()
            await listening
        stopping.cancel()
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


def listener(directory: Directory, pool: Pool, settings: Settings) -> Listener:
    calls, gatekeeper = Calls(directory, pool), Anybody()
    made = api.app(directory, calls, gatekeeper, settings)
    where = {"host": "0.0.0.0", "port": settings.listenPort, "timeout_graceful_shutdown": GRACE_SECONDS}
    return Listener(Front(made, calls, gatekeeper, **where))
