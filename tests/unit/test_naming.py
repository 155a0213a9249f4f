from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_operator import naming

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,100}[a-z0-9])?", fullmatch=True)
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


@given(NAMES)
def test_every_child_has_a_name_that_kubernetes_takes(name: str) -> None:
    for child in (
        naming.child(name),
        naming.contract(name),
        naming.check(name, "f" * 64),
        naming.build("ns", name, "0" * 10),
    ):
        assert len(child) <= 63
        assert LABEL.fullmatch(child)
    assert naming.child(name)[0].isalpha()


@given(NAMES, NAMES)
def test_no_two_skills_share_a_child(one: str, other: str) -> None:
    if one != other:
        assert naming.child(one) != naming.child(other)
        assert naming.contract(one) != naming.contract(other)


def test_names_that_are_equal_when_cut_stay_apart() -> None:
    assert naming.child("a" * 62 + "b") != naming.child("a" * 62 + "c")


def test_a_name_that_starts_with_a_digit_meets_no_other() -> None:
    assert naming.child("1") != naming.child("s-1")
    assert naming.child("1")[0].isalpha()


def test_builds_of_two_namespaces_do_not_meet() -> None:
    assert naming.build("a", "b-c", "1") != naming.build("a-b", "c", "1")


@pytest.mark.parametrize(("one", "other"), [({"a": 1, "b": 2}, {"b": 2, "a": 1}), ([1, "x"], [1, "x"])])
def test_equal_values_have_equal_digests(one: object, other: object) -> None:
    assert naming.digest(one) == naming.digest(other)
    assert naming.digest(one) != naming.digest(one, one)


def test_a_lone_surrogate_is_hashed_too() -> None:
    assert naming.digest("\ud800") != naming.digest("\ud801")


@pytest.mark.parametrize(
    ("host", "text"), [("10.0.0.1", "10.0.0.1:80"), ("fd00::1", "[fd00::1]:80"), ("a.b", "a.b:80")]
)
def test_an_ipv6_address_stands_in_brackets(host: str, text: str) -> None:
    assert naming.format_host_port(host, 80) == naming.format_host_port(host, "80") == text
