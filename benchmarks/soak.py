"""Two honest tenants beside a hostile one, who tries everything at once that has ever stopped the operator.

    make bench-soak       # SECONDS=600

First the honest tenants are alone for a while, then the hostile one joins them. It fails where one of their calls is
lost, a new Skill of theirs does not become Ready, or controller or gateway restarts. The hostile tenant may edit its
own namespace and run pods there, of half a CPU in all.

On a machine that the API server shares with all pods, what the hostile tenant writes takes the CPU from everybody. So a
bare server, which is called without any gateway, stands beside the Skills: what slows it down as well is the machine.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import bare_server
from hack.cluster.access import Cluster
from hack.cluster.cli import current
from hack.install import NAMESPACE
from tests.hostile.test_resources import p95
from tests.integration import caller
from tests.integration.installed import Operator, installed, until
from tests.integration.test_skill import apply, skill

SECONDS = float(os.environ.get("SECONDS", "600"))
IDLE_SECONDS = min(120.0, SECONDS / 2)
NEW_SKILL_SECONDS = 45.0
USER = "mallory"
LIMITS = {"cpu": "500m", "memory": "512Mi"}  # of the pod that attacks, and of those that measure: else they starve
FAT = 1_300_000  # bytes, which the API server stores
DEEP = 9_900  # levels, likewise
SKILLS = "apis/skill-operator.dev/v1alpha1/namespaces/{}/skills"
JOBS = "apis/batch/v1/namespaces/{}/jobs"
CROWD = 200  # Skills, each of which is changed again and again
MAX_OBJECTS = 15
"""The objects of each kind that are stored; later ones of the same names are refused."""
SIGNALS = """
import os
import time
from operator import attrgetter

def run(input: dict) -> dict:
    name = input["what"]
    if name == "kill":
        attrgetter(name)(os)(1, 15)
    if name != "hello":
        time.sleep(1.5)
    return {"said": name}
"""
BARE_PORT = 8080
ECHO = [{"name": "echo", "input": {"what": "hello"}, "output": {"said": "hello"}}]
Object = dict[str, Any]


class Hostile:
    """Hostile does with the API server whatever one with `edit` in a namespace may do, until it is stopped."""

    def __init__(self, operator: Operator, namespace: str) -> None:
        self._operator, self._namespace = operator, namespace
        self._stop = threading.Event()
        self.outcomes: Counter[str] = Counter()
        attacks = (self.costly_patterns, self.fat_skills, self.deep_skill, self.annotations, self.labels, self.signals)
        self._threads = [threading.Thread(target=self._repeat, args=(attack,)) for attack in attacks]

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Attack meanwhile."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def _repeat(self, attack: Callable[[int], None]) -> None:
        for turn in itertools.count():
            if self._stop.is_set():
                return
            attack(turn % MAX_OBJECTS)
            self._stop.wait(1)

    def _request(self, method: str, path: str, body: str, content_type: str = "application/json") -> bool:
        """Return whether the API server took it. A kubectl for each would take more of the machine than the attack."""
        headers = {"Impersonate-User": USER, "Impersonate-Group": "system:authenticated", "Content-Type": content_type}
        api = self._operator.objects.api_client
        url = f"{api.configuration.host}/{path.format(self._namespace)}"
        response = api.rest_client.pool_manager.request(method, url, body=body.encode(), headers=headers)
        return bool(response.status < 300)

    def _create(self, body: str, path: str = SKILLS) -> None:
        self.outcomes["stored" if self._request("POST", path, body) else "refused"] += 1

    def _patch(self, path: str, metadata: Object) -> None:
        self._request("PATCH", path, json.dumps({"metadata": metadata}), "application/merge-patch+json")

    def costly_patterns(self, turn: int) -> None:
        """Create Skills whose patterns a backtracking engine needs minutes for, beside long examples."""
        texts = [{"pattern": f"(a{{0,{n}}}|a)*(a|aa)*{n}$"} for n in range(1, 14)]
        guarded = [{"pattern": f"(?=[a{n}])(a+)+$"} for n in range(14)]
        for name, patterns in (("plain", texts), ("guarded", guarded)):
            properties = {"a": {"type": "string", "allOf": patterns}}
            examples = [
                {"name": f"e{n}", "input": {"a": "a" * (30_000 + n) + "!"}, "output": {"said": ""}} for n in range(20)
            ]
            body = skill(f"costly-{name}-{turn}", input={"type": "object", "properties": properties}, examples=examples)
            self._create(json.dumps(body))

    def fat_skills(self, turn: int) -> None:
        """Create Skills as large as the API server takes them, and dear to decode."""
        empty: list[list[int]] = [[]] * (FAT // 3)
        body = skill(f"fat-{turn}", examples=[{"name": "one", "input": {"what": empty}, "output": {"said": ""}}])
        self._create(json.dumps(body, separators=(",", ":")))

    def deep_skill(self, turn: int) -> None:
        """Create Skills nested as deep as the API server takes them, which JSON decoders may not."""
        body = skill(f"deep-{turn}", examples=[{"name": "one", "input": {"what": "@"}, "output": {"said": ""}}])
        self._create(json.dumps(body).replace('"@"', "[" * DEEP + "]" * DEEP))

    def annotations(self, turn: int) -> None:
        """Change so many Skills that a queue in order of arrival is always full."""
        for name in (f"crowd-{number}" for number in range(CROWD)):
            if turn == 0:
                self._create(json.dumps(skill(name, source={"inline": "x"})))
            self._patch(f"{SKILLS}/{name}", {"annotations": {"skill-operator.dev/retry": str(time.monotonic_ns())}})

    def labels(self, turn: int) -> None:
        """Make objects that look like the operator's own."""
        name = f"label-{turn}"
        container = {"name": "c", "image": "localhost/none:1"}
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": template}}
        self._create(json.dumps(job), JOBS)
        uid = self._operator.skill(self._namespace, "signals")["metadata"]["uid"]
        forged = {"skill-operator.dev/skill-uid": uid, "skill-operator.dev/skill": "signals"}
        for labels in (forged, {"skill-operator.dev/skill": "-.-", "app.kubernetes.io/component": "check"}):
            self._patch(f"{JOBS}/{name}", {"labels": labels})

    def signals(self, _turn: int) -> None:
        """Call a skill that asks its own PID 1 to end."""
        answer = self._operator.call(self._namespace, "signals", {"what": "kill"})
        self.outcomes[f"signals {answer.status}"] += 1


