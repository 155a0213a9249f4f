from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_operator import naming

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,100}[a-z0-9])?", fullmatch=True)
NAMESPACES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
NAME = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?")
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


@given(NAMES)
def test_every_child_has_a_name_that_kubernetes_takes(name: str) -> None:
    for child in (
        naming.child(name),
        naming.contract(name, "u-1", "f" * 64),
        naming.kept_revision(name, "u-1", "f" * 64),
        naming.trial(name, "u-1", "f" * 64),
        naming.check(name, "u-1", "f" * 64),
        naming.build(name, "u-1", "0" * 64),
    ):
        assert len(child) <= 63
        assert LABEL.fullmatch(child)
    assert naming.child(name)[0].isalpha()


def every_name(skill: str, namespace: str = "team") -> dict[str, set[str]]:
    """Return all names that objects of this Skill may have, by where they must not meet those of another."""
    uid = f"uid-{namespace}-{skill}"
    return {
        "child": {naming.child(skill)},
        "config map": {
            naming.contract(skill, uid, "f" * 64),
            naming.kept_revision(skill, uid, "f" * 64),
            naming.trial(skill, uid, "f" * 64),
            naming.source(skill),
            naming.candidates(skill),
            naming.check(skill, uid, "f" * 64),
        },
        "label": {naming.labels(skill, uid, "skill")[naming.SKILL_LABEL]},
        "tool": {naming.tool(namespace, skill)},
        "build": {naming.build(skill, uid, "f" * 64)},
        "ledger": {naming.ledger(uid)},
        "repository": {naming.repository(namespace, skill)},
        "tag": {naming.flat_tag(skill, "f" * 64)},
    }


def imitations(skill: str) -> set[str]:
    """Return the names by which another Skill would try to get a name of this one."""
    names = set().union(*every_name(skill).values())
    stems = {name.removeprefix("skill-").removeprefix("team__").removeprefix("skills/team/") for name in names}
    for suffix in ("-contract", "-source", "-generation"):
        stems |= {stem.removesuffix(suffix) for stem in stems}
    flat = skill.replace(".", "-")
    former = {f"{flat}-{naming.digest(text)[:length]}" for text in (skill, f"skill-{skill}") for length in (8, 16, 32)}
    return {name for name in stems | former | {flat} if NAME.fullmatch(name)} - {skill}


@settings(max_examples=25, deadline=None)
@given(NAMES, NAMES)
def test_no_two_skills_share_a_name(one: str, other: str) -> None:
    mine = every_name(one)
    for rival in {other, *imitations(one)} - {one}:
        theirs = every_name(rival)
        assert all(names.isdisjoint(theirs[place]) for place, names in mine.items()), rival


@pytest.mark.parametrize("name", ["a.b", "a" * 253, "default-deny", "quota", "contract", "x-source", "a-" + "0" * 32])
def test_imitations_of_awkward_names_fail(name: str) -> None:
    shared = {naming.SHARED_POLICY, naming.SHARED_QUOTA}
    assert naming.child(name) not in shared
    mine, rivals = every_name(name), imitations(name) | {f"{name}-contract", f"{name}-check"}
    for rival in rivals | {twice for once in rivals for twice in imitations(once)} - {name}:
        theirs = every_name(rival)
        assert all(names.isdisjoint(theirs[place]) for place, names in mine.items()), rival


@settings(max_examples=25, deadline=None)
@given(NAMESPACES, NAMESPACES, NAMES, NAMES)
def test_no_two_skills_share_a_tool_and_clients_take_its_name(here: str, there: str, one: str, other: str) -> None:
    tool = naming.tool(here, one)
    assert re.fullmatch("[a-zA-Z0-9_-]{1,48}", tool)
    assert tool == f"{here}__{one}" or not NAME.fullmatch(naming.skill_of_tool(tool).name), "a cut name is no other's"
    assert naming.skill_of_tool(f"{here}__{one}") == (here, one)
    for rival in {(there, other), (there, one), (here, other), *((here, name) for name in imitations(one))} - {
        (here, one)
    }:
        assert naming.tool(*rival) != tool


@settings(max_examples=25, deadline=None)
@given(NAMESPACES, NAMES, NAMES)
def test_no_two_skills_of_a_namespace_share_a_bare_tool(namespace: str, one: str, other: str) -> None:
    tool = naming.bare_tool(namespace, one)
    assert re.fullmatch("[a-zA-Z0-9_-]{1,48}", tool)
    assert tool == one or not NAME.fullmatch(tool), "a cut name is no Skill's own"
    assert tool not in {"find_skills", "call_skill"}
    for rival in {other, *imitations(one)} - {one}:
        assert naming.bare_tool(namespace, rival) != tool


LONG_NAMES = st.from_regex(
    r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?){0,4}", fullmatch=True
)
COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")  # of a repository's name, by CNCF distribution
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")  # OCI distribution spec
LONGEST_PLACE = "r" * 126  # as long as the chart lets a registry's host and path be


@settings(max_examples=100, deadline=None)
@given(
    NAMESPACES,
    st.one_of(LONG_NAMES.filter(lambda name: len(name) <= 253), st.sampled_from(["y" * 253, "a." * 126 + "a"])),
)
def test_registries_take_every_name_that_kubernetes_takes(namespace: str, skill: str) -> None:
    for repository in (naming.repository(namespace, skill), naming.flat_repository(namespace)):
        assert len(f"{LONGEST_PLACE}/{repository}") <= 255
        assert all(COMPONENT.fullmatch(component) for component in repository.split("/"))
    assert TAG.fullmatch(naming.flat_tag(skill, "f" * 64))
    assert "/" not in naming.flat_repository(namespace)


def test_long_names_that_end_alike_have_repositories_of_their_own() -> None:
    names = ["y" * 252 + end for end in "ab"]
    assert naming.repository("team", names[0]) != naming.repository("team", names[1])
    assert naming.repository("team", names[0]).startswith("skills/team/yyy")
    assert naming.repository("t" * 63, names[0]) != naming.repository("t" * 62 + "u", names[0])


def test_a_short_plain_name_stays_readable() -> None:
    assert naming.repository("finance", "echo.v2") == "skills/finance/echo.v2"
    assert naming.flat_repository("finance") == "skills-finance"
    assert naming.flat_tag("echo", "f" * 64) == "echo-" + "f" * 64
    assert naming.child("echo") == "skill-echo"
    assert naming.source("echo") == "echo-source"
    assert naming.tool("finance", "echo") == "finance__echo"
    assert naming.check("echo", "u-1", "key").startswith("echo-check-")
    assert naming.build("echo", "u-1", "revision").startswith("echo-")


def test_names_that_are_equal_when_cut_stay_apart() -> None:
    assert naming.child("a" * 62 + "b") != naming.child("a" * 62 + "c")


def test_a_name_that_starts_with_a_digit_meets_no_other() -> None:
    assert naming.child("1") != naming.child("s-1")
    assert naming.child("1")[0].isalpha()


def test_builds_of_two_skills_of_one_name_do_not_meet() -> None:
    assert naming.build("a", "u-1", "1") != naming.build("a", "u-2", "1")
    assert naming.build("a", "u-1", "1") != naming.build("a", "u-1", "2")


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


@given(st.text(max_size=300))
def test_a_name_made_of_any_summary_is_a_label(summary: str) -> None:
    name = naming.requested(summary, "0123456789abcdef" * 4)
    assert naming.is_label(name)
    assert len(name) <= naming.SLUG_LENGTH + 1 + naming.LABEL_HASH_LENGTH
    assert name.endswith("-0123456789")
