"""The settings of the runtime: where files are and how much is allowed, all from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from skill_runtime import operator_contract as oc


class RuntimeSettingsError(Exception):
    """The environment or a file that the operator wrote cannot be used; the message says which and why."""


@dataclass(frozen=True)
class RuntimeSettings:
    """RuntimeSettings holds the settings of both commands.

    The operator sets SKILL_GRACE, SKILL_UID and SKILL_CONTRACT_DIGEST alone; the other variables are for tests.
    """

    skill: Path
    contract: Path
    manifest: Path
    termination_log: Path
    tools: Path
    """Folder of the checker's tools: `bin/ruff`, `bin/mypy`, and `cache`, what mypy has read already."""
    scratch: Path
    secrets: Path
    """Folder with one file for each secret that the Skill was granted."""
    port: int
    workers: int
    queue: int
    """Calls that may wait for a worker."""
    max_body_bytes: int
    recheck_seconds: float
    """Time between two checks of egress while foreign code runs; 0: never."""
    grace_seconds: float
    """Time that calls in flight get after SIGTERM."""
    uid: str
    """The uid of the Skill whose calls this pod takes; empty: of any."""
    contract_digest: str
    """The hex SHA-256 of the contract that this pod was deployed with; empty: any contract is served."""

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> RuntimeSettings:
        """Read the settings from the environment. Raises RuntimeSettingsError where a number is out of range."""
        folder = Path(environment.get("SKILL_ROOT", oc.SKILL_DIRECTORY))
        contract = f"{oc.CONTRACT_DIRECTORY}/{oc.CONTRACT_FILE}"
        return cls(
            skill=folder / oc.SKILL_FILE,
            contract=Path(environment.get("SKILL_CONTRACT", contract)),
            manifest=folder / oc.MANIFEST_FILE,
            termination_log=Path(environment.get("SKILL_TERMINATION_LOG", "/dev/termination-log")),
            tools=Path(environment.get("SKILL_TOOLS", "/opt/checker")),
            scratch=Path(environment.get("SKILL_SCRATCH", oc.SCRATCH_DIRECTORY)),
            secrets=Path(environment.get("SKILL_SECRETS", oc.SECRETS_DIRECTORY)),
            port=_number(environment, "SKILL_PORT", oc.HTTP_PORT, 0, 65535),
            workers=_number(environment, "SKILL_WORKERS", oc.MAX_RUNNING_CALLS, 1, 256),
            queue=_number(environment, "SKILL_QUEUE", oc.MAX_QUEUED_CALLS, 0, 10_000),
            max_body_bytes=_number(environment, "SKILL_MAX_BODY", oc.MAX_BODY_BYTES, 64, 1 << 26),
            recheck_seconds=_number(environment, "SKILL_RECHECK", 20, 0, 3600),
            grace_seconds=_number(environment, oc.ENV_GRACE, 25, 0, 3600),
            uid=environment.get(oc.ENV_SKILL_UID, ""),
            contract_digest=environment.get(oc.ENV_CONTRACT_DIGEST, ""),
        )


def _number(environment: Mapping[str, str], name: str, default: int, minimum: int, maximum: int) -> int:
    text = environment.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and minimum <= int(text) <= maximum):
        raise RuntimeSettingsError(f"{name} must be a whole number from {minimum} to {maximum}, not {text!r}")
    return int(text)
