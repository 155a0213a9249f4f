"""`skill-operator doctor`: what this cluster has of what the operator needs, proven where it can be, and what to do.

It runs in the controller's pod, so that it sees what the controller sees: `make doctor`, or
`kubectl exec deployment/skill-operator-controller -- python3 -m skill_operator doctor`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import aiohttp

from skill_operator import naming
from skill_operator.isolation import service_addresses
from skill_operator.isolation.cluster_networks import ClusterNetworks, ClusterNetworksUnknown
from skill_operator.isolation.monitor import IsolationMonitor
from skill_operator.isolation.user_namespaces import NEEDS, lacking
from skill_operator.k8s.errors import ClusterError
from skill_operator.k8s.interface import Cluster
from skill_operator.registry import client
from skill_operator.registry.client import RegistryUnavailable
from skill_operator.settings import ModelEndpoint, Settings

State = Literal["ok", "bad", "unknown"]
PLUGINS = {
    "calico-node": "Calico", "cilium": "Cilium", "antrea": "Antrea", "kindnet": "kindnet", "kube-router": "kube-router",
    "aws-node": "AWS VPC CNI", "flannel": "flannel (enforces no policies)", "weave-net": "Weave Net",
    "kube-network-policies": "kube-network-policies", "ovnkube-node": "OVN-Kubernetes",
}  # fmt: skip
LABELS = ("k8s-app", "app", "name", "app.kubernetes.io/name", "component")
TIMEOUT = aiohttp.ClientTimeout(total=10)


@dataclass(frozen=True)
class Line:
    """One finding. `todo` is empty where nothing is to be done."""

    check: str
    state: State
    found: str
    todo: str = ""


async def examine(cluster: Cluster, settings: Settings) -> list[Line]:
    """Every check; one that cannot be made is a line too."""
    checks: list[Callable[[], Awaitable[list[Line]]]] = [
        lambda: _nodes(cluster, settings),
        lambda: _plugin(cluster, settings),
        lambda: _cage(settings),
        lambda: _networks(cluster, settings),
        lambda: _egress_proxy(cluster, settings),
        lambda: _pod_security(cluster, settings),
        lambda: _registry(cluster, settings),
        lambda: _models(settings),
    ]
    lines: list[Line] = []
    for check in checks:
        try:
            lines += await check()
        except ClusterError as error:
            lines.append(
                Line("API server", "unknown", error.message, "see the controller's rights, and watch.namespaces")
            )
    return lines


def table(lines: Iterable[Line]) -> str:
    rows = [("CHECK", "", "FOUND"), *((line.check, line.state, line.found) for line in lines)]
    wide = [max(len(row[column]) for row in rows) for column in range(2)]
    text = []
    for row, todo in zip(rows, ("", *(line.todo for line in lines)), strict=True):
        text.append(f"{row[0]:<{wide[0]}}  {row[1]:<{wide[1]}}  {row[2]}")
        if todo:
            text.append(f"{'':<{wide[0]}}  {'':<{wide[1]}}  → {todo}")
    return "\n".join(text)


async def _nodes(cluster: Cluster, settings: Settings) -> list[Line]:
    asked = settings.isolation.user_namespaces
    nodes = await cluster.list("Node")
    versions = sorted({node["status"]["nodeInfo"]["kubeletVersion"] for node in nodes})
    lines = [Line("nodes", "ok" if nodes else "bad", f"{len(nodes)}, kubelet {', '.join(versions)}")]
    without = lacking(nodes, settings.isolation.runtime_class_name)
    found = f"{len(nodes) - len(without)} of {len(nodes)} nodes; isolation.userNamespaces: {asked}"
    if not without:
        return [*lines, Line("user namespaces", "ok" if asked != "Never" else "bad", found)]
    todo = f"{NEEDS}; without them skills run with user ids that other pods of the node have, too"
    return [*lines, Line("user namespaces", "bad", found, todo)]


async def _plugin(cluster: Cluster, settings: Settings) -> list[Line]:
    if settings.watch_namespaces:
        return [Line("network plugin", "unknown", "its pods may not be listed (watch.namespaces is set)")]
    found = {
        name
        for pod in await cluster.list("Pod")
        for label in LABELS
        if (name := PLUGINS.get(pod["metadata"].get("labels", {}).get(label, "")))
    }
    named = ", ".join(sorted(found)) or "none known among the pods; what counts is the proof below"
    return [Line("network plugin", "ok" if found else "unknown", named)]


async def _cage(settings: Settings) -> list[Line]:
    """The very look that the controller takes every ten seconds."""
    if not settings.isolation.required:
        todo = "set isolation.required: true, and never run what matters on a cluster that cannot"
        return [Line("policies enforced", "bad", "not looked at: isolation.required is false", todo)]

    async def nobody() -> None: ...

    verdict = await IsolationMonitor(await service_addresses.resolve_service_addresses(settings), nobody).look()
    state: State = {"True": "ok", "False": "bad", "Unknown": "unknown"}[verdict.status]  # type: ignore[assignment]
    if state == "ok":
        found = (
            "a caged pod reached neither API server nor beacon, was reached by the controller, and not where it is shut"
        )
        return [Line("policies enforced", state, found)]
    return [Line("policies enforced", state, verdict.reason, verdict.message)]


async def _networks(cluster: Cluster, settings: Settings) -> list[Line]:
    try:
        known = await ClusterNetworks(cluster, settings).read()
    except ClusterNetworksUnknown as error:
        return [Line("cluster's networks", "bad", "Skills with spec.egress will stall", str(error))]
    shown = ", ".join(sorted({str(one.network) for one in known})[:6])
    return [Line("cluster's networks", "ok", f"{shown}{' …' if len(known) > 6 else ''}: no grant opens them")]


async def _egress_proxy(cluster: Cluster, settings: Settings) -> list[Line]:
    check, proxy = "egress proxy", settings.egress_proxy
    if not proxy.address:
        return [Line(check, "ok", "off: Skills with grants of hosts are refused (egressProxy.enabled)")]
    live = await cluster.get("Deployment", settings.namespace, proxy.deployment)
    where = f"deployment {proxy.deployment}"
    if live is None:
        return [Line(check, "bad", f"there is no {where}", "install the chart again")]
    if not live["spec"].get("replicas", 1):
        return [Line(check, "ok", "at rest: no Skill has a grant of a host")]
    available = live.get("status", {}).get("availableReplicas", 0)
    found = f"{available} of {live['spec'].get('replicas', 1)} pods answer"
    return [Line(check, "ok", found) if available else Line(check, "bad", found, f"kubectl describe {where}")]


async def _pod_security(cluster: Cluster, settings: Settings) -> list[Line]:
    """Asked of the builder's namespace, the one that the chart labels."""
    namespace = await cluster.get("Namespace", None, settings.builder_namespace)
    level = (namespace or {}).get("metadata", {}).get("labels", {}).get("pod-security.kubernetes.io/enforce", "")
    where = f"namespace {settings.builder_namespace}"
    if level in {"baseline", "restricted"}:
        return [Line("Pod Security", "ok", f"{where} enforces {level}; skill pods fit restricted")]
    todo = f"kubectl label namespace {settings.builder_namespace} pod-security.kubernetes.io/enforce=baseline"
    return [Line("Pod Security", "bad", f"{where} enforces {level or 'nothing'}", todo)]


