"""Extraction of a source from a model's reply.

The text is parsed, never run. It is untrusted and may be anything, a parser bomb included.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from skill_operator import runtime_contract
from skill_operator.generation.autofix import autofix, parse, without_unused_imports
from skill_operator.generation.fingerprint import fingerprint, text_fingerprint

ENTRY_POINT: Final = "run"
MAX_REPLY_CHARACTERS: Final = 1 << 20
MAX_SOURCE_BYTES: Final = runtime_contract.MAX_SOURCE_BYTES
MAX_BLOCKS: Final = 32
MAX_CLOSING_FENCES: Final = 8
MAX_PARSED_BYTES: Final = 8 * MAX_SOURCE_BYTES
MAX_INDENTED_CHARACTERS: Final = 2 * MAX_SOURCE_BYTES  # of a block before its common indent is removed

Flaw = Literal["", "empty", "no-code", "no-entry", "cut-off", "too-large"]

FENCE: Final = "```"
MAX_FENCE_INFO_CHARACTERS: Final = 64  # of a fence that does not begin its line
MAX_STOP_TOKEN_CHARACTERS: Final = 64
_STOP_TOKEN: Final = re.compile(r"<(?:\|[\w.-]{1,32}\||/?s|eos|end_of_turn|end_code)>\s*+")
_THOUGHT_TAG: Final = re.compile(r"^[ \t]*+<(/?)(think|thinking|thought|reasoning)>", re.MULTILINE)
_FLAWS: Final[dict[Flaw, str]] = {
    "empty": "the reply was empty",
    "no-code": "the reply held no Python that parses; answer with one fenced python block that holds the whole file",
    "no-entry": f"no block of the reply defines {ENTRY_POINT}(input) at its top level",
    "cut-off": "the reply was cut off at its length limit; answer with the code alone, and keep it short",
    "too-large": f"the code is longer than {MAX_SOURCE_BYTES // 1024} KiB; make it shorter",
}


class ExtractedSource(NamedTuple):
    """ExtractedSource is the whole of skill.py, or the reason why the reply has none.

    Without a source, `flaw` names the reason and `message` explains it.
    """

    source: str
    flaw: Flaw = ""
    message: str = ""


class _CodeBlock(NamedTuple):
    """_CodeBlock is a fenced block, as the positions of its text.

    `ends`: where it ends, and the later fences that may close it instead, since code may contain fences.
    """

    start: int
    ends: tuple[int, ...]
    closed: bool


def extract_source(text: str, finish_reason: str) -> ExtractedSource:
    """Return the last block that parses and defines the entry point, or the whole text where it has no block.

    The work is linear in the text, whatever it contains. The rules for fences are those of CommonMark; where they lead
    to no code, fences count wherever a line starts or ends with one.
    """
    if len(text) > MAX_REPLY_CHARACTERS:
        return _without_source("too-large")
    if not text.strip():
        return _without_source("cut-off" if finish_reason == "length" else "empty")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    was_cut = finish_reason == "length"
    answer = _without_thoughts(text)
    reader = _BlockReader()
    if source := _find_source(answer, _blocks(answer), reader, was_cut=was_cut):
        return ExtractedSource(source)
    failure = _without_source("cut-off") if was_cut else reader.failure()
    for reading in (answer, text) if answer != text and not was_cut else (answer,):
        for find_blocks in (_blocks, _loose_blocks):
            if source := _find_source(reading, find_blocks(reading), reader, was_cut=was_cut):
                return ExtractedSource(source)
    return failure


def _find_source(text: str, blocks: list[_CodeBlock], reader: _BlockReader, *, was_cut: bool) -> str:
    """Return the file in the last block that holds one, or an empty string."""
    for block in reversed(blocks):
        if not block.closed and was_cut:
            continue
        for end in block.ends:
            source = reader.read(text, block.start, end)
            if source:
                return source
            if source is not None:
                break
    return ""


class _BlockReader:
    """_BlockReader reads blocks, and remembers what was wrong with the unusable ones."""

    def __init__(self) -> None:
        self.has_oversized = self.has_parsed = False
        self.complaint = ""
        self._remaining_bytes = MAX_PARSED_BYTES
        self._results: dict[str, str | None] = {}

    def failure(self) -> ExtractedSource:
        """Return why none of the blocks so far holds the file."""
        if self.has_oversized:
            return _without_source("too-large")
        return _without_source("no-entry") if self.has_parsed else _without_source("no-code", self.complaint)

    def read(self, text: str, start: int, end: int) -> str | None:
        """Return the file, an empty string for Python without the entry point, or None for what is no Python."""
        if end - start > MAX_INDENTED_CHARACTERS:
            self.has_oversized = True
            return None
        source = textwrap.dedent(text[start:end]).strip("\n") + "\n"
        if source in self._results:
            return self._results[source]
        size = len(source.encode("utf-8", "surrogatepass"))
        if size > MAX_SOURCE_BYTES:
            self.has_oversized = True
            return None
        self._remaining_bytes -= size
        if self._remaining_bytes < 0:
            return None
        result = self._results[source] = self._parse(source)
        return result

    def _parse(self, source: str) -> str | None:
        source = autofix(source)
        tree = parse(source)
        if tree is None:
            self.complaint = self.complaint or _describe_syntax_error(source)
            return None
        if any(isinstance(node, ast.FunctionDef) and node.name == ENTRY_POINT for node in tree.body):
            return without_unused_imports(source)
        self.has_parsed = self.has_parsed or bool(tree.body)
        return ""


def _describe_syntax_error(source: str) -> str:
    """Return the parser's error, if the block defines the entry point and so was meant to be the file."""
    if f"def {ENTRY_POINT}(" not in source:
        return ""
    try:
        ast.parse(source)
    except SyntaxError as error:
        line = (error.text or "").strip()[:200]
        return f"; line {error.lineno} of the last block is wrong: {error.msg}: {line}"
    except (ValueError, RecursionError, MemoryError):
        return ""
    return ""


