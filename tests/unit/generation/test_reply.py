"""Code out of replies as models write them, and out of replies nobody should write."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skill_operator.generation.fingerprint import fingerprint
from skill_operator.generation.python_text import parse
from skill_operator.generation.reply import MAX_REPLY_CHARACTERS, MAX_SOURCE_BYTES, extract_source
from tests.unit.counting import count_lines

CODE = 'def run(input):\n    return {"n": 1}\n'
OTHER = 'def run(input):\n    return {"n": 2}\n'


def fenced(code: str, mark: str = "```", info: str = "python") -> str:
    return f"{mark}{info}\n{code}{mark}\n"


@pytest.mark.parametrize(
    "text",
    [
        fenced(CODE),
        fenced(CODE).rstrip("\n"),
        f"Sure!\n\n{fenced(CODE)}\nThis works because ...",
        fenced(CODE, info="py"),
        fenced(CODE, info=""),
        fenced(CODE, info=" python title=skill.py"),
        fenced(CODE, mark="~~~"),
        fenced(CODE, mark="````"),
        fenced(CODE).replace("\n", "\r\n"),
        "1. The file:\n" + "".join(f"   {line}\n" for line in fenced(CODE).splitlines()),
        CODE,
        f"\n\n{CODE}",
        "    " + CODE.replace("\n", "\n    "),
        f"```python\n{CODE}",
        fenced("x = = 1\n") + fenced(CODE),
        fenced(CODE) + "Output:\n" + fenced('{"n": 1}\n', info="json"),
        fenced(CODE) + "Install:\n" + fenced("pip install pandas\n", info="bash"),
        fenced(CODE) + "Use it:\n" + fenced("print(run({}))\n"),
        fenced(OTHER) + "Better:\n" + fenced(CODE),
        f"<think>\n{fenced(OTHER)}</think>\n{fenced(CODE)}",
        fenced(CODE, mark="````") + "Note: ``` is a fence.\n",
        f"````markdown\n```\n````\n{fenced(CODE)}",
        fenced(CODE) + "```python\nimport os\ndef ru",
        f"<think>\nmaybe\n```python\n{OTHER}no wait\n</think>\nHere:\n{fenced(CODE)}",
        f"{fenced(CODE)}<think>\n{fenced(OTHER)}</think>\n",
        f"{fenced(CODE)}<think>\n{fenced(OTHER)}",
        f"{fenced(OTHER)}Wait.\n</think>\n{fenced(CODE)}",
        f"Hm.\n</think>{fenced(CODE)}",
        f"<think>\n{fenced(CODE)}",
        f"The cause is an off by one. {fenced(CODE)}",
        f"```python\n{CODE.rstrip()}```\n",
        f"```python\n{CODE}```<|im_end|>\n",
        f"{fenced(CODE).rstrip()} Done.\n",
        f"{fenced(CODE).rstrip()}<end_code>\nBye.\n",
        f"{fenced(OTHER).rstrip()}{fenced(CODE)}",
        f"``````python\n{CODE}```\n",
        f"{CODE}```\n",
        f"<code>\n{CODE}</code>\n",
        f"<code>{CODE.rstrip()}</code> That is it.\n",
        fenced(CODE, info="python `skill.py`"),
        f"{CODE}</s>",
        f"{CODE}<|eot_id|><|end_of_text|>\n",
        f"{fenced(CODE)}<|im_end|>" + "</s>" * 100,
    ],
)
def test_the_last_block_that_defines_run_is_taken(text: str) -> None:
    assert extract_source(text, "stop").source.rstrip("\n ") == CODE.rstrip("\n")


@pytest.mark.parametrize(
    "code",
    [
        'def run(input):\n    return input["text"].split("</think>")[-1]\n',
        'TAG = "<think>"\n\n\n' + CODE,
        'def run(input):\n    return f"```{input}```"\n',
        'def run(input):\n    return "<code>" + input + "</code>"\n',
        'def run(input):\n    return "<|im_end|>"\n',
        'CASES = [\n    ["def run(input):\\n    return 0"],\n]\n\n\ndef run(input):\n    return CASES\n',
        'CASES = [\n{"code": "def run(input):\\n    return 0"},\n]\n\n\ndef run(input):\n    return CASES\n',
    ],
)
def test_marks_in_the_code_itself_are_left_alone(code: str) -> None:
    assert extract_source(fenced(code), "stop").source == code
    assert extract_source(code, "stop").source == code


@pytest.mark.parametrize("draft", [f"<think>\n{fenced(OTHER)}", f"<think>\n```python\n{OTHER}"])
def test_the_draft_of_a_reply_that_was_cut_off_while_thinking_is_not_taken(draft: str) -> None:
    assert extract_source(draft, "length").flaw == "cut-off"


FENCES_INSIDE = {
    "string": 'TEXT = """\n```\nx\n```\n"""\n\n\n' + CODE,
    "docstring": 'def run(input):\n    """As in\n\n    ```python\n    run({})\n    ```\n    """\n    return {"n": 1}\n',
    "several": 'A = """\n```\n```\n```\n```\n"""\n' + CODE,
    "one": 'MARK = """\n```\n"""\n' + CODE,
    "tildes": 'A = """\n~~~\n~~~\n"""\n' + CODE,
}


@pytest.mark.parametrize("mark", ["```", "````", "~~~", "~~~~"])
@pytest.mark.parametrize("code", FENCES_INSIDE.values(), ids=FENCES_INSIDE)
def test_code_may_hold_fences_itself(code: str, mark: str) -> None:
    assert extract_source(f"Here:\n{fenced(code, mark=mark)}\nDone.\n", "stop").source == code
    indented = "".join(f"   {line}\n" if line else "\n" for line in fenced(code, mark=mark).splitlines())
    assert extract_source(f"1. Here:\n{indented}", "stop").source.split() == code.split()


