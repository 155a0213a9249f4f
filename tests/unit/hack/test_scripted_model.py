"""The scripted model itself: as a server, as a program, and the replies that are recorded for the example Skills."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack import demo_agent
from hack.model import server
from hack.model.server import Script, ScriptedModel, ScriptError
from skill_operator.api.v1alpha1 import Example, Skill, SkillSpec
from skill_operator.gateway.workshop.skill_request import name_examples
from skill_operator.generation import prompt
from skill_operator.generation.fingerprint import fingerprint
from skill_operator.generation.holdout import split_examples
from skill_operator.generation.provider import Completion, ModelUnavailable, Provider
from skill_operator.generation.reply import extract_source
from skill_operator.settings import ModelEndpoint
from tests.unit.generation.world import InlineWorker

ROOT = Path(__file__).parents[3]
RECORDED = json.loads((ROOT / "hack/model/recorded.json").read_bytes())
Json = dict[str, Any]


def call(url: str, method: str = "GET", body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def say(model: ScriptedModel, text: str) -> tuple[int, Any]:
    body = {"model": "m", "messages": [{"role": "system", "content": "x"}, {"role": "user", "content": text}]}
    return call(f"{model.url}/chat/completions", "POST", body)


def test_replies_come_in_order_by_the_longest_marker_and_the_last_repeats() -> None:
    script = {"csv": [{"text": "short"}], "csv-stats": [{"text": "one"}, {"text": "two"}]}
    with ScriptedModel(script) as model:
        said = [say(model, text)[1]["choices"][0]["message"]["content"] for text in ("csv-stats", "csv-stats", "csv-stats", "csv")]  # fmt: skip
        assert said == ["one", "two", "two", "short"]
        assert [request["marker"] for request in call(f"{model.url[:-3]}/requests")[1]] == ["csv-stats"] * 3 + ["csv"]


def test_an_unknown_conversation_is_told_so_and_logged() -> None:
    with ScriptedModel({"a": [{"text": "x"}]}) as model:
        status, body = say(model, "zzz")
        assert (status, "none of its markers" in body["error"]["message"]) == (404, True)
        assert len(model.requests) == 1


def test_the_script_can_be_changed_while_it_runs() -> None:
    with ScriptedModel({"a": [{"text": "x"}, {"text": "y"}]}) as model:
        base = model.url[:-3]
        say(model, "a")
        assert call(f"{base}/script", "PUT", {"a": [{"text": "new"}]}) == (200, {})
        assert say(model, "a")[1]["choices"][0]["message"]["content"] == "new"
        assert call(f"{base}/script", "PUT", {"a": []})[0] == 400
        assert call(f"{base}/script", "PATCH", {"b": [{"text": "added"}]}) == (200, {})
        assert say(model, "b")[1]["choices"][0]["message"]["content"] == "added"
        assert say(model, "a")[1]["choices"][0]["message"]["content"] == "new"
        assert call(f"{base}/script", "PATCH", {"b": []})[0] == 400
        assert call(f"{base}/requests", "DELETE") == (200, {})
        assert call(f"{base}/requests") == (200, [])
        assert call(f"{base}/healthz")[0] == 200
        assert call(f"{base}/elsewhere")[0] == 404


@pytest.mark.parametrize(
    "script", [{"a": []}, {"a": "x"}, {"a": [{"fault": "oops"}]}, {"a": {"replies": [{}]}}, {"a": [1]}]
)
def test_a_script_with_a_mistake_is_refused(script: Json) -> None:
    with pytest.raises(ScriptError, match="a"):
        Script(script)


async def complete(model: ScriptedModel, provider: Provider, limit: int = 4096) -> Completion:
    endpoint = ModelEndpoint(name="main", base_url=model.url, model="m")
    messages = [{"role": "system", "content": "x"}, {"role": "user", "content": "a"}]
    return await provider.complete(endpoint, "", messages, limit)


async def test_dialects_are_those_that_the_operator_meets() -> None:
    provider = Provider(worker=InlineWorker())
    with ScriptedModel({"a": [{"fault": "reasoning", "text": "1"}, {"fault": "reject_system", "text": "2"}]}) as model:
        cut = await complete(model, provider)
        assert (cut.text, cut.finish_reason, cut.reasoning_tokens) == ("", "length", 4096)
        assert (await complete(model, provider, 8192)).text == "1"
        assert (await complete(model, provider)).text == "2"
        assert [len(request["body"]["messages"]) for request in model.requests] == [2, 2, 2, 1]
    with ScriptedModel({"a": [{"fault": "refusal", "text": "no"}, {"fault": "error200", "message": "slow"}]}) as model:
        assert (await complete(model, provider)).refusal == "no"
        with pytest.raises(ModelUnavailable, match=r"\(429\): slow"):
            await complete(model, provider)


def test_a_rejected_request_does_not_use_up_its_reply() -> None:
    script = Script({"a": [{"fault": "reject_max_tokens", "text": "1"}, {"text": "2"}]})
    messages = [{"content": "a"}]
    given = [script.reply(request) for request in ({"max_tokens": 1, "messages": messages}, {"messages": messages}, {"messages": messages})]  # fmt: skip
    assert [found[1]["text"] for found in given if found] == ["1", "1", "2"]


def test_it_runs_as_a_program_of_one_file(tmp_path: Path) -> None:
    program, script = tmp_path / "server.py", tmp_path / "script.json"
    program.write_bytes(Path(server.__file__).read_bytes())
    script.write_text(json.dumps({"a": [{"text": "hello"}]}))
    argv = [sys.executable, "-I", str(program), "--script", str(script), "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().rpartition(":")[2].strip()
            body = {"messages": [{"role": "user", "content": "a"}]}
            status, answer = call(f"http://127.0.0.1:{port}/v1/chat/completions", "POST", body)
        finally:
            process.terminate()
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "hello")


def passes(source: str, example: Example) -> bool:
    names: Json = {}
    exec(source.replace("from skill_types import Input, Output", "Input = Output = dict"), names)  # noqa: S102
    try:
        output = names["run"](example.input)
    except Exception as error:  # noqa: BLE001 - a class is what an example expects
        return example.error in {kind.__name__ for kind in type(error).__mro__}
    return example.has_output and output == example.output


def read_spec(name: str) -> SkillSpec:
    """Return the spec that these replies are for: of an example, or what the demo's agent asks for."""
    if name == demo_agent.REQUEST["name"]:
        request = demo_agent.REQUEST | {"examples": name_examples(demo_agent.REQUEST["examples"])}
        return SkillSpec.model_validate(request)
    return Skill.model_validate(yaml.safe_load((ROOT / f"examples/skills/{name}.yaml").read_text())).spec


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_replies_are_found_by_the_prompt_of_their_skill_and_hold_code(name: str) -> None:
    spec = read_spec(name)
    shown, _ = split_examples(spec.examples)
    request = {"messages": prompt.initial_messages(spec, "", shown, {})}
    found = Script(RECORDED).reply(request)
    assert found is not None
    assert found[0] == RECORDED[name]["match"]
    sources = [extract_source(reply["text"], reply["finish_reason"]).source for reply in RECORDED[name]["replies"]]
    assert all(sources)
    assert len({fingerprint(source) for source in sources}) == len(sources), "a repeat would end as a loop"


@pytest.mark.parametrize("name", sorted(RECORDED.keys() - {"csv-stats"}))  # its pandas is in the base image alone
def test_recorded_replies_are_wrong_in_a_plausible_way_until_they_are_right(name: str) -> None:
    """The reply after a right one is for a second opinion."""
    spec = read_spec(name)
    shown, _ = split_examples(spec.examples)
    replies = RECORDED[name]["replies"]
    sources = [extract_source(reply["text"], reply["finish_reason"]).source for reply in replies]
    rights = [all(passes(source, example) for example in spec.examples) for source in sources]
    assert rights[-1]
    assert rights == sorted(rights), "once it is right, it stays so"
    for source in sources[: rights.index(True)]:
        assert not all(passes(source, example) for example in shown)
        assert any(passes(source, example) for example in shown), "the mistake is a plausible one"
