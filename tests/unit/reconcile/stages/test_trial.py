"""A new revision takes over once it has answered its visible examples in a pod of its own, and not before."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any

import pytest

from skill_operator import naming
from skill_operator.api.v1alpha1 import Skill
from skill_operator.generation.holdout import split_examples
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import Progress, Result
from skill_operator.reconcile.rollout import make_deployment
from skill_operator.reconcile.stages.trial import try_revision
from skill_operator.reconcile.writer import applied_digest
from skill_operator.resources import check
from skill_operator.resources import trial as resource
from tests.unit.reconcile.samples import DIGEST, NOW, SETTINGS, observed, pod, skill, stage_context

OLD, NEW = "1" * 64, "2" * 64
IMAGE = f"localhost:30500/skills/team/echo@{DIGEST}"
OPEN = [{"cidr": "203.0.113.0/24", "ports": [443]}]
SECRET = [{"name": "key", "secretKeyRef": {"name": "billing", "key": "token"}}]


def live(of: Skill | None = None, rev: str = OLD) -> dict[str, Any]:
    return make_deployment(observed(of or skill()), Progress(revision=rev, image=IMAGE), SETTINGS)


def state(of: Skill | None = None, **more: Any) -> Observed:
    return observed(of or skill(), **({"deployment": live()} | more))


def decide(of: Observed, rev: str = NEW, seconds: float = 0) -> tuple[Result, Progress]:
    progress = Progress(revision=rev, image=IMAGE)
    return try_revision(of, progress, stage_context(now=NOW + timedelta(seconds=seconds))), progress


def started(of: Observed | None = None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The Job of a trial, with a uid as the API server gives it, and what was applied."""
    result, _ = decide(of or state())
    (job,) = result.create
    job["metadata"]["uid"] = f"uid-{job['metadata']['name']}"
    return job, list(result.apply)


def with_job(job: dict[str, Any], *pods: dict[str, Any], of: Skill | None = None, **more: Any) -> Observed:
    return state(of, jobs={job["metadata"]["name"]: job}, pods=pods, **more)


def ended(job: dict[str, Any], **end: Any) -> dict[str, Any]:
    return pod(job["metadata"]["name"], {"exitCode": 0, **end})


def report(job: dict[str, Any], of: Skill | None = None, key: str = "", **more: Any) -> str:
    """The last message of a trial's pod."""
    skill_ = of or skill()
    subject = check.subject(resource.request(skill_, skill_.spec.examples))
    text = json.dumps({"subject": subject, "passed": True, **more})
    (container,) = job["spec"]["template"]["spec"]["containers"]
    key = key or next(e["value"] for e in container["env"] if e["name"] == "SKILL_REPORT_KEY")
    return json.dumps({"report": text, "mac": hmac.new(bytes.fromhex(key), text.encode(), hashlib.sha256).hexdigest()})


def test_there_is_no_trial_without_an_earlier_revision() -> None:
    result, progress = decide(observed())
    assert result.is_done
    assert result.create == ()
    assert progress.status["trial"] is None


@pytest.mark.parametrize("spec", [{"egress": OPEN}, {"secrets": SECRET}, {"examples": []}])
def test_there_is_no_trial_where_an_example_could_do_something(spec: dict[str, Any]) -> None:
    result, _ = decide(state(skill(**spec)))
    assert result.is_done
    assert result.create == ()


def test_what_runs_is_not_tried_again() -> None:
    result, _ = decide(state(), OLD)
    assert result.is_done
    assert result.create == ()


@pytest.mark.parametrize(
    "spec",
    [
        {"callTimeoutSeconds": 7},
        {"output": {"type": "object", "required": ["said"]}},
        {"resources": {"limits": {"memory": "512Mi"}}},
        {"runtimeClassName": "kata"},
    ],
)
def test_a_new_contract_or_limit_is_tried_too(spec: dict[str, Any]) -> None:
    assert decide(state(skill(**spec)), OLD)[0].create


