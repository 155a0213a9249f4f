"""Values of secrets do not leave by accident: not in answers, not in messages, not in logs."""

import base64
import binascii
import json
import os
import re
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_runtime.output import OutputCollector
from skill_runtime.redaction import MIN_VALUE_BYTES, Redactor
from tests.unit.runtime.harness import serving

VALUE = 'tok3n/"é\\+ü=&end'
KEY = "-----BEGIN KEY-----\nMIIBVgIBADANBgkqhkiG9w0BAQEF\nAASCAUAwggE8AgEAAkEA\n-----END KEY-----\n"


def mount(folder: Path, **values: str) -> Path:
    """A volume of the kubelet's making: a change is one rename of a link."""
    version = folder / f"..{len(list(folder.iterdir())) if folder.exists() else 0}"
    version.mkdir(parents=True)
    for name, value in values.items():
        (version / name).write_text(value)
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(f"..data/{name}")
    (folder / "..new").symlink_to(version.name)
    (folder / "..new").replace(folder / "..data")
    return folder


def redactor(folder: Path, *open_names: str, **values: str) -> Redactor:
    return Redactor(mount(folder / "secrets", **values), open_names)


SPELLINGS = {
    "raw": lambda v: v,
    "json": json.dumps,
    "json in utf-8": lambda v: json.dumps(v, ensure_ascii=False),
    "json in json in json": lambda v: json.dumps(json.dumps(json.dumps(v))),
    "hex": lambda v: v.encode().hex(),
    "HEX": lambda v: binascii.hexlify(v.encode()).decode().upper(),
    "percent": quote,
    "percent, all": lambda v: quote(v, safe=""),
    "percent, lower case": lambda v: re.sub("%..", lambda m: m[0].lower(), quote(v, safe="")),
    "form": quote_plus,
    **{f"base64 at {n}": lambda v, n=n: base64.b64encode(b"abc"[:n] + v.encode() + b"xyz").decode() for n in range(3)},
    **{f"url-safe base64 at {n}": lambda v, n=n: base64.urlsafe_b64encode(b"abc"[:n] + v.encode()).decode() for n in range(3)},
    "basic": lambda v: "Basic " + base64.b64encode(f"user:{v}".encode()).decode(),
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_spelling_leaves(spelling: str, tmp_path: Path) -> None:
    guard = redactor(tmp_path, key=VALUE)
    said = f"before {SPELLINGS[spelling](VALUE)} after"
    value = {"said": [said, {said: 1}]}
    clean, text, redacted = guard.redact_output(value, json.dumps(value, ensure_ascii=False).encode())
    assert redacted
    assert json.loads(text) == clean
    (key,) = clean["said"][1]
    for kept in (
        clean["said"][0],
        key,
        guard.redact_log_text(said),
        guard.redact_message(said),
        guard.redact_line(said.encode()).decode(),
    ):
        assert kept.startswith(("before [secret key]", "before Basic", "before Y", 'before "', "before \\")), kept
        assert "[secret key]" in kept
        assert len(kept) < len("before  after") + len("[secret key]") + 16, kept


@given(
    value=st.text(st.characters(exclude_categories=["Cs"]), min_size=MIN_VALUE_BYTES, max_size=40)
    .map(lambda v: v.encode().strip().replace(b"\\", b"").decode())
    .filter(lambda v: len(v) >= MIN_VALUE_BYTES)
)
@settings(max_examples=100, deadline=None)
def test_any_value(value: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    guard = redactor(tmp_path_factory.mktemp("any"), key=value)
    encoded = base64.b64encode(b"." + value.encode()).decode()
    for said in (value, json.dumps(value), quote(value, safe=""), encoded):
        assert "[secret key]" in guard.redact_log_text(f"({said})")
        _, text, redacted = guard.redact_output([said], json.dumps([said], ensure_ascii=False).encode())
        assert redacted
        assert b"[secret key]" in text


def test_lines_of_a_key_are_recognised_alone(tmp_path: Path) -> None:
    guard = redactor(tmp_path, key=KEY)
    assert guard.redact_log_text(f"got {KEY.splitlines()[1]}") == "got [secret key]"
    assert guard.redact_log_text(f"got {KEY}") == "got [secret key]\n"


def test_a_number_is_a_value_too(tmp_path: Path) -> None:
    clean, text, _ = redactor(tmp_path, pin="1234567890").redact_output([1234567890, 12], b"[1234567890,12]")
    assert clean == ["[secret pin]", 12]
    assert text == b'["[secret pin]",12]'


def test_a_short_value_is_left_alone_and_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    guard = redactor(tmp_path, key="true\n")
    assert guard.redact_log_text("it is true") == "it is true"
    told = json.loads(capsys.readouterr().out)
    assert (told["level"], told["secret"]) == ("warning", "key")


def test_a_message_that_was_cut_within_a_value(tmp_path: Path) -> None:
    guard = redactor(tmp_path, key="abcdefghijklmnopqrst")
    assert guard.redact_message("url: abcdefghijkl") == "url: [secret key]"
    assert guard.redact_message("url: abcdefghijkl…") == "url: [secret key]"
    assert guard.redact_message("url: abcdefghijkl more") == "url: abcdefghijkl more"


def test_an_answer_may_carry_what_was_declared_open_and_a_log_may_not(tmp_path: Path) -> None:
    guard = redactor(tmp_path, "signed", signed="the-open-one", other="the-closed-one")
    value = ["the-open-one", "the-closed-one"]
    assert guard.redact_output(value, json.dumps(value).encode())[0] == ["the-open-one", "[secret other]"]
    assert guard.redact_message("the-open-one") == "the-open-one"
    assert guard.redact_log_text("the-open-one") == "[secret signed]"
    assert guard.redact_line(b"the-open-one") == b"[secret signed]"


def test_a_changed_file_is_followed_and_its_old_value_remembered(tmp_path: Path) -> None:
    folder = mount(tmp_path / "secrets", key="the-first-value")
    guard = Redactor(folder)
    mount(folder, key="the-second-value")
    assert guard.redact_log_text("the-first-value the-second-value") == "[secret key] [secret key]"


def test_without_secrets_nothing_changes(tmp_path: Path) -> None:
    guard = Redactor(tmp_path / "absent")
    value = {"a": 1}
    assert guard.redact_output(value, b'{"a":1}') == (value, b'{"a":1}', False)
    assert guard.overlap_bytes == 0


async def test_a_value_across_a_cut_of_the_log(tmp_path: Path) -> None:
    """Lines are cut at 2000 bytes, and pipes are read in pieces: neither is a way around."""
    guard = redactor(tmp_path, key="a-value-of-some-length")
    lines: list[str] = []
    collector = OutputCollector(lambda line, _: lines.append(line), guard)
    for lead in (1990, 2005, 16380, 65530):
        reading, writing = os.pipe()
        pipe = collector.attach(reading)
        pipe.start_call("")
        for part in ("x" * (lead - 1000), "x" * 1000 + "a-value-", "of-some-length" + "y" * 3000):
            os.write(writing, part.encode()[: 1 << 16])
            pipe.finish_call() if lead < 0 else pipe._on_readable()
        pipe.finish_call()
        os.close(writing)
        pipe.close()
    printed = "".join(lines)
    assert "a-value-of-some" not in printed
    assert printed.count("[secret key]") >= 3
    assert max(map(len, lines)) <= 2000


SKILL = """
def run(input):
    secret = open({path!r}).read()
    n = input["n"]
    print("using", secret)
    if n == 1: return {{"n": 1, "said": "key=" + secret}}
    if n == 2: raise ValueError("bad key " + secret)
    if n == 3: raise RuntimeError("x" * 590 + secret)
    if n == 4: return {{"n": secret}}
    return {{"n": 0}}
"""


def test_a_running_skill_gives_nothing_away(tmp_path: Path) -> None:
    marker = "M4rk3r-of-the-t3st"
    folder = mount(tmp_path / "secrets", key=marker)
    with serving(tmp_path, SKILL.format(path=str(folder / "key")), SKILL_SECRETS=str(folder)) as served:
        assert served.call({"n": 1}) == (200, {"n": 1, "said": "key=[secret key]"})
        refused = served.call({"n": 2})
        assert (refused[0], refused[1]["detail"]) == (422, "bad key [secret key]")
        assert served.call({"n": 3})[0] == 500
        status, wrong = served.call({"n": 4})
        assert (status, "taken out" in wrong["detail"]) == (500, True)
        mount(folder, key="An0ther-value-now")
        assert served.call({"n": 1})[1]["said"] == "key=[secret key]"
        log = (tmp_path / "log").read_text()
    assert "M4rk" not in log + json.dumps(wrong)
    assert "An0ther" not in log
    assert "using [secret key]" in log


def test_a_skill_that_does_not_load_gives_nothing_away(tmp_path: Path) -> None:
    folder = mount(tmp_path / "secrets", key="M4rk3r-of-the-t3st")
    source = f"raise RuntimeError('no ' + open({str(folder / 'key')!r}).read())"
    with serving(tmp_path, source, SKILL_SECRETS=str(folder)) as served:
        assert served.process.wait(20) == 1
        assert served.last_word() == "skill.py line 1: RuntimeError: no [secret key]"
        assert "M4rk3r" not in (tmp_path / "log").read_text()
