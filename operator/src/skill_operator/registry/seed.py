"""Seed the embedded registry with the base images, from an OCI image layout that its init container carries.

The registry may come back empty on any node, and nobody is there to push: so whatever starts it brings what every
build needs. What is there already is left as it is, so that a start takes no time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from skill_operator.registry.references import has_host
from skill_operator.registry.storage import MAX_MANIFEST_BYTES, RegistryStorage
from skill_operator.settings import Settings

log = logging.getLogger(__name__)
CHUNK_BYTES = 1 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class SeedError(Exception):
    """SeedError says what is wrong with the layout; nothing of that image is in the registry then."""


class _Blob(NamedTuple):
    """_Blob describes a blob of an image: its digest, and its size in bytes."""

    digest: str
    size: int


def seed(settings: Settings, layout: Path, storage: RegistryStorage) -> None:
    """Put the base images of the settings into the registry's storage, which nobody else writes meanwhile.

    Base images with a host of their own are elsewhere. One that the layout does not hold is left to whoever pushes it.
    Raises SeedError and OSError.
    """
    images = (settings.images.runtime, settings.images.checker)
    current = {image.partition("@")[2] for image in images}
    for image in images:
        repository, _, digest = image.partition("@")
        if has_host(image):
            log.info("a base image is in a registry of its own", extra={"image": image})
        elif _DIGEST.fullmatch(digest) is None or not _path(layout, digest).is_file():
            log.warning("registry.bases does not hold %s: push it to the registry", image)
        else:
            name = repository.partition(":")[0]
            _seed_image(layout, storage, name, digest)
            _remove_former(storage, name, current)


def _remove_former(storage: RegistryStorage, repository: str, current: set[str]) -> None:
    """Remove the base images of former versions: what was built on them holds its layers itself.

    The latest stays, since the controller of the former version may still run beside this registry.
    """
    former = [each for each in storage.images(repository) if each.repository == repository]
    for image in [each for each in former if each.digest not in current][:-1]:
        storage.remove(image)


def _seed_image(layout: Path, storage: RegistryStorage, repository: str, digest: str) -> None:
    """Put one image in. Its manifest comes last: whoever finds it finds all of the image."""
    data = _path(layout, digest).read_bytes()
    if len(data) > MAX_MANIFEST_BYTES or f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
        raise SeedError(f"registry.bases is damaged: the manifest of {repository}@{digest} has other bytes")
    added = 0
    for blob in _blobs(data, digest):
        if not storage.has_blob(blob.digest, blob.size):
            _copy(layout, storage, blob)
            added += blob.size
        storage.link_layer(repository, blob.digest)
    if not storage.has_blob(digest, len(data)):
        storage.put_blob(digest, [data])
    storage.link_manifest(repository, digest)
    log.info("a base image is in the registry", extra={"image": f"{repository}@{digest}", "added_bytes": added})


def _blobs(manifest: bytes, digest: str) -> list[_Blob]:
    """Return the blobs that an image consists of (OCI image spec)."""
    try:
        document = json.loads(manifest)
        blobs = [_Blob(str(each["digest"]), int(each["size"])) for each in (document["config"], *document["layers"])]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise SeedError(f"registry.bases holds no image of one platform as {digest}: {error!r}") from error
    if not all(_DIGEST.fullmatch(blob.digest) for blob in blobs):
        raise SeedError(f"registry.bases holds an image with other digests than sha256: {digest}")
    return blobs


def _copy(layout: Path, storage: RegistryStorage, blob: _Blob) -> None:
    """Copy a blob, and look at its bytes on the way."""
    try:
        with _path(layout, blob.digest).open("rb") as file:
            storage.put_blob(blob.digest, _verified(file, blob.digest))
    except FileNotFoundError as error:
        raise SeedError(f"registry.bases is damaged: blob {blob.digest} is missing") from error


def _verified(file: BinaryIO, digest: str) -> Iterator[bytes]:
    """Yield the bytes of a file. Raises SeedError at their end where they have another digest."""
    found = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        found.update(chunk)
        yield chunk
    if f"sha256:{found.hexdigest()}" != digest:
        raise SeedError(f"registry.bases is damaged: blob {digest} has other bytes")


def _path(layout: Path, digest: str) -> Path:
    """Return where a blob of an OCI image layout is."""
    algorithm, _, name = digest.partition(":")
    return layout / "blobs" / algorithm / name
