"""Comparison of what is asked for with a Skill that exists, as far as schemas and examples can tell."""

from __future__ import annotations

from typing import Any, Final

from skill_operator.api.v1alpha1 import SkillSpec
from skill_operator.untrusted.json_schema import CompiledSchema, TooMuchWorkError, WorkBudget

MAX_WORK: Final = 2_000
MAX_EXAMPLES: Final = 8


def fits(wanted: SkillSpec, found: SkillSpec, found_input: CompiledSchema | None) -> bool:
    """Return whether a caller of `wanted` could call `found` instead.

    What `found` needs is there, what is wanted comes back, and each example's input is one that `found` takes. Names
    must be the same: a tool that calls things otherwise is another one.
    """
    given, taken = _properties(wanted.input), _properties(found.input)
    needed = set(_required(found.input))
    if not (needed <= set(given) and set(given) <= set(taken) and _same_types(given, taken)):
        return False
    needed_output, returned = _properties(wanted.output), _properties(found.output)
    if wanted.output.get("type") != found.output.get("type"):
        return False
    if not (set(needed_output) <= set(returned) and _same_types(needed_output, returned)):
        return False
    return found_input is None or _takes_examples(wanted, found_input)


def _takes_examples(wanted: SkillSpec, found_input: CompiledSchema) -> bool:
    budget = WorkBudget(MAX_WORK, MAX_WORK)
    inputs = [example.input for example in wanted.examples[:MAX_EXAMPLES] if example.error is None]
    try:
        return not any(found_input.misfits(value, budget, 1) for value in inputs)
    except TooMuchWorkError:
        return True


def _properties(schema: dict[str, Any]) -> dict[str, Any]:
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}


def _required(schema: dict[str, Any]) -> list[str]:
    required = schema.get("required")
    return [name for name in required if isinstance(name, str)] if isinstance(required, list) else []


def _same_types(wanted: dict[str, Any], found: dict[str, Any]) -> bool:
    """Return whether no property that both have is of another type; a number may stand for an integer."""
    return all(_may_be(_type(wanted[name]), _type(found[name])) for name in wanted if name in found)


def _may_be(wanted: Any, found: Any) -> bool:
    return wanted is None or found is None or wanted == found or {wanted, found} == {"integer", "number"}


def _type(schema: Any) -> str | None:
    kind = schema.get("type") if isinstance(schema, dict) else None
    return kind if isinstance(kind, str) else None
