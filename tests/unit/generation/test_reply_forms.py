"""Whatever a program is wrapped in, it is found, and not a byte of it is changed."""

from __future__ import annotations

import json
import random

import pytest

from skill_operator.generation.reply import extract_source
from tests.unit.generation.reply_forms import (
    DOUBLE,
    DRAFT,
    FENCE,
    INNER,
    OUTER,
    OUTER_WITH_MARKS,
    SINGLE,
    escaped,
    fenced,
    make_program,
    prefixed,
)

PROGRAMS_PER_PAIR = 2
CODE = 'def run(input):\n    return {"n": helper(1)}\n'
HELPER = "def helper(x):\n    return x + 1\n"
USE = "def run(n):\n    return skill.run({'n': n})\n"
PLAIN = 'def run(input):\n    return {"n": 2}\n'


@pytest.mark.parametrize("inner", INNER)
def test_a_program_comes_out_of_every_form_byte_for_byte(inner: str) -> None:
    rng = random.Random(inner)
    outer = OUTER if inner == "nothing" else OUTER | OUTER_WITH_MARKS
    for wrap in outer.values():
        for _ in range(PROGRAMS_PER_PAIR):
            program = make_program(rng.randrange(10**6))
            reply = wrap(INNER[inner](program))
            assert extract_source(reply, "stop").source == program, reply


@pytest.mark.parametrize("inner", sorted(set(INNER) - {"nothing", "no closing fence", "json"}))
def test_a_block_that_is_closed_counts_although_the_reply_was_cut_off_behind_it(inner: str) -> None:
    program = make_program(7)
    assert extract_source(INNER[inner](program) + "\n<think>\nThis is", "length").source == program


@pytest.mark.parametrize("reason", ["length", "max_tokens", "MAX_TOKENS"])
@pytest.mark.parametrize(
    "text",
    [
        f"<think>\n{fenced(PLAIN)}",
        f"[THINK]{fenced(PLAIN)}so",
        f"<|channel|>analysis<|message|>{fenced(PLAIN)}so",
        f"<thinking>\n{FENCE}python\n{PLAIN}",
        f"{FENCE}python\n{PLAIN}",
        PLAIN,
    ],
)
def test_of_a_reply_that_was_cut_off_neither_thoughts_nor_open_blocks_count(text: str, reason: str) -> None:
    assert extract_source(text, reason).flaw == "cut-off"


@pytest.mark.parametrize(
    "stub",
    [
        'def run(input):\n    """As above."""\n    ...\n',
        "def run(input):\n    ...\n",
        "def run(input):\n    pass\n",
        "from skill_types import Input, Output\n\n\ndef run(input: Input) -> Output:\n    # unchanged\n    return ...\n",
        "def run(input):\n    raise NotImplementedError\n",
        'def run(input):\n    raise NotImplementedError("see above")\n',
        "def run(input):\n    for line in input:\n        ...\n    return 1\n",
        "def run(input):\n    n = 1\n    # \u2026 as before\n    return n\n",
        f"import skill\n\n\n{USE}",
        "from skill import run as call\n\n\ndef run(n):\n    return call(n)\n",
    ],
)
def test_a_stub_never_replaces_a_program(stub: str) -> None:
    assert extract_source(fenced(PLAIN) + "In short:\n" + fenced(stub), "stop").source == PLAIN
    assert extract_source(fenced(stub) + "In full:\n" + fenced(PLAIN), "stop").source == PLAIN
    assert "def run(" in extract_source(fenced(stub), "stop").source


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (fenced(HELPER) + "and\n" + fenced(CODE), [HELPER, CODE]),
        (fenced(CODE) + "with\n" + fenced(HELPER), [HELPER, CODE]),
        (fenced(HELPER.replace("1", "3")) + "better:\n" + fenced(HELPER) + fenced(CODE), [HELPER, CODE]),
        (f"{FENCE}python\n{HELPER}\nThe file:\n{fenced(CODE)}", [HELPER, CODE]),
        (
            fenced("LIMIT = 3\n") + fenced(HELPER.replace("1", "LIMIT")) + fenced(CODE),
            ["LIMIT = 3\n", HELPER.replace("1", "LIMIT"), CODE],
        ),
        (fenced("import math\n") + fenced(CODE.replace("helper(1)", "math.pi")), ["import math\n", CODE.replace("helper(1)", "math.pi")]),
        (fenced(HELPER) + fenced(f"from __future__ import annotations\n\n\n{CODE}"), ["from __future__ import annotations\n", HELPER, CODE]),
        (fenced(HELPER) + fenced(PLAIN), [PLAIN]),
        (fenced(f"{HELPER}\n\nprint(run(1))\n") + fenced(CODE), [CODE]),
        (fenced(CODE) + fenced("from skill import run\n\nhelper = run\n"), [CODE]),
    ],
)  # fmt: skip
def test_definitions_that_run_lacks_go_before_it(text: str, parts: list[str]) -> None:
    source = extract_source(text, "stop").source
    assert source == "\n\n\n".join(part.strip("\n") for part in parts) + "\n"
    compile(source, "skill.py", "exec")