def test_prose_between_two_blocks_never_becomes_code() -> None:
    reply = extract_source(
        fenced("x = (\n") + "and then\n" + fenced(")\n") + fenced(CODE) + "bye\n" + fenced("y = [\n"), "stop"
    )
    assert reply.source == CODE


def test_a_reply_that_does_not_parse_says_where() -> None:
    reply = extract_source(fenced("def run(input):\n    return {\n        'n': 1,\n        'm' 2}\n"), "stop")
    assert reply.flaw == "no-code"
    assert "line 4 of the last block" in reply.message or "line 2 of the last block" in reply.message


def test_five_megabytes_are_refused_at_once() -> None:
    began = time.process_time()
    assert extract_source(fenced(CODE) * 60_000 + "x" * 5_000_000, "stop").flaw == "too-large"
    assert time.process_time() - began < 1


def test_the_whole_file_is_kept() -> None:
    code = "import math\n\nLIMIT = math.pi\n\n\ndef help() -> int:\n    return LIMIT\n\n\n" + CODE
    assert extract_source(fenced(code), "stop").source == code


@pytest.mark.parametrize(
    ("text", "finish_reason", "flaw"),
    [
        ("", "stop", "empty"),
        (" \n\t", "stop", "empty"),
        ("", "length", "cut-off"),
        ("I cannot help with that.", "stop", "no-code"),
        (fenced("def run(input)\n    pass\n"), "stop", "no-code"),
        (fenced("def walk(input):\n    return {}\n"), "stop", "no-entry"),
        (fenced("async def run(input):\n    return {}\n"), "stop", "no-entry"),
        (fenced("class A:\n    def run(self):\n        pass\n"), "stop", "no-entry"),
        (fenced("# nothing\n"), "stop", "no-code"),
        (f"```python\n{CODE}", "length", "cut-off"),
        (CODE, "length", "cut-off"),
        (f"Let me think. {'x' * 100}", "length", "cut-off"),
        (fenced(f"{CODE}\nX = '{'x' * MAX_SOURCE_BYTES}'\n"), "stop", "too-large"),
        ("x" * (MAX_REPLY_CHARACTERS + 1), "stop", "too-large"),
    ],
)
def test_replies_without_usable_code_say_why(text: str, finish_reason: str, flaw: str) -> None:
    reply = extract_source(text, finish_reason)
    assert (reply.source, reply.flaw) == ("", flaw)
    assert reply.message


