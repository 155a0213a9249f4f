"""One look at everything that belongs to a Skill.

It is read from the API server, not from a cache: a pass is rare, its few reads are cheap, and it never acts on a
picture older than its own last write.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

from skill_operator import naming
from skill_operator.api.egress_networks import BlockedNetwork
from skill_operator.api.usage_report import ExceededLimit
from skill_operator.api.v1alpha1 import Skill
from skill_operator.isolation.monitor import IsolationVerdict
from skill_operator.isolation.user_namespaces import NodeFeatures, UserNamespace
from skill_operator.k8s.interface import Cluster, Object
from skill_operator.k8s.pod_status import PodProblem, age, creating, pod_problem, refused
from skill_operator.registry.client import BaseImage
from skill_operator.resources.service_account import may_get_secret
from skill_operator.settings import Settings

LATE = 3.0  # seconds in which a pod begins, unless something is wrong


@dataclass(frozen=True)
class Observed:
    """A Skill and what it owns, by name."""

    skill: Skill
    body: Object
    config_maps: dict[str, Object]
    jobs: dict[str, Object]
    builds: dict[str, Object]
    pods: tuple[Object, ...]
    build_pods: tuple[Object, ...]
    deployment: Object | None
    policies: tuple[Object, ...]
    base: BaseImage
    blocked_networks: tuple[BlockedNetwork, ...]
    cage: IsolationVerdict
    nodes: NodeFeatures
    proxied: bool = True  # the egress proxy answers, or is not needed
    ledger: Object | None = None  # this and the account: of generated Skills alone
    account: Object | None = None
    warnings: dict[str, list[Object]] = field(default_factory=dict)  # by uid of a pod, or Job, that does not start
    failure: tuple[ExceededLimit, float] | None = None  # of a call: what it used too much of, and how many seconds ago
    ungranted: tuple[str, ...] = ()  # Secrets that the Skill names and its ServiceAccount may not get

    def users(self, settings: Settings) -> UserNamespace:
        """Of its pods and checks."""
        return self.nodes.users(settings.isolation, self.skill.spec.runtime_class_name)

    def watched(self) -> list[Object]:
        """What the informer must have told of too."""
        some = (self.body, *self.jobs.values(), *self.builds.values(), *self.pods, *self.build_pods, self.deployment)
        return [obj for obj in some if obj is not None]

    def pods_of(self, job: str) -> list[Object]:
        """Pods of a Job, whichever namespace it lives in."""
        return [p for p in (*self.pods, *self.build_pods) if p["metadata"]["labels"].get("job-name") == job]

    def problem(self, pod: Object) -> PodProblem | None:
        """Why this pod does not run, if that is known."""
        return pod_problem(pod, self.warnings.get(pod["metadata"].get("uid", ""), ()))

    def refusal(self, job: Object) -> PodProblem | None:
        """Why this Job may make no pod, if that is known."""
        warnings = self.warnings.get(job["metadata"].get("uid", ""), [])
        return refused(str(warnings[-1].get("message", ""))) if warnings else None


async def observe(
    cluster: Cluster,
    settings: Settings,
    body: Object,
    base: BaseImage,
    now: datetime,
    blocked_networks: tuple[BlockedNetwork, ...],
    cage: IsolationVerdict,
    nodes: NodeFeatures,
    proxied: bool,
) -> Observed:
    skill = Skill.model_validate(body)
    meta = skill.metadata
    mine = {naming.UID_LABEL: meta.uid}
    maps, jobs, builds, mine_pods, build_pods, (deployment, policies) = await asyncio.gather(
        cluster.list("ConfigMap", meta.namespace, mine),
        cluster.list("Job", meta.namespace, mine),
        cluster.list("Job", settings.builder_namespace, mine),
        cluster.list("Pod", meta.namespace, mine),
        cluster.list("Pod", settings.builder_namespace, mine),
        asyncio.gather(
            cluster.get("Deployment", meta.namespace, naming.child(meta.name)),
            cluster.list("NetworkPolicy", meta.namespace),
        ),
    )
    ledger, account = await _records(cluster, settings, skill)
    live = tuple(p for p in mine_pods if "deletionTimestamp" not in p["metadata"])
    begun = {p["metadata"]["labels"].get("job-name") for p in (*live, *build_pods)}
    barren = [
        j for j in (*jobs, *builds) if j["metadata"]["name"] not in begun and not j.get("status", {}).get("conditions")
    ]
    slow = (*filter(creating, (*live, *build_pods)), *barren)
    late = [obj for obj in slow if age(obj, now) > LATE]
    said = await asyncio.gather(*(cluster.warnings(o["metadata"]["namespace"], o["metadata"]["uid"]) for o in late))
    owned = deployment if deployment and _label(deployment, naming.UID_LABEL) == meta.uid else None
    return Observed(
        skill=skill,
        body=body,
        config_maps=_by_name(maps),
        jobs=_by_name(jobs),
        builds=_by_name(builds),
        pods=live,
        build_pods=tuple(build_pods),
        deployment=owned,
        policies=tuple(policies),
        base=base,
        blocked_networks=blocked_networks,
        cage=cage,
        nodes=nodes,
        proxied=proxied,
        ledger=ledger,
        account=account,
        warnings={obj["metadata"]["uid"]: told for obj, told in zip(late, said, strict=True)},
        ungranted=await _ungranted(cluster, skill),
    )


async def _records(cluster: Cluster, settings: Settings, skill: Skill) -> tuple[Object | None, Object | None]:
    """Books and account, from the operator's own namespace."""
    if skill.spec.source is not None:
        return None, None
    return await asyncio.gather(
        cluster.get("ConfigMap", settings.namespace, naming.ledger(skill.metadata.uid)),
        cluster.get("ConfigMap", settings.namespace, naming.ACCOUNT),
    )


async def _ungranted(cluster: Cluster, skill: Skill) -> tuple[str, ...]:
    names = sorted({grant.secret_key_ref.name for grant in skill.spec.secrets})
    answers = await asyncio.gather(*(cluster.create(may_get_secret(skill, name)) for name in names))
    return tuple(n for n, answer in zip(names, answers, strict=True) if not answer["status"].get("allowed"))


def _by_name(objects: list[Object]) -> dict[str, Object]:
    return {o["metadata"]["name"]: o for o in objects if "deletionTimestamp" not in o["metadata"]}


def _label(obj: Object, name: str) -> str:
    return str(obj["metadata"].get("labels", {}).get(name, ""))
