"""Both sides judge patterns alike, take the usual ones, and know what a search costs before it is done."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skill_operator import runtime_contract as rc
from skill_operator.untrusted import json_schema
from skill_operator.untrusted.json_schema import BadSchemaError, CompiledSchema, TooMuchWorkError, WorkBudget
from skill_operator.untrusted.patterns import NOT_LINEAR, TOO_LARGE, UNKNOWN, compiled_kib, refusal
from skill_runtime.contract import Schema
from skill_runtime.patterns import EXHAUSTED
from skill_runtime.settings import RuntimeSettingsError

USUAL = [
    r"^\p{L}{1,64}$", r"^[\p{L} .'-]{1,80}$", r"^\S{1,512}$", r"^.{1,2000}$", r"^[^@\s]+@[^@\s]+\.[a-z]{2,}$",
    r"^[\p{L}\p{N} _-]{1,64}$", r"^[\s\S]{1,4000}$", r"^.{1,255}$", r"^\w{1,1000}$", r"^[^\x00-\x1f]{1,2000}$",
    r"^[A-Z]{2}\d{6}$", r"^\d{4}-\d{2}-\d{2}$", r"^[0-9a-f]{64}$", r"^(?:EUR|USD)$", r"^[^<>]{0,1000}$", r"^a\.b$",
]  # fmt: skip
NEEDS_MEMORY = ["(?=a)b", "(?!a)b", "(?<=a)b", "(?<!a)b", r"(a)\1", r"(?<n>a)\k<n>", "x(?=[)])", r"[(?=](?!b)"]
LARGE = [
    "(a{1000}){1000}",
    r"^.{1,20000}$",
    r"^\p{L}{1,4000}$",
    r"^(?:\p{L}|\p{N}|[ _-]){1,900}$",
    r"(\p{L}{50}){50}",
    r"[^\p{L}]{900}",
    "(?:(?:(?:ab?){99}){99}){99}",
]
UNKNOWABLE = [r"\ud800", r"[\ud800-\udfff]{1,80}", r"\p{Foo}", r"^\p{L}{1,9}\p{Nobody}$", "(" * 300 + "a" + ")" * 300]
BROKEN = ["(", "[", "a{2,1}", "*"]
PLACES: dict[str, Any] = {
    "here": lambda pattern: {"pattern": pattern},
    "a property": lambda pattern: {"properties": {"a": {"pattern": pattern}}},
    "a name": lambda pattern: {"patternProperties": {pattern: {}}},
    "a definition": lambda pattern: {"$defs": {"a": {"pattern": pattern}}, "items": {"$ref": "#/$defs/a"}},
    "a definition's name": lambda pattern: {"$defs": {"a": {"patternProperties": {pattern: {}}}}, "$ref": "#/$defs/a"},
    "combined": lambda pattern: {"anyOf": [{"not": {"if": {"pattern": pattern}, "then": False}}]},
    "names": lambda pattern: {"propertyNames": {"pattern": pattern}},
}


def refused(schema: dict[str, Any]) -> bool:
    """Whether both sides refuse the schema; they must agree."""
    try:
        CompiledSchema(schema)
    except BadSchemaError:
        with pytest.raises(RuntimeSettingsError):
            Schema(schema, "input")
        return True
    Schema(schema, "input")
    return False


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("pattern", [USUAL[4], NEEDS_MEMORY[0], NEEDS_MEMORY[4], LARGE[0], BROKEN[0]])
def test_the_place_makes_no_difference(place: str, pattern: str) -> None:
    assert refused(PLACES[place](pattern)) == (pattern not in USUAL)


@pytest.mark.parametrize("pattern", USUAL)
def test_usual_patterns_are_taken(pattern: str) -> None:
    assert not refused({"pattern": pattern})


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        *((pattern, NOT_LINEAR) for pattern in NEEDS_MEMORY),
        *((pattern, TOO_LARGE) for pattern in LARGE),
        *((pattern, UNKNOWN) for pattern in UNKNOWABLE),
        *((pattern, 'is not a "regex"') for pattern in BROKEN),
    ],
)
def test_the_refusal_says_why(pattern: str, why: str) -> None:
    assert compiled_kib(pattern) is None
    assert refusal(pattern) == why


def test_no_format_is_judged() -> None:
    """So no text of a caller becomes a pattern, and no format costs anything."""
    for form in ("regex", "email", "idn-email", "uri", "iri", "hostname", "idn-hostname", "uuid", "date-time"):
        schema = {"format": form}
        assert CompiledSchema(schema).misfits("(", WorkBudget(10, 0), 1) == []
        assert Schema(schema, "input").violation("(") is None


# Quantifiers upon quantifiers: what backtracks without end, what compiles to much, what neither does.
ATOMS = st.sampled_from(["a", "[ab]", ".", r"\w", r"\p{L}", r"\S", "(?:a|a)", "b?"])
HOSTILE = st.recursive(
    ATOMS,
    lambda inner: st.builds("(?:{}{}){}".format, inner, inner, st.sampled_from(["*", "+", "{1,60}", "{30}", "?"])),
    max_leaves=5,
)


@given(HOSTILE, st.integers(0, 40_000))
@settings(max_examples=30, deadline=None)
@example("(a+)+$", 30_000)
@example("[ab]*a[ab]{900}c", 30_000)
def test_characters_times_size_is_paid_before_the_search(pattern: str, length: int) -> None:
    kib = compiled_kib(pattern)
    if kib is None:
        assert refused({"pattern": pattern})
        return
    limit = 10_000
    schema = CompiledSchema({"properties": {"a": {"pattern": pattern}}})
    fits = schema.surely_fits({"a": "a" * length}, 3, length, limit)
    if kib * length > limit:
        assert not fits
        with pytest.raises(TooMuchWorkError):
            schema.misfits({"a": "a" * length}, WorkBudget(1 << 20, limit), 1)
    else:
        schema.misfits({"a": "a" * length}, WorkBudget(1 << 20, limit), 1)


@pytest.mark.parametrize("place", ["a property", "a name"])
def test_the_runtime_gives_up_on_what_would_take_too_long(place: str) -> None:
    kib = 4096
    schema = Schema(PLACES[place](r"^\p{L}{1,64}$"), "output")
    text = "a" * (rc.MAX_SEARCH_WORK // kib + 1)
    assert schema.violation({"a": text} if place == "a property" else {text: 1}) == f"/: {EXHAUSTED}"
    assert schema.violation({"a": "Lea"}) is None
    assert place == "a name" or "does not match" in str(schema.violation({"a": "7"}))


def test_giving_up_is_no_verdict_of_the_schema() -> None:
    """Under `not`, a search that was given up must not make the value fit."""
    schema = Schema({"not": {"pattern": r"^\p{L}{1,64}$"}}, "output")
    assert schema.violation("1" * 100_000) == f"/: {EXHAUSTED}"


def test_one_pattern_in_many_places_is_compiled_once() -> None:
    Schema({"properties": {f"p{n}": {"pattern": r"^\p{L}{1,64}$"} for n in range(8)}}, "input")


@pytest.mark.parametrize("pattern", [NEEDS_MEMORY[0], LARGE[2], UNKNOWABLE[1], r"^\p{L}{1,64}$"])
def test_few_refused_patterns_are_looked_at(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What refuses a pattern may take as long as the largest one that is taken."""
    measured: list[int | None] = []

    def measure(*arguments: Any) -> int | None:
        measured.append(compiled_kib(*arguments))
        return measured[-1]

    monkeypatch.setattr(json_schema, "compiled_kib", measure)
    with pytest.raises(BadSchemaError) as refusal_of_all:
        CompiledSchema({"properties": {f"p{n}": {"pattern": f"{pattern}|{n}"} for n in range(60)}})
    assert 1 < len(refusal_of_all.value.misfits) <= json_schema.MAX_NAMED + 1
    assert "looked at once these are mended" in refusal_of_all.value.misfits[-1].message
    taken = sum(kib for kib in measured if kib is not None)
    assert measured.count(None) <= json_schema.MAX_NAMED
    assert taken <= rc.MAX_PATTERNS_KIB + json_schema.MAX_NAMED * rc.PATTERN_SIZES_KIB[-1]


