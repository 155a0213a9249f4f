"""Where things are and how much is allowed: all from the environment, which the operator writes, or a test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class RuntimeSettingsError(Exception):
    """The environment or a file that the operator wrote cannot be used; the message says which and why."""


@dataclass(frozen=True)
class RuntimeSettings:
    """What both commands are told."""

    skill: Path
    contract: Path
    manifest: Path
    termination_log: Path
    tools: Path
    """Of the checker: `bin/ruff`, `bin/mypy`, and `cache`, what mypy has read already."""
    scratch: Path
    secrets: Path
    """One file for each secret that the Skill was granted."""
    port: int
    workers: int
    queue: int
    """Calls that may wait for a worker."""
    max_body: int
    recheck: float
    """Seconds between two looks at the way out while a skill is served; 0: never."""
    grace: float
    """Seconds that calls in flight get after SIGTERM."""

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> RuntimeSettings:
        """Raises SettingsError."""
        folder = Path(environment.get("SKILL_ROOT", "/skill"))
        return cls(
            skill=folder / "skill.py",
            contract=Path(environment.get("SKILL_CONTRACT", "/etc/skill/contract.json")),
            manifest=folder / "manifest.json",
            termination_log=Path(environment.get("SKILL_TERMINATION_LOG", "/dev/termination-log")),
            tools=Path(environment.get("SKILL_TOOLS", "/opt/checker")),
            scratch=Path(environment.get("SKILL_SCRATCH", "/tmp")),
            secrets=Path(environment.get("SKILL_SECRETS", "/run/secrets/skill")),
            port=_number(environment, "SKILL_PORT", 8080, 0, 65535),
            workers=_number(environment, "SKILL_WORKERS", 4, 1, 256),
            queue=_number(environment, "SKILL_QUEUE", 32, 0, 10_000),
            max_body=_number(environment, "SKILL_MAX_BODY", 1 << 20, 64, 1 << 26),
            recheck=_number(environment, "SKILL_RECHECK", 20, 0, 3600),
            grace=_number(environment, "SKILL_GRACE", 25, 0, 3600),
        )


def _number(environment: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = environment.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and least <= int(text) <= most):
        raise RuntimeSettingsError(f"{name} must be a whole number from {least} to {most}, not {text!r}")
    return int(text)
