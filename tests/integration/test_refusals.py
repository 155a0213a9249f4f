"""What a cluster refuses, injects, limits, restores and ends on its own account, and clients that apply as they do."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hack import images
from hack.cluster.shell import ClusterError
from hack.install import NAMESPACE
from tests.integration.installed import Operator, until
from tests.integration.test_skill import apply, skill

pytestmark = pytest.mark.cluster
ADMISSION = "admissionregistration.k8s.io/v1"
CHILDREN = "configmaps,deployments,networkpolicies,services,serviceaccounts"
OWN = ("-l", "skill-operator.dev/skill=odd")


def odd(**spec: Any) -> dict[str, Any]:
    """Return a small Skill by the name of `odd`."""
    source = {"inline": "def run(input):\n    return {'said': input['what']}\n"}
    examples = [{"name": "one", "input": {"what": "a"}, "output": {"said": "a"}}]
    return skill("odd", **({"source": source, "examples": examples} | spec))


def events(operator: Operator, namespace: str, reason: str) -> list[int]:
    """Return how often each event of this reason was recorded."""
    found = operator.cluster.get("-n", namespace, "events", "--field-selector", f"reason={reason}")["items"]
    return [event.get("count", 1) for event in found]


def here(namespace: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}


def rule(group: str, *resources: str) -> dict[str, Any]:
    return {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": list(resources)}


@contextmanager
def existing(operator: Operator, *objects: dict[str, Any]) -> Iterator[None]:
    """Hold objects of the whole cluster for a while."""
    operator.cluster.apply(*objects)
    try:
        yield
    finally:
        for obj in objects:
            operator.cluster.kubectl("delete", obj["kind"], obj["metadata"]["name"], "--ignore-not-found")


def test_a_full_quota_is_told_once_and_gone_on_from(operator: Operator, namespace: str) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tenant", "namespace": namespace}}
    operator.cluster.apply(quota | {"spec": {"hard": {"count/services": "0"}}})
    status = ("-n", namespace, "get", "resourcequota", "tenant", "-o", "jsonpath={.status.hard}")
    until("the quota is counted", 30, lambda: operator.cluster.kubectl(*status))
    apply(operator, namespace, odd())
    told = operator.reason(namespace, "odd", "Ready", "ObjectRefused", 120)
    assert "exceeded quota: tenant" in told["message"]
    assert f"Service {namespace}/skill-odd: " in told["message"]
    assert "raise the quota" in told["message"]
    until("an event", 30, lambda: events(operator, namespace, "ObjectRefused"))
    assert events(operator, namespace, "ObjectRefused") == [1]
    operator.cluster.apply(quota | {"spec": {"hard": {"count/services": "5"}}})
    operator.ready(namespace, "odd", 180)


def test_a_policy_is_quoted_and_a_changed_one_gone_on_from(operator: Operator, namespace: str) -> None:
    meta = {"name": namespace}
    says = {"expression": "'team' in object.metadata.?labels.orValue({})", "message": "every workload names its team"}
    policy = {
        "apiVersion": ADMISSION, "kind": "ValidatingAdmissionPolicy", "metadata": meta,
        "spec": {"matchConstraints": {"resourceRules": [rule("apps", "deployments")]}, "validations": [says]},
    }  # fmt: skip
    binding = {
        "apiVersion": ADMISSION, "kind": "ValidatingAdmissionPolicyBinding", "metadata": meta,
        "spec": {"policyName": namespace, "validationActions": ["Deny"], "matchResources": here(namespace)},
    }  # fmt: skip
    with existing(operator, policy, binding):
        until("the policy is enforced", 60, lambda: _refuses_deployments(operator, namespace))
        apply(operator, namespace, odd())
        told = operator.reason(namespace, "odd", "Ready", "ObjectRefused", 120)
        assert "every workload names its team" in told["message"]
        assert "change the policy" in told["message"]
    operator.ready(namespace, "odd", 200)


def _refuses_deployments(operator: Operator, namespace: str) -> bool:
    try:
        operator.cluster.kubectl(
            "-n", namespace, "create", "deployment", "tried", "--image=none.invalid/x", "--dry-run=server"
        )
    except ClusterError as error:
        return "names its team" in str(error)
    return False


def test_a_webhook_that_is_down_is_told(operator: Operator, namespace: str) -> None:
    hook = {
        "name": "absent.example.com", "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"namespace": namespace, "name": "nobody", "port": 443}},
        "rules": [rule("", "configmaps")], **here(namespace),
    }  # fmt: skip
    meta = {"name": namespace}
    with existing(
        operator,
        {"apiVersion": ADMISSION, "kind": "ValidatingWebhookConfiguration", "metadata": meta, "webhooks": [hook]},
    ):
        apply(operator, namespace, odd())
        told = operator.reason(namespace, "odd", "Ready", "ObjectRefused", 120)
        assert "failed calling webhook" in told["message"]
        assert "repair the webhook" in told["message"]
    operator.ready(namespace, "odd", 200)


@contextmanager
def injecting(operator: Operator, namespace: str) -> Iterator[None]:
    """Hold a policy that puts a container before those of every pod of the namespace."""
    container = {
        "name": "mesh", "image": images.built()["operator"]["name"], "imagePullPolicy": "Never",
        "command": ["python3", "-c", "import time; time.sleep(100000)"],
        "resources": {"limits": {"cpu": "20m", "memory": "48Mi"}, "requests": {"cpu": "1m", "memory": "16Mi"}},
    }  # fmt: skip
    members = ", ".join(f"{json.dumps(key)}: dyn({json.dumps(value)})" for key, value in container.items())
    patch = f'[JSONPatch{{op: "add", path: "/spec/containers/0", value: {{{members}}}}}]'
    meta, mutation = {"name": namespace}, {"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}
    policy = {
        "apiVersion": ADMISSION, "kind": "MutatingAdmissionPolicy", "metadata": meta,
        "spec": {
            "matchConstraints": {"resourceRules": [rule("", "pods")]}, "mutations": [mutation],
            "failurePolicy": "Fail", "reinvocationPolicy": "Never",
        },
    }  # fmt: skip
    binding = {
        "apiVersion": ADMISSION, "kind": "MutatingAdmissionPolicyBinding", "metadata": meta,
        "spec": {"policyName": namespace, "matchResources": here(namespace)},
    }  # fmt: skip
    with existing(operator, policy, binding):
        until("the policy injects", 60, lambda: _injects(operator, namespace))
        yield


def _injects(operator: Operator, namespace: str) -> bool:
    tried = ("run", "tried", "--image=none.invalid/x", "--dry-run=server", "-o", "json")
    try:
        return len(json.loads(operator.cluster.kubectl("-n", namespace, *tried))["spec"]["containers"]) == 2
    except ClusterError as error:  # Pod Security refuses it, and names the containers
        return '"mesh"' in str(error).replace("\\", "")


def test_a_skill_works_beside_an_injected_container(operator: Operator, namespace: str) -> None:
    with injecting(operator, namespace):
        apply(operator, namespace, odd())
        operator.ready(namespace, "odd", 180)
        assert operator.call(namespace, "odd", {"what": "hi"}).body == {"said": "hi"}
        (pod,) = operator.cluster.get("-n", namespace, "pods", "-l", "app.kubernetes.io/component=skill")["items"]
        assert [container["name"] for container in pod["spec"]["containers"]] == ["mesh", "skill"]


def test_a_refusal_of_pod_security_is_told(operator: Operator) -> None:
    """The Skill's own pods are restricted; what is injected into them here is not."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    with operator.cluster.namespace("restricted", labels) as namespace:
        with injecting(operator, namespace):
            apply(operator, namespace, odd())
            told = operator.reason(namespace, "odd", "Ready", "PodsRefused", 120)
            assert "violates PodSecurity" in told["message"]
        operator.ready(namespace, "odd", 300)


