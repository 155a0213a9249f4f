"""Examine whether this cluster has what the operator needs, and say what to do: `skill-operator doctor`.

It runs in the controller's pod, so that it observes what the controller observes: `make doctor`, or
`kubectl exec deployment/skill-operator-controller -- python3 -m skill_operator doctor`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import aiohttp

from skill_operator import naming
from skill_operator.certificates import rotator
from skill_operator.isolation import service_addresses
from skill_operator.isolation.cluster_networks import ClusterNetworks, ClusterNetworksUnknown
from skill_operator.isolation.monitor import IsolationMonitor
from skill_operator.isolation.user_namespaces import REQUIREMENTS, nodes_without_user_namespaces
from skill_operator.k8s.errors import ClusterError
from skill_operator.k8s.interface import Cluster
from skill_operator.k8s.pod_status import pod_problem
from skill_operator.registry import client
from skill_operator.registry.client import RegistryUnavailable
from skill_operator.settings import BEARER_HEADER, ModelEndpoint, Settings
from skill_operator.untrusted.text import printable

State = Literal["ok", "plain", "bad", "unknown"]
"""A `plain` part works, and what it says can be read on the network."""
PLUGINS = {
    "calico-node": "Calico", "cilium": "Cilium", "antrea": "Antrea", "kindnet": "kindnet", "kube-router": "kube-router",
    "aws-node": "AWS VPC CNI", "flannel": "flannel (enforces no policies)", "weave-net": "Weave Net",
    "kube-network-policies": "kube-network-policies", "ovnkube-node": "OVN-Kubernetes",
}  # fmt: skip
LABELS = ("k8s-app", "app", "name", "app.kubernetes.io/name", "component")
TIMEOUT = aiohttp.ClientTimeout(total=10)


@dataclass(frozen=True)
class DoctorLine:
    """DoctorLine is the result of one check. `todo` is empty where there is nothing to do."""

    check: str
    state: State
    found: str
    todo: str = ""


async def examine(cluster: Cluster, settings: Settings) -> list[DoctorLine]:
    """Run every check; a check that fails gives a line, too."""
    checks: list[Callable[[], Awaitable[list[DoctorLine]]]] = [
        lambda: _nodes(cluster, settings),
        lambda: _plugin(cluster, settings),
        lambda: _isolation(settings),
        lambda: _networks(cluster, settings),
        lambda: _egress_proxy(cluster, settings),
        lambda: _pod_security(cluster, settings),
        lambda: _registry(cluster, settings),
        lambda: _models(settings),
        lambda: _encryption(cluster, settings),
    ]
    lines: list[DoctorLine] = []
    for check in checks:
        try:
            lines += await check()
        except ClusterError as error:
            lines.append(
                DoctorLine("API server", "unknown", error.message, "see the controller's rights, and watch.namespaces")
            )
    return lines


def table(lines: Iterable[DoctorLine]) -> str:
    """Return the lines as a table for a terminal."""
    rows = [("CHECK", "", "FOUND"), *((line.check, line.state, line.found) for line in lines)]
    wide = [max(len(row[column]) for row in rows) for column in range(2)]
    text = []
    for row, todo in zip(rows, ("", *(line.todo for line in lines)), strict=True):
        text.append(f"{row[0]:<{wide[0]}}  {row[1]:<{wide[1]}}  {row[2]}")
        if todo:
            text.append(f"{'':<{wide[0]}}  {'':<{wide[1]}}  → {todo}")
    return "\n".join(text)


async def _nodes(cluster: Cluster, settings: Settings) -> list[DoctorLine]:
    mode = settings.isolation.user_namespaces
    nodes = await cluster.list("Node")
    versions = sorted({node["status"]["nodeInfo"]["kubeletVersion"] for node in nodes})
    lines = [DoctorLine("nodes", "ok" if nodes else "bad", f"{len(nodes)}, kubelet {', '.join(versions)}")]
    without = nodes_without_user_namespaces(nodes, settings.isolation.runtime_class_name)
    found = f"{len(nodes) - len(without)} of {len(nodes)} nodes; isolation.userNamespaces: {mode}"
    if not without:
        return [*lines, DoctorLine("user namespaces", "ok" if mode != "Never" else "bad", found)]
    todo = f"{REQUIREMENTS}; without them skills share user ids with other pods of the node"
    return [*lines, DoctorLine("user namespaces", "bad", found, todo)]


async def _plugin(cluster: Cluster, settings: Settings) -> list[DoctorLine]:
    if settings.watch_namespaces:
        return [DoctorLine("network plugin", "unknown", "the operator may not list its pods (watch.namespaces is set)")]
    found = {name for value, name in PLUGINS.items() for label in LABELS if await _has_pod(cluster, label, value)}
    named = ", ".join(sorted(found)) or "no known plugin among the pods; the proof below decides"
    return [DoctorLine("network plugin", "ok" if found else "unknown", named)]


async def _has_pod(cluster: Cluster, label: str, value: str) -> bool:
    """Return whether any pod has this label. Of all pods of a cluster, which tenants fill, it reads the first alone."""
    async with aclosing(cluster.scan("Pod", None, {label: value})) as pods:
        async for _ in pods:
            return True
    return False


async def _isolation(settings: Settings) -> list[DoctorLine]:
    """Probe as the controller does every ten seconds."""
    if not settings.isolation.required:
        todo = "set isolation.required: true; a cluster without it is for throw-away use only"
        return [DoctorLine("policies enforced", "bad", "not checked: isolation.required is false", todo)]

    async def ignore() -> None: ...

    verdict = await IsolationMonitor(await service_addresses.resolve_service_addresses(settings), ignore).probe()
    state: State = {"True": "ok", "False": "bad", "Unknown": "unknown"}[verdict.status]  # type: ignore[assignment]
    if state == "ok":
        found = "an isolated pod reaches neither API server nor beacon, and is reached only where policies allow it"
        return [DoctorLine("policies enforced", state, found)]
    return [DoctorLine("policies enforced", state, verdict.reason, verdict.message)]


async def _networks(cluster: Cluster, settings: Settings) -> list[DoctorLine]:
    try:
        known = await ClusterNetworks(cluster, settings).read()
    except ClusterNetworksUnknown as error:
        return [DoctorLine("cluster's networks", "bad", "Skills with spec.egress will stall", str(error))]
    shown = ", ".join(sorted({str(one.network) for one in known})[:6])
    return [DoctorLine("cluster's networks", "ok", f"{shown}{' …' if len(known) > 6 else ''}: no grant opens them")]


async def _egress_proxy(cluster: Cluster, settings: Settings) -> list[DoctorLine]:
    check, proxy = "egress proxy", settings.egress_proxy
    if not proxy.address:
        return [DoctorLine(check, "ok", "off: the operator rejects Skills with grants of hosts (egressProxy.enabled)")]
    live = await cluster.get("Deployment", settings.namespace, proxy.deployment)
    where = f"deployment {proxy.deployment}"
    if live is None:
        return [DoctorLine(check, "bad", f"there is no {where}", "install the chart again")]
    if not live["spec"].get("replicas", 1):
        return [DoctorLine(check, "ok", "at rest: no Skill has a grant of a host")]
    available = live.get("status", {}).get("availableReplicas", 0)
    found = f"{available} of {live['spec'].get('replicas', 1)} pods are available"
    return [
        DoctorLine(check, "ok", found) if available else DoctorLine(check, "bad", found, f"kubectl describe {where}")
    ]


async def _pod_security(cluster: Cluster, settings: Settings) -> list[DoctorLine]:
    """Check the builder's namespace, the one that the chart labels."""
    namespace = await cluster.get("Namespace", None, settings.builder_namespace)
    level = (namespace or {}).get("metadata", {}).get("labels", {}).get("pod-security.kubernetes.io/enforce", "")
    where = f"namespace {settings.builder_namespace}"
    if level in {"baseline", "restricted"}:
        return [DoctorLine("Pod Security", "ok", f"{where} enforces {level}; skill pods fit restricted")]
    todo = f"kubectl label namespace {settings.builder_namespace} pod-security.kubernetes.io/enforce=baseline"
    return [DoctorLine("Pod Security", "bad", f"{where} enforces {level or 'nothing'}", todo)]


