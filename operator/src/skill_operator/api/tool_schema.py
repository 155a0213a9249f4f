"""The schemas of a Skill as tools of agents list them: in a form that no client refuses.

Clients hand a tool's schemas on to models' endpoints, many of which refuse a whole list for one schema whose top is no
plain object, for a name of a property with a blank in it, or for a keyword of another draft. So the listed form is an
object with properties, without references, of keywords that mean the same in every draft, and bounded. It may say less
than the Skill's own schema, by which every call is judged, and never more: `listed_output` takes every answer of the
skill, `listed_input` every input that names what the alternatives of the schema name.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from skill_operator.naming import digest
from skill_operator.untrusted.json_schema import References
from skill_operator.untrusted.json_values import brief, canonical, weight

MAX_BYTES: Final = 32 << 10  # of one listed schema
MAX_TEXT: Final = 1024  # characters of a title or a description in it
MAX_WORK: Final = 768  # values that one attempt may look at: some four milliseconds
LEVELS: Final = (32, 4, 1)  # of schemas in schemas, tried in turn until the listed form is within its bounds
MAX_VALUES: Final = 256  # of an enum
MAX_FLAT: Final = 128  # properties of a schema that is within no bounds otherwise
MAX_NAME: Final = 40  # characters of a listed name before its hash
MAX_NEEDS: Final = 8  # alternatives that are told apart in words
MAX_EXAMPLES: Final = 3  # names that a change tells
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_OTHERS: Final = re.compile(r"[^A-Za-z0-9.-]+")

# What JavaScript (with its flag u), RE2, Rust and Python can all read.
_SYNTAX: Final = r"\\[nrt^$\\.*+?()\[\]{}|/]"
_ONCE: Final = r"(?![*+?{])"  # nothing repeats an anchor, or what is repeated already
_PORTABLE: Final = re.compile(
    rf"(?:[^\\\[\](){{}}*+?|^$.]|{_SYNTAX}|\\[dDwWsS]"
    rf"|\[\^?(?:(?!--)[^\\\[\]^&~]|{_SYNTAX}|\\-|\\[dDwWsS](?!-[^\]]))+\]"
    rf"|\.|\)|[\^$|]{_ONCE}|\((?:\?:)?{_ONCE}|(?:[*+?]|\{{\d{{1,4}}(?:,\d{{0,4}})?\}})\??{_ONCE})*"
)
_FORMATS: Final = frozenset({"date-time", "date", "time", "email", "uri", "uuid", "ipv4", "ipv6", "hostname"})

_BOUNDS: Final = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties"),
)
_TEXTS: Final = ("title", "description")
_HEADER: Final = "x-mcp-header"  # of the protocol: a parameter that clients repeat as a header
_ALTERNATIVES: Final = ("anyOf", "oneOf")
_MERGED: Final = ("$ref", "allOf", *_ALTERNATIVES)
_DROPPED: Final = frozenset(
    {
        *("not", "if", "then", "else", "dependentSchemas", "dependentRequired", "dependencies", "patternProperties"),
        *("propertyNames", "contains", "unevaluatedProperties", "unevaluatedItems", "prefixItems"),
    }
)


class ListedSchema(NamedTuple):
    """ListedSchema is a schema as tools list it.

    `names` are the listed names of properties whose own names clients do not take, by those. `changes` say in words
    what of the schema is listed otherwise.
    """

    schema: dict[str, Any]
    names: Mapping[str, str]
    changes: tuple[str, ...]


class AmbiguousNameError(Exception):
    """AmbiguousNameError says that an object has one property under both of its names."""


def listed_input(schema: dict[str, Any]) -> ListedSchema:
    """Return the listed form of a presentable input schema: an object with properties, at the top too."""
    return _listed(schema, exact=False)


def listed_output(schema: dict[str, Any]) -> ListedSchema:
    """Return the listed form of a presentable output schema. It is no object where not all answers are objects."""
    return _listed(schema, exact=True)


def rename(value: Any, names: Mapping[str, str]) -> Any:
    """Return a value of JSON with other names of members, at any depth. Raises AmbiguousNameError.

    It recurses: what it gets is bounded in depth.
    """
    if not names:
        return value
    if isinstance(value, list):
        return [rename(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    renamed = {names.get(key, key): rename(item, names) for key, item in value.items()}
    if len(renamed) < len(value):
        key = next(key for key in value if names.get(key, key) in value and key in names)
        raise AmbiguousNameError(f"{brief(key)} and {brief(names[key])} are the same property; send one of them")
    return renamed


def _listed(schema: dict[str, Any], *, exact: bool) -> ListedSchema:
    declared = _declared_names(schema)
    if len(declared) > MAX_WORK:
        return _flat(schema, declared, exact)
    names, references = _listed_names(declared, declared), References(schema)
    for levels in LEVELS:
        maker = _Maker(schema, references, names, exact)
        try:
            made = maker.top(levels)
        except _TooLargeError:
            continue
        if len(json.dumps(made)) <= MAX_BYTES:
            return ListedSchema(made, names, tuple(_changes(schema, maker, names, levels)))
    return _flat(schema, declared, exact)


def _declared_names(schema: dict[str, Any]) -> set[str]:
    """Return all names of properties in a schema, and perhaps some that stand in its constants."""
    found: set[str] = set()
    waiting: list[Any] = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            for keyword in ("properties", "required"):
                inner = node.get(keyword)
                if isinstance(inner, dict | list):
                    found.update(name for name in inner if isinstance(name, str))
            waiting.extend(value for value in node.values() if isinstance(value, dict | list))
        elif isinstance(node, list):
            waiting.extend(value for value in node if isinstance(value, dict | list))
    return found


def _listed_names(wanted: Iterable[str], declared: Iterable[str]) -> dict[str, str]:
    """Return a name that clients take for each that they do not, by that one. No two are equal, nor is any declared."""
    taken, names = set(declared), {}
    for name in sorted(wanted):
        if _NAME.fullmatch(name):
            continue
        stem, identity, length = _OTHERS.sub("_", name[:MAX_NAME]).strip("_") or "property", digest(name), 8
        while (listed := f"{stem}_{identity[:length]}") in taken:
            length += 1
        taken.add(listed)
        names[name] = listed
    return names


def _changes(schema: dict[str, Any], maker: _Maker, names: Mapping[str, str], levels: int) -> Iterable[str]:
    merged = [keyword for keyword in _MERGED if keyword in schema]
    if merged and maker.is_object:
        yield f"{' and '.join(merged)} at its top {'is' if len(merged) == 1 else 'are'} resolved into properties"
    if names:
        examples = ", ".join(f"{brief(name)} as {listed}" for name, listed in list(names.items())[:MAX_EXAMPLES])
        yield f"properties have other names: {examples}" + (", …" if len(names) > MAX_EXAMPLES else "")
    if maker.dropped:
        yield f"{', '.join(sorted(maker.dropped))} {'is' if len(maker.dropped) == 1 else 'are'} left out"
    if maker.recursive:
        yield "what refers to itself is shown once"
    if levels != LEVELS[0]:
        yield f"it is shown {levels} levels deep"


def _flat(schema: dict[str, Any], declared: set[str], exact: bool) -> ListedSchema:
    """Return an object's first properties, required ones before others, without what is in them."""
    change = "its details are left out: it is too large for a list"
    if exact and schema.get("type") != "object":
        return ListedSchema({}, {}, (change,))
    required = schema.get("required", [])
    first = list(dict.fromkeys([*required, *schema.get("properties", {})]))[:MAX_FLAT]
    names = _listed_names(first, declared)
    listed = {name: names.get(name, name) for name in first}
    needed = [listed[name] for name in required if name in listed]
    made = {"type": "object", "properties": {name: {} for name in listed.values()}}
    return ListedSchema(made | ({"required": needed} if needed else {}), names, (change,))