def limits(namespace: str, **limit: Any) -> dict[str, Any]:
    meta = {"name": "limits", "namespace": namespace}
    spec = {"limits": [{"type": "Container", **limit}]}
    return {"apiVersion": "v1", "kind": "LimitRange", "metadata": meta, "spec": spec}


def test_a_limit_range_that_fills_in_defaults_is_no_difference(operator: Operator, namespace: str) -> None:
    filled = {"cpu": "3", "memory": "2Gi", "ephemeral-storage": "1Gi"}
    operator.cluster.apply(limits(namespace, default=filled, defaultRequest={"ephemeral-storage": "1Mi"}))
    apply(operator, namespace, odd())
    operator.ready(namespace, "odd", 180)
    assert rolled_once(operator, namespace)


def test_a_limit_range_that_refuses_pods_is_told(operator: Operator, namespace: str) -> None:
    operator.cluster.apply(limits(namespace, max={"memory": "16Mi"}))
    apply(operator, namespace, odd())
    told = operator.reason(namespace, "odd", "Ready", "PodsRefused", 120)
    assert "maximum memory usage per Container is 16Mi" in told["message"]
    operator.cluster.kubectl("-n", namespace, "delete", "limitrange", "limits")
    operator.ready(namespace, "odd", 300)


def rolled_once(operator: Operator, namespace: str) -> bool:
    """Return whether another reconcile leaves the Deployment as the first one made it."""
    spec = json.dumps({"spec": {"callLimits": {"perMinute": 7}}})  # which no pod knows of
    operator.cluster.kubectl("-n", namespace, "patch", "skill", "odd", "--type=merge", "-p", spec)
    generation = operator.skill(namespace, "odd")["metadata"]["generation"]

    def observed() -> bool:
        return bool(operator.skill(namespace, "odd")["status"]["observedGeneration"] == generation)

    until("it was reconciled", 30, observed)
    return bool(operator.cluster.get("-n", namespace, "deployment", "skill-odd")["metadata"]["generation"] == 1)


