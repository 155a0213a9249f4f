"""Nobody poses as the operator: not by pods, not by workloads, not by labels on a Skill."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest

from hack.cluster.shell import ClusterError
from hack.install import NAMESPACE
from tests.integration.installed import Operator, until
from tests.integration.test_skill import apply, skill

pytestmark = pytest.mark.cluster
MALLORY = ("--as=mallory", "--as-group=system:masters")  # may do anything, but is not trusted by the policies
IMAGE = "localhost/pause:1"
WORKLOADS = {
    "Deployment": "apps/v1",
    "ReplicaSet": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "Job": "batch/v1",
}


@pytest.fixture(scope="module")
def guarded(operator: Operator) -> Operator:
    """A policy takes a moment to be active after it was applied."""

    def refused() -> bool:
        try:
            create(operator, "default", pod({"skill-operator.dev/skill": "x"}), "--dry-run=server")
        except ClusterError as error:
            return "skill-operator.dev" in str(error)
        return False

    until("the policies are active", 30, refused)
    return operator


def create(operator: Operator, namespace: str, body: dict[str, Any], *more: str) -> None:
    operator.cluster.kubectl(*MALLORY, "-n", namespace, "create", *more, "-f", "-", stdin=json.dumps(body))


def pod(labels: dict[str, str], image: str = IMAGE) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"name": "skill", "image": image}], "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "impostor", "labels": labels}, "spec": spec}


def workload(kind: str, of_template: dict[str, str], own: dict[str, str]) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "x"} | of_template}, "spec": pod({})["spec"]}
    spec: dict[str, Any] = {"template": template}
    if kind == "Job":
        template["spec"]["restartPolicy"] = "Never"
    else:
        spec["selector"] = {"matchLabels": {"app": "x"}}
    if kind == "StatefulSet":
        spec["serviceName"] = "x"
    return {"apiVersion": WORKLOADS[kind], "kind": kind, "metadata": {"name": "impostor", "labels": own}, "spec": spec}


def mine(uid: str) -> dict[str, str]:
    """Labels by which the gateway knows the pods of a Skill."""
    return {
        "app.kubernetes.io/managed-by": "skill-operator",
        "app.kubernetes.io/component": "skill",
        "skill-operator.dev/skill-uid": uid,
    }


def test_a_pod_in_a_skill_s_clothes_is_refused(guarded: Operator, namespace: str) -> None:
    for labels in (
        mine("some-uid"),
        {"skill-operator.dev/anything": ""},
        {"app.kubernetes.io/managed-by": "skill-operator"},
    ):
        with pytest.raises(ClusterError, match="by the operator alone, not by"):
            create(guarded, namespace, pod(labels))
    create(guarded, namespace, pod({"app.kubernetes.io/managed-by": "somebody"}), "--dry-run=server")


@pytest.mark.parametrize("kind", WORKLOADS)
def test_a_workload_in_a_skill_s_clothes_is_refused(guarded: Operator, namespace: str, kind: str) -> None:
    for body in (workload(kind, mine("some-uid"), {}), workload(kind, {}, {"skill-operator.dev/skill": "x"})):
        with pytest.raises(ClusterError, match="by the operator alone, not by"):
            create(guarded, namespace, body)
    create(guarded, namespace, workload(kind, {}, {}), "--dry-run=server")


@pytest.mark.parametrize("what", ["labels", "annotations"])
def test_what_is_the_operator_s_own_on_a_skill_is_refused_to_people(
    guarded: Operator, namespace: str, what: str
) -> None:
    body = skill("forged")
    body["metadata"][what] = {"skill-operator.dev/skill-uid": "x", "example.com/mine": "y"}
    with pytest.raises(ClusterError, match=r"take away skill-operator\.dev/skill-uid"):
        create(guarded, namespace, body)
    body["metadata"][what] = {"example.com/mine": "y"}
    body["metadata"].setdefault("annotations", {}).update(
        {
            "skill-operator.dev/retry": "1",
            "skill-operator.dev/approve": "abc",
            "skill-operator.dev/approved-by": "mallory",
            "skill-operator.dev/restore": "2",
        }
    )
    create(guarded, namespace, body, "--dry-run=server")


def test_people_may_scale_and_annotate_but_not_change_what_runs(guarded: Operator, namespace: str) -> None:
    kubectl = guarded.cluster.kubectl
    apply(guarded, namespace, skill("scaled"))
    guarded.ready(namespace, "scaled")
    (live,) = guarded.cluster.get("-n", namespace, "pods", "-l", "app.kubernetes.io/component=skill")["items"]
    name = live["metadata"]["name"]
    here, deployment = ("-n", namespace), "deployment/skill-scaled"
    for attack in (
        ("set", "image", deployment, f"skill={IMAGE}"),
        ("set", "env", deployment, "A=b"),
        ("set", "image", f"pod/{name}", f"skill={IMAGE}"),
        ("label", "pod", name, "app.kubernetes.io/managed-by-"),  # out of the namespace's default-deny policy
        ("label", "--overwrite", "pod", name, "skill-operator.dev/skill-uid=another"),
        ("label", "--overwrite", "pod", name, "app.kubernetes.io/component=gateway"),
    ):
        with pytest.raises(ClusterError, match="by the operator alone, not by"):
            kubectl(*MALLORY, *here, *attack)
    kubectl(*MALLORY, *here, "annotate", "pod", name, "example.com/note=seen")
    kubectl(*MALLORY, *here, "label", "pod", name, "example.com/team=a")
    kubectl(*MALLORY, *here, "scale", deployment, "--replicas=2")
    kubectl(*here, "rollout", "status", deployment, "--timeout=60s")
    kubectl(*MALLORY, *here, "delete", "pod", name, "--wait=false")
    guarded.ready(namespace, "scaled")


def test_an_image_of_a_skill_runs_as_that_skill_alone(guarded: Operator, namespace: str) -> None:
    """R14. Nodes pull without a credential, so what holds is who may make such a pod."""
    apply(guarded, namespace, skill("private"))
    guarded.ready(namespace, "private")
    (live,) = guarded.cluster.get("-n", namespace, "pods", "-l", "app.kubernetes.io/component=skill")["items"]
    (status,) = live["status"]["containerStatuses"]
    image = live["spec"]["containers"][0]["image"]
    repository, _, digest = image.partition("@")
    host, _, path = repository.partition("/")
    port = host.rpartition(":")[2]
    spellings = (image, f"{repository}:latest", f"127.0.0.1:{port}/{path}@{digest}", status["imageID"], digest)
    for spelling in spellings:
        for where in (namespace, "default"):
            with pytest.raises(ClusterError, match="runs as that skill alone"):
                create(guarded, where, pod({}, spelling))
        first = pod({})
        first["spec"]["initContainers"] = [{"name": "first", "image": spelling}]
        with pytest.raises(ClusterError, match="runs as that skill alone"):
            create(guarded, namespace, first)
    create(guarded, namespace, pod({}))
    debugger = {"spec": {"ephemeralContainers": [{"name": "look", "image": image}]}}
    for attack in (
        ("patch", "pod/impostor", "--subresource=ephemeralcontainers", "-p", json.dumps(debugger)),
        ("set", "image", "pod/impostor", f"skill={image}"),
    ):
        with pytest.raises(ClusterError, match="runs as that skill alone"):
            guarded.cluster.kubectl(*MALLORY, "-n", namespace, *attack)
    indirect = workload("Deployment", {}, {})
    indirect["spec"]["template"]["spec"] = pod({}, image)["spec"]
    create(guarded, namespace, indirect)
    guarded.cluster.kubectl(
        "-n", namespace, "wait", "deployment/impostor", "--for=condition=ReplicaFailure", "--timeout=60s"
    )
    told = json.dumps(guarded.cluster.get("-n", namespace, "deployment/impostor")["status"]["conditions"])
    assert "runs as that skill alone" in told
    guarded.cluster.kubectl(*MALLORY, "-n", namespace, "annotate", "pod", live["metadata"]["name"], "a=b")


@dataclass(frozen=True)
class Resource:
    """Resource is one kind of object, and the least that the API server takes for one."""

    prefix: str
    plural: str
    kind: str
    body: dict[str, Any]
    has_status: bool = True

    def path(self, namespace: str, *parts: str) -> str:
        return "/".join((self.prefix, "namespaces", namespace, self.plural, *parts))

    def object(self, labels: dict[str, str] | None = None, name: str = "honest") -> dict[str, Any]:
        version = self.prefix.removeprefix("/apis/").removeprefix("/api/")
        meta = {"name": name, "labels": labels or {"example.com/team": "a"}}
        return {"apiVersion": version, "kind": self.kind, "metadata": meta, **self.body}


CORE, APPS, BATCH, NETWORK = "/api/v1", "/apis/apps/v1", "/apis/batch/v1", "/apis/networking.k8s.io/v1"
NO_PODS: dict[str, Any] = {
    "containers": [{"name": "skill", "image": IMAGE}],
    "nodeSelector": {"example.com/no-such-node": "yes"},
}
TEMPLATE = {"metadata": {"labels": {"app": "x"}}, "spec": NO_PODS}
BARE_JOB = {"suspend": True, "template": {"spec": NO_PODS | {"restartPolicy": "Never"}}}  # its template has no metadata
SCALED = {"replicas": 0, "selector": {"matchLabels": {"app": "x"}}, "template": TEMPLATE}
RESOURCES = (
    Resource(CORE, "pods", "Pod", {"spec": NO_PODS}),
    Resource(CORE, "replicationcontrollers", "ReplicationController",
             {"spec": {"replicas": 0, "selector": {"app": "x"}, "template": TEMPLATE}}),
    Resource(APPS, "deployments", "Deployment", {"spec": SCALED}),
    Resource(APPS, "replicasets", "ReplicaSet", {"spec": SCALED}),
    Resource(APPS, "statefulsets", "StatefulSet", {"spec": SCALED | {"serviceName": "x"}}),
    Resource(APPS, "daemonsets", "DaemonSet", {"spec": {key: SCALED[key] for key in ("selector", "template")}}),
    Resource(BATCH, "jobs", "Job", {"spec": BARE_JOB}),
    Resource(BATCH, "cronjobs", "CronJob",
             {"spec": {"suspend": True, "schedule": "0 0 1 1 *", "jobTemplate": {"spec": BARE_JOB}}}),
    Resource(CORE, "configmaps", "ConfigMap", {"data": {"a": "b"}}, has_status=False),
    Resource(CORE, "services", "Service", {"spec": {"ports": [{"port": 80}]}}),
    Resource(CORE, "serviceaccounts", "ServiceAccount", {}, has_status=False),
    Resource(CORE, "resourcequotas", "ResourceQuota", {"spec": {"hard": {"example.com/none": "1"}}}),
    Resource(NETWORK, "networkpolicies", "NetworkPolicy", {"spec": {"podSelector": {}, "ingress": [{}], "egress": [{}]}},
             has_status=False),
)  # fmt: skip
BY_PLURAL = {resource.plural: resource for resource in RESOURCES}
OURS: tuple[dict[str, str], ...] = (
    mine("some-uid"),
    {"skill-operator.dev/skill-uid": "some-uid"},
    {"skill-operator.dev/anything": ""},
    {"app.kubernetes.io/managed-by": "skill-operator"},
)
"""Labels by which an object would be believed."""
Answer = tuple[int, str]


@dataclass(frozen=True)
class Impersonator:
    """Impersonator sends requests to the API server in somebody's name, and stores nothing unless told to."""

    client: Any
    user: str
    group: str = "system:authenticated"

    def request(
        self, method: str, path: str, body: Any, media: str = "application/json", *, store: bool = False
    ) -> Answer:
        """Return the status and the text of the response."""
        headers = {"Impersonate-User": self.user, "Impersonate-Group": self.group, "Content-Type": media}
        query = {} if store else {"dryRun": "All"}
        if method == "DELETE" and not store:  # which heeds no query where it has a body
            body = body | {"dryRun": ["All"]}
        if "apply-patch" in media:
            query |= {"fieldManager": self.user, "force": "true"}
        url = f"{self.client.configuration.host}{path}?{urlencode(query)}"
        response = self.client.rest_client.pool_manager.request(method, url, body=json.dumps(body), headers=headers)
        return response.status, response.data.decode()

    def updates(self, resource: Resource, live: dict[str, Any], change: dict[str, Any]) -> Iterator[tuple[str, Answer]]:
        """Change an object's metadata by each verb and media type that there is."""
        meta = live["metadata"]
        path = resource.path(meta["namespace"], meta["name"])
        merged = meta | {
            key: meta.get(key, {}) | value if isinstance(value, dict) else value for key, value in change.items()
        }
        whole = live | {
            "metadata": {key: value for key, value in merged.items() if key not in {"managedFields", "resourceVersion"}}
        }
        partial = {"metadata": change}
        steps = [{"op": "add", "path": f"/metadata/{key}", "value": merged[key]} for key in change]
        applied = {"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": {"name": meta["name"]} | change}
        yield "PUT", self.request("PUT", path, whole)
        for media, body in (("merge-patch", partial), ("strategic-merge-patch", partial), ("json-patch", steps)):
            yield media, self.request("PATCH", path, body, f"application/{media}+json")
        yield "apply", self.request("PATCH", path, applied, "application/apply-patch+yaml")
        if resource.has_status:
            yield "status", self.request("PATCH", f"{path}/status", partial, "application/merge-patch+json")


