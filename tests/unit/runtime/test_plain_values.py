"""What a skill may return: plain values as they are, numpy's as what they hold, all else refused with advice."""

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import json
import pathlib
import subprocess
import sys
import types
import uuid

import pytest

from skill_runtime import plain_values
from tests.unit.runtime.harness import SOURCE

NAMED = collections.namedtuple("NAMED", "a b")  # noqa: PYI024


class Generic:
    """A number as numpy has it; numpy itself is in the images alone, and tests/integration runs it."""

    def __init__(self, value):
        self.value = value

    def item(self):
        return self.value

    tolist = item

    def __hash__(self):
        return hash(self.value)

    def __eq__(self, other):
        return self.value == other


class NDArray(Generic):
    pass


@pytest.fixture
def numpy(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", types.SimpleNamespace(generic=Generic, ndarray=NDArray))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": (1, 2.5), "b": None}, '{"a":[1,2.5],"b":null}'),
        ({1: True}, '{"1":true}'),
        (NAMED(1, "ü"), '[1,"ü"]'),
        (collections.Counter("aab"), '{"a":2,"b":1}'),
        (collections.defaultdict(list, x=[1]), '{"x":[1]}'),
    ],
)
def test_plain_values_are_what_they_are(value, text):
    assert plain_values.encode(value) == text.encode()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Generic(3), "3"),
        ({"n": Generic(2.5), "xs": [NDArray([1, 2])]}, '{"n":2.5,"xs":[[1,2]]}'),
        ({Generic(7): Generic(True)}, '{"7":true}'),
        ([{"deep": ({Generic(1): (NDArray([[0.5]]),)},)}], '[{"deep":[{"1":[[[0.5]]]}]}]'),
        (NDArray([Generic(1)]), "[1]"),
    ],
)
def test_numbers_and_arrays_are_what_they_hold(numpy, value, text):
    assert plain_values.encode(value) == text.encode()


@pytest.mark.parametrize("value", [Generic(float("nan")), {"x": NDArray([1.0, float("inf")])}])
def test_no_number_is_made_up(numpy, value):
    with pytest.raises(ValueError, match="Out of range float"):
        plain_values.encode(value)


def test_what_numpy_holds_may_be_refused_as_well(numpy):
    with pytest.raises(TypeError, match="isoformat"):
        plain_values.encode(Generic(dt.datetime(2024, 1, 1)))  # noqa: DTZ001


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int


REFUSED = {
    "sorted(...)": [{1, 2}, frozenset("a")],
    "float(...)` or `str(...)": [decimal.Decimal(1), decimal.Decimal("1.5"), fractions.Fraction(1, 3)],
    "isoformat": [dt.date(2024, 1, 1), dt.time(1), dt.datetime.now(tz=dt.UTC)],
    "total_seconds": [dt.timedelta(1)],
    ".decode()": [b"x", bytearray(b"x")],
    ".real": [1j],
    ".value": [Color.RED],
    "`str(...)`": [uuid.UUID(int=1), pathlib.Path("x"), pathlib.PurePosixPath("x")],
    "asdict": [Point(1)],
    "`list(...)`": [{}.keys(), {1: 2}.values(), range(3), map(str, []), (x for x in "a"), collections.deque()],
    "call it": [lambda: 1],
    "a dict, a list": [object(), (1).__class__],
}


@pytest.mark.parametrize("advice", REFUSED)
@pytest.mark.parametrize("present", [True, False])
def test_what_may_mean_several_things_is_refused_with_advice(advice, present, request):
    if present:
        request.getfixturevalue("numpy")
    for value in REFUSED[advice]:
        for result in (value, {"a": [value]}):
            with pytest.raises(TypeError) as caught:
                plain_values.encode(result)
            assert str(caught.value).startswith(f"Object of type {type(value).__name__} is not JSON serializable: ")
            assert advice in str(caught.value)


def test_values_inside_of_themselves_end(numpy):
    loop = {"n": Generic(1)}
    loop["self"] = loop
    with pytest.raises((ValueError, RecursionError)):
        plain_values.encode(loop)


def test_nothing_is_imported_for_it():
    code = "import sys; from skill_runtime import plain_values; plain_values.encode([1]); print(json.dumps(sorted(sys.modules)))"
    printed = subprocess.run(
        [sys.executable, "-c", f"import json\n{code}"], env={"PYTHONPATH": str(SOURCE)}, capture_output=True, check=True
    ).stdout
    assert not {"numpy", "pandas", "decimal", "datetime", "dataclasses"} & set(json.loads(printed))