def test_a_quantity_is_rolled_once_however_it_is_written(operator: Operator, namespace: str) -> None:
    resources = {"requests": {"cpu": ".02", "memory": "1e7"}, "limits": {"cpu": "0.5", "memory": "0.25Gi"}}
    apply(operator, namespace, odd(resources=resources))
    operator.ready(namespace, "odd", 180)
    (container,) = operator.cluster.get("-n", namespace, "deployment", "skill-odd")["spec"]["template"]["spec"][
        "containers"
    ]
    assert container["resources"]["limits"] == {"cpu": "500m", "memory": "256Mi", "ephemeral-storage": "64Mi"}
    assert container["resources"]["requests"] == {"cpu": "20m", "memory": "10e6"}
    assert rolled_once(operator, namespace)


TAKEN = ["0.5", 0.5, 1e8, ".5", "500m", 1, "+1", "1.", "1e3", "1E3", "1e-1", "1E", "1P", "1Ei", "100000u", "1k"]


@pytest.mark.parametrize("cpu", TAKEN, ids=repr)
def test_what_pods_take_as_a_quantity_skills_take(operator: Operator, namespace: str, cpu: str | float) -> None:
    tried = ("apply", "--server-side", "--dry-run=server", "-n", namespace, "-f", "-")
    body = odd(resources={"requests": {"cpu": 0, "memory": 0}, "limits": {"cpu": cpu}})
    operator.cluster.kubectl(*tried, stdin=json.dumps(body))


@pytest.mark.parametrize("cpu", ["1e", "-1", "1 ", "one", "1e999999999"], ids=repr)
def test_what_is_no_quantity_is_refused_in_words(operator: Operator, namespace: str, cpu: str | float) -> None:
    tried = ("apply", "--server-side", "--dry-run=server", "-n", namespace, "-f", "-")
    with pytest.raises(ClusterError, match=r"spec.resources.limits.cpu"):
        operator.cluster.kubectl(*tried, stdin=json.dumps(odd(resources={"limits": {"cpu": cpu}})))


