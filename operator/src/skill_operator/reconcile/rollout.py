"""A roll-out: the Deployment that a reconcile wants, and whether the cluster has one that runs the same."""

from __future__ import annotations

from skill_operator import naming
from skill_operator.k8s import pod_status
from skill_operator.k8s.interface import Object
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import Progress
from skill_operator.reconcile.writer import applied_digest
from skill_operator.resources.deployment import deployment
from skill_operator.settings import Settings


def make_deployment(observed: Observed, progress: Progress, settings: Settings) -> Object:
    """Return the Deployment of the revision that is to run. One that takes the place of a sleeping one sleeps, too."""
    first = 0 if observed.slept else 1
    return deployment(
        observed.skill,
        settings,
        progress.revision,
        progress.image,
        replicas=first if observed.deployment is None else None,
        user_namespace=observed.user_namespace(settings).enabled,
    )


def is_rolled_out(live: Object, wanted: Object) -> bool:
    """Return whether the pods that `live` makes run this revision, by this contract, with these resources.

    What a webhook of the cluster made of the last write does not count.
    """
    applied = live["metadata"].get("annotations", {}).get(naming.APPLIED_ANNOTATION)
    return applied == applied_digest(wanted) or _what_runs(live) == _what_runs(wanted)


def is_granted(observed: Observed) -> bool:
    """Return whether the Skill has egress or secrets, so that an example may do something that counts."""
    return bool(observed.skill.spec.egress or observed.skill.spec.secrets)


def _what_runs(owner: Object) -> tuple[object, ...]:
    template = owner["spec"]["template"]
    annotations = template["metadata"].get("annotations", {})
    container = pod_status.find_container(template["spec"], naming.SKILL_CONTAINER)
    return (
        annotations.get(naming.REVISION_DIGEST),
        annotations.get(naming.CONTRACT_HASH),
        container.get("resources"),
        template["spec"].get("runtimeClassName"),
    )
