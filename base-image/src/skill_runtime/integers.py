"""Turn whole numbers such as 3.0, 3e0 and 1E1 into integers where the schema calls them so.

To JSON Schema 3.0 is an integer (draft 2020-12, core, section 4.2.1), to Python it is a float. Where a schema says
integer, code gets an `int`, however the number was written. Where it says number, or leaves it open which of two
alternatives a value is, the number stays as it was written; as JSON both are the same value, so it fits as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

MAX_STEPS = 500_000
"""Work for one input, about a microsecond or two each. Beyond it, numbers stay as they were written."""
_SEARCH_STEPS = 4
"""Work for one schema and one value where alternatives must be compared."""
_MAX_LOOK = 4
"""Levels to which it is looked whether a value may be meant by an alternative."""
_MAX_LOOK_ITEMS = 64
_SHAPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: (isinstance(value, int) and not isinstance(value, bool)) or is_whole_float(value),
}
Place = tuple[int, Any]
"""The identity of an object or array, and the key or index of a number in it."""
_Question = tuple[int, int, Any]
"""The identity of a schema, and a place."""
_NOWHERE: frozenset[Place] = frozenset()
_CONSTANTS = frozenset({"const", "enum"})
_IN_PLACE = frozenset({"$ref", "allOf", "anyOf", "oneOf", "if", "dependentSchemas"})


class _StepsExceededError(Exception):
    """The input takes more steps than there may be."""


def is_whole_float(value: Any) -> bool:
    """Return whether the value is a float without a fraction."""
    return isinstance(value, float) and value.is_integer()


def may_hold_whole_floats(text: bytes) -> bool:
    """Return False where the JSON text, as Python writes it, surely has no float without a fraction."""
    return b".0" in text or b"e+" in text


class IntegerFinder:
    """IntegerFinder knows where a schema says integer. `matches` tells whether a pattern matches a member's name."""

    def __init__(self, document: Any, matches: Callable[[str, str], bool]) -> None:
        self._document = document
        self._matches = matches
        self._names_integers = _names_integers(document)
        self._steps_left = 0
        self._known: dict[_Question, frozenset[Place]] = {}
        self._applied: set[_Question] = set()
        self._targets: dict[str, Any] = {}  # of references
        self._holders: dict[int, Any] = {}

    def convert(self, value: Any) -> Any:
        """Return a value that fits the schema, changed in place, with integers where the schema says so."""
        if not self._names_integers:
            return value
        root = [value]
        self._holders = _find_holders(root)
        self._steps_left = MAX_STEPS
        try:
            self._apply(self._document, root, 0)
        except (_StepsExceededError, RecursionError):
            pass
        finally:
            self._known, self._applied, self._holders = {}, set(), {}
        return root[0]

    def _take_steps(self, steps: int) -> None:
        self._steps_left -= steps
        if self._steps_left < 0:
            raise _StepsExceededError

    def _apply(self, schema: Any, container: Any, key: Any) -> None:
        """Convert what is in the value there and what the schema, which it must fit, calls an integer."""
        value = container[key]
        if is_whole_float(value):
            says = _says_integer(schema, value)
            if says is None:
                self._take_steps(1)
                says = any(map(_says_integer, self._conjuncts(schema), repeat(value))) or (
                    (id(container), key) in self._find(schema, container, key)
                )
            if says:
                container[key] = int(value)
        elif id(value) in self._holders and isinstance(schema, dict):
            question = (id(schema), id(container), key)
            if question in self._applied:
                return
            self._applied.add(question)
            self._take_steps(1)
            for inner in self._conjuncts(schema):
                self._apply(inner, container, key)
            for holder, child_key in self._find_chosen(schema, container, key):
                self._holders[holder][child_key] = int(self._holders[holder][child_key])
            for inner, child_key in self._child_schemas(schema, value):
                self._apply(inner, value, child_key)

    def _find(self, schema: Any, container: Any, key: Any) -> frozenset[Place]:
        """Return the places of the numbers, in the value there, that the schema calls integers."""
        value = container[key]
        if not isinstance(schema, dict) or not (is_whole_float(value) or id(value) in self._holders):
            return _NOWHERE
        question = (id(schema), id(container), key)
        if question not in self._known:
            self._take_steps(_SEARCH_STEPS)
            self._known[question] = _NOWHERE  # for a reference that comes back here
            found = set(self._find_chosen(schema, container, key))
            for inner in self._conjuncts(schema):
                found |= self._find(inner, container, key)
            if not is_whole_float(value):
                for inner, child_key in self._child_schemas(schema, value):
                    found |= self._find(inner, value, child_key)
            elif _says_integer(schema, value):
                found.add((id(container), key))
            self._known[question] = frozenset(found)
        return self._known[question]

    def _conjuncts(self, schema: dict[str, Any]) -> Iterator[Any]:
        """Yield the schemas that apply to the same value whatever it is."""
        if "$ref" in schema:
            reference = str(schema["$ref"])
            if reference not in self._targets:
                self._targets[reference] = resolve(self._document, reference)
            yield self._targets[reference]
        yield from _list(schema, "allOf")

    def _find_chosen(self, schema: dict[str, Any], container: Any, key: Any) -> Iterator[Place]:
        """Yield the places that alternatives and conditional schemas find, which apply to some values alone."""
        value = container[key]
        for keyword in ("anyOf", "oneOf"):
            options = [inner for inner in _list(schema, keyword) if self._may_mean(inner, value, 0)]
            if options:
                yield from frozenset.intersection(*(self._find(inner, container, key) for inner in options))
        if "if" in schema:
            branch = "then" if self._may_mean(schema["if"], value, 0) else "else"
            yield from self._find(schema.get(branch), container, key)
        if isinstance(value, dict):
            for name, inner in _dict(schema, "dependentSchemas").items():
                if name in value:
                    yield from self._find(inner, container, key)

    def _child_schemas(self, schema: dict[str, Any], value: Any) -> Iterator[tuple[Any, Any]]:
        """Yield the schemas for what is right inside an object or array, each with its key or index."""
        children = value.items() if isinstance(value, dict) else enumerate(value)
        interesting = [key for key, child in children if is_whole_float(child) or id(child) in self._holders]
        if isinstance(value, list):
            first = _list(schema, "prefixItems")
            rest = schema.get("items", schema.get("unevaluatedItems"))
            for index in interesting:
                yield first[index] if index < len(first) else rest, index
            return
        properties, patterns = _dict(schema, "properties"), _dict(schema, "patternProperties")
        rest = schema.get("additionalProperties", schema.get("unevaluatedProperties"))
        for name in interesting:
            inner = [properties[name]] if name in properties else []
            inner += [child for pattern, child in patterns.items() if self._matches(pattern, str(name))]
            yield from ((child, name) for child in inner or [rest])

    def _may_mean(self, schema: Any, value: Any, level: int) -> bool:
        """Return False where the value surely does not fit the schema: a look at types, names and constants."""
        if isinstance(schema, bool) or not isinstance(schema, dict) or level > _MAX_LOOK:
            return schema is not False
        self._take_steps(1)
        kinds = schema.get("type")
        if kinds is not None and not any(
            _SHAPES[kind](value) for kind in ([kinds] if isinstance(kinds, str) else kinds)
        ):
            return False
        if any(not any(_same(value, member) for member in members) for members in _constants(schema)):
            return False
        if not all(self._may_mean(inner, value, level + 1) for inner in self._conjuncts(schema)):
            return False
        for options in (_list(schema, "anyOf"), _list(schema, "oneOf")):
            if options and not any(self._may_mean(inner, value, level + 1) for inner in options):
                return False
        return self._may_hold(schema, value, level)

    def _may_hold(self, schema: dict[str, Any], value: Any, level: int) -> bool:
        if isinstance(value, dict):
            properties = _dict(schema, "properties")
            return all(name in value for name in _list(schema, "required")) and all(
                self._may_mean(inner, value[name], level + 1) for name, inner in properties.items() if name in value
            )
        if isinstance(value, list) and "items" in schema:
            rest = value[len(_list(schema, "prefixItems")) :][:_MAX_LOOK_ITEMS]
            return all(self._may_mean(schema["items"], item, level + 1) for item in rest)
        return True


