"""The programs, built from their Go modules once and kept by the content of what they were built from."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from hack.cluster import records, versions
from hack.cluster.shell import ClusterError, run, step

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skill-operator"
BIN = CACHE / "bin"

_MINOR = versions.KUBERNETES.split(".")[1]
_STAMP = (
    f"-X {{p}}.gitVersion=v{versions.KUBERNETES} -X {{p}}.gitMajor=1 -X {{p}}.gitMinor={_MINOR} "
    f"-X {{p}}.gitTreeState=clean -X {{p}}.gitCommit={'0' * 40} -X {{p}}.buildDate=2026-01-01T00:00:00Z"
)
STAMPED = "-s -w " + " ".join(
    _STAMP.format(p=p) for p in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
)
_CONTAINERD = "github.com/containerd/containerd/v2/cmd/"
_NO_EXOTIC_SNAPSHOTTERS = ("-tags", "no_btrfs,no_zfs,no_devmapper")


@dataclass(frozen=True)
class Program:
    """One executable: which module it comes from and how it is compiled."""

    name: str
    module: str
    package: str = "."
    flags: tuple[str, ...] = ()
    linker: str = "-s -w"
    cgo: bool = False
    modules: Path = HERE / "go"

    @property
    def source(self) -> Path:
        """The folder of its go.mod."""
        return self.modules / self.module

    @property
    def path(self) -> Path:
        """The path of the built program; other sources or flags give it another name."""
        inputs = [p.read_bytes() for p in sorted(self.source.glob("*")) if p.suffix in (".go", ".mod", ".sum")]
        recipe = " ".join((STAMPED, self.package, *self.flags)).encode()
        return BIN / f"{self.name}-{hashlib.sha256(b''.join(inputs) + recipe).hexdigest()[:16]}"

    def build(self) -> None:
        """Compile it; a half-written file never has the final name."""
        draft = self.path.with_suffix(".draft")
        env = {**os.environ, "CGO_ENABLED": str(int(self.cgo)), "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}
        command = ["go", "build", "-trimpath", *self.flags, "-ldflags", self.linker, "-o", str(draft), self.package]
        if subprocess.run(command, cwd=self.source, env=env, check=False).returncode:
            raise ClusterError(f"building {self.name} failed, see above")
        draft.rename(self.path)


PROGRAMS = {
    program.name: program
    for program in (
        Program("kube", "kube", linker=STAMPED),
        Program("netpol", "netpol"),
        Program("containerd", "runtime", _CONTAINERD + "containerd", _NO_EXOTIC_SNAPSHOTTERS),
        Program("ctr", "runtime", _CONTAINERD + "ctr", _NO_EXOTIC_SNAPSHOTTERS),
        Program("containerd-shim-runc-v2", "runtime", _CONTAINERD + "containerd-shim-runc-v2", _NO_EXOTIC_SNAPSHOTTERS),
        Program("runc", "runc", "github.com/opencontainers/runc", ("-tags", "seccomp"), cgo=True),
        Program("executor", "kaniko", "github.com/chainguard-dev/kaniko/cmd/executor"),
        Program("registry", "registry", "github.com/distribution/distribution/v3/cmd/registry"),
        Program("coredns", "dns", "github.com/coredns/coredns"),
        Program("helm", "helm", "helm.sh/helm/v4/cmd/helm"),
    )
}
NODE = ("kube", "netpol", "containerd", "ctr", "containerd-shim-runc-v2", "runc")
"""What a node without Docker runs."""


def ensure(names: Iterable[str]) -> None:
    """Build what is not there yet."""
    ensure_built(PROGRAMS[name] for name in names)


def ensure_built(programs: Iterable[Program]) -> None:
    """Build those of the programs that are not there yet, the cluster's or others."""
    with records.locked(BIN):
        for program in programs:
            if not program.path.exists():
                _check_toolchain()
                with step(f"{program.name} built"):
                    program.build()


def path(name: str) -> Path:
    """A built program."""
    return PROGRAMS[name].path


def pause() -> Path:
    """The first process of a node and of every pod: a few lines of C, linked statically."""
    source = HERE / "pause" / "pause.c"
    target = BIN / f"pause-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}"
    with records.locked(BIN):
        if not target.exists():
            draft = target.with_suffix(".draft")
            run("gcc", "-Os", "-static", "-s", "-Wall", "-Wextra", "-o", draft, source)
            draft.rename(target)
    return target


def link(folder: Path, links: dict[str, Path]) -> None:
    """A folder of executables under their plain names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, target in links.items():
        draft = folder / f".{name}"
        draft.unlink(missing_ok=True)
        draft.symlink_to(target)
        draft.rename(folder / name)


def _check_toolchain() -> None:
    wanted = ".".join(map(str, versions.GO))
    found = re.search(r"go(\d+)\.(\d+)", run("go", "env", "GOVERSION", check=False)) if which("go") else None
    if not found or tuple(map(int, found.groups())) < versions.GO:
        raise ClusterError(f"building the cluster needs Go {wanted} or newer in PATH")
