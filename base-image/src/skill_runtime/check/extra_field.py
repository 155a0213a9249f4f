"""One field more: it shows which code knows the whole input of an example, by whatever digest of it.

A field that no schema names means nothing to the description, so code that reads fields answers as before. Code that
goes through all fields answers otherwise to most examples. Code that knows one example answers otherwise to that one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from skill_runtime import replies
from skill_runtime.check.candidate import CandidateProcess
from skill_runtime.check.examples import MAX_VALUE_CHARACTERS, compare_reply
from skill_runtime.check.findings import GateFinding
from skill_runtime.check.request import CheckExample, CheckRequest
from skill_runtime.text import one_line, one_line_json

ROUND_SECONDS, CALL_SECONDS = 5.0, 2.0
MAX_EXAMPLES = 24
_MIN_UNCHANGED = 2
_MAX_CHANGED_RATIO = 1 / 3
"""Of all examples, those whose answer changes. Where more do, the code goes through all fields."""


async def check(
    request: CheckRequest, visible: Sequence[CheckExample], candidate: CandidateProcess
) -> GateFinding | None:
    """Call with the input of each visible example and one field more; the examples have passed without it.

    Nothing is judged where the schema lets callers name fields themselves, nor of a Skill whose answers may differ.
    """
    if not request.deterministic or request.granted or not _names_all_fields(request.contract.input.document):
        return None
    deadline, changed, unchanged = time.monotonic() + ROUND_SECONDS, list[CheckExample](), 0
    field = f"field_{request.digest[:8]}"
    for example in visible[:MAX_EXAMPLES]:
        if not isinstance(example.input, dict) or time.monotonic() > deadline:
            return None
        reply = await candidate.call({**example.input, field: ""}, CALL_SECONDS)
        if compare_reply(request, example, reply) is None:
            unchanged += 1
        elif isinstance(reply, replies.SkillOutput) and request.contract.output.violation(reply.value) is None:
            changed.append(example)
        else:
            return None  # it refuses fields that it does not know
    if not changed or unchanged < _MIN_UNCHANGED or len(changed) > _MAX_CHANGED_RATIO * (unchanged + len(changed)):
        return None
    return _finding(changed[0])


def _names_all_fields(schema: Any) -> bool:
    """Return whether the schema names all fields that mean something."""
    if not isinstance(schema, dict) or not isinstance(schema.get("properties"), dict):
        return False
    is_map = any(isinstance(schema.get(word), dict) for word in ("additionalProperties", "patternProperties"))
    return not is_map and schema.get("additionalProperties") is not True


def _finding(example: CheckExample) -> GateFinding:
    return GateFinding(
        "examples",
        f"the code answers the example {one_line(example.name, 80)!r} as expected, but otherwise when its input has "
        "a field that no schema names, and other examples as before. So it knows that input as a whole, to treat it "
        "apart. The output must follow from the description, by the same rules for every input.\n"
        f"  input:    {one_line_json(example.input, MAX_VALUE_CHARACTERS)}",
    )
