"""A call that wakes a skill, beside a bare Deployment with the same pod template scaled from 0 to 1 until it is Ready.

    make bench            # WAKES=20 CALLS=20000

They take turns, since the machine's speed drifts. A call counts from its first byte to the last of its answer. Then:
what is written to the API server while a skill that is awake is called, and in as many seconds without a call.
"""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from benchmarks import show
from benchmarks.__main__ import bare, base_image, code, fenced, reached, seconds_until, skill
from hack.cluster.access import Cluster as Machine
from hack.cluster.cli import current
from hack.gateway import forwarded_gateway
from skill_operator.k8s.client import connect
from skill_operator.k8s.interface import Cluster

WAKES = int(os.environ.get("WAKES", "20"))
CALLS = int(os.environ.get("CALLS", "20000"))
AT_ONCE = 16
NAME = "sleeper"
WRITES = re.compile(
    r'^apiserver_request_total\{([^}]*verb="(?:POST|PUT|PATCH|DELETE|APPLY)"[^}]*)\} (\d+)$', re.MULTILINE
)
ANSWERS = re.compile(r'resource="\w*(?:reviews|leases)"')  # nothing is stored of a review; a lease is a heartbeat


async def scaled(cluster: Cluster, namespace: str, name: str, replicas: int) -> float:
    """Seconds until so many are available (for 0: until the last pod is gone)."""
    began = time.monotonic()
    patch = [{"op": "replace", "path": "/spec/replicas", "value": replicas}]
    await cluster.patch("Deployment", namespace, name, patch, "scale")
    async with asyncio.timeout(120):
        while True:  # a watch would report each step; the last one is all that counts here
            live = await cluster.get("Deployment", namespace, name)
            assert live is not None
            if live.get("status", {}).get("availableReplicas", 0) == replicas:
                break
            await asyncio.sleep(0.01)
    took = time.monotonic() - began
    selector = live["spec"]["selector"]["matchLabels"]
    while not replicas and await cluster.list("Pod", namespace, selector):  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.05)
    return took


async def woken(session: aiohttp.ClientSession, url: str) -> tuple[float, float]:
    """Seconds that the call took, and those that it waited for its pod, as the gateway says."""
    began = time.monotonic()
    async with session.post(url, json={"what": "x"}) as answer:
        assert await answer.json() == {"said": "x"}, answer
        took = time.monotonic() - began
    return took, int(answer.headers["X-Skill-Cold-Start"]) / 1000


def writes(machine: Machine) -> int:
    output = machine.kubectl("get", "--raw", "/metrics")
    return sum(int(count) for labels, count in WRITES.findall(output) if not ANSWERS.search(labels))


async def written(machine: Machine, session: aiohttp.ClientSession, url: str) -> tuple[int, int, float]:
    """Writes while CALLS calls are made, and in as long a time without."""
    left = iter(range(CALLS))

    async def caller() -> None:
        for _ in left:
            while (pause := await called()) is not None:  # noqa: ASYNC110 - so long as the gateway says
                await asyncio.sleep(pause)

    async def called() -> float | None:
        """Call once. Return how long to wait for another try, or None."""
        async with session.post(url, json={"what": "x"}) as answer:
            assert answer.status in {200, 429}, await answer.text()
            return float(answer.headers["Retry-After"]) if answer.status == 429 else None

    before, began = writes(machine), time.monotonic()
    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
    seconds = time.monotonic() - began
    between = writes(machine)
    await asyncio.sleep(seconds)
    return between - before, writes(machine) - between, seconds


@contextmanager
def gateway(machine: Machine) -> Iterator[tuple[str, aiohttp.ClientSession]]:
    """Its address, and a session of a caller who may call everything."""
    with forwarded_gateway(machine) as (service, port):
        headers = {"Authorization": f"Bearer {machine.caller('default', 'bench', everywhere=True)}"}
        connector = aiohttp.TCPConnector(ssl=service.forwarded_context or True)
        yield f"{service.scheme}://127.0.0.1:{port}", aiohttp.ClientSession(connector=connector, headers=headers)


async def main() -> None:
    mine = current()
    machine = Machine(mine, mine.status())
    ratios, waited, ours, theirs = [], [], [], []
    with gateway(machine) as (address, session):
        async with connect("skill-operator-bench") as cluster, session, fenced(cluster) as namespace:
            wanted = skill(namespace, NAME)
            wanted["spec"]["idleTimeoutSeconds"] = 0
            await seconds_until(cluster, wanted, lambda o: reached(o).get("Ready") == "True")
            live = await cluster.get("Deployment", namespace, f"skill-{NAME}")
            assert live is not None
            await cluster.apply(mounted := code(wanted))
            code_name = mounted["metadata"]["name"]
            await cluster.apply(bare(namespace, "bare", live["spec"]["template"], await base_image(cluster), code_name))
            url = f"{address}/v1/skills/{namespace}/{NAME}"
            for number in range(WAKES + 1):
                await scaled(cluster, namespace, f"skill-{NAME}", 0)
                await scaled(cluster, namespace, "bare", 0)
                took, cold = await woken(session, url)
                other = await scaled(cluster, namespace, "bare", 1)
                if number:  # the first round warms up
                    ratios.append(took / other)
                    ours.append(took)
                    waited.append(cold / took)
                    theirs.append(other)
            during, beside, seconds = await written(machine, session, url)
    p95 = statistics.quantiles(ratios, n=20)[-1]
    print(f"wake to answer / bare scale 0 to 1 until Ready  {show(ratios)}  p95 {p95:.2f}   (goal: 1.0, p95 1.2)")
    print(f"  call, seconds                                 {show(ours)}")
    print(f"  bare Deployment, seconds                      {show(theirs)}")
    print(f"  share that the call waited for its pod        {show(waited)}")
    print(f"writes during {CALLS} calls of what is awake     {during}")
    print(f"  in as many seconds ({seconds:.0f}) without a call          {beside}")


if __name__ == "__main__":
    asyncio.run(main())
