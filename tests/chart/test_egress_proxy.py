"""The egress proxy: what is configured, who gets in, and where it leads."""

from __future__ import annotations

import re
from ipaddress import collapse_addresses, ip_network

import pytest

import helper as egress_helper
from skill_operator.api.egress_networks import ALWAYS, PRIVATE
from skill_operator.gateway import egress_authorizer
from tests.chart.render import CASES, NAMESPACE, RELEASE, Refused, Rendered, containers, labels, pod, render, setting

every_case = pytest.mark.parametrize("case", CASES)
NAME = f"{RELEASE}-egress-proxy"
OFF = setting("egressProxy.enabled", False)


def config(rendered: Rendered) -> str:
    (found,) = (obj["data"]["squid.conf"] for obj in rendered.kind("ConfigMap") if "squid.conf" in obj["data"])
    return str(found)


def lines(rendered: Rendered, start: str) -> list[str]:
    return [line.removeprefix(start).strip() for line in config(rendered).splitlines() if line.startswith(start)]


@every_case
def test_what_no_name_leads_to_is_what_no_grant_opens(case: str) -> None:
    """One list for both, in two languages."""
    (shut,) = lines(render(case), "acl never dst ")
    every = [*(one.network for one in ALWAYS), *PRIVATE]
    for version in (4, 6):
        ours = {ip_network(text) for text in shut.split() if ip_network(text).version == version}
        assert ours == set(collapse_addresses(one for one in every if one.version == version))  # type: ignore[type-var]


def test_nor_to_the_cluster_s_own_networks() -> None:
    assert not lines(render(), "acl own ")
    assert lines(render(), "acl shut ") == ["any-of never"]
    rendered = render("external-registry", setting("isolation.clusterCIDRs", ["192.0.2.0/24", "2001:db8:1::/48"]))
    assert lines(rendered, "acl own dst ") == ["192.0.2.0/24 2001:db8:1::/48 203.0.113.7/32 2001:db8::7/128"]
    assert lines(rendered, "acl shut ") == ["any-of never own"]


def test_everything_is_refused_that_is_not_granted() -> None:
    rules = lines(render(), "http_access ")
    assert rules[-1] == "allow all"
    assert all(rule.startswith("deny ") for rule in rules[:-1])
    assert "deny !granted" in rules
    assert lines(render(), "ssl_bump ")[-1] == "terminate all"
    assert not [rule for rule in lines(render(), "ssl_bump ") if rule.split()[0] in {"bump", "stare", "client-first"}]


def test_no_answer_of_the_gateway_is_kept() -> None:
    (question,) = lines(render(), "external_acl_type judge ")
    assert {"ttl=0", "negative_ttl=0", "cache=0"} <= set(question.split())
    service, port = question.split()[-1].rsplit(":", 1)
    (judge,) = (s for s in render().kind("Service") if f"{s['metadata']['name']}.{NAMESPACE}.svc" == service)
    assert judge["spec"]["ports"] == [{"name": "judge", "port": int(port), "targetPort": "judge"}]
    assert len([word for word in question.split() if word.startswith("%")]) + 2 == egress_helper.FIELDS
    assert egress_helper.PATH == egress_authorizer.PATH


@pytest.mark.parametrize(("pods", "each"), [(50, 32), (50, 40), (2048, 1), (1, 2048), (8, 200)])
def test_no_namespace_takes_more_than_a_quarter_of_the_descriptors(pods: int, each: int) -> None:
    shares = setting("isolation.namespacePods", pods), setting("egressProxy.connectionsPerPod", each)
    (most,), (connections,) = (
        lines(render("default", *shares), name) for name in ("max_filedescriptors ", "client_ip_max_connections ")
    )
    assert int(connections) == each - 1, "Squid refuses one more where more than so many are there already"
    assert pods * each * 2 <= int(most) / 4


@pytest.mark.parametrize(("pods", "each"), [(50, 41), (51, 41), (2049, 1), (1, 2049)])
def test_a_share_that_is_too_large_is_refused(pods: int, each: int) -> None:
    with pytest.raises(Refused, match=r"egressProxy\.connectionsPerPod: .* of one namespace"):
        render("default", setting("isolation.namespacePods", pods), setting("egressProxy.connectionsPerPod", each))


