"""Observation of a Skill and of everything that belongs to it, once for each reconcile.

It is read from the API server, not from a cache: a reconcile is rare, its few reads are cheap, and it never acts on a
state older than its own last write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from skill_operator import naming
from skill_operator.api.egress_networks import BlockedNetwork
from skill_operator.api.usage_report import ExceededLimit
from skill_operator.api.v1alpha1 import Skill
from skill_operator.isolation.monitor import IsolationVerdict
from skill_operator.isolation.user_namespaces import NodeFeatures, UserNamespace
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.k8s.pod_status import (
    PULL_FAILED,
    PodProblem,
    age,
    explain_refusal,
    is_creating,
    parse_time,
    pod_problem,
)
from skill_operator.reconcile.foreign_policies import ForeignPolicies
from skill_operator.reconcile.narrowing import LiveState, named_secrets, review_secrets
from skill_operator.reconcile.pinned_revision import PinnedRevision, UnknownRevision, find_pinned
from skill_operator.reconcile.preflight import Prerequisites
from skill_operator.reconcile.result import Ref
from skill_operator.reconcile.usage_collector import UsageSnapshot
from skill_operator.registry.client import BaseImage
from skill_operator.registry.monitor import RegistryState
from skill_operator.resources import check, kept_revision
from skill_operator.resources.deployment import served_revision
from skill_operator.settings import Settings

POD_START_SECONDS = 3.0  # in which a pod starts, unless something is wrong
MAX_DATA_CHARACTERS = 128 << 10  # of a ConfigMap that is kept whole: most are
PARTIAL = "partial"  # member of a ConfigMap of which not all was kept
MAX_REPORT_CHARACTERS = 1 << 16  # of a check: the checker's own has 4096 bytes, of which JSON makes six times as many


@dataclass(frozen=True)
class Observed:
    """A Skill and the objects it owns, by name.

    `ledger` and `daily_usage` exist for generated Skills alone. `warnings` are the events about each pod or Job that
    does not start, by its UID. `exceeded_limit` is what a recent call used too much of, and how many seconds ago.
    `ungranted` are the Secrets that the Skill names and its ServiceAccount may not get. `usage` is None where nobody
    needed to ask the gateways. With a `pinned` revision, the spec of `skill` is the one by which that runs;
    `unknown_revision` says why the revision that the spec names cannot run. `slept` if narrowing just took a Deployment
    away that had no replica. `outdated` are the uids of pods that may hold connections which are no longer granted.
    """

    skill: Skill
    body: Object
    config_maps: dict[str, Object]
    jobs: dict[str, Object]
    builds: dict[str, Object]
    pods: tuple[Object, ...]
    build_pods: tuple[Object, ...]
    deployment: Object | None
    policies: tuple[Object, ...]
    foreign_policies: ForeignPolicies
    base: BaseImage
    blocked_networks: tuple[BlockedNetwork, ...]
    isolation: IsolationVerdict
    nodes: NodeFeatures
    registry: RegistryState = field(default_factory=RegistryState)
    egress_proxy_ready: bool = True  # or not needed
    ledger: Object | None = None
    daily_usage: Object | None = None
    warnings: dict[str, list[Object]] = field(default_factory=dict)
    exceeded_limit: tuple[ExceededLimit, float] | None = None
    ungranted: tuple[str, ...] = ()
    usage: UsageSnapshot | None = None
    pinned: PinnedRevision | None = None
    unknown_revision: str = ""
    slept: bool = False
    outdated: frozenset[str] = frozenset()

    def user_namespace(self, settings: Settings) -> UserNamespace:
        """Return what user namespace the Skill's pods and checks get."""
        return self.nodes.user_namespace(settings.isolation, self.skill.spec.runtime_class_name)

    def watched(self) -> list[Object]:
        """Return the objects that the watches must have reported too."""
        some = (*self.jobs.values(), *self.builds.values(), *self.pods, *self.build_pods, self.deployment)
        children = [obj for obj in some if obj is not None and naming.is_watched(obj["metadata"].get("labels", {}))]
        return [self.body, *children]

    def find(self, ref: Ref) -> Object | None:
        """Return the object that is referred to, if it was there: of the Skill, or the policy of its namespace."""
        objects = {
            "ConfigMap": self.config_maps.values(),
            "Job": (*self.jobs.values(), *self.builds.values()),
            "NetworkPolicy": self.policies,
        }
        some = objects.get(ref.kind, () if self.deployment is None else (self.deployment,))
        identity = (ref.kind, ref.namespace, ref.name)
        return next(
            (o for o in some if (o["kind"], o["metadata"]["namespace"], o["metadata"]["name"]) == identity), None
        )

    def with_written(self, obj: Object) -> Observed:
        """Return it with a ConfigMap of the Skill's namespace as it is now, since two stages may write the same one."""
        meta = obj["metadata"]
        if obj["kind"] != "ConfigMap" or meta["namespace"] != self.skill.metadata.namespace:
            return self
        return replace(self, config_maps={**self.config_maps, meta["name"]: obj})

    def with_pinned_revision(self) -> Observed:
        """Return it with the spec of the revision that is pinned, if one is and it is known."""
        try:
            pinned = find_pinned(self.skill, self.config_maps)
        except UnknownRevision as error:
            return replace(self, unknown_revision=str(error))
        if pinned is None:
            return self
        skill = self.skill.model_copy(update={"spec": pinned.spec})
        secrets = named_secrets(skill)
        ungranted = tuple(name for name in self.ungranted if name in secrets)
        return replace(self, skill=skill, pinned=pinned, ungranted=ungranted)

    def pods_of(self, job: str) -> list[Object]:
        """Return the pods of a Job, whichever namespace it lives in."""
        return [p for p in (*self.pods, *self.build_pods) if p["metadata"]["labels"].get("job-name") == job]

    def problem(self, pod: Object) -> PodProblem | None:
        """Return why this pod does not run, if that is known."""
        return pod_problem(pod, self.warnings.get(pod["metadata"].get("uid", ""), ()))

    def could_pull_now(self, pod: Object) -> bool:
        """Return whether a node failed to pull for this pod while the registry was away, which it no longer is.

        The kubelet itself tries again after up to five minutes.
        """
        back_since, problem = self.registry.back_since, self.problem(pod)
        if back_since is None or self.registry.problem is not None or problem is None:
            return False
        return problem.reason == PULL_FAILED and parse_time(pod["metadata"]["creationTimestamp"]) < back_since

    def refusal(self, job: Object) -> PodProblem | None:
        """Return why this Job may make no pod, if that is known."""
        warnings = self.warnings.get(job["metadata"].get("uid", ""), [])
        return explain_refusal(str(warnings[-1].get("message", ""))) if warnings else None


