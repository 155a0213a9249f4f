"""Every setting of both processes, as one model. The chart renders it as JSON into the file named below."""

from __future__ import annotations

import os
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

SETTINGS_FILE = Path(os.environ.get("SKILL_OPERATOR_SETTINGS", "/etc/skill-operator/settings.json"))


class SettingsError(Exception):
    """The settings cannot be used; the message names each field and what is wrong with it."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelEndpoint(_Model):
    """One OpenAI-compatible endpoint."""

    name: str = Field(min_length=1, description="what spec.generation.model refers to")
    baseURL: str = Field(min_length=1, description="up to and including /v1")
    model: str = Field(min_length=1, description="the name the endpoint knows the model by")
    apiKeyFile: str = Field(default="", description="file that holds the key; empty: no key is sent")
    timeoutSeconds: float = Field(default=120, gt=0)
    maxReplyTokens: int = Field(default=4096, ge=64)


class Registry(_Model):
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
    pushSecret: str = Field(
        default="registry-push", description="dockerconfigjson Secret in the builder namespace; empty: none"
    )
    pullSecret: str = Field(default="", description="image pull Secret that skill namespaces hold; empty: none")
    sweepSeconds: int = Field(default=3600, ge=10, description="between two sweeps of the embedded registry's disk")
    sweepGraceSeconds: int = Field(default=3600, ge=600, description="what is younger is never swept")


class Images(_Model):
    """References by digest. One without a registry host (`skill-operator/runtime@sha256:…`) is in that registry."""

    runtime: str
    checker: str
    builder: str


class Resources(_Model):
    requests: dict[str, str] = Field(default_factory=dict)
    limits: dict[str, str] = Field(default_factory=dict)


class Check(_Model):
    deadlineSeconds: int = Field(default=120, ge=5)
    resources: Resources = Resources(
        requests={"cpu": "200m", "memory": "256Mi", "ephemeral-storage": "64Mi"},
        limits={"cpu": "1", "memory": "768Mi", "ephemeral-storage": "256Mi"},
    )


class Build(_Model):
    deadlineSeconds: int = Field(default=180, ge=5)
    concurrency: int = Field(default=4, ge=1)
    resources: Resources = Resources(
        requests={"cpu": "100m", "memory": "128Mi", "ephemeral-storage": "128Mi"},
        limits={"cpu": "1", "memory": "512Mi", "ephemeral-storage": "1Gi"},
    )


class DailyTokens(_Model):
    namespace: int = Field(default=1_000_000, ge=1, description="of all Skills of one namespace")
    operator: int = Field(default=10_000_000, ge=1, description="of all Skills together")


class Generation(_Model):
    concurrency: int = Field(default=4, ge=1, description="calls to models at once")
    escalation: list[str] = Field(
        default_factory=list,
        max_length=3,
        description="models that are asked in turn, one attempt each, the last for all others; empty: the first model",
    )
    infrastructureFailures: int = Field(
        default=5, ge=1, description="failed calls in a row before a Skill stalls, and is tried twice an hour"
    )
    deadlineSeconds: int = Field(default=900, ge=10, description="wall clock for one input, from the first reply")
    floorSeconds: int = Field(default=30, ge=0, description="between first calls for two inputs of one Skill")
    dailyTokens: DailyTokens = DailyTokens()


class Isolation(_Model):
    required: bool = Field(default=True, description="a pod that is not shut in runs nothing of a skill's")
    userNamespaces: Literal["Auto", "Required", "Never"] = Field(
        default="Auto", description="hostUsers: false for skill, check and build pods; Auto: where all nodes have them"
    )
    runtimeClassName: str = ""
    runtimeClassNames: list[str] = Field(default_factory=list, description="what a Skill may choose instead")
    clusterCIDRs: list[IPv4Network | IPv6Network] = Field(
        default_factory=list, description="networks of pods, services and nodes, beside those that can be detected"
    )
    beacon: str = Field(
        default="skill-operator-beacon.skill-operator.svc:8082",
        description="Service that every pod can reach but a caged one, which proves its cage by it; empty: none",
    )
    prober: str = Field(
        default="skill-operator-prober.skill-operator.svc:8080",
        description="Service of the caged pod that says what it can reach; empty: nobody proves the cage for good",
    )
    namespacePods: int = Field(default=50, ge=1, description="quota: pods of skills in one namespace")
    namespaceCPU: str = "8"
    namespaceMemory: str = "16Gi"


class CallLimits(_Model):
    """For each replica of the gateway; 0: no limit."""

    perMinute: int = Field(default=0, ge=0, description="calls a minute; a sixth of them may come at once")
    concurrent: int = Field(default=0, ge=0, description="calls in flight")


class GatewayLimits(_Model):
    caller: CallLimits = CallLimits(concurrent=256)
    skill: CallLimits = Field(default=CallLimits(), description="where spec.callLimits says nothing")


class Wake(_Model):
    seconds: float = Field(default=60, gt=0, description="how long a call waits for a pod of its skill")
    queue: int = Field(default=100, ge=1, description="calls of one skill that wait at once, in each gateway")


class Gateway(_Model):
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
    limits: GatewayLimits = GatewayLimits()
    tlsFolder: str = Field(default="", description="folder of tls.crt and tls.key; empty: plain HTTP")
    wake: Wake = Wake()


class EgressProxy(_Model):
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


class Settings(_Model):
    namespace: str = Field(default="skill-operator", description="where the operator itself runs")
    builderNamespace: str = "skill-operator-builds"
    watchNamespaces: list[str] = Field(default_factory=list, description="empty: all")
    registry: Registry = Registry()
    images: Images
    models: list[ModelEndpoint] = Field(
        default_factory=list, description="the first is the default; none: only pinned source"
    )
    gatewayURL: str = "http://skill-operator-gateway.skill-operator.svc"
    gatewayLabels: dict[str, str] = Field(
        default={"app.kubernetes.io/name": "skill-operator", "app.kubernetes.io/component": "gateway"},
        description="labels of the gateway's pods, the only ones that may call skills",
    )
    gateway: Gateway = Gateway()
    egressProxy: EgressProxy = EgressProxy()
    registryLabels: dict[str, str] = Field(
        default={"app.kubernetes.io/name": "skill-operator", "app.kubernetes.io/component": "registry"},
        description="labels of the embedded registry's pods; empty: the registry is elsewhere, see registryCIDRs",
    )
    registryCIDRs: list[str] = Field(
        default_factory=list, description="where the builder finds a registry outside the cluster"
    )
    priorityClassName: str = Field(
        default="skill", description="priority class of the pods of skills, checks and builds; empty: none"
    )
    generation: Generation = Generation()
    check: Check = Check()
    build: Build = Build()
    isolation: Isolation = Isolation()
    workers: int = Field(default=4, ge=1, description="Skills reconciled at once")
    resyncSeconds: int = Field(default=600, ge=10)
    leaseSeconds: int = Field(default=15, ge=3, description="how long a silent leader is respected")
    listenPort: int = Field(default=8080, description="the gateway's calls")
    beaconPort: int = Field(default=8082, description="the gateway's beacon")
    judgePort: int = Field(default=8083, description="the gateway's answers to the egress proxy")
    healthPort: int = Field(default=8081, description="/healthz, /readyz and /metrics of either process")
    logLevel: Literal["debug", "info", "warning", "error"] = "info"

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
