"""A secret reaches the code it was granted to, as a file, and nothing and nobody else."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from hack.install import NAMESPACE
from tests.integration.installed import Operator, until
from tests.integration.test_skill import BUILDS, apply, skill

pytestmark = pytest.mark.cluster
MARKER = "M4rk3r-0f-a-s3cret"
SOURCE = """
import base64
import os

PATH = "/run/secrets/skill/api-key"


def run(input: dict) -> dict:
    with open(PATH) as file:
        value = file.read()
    what = input["what"]
    print("using", value, base64.b64encode(("x" + value).encode()).decode())
    if what == "length":
        return {"said": str(len(value))}
    if what == "mode":
        status = os.stat(PATH)
        return {"said": f"{status.st_mode & 0o777:o} {status.st_uid} {status.st_gid}"}
    if what == "environment":
        return {"said": str(value in str(os.environ))}
    if what == "write":
        try:
            open(PATH, "w")
        except OSError as error:
            return {"said": type(error).__name__}
    if what == "raw":
        return {"said": value}
    if what == "base64":
        return {"said": base64.b64encode(value.encode()).decode()}
    if what == "raise":
        raise ValueError("no access with " + value)
    if what == "crash":
        raise RuntimeError("no access with " + value)
    return {"said": what}
"""
SPELLINGS = (MARKER, base64.b64encode(MARKER.encode()).decode(), base64.b64encode(b"x" + MARKER.encode()).decode()[2:])


def secret(value: str, name: str = "billing") -> dict[str, Any]:
    data = {"token": value, "other": "not-asked-for"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def reader(name: str, **grant: Any) -> dict[str, Any]:
    grants = [{"name": "api-key", "secretKeyRef": {"name": "billing", "key": "token"}, **grant}]
    return skill(name, secrets=grants, source={"inline": SOURCE}, examples=skill("x")["spec"]["examples"][:1])


def write(operator: Operator, namespace: str, body: dict[str, Any]) -> None:
    operator.cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(body))


def test_from_refusal_to_grant_to_rotation_to_revocation(operator: Operator, namespace: str) -> None:
    kubectl = operator.cluster.kubectl
    apply(operator, namespace, reader("keeper"))

    told = operator.reason(namespace, "keeper", "Ready", "SecretNotGranted", 30)
    assert operator.condition(namespace, "keeper", "Stalled")["status"] == "True"
    assert operator.condition(namespace, "keeper", "Generated")["reason"] == "Pending"
    for command in told["message"].partition("To grant it, run: ")[2].split(" && "):
        program, *arguments = command.split()
        assert program == "kubectl"
        kubectl(*arguments)
    # There is no such Secret yet: noticed without any right to look for it, and healed as soon as it is there.
    missing = operator.reason(namespace, "keeper", "Ready", "SecretMissing", 90)
    assert "billing" in missing["message"]
    write(operator, namespace, secret(MARKER))
    operator.ready(namespace, "keeper", 150)

    def say(what: str) -> Any:
        return operator.call(namespace, "keeper", {"what": what})

    assert say("length").body == {"said": str(len(MARKER))}
    assert say("environment").body == {"said": "False"}
    assert say("mode").body == {"said": "440 0 65532"}  # 0400, and the group's by the kubelet: uid 65532 owns no volume
    assert say("write").body["said"] in {"OSError", "PermissionError"}
    assert say("raw").body == {"said": "[secret api-key]"}
    assert say("base64").body == {"said": "[secret api-key]"}
    assert say("raise").body["detail"] == "no access with [secret api-key]"
    assert say("crash").status == 500

    (pod,) = operator.cluster.get("-n", namespace, "pods", "-l", "app.kubernetes.io/component=skill")["items"]
    everything = "".join(
        kubectl(*arguments)
        for arguments in (
            ("get", f"{kinds},skills,deployments,replicasets,pods,jobs,configmaps,events", "-A", "-o", "yaml")
            for kinds in ("controllerrevisions",)
        )
    )
    logs = kubectl("-n", namespace, "logs", pod["metadata"]["name"])
    assert "using [secret api-key]" in logs
    for component in ("controller", "gateway"):
        logs += kubectl("-n", NAMESPACE, "logs", f"deployment/{NAMESPACE}-{component}", "--tail=-1")
    logs += json.dumps(operator.cluster.get("-n", BUILDS, "pods,jobs,configmaps"))
    for spelling in SPELLINGS:
        assert spelling not in everything
        assert spelling not in logs
    assert MARKER not in json.dumps(operator.asked(""))

    write(operator, namespace, secret("an-0ther-value-that-is-longer"))
    until("the file follows", 120, lambda: say("length").body == {"said": "29"})
    assert say("raw").body == {"said": "[secret api-key]"}
    (same,) = operator.cluster.get("-n", namespace, "pods", "-l", "app.kubernetes.io/component=skill")["items"]
    assert same["metadata"]["uid"] == pod["metadata"]["uid"]

    kubectl("-n", namespace, "delete", "rolebinding", "--all")
    operator.reason(namespace, "keeper", "Ready", "SecretNotGranted", 90)
    selector = ("-l", "app.kubernetes.io/component=skill")
    until("no pod is left", 60, lambda: not operator.cluster.get("-n", namespace, "pods", *selector)["items"])


def test_who_may_write_skills_cannot_read_secrets(operator: Operator, namespace: str) -> None:
    """As a user who may do all with Skills and nothing else."""
    rules = [{"apiGroups": ["skill-operator.dev"], "resources": ["skills"], "verbs": ["*"]}]
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "author"},
        "rules": rules,
    }
    write(operator, namespace, role)
    operator.cluster.kubectl("-n", namespace, "create", "rolebinding", "author", "--role=author", "--user=author")
    write(operator, namespace, secret(MARKER))
    own = ("--as=author", "-n", namespace)
    operator.cluster.kubectl("apply", "--server-side", *own, "-f", "-", stdin=json.dumps(reader("thief")))
    operator.reason(namespace, "thief", "Ready", "SecretNotGranted", 30)
    for refused in (("get", "secret", "billing"), ("create", "rolebinding", "x", "--role=author", "--user=author")):
        with pytest.raises(Exception, match=r"cannot|forbidden"):
            operator.cluster.kubectl(*own, *refused)
    account = f"system:serviceaccount:{namespace}:skill-thief"
    assert (
        operator.cluster.kubectl(
            "auth", "can-i", "get", "secret/billing", "-n", namespace, f"--as={account}", check=False
        ).strip()
        == "no"
    )


@pytest.mark.parametrize("component", ["controller", "gateway"])
def test_the_operator_itself_may_read_no_secret(operator: Operator, component: str) -> None:
    account = f"system:serviceaccount:{NAMESPACE}:{NAMESPACE}-{component}"
    for verb in ("get", "list", "watch"):
        for where in (("-A",), ("-n", NAMESPACE), ("-n", BUILDS)):
            asked = ("auth", "can-i", verb, "secrets", *where, f"--as={account}")
            assert operator.cluster.kubectl(*asked, check=False).strip() == "no", asked
