"""The least inputs of a schema, in words: an empty list, an empty text, zero, a field that is left out.

Most programs that are right for ordinary input fail on one of these, and the checks try them first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from skill_operator.untrusted.json_schema import resolve_reference, value_at

MAX_PHRASES: Final = 8
MAX_CHARACTERS: Final = 400
MAX_NAME_CHARACTERS: Final = 60
MAX_SCHEMAS: Final = 200
MAX_DEPTH: Final = 4
_NUMBERS: Final = frozenset({"integer", "number"})
_FIXED: Final = ("enum", "const", "pattern", "format")  # what says more of a value than its type does


def least_inputs(schema: Any) -> list[str]:
    """Return a phrase for each, such as `lines: []` or `no discount`; the outermost first, and a bounded number.

    They hold names from the schema, which is a stranger's text.
    """
    phrases, length = list[str](), 0
    for phrase in dict.fromkeys(_phrases(schema)):
        length += len(phrase)
        if len(phrases) == MAX_PHRASES or length > MAX_CHARACTERS:
            break
        phrases.append(phrase)
    return phrases


def _phrases(root: Any) -> Iterator[str]:
    level = [("", root)]
    visited, references = 0, set[str]()
    for _ in range(MAX_DEPTH):
        following = list[tuple[str, Any]]()
        for path, schema in level:
            visited += 1
            node = _resolved(root, schema, references)
            if node is None or visited > MAX_SCHEMAS:
                continue
            yield from _least_values(path, node)
            properties = node.get("properties")
            required = node.get("required")
            for name, inner in list(properties.items())[:MAX_SCHEMAS] if isinstance(properties, dict) else ():
                if len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
                    continue
                place = f"{path}.{name}" if path else name
                if not isinstance(required, list) or name not in required:
                    yield f"no {place}"
                following.append((place, inner))
            if isinstance(node.get("items"), dict):
                following.append((f"{path}[]", node["items"]))
        level = following


def _resolved(root: Any, schema: Any, references: set[str]) -> dict[str, Any] | None:
    """Return the schema, or the one that its reference names at first; None for what is not described, or was seen."""
    reference = schema.get("$ref") if isinstance(schema, dict) else None
    if isinstance(reference, str):
        is_new = reference.startswith("#/") and reference not in references
        references.add(reference)
        place = resolve_reference(root, reference) if is_new else None
        schema = value_at(root, place) if place is not None else None
    return schema if isinstance(schema, dict) else None


def _least_values(path: str, schema: dict[str, Any]) -> Iterator[str]:
    """Yield the least values that a part of the input may have; the whole input is an object and has none."""
    if not path or any(keyword in schema for keyword in _FIXED):
        return
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    if "array" in kinds and not _number(schema, "minItems", 0):
        yield f"{path}: []"
    if "string" in kinds and not _number(schema, "minLength", 0):
        yield f'{path}: ""'
    if "object" in kinds and not schema.get("required") and not _number(schema, "minProperties", 0):
        yield f"{path}: {{}}"
    if _NUMBERS.intersection(one for one in kinds if isinstance(one, str)) and _allows_zero(schema):
        yield f"{path}: 0"
    if "null" in kinds:
        yield f"{path}: null"


def _allows_zero(schema: dict[str, Any]) -> bool:
    lowest, highest = _number(schema, "minimum", 0), _number(schema, "maximum", 0)
    above, below = _number(schema, "exclusiveMinimum", -1), _number(schema, "exclusiveMaximum", 1)
    return lowest <= 0 <= highest and above < 0 < below


def _number(schema: dict[str, Any], keyword: str, default: float) -> float:
    value = schema.get(keyword, default)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else default
