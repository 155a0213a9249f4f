"""The plugin's file is the same whenever it is built, and krew takes its manifest."""

from __future__ import annotations

import hashlib
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from hack import cli
from tests.integration.plugin import built

__all__ = ["built"]
pytestmark = pytest.mark.cluster  # not for the cluster, but for the network: the build downloads libraries
KREW = Path(__file__).parent / "krew"


def test_krew_takes_the_manifest(built: Path, tmp_path: Path) -> None:
    validator = tmp_path / "validate-krew-manifest"
    _build_go(validator, "sigs.k8s.io/krew/cmd/validate-krew-manifest")
    manifest = built.parent / "skill.yaml"
    judged = subprocess.run(
        [str(validator), "-manifest", str(manifest), "-skip-install"], capture_output=True, text=True, check=False
    )
    assert judged.returncode == 0, judged.stderr
    broken = tmp_path / "skill.yaml"
    broken.write_text(manifest.read_text().replace("bin: kubectl-skill", "bin: ''"))
    assert subprocess.run([str(validator), "-manifest", str(broken), "-skip-install"], check=False).returncode != 0
    assert hashlib.sha256(_package(built).read_bytes()).hexdigest() in manifest.read_text()


def test_krew_installs_it(built: Path, tmp_path: Path) -> None:
    krew = tmp_path / "krew"
    _build_go(krew, "sigs.k8s.io/krew/cmd/krew")
    install = ["install", f"--manifest={built.parent / 'skill.yaml'}", f"--archive={_package(built)}"]
    environment = os.environ | {"KREW_ROOT": str(tmp_path / "root"), "SHIV_ROOT": str(tmp_path / "unpacked")}
    subprocess.run([str(krew), *install], check=True, env=environment, stdin=subprocess.DEVNULL)
    plugin = tmp_path / "root" / "bin" / "kubectl-skill"
    done = subprocess.run([str(plugin), "--help"], check=True, env=environment, capture_output=True, text=True)
    assert "Usage: kubectl skill" in done.stdout


def _package(built: Path) -> Path:
    """Return the archive that the manifest names."""
    return next(built.parent.glob("*.tar.gz"))


def _build_go(target: Path, package: str) -> None:
    environment = os.environ | {"GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    subprocess.run(["go", "build", "-o", str(target), package], cwd=KREW, check=True, env=environment)


def test_two_builds_are_the_same_bytes(built: Path, tmp_path: Path) -> None:
    other = cli.build(tmp_path)
    assert other.read_bytes() == built.read_bytes()
    assert (tmp_path / "skill.yaml").read_bytes() == (built.parent / "skill.yaml").read_bytes()


def test_it_has_libraries_for_every_python_and_machine(built: Path) -> None:
    """Of each pair there is one file, whose name says for which Python it was compiled (PEP 3149)."""
    with zipfile.ZipFile(built) as archive:
        names = archive.namelist()
    suffixes = {
        "linux-x86_64": "x86_64-linux-gnu.so",
        "linux-aarch64": "aarch64-linux-gnu.so",
        "darwin-x86_64": "darwin.so",
        "darwin-arm64": "darwin.so",
    }
    assert suffixes.keys() == cli.MACHINES.keys()
    for machine, suffix in suffixes.items():
        for python in cli.PYTHONS:
            tag = f"cpython-{python.replace('.', '')}"
            assert f"site-packages/compiled/{machine}/pydantic_core/_pydantic_core.{tag}-{suffix}" in names


def test_a_machine_without_libraries_is_told_so(built: Path, tmp_path: Path) -> None:
    """As on another processor: the folder of this one is taken away."""
    environment = os.environ | {"SHIV_ROOT": str(tmp_path)}
    subprocess.run([str(built), "--help"], check=True, env=environment, stdout=subprocess.DEVNULL)
    (compiled,) = tmp_path.glob("*/site-packages/compiled")
    for machine in compiled.glob("linux-*"):
        machine.rename(machine.with_name(f"other-{machine.name}"))
    done = subprocess.run([str(built), "--help"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "has no libraries for linux-" in done.stderr
    assert "Traceback" not in done.stderr
