"""The loop on the real cluster: what it keeps, where, who may change it, and what people are told."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from hack.cluster.access import Cluster
from hack.install import NAMESPACE
from hack.model import deploy
from skill_operator import naming
from skill_operator.k8s.client import ApiServer, connect
from skill_operator.k8s.errors import Conflict
from tests.integration.installed import Operator, install_for_tests, installed, until

pytestmark = pytest.mark.cluster
CONTROLLER = "app.kubernetes.io/component=controller"
USAGE = {"prompt_tokens": 100, "completion_tokens": 50}
RIGHT = "    if input['what'] == 'refuse':\n        raise ValueError('no')\n    return {'said': input['what']}"


def reply(body: str, **more: Any) -> dict[str, Any]:
    return {"text": f"```python\ndef run(input):\n{body}\n```", "usage": USAGE, **more}


def skill(operator: Operator, namespace: str, name: str, replies: list[dict[str, Any]], **spec: Any) -> str:
    """Apply a Skill that the model answers so, without a second opinion; what its prompts can be told by."""
    marker = f"Say what you are told, {namespace} {name}."
    operator.script({marker: replies})
    text = {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]}
    examples = [
        {"name": "echo", "input": {"what": "hello"}, "output": {"said": "hello"}},
        {"name": "refused", "input": {"what": "refuse"}, "error": "ValueError"},
    ]
    said = {"type": "object", "properties": {"said": {"type": "string"}}, "required": ["said"]}
    spec["generation"] = {"secondOpinion": "Never"} | spec.get("generation", {})
    body = {
        "apiVersion": "skill-operator.dev/v1alpha1",
        "kind": "Skill",
        "metadata": {"name": name},
        "spec": {"description": marker, "input": text, "output": said, "examples": examples, **spec},
    }
    operator.cluster.kubectl("apply", "--server-side", "-n", namespace, "-f", "-", stdin=json.dumps(body))
    return marker


def restart(operator: Operator) -> None:
    """Without a word of warning. Whoever leads next waits until the Lease has run out, and sweeps first."""
    operator.cluster.kubectl("-n", NAMESPACE, "delete", "pod", "-l", CONTROLLER, "--force", "--grace-period=0")


def ledgers(operator: Operator, namespace: str) -> list[dict[str, Any]]:
    chosen = f"app.kubernetes.io/component=ledger,skill-operator.dev/skill-namespace={namespace}"
    found: list[dict[str, Any]] = operator.cluster.get("-n", NAMESPACE, "configmaps", "-l", chosen)["items"]
    return found


def spent(operator: Operator, namespace: str) -> int:
    data = operator.cluster.get("-n", NAMESPACE, "configmap", "skill-operator-account")["data"]["account.json"]
    return int(json.loads(data)["spent"].get(namespace, 0))


def attempts(operator: Operator, namespace: str, name: str) -> int:
    return int(operator.skill(namespace, name)["status"]["generation"]["attempts"])


def told(operator: Operator, namespace: str, part: str) -> None:
    """Events are written beside the passes."""
    look = ("-n", namespace, "get", "events", "-o", "jsonpath={.items[*].message}")
    until(f"an event tells: {part}", 30, lambda: part in operator.cluster.kubectl(*look))


@pytest.mark.serial("kills the controller")
def test_a_loop_ends_is_told_of_and_stays_ended_until_a_person_asks_again(operator: Operator, namespace: str) -> None:
    wrong = reply("    said = input['what'].upper()\n    return {'said': said}")
    same = reply("    # much better now\n    words = input['what'].upper()\n    return {'said': words}")
    marker = skill(operator, namespace, "stubborn", [wrong, same, wrong])
    operator.reason(namespace, "stubborn", "Ready", "LoopDetected")
    assert len(operator.asked(marker)) == 3
    assert spent(operator, namespace) == 450

    told(operator, namespace, "wrote code that was refused before")
    text = operator.cluster.kubectl("-n", namespace, "describe", "skill", "stubborn")
    for part in ("LoopDetected", "CodeRepeated", "make the description or the examples clearer", "example 'echo'"):
        assert part in text, text
    assert 'expected: {"said": "hello"}' in text, text
    assert f"kubectl annotate skill -n {namespace} stubborn --overwrite skill-operator.dev/retry=" in text
    kept = operator.cluster.get("-n", namespace, "configmap", "stubborn-generation")
    assert kept["metadata"]["ownerReferences"][0]["kind"] == "Skill"
    assert "refused by examples" in kept["data"]["attempt-1.txt"]
    assert "was not checked" in kept["data"]["attempt-2.txt"]
    assert "+    # much better now" in kept["data"]["attempt-2.diff"]

    operator.cluster.kubectl("-n", namespace, "delete", "configmap", "--all")
    empty = {"status": {"generation": {"attempts": 0, "tokens": 0}}}
    patch = ("patch", "skill", "stubborn", "--type=merge", "--subresource=status", "-p", json.dumps(empty))
    operator.cluster.kubectl("-n", namespace, *patch)
    restart(operator)
    until(
        "what was deleted is there again",
        90,
        lambda: "stubborn-generation" in operator.cluster.kubectl("-n", namespace, "get", "configmaps", "-o", "name"),
    )
    until("what was edited is as it was", 30, lambda: attempts(operator, namespace, "stubborn") == 3)
    assert operator.reason(namespace, "stubborn", "Ready", "LoopDetected")
    assert len(operator.asked(marker)) == 3

    operator.script({marker: [reply(RIGHT)]})
    operator.cluster.kubectl("-n", namespace, "annotate", "skill", "stubborn", "skill-operator.dev/retry=once")
    assert operator.ready(namespace, "stubborn")["status"]["generation"]["attempts"] == 1
    (kept,) = ledgers(operator, namespace)
    assert json.loads(kept["data"]["ledger.json"])["retried"] == "once"
    assert len(operator.asked(marker)) == 4


@pytest.mark.serial("kills the controller")
def test_an_operator_that_is_killed_while_a_model_writes_asks_anew_and_counts_both(
    operator: Operator, namespace: str
) -> None:
    gone = skill(operator, namespace, "gone", [reply(RIGHT, delay=15)])
    until("the model is asked", 60, lambda: operator.asked(gone))
    operator.cluster.kubectl("-n", namespace, "delete", "skill", "gone")
    marker = skill(operator, namespace, "interrupted", [reply(RIGHT, delay=15), reply(RIGHT)])
    until("the model is asked", 60, lambda: operator.asked(marker))
    restart(operator)
    generation = operator.ready(namespace, "interrupted", 180)["status"]["generation"]
    assert len(operator.asked(marker)) == 2
    assert generation["attempts"] == 1
    assert generation["tokens"] > 4096 + 150, "what was reserved for the lost reply is spent"
    assert spent(operator, namespace) == generation["tokens"]
    told(operator, namespace, "The operator was restarted while")
    until("the ledger of the Skill that is gone is gone too", 90, lambda: len(ledgers(operator, namespace)) == 1)


WHOLE = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["n"]}


def test_examples_that_leave_a_boundary_open_are_told_with_one_input_and_both_answers(
    operator: Operator, namespace: str
) -> None:
    few = [
        {"name": "small", "input": {"n": 3}, "output": {"n": 5}},
        {"name": "large", "input": {"n": 20}, "output": {"n": 0}},
    ]
    free_from_ten = reply("    return {'n': 0 if input['n'] >= 10 else 5}")
    skill(operator, namespace, "weak", [free_from_ten], input=WHOLE, output=WHOLE, examples=few)
    status = operator.ready(namespace, "weak")["status"]
    verified = operator.condition(namespace, "weak", "Verified")
    assert (verified["status"], verified["reason"]) == ("True", "WeakExamples")
    found = re.search(r'`\{"n": (\d+)\}`: \{"n":(\d+)\}, or \{"n":(\d+)\}\?', verified["message"])
    assert found is not None, verified["message"]
    n, accepted, other = map(int, found.groups())
    assert 3 < n < 20
    assert accepted == (0 if n >= 10 else 5) != other
    told(operator, namespace, verified["message"])
    evidence = status["evidence"]
    assert (evidence["author"], evidence["secondOpinion"]) == ("model", "NotAsked")
    assert evidence["visible"] + evidence["heldOut"] == 2
    assert evidence["promises"] > 0
    assert 0 < evidence["mutants"]["killed"] < evidence["mutants"]["of"]

    more = [{"name": f"e{n}", "input": {"n": n}, "output": {"n": 0 if n >= 10 else 5}} for n in (0, 9, 10, 11, 99)]
    patch = {"spec": {"examples": [*few, *more]}}
    operator.cluster.kubectl("-n", namespace, "patch", "skill", "weak", "--type=merge", "-p", json.dumps(patch))
    operator.reason(namespace, "weak", "Verified", "Verified")


@pytest.mark.serial("changes the default model")
@pytest.mark.last("starts the model anew, to which others hold a forwarded port")
def test_who_wrote_the_code_is_known_after_another_model_became_the_default(cluster: Cluster, namespace: str) -> None:
    url = f"http://{deploy.NAME}.{deploy.MODEL_NAMESPACE}.svc:8000/v1"
    other = {"name": "other", "baseURL": url, "model": "other-model", "timeoutSeconds": 20}
    with installed(cluster) as operator:
        marker = skill(operator, namespace, "kept", [reply("    return {'said': 'no'}"), reply(RIGHT)])
        before = operator.ready(namespace, "kept")["status"]
        assert before["generation"] == before["generation"] | {"attempts": 2, "tokens": 300}
        assert len(operator.asked(marker)) == 2
        (ledger,) = ledgers(operator, namespace)
    try:
        with installed(cluster, models=[other]) as operator:
            until("there is a ledger for the other model", 120, lambda: ledgers(operator, namespace) != [ledger])
            after = operator.ready(namespace, "kept")["status"]
            for kept in ("attempts", "tokens", "model"):
                assert after["generation"][kept] == before["generation"][kept]
                assert after["history"][0]["provenance"][kept] == before["generation"][kept]
            assert after["evidence"]["model"] == before["generation"]["model"] != "other-model"
            assert after["revisionDigest"] == before["revisionDigest"]
            assert after["image"] == before["image"], "it is not built again"
            assert operator.asked(marker) == [], "the new model is not asked"
    finally:
        install_for_tests(cluster)


@pytest.mark.serial("deletes the record of the day's tokens")
def test_the_day_s_tokens_of_a_namespace_end(operator: Operator, namespace: str) -> None:
    dear = reply("    return {}") | {"usage": {"prompt_tokens": 2_000, "completion_tokens": 1_500}}
    usage = {"day": f"{datetime.now(UTC):%Y-%m-%d}", "spent": {namespace: 994_000}, "out": {}}
    meta = {"name": "skill-operator-account", "namespace": NAMESPACE, "labels": naming.MANAGED}
    data = {"account.json": json.dumps(usage)}
    operator.cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})
    try:
        marker = skill(operator, namespace, "dear", [dear], generation={"tokenBudget": 3_000_000})
        found = operator.reason(namespace, "dear", "Ready", "QuotaExhausted")
        assert "used 997500 of 1000000" in found["message"]
        assert "generation.dailyTokens.namespace" in found["message"]
        operator.cluster.kubectl("-n", namespace, "delete", "skill", "dear")
        again = skill(operator, namespace, "dear", [dear], generation={"tokenBudget": 3_000_000})
        assert operator.reason(namespace, "dear", "Ready", "QuotaExhausted")
        assert again == marker
        assert len(operator.asked(marker)) == 1, "a new Skill is no new purse"
    finally:
        operator.cluster.kubectl("-n", NAMESPACE, "delete", "configmap", "skill-operator-account", "--ignore-not-found")


@pytest.mark.xdist_group("model")
def test_a_change_ends_the_call_under_way_and_its_answer_is_dropped(operator: Operator, namespace: str) -> None:
    marker = skill(operator, namespace, "changed", [reply(RIGHT, delay=30)])
    until("the model is asked", 60, lambda: operator.asked(marker))
    operator.script({"Another task": [reply(RIGHT)]})
    patch = json.dumps({"spec": {"description": f"Another task, {namespace}."}})
    operator.cluster.kubectl("-n", namespace, "patch", "skill", "changed", "--type=merge", "-p", patch)
    operator.reason(namespace, "changed", "Ready", "Throttled")
    generation = operator.ready(namespace, "changed")["status"]["generation"]
    assert generation["attempts"] == 1
    assert generation["tokens"] == 150


@pytest.mark.xdist_group("model")
def test_where_a_second_program_differs_the_owner_is_asked_and_the_first_one_runs(
    operator: Operator, namespace: str
) -> None:
    other = RIGHT.replace("== 'refuse'", "in ('refuse', '')")
    wanted = {"generation": {"secondOpinion": "Auto"}}
    marker = skill(operator, namespace, "open", [reply(RIGHT), reply(other)], **wanted)
    status = operator.ready(namespace, "open")["status"]
    verified = operator.condition(namespace, "open", "Verified")
    assert (verified["status"], verified["reason"]) == ("True", "WeakExamples")
    assert '`{"what": ""}`: {"said":""}, or ValueError?' in verified["message"]
    assert status["generation"]["attempts"] == 2
    assert status["generation"]["tokens"] == 300
    assert len(operator.asked(marker)) == 2
    assert operator.call(namespace, "open", {"what": ""}).body == {"said": ""}
    kept = operator.cluster.get("-n", namespace, "configmap", "open-generation")["data"]
    assert "in ('refuse', '')" in kept["second-opinion.py"]
    checks = ("-n", namespace, "jobs", "-l", "app.kubernetes.io/component=check")
    until("no check is kept that has its verdict", 30, lambda: not operator.cluster.get(*checks)["items"])

    answer = [
        {
            "op": "add",
            "path": "/spec/examples/-",
            "value": {"name": "none", "input": {"what": ""}, "output": {"said": ""}},
        }
    ]
    operator.cluster.kubectl("-n", namespace, "patch", "skill", "open", "--type=json", "-p", json.dumps(answer))
    operator.reason(namespace, "open", "Verified", "Verified")
    assert len(operator.asked(marker)) == 2, "the answer costs no call"


@pytest.fixture
async def api(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("KUBECONFIG", str(operator.cluster.kubeconfig))
    async with connect("tests") as server:
        yield server


async def test_what_was_written_meanwhile_is_not_written_over(api: ApiServer, namespace: str) -> None:
    """What the ledger relies on, of two operators that both believe that they lead."""
    named = {"name": "ledger", "namespace": namespace}
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named}
    old = await api.create(made | {"data": {"a": "1"}})
    seen = {"metadata": named | {"resourceVersion": old["metadata"]["resourceVersion"]}}
    with pytest.raises(Conflict):
        await api.create(made)
    await api.apply(made | {"data": {"a": "2"}} | seen)
    with pytest.raises(Conflict):
        await api.apply(made | {"data": {"a": "3"}} | seen)
    await api.delete("ConfigMap", namespace, "ledger")
    await api.create(made | {"data": {"a": "4"}})
    with pytest.raises(Conflict):
        await api.apply(made | {"data": {"a": "5"}} | seen)
