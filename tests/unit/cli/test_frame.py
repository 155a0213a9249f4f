"""The plugin as a whole: what it imports, which Python it runs on, and what its build is made of."""

from __future__ import annotations

import ast
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from hack import cli
from kubectl_skill.app import VERBS

ROOT = Path(__file__).parents[3]
SOURCES = ROOT / "cli" / "src" / "kubectl_skill"
DOOR = {"output.py"}  # the one door for text


def test_it_runs_on_the_oldest_python() -> None:
    """vermin knows which version each name of the language and its library came with."""
    files = [str(path) for path in (SOURCES, *cli.operator_modules())]
    command = [str(Path(sys.executable).parent / "vermin"), "-t=3.10-", "--no-tips", "--violations", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_vermin_finds_what_is_planted(tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text("from datetime import UTC\nprint(UTC)\n")
    command = [str(Path(sys.executable).parent / "vermin"), "-t=3.10-", "--no-tips", str(tmp_path / "planted.py")]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize("path", sorted(SOURCES.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCES)))
def test_nothing_writes_past_the_one_door(path: Path) -> None:
    """`print`, `typer.echo` and a stream's `write` would let what others wrote reach a terminal as it is."""
    if path.name in DOOR:
        return
    found = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and node.func.id == "print")
            or (isinstance(node.func, ast.Attribute) and node.func.attr in {"echo", "secho"})
            or (
                isinstance(node.func, ast.Attribute)
                and ast.unparse(node.func).startswith(("sys.stdout.write", "sys.stderr.write"))
            )
        )
    ]
    assert not found, f"{path}: lines {found}"


def test_a_verb_is_imported_when_it_is_asked_for() -> None:
    program = "import sys, kubectl_skill.app; print([m for m in sys.modules if m.startswith('kubectl_skill.verbs.')], 'pydantic' in sys.modules, 'rich' in sys.modules)"
    environment = {"PYTHONPATH": f"{ROOT}/cli/src:{ROOT}/operator/src", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[] False False"


def test_every_verb_has_one_line_in_the_list() -> None:
    names = [verb.name for verb in VERBS]
    assert len(set(names)) == len(names)
    modules = {path.stem for path in (SOURCES / "verbs").glob("*.py")} - {"__init__"}
    assert modules == {verb.module for verb in VERBS}


def test_the_closure_of_imports_is_found() -> None:
    names = {str(path.relative_to(cli.OPERATOR)) for path in cli.operator_modules()}
    assert {"skill_operator/__init__.py", "skill_operator/api/v1alpha1.py", "skill_operator/untrusted/text.py"} <= names
    assert not any(
        name.startswith(("skill_operator/gateway", "skill_operator/k8s", "skill_operator/settings")) for name in names
    )


def test_an_archive_is_the_same_bytes_whenever_it_is_made(tmp_path: Path) -> None:
    file = tmp_path / "plugin"
    file.write_text("x")
    file.chmod(0o755)
    one, other = tmp_path / "one.tar.gz", tmp_path / "other.tar.gz"
    cli.archive(one, file)
    file.touch()
    cli.archive(other, file)
    assert one.read_bytes() == other.read_bytes()
    with tarfile.open(one) as tar:
        (member,) = tar.getmembers()
        assert (member.name, member.mode, member.uid) == ("plugin", 0o755, 0)


def test_the_manifest_names_version_address_and_digest(tmp_path: Path) -> None:
    package = tmp_path / "kubectl-skill-v1.2.3.tar.gz"
    package.write_bytes(b"x")
    made = yaml.safe_load(cli.manifest("1.2.3", "https://example.com/dl", package))
    (platform,) = made["spec"]["platforms"]
    assert made["spec"]["version"] == "v1.2.3"
    assert platform["uri"] == "https://example.com/dl/v1.2.3/kubectl-skill-v1.2.3.tar.gz"
    assert platform["sha256"] == "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    assert '"$(command -v kubectl-skill)"' in made["spec"]["caveats"]


def test_the_lock_holds_one_version_of_each_library_with_hashes() -> None:
    lines = [line for line in cli.LOCK.read_text().splitlines() if "==" in line and not line.startswith("#")]
    names = [line.partition("==")[0] for line in lines]
    assert len(set(names)) == len(names), "a version for each Python could not lie in one folder"
    assert not [line for line in lines if "python_full_version" in line]
    assert all(line.rstrip().endswith("\\") for line in lines)


def test_versions_agree() -> None:
    operator = (ROOT / "operator" / "pyproject.toml").read_text()
    assert f'version = "{cli.read_version()}"' in operator
