from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import Any, get_args

import pytest

from skill_operator.api.conditions import LIMIT
from skill_operator.api.v1alpha1 import Evidence, MutantEvidence, Skill, SkillSpec
from skill_operator.reconcile.result import ConditionUpdate, Progress, Result
from skill_operator.reconcile.stages.review import COVERED_FIELDS, NOT_COVERED, review
from skill_operator.settings import Settings
from tests.unit.reconcile.samples import SETTINGS, SOURCE, observed, skill, stage_context

APPROVE = re.compile(r"skill-operator\.dev/approve=(\w+)")
SECRET = {"name": "key", "secretKeyRef": {"name": "billing", "key": "token"}}
OPEN = {"cidr": "203.0.113.0/24", "ports": [443]}
GRANTED: dict[str, Any] = {"review": "Manual", "egress": [OPEN], "secrets": [SECRET], "runtimeClassName": "gvisor"}
LIMITS = {"cpu": "1", "memory": "256Mi", "ephemeral-storage": "64Mi"}
# What of the spec an approval covers, and another value of it.
CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("spec.egress", {"egress": []}),
    ("spec.egress", {"egress": [OPEN, {"host": "api.example.com", "ports": [443]}]}),
    ("spec.egress", {"egress": [OPEN | {"ports": [443, 80]}]}),
    ("spec.egress", {"egress": [OPEN | {"cidr": "203.0.113.0/25"}]}),
    ("spec.secrets", {"secrets": []}),
    ("spec.secrets", {"secrets": [SECRET | {"disclosure": "Allowed"}]}),
    ("spec.secrets", {"secrets": [SECRET | {"secretKeyRef": {"name": "billing", "key": "other"}}]}),
    ("spec.secrets", {"secrets": [SECRET | {"secretKeyRef": {"name": "payroll", "key": "token"}}]}),
    ("spec.resources", {"resources": {"limits": LIMITS | {"memory": "4Gi"}}}),
    ("spec.resources", {"resources": {"limits": LIMITS | {"cpu": "8"}}}),
    ("runtime class", {"runtimeClassName": ""}),
    ("runtime class", {"runtimeClassName": "kata"}),
    ("spec.callTimeoutSeconds", {"callTimeoutSeconds": 3600}),
    ("spec.input", {"input": {"type": "object"}}),
    ("spec.output", {"output": {}}),
]
UNCOVERED: list[dict[str, Any]] = [
    {"description": "Says it in other words."},
    {"deterministic": False},
    {"idleTimeoutSeconds": 60},
    {"archiveAfterSeconds": 60},
    {"callLimits": {"perMinute": 5}},
    {"summary": "Use it for sums."},
    {"revisionHistoryLimit": 1},
]


def decide(of: Skill, source: str = SOURCE, settings: Settings = SETTINGS) -> tuple[Result, Progress]:
    progress = Progress(source=source)
    return review(observed(of), progress, stage_context(settings)), progress


def request(of: Skill, source: str = SOURCE, settings: Settings = SETTINGS) -> str:
    """What a reviewer reads."""
    (note,) = decide(of, source, settings)[0].conditions
    assert (note.type, note.status, note.reason) == ("Built", "Unknown", "AwaitingApproval")
    return note.message


def token(message: str) -> str:
    found = APPROVE.search(message)
    assert found is not None
    return found[1]


def approve(of: Skill, code: str) -> Skill:
    metadata = of.metadata.model_copy(update={"annotations": {"skill-operator.dev/approve": code}})
    return of.model_copy(update={"metadata": metadata})


def approved(source: str = SOURCE, settings: Settings = SETTINGS, **spec: Any) -> tuple[str, dict[str, str]]:
    """Return the token of an approval, and what the status holds of it."""
    code = token(request(skill(**spec), source, settings))
    result, progress = decide(approve(skill(**spec), code), source, settings)
    assert result.is_done
    return code, progress.status["approved"]


def changed(message: str) -> str:
    return message.partition(". Code")[0]


def test_by_default_nobody_is_asked() -> None:
    assert decide(skill())[0].is_done


def tried(reason: str = "Verified", source: str = SOURCE, **evidence: Any) -> Progress:
    """Return what the stages before leave of code that passed."""
    made = Evidence(visible=4, held_out=2, mutants=MutantEvidence(killed=9, of=9)).model_copy(update=evidence)
    verified = ConditionUpdate("Verified", "True", reason, "")
    return Progress(source=source, verified=verified, status={"evidence": made})


