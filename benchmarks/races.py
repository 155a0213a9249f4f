"""Calls that come just when skills fall asleep, while gateways and the controller are killed.

    make bench-races      # RACES=1000 SKILLS=12 GATEWAYS=3 KILL_EVERY=45 ROUND_SECONDS=120

What is counted must be 0: calls that are lost or answered wrongly, and skills that sleep with a call open. A call whose
connection breaks with its gateway is made again, as any client of a Service does.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

from hack.cluster.access import Cluster
from hack.cluster.cli import current
from tests.integration import races
from tests.integration.installed import Operator, installed
from tests.integration.test_skill import apply, skill
from tests.integration.test_sleep import SLOW

RACES = int(os.environ.get("RACES", "1000"))
SKILLS = int(os.environ.get("SKILLS", "12"))
GATEWAYS = int(os.environ.get("GATEWAYS", "3"))
KILL_EVERY = float(os.environ.get("KILL_EVERY", "45"))
ROUND_SECONDS = float(os.environ.get("ROUND_SECONDS", "120"))


def rounds(operator: Operator, namespace: str) -> int:
    """Prints as it goes; how much went wrong."""
    names = [f"racer-{number}" for number in range(SKILLS)]
    for name in names:
        apply(operator, namespace, skill(name, idleTimeoutSeconds=races.IDLE, callTimeoutSeconds=6, source=SLOW))
    for name in names:
        operator.ready(namespace, name, 300)
    calls = wakes = patches = killed = broken = wrong = early = 0
    cold: list[float] = []
    began = time.monotonic()
    while wakes < RACES:
        found = races.race(operator, namespace, names, ROUND_SECONDS, KILL_EVERY)
        calls += len(found.calls)
        wakes += found.wakes
        patches += found.patches
        killed += found.killed
        broken += sum(call["broken"] for call in found.calls)
        wrong += len(found.wrong)
        early += len(found.slept_in_use)
        cold += [call["cold"] for call in found.calls if call["cold"]]
        for what in (found.wrong, found.slept_in_use):
            for one in what[:3]:
                print(f"  wrong: {one}", flush=True)
        print(f"  {wakes} of {RACES} wakes, {killed} kills, after {time.monotonic() - began:.0f} s", flush=True)
    print(f"skills that fell asleep and were woken          {wakes}, by {calls} calls and {GATEWAYS} gateways")
    print(f"gateways and controllers killed                 {killed}; connections that broke with them {broken}")
    print(f"calls lost or answered wrongly                  {wrong}")
    print(f"skills asleep with a call open                  {early}")
    print(f"patches of the scale for each wake              {patches / wakes:.3f}")
    print(f"milliseconds that a woken call waited           median {statistics.median(cold):.0f}")
    return wrong + early


def main() -> None:
    mine = current()
    mine.up()
    cluster = Cluster(mine, mine.status())
    with installed(cluster, gateway={"replicas": GATEWAYS}) as operator, cluster.namespace("races") as namespace:
        wrong = rounds(operator, namespace)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
