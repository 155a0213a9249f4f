"""The generated pages are written where they belong, and one that is out of date is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from hack.docs import reasons
from hack.docs.__main__ import differences, main, pages, write
from skill_operator.api.conditions import ACTIVE, DEPLOYED
from skill_operator.api.reasons import CONDITIONS, EVENT, REASONS, Reason, ReasonGroup
from skill_operator.gateway.problems import PROBLEMS, RUNTIME_PROBLEMS


def test_pages_are_written_and_then_up_to_date(tmp_path: Path) -> None:
    texts = {"a.md": "one\n", "b/c.md": "two\n"}
    assert differences(tmp_path, texts)
    write(tmp_path, texts)
    assert differences(tmp_path, texts) == []
    (tmp_path / "b" / "c.md").write_text("three\n")
    assert [line for line in differences(tmp_path, texts) if line.startswith(("-t", "+t"))] == ["-three\n", "+two\n"]


def test_the_command_checks_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(tmp_path)]) == 1
    assert "make generate" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main([str(tmp_path)]) == 0
    assert main(["--check", str(tmp_path)]) == 0
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.md")} == pages().keys()


def test_a_reason_is_told_with_its_conditions_and_what_to_do() -> None:
    table = {
        "Odd": Reason(ReasonGroup.RUN, (DEPLOYED, ACTIVE), "It is odd.", "Wait."),
        "Even": Reason(ReasonGroup.CHECK, (EVENT,), "It is even.", "Nothing to do."),
    }
    guide = reasons.troubleshooting(table)
    check, run = guide.index("### The check"), guide.index("### Running and sleeping")
    assert check < guide.index("| `Even` | an event | It is even. | Nothing to do. |") < run
    assert run < guide.index("| `Odd` | Deployed, Active | It is odd. | Wait. |")
    assert reasons.reason_list(table).splitlines()[2:] == [
        "| `Even` | an event | It is even. |",
        "| `Odd` | Deployed, Active | It is odd. |",
    ]


def test_every_reason_and_condition_is_on_its_pages() -> None:
    texts = pages()
    for name in REASONS:
        assert f"| `{name}` |" in texts["how-to/troubleshooting.md"]
        assert f"| `{name}` |" in texts["reference/problems-and-conditions.md"]
    for name, problem in (PROBLEMS | RUNTIME_PROBLEMS).items():
        assert f"| `{name}` | {problem.status} |" in texts["reference/problems-and-conditions.md"]
    for name in CONDITIONS:
        assert f"| `{name}` |" in texts["reference/problems-and-conditions.md"]
