"""Back to an earlier revision and forward again, on the real cluster: in seconds, without a model, without a lost call."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hack.install import NAMESPACE, NODES, forward
from hack.model import deploy
from tests.integration.installed import Answer, Operator, until
from tests.integration.test_build import Registry
from tests.integration.test_skill import apply

pytestmark = pytest.mark.cluster
BUILDS = f"{NAMESPACE}-builds"
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def greet(word: str, **spec: Any) -> dict[str, Any]:
    """A Skill that answers with this word before the text."""
    source = f"def run(input):\n    return {{'text': '{word} ' + input['text']}}\n"
    wanted = {
        "description": f"Says {word} before the text.",
        "input": TEXT,
        "output": TEXT,
        "examples": [{"name": "one", "input": {"text": "a"}, "output": {"text": f"{word} a"}}],
        "source": {"inline": source},
        "callTimeoutSeconds": 5,
    } | spec
    return {
        "apiVersion": "skill-operator.dev/v1alpha1",
        "kind": "Skill",
        "metadata": {"name": "greet"},
        "spec": wanted,
    }


def patch(operator: Operator, namespace: str, spec: dict[str, Any]) -> None:
    operator.cluster.kubectl(
        "-n", namespace, "patch", "skill", "greet", "--type=merge", "-p", json.dumps({"spec": spec})
    )


def status(operator: Operator, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = operator.skill(namespace, "greet").get("status", {})
    return found


def runs(operator: Operator, namespace: str, revision: str) -> dict[str, Any]:
    """The status, once this very revision is Ready for the present spec, and no other pod is left."""

    def look() -> dict[str, Any] | None:
        found = operator.skill(namespace, "greet")
        ready: dict[str, Any] = next((c for c in found["status"]["conditions"] if c["type"] == "Ready"), {})
        current = ready.get("observedGeneration") == found["metadata"]["generation"] and ready["status"] == "True"
        return found["status"] if current and found["status"]["revision"] == revision else None

    return until(f"revision {revision} runs", 60, look)


def two_revisions(operator: Operator, namespace: str, **spec: Any) -> tuple[str, str]:
    """Labels of an earlier revision, which says hello, and of the present one, which says bye."""
    apply(operator, namespace, greet("hello", **spec))
    first = operator.ready(namespace, "greet")["status"]["revision"]
    apply(operator, namespace, greet("bye", **spec))
    until("another revision", 120, lambda: status(operator, namespace)["revision"] != first)
    second = operator.ready(namespace, "greet")["status"]["revision"]
    return first, second


def say(operator: Operator, namespace: str, text: str = "x") -> Any:
    return operator.call(namespace, "greet", {"text": text}).body


def builds(operator: Operator, namespace: str) -> list[Any]:
    label = f"skill-operator.dev/skill-namespace={namespace}"
    found: list[Any] = operator.cluster.get("-n", BUILDS, "jobs", "-l", label)["items"]
    return found


@contextmanager
def without_model_and_push(operator: Operator) -> Iterator[None]:
    """Take away the model and the way to push images, by Services that lead nowhere; ports forwarded to pods stay."""
    model = ("-n", deploy.MODEL_NAMESPACE, "service", deploy.NAME)
    registry = ("-n", NAMESPACE, "service", f"{NAMESPACE}-registry")
    ports = operator.cluster.get(*registry)["spec"]["ports"]
    closed = [port | {"targetPort": 9} if port["name"] == "push" else port for port in ports]

    def change(service: tuple[str, ...], spec: dict[str, Any]) -> None:
        operator.cluster.kubectl("patch", *service, "--type=merge", "-p", json.dumps({"spec": spec}))

    try:
        change(model, {"selector": {"app": "nothing"}})
        change(registry, {"ports": closed})
        yield
    finally:
        change(model, {"selector": {"app": deploy.NAME}})
        change(registry, {"ports": ports})


@contextmanager
def calling(call: Callable[[], Answer], callers: int = 2) -> Iterator[list[Answer]]:
    """Call in a loop, as several callers at once. What was answered is complete when the context ends."""
    answers: list[Answer] = []
    stop = threading.Event()

    def loop() -> None:
        while not stop.is_set():
            answers.append(call())

    threads = [threading.Thread(target=loop) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_back_and_forward_lose_no_call(operator: Operator, namespace: str) -> None:
    first, second = two_revisions(operator, namespace)
    assert say(operator, namespace) == {"text": "bye x"}
    with calling(lambda: operator.call(namespace, "greet", {"text": "x"})) as answers:
        began = time.monotonic()
        patch(operator, namespace, {"revision": first})
        back = runs(operator, namespace, first)
        back_seconds = time.monotonic() - began
        until("the earlier answer", 20, lambda: answers[-1].body == {"text": "hello x"})
        patch(operator, namespace, {"revision": None})
        forward = runs(operator, namespace, second)
        until("the present answer", 20, lambda: answers[-1].body == {"text": "bye x"})
    print(f"back in {back_seconds:.1f} s, {len(answers)} calls")
    assert {answer.status for answer in answers} == {200}
    assert back_seconds < 30
    assert [entry["revision"] for entry in back["history"]] == [first, second]
    assert [entry["revision"] for entry in forward["history"]] == [second, first]
    assert builds(operator, namespace) == []
    reasons = {c["type"]: c["reason"] for c in back["conditions"]}
    assert (reasons["Generated"], reasons["Verified"]) == ("RevisionPinned", "RevisionPinned")
    assert "trial" not in forward
    assert "serving" not in forward


def test_each_revision_keeps_its_code_and_its_spec(operator: Operator, namespace: str) -> None:
    first, second = two_revisions(operator, namespace)
    labels = "app.kubernetes.io/component=revision"

    def kept() -> dict[str, dict[str, str]]:
        found = operator.cluster.get("-n", namespace, "configmaps", "-l", labels)["items"]
        return {each["metadata"]["labels"]["skill-operator.dev/revision"]: each["data"] for each in found}

    assert set(kept()) == {first, second}
    assert "hello" in kept()[first]["skill.py"]
    assert json.loads(kept()[first]["spec.json"])["description"] == "Says hello before the text."
    patch(operator, namespace, {"revisionHistoryLimit": 0})
    until("only the present one is kept", 30, lambda: set(kept()) == {second})
    patch(operator, namespace, {"revision": first})
    unknown = operator.reason(namespace, "greet", "Generated", "UnknownRevision")
    assert second in unknown["message"]
    assert say(operator, namespace) == {"text": "bye x"}
    patch(operator, namespace, {"revision": second})
    runs(operator, namespace, second)
    assert say(operator, namespace) == {"text": "bye x"}


def test_an_unknown_revision_leaves_what_runs(operator: Operator, namespace: str) -> None:
    first, second = two_revisions(operator, namespace)
    patch(operator, namespace, {"revision": "0123456789"})
    unknown = operator.reason(namespace, "greet", "Ready", "UnknownRevision")
    assert first in unknown["message"]
    assert second in unknown["message"]
    assert operator.condition(namespace, "greet", "Stalled")["status"] == "True"
    assert say(operator, namespace) == {"text": "bye x"}
    patch(operator, namespace, {"revision": None})
    runs(operator, namespace, second)


def test_the_tool_is_what_runs(operator: Operator, namespace: str) -> None:
    """The schemas of an earlier revision hold for its calls, whatever the spec says now."""
    apply(operator, namespace, greet("hello"))
    first = operator.ready(namespace, "greet")["status"]["revision"]
    source = "def run(input):\n    return {'n': input['n'] + 1}\n"
    examples = [{"name": "one", "input": {"n": 1}, "output": {"n": 2}}]
    counts = greet("-", description="Counts.", input=NUMBER, output=NUMBER, examples=examples)
    counts["spec"]["source"] = {"inline": source}
    apply(operator, namespace, counts)
    until("another revision", 120, lambda: status(operator, namespace)["revision"] != first)
    operator.ready(namespace, "greet")
    assert operator.call(namespace, "greet", {"n": 1}).body == {"n": 2}
    patch(operator, namespace, {"revision": first})
    found = runs(operator, namespace, first)
    assert found["serving"]["input"] == TEXT
    until("the earlier answer", 20, lambda: say(operator, namespace) == {"text": "hello x"})
    refused = operator.call(namespace, "greet", {"n": 1})
    assert refused.status == 422
    assert "text" in refused.body["detail"]


GREEDY = """
def run(input):
    block = bytearray(200 << 20)
    return {'text': 'new ' + input['text'] + chr(block[0]) * 0}
