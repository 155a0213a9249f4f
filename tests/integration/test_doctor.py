"""`make doctor` on a cluster that has what is needed, and on one where something is amiss."""

from __future__ import annotations

import re

import pytest

from hack.install import NAMESPACE
from tests.integration.installed import Operator

pytestmark = [pytest.mark.cluster, pytest.mark.serial("examines the whole installation, and weakens it")]


def examine(operator: Operator) -> tuple[dict[str, str], str]:
    """States by check, and all that was said."""
    command = "python3 -m skill_operator doctor || true"
    where = ("-n", NAMESPACE, "exec", f"deployment/{NAMESPACE}-controller", "-c", "controller")
    text = operator.cluster.kubectl(*where, "--", "sh", "-c", command)
    return dict(re.findall(r"^(\S.*?)  +(ok|plain|bad|unknown)  ", text, re.MULTILINE)), text


def test_this_cluster_is_well(operator: Operator) -> None:
    states, text = examine(operator)
    states.pop("registry, pull")  # known once a skill has run
    states.pop("network plugin")  # that of the tests has no pods
    assert states.pop("model recorded") == "ok", text
    plain = {check for check in states if states[check] == "plain"}
    assert plain == {"TLS, gateway", "TLS, registry", "TLS, model recorded"}, text
    states = {check: state for check, state in states.items() if check not in plain}
    assert [*states.values()] == ["ok"] * 8, text


def test_a_namespace_that_was_laid_open_is_seen(operator: Operator) -> None:
    label = "pod-security.kubernetes.io/enforce"
    builds = f"{NAMESPACE}-builds"
    try:
        operator.cluster.kubectl("label", "--overwrite", "namespace", builds, f"{label}=privileged")
        states, text = examine(operator)
        assert states["Pod Security"] == "bad", text
        assert f"kubectl label namespace {builds} {label}=baseline" in text
    finally:
        operator.cluster.kubectl("label", "--overwrite", "namespace", builds, f"{label}=baseline")
