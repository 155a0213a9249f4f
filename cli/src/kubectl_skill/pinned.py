"""Make the pinned manifest of a Skill for the next cluster: the same bytes for the same spec and code."""

from __future__ import annotations

from typing import Any, Final

from kubectl_skill.manifest_text import dump_yaml
from skill_operator import naming
from skill_operator.api.v1alpha1 import SkillSpec

LEFT_OUT: Final = ("generation", "revision", "suspend", "source")
"""Fields that say nothing about pinned code, or belong to this cluster alone."""
_OF_TOOLS: Final = ("kubectl.kubernetes.io/", f"{naming.GROUP}/", "argocd.argoproj.io/", "kustomize.toolkit.fluxcd.io/",
                    "helm.toolkit.fluxcd.io/", "meta.helm.sh/", "deployment.kubernetes.io/")  # fmt: skip


def pinned_manifest(raw: dict[str, Any], source: str, revision: str) -> str:
    """Return the YAML of a Skill with this code, without status and without what belongs to this cluster."""
    meta, spec = raw.get("metadata") or {}, raw.get("spec") or {}
    kept: dict[str, Any] = {"name": meta.get("name", "")}
    for name in ("labels", "annotations"):
        mine = {key: value for key, value in sorted((meta.get(name) or {}).items()) if not _is_foreign(key)}
        if mine:
            kept[name] = mine
    manifest = {
        "apiVersion": naming.API_VERSION,
        "kind": "Skill",
        "metadata": kept,
        "spec": {**pinned_spec(spec), "source": {"inline": source}},
    }
    digest = naming.source_digest(source)
    head = f"# The accepted code of revision {revision}, pinned: no model is called.\n# SHA-256 of skill.py: {digest}\n"
    return head + dump_yaml(manifest)


def pinned_spec(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a spec that pinned code needs, in the order of the API; fields not known here come last."""
    order = [field.alias or name for name, field in SkillSpec.model_fields.items()]
    names = [name for name in order if name in spec] + sorted(spec.keys() - set(order))
    return {name: _sorted(spec[name]) for name in names if name not in LEFT_OUT}


def _sorted(value: Any) -> Any:
    """Return a value with the keys of its objects in order: an API server may keep any."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value, key=_rank)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _rank(key: str) -> tuple[bool, str]:
    return key != "name", key  # of an example or a grant, the name comes first


def _is_foreign(key: str) -> bool:
    return key.startswith(_OF_TOOLS) or key == naming.MANAGED_BY
