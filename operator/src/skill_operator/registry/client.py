"""Read the registry by the OCI distribution spec: the manifest that the base image carries as a label."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import dataclass
from typing import Any

import aiohttp

from skill_operator import runtime_contract
from skill_operator.registry.auth import RegistryAuth, RegistryAuthError
from skill_operator.registry.references import pull_reference
from skill_operator.settings import Settings

LABEL = runtime_contract.MANIFEST_LABEL
MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
TIMEOUT = aiohttp.ClientTimeout(total=10)
ACCEPT = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


class RegistryUnavailable(Exception):
    """RegistryUnavailable says that the registry does not respond or lacks the base image; it is tried again."""

    reason = "RegistryUnavailable"


class BaseImagesDiffer(RegistryUnavailable):
    """BaseImagesDiffer says that a skill would be checked in one image and run on another."""

    reason = "BaseImagesDiffer"


@dataclass(frozen=True)
class BaseImage:
    """BaseImage says what is in the base image, and where the builder finds its registry."""

    manifest: dict[str, Any]
    registry_address: str  # IP of the push host, since builders have no DNS; empty: the host is an address itself

    @property
    def root_entries(self) -> tuple[str, ...]:
        """Return the names in the root folder of the image."""
        return tuple(self.manifest.get(runtime_contract.MANIFEST_ROOT_ENTRIES, ()))


async def read_base(settings: Settings) -> BaseImage:
    """Read the label of the base image, which the image of the checks must share.

    Raises RegistryUnavailable with what to do.
    """
    runtime, checker = settings.images.runtime, settings.images.checker
    label = await _read_label(settings, runtime)
    if label != await _read_label(settings, checker):
        raise BaseImagesDiffer(
            f"{checker} is not made of {runtime}: they hold different libraries, so nothing is built; give the chart "
            "images.runtime and images.checker of one build"
        )
    try:
        return BaseImage(label, await _resolve(settings.registry.push))
    except OSError as error:
        raise RegistryUnavailable(f"the host of {settings.registry.push} cannot be resolved: {error}") from error


async def _read_label(settings: Settings, image: str) -> dict[str, Any]:
    repository, digest = _locate(settings, image)
    try:
        async with _session(settings) as session:
            manifest = await _get_json(session, f"{repository}/manifests/{digest or 'latest'}", ACCEPT)
            config = await _get_json(session, f"{repository}/blobs/{manifest['config']['digest']}", "*/*")
            return {**json.loads(config["config"]["Labels"][LABEL])}
    except RegistryAuthError as error:
        raise RegistryUnavailable(f"{image} cannot be read: {error}") from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise RegistryUnavailable(
            f"the registry of {repository} does not answer: {error or type(error).__name__}"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise RegistryUnavailable(f"{image} is no base image of this operator: it lacks the label {LABEL}") from error


async def is_lost(settings: Settings, image: str) -> bool:
    """Return whether the registry responds that it has no such image (`<pull address>/<repository>@<digest>`)."""
    repository, digest = _locate(settings, image)
    try:
        async with (
            _session(settings) as session,
            session.head(f"{repository}/manifests/{digest}", headers={"Accept": ACCEPT}) as response,
        ):
            return response.status == 404
    except (aiohttp.ClientError, TimeoutError, OSError, RegistryAuthError):
        return False


def _session(settings: Settings) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=TIMEOUT, middlewares=(RegistryAuth(settings.registry.credentials),))


def _locate(settings: Settings, image: str) -> tuple[str, str]:
    """Return the URL of the image's repository, and its digest.

    What the nodes pull under one name, the controller reads under another.
    """
    name, _, digest = pull_reference(settings, image).partition("@")
    host, _, path = name.partition("/")
    ours = host == settings.registry.pull.partition("/")[0]
    url = settings.registry.read.rstrip("/") if ours else f"https://{host}"
    return f"{url}/v2/{path.partition(':')[0]}", digest


async def _get_json(session: aiohttp.ClientSession, url: str, accept: str) -> Any:
    async with session.get(url, headers={"Accept": accept}) as response:
        if response.status in {401, 403}:
            raise RegistryUnavailable(f"{url} may not be read: set registry.readSecret to a credential that may")
        if response.status == 404:
            raise RegistryUnavailable(f"{url} does not exist: push the base images first (make install does)")
        response.raise_for_status()
        body = bytearray()
        async for chunk in response.content.iter_any():  # read() may return less than there is
            body += chunk
            if len(body) > MAX_DOCUMENT_BYTES:
                raise RegistryUnavailable(f"{url} is larger than {MAX_DOCUMENT_BYTES} bytes")
        return json.loads(body)


async def _resolve(address: str) -> str:
    host = address.partition("/")[0].partition(":")[0]
    found = await asyncio.get_running_loop().getaddrinfo(host, None, family=socket.AF_INET, type=socket.SOCK_STREAM)
    return str(found[0][4][0])
