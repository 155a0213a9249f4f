"""What the chart makes of its values, whatever they are."""

from __future__ import annotations

import itertools
import json

import pytest
import yaml

from skill_operator import naming
from skill_operator.registry import mirror as mirror_module
from skill_operator.registry import push_secret
from tests.chart.render import (
    CASES,
    CHART,
    NAMESPACE,
    RELEASE,
    ROOT,
    WORKLOADS,
    Object,
    Refused,
    Rendered,
    call,
    containers,
    labels,
    pod,
    render,
    setting,
    values,
)

every_case = pytest.mark.parametrize("case", CASES)
OPEN_TO_OPERATOR = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}


def deployments(rendered: Rendered) -> list[Object]:
    found = rendered.kind(*WORKLOADS)
    assert len(found) >= 2
    assert not rendered.kind("Pod", "Job", "CronJob")  # else the tests below look past them
    return found


def matches(selector: Object, found: dict[str, str]) -> bool:
    assert set(selector) == {"matchLabels"}
    wanted: dict[str, str] = selector["matchLabels"]
    return bool(wanted) and wanted.items() <= found.items()


def test_the_cases_are_there() -> None:
    assert set(CASES) == {"default", "namespaced", "external-registry", "two-models", "ha"}


@every_case
def test_lint(case: str) -> None:
    call("lint", "--strict", str(CHART), "--values", str(values(case)))


def test_lint_of_the_bare_chart() -> None:
    call("lint", "--strict", str(CHART))


@every_case
def test_rendering_is_repeatable(case: str) -> None:
    """Nothing is minted: what renders anew on each sync would restart everything each time."""
    arguments = ("template", RELEASE, str(CHART), "--values", str(values(case)))
    assert call(*arguments) == call(*arguments)
    assert not render(case).kind("Secret")


@every_case
def test_every_object_says_whose_it_is(case: str) -> None:
    for obj in render(case).objects:
        if obj["kind"] == "CustomResourceDefinition":
            continue
        found = labels(obj)
        assert found["app.kubernetes.io/name"] == "skill-operator"
        assert found["app.kubernetes.io/instance"] == RELEASE
        assert found["app.kubernetes.io/managed-by"] == "Helm"
        assert found["app.kubernetes.io/version"] == yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
        assert found["app.kubernetes.io/component"]


@every_case
def test_objects_are_where_they_belong(case: str) -> None:
    cluster_wide = {"Namespace", "CustomResourceDefinition", "PriorityClass", "ClusterRole", "ClusterRoleBinding"}
    cluster_wide |= {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
    seen = set()
    for obj in render(case).objects:
        assert ("namespace" in obj["metadata"]) == (obj["kind"] not in cluster_wide), obj["metadata"]
        identity = obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]
        assert identity not in seen
        seen.add(identity)


