"""The types of `skill-operator.dev/v1alpha1`. The CustomResourceDefinition is generated from them (`crd.py`).

Everything is bounded: the API server refuses rules over unbounded values, and so should whoever pays for etcd.
Unknown fields are ignored on reading, so that an older operator can read what a newer API stored.
Objects are frozen: a changed status is a new one (`status.model_copy(update={...})`).
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from typing_extensions import Self

from skill_operator.api.quantity import MAX_LENGTH as MAX_QUANTITY_LENGTH
from skill_operator.api.quantity import QUANTITY, canonical, value
from skill_operator.naming import API_VERSION, CREATED_BY_ANNOTATION, PROMOTED_BY_ANNOTATION

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
# The last part begins with a letter, as that of no address does, however it is written.
HOST = r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?[.])+[a-z]([-a-z0-9]{0,61}[a-z0-9])?$"
NO_HOST = (
    "must be the full name of one host in lower case, such as api.example.com: "
    "no address, no wildcard, no dot at the end"
)
INSIDE = r"[.](localhost|localdomain|local|svc|internal|intranet|private|corp|home|lan|onion|arpa)$"
INSIDE_HOST = "must be a name of the internet: those of the cluster and of private networks are never granted"
MESSAGE_LIMIT = 4096
MAX_REJECTED = 64  # digests of rejected code in a status
MAX_EARLIER_REQUESTS = 8  # that a person may still have on the screen


def _rules(*rules: tuple[str, str]) -> dict[str, Any]:
    """CEL rules of the API server, each with its message, for `json_schema_extra`."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in rules]}


def _seconds(moment: datetime) -> datetime:
    """UTC in whole seconds, as the API server keeps it: what is read back equals what was written."""
    return moment.astimezone(timezone.utc).replace(microsecond=0)


def _text(value: Any) -> Any:
    """`cpu: 1` and `cpu: 0.5` are numbers in YAML and quantities all the same."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Time = Annotated[
    AwareDatetime,
    AfterValidator(_seconds),
    PlainSerializer(lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%SZ"), return_type=str, when_used="json"),
]
Name = Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_LABEL)]
Quantity = Annotated[
    str,
    BeforeValidator(_text),
    Field(min_length=1, max_length=MAX_QUANTITY_LENGTH, pattern=QUANTITY),
    AfterValidator(canonical),
    WithJsonSchema(
        {  # of no type, since a structural schema has none for "a number or a text": pods take `cpu: 0.5`
            "x-kubernetes-preserve-unknown-fields": True,
            "minimum": 0,
            "maxLength": MAX_QUANTITY_LENGTH,
            "pattern": QUANTITY,
            "maxItems": 0,
            "maxProperties": 0,
        }
    ),
]
Port = Annotated[int, Field(ge=1, le=65535)]
FreeObject = Annotated[
    dict[str, Any],
    Field(max_length=256, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}),
]


Approval = Annotated[dict[str, Annotated[str, Field(max_length=64)]], Field(max_length=16)]


class ApiModel(BaseModel):
    """camelCase on the wire, snake_case in Python."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, frozen=True, extra="ignore"
    )


def is_host(name: str) -> bool:
    """Return whether a grant may name this host."""
    return len(name) <= 253 and re.fullmatch(HOST, name) is not None and re.search(INSIDE, name) is None


