"""The opinion stage: one Job that holds both programs, and a condition that loses nothing of the check's."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest

from skill_operator.generation.ledger import SecondOpinion
from skill_operator.reconcile import comparison
from skill_operator.reconcile.result import ConditionUpdate, Progress
from skill_operator.reconcile.stages.check import examine, make_job
from skill_operator.reconcile.stages.opinion import weigh_opinion
from skill_operator.resources import check as resource
from tests.unit.reconcile.samples import NOW, SETTINGS, SOURCE, observed, skill

OTHER = SOURCE + "# otherwise\n"
OPINION = SecondOpinion(state="candidate", number=2, endpoint="main", source=OTHER, since=NOW)
CHECKED = "policy, lint and types hold; 1 of 1 examples pass"


def progress(opinion: SecondOpinion | None = OPINION, reason: str = "Verified", message: str = CHECKED) -> Progress:
    verified = ConditionUpdate("Verified", "True", reason, message)
    return Progress(source=SOURCE, opinion=opinion, verified=verified)


def test_the_job_reads_the_second_program_and_mounts_both_read_only() -> None:
    content = comparison.build_content(skill(), progress())
    assert content is not None
    config_map = resource.config_map(skill(), "compared", content)
    assert (config_map["data"]["skill.py"], config_map["data"]["reference.py"]) == (OTHER, SOURCE)
    request = json.loads(gzip.decompress(base64.b64decode(config_map["data"]["part0"])))
    assert (request["source"], request["reference"]) == (OTHER, SOURCE)
    pod = make_job(observed(), SETTINGS, config_map, 0)["spec"]["template"]["spec"]
    (reading,), (running,) = pod["initContainers"], pod["containers"]
    mounts = {mount["mountPath"]: mount for mount in running["volumeMounts"]}
    assert mounts["/skill/skill.py"]["readOnly"]
    assert mounts["/skill/reference.py"]["readOnly"]
    assert "/skill" not in str(reading["volumeMounts"]), "what reads the code runs none of it"


def test_a_check_mounts_no_second_program() -> None:
    result, _ = examine(observed(), Progress(source=SOURCE), SETTINGS, NOW)
    assert "reference" not in str(result.create)
    assert "reference" not in str(result.apply)


def test_the_comparison_is_none_of_the_checks_that_are_swept() -> None:
    content = comparison.build_content(skill(), progress())
    name = comparison.job_name(skill(), SETTINGS, content)
    job = {"kind": "Job", "metadata": {"name": name, "labels": {"app.kubernetes.io/component": "check"}}}
    state = observed(jobs={name: job})
    assert not examine(state, progress(), SETTINGS, NOW)[0].delete
    swept = examine(state, progress(OPINION.model_copy(update={"state": "none"})), SETTINGS, NOW)[0].delete
    assert [ref.name for ref in swept] == [name]


def test_nothing_is_added_where_there_is_no_opinion() -> None:
    result = weigh_opinion(observed(), progress(None), None)  # type: ignore[arg-type]
    assert result.is_done
    assert result.conditions == ()


@pytest.mark.parametrize("reason", ["Verified", "WeakExamples"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"state": "agrees"}, "A second program, by main, agrees"),
        ({"state": "none", "message": "it is late"}, "cannot be compared: it is late"),
        ({"state": "skipped", "message": "no attempt is left"}, "No second program was requested: no attempt is left"),
    ],
)
def test_what_the_check_said_stays(reason: str, change: dict[str, Any], words: str) -> None:
    ended = progress(OPINION.model_copy(update=change), reason, "What the check says.")
    (condition,) = weigh_opinion(observed(), ended, None).conditions  # type: ignore[arg-type]
    assert (condition.status, condition.reason) == ("True", reason)
    assert condition.message.startswith("What the check says. ")
    assert words in condition.message
