"""Narrowing takes away what runs and is no longer granted. It comes first in every reconcile, whatever the spec says.

Granting waits for the run stage. Taking away waits for nothing: not for a spec that is valid, for code that is
accepted, or for a Skill that goes on. It makes no difference who took away: the spec, RBAC, or the chart's values.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from skill_operator import naming
from skill_operator.api.conditions import ACTIVE, DEPLOYED
from skill_operator.api.egress_networks import BlockedNetwork
from skill_operator.api.v1alpha1 import Skill
from skill_operator.isolation.cluster_networks import FRESH_SECONDS
from skill_operator.k8s.interface import UNREADABLE, Cluster, Object
from skill_operator.reconcile.demanded_isolation import Breach, find_breach
from skill_operator.reconcile.foreign_policies import ForeignPolicies, read_policies
from skill_operator.reconcile.ownership import belongs_to, was_left_behind
from skill_operator.reconcile.result import ConditionUpdate, EventNote
from skill_operator.resources.deployment import open_secrets, replica_sets
from skill_operator.resources.network_policy import narrowed_policy, outdated_pods
from skill_operator.resources.service_account import may_get_secret, name_of
from skill_operator.settings import Settings

# Between two reviews of a grant, since no event announces its end. Its pods have the rest of a minute to end in.
REVIEW_SECONDS = 45.0
END_SECONDS = 10  # for calls that pods answer when they lose a Secret; else they had as long as a call may take
MAX_NAMES = 4
_SECRET_KEYS = frozenset({"secret", "secretRef", "secretKeyRef", "nodePublishSecretRef"})


class SecretRight(NamedTuple):
    """SecretRight is what pods may do with a key of a Secret, or with all of it: hold it, or give it out in answers."""

    name: str
    key: str
    disclosed: bool = False


@dataclass(frozen=True)
class LiveState:
    """LiveState is what runs of a Skill now.

    `leftover` is a Deployment that a former Skill of this name left behind. `pods` are also those that are ending.
    `policies` are that of the Skill's name, and that of the namespace. What cannot be read of the Skill's own objects
    is taken for more than is granted.
    `reviews` tells of the Secrets that pods hold and the spec names whether they are granted. `outdated` are the uids
    of pods that are there and may hold connections which are no longer granted. `slept` if the Deployment that
    narrowing took away had no replica: what takes its place needs none.
    """

    deployment: Object | None = None
    leftover: Object | None = None
    pods: tuple[Object, ...] = ()
    policies: tuple[Object, ...] = ()
    foreign_policies: ForeignPolicies = field(default_factory=ForeignPolicies)
    policy: Object | None = None
    reviews: Mapping[str, bool] = field(default_factory=dict)
    outdated: frozenset[str] = frozenset()
    slept: bool = False

    @property
    def runs(self) -> bool:
        """Tell whether anything of the Skill runs, or may be scaled up."""
        return self.deployment is not None or bool(self.pods)

    @property
    def opens_networks(self) -> bool:
        """Tell whether the Skill's policy lets anything out."""
        return self.policy is not None and bool(self.policy.get("spec", {}).get("egress"))

    def find_policy(self, name: str) -> Object | None:
        """Return the NetworkPolicy of that name, whose it may be."""
        return next((policy for policy in self.policies if policy["metadata"]["name"] == name), None)

    def staying_pods(self) -> tuple[Object, ...]:
        """Return the pods that are not ending."""
        return tuple(filter(_is_staying, self.pods))


@dataclass(frozen=True)
class Narrowing:
    """Narrowing is what must go: objects to delete, and a policy that opens less than the live one.

    `ending` are pods that get END_SECONDS, and no longer. `remaining` runs on; it is reviewed again in `after` seconds.
    """

    remaining: LiveState
    delete: tuple[Object, ...] = ()
    ending: tuple[Object, ...] = ()
    policy: Object | None = None
    conditions: tuple[ConditionUpdate, ...] = ()
    events: tuple[EventNote, ...] = ()
    after: float | None = None


async def read_live(cluster: Cluster, skill: Skill) -> LiveState:
    """Read what runs of a Skill, and review the Secrets that it holds. Raises ClusterError."""
    meta = skill.metadata
    labels = naming.labels(meta.name, meta.uid, "skill")
    name = naming.child(meta.name)
    deployment, (policies, foreign), pods = await asyncio.gather(
        cluster.get("Deployment", meta.namespace, name),
        read_policies(cluster, skill),
        cluster.list("Pod", meta.namespace, naming.MANAGED | {naming.UID_LABEL: meta.uid}),
    )
    own, policy = deployment is not None and belongs_to(deployment, labels), policies.get(name)
    left = deployment is not None and not own and await was_left_behind(cluster, deployment, labels)
    live = LiveState(
        deployment=deployment if own else None,
        leftover=deployment if left else None,
        pods=tuple(pods),
        policies=tuple(policies.values()),
        foreign_policies=foreign,
        policy=policy if policy is not None and belongs_to(policy, labels) else None,
    )
    names = {right.name for pod in (_template(live), *pods) for right in _rights(pod)} & named_secrets(skill)
    return replace(live, reviews=await review_secrets(cluster, skill, names))


