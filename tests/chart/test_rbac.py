"""Who may do what: as little as will do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chart.render import CASES, NAMESPACE, Object, Rendered, labels, render, setting

every_case = pytest.mark.parametrize("case", CASES)
READ = {"get", "list", "watch"}
EVERYWHERE = ""
REVIEWS = {
    (EVERYWHERE, "authentication.k8s.io", "tokenreviews", "create"),
    (EVERYWHERE, "authorization.k8s.io", "subjectaccessreviews", "create"),
}
ANYBODY = setting("gateway.auth", "none")


def rules(rendered: Rendered, component: str) -> Iterator[tuple[str, Object]]:
    """What one process may do, and in which namespace."""
    for binding in rendered.kind("RoleBinding", "ClusterRoleBinding"):
        (subject,) = binding["subjects"]
        account = rendered.one("ServiceAccount", subject["name"])
        assert account["metadata"]["namespace"] == subject["namespace"] == NAMESPACE
        role = next(
            role
            for role in rendered.kind(binding["roleRef"]["kind"])
            if role["metadata"]["name"] == binding["roleRef"]["name"]
            and role["metadata"].get("namespace") == binding["metadata"].get("namespace")
        )
        if labels(account)["app.kubernetes.io/component"] == component:
            for rule in role["rules"]:
                yield binding["metadata"].get("namespace", EVERYWHERE), rule


def rights(rendered: Rendered, component: str) -> set[tuple[str, str, str, str]]:
    """(namespace, group, resource, verb)."""
    return {
        (namespace, group, resource, verb)
        for namespace, rule in rules(rendered, component)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@every_case
def test_no_wildcard(case: str) -> None:
    roles = render(case).kind("Role", "ClusterRole")
    assert roles
    for role in roles:
        assert role["rules"]
        for rule in role["rules"]:
            assert set(rule) <= {"apiGroups", "resources", "resourceNames", "verbs"}
            assert not {"*"} & {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}


@every_case
def test_no_way_to_more_rights(case: str) -> None:
    """Roles, impersonation, other pods' inside and tokens are nobody's business."""
    for role in render(case).kind("Role", "ClusterRole"):
        for rule in role["rules"]:
            assert "rbac.authorization.k8s.io" not in rule["apiGroups"]
            assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])
            banned = {
                "pods/exec",
                "pods/attach",
                "pods/portforward",
                "pods/ephemeralcontainers",
                "serviceaccounts/token",
            }
            assert not (banned | {"nodes/proxy"}) & set(rule["resources"])


@every_case
def test_of_the_cluster_only_its_networks_are_read(case: str) -> None:
    found = {right for right in rights(render(case), "controller") if right[2] in {"nodes", "servicecidrs"}}
    wanted = {("", "nodes", "list"), ("networking.k8s.io", "servicecidrs", "list")}
    assert found == (set() if case == "namespaced" else {(EVERYWHERE, *right) for right in wanted})
    (slices,) = [r for _, r in rules(render(), "controller") if "endpointslices" in r["resources"]]
    assert (slices["resourceNames"], slices["verbs"]) == (["kubernetes"], ["get"])


@every_case
def test_no_process_reads_a_secret_of_a_user(case: str) -> None:
    rendered = render(case)
    for component in ("controller", "gateway"):
        assert not [right for right in rights(rendered, component) if right[2] == "secrets"]
    for role in rendered.kind("ClusterRole"):
        assert "secrets" not in {resource for rule in role["rules"] for resource in rule["resources"]}


def test_the_registry_makes_two_secrets() -> None:
    found = list(rules(render(), "registry"))
    builds = f"{NAMESPACE}-builds"
    assert [rule for namespace, rule in found if namespace == builds] == [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["registry-push"], "verbs": ["get", "patch"]},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["list"]},
    ]
    assert [rule for namespace, rule in found if namespace == f"{NAMESPACE}-nodes"] == [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["registry-read"], "verbs": ["get", "patch"]},
    ]


def test_the_registry_s_sweeper_sees_what_is_wanted_and_no_more() -> None:
    secrets = {f"{NAMESPACE}-builds", f"{NAMESPACE}-nodes"}
    elsewhere = [rule for namespace, rule in rules(render(), "registry") if namespace not in secrets]
    assert elsewhere == [
        {"apiGroups": ["skill-operator.dev"], "resources": ["skills"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    ]


@every_case
def test_the_gateway_only_reads_and_wakes(case: str) -> None:
    found = {right for right in rights(render(case), "gateway") if right not in REVIEWS}
    assert {verb for _, _, resource, verb in found if resource != "deployments/scale"} == {"list", "watch"}
    assert {verb for _, _, resource, verb in found if resource == "deployments/scale"} == {"patch"}
    assert {resource for _, _, resource, _ in found} == {"skills", "pods", "deployments", "deployments/scale"}


def test_the_gateway_asks_who_calls() -> None:
    """Reviews store nothing. Nobody else asks, and nobody at all where everybody may call."""
    assert rights(render(), "gateway") >= REVIEWS
    assert not rights(render(), "controller") & REVIEWS
    assert not rights(render("default", ANYBODY), "gateway") & REVIEWS


def test_a_role_for_those_who_call() -> None:
    role = render().one("ClusterRole", "skill-caller")
    assert role["rules"] == [{"apiGroups": ["skill-operator.dev"], "resources": ["skills/call"], "verbs": ["create"]}]
    for less in (setting("rbac.callerRole", ""), ANYBODY):
        assert "skill-caller" not in {o["metadata"]["name"] for o in render("default", less).objects}


def test_a_role_for_those_who_approve_that_no_other_role_gets() -> None:
    role = render().one("ClusterRole", "skill-operator-approver")
    assert {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]} == {
        *(("skills", verb) for verb in ("get", "list", "watch", "update", "patch")),
        ("skills/approval", "update"),
    }
    assert not any("aggregate" in label for label in labels(role))
    assert "aggregationRule" not in role
    for less in (setting("rbac.approverRole", ""), setting("admission.enabled", False)):
        assert "skill-operator-approver" not in {o["metadata"]["name"] for o in render("default", less).objects}
    for case in CASES:
        others = [
            o for o in render(case).kind("Role", "ClusterRole") if o["metadata"]["name"] != "skill-operator-approver"
        ]
        assert not any("skills/approval" in rule["resources"] for other in others for rule in other["rules"])


@every_case
def test_the_controller_writes_status_not_spec(case: str) -> None:
    found = rights(render(case), "controller")
    assert {verb for _, _, resource, verb in found if resource == "skills"} == READ
    assert {verb for _, _, resource, verb in found if resource == "skills/status"} == {"patch"}
    assert {verb for _, _, resource, verb in found if resource == "pods"} == {"list", "watch"}


def test_what_the_controller_makes() -> None:
    """That none of it is superfluous is tested on a cluster, by what was asked for."""
    found = rights(render(), "controller")
    for group, resource in [
        ("apps", "deployments"), ("networking.k8s.io", "networkpolicies"), ("", "services"),
        ("", "configmaps"), ("", "serviceaccounts"), ("", "resourcequotas"),
    ]:  # fmt: skip
        verbs = {verb for where, g, r, verb in found if (where, g, r) == (EVERYWHERE, group, resource)}
        assert verbs >= {"get", "create", "patch"}
    builds = {(resource, verb) for where, _, resource, verb in found if where == f"{NAMESPACE}-builds"}
    assert {("jobs", "create"), ("configmaps", "create"), ("pods", "list")} <= builds


def test_the_lease_is_in_the_operator_s_own_namespace() -> None:
    found = {right for right in rights(render(), "controller") if right[2] == "leases"}
    assert {(where, verb) for where, _, _, verb in found} == {(NAMESPACE, verb) for verb in ("get", "create", "update")}


def test_nothing_cluster_wide_where_namespaces_are_named() -> None:
    assert not render("namespaced", ANYBODY).kind("ClusterRole", "ClusterRoleBinding")
    rendered = render("namespaced")
    assert {o["metadata"]["name"] for o in rendered.kind("ClusterRole", "ClusterRoleBinding")} == {
        "skill-caller",
        "skill-operator-gateway-reviews",
    }
    for component in ("controller", "gateway"):
        found = rights(rendered, component) - REVIEWS
        where = {namespace for namespace, _, resource, _ in found if resource == "skills"}
        assert where == {"finance", "legal"}
        assert {namespace for namespace, *_ in found} <= {"finance", "legal", "builds", NAMESPACE}
        assert {right for right in found if right[2] == "namespaces"} <= {("builds", "", "namespaces", "get")}


def test_built_in_roles_cover_skills() -> None:
    roles = [
        role
        for role in render().kind("ClusterRole")
        if any(label.startswith("rbac.authorization.k8s.io/aggregate-to-") for label in labels(role))
    ]
    for role in roles:
        rule, *calling = role["rules"]
        assert rule["resources"] == ["skills"]
        may_write = "create" in rule["verbs"]
        assert [(r["resources"], r["verbs"]) for r in calling] == ([(["skills/call"], ["create"])] if may_write else [])
        assert ("rbac.authorization.k8s.io/aggregate-to-edit" in labels(role)) is may_write
    assert len(roles) == 2
    off = render(
        "default", setting("rbac.aggregate", False), setting("rbac.callerRole", ""), setting("rbac.approverRole", "")
    )
    assert {labels(role)["app.kubernetes.io/component"] for role in off.kind("ClusterRole")} == {
        "controller",
        "gateway",
        "registry",
    }


def test_what_was_asked_and_spent_is_kept_where_no_owner_of_a_skill_writes() -> None:
    for case in ("default", "namespaced"):
        found = {right for right in rights(render(case), "controller") if right[2] == "configmaps"}
        verbs = {verb for where, _, _, verb in found if where == NAMESPACE}
        assert verbs == {"get", "list", "create", "patch", "delete"}
