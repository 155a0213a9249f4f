"""Read the registry by the OCI distribution spec: the manifest that the base image carries as a label."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import aiohttp

from skill_operator import runtime_contract
from skill_operator.registry.auth import RegistryAuth, RegistryAuthError
from skill_operator.registry.hosts import GlobalResolver, is_address, is_trusted, split_url
from skill_operator.registry.references import pull_reference
from skill_operator.settings import RegistrySettings, Settings
from skill_operator.untrusted.text import printable

LABEL = runtime_contract.MANIFEST_LABEL
MAX_DOCUMENT_BYTES = 1024 * 1024
MAX_REDIRECTS = 3
_DIGEST = re.compile(r"(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})")
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
            url = f"{repository}/manifests/{digest or 'latest'}"
            config_digest = _config_digest(await _get(session, url, ACCEPT, digest, settings.registry))
            url = f"{repository}/blobs/{config_digest}"
            config = json.loads(await _get(session, url, "*/*", config_digest, settings.registry))
            return {**json.loads(config["config"]["Labels"][LABEL])}
    except RegistryAuthError as error:
        raise RegistryUnavailable(f"{image} cannot be read: {error}") from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise RegistryUnavailable(
            f"the registry of {repository} does not answer: {error or type(error).__name__}"
        ) from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise RegistryUnavailable(f"{image} is no base image of this operator: it lacks the label {LABEL}") from error


def _config_digest(manifest: bytes) -> str:
    """Return the digest of an image's config. Raises an error of LookupError, TypeError or ValueError."""
    found = json.loads(manifest)["config"]["digest"]
    if _DIGEST.fullmatch(found) is None:
        raise ValueError("the manifest names no digest of a config")
    return str(found)


async def is_lost(settings: Settings, image: str) -> bool:
    """Return whether the registry responds that it has no such image (`<pull address>/<repository>@<digest>`)."""
    repository, digest = _locate(settings, image)
    try:
        async with (
            _session(settings) as session,
            session.head(
                f"{repository}/manifests/{digest}", headers={"Accept": ACCEPT}, allow_redirects=False
            ) as response,
        ):
            return response.status == 404
    except (aiohttp.ClientError, TimeoutError, OSError, RegistryAuthError):
        return False


def _session(settings: Settings) -> aiohttp.ClientSession:
    auth = RegistryAuth(settings.registry.credentials, settings.registry.trusted_hosts)
    return aiohttp.ClientSession(timeout=TIMEOUT, middlewares=(auth,))


def _locate(settings: Settings, image: str) -> tuple[str, str]:
    """Return the URL of the image's repository, and its digest.

    What the nodes pull under one name, the controller reads under another.
    """
    name, _, digest = pull_reference(settings, image).partition("@")
    host, _, path = name.partition("/")
    ours = host == settings.registry.pull.partition("/")[0]
    url = settings.registry.read.rstrip("/") if ours else f"https://{host}"
    return f"{url}/v2/{path.partition(':')[0]}", digest


async def _get(session: aiohttp.ClientSession, url: str, accept: str, digest: str, registry: RegistrySettings) -> bytes:
    """Return a document of the registry. Its bytes are those of `digest`, where one is given.

    Registries redirect to the storage of their blobs. A redirect is followed without the credential.
    """
    async with session.get(url, headers={"Accept": accept}, allow_redirects=False) as response:
        if response.status in {401, 403}:
            raise RegistryUnavailable(f"{url} may not be read: set registry.readSecret to a credential that may")
        if response.status == 404:
            raise RegistryUnavailable(f"{url} does not exist: push the base images first (make install does)")
        body, location = await _read(response, url)
    for _ in range(MAX_REDIRECTS):
        if not location:
            break
        target = urljoin(url, location)
        async with (
            _storage_session(url, target, registry) as storage,
            storage.get(target, allow_redirects=False) as response,
        ):
            body, location = await _read(response, url)
    if location:
        raise RegistryUnavailable(f"{url} is redirected more than {MAX_REDIRECTS} times")
    if digest and not _has_digest(body, digest):
        raise RegistryUnavailable(f"{url} has other bytes than its digest says: the registry is not to be trusted")
    return body


def _storage_session(url: str, target: str, registry: RegistrySettings) -> aiohttp.ClientSession:
    """Return a session without credentials for the place that a registry redirects to."""
    own, parts = split_url(url), split_url(target)
    if own is None or parts is None or parts.scheme not in {"https", own.scheme}:
        raise RegistryUnavailable(f"{url} is redirected to what is no https address")
    if is_trusted(parts.hostname or "", own.hostname or "", registry.trusted_hosts):
        return aiohttp.ClientSession(timeout=TIMEOUT)
    if parts.scheme != "https" or is_address(parts.hostname or ""):
        raise RegistryUnavailable(
            f"{url} is redirected to {printable(parts.hostname or '', 200)}: if it is right, add it to "
            "registry.trustedHosts"
        )
    return aiohttp.ClientSession(timeout=TIMEOUT, connector=aiohttp.TCPConnector(resolver=GlobalResolver()))


async def _read(response: aiohttp.ClientResponse, url: str) -> tuple[bytes, str]:
    """Return the body of a response, or where it is redirected. The body is bounded before it is in memory."""
    response.raise_for_status()
    if 300 <= response.status < 400:
        return b"", response.headers.get(aiohttp.hdrs.LOCATION, "")
    body = bytearray()
    async for chunk in response.content.iter_any():  # read() may return less than there is
        body += chunk
        if len(body) > MAX_DOCUMENT_BYTES:
            raise RegistryUnavailable(f"{url} is larger than {MAX_DOCUMENT_BYTES} bytes")
    return bytes(body), ""


def _has_digest(body: bytes, digest: str) -> bool:
    """Return whether the bytes have the digest (OCI image spec: sha256 or sha512)."""
    if _DIGEST.fullmatch(digest) is None:
        return False
    algorithm, _, expected = digest.partition(":")
    return hmac.compare_digest(hashlib.new(algorithm, body).hexdigest().encode(), expected.encode())


async def _resolve(address: str) -> str:
    host = address.partition("/")[0].partition(":")[0]
    found = await asyncio.get_running_loop().getaddrinfo(host, None, family=socket.AF_INET, type=socket.SOCK_STREAM)
    return str(found[0][4][0])
