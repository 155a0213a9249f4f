"""The admission policies, as rendered. What they refuse is tested on a cluster, in tests/hostile."""

from __future__ import annotations

import json
import re

import pytest

from skill_operator import naming
from skill_operator.api.quantity import QUANTITY
from tests.chart.render import NAMESPACE, Object, render, setting

OWN = [NAMESPACE, f"{NAMESPACE}-builds", f"{NAMESPACE}-nodes"]
KINDS = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")


def image_pattern(rule: Object) -> str:
    """Return the pattern of the names that images of skills have, in lower case."""
    pattern, _ = json.JSONDecoder().raw_decode(rule["expression"].partition(".lowerAscii().matches(")[2])
    return str(pattern)


def test_each_policy_is_bound_and_denies() -> None:
    rendered = render()
    policies, bindings = (rendered.kind(kind) for kind in KINDS)
    assert {p["metadata"]["name"] for p in policies} == {b["spec"]["policyName"] for b in bindings}
    assert len(policies) == 9
    assert all(policy["spec"]["failurePolicy"] == "Fail" for policy in policies)
    for binding in bindings:
        assert binding["spec"]["validationActions"] == ["Deny"]
        (where,) = binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
        own = binding["spec"]["policyName"].endswith("-namespaces")
        chosen = {"operator": "In", "values": OWN} if own else {"operator": "NotIn", "values": [NAMESPACE]}
        assert where == {"key": "kubernetes.io/metadata.name"} | chosen


def test_only_the_controller_of_this_release_makes_workloads() -> None:
    more = setting("admission.trustedUsers", ["system:serviceaccount:velero:velero"])
    for fullname in ("skill-operator", "other"):
        rendered = render("default", setting("fullnameOverride", fullname), more)
        policy = rendered.one(KINDS[0], f"{fullname}-workloads")
        (trusted,) = [v["expression"] for v in policy["spec"]["variables"] if v["name"] == "trusted"]
        assert json.loads(trusted.partition(" in ")[2]) == [
            f"system:serviceaccount:{NAMESPACE}:{fullname}-controller",
            "system:serviceaccount:velero:velero",
            "system:serviceaccount:kube-system:deployment-controller",
        ]


def test_images_come_from_the_registry_that_nodes_pull_from() -> None:
    former = setting("admission.formerRegistries", ["localhost:30500"])
    rendered = render("external-registry", former)
    for name in ("pods", "workloads"):
        text = json.dumps(rendered.one(KINDS[0], f"skill-operator-{name}")["spec"]["validations"])
        assert r"[\"registry.example:8443/skills\",\"localhost:30500\"]" in text


@pytest.mark.parametrize("case", ["default", "external-registry"])
def test_images_of_skills_are_known_by_the_names_that_nodes_have_for_them(case: str) -> None:
    (rule,) = render(case).one(KINDS[0], "skill-operator-images")["spec"]["validations"]
    pattern = image_pattern(rule)
    registry = {"default": "localhost:30500", "external-registry": "registry.example:8443/skills"}[case]
    host, _, path = registry.partition("/")
    name, _, port = host.partition(":")
    place = f"{path}/skills" if path else "skills"
    spellings = [f"{name}:{port}", f"{name.upper()}:{port}", f"{name}:000{port}"]
    if case == "default":
        spellings += [f"127.0.0.1:{port}", f"[::1]:{port}", f"node-1.example:0{port}"]
    images = [*(f"{spelling}/{place}/team/add@sha256:1" for spelling in spellings), "sha256:1"]
    assert [image for image in images if not re.search(pattern, image.lower())] == []
    others = [f"{name}:{port}/skill-operator/runtime:1", "docker.io/library/python:3", f"x/{name}:{port}/{place}/a"]
    assert [image for image in others if re.search(pattern, image.lower())] == []


@pytest.mark.parametrize("pull", ["registry.example", "registry.example/a.b/c"])
def test_a_registry_without_a_port_is_known_by_the_port_that_is_meant(pull: str) -> None:
    (rule,) = render("external-registry", setting("registry.pull", pull)).one(KINDS[0], "skill-operator-images")[
        "spec"
    ]["validations"]
    host, slash, path = pull.partition("/")
    pattern = image_pattern(rule)
    for port in ("", ":443", ":0443", ":80"):
        assert re.search(pattern, f"{host}{port}{slash}{path}/skills/team/add")
    assert not re.search(pattern, f"registryxexample{slash}{path}/skills/team/add")


def test_where_namespaces_are_named_they_hold_there_alone() -> None:
    on = setting("admission.enabled", True)
    for binding in render("namespaced", on).kind(KINDS[1]):
        (where,) = binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
        own = binding["spec"]["policyName"].endswith("-namespaces")
        places = {NAMESPACE, "builds", f"{NAMESPACE}-nodes"} if own else {"finance", "legal", "builds"}
        assert (where["operator"], set(where["values"])) == ("In", places)


@pytest.mark.parametrize("kind", KINDS)
def test_they_can_be_left_out(kind: str) -> None:
    assert not render("default", setting("admission.enabled", False)).kind(kind)
    assert not render("namespaced").kind(kind)


def test_the_policy_for_skills_reads_quantities_as_the_operator_does() -> None:
    policy = render().one("ValidatingAdmissionPolicy", "skill-operator-skills")
    (unreadable,) = (v["expression"] for v in policy["spec"]["variables"] if v["name"] == "unreadable")
    assert f"matches(r'{QUANTITY}')" in unreadable


def test_the_policy_of_approvals_names_the_role_that_gives_the_right() -> None:
    for role, words in (
        ("reviewers", "which the ClusterRole reviewers gives"),
        ("", "the verb update on skills/approval"),
    ):
        policy = render("default", setting("rbac.approverRole", role)).one(
            "ValidatingAdmissionPolicy", "skill-operator-approvals"
        )
        assert words in policy["spec"]["validations"][0]["messageExpression"]
        assert ("ClusterRole" in json.dumps(policy["spec"])) is bool(role)


def test_what_people_may_set_is_a_decision_or_harmless() -> None:
    """Each annotation that the policy of Skills lets people set is `retry`, or one that the policy of approvals asks about."""
    policies = {p["metadata"]["name"]: p["spec"] for p in render().kind("ValidatingAdmissionPolicy")}
    variables = {v["name"]: v["expression"] for v in policies["skill-operator-skills"]["variables"]}
    (listed,) = re.findall(r"k in (\[[^\]]*\])\)", variables["annotations"])
    people = {name.removeprefix("skill-operator.dev/") for name in json.loads(listed)}
    variables = {v["name"]: v["expression"] for v in policies["skill-operator-approvals"]["variables"]}
    decided = set(re.findall(r"'([a-z-]+)'", variables["decided"].partition(".filter")[0]))
    assert decided <= people
    assert "retry" in people - decided
    assert {f"skill-operator.dev/{name}" for name in decided} == {
        naming.APPROVE_ANNOTATION,
        naming.APPROVED_BY_ANNOTATION,
        naming.REJECT_ANNOTATION,
        naming.REJECTED_BY_ANNOTATION,
        naming.REJECT_MESSAGE_ANNOTATION,
        naming.PROMOTED_BY_ANNOTATION,
    }
