"""Normalize the image of a build: equal code becomes an equal layer, whenever and wherever it is built.

Kaniko writes into its layer when each entry was made, changed and read. Its flag against that, `--reproducible`, takes
the layers of the base apart, too. So the last container of a build reads the layer of the code, writes its entries
without times, and pushes the image anew. The layers of the base stay as they are.

`python3 -m skill_operator.registry.normalizer HOST/REPOSITORY:TAG FILE CREDENTIALS [insecure]` reads from FILE which
digest Kaniko pushed, and ends with the digest of the normalized image as the container's termination message.
CREDENTIALS is a file (dockerconfigjson); empty: anonymous.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import io
import json
import sys
import tarfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urljoin

import aiohttp
from aiohttp import hdrs
from yarl import URL

from skill_operator.registry.auth import RegistryAuth, RegistryAuthError
from skill_operator.registry.client import ACCEPT, TIMEOUT, RegistryAccessDenied, RegistryUnavailable, get_document
from skill_operator.registry.hosts import split_url
from skill_operator.settings import RegistrySettings

MAX_LAYER_BYTES = 16 * 1024 * 1024
"""Bound of a layer without compression. The code of a skill is far smaller."""
EPOCH = "1970-01-01T00:00:00Z"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_TIMES = frozenset({"mtime", "atime", "ctime"})
"""PAX records that hold times (POSIX pax format)."""
_TERMINATION_MESSAGE = Path("/dev/termination-log")
_SETTING = "registry.pushSecret"


class NormalizeError(Exception):
    """NormalizeError says why an image cannot be normalized."""


class NormalizedImage(NamedTuple):
    """NormalizedImage holds the documents of an image that a registry does not have yet, as bytes."""

    manifest: bytes
    media_type: str
    config: bytes
    layer: bytes


def strip_times(tar: bytes) -> bytes:
    """Return a tar with the same entries, all from the beginning of time. Raises NormalizeError for what is no tar."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as target:
        try:
            with tarfile.open(fileobj=io.BytesIO(tar)) as source:
                for entry in source:
                    entry.mtime = 0
                    entry.pax_headers = {key: value for key, value in entry.pax_headers.items() if key not in _TIMES}
                    target.addfile(entry, source.extractfile(entry) if entry.isreg() else None)
        except tarfile.TarError as error:
            raise NormalizeError(f"its last layer is no tar: {error}") from error
    return made.getvalue()


def normalize(manifest: bytes, config: bytes, layer: bytes) -> NormalizedImage:
    """Return the image with its last layer normalized. Raises NormalizeError for what is no image."""
    try:
        described, document = json.loads(manifest), json.loads(config)
        unpacked = unpack(layer)
        if document["rootfs"]["diff_ids"][-1] != _digest(unpacked):
            raise NormalizeError("its config describes another layer")
        tar = strip_times(unpacked)
        packed = gzip.compress(tar, mtime=0)
        document["rootfs"]["diff_ids"][-1] = _digest(tar)
        document["created"] = document["history"][-1]["created"] = EPOCH
        written = _canonical(document)
        described["layers"][-1] |= {"digest": _digest(packed), "size": len(packed)}
        described["config"] |= {"digest": _digest(written), "size": len(written)}
        return NormalizedImage(_canonical(described), str(described.get("mediaType", _MANIFEST_TYPE)), written, packed)
    except (ValueError, LookupError, TypeError) as error:
        raise NormalizeError(f"it is no image of the OCI image spec: {error!r}") from error