def test_a_deployment_that_a_webhook_changes_is_not_tried_for_ever() -> None:
    wanted = live(rev=NEW)
    changed = live(rev=NEW)
    changed["metadata"]["annotations"] = {naming.APPLIED_ANNOTATION: applied_digest(wanted)}
    changed["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "9"}}
    wanted_now = make_deployment(state(deployment=changed), Progress(revision=NEW, image=IMAGE), SETTINGS)
    assert applied_digest(wanted_now) == applied_digest(wanted), "whatever its replicas"
    assert decide(state(deployment=changed))[0].create == ()
    del changed["metadata"]["annotations"]
    assert decide(state(deployment=changed))[0].create


def test_its_pod_is_like_one_of_the_deployment_and_gets_no_call() -> None:
    job, applied = started()
    wanted = make_deployment(state(), Progress(revision=NEW, image=IMAGE), SETTINGS)["spec"]["template"]
    template = job["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert labels["app.kubernetes.io/component"] == "trial"
    assert labels["app.kubernetes.io/managed-by"] == "skill-operator", "the namespace's default deny selects it"
    assert not naming.selector("u-1").items() <= labels.items()
    (mine,), (serving,) = template["spec"]["containers"], wanted["spec"]["containers"]
    for same in ("image", "resources", "securityContext", "volumeMounts", "name"):
        assert mine[same] == serving[same]
    for same in ("volumes", "securityContext", "hostUsers", "serviceAccountName", "dnsPolicy"):
        assert template["spec"][same] == wanted["spec"][same]
    assert mine["command"][-1] == "trial"
    assert not {"startupProbe", "readinessProbe", "lifecycle"} & mine.keys()
    assert template["spec"]["restartPolicy"] == "Never"
    assert job["spec"]["backoffLimit"] == 0
    contract, examples = applied
    assert {"name": "contract", "configMap": {"name": contract["metadata"]["name"]}} in template["spec"]["volumes"]
    assert list(examples["data"]) == ["part0"]


def test_hidden_examples_stay_out_of_it() -> None:
    many = [{"name": f"e{n}", "input": {"what": str(n)}, "output": {"said": str(n)}} for n in range(9)]
    job, (_, examples) = started(state(skill(examples=many)))
    content = json.loads(gzip.decompress(base64.b64decode("".join(examples["data"].values()))))
    visible, hidden = split_examples(skill(examples=many).spec.examples)
    assert [each["name"] for each in content["examples"]] == [each.name for each in visible]
    assert hidden
    assert job["spec"]["activeDeadlineSeconds"] == 60 + 9 * 30


def test_meanwhile_the_status_knows_the_image_and_who_serves() -> None:
    of = skill({"revision": "1111111111"})
    result, progress = decide(state(of))
    (condition,) = result.conditions
    assert (condition.type, condition.status, condition.reason) == ("Deployed", "Unknown", "Trial")
    assert "; 1111111111 serves meanwhile" in condition.message
    trial = progress.status["trial"]
    assert trial is not None
    assert (trial.revision, trial.revision_digest, trial.image, trial.failure) == (NEW[:10], NEW, IMAGE, "")
    assert "revision" not in progress.status, "what runs is the earlier one"


def test_a_trial_that_passed_lets_the_roll_out_go_on() -> None:
    job, _ = started()
    result, progress = decide(with_job(job, ended(job, message=report(job))))
    assert result.is_done
    assert progress.status["trial"] is None
    assert result.delete == (), "it stays until the Deployment is written"
    after, _ = decide(with_job(job, deployment=live(rev=NEW)))
    assert [ref.kind for ref in after.delete] == ["Job"]


def test_a_trial_that_failed_names_the_example_and_is_not_repeated() -> None:
    job, _ = started()
    message = report(job, passed=False, gate="examples", message="example 'one' expects 1\ngot 2")
    result, progress = decide(with_job(job, ended(job, message=message)))
    (condition,) = result.conditions
    assert result.is_stalled
    assert (condition.status, condition.reason) == ("False", "TrialFailed")
    assert "example 'one' expects 1; got 2" in condition.message
    assert [ref.name for ref in result.delete] == [job["metadata"]["name"]]
    trial = progress.status["trial"]
    assert trial is not None
    again = skill({"trial": trial.model_dump(mode="json", by_alias=True)})
    repeated, kept = decide(state(again))
    assert repeated.is_stalled
    assert repeated.create == ()
    assert repeated.conditions == result.conditions
    assert kept.status["trial"] == trial
    meta = again.metadata.model_copy(update={"annotations": {naming.RETRY_ANNOTATION: "1"}})
    assert decide(state(again.model_copy(update={"metadata": meta})))[0].create, "a person may ask for another"
    assert decide(state(again), "3" * 64)[0].create, "another revision has a trial of its own"


def test_a_pod_that_uses_too_much_memory_fails_at_once() -> None:
    job, _ = started()
    result, _ = decide(with_job(job, ended(job, exitCode=137, reason="OOMKilled")))
    assert result.is_stalled
    assert "spec.resources.limits.memory" in result.conditions[0].message


def test_a_report_counts_although_the_kernel_ended_a_process_of_the_pod() -> None:
    """The runtime of containers says OOMKilled of a container that lost any process so, and ended by itself."""
    job, _ = started()
    message = report(job, passed=False, gate="examples", message="example 'greedy' expects 1")
    result, _ = decide(with_job(job, ended(job, reason="OOMKilled", message=message)))
    assert result.is_stalled
    assert "'greedy'" in result.conditions[0].message


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{}",
        '{"report": "{\\"passed\\": true}", "mac": "00"}',
        "no JSON",
    ],
)
def test_a_report_that_nobody_signed_is_none(message: str) -> None:
    job, _ = started()
    result, _ = decide(with_job(job, ended(job, message=message)))
    assert not result.is_done
    assert result.conditions[0].reason == "Trial"


