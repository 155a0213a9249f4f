"""The table of reasons is what the code uses: no reason without an explanation, no explanation without a reason."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from skill_operator.api import conditions
from skill_operator.api.reasons import CONDITIONS, EVENT, REASONS

PACKAGE = Path(conditions.__file__).parents[1]
# Where conditions and events are made. Whoever makes one elsewhere adds the place.
FOLDERS = ("reconcile", "generation", "isolation", "registry")
FILES = ("k8s/pod_status.py",)
NO_PLACE = {"generation/typed_dicts.py": "writes Python, whose words look like reasons"}

WORD = re.compile(r"[A-Z]{1,4}[a-z]+[A-Za-z]*")
TYPES = {value for name, value in vars(conditions).items() if name.isupper() and isinstance(value, str)}
# Words that look like reasons and are Kubernetes' or the spec's own.
KINDS = frozenset({
    "ConfigMap", "Deployment", "EndpointSlice", "Event", "Job", "Lease", "LocalSubjectAccessReview", "Namespace",
    "NetworkPolicy", "Node", "Pod", "PriorityClass", "ResourceQuota", "RuntimeClass", "Secret", "Service",
    "ServiceAccount", "ServiceCIDR", "Skill", "SubjectAccessReview", "TokenReview",
})  # fmt: skip
STATES = frozenset({
    "Complete", "ContainerCreating", "CrashLoopBackOff", "CreateContainerConfigError", "CreateContainerError",
    "EmptyDir", "ErrImageNeverPull", "ErrImagePull", "Failed", "FailedCreatePodSandBox", "FailedMount",
    "FailureTarget", "ImagePullBackOff", "InvalidImageName", "PodInitializing", "PodScheduled", "ProbeWarning",
    "ReplicaFailure", "RunContainerError", "Running", "Succeeded", "SuccessCriteriaMet", "Unhealthy",
})  # fmt: skip
VALUES = frozenset({
    "Accept", "Agrees", "Allowed", "Always", "Authorization", "Auto", "Automatic", "Differs", "Exists", "ExternalIP",
    "False", "Granted", "Host", "InternalIP", "Labels", "Manual", "Memory", "Never", "NoOpinion", "None", "Normal", "NotAsked",
    "NotDeterministic", "NotImplementedError", "Redacted", "Required", "Slow", "True", "Unknown", "Warning", "WhenInDoubt",
})  # fmt: skip
# Reasons that Kubernetes gives, and that are passed on as they are.
PASSED_ON = {"BackoffLimitExceeded": "of a Job whose pod failed", "DeadlineExceeded": "of a Job that ran too long"}
# The classes that a condition is made with: type, status, reason.
MAKERS = {"ConditionUpdate"}
# Whatever else a reason is put into.
HOLDERS = MAKERS | {"EventNote", "IsolationVerdict", "JobOutcome", "PodProblem", "Stop", "Wait", "set_condition"}


def places() -> Iterator[tuple[str, ast.Module]]:
    """Yield path and tree of every file in which conditions and events are made."""
    paths = [*(path for folder in FOLDERS for path in (PACKAGE / folder).rglob("*.py")), *(PACKAGE / f for f in FILES)]
    for path in sorted(paths):
        name = str(path.relative_to(PACKAGE))
        if name not in NO_PLACE:
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def words(tree: ast.AST) -> set[str]:
    """Return the texts of a tree that look like a reason."""
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return {text for text in texts if WORD.fullmatch(text)} - KINDS - VALUES


def called(node: ast.AST) -> str:
    """Return the name of what a call calls, and nothing of what is no call."""
    return getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""


def unexplained(name: str, tree: ast.AST) -> list[str]:
    """Return the words of a file that may be reasons and are in no table."""
    return [f"{name}: {word}" for word in sorted(words(tree) - REASONS.keys() - STATES - TYPES)]


def misplaced(name: str, tree: ast.AST) -> list[str]:
    """Return the literal reasons of conditions on whose type the table does not have them."""
    found = []
    for node in ast.walk(tree):
        if called(node) not in MAKERS or not isinstance(node, ast.Call):
            continue
        match node.args:
            case [ast.Name(id=type_) | ast.Attribute(attr=type_), _, ast.Constant(value=reason), *_] if type_.isupper():
                type_ = getattr(conditions, type_)
                if reason in REASONS and type_ not in REASONS[reason].conditions and reason != "Pending":
                    found.append(f"{name}:{node.lineno}: {reason} on {type_}")
    return found


def test_reasons_are_given_nowhere_else() -> None:
    known = {name for name, _ in places()}
    everywhere = {str(path.relative_to(PACKAGE)): path for path in PACKAGE.rglob("*.py")}
    givers = {
        name
        for name, path in everywhere.items()
        if any(called(node) in HOLDERS for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert sorted(givers - known) == []
    assert len(givers) > 5


def test_every_reason_of_the_code_is_explained() -> None:
    assert [line for name, tree in places() for line in unexplained(name, tree)] == []


def test_every_explained_reason_is_one_of_the_code() -> None:
    used = set().union(*(words(tree) for _, tree in places()))
    assert sorted(REASONS.keys() - used - PASSED_ON.keys()) == []


def test_reasons_are_explained_for_the_conditions_they_appear_on() -> None:
    assert [line for name, tree in places() for line in misplaced(name, tree)] == []


def test_every_type_of_condition_is_explained() -> None:
    assert CONDITIONS.keys() == TYPES


def test_a_reason_that_nobody_explained_is_found() -> None:
    planted = ast.parse("ConditionUpdate(BUILT, 'False', 'PlantedReason', f'{why}')")
    assert unexplained("planted.py", planted) == ["planted.py: PlantedReason"]


def test_a_reason_on_another_condition_is_found() -> None:
    planted = ast.parse("ConditionUpdate(api.BUILT, 'False', 'Asleep', '')")
    assert misplaced("planted.py", planted) == ["planted.py:1: Asleep on Built"]


@pytest.mark.parametrize("name", REASONS)
def test_an_explanation_is_complete(name: str) -> None:
    reason = REASONS[name]
    assert re.fullmatch(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", name), "what the API server takes for a reason"
    assert reason.conditions
    assert set(reason.conditions) <= TYPES | {EVENT}
    for text in (reason.meaning, reason.action):
        assert text.endswith(".")
        assert "|" not in text, "it would break the table of the page"
        assert all(len(sentence.split()) <= 20 for sentence in re.split(r"(?<=[.:]) ", text))