@every_case
def test_containers_are_restricted(case: str) -> None:
    for deployment in deployments(render(case)):
        context = pod(deployment)["spec"]["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == context["runAsGroup"] == 65532
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(deployment):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["readOnlyRootFilesystem"] is True
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert "runAsUser" not in own
            for kind in ("requests", "limits"):
                assert set(container["resources"][kind]) == {"cpu", "memory", "ephemeral-storage"}
            assert {"name": "TZ", "value": "UTC"} in container["env"]


@every_case
def test_no_door_to_the_node(case: str) -> None:
    for deployment in deployments(render(case)):
        spec = pod(deployment)["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & set(spec)
        assert spec["enableServiceLinks"] is False
        for volume in spec["volumes"]:
            assert set(volume) - {"name"} <= {"emptyDir", "configMap", "projected", "persistentVolumeClaim"}
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"]


@every_case
def test_tokens_are_only_where_they_are_used(case: str) -> None:
    rendered = render(case)
    for account in rendered.kind("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    for deployment in deployments(rendered):
        spec = pod(deployment)["spec"]
        component = labels(deployment)["app.kubernetes.io/component"]
        assert spec["automountServiceAccountToken"] is (component in {"controller", "gateway"})
        tokens = {
            volume["name"]
            for volume in spec["volumes"]
            if any("serviceAccountToken" in source for source in volume.get("projected", {}).get("sources", []))
        }
        holders = {c["name"] for c in containers(deployment) if tokens & {m["name"] for m in c["volumeMounts"]}}
        assert holders == ({"credentials", "sweeper"} if component == "registry" else set())


@every_case
def test_every_mount_has_its_volume(case: str) -> None:
    for deployment in deployments(render(case)):
        mounted = {mount["name"] for container in containers(deployment) for mount in container["volumeMounts"]}
        claims = {claim["metadata"]["name"] for claim in deployment["spec"].get("volumeClaimTemplates", [])}
        assert mounted == claims | {volume["name"] for volume in pod(deployment)["spec"]["volumes"]}


@every_case
def test_selectors_select_one_component(case: str) -> None:
    rendered = render(case)
    for deployment in deployments(rendered):
        component = labels(deployment)["app.kubernetes.io/component"]
        assert set(deployment["spec"]["selector"]["matchLabels"]) == OPEN_TO_OPERATOR
        assert matches(deployment["spec"]["selector"], labels(pod(deployment)))
        assert labels(pod(deployment))["app.kubernetes.io/component"] == component
    for service in rendered.kind("Service"):
        (target,) = (d for d in deployments(rendered) if service["spec"]["selector"].items() <= labels(pod(d)).items())
        ports = {port["name"] for container in containers(target) for port in container.get("ports", [])}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
        assert labels(service)["app.kubernetes.io/component"] == labels(target)["app.kubernetes.io/component"]


@every_case
def test_every_pod_has_one_policy(case: str) -> None:
    rendered = render(case)
    for deployment in deployments(rendered):
        (policy,) = (
            policy
            for policy in rendered.kind("NetworkPolicy")
            if policy["metadata"]["namespace"] == deployment["metadata"]["namespace"]
            and (not policy["spec"]["podSelector"] or matches(policy["spec"]["podSelector"], labels(pod(deployment))))
        )
        assert "Ingress" in policy["spec"]["policyTypes"]
        for rule in policy["spec"].get("ingress") or []:
            assert rule["from"]  # an empty list would let everybody in
            assert rule["ports"]


@every_case
def test_a_policy_opens_only_ports_that_are_served(case: str) -> None:
    rendered = render(case)
    for deployment in deployments(rendered):
        component = labels(deployment)["app.kubernetes.io/component"]
        policy = rendered.component("NetworkPolicy", component)
        served = {port["containerPort"] for c in containers(deployment) for port in c.get("ports", [])}
        opened = {port["port"] for rule in policy["spec"].get("ingress") or [] for port in rule["ports"]}
        assert opened <= served


def test_narrow_doors() -> None:
    gateway = render("ha").component("NetworkPolicy", "gateway")["spec"]["ingress"]
    ingress = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}
    calls, usage, beacon, judge = gateway
    assert calls == {"from": [ingress], "ports": [{"protocol": "TCP", "port": 8080}]}
    (asks,) = usage["from"]
    assert asks["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "controller"
    assert usage["ports"] == [{"protocol": "TCP", "port": 8084}]
    assert beacon == {"from": [{"namespaceSelector": {}}], "ports": [{"protocol": "TCP", "port": 8082}]}
    (proxy,) = judge["from"]
    assert proxy["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "egress-proxy"
    assert judge["ports"] == [{"protocol": "TCP", "port": 8083}]
    assert not render("ha").component("NetworkPolicy", "controller")["spec"]["ingress"]


@every_case
def test_metrics_are_closed_to_all_but_the_scraper_s_namespace(case: str) -> None:
    """The usage report shares the port, and the controller reads it."""
    scraper = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    for more, peers in (((), []), ((setting("metrics.networkPolicy.from", [scraper]),), [scraper])):
        for component in ("controller", "gateway"):
            rules = render(case, *more).component("NetworkPolicy", component)["spec"]["ingress"] or []
            readers = [peer for rule in rules for peer in rule["from"] if rule["ports"][0]["port"] == 8081]
            assert [peer for peer in readers if "podSelector" not in peer] == peers


def test_the_gateway_with_a_certificate() -> None:
    rendered = render("default", setting("gateway.tls.secretName", "gateway-tls"))
    (port,) = rendered.one("Service", f"{RELEASE}-gateway")["spec"]["ports"]
    assert (port["name"], port["port"]) == ("https", 443)
    deployment = rendered.component("Deployment", "gateway")
    (volume,) = (v for v in pod(deployment)["spec"]["volumes"] if v["name"] == "tls")
    assert volume["secret"] == {"secretName": "gateway-tls", "defaultMode": 0o440}
    (mount,) = (m for m in next(containers(deployment))["volumeMounts"] if m["name"] == "tls")
    settings = json.loads(rendered.settings())
    assert settings["gateway"]["tlsFolder"] == mount["mountPath"]
    assert settings["gatewayURL"].startswith("https://")
    assert "https" not in json.loads(render().settings())["gatewayURL"]


def test_the_gateway_is_not_published() -> None:
    services = [s["spec"] for s in render().kind("Service") if labels(s)["app.kubernetes.io/component"] == "gateway"]
    assert {spec["type"] for spec in services} == {"ClusterIP"}
    assert sorted(port["port"] for spec in services for port in spec["ports"]) == [80, 8082, 8083]


@every_case
def test_nothing_is_published_but_the_mirror_to_its_own_node(case: str) -> None:
    rendered = render(case)
    assert {service["spec"]["type"] for service in rendered.kind("Service")} == {"ClusterIP"}
    opened = [
        (labels(each)["app.kubernetes.io/component"], port["hostIP"], port["hostPort"])
        for each in deployments(rendered)
        for container in containers(each)
        for port in container.get("ports", [])
        if "hostPort" in port
    ]
    assert opened == ([] if case == "external-registry" else [("registry-mirror", "127.0.0.1", 30500)])


def test_images_are_read_with_a_credential_that_the_mirrors_alone_hold() -> None:
    rendered = render()
    mirror = rendered.component("DaemonSet", "registry-mirror")
    place = mirror["metadata"]["namespace"]
    (volume,) = (v for v in pod(mirror)["spec"]["volumes"] if v["name"] == "credential")
    (source,) = volume["projected"]["sources"]
    assert source["secret"]["name"] == push_secret.MIRROR_CONFIG
    holders = [o["metadata"] for o in rendered.kind(*WORKLOADS) if push_secret.MIRROR_CONFIG in str(o)]
    assert holders == [mirror["metadata"]]
    *command, upstream, config = next(containers(mirror))["command"]
    assert command == ["python3", "-m", mirror_module.__name__]
    assert config == "/etc/registry/config.json"
    (service,) = (s for s in rendered.kind("Service") if labels(s)["app.kubernetes.io/component"] == "registry")
    host, _, port = upstream.partition(":")
    assert host == f"{service['metadata']['name']}.{NAMESPACE}.svc"
    assert int(port) in {each["port"] for each in service["spec"]["ports"]}
    (rule,) = rendered.component("NetworkPolicy", "registry-mirror")["spec"]["ingress"]
    (peer,) = rule["from"]
    assert peer["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}
    assert matches(peer["podSelector"], labels(pod(rendered.component("Deployment", "controller"))))
    assert json.loads(rendered.settings())["registry"]["mirrorNamespace"] == place


@pytest.mark.parametrize("taken", [NAMESPACE, f"{NAMESPACE}-builds"])
def test_the_mirrors_have_a_namespace_of_their_own(taken: str) -> None:
    with pytest.raises(Refused, match=r"registry\.mirror\.namespace: .* is in use"):
        render("default", setting("registry.mirror.namespace", taken))
    theirs = render("default", setting("registry.mirror", {"namespace": "elsewhere", "createNamespace": False}))
    assert "elsewhere" not in {o["metadata"]["name"] for o in theirs.kind("Namespace")}
    assert theirs.component("DaemonSet", "registry-mirror")["metadata"]["namespace"] == "elsewhere"


def test_builds_reach_the_registry_and_nothing_else() -> None:
    """The pods that the controller makes are the ones that the policies mean."""
    rendered = render()
    build = naming.labels("name", "uid", "build", "rev")
    builds = rendered.one("Namespace", f"{NAMESPACE}-builds")["metadata"]["name"]
    policies = [p["spec"] for p in rendered.kind("NetworkPolicy") if p["metadata"]["namespace"] == builds]
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in policies
    (out,) = (spec for spec in policies if spec["podSelector"])
    assert matches(out["podSelector"], build)
    assert not matches(out["podSelector"], naming.labels("name", "uid", "skill", "rev"))
    (rule,) = out["egress"]
    (peer,) = rule["to"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 5000}]
    assert peer["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}
    assert matches(peer["podSelector"], labels(pod(rendered.workload("registry"))))

    push, read = rendered.component("NetworkPolicy", "registry")["spec"]["ingress"]
    assert [port["port"] for port in push["ports"]] == [5000]
    own, builders = push["from"]
    assert own == {"podSelector": {}}
    assert builders["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": builds}}
    assert matches(builders["podSelector"], build)
    assert [port["port"] for port in read["ports"]] == [5001]
    (reader,) = read["from"]
    mirror = rendered.component("DaemonSet", "registry-mirror")
    assert reader["namespaceSelector"] == {
        "matchLabels": {"kubernetes.io/metadata.name": mirror["metadata"]["namespace"]}
    }
    assert matches(reader["podSelector"], labels(pod(mirror)))


NO_PROXY = setting("egressProxy.enabled", False)


def test_builds_reach_a_registry_elsewhere() -> None:
    (rule,) = (
        rule
        for policy in render("external-registry", NO_PROXY).kind("NetworkPolicy")
        for rule in policy["spec"].get("egress") or []
    )
    assert rule["to"] == [{"ipBlock": {"cidr": "203.0.113.7/32"}}, {"ipBlock": {"cidr": "2001:db8::7/128"}}]
    assert rule["ports"] == [{"protocol": "TCP", "port": 8443}]


@pytest.mark.parametrize(
    ("push", "insecure", "port"),
    [
        ("registry.example", False, 443),
        ("registry.example/skills", False, 443),
        ("registry.example", True, 80),
        ("registry.example:5000/a/b", True, 5000),
    ],
)
def test_the_port_of_a_registry_elsewhere(push: str, insecure: bool, port: int) -> None:
    rendered = render(
        "external-registry", setting("registry.push", push), setting("registry.insecure", insecure), NO_PROXY
    )
    (out,) = (policy["spec"] for policy in rendered.kind("NetworkPolicy") if policy["spec"].get("egress"))
    assert out["egress"][0]["ports"] == [{"protocol": "TCP", "port": port}]


def test_nothing_is_left_of_the_embedded_registry() -> None:
    rendered = render("external-registry")
    assert not [
        obj for obj in rendered.objects if labels(obj).get("app.kubernetes.io/component", "").startswith("registry")
    ]


def test_the_controller_alone_holds_what_it_reads_a_registry_by() -> None:
    rendered = render("external-registry")
    holders = [obj["metadata"]["name"] for obj in rendered.objects if "registry-example-read" in json.dumps(obj)]
    assert set(holders) == {"skill-operator-controller", "skill-operator-settings"}, "a name alone, in the settings"
    pod = rendered.one("Deployment", "skill-operator-controller")["spec"]["template"]["spec"]
    (sources,) = [volume["projected"]["sources"] for volume in pod["volumes"] if "projected" in volume]
    kept = {"name": "registry-example-read", "items": [{"key": ".dockerconfigjson", "path": "registry/config.json"}]}
    assert {"secret": kept} in sources
    settings = json.loads(rendered.one("ConfigMap", "skill-operator-settings")["data"]["settings.json"])
    assert settings["registry"]["credentials"] == "/etc/skill-operator/registry/config.json"


def test_the_builder_namespace() -> None:
    rendered = render()
    namespace = rendered.one("Namespace", f"{NAMESPACE}-builds")
    assert labels(namespace)["pod-security.kubernetes.io/enforce"] == "baseline"
    assert namespace["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    here = {obj["kind"] for obj in rendered.objects if obj["metadata"].get("namespace") == f"{NAMESPACE}-builds"}
    assert here == {"ServiceAccount", "ResourceQuota", "LimitRange", "NetworkPolicy", "Role", "RoleBinding"}
    assert rendered.component("ServiceAccount", "builder")["metadata"]["name"] == "builder"
    theirs = render("default", setting("builder.createNamespace", False)).kind("Namespace")
    assert [obj["metadata"]["name"] for obj in theirs] == [f"{NAMESPACE}-nodes"]


def test_priority() -> None:
    (found,) = render().kind("PriorityClass")
    assert found["value"] < 0
    assert found["preemptionPolicy"] == "Never"
    assert found["globalDefault"] is False
    assert found["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert not render("namespaced").kind("PriorityClass")
    assert not render("default", setting("priorityClass.name", "")).kind("PriorityClass")


@pytest.mark.parametrize(("replicas", "budgets"), [(1, 0), (2, 1), (3, 1)])
def test_a_budget_only_where_one_can_be_spared(replicas: int, budgets: int) -> None:
    rendered = render("default", setting("gateway.replicas", replicas))
    assert len(rendered.kind("PodDisruptionBudget")) == budgets
    for budget in rendered.kind("PodDisruptionBudget"):
        assert matches(budget["spec"]["selector"], labels(pod(rendered.component("Deployment", "gateway"))))


def test_the_user_adds_labels_but_takes_none_away() -> None:
    controller = pod(render("ha").component("Deployment", "controller"))
    assert labels(controller)["team"] == "platform"
    assert labels(controller)["app.kubernetes.io/component"] == "controller"
    assert controller["metadata"]["annotations"]["example.com/team"] == "platform"
    assert controller["spec"]["nodeSelector"] == {"kubernetes.io/os": "linux"}


def test_the_operator_image() -> None:
    default = next(containers(render().component("Deployment", "controller")))
    assert default["image"] == "localhost/skill-operator/operator:0.1.0"
    assert default["imagePullPolicy"] == "IfNotPresent"
    by_digest = next(containers(render("ha").component("Deployment", "gateway")))
    assert by_digest["image"] == "registry.example/skill-operator/operator@sha256:" + "c" * 64
    by_tag = render("default", setting("image.tag", "0a1b"))
    assert next(containers(by_tag.workload("registry")))["image"].endswith("/operator:0a1b")


def test_a_changed_setting_restarts_both_processes() -> None:
    def checksums(*more: str) -> list[str]:
        rendered = render("default", *more)
        found = (pod(rendered.component("Deployment", name)) for name in ("controller", "gateway"))
        return [template["metadata"]["annotations"]["checksum/settings"] for template in found]

    before, after = checksums(), checksums(setting("logLevel", "debug"))
    assert all(old != new for old, new in zip(before, after, strict=True))


def test_the_registry_outlives_changes_that_do_not_concern_it() -> None:
    """Its images may live in an emptyDir."""

    def registry(*more: str) -> Object:
        return pod(render("default", *more).workload("registry"))

    assert registry() == registry(setting("logLevel", "debug"), setting("controller.workers", 9))
    assert registry() != registry(setting("builder.namespace", "elsewhere"))
    other = "skill-operator/runtime@sha256:" + "f" * 64
    assert registry() != registry(setting("images.runtime", other)), "its init container brings it"


def test_where_images_are_kept() -> None:
    """In a claim, which whoever runs the StatefulSet makes anew where it was deleted."""

    def data(rendered: Rendered) -> list[Object]:
        assert not rendered.kind("PersistentVolumeClaim"), "nobody would make it anew"
        registry = rendered.workload("registry")
        assert registry["kind"] == "StatefulSet"
        assert registry["spec"]["replicas"] == 1, "one volume, one writer"
        claims = registry["spec"].get("volumeClaimTemplates", [])
        return [obj["spec"] for obj in claims] + [v for v in pod(registry)["spec"]["volumes"] if v["name"] == "data"]

    once = {"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem"}  # a default would look like drift
    assert data(render()) == [once | {"resources": {"requests": {"storage": "10Gi"}}}]
    fast = once | {"storageClassName": "fast", "resources": {"requests": {"storage": "50Gi"}}}
    assert data(render("ha")) == [fast]
    without = render("default", setting("registry.persistence.enabled", False))
    assert data(without) == [{"name": "data", "emptyDir": {"sizeLimit": "10Gi"}}]
    theirs = render("ha", setting("registry.persistence.existingClaim", "images"))
    assert data(theirs) == [{"name": "data", "persistentVolumeClaim": {"claimName": "images"}}]


@pytest.mark.parametrize("more", [(), (setting("registry.persistence.enabled", False),)])
def test_the_registry_starts_with_the_base_images(more: tuple[str, ...]) -> None:
    """Before it serves anybody, and with what the settings of this version name."""
    registry = render("default", *more).workload("registry")
    seed = pod(registry)["spec"]["initContainers"][-1]
    assert seed["name"] == "bases"
    assert seed["image"] == "localhost/skill-operator/bases:0.1.0"
    mounts = {mount["mountPath"]: mount["name"] for mount in seed["volumeMounts"]}
    command, layout, root = seed["args"]
    assert (command, layout) == ("registry-seed", "/bases")
    assert mounts[root] == "data"
    assert mounts["/etc/skill-operator"] == "settings"
    assert "token" not in mounts.values()
    by_digest = render("default", setting("registry.bases.digest", "sha256:" + "d" * 64), *more).workload("registry")
    assert pod(by_digest)["spec"]["initContainers"][-1]["image"].endswith("/bases@sha256:" + "d" * 64)
    by_hand = render("default", setting("registry.bases.repository", ""), *more).workload("registry")
    assert [c["name"] for c in pod(by_hand)["spec"]["initContainers"]] == ["credentials"]


def test_a_new_registry_s_pod_is_never_kept_from_replacing_one_that_cannot_start() -> None:
    assert render().workload("registry")["spec"]["podManagementPolicy"] == "Parallel"


@pytest.mark.parametrize("push", ["registry.example", "registry.example:8443/team", "a.example/b/c/d"])
def test_names_of_one_level_are_admitted_where_they_are_used(push: str) -> None:
    place = [setting(f"registry.{key}", push) for key in ("push", "pull")]
    nested = json.dumps(render("external-registry", *place).kind("ValidatingAdmissionPolicy"))
    flat = json.dumps(
        render("external-registry", *place, setting("registry.flatNames", True)).kind("ValidatingAdmissionPolicy")
    )
    for text in (nested, flat):
        assert "'/skills/' + request.namespace + '/'" in text, "what was built before the switch goes on"
    assert "'/skills-' + request.namespace + '@'" in flat
    assert "'/skills-'" not in nested
    embedded = render("default", setting("registry.flatNames", True))
    assert json.loads(embedded.settings())["registry"]["flatNames"] is False
    assert "'/skills-'" not in json.dumps(embedded.kind("ValidatingAdmissionPolicy"))


@pytest.mark.parametrize("release", ["x", "skill-operator", "a" * 53, "my-skill-operator"])
def test_names_fit(release: str) -> None:
    rendered = render("default", release=release)
    for obj in rendered.objects:
        if obj["kind"] != "CustomResourceDefinition":
            assert len(obj["metadata"]["name"]) <= 63
    for service in rendered.kind("Service"):
        assert service["metadata"]["name"][0].isalpha()


def test_two_releases_share_nothing_but_what_they_are_told_to() -> None:
    def identities(release: str, namespace: str) -> set[tuple[str, str, str]]:
        names = ("rbac.callerRole", "rbac.approverRole")
        told = (
            setting("crds.enabled", False),
            setting("priorityClass.create", False),
            *(setting(n, "") for n in names),
        )
        objects = render("default", *told, release=release, namespace=namespace).objects
        return {(o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]) for o in objects}

    assert not identities("one", "first") & identities("two", "second")


def test_the_chart_holds_the_generated_crds() -> None:
    made = {path.name: path.read_text() for path in (ROOT / "crds").glob("*.yaml")}
    assert made
    assert made == {path.name: path.read_text() for path in (CHART / "files" / "crds").glob("*.yaml")}


def test_crds_are_rendered_unchanged() -> None:
    source = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]
    assert list(render("default", setting("crds.keep", False)).kind("CustomResourceDefinition")) == source
    for kept, original in zip(render().kind("CustomResourceDefinition"), source, strict=True):
        annotations = kept["metadata"].pop("annotations")
        assert annotations.pop("helm.sh/resource-policy") == "keep"
        kept["metadata"] |= {"annotations": annotations} if annotations else {}
        assert json.dumps(kept, sort_keys=True) == json.dumps(original, sort_keys=True)
    assert not render("default", setting("crds.enabled", False)).kind("CustomResourceDefinition")


@every_case
def test_kinds_are_those_that_were_thought_of(case: str) -> None:
    """A new kind needs a look at every test above."""
    known = {"Namespace", "CustomResourceDefinition", "PriorityClass", "ServiceAccount", "ConfigMap", "Deployment"}
    known |= {"DaemonSet", "StatefulSet"}
    known |= {"Service", "NetworkPolicy", "PodDisruptionBudget", "ResourceQuota", "LimitRange"}
    roles = {"".join(pair) for pair in itertools.product(("", "Cluster"), ("Role", "RoleBinding"))}
    policies = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
    assert {obj["kind"] for obj in render(case).objects} <= known | roles | policies
