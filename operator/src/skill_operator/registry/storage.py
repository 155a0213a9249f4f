"""List, add and remove images on the embedded registry's disk.

The layout is that of CNCF distribution. Images are added before the registry starts, and removed while it runs. Its own
`garbage-collect` wants it stopped or read-only; this does not, because it leaves alone whatever is younger than
`grace`, removes the link to a blob before the blob, and puts a link or a blob back if somebody needs it meanwhile.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
SETTLE_SECONDS = 2.0  # between moving a blob to the trash and the last check whether somebody linked it


@dataclass(frozen=True)
class StoredImage:
    """StoredImage is a manifest in a repository."""

    repository: str
    digest: str


class RegistryStorage:
    """RegistryStorage leaves alone whatever was written less than `grace` seconds ago."""

    def __init__(
        self, root: Path, grace: float, settle: float = SETTLE_SECONDS, clock: Callable[[], float] = time.time
    ) -> None:
        self._repositories = root / "docker/registry/v2/repositories"
        self._blobs = root / "docker/registry/v2/blobs/sha256"
        self._trash = root / "trash"
        self._grace = grace
        self._settle = settle
        self._clock = clock

    def has_blob(self, digest: str, size: int) -> bool:
        """Return whether there is a blob of this digest and of so many bytes."""
        try:
            return self._blob(digest).stat().st_size == size
        except FileNotFoundError:
            return False

    def put_blob(self, digest: str, chunks: Iterable[bytes]) -> None:
        """Write a blob: as a whole or not at all, also when the node fails. Nobody can read it before it is linked."""
        place = self._blob(digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_name("data.draft")
        with draft.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(place)

    def link_layer(self, repository: str, digest: str) -> None:
        """Let a blob be read in a repository."""
        _link(self._repositories / repository / "_layers", digest)

    def link_manifest(self, repository: str, digest: str) -> None:
        """Let an image be read in a repository by its digest."""
        _link(self._repositories / repository / "_manifests/revisions", digest)

    def _blob(self, digest: str) -> Path:
        name = digest.removeprefix("sha256:")
        return self._blobs / name[:2] / name / "data"

    def images(self, prefix: str) -> list[StoredImage]:
        """Return the images below `prefix` that are older than the grace period, the oldest first."""
        found = [
            (self._age_seconds(link), StoredImage(name, f"sha256:{link.parent.name}"))
            for name, repository in self._iterate_repositories()
            if name.startswith(prefix)
            for link in repository.glob("_manifests/revisions/sha256/*/link")
        ]
        found.sort(key=lambda each: each[0], reverse=True)
        return [image for seconds, image in found if seconds >= self._grace]

    def remove(self, image: StoredImage) -> None:
        """Remove the links of an image, so that nobody can pull it, unless it was pushed anew meanwhile.

        The next `collect` frees its bytes.
        """
        repository = self._repositories / image.repository
        algorithm, _, name = image.digest.partition(":")
        revision = repository / "_manifests/revisions" / algorithm / name
        if not self._is_old(revision / "link"):
            return
        for tag in repository.glob("_manifests/tags/*"):
            if _text(tag / "current/link") == image.digest:
                shutil.rmtree(tag, ignore_errors=True)
            shutil.rmtree(tag / "index" / algorithm / name, ignore_errors=True)
        shutil.rmtree(revision, ignore_errors=True)

    def collect(self) -> int:
        """Delete the blobs that no manifest needs, and empty repositories; return how many bytes that frees."""
        removed_links = self._remove_unneeded_links()
        linked = self._find_linked()
        unlinked = [blob for blob in self._blobs.glob("*/*") if blob.name not in linked and self._is_old(blob / "data")]
        self._trash.mkdir(exist_ok=True)
        for blob in unlinked:
            blob.rename(self._trash / blob.name)
        if removed_links or any(self._trash.iterdir()):
            self.pause()
        self._restore_needed_links(removed_links)
        freed = self._empty_trash(self._find_linked())
        self._remove_empty_repositories()
        return freed

    def pause(self) -> None:
        """Wait so long that whoever found a blob, or a link to it, just before that went has linked what needs it."""
        time.sleep(self._settle)

    def _empty_trash(self, wanted: set[str]) -> int:
        freed = 0
        for blob in self._trash.iterdir():
            place = self._blobs / blob.name[:2] / blob.name
            if blob.name in wanted and not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                blob.rename(place)
                continue
            freed += sum(file.stat().st_size for file in blob.rglob("*") if file.is_file())
            shutil.rmtree(blob)
        return freed

    def _find_linked(self) -> set[str]:
        """Return the hex digests that a manifest needs or a repository offers."""
        found: set[str] = set()
        for _, repository in self._iterate_repositories():
            found |= self._find_needed(repository)
            found |= {link.parent.name for link in repository.glob("_layers/sha256/*/link")}
        return found

    def _remove_unneeded_links(self) -> list[Path]:
        """Remove the links to layers that no manifest of their repository needs, and return them."""
        removed: list[Path] = []
        for _, repository in self._iterate_repositories():
            needed = self._find_needed(repository)
            for link in list(repository.glob("_layers/sha256/*/link")):
                if link.parent.name not in needed and self._is_old(link):
                    shutil.rmtree(link.parent, ignore_errors=True)
                    removed.append(link)
        return removed

    def _restore_needed_links(self, removed: list[Path]) -> None:
        """Write the links anew that are needed by now.

        A registry that has just found a layer of an image takes its manifest. Without the link, nobody could pull it.
        """
        repositories = {link.parents[3] for link in removed}
        needed = {repository: self._find_needed(repository) for repository in repositories}
        for link in removed:
            if link.parent.name in needed[link.parents[3]]:
                _link(link.parents[2], f"sha256:{link.parent.name}")

    def _remove_empty_repositories(self) -> None:
        """Delete the repositories that have neither images nor layers of any. Nothing can be pushed by a link there."""
        for _, repository in list(self._iterate_repositories()):
            files = [path for path in repository.rglob("*") if path.is_file()]
            linked = any(repository.glob("_manifests/revisions/*/*")) or any(repository.glob("_layers/*/*"))
            if not linked and all(map(self._is_old, files)):
                shutil.rmtree(repository, ignore_errors=True)
                with suppress(OSError):  # it has other repositories
                    repository.parent.rmdir()

    def _find_needed(self, repository: Path) -> set[str]:
        """Return the hex digests that the manifests of a repository need.

        Raises ValueError for a manifest that cannot be read: then nothing is deleted.
        """
        needed = set()
        for revision in repository.glob("_manifests/revisions/sha256/*"):
            needed.add(revision.name)
            places = (self._blobs / revision.name[:2], self._trash)  # a manifest may be linked again while it is there
            data = next((data for place in places if (data := place / revision.name / "data").exists()), None)
            if data is None:
                log.warning(
                    "a manifest is missing on disk", extra={"repository": str(repository), "digest": revision.name}
                )
                continue
            if data.stat().st_size > MAX_MANIFEST_BYTES:
                raise ValueError(f"the manifest {revision.name} is larger than {MAX_MANIFEST_BYTES} bytes")
            needed |= {digest.removeprefix("sha256:") for digest in references(data.read_bytes())}
        return needed

    def _iterate_repositories(self) -> Iterator[tuple[str, Path]]:
        for path in sorted(self._repositories.rglob("_manifests")):
            yield str(path.parent.relative_to(self._repositories)), path.parent

    def _is_old(self, path: Path) -> bool:
        return self._age_seconds(path) >= self._grace

    def _age_seconds(self, path: Path) -> float:
        """Return how long ago the file was written. One that has just gone is younger than any."""
        with suppress(FileNotFoundError):
            return self._clock() - path.stat().st_mtime
        return float("-inf")


def references(manifest: bytes) -> set[str]:
    """Return the digests that a manifest or an index needs (OCI image spec)."""
    try:
        body = json.loads(manifest)
        listed = [*body.get("layers", []), *body.get("manifests", [])]
        listed += [body[key] for key in ("config", "subject") if key in body]
        return {str(each["digest"]) for each in listed}
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"this is no OCI manifest: {error}") from error


def _link(folder: Path, digest: str) -> None:
    link = folder / digest.replace(":", "/") / "link"
    if _text(link) != digest:
        link.parent.mkdir(parents=True, exist_ok=True)
        draft = link.with_name("link.draft")
        draft.write_text(digest, encoding="ascii")
        draft.replace(link)


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="ascii", errors="replace").strip()
    return ""
