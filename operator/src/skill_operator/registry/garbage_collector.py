"""Delete the images of deleted Skills from the embedded registry: by comparison, never by a finalizer.

It runs beside the registry, the only place from where its disk can be freed. Over the network nobody may delete.
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
    """Sweep every `registry.sweepSeconds`, or once, and return the exit code.

    What fails is tried again the next time, and nothing is deleted in doubt. `grace` is in seconds.
    """
    storage = RegistryStorage(root, settings.registry.sweep_grace_seconds if grace is None else grace)
    while True:
        try:
            async with connect("skill-operator-registry") as cluster:
                await sweep(cluster, settings, storage)
        except (ClusterError, OSError, ValueError) as error:
            log.warning("the registry sweep failed: %s", error)
            if once:
                return 1
        except Exception:  # it shares a pod with the registry, which must not become unready by it
            log.exception("the registry sweep failed")
            if once:
                return 1
        else:
            if once:
                return 0
        await asyncio.sleep(settings.registry.sweep_seconds)


async def sweep(cluster: Cluster, settings: Settings, storage: RegistryStorage) -> None:
    """Delete every image that no Skill, pod or build uses. Raises ClusterError, OSError, ValueError."""
    found = await asyncio.to_thread(storage.images, f"{naming.REPOSITORIES}/")
    # The Skills are read after the images: what was built for one of them is known to it by now, or being built.
    building, used = await _find_building(cluster, settings), await _find_used_digests(cluster, settings)
    unused = [
        image
        for image in found
        if image.digest not in used and image.repository not in building and _is_watched(settings, image.repository)
    ]
    for image in unused:
        await asyncio.to_thread(storage.remove, image)
    freed = await asyncio.to_thread(storage.collect)
    if unused or freed:
        log.info("the registry was swept", extra={"images": len(unused), "bytes": freed})


async def _find_used_digests(cluster: Cluster, settings: Settings) -> set[str]:
    """Return the digests that a Skill runs, tries, may roll back to, or still has a pod of, under whatever name.

    An archived Skill runs none: its image is built again, from the code that the operator keeps, when it comes back.
    Its earlier ones stay, since the base image that they were made of may be gone. So does one that the spec pins,
    which is never built again.
    """
    references: set[str] = set()
    for namespace in settings.namespace_scopes:
        for skill in await cluster.list("Skill", namespace):
            status = skill.get("status", {})
            revisions = [status, *status.get("history", []), status.get("trial", {})]
            pinned = bool(skill.get("spec", {}).get("revision"))
            archived = status.get("image", "") if "archive" in status and not pinned else None
            references |= {image for image in (each.get("image", "") for each in revisions) if image != archived}
        for pod in await cluster.list("Pod", namespace, naming.MANAGED):
            references |= {container["image"] for container in pod["spec"]["containers"]}
    return {reference.partition("@")[2] for reference in references}


async def _find_building(cluster: Cluster, settings: Settings) -> set[str]:
    jobs = await cluster.list("Job", settings.builder_namespace, naming.MANAGED)
    return {_built_repository(job, settings) for job in jobs}


def _built_repository(job: Object, settings: Settings) -> str:
    """Return the repository that a build pushes to. The label of its Skill may be truncated, so the build tells."""
    pod = job["spec"]["template"]["spec"]
    (destination,) = (
        argument.partition("=")[2]
        for container in (*pod.get("initContainers", []), *pod["containers"])
        for argument in container.get("args", [])
        if argument.startswith("--destination=")
    )
    return str(destination).rpartition(":")[0].removeprefix(f"{settings.registry.push}/")


def _is_watched(settings: Settings, repository: str) -> bool:
    """Return whether the operator knows the Skills of the repository's namespace; it deletes nothing of others."""
    namespace = repository.split("/")[1]
    return not settings.watch_namespaces or namespace in settings.watch_namespaces
