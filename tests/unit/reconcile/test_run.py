from __future__ import annotations

from typing import Any

import pytest

from skill_operator import naming
from skill_operator.reconcile.result import Work
from skill_operator.reconcile.stages.run import run
from skill_operator.resources.contract import text
from tests.unit.reconcile.samples import DIGEST, SETTINGS, observed, pod, skill

IMAGE = f"localhost:30500/skills/team/echo@{DIGEST}"


def work() -> Work:
    return Work(revision="0123456789", image=IMAGE)


def mine(**more: Any) -> dict[str, Any]:
    labels = {naming.COMPONENT: "skill", naming.REVISION_LABEL: "0123456789"}
    notes = {naming.CONTRACT_HASH: naming.digest(text(skill()))[:16]}
    return pod(labels=labels, annotations=notes, **more)


READY = [{"type": "Ready", "status": "True"}]


def test_the_cage_is_applied_before_the_pods() -> None:
    kinds = [obj["kind"] for obj in run(observed(), work(), SETTINGS).apply]
    assert kinds.index("NetworkPolicy") < kinds.index("Deployment")
    for obj in run(observed(), work(), SETTINGS).apply:
        (owner,) = obj["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"]) == ("Skill", "u-1")
        assert "blockOwnerDeletion" not in owner


def test_the_pod_is_restricted() -> None:
    (deployment,) = [o for o in run(observed(), work(), SETTINGS).apply if o["kind"] == "Deployment"]
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["image"] == IMAGE
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["hostUsers"] is False
    assert spec["dnsPolicy"] == "None"
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]["limits"]) == {"cpu", "memory", "ephemeral-storage"}
    assert container["env"] == [{"name": "SKILL_GRACE", "value": "31"}]


def test_replicas_are_left_alone_once_the_deployment_exists() -> None:
    def replicas(live: dict[str, Any] | None) -> object:
        seen = observed(deployment=live)
        (deployment,) = [o for o in run(seen, work(), SETTINGS).apply if o["kind"] == "Deployment"]
        return deployment["spec"].get("replicas")

    assert replicas(None) == 1
    assert replicas({"spec": {"replicas": 3}, "status": {}}) is None


def test_a_secret_is_a_file_of_its_owner_alone() -> None:
    secrets = [{"name": "api-key", "secretKeyRef": {"name": "billing", "key": "token"}}]
    (deployment,) = [
        o for o in run(observed(skill(secrets=secrets)), work(), SETTINGS).apply if o["kind"] == "Deployment"
    ]
    volume = next(v for v in deployment["spec"]["template"]["spec"]["volumes"] if v["name"] == "secrets")
    assert volume["projected"]["defaultMode"] == 0o400
    assert "billing" not in str(deployment["spec"]["template"]["spec"]["containers"][0]["env"])


@pytest.mark.parametrize("cidr", ["0.0.0.0/0", "169.254.0.0/15"])
def test_a_wide_grant_leaves_the_metadata_service_out(cidr: str) -> None:
    seen = observed(skill(egress=[{"cidr": cidr, "ports": [443]}]))
    (policy,) = [o for o in run(seen, work(), SETTINGS).apply if o["kind"] == "NetworkPolicy"]
    (rule,) = policy["spec"]["egress"]
    assert rule["to"][0]["ipBlock"]["except"] == ["169.254.0.0/16"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 443}]


def test_ready_when_a_pod_of_this_revision_is() -> None:
    result = run(observed(pods=(mine(conditions=READY),)), work(), SETTINGS)
    assert result.done
    assert {f.type: f.status for f in result.findings} == {"Deployed": "True", "Active": "True", "Isolated": "True"}
    old = mine(conditions=READY)
    old["metadata"]["labels"][naming.REVISION_LABEL] = "another"
    assert not run(observed(pods=(old,)), work(), SETTINGS).done


def test_asleep_is_healthy() -> None:
    result = run(observed(deployment={"spec": {"replicas": 0}, "status": {}}), work(), SETTINGS)
    assert result.done
    assert next(f for f in result.findings if f.type == "Active").reason == "Asleep"


def slept(**more: Any) -> Any:
    moment = "2030-01-01T11:00:00Z"
    stamp = {"observedGeneration": 3, "lastTransitionTime": moment, "message": ""}
    return skill(
        {
            "revision": "0123456789",
            "conditions": [
                {"type": "Deployed", "status": "True", "reason": "Deployed", **stamp},
                {"type": "Active", "status": "False", "reason": "Asleep", **stamp},
            ],
            **more,
        }
    )


def test_waking_is_healthy() -> None:
    live = {"spec": {"replicas": 1}, "status": {}}
    result = run(observed(slept(), deployment=live, pods=(mine(),)), work(), SETTINGS)
    assert result.done
    assert {f.type: (f.status, f.reason) for f in result.findings} == {
        "Deployed": ("True", "Deployed"),
        "Active": ("False", "Waking"),
    }
    assert not run(observed(slept(revision="another"), deployment=live), work(), SETTINGS).done, "never proven"
    broken = mine(state={"terminated": {"exitCode": 1}})
    assert not run(observed(slept(), deployment=live, pods=(broken,)), work(), SETTINGS).done
    assert not run(observed(deployment=live), work(), SETTINGS).done, "it did not sleep"


def test_calls_in_flight_have_their_time_when_a_pod_ends() -> None:
    (deployment,) = [
        o for o in run(observed(skill(callTimeoutSeconds=600)), work(), SETTINGS).apply if o["kind"] == "Deployment"
    ]
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = next(int(e["value"]) for e in container["env"] if e["name"] == "SKILL_GRACE")
    assert 600 < grace < spec["terminationGracePeriodSeconds"] - pause


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}, "ImagePullFailed"),
        (
            {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "billing" not found'}},
            "PodConfigInvalid",
        ),
        ({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, "OOMKilled"),
        ({"terminated": {"exitCode": 1, "message": "skill.py line 3: ImportError"}}, "Crashed"),
    ],
)
def test_what_is_wrong_with_a_pod_is_said(state: dict[str, Any], reason: str) -> None:
    result = run(observed(pods=(mine(state=state),)), work(), SETTINGS)
    assert not result.done
    assert result.findings[0].reason == reason
    assert not result.stalled


def test_an_open_cage_is_for_a_person_to_mend() -> None:
    result = run(observed(pods=(mine(state={"terminated": {"exitCode": 3}}),)), work(), SETTINGS)
    assert result.stalled
    assert {f.type: f.reason for f in result.findings} == {
        "Deployed": "EgressNotBlocked",
        "Isolated": "EgressNotBlocked",
    }


def test_a_full_quota_is_said() -> None:
    message = 'pods "x" is forbidden: exceeded quota: skill-quota'
    live = {
        "spec": {"replicas": 1},
        "status": {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": message}]},
    }
    assert run(observed(deployment=live), work(), SETTINGS).findings[0].reason == "QuotaExceeded"
