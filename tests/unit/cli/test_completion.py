"""Completion speaks kubectl's protocol, and never fails."""

from __future__ import annotations

import pytest

from kubectl_skill.completion import complete
from tests.unit.cli.kubectl_double import ScriptedKubectl


def words(*given: str) -> list[str]:
    *lines, directive = complete(list(given)).split("\n")
    assert directive == ":4"
    return [line.partition("\t")[0] for line in lines]


def test_verbs() -> None:
    assert {"list", "why", "call"} <= set(words(""))
    assert words("hist") == ["history"]
    assert words("nope") == []


def test_options_and_their_values() -> None:
    assert "--namespace" in words("list", "--n")
    assert words("list", "-o", "") == ["json", "yaml", "name"]


@pytest.mark.parametrize("given", [("why", "e"), ("why", "-n", "blue", "e"), ("-n", "blue", "why", "e")])
def test_names_of_skills_of_the_chosen_namespace(given: tuple[str, ...], kubectl: ScriptedKubectl) -> None:
    kubectl.says(
        "get skills", "skill.skill-operator.dev/echo\nskill.skill-operator.dev/eve\nskill.skill-operator.dev/other\n"
    )
    assert words(*given) == ["echo", "eve"]
    assert ("--namespace=blue" in kubectl.commands[0]) == ("blue" in given)


def test_revisions(kubectl: ScriptedKubectl) -> None:
    kubectl.says("get skills.skill-operator.dev echo", "aaaa\nabbb\nbbbb\n")
    assert words("diff", "echo", "a") == ["aaaa", "abbb"]


def test_namespaces_and_contexts(kubectl: ScriptedKubectl) -> None:
    kubectl.says("get namespaces", "namespace/blue\nnamespace/red\n")
    kubectl.says("config get-contexts", "here\nthere\n")
    assert words("list", "-n", "b") == ["blue"]
    assert words("list", "--context", "") == ["here", "there"]


def test_a_cluster_that_is_away_completes_nothing(kubectl: ScriptedKubectl) -> None:
    kubectl.says("", err="Unable to connect to the server\n", code=1)
    assert words("why", "") == []


def test_a_hostile_name_sends_no_escape(kubectl: ScriptedKubectl) -> None:
    kubectl.says("get skills", "skill/\x1b[2Jx\n")
    assert "\x1b" not in complete(["why", ""])