async def _registry(cluster: Cluster, settings: Settings) -> list[Line]:
    lines = []
    try:
        base = await client.read_base(settings)
        lines.append(Line("registry, read", "ok", f"{settings.images.runtime[:60]}… with its manifest"))
        lines.append(Line("registry, push", *await _pushes(settings, base.registry_address)))
    except RegistryUnavailable as error:
        lines.append(
            Line("registry, read", "bad", str(error), "see deployment skill-operator-registry, or registry.read")
        )
    mine = naming.MANAGED | {naming.COMPONENT: "skill"}
    namespaces: list[str | None] = [*settings.watch_namespaces] or [None]
    found = [pod for namespace in namespaces for pod in await cluster.list("Pod", namespace, mine)]
    states = [s for pod in found for s in pod.get("status", {}).get("containerStatuses", [])]
    if any(state.get("imageID") for state in states):
        lines.append(Line("registry, pull", "ok", f"a node pulled a skill's image from {settings.registry.pull}"))
    else:
        why = f"no pod of a skill has run yet, so no node has pulled from {settings.registry.pull}"
        lines.append(Line("registry, pull", "unknown", why, "make a Skill, and look again"))
    return lines


async def _pushes(settings: Settings, address: str) -> tuple[State, str, str]:
    """Whether the push address speaks the protocol, and takes pushes from nobody without a credential."""
    scheme = "http" if settings.registry.insecure else "https"
    host = settings.registry.push.partition("/")[0]
    try:
        async with aiohttp.ClientSession(timeout=TIMEOUT) as session, session.get(f"{scheme}://{host}/v2/") as answer:
            code = answer.status
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return "bad", f"{host} does not answer: {error or type(error).__name__}", "see registry.push"
    if code == 401:
        return "ok", f"{host} ({address}) asks for the builder's credential", ""
    if code == 200 and settings.registry.push_secret:
        return (
            "bad",
            f"{host} takes pushes from anybody",
            "a registry that skills' images come from must ask who pushes",
        )
    return ("ok", f"{host} answers", "") if code == 200 else ("bad", f"{host} answers {code}", "see registry.push")


async def _models(settings: Settings) -> list[Line]:
    if not settings.models:
        return [Line("model", "unknown", "none is configured: only Skills with spec.source work", "set models[]")]
    return list(await asyncio.gather(*map(_model, settings.models)))


async def _model(endpoint: ModelEndpoint) -> Line:
    """Its list of models: no token is spent. A key in the answer's stead is not shown."""
    check, url = f"model {endpoint.name}", endpoint.base_url.rstrip("/")
    place = urlsplit(url).netloc.rpartition("@")[2]
    headers = {}
    if endpoint.api_key_file:
        try:
            key = await asyncio.to_thread(Path(endpoint.api_key_file).read_text, encoding="utf-8")
        except OSError as error:
            return Line(check, "bad", f"its key cannot be read: {error.strerror}", "see models[].apiKeySecret")
        headers["Authorization"] = f"Bearer {key.strip()}"
    try:
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT, trust_env=True) as session,
            session.get(f"{url}/models", headers=headers) as answer,
        ):
            code = answer.status
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        todo = "see models[].baseURL, and whether the controller may get there"
        return Line(check, "bad", f"{place} cannot be reached: {type(error).__name__}", todo)
    if code in {401, 403}:
        return Line(check, "bad", f"{place} refuses the key ({code})", "see models[].apiKeySecret")
    if code == 200:
        return Line(check, "ok", f"{place} answers")
    return Line(check, "unknown", f"{place} answers {code} to a request for its models; not every endpoint lists them")


async def doctor(cluster: Cluster, settings: Settings) -> int:
    """Print the table; 1 if anything is bad."""
    lines = await examine(cluster, settings)
    print(table(lines))
    return 1 if any(line.state == "bad" for line in lines) else 0