def test_a_closed_block_counts_although_the_reply_was_cut_off_behind_it() -> None:
    assert extract_source(fenced(CODE) + "This code is", "length").source == CODE


BOMBS = {
    "parentheses": "(" * 60_000,
    "brackets": "x = " + "[" * 30_000 + "]" * 30_000,
    "minus": "-" * 60_000 + "1",
    "not": "not " * 15_000 + "1",
    "sum": "x = 1" + "+1" * 30_000,
    "attributes": "a" + ".b" * 30_000,
    "calls": "a" + "()" * 30_000,
    "lambdas": "lambda:" * 9_000 + "1",
    "f-strings": "f'{" * 20_000,
    "digits": "x = " + "9" * 60_000,
    "indents": "".join(" " * n + "if 1:\n" for n in range(99)) + " " * 99 + "pass\n",
    "elifs": "if 1: pass\n" + "elif 1: pass\n" * 4_000,
    "zero byte": "x = 1\0",
    "surrogate": "x = '\ud800'",
    "escapes": "x = '" + "\\d" * 20_000 + "'\n",
    "unicode names": "x = '" + "\\N{SNOWMAN}" * 4_000 + "'\n",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
@pytest.mark.filterwarnings("error")
def test_parser_bombs_are_text_like_any_other(bomb: str) -> None:
    began = time.process_time()
    extract_source(fenced(f"{bomb}\n"), "stop")
    extract_source(fenced(f"{CODE}\n{bomb}\n"), "stop")
    extract_source(bomb, "stop")
    assert len(fingerprint(bomb)) == len(fingerprint(f"{CODE}\n{bomb}")) == len(fingerprint(CODE))
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "text", ["```\n" * 100_000, "```python\nx = 1\n```\n" * 20_000, "`" * 900_000, " " * 900_000 + "```"]
)
def test_many_blocks_take_no_time(text: str) -> None:
    began = time.process_time()
    assert extract_source(text, "stop").source == ""
    assert time.process_time() - began < 3


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(["```", "~~~~", "python", "\n", "\r", CODE, "    ", "def run(input):", "x", "\0", "\x0c"])
    ),
    st.sampled_from(["stop", "length", ""]),
)
def test_what_is_taken_always_parses_and_defines_run(parts: list[str], finish_reason: str) -> None:
    reply = extract_source("".join(parts), finish_reason)
    assert bool(reply.source) != bool(reply.flaw)
    if reply.source:
        tree = parse(reply.source)
        assert tree is not None
        assert "run" in {getattr(node, "name", "") for node in tree.body}