async def observe(
    cluster: Cluster,
    settings: Settings,
    body: Object,
    live: LiveState,
    prerequisites: Prerequisites,
    now: datetime,
    isolation: IsolationVerdict,
    nodes: NodeFeatures,
    egress_proxy_ready: bool,
) -> Observed:
    """Read everything that belongs to the Skill, beside what is `live` already. Raises ClusterError."""
    skill = Skill.model_validate(body)
    meta = skill.metadata
    owned = naming.MANAGED | {naming.UID_LABEL: meta.uid}
    maps, jobs, builds, build_pods, (ledger, daily_usage), reviews = await asyncio.gather(
        cluster.list("ConfigMap", meta.namespace, owned, partial(_outline_map, _names_of_code(skill, live))),
        cluster.list("Job", meta.namespace, owned),
        cluster.list("Job", settings.builder_namespace, owned),
        cluster.list("Pod", settings.builder_namespace, owned),
        _get_records(cluster, settings, skill),
        review_secrets(cluster, skill, named_secrets(skill) - live.reviews.keys()),
    )
    granted = {**live.reviews, **reviews}
    return Observed(
        skill=skill,
        body=body,
        config_maps=_by_name(maps),
        jobs=_by_name(jobs),
        builds=_by_name(builds),
        pods=live.staying_pods(),
        build_pods=tuple(build_pods),
        deployment=live.deployment,
        slept=live.slept,
        outdated=live.outdated,
        policies=live.policies,
        foreign_policies=live.foreign_policies,
        base=prerequisites.base,
        registry=prerequisites.registry,
        blocked_networks=prerequisites.blocked_networks,
        isolation=isolation,
        nodes=nodes,
        egress_proxy_ready=egress_proxy_ready,
        ledger=ledger,
        daily_usage=daily_usage,
        warnings=await _get_warnings(cluster, (*jobs, *builds), (*live.staying_pods(), *build_pods), now),
        ungranted=tuple(sorted(name for name, allowed in granted.items() if not allowed)),
    )


