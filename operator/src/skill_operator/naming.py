"""Define the names, labels and hashes of everything the operator makes. No other module invents a name."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

GROUP = "skill-operator.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

SKILL_LABEL = f"{GROUP}/skill"
UID_LABEL = f"{GROUP}/skill-uid"
REVISION_LABEL = f"{GROUP}/revision"
NAMESPACE_LABEL = f"{GROUP}/skill-namespace"  # of a build, which lives in another namespace than its Skill
WORKSHOP_LABEL = f"{GROUP}/workshop"  # of a namespace where agents may ask for Skills, with WORKSHOP_ENABLED
WORKSHOP_ENABLED = "enabled"
WORKSHOP_REVIEW_LABEL = (
    f"{GROUP}/workshop-review"  # of such a namespace: Automatic, WhenInDoubt; any other value means Manual
)
MANAGED_BY = "app.kubernetes.io/managed-by"
COMPONENT = "app.kubernetes.io/component"
MANAGER = "skill-operator"
MANAGED = {MANAGED_BY: MANAGER}  # labels of everything that the operator makes
WATCH_SELECTOR = f"{MANAGED_BY}={MANAGER},{UID_LABEL}"  # of what the controller watches beside Skills
KEPT_REVISION = "revision"  # component of what is kept of a revision in the history
TRIAL = "trial"  # component of the Job that tries a revision before it gets calls
LEDGER = "ledger"  # component of the ledger of one Skill
GATEWAY_CERTIFICATE = "gateway-certificate"  # component of what holds the gateway's own certificate

REVISION_DIGEST = f"{GROUP}/revision-digest"  # annotation of the pod template and of a build: the whole revision
CONTRACT_HASH = f"{GROUP}/contract"  # annotation of the pod template: a changed contract is a new pod
HOSTS_ANNOTATION = f"{GROUP}/granted-hosts"  # of pod template and NetworkPolicy: the hosts granted when it was written
OUTDATED_PODS_ANNOTATION = f"{GROUP}/outdated-pods"  # of a NetworkPolicy: uids of pods that it opened more to
OPEN_SECRETS_ANNOTATION = f"{GROUP}/open-secrets"  # of the pod template: Secrets whose values answers may carry
RUNTIME_CLASS_ANNOTATION = f"{GROUP}/runtime-class"  # of the pod template: the class that the operator chose
TASK_HASH = f"{GROUP}/task"  # annotation of accepted code: what it was written for
FAILURES_ANNOTATION = f"{GROUP}/failures"  # of a check or build Job: how many before it ended without a result
RETRY_ANNOTATION = f"{GROUP}/retry"
APPROVE_ANNOTATION = f"{GROUP}/approve"
APPROVED_BY_ANNOTATION = f"{GROUP}/approved-by"  # who set the one above: admission compares it with who asks
REJECT_ANNOTATION = f"{GROUP}/reject"
REJECTED_BY_ANNOTATION = f"{GROUP}/rejected-by"
REJECT_MESSAGE_ANNOTATION = f"{GROUP}/reject-message"
REVIEW_LABEL = f"{GROUP}/review"  # of a namespace: the least review of Skills there, WhenInDoubt or Manual
RESTORE_ANNOTATION = f"{GROUP}/restore"  # of a Skill: any new value takes it out of the archive
CREATED_BY_ANNOTATION = f"{GROUP}/created-by"  # of a Skill that an agent asked the gateway for: who that was
PROMOTED_BY_ANNOTATION = f"{GROUP}/promoted-by"  # of such a Skill, once a person lets others see it
REQUEST_ANNOTATION = f"{GROUP}/request"  # of such a Skill: the digest of what was asked for
APPLIED_ANNOTATION = f"{GROUP}/applied"  # a digest of what was applied: it shows what is no longer wanted
DRAIN_ANNOTATION = f"{GROUP}/draining"  # of a Deployment that is about to scale to zero: since when

SKILL_CONTAINER = "skill"  # the one container of a pod that answers calls
CHECK_CONTAINERS = ("read", "check")  # in the order in which they run
BUILD_CONTAINER = "kaniko"
NORMALIZE_CONTAINER = "normalizer"
CONTAINERS = frozenset(
    {SKILL_CONTAINER, *CHECK_CONTAINERS, BUILD_CONTAINER, NORMALIZE_CONTAINER}
)  # all others of a pod were injected
ACCOUNT = "skill-operator-account"  # ConfigMap of the day's tokens, in the operator's namespace
SHARED_POLICY = "skill-default-deny"
SHARED_QUOTA = "skill-quota"
SHARED_NAMES = frozenset({SHARED_POLICY, SHARED_QUOTA})  # of each namespace: no child of a Skill is called so
REPOSITORIES = "skills"  # of images, in the registry
MAX_LENGTH = 63  # of a label's value and of a Service's name
MAX_REPOSITORY_LENGTH = 128  # clients of registries take 255 characters, with the registry's host and path
MAX_TOOL_LENGTH = 48  # of a tool's name: clients refuse a whole list for one of over 64, which some prefix themselves
TOOL_HASH_LENGTH = 24  # of a hash within a tool's name: 96 bits
HASH_LENGTH = 32  # of a hash within a name: 128 bits
SLUG_LENGTH = 24  # of words in a name that is made of a summary: short enough that the tool's name is mostly whole
LABEL_HASH_LENGTH = 10  # of a hash in a label, for people to read: nothing is compared by it
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_ENDS_WITH_HASH = re.compile(rf"-[0-9a-f]{{{HASH_LENGTH}}}\Z")


class SkillKey(NamedTuple):
    """SkillKey identifies a Skill by namespace and name, in queues and directories."""

    namespace: str
    name: str


def digest(*parts: Any) -> str:
    """Return the hex SHA-256 of JSON values; equal values give equal digests whatever the order of their keys."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def approval(namespace: str, skill: str, parts: dict[str, str]) -> str:
    """Return the token by which a reviewer approves the digests of all that was reviewed, for this Skill alone."""
    return digest(namespace, skill, parts)


