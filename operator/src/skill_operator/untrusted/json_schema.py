"""Compile untrusted JSON Schemas (draft 2020-12), and reject those that are not cheap, local and correct.

It rejects references that leave the document (nobody fetches for a stranger), what changes the meaning of a
reference (`$id` inside, dynamic references), and work that explodes. A chain of forty definitions, each naming the
next one twice, is a kilobyte that takes hours to evaluate, so evaluation is paid for from a budget before it runs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NamedTuple

from jsonschema_rs import Draft202012Validator, ValidationError, ValidationErrorKind

from skill_operator.runtime_contract import MAX_PATTERNS_KIB, PATTERN_SIZES_KIB
from skill_operator.untrusted.json_values import DEEPEST, Place, brief, children, flaw, weight
from skill_operator.untrusted.patterns import OPTIONS, TOO_LARGE_TOGETHER, compiled_kib, refusal

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
MAX_UNITS: Final = 4096
MAX_PATTERNS: Final = 64
MAX_IN_PLACE: Final = 512
MAX_IN_PLACE_TOGETHER: Final = 2048  # of all places in one schema; to compile that takes 3 ms and a MiB
NAMES_PER_UNIT: Final = 8  # so many properties beside unevaluated… take as long to compile as one schema in place
MAX_EXPLAINED_UNITS: Final = 20_000
"""The largest account of misfits, in units of weight: the library copies the value that is wrong for each of them."""
UNITS_PER_MISFIT: Final = 8  # beside the copy; a unit takes 0.7 µs and 300 bytes
MAX_PATTERN_LENGTH: Final = 1024
MAX_NAMED: Final = 4  # of the mistakes of a schema: those of both have room among the problems of a spec
MAX_META_UNITS: Final = 128  # of a schema whose mistakes are all looked for, which takes 0.1 ms for a unit at worst
MAX_INDEX_DIGITS: Final = 9  # Python refuses to convert thousands of digits

UNEXPLAINED: Final = "does not fit the schema, and the places where it does not are too many or too large to be told"
_BARE_WORDS: Final = (
    "YAML reads y, n, yes, no, on and off as booleans, also as the name of a property: put them in quotes"
)
_META: Final = Draft202012Validator({"$ref": DRAFT}, offline=True, validate_formats=False)
REPEATS: Final = 4  # of what lies in place beside unevaluated…: the library looks there again, and inside, again
_MASK: Final = "\0"
_UNEVALUATED: Final = frozenset({"unevaluatedProperties", "unevaluatedItems"})
_COMPARED: Final = ("const", "required", "dependentRequired")
_DYNAMIC: Final = ("$dynamicRef", "$recursiveRef")
_IN_PLACE: Final = frozenset({"not", "if", "then", "else"})
_IN_PLACE_LISTS: Final = frozenset({"allOf", "anyOf", "oneOf"})
_IN_PLACE_MAPS: Final = frozenset({"dependentSchemas", "dependencies"})
_ALL_IN_PLACE: Final = _IN_PLACE | _IN_PLACE_LISTS | _IN_PLACE_MAPS
_PER_CHILD: Final = frozenset(
    {"additionalProperties", "unevaluatedProperties", "propertyNames", "items", "contains", "unevaluatedItems"}
)
_PER_CHILD_LISTS: Final = frozenset({"prefixItems"})
_PER_CHILD_MAPS: Final = frozenset({"properties", "patternProperties"})
_ALTERNATIVES: Final = frozenset({"anyOf", "oneOf"})
_ASSERTIONS: Final = _ALTERNATIVES | frozenset(
    {
        "type", "enum", "const", "not", "multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
        "minLength", "maxLength", "pattern", "minItems", "maxItems", "uniqueItems", "contains", "minProperties",
        "maxProperties", "additionalProperties", "unevaluatedProperties", "unevaluatedItems",
    }
)  # fmt: skip
_ONE: Final = _IN_PLACE | _PER_CHILD
_LISTS: Final = _IN_PLACE_LISTS | _PER_CHILD_LISTS
_UNUSED: Final = frozenset({"$defs", "definitions"})  # unless something refers to what is in there
_MAPS: Final = _IN_PLACE_MAPS | _PER_CHILD_MAPS | _UNUSED
_CHECKED: Final = frozenset({"$schema", "$id", "$ref", *_DYNAMIC})  # the keywords in which `_faults` finds any


class Misfit(NamedTuple):
    """Misfit is one mistake and its place."""

    place: Place
    message: str


class BadSchemaError(Exception):
    """BadSchemaError rejects a schema and says why, in one misfit or more."""

    def __init__(self, *misfits: Misfit) -> None:
        super().__init__("; ".join(misfit.message for misfit in misfits))
        self.misfits = misfits


class TooMuchWorkError(Exception):
    """TooMuchWorkError says that the schema is too expensive for this value."""


class References:
    """References finds what the local references of one sound schema point at.

    Each part of a reference is looked up once, also where many share their beginning: no more `steps` than the document
    has values and references, however long these are.
    """

    def __init__(self, root: dict[str, Any]) -> None:
        self.steps = 0
        self._known: dict[str, tuple[Place, Any] | None] = {"#": ((), root)}

    def find(self, reference: Any) -> tuple[Place, Any] | None:
        """Return the place of a schema and itself; None for a reference that leaves the document or dangles."""
        found = self._resolve(reference) if _is_local(reference) and reference.count("/") <= DEEPEST else None
        return found if found is not None and isinstance(found[1], dict | bool) else None

    def _resolve(self, reference: str) -> tuple[Place, Any] | None:
        if reference not in self._known:
            holder, _, part = reference.rpartition("/")
            found = self._resolve(holder)
            if found is not None:
                self.steps += 1
                place, node = found
                step = _pointer_step(node, part)
                found = ((*place, step), node[step]) if step is not None else None
            self._known[reference] = found
        return self._known[reference]


class WorkBudget:
    """WorkBudget counts the units of work that are left, and those of searches with patterns.

    A unit is about a microsecond at worst: a value that is looked at, or a character that a pattern of one KiB is
    tried on.
    """

    def __init__(self, units: int, searches: int) -> None:
        self._left = units
        self._searches_left = searches

    def pay(self, units: int, searches: int = 0) -> None:
        """Take units from the budget. Raises TooMuchWorkError where it has fewer."""
        self._left -= units
        self._searches_left -= searches
        if self._left < 0 or self._searches_left < 0:
            raise TooMuchWorkError


class _NodeCost(NamedTuple):
    """_NodeCost is what one schema, without those inside it, costs each value that is held against it.

    `units` are the values that the value is compared with. `text_kib` and `names_kib` are the sizes of the patterns
    that each of its characters, or of its members' names, is searched for. `repeats` is how often its schemas in place
    are evaluated.
    """

    units: int
    text_kib: int
    names_kib: int
    repeats: int


class _Breadth(NamedTuple):
    """_Breadth is a bound on what a value costs: `units` for each unit of its weight, `kib` for each character."""

    units: float
    kib: float


@dataclass
class _ExplanationCost:
    """_ExplanationCost bounds what it costs to tell of all misfits, in units.

    Whatever is wrong inside alternatives belongs to the account of one misfit, and cannot be left out of it.
    """

    units: int = 0
    alternative_units: int = 0

    def add(self, misfits: int, units: int, *, is_alternative: bool) -> None:
        """Count so many misfits of a value that weighs so many units."""
        cost = misfits * (units + UNITS_PER_MISFIT)
        self.units += cost
        self.alternative_units += cost if is_alternative else 0


class CompiledSchema:
    """CompiledSchema validates values. It takes any schema, and values that `json_values.flaw` accepts."""

    def __init__(self, schema: dict[str, Any], max_patterns_kib: int = MAX_PATTERNS_KIB) -> None:
        """Compile the schema.

        Raises BadSchemaError, or TooMuchWorkError where the patterns of a schema that may be good compile to more than
        `max_patterns_kib`.
        """
        if found := flaw(schema):
            raise BadSchemaError(Misfit(*found))
        self._references = References(schema)
        _refuse_size(schema)
        nodes = list(reachable(schema, self._references))
        self._costs = _scan(nodes, self._references, max_patterns_kib)
        try:
            _refuse_unevaluated(nodes, self._references)
        except RecursionError:  # a chain of a thousand references
            raise BadSchemaError(Misfit((), "is a chain of too many references")) from None
        try:
            self._validator = Draft202012Validator(
                schema, offline=True, validate_formats=False, pattern_options=OPTIONS, mask=_MASK
            )
        except ValidationError as error:
            raise BadSchemaError(*_meta_misfits(schema, error)) from error
        except ValueError as error:
            raise BadSchemaError(Misfit((), str(error))) from error
        self._schema = schema
        try:
            self._breadth = self._measure(schema, {})
        except RecursionError:  # a chain of a thousand references
            self._breadth = _Breadth(math.inf, math.inf)

    def surely_fits(self, value: Any, weight: int, characters: int, units: int) -> bool:
        """Return whether a value of at most this size fits, if that costs at most `units` units of work; else False.

        It takes every value that is made of JSON, but no half of a surrogate pair.
        """
        cost = 2 * self._breadth.units * weight + (self._breadth.kib and 2 * self._breadth.kib * characters)
        return cost <= units and bool(self._validator.is_valid(value))

    def misfits(self, value: Any, budget: WorkBudget, most: int) -> list[Misfit]:
        """Return the first misfits of the value, by place. Raises TooMuchWorkError before any of the work is done.

        The library makes all errors at once, each with a copy of the value. Where that is too much, one is named, or
        none.
        """
        cost = self._pay(value, budget)
        if self._validator.is_valid(value):
            return []
        if cost.units <= MAX_EXPLAINED_UNITS:
            errors = islice(self._validator.iter_errors(value), 16 * most)
            return sorted((_misfit(error) for error in errors), key=_order)[:most]
        if cost.alternative_units <= MAX_EXPLAINED_UNITS:
            try:
                self._validator.validate(value)
            except ValidationError as error:
                return [_misfit(error)]
        return [Misfit((), UNEXPLAINED)]

    def _measure(self, node: Any, known: dict[int, _Breadth]) -> _Breadth:
        """Return the costs of all schemas once references are replaced by what they name; infinite for a cycle.

        Where none leads back, the values that one of them is held against lie side by side in the whole value. So
        `_pay` never pays more for it than twice the whole value's weight.
        """
        if not isinstance(node, dict):
            return _Breadth(1, 0)
        if id(node) in known:
            return known[id(node)]
        known[id(node)] = _Breadth(math.inf, math.inf)  # for whoever comes back here
        cost = self._costs[id(node)]
        units, kib = 1.0 + cost.units, float(cost.text_kib + cost.names_kib)
        inside = [
            (child, cost.repeats if inner[0] in _ALL_IN_PLACE else 1)
            for inner, child in _subschemas(node)
            if inner[0] not in _UNUSED
        ]
        if "$ref" in node:
            inside.append((self._referenced(node), cost.repeats))
        for child, times in inside:
            breadth = self._measure(child, known)
            units, kib = units + times * breadth.units, kib + times * breadth.kib
        known[id(node)] = _Breadth(units, kib)
        return known[id(node)]

    def _referenced(self, node: dict[str, Any]) -> Any:
        """Return what a schema refers to. All references of a compiled schema point at something."""
        found = self._references.find(node["$ref"])
        return self._schema if found is None else found[1]

    def _pay(self, value: Any, budget: WorkBudget) -> _ExplanationCost:
        """Pay for everything that an evaluation without any short cut would look at. Return what explaining costs."""
        explanation = _ExplanationCost()
        waiting: list[tuple[Any, Any, bool]] = [(self._schema, value, False)]
        while waiting:
            schema, part, is_alternative = waiting.pop()
            units = weight(part)
            if not isinstance(schema, dict):
                budget.pay(1 + units)
                explanation.add(1, units, is_alternative=is_alternative)
                continue
            cost = self._costs[id(schema)]
            searches = cost.text_kib * len(part) if isinstance(part, str) else 0
            if cost.names_kib and isinstance(part, dict):
                searches += cost.names_kib * sum(map(len, part))
            budget.pay(1 + units + cost.units, searches)
            explanation.add(_count_misfits(schema, part), units, is_alternative=is_alternative)
            if "$ref" in schema:
                waiting += [(self._referenced(schema), part, is_alternative)] * cost.repeats
            inside = list(children(part))
            for place, inner in _subschemas(schema):
                keyword = place[0]
                if keyword in _ALL_IN_PLACE:
                    waiting += [(inner, part, is_alternative or keyword in _ALTERNATIVES)] * cost.repeats
                elif keyword == "properties":
                    if isinstance(part, dict) and place[1] in part:
                        waiting.append((inner, part[str(place[1])], is_alternative))
                elif keyword == "propertyNames":
                    waiting.extend((inner, key, is_alternative) for key, _ in inside)
                elif keyword in _PER_CHILD or keyword in _PER_CHILD_LISTS or keyword in _PER_CHILD_MAPS:
                    waiting.extend((inner, child, is_alternative) for _, child in inside)
        return explanation


def _count_misfits(schema: dict[str, Any], part: Any) -> int:
    """Return how many misfits this one schema can find in a value at most, each with a copy of the whole value."""
    count = len(_ASSERTIONS & schema.keys())
    if isinstance(part, dict):
        needed = schema.get("dependentRequired", {})
        names = [*schema.get("required", ()), *(name for key in needed.keys() & part for name in needed[key])]
        count += sum(name not in part for name in names)
        count += len(part) if "propertyNames" in schema else 0
    return count


def _misfit(error: ValidationError) -> Misfit:
    return Misfit(tuple(error.instance_path), _message(error))


def _order(misfit: Misfit) -> tuple[list[tuple[int, str]], str]:
    """Return the sort key that orders misfits as a reader meets them: the third item before the eleventh."""
    return [(step, "") if isinstance(step, int) else (-1, step) for step in misfit.place], misfit.message


def _message(error: ValidationError) -> str:
    shown = brief(error.instance)
    match error.kind:
        case ValidationErrorKind.Type(types=kinds):
            article = "an" if kinds[0][0] in "aeiou" else "a"
            text = f"{shown} is not {article} {' or '.join(kinds)}"
        case ValidationErrorKind.Required(property=name):
            text = f"{brief(name)} is missing"
        case ValidationErrorKind.AnyOf() | ValidationErrorKind.OneOfNotValid():
            text = f"{shown} fits none of the alternatives"
        case ValidationErrorKind.OneOfMultipleValid():
            text = f"{shown} fits more than one of the alternatives of oneOf"
        case ValidationErrorKind.FalseSchema():
            text = "nothing may stand here"
        case _:
            text = error.message.replace(_MASK, shown)
    return text


def _schema_message(error: ValidationError) -> str:
    place = error.instance_path
    if place and place[-1] == "type":
        return "is no type: array, boolean, integer, null, number, object, string, or a list of these"
    message = error.message.replace(_MASK, brief(error.instance))
    if isinstance(error.instance, bool) and message.endswith('"string"'):
        return f"{message}; {_BARE_WORDS}"
    return message


def _meta_misfits(schema: dict[str, Any], first: ValidationError) -> list[Misfit]:
    """Return where a schema is none; `first` is the mistake for which the library refuses it.

    Several parts of the meta-schema look at the same place, and each tells of it.
    """
    small = weight(schema, MAX_META_UNITS) <= MAX_META_UNITS
    errors = (small and [*_META.iter_errors(schema)]) or [first]
    return _named([*{Misfit(tuple(error.instance_path), _schema_message(error)) for error in errors}])


def _named(misfits: list[Misfit]) -> list[Misfit]:
    """Return the first misfits by place, and in words how many others there are."""
    more = len(misfits) - MAX_NAMED
    others = [Misfit((), f"has {more} more {'mistake' if more == 1 else 'mistakes'}")] if more > 0 else []
    return sorted(misfits, key=_order)[:MAX_NAMED] + others


def is_presentable(schema: Any) -> bool:
    """Return whether a schema is one, small and local, so that it can be shown to others; nothing is compiled."""
    if not isinstance(schema, dict) or weight(schema, MAX_UNITS) > MAX_UNITS or flaw(schema):
        return False
    references = References(schema)
    if any(any(_faults(references, place, node)) for place, node in reachable(schema, references)):
        return False
    return bool(_META.is_valid(schema))


def rebase(root: dict[str, Any], to: str) -> dict[str, Any]:
    """Return the schema for use inside another document, at the reference `to` (`#/components/…`).

    It takes schemas that `is_presentable` accepts. What looks like a reference but is a value, such as a constant, is
    kept.
    """
    copy: dict[str, Any] = json.loads(json.dumps(root))  # a twentieth of the time of deepcopy
    for _, node in list(reachable(copy)):
        if "$ref" in node:
            node["$ref"] = to + str(node["$ref"]).removeprefix("#")
    for own in ("$id", "$schema"):  # a base of its own would make the references point elsewhere again
        copy.pop(own, None)
    return copy


def _scan(
    nodes: list[tuple[Place, dict[str, Any]]], references: References, max_patterns_kib: int
) -> dict[int, _NodeCost]:
    """Return the cost of each schema by its identity.

    Raises BadSchemaError for what is not allowed in a schema, and TooMuchWorkError for patterns that are too large.
    """
    costs: dict[int, _NodeCost] = {}
    faults: list[Misfit] = []
    patterns = _PatternScan(max_patterns_kib)
    for place, node in nodes:
        faults += _faults(references, place, node)
        text_kib, names_kib = patterns.measure(place, node)
        costs[id(node)] = _NodeCost(
            _compared(node), text_kib, 2 * names_kib, REPEATS if _UNEVALUATED & node.keys() else 1
        )
    if faults or patterns.faults:
        raise BadSchemaError(*_named(faults + patterns.faults), *patterns.unmeasured())
    return costs


class _PatternScan:
    """_PatternScan measures the patterns of one schema, and collects what is wrong with them in `faults`.

    The work is bounded: all that are good compile to `max_kib` together, and MAX_NAMED are looked at that are not.
    """

    def __init__(self, max_kib: int) -> None:
        self.faults: list[Misfit] = []
        self._max_kib = self._left_kib = max_kib
        self._count = self._unmeasured = 0

    def measure(self, place: Place, node: dict[str, Any]) -> tuple[int, int]:
        """Return the sizes of the patterns in this one schema: of its `pattern`, and of its `patternProperties`.

        Raises TooMuchWorkError where a pattern that may be good is too large.
        """
        sizes = {"pattern": 0, "patternProperties": 0}
        for where, pattern in _patterns(node):
            self._count += 1
            if self._count > MAX_PATTERNS:
                raise BadSchemaError(Misfit(place, f"more than {MAX_PATTERNS} patterns"))
            if len(pattern) > MAX_PATTERN_LENGTH:
                self.faults.append(Misfit(place, f"has a pattern of more than {MAX_PATTERN_LENGTH} characters"))
            elif len(self.faults) >= MAX_NAMED or self._unmeasured:
                self._unmeasured += 1
            else:
                sizes[str(where[0])] += self._measure((*place, *where), pattern)
        return sizes["pattern"], sizes["patternProperties"]

    def unmeasured(self) -> list[Misfit]:
        """Return in words how many patterns were left out, since enough is wrong already."""
        number = self._unmeasured
        words = "1 more pattern, which is" if number == 1 else f"{number} more patterns, which are"
        return [Misfit((), f"has {words} looked at once these are mended")] if number else []

    def _measure(self, place: Place, pattern: str) -> int:
        kib = compiled_kib(pattern, self._left_kib)
        if kib is not None:
            self._left_kib -= kib
            return kib
        if self._max_kib < MAX_PATTERNS_KIB:
            raise TooMuchWorkError
        is_good = self._left_kib < PATTERN_SIZES_KIB[-1] and compiled_kib(pattern) is not None
        self.faults.append(Misfit(place, f"{brief(pattern)} {TOO_LARGE_TOGETHER if is_good else refusal(pattern)}"))
        return 0


def _refuse_size(root: dict[str, Any]) -> None:
    if weight(root, MAX_UNITS) > MAX_UNITS:
        raise BadSchemaError(Misfit((), f"is too large: more than {MAX_UNITS} values"))


def _refuse_unevaluated(nodes: list[tuple[Place, dict[str, Any]]], references: References) -> None:
    """Raise BadSchemaError where keywords look back at too many schemas: to compile that takes all their time.

    Each place counts, also where several look back at the same schemas: the library compiles these anew for each.
    """
    known: dict[int, float] = {}
    together = 0.0
    for place, node in nodes:
        keyword = next(iter(_UNEVALUATED & node.keys()), None)
        if keyword is None:
            continue
        size = _in_place_size(node, references, known)
        together += size
        if size > MAX_IN_PLACE:
            message = f"more than {MAX_IN_PLACE} schemas, or endlessly many, apply beside it in place"
            raise BadSchemaError(Misfit((*place, keyword), message))
        if together > MAX_IN_PLACE_TOGETHER:
            message = f"more than {MAX_IN_PLACE_TOGETHER} schemas apply in place beside all keywords of its kind"
            raise BadSchemaError(Misfit((*place, keyword), message))


def _in_place_size(node: Any, references: References, known: dict[int, float]) -> float:
    """Return the number of schemas that apply in place once references are replaced; infinite for a cycle."""
    if not isinstance(node, dict):
        return 1.0
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = math.inf
    total, names = 1.0, 0
    for inner, child in _subschemas(node):
        if inner[0] in _ALL_IN_PLACE:
            total += _in_place_size(child, references, known)
        names += inner[0] in _PER_CHILD_MAPS
    if "$ref" in node and (found := references.find(node["$ref"])) is not None:
        total += _in_place_size(found[1], references, known)
    known[id(node)] = total + names / NAMES_PER_UNIT
    return known[id(node)]


def _compared(node: dict[str, Any]) -> int:
    """Return the number of values that each value is compared with, one by one."""
    alternatives = node.get("enum")
    found = [node[keyword] for keyword in _COMPARED if keyword in node]
    if isinstance(alternatives, list) and any(isinstance(value, dict | list) for value in alternatives):
        found.append(alternatives)
    return sum(map(weight, found))


def reachable(root: dict[str, Any], references: References | None = None) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield everything that is or can be reached as a schema, each once, in the order of the document."""
    references = references or References(root)
    waiting: list[tuple[Place, Any]] = [((), root)]
    visited: set[int] = set()
    while waiting:
        place, node = waiting.pop()
        if id(node) in visited or not isinstance(node, dict):
            continue
        visited.add(id(node))
        yield place, node
        if "$ref" in node and (target := references.find(node["$ref"])) is not None:
            waiting.append(target)
        inside = [((*place, *inner), child) for inner, child in _subschemas(node) if isinstance(child, dict)]
        waiting.extend(reversed(inside))


