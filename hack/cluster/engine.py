"""Define what every kind of cluster can do."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from hack.cluster import binaries
from hack.cluster.identity import CHECKOUT, user_folder
from hack.cluster.network import INTERNET
from hack.cluster.shell import run


class Engine(Protocol):
    """Engine runs a cluster on this machine, by kind or in namespaces."""

    @property
    def name(self) -> str:
        """Return the cluster's name."""

    def up(self) -> None:
        """Start it; leave a healthy one alone, and repair a broken one by starting it anew."""

    def down(self) -> None:
        """End it and undo everything; nothing happens where nothing runs."""

    def status(self) -> dict[str, Any]:
        """Return its state; `healthy` says whether it can be used."""

    def load(self, archives: Sequence[Path]) -> None:
        """Bring OCI archives to the node."""

    def enter(self, *command: str) -> list[str]:
        """Return the command line that runs a command on the node."""


def kubeconfig(name: str) -> Path:
    """Return the path of a cluster's kubeconfig."""
    return user_folder(name) / "kubeconfig"


def tools(name: str) -> Path:
    """Return the folder of kubectl and helm."""
    return user_folder(name) / "bin"


def export(name: str) -> str:
    """Return the line that makes a shell use the cluster."""
    return f"export KUBECONFIG={kubeconfig(name)} PATH={tools(name)}:$PATH"


def offer_tools(name: str, *, kubectl_of_machine: str | None = None) -> None:
    """Put kubectl and helm where `export` points."""
    kubectl = Path(kubectl_of_machine).resolve() if kubectl_of_machine else binaries.path("kube")
    binaries.link(tools(name), {"kubectl": kubectl, "helm": binaries.path("helm")})


def kubectl(name: str, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
    """Call the cluster's kubectl."""
    use = (f"--kubeconfig={kubeconfig(name)}", f"--cache-dir={user_folder(name) / 'cache'}")
    return run(tools(name) / "kubectl", *use, *arguments, stdin=stdin, check=check)


def on_internet(engine: Engine, *command: str) -> list[str]:
    """Return the command line that runs a command where the addresses of OUTSIDE live."""
    return engine.enter("nsenter", f"--net=/run/netns/{INTERNET}", *command)


def withdraw(name: str) -> None:
    """Take kubeconfig and tools away."""
    kubeconfig(name).unlink(missing_ok=True)
    for made in ("bin", "cache"):
        shutil.rmtree(user_folder(name) / made, ignore_errors=True)
    for folder in (user_folder(name), CHECKOUT / ".cluster"):
        with suppress(OSError):  # not there, or in use for another cluster
            folder.rmdir()


def forget() -> None:
    """Take away what was noted of images and models, unless another cluster of this checkout uses it."""
    folder = CHECKOUT / ".cluster"
    if folder.exists() and all(path.is_file() for path in folder.iterdir()):
        shutil.rmtree(folder)