def prepare(operator: Operator, namespaces: tuple[str, ...], hostile: str) -> None:
    """Make the Skills that are called, and give the hostile tenant its rights."""
    for namespace in namespaces:
        apply(operator, namespace, skill("steady", idleTimeoutSeconds=0))
        operator.run_script(namespace, Path(bare_server.__file__), str(BARE_PORT), limits=LIMITS)
    apply(operator, hostile, skill("signals", source={"inline": SIGNALS}, idleTimeoutSeconds=0, examples=ECHO))
    binding = ("-n", hostile, "create", "rolebinding", "edit", "--clusterrole=edit", f"--user={USER}")
    operator.cluster.kubectl(*binding)
    for namespace in namespaces:
        operator.ready(namespace, "steady")
        operator.cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/bare-server", "--timeout=60s")
    operator.ready(hostile, "signals")


@contextmanager
def calls(operator: Operator, namespaces: tuple[str, ...], seconds: float) -> Iterator[list[Object]]:
    """Yield a list that holds every call of the honest tenants at the end: five a second each, from a pod of theirs.

    As many calls of their bare servers are among them.
    """
    made: list[Object] = []
    for namespace in namespaces:
        token = operator.cluster.caller(namespace)
        address = operator.cluster.get("-n", namespace, "pod/bare-server")["status"]["podIP"]
        plans = [f"{place}:0:{seconds}:0.2" for place in (f"{namespace}/steady", f"http://{address}:{BARE_PORT}/")]
        operator.run_script(namespace, Path(caller.__file__), operator.service.url, token, *plans, limits=LIMITS)
    yield made
    for namespace in namespaces:
        wait = ("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/caller", f"--timeout={seconds + 120:.0f}s")
        operator.cluster.kubectl("-n", namespace, *wait)
        made += json.loads(operator.cluster.kubectl("-n", namespace, "logs", "caller").splitlines()[-1])
        operator.cluster.kubectl("-n", namespace, "delete", "pod,configmap", "caller")


def new_skills(operator: Operator, namespaces: tuple[str, ...], seconds: float) -> list[float]:
    """Apply a new Skill of an honest tenant again and again. Return how long each took to be Ready."""
    took: list[float] = []
    end = time.monotonic() + seconds
    for number, namespace in enumerate(itertools.cycle(namespaces)):
        began = time.monotonic()
        name = f"new-{number}"
        said = f"{name} in {namespace}"  # so that each is checked and built
        example = {"name": "one", "input": {"what": ""}, "output": {"said": said}}
        code = f"def run(input: dict) -> dict:\n    return {{'said': {said!r}}}\n"
        apply(operator, namespace, skill(name, source={"inline": code}, examples=[example]))
        operator.ready(namespace, name, 300)
        took.append(time.monotonic() - began)
        operator.cluster.kubectl("-n", namespace, "delete", "skill", name, "--wait=false")
        rest = began + NEW_SKILL_SECONDS
        if rest > end:
            break
        until("the next one's turn", NEW_SKILL_SECONDS + 1, lambda rest=rest: time.monotonic() > rest)  # type: ignore[misc]
    return took


