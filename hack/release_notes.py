"""Print what CHANGELOG.md says about one version, as the text of a release.

python3 -m hack.release_notes VERSION
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

CHANGELOG = Path(__file__).parents[1] / "CHANGELOG.md"
_HEADING = re.compile(r"^## +\[?v?(?P<version>[^\]\s]+)\]?", re.MULTILINE)
_LINK = re.compile(r"^\[[^\]]+\]: \S+\n?", re.MULTILINE)


class NoSuchVersion(Exception):
    """NoSuchVersion is raised where the changelog has no section of a version, or an empty one."""


def section(changelog: str, version: str) -> str:
    """Return the text below the heading of a version, without the heading and without definitions of links.

    `version` may begin with a v, as tags do. Raises NoSuchVersion where there is nothing to tell.
    """
    wanted = version.removeprefix("v").lower()
    headings = list(_HEADING.finditer(changelog))
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        if heading["version"].lower() != wanted:
            continue
        line_end = changelog.find("\n", heading.end())
        text = changelog[line_end:] if following is None else changelog[line_end : following.start()]
        if notes := _LINK.sub("", text).strip():
            return notes + "\n"
        raise NoSuchVersion(f"the section {heading['version']} is empty")
    known = ", ".join(heading["version"] for heading in headings) or "none"
    raise NoSuchVersion(f"CHANGELOG.md has no section {version}; it has: {known}")


def main(arguments: list[str] | None = None, changelog: Path = CHANGELOG) -> int:
    """Run the command. Return 1 where there is no such version."""
    parser = argparse.ArgumentParser(prog="python3 -m hack.release_notes", description="Print a version's changes.")
    parser.add_argument("version", help="such as 0.1.0, v0.1.0 or Unreleased")
    version = parser.parse_args(arguments).version
    try:
        sys.stdout.write(section(changelog.read_text(encoding="utf-8"), version))
    except NoSuchVersion as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