async def _registry(cluster: Cluster, settings: Settings) -> list[DoctorLine]:
    lines = []
    try:
        base = await client.read_base(settings)
        lines.append(DoctorLine("registry, read", "ok", f"{settings.images.runtime[:60]}… with its manifest"))
        lines.append(DoctorLine("registry, push", *await _check_push(settings, base.registry_address)))
    except RegistryUnavailable as error:
        lines.append(DoctorLine("registry, read", "bad", str(error), await _explain_absence(cluster, settings)))
    mine = naming.MANAGED | {naming.COMPONENT: "skill"}
    found = [pod for namespace in settings.namespace_scopes for pod in await cluster.list("Pod", namespace, mine)]
    states = [s for pod in found for s in pod.get("status", {}).get("containerStatuses", [])]
    if any(state.get("imageID") for state in states):
        lines.append(DoctorLine("registry, pull", "ok", f"a node pulled a skill's image from {settings.registry.pull}"))
    else:
        why = f"no pod of a skill has run yet, so no node has pulled from {settings.registry.pull}"
        lines.append(DoctorLine("registry, pull", "unknown", why, "create a Skill, and run the doctor again"))
    return lines


async def _explain_absence(cluster: Cluster, settings: Settings) -> str:
    """Return what to do about a registry that cannot be read: of the embedded one its pod says more."""
    if not settings.registry_labels:
        return "see registry.read and registry.readSecret"
    if not settings.watch_namespaces:  # else the operator may not list these pods
        for pod in await cluster.list("Pod", settings.namespace, settings.registry_labels):
            if (problem := pod_problem(pod)) is not None:
                no_storage = "PersistentVolumeClaim" in problem.message
                hint = ": without a default StorageClass, set registry.persistence.enabled: false" if no_storage else ""
                return f"{problem.message}{hint}"
    return "see statefulset skill-operator-registry"