def restarts(operator: Operator) -> int:
    """Return how often containers of controller and gateway were started again."""
    pods = operator.cluster.get("-n", NAMESPACE, "pods", "-l", f"app.kubernetes.io/instance={NAMESPACE}")["items"]
    statuses = [
        status
        for pod in pods
        if pod["metadata"]["labels"].get("app.kubernetes.io/component") in {"controller", "gateway"}
        for status in pod["status"]["containerStatuses"]
    ]
    return sum(status["restartCount"] for status in statuses)


def calls_of(made: list[Object], *, bare: bool = False) -> list[Object]:
    """Return the calls of Skills, or those of bare servers."""
    return [call for call in made if ("://" in call["skill"]) is bare]


def milliseconds(made: list[Object]) -> tuple[float, float]:
    """Return the milliseconds that half of the calls, and 95 of 100, took at most."""
    took = [1000.0 * float(call["took"]) for call in made]
    return statistics.median(took), p95(took)


def show_slowdown(called: str, idle: list[Object], beside: list[Object]) -> float:
    """Print how long calls took, alone and beside. Return how many times as long 95 of 100 took at most."""
    (half, quiet), (half_beside, loud) = milliseconds(idle), milliseconds(beside)
    print(f"  ms of {called:15s} half of the calls {half:6.1f} alone, {half_beside:6.1f} beside")
    print(f"  ms of {called:15s} 95 of 100         {quiet:6.1f} alone, {loud:6.1f} beside: {loud / quiet:.1f} times")
    return loud / quiet


def soak(operator: Operator, namespaces: tuple[str, ...], hostile: str) -> bool:
    """Print what the honest tenants noticed. Return whether something was lost, or restarted."""
    prepare(operator, namespaces, hostile)
    with calls(operator, namespaces, IDLE_SECONDS) as idle:
        before = new_skills(operator, namespaces, IDLE_SECONDS)
    started = restarts(operator)
    token = operator.cluster.caller(hostile, "attacker")
    attacker = Path(__file__).with_name("soak_attacker.py")
    attacks = Hostile(operator, hostile)
    with calls(operator, namespaces, SECONDS) as beside, attacks.at_work():
        operator.run_script(hostile, attacker, operator.service.url, token, hostile, str(SECONDS), limits=LIMITS)
        took = new_skills(operator, namespaces, SECONDS)
    wait = ("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/soak-attacker", "--timeout=120s")
    operator.cluster.kubectl("-n", hostile, *wait, check=False)
    again = restarts(operator) - started
    lost = Counter(call["status"] for call in calls_of(beside) if call["status"] != 200)
    print(f"calls of the honest tenants          {len(calls_of(idle))} alone, {len(calls_of(beside))} beside")
    print(f"  lost or answered wrongly           {sum(lost.values())} {dict(lost) or ''}")
    slower, bare_slower = (
        show_slowdown(called, calls_of(idle, bare=bare), calls_of(beside, bare=bare))
        for called, bare in (("a Skill", False), ("a bare server", True))
    )
    print(f"  times as slow, a Skill              {slower:.1f}   (goal: 3; a bare server: {bare_slower:.1f})")
    alone, joined = statistics.median(before), statistics.median(took)
    print(
        f"seconds until a new Skill was Ready {alone:.0f} alone, {joined:.0f} beside, of {len(took)}: {max(took):.0f}"
    )
    print(f"restarts of controller and gateway  {again}")
    print(f"what the hostile tenant did         {dict(attacks.outcomes)}")
    print(operator.cluster.kubectl("-n", hostile, "logs", "soak-attacker", "--tail=3", check=False))
    return bool(lost or again)


def main() -> None:
    """Run the soak on the checkout's cluster."""
    mine = current()
    mine.up()
    cluster = Cluster(mine, mine.status())
    with (
        installed(cluster) as operator,
        cluster.namespace("alice") as alice,
        cluster.namespace("bob") as bob,
        cluster.namespace(USER) as hostile,
    ):
        failed = soak(operator, (alice, bob), hostile)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
