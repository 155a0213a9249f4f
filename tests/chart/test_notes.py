"""What a person reads after the installation is true."""

from __future__ import annotations

import re

import pytest
import yaml

from skill_operator.api import validation
from skill_operator.api.v1alpha1 import Skill
from tests.chart.render import CASES, CHART, NAMESPACE, RELEASE, call, render, setting, values


def notes(case: str, *more: str) -> str:
    arguments = [argument for one in more for argument in ("--set-json", one)]
    where = ("--namespace", NAMESPACE, "--values", str(values(case)))
    printed = call("install", RELEASE, str(CHART), "--dry-run=client", *where, *arguments)
    return printed.split("NOTES:\n", 1)[1]


@pytest.mark.parametrize("case", CASES)
def test_commands_name_what_exists(case: str) -> None:
    text, rendered = notes(case), render(case)
    named = set(re.findall(r"(deployment|statefulset|service)/([a-z0-9-]+)", text))
    kinds = {"deployment": "Deployment", "statefulset": "StatefulSet", "service": "Service"}
    assert {kind for kind, _ in named} >= {"deployment", "service"}
    for kind, name in named:
        assert rendered.one(kinds[kind], name)["metadata"]["namespace"] == NAMESPACE
    rollout = re.search(r"rollout status (.*)", text)
    assert rollout
    assert (
        len(rollout[1].split()) == len(rendered.kind("Deployment", "StatefulSet")) - 1
    )  # the egress proxy waits for a Skill
    assert "kubectl delete skills --all -A" in text


@pytest.mark.parametrize("case", CASES)
def test_the_example_is_a_good_skill(case: str) -> None:
    found = re.search(r"<<'SKILL'\n(.*?)\n\s*SKILL\n", notes(case), re.DOTALL)
    assert found
    skill = Skill.model_validate({"metadata": {"namespace": "default", "uid": "1"}} | yaml.safe_load(found[1]))
    assert skill.spec.source
    assert validation.problems(skill.spec) == []


def test_what_is_insecure_is_said_while_it_is() -> None:
    assert "nodes alone read, at 127.0.0.1:30500" in notes("default")
    assert "30500" not in notes("external-registry")
    assert "Builds use plain HTTP to the registry" not in notes("external-registry")
    assert "Builds use plain HTTP to the registry" in notes("external-registry", setting("registry.insecure", True))
    assert "isolation.required is false" not in notes("default")
    assert "isolation.required is false" in notes("default", setting("isolation.required", False))
    assert "isolation.userNamespaces is Never" in notes("default", setting("isolation.userNamespaces", "Never"))
    assert "The gateway speaks plain HTTP" in notes("default")
    anybody = notes("default", setting("gateway.auth", "none"))
    assert "EVERYBODY MAY CALL" in anybody
    assert "create token" not in anybody
    for case in CASES:
        assert "EVERYBODY MAY CALL" not in notes(case)
        assert "kubectl create" in notes(case)
    safe = notes("external-registry", setting("gateway.tls.secretName", "tls"))
    assert "Not secure" not in safe
    assert "https://localhost:8080" in safe


def test_who_reads_the_metrics_is_said() -> None:
    assert "Nobody may read the metrics. Open port 8081" in notes("default")
    scraper = setting("metrics.networkPolicy.from", [{"namespaceSelector": {}}])
    assert "8081" not in notes("default", scraper)


def test_where_the_example_goes() -> None:
    assert "localhost:8080/v1/skills/finance/double" in notes("namespaced")
    assert "localhost:8080/v1/skills/default/double" in notes("default")


def test_where_images_live_is_said() -> None:
    assert "set registry.persistence.enabled=false" in notes("default")
    forgetful = notes("default", setting("registry.persistence.enabled", False))
    assert "Images live as long as the registry's pod" in forgetful
    assert "StorageClass" not in forgetful
    assert "StorageClass" not in notes("external-registry")
    assert "StorageClass" not in notes("ha"), "it names one"
