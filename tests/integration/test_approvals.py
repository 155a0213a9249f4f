"""From a request to its answer on the real cluster: approved, rejected with words, rejected too often."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import Any

import pytest

from tests.integration.installed import Operator, until
from tests.integration.test_generation import RIGHT, WHOLE, reply, restart, told
from tests.integration.test_generation import skill as generated
from tests.integration.test_skill import SOURCE, apply, skill

pytestmark = pytest.mark.cluster
WORDS = "Say it without a word of your own; name the variable."
BETTER = RIGHT.replace("return {'said': input['what']}", "said = input['what']\n    return {'said': said}")
FREE_FROM_TEN = """from skill_types import Input, Output


def run(input: Input) -> Output:
    return {'n': 0 if input['n'] >= 10 else 5}
"""
MODEL = pytest.mark.xdist_group("model")


def request(operator: Operator, namespace: str, name: str) -> str:
    """The message of the condition that asks for an approval."""
    return str(operator.reason(namespace, name, "Built", "AwaitingApproval", 120)["message"])


def token(operator: Operator, namespace: str, name: str) -> str:
    return str(operator.skill(namespace, name)["status"]["approvalRequest"]["token"])


def run(operator: Operator, command: str) -> None:
    """Run a command of the message as it stands, in a shell of somebody who may do anything."""
    environment = {
        "KUBECONFIG": str(operator.cluster.kubeconfig),
        "PATH": f"{operator.cluster.tools}:{os.environ['PATH']}",
    }
    subprocess.run(["bash", "-euc", command], env=environment, check=True, timeout=60)


def command(message: str) -> str:
    found = re.search(r"kubectl annotate .*?\)\"", message)
    assert found is not None, message
    return found[0]


def reject(operator: Operator, namespace: str, name: str, words: str = WORDS) -> None:
    asked = command(request(operator, namespace, name))
    asked = asked.replace("/approve=", "/reject=").replace("/approved-by=", "/rejected-by=")
    run(operator, f"{asked} skill-operator.dev/reject-message='{words}'")


def whoami(operator: Operator) -> str:
    return operator.cluster.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")


@MODEL
def test_rejected_with_words_written_anew_approved_and_called(operator: Operator, namespace: str) -> None:
    marker = generated(operator, namespace, "reviewed", [reply(RIGHT), reply(BETTER)], review="Manual")
    message = request(operator, namespace, "reviewed")
    assert "Evidence: passes 2 examples that the model saw and 0 that it did not" in message
    first = token(operator, namespace, "reviewed")
    reject(operator, namespace, "reviewed")
    until("another attempt is offered", 90, lambda: _waits_anew(operator, namespace, "reviewed", first))
    status = operator.skill(namespace, "reviewed")["status"]
    me = whoami(operator)
    assert status["rejection"] == status["rejection"] | {"by": me, "message": WORDS, "token": first}
    assert not status.get("image"), "nothing was built"
    asked = operator.asked(marker)
    assert len(asked) == 2
    assert f"a reviewer's words\n{WORDS}\n" in asked[1]["body"]["messages"][-1]["content"]
    told(operator, namespace, f"{me} rejected revision ")

    run(operator, command(request(operator, namespace, "reviewed")))
    status = operator.ready(namespace, "reviewed", 150)["status"]
    assert status["review"]["by"] == me == status["history"][0]["review"]["by"]
    assert status["review"]["revision"] == status["revision"]
    assert {"code", "base image", "spec.egress", "spec.secrets", "spec.resources"} <= set(status["review"]["covers"])
    assert "rejection" not in status
    assert "approvalRequest" not in status
    assert status["generation"]["attempts"] == 2
    told(operator, namespace, f"{me} approved revision ")
    assert operator.call(namespace, "reviewed", {"what": "hi"}).body == {"said": "hi"}
    assert len(operator.asked(marker)) == 2

    patch = {"spec": {"resources": {"limits": {"memory": "300Mi"}}}}
    operator.cluster.kubectl("-n", namespace, "patch", "skill", "reviewed", "--type=merge", "-p", json.dumps(patch))
    assert request(operator, namespace, "reviewed").startswith("changed since the last approval: spec.resources. ")
    assert operator.call(namespace, "reviewed", {"what": "still"}).body == {"said": "still"}
    reject(operator, namespace, "reviewed", "Too much memory.")
    operator.reason(namespace, "reviewed", "Built", "Rejected")
    assert operator.call(namespace, "reviewed", {"what": "still"}).body == {"said": "still"}, "what ran goes on"


def test_in_doubt_a_person_is_asked_until_examples_answer(operator: Operator, namespace: str) -> None:
    few = [{"name": f"n{n}", "input": {"n": n}, "output": {"n": 5 if n < 10 else 0}} for n in (3, 20)]
    body = skill("doubted", source={"inline": FREE_FROM_TEN}, input=WHOLE, output=WHOLE, examples=few)
    apply(operator, namespace, body | {"spec": body["spec"] | {"review": "WhenInDoubt"}})
    message = request(operator, namespace, "doubted")
    assert message.startswith("its examples leave open what is right (see Verified); nothing was approved yet. Code, ")
    status = operator.skill(namespace, "doubted")["status"]
    assert operator.condition(namespace, "doubted", "Verified")["reason"] == "WeakExamples"
    assert not status.get("image"), "nothing was built"

    more = few + [{"name": f"n{n}", "input": {"n": n}, "output": {"n": 5 if n < 10 else 0}} for n in (0, 9, 10, 11, 99)]
    patch = json.dumps({"spec": {"examples": more}})
    operator.cluster.kubectl("-n", namespace, "patch", "skill", "doubted", "--type=merge", "-p", patch)
    status = operator.ready(namespace, "doubted", 150)["status"]
    assert operator.condition(namespace, "doubted", "Verified")["reason"] == "Verified"
    assert "review" not in status
    assert "approvalRequest" not in status
    assert operator.call(namespace, "doubted", {"n": 10}).body == {"n": 0}


def _waits_anew(operator: Operator, namespace: str, name: str, former: str) -> bool:
    found = operator.skill(namespace, name)["status"].get("approvalRequest")
    return found is not None and found["token"] != former


@MODEL
def test_rejected_too_often_a_person_must_help(operator: Operator, namespace: str) -> None:
    once = {"generation": {"maxAttempts": 1}}
    marker = generated(operator, namespace, "stubborn", [reply(RIGHT), reply(BETTER)], review="Manual", **once)
    reject(operator, namespace, "stubborn")
    stalled = operator.reason(namespace, "stubborn", "Stalled", "Rejected")
    assert stalled["status"] == "True"
    message = operator.condition(namespace, "stubborn", "Generated")["message"]
    assert WORDS in message
    assert "spec.generation.maxAttempts" in message
    assert len(operator.asked(marker)) == 1

    patch = json.dumps({"spec": {"generation": {"maxAttempts": 2}}})
    operator.cluster.kubectl("-n", namespace, "patch", "skill", "stubborn", "--type=merge", "-p", patch)
    request(operator, namespace, "stubborn")
    assert WORDS in json.dumps(operator.asked(marker)[1])


@MODEL
def test_code_that_was_rejected_is_offered_to_nobody_again(operator: Operator, namespace: str) -> None:
    same = RIGHT.replace("raise ValueError", "# a note\n        raise ValueError")
    marker = generated(operator, namespace, "again", [reply(RIGHT), reply(same), reply(BETTER)], review="Manual")
    first = token_of_request(operator, namespace, "again")
    reject(operator, namespace, "again")
    until("another attempt is offered", 120, lambda: _waits_anew(operator, namespace, "again", first))
    assert len(operator.asked(marker)) == 3
    told(operator, namespace, "wrote code that was refused before")


def token_of_request(operator: Operator, namespace: str, name: str) -> str:
    request(operator, namespace, name)
    return token(operator, namespace, name)


def test_pinned_code_that_is_rejected_waits_for_other_code(operator: Operator, namespace: str) -> None:
    apply(operator, namespace, skill("pinned", review="Manual"))
    reject(operator, namespace, "pinned")
    stalled = operator.reason(namespace, "pinned", "Stalled", "Rejected")
    assert WORDS in stalled["message"]
    gone = [f"skill-operator.dev/{name}-" for name in ("reject", "rejected-by", "reject-message")]
    operator.cluster.kubectl("-n", namespace, "annotate", "skill", "pinned", *gone)
    patch: dict[str, Any] = {"spec": {"summary": "Says it."}}
    operator.cluster.kubectl("-n", namespace, "patch", "skill", "pinned", "--type=merge", "-p", json.dumps(patch))

    def observed() -> bool:
        found = operator.skill(namespace, "pinned")
        return bool(found["status"]["observedGeneration"] == found["metadata"]["generation"])

    until("the change is reconciled", 30, observed)
    assert operator.condition(namespace, "pinned", "Stalled")["reason"] == "Rejected"
    patch = {"spec": {"source": {"inline": SOURCE + "# corrected\n"}}}
    operator.cluster.kubectl("-n", namespace, "patch", "skill", "pinned", "--type=merge", "-p", json.dumps(patch))
    run(operator, command(request(operator, namespace, "pinned")))
    assert operator.ready(namespace, "pinned", 150)["status"]["review"]["by"] == whoami(operator)


@pytest.mark.serial("kills the controller")
def test_a_rejection_survives_the_controller_between_it_and_the_reply(operator: Operator, namespace: str) -> None:
    slow = reply(BETTER, delay=15)
    marker = generated(operator, namespace, "interrupted", [reply(RIGHT), slow, reply(BETTER)], review="Manual")
    first = token_of_request(operator, namespace, "interrupted")
    reject(operator, namespace, "interrupted")
    until("the model is asked again", 60, lambda: len(operator.asked(marker)) == 2)
    restart(operator)
    until("another attempt is offered", 180, lambda: _waits_anew(operator, namespace, "interrupted", first))
    assert all(WORDS in json.dumps(asked) for asked in operator.asked(marker)[1:])
    assert operator.skill(namespace, "interrupted")["status"]["rejection"]["token"] == first