def _names_integers(document: Any) -> bool:
    """Return False where nothing in the document can call a number an integer."""
    waiting = [document]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if "integer" in (node.get("type"), *_list(node, "type")) or not _CONSTANTS.isdisjoint(node):
                return True
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
    return False


def _find_holders(root: list[Any]) -> dict[int, Any]:
    """Return the objects and arrays that hold floats without a fraction, at whatever depth, by their identity."""
    holders: dict[int, Any] = {}
    parents: dict[int, Any] = {id(root): None}
    waiting: list[Any] = [root]
    while waiting:
        container = waiting.pop()
        for child in container.values() if isinstance(container, dict) else container:
            if isinstance(child, dict | list):
                parents[id(child)] = container
                waiting.append(child)
            elif is_whole_float(child):
                holder = container
                while holder is not None and id(holder) not in holders:
                    holders[id(holder)] = holder
                    holder = parents[id(holder)]
    return holders


def _says_integer(schema: Any, value: float) -> bool | None:
    """Return whether the schema calls a whole number an integer; None where only what is in the schema may."""
    if not isinstance(schema, dict):
        return False
    kinds = schema.get("type")
    if kinds == "integer" or (isinstance(kinds, list) and "integer" in kinds and "number" not in kinds):
        return True
    if any(type(member) is int and member == value for members in _constants(schema) for member in members):
        return True
    return False if _IN_PLACE.isdisjoint(schema) else None


def _constants(schema: dict[str, Any]) -> Iterator[list[Any]]:
    if "const" in schema:
        yield [schema["const"]]
    if "enum" in schema:
        yield _list(schema, "enum")


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _list(schema: dict[str, Any], keyword: str) -> list[Any]:
    value = schema.get(keyword)
    return value if isinstance(value, list) else []


def _dict(schema: dict[str, Any], keyword: str) -> dict[str, Any]:
    value = schema.get(keyword)
    return value if isinstance(value, dict) else {}


def resolve(root: Any, reference: Any) -> Any:
    """Return the schema that `#` or `#/$defs/line` names, or True for another kind of reference."""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        return True
    node = root
    for part in reference[2:].split("/") if len(reference) > 1 else ():
        step = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list):
            if not step.isdecimal() or len(step) > 9 or int(step) >= len(node):
                return True
            node = node[int(step)]
        elif isinstance(node, dict) and step in node:
            node = node[step]
        else:
            return True
    return node
