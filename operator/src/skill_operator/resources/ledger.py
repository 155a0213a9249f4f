"""The ConfigMaps of a Skill's code: the ledger of what models wrote, and the source that was accepted."""

from __future__ import annotations

from skill_operator import naming
from skill_operator.api.v1alpha1 import Skill
from skill_operator.generation.ledger import Ledger
from skill_operator.resources.common import Object, metadata

KEY = "ledger.json"


def config_map(skill: Skill, ledger: Ledger) -> Object:
    """Each candidate is a file of its own beside the ledger, for people to read."""
    data = {KEY: ledger.model_dump_json()}
    for attempt in ledger.attempts:
        if attempt.source:
            data[f"attempt-{attempt.number}.py"] = attempt.source
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(skill, naming.ledger(skill.metadata.name), "generation"),
        "data": data,
    }


def source_map(skill: Skill, source: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(skill, naming.source(skill.metadata.name), "skill"),
        "data": {"skill.py": source},
    }