@pytest.fixture(scope="module")
def mallory(guarded: Operator) -> Impersonator:
    return Impersonator(guarded.objects.api_client, "mallory", "system:masters")


@pytest.fixture(scope="module")
def controller(guarded: Operator) -> Impersonator:
    return Impersonator(
        guarded.objects.api_client, f"system:serviceaccount:{NAMESPACE}:{NAMESPACE}-controller", "system:masters"
    )


def is_refused(answer: Answer, why: str = "by the operator alone, not by") -> bool:
    status, text = answer
    return status in {403, 422} and why in text


def bears(answer: Answer, labels: dict[str, str]) -> bool:
    """Return whether the object in a response has one of the labels."""
    status, text = answer
    found = json.loads(text)["metadata"].get("labels", {}) if status < 300 else {}
    return any(found.get(key) == value for key, value in labels.items())


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.plural)
class TestEachKind:
    def test_nobody_creates_one_in_the_operator_s_name(
        self, resource: Resource, mallory: Impersonator, controller: Impersonator, namespace: str
    ) -> None:
        path = resource.path(namespace)
        for labels in OURS:
            assert is_refused(mallory.request("POST", path, resource.object(labels))), labels
            if resource.plural != "pods":  # a skill's pod has an image of its own
                trusted = controller.request(
                    "POST", path, resource.object(labels | {"app.kubernetes.io/component": "x"})
                )
                assert trusted[0] < 300, trusted
        assert mallory.request("POST", path, resource.object())[0] == 201
        assert mallory.request("POST", path, resource.object({"app.kubernetes.io/component": "skill"}))[0] == 201

    def test_no_update_makes_it_the_operator_s(self, resource: Resource, mallory: Impersonator, namespace: str) -> None:
        status, text = mallory.request("POST", resource.path(namespace), resource.object(name="stored"), store=True)
        assert status == 201, text
        live = json.loads(text)
        for labels in OURS:
            for how, answer in mallory.updates(resource, live, {"labels": labels}):
                if how == "status":  # the API server may ignore labels there
                    assert is_refused(answer) or not bears(answer, labels), (how, labels, answer)
                else:
                    assert is_refused(answer), (how, labels, answer)
        honest = {"labels": {"example.com/team": "b"}, "annotations": {"example.com/note": "seen"}}
        for how, answer in mallory.updates(resource, live, honest):
            assert answer[0] == 200, (how, answer)


