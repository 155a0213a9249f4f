"""Install the Debian packages that this machine needs."""

from __future__ import annotations

import os
import subprocess
from shutil import which

from hack.cluster.shell import ClusterError, run, step

NODE = (
    "conntrack",
    "containernetworking-plugins",
    "gcc",
    "iproute2",
    "ipset",
    "iptables",
    "libc6-dev",
    "libseccomp-dev",
    "mount",
    "openssl",
    "pkg-config",
    "procps",
    "util-linux",
)
"""For a node without Docker, and to build its programs."""
IMAGES = ("buildah", "ca-certificates", "debian-archive-keyring", "debootstrap")
"""To build images without Docker."""

BROWSER = ("chromium", "fonts-dejavu-core")
"""To test the page for people."""


def ensure(packages: tuple[str, ...]) -> None:
    """Install the packages that are missing. Raises ClusterError where that needs root."""
    missing = [package for package in packages if not _installed(package)]
    if not missing:
        return
    if not which("apt-get") or os.geteuid():
        raise ClusterError(f"please install (as root): {' '.join(missing)}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *missing)
    with step(f"installed {', '.join(missing)}"):
        if subprocess.run(install, env=env, capture_output=True, check=False).returncode:
            run("apt-get", "update", "--quiet", env=env)
            run(*install, env=env)


def _installed(package: str) -> bool:
    return "ok installed" in run("dpkg-query", "--show", "--showformat", "${Status}", package, check=False)