def test_an_autoscaler_is_told_and_not_fought(operator: Operator, namespace: str) -> None:
    apply(operator, namespace, odd(idleTimeoutSeconds=60))
    operator.ready(namespace, "odd", 180)
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "skill-odd"}
    operator.cluster.apply({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "odd", "namespace": namespace},
        "spec": {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 3},
    })  # fmt: skip
    operator.call(namespace, "odd", {"what": "awake"})
    told = operator.reason(namespace, "odd", "Active", "ScaledByHand", 120)
    assert "autoscaler" in told["message"]
    before = operator.cluster.get("-n", namespace, "deployment", "skill-odd")["metadata"]["generation"]
    operator.cluster.kubectl("-n", namespace, "annotate", "skill", "odd", "example.com/seen=yes")
    assert operator.call(namespace, "odd", {"what": "hi"}).body == {"said": "hi"}
    after = operator.cluster.get("-n", namespace, "deployment", "skill-odd")
    assert (after["metadata"]["generation"], after["spec"]["replicas"]) == (before, 2)


def test_a_namespace_ends_without_a_word(operator: Operator) -> None:
    namespace = f"ends-{uuid.uuid4().hex[:8]}"
    operator.cluster.kubectl("create", "namespace", namespace)
    apply(operator, namespace, odd())
    operator.ready(namespace, "odd", 180)
    operator.cluster.kubectl("delete", "namespace", namespace, "--wait=true", "--timeout=180s")
    log = operator.cluster.kubectl("-n", NAMESPACE, "logs", f"deployment/{NAMESPACE}-controller", "--since=200s")
    lines = [line for line in log.splitlines() if namespace in line]
    assert not [line for line in lines if "ObjectRefused" in line or "refuses" in line]


def children(operator: Operator, namespace: str) -> list[dict[str, Any]]:
    """Return what belongs to the Skill, but for its checks, contracts and revisions, whose names hold its uid."""
    named_by_uid = "app.kubernetes.io/component notin (check,contract,revision)"
    found = operator.cluster.get("-n", namespace, CHILDREN, "-l", f"{OWN[1]},{named_by_uid}")["items"]
    return [obj for obj in found if "-check-" not in obj["metadata"]["name"]]


def test_a_skill_goes_on_from_a_backup(operator: Operator, namespace: str) -> None:
    """A restore makes children without owners, which bear the uid of the Skill that was."""
    apply(operator, namespace, odd())
    operator.ready(namespace, "odd", 180)
    kept = children(operator, namespace)
    assert {obj["kind"] for obj in kept} == {"ConfigMap", "Deployment", "NetworkPolicy", "Service", "ServiceAccount"}
    operator.cluster.kubectl("-n", namespace, "delete", "skill", "odd")
    gone = ("get", CHILDREN, "-n", namespace, *OWN, "-o", "name")
    until("all of it is gone", 90, lambda: not operator.cluster.kubectl(*gone).strip())
    for obj in kept:
        obj.pop("status", None)
        meta = obj["metadata"]
        obj["metadata"] = {key: meta[key] for key in ("name", "namespace", "labels", "annotations") if key in meta}
        for key in ("clusterIP", "clusterIPs"):
            obj.get("spec", {}).pop(key, None)
    operator.cluster.apply(*kept)
    apply(operator, namespace, odd())
    ready = operator.ready(namespace, "odd", 240)
    for obj in children(operator, namespace):
        (owner,) = obj["metadata"]["ownerReferences"]
        assert owner["uid"] == ready["metadata"]["uid"], obj["kind"]
    assert operator.call(namespace, "odd", {"what": "back"}).body == {"said": "back"}


