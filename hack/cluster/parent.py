"""The parent image of the project's images where no registry has one: Debian with Python, by debootstrap."""

from __future__ import annotations

import hashlib
import re
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hack.cluster import binaries, packages, records, versions
from hack.cluster.shell import ClusterError, run, step

NAME = f"localhost/python:{versions.PYTHON}"
PACKAGES = ("ca-certificates", "python3-minimal", "python3-venv")
_CACHE = binaries.CACHE / "parents"
_LABEL = "skill-operator.dev/parent"
_USELESS = (
    "var/cache/apt",
    "var/cache/debconf",
    "var/lib/apt/lists",
    "var/log",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
)
"""What of a bootstrapped Debian no image needs; dpkg and apt live without."""


def image() -> str:
    """Have it in buildah's storage; its name."""
    packages.ensure(packages.IMAGES)
    recipe = Path(__file__).read_bytes() + f"{versions.DEBIAN} {versions.PYTHON}".encode()
    key = hashlib.sha256(recipe).hexdigest()[:16]
    with records.locked(_CACHE):
        if run("buildah", "images", "--quiet", "--filter", f"label={_LABEL}={key}", check=False).strip():
            return NAME
        archive = _CACHE / f"{versions.DEBIAN}-{key}.tar"
        if not archive.exists():
            with step("Debian bootstrapped"):
                _bootstrap(archive)
        with step(f"{NAME} imported"):
            _import(archive, key)
    return NAME


def _bootstrap(archive: Path) -> None:
    with tempfile.TemporaryDirectory(dir=_CACHE, prefix="root-") as folder:
        root, draft = Path(folder) / "root", archive.with_suffix(".draft")
        run("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", versions.DEBIAN, root, mirror())
        found = run("chroot", root, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
        if found != versions.PYTHON:
            raise ClusterError(f"{versions.DEBIAN} has Python {found}, not {versions.PYTHON}")
        with tarfile.open(draft, "w") as tar:
            tar.add(root, arcname=".", filter=_useful)
        draft.rename(archive)


def _useful(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Keep the folders of what is useless, since packages count on them.

    Everything is root's and nothing is setuid, so that Kaniko can unpack it without any capability.
    """
    path = entry.name.removeprefix("./")
    inside = any(path.startswith(f"{folder}/") for folder in _USELESS)
    if inside or path.startswith(("dev/", "proc/", "sys/", "etc/apt/sources.list")):
        return None
    entry.mode &= 0o1777
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def _import(archive: Path, key: str) -> None:
    container = run("buildah", "from", "scratch").strip()
    try:
        run("buildah", "add", "--quiet", container, archive, "/")
        config = ("--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "--env", "LANG=C.UTF-8")
        run("buildah", "config", *config, "--cmd", "python3", "--label", f"{_LABEL}={key}", container)
        run("buildah", "commit", "--quiet", container, NAME)
    finally:
        run("buildah", "rm", container, check=False)


@contextmanager
def sources() -> Iterator[Path]:
    """A list for apt in an image that is being built: this machine's own archives, for the image's Debian.

    Security fixes only where the machine gets its own: a mirror may have none.
    """
    lines = [f"deb {mirror()} {versions.DEBIAN} main"]
    lines += [
        f"deb {uri} {versions.DEBIAN}-security main"
        for uri, suites in _sources()
        if any(suite.endswith("-security") for suite in suites)
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".list") as made:
        made.write("\n".join(lines) + "\n")
        made.flush()
        Path(made.name).chmod(0o644)
        yield Path(made.name)


def mirror() -> str:
    """Return the mirror from which this machine's own apt gets Debian."""
    for uri, suites in _sources():
        if uri.startswith(("http:", "https:", "file:", "copy:")) and any(
            re.fullmatch(r"[a-z]+", suite) for suite in suites
        ):
            return uri
    raise ClusterError("no Debian mirror in /etc/apt/sources.list*")


def _sources() -> Iterator[tuple[str, list[str]]]:
    """The archives in apt's two formats: one per line, and stanzas."""
    folder = Path("/etc/apt")
    for path in (folder / "sources.list", *sorted(folder.glob("sources.list.d/*.list"))):
        for line in path.read_text().splitlines() if path.exists() else ():
            if found := re.match(r"deb\s+(?:\[.*?\]\s+)?(\S+)\s+(\S+)", line.strip()):
                yield found[1], [found[2]]
    for path in sorted(folder.glob("sources.list.d/*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text()):
            fields = dict(re.findall(r"(?m)^(\w[\w-]*):[ \t]*(.*)$", stanza))
            if "deb" in fields.get("Types", "").split() and fields.get("Enabled", "yes").lower() != "no":
                for uri in fields.get("URIs", "").split():
                    yield uri, fields.get("Suites", "").split()
