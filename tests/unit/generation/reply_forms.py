"""The forms in which models wrap a program, and programs whose strings look like these forms.

Every form is a function from a program to the text of a reply. INNER forms hold the program, OUTER ones hold an INNER
one, so each pair is a reply.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Final

Form = Callable[[str], str]
FENCE: Final = "```"
SINGLE, DOUBLE = 3 * "'", 3 * '"'
DRAFT: Final = "def run(input):\n    return 1\n"
PIECES: Final = [
    "```", "```python", "\n```\n", "\n```python\nx = 1\n```\n", "~~~", "\n~~~\n", "<think>", "</think>", "\n<think>\n",
    "\n</think>\n", "[THINK]", "\n[/THINK]\n", "<code>", "</code>", "</s>", "<|im_end|>", "<|channel|>final<|message|>",
    "<answer>\n", "</answer>\n", "]]>", "\nEOF\n", "def run(input):\n    return 0\n", "\n> quoted\n", "\n- item\n",
    "1 | a\n2 | b\n", "+added\n-removed\n", "@@ -1 +1 @@\n", '{"code": "x"}', "  \n", "\n\n", "     \n", "\t", "it's", "#",
    "\\n", "x", "\ufeff", "\u200b", "\u00a0", "\u2028", "\x0c", "é💥",
]  # fmt: skip


def make_program(seed: int) -> str:
    """Return a program that parses, with strings, docstrings and comments full of what divides replies."""
    rng = random.Random(seed)
    parts = ["# A comment with ``` and <think>, it's one\n"] if rng.random() < 0.4 else []
    parts += ["import json\n\n\n"] if rng.random() < 0.5 else []
    parts += [f"TEXT_{number} = {_string(rng)}\n" for number in range(rng.randint(0, 3))]
    if rng.random() < 0.5:
        doc = f"    {DOUBLE}Help, as in\n\n    ```\n    helper(1)\n    ```\n    {DOUBLE}\n"
        parts.append(f"\n\ndef helper(value):\n{doc}    return [value, {_string(rng)}]\n")
    parts.append("\n\ndef run(input):\n" + (f"    {DOUBLE}Doc.{DOUBLE}\n" if rng.random() < 0.5 else ""))
    parts.append(f"    text = {_string(rng)}\n    return {{'n': input['n'], 't': text}}  # json {rng.choice('xyz')}\n")
    program = "".join(parts).strip("\n") + "\n"
    compile(program, "program", "exec")
    return program


def _string(rng: random.Random) -> str:
    text = "".join(rng.choice(PIECES) for _ in range(rng.randint(0, 6)))
    quotes = rng.choice([SINGLE, DOUBLE])
    if rng.random() < 0.25 or quotes in text or text.endswith(quotes[0]):
        return repr(text)
    return quotes + text.replace("\\", "\\\\") + quotes


def fenced(code: str, fence: str = FENCE, info: str = "python") -> str:
    return f"{fence}{info}\n{code}{fence}\n"


def prefixed(text: str, prefix: str, *, blank_lines: bool = True) -> str:
    """Return the text with a prefix to each line; without `blank_lines` an empty line gets none."""
    lines = text.removesuffix("\n").split("\n")
    return "".join((prefix if line or blank_lines else "") + line + "\n" for line in lines)


def _numbered(form: str) -> Form:
    """Return the form that puts `form`, with the number of the line in it, before each line."""
    return lambda code: fenced(
        "".join(form.format(number) + line + "\n" for number, line in enumerate(code[:-1].split("\n"), 1))
    )


def _item(code: str, mark: str) -> str:
    width = " " * len(mark)
    return mark + prefixed(fenced(code), width, blank_lines=False)[len(mark) :]


def escaped(text: str) -> str:
    """Return a text of one line, as a string of Python has it."""
    for character, escape in (("\\", "\\\\"), ("\n", "\\n"), ("\t", "\\t"), ('"', '\\"')):
        text = text.replace(character, escape)
    return text


_PATCH: Final = "*** Begin Patch\n*** Add File: skill.py\n"
INNER: Final[dict[str, Form]] = {
    "fence": fenced,
    "fence without a label": lambda code: fenced(code, info=""),
    "fence with attributes": lambda code: fenced(code, info="python title=skill.py"),
    "tildes": lambda code: fenced(code, "~~~"),
    "long fence": lambda code: fenced(code, "`````"),
    "fence behind words": lambda code: "The cause is x, it's off by one. " + fenced(code),
    "fence that ends a line of code": lambda code: f"{FENCE}python\n{code[:-1]}{FENCE}\n",
    "words behind the fence": lambda code: fenced(code).rstrip() + " Done.\n",
    "six backticks, then three": lambda code: f"``````python\n{code}{FENCE}\n",
    "end_code": lambda code: fenced(code).rstrip() + "<end_code>\n",
    "no closing fence": lambda code: f"{FENCE}python\n{code}",
    "code": lambda code: f"<code>\n{code}</code>\n",
    "code on one line": lambda code: f"<code>{code[:-1]}</code>\n",
    "pre": lambda code: f'<pre><code class="language-python">\n{code}</code></pre>\n',
    "answer": lambda code: f"<answer>\n{code}</answer>\n",
    "parameter of a tool": lambda code: f"<tool_call>\n<parameter=content>\n{code}</parameter>\n</tool_call>\n",
    "json": lambda code: json.dumps({"path": "skill.py", "code": code}) + "\n",
    "json in a fence": lambda code: fenced(json.dumps({"code": code}, indent=1) + "\n", info="json"),
    "json in json": lambda code: json.dumps({"name": "w", "arguments": json.dumps({"content": code})}) + "\n",
    "fence in json": lambda code: json.dumps({"answer": fenced(code)}, ensure_ascii=False) + "\n",
    "list": lambda code: "1. The file:\n\n" + prefixed(fenced(code), "   ", blank_lines=False),
    "list with blanks": lambda code: "1. The file:\n\n" + prefixed(fenced(code), "   "),
    "item": lambda code: _item(code, "- "),
    "numbered item": lambda code: _item(code, "10. "),
    "quotation": lambda code: prefixed(fenced(code), "> "),
    "quotation in a quotation": lambda code: prefixed(fenced(code), "> > "),
    "quotation without blanks": lambda code: prefixed(fenced(code), ">"),
    "item in a quotation": lambda code: prefixed(_item(code, "- "), "> "),
    "numbers": _numbered("{:>4} | "),
    "numbers of an excerpt": _numbered("> {:>3} | "),
    "numbers and tabs": _numbered("{:>6}\t"),
    "numbers and colons": _numbered("{}: "),
    "numbers and dots": _numbered("{}. "),
    "numbers and spaces": _numbered("{:<4}"),
    "numbers of lines": _numbered("L{}: "),
    "numbers in brackets": _numbered("[{}] "),
    "diff of a new file": lambda code: fenced(
        "--- /dev/null\n+++ b/skill.py\n@@ -0,0 +1,9 @@\n" + prefixed(code, "+"), info="diff"
    ),
    "document of a shell": lambda code: fenced(f"cat > skill.py <<'EOT'\n{code}EOT\n", info="bash"),
    "document of tee": lambda code: fenced(f"mkdir -p a && tee a/skill.py <<'EOT'\n{code}EOT\nls\n", info="bash"),
    "patch": lambda code: fenced(_PATCH + prefixed(code, "+") + "*** End Patch\n", info=""),
    "search and replace": lambda code: fenced(f"{7 * '<'} SEARCH\n{7 * '='}\n{code}{7 * '>'} REPLACE\n"),
    "path in the fence": lambda code: fenced(f"app/skill.py\n{code}"),
    "words in the fence": lambda code: fenced(f"File: `skill.py`\n{code}"),
    "text in yaml": lambda code: fenced(
        "path: skill.py\ncontent: |\n" + prefixed(code, "  ", blank_lines=False), info="yaml"
    ),
    "json text": lambda code: fenced(json.dumps(code) + "\n", info="json"),
    "json with a comma too many": lambda code: fenced(json.dumps({"code": code})[:-1] + ",}\n", info="json"),
    "json that is cut off": lambda code: fenced(json.dumps({"code": code, "notes": "It"})[:-2] + "\n", info="json"),
    "lines in json": lambda code: json.dumps({"lines": [*code[:-1].split("\n")]}) + "\n",
    "notebook": lambda code: json.dumps({"cells": [{"source": code.splitlines(keepends=True)}]}) + "\n",
    "dict of Python": lambda code: fenced(repr({"path": "skill.py", "code": code}) + "\n"),
    "file that Python writes": lambda code: fenced(
        f"from pathlib import Path\n\nPath('skill.py').write_text({code!r})\n"
    ),
    "file that Python opens": lambda code: fenced(f"with open('skill.py', 'w') as file:\n    file.write({code!r})\n"),
    "text in toml": lambda code: fenced(f"path = 'skill.py'\ncode = \"{escaped(code)}\"\n", info="toml"),
    "brackets": lambda code: f"[PYTHON]\n{code}[/PYTHON]\n",
    "byte order mark": lambda code: "\ufeff" + fenced("\ufeff" + code),
    "nothing": lambda code: code,
}


def _around(before: str, after: str = "") -> Form:
    return lambda text: before + text + after


_CHANNELS: Final = ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>")
OUTER: Final[dict[str, Form]] = {
    "nothing": _around(""),
    "prose": _around("Notes:\n- it's the `max`.\n- a <b> b.\n\n", "\nThis works because it's simple.\n"),
    "thought": _around(f"<think>\nWell, maybe\n{fenced(DRAFT)}no, it's\n</think>\n\n"),
    "thought with an open block": _around(f"<think>\nmaybe\n{FENCE}python\n{DRAFT}no wait\n</think>\nHere:\n\n"),
    "thought without its tag": _around(f"Well\n{fenced(DRAFT)}no.\n</think>\n\n"),
    "thought that ends a line": _around(f"Well\n{fenced(DRAFT)}no, like this.</think>\n"),
    "thinking": _around(f"<thinking>\n{fenced(DRAFT)}</thinking>\n"),
    "reasoning": _around(f"<reasoning>\n{fenced(DRAFT)}</reasoning>\n"),
    "brackets": _around(f"[THINK]hm\n{fenced(DRAFT)}[/THINK]"),
    "channels": _around(f"{_CHANNELS[0]}hm\n{fenced(DRAFT)}{_CHANNELS[1]}", "<|return|>"),
    "thought behind": _around("", f"\n<think>\n{fenced(DRAFT)}</think>\n"),
    "im_end": _around("", "<|im_end|>"),
    "s": _around("", "</s>"),
    "eot_id": _around("", "<|eot_id|><|end_of_text|>\n"),
    "end_of_turn": _around("", "<end_of_turn>\n"),
    "endoftext": _around("", "<|endoftext|>"),
    "end": _around("", "<|end|>"),
    "stub behind": _around("", "\nSignature:\n\n" + fenced('def run(input):\n    """As above."""\n    ...\n')),
    "use behind": _around("", "\nUse it:\n\n" + fenced("from skill import run\n\nprint(run({'n': 1}))\n")),
    "outline behind": _around("", "\nIn short:\n\n" + fenced("def run(input):\n    n = 1\n    ...\n    return n\n")),
    "excerpt behind": _around("", "\nIn short:\n\n" + fenced("def run(input):\n    # ... as before\n    return 1\n")),
    "test behind": _around("", "\nTest:\n\n" + fenced("import skill\n\ndef run(n):\n    return skill.run({'n': n})\n")),
    "next turn": _around("", f"\nUser: Again!\nAssistant: Sure.\n{fenced(DRAFT)}"),
    "next instruction": _around("", f"\n### Instruction:\nAgain!\n\n### Response:\n{fenced(DRAFT)}"),
    "output behind": _around("", "\nIt gives:\n\n" + fenced('{"n": 1}\n', info="json")),
    "commands before": _around("First:\n\n" + fenced("pip install it's\n", info="bash") + "Then\n\n"),
    "old version behind": _around("", "\nThe old version, for reference, added 9:\n\n" + fenced(DRAFT)),
    "earlier attempt behind": _around(
        "", f"\n<details>\n<summary>Earlier attempt</summary>\n\n{fenced(DRAFT)}\n</details>\n"
    ),
    "wrong way behind": _around("", "\nDo not write it like this (it is always 1):\n" + fenced(DRAFT)),
    "draft behind": _around("", f"\n<draft>\n{fenced(DRAFT)}</draft>\n"),
    "crlf": lambda text: text.replace("\n", "\r\n"),
}
OUTER_WITH_MARKS: Final[dict[str, Form]] = {
    "draft before": _around("Draft:\n\n" + fenced(DRAFT) + "\nBetter:\n\n"),
    "open block before": _around(f"Idea:\n{FENCE}python\ndef other(x):\n    return x\n\nThe file:\n"),
    "open commands before": _around(f"Run:\n{FENCE}bash\npip install x\n\nThe file:\n"),
}
"""Replies in which code without a mark of its own has more than one reading."""