SINGLE_QUOTES, DOUBLE_QUOTES = 3 * chr(39), 3 * chr(34)
HOSTILE_PARTS = [
    "`", "```", "~~~", " ", "\t", "\n", "'", '"', "\\", SINGLE_QUOTES, DOUBLE_QUOTES, "#", "x", "python", "<think>", "</think>", "<code>",
    "</s>", "<|im_end|>", "[THINK]", "<|channel|>final<|message|>", "<answer>", "cat <<EOF\n", "{", "1. ", "1 | ", "def run(",
    "+", "-", "<", ">", "\u201c", "\u2019", "\u00a0", "\u200b", "def run(input): return 1", "import a", ";",
    "tee a && ", "User: x\n", "Assistant:", "### Human:\n", "a: |\n", "{'run': ", '["run", ', "&lt;", "# ...", "*** Begin Patch\n", "a/b\n", "skill.py",
]  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(
    st.text("`~ \n", max_size=3),
    st.lists(st.sampled_from(HOSTILE_PARTS), min_size=1, max_size=4),
    st.booleans(),
    st.sampled_from(["stop", "length"]),
)
@example("", ["'", "'"], False, "stop")
@example("", ["#", "```", "\n"], False, "stop")
@example("", ["```", "\n", SINGLE_QUOTES, "x"], True, "stop")
@example("", ["1 | ", "def run(", "\n", "`"], True, "stop")
@example("", ["{'run': ", '"'], False, "length")
@example("", ["def run(input): return 1", "\n", "a/b\n"], True, "stop")
def test_the_work_grows_no_faster_than_the_reply(prefix: str, parts: list[str], is_fenced: bool, reason: str) -> None:
    def work(repeats: int) -> int:
        text = prefix + "".join(parts) * repeats
        return count_lines(lambda: extract_source(fenced(text) if is_fenced else text, reason))

    small, large = max(map(work, range(95, 101))), work(200)  # whether so many quotes are Python differs
    assert large <= 2.2 * small + 500


@pytest.mark.parametrize(
    "text",
    [
        "```" + " " * (MAX_REPLY_CHARACTERS - 9) + "`",
        "```" + "`" * (MAX_REPLY_CHARACTERS - 9) + "x`",
        (" " * 1000 + "x\n") * 1000,
        fenced("x = \u00a0'" + "\\'" * 30_000 + "\n" + CODE),
        fenced("x = \u00a0" + SINGLE_QUOTES + ("\\" + SINGLE_QUOTES) * 15_000 + CODE),
        fenced("x = \u00a0" + "\u201c" * 20_000 + "\n" + CODE),
        "<think>" * 100_000,
        "<think>\n" * 100_000,
        "</s>" * 200_000,
        "[THINK]" * 100_000,
        "<|user|>" * 100_000,
        "cat <<EOF\n" * 100_000,
        "> " * 500_000 + "```",
        "1. " * 300_000 + "~~~",
        "<a " * 300_000,
        ("{" * 200 + "\n") * 5000,
        fenced('{"run": [' * 5_000),
        fenced("1 | " * 30_000),
        fenced("".join(f"{n} | def run(\n" for n in range(6000))),
        "".join(f"```python\nx{n} = y{n}\n```\n" for n in range(10_000)) + fenced(CODE),
        SINGLE_QUOTES + "\n```\n" * 100_000,
        (SINGLE_QUOTES + "\n```\n" + DOUBLE_QUOTES) * 50_000,
        "It's\n" * 100_000 + CODE,
        "<|" * 400_000,
        "```python\n" + "\t" * 60_000 + "def run(input): return 1",
        fenced("import a;" * 7_000 + CODE),
        "User:\n" * 150_000,
        ("User:" + "x" * 200 + "\n") * 4_000,
        "a && " * 200_000,
        "a;\n" * 300_000 + "tee <<",
        ("tee " * 30 + "\n") * 8_000,
        fenced("a: |\n" * 20_000),
        fenced("- " * 60_000 + "\n"),
        fenced("{'run': [" * 7_000),
        fenced("{'run': '" + "\\'" * 30_000),
        '["run' + '\\"' * 400_000,
        fenced('["run", ' * 15_000),
        fenced(SINGLE_QUOTES * 20_000 + "x"),
        fenced("&lt;" * 15_000),
        fenced("a/b\n" * 12_000 + CODE),
        fenced("# ...\n" * 8_000 + CODE) * 10,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_texts_that_cost_a_backtracking_matcher_hours_end(text: str) -> None:
    began = time.process_time()
    extract_source(text, "stop")
    extract_source(text, "length")
    assert time.process_time() - began < 10