class _TooLargeError(Exception):
    pass


@dataclass
class _Shape:
    """_Shape is what a schema says of an object's members. Members of it are listed schemas, by listed names."""

    properties: dict[str, dict[str, Any]] = field(default_factory=dict)
    required: dict[str, None] = field(default_factory=dict)  # its keys, in order


class _Maker:
    """_Maker makes the listed form of one schema, and notes what it leaves out.

    `exact` makes one that takes all values that the schema takes. Otherwise a property that only some alternatives at
    the top name is listed as these say, which tells an agent more.
    """

    def __init__(self, root: dict[str, Any], references: References, names: Mapping[str, str], exact: bool) -> None:
        self._root = root
        self._references = references
        self._names = names
        self._exact = exact
        self._left = MAX_WORK
        self.dropped: set[str] = set()
        self.recursive = False
        self.is_object = False
        self._needs: list[str] = []

    def top(self, levels: int) -> dict[str, Any]:
        root = self._root
        if self._exact and root.get("type") != "object":
            return self._node(root, levels, frozenset({"#"}))
        self.is_object = True
        shape = self._shape(root, levels, frozenset({"#"}))
        made = {"type": "object"} | self._texts(root)
        if self._needs and not self._exact:
            made["description"] = " ".join([*filter(None, [made.get("description")]), *self._needs])[:MAX_TEXT]
        made |= {keyword: root[keyword] for keyword in ("minProperties", "maxProperties") if keyword in root}
        made |= {"properties": shape.properties}
        if shape.required:
            made["required"] = list(shape.required)
        if not any(keyword in root for keyword in _MERGED):
            made |= self._additional(root, levels, frozenset({"#"}))
        return made

    def _pay(self, units: int = 1) -> None:
        self._left -= units
        if self._left < 0:
            raise _TooLargeError

    def _follow(self, schema: dict[str, Any], levels: int, visited: frozenset[str]) -> tuple[Any, int, frozenset[str]]:
        """Return what the schema refers to, and how deep to look into it: not where it leads back to itself."""
        reference = str(schema["$ref"])
        _, target = self._references.find(reference) or ((), self._root)
        if reference not in visited:
            return target, levels - 1, visited | {reference}
        self.recursive = True
        return target, 0, visited

    # The members of an object, whichever keywords tell of them.

    def _shape(self, schema: Any, levels: int, visited: frozenset[str]) -> _Shape:
        self._pay()
        shape = _Shape()
        if not isinstance(schema, dict) or levels <= 0:
            return shape
        self.dropped |= _DROPPED & schema.keys()
        self._add_own(shape, schema, levels, visited)
        parts = [(part, levels - 1, visited) for part in schema.get("allOf", ())]
        if "$ref" in schema:
            parts.append(self._follow(schema, levels, visited))
        for part in parts:
            self._add_part(shape, self._shape(*part))
        for keyword in _ALTERNATIVES:
            branches = [branch for branch in schema.get(keyword, ()) if _may_be_object(branch)]
            if branches:
                shapes = [self._shape(branch, levels - 1, visited) for branch in branches]
                self._add_part(shape, self._either(shapes))
                self._note_needs(shapes)
        if not self._exact:
            self._add_conditional(shape, schema, levels, visited)
        return shape

    def _add_own(self, shape: _Shape, schema: dict[str, Any], levels: int, visited: frozenset[str]) -> None:
        for name, inner in schema.get("properties", {}).items():
            if inner is not False:
                shape.properties[self._names.get(name, name)] = self._property(name, inner, levels - 1, visited)
        for name in schema.get("required", ()):
            listed = self._names.get(name, name)
            if listed not in shape.properties:
                self._pay()
                shape.properties[listed] = self._property(name, True, levels - 1, visited)
            shape.required[listed] = None

    def _property(self, name: str, schema: Any, levels: int, visited: frozenset[str]) -> dict[str, Any]:
        made = self._node(schema, levels, visited)
        if name in self._names:
            description = f"The property {brief(name, MAX_TEXT // 2)}. {made.get('description', '')}".strip()
            made = made | {"description": description[:MAX_TEXT]}
        return made

    @staticmethod
    def _add_part(shape: _Shape, part: _Shape) -> None:
        """Add what holds as well."""
        for name, schema in part.properties.items():
            known = shape.properties.get(name, {})
            shape.properties[name] = _both(known, schema)
        shape.required |= part.required

    def _either(self, branches: list[_Shape]) -> _Shape:
        """Return what holds of any object that fits one of these."""
        found: dict[str, list[dict[str, Any]]] = {}
        for branch in branches:
            for name, schema in branch.properties.items():
                found.setdefault(name, []).append(schema)
        shape = _Shape()
        for name, known in found.items():
            anything = {} in known or (self._exact and len(known) < len(branches))
            shape.properties[name] = {} if anything else _one_of(known)
        needed = Counter(name for branch in branches for name in branch.required)
        shape.required = {name: None for name, count in needed.items() if count == len(branches)}
        return shape

    def _note_needs(self, branches: list[_Shape]) -> None:
        """Note in words which properties belong together, where not all alternatives require the same ones."""
        needs = list(dict.fromkeys(tuple(branch.required) for branch in branches))
        if 1 < len(needs) <= MAX_NEEDS:
            self._needs.append(f"Needs {', or '.join(' and '.join(names) or 'nothing more' for names in needs)}.")

    def _add_conditional(self, shape: _Shape, schema: dict[str, Any], levels: int, visited: frozenset[str]) -> None:
        """Add properties that only some objects have: an agent should know of them."""
        conditional = [schema[keyword] for keyword in ("then", "else") if keyword in schema]
        conditional += schema.get("dependentSchemas", {}).values()
        for part in conditional:
            for name, inner in self._shape(part, levels - 1, visited).properties.items():
                shape.properties.setdefault(name, inner)

    # Any schema.

    def _node(self, schema: Any, levels: int, visited: frozenset[str]) -> dict[str, Any]:
        """Return the listed form of a schema that is not at the top."""
        self._pay()
        if not isinstance(schema, dict):
            return {}
        made = self._plain(schema)
        if levels <= 0:
            return _with_members(made)
        self.dropped |= (_DROPPED - {"prefixItems"}) & schema.keys()
        made |= self._items(schema, levels - 1, visited)
        if "properties" in schema or "required" in schema:
            shape = _Shape()
            self._add_own(shape, schema, levels, visited)
            made["properties"] = shape.properties
            if shape.required:
                made["required"] = list(shape.required)
        made |= self._additional(schema, levels - 1, visited)
        parts = [self._node(part, levels - 1, visited) for part in schema.get("allOf", ())]
        for keyword in _ALTERNATIVES:
            branches = [branch for branch in schema.get(keyword, ()) if branch is not False]
            known = [self._node(branch, levels - 1, visited) for branch in branches]
            if known and {} not in known:
                parts.append(_one_of(known))
        if "$ref" in schema:
            parts.insert(0, self._node(*self._follow(schema, levels, visited)))
        for part in parts:
            made = _both(part, made) if made.keys() <= set(_TEXTS) else _both(made, part)
        return _with_members(made)

    def _plain(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return the keywords that hold no schema."""
        made: dict[str, Any] = {"type": schema["type"]} if "type" in schema else {}
        made |= self._texts(schema)
        made |= {keyword: schema[keyword] for keyword in _BOUNDS if keyword in schema}
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if values and weight(values, MAX_VALUES) > MAX_VALUES:
            self.dropped.add("enum")
        elif values:
            self._pay(weight(values))
            made["enum"] = rename(values, self._names) if not self._clashes(values) else values
        if not self._exact:
            made |= self._hints(schema)
        return made

    def _hints(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return the keywords by which clients might refuse what the skill takes, or that judge nothing."""
        made: dict[str, Any] = {}
        for keyword in ("default", "examples"):
            if keyword in schema and not self._clashes(schema[keyword]):
                self._pay(weight(schema[keyword], MAX_WORK))
                made[keyword] = rename(schema[keyword], self._names)
        if "multipleOf" in schema:
            made["multipleOf"] = schema["multipleOf"]
        if schema.get("format") in _FORMATS:
            made["format"] = schema["format"]
        if isinstance(schema.get(_HEADER), str):
            made[_HEADER] = schema[_HEADER]
        if "pattern" in schema:
            if _PORTABLE.fullmatch(schema["pattern"]):
                made["pattern"] = schema["pattern"]
            else:
                self.dropped.add("pattern")
        return made

    def _clashes(self, value: Any) -> bool:
        try:
            rename(value, self._names)
        except AmbiguousNameError:
            return True
        return False

    @staticmethod
    def _texts(schema: dict[str, Any]) -> dict[str, Any]:
        return {keyword: str(schema[keyword])[:MAX_TEXT] for keyword in _TEXTS if keyword in schema}

    def _items(self, schema: dict[str, Any], levels: int, visited: frozenset[str]) -> dict[str, Any]:
        """Return what is listed of the items: those at a place of their own may stand at any, in all drafts."""
        rest, first = schema.get("items", True), schema.get("prefixItems", [])
        if not first:
            return {"items": self._node(rest, levels, visited)} if isinstance(rest, dict) else {}
        self.dropped.add("prefixItems")
        kinds = [self._node(inner, levels, visited) for inner in [*first, rest] if inner is not False]
        made: dict[str, Any] = {"items": {} if {} in kinds or not kinds else _one_of(kinds)}
        if rest is False:
            made["maxItems"] = min(len(first), schema.get("maxItems", len(first)))
        return made

    def _additional(self, schema: dict[str, Any], levels: int, visited: frozenset[str]) -> dict[str, Any]:
        """Return what is listed of other members. Where patterns of names are left out, nothing can be said."""
        inner = schema.get("additionalProperties", True)
        if inner is True or "patternProperties" in schema:
            return {}
        return {"additionalProperties": False if inner is False else self._node(inner, levels, visited)}


def _may_be_object(schema: Any) -> bool:
    """Return whether an object may fit, as far as the type says."""
    if not isinstance(schema, dict):
        return schema is not False
    kinds = schema.get("type", "object")
    return "object" in ([kinds] if isinstance(kinds, str) else kinds)


def _with_members(made: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with what some clients miss: the items of a list, the properties of an object."""
    kinds = made.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if "array" in kinds:
        made.setdefault("items", {})
    if kinds == ["object"]:
        made.setdefault("properties", {})
    return made


def _both(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return what takes the values that both take; texts of `other` win."""
    shared = (one.keys() & other.keys()) - set(_TEXTS)
    apart = {"additionalProperties", "properties"}  # the first means those that the second does not name
    meet = apart & one.keys() and apart & other.keys() and "additionalProperties" in one.keys() | other.keys()
    if not meet and all(canonical(one[keyword]) == canonical(other[keyword]) for keyword in shared):
        return one | other
    parts = one["allOf"] if one.keys() == {"allOf"} else [one]
    return {"allOf": [_with_members(part) for part in (*parts, other)]}


def _one_of(known: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what takes the values that one of these takes, each of which says something."""
    distinct: list[dict[str, Any]] = _distinct(known)
    if len(distinct) == 1:
        return distinct[0]
    rests = [{keyword: value for keyword, value in schema.items() if keyword != "enum"} for schema in distinct]
    if all("enum" in schema for schema in distinct) and len(_distinct(rests)) == 1:
        rest: dict[str, Any] = rests[0]
        return rest | {"enum": _distinct(value for schema in distinct for value in schema["enum"])}
    return {"anyOf": distinct}


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list({canonical(value): value for value in values}.values())