def source_digest(source: str) -> str:
    """Return the hex SHA-256 of a source's bytes, as `sha256sum` prints it of the file."""
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()


def revision(source: str, base: str) -> str:
    """Return the digest of the source and of the base image's reference, by which revisions are compared."""
    return digest(source, base)


def shorten(identity: str) -> str:
    """Return the first 10 hex digits of a digest, for people to read. Nothing may be compared by it."""
    return identity[:LABEL_HASH_LENGTH]


def truncate(name: str, suffix: str = "") -> str:
    """Return `name-suffix`, which is one label of DNS: at most 63 characters, and no dots.

    A hash stands for what is cut off. A name that itself ends like a cut one is cut as well, so that no two names meet.
    """
    whole = f"{name}-{suffix}" if suffix else name
    if len(whole) <= MAX_LENGTH and not _must_cut(name):
        return whole
    return _cut(name, digest(name), suffix)


def is_label(text: str) -> bool:
    """Return whether a text is one label of DNS, as names of namespaces are, and cut names of Skills."""
    return len(text) <= MAX_LENGTH and _DNS_LABEL.fullmatch(text) is not None


def gateway_authority(service: str) -> str:
    """Return the name of the Secret with the key of the gateway's CA, which only the controller reads."""
    return f"{service}-ca-key"


def gateway_trust(service: str) -> str:
    """Return the name of the ConfigMap with the certificates of the gateway's CA, which callers trust."""
    return f"{service}-ca"


def gateway_certificate(service: str) -> str:
    """Return the name of the Secret with the gateway's serving certificate and its key, which gateways mount."""
    return f"{service}-certificate"


def _must_cut(name: str) -> bool:
    return "." in name or name in SHARED_NAMES or _ENDS_WITH_HASH.search(name) is not None


def _cut(name: str, identity: str, suffix: str = "", length: int = MAX_LENGTH) -> str:
    """Return as much of `name` as fits before the hash, which alone tells it from others."""
    tail = f"-{identity[:HASH_LENGTH]}" + (f"-{suffix}" if suffix else "")
    return name.replace(".", "-")[: length - len(tail)].rstrip("-") + tail


def child(skill: str) -> str:
    """Return the name of a Skill's ServiceAccount, Deployment, Service and NetworkPolicy.

    It has a prefix because the name of a Service starts with a letter.
    """
    return truncate(f"skill-{skill}")


def contract(skill: str, uid: str, fingerprint: str) -> str:
    """Return the name of the ConfigMap with one contract of a Skill: pods of two revisions may have two contracts."""
    return _keyed(skill, "contract", uid, fingerprint)


def kept_revision(skill: str, uid: str, rev: str) -> str:
    """Return the name of the ConfigMap that keeps the code and the spec of a revision."""
    return _keyed(skill, "revision", uid, rev)


def trial(skill: str, uid: str, key: str) -> str:
    """Return the name of the Job and ConfigMap of one trial; `key` is the digest of what its outcome depends on."""
    return _keyed(skill, "trial", uid, key)


def candidates(skill: str) -> str:
    """Return the name of the ConfigMap with what models wrote for a Skill, for people to read."""
    return truncate(skill, "generation")


def ledger(uid: str) -> str:
    """Return the name of the ConfigMap with a Skill's ledger, in the operator's namespace."""
    return f"ledger-{uid}"


