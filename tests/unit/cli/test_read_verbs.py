"""What the verbs that read say about a Skill."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import yaml

from kubectl_skill.app import VERBS, load, run
from kubectl_skill.errors import ExitCode
from kubectl_skill.skills import read_skill
from kubectl_skill.verbs.call import read_input
from kubectl_skill.verbs.cost import cost_of, sums
from kubectl_skill.verbs.doctor import parse_remote
from kubectl_skill.verbs.why import SENTENCES, explain, paragraph
from skill_operator import naming
from skill_operator.api.reasons import REASONS
from tests.unit.cli.kubectl_double import ScriptedKubectl, condition, ready, skill

OLD, NEW = "def run(input):\n    return 1\n", "def run(input):\n    return 2\n"


def digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()


def entry(label: str, source: str, **more: Any) -> dict[str, Any]:
    made = {"author": "model", "sourceDigest": digest(source), "model": "m", "attempts": 2, "tokens": 300}
    return {
        "revision": label,
        "revisionDigest": label * 6,
        "image": f"r@{label}",
        "time": "2026-01-01T00:00:00Z",
        "provenance": made | more,
    }


class TestWhy:
    def explain(self, status: dict[str, Any] | None, **spec: Any) -> str:
        found = read_skill(skill("echo", status, **spec))
        return paragraph(found, explain(found))

    def test_ready(self) -> None:
        text = self.explain(ready())
        assert text.startswith("finance/echo can be called, and a pod of it runs (Ready, for ")
        assert text.endswith("Nothing to do.")

    def test_stalled_has_meaning_message_and_action(self) -> None:
        message = "3 of 3 candidates were refused"
        status = {
            "conditions": [
                condition("Generated", "False", "AttemptsExhausted", message),
                condition("Stalled", "True", "AttemptsExhausted", message),
                condition("Ready", "False", "AttemptsExhausted", message),
            ],
            "generation": {"attempts": 3, "lastFailure": {"gate": "examples", "message": "want 2, got 3", "line": 7}},
        }
        text = self.explain(status)
        assert "is stalled: a changed spec or a person must help" in text
        assert REASONS["AttemptsExhausted"].meaning in text
        assert f"{message}." in text
        assert "Attempt 3 of 3 was refused by examples, line 7: Want 2, got 3." in text
        assert text.endswith(f"Next: {REASONS['AttemptsExhausted'].action}")

    def test_waiting_for_approval_says_the_command(self) -> None:
        message = "nothing was approved yet. Then approve: kubectl annotate skill echo x=y"
        status = {
            "conditions": [
                condition("Built", "Unknown", "AwaitingApproval", message),
                condition("Reconciling", "True", "AwaitingApproval", message),
            ]
        }
        assert "kubectl annotate skill echo x=y" in self.explain(status)

    def test_what_is_amiss_beside_a_skill_that_works_is_said(self) -> None:
        status = ready()
        status["conditions"][2] = condition("Built", "Unknown", "RegistryUnavailable", "it does not answer")
        assert "Besides, Built is Unknown (RegistryUnavailable): It does not answer." in self.explain(status)

    def test_a_sleeping_skill_is_well(self) -> None:
        status = ready()
        status["conditions"][4] = condition("Active", "False", "Idle", "asleep")
        text = self.explain(status)
        assert "wakes on the next call" in text
        assert "Besides" not in text

    def test_new_and_unknown(self) -> None:
        assert "has not looked at it yet" in self.explain(None)
        assert "kubectl skill doctor" in self.explain(
            {"conditions": [condition("Ready", "False", "BrandNew", "it is so")]}
        )

    def test_every_reason_can_be_explained(self) -> None:
        for name, reason in REASONS.items():
            for type_ in ("Stalled", "Reconciling"):
                text = self.explain({"conditions": [condition(type_, "True", name, "a message")]})
                assert " ".join(reason.meaning.split()) in text
                assert "A message." in text

    def test_every_state_has_a_sentence(self) -> None:
        assert set(SENTENCES) == {"Ready", "Asleep", "Archived", "Working", "Stalled", "Suspended", "Deleting", "New"}

    def test_nothing_is_said_of_calls_while_it_is_deleted(self) -> None:
        raw = skill("echo", ready())
        raw["metadata"] |= {"deletionTimestamp": "2030-01-01T12:00:00Z", "finalizers": ["example.com/mine"]}
        text = paragraph(read_skill(raw), explain(read_skill(raw)))
        assert "is being deleted" in text
        assert "can be called" not in text

    def test_as_json(self, kubectl: ScriptedKubectl, capsys: pytest.CaptureFixture[str]) -> None:
        kubectl.says("get skills", skill("echo", ready()))
        assert run(["why", "echo", "-o", "json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["state"], found["reason"], found["name"]) == ("Ready", "Ready", "echo")


class TestHistory:
    def test_rows(self, kubectl: ScriptedKubectl, capsys: pytest.CaptureFixture[str]) -> None:
        status = ready(revision="bbbb", history=[entry("bbbb", NEW), entry("aaaa", OLD, author="pinned")])
        kubectl.says("get skills", skill("echo", status, revision="aaaa"))
        assert run(["history", "echo"]) == 0
        head, first, second = capsys.readouterr().out.splitlines()
        assert head.split()[:2] == ["REVISION", "AGE"]
        assert first.split()[:2] == ["bbbb", "current"]
        assert "300" in first
        assert second.split()[:2] == ["aaaa", "pinned"]
        assert "300" not in second

    def test_formats(self, kubectl: ScriptedKubectl, capsys: pytest.CaptureFixture[str]) -> None:
        kubectl.says("get skills", skill("echo", ready(history=[entry("bbbb", NEW)])))
        assert run(["history", "echo", "-o", "name"]) == 0
        assert capsys.readouterr().out == "bbbb\n"
        assert run(["history", "echo", "-o", "yaml"]) == 0
        assert yaml.safe_load(capsys.readouterr().out)[0]["revision"] == "bbbb"

    def test_none(self, kubectl: ScriptedKubectl, capsys: pytest.CaptureFixture[str]) -> None:
        kubectl.says("get skills", skill("echo"))
        assert run(["history", "echo"]) == 0
        assert "no history yet" in capsys.readouterr().err


class TestDiff:
    def kept(self, label: str, source: str, spec: dict[str, Any]) -> dict[str, Any]:
        return {"metadata": {"name": label}, "data": {"skill.py": source, "spec.json": json.dumps(spec)}}

    def spec(self, **more: Any) -> dict[str, Any]:
        spec: dict[str, Any] = skill("echo", **more)["spec"]
        return spec

    def says(self, kubectl: ScriptedKubectl, wanted: dict[str, Any], accepted: str = NEW) -> None:
        kubectl.says("get skills", wanted)
        old = self.spec(egress=[{"cidr": "203.0.113.0/24", "ports": [443]}])
        kubectl.says(f"{naming.REVISION_LABEL}=aaaa", {"items": [self.kept("aaaa", OLD, old)]})
        kubectl.says(f"{naming.REVISION_LABEL}=bbbb", {"items": [self.kept("bbbb", NEW, self.spec())]})
        kubectl.says("get configmap echo-source", {"data": {"skill.py": accepted}})

    def test_grants_come_before_limits_and_code(
        self, kubectl: ScriptedKubectl, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status = ready(revision="bbbb", history=[entry("bbbb", NEW), entry("aaaa", OLD)])
        secrets = [{"name": "key", "secretKeyRef": {"name": "s", "key": "k"}}]
        self.says(
            kubectl,
            skill(
                "echo",
                status,
                secrets=secrets,
                callTimeoutSeconds=99,
                egress=[{"host": "api.example.com", "ports": [443]}],
            ),
            OLD,
        )
        assert run(["diff", "echo", "--exit-code"]) == ExitCode.UNWELL
        out = capsys.readouterr().out
        order = [
            out.index(part)
            for part in (
                "# Egress",
                "+- host: api.example.com",
                "# Secrets",
                "# Limits",
                "+callTimeoutSeconds: 99",
                "# Code",
                "-    return 2",
                "+    return 1",
            )
        ]
        assert order == sorted(order)
        assert "--- running bbbb\n+++ spec\n" in out
        assert "The rest" not in out

    def test_against_a_revision(self, kubectl: ScriptedKubectl, capsys: pytest.CaptureFixture[str]) -> None:
        status = ready(revision="bbbb", history=[entry("bbbb", NEW), entry("aaaa", OLD)])
        self.says(kubectl, skill("echo", status))
        assert run(["diff", "echo", "aaaa"]) == 0
        out = capsys.readouterr().out
        assert "+++ aaaa" in out
        assert "+- cidr: 203.0.113.0/24" in out
        assert "+    return 1" in out

    def test_no_difference(self, kubectl: ScriptedKubectl, capsys: pytest.CaptureFixture[str]) -> None:
        status = ready(revision="bbbb", history=[entry("bbbb", NEW)])
        self.says(kubectl, skill("echo", status))
        assert run(["diff", "echo", "--exit-code"]) == 0
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "What runs is what the spec asks for." in captured.err

    def test_what_is_not_kept_is_said(self, kubectl: ScriptedKubectl, capsys: pytest.CaptureFixture[str]) -> None:
        status = ready(revision="bbbb", history=[entry("bbbb", NEW), entry("aaaa", OLD)])
        kubectl.says("get skills", skill("echo", status))
        kubectl.says("get configmaps", {"items": []})
        kubectl.says("get configmap echo-source", {"data": {"skill.py": NEW}})
        assert run(["diff", "echo", "aaaa"]) == 0
        err = capsys.readouterr().err
        assert "was not kept" in err
        assert "The code of aaaa is not kept" in err

    def test_first_revision_of_a_skill_that_waits(
        self, kubectl: ScriptedKubectl, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.says(kubectl, skill("echo", {"conditions": [condition("Reconciling", "True", "AwaitingApproval")]}))
        assert run(["diff", "echo"]) == 0
        out = capsys.readouterr().out
        assert "--- nothing\n+++ spec" in out
        assert "+    return 2" in out

    @pytest.mark.parametrize("revision", ["cccc", "b", "*"])
    def test_no_such_revision(
        self, revision: str, kubectl: ScriptedKubectl, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.says(kubectl, skill("echo", ready(revision="bbbb", history=[entry("bbbb", NEW)])))
        assert run(["diff", "echo", revision]) == ExitCode.NOT_FOUND
        assert "bbbb" in capsys.readouterr().err

    def test_hostile_code_is_harmless(self, kubectl: ScriptedKubectl, capsys: pytest.CaptureFixture[str]) -> None:
        evil = "x = '\x1b[2J\u202e'\r\n"
        self.says(kubectl, skill("echo", ready(revision="bbbb", history=[entry("bbbb", NEW)])), evil)
        assert run(["diff", "echo"]) == 0
        out = capsys.readouterr().out
        assert "\\x1b[2J\\u202e" in out
        assert "\x1b" not in out


class TestLogs:
    def test_lines_are_harmless(self, kubectl: ScriptedKubectl, capsys: pytest.CaptureFixture[str]) -> None:
        kubectl.says("get skills", skill("echo", ready()))
        kubectl.says("get pods", {"items": [{}]})
        kubectl.says("logs -l", "one\n\x1b[2Jtwo\r\n\udcff\n")
        assert run(["logs", "echo", "--tail", "5"]) == 0
        assert capsys.readouterr().out == "one\n\\x1b[2Jtwo\n\ufffd\n".replace("two\n", "two\n")
        assert "--tail=5" in kubectl.commands[-1]

    def test_no_pod(self, kubectl: ScriptedKubectl, capsys: pytest.CaptureFixture[str]) -> None:
        kubectl.says("get skills", skill("echo", ready()))
        kubectl.says("get pods", {"items": []})
        assert run(["logs", "echo"]) == 0
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "has no pod" in captured.err

    def test_failure_while_it_runs(self, kubectl: ScriptedKubectl, capsys: pytest.CaptureFixture[str]) -> None:
        kubectl.says("get skills", skill("echo", ready()))
        kubectl.says("get pods", {"items": [{}]})
        kubectl.says("logs -l", "one\n", "Error from server (Forbidden): pods is forbidden: no\n", 1)
        assert run(["logs", "echo"]) == ExitCode.FORBIDDEN
        captured = capsys.readouterr()
        assert captured.out == "one\n"
        assert captured.err.count("\n") == 1


class TestCost:
    def test_the_same_code_counts_once(self) -> None:
        spent = {"attempts": 2, "tokens": 700, "model": "m"}
        status = ready(generation=spent, history=[entry("a", OLD), entry("b", OLD), entry("c", NEW)])
        cost = cost_of(read_skill(skill("echo", status)))
        assert (cost.tokens, cost.history_tokens, cost.budget, cost.model) == (700, 600, 20000, "m")
        assert sums([cost, cost]) == {"finance": 1400}

    def test_the_quota_is_shown_where_it_may_be_read(
        self, kubectl: ScriptedKubectl, capsys: pytest.CaptureFixture[str]
    ) -> None:
        account = {
            "day": "2999-01-01",
            "spent": {"finance": 40},
            "out": {"u": {"namespace": "finance", "call": "c", "tokens": 2}},
        }
        settings = {"generation": {"dailyTokens": {"namespace": 1000, "operator": 9000}}}
        kubectl.says("get skills", {"items": [skill("echo", ready(generation={"attempts": 1, "tokens": 5}))]})
        kubectl.says(f"get configmap {naming.ACCOUNT}", {"data": {"account.json": json.dumps(account)}})
        kubectl.says("get configmaps", {"items": [{"data": {"settings.json": json.dumps(settings)}}]})
        assert run(["cost"]) == 0
        assert "today 42 of 1000 were spent" in capsys.readouterr().out
        assert run(["cost", "-o", "json"]) == 0
        assert json.loads(capsys.readouterr().out)["today"]["totalLimit"] == 9000

    def test_without_the_right_it_is_said(self, kubectl: ScriptedKubectl, capsys: pytest.CaptureFixture[str]) -> None:
        kubectl.says("get skills", {"items": [skill("echo", ready())]})
        kubectl.says("get configmap", err="Error from server (Forbidden): configmaps is forbidden: no\n", code=1)
        assert run(["cost"]) == 0
        captured = capsys.readouterr()
        assert "right to get and list configmaps in skill-operator" in captured.err
        assert "echo" in captured.out


class TestDoctor:
    def test_the_operators_table_is_read(self) -> None:
        text = (
            "CHECK            FOUND\n"
            "nodes            ok   1, kubelet v1.36\n"
            "user namespaces  bad  0 of 1 nodes\n"
            "                      → upgrade; without them…\n"
            "TLS, gateway     plain  plain HTTP\n"
        )
        found = list(parse_remote(text))
        assert [(each.check, each.state) for each in found] == [
            ("nodes", "ok"),
            ("user namespaces", "bad"),
            ("TLS, gateway", "plain"),
        ]
        assert found[1].todo == "upgrade; without them…"

    @pytest.mark.parametrize("text", ["", "\n", "no table at all\nnor here", "CHECK\n→ stray"])
    def test_no_table(self, text: str) -> None:
        assert not list(parse_remote(text))

    def test_under_somebody_who_may_nothing(self, kubectl: ScriptedKubectl, capsys: pytest.CaptureFixture[str]) -> None:
        no = "Error from server (Forbidden): it is forbidden: no\n"
        kubectl.says("version", {"serverVersion": {"gitVersion": "v1.36"}, "clientVersion": {"gitVersion": "v1.36"}})
        kubectl.says("config view", "finance")
        kubectl.says("get --raw", "{}")
        kubectl.says("", err=no, code=1)
        assert run(["doctor"]) == 0
        out = capsys.readouterr().out
        assert "let an administrator run `kubectl skill doctor`" in out
        assert " no " in out


class TestCallInput:
    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ("{", "line 1, column 2"),
            ("", "line 1, column 1"),
            ('{"a": 1}\n{', "line 2, column 1"),
            ("\udcff", "not UTF-8, at byte 0"),
            ("@/nowhere", "cannot be read"),
            ("@/", "cannot be read"),
            ("[" * 100_000, "no JSON"),
        ],
    )
    def test_what_is_no_json_is_refused_before_anything_runs(
        self, text: str, part: str, kubectl: ScriptedKubectl, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(["call", "echo", text]) == ExitCode.USAGE
        assert part in capsys.readouterr().err
        assert not kubectl.commands

    def test_too_large(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["call", "echo", '"' + "a" * (1 << 20) + '"']) == ExitCode.USAGE
        assert "1 MiB" in capsys.readouterr().err

    def test_numbers_stay_as_they_are_written(self) -> None:
        assert read_input('{"n": 1.00}') == b'{"n": 1.00}'


def test_every_verb_loads_and_has_a_help() -> None:
    for verb in VERBS:
        command: Any = load(verb)
        assert command.name == verb.name
        assert command.help.endswith("."), verb


class TestList:
    def test_names_are_those_of_kubectl(self, kubectl: ScriptedKubectl, capsys: pytest.CaptureFixture[str]) -> None:
        kubectl.says("get skills", {"items": [skill("echo"), skill("other")]})
        assert run(["list", "-o", "name"]) == 0
        assert capsys.readouterr().out == "skill.skill-operator.dev/echo\nskill.skill-operator.dev/other\n"

    def test_all_namespaces(self, kubectl: ScriptedKubectl, capsys: pytest.CaptureFixture[str]) -> None:
        kubectl.says("get skills", {"items": [skill("echo", ready(revision="abc"), summary="Says it back.")]})
        assert run(["list", "-A", "-n", "blue"]) == 0
        head, row = capsys.readouterr().out.splitlines()
        assert head.split() == ["NAMESPACE", "NAME", "STATE", "REASON", "REVISION", "AGE", "DOES"]
        assert row.split()[:5] == ["finance", "echo", "Ready", "Ready", "abc"]
        assert row.endswith("Says it back.")
        assert "--all-namespaces" in kubectl.commands[0]
        assert "--namespace=blue" not in kubectl.commands[0]

    def test_none(self, kubectl: ScriptedKubectl, capsys: pytest.CaptureFixture[str]) -> None:
        kubectl.says("get skills", {"items": []})
        assert run(["list", "-n", "blue"]) == 0
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "There is no Skill in namespace blue." in captured.err
