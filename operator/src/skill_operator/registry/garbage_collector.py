"""Images of skills that are gone leave the embedded registry: found by comparison, never by a finalizer.

Runs beside the registry, the only place from where its disk can be freed. Over the network nobody may delete.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from skill_operator import naming
from skill_operator.k8s.client import connect
from skill_operator.k8s.errors import ClusterError
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.registry.storage import RegistryStorage
from skill_operator.settings import Settings

log = logging.getLogger(__name__)


async def run(settings: Settings, root: Path, *, once: bool, grace: float | None) -> int:
    """Sweep every `registry.sweepSeconds`; what fails is tried again the next time, and nothing is deleted on doubt."""
    storage = RegistryStorage(root, settings.registry.sweep_grace_seconds if grace is None else grace)
    while True:
        try:
            async with connect("skill-operator-registry") as cluster:
                await sweep(cluster, settings, storage)
        except (ClusterError, OSError, ValueError) as error:
            log.warning("the registry was not swept: %s", error)
            if once:
                return 1
        except Exception:  # it shares a pod with the registry, which must not become unready by it
            log.exception("the registry was not swept")
            if once:
                return 1
        else:
            if once:
                return 0
        await asyncio.sleep(settings.registry.sweep_seconds)


async def sweep(cluster: Cluster, settings: Settings, storage: RegistryStorage) -> None:
    found = await asyncio.to_thread(storage.images, f"{naming.REPOSITORIES}/")
    # The Skills are read after the images: what was built for one of them is known to it by now, or being built.
    building, wanted = await _building(cluster, settings), await _wanted(cluster, settings)
    dead = [
        image
        for image in found
        if image.digest not in wanted and image.repository not in building and _watched(settings, image.repository)
    ]
    for image in dead:
        await asyncio.to_thread(storage.remove, image)
    freed = await asyncio.to_thread(storage.collect)
    if dead or freed:
        log.info("swept", extra={"images": len(dead), "bytes": freed})


async def _wanted(cluster: Cluster, settings: Settings) -> set[str]:
    """Digests that a Skill runs, may go back to, or still has a pod of; under whatever name they are pulled."""
    references: set[str] = set()
    namespaces: list[str | None] = [*settings.watch_namespaces]
    for namespace in namespaces or [None]:
        for skill in await cluster.list("Skill", namespace):
            status = skill.get("status", {})
            references |= {status.get("image", ""), *(past.get("image", "") for past in status.get("history", []))}
        for pod in await cluster.list("Pod", namespace, naming.MANAGED):
            references |= {container["image"] for container in pod["spec"]["containers"]}
    return {reference.partition("@")[2] for reference in references}


async def _building(cluster: Cluster, settings: Settings) -> set[str]:
    jobs = await cluster.list("Job", settings.builder_namespace, naming.MANAGED)
    return {naming.repository(*_skill(job)) for job in jobs}


def _skill(job: Object) -> tuple[str, str]:
    """The Skill that a build is of. Its label may be shortened, so the destination tells."""
    (destination,) = (
        argument.partition("=")[2]
        for argument in job["spec"]["template"]["spec"]["containers"][0]["args"]
        if argument.startswith("--destination=")
    )
    _, namespace, name = destination.rpartition(":")[0].rsplit("/", 2)
    return namespace, name


def _watched(settings: Settings, repository: str) -> bool:
    """Of Skills in other namespaces nothing is known, so nothing of theirs is dead."""
    namespace = repository.split("/")[1]
    return not settings.watch_namespaces or namespace in settings.watch_namespaces
