"""From `kubectl apply` to an answer, and back to nothing, on the real cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from hack.install import NAMESPACE
from skill_operator import naming
from tests.integration.installed import RUNTIME_CLASS, Operator, until

pytestmark = pytest.mark.cluster
BUILDS = f"{NAMESPACE}-builds"
KINDS = "deployments,replicasets,pods,services,configmaps,jobs,networkpolicies,serviceaccounts,resourcequotas,secrets"
SHARED = {"networkpolicy.networking.k8s.io/skill-default-deny", "resourcequota/skill-quota"}
NATIVE = {"configmap/kube-root-ca.crt", "serviceaccount/default"}

SOURCE = """
import os
import time

def run(input: dict) -> dict:
    what = input["what"]
    if what == "refuse":
        raise ValueError("this is refused")
    if what == "fault":
        raise RuntimeError("the secret of the skill")
    if what == "hang":
        while True:
            time.sleep(1)
    if what == "connect":
        import socket
        try:
            socket.create_connection((input["host"], input["port"]), timeout=2)
        except OSError as error:
            return {"said": type(error).__name__}
        return {"said": "connected"}
    if what == "look":
        return {"said": ",".join(sorted(os.environ)) + " " + open("/etc/resolv.conf").read()}
    if what == "wrong":
        return {"sad": "?"}
    return {"said": what}
