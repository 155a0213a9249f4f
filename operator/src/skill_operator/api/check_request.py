"""The request of a check: what the checker must know about a candidate, and how it is packed for PID 1's environment.

The operator makes it for a Job, `kubectl skill check` for a container or a process on a person's own machine.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final

from skill_operator import runtime_contract
from skill_operator.api.v1alpha1 import Example, SkillSpec

PART_BYTES: Final = 96 * 1024  # one environment variable holds 128 KiB at most
MAX_PARTS: Final = runtime_contract.MAX_CHECK_PARTS

CheckContent = dict[str, Any]


class TooLarge(ValueError):
    """TooLarge says that source, schemas and examples together do not fit into a check."""


def make_content(
    spec: SkillSpec, source: str, types: str, visible: Sequence[Example], hidden: Sequence[Example], reference: str = ""
) -> CheckContent:
    """Return what the checker needs to know about a candidate, as a JSON object.

    `reference` is the accepted program that the candidate is to be compared with, or empty.
    """
    examples = [_example(e, hidden=False) for e in visible] + [_example(e, hidden=True) for e in hidden]
    return {
        runtime_contract.CHECK_SOURCE: source,
        runtime_contract.CHECK_TYPES: types,
        runtime_contract.CONTRACT_INPUT: spec.input,
        runtime_contract.CONTRACT_OUTPUT: spec.output,
        runtime_contract.CHECK_EXAMPLES: examples,
        runtime_contract.CONTRACT_CALL_TIMEOUT_SECONDS: spec.call_timeout_seconds,
        runtime_contract.CHECK_SECRETS: [grant.name for grant in spec.secrets],
        runtime_contract.CHECK_DETERMINISTIC: spec.deterministic,
        runtime_contract.CHECK_GRANTED: bool(spec.egress or spec.secrets),
        **({runtime_contract.CHECK_REFERENCE: reference} if reference else {}),
    }


def subject(content: CheckContent) -> str:
    """Return the digest of the content, which the report must name.

    So whoever may change what carries the content cannot have something else checked instead.
    """
    return hashlib.sha256(_serialize(content)).hexdigest()


def pack(content: CheckContent) -> list[str]:
    """Return the content as the values of the environment variables that carry it. Raises TooLarge."""
    packed = base64.b64encode(gzip.compress(_serialize(content), mtime=0)).decode()
    parts = [packed[at : at + PART_BYTES] for at in range(0, len(packed), PART_BYTES)]
    if len(parts) > MAX_PARTS:
        raise TooLarge(
            f"source, schemas and examples take {len(packed)} bytes compressed; {PART_BYTES * MAX_PARTS} is the most: "
            "shorten the examples"
        )
    return parts


def _example(example: Example, *, hidden: bool) -> CheckContent:
    outcome = (
        {runtime_contract.EXAMPLE_OUTPUT: example.output}
        if example.has_output
        else {runtime_contract.EXAMPLE_ERROR: example.error}
    )
    return {
        runtime_contract.EXAMPLE_NAME: example.name,
        runtime_contract.EXAMPLE_INPUT: example.input,
        runtime_contract.EXAMPLE_HIDDEN: hidden,
        **outcome,
    }


def _serialize(content: CheckContent) -> bytes:
    text = json.dumps(content, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")