async def review_secrets(cluster: Cluster, skill: Skill, names: Iterable[str]) -> dict[str, bool]:
    """Return of each Secret whether the Skill's ServiceAccount may get it, by a SubjectAccessReview for each."""
    names = sorted(names)
    reviews = await asyncio.gather(*(cluster.create(may_get_secret(skill, name)) for name in names))
    return {name: bool(review["status"].get("allowed")) for name, review in zip(names, reviews, strict=True)}


def named_secrets(skill: Skill) -> set[str]:
    """Return the Secrets that the spec names."""
    return {grant.secret_key_ref.name for grant in skill.spec.secrets}


def narrow(
    skill: Skill,
    live: LiveState,
    settings: Settings,
    blocked_networks: Iterable[BlockedNetwork] = (),
    *,
    ends: bool = False,
) -> Narrowing:
    """Hold what runs against what is granted. A Skill that `ends` runs no more, however long its deletion takes."""
    if ends:
        skill = skill.model_copy(update={"spec": skill.spec.model_copy(update={"egress": []})})
    events = []
    if live.leftover is not None:
        name = live.leftover["metadata"]["name"]
        message = f"Deployment {name} was of a former Skill of this name: the operator deleted it"
        events.append(EventNote("Normal", "LeftoverDeleted", message))
    lost_deployment, lost_policy = _unreadable(live.deployment), _unreadable(live.policy)
    for lost in filter(None, (lost_deployment, lost_policy)):
        message = f"{lost['kind']} {lost['metadata']['name']} was too large to be read: the operator deleted it"
        events.append(EventNote("Warning", "UnreadableDeleted", message))
    readable = None if lost_policy else live.policy
    outdated = frozenset[str]() if ends else _find_outdated(skill, live, readable, settings)
    policy = None if readable is None else narrowed_policy(readable, skill, settings, blocked_networks, outdated)
    if policy is not None:
        message = f"NetworkPolicy {policy['metadata']['name']} opened more than is granted now, and no longer does"
        if outdated:
            number = f"{len(outdated)} pod{'s' * (len(outdated) > 1)}"
            message += f"; the operator replaces {number} from before, since connections may be open"
        events.append(EventNote("Normal", "EgressNarrowed", message))
    granted = _granted_rights(skill, live)
    excess, breach = _rights(_template(live)) - granted, find_breach(_template(live), skill, settings.isolation)
    deployment = live.deployment if ends or excess or breach or lost_deployment else None
    breaches = [find_breach(pod, skill, settings.isolation) for pod in live.pods]
    pods = tuple(
        pod
        for pod, its_breach in zip(live.pods, breaches, strict=True)
        if _unreadable(pod) or its_breach or _rights(pod) - granted or pod["metadata"]["uid"] in outdated
    )
    staying = tuple(filter(_is_staying, pods))
    makers = {owner["metadata"]["uid"]: owner for pod in staying for owner in replica_sets(skill, pod)}
    conditions: tuple[ConditionUpdate, ...] = ()
    if excess := excess.union(*map(_rights, staying)) - granted:
        conditions = not_granted(_describe_excess(skill, live, excess), ended=True)
    elif breach := next(filter(None, (breach, *map(_serving_breach, live.pods, breaches))), None):
        conditions = _not_allowed(breach)
    return Narrowing(
        delete=tuple(filter(None, (deployment, lost_policy, live.leftover, *makers.values()))),
        ending=tuple(pod for pod in pods if _is_staying(pod) or _grace_seconds(pod) > END_SECONDS),
        policy=policy,
        remaining=replace(
            live,
            deployment=None if deployment else live.deployment,
            policies=tuple(each for each in live.policies if each is not lost_policy),
            policy=readable,
            pods=() if deployment else tuple(pod for pod in live.pods if pod not in pods),
            outdated=outdated,
            slept=deployment is not None and deployment.get("spec", {}).get("replicas") == 0,
        ),
        conditions=conditions,
        events=tuple(events),
        # A disruption budget may keep a pod until the next look. A node may join the cluster, and what is granted must
        # not open a way to it.
        after=REVIEW_SECONDS
        if live.reviews or outdated or any(breaches)
        else FRESH_SECONDS
        if live.opens_networks
        else None,
    )


def _find_outdated(skill: Skill, live: LiveState, policy: Object | None, settings: Settings) -> frozenset[str]:
    """Return the uids of the pods that may hold connections which the spec no longer grants.

    A network that is blocked since a node has just joined with it ends none: nothing was open to that node before.
    """
    if policy is None:
        return frozenset()
    labels = naming.selector(skill.metadata.uid).items()
    selected = (pod["metadata"] for pod in live.pods if labels <= pod["metadata"].get("labels", {}).items())
    there = frozenset(meta["uid"] for meta in selected)
    return there if narrowed_policy(policy, skill, settings, ()) is not None else there & outdated_pods(policy)