def test_client_side_and_server_side_apply_agree(operator: Operator, namespace: str) -> None:
    kubectl, old = operator.cluster.kubectl, {"type": "string"}
    wanted = odd(description="First.")
    wanted["spec"]["input"] = {
        "type": "object",
        "properties": {"what": {"type": "string"}, "old": old},
        "required": ["what"],
    }
    kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(wanted))
    wanted["spec"]["description"] = "Second."
    force = ("--server-side", "--force-conflicts")
    kubectl("apply", *force, "-n", namespace, "-f", "-", stdin=json.dumps(wanted))
    del wanted["spec"]["input"]["properties"]["old"]
    kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(wanted))
    live = operator.ready(namespace, "odd", 180)
    assert live["spec"]["input"] == wanted["spec"]["input"]
    assert live["spec"]["description"] == "Second."
    kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(wanted))
    assert operator.skill(namespace, "odd")["metadata"]["generation"] == live["metadata"]["generation"]


def test_nulls_of_schemas_and_examples_stay_and_are_no_drift(operator: Operator, namespace: str) -> None:
    what = {"type": ["string", "null"], "default": None}
    examples = [
        {"name": "null", "input": {"what": None}, "output": {"said": None}},
        {"name": "none", "input": {}, "output": {"said": None}},
    ]
    source = {"inline": "def run(input):\n    return {'said': input.get('what')}\n"}
    schema = {"type": "object", "properties": {"what": what}}
    wanted = odd(input=schema, output={"type": "object"}, examples=examples, source=source)
    apply(operator, namespace, wanted)
    live = operator.ready(namespace, "odd", 180)
    assert (live["spec"]["input"], live["spec"]["examples"]) == (schema, examples)
    apply(operator, namespace, wanted)
    assert operator.skill(namespace, "odd")["metadata"]["generation"] == live["metadata"]["generation"]
    assert operator.call(namespace, "odd", {"what": None}).body == {"said": None}


def test_lists_are_stored_as_they_were_written(operator: Operator, namespace: str) -> None:
    """Argo CD compares a list of a manifest with the live one as a whole."""
    lists = {
        "secrets": [{"name": "t", "secretKeyRef": {"name": "k", "key": "t"}}],
        "egress": [{"cidr": "203.0.113.0/24", "ports": [443]}, {"host": "api.example.com", "ports": [443, 80]}],
        "examples": [{"name": "one", "input": {"what": "a"}, "output": {"said": "a"}}],
    }
    for how in ((), ("--server-side",)):
        tried = ("apply", *how, "--dry-run=server", "-o", "json", "-n", namespace, "-f", "-")
        stored = json.loads(operator.cluster.kubectl(*tried, stdin=json.dumps(odd(**lists))))["spec"]
        assert {name: stored[name] for name in lists} == lists


def test_nulls_that_client_side_apply_drops_are_named_and_server_side_apply_keeps_them(
    operator: Operator, namespace: str
) -> None:
    """Of a schema and of examples, at the first apply and at a later one."""
    said = {"type": "object", "properties": {"what": {"type": ["string", "null"], "default": None}}}
    examples = [{"name": "one", "input": {"what": None}, "output": {"said": None}}]

    def manifest(description: str) -> dict[str, Any]:
        echo = {"inline": "def run(input):\n    return {'said': input.get('what')}\n"}
        output = {"type": "object", "properties": {"said": {"type": ["string", "null"]}}, "required": ["said"]}
        return odd(description=description, input=said, output=output, examples=examples, source=echo)

    def messages() -> list[str]:
        found = operator.cluster.get("-n", namespace, "events", "--field-selector", "reason=NullsDropped")["items"]
        return [event["message"] for event in found]

    for description in ("first", "second"):
        operator.cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(manifest(description)))
    until("an event", 60, messages)
    assert any("spec.input.properties.what.default" in message for message in messages())
    assert all("kubectl apply --server-side" in message for message in messages())
    server_side = ("apply", "--server-side", "--force-conflicts", "-n", namespace, "-f", "-")
    operator.cluster.kubectl(*server_side, stdin=json.dumps(manifest("third")))
    spec = operator.ready(namespace, "odd", 180)["spec"]
    assert (spec["input"], spec["examples"]) == (said, examples)
    assert operator.call(namespace, "odd", {"what": None}).body == {"said": None}
