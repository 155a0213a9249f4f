"""Wake, sleep and drain against each other; if wanted, while gateways and the controller are killed."""

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from hack.install import NAMESPACE
from tests.integration.installed import Operator

IDLE = 2
SCALES = re.compile(r"^apiserver_request_total\{(.*?)\} (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What became of the calls, and of the skills meanwhile."""

    calls: list[dict[str, Any]]
    sleeps: list[tuple[str, float]]  # which, when
    wakes: int
    patches: int  # that changed something
    killed: int

    @property
    def wrong(self) -> list[dict[str, Any]]:
        return [call for call in self.calls if not call["right"]]

    @property
    def slept_in_use(self) -> list[tuple[str, float]]:
        """A long call was surely at its pod while it took its time, at the end; before, it may have been held, or on its
        way to a gateway that was gone. A second, and a moment, are for a watch that tells late, and clocks."""
        spans = [(c["skill"], c["to"] - c["takes"] + 1, c["to"] - 0.3) for c in self.calls if c["takes"] and c["right"]]
        return [(name, at) for name, at in self.sleeps if any(s == name and a < at < b for s, a, b in spans)]


def race(operator: Operator, namespace: str, names: list[str], seconds: float, kill_every: float = math.inf) -> Outcome:
    """The skills are there, with an idle time of IDLE."""
    keys = [f"{namespace}/{name}" for name in names]
    before = patches(operator)
    arguments = [operator.service.url, operator.token, str(seconds), str(IDLE), *keys]
    killed, end = 0, time.monotonic() + seconds
    with Watch(operator, namespace) as watch:
        operator.run_script(namespace, Path(__file__).with_name("racer.py"), *arguments)
        while time.monotonic() + kill_every < end:
            time.sleep(kill_every)
            kill(operator, random.choice(["gateway", "gateway", "controller"]))
            killed += 1
        succeeded = ("--for=jsonpath={.status.phase}=Succeeded", "pod/racer", "--timeout=200s")
        operator.cluster.kubectl("-n", namespace, "wait", *succeeded)
        calls = json.loads(operator.cluster.kubectl("-n", namespace, "logs", "racer").splitlines()[-1])
        operator.cluster.kubectl("-n", namespace, "delete", "pod", "racer")
    return Outcome(calls, watch.sleeps, watch.wakes, patches(operator) - before, killed)


def kill(operator: Operator, component: str) -> None:
    """One pod, without notice."""
    selector = f"app.kubernetes.io/component={component}"
    pods = operator.cluster.get("-n", NAMESPACE, "pods", "-l", selector)["items"]
    name = random.choice(pods)["metadata"]["name"]
    operator.cluster.kubectl("-n", NAMESPACE, "delete", "pod", name, "--grace-period=0", "--force", "--wait=false")


def patches(operator: Operator) -> int:
    """How often the scale of a Deployment was changed through its subresource, as the API server counts."""
    told = operator.cluster.kubectl("get", "--raw", "/metrics")
    wanted = ('resource="deployments"', 'subresource="scale"', 'verb="PATCH"', 'code="200"')
    return sum(int(n) for labels, n in SCALES.findall(told) if all(label in labels for label in wanted))


class Watch:
    """Notes each time that a Deployment falls asleep or wakes."""

    def __init__(self, operator: Operator, namespace: str) -> None:
        tools, config = operator.cluster.tools, operator.cluster.kubeconfig
        columns = '-o=jsonpath={.metadata.name} {.spec.replicas}{"\\n"}'
        command = [f"{tools}/kubectl", f"--kubeconfig={config}", "-n", namespace, "get", "deployments", "-w", columns]
        self._namespace = namespace
        self.sleeps: list[tuple[str, float]] = []
        self.wakes = 0
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        last: dict[str, str] = {}
        for line in self._process.stdout:
            name, _, replicas = line.strip().partition(" ")
            if last.get(name, replicas) != replicas:
                if replicas == "0":
                    self.sleeps.append((f"{self._namespace}/{name.removeprefix('skill-')}", time.time()))
                else:
                    self.wakes += 1
            last[name] = replicas

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._thread.join()
