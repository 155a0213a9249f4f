"""Build and read the ConfigMap that keeps a revision: its code and the spec that the code was accepted under.

It lies in the Skill's namespace, for people and tools to read. What is read back counts only if its digest is in the
history of the status, so whoever may write ConfigMaps gains nothing by it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from skill_operator import naming, runtime_contract
from skill_operator.api.v1alpha1 import Revision, Skill, SkillSpec
from skill_operator.k8s.interface import Object
from skill_operator.resources.common import metadata

SPEC_FILE = "spec.json"
FILES = (runtime_contract.SKILL_FILE, SPEC_FILE)
MAX_BYTES = 1_000_000  # of the MiB that a ConfigMap holds
_WITHOUT_EXAMPLES: dict[str, Any] = {"examples": []}


def config_map(skill: Skill, rev: str, source: str) -> Object | None:
    """Return the ConfigMap of a revision that runs by this spec, or None where the spec is too large to keep.

    Examples are left out where only they are too large.
    """
    texts = (spec_text(skill.spec), spec_text(skill.spec.model_copy(update=_WITHOUT_EXAMPLES)))
    left = MAX_BYTES - _size(source)
    text = next((text for text in texts if _size(text) <= left), None)
    if text is None:
        return None
    meta = skill.metadata
    name = naming.kept_revision(meta.name, meta.uid, rev)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(skill, name, naming.KEPT_REVISION, rev),
        "data": {runtime_contract.SKILL_FILE: source, SPEC_FILE: text},
    }


def spec_text(spec: SkillSpec) -> str:
    """Return a spec as JSON. Its code is not repeated: that is the other file, whoever wrote it."""
    content = spec.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"source", "revision"})
    return json.dumps(content, sort_keys=True, ensure_ascii=False, indent=1)


def content_digest(kept: Object) -> str:
    """Return the digest of what a ConfigMap keeps."""
    data = kept.get("data", {})
    return naming.digest(data.get(runtime_contract.SKILL_FILE), data.get(SPEC_FILE))


def read(skill: Skill, entry: Revision, config_maps: Mapping[str, Object]) -> tuple[str, SkillSpec] | None:
    """Return the code and the spec of an entry of the history; None where nothing is kept, or something else."""
    meta = skill.metadata
    kept = config_maps.get(naming.kept_revision(meta.name, meta.uid, entry.revision_digest))
    if kept is None or not entry.content_digest or content_digest(kept) != entry.content_digest:
        return None
    try:
        spec = SkillSpec.model_validate_json(kept["data"][SPEC_FILE])
    except ValidationError:  # kept by another version of the operator
        return None
    return str(kept["data"][runtime_contract.SKILL_FILE]), spec


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