"""


def test_a_revision_that_fails_in_its_pod_never_serves(operator: Operator, namespace: str) -> None:
    """The check has more memory than a pod of the Skill may use, so that only the pod shows it."""
    apply(operator, namespace, greet("hello"))
    first = operator.ready(namespace, "greet")["status"]["revision"]
    limits = {"requests": {"memory": "64Mi"}, "limits": {"memory": "128Mi"}}
    example = [{"name": "greedy", "input": {"text": "a"}, "output": {"text": "new a"}}]
    bad = greet("new", source={"inline": GREEDY}, resources=limits, examples=example)
    with calling(lambda: operator.call(namespace, "greet", {"text": "x"}), 1) as answers:
        apply(operator, namespace, bad)
        failed = operator.reason(namespace, "greet", "Deployed", "TrialFailed", 120)
    assert {json.dumps(answer.body) for answer in answers} == {'{"text": "hello x"}'}
    assert "greedy" in failed["message"]
    assert first in failed["message"]
    assert status(operator, namespace)["revision"] == first
    trial = status(operator, namespace)["trial"]
    jobs = ("-n", namespace, "jobs", "-l", "app.kubernetes.io/component=trial")
    until("no trial is left", 30, lambda: not operator.cluster.get(*jobs)["items"])
    operator.cluster.kubectl("-n", namespace, "label", "skill", "greet", "touched=yes")
    assert status(operator, namespace)["trial"] == trial
    operator.cluster.kubectl("-n", namespace, "scale", "deployment", "skill-greet", "--replicas=0")
    assert say(operator, namespace) == {"text": "hello x"}
    patch(operator, namespace, {"resources": {"limits": {"memory": "512Mi"}}})
    until("the new revision", 60, lambda: status(operator, namespace)["revision"] != first)
    until("it answers", 30, lambda: say(operator, namespace) == {"text": "new x"})


def test_a_skill_that_sleeps_wakes_with_the_earlier_code(operator: Operator, namespace: str) -> None:
    first, _ = two_revisions(operator, namespace)
    operator.cluster.kubectl("-n", namespace, "scale", "deployment", "skill-greet", "--replicas=0")
    operator.reason(namespace, "greet", "Active", "Asleep")
    patch(operator, namespace, {"revision": first})
    runs(operator, namespace, first)
    assert operator.cluster.get("-n", namespace, "deployment", "skill-greet")["spec"]["replicas"] == 0
    assert say(operator, namespace) == {"text": "hello x"}


def test_equal_code_is_an_equal_layer(operator: Operator, namespace: str) -> None:
    """Though Kaniko stamps its layers with times (decision 9), and another Skill is built at another time."""
    one, other = greet("hello"), greet("hello")
    other["metadata"] = {"name": "twin"}
    apply(operator, namespace, one)
    apply(operator, namespace, other)
    statuses = [operator.ready(namespace, name)["status"] for name in ("greet", "twin")]
    assert statuses[0]["revisionDigest"] == statuses[1]["revisionDigest"]
    assert layers(operator, statuses[0]["image"]) == layers(operator, statuses[1]["image"])
    changed = greet("good evening")
    changed["metadata"] = {"name": "third"}
    apply(operator, namespace, changed)
    *base, last = layers(operator, operator.ready(namespace, "third")["status"]["image"])
    *same, first = layers(operator, statuses[0]["image"])
    assert base == same
    assert last != first


def layers(operator: Operator, image: str) -> list[str]:
    """The digests of an image's layers."""
    repository, _, digest = image.partition("/")[2].partition("@")
    with forward(operator.cluster, f"service/{NAMESPACE}-registry-mirror", 5002, NODES) as port:
        return [layer["digest"] for layer in Registry(port).manifest(repository, digest)["layers"]]


