"""The files around the repository say what the Makefile does."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest
import yaml

from hack.docs import metrics
from skill_operator.api.reasons import REASONS
from skill_operator.gateway.problems import PROBLEMS, RUNTIME_PROBLEMS
from skill_operator.observability import metrics as registered

ROOT = Path(__file__).parents[3]
MAKEFILE = (ROOT / "Makefile").read_text()


def recipe(target: str) -> list[str]:
    """Return the commands of a target as a shell gets them."""
    lines = MAKEFILE.split(f"\n{target}:", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    variables = dict(re.findall(r"^(\w+) :?= (.*)$", MAKEFILE, re.MULTILINE))
    return [expand(line.strip().lstrip("@"), variables) for line in lines]


def expand(text: str, variables: dict[str, str]) -> str:
    """Return the text with every variable replaced that the Makefile sets."""
    while (replaced := re.sub(r"\$\((\w+)\)", lambda match: variables[match[1]], text)) != text:
        text = replaced
    return text


def test_the_hooks_are_the_parts_of_verify() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert {repo["repo"] for repo in config["repos"]} == {"local"}
    assert [hook["entry"].removeprefix("env ") for hook in hooks] == recipe("verify")


def test_the_workflow_runs_what_ci_runs() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yaml").read_text())
    assert {"run": ".ci/run"} in workflow["jobs"]["test"]["steps"]
    assert workflow["permissions"] == {"contents": "read"}


def test_no_lock_names_where_packages_are_fetched() -> None:
    """`npm install` writes addresses of funding into its lock: take them out with the change."""
    locks = [path for path in ROOT.glob("**/package-lock.json") if "node_modules" not in path.parts]
    assert locks
    assert not [path for path in locks if "://" in path.read_text()]


def test_updates_are_looked_for_wherever_something_is_locked() -> None:
    updates = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())["updates"]
    folders = {each["package-ecosystem"]: set(each.get("directories", [])) for each in updates}
    python = {f"/{path.parent.relative_to(ROOT)}" for path in ROOT.glob("*/requirements*.txt")}
    docker = {f"/{path.parent.relative_to(ROOT)}" for path in ROOT.glob("*/Dockerfile")}
    assert folders["pip"] >= python
    assert folders["docker"] == docker
    modules = {path.parent.relative_to(ROOT) for path in ROOT.glob("*/**/go.mod") if ".cluster" not in path.parts}
    assert modules
    assert all(any(PurePosixPath("/", module).match(each) for each in folders["gomod"]) for module in modules)


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem
)
def test_issue_forms_are_whole(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    if path.stem == "config":
        assert form == {"blank_issues_enabled": False}
        return
    assert {"name", "description", "labels", "body"} <= form.keys()
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)


def test_owners_own_what_is_there() -> None:
    lines = (ROOT / ".github" / "CODEOWNERS").read_text().splitlines()
    owned = [line.split()[0] for line in lines if line and not line.startswith("#")]
    assert owned[0] == "*"
    assert all((ROOT / pattern.strip("/")).exists() for pattern in owned[1:])


def test_the_license_is_the_one_that_is_declared() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Copyright The skill-operator authors" in text
    for folder in ("operator", "base-image"):
        project = ROOT / folder / "pyproject.toml"
        assert not project.exists() or 'license = "Apache-2.0"' in project.read_text()


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "README.md", "CHANGELOG.md", "SECURITY.md"])
def test_pages_name_targets_that_are_there(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    lines = re.findall(r"(?:`|^)make ([a-z -]+)", (ROOT / name).read_text(), re.MULTILINE)
    assert {word for line in lines for word in line.split()} <= targets


def test_the_changelog_has_the_names_that_are() -> None:
    """A table of renamed public names is of no use where the new name is not there."""
    rows = re.findall(r"^\| ([\w ]+) \| `([^`]+)` \| `([^`]+)` \|$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    names = {
        "problem type": PROBLEMS.keys() | RUNTIME_PROBLEMS.keys(),
        "condition reason": REASONS.keys(),
        "metric": {family.name for family in metrics.read_families(vars(registered))},
    }
    assert {where for where, _, _ in rows} >= names.keys()
    for where, old, new in rows:
        assert old not in names.get(where, {})
        assert new in names.get(where, {new})