"""


def skill(name: str, **spec: Any) -> dict[str, Any]:
    wanted: dict[str, Any] = {
        "description": "Says what it is told.",
        "input": {
            "type": "object",
            "properties": {"what": {"type": "string"}, "host": {"type": "string"}, "port": {"type": "integer"}},
            "required": ["what"],
        },
        "output": {"type": "object", "properties": {"said": {"type": "string"}}, "required": ["said"]},
        "examples": [
            {"name": "echo", "input": {"what": "hello"}, "output": {"said": "hello"}},
            {"name": "refused", "input": {"what": "refuse"}, "error": "ValueError"},
        ],
        "source": {"inline": SOURCE},
        "callTimeoutSeconds": 2,
    }
    wanted |= spec
    return {
        "apiVersion": "skill-operator.dev/v1alpha1",
        "kind": "Skill",
        "metadata": {"name": name},
        "spec": {key: value for key, value in wanted.items() if value is not None},
    }


def apply(operator: Operator, namespace: str, body: dict[str, Any]) -> None:
    operator.cluster.kubectl("apply", "--server-side", "-n", namespace, "-f", "-", stdin=json.dumps(body))


@pytest.mark.serial("stops the controller")
def test_a_pinned_skill_answers_and_leaves_nothing(operator: Operator, namespace: str) -> None:
    apply(operator, namespace, skill("echo"))
    ready = operator.ready(namespace, "echo")
    status = ready["status"]
    assert {c["type"]: c["status"] for c in status["conditions"]} == dict.fromkeys(
        ("Generated", "Verified", "Built", "Deployed", "Active", "Isolated", "Ready"), "True"
    )
    assert all(c["observedGeneration"] == ready["metadata"]["generation"] for c in status["conditions"])
    assert "@sha256:" in status["image"]
    assert "finalizers" not in ready["metadata"]
    assert "annotations" not in ready["metadata"]

    assert operator.call(namespace, "echo", {"what": "hi"}).body == {"said": "hi"}
    refused = operator.call(namespace, "echo", {"what": "refuse"})
    assert (refused.status, refused.body["detail"]) == (422, "this is refused")
    fault = operator.call(namespace, "echo", {"what": "fault"})
    assert fault.status == 500
    assert "Traceback" not in json.dumps(fault.body)
    assert operator.call(namespace, "echo", {"what": "wrong"}).status == 500
    assert operator.call(namespace, "echo", {"what": 1}).status == 422
    assert operator.call(namespace, "echo", None, raw=b"{").status == 400
    assert operator.call(namespace, "nobody", {}).status == 404
    hung = operator.call(namespace, "echo", {"what": "hang"})
    assert (hung.status, hung.body["type"]) == (504, "urn:skill-operator:timeout")
    assert operator.call(namespace, "echo", {"what": "still here"}).status == 200

    in_cluster = operator.cluster.get("-n", namespace, "deployment", "skill-echo")
    assert in_cluster["spec"]["template"]["spec"]["containers"][0]["image"] == status["image"]
    assert not operator.cluster.get("-n", BUILDS, "jobs", "-l", f"skill-operator.dev/skill-namespace={namespace}")[
        "items"
    ]

    operator.scale("controller", 0)
    try:
        operator.cluster.kubectl("-n", namespace, "delete", "skill", "--all", "--timeout=20s")

        def left() -> set[str]:
            return set(operator.cluster.kubectl("-n", namespace, "get", KINDS, "-o", "name").split())

        until("nothing is left", 60, lambda: left() - NATIVE - SHARED == set())
    finally:
        operator.scale("controller", 1)


@pytest.mark.xdist_group("internet")
def test_isolation_holds(operator: Operator, namespace: str) -> None:
    apply(operator, namespace, skill("prisoner"))
    operator.ready(namespace, "prisoner")
    registry = operator.cluster.get("-n", NAMESPACE, "service", f"{NAMESPACE}-registry")["spec"]["clusterIP"]
    api = operator.cluster.get("-n", "default", "service", "kubernetes")["spec"]["clusterIP"]
    dns = operator.cluster.get("-n", "kube-system", "service", "kube-dns")["spec"]["clusterIP"]
    with operator.cluster.internet("python3", "-m", "http.server", "8080", "--bind", "203.0.113.10"):
        for host, port in ((registry, 5000), (registry, 5001), (api, 443), (dns, 53), ("203.0.113.10", 8080)):
            answer = operator.call(namespace, "prisoner", {"what": "connect", "host": host, "port": port})
            assert answer.status in {200, 504}, answer
            assert answer.body.get("said") != "connected", (host, port)
    seen = operator.call(namespace, "prisoner", {"what": "look"}).body["said"]
    assert "SKILL_CHECK" not in seen
    assert dns not in seen


@pytest.mark.xdist_group("model")
def test_a_wrong_reply_is_repaired(operator: Operator, namespace: str) -> None:
    wrong = "```python\ndef run(input):\n    return {'said': 'hello' + input['what'][:0]}\n```"
    right = (
        "```python\ndef run(input):\n    if input['what'] == 'refuse':\n        raise ValueError('no')\n"
        "    return {'said': input['what']}\n```"
    )
    usage = {"prompt_tokens": 100, "completion_tokens": 50}
    marker = f"Repairable {namespace}"
    operator.script({marker: [{"text": wrong, "usage": usage}, {"text": right, "usage": usage}]})
    alone = {"secondOpinion": "Never"}
    apply(operator, namespace, skill("repaired", source=None, description=marker, generation=alone))
    status = operator.ready(namespace, "repaired")["status"]
    assert status["generation"]["attempts"] == 2
    assert status["generation"]["tokens"] == 300
    assert status["generation"]["lastFailure"]["gate"] in {"examples", "hidden"}
    assert len(operator.asked(marker)) == 2
    assert operator.call(namespace, "repaired", {"what": "thanks"}).body == {"said": "thanks"}
    code = operator.cluster.get("-n", namespace, "configmap", "repaired-source")["data"]["skill.py"]
    assert "raise ValueError('no')" in code
    events = operator.cluster.kubectl("-n", namespace, "get", "events", "-o", "jsonpath={.items[*].reason}").split()
    assert {"CheckRefused", "Ready"} <= set(events)


@pytest.mark.serial("restarts the controller")
def test_it_stops_after_three_attempts(operator: Operator, namespace: str) -> None:
    marker = f"Hopeless {namespace}"
    bodies = (
        "import subprocess\n\ndef run(input):\n    return {}",
        "def run(input):\n    return nothing",
        "def run(input):\n    return {'said': 'always this'}",
        "def run(input):\n    return {'said': 'too late'}",
    )
    replies = [{"text": f"```python\n{body}\n```"} for body in bodies]
    operator.script({marker: replies})
    apply(operator, namespace, skill("hopeless", source=None, description=marker))
    stopped = operator.reason(namespace, "hopeless", "Ready", "AttemptsExhausted")
    assert "examples" in stopped["message"]
    assert operator.condition(namespace, "hopeless", "Stalled")["status"] == "True"
    operator.scale("controller", 0)
    operator.scale("controller", 1)
    operator.cluster.kubectl("-n", namespace, "label", "skill", "hopeless", "touched=yes")
    assert operator.reason(namespace, "hopeless", "Ready", "AttemptsExhausted")
    assert len(operator.asked(marker)) == 3
    assert not operator.cluster.get("-n", BUILDS, "jobs", "-l", f"skill-operator.dev/skill-namespace={namespace}")[
        "items"
    ]


def test_a_bad_spec_costs_nothing(operator: Operator, namespace: str) -> None:
    marker = f"Contradictory {namespace}"
    examples = [
        {"name": "one", "input": {"what": "a"}, "output": {"said": "b"}},
        {"name": "two", "input": {"what": "a"}, "output": {"said": "c"}},
    ]
    apply(operator, namespace, skill("contradiction", source=None, description=marker, examples=examples))
    stalled = operator.reason(namespace, "contradiction", "Ready", "SpecInvalid")
    assert "spec.examples" in stalled["message"]
    assert operator.asked(marker) == []


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"fault": 503}, "ModelUnavailable"),
        ({"fault": "html200"}, "ModelUnavailable"),
        ({"fault": 401}, "ModelRefused"),
        ({"text": "I would rather not."}, "NoCode"),
        ({"fault": "error200", "message": "Rate limit exceeded"}, "ModelUnavailable"),
        ({"fault": "refusal", "text": "I cannot help with that."}, "TaskRefused"),
    ],
)
@pytest.mark.xdist_group("model")
def test_a_model_that_does_not_answer_costs_no_attempt(
    operator: Operator, namespace: str, fault: dict[str, Any], told: str
) -> None:
    marker = f"Unlucky {namespace}"
    operator.script({marker: [fault]})
    apply(operator, namespace, skill("unlucky", source=None, description=marker))
    operator.reason(namespace, "unlucky", "Ready", told)
    assert operator.skill(namespace, "unlucky")["status"]["generation"]["attempts"] == 0


def test_an_image_that_the_registry_lost_is_built_again(operator: Operator, namespace: str) -> None:
    apply(operator, namespace, skill("forgotten"))
    image = operator.ready(namespace, "forgotten")["status"]["image"]
    absent = image.partition("@")[0] + "@sha256:" + "0" * 64
    revision = operator.skill(namespace, "forgotten")["status"]["revision"]
    status = {"status": {"image": absent, "revision": revision, "history": []}}
    patch = ("patch", "skill", "forgotten", "--type=merge", "--subresource=status", "-p", json.dumps(status))
    operator.cluster.kubectl("-n", namespace, *patch)
    operator.cluster.kubectl("-n", namespace, "delete", "deployment", "skill-forgotten")
    until(
        "it is built again",
        120,
        lambda: operator.skill(namespace, "forgotten")["status"].get("image") not in {"", absent},
    )
    operator.ready(namespace, "forgotten")
    assert operator.call(namespace, "forgotten", {"what": "back"}).body == {"said": "back"}


def test_a_name_as_long_as_kubernetes_takes_is_one_that_registries_take(operator: Operator, namespace: str) -> None:
    name = "monthly-" + "y" * 245
    assert len(name) == 253
    apply(operator, namespace, skill(name))
    image = operator.ready(namespace, name, 180)["status"]["image"]
    assert f"/skills/{namespace}/monthly-yyy" in image
    assert operator.call(namespace, name, {"what": "long"}).body == {"said": "long"}


@pytest.mark.serial("stops the registry")
def test_a_registry_that_was_down_is_used_when_it_is_back(operator: Operator, namespace: str) -> None:
    operator.scale("registry", 0)
    try:
        apply(operator, namespace, skill("patient"))
        waits = operator.reason(namespace, "patient", "Ready", "RegistryUnavailable")
        assert "registry" in waits["message"]
    finally:
        operator.scale("registry", 1)
    operator.ready(namespace, "patient", 180)


def test_an_updated_skill_is_rolled_out(operator: Operator, namespace: str) -> None:
    apply(operator, namespace, skill("changing"))
    first = operator.ready(namespace, "changing")["status"]["revision"]
    apply(
        operator,
        namespace,
        skill(
            "changing", source={"inline": SOURCE.replace('{"said": what}', '{"said": what + "!" * (what == "new")}')}
        ),
    )
    until("the new revision", 90, lambda: operator.skill(namespace, "changing")["status"]["revision"] != first)
    operator.ready(namespace, "changing")
    assert operator.call(namespace, "changing", {"what": "new"}).body == {"said": "new!"}
    assert [r["revision"] for r in operator.skill(namespace, "changing")["status"]["history"]][1] == first


@pytest.fixture
def runtime_class(operator: Operator) -> Iterator[dict[str, Any]]:
    yield {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": RUNTIME_CLASS},
        "handler": "no-such-handler",
    }
    operator.cluster.kubectl("delete", "runtimeclass", RUNTIME_CLASS, "--ignore-not-found")


def test_a_runtime_class_that_is_not_there(operator: Operator, namespace: str, runtime_class: dict[str, Any]) -> None:
    """First the cluster does not have it, then the node does not; then all is well."""
    apply(operator, namespace, skill("sandboxed", runtimeClassName=RUNTIME_CLASS))
    missing = operator.reason(namespace, "sandboxed", "Verified", "RuntimeClassMissing", 60)
    assert RUNTIME_CLASS in missing["message"]
    operator.cluster.apply(runtime_class)
    unknown = operator.reason(namespace, "sandboxed", "Verified", "SandboxFailed", 120)
    assert "its container runtime does not have what the runtime class names" in unknown["message"]
    operator.cluster.kubectl("delete", "runtimeclass", RUNTIME_CLASS)
    operator.cluster.apply(runtime_class | {"handler": "runc"})
    operator.ready(namespace, "sandboxed", 180)
    pods = operator.cluster.get("-n", namespace, "pods", "-l", "app.kubernetes.io/component=skill")["items"]
    assert {pod["spec"]["runtimeClassName"] for pod in pods} == {RUNTIME_CLASS}
    assert operator.call(namespace, "sandboxed", {"what": "hello"}).body == {"said": "hello"}
    apply(operator, namespace, skill("sandboxed"))

    def left() -> bool:
        found = operator.cluster.get("-n", namespace, "deployment", "skill-sandboxed")["spec"]["template"]["spec"]
        return "runtimeClassName" not in found

    until("what is no longer asked for is taken away", 30, left)


def test_a_pass_writes_what_differs_and_nothing_else(operator: Operator, namespace: str) -> None:
    apply(operator, namespace, skill("still", idleTimeoutSeconds=300))
    operator.ready(namespace, "still")
    kubectl = operator.cluster.kubectl

    def another_pass() -> None:
        seconds = operator.skill(namespace, "still")["spec"]["idleTimeoutSeconds"] + 1
        changed = f'{{"spec":{{"idleTimeoutSeconds":{seconds}}}}}'
        kubectl("-n", namespace, "patch", "skill", "still", "--type=merge", "-p", changed)

        def seen() -> bool:
            found = operator.skill(namespace, "still")
            return bool(found["status"]["observedGeneration"] == found["metadata"]["generation"])

        until("the pass is over", 30, seen)

    def versions() -> dict[tuple[str, str], Any]:
        kinds = "networkpolicies,configmaps,serviceaccounts,services,deployments"
        # What is kept of a revision holds the spec, which each pass here changes.
        labels = f"{naming.MANAGED_BY}={naming.MANAGER},{naming.COMPONENT}!=revision"
        found = operator.cluster.get("-n", namespace, kinds, "-l", labels)
        marks = [(one["kind"], one["metadata"]) for one in found["items"]]
        return {(kind, meta["name"]): meta.get("generation", meta["resourceVersion"]) for kind, meta in marks}

    before = versions()
    assert ("NetworkPolicy", "skill-default-deny") in before
    another_pass()
    assert versions() == before
    for policy in ("skill-default-deny", "skill-still"):
        opened = '{"spec":{"egress":[{}],"podSelector":{"matchExpressions":[{"key":"never","operator":"Exists"}]}}}'
        kubectl("-n", namespace, "patch", "networkpolicy", policy, "--type=merge", "-p", opened)
        another_pass()
        mended = operator.cluster.get("-n", namespace, "networkpolicy", policy)["spec"]
        assert "egress" not in mended
        assert "matchExpressions" not in mended["podSelector"]
    assert versions().keys() == before.keys()
