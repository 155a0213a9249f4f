import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_operator.untrusted.json_values import DEEPEST, brief, canonical, flaw, located, weight

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def nested(depth):
    value = None
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ((), "spec"),
        (("lines", 0, "qty"), "spec.lines[0].qty"),
        (("$defs", "a-b"), "spec.$defs.a-b"),
        (("a b", ""), 'spec["a b"][""]'),
        (("a.b", '"'), 'spec["a.b"]["\\""]'),
    ],
)
def test_located(place, path):
    assert located("spec", place) == path


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (1, 1.0, True),
        (0, -0.0, True),
        (1, True, False),
        (0, False, False),
        (None, False, False),
        ("1", 1, False),
        ("", None, False),
        ([], {}, False),
        ([1], [1.0], True),
        ([1, 2], [2, 1], False),
        ({"a": 1, "b": [True]}, {"b": [True], "a": 1.0}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": None}, {}, False),
        ("object", {}, False),
        (9007199254740993, 9007199254740992.0, False),
    ],
)
def test_equality_is_that_of_json(one, other, equal):
    assert (canonical(one) == canonical(other)) is equal


@given(JSON)
def test_what_is_read_back_is_equal(value):
    assert canonical(json.loads(json.dumps(value))) == canonical(value)


@pytest.mark.parametrize(
    ("value", "place", "message"),
    [
        ({"a": [float("nan")]}, ("a", 0), "is no JSON number"),
        (float("-inf"), (), "is no JSON number"),
        ({"a": 2**63}, ("a",), "is an integer of more than 64 bits"),
        ([10**6000], (0,), "is an integer of more than 64 bits"),
        ({"a": "\udc00"}, ("a",), "holds half of a surrogate pair, which is no text"),
        ({"\ud800": 1}, (), "has a key that is no text"),
        ({1: 1}, (), "has a key that is no text"),
        ([(1,)], (0,), "is no JSON value"),
        ({"a": b""}, ("a",), "is no JSON value"),
        (nested(DEEPEST + 1), (0, 0, 0, 0), f"is nested more than {DEEPEST} levels deep"),
        (nested(100_000), (0, 0, 0, 0), f"is nested more than {DEEPEST} levels deep"),
    ],
)
def test_flaws(value, place, message):
    assert flaw(value) == (place, message)


def test_the_first_flaw_in_reading_order_is_told():
    assert flaw({"a": [1, 2**70], "b": 2**70}) == (("a", 1), "is an integer of more than 64 bits")


@given(JSON)
def test_json_has_no_flaw(value):
    assert flaw(value) is None


def test_the_deepest_value_has_no_flaw():
    assert flaw(nested(DEEPEST)) is None


def test_weight():
    assert weight(None) == 1
    assert weight({"a": [1, 2], "b": {}}) == 5
    assert weight("x" * 640) == 11
    assert weight({"x" * 640: 1}) == 12


def test_brief_is_printable_json_and_short():
    assert brief({"a": "\x1b\u202e"}) == '{"a": "\\u001b\\u202e"}'
    assert len(brief(["x" * 1000])) == 60
