"""Find the code of a Skill in its namespace, where others may write, too: only what its digest proves counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kubectl_skill.errors import CliError, ExitCode
from kubectl_skill.kubectl import Kubectl
from kubectl_skill.skills import SkillView
from skill_operator import naming
from skill_operator.api.v1alpha1 import Revision
from skill_operator.runtime_contract import SKILL_FILE

SPEC_FILE = "spec.json"
KEPT_REVISION = "revision"
MIN_PREFIX_CHARACTERS = 4


@dataclass(frozen=True)
class KeptRevision:
    """KeptRevision is the code of a revision, and the spec that it ran with, where that was kept."""

    label: str
    source: str
    spec: dict[str, Any] | None


def find_revision(skill: SkillView, wanted: str) -> Revision:
    """Return the entry of status.history of this label, or of the only one that begins so. Raises CliError."""
    found = [entry for entry in skill.status.history if entry.revision == wanted]
    if not found and len(wanted) >= MIN_PREFIX_CHARACTERS:
        found = [entry for entry in skill.status.history if entry.revision.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(entry.revision for entry in skill.status.history) or "none yet"
    trouble = "more than one revision begins so" if found else "the history has no such revision"
    raise CliError(f"{trouble}; it has: {known}", ExitCode.NOT_FOUND)


def read_accepted(kubectl: Kubectl, skill: SkillView, digest: str) -> str:
    """Return the accepted code whose SHA-256 this is. Raises CliError where none in the namespace has it."""
    for source in _candidates(kubectl, skill):
        if naming.source_digest(source) == digest:
            return source
    raise CliError(
        f"the accepted code of {skill.name} is not in its namespace: no ConfigMap holds code with the SHA-256 "
        f"{digest}; somebody changed it, or you may not read ConfigMaps there"
    )


def read_kept(kubectl: Kubectl, skill: SkillView, label: str) -> KeptRevision | None:
    """Return what is kept of a revision, or None where nothing is. Raises CliError where it was changed."""
    selector = ",".join(
        (
            f"{naming.MANAGED_BY}={naming.MANAGER}",
            f"{naming.COMPONENT}={KEPT_REVISION}",
            f"{naming.SKILL_LABEL}={naming.truncate(skill.name)}",
            f"{naming.REVISION_LABEL}={label}",
        )
    )
    for item in kubectl.json("get", "configmaps", "-l", selector).get("items", []):
        data = item.get("data") or {}
        source = data.get(SKILL_FILE)
        if not isinstance(source, str):
            continue
        _expect(skill, label, source, data.get(SPEC_FILE))
        return KeptRevision(label, source, _parse_spec(data.get(SPEC_FILE)))
    return None


def _expect(skill: SkillView, label: str, source: str, spec: Any) -> None:
    """Raise CliError unless code and spec are those that the history has the digests of."""
    entry = next((entry for entry in skill.status.history if entry.revision == label), None)
    if entry is None:
        return
    code = entry.provenance.source_digest if entry.provenance is not None else ""
    is_other_code = bool(code) and naming.source_digest(source) != code
    if is_other_code or (entry.content_digest and naming.digest(source, spec) != entry.content_digest):
        raise CliError(f"what is kept of revision {label} is not what ran: somebody changed its ConfigMap")


def _parse_spec(text: Any) -> dict[str, Any] | None:
    try:
        spec = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None
    return spec if isinstance(spec, dict) else None


def _candidates(kubectl: Kubectl, skill: SkillView) -> Iterator[str]:
    """Yield what may be the accepted code, the likeliest first."""
    if skill.spec.source is not None:
        yield skill.spec.source.inline
    stored = kubectl.find("configmap", naming.source(skill.name))
    if stored is not None and isinstance(source := (stored.get("data") or {}).get(SKILL_FILE), str):
        yield source
    selector = f"{naming.COMPONENT}={KEPT_REVISION},{naming.SKILL_LABEL}={naming.truncate(skill.name)}"
    for item in kubectl.json("get", "configmaps", "-l", selector).get("items", []):
        if isinstance(source := (item.get("data") or {}).get(SKILL_FILE), str):
            yield source
