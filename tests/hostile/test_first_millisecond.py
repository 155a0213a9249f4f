"""R19: code whose first statements send what they can to a host outside, in pod after pod."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator

import pytest

from hack.cluster.access import Cluster
from tests.hostile.canary import ADDRESS, RUN, SPY, Canary, spy
from tests.integration.installed import Operator, until

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("internet"), pytest.mark.timeout(900)]
STARTS = int(os.environ.get("STARTS", "12"))
AT_ONCE = 6
FIRST = f"\nshouted({ADDRESS!r})\nreached([[{ADDRESS!r}, 9]], 0.05)\n"
SKILL = "skill-operator.dev/skill=hasty,app.kubernetes.io/component=skill"


@pytest.fixture
def canary(operator: Operator) -> Iterator[Canary]:
    with Canary(operator.cluster) as found:
        yield found


def started(cluster: Cluster, namespace: str) -> dict[str, str]:
    """Pods in which the code was loaded: who serves has run its first statements."""
    found = {}
    for pod in cluster.get("-n", namespace, "pods", "-l", SKILL)["items"]:
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
        if ready and "deletionTimestamp" not in pod["metadata"]:
            found[pod["metadata"]["uid"]] = pod["metadata"]["name"]
    return found


def test_r19_not_a_packet_in_many_starts(operator: Operator, namespace: str, canary: Canary) -> None:
    cluster = operator.cluster
    small = {"limits": {"cpu": "250m", "memory": "128Mi"}, "requests": {"cpu": "10m", "memory": "32Mi"}}
    skill = spy("hasty", SPY + FIRST + RUN, resources=small)
    cluster.kubectl("apply", "--server-side", "-n", namespace, "-f", "-", stdin=json.dumps(skill))
    operator.ready(namespace, "hasty", 180)
    cluster.kubectl("-n", namespace, "scale", "deployment/skill-hasty", f"--replicas={AT_ONCE}")
    seen: dict[str, str] = {}
    costs: list[dict[str, float]] = []

    def more() -> bool:
        fresh = {uid: name for uid, name in started(cluster, namespace).items() if uid not in seen}
        for name in fresh.values():
            lines = cluster.kubectl("-n", namespace, "logs", name).splitlines()
            costs.extend(json.loads(line) for line in lines if '"egress is blocked"' in line)
        seen.update(fresh)
        if fresh and len(seen) < STARTS:
            gone = ("delete", "pods", *fresh.values(), "--wait=false", "--grace-period=0", "--force")
            cluster.kubectl("-n", namespace, *gone)
        return len(seen) >= STARTS

    began = time.monotonic()
    until(f"{STARTS} starts", 60 + 10 * STARTS, more)
    assert canary.packets == 0
    proofs, waited = sorted(c["seconds"] for c in costs), sorted(c["waited"] for c in costs)
    print(
        f"{len(seen)} starts in {time.monotonic() - began:.0f} s, 0 packets; proof {proofs[len(proofs) // 2]:.3f} s, of "
        f"which a start waited {waited[len(waited) // 2]:.3f} s at the median, {waited[-1]:.3f} s at most"
    )
