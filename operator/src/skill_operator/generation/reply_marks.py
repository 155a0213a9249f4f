"""Marks divide a model's reply into prose, thoughts and code: fences, tags, and the tokens of chat templates.

A mark counts wherever it stands. Whether it belongs to a program, as a part of a string, is decided by whoever reads
the program around it.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Final, Literal, NamedTuple

MAX_MARKS: Final = 1000  # the last ones of a reply
MAX_LABEL_CHARACTERS: Final = 200  # that are looked at to tell whether more follows on a line
MAX_QUOTATION: Final = 8
MarkKind = Literal["begin", "fence", "tilde", "tag", "token", "next-turn", "thought", "answer", "quotes", "document"]

_THOUGHTS: Final = (
    "think|thinking|thoughts?|reasoning|reason|reflection|scratchpad|draft|analysis|seed:think|antthinking"
)
_WIDE_BAR: Final = "\uff5c"  # of the tokens of some templates
# No branch begins with an unbounded repetition but at the start of a line, and none gives back: the work is linear.
_MARK: Final = re.compile(
    rf"""
    (?P<fence>`{{3,}}+)
    |(?:^[ \t>]*+(?:(?:[-*+]|\d{{1,9}}[.)])[ \t>]++)*+|(?<=[>\]]))(?P<tilde>~{{3,}}+)
    |^(?P<quotes>'''|\"\"\")(?:python3?|py)[ \t]*+$
    |^[ \t$>]*+(?:[^\n&;=]{{1,60}}+(?:&&|;)[ \t]*+){{0,3}}(?:cat|tee|apply_patch|python3?[ ]-)[ \t]
        [^\n]{{0,80}}?<<-?[ \t]*+(?P<document>['"]?\w{{1,40}}['"]?)[^\n]{{0,80}}$
    |(?:^[ \t>]*+|(?<=[>\]]))(?P<thought>
        <(?:{_THOUGHTS})(?:[ ][^<>\n]{{0,100}})?>
        |\[THINK\] | ◁think▷ | <\|(?:begin_of_thought|START_THINKING|thinking)\|>
        |<\|channel\|>[ ]?(?!final\b)\w{{1,40}}[^<>\n]{{0,100}}<\|message\|>
    )
    |(?<![`'"])(?P<answer>
        </(?:{_THOUGHTS})>
        |\[/THINK\] | ◁/think▷ | <\|(?:end_of_thought|END_THINKING|/thinking)\|>
        |<\|channel\|>[ ]?final[^<>\n]{{0,100}}<\|message\|>
        |(?<=\w)assistantfinal
    )
    |(?P<turn><\|(?:im_start|start_header_id)\|>[ ]?(?:user|human) | <start_of_turn>user | <\|user\|> | \[INST\]
        |^\#{{2,3}}[ ](?:Instruction|Human|User):
        |^(?:User|Human):(?=(?:[^=\n]{{0,200}}+\n){{1,4}}?(?:Assistant|AI|Model):))
    |(?P<token><\|(?:im_start|start_header_id)\|>[ ]?(?:assistant|system)? | <start_of_turn>(?:model)?
        |<[|{_WIDE_BAR}][^\s<>|{_WIDE_BAR}]{{1,40}}+[|{_WIDE_BAR}]>
        |<(?:s|eos|bos|pad|end_of_turn|end_code|eot)> | \[/INST\])
    |(?P<code><code(?:[ ][^<>\n]{{0,100}})?> | <!\[CDATA\[ | \]\]> | </[A-Za-z][\w:.=-]{{0,40}}>)
    |(?:^[ \t>]*+|(?<=[>\]]))(?P<tag><[A-Za-z][\w:.=-]{{0,40}}+(?:[ ][^<>\n]{{0,200}})?>
        | \[/?(?:PYTHON|CODE)\] | \\(?:begin|end)\{{[a-z]{{1,20}}\}})
    """,
    re.MULTILINE | re.VERBOSE | re.IGNORECASE,
)
_INVISIBLE: Final = "\ufeff\u200b-\u200f\u2060\u00a0"
_CONTAINER: Final = re.compile(rf"(?:[ \t>{_INVISIBLE}]|\x1b\[[\d;]*m|(?:[-*+]|\d{{1,9}}[.)])[ \t])*+")
_QUOTATION: Final = re.compile(r"(?:(?:[-*+]|\d{1,9}[.)])?[ \t]*+>)++")
_LABEL_BEFORE_CODE: Final = re.compile(
    r"[^\S\n]*+(?:python3?|py)?[^\S\n]*+(?=(?:from[ ][\w.]+[ ]import|import|def|class|async[ ]def)[ ]\w|@\w)"
)
_KINDS: Final[dict[str, MarkKind]] = {
    "fence": "fence",
    "tilde": "tilde",
    "quotes": "quotes",
    "document": "document",
    "thought": "thought",
    "answer": "answer",
    "turn": "next-turn",
    "token": "token",
    "code": "tag",
    "tag": "tag",
}
_LINE_GROUPS: Final = frozenset({"fence", "tilde", "quotes", "document"})  # what follows on the line is no code
_CHANNEL: Final = "<|channel|>"


class Mark(NamedTuple):
    """A mark is a place where code may begin or end.

    `position` is its first character, `start` is where code before it ends, and `end` is where code after it begins.
    `quotation` is how many signs of quotation its line begins with. A mark is `labelled` if more follows on its line.
    """

    kind: MarkKind
    position: int
    start: int
    end: int
    text: str = ""
    quotation: int = 0
    labelled: bool = False

    def ends_thought(self, opening: Mark) -> bool:
        """Return whether the thought that `opening` begins ends here."""
        is_in_channel = opening.text.lower().startswith(_CHANNEL)
        return self.kind == "answer" or (is_in_channel and self.text in {"<|end|>", "<|return|>"})


def find_marks(text: str) -> list[Mark]:
    """Return the last marks of a text, and one for its beginning."""
    found = deque(_MARK.finditer(text), MAX_MARKS)
    marks = [Mark("begin", 0, 0, 0)]
    for match in found:
        marks.append(_read_mark(text, match, marks[-1].end))
    return marks


def _read_mark(text: str, match: re.Match[str], line_floor: int) -> Mark:
    """Return the mark of a match. What stands in its line before `line_floor` belongs to the mark before."""
    group = str(match.lastgroup)
    position, after = match.span(group)
    line_start = max(line_floor if line_floor <= position else 0, text.rfind("\n", 0, position) + 1)
    line_end = text.find("\n", after)
    line_end = len(text) if line_end < 0 else line_end
    container = _CONTAINER.match(text, line_start, position)
    stands_first = container is not None and container.end() == position
    quotation = _QUOTATION.match(text, line_start, position)
    return Mark(
        _KINDS[group],
        match.start() if group == "document" else position,
        line_start if stands_first or group == "document" else position,
        _code_start(text, group, after, line_end),
        match[group],
        min(MAX_QUOTATION, quotation[0].count(">")) if quotation is not None else 0,
        bool(text[after : min(line_end, after + MAX_LABEL_CHARACTERS)].strip()),
    )


def _code_start(text: str, group: str, after: int, line_end: int) -> int:
    """Return where code after a mark begins: of a fence on the next line, unless code follows its label."""
    if group not in _LINE_GROUPS:
        return after
    label = _LABEL_BEFORE_CODE.match(text, after, line_end)
    return label.end() if label is not None and group == "fence" else line_end
