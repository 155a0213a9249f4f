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
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
ACCEPT = ", ".join((*_MANIFESTS, *_INDEXES))  # an index, too: some registries say of one that they have no such image
MAX_NAMED_PLATFORMS = 8


class RegistryUnavailable(Exception):
    """RegistryUnavailable says that no base image can be read; it is tried again. This class itself: no answer came.

    `lasting` is True where only a person can help, so that there is no hurry.
    """

    reason = "RegistryUnavailable"
    lasting = False


class RegistryStarting(RegistryUnavailable):
    """RegistryStarting says that the registry of the installation has not answered yet, which takes a while."""

    reason = "RegistryStarting"


class RegistryAccessDenied(RegistryUnavailable):
    """RegistryAccessDenied says that the controller may not read the registry."""

    lasting = True


class BaseImageMissing(RegistryUnavailable):
    """BaseImageMissing says that the registry answers and has no such image."""


class BaseImageInvalid(RegistryUnavailable):
    """BaseImageInvalid says that skills cannot be built on what the chart's values name."""

    reason = "BaseImageInvalid"
    lasting = True


class BaseImagesDiffer(RegistryUnavailable):
    """BaseImagesDiffer says that a skill would be checked in one image and run on another."""

    reason = "BaseImagesDiffer"
    lasting = True


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


async def check_base(settings: Settings) -> None:
    """Ask whether the registry still answers and has both base images: a request each, and none for their content.

    Raises RegistryUnavailable.
    """
    for image in (settings.images.runtime, settings.images.checker):
        repository, _ = _locate(settings, image)
        try:
            status = await _head(settings, image)
        except RegistryAuthError as error:
            raise RegistryAccessDenied(f"{image} cannot be read: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _no_answer(repository, error) from error
        _raise_for_status(status, repository, f"{repository}: {image}")
        if status >= 400:
            raise RegistryUnavailable(f"the registry of {repository} does not answer: HTTP {status}")


async def _read_label(settings: Settings, image: str) -> dict[str, Any]:
    repository, digest = _locate(settings, image)
    try:
        async with _session(settings) as session:
            url = f"{repository}/manifests/{digest or 'latest'}"
            manifest = json.loads(await get_document(session, url, ACCEPT, digest, settings.registry))
            config_digest = _config_digest(manifest, image)
            url = f"{repository}/blobs/{config_digest}"
            config = json.loads(await get_document(session, url, "*/*", config_digest, settings.registry))
            return {**json.loads(config["config"]["Labels"][LABEL])}
    except RegistryAuthError as error:
        raise RegistryAccessDenied(f"{image} cannot be read: {error}") from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise _no_answer(repository, error) from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise BaseImageInvalid(f"{image} is no base image of this operator: it lacks the label {LABEL}") from error


def _no_answer(repository: str, error: Exception) -> RegistryUnavailable:
    return RegistryUnavailable(f"the registry of {repository} does not answer: {error or type(error).__name__}")


def _raise_for_status(status: int, url: str, missing: str) -> None:
    """Raise the refusal that a status means; `missing` names what 404 says does not exist."""
    if status in {401, 403}:
        raise RegistryAccessDenied(f"{url} may not be read: set registry.readSecret to a credential that may")
    if status == 404:
        raise BaseImageMissing(
            f"{missing} does not exist: the chart's registry gets the base images from registry.bases at its start "
            "(see make install), another registry by make publish"
        )


def _config_digest(manifest: Any, image: str) -> str:
    """Return the digest of an image's config. Raises BaseImageInvalid, LookupError, TypeError or ValueError."""
    match manifest:
        case {"manifests": [*platforms]} if "config" not in manifest:
            raise BaseImageInvalid(_describe_index(platforms, image))
    found = manifest["config"]["digest"]
    if _DIGEST.fullmatch(found) is None:
        raise ValueError("the manifest names no digest of a config")
    return str(found)


def _describe_index(manifests: list[Any], image: str) -> str:
    """Return that an image is an index of several (OCI image spec), and which ones it could name instead.

    A skill's image is built for one platform, so nobody but a person can choose.
    """
    platforms = []
    for each in manifests:
        match each:
            case {"digest": str(digest), "platform": {"os": str(system), "architecture": str(machine)}} if (
                _DIGEST.fullmatch(digest) and system != "unknown"
            ):
                platforms.append(f"{digest} for {printable(f'{system}/{machine}', 60)}")
    listed = ", ".join(platforms[:MAX_NAMED_PLATFORMS]) or "it names none"
    return (
        f"{image} is an index of images for several platforms, and skills are built for one: give images.runtime and "
        f"images.checker the digest of one platform's image ({listed})"
    )


async def is_stored(settings: Settings, image: str) -> bool | None:
    """Return whether the registry has the image (`<pull address>/<repository>@<digest>`), or None without an answer."""
    try:
        status = await _head(settings, image)
    except (aiohttp.ClientError, TimeoutError, OSError, RegistryAuthError):
        return None
    return {200: True, 404: False}.get(status)


async def _head(settings: Settings, image: str) -> int:
    """Return the status by which the registry responds to a request for an image's manifest."""
    repository, digest = _locate(settings, image)
    url = f"{repository}/manifests/{digest or 'latest'}"
    async with (
        _session(settings) as session,
        session.head(url, headers={"Accept": ACCEPT}, allow_redirects=False) as response,
    ):
        return response.status


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


async def get_document(
    session: aiohttp.ClientSession, url: str, accept: str, digest: str, registry: RegistrySettings
) -> bytes:
    """Return a document of the registry. Its bytes are those of `digest`, where one is given.

    Registries redirect to the storage of their blobs. A redirect is followed without the credential.
    """
    async with session.get(url, headers={"Accept": accept}, allow_redirects=False) as response:
        _raise_for_status(response.status, url, url)
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