UNEVALUATED = {"unevaluatedProperties": False, "unevaluatedItems": False}


@pytest.mark.parametrize("keyword", UNEVALUATED)
def test_levels_of_unevaluated_are_paid(keyword: str) -> None:
    """The library's work grows with a power of their number."""
    chain: dict[str, Any] = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}], keyword: False} for n in range(20)}
    schema = CompiledSchema({"$ref": "#/$defs/d0", "$defs": chain | {"d20": {"properties": {"z": True}}}})
    assert not schema.surely_fits({"z": 1}, 2, 9, 20_000)
    with pytest.raises(TooMuchWorkError):
        schema.misfits({"z": 1}, WorkBudget(20_000, 0), 1)
    few = CompiledSchema({"$ref": "#/$defs/d18", "$defs": chain | {"d20": {"properties": {"z": True}}}})
    few.misfits({"z": 1}, WorkBudget(1000, 0), 1)


@pytest.mark.parametrize(
    "schema",
    [
        {"items": {"enum": [{"a": n} for n in range(1000)]}},
        {"items": {"required": [f"x{n}" for n in range(1000)]}},
        {"items": {"dependentRequired": {"a": [f"x{n}" for n in range(1000)]}}},
        {"items": {"const": [0] * 1000}},
    ],
    ids=lambda schema: next(iter(schema["items"])),
)
def test_what_a_value_is_compared_with_is_paid(schema: dict[str, Any]) -> None:
    compiled = CompiledSchema(schema)
    value = [{"a": 1}] * 1000
    assert not compiled.surely_fits(value, 2001, 8000, 250_000)
    with pytest.raises(TooMuchWorkError):
        compiled.misfits(value, WorkBudget(250_000, 0), 1)


def test_a_list_of_words_is_looked_up_at_once() -> None:
    CompiledSchema({"items": {"enum": [f"x{n}" for n in range(300)]}}).misfits(["x1"] * 300, WorkBudget(2000, 0), 1)


def test_what_unevaluated_looks_back_at_is_bounded() -> None:
    """To compile this would take hours, without any value."""
    twice = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2, **UNEVALUATED} for n in range(40)}
    for schema in ({"$ref": "#/$defs/d0", "$defs": twice | {"d40": True}}, {"allOf": [{"$ref": "#"}], **UNEVALUATED}):
        with pytest.raises(BadSchemaError, match="apply beside it in place"):
            CompiledSchema(schema)
    CompiledSchema({"properties": {"kids": {"items": {"$ref": "#"}}}, **UNEVALUATED})
