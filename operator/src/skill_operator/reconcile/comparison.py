"""The comparison of a second opinion with the accepted program: one check Job, whose request holds both."""

from __future__ import annotations

from skill_operator import naming
from skill_operator.api.v1alpha1 import Skill
from skill_operator.generation.holdout import split_examples
from skill_operator.k8s.interface import Object
from skill_operator.reconcile.result import Progress
from skill_operator.resources import check as resource
from skill_operator.settings import Settings


def build_content(skill: Skill, progress: Progress) -> Object | None:
    """Return the request of the comparison, or None where there is nothing to compare."""
    opinion = progress.opinion
    if opinion is None or opinion.state != "candidate":
        return None
    visible, hidden = split_examples(skill.spec.examples)
    return resource.bundle(skill, opinion.source, progress.types, visible, hidden, progress.source)


def job_name(skill: Skill, settings: Settings, content: Object | None) -> str:
    """Return the name of the Job and of its ConfigMap, or an empty string without content."""
    meta = skill.metadata
    return naming.check(meta.name, meta.uid, resource.key(settings, content)) if content is not None else ""