@pytest.mark.serial("stops the controller")
def test_a_controller_that_ends_in_between_goes_on(operator: Operator, namespace: str) -> None:
    first, _ = two_revisions(operator, namespace)
    with calling(lambda: operator.call(namespace, "greet", {"text": "x"}), 1) as answers:
        patch(operator, namespace, {"revision": first})
        until("the trial", 20, lambda: "trial" in status(operator, namespace))
        operator.scale("controller", 0)
        operator.scale("controller", 1)
        runs(operator, namespace, first)
        until("the earlier answer", 20, lambda: answers[-1].body == {"text": "hello x"})
    assert {answer.status for answer in answers} == {200}


@pytest.mark.serial("stops the model, and makes the registry read-only")
def test_back_and_forward_need_neither_model_nor_a_registry_that_is_written(operator: Operator, namespace: str) -> None:
    marker = f"Reversible {namespace}"
    usage = {"prompt_tokens": 10, "completion_tokens": 10}
    code = "```python\ndef run(input):\n    return {'text': 'WORD ' + input['text']}\n```"
    operator.script(
        {f"{marker} {word}": [{"text": code.replace("WORD", word), "usage": usage}] for word in ("hello", "bye")}
    )
    spec: dict[str, Any] = {"generation": {"secondOpinion": "Never"}}
    for word in ("hello", "bye"):
        wanted = greet(word, description=f"{marker} {word}", **spec)
        del wanted["spec"]["source"]
        apply(operator, namespace, wanted)
        until(word, 120, lambda word=word: say(operator, namespace) == {"text": f"{word} x"})  # type: ignore[misc]
        operator.ready(namespace, "greet")
    second, first = (entry["revision"] for entry in status(operator, namespace)["history"])
    asked = len(operator.asked(marker))
    with without_model_and_push(operator), calling(lambda: operator.call(namespace, "greet", {"text": "x"})) as answers:
        patch(operator, namespace, {"revision": first})
        runs(operator, namespace, first)
        until("the earlier answer", 20, lambda: answers[-1].body == {"text": "hello x"})
        patch(operator, namespace, {"revision": None})
        runs(operator, namespace, second)
        until("the present answer", 20, lambda: answers[-1].body == {"text": "bye x"})
    assert {answer.status for answer in answers} == {200}
    assert len(operator.asked(marker)) == asked
    assert builds(operator, namespace) == []
