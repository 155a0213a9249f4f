"""Skills as GitOps tools see them: the scripts for Argo CD in a real Lua, kstatus, and Flux's own server-side apply."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hack.cluster import binaries, packages
from hack.cluster.identity import CHECKOUT
from skill_operator.api import conditions as api
from skill_operator.api.v1alpha1 import Skill
from skill_operator.reconcile.result import ConditionUpdate, Result
from skill_operator.reconcile.status import summarize
from tests.integration.installed import Operator, until
from tests.integration.test_skill import SOURCE, apply, skill
from tests.unit.reconcile import samples

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]  # the first run builds the program
PROGRAM = binaries.Program("gitops", "gitops", modules=CHECKOUT / "tests")
SCRIPTS = CHECKOUT / "deploy" / "argocd" / "skill-operator.dev" / "Skill"
TOKEN = "ab" * 32
ACCOUNT = "system:serviceaccount:argocd:argocd-server"
STAGES = ("Generated", "Verified", "Built", "Deployed")
DONE = tuple(ConditionUpdate(stage, "True", stage, "") for stage in STAGES)
APPROVAL = f"approve it: kubectl annotate skill -n team echo --overwrite skill-operator.dev/approve={TOKEN}"
Spec = dict[str, Any]


@dataclass(frozen=True)
class State:
    """A state that a Skill can be in, and what each tool shall make of it."""

    name: str
    kstatus: str
    argocd: str
    updates: tuple[ConditionUpdate, ...] = ()
    make: Callable[..., Result] = Result.done
    spec: Spec = field(default_factory=dict)
    behind: bool = False  # the spec was changed since
    actions: frozenset[str] = frozenset({"suspend"})

    @property
    def object(self) -> dict[str, Any]:
        """Return the Skill as the API server has it."""
        before = samples.skill(**self.spec)
        document = before.model_dump(mode="json", by_alias=True, exclude_none=True)
        document |= {"apiVersion": "skill-operator.dev/v1alpha1", "kind": "Skill"}
        if self.updates:
            last = self.updates[-1] if self.make is not Result.done else None
            result = self.make(last) if last else Result.done(*self.updates)
            document["status"] = summarize(Skill.model_validate(document), self.updates, result, samples.NOW).wire()
        if self.behind:
            document["metadata"]["generation"] += 1
        return document


def failed(*conditions: ConditionUpdate) -> Result:
    return Result.failed(*conditions, retry_after=5)


def active(status: api.Status, reason: str) -> tuple[ConditionUpdate, ...]:
    return (*DONE, ConditionUpdate("Active", status, reason, ""))


RETRY = frozenset({"suspend", "retry"})
STATES = [
    State("not seen", "InProgress", "Progressing"),
    State("writing", "InProgress", "Progressing", (ConditionUpdate("Generated", "Unknown", "Generating", "1 of 3"),), Result.waiting, actions=RETRY),
    State("building", "InProgress", "Progressing", (*DONE[:2], ConditionUpdate("Built", "Unknown", "Building", "")), Result.waiting, actions=RETRY),
    State("away", "InProgress", "Progressing", (*DONE[:2], ConditionUpdate("Built", "False", "RegistryUnavailable", "no answer")), failed, actions=RETRY),
    State("awaiting", "InProgress", "Suspended", (*DONE[:2], ConditionUpdate("Built", "Unknown", "AwaitingApproval", APPROVAL)), Result.waiting, actions=frozenset({"approve", "reject", "suspend"})),
    State("given up", "Failed", "Degraded", (ConditionUpdate("Generated", "False", "AttemptsExhausted", "3 of 3 \"failed\"\n"),), Result.stalled, actions=RETRY),
    State("invalid", "Failed", "Degraded", (ConditionUpdate("Generated", "False", "InvalidSpec", "no"),), Result.stalled, actions=RETRY),
    State("given up, then changed", "InProgress", "Progressing", (ConditionUpdate("Generated", "False", "AttemptsExhausted", "3 of 3"),), Result.stalled, behind=True, actions=RETRY),
    State("ready", "Current", "Healthy", active("True", "Awake")),
    State("asleep", "Current", "Healthy", active("False", "Asleep")),
    State("archived", "Current", "Healthy", active("False", "Archived")),
    State("suspended", "Current", "Suspended", active("False", "Asleep"), spec={"suspend": True}, actions=frozenset({"resume"})),
    State("ready, then changed", "InProgress", "Progressing", active("True", "Awake"), behind=True),
]  # fmt: skip


@cache
def program() -> Path:
    binaries.ensure_built([PROGRAM])
    return PROGRAM.path


def gitops(*arguments: str, objects: list[dict[str, Any]], kubeconfig: Path | None = None) -> list[dict[str, Any]]:
    """Run the program over objects; return a result for each. Raises CalledProcessError."""
    lines = "".join(json.dumps(each) + "\n" for each in objects)
    environment = os.environ | ({"KUBECONFIG": str(kubeconfig)} if kubeconfig else {})
    command = (str(program()), *arguments)
    done = subprocess.run(
        command, input=lines, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, arguments, done.stdout, done.stderr[-2000:])
    return [json.loads(line) for line in done.stdout.splitlines()]


def lua(script: str, thing: Any, parameters: dict[str, str] | None = None) -> Any:
    """Run one of Argo CD's scripts on an object. Raises CalledProcessError where it raises an error."""
    packages.ensure(("lua5.1",))
    given = f"{{obj = {as_lua(thing)}, params = {as_lua(parameters)}}}"
    command = ("lua5.1", CHECKOUT / "tests" / "gitops" / "argocd.lua", SCRIPTS / script)
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=20, check=True)
    return json.loads(done.stdout)