@pytest.mark.parametrize(
    ("plural", "labels"),
    [(plural, labels) for plural in ("deployments", "replicasets", "statefulsets", "daemonsets", "jobs", "cronjobs",
                                     "replicationcontrollers") for labels in OURS],
)  # fmt: skip
def test_no_template_makes_pods_in_the_operator_s_name(
    plural: str, labels: dict[str, str], mallory: Impersonator, namespace: str
) -> None:
    body = json.loads(json.dumps(BY_PLURAL[plural].object()))
    spec = body["spec"]["jobTemplate"]["spec"] if plural == "cronjobs" else body["spec"]
    spec["template"].setdefault("metadata", {}).setdefault("labels", {}).update(labels)
    assert is_refused(mallory.request("POST", BY_PLURAL[plural].path(namespace), body))


OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "somebody-s", "uid": "00000000-0000-4000-8000-000000000000"}


@pytest.fixture(scope="module")
def owned(guarded: Operator) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A namespace, and one object of each kind that a Skill in it owns."""
    with guarded.cluster.namespace("owned") as namespace:
        apply(guarded, namespace, skill("owned"))
        guarded.ready(namespace, "owned")
        plurals = "deployments,replicasets,pods,services,configmaps,serviceaccounts,networkpolicies,resourcequotas"
        selector = "app.kubernetes.io/managed-by=skill-operator"
        found = guarded.cluster.get("-n", namespace, plurals, "-l", selector)["items"]
        yield namespace, list({obj["kind"]: obj for obj in found if obj["metadata"].get("ownerReferences")}.values())


def test_what_a_skill_owns_stays_its_own(
    owned: tuple[str, list[dict[str, Any]]], mallory: Impersonator, guarded: Operator
) -> None:
    _, objects = owned
    assert {obj["kind"] for obj in objects} >= {"Deployment", "ReplicaSet", "Pod", "Service", "ConfigMap"}
    for seen in objects:
        resource = next(one for one in RESOURCES if one.kind == seen["kind"])
        meta = seen["metadata"]
        live = guarded.cluster.get("-n", meta["namespace"], resource.plural, meta["name"])
        own = live["metadata"]
        attacks: tuple[dict[str, Any], ...] = (
            {"labels": {"skill-operator.dev/skill-uid": "another"}},
            {"labels": {"skill-operator.dev/new": ""}},
            {"labels": {"app.kubernetes.io/component": "gateway"}},
            {"annotations": {"skill-operator.dev/draining": "x"}},
            {"ownerReferences": [*own["ownerReferences"], OWNER]},
            {"finalizers": [*own.get("finalizers", []), "example.com/mine"]},
        )
        for attack in attacks:
            for how, answer in mallory.updates(resource, live, attack):
                if how != "status":
                    assert is_refused(answer), (seen["kind"], how, attack, answer)
        path = resource.path(meta["namespace"], meta["name"])
        for gone in ({"labels": None}, {"labels": {"skill-operator.dev/skill-uid": None}}, {"ownerReferences": None}):
            answer = mallory.request("PATCH", path, {"metadata": gone}, "application/merge-patch+json")
            assert is_refused(answer), (seen["kind"], gone, answer)
        honest = {"labels": {"example.com/team": "b"}, "annotations": {"example.com/note": "seen"}}
        for how, answer in mallory.updates(resource, live, honest):
            assert answer[0] == 200, (seen["kind"], how, answer)
        orphan = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Orphan"}
        answer = mallory.request("DELETE", path, orphan)
        assert is_refused(answer, "goes with its pods") == (seen["kind"] in {"Deployment", "ReplicaSet"}), answer
        answer = mallory.request("DELETE", path, orphan | {"propagationPolicy": "Background"})
        assert answer[0] == 200, answer


def test_nothing_is_put_into_a_skill_s_pod(
    owned: tuple[str, list[dict[str, Any]]], mallory: Impersonator, controller: Impersonator
) -> None:
    namespace, objects = owned
    (live,) = (obj for obj in objects if obj["kind"] == "Pod")
    path = BY_PLURAL["pods"].path(namespace, live["metadata"]["name"])
    container = {"name": "look", "image": IMAGE, "volumeMounts": [{"name": "tmp", "mountPath": "/s"}]}
    debugger = {"spec": {"ephemeralContainers": [container]}}
    for somebody in (mallory, controller):
        for media in ("merge-patch", "strategic-merge-patch"):
            answer = somebody.request("PATCH", f"{path}/ephemeralcontainers", debugger, f"application/{media}+json")
            assert is_refused(answer), answer
        unconditional = {key: value for key, value in live["metadata"].items() if key != "resourceVersion"}
        whole = live | {"metadata": unconditional, "spec": live["spec"] | {"ephemeralContainers": [container]}}
        assert is_refused(somebody.request("PUT", f"{path}/ephemeralcontainers", whole))
    resources = {"limits": {"cpu": "2"}, "requests": {"cpu": "2"}}
    resize = {"spec": {"containers": [{"name": "skill", "resources": resources}]}}
    answer = mallory.request("PATCH", f"{path}/resize", resize, "application/strategic-merge-patch+json")
    assert is_refused(answer), answer
    for change in (
        {"activeDeadlineSeconds": 5},
        {"tolerations": [*live["spec"]["tolerations"], {"operator": "Exists"}]},
    ):
        assert is_refused(mallory.request("PATCH", path, {"spec": change}, "application/merge-patch+json"))


def test_no_binding_gives_a_pod_the_operator_s_labels(mallory: Impersonator, namespace: str) -> None:
    pods = BY_PLURAL["pods"]
    assert mallory.request("POST", pods.path(namespace), pods.object(name="bound"), store=True)[0] == 201
    for labels in OURS:
        meta = {"name": "bound", "labels": labels}
        target = {"apiVersion": "v1", "kind": "Node", "name": "nowhere"}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": meta, "target": target}
        assert is_refused(mallory.request("POST", pods.path(namespace, "bound", "binding"), body))
        assert is_refused(mallory.request("POST", f"{CORE}/namespaces/{namespace}/bindings", body))


def test_nobody_mounts_the_image_of_a_skill(
    owned: tuple[str, list[dict[str, Any]]], mallory: Impersonator, namespace: str
) -> None:
    home, objects = owned
    (live,) = (obj for obj in objects if obj["kind"] == "Pod")
    image = live["spec"]["containers"][0]["image"]
    host, _, path = image.partition("/")
    name, _, port = host.partition(":")
    spellings = [
        f"{each}/{path}" for each in (host, host.upper(), f"{name}:0{port}", f"127.0.0.1:{port}", f"[::1]:{port}")
    ]
    spellings += [image.partition("@")[0] + ":latest", image.partition("@")[2]]
    pods = BY_PLURAL["pods"]
    for where in (namespace, home, "default"):
        for spelling in spellings:
            body = pods.object()
            body["spec"] = NO_PODS | {"volumes": [{"name": "code", "image": {"reference": spelling}}]}
            assert is_refused(mallory.request("POST", pods.path(where), body), "runs as that skill alone"), spelling
    body["spec"]["volumes"][0]["image"]["reference"] = "registry.example/data:1"
    assert mallory.request("POST", pods.path(namespace), body)[0] == 201


SKILLS = Resource("/apis/skill-operator.dev/v1alpha1", "skills", "Skill", {})


@pytest.mark.parametrize("where", [NAMESPACE, f"{NAMESPACE}-builds", f"{NAMESPACE}-nodes"])
def test_no_skill_is_made_where_the_operator_is_at_home(
    where: str, mallory: Impersonator, controller: Impersonator, namespace: str
) -> None:
    for somebody in (mallory, controller):
        assert is_refused(
            somebody.request("POST", SKILLS.path(where), skill("here")), "keeps this namespace for itself"
        )
    assert mallory.request("POST", SKILLS.path(namespace), skill("here"))[0] == 201


def test_nobody_takes_the_port_that_nodes_pull_from(mallory: Impersonator, namespace: str) -> None:
    services = BY_PLURAL["services"]
    body = services.object()
    body["spec"] = {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30500}]}
    assert is_refused(mallory.request("POST", services.path(namespace), body), "choose another nodePort")
    body["spec"]["ports"][0]["nodePort"] = 30501
    assert mallory.request("POST", services.path(namespace), body)[0] == 201