async def _check_push(settings: Settings, address: str) -> tuple[State, str, str]:
    """Check that the push address speaks the OCI protocol, and that it requires a credential for a push."""
    scheme = "http" if settings.registry.insecure else "https"
    host = settings.registry.push.partition("/")[0]
    try:
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT) as session,
            session.get(f"{scheme}://{host}/v2/", allow_redirects=False) as response,
        ):
            code = response.status
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return "bad", f"{host} does not respond: {error or type(error).__name__}", "see registry.push"
    if code == 401:
        return "ok", f"{host} ({address}) requires the builder's credential", ""
    if code == 200 and settings.registry.push_secret:
        return (
            "bad",
            f"{host} accepts pushes from everybody",
            "let the registry require a credential for pushes",
        )
    return ("ok", f"{host} responds", "") if code == 200 else ("bad", f"{host} responds {code}", "see registry.push")


async def _models(settings: Settings) -> list[DoctorLine]:
    if not settings.models:
        return [DoctorLine("model", "unknown", "none is configured: only Skills with spec.source work", "set models[]")]
    return list(await asyncio.gather(*map(_model, settings.models)))


async def _model(endpoint: ModelEndpoint) -> DoctorLine:
    """Request the endpoint's list of models, which costs no token. The key is never shown."""
    check, url = f"model {endpoint.name}", urlsplit(endpoint.base_url)
    place = url.netloc.rpartition("@")[2]
    headers = {}
    if endpoint.api_key_file:
        try:
            key = await asyncio.to_thread(Path(endpoint.api_key_file).read_text, encoding="utf-8")
        except OSError as error:
            return DoctorLine(check, "bad", f"its key cannot be read: {error.strerror}", "see models[].apiKeySecret")
        is_bearer = endpoint.auth_header.lower() == BEARER_HEADER.lower()
        headers[endpoint.auth_header] = f"Bearer {key.strip()}" if is_bearer else key.strip()
    address = url._replace(path=f"{url.path.rstrip('/')}/models").geturl()
    try:
        trust = await asyncio.to_thread(ssl.create_default_context)
        if endpoint.ca_file:
            await asyncio.to_thread(trust.load_verify_locations, endpoint.ca_file)
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT) as session,
            session.get(
                address, headers=headers, ssl=trust, proxy=endpoint.proxy or None, allow_redirects=False
            ) as response,
        ):
            code, location = response.status, response.headers.get("Location", "")
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        todo = "check models[].baseURL, and the network between controller and endpoint"
        return DoctorLine(check, "bad", f"{place} cannot be reached: {type(error).__name__}", todo)
    if code in {401, 403}:
        return DoctorLine(check, "bad", f"{place} rejects the key ({code})", "see models[].apiKeySecret")
    if code == 200:
        return DoctorLine(check, "ok", f"{place} responds")
    if 300 <= code < 400:
        todo = "set models[].baseURL to the address that answers: no redirect is followed"
        return DoctorLine(check, "bad", f"{place} redirects to {printable(location, 200)}", todo)
    return DoctorLine(
        check, "unknown", f"{place} responds {code} to a request for its models; not every endpoint lists them"
    )


