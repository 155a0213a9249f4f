"""Define every setting of both processes as one model. The chart renders it as JSON into the file named below."""

from __future__ import annotations

import os
import re
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

SETTINGS_FILE = Path(os.environ.get("SKILL_OPERATOR_SETTINGS", "/etc/skill-operator/settings.json"))
ORIGIN = r"^(null|[a-z][a-z0-9+.-]*://[^/?#@*\s]*)$"

BEARER_HEADER = "Authorization"
OPERATION_PATHS = ("/chat/completions", "/completions", "/responses", "/messages", "/embeddings")
FIXED_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "accept-encoding"}
)

_ISSUER = re.compile(r"https://[A-Za-z0-9.:\[\]_-]+(/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?")
_RESOURCE = re.compile(r"https?://[A-Za-z0-9.:\[\]_-]+(/[A-Za-z0-9._~-]+)*/?")

MAX_HOST_LENGTH = 253  # of a name of DNS
_HOST = re.compile(r"([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.)*[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


class SettingsError(Exception):
    """SettingsError says that the settings are not usable; its message names each bad field and the problem."""


class _SettingsModel(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="forbid", frozen=True
    )


class ModelEndpoint(_SettingsModel):
    """ModelEndpoint is one OpenAI-compatible endpoint."""

    name: str = Field(min_length=1, description="name that spec.generation.model refers to")
    base_url: str = Field(alias="baseURL", min_length=1, description="URL up to and including /v1")
    model: str = Field(min_length=1, description="name by which the endpoint knows the model")
    api_key_file: str = Field(default="", description="file that holds the API key; empty: no key is sent")
    auth_header: str = Field(
        default=BEARER_HEADER,
        pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$",
        description="header that carries the key: Authorization as a bearer token, any other the key alone",
    )
    ca_file: str = Field(
        default="", description="file (PEM) of certificate authorities to trust beside the system's; empty: none"
    )
    proxy: str = Field(default="", description="URL of the HTTP proxy that requests go through; empty: none")
    timeout_seconds: float = Field(default=300, gt=0, description="timeout of one request, in seconds")
    max_reply_tokens: int = Field(default=4096, ge=64, description="limit on the tokens of one reply")


def endpoint_problem(endpoint: ModelEndpoint) -> str:
    """Return why an endpoint can never be called with these settings, and what to change; empty if it may work."""
    try:
        url, proxy = urlsplit(endpoint.base_url), urlsplit(endpoint.proxy)
        _ = url.port, proxy.port  # raises ValueError for what is none
    except ValueError as error:
        return f"baseURL or proxy is no URL: {error}"
    if url.scheme not in {"http", "https"} or not url.hostname or any(map(str.isspace, endpoint.base_url)):
        return "baseURL is no http or https URL"
    path = url.path.rstrip("/")
    wrong_end = next((end for end in OPERATION_PATHS if path.endswith(end)), "")
    if wrong_end:
        return f"baseURL ends with {wrong_end}: leave that out, the operator appends /chat/completions itself"
    if url.fragment:
        return "baseURL has a fragment (#), which is never sent"
    if "/openai/deployments/" in f"{path}/" and "api-version" not in parse_qs(url.query):
        return (
            "baseURL is a deployment of Azure OpenAI: append ?api-version=…, or give the one that ends with /openai/v1"
        )
    if endpoint.auth_header.lower() in FIXED_HEADERS:
        return f"authHeader {endpoint.auth_header} is a header of HTTP itself: name the one that carries the key"
    if endpoint.proxy and (proxy.scheme not in {"http", "https"} or not proxy.hostname or proxy.path.strip("/")):
        return "proxy is no http or https URL of a proxy: give http://HOST:PORT; SOCKS is not spoken"
    return ""


class RegistrySettings(_SettingsModel):
    """RegistrySettings name one registry three times: as builder, nodes and controller reach it."""

    push: str = Field(
        default="skill-operator-registry.skill-operator.svc:5000", description="address that the builder pushes to"
    )
    pull: str = Field(default="localhost:30500", description="address that the nodes pull from")
    read: str = Field(
        default="http://skill-operator-registry-mirror.skill-operator-nodes.svc:5002",
        description="URL that the controller reads manifests from",
    )
    credentials: str = Field(
        default="", description="file (dockerconfigjson) with the controller's read credential; empty: anonymous"
    )
    trusted_hosts: list[str] = Field(
        default_factory=list,
        description="hosts beside the registry's own that may give the controller tokens and blobs",
    )
    insecure: bool = Field(default=True, description="whether the builder may use plain HTTP for the push address")
    push_secret: str = Field(
        default="registry-push", description="push Secret (dockerconfigjson) in the builder namespace; empty: none"
    )
    pull_secret: str = Field(
        default="", description="name of the image pull Secret in the namespaces of skills; empty: none"
    )
    mirror_namespace: str = Field(
        default="skill-operator-nodes", description="namespace of the embedded registry's mirrors; empty: none"
    )
    flat_names: bool = Field(
        default=False, description="whether the images of a namespace share one repository, skills-NAMESPACE"
    )
    sweep_seconds: int = Field(
        default=3600, ge=10, description="seconds between two sweeps of the embedded registry's disk"
    )
    sweep_grace_seconds: int = Field(default=3600, ge=600, description="age in seconds below which nothing is swept")


class ImageSettings(_SettingsModel):
    """ImageSettings hold references by digest.

    A reference without a registry host (`skill-operator/runtime@sha256:…`) is in the configured registry.
    """

    runtime: str = Field(description="base image of all skills")
    checker: str = Field(description="runtime image with the tools of the gates")
    builder: str = Field(description="image of Kaniko")
    operator: str = Field(description="image of the operator, which a build ends with: registry.normalizer")


class ResourceSettings(_SettingsModel):
    """ResourceSettings are the resources of a container, as Kubernetes writes them."""

    requests: dict[str, str] = Field(default_factory=dict, description="resources that the scheduler reserves")
    limits: dict[str, str] = Field(default_factory=dict, description="resources that the container may use at most")


class CheckSettings(_SettingsModel):
    """CheckSettings bound the Jobs that check candidates."""

    deadline_seconds: int = Field(default=120, ge=5, description="deadline of one check Job, in seconds")
    concurrency: int = Field(default=8, ge=1, description="number of check Jobs at once")
    namespace_concurrency: int = Field(default=3, ge=1, description="number of check Jobs of one namespace at once")
    resources: ResourceSettings = ResourceSettings(
        requests={"cpu": "100m", "memory": "256Mi", "ephemeral-storage": "64Mi"},
        limits={"cpu": "1", "memory": "768Mi", "ephemeral-storage": "256Mi"},
    )


class BuildSettings(_SettingsModel):
    """BuildSettings bound the Jobs that build images."""

    deadline_seconds: int = Field(default=180, ge=5, description="deadline of one build Job, in seconds")
    concurrency: int = Field(default=4, ge=1, description="number of build Jobs at once")
    resources: ResourceSettings = ResourceSettings(
        requests={"cpu": "100m", "memory": "128Mi", "ephemeral-storage": "128Mi"},
        limits={"cpu": "1", "memory": "512Mi", "ephemeral-storage": "1Gi"},
    )


class DailyTokenSettings(_SettingsModel):
    """DailyTokenSettings limit the tokens of one day (UTC)."""

    namespace: int = Field(default=1_000_000, ge=1, description="tokens of all Skills of one namespace")
    operator: int = Field(default=10_000_000, ge=1, description="tokens of all Skills together")


class SecondOpinionSettings(_SettingsModel):
    """SecondOpinionSettings say which Skills get a second program to compare the accepted one with."""

    below_examples: int = Field(
        default=6,
        ge=0,
        description="number of examples from which Skills get no second program, unless they ask for it; 0: never one",
    )


class GenerationSettings(_SettingsModel):
    """GenerationSettings govern the requests to models."""

    concurrency: int = Field(default=4, ge=1, description="number of requests to models at once")
    escalation: list[str] = Field(
        default_factory=list,
        max_length=5,
        description="models in turn, one attempt each, the last for all further attempts; empty: the first model",
    )
    infrastructure_failures: int = Field(
        default=5, ge=1, description="failed requests in a row before a Skill stalls; it is then tried twice an hour"
    )
    deadline_seconds: int = Field(
        default=900, ge=10, description="wall clock seconds for one input, from the first reply"
    )
    floor_seconds: int = Field(
        default=30, ge=0, description="least seconds between first requests for two inputs of one Skill"
    )
    daily_tokens: DailyTokenSettings = DailyTokenSettings()
    second_opinion: SecondOpinionSettings = SecondOpinionSettings()


class IsolationSettings(_SettingsModel):
    """IsolationSettings govern the isolation of skill, check and build pods."""

    required: bool = Field(
        default=True, description="whether a pod refuses to run a skill unless its isolation is proven"
    )
    user_namespaces: Literal["Auto", "Required", "Never"] = Field(
        default="Auto", description="hostUsers: false for skill, check and build pods; Auto: where all nodes have them"
    )
    runtime_class_name: str = Field(
        default="", description="RuntimeClass of skill and check pods; empty: the node's default"
    )
    runtime_class_names: list[str] = Field(
        default_factory=list, description="RuntimeClasses that a Skill may choose instead"
    )
    cluster_cidrs: list[IPv4Network | IPv6Network] = Field(
        alias="clusterCIDRs",
        default_factory=list,
        description="networks of pods, services and nodes, beside those that can be detected",
    )
    beacon: str = Field(
        default="skill-operator-beacon.skill-operator.svc:8082",
        description="Service that only isolated pods cannot reach; they prove their isolation by it; empty: none",
    )
    prober: str = Field(
        default="skill-operator-prober.skill-operator.svc:8080",
        description="Service of the isolated pod that reports what it can reach; empty: no lasting proof",
    )
    namespace_pods: int = Field(default=50, ge=1, description="quota: pods of skills in one namespace")
    namespace_cpu: str = Field(default="8", alias="namespaceCPU", description="quota: CPU limits of these pods")
    namespace_memory: str = Field(default="16Gi", description="quota: memory limits of these pods")

    @property
    def allowed_runtime_classes(self) -> frozenset[str]:
        """Return the classes that pods of skills may have; an empty one is the node's default."""
        return frozenset({self.runtime_class_name, *self.runtime_class_names})


class CallLimitSettings(_SettingsModel):
    """CallLimitSettings limit calls in each replica of the gateway; 0 means no limit."""

    per_minute: int = Field(default=0, ge=0, description="calls per minute; a sixth of them may come at once")
    concurrent: int = Field(default=0, ge=0, description="calls in flight")


class GatewayLimitSettings(_SettingsModel):
    """GatewayLimitSettings hold the limits for each caller and for each Skill."""

    caller: CallLimitSettings = Field(
        default=CallLimitSettings(per_minute=12_000, concurrent=256), description="limits of each caller"
    )
    skill: CallLimitSettings = Field(
        default=CallLimitSettings(), description="limits of each Skill whose spec.callLimits is not set"
    )


class ConnectionLimitSettings(_SettingsModel):
    """ConnectionLimitSettings limit the connections that callers keep open to each replica of the gateway."""

    total: int = Field(default=4096, ge=1, description="open connections; the next one is closed at once")
    per_address: int = Field(default=512, ge=1, description="open connections from one IP address")


class WakeSettings(_SettingsModel):
    """WakeSettings bound the calls that wait for a pod, or for a place in one."""

    seconds: float = Field(
        default=60, gt=0, description="seconds that a call waits for a pod of its skill and a place in it"
    )
    queue: int = Field(default=100, ge=1, description="number of calls of one skill that wait at once, in each replica")


class McpSettings(_SettingsModel):
    """McpSettings say how agents see the tools."""

    list_at_most: int = Field(
        default=32, ge=0, description="tools that a caller's list has; of more, find_skills and call_skill alone"
    )


class PageSettings(_SettingsModel):
    """PageSettings say whether the gateway has a page for people."""

    enabled: bool = Field(default=True, description="whether the gateway serves the page at /ui")


class WorkshopSettings(_SettingsModel):
    """WorkshopSettings say whether agents may ask the gateway for Skills, and bound what these may cost."""

    enabled: bool = Field(default=False, description="whether agents may ask for Skills, in namespaces that allow it")
    per_minute: int = Field(
        default=30, ge=1, le=6000, description="requests of one caller that are looked into, in each replica"
    )
    wait_seconds: float = Field(
        default=50, gt=0, le=3600, description="seconds that create_skill waits for the skill, without MCP tasks"
    )
    max_attempts: int = Field(default=3, ge=1, le=5, description="candidates that a model may write for one Skill")
    token_budget: int = Field(
        default=20_000, ge=1000, le=10_000_000, description="tokens that may be spent on one spec"
    )
    archive_after_seconds: int = Field(
        default=2_592_000, ge=3600, le=315_360_000, description="seconds without a call until the Skill is archived"
    )


def is_host_name(text: str) -> bool:
    """Return whether a text is a host name in lower case. One whose last label begins with a digit is none."""
    return len(text) <= MAX_HOST_LENGTH and _HOST.fullmatch(text) is not None


def _server_name(text: str) -> str:
    """Return an IP address or a host name as it is. Raises ValueError for anything else."""
    if is_host_name(text):
        return text
    try:
        if "%" not in text and ip_address(text):
            return text
    except ValueError:
        pass
    raise ValueError(f"{text[:80]!r} is neither a host name in lower case, without port or wildcard, nor an IP address")


class SelfSignedSettings(_SettingsModel):
    """SelfSignedSettings say for which names the controller makes the gateway's certificate."""

    enabled: bool = Field(default=False, description="whether the controller makes and renews the certificate")
    service: str = Field(
        default="skill-operator-gateway", description="name of the gateway's Service; what holds the certificate has it"
    )
    extra_names: list[Annotated[str, AfterValidator(_server_name)]] = Field(
        default_factory=list, max_length=64, description="host names and IP addresses beside those of the Service"
    )


def _issuer(text: str) -> str:
    """Return the issuer of an authorization server (RFC 8414) as it is. Raises ValueError for anything else."""
    if _ISSUER.fullmatch(text) and urlsplit(text).hostname:
        return text
    raise ValueError(f"{text[:80]!r} is no issuer: give its https URL as its tokens have it, without query or fragment")


class OAuthSettings(_SettingsModel):
    """OAuthSettings say where callers sign in. The API server judges the tokens: it must trust these issuers itself."""

    authorization_servers: list[Annotated[str, AfterValidator(_issuer)]] = Field(
        default_factory=list,
        max_length=8,
        description="issuers that clients are sent to for a token, the first before the others; empty: none",
    )
    scopes: list[Annotated[str, Field(max_length=200, pattern=r"^[!#-\[\]-~]+$")]] = Field(
        default_factory=list, max_length=32, description="scopes that clients shall ask for; empty: those of their own"
    )


class GatewaySettings(_SettingsModel):
    """GatewaySettings govern who may call skills, and how many calls at once."""

    auth: Literal["kubernetes", "none"] = Field(
        default="kubernetes", description="kubernetes: callers need a token and a right; none: everybody may call"
    )
    audiences: list[str] = Field(
        default=["skill-gateway"], min_length=1, description="audiences of accepted tokens; a token needs one of them"
    )
    hosts: list[str] = Field(
        default=[
            "skill-operator-gateway",
            "skill-operator-gateway.skill-operator",
            "skill-operator-gateway.skill-operator.svc",
            "skill-operator-gateway.skill-operator.svc.cluster.local",
        ],
        description="with auth none: host names that requests may carry",
    )
    origins: list[Annotated[str, Field(max_length=253, pattern=ORIGIN)]] = Field(
        default_factory=list, description="origins of pages elsewhere that may call, as they send them"
    )
    limits: GatewayLimitSettings = GatewayLimitSettings()
    connections: ConnectionLimitSettings = ConnectionLimitSettings()
    tls_folder: str = Field(default="", description="folder of tls.crt and tls.key; empty: plain HTTP")
    self_signed: SelfSignedSettings = SelfSignedSettings()
    wake: WakeSettings = WakeSettings()
    finish_seconds: int = Field(
        default=40, ge=0, le=3600, description="seconds that calls in flight get when a gateway is replaced"
    )
    mcp: McpSettings = McpSettings()
    oauth: OAuthSettings = OAuthSettings()
    ui: PageSettings = PageSettings()
    workshop: WorkshopSettings = WorkshopSettings()


class EgressProxySettings(_SettingsModel):
    """EgressProxySettings say where the proxy for grants of host names is."""

    address: str = Field(
        default="skill-operator-egress-proxy.skill-operator.svc:3128",
        description="Service of the proxy for grants of host names; empty: there is none",
    )
    deployment: str = Field(default="skill-operator-egress-proxy", description="name of its Deployment")
    labels: dict[str, str] = Field(
        default={"app.kubernetes.io/name": "skill-operator", "app.kubernetes.io/component": "egress-proxy"},
        description="labels of its pods",
    )
    port: int = Field(default=3128, description="port of its pods")
    replicas: int = Field(
        default=1, ge=1, description="number of its pods while a Skill has such a grant; otherwise it is scaled to zero"
    )


class Settings(_SettingsModel):
    """Settings hold everything that both processes read at their start."""

    namespace: str = Field(default="skill-operator", description="namespace of the operator itself")
    builder_namespace: str = Field(default="skill-operator-builds", description="namespace of the builds")
    watch_namespaces: list[str] = Field(default_factory=list, description="namespaces of the Skills; empty: all")
    registry: RegistrySettings = RegistrySettings()
    images: ImageSettings
    models: list[ModelEndpoint] = Field(
        default_factory=list, description="endpoints of models; the first is the default; none: only pinned source"
    )
    gateway_url: str = Field(
        default="http://skill-operator-gateway.skill-operator.svc",
        alias="gatewayURL",
        description="URL that status.url of a Skill starts with",
    )
    gateway_labels: dict[str, str] = Field(
        default={"app.kubernetes.io/name": "skill-operator", "app.kubernetes.io/component": "gateway"},
        description="labels of the gateway's pods, the only ones that may call skills",
    )
    gateway: GatewaySettings = GatewaySettings()
    egress_proxy: EgressProxySettings = EgressProxySettings()
    registry_labels: dict[str, str] = Field(
        default={"app.kubernetes.io/name": "skill-operator", "app.kubernetes.io/component": "registry"},
        description="labels of the embedded registry's pods; empty: the registry is elsewhere, see registryCIDRs",
    )
    registry_cidrs: list[str] = Field(
        alias="registryCIDRs",
        default_factory=list,
        description="networks of a registry outside the cluster, which the builder may reach",
    )
    priority_class_name: str = Field(
        default="skill", description="priority class of the pods of skills, checks and builds; empty: none"
    )
    generation: GenerationSettings = GenerationSettings()
    check: CheckSettings = CheckSettings()
    build: BuildSettings = BuildSettings()
    isolation: IsolationSettings = IsolationSettings()
    workers: int = Field(
        default=4, ge=1, description="number of Skills that are reconciled at once; one is never left to one namespace"
    )
    resync_seconds: int = Field(default=600, ge=10, description="seconds between two reconciles of an unchanged Skill")
    lease_seconds: int = Field(
        default=30, ge=3, description="seconds until another controller takes over from a silent leader"
    )
    listen_port: int = Field(default=8080, description="port of the gateway's API")
    beacon_port: int = Field(default=8082, description="port of the gateway's beacon")
    judge_port: int = Field(default=8083, description="port of the gateway's egress authorizer, for the egress proxy")
    usage_port: int = Field(default=8084, description="port of the gateway's usage report, for the controller alone")
    health_port: int = Field(default=8081, description="port of /healthz, /readyz and /metrics of either process")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="lowest level that is logged"
    )

    @property
    def namespace_scopes(self) -> list[str | None]:
        """Return the namespaces to list and watch; None stands for all of them."""
        return [*self.watch_namespaces] or [None]

    @model_validator(mode="after")
    def _models_can_be_called(self) -> Settings:
        problems = [(model.name, problem) for model in self.models if (problem := endpoint_problem(model))]
        if problems:
            raise ValueError("; ".join(f"model {name}: {problem}" for name, problem in problems))
        return self

    @model_validator(mode="after")
    def _callers_can_sign_in(self) -> Settings:
        if not self.gateway.oauth.authorization_servers:
            return self
        if self.gateway.auth == "none":
            raise ValueError("gateway.oauth sends callers to sign in, and gateway.auth none asks nobody for a token")
        if not _RESOURCE.fullmatch(self.gateway_url):
            raise ValueError("gateway.oauth needs a gateway.url that callers can use: http(s)://HOST[:PORT][/PATH]")
        return self

    @model_validator(mode="after")
    def _escalation_is_known(self) -> Settings:
        unknown = [name for name in self.generation.escalation if name not in {model.name for model in self.models}]
        if unknown:
            raise ValueError(f"generation.escalation names models that models[] does not have: {', '.join(unknown)}")
        return self


def load(path: Path = SETTINGS_FILE) -> Settings:
    """Read the settings. Raises SettingsError with one line for each bad field."""
    try:
        return Settings.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        lines = (f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors())
        raise SettingsError(f"{path} is not usable:\n  " + "\n  ".join(lines)) from error
