"""A real API server takes every object, and has nothing to say about it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.cluster.access import Cluster
from skill_operator.registry.push_secret import registry_host, usable_credential
from skill_operator.settings import load
from tests.chart.render import CASES, ROOT, Object, render, setting

pytestmark = pytest.mark.cluster
GROUPS = {"secrets": "", "pods": "", "jobs": "batch", "deployments": "apps", "skills": "skill-operator.dev"}


@pytest.fixture
def namespaces(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """The operator's, restricted, and the builder's. A release that has the mirrors' is told it by the builder's name."""
    restricted = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    with cluster.namespace("chart", restricted) as own, cluster.namespace("builds") as builds:
        nodes = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"{builds}-nodes"}}
        cluster.apply(nodes)
        try:
            yield own, builds
        finally:
            cluster.kubectl("delete", "namespace", f"{builds}-nodes", "--wait=false")


def told(own: str, builds: str) -> list[str]:
    """What keeps a release apart from one that the cluster has already."""
    return [
        setting("fullnameOverride", own),
        setting("builder.namespace", builds),
        setting("registry.mirror.namespace", f"{builds}-nodes"),
        setting("priorityClass.name", own),
        setting("registry.nodePort", 32000 + uuid.uuid4().int % 700),
    ]


@pytest.mark.parametrize("case", CASES)
def test_everything_is_taken_without_a_warning(case: str, cluster: Cluster, namespaces: tuple[str, str]) -> None:
    own, builds = namespaces
    watched = [setting("watch.namespaces", [own])] if case == "namespaced" else []
    objects = render(case, *told(own, builds), *watched, namespace=own).objects
    everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    dry = ("apply", "--dry-run=server", "--server-side", "--force-conflicts", "--warnings-as-errors", "-f", "-")
    printed = cluster.kubectl(*dry, stdin=everything)
    assert printed.count("serverside-applied") == len(objects)


def account_kubeconfig(cluster: Cluster, namespace: str, account: str, folder: Path) -> Path:
    """A kubeconfig with nothing but one service account's rights."""
    config = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    token = cluster.kubectl("create", "token", "-n", namespace, account).strip()
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    file = folder / f"{account}.kubeconfig"
    file.write_text(json.dumps(config))
    return file


def ensure_secrets(kubeconfig: Path, settings: Path, htpasswd: Path) -> None:
    """The init container's process."""
    environment = os.environ | {"KUBECONFIG": str(kubeconfig), "SKILL_OPERATOR_SETTINGS": str(settings)}
    environment["PYTHONPATH"] = str(ROOT / "operator" / "src")
    command = [sys.executable, "-m", "skill_operator", "registry-credentials", str(htpasswd), f"{htpasswd}-readers"]
    subprocess.run(command, env=environment, check=True, timeout=60)


def test_the_registry_makes_its_credential_with_the_rights_it_has(
    cluster: Cluster, namespaces: tuple[str, str], tmp_path: Path
) -> None:
    own, builds = namespaces
    rendered = render("default", *told(own, builds), namespace=own)
    kinds = {"ServiceAccount", "Role", "RoleBinding"}
    cluster.apply(*(obj for obj in rendered.objects if obj["kind"] in kinds))
    kubeconfig = account_kubeconfig(cluster, own, f"{own}-registry", tmp_path)
    settings, htpasswd = tmp_path / "settings.json", tmp_path / "htpasswd"
    settings.write_text(rendered.settings())
    registry = registry_host(load(settings).registry.push)

    def live() -> Object:
        return cluster.get("secret", "-n", builds, "registry-push")

    ensure_secrets(kubeconfig, settings, htpasswd)
    first = live()
    assert first["type"] == "kubernetes.io/dockerconfigjson"
    assert usable_credential(first, registry)
    assert htpasswd.read_text().startswith("builder:$2")
    ensure_secrets(kubeconfig, settings, htpasswd)
    assert live() == first

    cluster.kubectl("patch", "secret", "-n", builds, "registry-push", "-p", '{"data": {".dockerconfigjson": "e30="}}')
    ensure_secrets(kubeconfig, settings, htpasswd)
    assert usable_credential(live(), registry) not in (None, usable_credential(first, registry))


def test_what_the_accounts_may_not_do(cluster: Cluster, namespaces: tuple[str, str]) -> None:
    own, builds = namespaces
    everything = render("namespaced", *told(own, builds), setting("watch.namespaces", [own]), namespace=own).objects
    cluster.apply(*(obj for obj in everything if obj["kind"] in {"ServiceAccount", "Role", "RoleBinding"}))

    def may(account: str, verb: str, what: str, namespace: str) -> bool:
        resource, _, name = what.partition("/")
        asked = {"namespace": namespace, "verb": verb, "group": GROUPS[resource], "resource": resource, "name": name}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": f"system:serviceaccount:{own}:{own}-{account}", "resourceAttributes": asked},
        }
        answer = json.loads(cluster.kubectl("create", "-o", "json", "-f", "-", stdin=json.dumps(review)))
        allowed: bool = answer["status"]["allowed"]
        return allowed

    assert may("registry", "get", "secrets/registry-push", builds)
    assert may("registry", "get", "secrets/registry-read", f"{builds}-nodes")
    assert may("controller", "create", "jobs", builds)
    assert may("gateway", "watch", "skills", own)
    for account, verb, what, namespace in [
        ("registry", "get", "secrets/another", builds),
        ("registry", "list", "secrets", builds),
        ("registry", "create", "secrets", own),
        ("controller", "get", "secrets/registry-push", builds),
        ("controller", "patch", "skills", own),
        ("controller", "create", "pods", builds),
        ("controller", "list", "skills", "default"),
        ("gateway", "patch", "deployments", own),
        ("gateway", "list", "pods", builds),
    ]:
        assert not may(account, verb, what, namespace), (account, verb, what)