def as_lua(value: Any) -> str:
    """Return a JSON value in Lua's notation."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"[{as_lua(key)}] = {as_lua(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "{" + ", ".join(map(as_lua, value)) + "}"
    if isinstance(value, str):
        return '"' + "".join(f"\\{byte:03}" for byte in value.encode()) + '"'
    return {None: "nil", True: "true", False: "false"}.get(value, str(value))


def test_kstatus_knows_every_state() -> None:
    found = gitops("kstatus", objects=[state.object for state in STATES])
    assert {state.name: one["status"] for state, one in zip(STATES, found, strict=True)} == {
        state.name: state.kstatus for state in STATES
    }


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
def test_argo_cd_shows_every_state_and_offers_what_helps(state: State) -> None:
    health = lua("health.lua", state.object)
    assert health["status"] == state.argocd
    offered = lua("actions/discovery.lua", state.object)
    assert {name for name, action in offered.items() if not action["disabled"]} == state.actions
    assert set(offered) == {path.parent.name for path in SCRIPTS.glob("actions/*/action.lua")}


@pytest.mark.parametrize(
    "status", [None, {}, {"conditions": []}, {"conditions": [{"type": "Ready", "status": "True"}]}]
)
def test_argo_cd_s_scripts_take_a_bare_object(status: dict[str, Any] | None) -> None:
    bare = {"metadata": {"name": "echo"}, "spec": {}} | ({} if status is None else {"status": status})
    assert lua("health.lua", bare)["status"] in {"Progressing", "Healthy"}
    assert lua("actions/discovery.lua", bare)["approve"]["disabled"] is True
    for action in ("approve", "reject"):
        with pytest.raises(subprocess.CalledProcessError) as error:
            lua(f"actions/{action}/action.lua", bare)
        assert "awaits no approval" in error.value.stderr
    assert lua("actions/suspend/action.lua", bare)["spec"] == {"suspend": True}
    assert lua("actions/resume/action.lua", bare)["spec"] == {"suspend": False}
    assert set(lua("actions/retry/action.lua", bare)["metadata"]["annotations"]) == {"skill-operator.dev/retry"}


def test_argo_cd_approves_and_rejects_what_was_shown() -> None:
    awaiting = json.loads(json.dumps(next(state.object for state in STATES if state.name == "awaiting")))
    awaiting["status"]["approvalRequest"] = {"token": TOKEN}
    approved = lua("actions/approve/action.lua", awaiting)["metadata"]["annotations"]
    assert approved == {"skill-operator.dev/approve": TOKEN, "skill-operator.dev/approved-by": ACCOUNT}
    rejected = lua("actions/reject/action.lua", awaiting, {"message": 'round "half" up'})["metadata"]["annotations"]
    assert rejected["skill-operator.dev/reject"] == TOKEN
    assert rejected["skill-operator.dev/rejected-by"] == ACCOUNT
    assert rejected["skill-operator.dev/reject-message"] == 'round "half" up'
    assert lua("actions/reject/action.lua", awaiting)["metadata"]["annotations"]["skill-operator.dev/reject-message"]


def test_flux_applies_waits_sees_no_drift_and_prunes(operator: Operator, namespace: str) -> None:
    """No sync finds anything to do while the operator works, the Skill sleeps and wakes: each time by a dry run."""
    cluster = operator.cluster
    wanted = skill("echo", callTimeoutSeconds=20, source={"inline": SOURCE})
    wanted["metadata"]["namespace"] = namespace

    def flux(*arguments: str) -> list[dict[str, Any]]:
        return gitops(*arguments, objects=[wanted], kubeconfig=cluster.kubeconfig)

    def drift() -> dict[str, Any]:
        (found,) = flux("diff")
        return found

    assert [one["action"] for one in flux("apply")] == ["created"]
    assert drift()["action"] == "unchanged", "while it is made"
    flux("wait", "120s")
    assert operator.condition(namespace, "echo", "Ready")["status"] == "True", "the wait ends when it is Ready"
    assert drift()["action"] == "unchanged"
    cluster.kubectl("-n", namespace, "scale", "deployment/skill-echo", "--replicas=0")
    operator.reason(namespace, "echo", "Active", "Asleep", 60)
    assert drift()["action"] == "unchanged", "asleep"
    flux("wait", "10s")
    until("it wakes", 60, lambda: operator.call(namespace, "echo", {"what": "hi"}).body == {"said": "hi"})
    assert drift()["action"] == "unchanged", "awake again"
    assert [one["action"] for one in flux("apply")] == ["unchanged"]
    cluster.kubectl(
        "-n", namespace, "patch", "skill", "echo", "--type=merge", "-p", '{"spec": {"callTimeoutSeconds": 9}}'
    )
    found = drift()
    assert found["action"] == "configured"
    assert (found["live"]["spec"]["callTimeoutSeconds"], found["merged"]["spec"]["callTimeoutSeconds"]) == (9, 20)
    assert [one["action"] for one in flux("apply")] == ["configured"]
    assert drift()["action"] == "unchanged"
    assert [one["action"] for one in flux("prune")] == ["deleted"]
    assert not cluster.kubectl("-n", namespace, "get", "skills", "-o", "name").strip()


def test_flux_stops_to_wait_for_what_a_person_must_change(operator: Operator, namespace: str) -> None:
    broken = skill(
        "broken", source={"inline": "def run(input: dict) -> dict:\n    return {'said': 'something else'}\n"}
    )
    broken["metadata"]["namespace"] = namespace
    apply(operator, namespace, broken)
    with pytest.raises(subprocess.CalledProcessError) as error:
        gitops("wait", "110s", objects=[broken], kubeconfig=operator.cluster.kubeconfig)
    assert "Failed" in error.value.stderr
    assert operator.condition(namespace, "broken", "Stalled")["status"] == "True", "and not before"
