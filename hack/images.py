"""Build this checkout's images: `runtime` and `checker` from base-image/, operator and egress proxy from operator/.

A fifth one, `bases`, is the operator's image and the two base images as files: the chart's registry starts with them.

    python3 -m hack.images

The cache keeps each image under a key of everything it is made from, so only a change builds it again, and the eight
of each name that were used last. The paths and
digests are written to .cluster/images.json. Docker builds them where its engine answers, otherwise buildah does.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hack.cluster import binaries, parent, records
from hack.cluster.access import Cluster
from hack.cluster.identity import CHECKOUT
from hack.cluster.packages import ensure
from hack.cluster.shell import ClusterError, run, say, step, succeeds
from hack.image_cache import prune

CACHE = binaries.CACHE / "images"
RESULT = CHECKOUT / ".cluster" / "images.json"
MANIFEST_LABEL = "skill-operator.dev/manifest"
PIP = ("PIP_CERT", "PIP_INDEX_URL")  # settings of this machine's package index, if it has any
RUNTIME_CONTEXT = "base-image"


@dataclass(frozen=True)
class ImageTarget:
    """ImageTarget is one target of the Dockerfile in the folder `context`."""

    name: str
    context: str
    target: str
    installs: bool = False
    """The build installs Debian packages, so it needs this machine's package sources."""

    def key(self, parent_image: str) -> str:
        """Equal keys are equal images."""
        digest = hashlib.sha256(f"{parent_image} {self.target} ".encode() + Path(__file__).read_bytes())
        for path in sorted((CHECKOUT / self.context).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
                digest.update(f"{path.relative_to(CHECKOUT)}\0".encode() + path.read_bytes())
        return digest.hexdigest()[:16]


IMAGES = (
    ImageTarget("runtime", RUNTIME_CONTEXT, "runtime"),
    ImageTarget("checker", RUNTIME_CONTEXT, "checker"),
    ImageTarget("operator", "operator", "operator"),
    ImageTarget("egress-proxy", "operator", "egress-proxy", installs=True),
)
BASES = "bases"
ARCHIVES = ("operator", "egress-proxy", BASES)
"""Images that are loaded onto the node as archives; the others are pushed to the registry."""
_loaded: set[str] = set()
"""Paths of the archives that this process has loaded: a node reports a new image only after a while."""


def build_all() -> dict[str, dict[str, str]]:
    """Build every image that is not in the cache; return path, name and (of base images) digest by image.

    Base images are OCI layouts, the others are archives for the node.
    """
    docker = succeeds("docker", "info")
    if not docker:
        ensure(("buildah", "skopeo"))
    base = os.environ.get("PYTHON_IMAGE") or ("docker.io/library/python:3.13-slim" if docker else parent.image())
    identity = base if docker else hashlib.sha256(Path(parent.__file__).read_bytes()).hexdigest()
    made = {}
    with records.locked(CACHE):
        for image in IMAGES:
            key = image.key(identity)
            name = f"localhost/skill-operator/{image.name}:{key}"
            path = CACHE / f"{image.name}-{key}{'.tar' if image.name in ARCHIVES else ''}"
            if not path.exists():
                with step(f"built {image.name}"):
                    _build(image, name, base, docker=docker)
                    _export(image.name, name, path, docker=docker)
            made[image.name] = {"path": str(path), "name": name}
            if image.name not in ARCHIVES:
                made[image.name]["digest"] = json.loads((path / "index.json").read_text())["manifests"][0]["digest"]
        made[BASES] = _bases(made, docker=docker)
        for deleted in prune(CACHE, (Path(image["path"]) for image in made.values())):
            succeeds(*(("docker", "rmi") if docker else ("buildah", "rmi")), f"localhost/skill-operator/{deleted}")
    return made


def _bases(made: dict[str, dict[str, str]], *, docker: bool) -> dict[str, str]:
    """Build the image that the chart's registry is seeded from, unless it is in the cache; return path and name."""
    operator, layouts = made["operator"], [Path(made[name]["path"]) for name in ("runtime", "checker")]
    identity = " ".join((operator["name"], made["runtime"]["digest"], made["checker"]["digest"]))
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    name, path = f"localhost/skill-operator/{BASES}:{key}", CACHE / f"{BASES}-{key}.tar"
    if path.exists():
        return {"path": str(path), "name": name}
    with step(f"built {BASES}"), tempfile.TemporaryDirectory(dir=CACHE) as folder:
        context = Path(folder)
        merge_layouts(layouts, context / BASES)
        (context / "Dockerfile").write_text(f"FROM {operator['name']}\nCOPY {BASES} /{BASES}\n")
        if docker:
            if not succeeds("docker", "image", "inspect", operator["name"]):  # pruned; the cache has it
                run("docker", "load", "--quiet", "--input", operator["path"])
            run("docker", "build", "--quiet", "--tag", name, context)
        else:
            if not succeeds("buildah", "inspect", "--type", "image", operator["name"]):
                run("buildah", "pull", "--quiet", f"docker-archive:{operator['path']}")
            run("buildah", "bud", "--quiet", "--layers", "--isolation", "chroot", "--tag", name, context)
        _export(BASES, name, path, docker=docker)
    return {"path": str(path), "name": name}


def merge_layouts(layouts: Iterable[Path], target: Path) -> None:
    """Write one OCI image layout with all that these hold, for any user to read. What they share is there once."""
    index: dict[str, object] = {"schemaVersion": 2}
    manifests: list[object] = []
    target.mkdir()
    (target / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    for layout in layouts:
        manifests += json.loads((layout / "index.json").read_text())["manifests"]
        for blob in layout.glob("blobs/*/*"):
            place = target / blob.relative_to(layout)
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(blob, place)
    (target / "index.json").write_text(json.dumps(index | {"manifests": manifests}))
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _build(image: ImageTarget, name: str, base: str, *, docker: bool) -> None:
    context = CHECKOUT / image.context
    options = ["--build-arg", f"PYTHON_IMAGE={base}", "--target", image.target, "--tag", name]
    options += [part for key in PIP if key in os.environ for part in ("--build-arg", f"{key}={os.environ[key]}")]
    if docker:
        run("docker", "build", "--quiet", *options, context)
    else:
        with parent.sources() as sources:
            ours = [
                "/etc/ssl/certs",
                *([f"{sources}:/etc/apt/sources.list", "/etc/apt/apt.conf.d"] if image.installs else []),
            ]
            volumes = [
                part for path in ours for part in ("--volume", f"{path if ':' in path else f'{path}:{path}'}:ro")
            ]
            run("buildah", "bud", "--quiet", "--layers", "--isolation", "chroot", *volumes, *options, context)
    if image.context == RUNTIME_CONTEXT:
        _label(name, docker=docker)


def _label(name: str, *, docker: bool) -> None:
    """Label the image with the manifest that it holds; a Dockerfile cannot compute a label."""
    if docker:
        manifest = run("docker", "run", "--rm", "--entrypoint", "cat", name, "/skill/manifest.json")
        run("docker", "build", "--quiet", "--tag", name, "--label", f"{MANIFEST_LABEL}={_compact(manifest)}", "-",
            stdin=f"FROM {name}\n")  # fmt: skip
        return
    container = run("buildah", "from", name).strip()
    try:
        root = Path(run("buildah", "mount", container).strip())
        manifest = (root / "skill" / "manifest.json").read_text()
        run("buildah", "config", "--label", f"{MANIFEST_LABEL}={_compact(manifest)}", container)
        run("buildah", "commit", "--quiet", container, name)
    finally:
        run("buildah", "rm", container, check=False)


def _compact(manifest: str) -> str:
    return json.dumps(json.loads(manifest), separators=(",", ":"), sort_keys=True)


def _export(which: str, name: str, path: Path, *, docker: bool) -> None:
    """Export an image for the cluster.

    Base images are compressed with zstd: every build reads all of them, and gunzip would take most of its time.
    """
    draft = path.with_name(f"{path.name}.draft")
    run("rm", "-rf", draft)
    if which in ARCHIVES:
        if docker:
            run("docker", "save", "--output", draft, name)
        else:
            run("buildah", "push", "--quiet", name, f"docker-archive:{draft}:{name}")
    elif docker:
        run("skopeo", "copy", "--quiet", "--dest-compress-format=zstd", f"docker-daemon:{name}", f"oci:{draft}:latest")
    else:
        run("buildah", "push", "--quiet", "--compression-format=zstd", name, f"oci:{draft}:latest")
    draft.rename(path)


def built() -> dict[str, dict[str, str]]:
    """Return what `python3 -m hack.images` has built last: path, name and digest by image."""
    found: dict[str, dict[str, str]] = json.loads(RESULT.read_text())
    return found


def load(cluster: Cluster, which: str) -> str:
    """Load an archive onto the cluster's node unless it is there already; return the image's name."""
    image = built()[which]
    present = cluster.kubectl("get", "nodes", "-o", "jsonpath={.items[0].status.images[*].names}")
    if image["name"] not in present and image["path"] not in _loaded:
        with step(f"loaded the image {which}"):
            cluster.load(Path(image["path"]))
        _loaded.add(image["path"])
    return image["name"]


def main() -> int:
    """Build the images and write down where they are."""
    try:
        made = build_all()
    except ClusterError as error:
        say(f"error: {error}")
        return 1
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(made, indent=1) + "\n")
    say(f"images: {RESULT.relative_to(CHECKOUT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
