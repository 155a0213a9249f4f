"""Names, labels and hashes of everything the operator makes. No other module invents a name."""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

GROUP = "skill-operator.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

SKILL_LABEL = f"{GROUP}/skill"
UID_LABEL = f"{GROUP}/skill-uid"
REVISION_LABEL = f"{GROUP}/revision"
NAMESPACE_LABEL = f"{GROUP}/skill-namespace"  # of a build, which lives in another namespace than its Skill
MANAGED_BY = "app.kubernetes.io/managed-by"
COMPONENT = "app.kubernetes.io/component"
MANAGER = "skill-operator"
LEDGER = "ledger"  # component of the books of one Skill

CONTRACT_HASH = f"{GROUP}/contract"  # annotation of the pod template: a changed contract is a new pod
TASK_HASH = f"{GROUP}/task"  # annotation of accepted code: what it was written for
RETRY_ANNOTATION = f"{GROUP}/retry"
APPROVE_ANNOTATION = f"{GROUP}/approve"
APPLIED_ANNOTATION = f"{GROUP}/applied"  # a digest of what was applied: by it is seen what is no longer said
DRAIN_ANNOTATION = f"{GROUP}/draining"  # of a Deployment that is about to sleep: since when

ACCOUNT = "skill-operator-account"  # ConfigMap of the day's tokens, in the operator's namespace
SHARED_POLICY = "skill-default-deny"
SHARED_QUOTA = "skill-quota"
REPOSITORIES = "skills"  # of images, in the registry
LONGEST = 63  # of a label's value and of a Service's name


class SkillKey(NamedTuple):
    """The namespace and the name of a Skill: what queues and directories know it by."""

    namespace: str
    name: str


def digest(*parts: Any) -> str:
    """Hex SHA-256 of JSON values; equal values give equal digests whatever the order of their keys."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def approval(source: str) -> str:
    """What a reviewer approves. 128 bits: who writes the code must not find two texts of one name and swap them."""
    return digest(source)[:32]


def revision(source: str, base: str) -> str:
    """First 10 hex of the hash of (source bytes, reference of the base image by digest)."""
    return digest(source, base)[:10]


def bounded(name: str, suffix: str = "") -> str:
    """`name-suffix`, cut to 63 characters; what is cut lives on in a hash, so that no two names meet."""
    whole = f"{name}-{suffix}" if suffix else name
    if len(whole) <= LONGEST and "." not in name:
        return whole
    tail = f"-{digest(name)[:8]}" + (f"-{suffix}" if suffix else "")
    return name.replace(".", "-")[: LONGEST - len(tail)].rstrip("-") + tail


def child(skill: str) -> str:
    """ServiceAccount, Deployment, Service and policy of a Skill. The prefix: a Service starts with a letter."""
    return bounded(f"skill-{skill}")


def contract(skill: str) -> str:
    return bounded(skill, "contract")


def candidates(skill: str) -> str:
    """ConfigMap of what models wrote for a Skill, for people to read."""
    return bounded(skill, "generation")


def ledger(uid: str) -> str:
    """ConfigMap of a Skill's books, in the operator's namespace."""
    return f"ledger-{uid}"


def source(skill: str) -> str:
    return bounded(skill, "source")


def check(skill: str, key: str) -> str:
    """Job and ConfigMap of one check; `key` identifies candidate, examples and checker."""
    return bounded(skill, f"check-{key[:10]}")


def build(namespace: str, skill: str, rev: str) -> str:
    """Job and ConfigMap of one build, in the builder namespace, where Skills of all namespaces meet."""
    return bounded(skill, f"{digest(namespace, skill)[:8]}-{rev}")


def repository(namespace: str, skill: str) -> str:
    """The image repository of a Skill. Namespaces hold no slash, so `a/b` is never two Skills."""
    return f"{REPOSITORIES}/{namespace}/{skill}"


def tool(namespace: str, skill: str) -> str:
    """What agents call a Skill. Neither part holds an underscore, so `a__b` is never two; dots are not taken by all."""
    return f"{namespace}__{bounded(skill)}"


def labels(skill: str, uid: str, component: str, rev: str = "") -> dict[str, str]:
    made = {MANAGED_BY: MANAGER, COMPONENT: component, SKILL_LABEL: bounded(skill), UID_LABEL: uid}
    return made | ({REVISION_LABEL: rev} if rev else {})


def selector(uid: str) -> dict[str, str]:
    """What finds the pods of a Skill, and only those."""
    return {UID_LABEL: uid, COMPONENT: "skill"}