def read_reply(text: str, finish_reason: str, accepted_source: str) -> tuple[str, Flaw, str, str]:
    """Return the extracted source with its flaw and message, and its fingerprint. A worker process does this.

    `accepted_source` is code that the ledger knows by the fingerprint of its text; the same program gets that one.
    """
    extracted = extract_source(text, finish_reason)
    if not extracted.source:
        return (*extracted, "")
    found = fingerprint(extracted.source)
    is_accepted = bool(accepted_source) and found == fingerprint(accepted_source)
    return (*extracted, text_fingerprint(accepted_source) if is_accepted else found)


def _without_source(flaw: Flaw, detail: str = "") -> ExtractedSource:
    return ExtractedSource("", flaw, _FLAWS[flaw] + detail)


class _Fence(NamedTuple):
    """_Fence is a line that opens or closes a block; `start` and `end` are the positions of the line."""

    start: int
    end: int
    character: str
    length: int
    info: str

    def closes(self, opening: _Fence) -> bool:
        return self.character == opening.character and self.length >= opening.length and not self.info


def _lines(text: str) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each line, without its newline."""
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield start, end
        start = end + 1
    yield start, len(text)


def _read_fence(text: str, start: int, end: int) -> _Fence | None:
    """Return the fence that is this line, if it is one."""
    line = text[start:end].strip(" \t")
    character = line[:1]
    if character not in {"`", "~"}:
        return None
    info = line.lstrip(character)
    length = len(line) - len(info)
    if length < len(FENCE) or "`" in info:
        return None
    return _Fence(start, end, character, length, info.strip())


def _blocks(text: str) -> list[_CodeBlock]:
    """Return the last fenced code blocks (CommonMark): each closed by a bare fence that is at least as long."""
    fences = [fence for start, end in _lines(text) if (fence := _read_fence(text, start, end)) is not None]
    pairs, opening = list[tuple[int, int | None]](), None
    for number, fence in enumerate(fences):
        if opening is None:
            opening = number
        elif fence.closes(fences[opening]):
            pairs.append((opening, number))
            opening = None
    if opening is not None:
        pairs.append((opening, None))
    return [_block(text, fences, *pair) for pair in pairs[-MAX_BLOCKS:]] or [_CodeBlock(0, (len(text),), closed=False)]


def _block(text: str, fences: list[_Fence], first: int, last: int | None) -> _CodeBlock:
    opening = fences[first]
    if last is None:
        return _CodeBlock(opening.end, (len(text),), closed=False)
    closing = [fence.start for fence in fences[last : last + 4 * MAX_CLOSING_FENCES] if fence.closes(opening)]
    return _CodeBlock(opening.end, tuple(closing[:MAX_CLOSING_FENCES]), closed=True)


def _loose_blocks(text: str) -> list[_CodeBlock]:
    """Return the last parts of the text between two marks, or between a mark and an end of the text.

    A mark is a fence of backticks at the start or at the end of a line, with or without other words, or an HTML tag
    `code`. A fence may also close a line of code, or lack the one that opens.
    """
    if f"def {ENTRY_POINT}(" not in text:
        return []
    marks = [(0, 0), *(mark for start, end in _lines(text) for mark in _loose_marks(text, start, end))][-MAX_BLOCKS:]
    ends = [*(end for end, _ in marks[1:]), len(text)]
    return [
        _CodeBlock(start, tuple(ends[number : number + MAX_CLOSING_FENCES]), closed=number + 1 < len(marks))
        for number, (_, start) in enumerate(marks)
    ]


def _loose_marks(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Return, for each mark of a line, where code before it ends and where code after it starts."""
    line = text[start:end]
    if line.lstrip(" \t").startswith(FENCE):
        return [(start, end)]
    position = line.rfind(FENCE)
    if position >= 0 and len(line) - position <= MAX_FENCE_INFO_CHARACTERS:
        return [(start + len(line[:position].rstrip("`")), end)]
    tags = ((line.find(tag), len(tag)) for tag in ("<code>", "</code>"))
    return [(start + at, start + at + length) for at, length in tags if at >= 0]


def _without_thoughts(text: str) -> str:
    """Return the text without what a reasoning model thinks before or after its answer, and without stop tokens.

    Only a tag that begins a line counts: elsewhere it may be a string of the code. A thought that is never opened
    begins with the text, and one that is never closed goes on to its end.
    """
    end = len(text.rstrip())
    while (start := text.rfind("<", max(0, end - MAX_STOP_TOKEN_CHARACTERS), end)) >= 0:
        if _STOP_TOKEN.fullmatch(text, start, end) is None:
            break
        end = start
    kept, position = list[str](), 0
    while (tag := _THOUGHT_TAG.search(text, position, end)) is not None:
        if tag[1]:
            kept, position = [], tag.end()
            continue
        kept.append(text[position : tag.start()])
        closing_tag = f"</{tag[2]}>"
        closing = text.find(closing_tag, tag.end(), end)
        position = closing + len(closing_tag) if closing >= 0 else end
    return "".join((*kept, text[position:end]))
