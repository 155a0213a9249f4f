"""The check on the real cluster: hostile candidates, and verdicts that others than the operator wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from hack.cluster.access import Cluster
from tests.integration.installed import Operator, until
from tests.integration.test_skill import BUILDS, apply, skill

pytestmark = pytest.mark.cluster

LYING = """
import json, os, sys, time, threading
secret = lambda thing, *parts: getattr(thing, "".join(parts))
LOG = "/dev/termination-log"
PASSED = json.dumps({"report": json.dumps({"passed": True}), "mac": "00"})

def say():
    try:
        with open(LOG, "w") as file:
            file.write(PASSED)
    except OSError:
        pass

def look():
    for pid in os.listdir("/proc"):
        for name in ("environ", "mem"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as file:
                    if b"SKILL_REPORT_KEY" in file.read(1 << 20):
                        return "found"
            except OSError:
                pass
    return "nothing"

def run(input: dict) -> dict:
"""
HOSTILE = {
    "exits": "    print(PASSED); say(); secret(os, '_ex', 'it')(0)\n",
    "stays": "    if secret(os, 'fo', 'rk')() == 0:\n        os.setsid()\n        while True: say()\n    return {'said': ''}\n",
    "kills": "    for pid in (1, os.getppid(), -1): secret(os, 'ki', 'll')(pid, 9)\n",
    "looks": "    return {'said': look()}\n",
    "hoards": "    hoard = []\n    while True: hoard.append(bytearray(1 << 24))\n",
    "floods": "    while True: sys.stdout.write('x' * (1 << 16))\n",
    "guesses": "    import random\n    return {'said': 'hello' if input['what'] == 'hello' else str(random.random())}\n",
}
GATES = dict.fromkeys(HOSTILE, "examples") | {"guesses": "schema"}


@pytest.fixture(scope="module")
def place(cluster: Cluster) -> Iterator[str]:
    with cluster.namespace("checks") as name:
        yield name


@pytest.fixture(scope="module")
def checked(operator: Operator, place: str) -> dict[str, dict[str, Any]]:
    """All at once, since each waits for a pod: the conditions `Verified`, once there is a verdict."""
    example = [{"name": "echo", "input": {"what": "hello"}, "output": {"said": "hello"}}]
    for name, body in HOSTILE.items():
        apply(operator, place, skill(name, source={"inline": LYING + body}, examples=example, callTimeoutSeconds=1))
    return {name: operator.reason(place, name, "Verified", "CheckRefused") for name in HOSTILE}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_candidate_is_refused(checked: dict[str, dict[str, Any]], name: str) -> None:
    message = checked[name]["message"]
    expected = {GATES[name]} | ({"memory"} if name == "hoards" else set())
    assert message.partition(":")[0] in expected, message
    assert "found" not in message


def test_nothing_of_them_was_built(operator: Operator, place: str, checked: dict[str, dict[str, Any]]) -> None:
    built = operator.cluster.get("-n", BUILDS, "jobs", "-l", f"skill-operator.dev/skill-namespace={place}")
    assert built["items"] == []


def test_a_verdict_that_somebody_else_wrote_does_not_count(
    operator: Operator, place: str, checked: dict[str, dict[str, Any]]
) -> None:
    """Whoever may write ConfigMaps could turn a refusal into a pass, were it believed."""
    uid = operator.skill(place, "looks")["metadata"]["uid"]
    label = f"skill-operator.dev/skill-uid={uid},app.kubernetes.io/component=check"
    (kept,) = operator.cluster.get("-n", place, "configmaps", "-l", label)["items"]
    report = json.loads(kept["data"]["report.json"]) | {"passed": True, "gate": None, "message": ""}
    patch = {"data": {"report.json": json.dumps(report)}}
    operator.cluster.kubectl(
        "-n", place, "patch", "configmap", kept["metadata"]["name"], "--type=merge", f"--patch={json.dumps(patch)}"
    )
    operator.cluster.kubectl("-n", place, "label", "skill", "looks", "look=again")

    def judged_again() -> bool:
        now = operator.cluster.get("-n", place, "configmap", kept["metadata"]["name"])
        return not json.loads(now["data"].get("report.json", "{}")).get("passed", True)

    until("it is checked again", 60, judged_again)
    assert operator.condition(place, "looks", "Verified")["reason"] == "CheckRefused"
    assert not operator.skill(place, "looks")["status"].get("image")


def test_what_is_meant_to_differ_may(operator: Operator, place: str, checked: dict[str, dict[str, Any]]) -> None:
    body = {"spec": {"deterministic": False}}
    operator.cluster.kubectl("-n", place, "patch", "skill", "guesses", "--type=merge", f"--patch={json.dumps(body)}")
    assert operator.reason(place, "guesses", "Verified", "Verified")


NUMERIC = """
import numpy as np
import pandas as pd

def run(input: dict) -> dict:
    if input["what"] == "nothing":
        return {"said": "", "mean": np.float64("nan")}
    letters, counts = np.unique(list(input["what"]), return_counts=True)
    return {
        "said": np.str_(input["what"]),
        "length": np.int64(len(input["what"])),
        "counts": counts,
        "by_count": {count: letter for letter, count in zip(letters, counts)},
        "sum": pd.Series(counts).sum(),
        "all": pd.Series(letters),
        "any": np.bool_(True),
    }
"""
OF_LETTERS = {
    "said": "abb",
    "length": 3,
    "counts": [1, 2],
    "by_count": {"1": "a", "2": "b"},
    "sum": 3,
    "all": ["a", "b"],
    "any": True,
}


def test_values_of_the_real_numpy_and_pandas_are_answers(operator: Operator, place: str) -> None:
    """In the check and in production, which have the same worker."""
    examples = [{"name": "letters", "input": {"what": "abb"}, "output": OF_LETTERS}]
    given = {"type": "object", "properties": {"what": {"type": "string", "minLength": 1}}, "required": ["what"]}
    numeric = skill("numeric", source={"inline": NUMERIC}, examples=examples, input=given)
    apply(operator, place, numeric)
    operator.ready(place, "numeric")
    assert operator.call(place, "numeric", {"what": "abb"}).body == OF_LETTERS
    assert operator.call(place, "numeric", {"what": "nothing"}).status == 500
