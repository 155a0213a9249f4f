"""The workshop, as rendered: the one right that the gateway gets, and the policy that bounds what it may write."""

from __future__ import annotations

import re

import pytest

from skill_operator import naming
from skill_operator.api.v1alpha1 import SkillSpec
from skill_operator.settings import Settings
from tests.chart.render import NAMESPACE, Object, Refused, Rendered, render, setting
from tests.chart.test_rbac import EVERYWHERE, rights

OPEN = setting("gateway.workshop.enabled", True)
GATEWAY = f"system:serviceaccount:{NAMESPACE}:skill-operator-gateway"
KIND = "ValidatingAdmissionPolicy"


def policy(rendered: Rendered) -> Object:
    found: Object = rendered.one(KIND, "skill-operator-workshop")["spec"]
    return found


def test_without_the_workshop_the_gateway_writes_no_skill() -> None:
    rendered = render()
    added = rights(render("default", OPEN), "gateway") - rights(rendered, "gateway")
    group = naming.GROUP
    assert added == {
        *((EVERYWHERE, group, "skills", verb) for verb in ("get", "create", "patch")),
        (EVERYWHERE, "", "namespaces", "get"),
    }
    names = {one["metadata"]["name"] for one in rendered.kind(KIND, "ClusterRole")}
    assert not {"skill-operator-workshop", "skill-maker"} & names


def test_where_namespaces_are_named_it_writes_there_alone() -> None:
    admitted = setting("admission.enabled", True)
    added = rights(render("namespaced", admitted, OPEN), "gateway") - rights(render("namespaced"), "gateway")
    assert {namespace for namespace, *_ in added} == {"finance", "legal"}


def test_a_role_for_agents() -> None:
    role = render("default", OPEN).one("ClusterRole", "skill-maker")
    assert role["rules"] == [{"apiGroups": [naming.GROUP], "resources": ["skills", "skills/call"], "verbs": ["create"]}]
    less = render("default", OPEN, setting("rbac.makerRole", ""))
    assert "skill-maker" not in {one["metadata"]["name"] for one in less.kind("ClusterRole")}


def test_the_policy_is_about_the_gateway_s_account_alone() -> None:
    found = policy(render("default", OPEN))
    assert found["failurePolicy"] == "Fail"
    (condition,) = found["matchConditions"]
    assert condition["expression"] == f"request.userInfo.username == '{GATEWAY}'"
    assert all(rule["reason"] == "Forbidden" for rule in found["validations"])


def test_every_field_of_a_spec_is_judged() -> None:
    """A new field of the spec is refused until somebody says here that an agent's Skill may have it."""
    text = str(policy(render("default", OPEN)))
    (listed,) = re.findall(r"object\.spec\.all\(k, k in \[(.*?)\]\)", text, re.DOTALL)
    known = set(re.findall(r"[A-Za-z]+", listed))
    assert {field.alias or name for name, field in SkillSpec.model_fields.items()} <= known


def test_bounds_are_those_of_the_values() -> None:
    values = [setting(f"gateway.workshop.{name}", n) for name, n in (("maxAttempts", 2), ("tokenBudget", 5000))]
    rendered = render("default", OPEN, *values, setting("gateway.workshop.archiveAfterSeconds", 86400))
    text = str(policy(rendered))
    assert "<= 2\n" in text or "<= 2 " in text
    assert "<= 5000" in text
    assert "<= 86400" in text
    document = rendered.one("ConfigMap", "skill-operator-settings")["data"]["settings.json"]
    workshop = Settings.model_validate_json(document).gateway.workshop
    assert (workshop.enabled, workshop.max_attempts, workshop.token_budget) == (True, 2, 5000)
    assert workshop.archive_after_seconds == 86400


def test_who_asked_is_the_gateway_s_to_say() -> None:
    for chosen in ((), (OPEN,)):
        skills = str(render("default", *chosen).one(KIND, "skill-operator-skills")["spec"])
        assert GATEWAY in skills
        for annotation in (naming.CREATED_BY_ANNOTATION, naming.REQUEST_ANNOTATION):
            assert annotation in skills


@pytest.mark.parametrize("without", [setting("admission.enabled", False), setting("gateway.auth", "none")])
def test_it_does_without_neither_policy_nor_callers(without: str) -> None:
    with pytest.raises(Refused, match=r"gateway\.workshop\.enabled needs"):
        render("default", OPEN, without)


@pytest.mark.parametrize(
    "value", [("perMinute", 0), ("maxAttempts", 6), ("archiveAfterSeconds", 0), ("waitSeconds", 0)]
)
def test_a_value_out_of_bounds(value: tuple[str, int]) -> None:
    with pytest.raises(Refused):
        render("default", OPEN, setting(f"gateway.workshop.{value[0]}", value[1]))
