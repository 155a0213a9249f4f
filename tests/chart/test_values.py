"""What the chart refuses, and whether the message helps."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.chart.render import CHART, Refused, render, setting

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("gateway.replica", 3, "'replica' not allowed"),
        ("Gateway", {}, "'Gateway' not allowed"),
        ("isolation.require", False, "'require' not allowed"),
        ("models[0]", {"name": "a", "baseURL": "http://a/v1", "model": "m", "apiKey": "sk-1"}, "'apiKey' not allowed"),
        ("models[0]", {"name": "a", "baseURL": "http://a/v1"}, "missing property 'model'"),
        ("models[0]", {"name": "../a", "baseURL": "http://a/v1", "model": "m"}, "/models/0/name"),
        ("models[0]", {"name": "a", "baseURL": "ftp://a", "model": "m"}, "/models/0/baseURL"),
        ("models[0].proxy", "socks5://proxy.example:1080", "/models/0/proxy"),
        ("models[0].authHeader", "api key", "/models/0/authHeader"),
        ("models[0].caSecret", {"name": "ca", "key": "../ca"}, "/models/0/caSecret/key"),
        ("models[0].caConfigMap", {"name": "ca"}, "missing property 'key'"),
        ("models[0].apiKeySecret", {"name": "a", "key": "../../etc/passwd"}, "/models/0/apiKeySecret/key"),
        ("gateway.auth", "oidc", "/gateway/auth"),
        ("gateway.audiences", [], "/gateway/audiences"),
        ("gateway.hosts", ["skills.example:80"], "/gateway/hosts/0"),
        ("gateway.limits.caller", {"perMinute": -1, "concurrent": 0}, "/gateway/limits/caller/perMinute"),
        ("gateway.limits.skill.perSecond", 1, "'perSecond' not allowed"),
        ("gateway.oauth.authorizationServers", ["http://id.example"], "/gateway/oauth/authorizationServers/0"),
        ("gateway.oauth.authorizationServers", ["https://id.example/?a"], "/gateway/oauth/authorizationServers/0"),
        ("gateway.oauth.scopes", ["two words"], "/gateway/oauth/scopes/0"),
        ("gateway.oauth.issuer", "https://id.example", "'issuer' not allowed"),
        ("gateway.replicas", 0, "/gateway/replicas"),
        ("gateway.replicas", "2", "/gateway/replicas"),
        ("gateway.networkPolicy.from", [{}], "/gateway/networkPolicy/from/0"),
        ("gateway.networkPolicy.from", [{"podSelectors": {}}], "'podSelectors' not allowed"),
        ("controller.resources.limits", {"gpu": "1"}, "'gpu' not allowed"),
        ("controller.resources.limits.memory", "much", "/controller/resources/limits/memory"),
        (
            "check.resources.limits",
            {"cpu": 1, "memory": "1Gi", "ephemeral-storage": "1Gi"},
            "/check/resources/limits/cpu",
        ),
        ("check.deadlineSeconds", 1, "/check/deadlineSeconds"),
        ("images.runtime", "skill-operator/runtime:latest", "/images/runtime"),
        ("images.checker", f"checker@{DIGEST[:-1]}", "/images/checker"),
        ("images.builder", "kaniko:v1 --privileged", "/images/builder"),
        ("image.digest", "sha256:abc", "/image/digest"),
        ("image.repository", "http://registry.example/operator", "/image/repository"),
        ("egressProxy.enabled", "yes", "/egressProxy/enabled"),
        ("egressProxy.replicas", 0, "/egressProxy/replicas"),
        ("egressProxy.nameservers", ["dns.example"], "/egressProxy/nameservers/0"),
        ("egressProxy.nameservers", ["10.0.0.1\nhttp_access allow all"], "/egressProxy/nameservers/0"),
        ("egressProxy.image.repository", "http://registry.example/proxy", "/egressProxy/image/repository"),
        ("egressProxy.config", "http_access allow all", "'config' not allowed"),
        ("watch.namespaces", ["a", "a"], "/watch/namespaces"),
        ("watch.namespaces", ["*"], "/watch/namespaces/0"),
        ("registry.nodePort", 0, "/registry/nodePort"),
        ("registry.push", "https://registry.example", "/registry/push"),
        ("registry.read", "registry.example", "/registry/read"),
        ("registry.cidrs", ["203.0.113.7"], "/registry/cidrs/0"),
        ("priorityClass.value", 1000, "/priorityClass/value"),
        ("logLevel", "trace", "/logLevel"),
        ("isolation.required", "false", "/isolation/required"),
        ("builder.namespace", "a\nb", "/builder/namespace"),
        ("fullnameOverride", "7-up", "/fullnameOverride"),
    ],
)
def test_the_schema_refuses(path: str, value: Any, said: str) -> None:
    with pytest.raises(Refused) as refused:
        render("two-models", setting(path, value))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("case", "changes", "said"),
    [
        ("default", {"images.runtime": ""}, "images.runtime: the reference by digest"),
        ("default", {"images.checker": ""}, "images.checker: the reference by digest"),
        ("external-registry", {"registry.push": ""}, "registry.push: where does the builder push to?"),
        ("external-registry", {"registry.pull": ""}, "registry.pull: where do the nodes pull from?"),
        ("external-registry", {"registry.read": ""}, "registry.read: which URL"),
        ("two-models", {"models[1].name": "large"}, 'two of them are named "large"'),
        ("two-models", {"models[1].baseURL": "http://a/v1/chat/completions"}, 'baseURL of "local" goes up to and'),
        (
            "two-models",
            {"models[0].caSecret": {"name": "a", "key": "b"}, "models[0].caConfigMap": {"name": "a", "key": "b"}},
            "names both caSecret and caConfigMap",
        ),
        ("two-models", {"generation.escalation": ["large", "huge"]}, 'generation.escalation: no model is named "huge"'),
        ("default", {"builder.namespace": "operators"}, "builds need a namespace of their own"),
        ("namespaced", {"builder.namespace": "legal"}, "builds need a namespace of their own"),
    ],
)
def test_what_a_schema_cannot_see(case: str, changes: dict[str, str], said: str) -> None:
    with pytest.raises(Refused) as refused:
        render(case, *(setting(path, value) for path, value in changes.items()))
    assert said in str(refused.value)


def test_the_schema_knows_every_value() -> None:
    """Whatever values.yaml offers is in the schema (or nothing would render); this is the other way round."""

    def leaves(node: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
        if isinstance(node, dict) and node:
            return {leaf for key, value in node.items() for leaf in leaves(value, (*path, key))}
        return {path}

    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())

    def offered(node: dict[str, Any], path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
        while "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
        if "properties" not in node:
            return {path}
        return {leaf for key, value in node["properties"].items() for leaf in offered(value, (*path, key))}

    known = {path for path in offered(schema) if path[0] != "global"}
    given = leaves(defaults)
    assert {
        path for path in known if not any(path[: len(one)] == one or one[: len(path)] == path for one in given)
    } == set()