class Example(ApiModel):
    """One call and what must come of it: `output` or `error`, never both."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["output"]}, {"required": ["error"]}]})

    name: Name = Field(description="Name of the example, unique in the Skill; reports of failures name it.")
    input: Any = Field(
        description="Body of the call; must fit spec.input.",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True, "nullable": True},
    )
    output: Any = Field(
        default=None,
        description="What the call must return; must fit spec.output. May be null (server-side apply).",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True, "nullable": True},
    )
    error: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Class name of the exception that the call must raise. ValueError is a refused input.",
    )

    @property
    def has_output(self) -> bool:
        """Return whether `output` was given; null is an output too."""
        return "output" in self.model_fields_set


class Source(ApiModel):
    """Pinned code: no model is called."""

    inline: str = Field(min_length=1, max_length=65536, description="Text of skill.py; it defines run(input).")


class GenerationSpec(ApiModel):
    """Settings for the language model that writes the code."""

    model: str = Field(
        default="", max_length=253, description="Name of a configured endpoint; empty is the default one."
    )
    max_attempts: int = Field(default=3, ge=1, le=5, description="Candidates that a model may write.")
    token_budget: int = Field(
        default=20000, ge=1000, le=10_000_000, description="Tokens that may be spent on one spec."
    )
    second_opinion: Literal["Auto", "Never", "Always"] = Field(
        default="Auto",
        description="Whether a second program is written and compared with the accepted one. Auto, the default, does "
        "so where examples are few, as the chart says. It costs one attempt.",
    )


class Egress(ApiModel):
    """A grant of egress: to a network over TCP, or to a host by its name over HTTP and TLS."""

    model_config = ConfigDict(
        json_schema_extra=_rules(("has(self.cidr) != has(self.host)", "needs a cidr or a host, and not both"))
    )

    cidr: str | None = Field(
        default=None,
        min_length=4,
        max_length=43,
        description="Network that may be called, such as 203.0.113.0/24.",
        json_schema_extra=_rules(("isCIDR(self)", "must be a network such as 203.0.113.0/24")),
    )
    host: str | None = Field(
        default=None,
        min_length=4,
        max_length=253,
        description="Name of a host that may be called through the egress proxy, such as api.example.com.",
        json_schema_extra=_rules((f"self.matches('{HOST}')", NO_HOST), (f"!self.matches('{INSIDE}')", INSIDE_HOST)),
    )
    ports: list[Port] = Field(
        min_length=1,
        max_length=16,
        description="TCP ports that may be called there.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )

    @property
    def to(self) -> str:
        """Network or host, as it was written."""
        return self.host or self.cidr or ""


class SecretKeyRef(ApiModel):
    """A key of a Secret in the Skill's namespace."""

    name: str = Field(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN, description="Name of the Secret.")
    key: str = Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$", description="Key in the Secret.")


class SecretGrant(ApiModel):
    """A secret that the code reads as the file /run/secrets/skill/<name>."""

    name: Name = Field(description="Name of the file in which the code finds the value.")
    secret_key_ref: SecretKeyRef = Field(description="Secret in the Skill's namespace, and the key in it, to mount.")
    disclosure: Literal["Redacted", "Allowed"] = Field(
        default="Redacted",
        description="Redacted, the default, takes the value out of answers, whatever its encoding. Allowed lets "
        "answers carry it. "
        "It never reaches a log.",
    )


class ResourceRequests(ApiModel):
    """Resources that the scheduler reserves for a pod of the Skill."""

    cpu: Quantity = Field(
        default="50m",
        description="CPU that the scheduler reserves for a pod.",
    )
    memory: Quantity = Field(default="64Mi", description="Memory that the scheduler reserves for a pod.")

    def quantities(self) -> dict[str, str]:
        """Return them as a container's `resources.requests`."""
        return self.model_dump(by_alias=True)


class ResourceLimits(ApiModel):
    """Resources that a pod of the Skill may use at most."""

    cpu: Quantity = Field(
        default="500m",
        description="CPU that a pod may use at most; beyond it the pod is throttled.",
    )
    memory: Quantity = Field(
        default="256Mi", description="Memory that a pod may use at most; a call that uses more is ended."
    )
    ephemeral_storage: Quantity = Field(
        default="64Mi",
        alias="ephemeral-storage",
        description="Size of /tmp, which is in memory: what is in it counts against limits.memory too.",
    )

    def quantities(self) -> dict[str, str]:
        """Return them as a container's `resources.limits`."""
        return self.model_dump(by_alias=True)


class Resources(ApiModel):
    """Compute resources of a pod."""

    requests: ResourceRequests = Field(
        default=ResourceRequests(), description="Resources that the scheduler reserves for a pod."
    )
    limits: ResourceLimits = Field(default=ResourceLimits(), description="Resources that a pod may use at most.")

    @model_validator(mode="after")
    def _compare(self) -> Self:
        """Refuse what no pod could have. The chart's admission policy says the same at once."""
        requests, limits = self.requests.quantities(), self.limits.quantities()
        for name, limit in limits.items():
            if not value(limit):
                raise ValueError(f"limits.{name} must be more than 0, which is no limit")
            if value(requests.get(name, "0")) > value(limit):
                raise ValueError(f"requests.{name} is more than limits.{name}")
        return self