def _faults(references: References, place: Place, node: dict[str, Any]) -> Iterator[Misfit]:
    """Yield what is not allowed in this one schema, its patterns aside."""
    if _CHECKED.isdisjoint(node):
        return
    draft = node.get("$schema", DRAFT)
    if draft not in (DRAFT, f"{DRAFT}#"):  # a tuple: what a stranger wrote may have no hash
        yield Misfit((*place, "$schema"), f"only draft 2020-12 ({DRAFT}) is supported")
    if place and "$id" in node:
        yield Misfit((*place, "$id"), "only the whole schema may have an $id")
    for keyword in _DYNAMIC:
        if keyword in node:
            yield Misfit((*place, keyword), 'only plain references are taken, such as "#/$defs/line"')
    if "$ref" in node and references.find(node["$ref"]) is None:
        reason = (
            "points at nothing that is a schema"
            if _is_local(node["$ref"])
            else 'leaves this schema; only references such as "#/$defs/line" are taken'
        )
        yield Misfit((*place, "$ref"), f"{brief(node['$ref'])} {reason}")


def _patterns(node: dict[str, Any]) -> Iterator[tuple[Place, str]]:
    """Yield the patterns in this one schema, without those inside it, each with its place there."""
    keyed = node.get("patternProperties")
    found: list[tuple[Place, Any]] = [(("pattern",), node.get("pattern"))]
    found += [(("patternProperties", key), key) for key in (keyed if isinstance(keyed, dict) else ())]
    yield from ((where, pattern) for where, pattern in found if isinstance(pattern, str))


