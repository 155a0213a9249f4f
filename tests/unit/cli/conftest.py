"""What the tests of the plugin share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.kubectl_double import ScriptedKubectl


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedKubectl:
    return ScriptedKubectl(tmp_path, monkeypatch)
