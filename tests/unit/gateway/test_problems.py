"""The catalogue of problems: each is raised somewhere, documented, and what the runtime says of its own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from skill_operator.gateway.problems import PROBLEMS, RUNTIME_PROBLEMS, Problem
from skill_runtime import problems as runtime

SOURCES = Path(__file__).parents[3]
DOCUMENTED = SOURCES / "docs" / "reference" / "gateway-api.md"
# A gateway's calls are always a POST to the one path that a runtime has; a call that a pod does not take goes to another.
NEVER_RELAYED = {"invalid-request", "not-found", "method-not-allowed", "misdirected", "draining"}


def test_every_problem_of_the_catalogue_is_raised_and_no_other() -> None:
    found = set()
    for path in (SOURCES / "operator/src/skill_operator/gateway").rglob("*.py"):
        found |= set(re.findall(r'\bProblem\(\s*"([a-z0-9.-]+)"', path.read_text()))
    assert found >= {"unauthenticated", "forbidden", "concurrency-limit"}
    assert found == set(PROBLEMS)


def test_the_runtime_s_problems_are_in_the_catalogue() -> None:
    inside = {one.slug: one.status for one in vars(runtime).values() if isinstance(one, runtime.ProblemType)}
    relayed = {slug: status for slug, status in inside.items() if slug not in NEVER_RELAYED}
    assert {slug for slug in relayed if slug not in PROBLEMS} == set(RUNTIME_PROBLEMS)
    for slug, status in relayed.items():
        assert (PROBLEMS.get(slug) or RUNTIME_PROBLEMS[slug]).status == status


def test_the_documentation_shows_the_catalogue() -> None:
    every = [(slug, one.status, one.meaning, one.action) for slug, one in (PROBLEMS | RUNTIME_PROBLEMS).items()]  # type: ignore[operator]
    rows = [
        f"| `{slug}` | {status} | {meaning} | {action} |"
        for slug, status, meaning, action in sorted(every, key=lambda row: row[1])
    ]
    assert re.findall(r"^\| `[a-z0-9.-]+` \| \d{3} \|.*$", DOCUMENTED.read_text(), re.MULTILINE) == rows


@pytest.mark.parametrize("slug", PROBLEMS)
def test_a_problem_says_what_its_type_is(slug: str) -> None:
    definition = PROBLEMS[slug]
    document = json.loads(Problem(slug, "why").body("r-1"))
    assert document == {
        "type": f"urn:skill-operator:{slug}",
        "title": definition.title,
        "status": definition.status,
        "detail": "why",
        "requestId": "r-1",
    }
