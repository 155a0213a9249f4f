"""The module `skill_types.py` gives a Skill's code the TypedDicts that are derived from its JSON Schemas."""

from __future__ import annotations

import keyword
import re
from typing import Any

from skill_operator.untrusted.json_schema import resolve_reference, value_at

HEADER = (
    '"""Types of this skill, derived from its schemas."""\n\n'
    "from __future__ import annotations\n\n"
    "from typing import Any, Literal, NotRequired, TypeAlias, TypedDict\n"
)
UNKNOWN_TYPES = "\nInput: TypeAlias = dict[str, Any]\n\nOutput: TypeAlias = Any\n"
MAX_DEPTH = 8
MAX_TYPES = 200
MAX_SCHEMAS = 4000  # that are looked at for one module; the rest is Any
MAX_FIELDS = 200
MAX_MODULE_CHARACTERS = 48 * 1024
MAX_EXPRESSION_CHARACTERS = 2000
MAX_LITERAL_VALUES = 64
MAX_LITERAL_CHARACTERS = 200
MAX_NAME_CHARACTERS = 60
MAX_NAME_PART_CHARACTERS = 30
MAX_KEY_CHARACTERS = 1000  # of a key that are read for a name
_SIMPLE_TYPES = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
_TYPE_NAMES = {
    *_SIMPLE_TYPES.values(),
    "list",
    "dict",
}  # a field of such a name would hide the type from the fields after it


def types_module(input_schema: dict[str, Any], output_schema: dict[str, Any]) -> str:
    """Return the text of the module: valid Python of bounded size, whatever the schemas contain.

    What a TypedDict cannot express becomes `Any`.
    """
    writer = _TypedDictWriter()
    for name, schema in (("Input", input_schema), ("Output", output_schema)):
        expression = writer.root_type(schema, name)
        if expression != name:
            writer.definitions.append(f"{name}: TypeAlias = {expression}\n")
    body = "".join(f"\n{definition}" for definition in writer.definitions)
    return HEADER + (body if len(body) <= MAX_MODULE_CHARACTERS else UNKNOWN_TYPES)