def ask_in_doubt(progress: Progress, of: Skill | None = None) -> str:
    """Return what a reviewer reads, or nothing where nobody is asked."""
    result = review(observed(of or skill(review="WhenInDoubt")), progress, stage_context())
    assert result.is_done == (not result.conditions)
    return "" if result.is_done else result.conditions[0].message


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (tried("WeakExamples"), "its examples leave open what is right (see Verified); nothing was approved yet."),
        (tried(mutants=MutantEvidence(skipped="Granted")), "nobody could try variants of code with egress or Secrets;"),
        (tried(mutants=MutantEvidence(skipped="NotDeterministic")), "that is not deterministic;"),
        (tried(mutants=MutantEvidence(skipped="Slow")), "that is this slow;"),
        (
            tried(mutants=MutantEvidence()),
            "no variant of the code was tried: it has none, or its check was killed first;",
        ),
        (tried(author="same"), "one agent wrote both code and examples;"),
        (Progress(source=SOURCE), "there is no evidence for this code;"),
        (replace(tried(), verified=None), "there is no evidence for this code;"),
    ],
)
def test_in_doubt_a_person_is_asked_and_told_why(progress: Progress, words: str) -> None:
    message = ask_in_doubt(progress)
    assert words in message.partition(". Code")[0] + "."
    approved_one = approve(skill(review="WhenInDoubt"), token(message))
    assert not ask_in_doubt(progress, approved_one)
    assert progress.status["review"] is not None


def test_the_doubt_is_told_to_programs_too() -> None:
    for mode, doubt in (("WhenInDoubt", "one agent wrote both code and examples"), ("Manual", "")):
        progress = tried(author="same")
        assert ask_in_doubt(progress, skill(review=mode))
        asked = progress.status["approval_request"]
        assert asked is not None
        assert asked.doubt == doubt


@pytest.mark.parametrize("opinion", ["Agrees", "NoOpinion", "NotAsked"])
def test_without_a_doubt_nobody_is_asked(opinion: str) -> None:
    progress = tried(second_opinion=opinion)
    assert not ask_in_doubt(progress)
    assert progress.status["review"] is None
    assert "approval_request" not in progress.status


def test_every_reason_to_try_no_variants_is_a_doubt() -> None:
    annotation = MutantEvidence.model_fields["skipped"].annotation
    reasons = {reason for each in get_args(annotation) for reason in get_args(each)}
    assert len(reasons) == 4
    assert all(ask_in_doubt(tried(mutants=MutantEvidence(skipped=reason))) for reason in reasons)


def test_what_a_person_rejected_runs_no_sooner_for_want_of_a_doubt() -> None:
    code = token(ask_in_doubt(tried("WeakExamples")))
    rejection = {"by": "ada", "at": "2026-11-01T00:00:00Z", "revision": "r", "message": "No.", "token": code}
    pinned = skill({"rejection": rejection}, review="WhenInDoubt", source={"inline": SOURCE})
    result = review(observed(pinned), tried(), stage_context())
    assert result.is_stalled
    assert result.conditions[0].reason == "Rejected"
    other = tried(source=SOURCE + "#")
    assert not ask_in_doubt(other, skill({"rejection": rejection}, review="WhenInDoubt"))
    assert other.status["rejection"] is None, "it was about other code"


def test_what_was_approved_goes_on_and_no_other_code() -> None:
    code, parts = approved(**GRANTED)
    other = approve(skill({"approved": parts}, **GRANTED), code)
    assert changed(request(other, SOURCE + "# and more\n")) == "changed since the last approval: code"
    assert changed(request(skill(**GRANTED))) == "nothing was approved yet"
    assert not decide(approve(skill(**GRANTED), ""))[0].is_done


@pytest.mark.parametrize(("part", "change"), CHANGES)
def test_a_change_of_what_the_code_may_do_is_approved_anew(part: str, change: dict[str, Any]) -> None:
    code, parts = approved(**GRANTED)
    message = request(approve(skill({"approved": parts}, **(GRANTED | change)), code))
    assert changed(message) == f"changed since the last approval: {part}"
    assert decide(approve(skill(**(GRANTED | change)), token(message)))[0].is_done
    assert decide(approve(skill(**GRANTED), code))[0].is_done, "what is changed back is approved still"


@pytest.mark.parametrize("change", UNCOVERED)
def test_a_change_of_anything_else_is_not(change: dict[str, Any]) -> None:
    code, _ = approved(**GRANTED)
    assert decide(approve(skill(**(GRANTED | change)), code))[0].is_done


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("base image", {"images": SETTINGS.images.model_copy(update={"runtime": "runtime@sha256:" + "3" * 64})}),
        ("runtime class", {"isolation": SETTINGS.isolation.model_copy(update={"runtime_class_name": "runc"})}),
    ],
)
def test_a_change_of_the_installation_is_approved_anew(part: str, change: dict[str, Any]) -> None:
    code, parts = approved(review="Manual")
    moved = SETTINGS.model_copy(update=change)
    message = request(approve(skill({"approved": parts}, review="Manual"), code), SOURCE, moved)
    assert changed(message) == f"changed since the last approval: {part}"


