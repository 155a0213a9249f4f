"""The contract between operator and runtime: its two modules and its page are equal, and nothing else spells it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from skill_operator import naming, runtime_contract
from skill_operator.reconcile.check_report import CheckReport, ReportedQuestion
from skill_runtime import operator_contract, zygote
from skill_runtime.check import findings, import_statements, questions

ROOT = Path(__file__).parents[2]
SOURCES = (ROOT / "operator/src/skill_operator", ROOT / "base-image/src/skill_runtime")
PAGE = ROOT / "docs/runtime-contract.md"
ROW = re.compile(r"^\| `([A-Z_]+)` \| `(.+?)` \| .+ \|$", re.MULTILINE)

ONCE = {
    operator_contract.CONTRACT_DIRECTORY,
    operator_contract.CONTRACT_FILE,
    operator_contract.CONTRACT_OPEN_SECRETS,
    operator_contract.ENVELOPE_MAC,
    operator_contract.ENV_HTTPS_PROXY,
    operator_contract.ENV_HTTP_PROXY,
    operator_contract.ENV_NO_PROXY,
    operator_contract.MANIFEST_DISTRIBUTIONS,
    operator_contract.MANIFEST_LABEL,
    operator_contract.MANIFEST_ROOT_ENTRIES,
    operator_contract.REPORT_PASSED_EXAMPLES,
    operator_contract.REPORT_TOTAL_EXAMPLES,
}
"""Values that are no everyday words: a literal that equals one of them belongs to the contract."""
INSIDE = re.compile(r"\bSKILL_[A-Z]+|/run/secrets/skill\b|(?i:\bX-Skill-(?:Caller|Deadline)|\bX-Request-Id)")
"""Parts that no literal may contain."""
GATEWAY_API = ROOT / "operator/src/skill_operator/gateway/http"
ELSEWHERE = {
    SOURCES[0] / "runtime_contract.py": "the contract",
    SOURCES[1] / "operator_contract.py": "the contract",
    SOURCES[0] / "settings.py": "SKILL_OPERATOR_SETTINGS is the operator's own",
    SOURCES[1] / "settings.py": "settings of the runtime that only tests use",
    GATEWAY_API: "the gateway's own API has a request id, too",
}
FOLLOWERS = {
    "GATES": "a Literal stands for the names of gates",
    "QUESTION_KINDS": "a Literal stands for the kinds of questions",
}
"""Entries that no module reads, and why."""


def constants(module: object) -> dict[str, object]:
    return {name: value for name, value in vars(module).items() if name.isupper()}


def literals(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each string of a module that is no docstring."""
    tree = ast.parse(path.read_text())
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in documentation:
            if isinstance(node.value, str):
                yield node.lineno, node.value
            elif isinstance(node.value, bytes):
                yield node.lineno, node.value.decode("latin-1")


def modules() -> Iterator[Path]:
    for source in SOURCES:
        for path in sorted(source.rglob("*.py")):
            if not any(path.is_relative_to(other) for other in ELSEWHERE):
                yield path


def test_both_sides_and_the_page_say_the_same():
    page = ROW.findall(PAGE.read_text())
    assert constants(runtime_contract) == constants(operator_contract)
    assert len(page) == len({name for name, _ in page})
    assert dict(page) == {
        name: " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for name, value in constants(operator_contract).items()
    }


def test_every_entry_is_read_by_a_module():
    code = "".join(path.read_text() for path in (*modules(), SOURCES[1] / "settings.py"))
    assert {name for name in constants(operator_contract) if not re.search(rf"\.{name}\b", code)} == {*FOLLOWERS}


def test_no_other_module_spells_the_contract():
    spelled = [
        f"{path.relative_to(ROOT)}:{line}: {text!r}"
        for path in modules()
        for line, text in literals(path)
        if text in ONCE or INSIDE.search(text)
    ]
    assert not spelled, "use the constants of the contract"


def test_no_exit_code_is_compared_with_a_number():
    assert not [path for path in modules() if re.search(r"exitCode\W{1,4}[!=]= [1-9]", path.read_text())]


def test_what_cannot_read_the_contract_follows_it():
    """Types, programs with few imports, the report's model, the image, and the API of the gateway."""
    assert get_args(findings.Gate) == operator_contract.GATES
    assert {field.alias or name for name, field in CheckReport.model_fields.items()} == {
        value for name, value in constants(operator_contract).items() if name.startswith("REPORT_")
    }
    skipped = CheckReport.model_fields["mutants_skipped"].annotation
    assert get_args(get_args(skipped)[0]) == operator_contract.MUTANTS_SKIPPED_REASONS
    assert get_args(questions.QuestionKind) == operator_contract.QUESTION_KINDS
    assert get_args(ReportedQuestion.model_fields["kind"].annotation) == operator_contract.QUESTION_KINDS
    assert {*ReportedQuestion.model_fields} == {
        value
        for name, value in constants(operator_contract).items()
        if name.startswith("QUESTION_") and name != "QUESTION_KINDS"
    }
    assert zygote._SYNTHETIC_TYPES == import_statements._TYPES == operator_contract.TYPES_MODULE
    assert operator_contract.MANIFEST_LABEL.partition("/")[0] == naming.GROUP
    gateway = {text for path in GATEWAY_API.parent.rglob("*.py") for _, text in literals(path)}
    assert gateway >= {operator_contract.HEADER_REQUEST_ID.lower(), operator_contract.HEADER_TRACEPARENT}
    dockerfile = (ROOT / "base-image/Dockerfile").read_text()
    assert f"USER {operator_contract.SANDBOX_UID}:{operator_contract.SANDBOX_UID}\n" in dockerfile
    assert f"EXPOSE {operator_contract.HTTP_PORT}\n" in dockerfile
    assert f"> {operator_contract.SKILL_DIRECTORY}/{operator_contract.MANIFEST_FILE} " in dockerfile
    assert f'"{operator_contract.MANIFEST_LABEL}"' in (ROOT / "hack/images.py").read_text()


@pytest.mark.parametrize("text", ["'SKILL_NEW'", "f'X-Skill-Caller: {1}'", "b'x-skill-deadline-ms'", "'rootEntries'"])
def test_a_literal_of_the_contract_is_found(tmp_path, text):
    (tmp_path / "planted.py").write_text(f'"""SKILL_NEW may stand in a docstring."""\nx = {text}\n')
    ((line, found),) = [(n, t) for n, t in literals(tmp_path / "planted.py") if t in ONCE or INSIDE.search(t)]
    assert line == 2
    assert found in text