def _names_of_code(skill: Skill, live: LiveState) -> set[str]:
    """Return the names of the ConfigMaps whose code or spec is read: what was accepted, is pinned, and serves."""
    meta, wanted = skill.metadata, skill.spec.revision
    serving = served_revision(live.deployment)
    digests = [
        entry.revision_digest
        for entry in skill.status.history
        if entry.revision_digest == serving or (wanted and entry.revision_digest.startswith(wanted))
    ]
    return {naming.source(meta.name), *(naming.kept_revision(meta.name, meta.uid, digest) for digest in digests)}


def _outline_map(names_of_code: AbstractSet[str], config_map: Object) -> Object:
    """Return a ConfigMap; of a large one that is PARTIAL no more than a reconcile reads.

    Who may edit ConfigMaps may fill each of them, and a Skill has many.
    """
    data = config_map.get("data") or {}
    if sum(map(len, data.values())) <= MAX_DATA_CHARACTERS and "binaryData" not in config_map:
        return config_map
    kept = {key: data[key] for key in kept_revision.FILES if key in data}
    if config_map["metadata"]["name"] not in names_of_code:
        report = data.get(check.REPORT, "")
        kept = {check.REPORT: report} if report and len(report) <= MAX_REPORT_CHARACTERS else {}
    rest = {key: value for key, value in config_map.items() if key != "binaryData"}
    return rest | {"data": kept, PARTIAL: True}


async def _get_warnings(
    cluster: Cluster, jobs: tuple[Object, ...], pods: tuple[Object, ...], now: datetime
) -> dict[str, list[Object]]:
    """Return the events about pods that do not start, and about Jobs that have no pod, by UID."""
    started = {pod["metadata"]["labels"].get("job-name") for pod in pods}
    without_pod = [
        job for job in jobs if job["metadata"]["name"] not in started and not job.get("status", {}).get("conditions")
    ]
    overdue = [obj for obj in (*filter(is_creating, pods), *without_pod) if age(obj, now) > POD_START_SECONDS]
    events = await asyncio.gather(
        *(cluster.warnings(obj["metadata"]["namespace"], obj["metadata"]["uid"]) for obj in overdue)
    )
    return {obj["metadata"]["uid"]: found for obj, found in zip(overdue, events, strict=True)}


async def _get_records(cluster: Cluster, settings: Settings, skill: Skill) -> tuple[Object | None, Object | None]:
    """Return ledger and daily usage, from the operator's own namespace."""
    if skill.spec.source is not None:
        return None, None
    return await asyncio.gather(
        cluster.get("ConfigMap", settings.namespace, naming.ledger(skill.metadata.uid)),
        cluster.get("ConfigMap", settings.namespace, naming.ACCOUNT),
    )


def _by_name(objects: list[Object]) -> dict[str, Object]:
    return {o["metadata"]["name"]: o for o in objects if "deletionTimestamp" not in o["metadata"]}