def test_every_field_of_the_spec_is_covered_or_left_out_for_a_reason() -> None:
    _, parts = approved(**GRANTED)
    covered = {name.removeprefix("spec.") for name in parts if name.startswith("spec.")}
    assert covered == set(COVERED_FIELDS)
    covered |= {"runtimeClassName", "source"}
    fields = {field.alias or name for name, field in SkillSpec.model_fields.items()}
    assert covered <= fields
    assert not covered & NOT_COVERED.keys()
    assert fields <= covered | NOT_COVERED.keys(), "say in review.py whether an approval covers it, and why not"
    assert all(NOT_COVERED.values())


def test_an_approval_is_of_one_skill_alone() -> None:
    code, _ = approved(**GRANTED)
    for name, value in (("name", "echo-2"), ("namespace", "other")):
        other = skill(**GRANTED)
        other = other.model_copy(update={"metadata": other.metadata.model_copy(update={name: value})})
        assert not decide(approve(other, code))[0].is_done


def test_the_message_names_the_hash_of_the_code_and_all_commands() -> None:
    message = request(skill(**GRANTED))
    assert hashlib.sha256(SOURCE.encode()).hexdigest() in message
    assert "kubectl get configmap -n team echo-source -o jsonpath='{.data.skill\\.py}'" in message
    assert "kubectl get skill -n team echo -o yaml" in message
    whoami = "\"$(kubectl auth whoami -o jsonpath='{.status.userInfo.username}')\""
    annotate = "kubectl annotate skill -n team echo --overwrite"
    digits = token(message)
    assert f"{annotate} skill-operator.dev/approve={digits} skill-operator.dev/approved-by={whoami}" in message
    assert "kubectl skill approve echo -n team, or" in message
    assert "kubectl skill reject echo -n team -m WORDS, or the same with" in message
    assert len(message) < LIMIT - 100, "a condition cuts it, and names may be longer"


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (
            Evidence(
                visible=4, held_out=2, promises=38, mutants=MutantEvidence(killed=18, of=20), second_opinion="Agrees"
            ),
            (
                "Evidence: passes 4 examples that the model saw and 2 that it did not; 38 made inputs; 18 of 20 mutants "
                "noticed; a second program agrees."
            ),
        ),
        (
            Evidence(visible=1, author="pinned", mutants=MutantEvidence(skipped="Granted")),
            "Evidence: passes 1 examples; 0 made inputs; no mutants tried; no second program.",
        ),
        (Evidence(second_opinion="Differs"), "a second program differs, see Verified."),
        (Evidence(second_opinion="NoOpinion"), "a second program could not be compared."),
    ],
)
def test_the_message_says_what_was_tried(evidence: Evidence, words: str) -> None:
    progress = Progress(source=SOURCE, status={"evidence": evidence})
    (note,) = review(observed(skill(**GRANTED)), progress, stage_context()).conditions
    assert words in note.message


def test_what_waits_is_told_to_programs_too() -> None:
    _, progress = decide(skill(**GRANTED))
    asked = progress.status["approval_request"]
    assert asked is not None
    assert asked.token == token(request(skill(**GRANTED)))
    assert asked.source_digest == hashlib.sha256(SOURCE.encode()).hexdigest()
    assert asked.changed == []
    _, parts = approved(**GRANTED)
    _, progress = decide(skill({"approved": parts}, **GRANTED), SOURCE + "#")
    assert progress.status["approval_request"] is not None
    assert progress.status["approval_request"].changed == ["code"]


def test_an_approval_of_before_people_gave_their_name_is_one_of_nobody() -> None:
    code, _ = approved(**GRANTED)
    result, progress = decide(approve(skill(**GRANTED), code))
    assert progress.review is not None
    assert progress.review.by == ""
    assert [event.message.partition(" approved")[0] for event in result.events] == ["somebody"]


def test_a_name_is_one_printable_line() -> None:
    code, _ = approved(**GRANTED)
    of = approve(skill(**GRANTED), code)
    of.metadata.annotations["skill-operator.dev/approved-by"] = "a\x1b[2J\nb" + "c" * 2000
    _, progress = decide(of)
    assert progress.review is not None
    assert len(progress.review.by) <= 256
    assert progress.review.by.isprintable()


def test_an_approval_cannot_be_met_by_a_second_text_that_was_searched_for() -> None:
    assert len(token(request(skill(**GRANTED)))) * 4 == 256