class CallLimits(ApiModel):
    """Limits on the calls of a Skill by all its callers, in each replica of the gateway."""

    per_minute: int = Field(
        default=0, ge=0, le=1_000_000, description="A sixth of them may come at once. 0: as the chart says."
    )
    concurrent: int = Field(default=0, ge=0, le=10_000, description="Calls in flight. 0: as the chart says.")


class SkillSpec(ApiModel):
    """The task of a piece of software, and the resources that it may use."""

    description: str = Field(
        min_length=1, max_length=16384, description="What it must do, in words; what the model reads."
    )
    summary: str = Field(
        default="",
        max_length=1024,
        description="What it does and when to use it, for agents that choose among tools; no code depends on it. "
        "Empty: the first paragraph of description.",
    )
    input: FreeObject = Field(
        description="JSON Schema (2020-12) of the body of a call; its type is object. It has at most 4096 values, 32 "
        "levels and 64 patterns, which are searched in linear time: they neither look around nor refer back."
    )
    output: FreeObject = Field(description="JSON Schema (2020-12) of the answer, with the same bounds.")
    examples: list[Example] = Field(
        default_factory=list,
        max_length=64,
        description="Acceptance. About a third of them is never shown to the model.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    deterministic: bool = Field(
        default=True,
        description="The same input gets the same output. False for what depends on time, on chance or on others.",
    )
    source: Source | None = Field(default=None, description="Pinned code. With it no model is called.")
    generation: GenerationSpec = Field(
        default=GenerationSpec(), description="Which language model writes the code, and what it may cost."
    )
    revision: str = Field(
        default="",
        max_length=64,
        pattern=r"^([0-9a-f]{10,64})?$",
        description="Label of an entry of status.history that runs instead of what the spec asks for, without a model "
        "and without a build. It keeps its own schemas, and gets no more than the spec grants. Empty: none.",
    )
    review: Literal["Automatic", "WhenInDoubt", "Manual"] = Field(
        default="Automatic",
        description="Manual waits before the build until code, base image and grants are approved. That takes the "
        "right to `update` `skills/approval`. WhenInDoubt does so only where the evidence leaves something open.",
    )
    egress: list[Egress] = Field(
        default_factory=list,
        max_length=32,
        description="Where the code may connect to. Nothing by default, not even DNS.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    secrets: list[SecretGrant] = Field(
        default_factory=list,
        max_length=16,
        description="Secrets that the code may read. They are files, never environment variables.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    resources: Resources = Field(default=Resources(), description="Compute resources of each pod of the Skill.")
    runtime_class_name: str = Field(
        default="",
        max_length=253,
        pattern=r"^([a-z0-9]([-.a-z0-9]*[a-z0-9])?)?$",
        description="RuntimeClass of its pods (gVisor, Kata …), one that the installation allows. Empty: its default.",
    )
    call_timeout_seconds: int = Field(default=30, ge=1, le=3600, description="A call that takes longer is ended.")
    call_limits: CallLimits = Field(
        default=CallLimits(), description="How often all callers together may call the Skill, per gateway replica."
    )
    idle_timeout_seconds: int = Field(
        default=900, ge=0, le=31_536_000, description="Scale to zero after so long without a call; 0 never does."
    )
    archive_after_seconds: int = Field(
        default=0,
        ge=0,
        le=315_360_000,
        description="Archive after so long without a call: pods, Deployment, Service and image go, and the next call "
        "restores them without a token. 0, the default, never does. Where it is shorter than idleTimeoutSeconds, or "
        "that is 0, the Skill sleeps then, too.",
    )
    suspend: bool = Field(
        default=False, description="Only take away what is no longer granted until this is false again."
    )
    revision_history_limit: int = Field(
        default=3, ge=0, le=10, description="Images of earlier revisions that are kept."
    )

    @property
    def networks(self) -> list[tuple[int, str, list[int]]]:
        """Grants of networks: place in the list, network, ports."""
        return [(n, way.cidr, way.ports) for n, way in enumerate(self.egress) if way.cidr is not None]

    @property
    def hosts(self) -> list[tuple[int, str, list[int]]]:
        """Grants of hosts: place in the list, name, ports."""
        return [(n, way.host, way.ports) for n, way in enumerate(self.egress) if way.host is not None]


class Condition(ApiModel):
    """One aspect of the state of a Skill (metav1.Condition)."""

    type: str = Field(
        min_length=1,
        max_length=316,
        pattern=r"^[A-Za-z][A-Za-z0-9]*$",
        description="Aspect that the condition is about.",
    )
    status: Literal["True", "False", "Unknown"] = Field(description="Whether the condition holds.")
    observed_generation: int = Field(
        default=0, ge=0, description="The metadata.generation of the Skill that the condition was set for."
    )
    last_transition_time: Time = Field(description="When status last changed.")
    reason: str = Field(
        min_length=1,
        max_length=256,
        pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
        description="Machine-readable cause; each one is explained in the troubleshooting guide.",
    )
    message: str = Field(default="", max_length=MESSAGE_LIMIT, description="The cause in words, and what to do.")


class GenerationFailure(ApiModel):
    """Why the last candidate was not accepted."""

    gate: str = Field(min_length=1, max_length=63, description="The first gate that refused it.")
    message: str = Field(max_length=MESSAGE_LIMIT, description="What the gate found.")
    line: int | None = Field(default=None, ge=0, description="Line of skill.py.")


class GenerationStatus(ApiModel):
    """The requests to the model for the present code, or for code that is yet to be accepted."""

    attempts: int = Field(
        default=0,
        ge=0,
        description="Attempts that count against spec.generation.maxAttempts. Code that was accepted for the same task "
        "before keeps its own.",
    )
    tokens: int = Field(
        default=0, ge=0, description="Spent. What is reserved for a reply that is awaited comes to it later."
    )
    model: str = Field(default="", max_length=253, description="Model that wrote the latest attempt.")
    last_failure: GenerationFailure | None = Field(default=None, description="Why the last candidate was not accepted.")


class Provenance(ApiModel):
    """Provenance says who wrote accepted code, and what that took, whatever the chart's values say later."""

    author: Literal["model", "pinned"] = Field(description="pinned: the code was given in spec.source.")
    source_digest: str = Field(max_length=64, description="SHA-256 of skill.py.")
    model: str = Field(default="", max_length=253, description="Model that wrote it. Empty: nobody, or not known.")
    prompt_version: str = Field(default="", max_length=63, description="Version of the operator's prompt.")
    attempts: int = Field(default=0, ge=0, description="Attempts until the code was accepted.")
    tokens: int = Field(default=0, ge=0, description="Tokens that were spent on them.")
    time: Time | None = Field(default=None, description="When the model first replied.")
    checker: str = Field(default="", max_length=1024, description="Image that checked the code last.")


class Review(ApiModel):
    """Review says who approved a revision, as admission knew the person."""

    by: str = Field(default="", max_length=1024, description="Name of the user who approved it. Empty: not known.")
    at: Time = Field(description="When the operator first saw the approval.")
    revision: str = Field(max_length=63, description="Label of the revision that was approved.")
    covers: list[Annotated[str, Field(max_length=63)]] = Field(
        default_factory=list,
        max_length=16,
        description="Parts that were approved. If one of them changes, approval is asked for again.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class Rejection(ApiModel):
    """Rejection says who refused a revision that had passed its check, and in which words."""

    by: str = Field(default="", max_length=1024, description="Name of the user who rejected it. Empty: not known.")
    at: Time = Field(description="When the operator first saw the rejection.")
    revision: str = Field(max_length=63, description="Label of the revision that was rejected.")
    message: str = Field(default="", max_length=1024, description="Words of the reviewer.")
    token: str = Field(max_length=64, description="Token of what was rejected, as annotations have it.")
    source_digest: str = Field(default="", max_length=64, description="SHA-256 of its skill.py. Empty: not known.")
    outdated_approval: bool = Field(
        default=False,
        description="An approval with the same token was there before the rejection: it means nothing until it is "
        "taken away and given anew.",
    )


class ApprovalRequest(ApiModel):
    """ApprovalRequest says what waits for a person."""

    token: str = Field(max_length=64, description="Value of the annotation approve or reject that answers it.")
    revision: str = Field(max_length=63, description="Label of the revision that waits.")
    source_digest: str = Field(max_length=64, description="SHA-256 of its skill.py.")
    changed: list[Annotated[str, Field(max_length=63)]] = Field(
        default_factory=list,
        max_length=16,
        description="Parts that differ from what was approved last. Empty: nothing was approved yet.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    doubt: str = Field(
        default="", max_length=256, description="What the evidence leaves open, with review: WhenInDoubt. Empty: none."
    )


class EarlierRequest(ApiModel):
    """EarlierRequest says what waited for a person before: a rejection that names its token still holds."""

    token: str = Field(max_length=64, description="Value of the annotation reject that rejects its code.")
    revision: str = Field(max_length=63, description="Label of the revision that waited.")
    source_digest: str = Field(max_length=64, description="SHA-256 of its skill.py.")


class Revision(ApiModel):
    """A revision that was deployed."""

    revision: str = Field(min_length=1, max_length=63, description="Its label: the first digits of revisionDigest.")
    revision_digest: str = Field(default="", max_length=64, description="Digest of the source and of the base image.")
    image: str = Field(min_length=1, max_length=1024, description="By digest.")
    time: Time = Field(description="When it first became the current one.")
    provenance: Provenance | None = Field(default=None, description="Who wrote its code, and what that took.")
    review: Review | None = Field(default=None, description="Who approved it; absent where nobody was asked.")
    content_digest: str = Field(
        default="",
        max_length=64,
        description="Digest of the code and the spec that its ConfigMap keeps; no other content counts.",
    )
    approved: Approval | None = Field(
        default=None, description="Digest of each part that was approved, where a person was asked."
    )


class Trial(ApiModel):
    """The run of a new revision's visible examples in a pod of its own, while the earlier one serves."""

    revision: str = Field(min_length=1, max_length=63, description="Label of the revision that is tried.")
    revision_digest: str = Field(max_length=64, description="Digest of the source and of the base image.")
    image: str = Field(min_length=1, max_length=1024, description="By digest.")
    digest: str = Field(max_length=64, description="Digest of everything that the outcome depends on.")
    failure: str = Field(default="", max_length=1024, description="Why it failed. Empty: it is running.")


class ServedContract(ApiModel):
    """The contract of the running revision with its callers, where the spec says something else."""

    revision: str = Field(min_length=1, max_length=63, description="Label of the revision that runs.")
    digest: str = Field(default="", max_length=64, description="Digest of the contract with its pods.")
    description: str = Field(default="", max_length=16384, description="What it does, in words.")
    summary: str = Field(default="", max_length=1024, description="What it does and when to use it.")
    input: FreeObject | None = Field(default=None, description="JSON Schema of a call. Absent: too long to repeat.")
    output: FreeObject | None = Field(default=None, description="JSON Schema of the answer; absent as input is.")
    call_timeout_seconds: int = Field(default=30, ge=1, le=3600, description="A call that takes longer is ended.")


class MutantEvidence(ApiModel):
    """MutantEvidence says how many small mistakes in accepted code the check would find (mutation testing)."""

    killed: int = Field(
        default=0, ge=0, description="Variants that fail an example, or break a promise of the schemas."
    )
    of: int = Field(default=0, ge=0, description="Variants that were tried and differ from the code.")
    skipped: Literal["Granted", "NotDeterministic", "Slow", "Memory"] | None = Field(
        default=None,
        description=(
            "Why none was tried: egress or secrets are granted, answers may differ, the code is too slow, or its "
            "variants exhausted the memory of an earlier check."
        ),
    )


class Evidence(ApiModel):
    """Evidence says what was tried on the code that was last accepted, and so how much its examples are worth."""

    visible: int = Field(default=0, ge=0, description="Examples that the model was shown, all of which pass.")
    held_out: int = Field(default=0, ge=0, description="Examples that no model was shown, all of which pass.")
    promises: int = Field(default=0, ge=0, description="Made inputs that were answered as the schemas promise.")
    mutants: MutantEvidence = Field(default=MutantEvidence(), description="Variants of the code that were tried.")
    second_opinion: Literal["NotAsked", "Agrees", "Differs", "NoOpinion"] = Field(
        default="NotAsked", description="Whether another program for the same task answers alike."
    )
    model: str = Field(default="", max_length=253, description="Model that wrote the code.")
    author: Literal["model", "pinned", "same"] = Field(
        default="model",
        description="pinned: the code is spec.source. same: one agent asked for the Skill with both its code and its "
        "examples, so nobody else says that they are right.",
    )


class ArchiveStatus(ApiModel):
    """The archive that a Skill is in. What differs from it now restores the Skill."""

    time: Time = Field(description="When the Skill was archived.")
    uid: str = Field(default="", max_length=63, description="The metadata.uid of the Skill that was archived.")
    generation: int = Field(default=0, ge=0, description="The metadata.generation that was archived.")
    restore: str = Field(
        default="", max_length=64, description="Digest of the annotation skill-operator.dev/restore at that time."
    )

    @property
    def token(self) -> str:
        """Return what tells this archive of the Skill from its other ones."""
        return self.time.isoformat()


class SkillStatus(ApiModel):
    """The observed state of a Skill. Its conditions are the API; there is no phase."""

    observed_generation: int = Field(
        default=0,
        ge=-1,
        description="The metadata.generation of the Skill that this status was made for. -1: nobody has looked at it.",
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        description="State of the Skill, one condition for each stage, and Ready, Reconciling and Stalled (kstatus).",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    url: str = Field(default="", max_length=2048, description="Where it is called.")
    image: str = Field(default="", max_length=1024, description="What runs, by digest.")
    revision: str = Field(default="", max_length=63, description="Its label: the first digits of revisionDigest.")
    revision_digest: str = Field(default="", max_length=64, description="Digest of the source and of the base image.")
    generation: GenerationStatus | None = Field(
        default=None, description="Attempts and tokens that the present code took; absent for pinned code."
    )
    provenance: Provenance | None = Field(
        default=None, description="Who wrote the code that was last accepted, and what that took."
    )
    evidence: Evidence | None = Field(
        default=None, description="What was tried on the code that was last accepted, and what it came to."
    )
    verdict: str = Field(
        default="", max_length=64, description="Hash of the last check's question and answer: no other answer counts."
    )
    approved: Approval | None = Field(
        default=None, description="Digest of each part that was last approved, where a person was asked."
    )
    review: Review | None = Field(
        default=None, description="Who approved a revision last; absent with review: Automatic."
    )
    rejection: Rejection | None = Field(
        default=None, description="Who rejected a revision last; absent once a person has approved one."
    )
    rejected: list[Annotated[str, Field(max_length=64)]] = Field(
        default_factory=list,
        max_length=MAX_REJECTED,
        description="SHA-256 of each skill.py that a person rejected, newest first. It waits for an approval of its "
        "own, whatever the spec says.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    approval_request: ApprovalRequest | None = Field(
        default=None, description="What waits for a person; absent while nothing does."
    )
    earlier_requests: list[EarlierRequest] = Field(
        default_factory=list,
        max_length=MAX_EARLIER_REQUESTS,
        description="What waited for a person before, newest first. Who rejects one of them, since the spec was edited "
        "while they read, has rejected its code.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    history: list[Revision] = Field(
        default_factory=list,
        max_length=11,
        description="The current revision and those before it, newest first.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    trial: Trial | None = Field(
        default=None,
        description="Revision that is tried in a pod of its own, or failed there. The earlier one goes on serving.",
    )
    serving: ServedContract | None = Field(
        default=None, description="What callers get of the running revision; absent where the spec says the same."
    )
    last_active_time: Time | None = Field(
        default=None,
        description="When the Skill was last called before it was scaled to zero. With archiveAfterSeconds it is also "
        "kept while the Skill is awake: to a tenth of that time, or to the hour.",
    )
    archive: ArchiveStatus | None = Field(
        default=None, description="Present while the Skill is archived: when that was, and what it was then."
    )

    def wire(self) -> dict[str, Any]:
        """Return the status as the API server takes it, without what is unset."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class ObjectMeta(ApiModel):
    """The part of the metadata that the operator reads; the API server has validated it."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None

    @property
    def maker(self) -> str:
        """Return the user who asked the gateway for the Skill; empty for one that was applied."""
        return self.annotations.get(CREATED_BY_ANNOTATION, "")

    @property
    def is_promoted(self) -> bool:
        """Return whether a person lets others see what one agent asked for."""
        return bool(self.annotations.get(PROMOTED_BY_ANNOTATION))

    @property
    def listed_for(self) -> str:
        """Return to whom alone lists and searches show the Skill: its maker, before it is promoted. Empty: to all."""
        return "" if self.is_promoted else self.maker


class Skill(ApiModel):
    """A capability described in words, and the running software that it became."""

    api_version: str = API_VERSION
    kind: str = "Skill"
    metadata: ObjectMeta
    spec: SkillSpec
    status: SkillStatus = SkillStatus()
