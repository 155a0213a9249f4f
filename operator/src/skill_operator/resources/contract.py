"""Build the contract: what the runtime must know of its Skill, as the file /etc/skill/contract.json."""

from __future__ import annotations

import hashlib
import json

from skill_operator import naming, runtime_contract
from skill_operator.api.v1alpha1 import Skill
from skill_operator.k8s.interface import Object
from skill_operator.resources.common import metadata

COMPONENT = "contract"


def text(skill: Skill) -> str:
    """Return the contract as JSON."""
    spec, meta = skill.spec, skill.metadata
    content = {
        runtime_contract.CONTRACT_NAME: f"{meta.namespace}/{meta.name}",
        runtime_contract.CONTRACT_INPUT: spec.input,
        runtime_contract.CONTRACT_OUTPUT: spec.output,
        runtime_contract.CONTRACT_CALL_TIMEOUT_SECONDS: spec.call_timeout_seconds,
    }
    if names := [grant.name for grant in spec.secrets if grant.disclosure == "Allowed"]:
        content[runtime_contract.CONTRACT_OPEN_SECRETS] = names
    return json.dumps(content, sort_keys=True, ensure_ascii=False)


def fingerprint(skill: Skill) -> str:
    """Return the contract's digest for the pod template's annotation, so that a new contract starts new pods."""
    return naming.digest(text(skill))


def file_digest(skill: Skill) -> str:
    """Return the hex SHA-256 of the contract's file, by which PID 1 knows it from another."""
    return hashlib.sha256(text(skill).encode("utf-8", "surrogatepass")).hexdigest()


def name(skill: Skill) -> str:
    """Return the name of the ConfigMap, which is another one for each contract."""
    return naming.contract(skill.metadata.name, skill.metadata.uid, fingerprint(skill))


def config_map(skill: Skill) -> Object:
    """Return the ConfigMap that holds the contract. It is immutable, since another contract has another name."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(skill, name(skill), COMPONENT),
        "immutable": True,
        "data": {runtime_contract.CONTRACT_FILE: text(skill)},
    }
