"""Build kubectl-skill: one file for Python 3.10 to 3.14 on Linux and macOS, and its manifest for krew.

python -m hack.cli [--url URL]

A zipapp of shiv holds the plugin, the modules of the operator and of the runtime that it uses, and its libraries as
`cli/requirements.txt` locks them. Libraries of compiled code lie in one folder for each system and processor; there the
file of each version of Python has a name of its own. The same checkout gives the same bytes.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from string import Template

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "cli" / "requirements.txt"
MANIFEST = ROOT / "cli" / "krew.yaml"
DIST = ROOT / "dist"
WORK = ROOT / "build" / "cli"
NAME = "kubectl-skill"
COMPLETION = "kubectl_complete-skill"
URL = "https://example.com/skill-operator/releases/download"
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
EPOCH_SECONDS = 1_577_836_800  # 2020-01-01, where SOURCE_DATE_EPOCH says no other time (reproducible-builds.org)
# As Python names the machine (`sys.platform`, `os.uname().machine`), and the tags of wheels that run there (PEP 600).
MACHINES = {
    "linux-x86_64": ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
    "linux-aarch64": ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"),
    "darwin-x86_64": ("macosx_11_0_x86_64",),
    "darwin-arm64": ("macosx_11_0_arm64",),
}
WITHOUT_EXTENSION = ("pyyaml-",)  # which work without their compiled part
PLUGIN = ROOT / "cli" / "src" / "kubectl_skill"
RUNTIME = ROOT / "base-image" / "src" / "skill_runtime"  # whose gates `check` runs on this machine
OPERATOR = ROOT / "operator" / "src"


def operator_modules() -> list[Path]:
    """Return the files of the operator that the plugin imports, and those that they import."""
    found: set[Path] = set()
    waiting = sorted(PLUGIN.rglob("*.py"))
    while waiting:
        for module in _imports(waiting.pop()):
            for path in (OPERATOR / module / "__init__.py", (OPERATOR / module).with_suffix(".py")):
                if path.is_file() and path not in found:
                    found.add(path)
                    waiting.append(path)
    return sorted(found)


def _imports(path: Path) -> Iterator[str]:
    """Yield the modules of the operator that a file may import, as paths; a name that is none does no harm."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "skill_operator":
                yield from ("/".join(parts[: n + 1]) for n in range(len(parts)))


def download(folder: Path) -> dict[str, list[Path]]:
    """Return the locked wheels by machine, downloaded into `folder` where they are not there already.

    Every one is compared with the hashes of the lock.
    """
    done = folder / "done"
    if not done.exists():
        with ThreadPoolExecutor(len(MACHINES)) as pool:
            list(pool.map(lambda machine: _download(folder / machine, machine), MACHINES))
        done.touch()
    return {machine: sorted((folder / machine).glob("*.whl")) for machine in MACHINES}


def _download(folder: Path, machine: str) -> None:
    """Download for one machine and each version of Python; what is there is not downloaded again."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--only-binary=:all:", "--implementation=cp", f"--requirement={LOCK}"]
    command += [f"--dest={folder}", *(f"--platform={tag}" for tag in MACHINES[machine])]
    for python in PYTHONS:
        subprocess.run([*command, f"--python-version={python}"], check=True)


def lay_out(site: Path, wheels: dict[str, list[Path]]) -> None:
    """Fill the folder that the zipapp unpacks: our sources, pure libraries, and the compiled ones by machine."""
    shutil.rmtree(site, ignore_errors=True)
    site.mkdir(parents=True)
    for package in (PLUGIN, RUNTIME):
        shutil.copytree(package, site / package.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    for source in operator_modules():
        target = site / source.relative_to(OPERATOR)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    unpacked: set[str] = set()
    for machine, found in wheels.items():
        for wheel in found:
            is_pure = wheel.name.endswith("-none-any.whl") or wheel.name.startswith(WITHOUT_EXTENSION)
            name = wheel.name.partition("-")[0] if is_pure else f"{machine}/{wheel.name}"
            if name in unpacked:
                continue
            unpacked.add(name)
            _unpack(wheel, site if is_pure else site / "compiled" / machine, is_pure=is_pure)


def _unpack(wheel: Path, folder: Path, *, is_pure: bool) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            skipped = member.endswith(("/RECORD", "/WHEEL", "/INSTALLER")) or (is_pure and member.endswith(".so"))
            if not skipped and ".data/" not in member:
                archive.extract(member, folder)


def pack(site: Path, target: Path) -> None:
    """Make the zipapp of the folder. The time of every file is SOURCE_DATE_EPOCH."""
    environment = os.environ | {"SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH") or str(EPOCH_SECONDS)}
    command = [str(Path(sys.executable).parent / "shiv")]
    command += ["--site-packages", str(site), "--entry-point", "kubectl_skill.__main__:main", "--compressed"]
    subprocess.run([*command, "--reproducible", "--output-file", str(target)], check=True, env=environment)


def archive(target: Path, *files: Path) -> None:
    """Write a .tar.gz of the files, which has the same bytes whoever makes it."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for file in files:
            entry = tarfile.TarInfo(file.name)
            entry.size, entry.mtime = file.stat().st_size, EPOCH_SECONDS
            entry.mode = 0o755 if os.access(file, os.X_OK) else 0o644
            with file.open("rb") as content:
                tar.addfile(entry, content)
    with target.open("wb") as out, gzip.GzipFile(filename="", fileobj=out, mode="wb", mtime=EPOCH_SECONDS) as zipped:
        zipped.write(raw.getvalue())


def manifest(version: str, url: str, package: Path) -> str:
    """Return the manifest for krew: the template with version, address and SHA-256 of the archive."""
    sha256 = hashlib.sha256(package.read_bytes()).hexdigest()
    text = MANIFEST.read_text(encoding="utf-8")
    return Template(text).substitute(version=f"v{version}", uri=f"{url}/v{version}/{package.name}", sha256=sha256)


def read_version() -> str:
    """Return the plugin's version, as cli/pyproject.toml has it."""
    lines = (ROOT / "cli" / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    return next(line.split('"')[1] for line in lines if line.startswith("version = "))


def build(dist: Path, url: str = URL) -> Path:
    """Build everything into `dist`, and return the path of the plugin."""
    lock = hashlib.sha256(LOCK.read_bytes() + repr((PYTHONS, MACHINES)).encode()).hexdigest()[:12]
    site = WORK / f"site-{os.getpid()}"
    plugin, version = dist / NAME, read_version()
    dist.mkdir(parents=True, exist_ok=True)
    try:
        lay_out(site, download(WORK / f"wheels-{lock}"))
        pack(site, plugin)
    finally:
        shutil.rmtree(site, ignore_errors=True)
    completion = dist / COMPLETION
    completion.unlink(missing_ok=True)
    completion.symlink_to(NAME)
    package = dist / f"{NAME}-v{version}.tar.gz"
    archive(package, plugin, ROOT / "LICENSE")
    (dist / "skill.yaml").write_text(manifest(version, url, package), encoding="utf-8")
    return plugin


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m hack.cli", description="Build kubectl-skill into dist/.")
    parser.add_argument("--url", default=URL, help="where the archive of a version will be, without /vVERSION/FILE")
    plugin = build(DIST, parser.parse_args(arguments).url)
    print(f"{plugin.relative_to(ROOT)}: {plugin.stat().st_size / 1e6:.0f} MB; put it into a folder of PATH")
    return 0


if __name__ == "__main__":
    sys.exit(main())