def source(skill: str) -> str:
    """Return the name of the ConfigMap with a Skill's accepted source."""
    return truncate(skill, "source")


def check(skill: str, uid: str, key: str) -> str:
    """Return the name of the Job and ConfigMap of one check; `key` identifies candidate, examples and checker."""
    return _keyed(skill, "check", uid, key)


def _keyed(skill: str, kind: str, uid: str, key: str) -> str:
    """Return the name of an object of which a Skill may have several, each with its own key."""
    return _cut(f"{skill[: MAX_LENGTH - HASH_LENGTH - len(kind) - 2]}-{kind}", digest(uid, key))


def build(skill: str, uid: str, *identity: str) -> str:
    """Return the name of the Job and ConfigMap of one build, in the builder namespace that all Skills share.

    The uid keeps Skills apart, whatever their names; `identity` is all that the image is made of.
    """
    return _cut(skill, digest(uid, *identity))


def repository(namespace: str, skill: str) -> str:
    """Return the image repository of a Skill. Namespaces hold no slash, so `a/b` is never two Skills.

    A hash stands for the end of a name that is too long, as `truncate` does it.
    """
    whole = f"{REPOSITORIES}/{namespace}/{skill}"
    if len(whole) <= MAX_REPOSITORY_LENGTH and _ENDS_WITH_HASH.search(skill) is None:
        return whole
    length = MAX_REPOSITORY_LENGTH - len(whole) + len(skill)
    return f"{REPOSITORIES}/{namespace}/{_cut(skill, digest(skill), length=length)}"


def flat_repository(namespace: str) -> str:
    """Return the image repository of all Skills of a namespace, of one level."""
    return f"{REPOSITORIES}-{namespace}"


def flat_tag(skill: str, rev: str) -> str:
    """Return the tag of a revision's image in the repository that Skills share: at most 128 characters (OCI)."""
    return f"{truncate(skill)}-{rev}"


def tool(namespace: str, skill: str) -> str:
    """Return the name of the MCP tool that a Skill is: at most 48 letters, digits, `-` and `_`.

    Neither part holds an underscore, so `a__b` is never two Skills. A name that is long or has dots is cut. A hash ends
    it, after one underscore alone, so it is never a whole name.
    """
    return _tool_name(f"{namespace}__{skill}", namespace, skill)


def bare_tool(namespace: str, skill: str) -> str:
    """Return the name of a Skill's tool among those of its namespace alone, cut by the same rule as `tool`."""
    return _tool_name(skill, namespace, skill)


def _tool_name(whole: str, namespace: str, skill: str) -> str:
    if len(whole) <= MAX_TOOL_LENGTH and "." not in whole:
        return whole
    tail = f"_{digest(namespace, skill)[:TOOL_HASH_LENGTH]}"
    return whole.replace(".", "-")[: MAX_TOOL_LENGTH - len(tail)].rstrip("-_") + tail


def skill_of_tool(name: str) -> SkillKey:
    """Return the Skill that a tool's name means where it is not cut, of whatever length. There may be none."""
    return SkillKey(*name.partition("__")[::2])


def labels(skill: str, uid: str, component: str, rev: str = "") -> dict[str, str]:
    """Return the labels of an object that belongs to a Skill. That of the revision is a short form for people."""
    made = MANAGED | {COMPONENT: component, SKILL_LABEL: truncate(skill), UID_LABEL: uid}
    return made | ({REVISION_LABEL: shorten(rev)} if rev else {})


def is_watched(found: Mapping[str, str]) -> bool:
    """Return whether the watches select an object with these labels, as WATCH_SELECTOR says."""
    return found.get(MANAGED_BY) == MANAGER and UID_LABEL in found


def requested(summary: str, digest: str) -> str:
    """Return the name of a Skill that was asked for without one: words of its summary, and what tells it from others.

    `digest` is that of the request and its maker, so a repeated request has the same name.
    """
    words = "-".join(re.findall(r"[a-z0-9]+", summary[:200].lower())) or "skill"
    if len(words) > SLUG_LENGTH:
        words = words[: SLUG_LENGTH + 1].rpartition("-")[0] or words[:SLUG_LENGTH]
    return f"{words}-{shorten(digest)}"


def selector(uid: str) -> dict[str, str]:
    """Return the labels that select the pods of a Skill, and only those."""
    return {UID_LABEL: uid, COMPONENT: "skill"}


def format_host(host: str) -> str:
    """Return a host as URLs write it: an IPv6 address in brackets (RFC 3986), anything else as it is."""
    return f"[{host}]" if ":" in host else host


def format_host_port(host: str, port: int | str) -> str:
    """Return `host:port`, with an IPv6 address in brackets."""
    return f"{format_host(host)}:{port}"