def _is_local(reference: Any) -> bool:
    return isinstance(reference, str) and (reference == "#" or reference.startswith("#/"))


def resolve_reference(root: dict[str, Any], reference: str) -> Place | None:
    """Return the place that a local reference (JSON Pointer, RFC 6901) names, or None."""
    node: Any = root
    place: Place = ()
    for part in reference.split("/")[1:]:
        step = _pointer_step(node, part)
        if step is None:
            return None
        node = node[step]
        place = (*place, step)
    return place


def _pointer_step(node: Any, part: str) -> str | int | None:
    """Return the key or index in a value that one part of a reference names, or None where nothing is.

    URI escapes are not accepted: there is one way to write a reference.
    """
    if isinstance(node, list):
        is_index = part.isdecimal() and len(part) <= MAX_INDEX_DIGITS and int(part) < len(node)
        return int(part) if is_index else None
    step = part.replace("~1", "/").replace("~0", "~")
    return step if isinstance(node, dict) and step in node and "%" not in part else None


def value_at(root: Any, place: Place) -> Any:
    """Return the value at a place, which must exist."""
    for step in place:
        root = root[step]
    return root


def _subschemas(node: dict[str, Any]) -> Iterator[tuple[Place, Any]]:
    """Yield the schemas right inside a schema."""
    for keyword, inner in node.items():
        if keyword in _ONE:
            yield (keyword,), inner
        elif (keyword in _LISTS and isinstance(inner, list)) or (keyword in _MAPS and isinstance(inner, dict)):
            yield from (((keyword, key), child) for key, child in children(inner))
