"""What a skill accepts and returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema_rs

from skill_runtime import strict_json
from skill_runtime.settings import RuntimeSettingsError
from skill_runtime.text import one_line


class Schema:
    """A JSON Schema (2020-12) that never leaves this process to look something up."""

    def __init__(self, document: Any, name: str) -> None:
        """Raises SettingsError."""
        self.document = document
        try:
            self._validator = jsonschema_rs.Draft202012Validator(document, retriever=_nothing_remote)
        except (ValueError, TypeError) as error:
            raise RuntimeSettingsError(f"the {name} schema cannot be used: {one_line(str(error), 300)}") from error

    def problem(self, value: Any) -> str | None:
        """Where and why the value does not fit, or None if it does."""
        if self._validator.is_valid(value):
            return None
        error = next(iter(self._validator.iter_errors(value)), None)
        if error is None:
            return "does not fit the schema"
        where = "/".join(("", *(str(step) for step in error.instance_path)))
        return one_line(f"{where or '/'}: {error.message}", 300)


@dataclass(frozen=True)
class Contract:
    """The file that the operator mounts."""

    name: str
    input: Schema
    output: Schema
    call_timeout: float
    open_secrets: frozenset[str] = frozenset()
    """Names of the secrets that answers may carry."""

    @classmethod
    def read(cls, path: Path) -> Contract:
        """Raises SettingsError."""
        try:
            return cls.of(strict_json.parse(path.read_bytes()))
        except OSError as error:
            raise RuntimeSettingsError(f"cannot read {path}: {error.strerror}") from error
        except strict_json.DocumentError as error:
            raise RuntimeSettingsError(f"{path}: {error}") from error

    @classmethod
    def of(cls, document: Any) -> Contract:
        """Raises SettingsError."""
        try:
            timeout = float(document["callTimeoutSeconds"])
            made = cls(
                str(document.get("name", "")),
                Schema(document["input"], "input"),
                Schema(document["output"], "output"),
                timeout,
                frozenset(map(str, document.get("openSecrets", ()))),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RuntimeSettingsError(f"the contract lacks or misuses {error}") from error
        if not 0 < timeout <= 86_400:
            raise RuntimeSettingsError(f"callTimeoutSeconds must be between 0 and 86400, not {timeout}")
        return made


def _nothing_remote(uri: str) -> Any:
    raise ValueError(f"schemas are not fetched: {uri}")
