"""The text of a release is the section of its version in the changelog."""

from __future__ import annotations

from pathlib import Path

import pytest

from hack.release_notes import CHANGELOG, NoSuchVersion, main, section

TEXT = """\
# Changelog

What this page is.

## [Unreleased]

### Added

- One thing.

## [0.2.0] - 2026-01-02

### Fixed

- A [link](docs/index.md), and [0.1.0] is one, too.

## 0.1.0 - 2025-12-31

## [0.0.1] - 2025-01-01

- The first.

[Unreleased]: https://example.com/compare
[0.2.0]: https://example.com/0.2.0
"""


def test_a_version_has_its_own_section_alone() -> None:
    assert section(TEXT, "0.2.0") == "### Fixed\n\n- A [link](docs/index.md), and [0.1.0] is one, too.\n"


def test_a_tag_is_a_version() -> None:
    assert section(TEXT, "v0.2.0") == section(TEXT, "0.2.0")


def test_what_is_not_released_is_a_section() -> None:
    assert section(TEXT, "unreleased") == "### Added\n\n- One thing.\n"


def test_the_last_section_ends_before_the_links() -> None:
    assert section(TEXT, "0.0.1") == "- The first.\n"


@pytest.mark.parametrize(
    ("version", "words"), [("0.1.0", "empty"), ("9.9.9", "Unreleased, 0.2.0, 0.1.0, 0.0.1"), ("0.0", "no")]
)
def test_a_version_of_which_nothing_is_told_is_an_error(version: str, words: str) -> None:
    with pytest.raises(NoSuchVersion, match=words):
        section(TEXT, version)


def test_the_command_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "CHANGELOG.md").write_text(TEXT)
    assert main(["0.0.1"], tmp_path / "CHANGELOG.md") == 0
    assert capsys.readouterr().out == "- The first.\n"
    assert main(["7"], tmp_path / "CHANGELOG.md") == 1
    assert "no section 7" in capsys.readouterr().err


def test_our_own_changelog_has_one() -> None:
    assert section(CHANGELOG.read_text(), "Unreleased")
