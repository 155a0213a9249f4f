"""No account of the chart has a right that nothing needs: what it may do is compared with what it did."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hack.install import NAMESPACE, NODES
from hack.integration import AFTER_ALL_OTHERS
from tests.integration.installed import Operator

pytestmark = [pytest.mark.cluster, pytest.mark.last("examines what all other tests did")]
Right = tuple[str, str, str, str]
"""Namespace (empty: any), API group, resource, verb."""
BUILDS = f"{NAMESPACE}-builds"
RARE: dict[Right, str] = {
    ("", "apps", "replicasets", "delete"): "of pods that hold a Secret whose grant ended",
    ("", "", "pods/eviction", "create"): "likewise",
    ("", "batch", "jobs", "get"): "who has the name of a Job that could not be made",
    (BUILDS, "batch", "jobs", "get"): "likewise",
    (BUILDS, "batch", "jobs", "watch"): "where namespaces are named, no other role covers the builds",
    (BUILDS, "", "pods", "watch"): "likewise",
    (BUILDS, "", "configmaps", "delete"): "the sweeper, of a build whose Job is gone",
    (BUILDS, "", "events", "list"): "of a build's pod that does not start",
    (BUILDS, "", "secrets", "patch"): "a credential that is no longer usable is made anew",
    (NODES, "", "secrets", "patch"): "likewise",
}
"""Rights that no test uses, and why they are needed."""


def granted(operator: Operator, account: str) -> Iterator[Right]:
    """By the roles that are bound to it."""
    for kind, where in (("clusterrolebinding", ()), ("rolebinding", ("-A",))):
        for binding in operator.cluster.get(kind, *where)["items"]:
            subjects = [
                (s.get("namespace"), s["name"]) for s in binding.get("subjects", []) if s["kind"] == "ServiceAccount"
            ]
            if (NAMESPACE, account) not in subjects:
                continue
            namespace = binding["metadata"].get("namespace", "")
            role = operator.cluster.get(
                *(("-n", namespace) if namespace else ()),
                binding["roleRef"]["kind"].lower(),
                binding["roleRef"]["name"],
            )
            for rule in role["rules"]:
                for group in rule["apiGroups"]:
                    for resource in rule["resources"]:
                        for verb in rule["verbs"]:
                            yield namespace, group, resource, verb


def requests(operator: Operator, account: str) -> Iterator[dict[str, Any]]:
    """As the audit log has them, also what was moved away when it grew large.

    What kubectl asked is left out: with it tests pose as the account.
    """
    for log in Path(operator.cluster.status["state"], "logs").glob("audit*.log"):
        with log.open() as lines:
            for line in lines:
                event = json.loads(line)
                if event["user"]["username"] != f"system:serviceaccount:{NAMESPACE}:{account}":
                    continue
                if "objectRef" in event and not event.get("userAgent", "").startswith("kubectl/"):
                    yield event


@pytest.mark.bare  # kind keeps no audit log
@pytest.mark.parametrize("component", ["controller", "gateway", "registry"])
def test_every_right_is_used(operator: Operator, component: str) -> None:
    if AFTER_ALL_OTHERS not in os.environ:
        pytest.skip("it is meaningful only at the end of `make integration`")
    account = f"{NAMESPACE}-{component}"
    used: set[Right] = set()
    for event in requests(operator, account):
        asked = event["objectRef"]
        resource = asked["resource"] + (f"/{asked['subresource']}" if asked.get("subresource") else "")
        right = (asked.get("apiGroup", ""), resource, event["verb"])
        used |= {("", *right), (asked.get("namespace", ""), *right)}
        if (
            event["verb"] == "patch" and event["responseStatus"]["code"] == 201
        ):  # an apply that made it needs both rights
            used |= {("", *right[:2], "create"), (asked.get("namespace", ""), *right[:2], "create")}
    assert used, "the audit log says nothing of it"
    unused = {right for right in granted(operator, account) if right not in used and right not in RARE}
    assert not unused, f"{account} never used {sorted(unused)}"


@pytest.mark.bare
@pytest.mark.parametrize("component", ["controller", "gateway"])
def test_nothing_was_asked_for_in_vain(operator: Operator, component: str) -> None:
    """A request that RBAC refuses is a part of the operator that does not work. (An API server that has only just started
    refuses for a moment what it allows before and after.)"""
    refused, allowed = set[tuple[str, ...]](), set[tuple[str, ...]]()
    for event in requests(operator, f"{NAMESPACE}-{component}"):
        asked = event["objectRef"]
        what = (event["verb"], asked["resource"], asked.get("subresource", ""), asked.get("namespace", ""))
        forbidden = event.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid"
        (refused if forbidden else allowed).add(what)
    assert not refused - allowed


@pytest.mark.parametrize("component", ["controller", "gateway"])
def test_it_stayed_small(operator: Operator, component: str) -> None:
    """After all that the other tests had it read: half of what the chart allows, and never killed for more."""
    where = ("-n", NAMESPACE, "exec", f"deployment/{NAMESPACE}-{component}", "-c", component, "--")
    status = operator.cluster.kubectl(*where, "cat", "/proc/1/status")
    peak = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))
    assert peak < 256 << 10, f"{peak} KiB"
    selector = f"app.kubernetes.io/component={component}"
    pods = operator.cluster.get("-n", NAMESPACE, "pods", "-l", selector)["items"]
    ends = [s.get("lastState", {}).get("terminated", {}) for pod in pods for s in pod["status"]["containerStatuses"]]
    assert "OOMKilled" not in {end.get("reason") for end in ends}