@pytest.mark.parametrize(
    ("text", "flaw", "words"),
    [
        (fenced("--- a/skill.py\n+++ b/skill.py\n@@ -1,2 +1,2 @@\n def run(input):\n-    return 1\n+    return 2\n", info="diff"), "no-code", "a change of the file"),
        (fenced("-def run(input): return 1\n+def run(input): return 2\n", info=""), "no-code", "a change of the file"),
        ("<<<<<<< SEARCH\n    return 1\n=======\n    return 2\n>>>>>>> REPLACE\n", "no-code", "a change of the file"),
        (json.dumps({"old": DRAFT, "new": PLAIN}), "no-code", "several programs"),
        ("Define `run` with a line that returns the sum.", "no-code", "no Python"),
        (fenced("run = lambda input: 1\n"), "no-entry", "top level"),
        (json.dumps({"code": "async def run(input):\n    return 1\n"}), "no-entry", "top level"),
    ],
)  # fmt: skip
def test_what_has_no_single_reading_is_told_in_words(text: str, flaw: str, words: str) -> None:
    reply = extract_source(text, "stop")
    assert (reply.source, reply.flaw) == ("", flaw)
    assert words in reply.message


@pytest.mark.parametrize(
    "text",
    [
        f"Here's the file:\n\n{PLAIN}\nIt's short.\nDone\n",
        f"Sure\n\n{PLAIN}",
        f"Here is the file:\n\n{prefixed(PLAIN, '    ')}\nThat is all.\n",
        f"{FENCE}python\n{PLAIN}\nThis isn't closed.\n",
        f"{FENCE}\nskill.py\n{PLAIN}{FENCE}\n",
        f"{FENCE}\n%%writefile skill.py\n{PLAIN}{FENCE}\n",
        f"{FENCE}python {PLAIN}{FENCE}\n",
        f"{FENCE}python\u2028{PLAIN}{FENCE}\n",
        f"'''python\n{PLAIN}'''\n",
        f"{PLAIN}<|im_end|>\n<|im_start|>user\nAgain!<|im_end|>\n<|im_start|>assistant\n{fenced(DRAFT)}",
        f"\u25c1think\u25b7{fenced(DRAFT)}\u25c1/think\u25b7{fenced(PLAIN)}",
        f"<|START_THINKING|>{fenced(DRAFT)}<|END_THINKING|>{fenced(PLAIN)}",
        f"\x1b[32m{fenced(PLAIN)}\x1b[0m",
        f"{fenced(PLAIN).rstrip()}\u00a0\n",
        f"\u200b{fenced(PLAIN)}",
        '{"code": "' + PLAIN.replace('"', '\\"') + '"}',
        f"`{PLAIN[:-1]}`\n",
        f"'''\n{PLAIN}'''\n",
        repr({"path": "skill.py", "code": PLAIN}),
        f"{{'path': 'skill.py', 'code': {DOUBLE}\n{PLAIN}{DOUBLE}}}",
        json.dumps({"code": PLAIN})[:-1] + ",\n}",
        json.dumps(PLAIN),
        json.dumps({"skill.py": PLAIN, "test_skill.py": f"import skill\n\n\n{USE}"}),
        "*** Begin Patch\n*** Add File: skill.py\n" + prefixed(PLAIN, "+") + "*** End Patch\n",
        fenced(
            "apply_patch <<'EOF'\n*** Add File: skill.py\n" + prefixed(PLAIN, "+") + "*** End Patch\nEOF\n", info="sh"
        ),
        fenced(f"python - <<'EOF'\n{PLAIN}EOF\n", info="bash"),
        f"\\begin{{minted}}{{python}}\n{PLAIN}\\end{{minted}}\n",
        f"{{code:python}}\n{PLAIN}{{code}}\n",
        fenced(escaped(PLAIN) + "\n"),
        fenced(PLAIN.replace("\n", "\\n") + "\n"),
        escaped(f"Here:\n\n{fenced(PLAIN)}"),
        repr(f"Here's the file:\n\n{fenced(PLAIN)}")[1:-1],
        fenced(f"open('skill.py', 'w').write({SINGLE}{PLAIN}{SINGLE})\n"),
        fenced(f"CODE = {DOUBLE}\\\n{PLAIN}{DOUBLE}\n\nwith open('skill.py', 'w') as file:\n    file.write(CODE)\n"),
        f"path = 'skill.py'\ncode = {SINGLE}\n{PLAIN}{SINGLE}\n",
        f"{fenced(PLAIN)}\n**Before:**\n\n{fenced(DRAFT)}",
        f"{fenced(PLAIN)}\n### Original version\n\n{fenced(DRAFT)}",
        f"{fenced(DRAFT)}\nUnlike the previous version, this one is right:\n\n{fenced(PLAIN)}",
        f"{fenced(DRAFT)}\nThe original code was wrong. Here is the corrected file:\n\n{fenced(PLAIN)}",
        f"The old version:\n\n{fenced(PLAIN)}",
        f"The old version:\n\n{fenced(DRAFT)}\nAn earlier attempt:\n\n{fenced(PLAIN)}",
        f"{fenced(PLAIN)}\nThe test:\n\n" + fenced(f"CODE = {DRAFT!r}\n\n\ndef test_it():\n    exec(CODE)\n"),
    ],
)
def test_forms_of_one_program_that_nothing_else_explains(text: str) -> None:
    assert extract_source(text, "stop").source == PLAIN


