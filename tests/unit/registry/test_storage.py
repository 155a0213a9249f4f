"""The registry's disk while somebody pushes: what was found unneeded, and is needed before it is gone."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from skill_operator.registry.storage import RegistryStorage

GRACE_SECONDS = 600.0
NOW = 1_000_000.0
REPOSITORY = "skills/team/echo"
LAYER = b"base"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


MANIFEST = json.dumps({"layers": [{"digest": digest_of(LAYER)}]}).encode()


class Disk(RegistryStorage):
    """The disk of a registry by a clock that stands. All on it is old, until it is written anew."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, GRACE_SECONDS, settle=0, clock=lambda: NOW)
        self.repository = root / "docker/registry/v2/repositories" / REPOSITORY
        self.revision = self.repository / "_manifests/revisions" / digest_of(MANIFEST).replace(":", "/") / "link"
        self.layer = self.repository / "_layers" / digest_of(LAYER).replace(":", "/") / "link"
        for content in (MANIFEST, LAYER):
            self.put_blob(digest_of(content), [content])
        self.link_layer(REPOSITORY, digest_of(LAYER))
        self.push_manifest()
        for path in root.rglob("*"):
            os.utime(path, (NOW - GRACE_SECONDS, NOW - GRACE_SECONDS))

    def push_manifest(self) -> None:
        """Write the link as the registry does for each push: also where it is there."""
        self.revision.parent.mkdir(parents=True, exist_ok=True)
        self.revision.write_text(digest_of(MANIFEST))
        os.utime(self.revision, (NOW, NOW))


def test_an_image_that_is_pushed_anew_before_it_is_removed_stays(tmp_path: Path) -> None:
    """The Skills are listed in between, and a thousand other images may go first."""
    disk = Disk(tmp_path)
    (image,) = disk.images("skills/")
    disk.push_manifest()
    disk.remove(image)
    assert disk.revision.exists()


def test_an_image_whose_layers_lose_their_links_while_it_is_pushed_can_be_pulled(tmp_path: Path) -> None:
    """The registry finds the layers of a manifest, and the manifest, then links it: before, nothing told of the need."""

    class Pushing(Disk):
        def pause(self) -> None:
            assert not self.layer.exists()
            self.push_manifest()

    disk = Pushing(tmp_path)
    disk.remove(disk.images("skills/")[0])
    disk.collect()
    assert disk.layer.read_text() == digest_of(LAYER)
    assert disk.has_blob(digest_of(LAYER), len(LAYER))


def test_a_repository_of_which_nothing_is_left_is_deleted(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.remove(disk.images("skills/")[0])
    assert disk.layer.exists(), "as long as somebody may have found it there"
    assert disk.collect() == len(MANIFEST) + len(LAYER)
    assert not disk.repository.parent.exists()
