"""The contract that is served: schemas, words and time limit of what runs, where the spec says something else.

So the gateway lists and validates what runs: a pinned revision, or the one that serves until a new spec has its code.
"""

from __future__ import annotations

import json
from typing import Any

from skill_operator import naming
from skill_operator.api.v1alpha1 import ServedContract, SkillSpec
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import Progress
from skill_operator.resources import kept_revision
from skill_operator.resources.contract import fingerprint

MAX_SCHEMA_BYTES = 128 << 10  # of one that a status repeats: an object of the API server has about a MiB


def served_contract(observed: Observed, progress: Progress, *, is_applied: bool) -> ServedContract | None:
    """Return what callers get, or None where the spec says the same. `is_applied`: the wanted revision runs now."""
    declared = observed.pinned.declared if observed.pinned is not None else observed.skill.spec
    if is_applied:
        spec, digest = observed.skill.spec, fingerprint(observed.skill)
        return _differing(spec, declared, naming.shorten(progress.revision), digest)
    if observed.deployment is None:
        return None
    annotations = observed.deployment["spec"]["template"]["metadata"].get("annotations", {})
    digest, revision = annotations.get(naming.CONTRACT_HASH, ""), annotations.get(naming.REVISION_DIGEST, "")
    known = observed.skill.status.serving
    if known is not None and (known.digest, known.revision) == (digest, naming.shorten(revision)):
        return known if _words(known) != _words(declared) else None
    entry = next((one for one in observed.skill.status.history if one.revision_digest == revision), None)
    kept = None if entry is None else kept_revision.read(observed.skill, entry, observed.config_maps)
    return None if kept is None else _differing(kept[1], declared, naming.shorten(revision), digest)


def _differing(spec: SkillSpec, declared: SkillSpec, revision: str, digest: str) -> ServedContract | None:
    if _words(spec) == _words(declared):
        return None
    return ServedContract(
        revision=revision,
        digest=digest,
        description=spec.description,
        summary=spec.summary,
        input=_bounded(spec.input),
        output=_bounded(spec.output),
        call_timeout_seconds=spec.call_timeout_seconds,
    )


def _words(of: SkillSpec | ServedContract) -> tuple[Any, ...]:
    return of.description, of.summary, of.input, of.output, of.call_timeout_seconds


def _bounded(schema: dict[str, Any]) -> dict[str, Any] | None:
    return schema if len(json.dumps(schema)) <= MAX_SCHEMA_BYTES else None