COMPLETE = [
    'def run(input):\n    """As in\n\n    # ... x\n    """\n    return {"n": "# ..."}\n',
    "class Shape(Protocol):\n    def area(self) -> int: ...\n\n\ndef run(input):\n    return 2\n",
    "def run(input):\n    try:\n        return 2\n    except KeyError:\n        ...\n",
    "import re  # ... x\n\n\ndef run(input):\n    x: Tuple[int, ...] = ()\n    return re.sub('a', 'b', input)\n",
]


@pytest.mark.parametrize("code", COMPLETE)
def test_a_file_with_an_ellipsis_of_its_own_is_no_outline(code: str) -> None:
    assert extract_source(fenced(DRAFT) + "Better:\n" + fenced(code), "stop").source == code


LABELS = [
    "app/skill.py", "skill.py", "skill_service/skill.py:", "./skill.py", "[skill.py]", "{skill}", "File: skill.py", "skill.py (full)",
    "skill.py - complete", "code-block", "filename = skill.py", "**skill.py**", "`dir/skill.py`:", "File: `skill.py`", "Final Answer",
]  # fmt: skip


@pytest.mark.parametrize("label", LABELS)
def test_a_label_before_the_code_is_no_part_of_it(label: str) -> None:
    assert extract_source(fenced(f"{label}\n{PLAIN}"), "stop").source == PLAIN
    assert extract_source(f"{label}\n\n{PLAIN}", "stop").source == PLAIN


@pytest.mark.parametrize(
    "tail", ["That is it", "[end]", "(end)", "{code}", "True", "42", "Done", "end - skill", "Notes: below"]
)
def test_words_behind_the_code_are_no_part_of_it(tail: str) -> None:
    assert extract_source(f"{PLAIN}\n{tail}\n", "stop").source == PLAIN


@pytest.mark.parametrize(
    "code",
    [
        "import sys\n\nsys.setrecursionlimit(9000)\n\n\n" + PLAIN,
        "random.seed(1)\n\n\n" + PLAIN,
        "pi = math.pi\n\n\ndef run(input):\n    return pi\n",
        "count: int\n\n\n" + PLAIN,
        f"{PLAIN}\n\nprint(run)\n",
        f"{PLAIN}\n\nrun.version = latest\n",
        '"""Text."""\n\n' + PLAIN,
        f"{PLAIN}\n\nregister(run)\n",
    ],
)
def test_statements_at_the_ends_of_a_program_stay(code: str) -> None:
    assert extract_source(fenced(code), "stop").source == code


def test_an_assignment_in_a_block_of_its_own_is_no_label() -> None:
    code = 'def run(input):\n    return {"n": PI}\n'
    source = extract_source(fenced("import math\n") + fenced("PI = math.pi\n") + fenced(code), "stop").source
    assert source == f"import math\n\n\nPI = math.pi\n\n\n{code}"


@pytest.mark.parametrize("reply", ['{"code": %s, "notes": "It', '{"code": %s, "notes"', '{"code": %s', "Here:\n[%s, "])
def test_a_string_that_is_closed_counts_although_its_json_was_cut_off(reply: str) -> None:
    assert extract_source(reply % json.dumps(PLAIN), "length").source == PLAIN
    assert extract_source(reply % json.dumps(PLAIN), "stop").source == PLAIN


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"code": PLAIN})[:-4],
        f"{FENCE}python\nCASES = [\n{{{json.dumps('code')}: {json.dumps(PLAIN)}}},\n]\n\ndef run(",
    ],
)
def test_neither_an_open_string_nor_one_inside_open_code_counts(text: str) -> None:
    assert extract_source(text, "length").flaw == "cut-off"


@pytest.mark.parametrize(
    "text",
    [
        f"{PLAIN}\n# Human: it's a comment\nUser: TypeAlias = dict\n",
        f"User: str\n\n\n{PLAIN}",
    ],
)
def test_a_name_that_looks_like_a_turn_is_code(text: str) -> None:
    assert extract_source(fenced(text), "stop").source == text


def test_a_list_of_users_between_blocks_is_no_turn() -> None:
    text = f"{fenced(DRAFT)}\nUser: must be a name\n\nBetter:\n\n{fenced(PLAIN)}"
    assert extract_source(text, "stop").source == PLAIN