def unpack(layer: bytes) -> bytes:
    """Return the tar of a gzipped layer. Raises NormalizeError for another layer, or more than MAX_LAYER_BYTES."""
    try:
        with gzip.open(io.BytesIO(layer)) as stream:
            data = stream.read(MAX_LAYER_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise NormalizeError(f"its last layer is not gzipped: {error}") from error
    if len(data) > MAX_LAYER_BYTES:
        raise NormalizeError(f"its last layer has more than {MAX_LAYER_BYTES} bytes")
    return data


def _canonical(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Repository:
    """Repository is the place of a Skill's images in a registry, over HTTP (OCI distribution spec)."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        """`url` ends with the repository's name: `https://registry.example/v2/team/skills`."""
        self._session = session
        self._url = url

    async def read(self, digest: str) -> tuple[bytes, bytes, bytes]:
        """Return manifest, config and last layer of an image. Raises RegistryUnavailable and NormalizeError."""
        manifest = await self._get(f"manifests/{digest}", digest)
        try:
            described = json.loads(manifest)
            config, layer = str(described["config"]["digest"]), str(described["layers"][-1]["digest"])
        except (ValueError, LookupError, TypeError) as error:
            raise NormalizeError(f"it is no image of one platform: {error!r}") from error
        return manifest, await self._get(f"blobs/{config}", config), await self._get(f"blobs/{layer}", layer)

    async def push(self, image: NormalizedImage, tag: str) -> str:
        """Push the image under the tag, and return its digest. Raises NormalizeError."""
        for blob in (image.layer, image.config):
            await self._put_blob(blob)
        headers = {hdrs.CONTENT_TYPE: image.media_type}
        url = f"{self._url}/manifests/{tag}"
        async with self._session.put(url, data=image.manifest, headers=headers, allow_redirects=False) as response:
            await _expect(response, 201)
        return _digest(image.manifest)

    async def delete(self, digest: str) -> None:
        """Delete an image, where the registry and the credential allow that."""
        async with self._session.delete(f"{self._url}/manifests/{digest}", allow_redirects=False):
            pass

    async def _get(self, path: str, digest: str) -> bytes:
        return await get_document(self._session, f"{self._url}/{path}", ACCEPT, digest, RegistrySettings())

    async def _put_blob(self, blob: bytes) -> None:
        digest = _digest(blob)
        async with self._session.head(f"{self._url}/blobs/{digest}", allow_redirects=False) as response:
            if response.status == 200 or 300 <= response.status < 400:  # storage that has it
                return
        async with self._session.post(f"{self._url}/blobs/uploads/", allow_redirects=False) as response:
            await _expect(response, 202)
            place = urljoin(self._url, response.headers.get(hdrs.LOCATION, ""))
        own, there = split_url(self._url), split_url(place)
        if own is None or there is None or there[:2] != own[:2]:  # scheme and authority: the credential goes there
            raise NormalizeError("the registry takes uploads on another host")
        target = URL(f"{place}{'&' if '?' in place else '?'}digest={digest}", encoded=True)
        headers = {hdrs.CONTENT_TYPE: "application/octet-stream"}
        async with self._session.put(target, data=blob, headers=headers, allow_redirects=False) as response:
            await _expect(response, 201)


async def _expect(response: aiohttp.ClientResponse, status: int) -> None:
    """Raise NormalizeError unless the response has the status."""
    if response.status in {401, 403}:
        raise NormalizeError(f"the credential of {_SETTING} may not push to {response.url.path}")
    if response.status != status:
        body = (await response.content.read(400)).decode("utf-8", "replace")
        raise NormalizeError(f"{response.method} {response.url.path}: HTTP {response.status}: {body}")


async def find_scheme(session: aiohttp.ClientSession, host: str, *, insecure: bool) -> str:
    """Return the scheme to use, as Kaniko decides it: HTTP where that is allowed and the host speaks no TLS."""
    if not insecure:
        return "https"
    try:
        async with session.get(f"https://{host}/v2/", allow_redirects=False):
            return "https"
    except (aiohttp.ClientError, OSError):
        return "http"


async def push_normalized(reference: str, digest: str, credentials: str, *, insecure: bool) -> str:
    """Read the image of that digest, push it normalized as `HOST/REPOSITORY:TAG`, and return its digest.

    Raises NormalizeError.
    """
    name, _, tag = reference.rpartition(":")
    host, _, repository = name.partition("/")
    auth = RegistryAuth(credentials, setting=_SETTING)
    try:
        async with aiohttp.ClientSession(timeout=TIMEOUT, middlewares=(auth,)) as session:
            scheme = await find_scheme(session, host, insecure=insecure)
            place = Repository(session, f"{scheme}://{host}/v2/{repository}")
            made = await place.push(normalize(*await place.read(digest)), tag)
            with contextlib.suppress(aiohttp.ClientError, OSError, RegistryAuthError):
                await place.delete(digest)  # nobody runs it
            return made
    except RegistryAccessDenied as error:
        raise NormalizeError(f"the credential of {_SETTING} may not read {repository}") from error
    except (RegistryUnavailable, RegistryAuthError) as error:
        raise NormalizeError(str(error)) from error
    except (aiohttp.ClientError, OSError) as error:
        raise NormalizeError(f"{host} does not answer: {error or type(error).__name__}") from error


def main(reference: str, file: str, credentials: str, *options: str) -> None:
    """Normalize the image whose digest is in the file. Ends with a message where that does not work."""
    digest = Path(file).read_text(encoding="ascii").strip()
    try:
        made = asyncio.run(push_normalized(reference, digest, credentials, insecure="insecure" in options))
    except NormalizeError as error:
        sys.exit(f"{reference}: its layer cannot be written without times: {error}")
    _TERMINATION_MESSAGE.write_text(made, encoding="ascii")


if __name__ == "__main__":
    main(*sys.argv[1:])