def rejecting(of: Skill, code: str) -> Skill:
    annotations = of.metadata.annotations | {"skill-operator.dev/reject": code, "skill-operator.dev/rejected-by": "ada"}
    return of.model_copy(update={"metadata": of.metadata.model_copy(update={"annotations": annotations})})


def in_doubt(of: Skill, progress: Progress) -> tuple[Result, Skill]:
    """Return the result, and the Skill with the status that it leaves."""
    result = review(observed(of), progress, stage_context())
    return result, of.model_copy(update={"status": of.status.model_copy(update=dict(progress.status))})


def rejected_in_doubt(**annotations: str) -> Skill:
    """A Skill whose doubtful code was rejected, and that no annotation of the rejection is left of."""
    first = skill(review="WhenInDoubt")
    metadata = first.metadata.model_copy(update={"annotations": annotations})
    first = first.model_copy(update={"metadata": metadata})
    result, left = in_doubt(rejecting(first, token(ask_in_doubt(tried("WeakExamples"), first))), tried("WeakExamples"))
    assert result.conditions[0].reason == "Rejected"
    return left.model_copy(update={"metadata": metadata})


def respecified(of: Skill, **spec: Any) -> Skill:
    return of.model_copy(update={"spec": skill(**({"review": "WhenInDoubt"} | spec)).spec})


def test_rejected_code_runs_under_no_other_spec() -> None:
    left = respecified(rejected_in_doubt(), callTimeoutSeconds=31)
    result, left = in_doubt(left, tried())
    assert result.is_stalled
    (note,) = result.conditions
    assert note.reason == "Rejected"
    assert note.message.startswith("ada rejected revision")
    assert left.status.rejected == [hashlib.sha256(SOURCE.encode()).hexdigest()]
    again, same = in_doubt(left, tried())
    assert again.is_stalled
    assert same.status == left.status, "nothing is written twice"
    lifted, left = in_doubt(approve(left, token(note.message)), tried())
    assert lifted.is_done
    assert left.status.rejected == []
    assert in_doubt(respecified(left, callTimeoutSeconds=32), tried())[0].is_done, "a person has approved the code"


def test_rejected_code_outlives_another_code_that_is_approved() -> None:
    left = rejected_in_doubt()
    other = skill(review="Manual", source={"inline": SOURCE + "#"})
    left = left.model_copy(update={"spec": other.spec})
    message = review(observed(left), tried(source=SOURCE + "#"), stage_context()).conditions[0].message
    result, left = in_doubt(approve(left, token(message)), tried(source=SOURCE + "#"))
    assert result.is_done
    assert left.status.rejection is None
    for mode in ("Manual", "WhenInDoubt"):
        result, after = in_doubt(respecified(left, review=mode), tried())
        assert result.is_stalled
        assert "the words are no longer known" in result.conditions[0].message
        assert in_doubt(after, tried())[1].status == after.status


def test_an_approval_of_before_the_rejection_lifts_nothing() -> None:
    """The code was approved, then rejected with another timeout. Back at the former one its approval still stands."""
    code = token(ask_in_doubt(tried("WeakExamples")))
    left = respecified(skill(), callTimeoutSeconds=31)
    asked = token(ask_in_doubt(tried("WeakExamples"), left))
    _, left = in_doubt(rejecting(approve(left, code), asked), tried("WeakExamples"))
    left = approve(respecified(left), code)
    for _ in range(3):
        result, left = in_doubt(left, tried())
        assert result.is_stalled
        assert "first: kubectl annotate skill -n team echo --overwrite skill-operator.dev/approve-)" in (
            result.conditions[0].message
        )
    _, left = in_doubt(approve(left, ""), tried())
    assert in_doubt(approve(left, code), tried())[0].is_done, "somebody approved it anew"


def test_of_a_contrary_answer_no_approval_is_left_once_the_rejection_is_taken_away() -> None:
    code = token(ask_in_doubt(tried("WeakExamples")))
    both = rejecting(approve(skill(review="WhenInDoubt"), code), code)
    _, left = in_doubt(both, tried("WeakExamples"))
    assert in_doubt(approve(left, code), tried("WeakExamples"))[0].is_stalled


def test_the_list_of_rejected_code_is_bounded() -> None:
    full = skill({"rejected": [f"{n:064}" for n in range(64)]}, review="WhenInDoubt")
    code = token(ask_in_doubt(tried("WeakExamples"), full))
    _, left = in_doubt(rejecting(full, code), tried("WeakExamples"))
    assert len(left.status.rejected) == 64
    assert left.status.rejected[0] == hashlib.sha256(SOURCE.encode()).hexdigest()
