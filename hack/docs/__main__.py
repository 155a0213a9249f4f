"""Write the generated pages of the documentation, or check that they are up to date.

python -m hack.docs [--check] FOLDER
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import typer

from hack.docs import chart_values, kubectl_skill, metrics, problems, reasons, skill
from kubectl_skill.app import app
from kubectl_skill.errors import EXIT_CODES
from kubectl_skill.verbs.doctor import RIGHTS
from skill_operator.api import crd
from skill_operator.api.reasons import CONDITIONS, REASONS
from skill_operator.gateway.problems import PROBLEMS, RUNTIME_PROBLEMS
from skill_operator.observability import metrics as registered

CHART = Path(__file__).parents[2] / "charts" / "skill-operator"


def pages() -> dict[str, str]:
    """Return every generated page by its path below docs/."""
    values = (CHART / "values.yaml").read_text(encoding="utf-8")
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    return {
        "how-to/troubleshooting.md": reasons.troubleshooting(REASONS),
        "reference/chart-values.md": chart_values.render(values, schema),
        "reference/kubectl-skill.md": kubectl_skill.render(typer.main.get_command(app), EXIT_CODES, RIGHTS),
        "reference/metrics.md": metrics.render(metrics.read_families(vars(registered))),
        "reference/problems-and-conditions.md": problems.render(CONDITIONS, REASONS, PROBLEMS, RUNTIME_PROBLEMS),
        "reference/skill.md": skill.render(crd.definition()),
    }


def write(folder: Path, texts: Mapping[str, str]) -> None:
    """Write the pages; folders are made where they are missing."""
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def differences(folder: Path, texts: Mapping[str, str]) -> list[str]:
    """Return the lines of a diff between the files and what they should hold; none where they are up to date."""
    found: list[str] = []
    for name, text in texts.items():
        path = folder / name
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        found += difflib.unified_diff(
            old.splitlines(keepends=True), text.splitlines(keepends=True), str(path), "generated"
        )
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Return 1 where a page is not up to date."""
    parser = argparse.ArgumentParser(prog="python -m hack.docs", description="Write the generated pages.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is not up to date")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    texts = pages()
    if not options.check:
        write(options.folder, texts)
        return 0
    found = differences(options.folder, texts)
    sys.stderr.writelines(found)
    if found:
        sys.stderr.write("the pages of the documentation are not up to date: run `make generate`\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
