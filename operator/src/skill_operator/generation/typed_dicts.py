"""`skill_types.py`: the TypedDicts of a Skill, derived from its schemas."""

from __future__ import annotations

import keyword
import re
from typing import Any

HEADER = (
    '"""Types of this skill, derived from its schemas."""\n\n'
    "from __future__ import annotations\n\n"
    "from typing import Any, Literal, NotRequired, TypeAlias, TypedDict\n"
)
NOTHING_KNOWN = "\nInput: TypeAlias = dict[str, Any]\n\nOutput: TypeAlias = Any\n"
DEEPEST, MOST = 8, 200
LONGEST, LONGEST_EXPRESSION = 48 * 1024, 2000
_SIMPLE = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
_NAMED = {*_SIMPLE.values(), "list", "dict"}  # a field of such a name would hide the type from the fields after it


def types_module(input_schema: dict[str, Any], output_schema: dict[str, Any]) -> str:
    """Text that is always valid Python: what a TypedDict cannot say is `Any`. Bounded, whatever the schemas hold."""
    writer = _Writer()
    for name, schema in (("Input", input_schema), ("Output", output_schema)):
        found = writer.root(schema, name)
        if found != name:
            writer.blocks.append(f"{name}: TypeAlias = {found}\n")
    body = "".join(f"\n{block}" for block in writer.blocks)
    return HEADER + (body if len(body) <= LONGEST else NOTHING_KNOWN)


class _Writer:
    def __init__(self) -> None:
        self.blocks: list[str] = []
        self._names: set[str] = {"Input", "Output", "Any", "Literal", "NotRequired", "TypeAlias", "TypedDict"}
        self._schema: Any = None
        self._known: dict[str, str] = {}  # what a reference became; `Any` while it is being found out

    def root(self, schema: Any, name: str) -> str:
        """The type of a whole schema; the references in it are its own."""
        self._schema, self._known = schema, {"#": name if _is_record(schema) else "Any"}
        return self.type_of(schema, name, 0)

    def type_of(self, schema: Any, name: str, depth: int) -> str:
        if not isinstance(schema, dict) or depth > DEEPEST or len(self.blocks) > MOST:
            return "Any"
        if "$ref" in schema:
            return self._reference(schema["$ref"], name, depth)
        if isinstance(schema.get("enum"), list):
            return _literal(schema["enum"])
        if "const" in schema:
            return _literal([schema["const"]])
        union = schema.get("anyOf") or schema.get("oneOf")
        if isinstance(union, list) and union and "properties" not in schema:
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
        fields = []
        required = schema.get("required")
        needed = {r for r in required if isinstance(r, str)} if isinstance(required, list) else set()
        for key, value in properties.items():
            found = self.type_of(value, name + _camel(key), depth + 1)
            fields.append((key, found if key in needed else f"NotRequired[{found}]"))
        if all(_plain(key) for key, _ in fields):
            body = "".join(f"    {key}: {found}\n" for key, found in fields)
            self.blocks.append(f"\nclass {name}(TypedDict):\n{body}")
        else:
            # Quoted: such a definition is evaluated where it stands, and may name one that stands further down.
            body = ", ".join(f"{key!a}: {found!a}" for key, found in fields)
            self.blocks.append(f"\n{name} = TypedDict({name!r}, {{{body}}})\n")
        return name

    def _reference(self, reference: Any, name: str, depth: int) -> str:
        """References inside the schema are followed, each once; a type that contains itself ends in `Any`."""
        if not isinstance(reference, str):
            return "Any"
        if reference not in self._known:
            self._known[reference] = "Any"
            found = self.type_of(_resolve(self._schema, reference), name, depth + 1)
            self._known[reference] = found if len(found) <= LONGEST_EXPRESSION else "Any"
        return self._known[reference]

    def _unique(self, wanted: str) -> str:
        name, number = wanted[:60], 2
        while name in self._names:
            name, number = f"{wanted[:60]}{number}", number + 1
        self._names.add(name)
        return name


def _is_record(schema: Any) -> bool:
    """Whether the root of a schema becomes a TypedDict of its own name."""
    fields = schema.get("properties") if isinstance(schema, dict) and schema.get("type") == "object" else None
    plain = isinstance(fields, dict) and 0 < len(fields) <= MOST
    return plain and not any(key in schema for key in ("$ref", "enum", "const"))


def _plain(key: str) -> bool:
    """Whether a field can be written in the body of a class: no keyword, nothing that Python would rewrite or hide."""
    return (
        key.isascii()
        and key.isidentifier()
        and not keyword.iskeyword(key)
        and not key.startswith("__")
        and not key[0].isupper()
        and key not in _NAMED
    )


def _resolve(schema: Any, reference: str) -> Any:
    """What a reference such as `#/$defs/line` names, or None."""
    if not reference.startswith("#/"):
        return None
    node = schema
    for part in reference[2:].split("/"):
        step = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(node, dict) or step not in node:
            return None
        node = node[step]
    return node


def _literal(values: list[Any]) -> str:
    if not 0 < len(values) <= 64 or not all(_short(value) for value in values):
        return "Any"
    return f"Literal[{', '.join(dict.fromkeys(ascii(value) for value in values))}]"


def _short(value: Any) -> bool:
    """Whether a value can stand in a Literal."""
    if isinstance(value, str):
        return len(value) <= 200
    return value is None or (isinstance(value, int) and abs(value) < 2**63)


def _union(options: list[str]) -> str:
    unique = list(dict.fromkeys(options))
    return "Any" if "Any" in unique or not unique else " | ".join(unique)


def _camel(text: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in re.findall(r"[A-Za-z0-9]+", text))[:30] or "Field"
