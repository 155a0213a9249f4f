"""Every setting of both processes, as one model. The chart renders it as JSON into the file named below."""

from __future__ import annotations

import os
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

SETTINGS_FILE = Path(os.environ.get("SKILL_OPERATOR_SETTINGS", "/etc/skill-operator/settings.json"))


class SettingsError(Exception):
    """The settings cannot be used; the message names each field and what is wrong with it."""


class _SettingsModel(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="forbid", frozen=True
    )


class ModelEndpoint(_SettingsModel):
    """One OpenAI-compatible endpoint."""

    name: str = Field(min_length=1, description="what spec.generation.model refers to")
    base_url: str = Field(alias="baseURL", min_length=1, description="up to and including /v1")
    model: str = Field(min_length=1, description="the name the endpoint knows the model by")
    api_key_file: str = Field(default="", description="file that holds the key; empty: no key is sent")
    timeout_seconds: float = Field(default=120, gt=0)
    max_reply_tokens: int = Field(default=4096, ge=64)


class RegistrySettings(_SettingsModel):
    """Where the builder pushes, the nodes pull and the controller reads images: three names of one place."""

    push: str = "skill-operator-registry.skill-operator.svc:5000"
    pull: str = "localhost:30500"
    read: str = Field(
        default="http://skill-operator-registry.skill-operator.svc:5001", description="URL, for reading manifests"
    )
    credentials: str = Field(
        default="", description="file (dockerconfigjson) by which the controller reads; empty: none"
    )
    insecure: bool = Field(default=True, description="the builder may speak plain HTTP to the push address")
    push_secret: str = Field(
        default="registry-push", description="dockerconfigjson Secret in the builder namespace; empty: none"
    )
    pull_secret: str = Field(default="", description="image pull Secret that skill namespaces hold; empty: none")
    sweep_seconds: int = Field(default=3600, ge=10, description="between two sweeps of the embedded registry's disk")
    sweep_grace_seconds: int = Field(default=3600, ge=600, description="what is younger is never swept")


class ImageSettings(_SettingsModel):
    """References by digest. One without a registry host (`skill-operator/runtime@sha256:…`) is in that registry."""

    runtime: str
    checker: str
    builder: str


class ResourceSettings(_SettingsModel):
    requests: dict[str, str] = Field(default_factory=dict)
    limits: dict[str, str] = Field(default_factory=dict)


class CheckSettings(_SettingsModel):
    deadline_seconds: int = Field(default=120, ge=5)
    resources: ResourceSettings = ResourceSettings(
        requests={"cpu": "200m", "memory": "256Mi", "ephemeral-storage": "64Mi"},
        limits={"cpu": "1", "memory": "768Mi", "ephemeral-storage": "256Mi"},
    )


class BuildSettings(_SettingsModel):
    deadline_seconds: int = Field(default=180, ge=5)
    concurrency: int = Field(default=4, ge=1)
    resources: ResourceSettings = ResourceSettings(
        requests={"cpu": "100m", "memory": "128Mi", "ephemeral-storage": "128Mi"},
        limits={"cpu": "1", "memory": "512Mi", "ephemeral-storage": "1Gi"},
    )


class DailyTokenSettings(_SettingsModel):
    namespace: int = Field(default=1_000_000, ge=1, description="of all Skills of one namespace")
    operator: int = Field(default=10_000_000, ge=1, description="of all Skills together")


class GenerationSettings(_SettingsModel):
    concurrency: int = Field(default=4, ge=1, description="calls to models at once")
    escalation: list[str] = Field(
        default_factory=list,
        max_length=3,
        description="models that are asked in turn, one attempt each, the last for all others; empty: the first model",
    )
    infrastructure_failures: int = Field(
        default=5, ge=1, description="failed calls in a row before a Skill stalls, and is tried twice an hour"
    )
    deadline_seconds: int = Field(default=900, ge=10, description="wall clock for one input, from the first reply")
    floor_seconds: int = Field(default=30, ge=0, description="between first calls for two inputs of one Skill")
    daily_tokens: DailyTokenSettings = DailyTokenSettings()