async def _encryption(cluster: Cluster, settings: Settings) -> list[DoctorLine]:
    """Name what goes over the network in plain HTTP, and say how to change that."""
    return [await _gateway_encryption(cluster, settings), _registry_encryption(settings), *_model_encryption(settings)]


async def _gateway_encryption(cluster: Cluster, settings: Settings) -> DoctorLine:
    check, gateway = "TLS, gateway", settings.gateway
    if not gateway.tls_folder:
        todo = "set gateway.tls.selfSigned: true or gateway.tls.secretName, or encrypt the network of pods"
        return DoctorLine(check, "plain", "plain HTTP: tokens, inputs and answers can be read on the network", todo)
    if not gateway.self_signed.enabled:
        return DoctorLine(check, "ok", "HTTPS, with the certificate that gateway.tls.secretName names")
    try:
        objects = await rotator.read_objects(cluster, settings)
    except rotator.NotOurs as error:
        return DoctorLine(check, "bad", "the controller cannot keep the gateway's certificate", str(error))
    names = rotator.server_names(settings, await asyncio.to_thread(rotator.read_resolv_conf))
    if problem := rotator.find_problem(objects, datetime.now(UTC), names):
        todo = "wait five minutes; if it lasts, read the log of the controller that leads"
        return DoctorLine(check, "bad", problem, todo)
    trust = naming.gateway_trust(gateway.self_signed.service)
    command = f"kubectl -n {settings.namespace} get configmap {trust} -o jsonpath='{{.data.ca\\.crt}}'"
    return DoctorLine(check, "ok", f"HTTPS, with a certificate of the controller's; callers get the CA by: {command}")


def _registry_encryption(settings: Settings) -> DoctorLine:
    check, registry = "TLS, registry", settings.registry
    plain = [f"pushes to {registry.push.partition('/')[0]}"] if registry.insecure else []
    if urlsplit(registry.read).scheme == "http":
        plain.append(f"reads of {urlsplit(registry.read).netloc.rpartition('@')[2]}")
    if not plain:
        return DoctorLine(check, "ok", "HTTPS")
    todo = "give it TLS; then set registry.insecure: false and an https:// address in registry.read"
    if settings.registry_labels:
        todo = "the embedded registry has no TLS: use one that has (registry.embedded: false)"
    return DoctorLine(check, "plain", f"plain HTTP: {' and '.join(plain)}, credentials included", todo)


def _model_encryption(settings: Settings) -> list[DoctorLine]:
    return [
        DoctorLine(
            f"TLS, model {endpoint.name}",
            "plain",
            f"plain HTTP: prompts, replies{' and the key' if endpoint.api_key_file else ''} can be read on the network",
            "use an https:// address in models[].baseURL",
        )
        for endpoint in settings.models
        if urlsplit(endpoint.base_url).scheme == "http"
    ]


async def doctor(cluster: Cluster, settings: Settings) -> int:
    """Print the table; return 1 if any line is bad, else 0."""
    lines = await examine(cluster, settings)
    print(table(lines))
    return 1 if any(line.state == "bad" for line in lines) else 0
