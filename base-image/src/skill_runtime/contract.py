"""The contract of one skill: what it accepts and returns, and for how long a call may run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import jsonschema_rs

from skill_runtime import operator_contract as oc
from skill_runtime import strict_json
from skill_runtime.integers import IntegerFinder, may_hold_whole_floats
from skill_runtime.patterns import EXHAUSTED, OPTIONS, Patterns
from skill_runtime.settings import RuntimeSettingsError
from skill_runtime.text import one_line

MAX_EXPLAINED = 50_000
"""The largest product of the nodes of a value and of a schema's alternatives to explain; it takes 20 MiB at most."""
EXCHANGED = (
    "is not the contract that this pod was deployed with: somebody exchanged its ConfigMap. To mend it, delete the "
    "ConfigMap of the pod's volume contract, then the pod. The operator writes the ConfigMap again as it deploys the "
    "Skill: decide first on a change that waits for approval"
)


class Schema:
    """A JSON Schema (draft 2020-12) that never leaves this process to resolve a reference."""

    def __init__(self, document: Any, name: str) -> None:
        """Compile the schema. Raises RuntimeSettingsError where it is invalid."""
        self.document = document
        self._alternatives = _weigh_alternatives(document)
        try:
            self._patterns = Patterns(document)
            self._integers = IntegerFinder(document, self._patterns.matches)
            self._validator = jsonschema_rs.Draft202012Validator(
                document,
                retriever=_refuse_remote,
                validate_formats=False,
                pattern_options=OPTIONS,
                keywords={"pattern": cast("Any", self._patterns.keyword)},
            )
        except (ValueError, TypeError) as error:
            raise RuntimeSettingsError(f"the {name} schema cannot be used: {one_line(str(error), 300)}") from error

    def violation(self, value: Any) -> str | None:
        """Return where and why the value does not fit, or None if it does."""
        self._patterns.start(value)
        if not self._patterns.exhausted and self._validator.is_valid(value) and not self._patterns.exhausted:
            return None
        if self._patterns.exhausted:
            return f"/: {EXHAUSTED}"
        return self._explain(value)

    def _explain(self, value: Any) -> str:
        """Return where and why a value does not fit.

        The library copies the value for that: once, and once more for whatever is wrong inside alternatives.
        """
        if self._alternatives and _weight(value, MAX_EXPLAINED) * self._alternatives > MAX_EXPLAINED:
            return "/: does not fit the schema; the value is too large to tell which of the alternatives it misses"
        self._patterns.start(value)
        try:
            self._validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            where = "/".join(("", *(str(step) for step in error.instance_path)))
            return one_line(f"{where or '/'}: {error.message}", 300)
        return "does not fit the schema"

    def encode(self, value: Any, text: bytes) -> bytes:
        """Return the JSON of a value that fits, whose canonical JSON is `text`, with each integer written as one.

        The value is changed alike.
        """
        return strict_json.encode(self._integers.convert(value)) if may_hold_whole_floats(text) else text


@dataclass(frozen=True)
class SkillContract:
    """The contract of a skill, as the operator mounts it."""

    name: str
    input: Schema
    output: Schema
    call_timeout_seconds: float
    open_secrets: frozenset[str] = frozenset()
    """Names of the secrets whose values a response may carry."""

    @classmethod
    def read(cls, path: Path, digest: str = "") -> SkillContract:
        """Read the contract from a file. Raises RuntimeSettingsError where that cannot be done.

        `digest` is the hex SHA-256 of the only file that is served, or empty. Whoever may write ConfigMaps could
        exchange what was approved.
        """
        try:
            content = path.read_bytes()
            if digest and hashlib.sha256(content).hexdigest() != digest:
                raise RuntimeSettingsError(f"{path} {EXCHANGED}")
            return cls.from_document(strict_json.parse(content))
        except OSError as error:
            raise RuntimeSettingsError(f"cannot read {path}: {error.strerror}") from error
        except strict_json.StrictJsonError as error:
            raise RuntimeSettingsError(f"{path}: {error}") from error

    @classmethod
    def from_document(cls, document: Any) -> SkillContract:
        """Build the contract from parsed JSON. Raises RuntimeSettingsError where a member is missing or wrong."""
        try:
            timeout = float(document[oc.CONTRACT_CALL_TIMEOUT_SECONDS])
            contract = cls(
                str(document.get(oc.CONTRACT_NAME, "")),
                Schema(document[oc.CONTRACT_INPUT], "input"),
                Schema(document[oc.CONTRACT_OUTPUT], "output"),
                timeout,
                frozenset(map(str, document.get(oc.CONTRACT_OPEN_SECRETS, ()))),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RuntimeSettingsError(f"the contract lacks or misuses {error}") from error
        if not 0 < timeout <= 86_400:
            raise RuntimeSettingsError(f"{oc.CONTRACT_CALL_TIMEOUT_SECONDS} must be between 0 and 86400, not {timeout}")
        return contract


def _weight(value: Any, limit: int) -> int:
    """Return the number of nodes of a value. Beyond `limit` it counts no further."""
    total, waiting = 0, [value]
    while waiting and total <= limit:
        node = waiting.pop()
        total += 1
        if isinstance(node, dict | list):
            waiting.extend(node.values() if isinstance(node, dict) else node)
    return total


def _weigh_alternatives(document: Any) -> int:
    """Return the number of nodes below `anyOf` and `oneOf`, wherever they stand."""
    total, waiting = 0, [document]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            total += sum(_weight(node[keyword], MAX_EXPLAINED) for keyword in ("anyOf", "oneOf") if keyword in node)
        if isinstance(node, dict | list):
            waiting.extend(node.values() if isinstance(node, dict) else node)
    return total


def _refuse_remote(uri: str) -> Any:
    raise ValueError(f"schemas are not fetched: {uri}")
