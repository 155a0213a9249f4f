"""Make the images that the node and the chart need, under stable names, from programs built here."""

from __future__ import annotations

from pathlib import Path

from hack.cluster import binaries
from hack.cluster.components import PAUSE_IMAGE
from hack.cluster.oci import Image

CACHE = binaries.CACHE / "images"
COREDNS, KANIKO, REGISTRY = "localhost/coredns:1", "localhost/kaniko:1", "localhost/registry:3"
FOR_CHART = ("executor", "registry")
FOR_NODE = (*FOR_CHART, "coredns")
"""The programs that images are made of."""


def of_node() -> list[Path]:
    """Return the images that a node without Docker needs besides the chart's."""
    pause = Image(PAUSE_IMAGE, {"Entrypoint": ["/pause"]}, {"pause": binaries.pause()})
    coredns = Image(COREDNS, {"Entrypoint": ["/coredns"]}, {"coredns": binaries.path("coredns")})
    return [pause.archive(CACHE), coredns.archive(CACHE)]


def of_chart() -> list[Path]:
    """Return the images of the chart's builds and registry, the same for any cluster."""
    return [_kaniko().archive(CACHE), _registry().archive(CACHE)]


def _kaniko() -> Image:
    """The layout that the executor expects: /kaniko writable, trust store, empty registry credentials."""
    variables = {
        "HOME": "/root",
        "USER": "root",
        "PATH": "/usr/local/bin:/kaniko",
        "SSL_CERT_DIR": "/kaniko/ssl/certs",
        "DOCKER_CONFIG": "/kaniko/.docker/",
    }
    trust = Path("/etc/ssl/certs/ca-certificates.crt")
    return Image(
        KANIKO,
        {
            "Entrypoint": ["/kaniko/executor"],
            "WorkingDir": "/workspace",
            "Env": [f"{k}={v}" for k, v in variables.items()],
        },
        programs={"kaniko/executor": binaries.path("executor")},
        files={
            "kaniko/ssl/certs/ca-certificates.crt": trust.read_bytes() if trust.exists() else b"",
            "kaniko/.docker/config.json": b"{}",
            "etc/nsswitch.conf": b"hosts: files dns\n",
        },
        folders={"kaniko": 0o777, "root": 0o700, "tmp": 0o1777, "workspace": 0o755},
    )


def _registry() -> Image:
    """CNCF distribution; its configuration is mounted and named by the arguments, and any user can run it."""
    command = ["serve", "/etc/distribution/config.yml"]
    return Image(
        REGISTRY,
        {
            "Entrypoint": ["/registry"],
            "Cmd": command,
            "WorkingDir": "/",
            "User": "65532:65532",
            "ExposedPorts": {"5000/tcp": {}},
        },
        programs={"registry": binaries.path("registry")},
        folders={"etc/distribution": 0o755, "var/lib/registry": 0o777, "tmp": 0o1777},
    )