class IsolationSettings(_SettingsModel):
    required: bool = Field(default=True, description="a pod that is not shut in runs nothing of a skill's")
    user_namespaces: Literal["Auto", "Required", "Never"] = Field(
        default="Auto", description="hostUsers: false for skill, check and build pods; Auto: where all nodes have them"
    )
    runtime_class_name: str = ""
    runtime_class_names: list[str] = Field(default_factory=list, description="what a Skill may choose instead")
    cluster_cidrs: list[IPv4Network | IPv6Network] = Field(
        alias="clusterCIDRs",
        default_factory=list,
        description="networks of pods, services and nodes, beside those that can be detected",
    )
    beacon: str = Field(
        default="skill-operator-beacon.skill-operator.svc:8082",
        description="Service that every pod can reach but a caged one, which proves its cage by it; empty: none",
    )
    prober: str = Field(
        default="skill-operator-prober.skill-operator.svc:8080",
        description="Service of the caged pod that says what it can reach; empty: nobody proves the cage for good",
    )
    namespace_pods: int = Field(default=50, ge=1, description="quota: pods of skills in one namespace")
    namespace_cpu: str = Field(default="8", alias="namespaceCPU")
    namespace_memory: str = "16Gi"


class CallLimitSettings(_SettingsModel):
    """For each replica of the gateway; 0: no limit."""

    per_minute: int = Field(default=0, ge=0, description="calls a minute; a sixth of them may come at once")
    concurrent: int = Field(default=0, ge=0, description="calls in flight")


class GatewayLimitSettings(_SettingsModel):
    caller: CallLimitSettings = CallLimitSettings(concurrent=256)
    skill: CallLimitSettings = Field(default=CallLimitSettings(), description="where spec.callLimits says nothing")


class WakeSettings(_SettingsModel):
    seconds: float = Field(default=60, gt=0, description="how long a call waits for a pod of its skill")
    queue: int = Field(default=100, ge=1, description="calls of one skill that wait at once, in each gateway")


class GatewaySettings(_SettingsModel):
    auth: Literal["kubernetes", "none"] = "kubernetes"
    audiences: list[str] = Field(
        default=["skill-gateway"], min_length=1, description="of the tokens that are taken; one of them is enough"
    )
    hosts: list[str] = Field(
        default=[
            "skill-operator-gateway",
            "skill-operator-gateway.skill-operator",
            "skill-operator-gateway.skill-operator.svc",
            "skill-operator-gateway.skill-operator.svc.cluster.local",
        ],
        description="with auth none: names that it may be called by",
    )
    limits: GatewayLimitSettings = GatewayLimitSettings()
    tls_folder: str = Field(default="", description="folder of tls.crt and tls.key; empty: plain HTTP")
    wake: WakeSettings = WakeSettings()


class EgressProxySettings(_SettingsModel):
    address: str = Field(
        default="skill-operator-egress-proxy.skill-operator.svc:3128",
        description="Service of the proxy that grants of host names lead through; empty: there is none",
    )
    deployment: str = "skill-operator-egress-proxy"
    labels: dict[str, str] = Field(
        default={"app.kubernetes.io/name": "skill-operator", "app.kubernetes.io/component": "egress-proxy"},
        description="of its pods",
    )
    port: int = Field(default=3128, description="of its pods")
    replicas: int = Field(default=1, ge=1, description="while a Skill has such a grant; else none")


class Settings(_SettingsModel):
    namespace: str = Field(default="skill-operator", description="where the operator itself runs")
    builder_namespace: str = "skill-operator-builds"
    watch_namespaces: list[str] = Field(default_factory=list, description="empty: all")
    registry: RegistrySettings = RegistrySettings()
    images: ImageSettings
    models: list[ModelEndpoint] = Field(
        default_factory=list, description="the first is the default; none: only pinned source"
    )
    gateway_url: str = Field(default="http://skill-operator-gateway.skill-operator.svc", alias="gatewayURL")
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
        description="where the builder finds a registry outside the cluster",
    )
    priority_class_name: str = Field(
        default="skill", description="priority class of the pods of skills, checks and builds; empty: none"
    )
    generation: GenerationSettings = GenerationSettings()
    check: CheckSettings = CheckSettings()
    build: BuildSettings = BuildSettings()
    isolation: IsolationSettings = IsolationSettings()
    workers: int = Field(default=4, ge=1, description="Skills reconciled at once")
    resync_seconds: int = Field(default=600, ge=10)
    lease_seconds: int = Field(default=15, ge=3, description="how long a silent leader is respected")
    listen_port: int = Field(default=8080, description="the gateway's calls")
    beacon_port: int = Field(default=8082, description="the gateway's beacon")
    judge_port: int = Field(default=8083, description="the gateway's answers to the egress proxy")
    health_port: int = Field(default=8081, description="/healthz, /readyz and /metrics of either process")
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def namespace_scopes(self) -> list[str | None]:
        """Return the namespaces to list and watch; None stands for all of them."""
        return [*self.watch_namespaces] or [None]

    @model_validator(mode="after")
    def _escalation_is_known(self) -> Settings:
        unknown = [name for name in self.generation.escalation if name not in {model.name for model in self.models}]
        if unknown:
            raise ValueError(f"generation.escalation names what is not in models: {', '.join(unknown)}")
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