def _serving_breach(pod: Object, breach: Breach | None) -> Breach | None:
    """Return the breach of a pod that answers calls and is not ending: of others there is nothing to tell."""
    serves = pod["metadata"].get("labels", {}).get(naming.COMPONENT) == "skill"
    return breach if serves and _is_staying(pod) else None


def _not_allowed(breach: Breach) -> tuple[ConditionUpdate, ...]:
    """Return the conditions of a Skill whose pods were ended. Active keeps the cause while the next ones start."""
    return (
        ConditionUpdate(DEPLOYED, "False", breach.reason, breach.message),
        ConditionUpdate(ACTIVE, "False", breach.reason, f"the operator deleted its pods: {breach.message}"),
    )


def _unreadable(obj: Object | None) -> Object | None:
    """Return the object if it cannot be read: whatever fills it must not hide what it holds or opens."""
    return obj if obj is not None and UNREADABLE in obj else None


def _is_staying(pod: Object) -> bool:
    return "deletionTimestamp" not in pod["metadata"]


def _grace_seconds(pod: Object) -> int:
    return int(pod["metadata"].get("deletionGracePeriodSeconds", 0))


def _template(live: LiveState) -> Object:
    """Return the template of the pods that the Deployment makes, if there is one."""
    template: Object = (live.deployment or {}).get("spec", {}).get("template", {})
    return template


def _granted_rights(skill: Skill, live: LiveState) -> set[SecretRight]:
    """Return what the spec grants of Secrets, less those that the Skill's ServiceAccount may not get."""
    grants = [grant for grant in skill.spec.secrets if live.reviews.get(grant.secret_key_ref.name)]
    held = {SecretRight(grant.secret_key_ref.name, grant.secret_key_ref.key) for grant in grants}
    allowed = (grant.secret_key_ref for grant in grants if grant.disclosure == "Allowed")
    return held | {SecretRight(ref.name, ref.key, disclosed=True) for ref in allowed}


def _describe_excess(skill: Skill, live: LiveState, excess: set[SecretRight]) -> str:
    names = sorted({right.name for right in excess if not right.disclosed})
    if named := [name for name in names if live.reviews.get(name) is False]:
        return advise_grant(skill, named)
    if names:
        return f"spec.secrets no longer names Secret {_join(names)}"
    return f"spec.secrets no longer lets answers carry Secret {_join(sorted({right.name for right in excess}))}"


def _rights(pod: Object) -> set[SecretRight]:
    """Return what a pod or a template may do with Secrets; a right to hold all of one has no key."""
    held = _secrets({**pod.get("spec", {}), "imagePullSecrets": None})
    return {SecretRight(*each) for each in held} | {SecretRight(*each, disclosed=True) for each in open_secrets(pod)}


def _secrets(value: Any) -> Iterator[tuple[str, str]]:
    """Yield each Secret of a pod's spec with its key: of volumes of any kind, and of environments."""
    if isinstance(value, list):
        for item in value:
            yield from _secrets(item)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key == "secretName":
                yield str(inner), ""
            elif key in _SECRET_KEYS and isinstance(inner, dict) and "name" in inner:
                keys = [item["key"] for item in inner.get("items") or ()] or [inner.get("key", "")]
                yield from ((str(inner["name"]), str(one)) for one in keys)
            else:
                yield from _secrets(inner)


def not_granted(message: str, *, ended: bool) -> tuple[ConditionUpdate, ...]:
    """Return the conditions of a Skill that lacks the right to Secrets; `ended` if pods held them until now."""
    refused = ConditionUpdate(DEPLOYED, "False", "SecretNotGranted", message)
    return (refused, ConditionUpdate(ACTIVE, "False", "SecretNotGranted", "the operator deleted its pods"))[: 1 + ended]


def advise_grant(skill: Skill, missing: Sequence[str]) -> str:
    """Return which Secrets the Skill's ServiceAccount may not get, and the commands that grant them."""
    meta, account = skill.metadata, name_of(skill)
    flags = " ".join(f"--resource-name={name}" for name in missing[:MAX_NAMES])
    role = f"{account}-reads-{missing[0]}"[:253].rstrip("-.")
    return (
        f"the Skill's ServiceAccount {account} may not get Secret {_join(missing)}. To grant it, run: "
        f"kubectl create role -n {meta.namespace} {role} --verb=get --resource=secrets {flags} && "
        f"kubectl create rolebinding -n {meta.namespace} {role} --role={role} "
        f"--serviceaccount={meta.namespace}:{account}"
    )


def _join(names: Sequence[str]) -> str:
    more = f" (and then {len(names) - MAX_NAMES} more)" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more
