"""A registry that is not the chart's: it lets nobody read or push unasked, and shares its host with others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hack import images
from hack.cluster import node_images
from hack.cluster.access import Cluster
from hack.install import BUILDS, NAMESPACE, forward
from hack.publish import publish
from skill_operator.registry.docker_config import RegistryCredential, render_docker_config
from skill_operator.registry.push_secret import htpasswd_line
from tests.integration.installed import Operator, install_for_tests, installed, until
from tests.integration.test_skill import apply, skill

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.serial("installs the chart with another registry"),
    pytest.mark.last("leaves an installation that others cannot use"),
    pytest.mark.timeout(600),
]
USER = RegistryCredential("ada", "s3cret" * 6)
TEAM = "team"  # our part of it
PORT = 5000


def registry(namespace: str) -> list[dict[str, Any]]:
    config = {
        "version": 0.1,
        "http": {"addr": f":{PORT}"},
        "auth": {"htpasswd": {"realm": "elsewhere", "path": "/config/htpasswd"}},
        "storage": {"filesystem": {"rootdirectory": "/data"}},
    }
    named = {"name": "registry", "namespace": namespace, "labels": {"app": "registry"}}
    container = {
        "name": "registry",
        "image": node_images.REGISTRY,
        "imagePullPolicy": "Never",
        "args": ["serve", "/config/config.yml"],
        "volumeMounts": [{"name": "config", "mountPath": "/config"}, {"name": "data", "mountPath": "/data"}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
    }
    volumes = [{"name": "config", "secret": {"secretName": "registry"}}, {"name": "data", "emptyDir": {}}]
    kept = {"config.yml": json.dumps(config), "htpasswd": htpasswd_line(USER)}
    service = {"type": "NodePort", "selector": {"app": "registry"}, "ports": [{"port": PORT}]}
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": named, "stringData": kept},
        {"apiVersion": "v1", "kind": "Pod", "metadata": named, "spec": {"containers": [container], "volumes": volumes}},
        {"apiVersion": "v1", "kind": "Service", "metadata": named, "spec": service},
    ]


def login(namespace: str, name: str, host: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": render_docker_config(USER, host)},
    }


@pytest.fixture
def elsewhere(operator: Operator, cluster: Cluster) -> Iterator[tuple[Operator, str, Callable[[], None]]]:
    """The operator with such a registry, a namespace that may pull from it, and a switch to names of one level.

    Afterwards all is as before.
    """
    with cluster.namespace("elsewhere") as there, cluster.namespace("skills") as space:
        cluster.apply(*registry(there))
        cluster.kubectl("-n", there, "wait", "--for=condition=Ready", "pod/registry", "--timeout=60s")
        (port,) = cluster.get("-n", there, "service", "registry")["spec"]["ports"]
        inside, outside = f"registry.{there}.svc:{PORT}", f"localhost:{port['nodePort']}"
        cluster.apply(
            login(BUILDS, "elsewhere", inside),
            login(NAMESPACE, "elsewhere", inside),
            login(space, "elsewhere", outside),
        )
        with forward(cluster, "service/registry", PORT, there) as local:
            options = ("--dest-tls-verify=false", f"--dest-creds={USER.user}:{USER.password}")
            digests = publish(images.built(), f"127.0.0.1:{local}/{TEAM}", *options)
        place = {
            "embedded": False,
            "push": f"{inside}/{TEAM}",
            "pull": f"{outside}/{TEAM}",
            "read": f"http://{inside}",
            "insecure": True,
            "pushSecret": "elsewhere",
            "readSecret": "elsewhere",
            "pullSecret": "elsewhere",
            "cidrs": [node["spec"]["podCIDR"] for node in cluster.get("nodes")["items"]],
        }
        bases = {name: f"{name}@{digests[name]}" for name in ("runtime", "checker")}
        try:
            with installed(cluster, bases, registry=place) as made:

                def flatten() -> None:
                    install_for_tests(cluster, bases, registry=place | {"flatNames": True})

                yield made, space, flatten
        finally:
            install_for_tests(cluster)


def test_a_skill_lives_on_a_private_registry_elsewhere(
    elsewhere: tuple[Operator, str, Callable[[], None]],
) -> None:
    operator, space, flatten = elsewhere
    apply(operator, space, skill("abroad"))
    operator.ready(space, "abroad")
    image = operator.skill(space, "abroad")["status"]["image"]
    assert f"/{TEAM}/skills/{space}/abroad@sha256:" in image
    assert operator.call(space, "abroad", {"what": "far away"}).body == {"said": "far away"}
    assert USER.password not in operator.cluster.kubectl("-n", NAMESPACE, "logs", f"deployment/{NAMESPACE}-controller")
    flatten()
    flat = f"/{TEAM}/skills-{space}@sha256:"
    until("its image has a name of one level", 180, lambda: flat in operator.skill(space, "abroad")["status"]["image"])
    operator.ready(space, "abroad", 180)
    operator.await_gateway()
    assert operator.call(space, "abroad", {"what": "as near"}).body == {"said": "as near"}
