"""`skill_types.py`: the TypedDicts of a Skill, derived from its schemas."""

from __future__ import annotations

import keyword
import re
from typing import Any

HEADER = (
    '"""Types of this skill, derived from its schemas."""\n\nfrom typing import Any, Literal, NotRequired, TypedDict\n'
)
DEEPEST, MOST = 8, 200
_SIMPLE = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}


def types_module(input_schema: dict[str, Any], output_schema: dict[str, Any]) -> str:
    """Text that is always valid Python: what a TypedDict cannot say is `Any`. Bounded, whatever the schemas hold."""
    writer = _Writer()
    for name, schema in (("Input", input_schema), ("Output", output_schema)):
        found = writer.type_of(schema, name, 0)
        if found != name:
            writer.blocks.append(f"{name} = {found}\n")
    return HEADER + "".join(f"\n{block}" for block in writer.blocks)


class _Writer:
    def __init__(self) -> None:
        self.blocks: list[str] = []
        self._names: set[str] = {"Input", "Output", "Any", "Literal", "NotRequired", "TypedDict"}

    def type_of(self, schema: Any, name: str, depth: int) -> str:  # noqa: PLR0911: one return a kind of schema
        if not isinstance(schema, dict) or depth > DEEPEST or len(self.blocks) > MOST:
            return "Any"
        if isinstance(schema.get("enum"), list):
            return _literal(schema["enum"])
        if "const" in schema:
            return _literal([schema["const"]])
        union = schema.get("anyOf") or schema.get("oneOf")
        if isinstance(union, list) and union:
            return _union([self.type_of(option, f"{name}Option{n}", depth + 1) for n, option in enumerate(union, 1)])
        kind = schema.get("type")
        if isinstance(kind, list):
            return _union(
                [self.type_of({**schema, "type": one}, name, depth + 1) for one in kind if isinstance(one, str)]
            )
        if kind == "array":
            return f"list[{self.type_of(schema.get('items'), f'{name}Item', depth + 1)}]"
        if kind == "object":
            return self._object(schema, name, depth)
        return _SIMPLE.get(kind, "Any") if isinstance(kind, str) else "Any"

    def _object(self, schema: dict[str, Any], name: str, depth: int) -> str:
        properties = schema.get("properties")
        if not isinstance(properties, dict) or not properties or len(properties) > MOST:
            extra = schema.get("additionalProperties")
            return (
                f"dict[str, {self.type_of(extra, f'{name}Value', depth + 1)}]"
                if isinstance(extra, dict)
                else "dict[str, Any]"
            )
        if depth:
            name = self._unique(name)
        required = schema.get("required")
        needed = {r for r in required if isinstance(r, str)} if isinstance(required, list) else set()
        fields = []
        for key, value in properties.items():
            found = self.type_of(value, name + _camel(key), depth + 1)
            fields.append((key, found if key in needed else f"NotRequired[{found}]"))
        if all(key.isidentifier() and not keyword.iskeyword(key) and not key.startswith("__") for key, _ in fields):
            body = "".join(f"    {key}: {found}\n" for key, found in fields)
            self.blocks.append(f"\nclass {name}(TypedDict):\n{body}")
        else:
            body = ", ".join(f"{key!a}: {found}" for key, found in fields)
            self.blocks.append(f"\n{name} = TypedDict({name!r}, {{{body}}})\n")
        return name

    def _unique(self, wanted: str) -> str:
        name, number = wanted[:60], 2
        while name in self._names:
            name, number = f"{wanted[:60]}{number}", number + 1
        self._names.add(name)
        return name


def _literal(values: list[Any]) -> str:
    plain = [v for v in values if isinstance(v, str | int | bool | None)]
    if not values or len(plain) != len(values) or len(values) > 64 or any(len(str(v)) > 200 for v in values):
        return "Any"
    return f"Literal[{', '.join(ascii(v) for v in values)}]"


def _union(options: list[str]) -> str:
    unique = list(dict.fromkeys(options))
    return "Any" if "Any" in unique or not unique else " | ".join(unique)


def _camel(text: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in re.findall(r"[A-Za-z0-9]+", text))[:30] or "Field"
