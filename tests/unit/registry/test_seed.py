"""The registry's storage after its init container: whole images, or none."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from skill_operator.registry.seed import SeedError, seed
from skill_operator.registry.storage import RegistryStorage
from skill_operator.settings import ImageSettings, Settings

SHARED = b"python" * 1000
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Layout:
    """An OCI image layout of runtime and checker, which share a layer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runtime = self.image(SHARED)
        self.checker = self.image(SHARED, b"ruff" * 1000)

    def blob(self, data: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.path(digest).parent.mkdir(parents=True, exist_ok=True)
        self.path(digest).write_bytes(data)
        return {"mediaType": "application/octet-stream", "digest": digest, "size": len(data)}

    def image(self, *layers: bytes, **more: Any) -> str:
        config = self.blob(json.dumps({"layers": len(layers)}).encode())
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [*map(self.blob, layers)]}
        return str(self.blob(json.dumps(document | more).encode())["digest"])

    def path(self, digest: str) -> Path:
        return self.folder / "blobs" / digest.replace(":", "/")

    def settings(self, runtime: str = "", checker: str = "") -> Settings:
        runtime = runtime or f"skill-operator/runtime@{self.runtime}"
        checker = checker or f"skill-operator/checker@{self.checker}"
        return Settings(images=ImageSettings(runtime=runtime, checker=checker, builder="b", operator="o"))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "bases")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "registry"


def start(layout: Layout, root: Path, settings: Settings | None = None) -> None:
    seed(settings or layout.settings(), layout.folder, RegistryStorage(root, 600))


def files(root: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file()
    }


def test_both_images_are_there_and_stay_through_a_sweep(layout: Layout, root: Path) -> None:
    start(layout, root)
    before = files(root)
    blobs = {path for path in before if "/blobs/" in path}
    assert len(blobs) == 6, "two manifests, two configs, and a layer that they share beside another"
    for path in blobs:
        assert hashlib.sha256(before[path][0]).hexdigest() == path.split("/")[-2]
    assert RegistryStorage(root, grace=0, settle=0).collect() == 0
    assert files(root) == before


def test_what_is_there_is_not_written_again(layout: Layout, root: Path) -> None:
    start(layout, root)
    before = files(root)
    start(layout, root)
    assert files(root) == before, "no byte and no time"


@pytest.mark.parametrize("kind", ["data", "link"])
def test_what_was_lost_or_cut_short_is_brought_back(layout: Layout, root: Path, kind: str) -> None:
    start(layout, root)
    whole = {path: data for path, (data, _) in files(root).items()}
    for path in [path for path in whole if path.endswith(kind)]:
        for harm in (lambda file: file.unlink(), lambda file: file.write_bytes(file.read_bytes()[:3])):
            harm(root / path)
            start(layout, root)
            assert {name: data for name, (data, _) in files(root).items()} == whole, path


@pytest.mark.parametrize("harm", ["missing", "other bytes"])
@pytest.mark.parametrize("which", ["manifest", "config", "layer"])
def test_a_damaged_layout_is_told_and_its_image_is_not_there(layout: Layout, root: Path, which: str, harm: str) -> None:
    manifest = json.loads(layout.path(layout.runtime).read_bytes())
    digests = {"manifest": layout.runtime, "config": manifest["config"]["digest"]}
    bad = layout.path(digests.get(which, manifest["layers"][0]["digest"]))
    if (which, harm) == ("manifest", "missing"):
        return  # then it is simply not in it: see below
    bad.unlink() if harm == "missing" else bad.write_bytes(bad.read_bytes() + b" ")
    with pytest.raises(SeedError, match=r"registry\.bases is damaged"):
        start(layout, root)
    assert not [path for path in files(root) if "_manifests" in path], "nobody can pull half an image"


@pytest.mark.parametrize(
    "more",
    [
        {"layers": None},
        {"layers": [7]},
        {"layers": [{"digest": "sha256:../../../../etc/passwd", "size": 1}]},
        {"config": {}},
    ],
    ids=range(4),
)
def test_what_is_no_image_is_told(layout: Layout, root: Path, more: Any) -> None:
    odd = layout.image(SHARED, **more)
    with pytest.raises(SeedError, match=r"registry\.bases holds"):
        start(layout, root, layout.settings(runtime=f"skill-operator/runtime@{odd}"))
    assert not [path for path in files(root) if "_manifests" in path]


@pytest.mark.parametrize(
    ("runtime", "told"),
    [
        (f"skill-operator/runtime@sha256:{'0' * 64}", "push it to the registry"),
        ("skill-operator/runtime", "push it to the registry"),
        (f"registry.example/team/runtime@sha256:{'0' * 64}", "registry of its own"),
    ],
)
def test_an_image_that_the_layout_lacks_keeps_nobody_from_starting(
    layout: Layout, root: Path, runtime: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    start(layout, root, layout.settings(runtime=runtime))
    assert told in caplog.text
    assert [path for path in files(root) if "/checker/_manifests/" in path]
    assert not [path for path in files(root) if "/runtime/" in path]


def revisions(root: Path, repository: str) -> set[str]:
    folder = root / "docker/registry/v2/repositories" / repository / "_manifests/revisions/sha256"
    return {f"sha256:{path.parent.name}" for path in folder.glob("*/link")}


def test_of_former_versions_the_latest_stays(layout: Layout, root: Path) -> None:
    """A claim that lives for years would else be full of them, and the former controller still looks for its own."""
    start(layout, root)
    built = layout.image(SHARED, b"skill.py")
    start(layout, root, layout.settings(checker=f"skills/team/runtime@{built}"))  # as a build does it
    versions = [layout.runtime, *(layout.image(SHARED, b"version %d" % number) for number in range(3))]
    for number, version in enumerate(versions):
        seed(
            layout.settings(runtime=f"skill-operator/runtime@{version}"),
            layout.folder,
            RegistryStorage(root, grace=0, settle=0),
        )
        assert revisions(root, "skill-operator/runtime") == set(versions[max(0, number - 1) : number + 1])
        link = root / "docker/registry/v2/repositories/skill-operator/runtime/_manifests/revisions"
        os.utime(link / version.replace(":", "/") / "link", (number, number))
    assert revisions(root, "skill-operator/checker") == {layout.checker}
    assert revisions(root, "skills/team/runtime") == {built}
    RegistryStorage(root, grace=0, settle=0).collect()
    assert hashlib.sha256(SHARED).hexdigest() in {path.parent.name for path in root.rglob("blobs/sha256/*/*/data")}
    start(layout, root)
    assert layout.runtime in revisions(root, "skill-operator/runtime"), "a rollback brings it back"


def test_what_is_young_stays(layout: Layout, root: Path) -> None:
    for content in (b"one", b"two", b"three"):
        start(layout, root, layout.settings(runtime=f"skill-operator/runtime@{layout.image(content)}"))
    assert len(revisions(root, "skill-operator/runtime")) == 3, "a build may still use it"


def test_two_base_images_of_one_repository_stay_both(layout: Layout, root: Path) -> None:
    settings = layout.settings(runtime=f"bases@{layout.runtime}", checker=f"bases@{layout.checker}")
    for _ in range(2):
        seed(settings, layout.folder, RegistryStorage(root, grace=0, settle=0))
        assert revisions(root, "bases") == {layout.runtime, layout.checker}
