"""The settings file that the chart writes is the one that the processes read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import BaseModel

from skill_operator.settings import ImageSettings, Settings, load
from tests.chart.render import CASES, NAMESPACE, WORKLOADS, Object, Rendered, containers, labels, pod, render, setting

every_case = pytest.mark.parametrize("case", CASES)


def settings(rendered: Rendered, folder: Path) -> Settings:
    """Read the way the processes do it."""
    file = folder / "settings.json"
    file.write_text(rendered.settings())
    return load(file)


def secrets(deployment: Object) -> dict[str, tuple[str, str]]:
    """Which key of which Secret is at which path."""
    found = {}
    for container in containers(deployment):
        for mount in container["volumeMounts"]:
            volumes = pod(deployment)["spec"]["volumes"]
            volume: Object = next((v for v in volumes if v["name"] == mount["name"]), {})  # else it is of a claim
            assert "secret" not in volume
            for source in volume.get("projected", {}).get("sources", []):
                for item in source.get("secret", {}).get("items", []):
                    found[f"{mount['mountPath']}/{item['path']}"] = source["secret"]["name"], item["key"]
    return found


def config_maps(deployment: Object) -> dict[str, tuple[str, str]]:
    """Which key of which ConfigMap is at which path below the settings."""
    (volume,) = (volume for volume in pod(deployment)["spec"]["volumes"] if volume["name"] == "settings")
    return {
        f"/etc/skill-operator/{item['path']}": (source["configMap"]["name"], item["key"])
        for source in volume["projected"]["sources"]
        for item in source.get("configMap", {}).get("items", [])
    }


@every_case
def test_they_load(case: str, tmp_path: Path) -> None:
    assert settings(render(case), tmp_path).namespace == NAMESPACE


@every_case
def test_no_setting_is_left_to_chance(case: str) -> None:
    """Each one is written, so that a new one cannot be forgotten in the chart."""

    def unwritten(model: type[BaseModel], written: dict[str, Any], path: str = "") -> set[str]:
        found = set()
        for field in model.model_fields.values():
            name = str(field.alias)  # as the chart writes it
            if name not in written:
                found.add(path + name)
            elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                found |= unwritten(field.annotation, written[name], f"{path}{name}.")
        return found

    assert unwritten(Settings, json.loads(render(case).settings())) == set()


def test_defaults_are_the_same_on_both_sides(tmp_path: Path) -> None:
    """What the chart names after its release is the only difference."""
    images = ImageSettings(runtime="r", checker="c", builder="b", operator="o")
    ours = settings(render(namespace="skill-operator"), tmp_path).model_dump()
    theirs = Settings(images=images).model_dump()
    assert ours.pop("images")["builder"] == "ghcr.io/osscontainertools/kaniko:v1.28.3"
    theirs.pop("images")
    for labels_ in (ours["gateway_labels"], ours["registry_labels"], ours["egress_proxy"]["labels"]):
        assert labels_.pop("app.kubernetes.io/instance") == "skill-operator"
    assert ours == theirs


@every_case
def test_both_processes_get_them(case: str) -> None:
    rendered = render(case)
    for component in ("controller", "gateway"):
        deployment = rendered.workload(component)
        (container,) = containers(deployment)
        assert container["args"] == [component]
        (mount,) = (m for m in container["volumeMounts"] if m["mountPath"] == "/etc/skill-operator")
        (volume,) = (v for v in pod(deployment)["spec"]["volumes"] if v["name"] == mount["name"])
        sources = volume.get("projected", {}).get("sources", [volume])
        assert any(source.get("configMap", {}).get("name", "").endswith("-settings") for source in sources)
        ports = {port["containerPort"] for port in container["ports"]}
        written = json.loads(rendered.settings())
        assert written["healthPort"] in ports
        assert (written["usagePort"] in ports) is (component == "gateway")
        assert (written["listenPort"] in ports) is (component == "gateway")
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"]["port"] == "health"


@every_case
def test_labels_are_those_of_the_pods(case: str, tmp_path: Path) -> None:
    rendered = render(case)
    found = settings(rendered, tmp_path)
    for component, wanted in (("gateway", found.gateway_labels), ("registry", found.registry_labels)):
        if component == "registry" and case == "external-registry":
            assert wanted == {}
            continue
        assert wanted
        deployment = rendered.workload(component)
        assert wanted.items() <= labels(pod(deployment)).items()
        assert deployment["metadata"]["namespace"] == found.namespace
        others = [d for d in rendered.kind(*WORKLOADS) if d is not deployment]
        assert not [other for other in others if wanted.items() <= labels(pod(other)).items()]


@pytest.mark.parametrize("release", ["skill-operator", "prod"])
@pytest.mark.parametrize("case", ["default", "ha"])
def test_addresses_are_those_of_the_services(case: str, release: str, tmp_path: Path) -> None:
    rendered = render(case, setting("gateway.url", ""), release=release)
    found = settings(rendered, tmp_path)
    ports = {
        (f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc", port["port"]): port["targetPort"]
        for service in rendered.kind("Service")
        for port in service["spec"]["ports"]
    }
    push = urlsplit(f"//{found.registry.push}")
    read, gateway = urlsplit(found.registry.read), urlsplit(found.gateway_url)
    assert ports[push.hostname or "", push.port or 0] == "writer"
    assert ports[read.hostname or "", read.port or 0] == "mirror"
    assert ports[gateway.hostname or "", gateway.port or 80] == "http"
    proxy = urlsplit(f"//{found.egress_proxy.address}")
    assert ports[proxy.hostname or "", proxy.port or 0] == "proxy"
    assert rendered.one("Deployment", found.egress_proxy.deployment)
    beacon = urlsplit(f"//{found.isolation.beacon}")
    assert ports[beacon.hostname or "", beacon.port or 0] == "beacon"
    assert found.registry.pull == "localhost:30500"
    assert found.registry.insecure
    assert found.registry.push_secret == "registry-push"


def test_the_address_of_a_published_gateway(tmp_path: Path) -> None:
    assert settings(render("ha"), tmp_path).gateway_url == "https://skills.example"


def test_a_registry_elsewhere(tmp_path: Path) -> None:
    found = settings(render("external-registry"), tmp_path)
    assert found.registry.push == found.registry.pull == "registry.example:8443/skills"
    assert found.registry.read == "https://registry.example:8443"
    assert not found.registry.insecure
    assert found.registry.push_secret == "registry-example"
    assert found.registry.pull_secret == "registry-example-read"
    assert found.registry_cidrs == ["203.0.113.7/32", "2001:db8::7/128"]


def test_keys_of_models_are_in_the_controller_only(tmp_path: Path) -> None:
    rendered = render("two-models")
    large, local = settings(rendered, tmp_path).models
    mounted = secrets(rendered.component("Deployment", "controller"))
    assert mounted == {large.api_key_file: ("models-example", "token")}
    assert large.timeout_seconds == 60
    assert (local.api_key_file, local.max_reply_tokens) == ("", 2048)
    for component in ("gateway", "registry"):
        assert secrets(rendered.workload(component)) == {}


@pytest.mark.parametrize("kind", ["caSecret", "caConfigMap"])
def test_the_ca_of_a_model_is_where_the_settings_say(kind: str, tmp_path: Path) -> None:
    authority = setting(f"models[1].{kind}", {"name": "corporate-ca", "key": "ca.crt"})
    rendered = render("two-models", authority)
    controller = rendered.component("Deployment", "controller")
    mounted = (secrets if kind == "caSecret" else config_maps)(controller)
    large, local = settings(rendered, tmp_path).models
    assert mounted[local.ca_file] == ("corporate-ca", "ca.crt")
    assert (large.ca_file, large.proxy, large.auth_header) == ("", "", "Authorization")


def test_a_model_behind_a_proxy(tmp_path: Path) -> None:
    endpoint = {
        "name": "azure",
        "baseURL": "https://models.example/openai/deployments/large?api-version=2024-10-21",
        "model": "large-2",
        "apiKeySecret": {"name": "models-example", "key": "token"},
        "authHeader": "api-key",
        "caConfigMap": {"name": "corporate-ca", "key": "ca.crt"},
        "proxy": "http://proxy.example:3128",
    }
    rendered = render("two-models", setting("models", [endpoint]))
    (model,) = settings(rendered, tmp_path).models
    assert model.base_url.endswith("?api-version=2024-10-21")
    assert (model.auth_header, model.proxy) == ("api-key", "http://proxy.example:3128")
    assert config_maps(rendered.component("Deployment", "controller"))[model.ca_file] == ("corporate-ca", "ca.crt")


@every_case
def test_the_controller_may_call_any_endpoint_and_proxy(case: str) -> None:
    rendered = render(case)
    controller = labels(pod(rendered.component("Deployment", "controller")))
    for policy in rendered.kind("NetworkPolicy"):
        wanted = policy["spec"]["podSelector"].get("matchLabels", {})
        if policy["metadata"]["namespace"] == NAMESPACE and wanted.items() <= controller.items():
            assert "Egress" not in policy["spec"]["policyTypes"], policy["metadata"]["name"]


def test_models_of_one_secret(tmp_path: Path) -> None:
    shared = setting("models[1].apiKeySecret", {"name": "models-example", "key": "token"})
    rendered = render("two-models", shared)
    mounted = secrets(rendered.component("Deployment", "controller"))
    assert set(mounted) == {model.api_key_file for model in settings(rendered, tmp_path).models}
    assert len(mounted) == 2


@every_case
def test_every_key_that_is_named_is_mounted(case: str, tmp_path: Path) -> None:
    rendered = render(case)
    known = settings(rendered, tmp_path)
    files = {*(model.api_key_file for model in known.models), known.registry.credentials} - {""}
    assert set(secrets(rendered.component("Deployment", "controller"))) == files


@pytest.mark.parametrize("hostile", ['"}, "namespace": "x', "{{ .Release.Name }}", "a\nb", "${HOME}", "'", "日本"])
def test_text_stays_text(hostile: str, tmp_path: Path) -> None:
    rendered = render("two-models", setting("models[0].model", hostile))
    assert settings(rendered, tmp_path).models[0].model == hostile


def test_large_numbers_stay_whole(tmp_path: Path) -> None:
    found = settings(render("default", setting("controller.resyncSeconds", 10_000_000)), tmp_path)
    assert found.resync_seconds == 10_000_000
