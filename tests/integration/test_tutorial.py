"""The tutorial for people, followed word by word: each command is run, and each line that it shows is seen."""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.installed import Operator
from tests.integration.plugin import built

__all__ = ["built"]  # a fixture: one build for all tests
pytestmark = pytest.mark.cluster
PAGE = Path(__file__).parents[2] / "docs" / "tutorial-people.md"
BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TIMEOUT_SECONDS = 400


def steps(namespace: str) -> list[tuple[str, list[str]]]:
    """Return each block of commands with the lines that it shows, in this namespace instead of the demo's.

    The first block builds the plugin and sets the path, which this test does itself.
    """
    found: list[tuple[str, list[str]]] = []
    text = re.sub(r"\bdemo\b", namespace, PAGE.read_text(encoding="utf-8"))
    for kind, block in BLOCK.findall(text):
        if kind == "sh":
            found.append((block, []))
        else:
            found[-1][1].extend(block.splitlines())
    return found[1:]


def test_a_person_follows_the_tutorial(operator: Operator, namespace: str, built: Path, tmp_path: Path) -> None:
    cluster = operator.cluster
    cluster.caller(namespace)
    environment = os.environ | {
        "PATH": f"{built.parent}:{cluster.tools}:{Path(sys.executable).parent}:/usr/bin:/bin",
        "KUBECONFIG": str(cluster.kubeconfig),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "SHIV_ROOT": str(built.parent / "unpacked"),
        "HOME": str(tmp_path),
    }
    known = steps(namespace)
    assert sum(len(shown) for _, shown in known) > 10, "the page shows what comes of its commands"
    for commands, shown in known:
        ended = subprocess.run(
            ["bash", "-e", "-c", commands],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        assert ended.returncode == 0, f"{commands}\n{ended.stdout}"
        printed = [line.rstrip() for line in ended.stdout.splitlines()]
        for line in shown:
            pattern = re.sub(r"\[", "[[]", line.rstrip()).replace("…", "*")
            assert fnmatch.filter(printed, pattern), f"nothing printed is {line!r}:\n{ended.stdout}"