class _TypedDictWriter:
    """_TypedDictWriter collects the definitions of the types that schemas need."""

    def __init__(self) -> None:
        self.definitions: list[str] = []
        self._visited = 0
        self._names: set[str] = {"Input", "Output", "Any", "Literal", "NotRequired", "TypeAlias", "TypedDict"}
        self._schema: Any = None
        self._types_by_reference: dict[str, str] = {}  # `Any` while a reference is being resolved

    def root_type(self, schema: Any, name: str) -> str:
        """Return the type of a whole schema; its references are resolved in it alone."""
        self._schema = schema
        self._types_by_reference = {"#": name if _is_record(schema) else "Any"}
        return self.type_of(schema, name, 0)

    def type_of(self, schema: Any, name: str, depth: int) -> str:
        """Return the type of a schema as a Python expression; `name` is for the TypedDict that it may need."""
        self._visited += 1
        is_too_much = depth > MAX_DEPTH or self._visited > MAX_SCHEMAS or len(self.definitions) > MAX_TYPES
        if not isinstance(schema, dict) or is_too_much:
            return "Any"
        if "$ref" in schema:
            return self._reference_type(schema["$ref"], name, depth)
        if isinstance(schema.get("enum"), list):
            return _literal(schema["enum"])
        if "const" in schema:
            return _literal([schema["const"]])
        union = schema.get("anyOf") or schema.get("oneOf")
        if isinstance(union, list) and len(union) > MAX_SCHEMAS:
            return "Any"
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
            return self._object_type(schema, name, depth)
        return _SIMPLE_TYPES.get(kind, "Any") if isinstance(kind, str) else "Any"

    def _object_type(self, schema: dict[str, Any], name: str, depth: int) -> str:
        properties = schema.get("properties")
        if not isinstance(properties, dict) or not properties or len(properties) > MAX_FIELDS:
            extra = schema.get("additionalProperties")
            return (
                f"dict[str, {self.type_of(extra, f'{name}Value', depth + 1)}]"
                if isinstance(extra, dict)
                else "dict[str, Any]"
            )
        if depth:
            name = self._unique_name(name)
        fields = []
        required = schema.get("required")
        required_names = {key for key in required if isinstance(key, str)} if isinstance(required, list) else set()
        for key, value in properties.items():
            expression = self.type_of(value, name + _camel_case(key), depth + 1)
            fields.append((key, expression if key in required_names else f"NotRequired[{expression}]"))
        if all(_is_field_name(key) for key, _ in fields):
            body = "".join(f"    {key}: {expression}\n" for key, expression in fields)
            self.definitions.append(f"\nclass {name}(TypedDict):\n{body}")
        else:
            # Quoted: this form is evaluated where it stands, and may name a type that is defined further down.
            body = ", ".join(f"{key!a}: {expression!a}" for key, expression in fields)
            self.definitions.append(f"\n{name} = TypedDict({name!r}, {{{body}}})\n")
        return name

    def _reference_type(self, reference: Any, name: str, depth: int) -> str:
        """Return the type that a reference inside the schema names; a type that contains itself ends in `Any`."""
        if not isinstance(reference, str):
            return "Any"
        if reference not in self._types_by_reference:
            self._types_by_reference[reference] = "Any"
            expression = self.type_of(_referenced_schema(self._schema, reference), name, depth + 1)
            self._types_by_reference[reference] = expression if len(expression) <= MAX_EXPRESSION_CHARACTERS else "Any"
        return self._types_by_reference[reference]

    def _unique_name(self, wanted: str) -> str:
        name, number = wanted[:MAX_NAME_CHARACTERS], 2
        while name in self._names:
            name, number = f"{wanted[:MAX_NAME_CHARACTERS]}{number}", number + 1
        self._names.add(name)
        return name


def _is_record(schema: Any) -> bool:
    """Return whether the root of a schema becomes a TypedDict with the root's name."""
    fields = schema.get("properties") if isinstance(schema, dict) and schema.get("type") == "object" else None
    has_fields = isinstance(fields, dict) and 0 < len(fields) <= MAX_FIELDS
    return has_fields and not any(key in schema for key in ("$ref", "enum", "const"))


def _is_field_name(key: str) -> bool:
    """Return whether a class body can declare the key: it is no keyword, and Python neither mangles nor hides it."""
    return (
        key.isascii()
        and key.isidentifier()
        and not keyword.iskeyword(key)
        and not key.startswith("__")
        and not key[0].isupper()
        and key not in _TYPE_NAMES
    )


def _referenced_schema(schema: Any, reference: str) -> Any:
    """Return the schema that a reference such as `#/$defs/line` names, or None."""
    place = resolve_reference(schema, reference) if reference.startswith("#/") else None
    return value_at(schema, place) if place is not None else None


def _literal(values: list[Any]) -> str:
    if not 0 < len(values) <= MAX_LITERAL_VALUES or not all(_is_literal(value) for value in values):
        return "Any"
    return f"Literal[{', '.join(dict.fromkeys(ascii(value) for value in values))}]"


def _is_literal(value: Any) -> bool:
    """Return whether a value can stand in a Literal."""
    if isinstance(value, str):
        return len(value) <= MAX_LITERAL_CHARACTERS
    return value is None or (isinstance(value, int) and abs(value) < 2**63)


def _union(options: list[str]) -> str:
    unique = list(dict.fromkeys(options))
    return "Any" if "Any" in unique or not unique else " | ".join(unique)


def _camel_case(text: str) -> str:
    return (
        "".join(word[:1].upper() + word[1:] for word in re.findall(r"[A-Za-z0-9]+", text[:MAX_KEY_CHARACTERS]))[
            :MAX_NAME_PART_CHARACTERS
        ]
        or "Field"
    )