def test_name_servers_of_one_s_own() -> None:
    assert not lines(render(), "dns_nameservers")
    rendered = render("default", setting("egressProxy.nameservers", ["169.254.20.10", "fd00::10"]))
    assert lines(rendered, "dns_nameservers ") == ["169.254.20.10 fd00::10"]
    _, names = rendered.component("NetworkPolicy", "egress-proxy")["spec"]["egress"]
    assert [peer["ipBlock"]["cidr"] for peer in names["to"] if "ipBlock" in peer] == [
        "169.254.20.10/32",
        "fd00::10/128",
    ]


@every_case
def test_it_reaches_nothing_but_names_and_the_gateway(case: str) -> None:
    """The internet is the controller's to open."""
    spec = render(case).component("NetworkPolicy", "egress-proxy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    judge, names = spec["egress"]
    (gateway,) = judge["to"]
    assert gateway["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "gateway"
    assert "namespaceSelector" not in gateway
    assert judge["ports"] == [{"protocol": "TCP", "port": 8083}]
    assert {port["port"] for port in names["ports"]} == {53}
    assert all("podSelector" in peer for peer in names["to"])


def test_only_pods_of_skills_get_in() -> None:
    (rule,) = render().component("NetworkPolicy", "egress-proxy")["spec"]["ingress"]
    (peer,) = rule["from"]
    labels_ = {"app.kubernetes.io/managed-by": "skill-operator", "app.kubernetes.io/component": "skill"}
    assert peer == {"podSelector": {"matchLabels": labels_}, "namespaceSelector": {}}
    assert rule["ports"] == [{"protocol": "TCP", "port": 3128}]
    (rule,) = render("namespaced").component("NetworkPolicy", "egress-proxy")["spec"]["ingress"]
    (expression,) = rule["from"][0]["namespaceSelector"]["matchExpressions"]
    assert (expression["operator"], expression["values"]) == ("In", ["finance", "legal"])


@every_case
def test_it_holds_no_token_and_nothing_to_read(case: str) -> None:
    deployment = render(case).component("Deployment", "egress-proxy")
    assert pod(deployment)["spec"]["automountServiceAccountToken"] is False
    assert {tuple(volume)[1] for volume in pod(deployment)["spec"]["volumes"]} == {"configMap", "emptyDir"}
    assert "replicas" not in deployment["spec"], "an upgrade would set back what the controller has set, or fail"
    assert re.fullmatch("[0-9a-f]{64}", pod(deployment)["metadata"]["annotations"]["checksum/config"])


def test_of_several_one_at_a_time_is_taken_away() -> None:
    assert not [
        o for o in render().kind("PodDisruptionBudget") if labels(o)["app.kubernetes.io/component"] == "egress-proxy"
    ]
    rendered = render("default", setting("egressProxy.replicas", 2))
    budget = rendered.component("PodDisruptionBudget", "egress-proxy")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == rendered.component("Deployment", "egress-proxy")["spec"]["selector"]


def test_its_image() -> None:
    image = {"repository": "registry.example/proxy", "digest": "sha256:" + "e" * 64}
    (container,) = containers(
        render("default", setting("egressProxy.image", image)).component("Deployment", "egress-proxy")
    )
    assert container["image"] == f"{image['repository']}@{image['digest']}"
    (container,) = containers(render().component("Deployment", "egress-proxy"))
    assert container["image"].startswith("localhost/skill-operator/egress-proxy:")


@every_case
def test_where_it_is_not_wanted_nothing_is_left_of_it(case: str) -> None:
    rendered = render(case, OFF)
    assert '"address": ""' in rendered.settings()
    rendered = Rendered(tuple(o for o in rendered.objects if "settings.json" not in o.get("data", {})))
    assert "egress-proxy" not in str(rendered.objects)
    assert "8083" not in str(rendered.objects)


@every_case
def test_the_controller_may_change_its_size_alone(case: str) -> None:
    rendered = render(case)
    (name,) = (
        labels(d) and d["metadata"]["name"]
        for d in rendered.kind("Deployment")
        if d["metadata"]["name"].endswith("egress-proxy")
    )
    (leader,) = (role for role in rendered.kind("Role") if role["metadata"]["name"].endswith("-leader"))
    rules = {(r["resources"][0], tuple(r["verbs"])): r.get("resourceNames") for r in leader["rules"]}
    assert rules["deployments", ("get",)] == [name]
    assert rules["deployments/scale", ("patch",)] == [name]
    assert rules["networkpolicies", ("get", "create", "patch")] == [f"{name}-internet"]