def test_a_report_about_something_else_is_none() -> None:
    job, _ = started()
    for signed in (report(job, subject="0" * 64), report(job, key="ab" * 32)):
        assert not decide(with_job(job, ended(job, message=signed)))[0].is_done


def test_a_pod_of_a_former_job_counts_for_nothing() -> None:
    job, _ = started()
    old = ended(job, message=report(job))
    old["metadata"]["ownerReferences"][0]["uid"] = "former"
    result, _ = decide(with_job(job, old))
    assert not result.is_done
    assert result.create == ()


def test_trials_without_a_report_are_made_again_and_then_fail() -> None:
    job, _ = started()
    for failures in (0, 1):
        assert job["metadata"]["annotations"].get(naming.FAILURES_ANNOTATION, "0") == str(failures)
        end = ended(job, exitCode=1, message="boom", finishedAt=NOW.isoformat())
        waiting, _ = decide(with_job(job, end))
        assert waiting.create == ()
        assert waiting.after
        result, _ = decide(with_job(job, end), seconds=60)
        (job,) = result.create
        job["metadata"]["uid"] = f"uid-{job['metadata']['name']}"
    result, _ = decide(with_job(job, ended(job, exitCode=1, message="boom")), seconds=120)
    assert result.is_stalled
    assert "3 trials ended without a report" in result.conditions[0].message
    assert "boom" in result.conditions[0].message


def test_a_trial_that_takes_too_long_failed() -> None:
    job, _ = started()
    job["status"] = {
        "conditions": [
            {
                "type": "Failed",
                "status": "True",
                "reason": "DeadlineExceeded",
                "message": "Job was active longer than specified deadline",
                "lastTransitionTime": NOW.isoformat(),
            }
        ]
    }
    assert decide(with_job(job))[0].is_stalled


def test_a_pod_that_cannot_start_is_told_and_waited_for() -> None:
    job, _ = started()
    unscheduled = pod(
        job["metadata"]["name"],
        state={},
        conditions=[{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}],
    )
    result, _ = decide(with_job(job, unscheduled))
    assert not result.is_stalled
    assert (result.conditions[0].status, result.conditions[0].reason) == ("Unknown", "Unschedulable")
    assert result.after


def test_open_egress_stops_the_roll_out() -> None:
    job, _ = started()
    result, _ = decide(with_job(job, ended(job, exitCode=3, message="{}")))
    assert result.is_stalled
    assert {(c.type, c.reason) for c in result.conditions} == {
        ("Deployed", "EgressNotBlocked"),
        ("Isolated", "EgressNotBlocked"),
    }


def test_trials_of_former_revisions_go() -> None:
    job, _ = started()
    result, _ = decide(with_job(job), "3" * 64)
    assert [ref.name for ref in result.delete] == [job["metadata"]["name"]]
