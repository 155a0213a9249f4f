from __future__ import annotations

from typing import Any

import pytest

from skill_operator.api.conditions import LIMIT
from skill_operator.k8s import pod_status
from skill_operator.reconcile.observed import Observed
from skill_operator.reconcile.result import Progress, Ref, Result
from skill_operator.reconcile.stages.grants import require_grants
from skill_operator.resources import check, contract
from skill_operator.resources.service_account import may_get_secret, service_account
from tests.unit.reconcile.samples import SETTINGS, observed, skill, stage_context


def grants(state: Observed) -> Result:
    return require_grants(state, Progress(), stage_context())


SECRETS = [{"name": "api-key", "secretKeyRef": {"name": "billing", "key": "token"}}]


def test_without_secrets_nothing_is_asked_again() -> None:
    assert (grants(observed()).is_done, grants(observed()).after) == (True, None)


def test_a_grant_is_looked_at_again_since_no_event_tells_of_its_end() -> None:
    result = grants(observed(skill(secrets=SECRETS)))
    assert result.is_done
    assert result.after is not None


def test_what_is_not_granted_stops_the_skill_and_says_what_to_write() -> None:
    result = grants(observed(skill(secrets=SECRETS), ungranted=("billing",)))
    assert (result.is_done, result.is_stalled, result.delete) == (False, True, ())
    (note,) = result.conditions
    assert (note.type, note.status, note.reason) == ("Deployed", "False", "SecretNotGranted")
    assert "kubectl create role -n team skill-echo-reads-billing --verb=get --resource=secrets" in note.message
    assert "--resource-name=billing" in note.message
    assert "--serviceaccount=team:skill-echo" in note.message


def test_the_command_fits_a_condition_however_many_there_are() -> None:
    names = tuple(sorted(f"{'n' * 50}-{number}" for number in range(16)))
    (note,) = grants(observed(skill(secrets=SECRETS), ungranted=names)).conditions
    assert "12 more" in note.message
    assert len(note.message) <= LIMIT
    assert note.message.endswith("--serviceaccount=team:skill-echo")


def test_a_revoked_grant_ends_the_pods() -> None:
    live = {"metadata": {"name": "skill-echo"}, "spec": {}}
    result = grants(observed(skill(secrets=SECRETS), ungranted=("billing",), deployment=live))
    assert result.delete == (Ref("Deployment", "team", "skill-echo"),)
    assert {f.type: f.status for f in result.conditions} == {"Deployed": "False", "Active": "False"}


def test_the_question_is_about_the_very_account_of_the_skill() -> None:
    review = may_get_secret(skill(), "billing")
    account = service_account(skill())["metadata"]
    assert review["spec"]["user"] == f"system:serviceaccount:{account['namespace']}:{account['name']}"
    assert review["spec"]["resourceAttributes"] == {
        "namespace": "team", "verb": "get", "version": "v1", "resource": "secrets", "name": "billing"
    }  # fmt: skip


def test_a_check_meets_placeholders_alone() -> None:
    of = skill(secrets=SECRETS)
    content = check.bundle(of, "source", "types", [], [])
    made = [check.config_map(of, "c", content), check.job(of, SETTINGS, "c", 1, "00", user_namespace=True)]
    assert "billing" not in str(made)
    pod = made[1]["spec"]["template"]["spec"]
    (volume,) = [v for v in pod["volumes"] if v["name"] == "secrets"]
    ((source,), of_owner) = (volume["projected"][key] for key in ("sources", "defaultMode"))
    assert source["downwardAPI"]["items"] == [{"path": "api-key", "fieldRef": {"fieldPath": "metadata.uid"}}]
    assert of_owner == 0o400
    (mount,) = [m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "secrets"]
    assert (mount["mountPath"], mount["readOnly"]) == ("/run/secrets/skill", True)
    assert check.key(SETTINGS, content) != check.key(SETTINGS, check.bundle(skill(), "source", "types", [], []))


def test_what_an_answer_may_carry_is_in_the_contract() -> None:
    assert "openSecrets" not in contract.text(skill(secrets=SECRETS))
    assert '"openSecrets": ["api-key"]' in contract.text(skill(secrets=[SECRETS[0] | {"disclosure": "Allowed"}]))


@pytest.mark.parametrize(
    ("reason", "message", "told"),
    [
        ("FailedMount", 'MountVolume.SetUp failed for volume "secrets" : secret "billing" not found', "SecretMissing"),
        ("FailedMount", 'MountVolume.SetUp failed for volume "contract" : configmap not found', "PodStuck"),
        ("FailedCreatePodSandBox", "the handler hasn't support for user namespaces", "SandboxFailed"),
    ],
)
def test_events_tell_why_a_pod_does_not_begin(reason: str, message: str, told: str) -> None:
    pod: dict[str, Any] = {"metadata": {"name": "p"}, "spec": {"nodeName": "n"}, "status": {"phase": "Pending"}}
    warnings = [{"reason": "FailedMount", "message": "an older one"}, {"reason": reason, "message": message}]
    trouble = pod_status.pod_problem(pod, warnings)
    assert trouble is not None
    assert trouble.reason == told
    assert message in trouble.message
    assert pod_status.pod_problem(pod) is None
    running = pod | {"status": {"phase": "Running"}}
    assert pod_status.pod_problem(running, warnings) is None
    probed = [{"reason": reason, "message": "Startup probe failed"} for reason in ("Unhealthy", "ProbeWarning")]
    assert pod_status.pod_problem(pod, probed) is None, "its container runs"
    assert pod_status.pod_problem(pod, [*warnings, *probed]) == trouble


NO_USERS = "can't set `spec.hostUsers: false`, RuntimeClass handler does not support user namespaces"


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        (NO_USERS, "see isolation.userNamespaces"),
        (f'{NO_USERS}: the handler "gvisor" is not known', "what the runtime class names"),
        ('no runtime for "gvisor" is configured: unknown handler', "what the runtime class names"),
    ],
)
def test_why_there_is_no_sandbox(message: str, hint: str) -> None:
    pod: dict[str, Any] = {"metadata": {"name": "p"}, "spec": {"nodeName": "n"}, "status": {"phase": "Pending"}}
    trouble = pod_status.pod_problem(pod, [{"reason": "FailedCreatePodSandBox", "message": message}])
    assert trouble is not None
    assert hint in trouble.message
