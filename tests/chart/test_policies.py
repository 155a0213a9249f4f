"""The admission policies, as rendered. What they refuse is tested on a cluster, in tests/hostile."""

from __future__ import annotations

import json

import pytest

from tests.chart.render import NAMESPACE, render, setting

KINDS = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")


def test_each_policy_is_bound_and_denies() -> None:
    rendered = render()
    policies, bindings = (rendered.kind(kind) for kind in KINDS)
    assert {p["metadata"]["name"] for p in policies} == {b["spec"]["policyName"] for b in bindings}
    assert len(policies) == 4
    assert all(policy["spec"]["failurePolicy"] == "Fail" for policy in policies)
    for binding in bindings:
        assert binding["spec"]["validationActions"] == ["Deny"]
        (where,) = binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
        assert where == {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [NAMESPACE]}


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
    registry = {"default": "localhost:30500", "external-registry": "registry.example:8443/skills"}[case]
    assert f"i.startsWith('{registry}/skills/')" in rule["expression"]
    assert ("'^[^/]+:30500/skills/'" in rule["expression"]) == (case == "default")


def test_where_namespaces_are_named_they_hold_there_alone() -> None:
    on = setting("admission.enabled", True)
    for binding in render("namespaced", on).kind(KINDS[1]):
        (where,) = binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
        assert (where["operator"], set(where["values"])) == ("In", {"finance", "legal", "builds"})


@pytest.mark.parametrize("kind", KINDS)
def test_they_can_be_left_out(kind: str) -> None:
    assert not render("default", setting("admission.enabled", False)).kind(kind)
    assert not render("namespaced").kind(kind)
