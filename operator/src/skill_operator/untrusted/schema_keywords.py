"""Find the keywords of a JSON Schema (draft 2020-12) that do nothing: misspelt, of another dialect, or out of place.

The standard has a validator ignore them. Whoever wrote them expects something of them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from skill_operator.untrusted.json_schema import Misfit, reachable
from skill_operator.untrusted.json_values import brief

_MAX_GUESSED_LENGTH: Final = 40
_OF_TYPE: Final[Mapping[str, frozenset[str]]] = {
    "string": frozenset({"maxLength", "minLength", "pattern", "contentEncoding", "contentMediaType", "contentSchema"}),
    "number": frozenset({"multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum"}),
    "array": frozenset(
        {"maxItems", "minItems", "uniqueItems", "maxContains", "minContains", "prefixItems", "items", "contains",
         "unevaluatedItems"}
    ),
    "object": frozenset(
        {"maxProperties", "minProperties", "required", "dependentRequired", "properties", "patternProperties",
         "additionalProperties", "propertyNames", "unevaluatedProperties", "dependentSchemas",
         "dependencies"}
    ),
}  # fmt: skip
_NEEDS: Final = {"then": "if", "else": "if", "minContains": "contains", "maxContains": "contains"}
_OF_ANY_TYPE: Final = frozenset({
    "$schema", "$id", "$ref", "$anchor", "$dynamicRef", "$dynamicAnchor", "$vocabulary", "$comment", "$defs",
    "definitions", "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "type", "enum", "const", "title",
    "description", "default", "deprecated", "readOnly", "writeOnly", "examples", "format",
})  # fmt: skip
_KEYWORDS: Final = _OF_ANY_TYPE.union(*_OF_TYPE.values())
_BY_LOWER_CASE: Final = {keyword.lower(): keyword for keyword in sorted(_KEYWORDS)}
_NOTES: Final = frozenset({"example", "externalDocs", "xml"})  # of OpenAPI: for people, as `examples` is
_ELSEWHERE: Final = {  # keywords of other dialects, and what says the same here
    "nullable": 'add "null" to type',
    "optional": "leave the name out of required",
    "additionalItems": "use items beside prefixItems",
    "divisibleBy": "use multipleOf",
    "disallow": "use not",
    "extends": "use allOf",
    "id": "use $id",
    "discriminator": "use oneOf with const",
}


def idle_keywords(root: dict[str, Any]) -> Iterator[Misfit]:
    """Yield the keywords that do nothing, each with its place and with what may have been meant.

    The schema is one that `CompiledSchema` takes.
    """
    for place, node in reachable(root):
        for keyword in node:
            if (message := _explain(keyword, node)) is not None:
                yield Misfit((*place, keyword), message)


def refused_null(root: dict[str, Any]) -> Iterator[Misfit]:
    """Yield each `nullable: true` whose type refuses null: OpenAPI 3.0 takes null there, JSON Schema does not."""
    for place, node in reachable(root):
        kinds = _types(node)
        if node.get("nullable") is True and kinds and "null" not in kinds:
            both = ", ".join(f'"{kind}"' for kind in (*kinds, "null"))
            yield Misfit(
                (*place, "nullable"), f"is no keyword of JSON Schema, so null is refused: write type: [{both}]"
            )


def _types(node: dict[str, Any]) -> list[str]:
    kinds = node.get("type", [])
    return kinds if isinstance(kinds, list) else [kinds]


def _explain(keyword: str, node: dict[str, Any]) -> str | None:
    """Return why a keyword does nothing, or None where it does something or is for people."""
    if keyword in _NOTES or keyword.startswith("x-"):
        return None
    if keyword not in _KEYWORDS:
        return f"{brief(keyword)} is no keyword of JSON Schema 2020-12 and does nothing{_guess(keyword)}"
    if (other := _NEEDS.get(keyword)) is not None and other not in node:
        return f"does nothing without {other}"
    wanted = next((kind for kind, keywords in _OF_TYPE.items() if keyword in keywords), None)
    kinds = _types(node)
    if wanted is None or not kinds or wanted in ["number" if kind == "integer" else kind for kind in kinds]:
        return None
    return f"does nothing for type {' or '.join(kinds)}: it is about type {wanted}"


def _guess(keyword: str) -> str:
    if keyword in _ELSEWHERE:
        return f": {_ELSEWHERE[keyword]}"
    if len(keyword) > _MAX_GUESSED_LENGTH:
        return ""
    near = difflib.get_close_matches(keyword.lower(), _BY_LOWER_CASE, n=1, cutoff=0.75)
    return f"; did you mean {_BY_LOWER_CASE[near[0]]}?" if near else ""
