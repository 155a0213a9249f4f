from __future__ import annotations

import json
from typing import Any

import pytest

from skill_operator.api.dropped_nulls import LAST_APPLIED, MAX_FOUND, find_dropped_nulls


def applied(text: str, live: Any) -> list[str]:
    """Return what is found where this manifest was applied, and this spec is stored."""
    return find_dropped_nulls({"metadata": {"annotations": {LAST_APPLIED: text}}, "spec": live})


def manifest(spec: Any) -> str:
    return json.dumps({"spec": spec})


@pytest.mark.parametrize(
    ("wanted", "live", "found"),
    [
        ({"input": {"default": None}}, {"input": {}}, ["spec.input.default"]),
        ({"input": {"default": None}}, {"input": {"default": None}}, []),
        ({"examples": [{"output": None}]}, {"examples": [{}]}, ["spec.examples[0].output"]),
        ({"examples": [{"input": {"a b": None}}]}, {"examples": [{"input": {}}]}, ['spec.examples[0].input["a b"]']),
        ({"a": None, "b": None}, {}, ["spec.a", "spec.b"]),
        ({"a": {"b": None}}, {"a": "somebody changed it"}, []),
        ({"a": [None, 1]}, {"a": [1]}, []),
        ({"a": 1}, {}, []),
        (None, {}, []),
        ([None], {}, []),
    ],
)
def test_a_null_that_is_not_there_any_more_is_named(wanted: Any, live: Any, found: list[str]) -> None:
    assert applied(manifest(wanted), live) == found


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "[null]",
        "{null",
        '{"spec": null}',
        '{"spec": {"a": null}',
        '{"spec": {"a": null, "b": NaN}}',
        '{"spec": ' + "[" * 100_000 + "null" + "]" * 100_000 + "}",
        '{"spec": {"a": null, "b": [' + "1," * 40_000 + "1]}}",
        '{"spec": {"a": null, "b": "' + "x" * 300_000 + '"}}',
    ],
)
def test_an_annotation_that_is_no_manifest_says_nothing(text: str) -> None:
    assert applied(text, {}) == []


@pytest.mark.parametrize("metadata", [{}, {"annotations": {}}, {"annotations": {LAST_APPLIED: None}}])
def test_without_the_annotation_nothing_is_known(metadata: dict[str, Any]) -> None:
    assert find_dropped_nulls({"metadata": metadata, "spec": {}}) == []


def test_a_manifest_may_be_as_deep_as_the_parser_takes_it() -> None:
    text, live = '{"spec": ' + '{"a":' * 400 + "null" + "}" * 401, json.loads('{"a":' * 399 + "{}" + "}" * 399)
    assert applied(text, live) == ["spec" + ".a" * 400]


def test_few_are_named_of_many() -> None:
    assert len(applied(manifest({f"k{n}": None for n in range(1000)}), {})) == MAX_FOUND
