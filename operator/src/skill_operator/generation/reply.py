"""Extraction of a source from a model's reply: the program that a person would take from it.

The text is parsed, never run. It is untrusted and may be anything, a parser bomb included.
"""

from __future__ import annotations

import ast
import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from skill_operator import runtime_contract
from skill_operator.generation.autofix import autofix, without_unused_imports
from skill_operator.generation.fingerprint import fingerprint, text_fingerprint
from skill_operator.generation.program import (
    defines,
    find_body,
    imports_function,
    is_outline,
    is_stub,
    join_programs,
    missing_names,
    select_helpers,
)
from skill_operator.generation.python_text import find_literals, find_syntax_error, parse
from skill_operator.generation.reply_blocks import (
    closed_texts,
    decode_json,
    decode_literal,
    find_json,
    find_texts,
    indented_part,
    looks_like_a_change,
    unescape_lines,
    unwrap,
)
from skill_operator.generation.reply_labels import is_superseded
from skill_operator.generation.reply_marks import Mark, find_marks

ENTRY_POINT: Final = "run"
MODULE: Final = "skill"
MAX_REPLY_CHARACTERS: Final = 1 << 20
MAX_SOURCE_BYTES: Final = runtime_contract.MAX_SOURCE_BYTES
MAX_PARSED_BYTES: Final = 8 * MAX_SOURCE_BYTES
MAX_WRAPPED_CHARACTERS: Final = 2 * MAX_SOURCE_BYTES  # of a block, with its quotation or indentation
MAX_SCANS: Final = 16  # of the whole text, in search of the ends of blocks
MAX_TRIMS: Final = 12  # of the prose around code that no mark separates from it
MAX_MIXED_TEXTS: Final = 16  # of prose and code that are looked through if nothing else is there
MAX_NESTED_TEXTS: Final = 3  # a JSON text in a JSON text, as the arguments of a tool are
CUT_OFF_REASONS: Final = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})

Flaw = Literal["", "empty", "no-code", "no-entry", "cut-off", "too-large"]

_WHOLE_FILE: Final = "answer with one fenced python block that holds the whole file"
_FLAWS: Final[dict[Flaw, str]] = {
    "empty": "the reply was empty",
    "no-code": f"the reply held no Python that parses; {_WHOLE_FILE}",
    "no-entry": f"no block of the reply defines {ENTRY_POINT}(input) at its top level",
    "cut-off": "the reply was cut off at its length limit; answer with the code alone, and keep it short",
    "too-large": f"the code is longer than {MAX_SOURCE_BYTES // 1024} KiB; make it shorter",
}
_SHOWS_A_CHANGE: Final = f"the reply shows a change of the file, and not the file; {_WHOLE_FILE}"
_SEVERAL_PROGRAMS: Final = f"the reply holds several programs in one JSON text; {_WHOLE_FILE}"
_CODE: Final = re.compile(r"\b(?:def|class|import)\b|=")
_MORE_THAN_WRITING: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assert)  # of a test
_CODE_LINE: Final = re.compile(
    r"(?:(?:async )?def \w|class \w|import \w|from [\w.]+ import |@\w|#|[rRbBuUfF]{0,2}[\"']|(?:if|for|try|with)\b.*:$"
    r"|[A-Za-z_]\w*(?:: [^=]{1,80})? = )"
)


class ExtractedSource(NamedTuple):
    """ExtractedSource is the whole of skill.py, or the reason why the reply has none.

    Without a source, `flaw` names the reason and `message` explains it.
    """

    source: str
    flaw: Flaw = ""
    message: str = ""


class _FoundProgram(NamedTuple):
    """_FoundProgram is a part of the reply that parses.

    It is `trimmed` if prose was cut off where no mark stands, `superseded` if the reply says that another replaces it,
    and `quoted` if it is a string of a program that does more than to write it.
    """

    source: str
    tree: ast.Module
    trimmed: bool = False
    superseded: bool = False
    quoted: bool = False


def extract_source(text: str, finish_reason: str) -> ExtractedSource:
    """Return the last program that defines the entry point, with the definitions that it needs from other blocks.

    The work is linear in the text, whatever it contains. What a model thinks before or after its answer counts only
    if there is nothing else, and never in a reply that was cut off.
    """
    if len(text) > MAX_REPLY_CHARACTERS:
        return _without_source("too-large")
    was_cut = finish_reason.lower() in CUT_OFF_REASONS
    if not text.strip():
        return _without_source("cut-off" if was_cut else "empty")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    reader = _ProgramReader(len(text))
    marks = find_marks(text)
    for counts_thoughts in (False,) if was_cut else (False, True):
        programs = _find_programs(text, marks, reader, was_cut=was_cut, counts_thoughts=counts_thoughts)
        if source := _assemble(programs):
            return ExtractedSource(source)
    if find_json(text) is None and (unescaped := unescape_lines(text)) is not None:
        return extract_source(unescaped, finish_reason)
    return _without_source("cut-off") if was_cut else reader.failure(text)


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


def _without_source(flaw: Flaw, message: str = "") -> ExtractedSource:
    return ExtractedSource("", flaw, message or _FLAWS[flaw])


def _assemble(programs: list[_FoundProgram]) -> str:
    """Return the file: the last program with the entry point, after those that define what it lacks; or nothing."""
    file = _select_file(programs)
    if file is None:
        return ""
    others = [program for program in programs if not defines(program.tree, ENTRY_POINT)]
    helpers = select_helpers(file.tree, [program.tree for program in others], ENTRY_POINT)
    source = join_programs([*(others[place].source for place in helpers), file.source]) if helpers else file.source
    is_small = len(source.encode("utf-8", "surrogatepass")) <= MAX_SOURCE_BYTES
    return without_unused_imports(source if is_small and parse(source) is not None else file.source)


def _select_file(programs: list[_FoundProgram]) -> _FoundProgram | None:
    """Return the last program that defines the entry point.

    One that had to be cut out of prose is taken only if there is no other, then one in a string of another program, one
    that the reply calls old or wrong, an outline or a stub, and last one that uses the file.
    """
    files = [program for program in programs if defines(program.tree, ENTRY_POINT)]
    return max(reversed(files), key=_rank, default=None) if len(files) > 1 else next(iter(files), None)


def _rank(program: _FoundProgram) -> tuple[bool, ...]:
    """Return how much of a file a program is, to compare it with others."""
    tree, source = program.tree, program.source
    is_part = is_stub(tree, ENTRY_POINT) or is_outline(tree, source, ENTRY_POINT)
    return not _uses_file(program), not is_part, not program.superseded, not program.quoted, not program.trimmed


def _is_use(programs: list[_FoundProgram]) -> bool:
    file = _select_file(programs)
    return file is not None and _uses_file(file)


def _uses_file(program: _FoundProgram) -> bool:
    return imports_function(program.tree, MODULE, ENTRY_POINT)


def _find_programs(
    text: str, marks: list[Mark], reader: _ProgramReader, *, was_cut: bool, counts_thoughts: bool, nested: int = 0
) -> list[_FoundProgram]:
    """Return the programs between marks, in their order, and what they have need of from the prose between them.

    A mark inside a string of a program belongs to the program. A thought that was never opened began with the text.
    """
    programs, unread = list[_FoundProgram](), list[str]()
    number, has_file = 0, False
    while number < len(marks):
        mark = marks[number]
        if mark.kind == "thought" and not counts_thoughts:
            closing = (n for n in range(number + 1, len(marks)) if marks[n].ends_thought(mark))
            number = next(closing, len(marks))
            if number == len(marks):
                break
            mark = marks[number]
        elif mark.kind == "answer" and not counts_thoughts:
            programs, unread, has_file = [], [], False
        elif mark.kind == "next-turn" and has_file:
            break
        following, found = number + 1, list[_FoundProgram]()
        for last in reader.find_ends(text, marks, number):
            closing_mark = marks[last] if last < len(marks) else None
            end = _end_of_block(text, mark, closing_mark)
            is_open = was_cut and closing_mark is None and end == len(text)
            if found := reader.read_open(text, mark, nested) if is_open else reader.read(text, mark, end, nested):
                break
        if not found and not was_cut and not _is_fenced(mark, closing_mark):
            found = reader.read_prose(text, mark, end)
            unread += [] if found else [text[mark.end : min(end, mark.end + MAX_WRAPPED_CHARACTERS)]]
        if found:
            is_old = mark.kind in ("fence", "tilde") and is_superseded(text, mark.start)
            programs += [program._replace(superseded=True) for program in found] if is_old else found
            has_file = has_file or any(defines(program.tree, ENTRY_POINT) for program in found)
            following = max(following, last)
            if has_file and _includes_turn(marks[number + 1 : last], found):
                break
        number = following
    return reader.add_trimmed(programs, unread)


def _includes_turn(marks: list[Mark], programs: list[_FoundProgram]) -> bool:
    """Return whether the next turn of a chat begins at one of the marks; inside a program it is a comment or a text."""
    turns = {mark.text for mark in marks if mark.kind == "next-turn"}
    return any(turn not in program.source for turn in turns for program in programs)


def _is_fenced(opening: Mark, closing: Mark | None) -> bool:
    """Return whether a pair of fences encloses a block: what is inside is code, or broken code, but no prose."""
    fences = {"fence", "tilde"}
    return opening.kind in fences and closing is not None and closing.kind in fences and not closing.labelled


def _first_mark(marks: list[Mark], position: int) -> int:
    """Return the number of the first mark from a position on, the one of the beginning aside."""
    return max(1, bisect_left(marks, position, key=lambda mark: mark.position))


def _end_of_block(text: str, opening: Mark, closing: Mark | None) -> int:
    """Return where the code after a mark ends; quotation marks and documents of a shell have an end of their own."""
    end = closing.start if closing is not None else len(text)
    if opening.kind == "quotes":
        found = text.rfind(opening.text, opening.end)
        return found if found >= 0 else end
    if opening.kind == "document":
        word = opening.text.strip("\"'")
        found = text.find(f"\n{word}\n", opening.end)
        return found + 1 if found >= 0 else end
    if closing is not None and opening.kind == closing.kind == "fence" and closing.start == closing.position:
        surplus = len(closing.text) - len(opening.text)  # of backticks that end a comment before the fence
        return end + surplus if 0 < surplus < len(opening.text) else end
    return end


class _ProgramReader:
    """_ProgramReader reads programs within bounds, and remembers what was wrong with the unusable ones."""

    def __init__(self, characters: int) -> None:
        self._has_oversized = self._has_parsed = self._has_several = False
        self._complaint = ""
        self._remaining_bytes = MAX_PARSED_BYTES
        self._remaining_scans = MAX_SCANS * characters
        self._results: dict[str, _FoundProgram | None] = {}

    def failure(self, text: str) -> ExtractedSource:
        """Return why none of the blocks so far holds the file."""
        if self._has_oversized:
            return _without_source("too-large")
        if self._has_several:
            return _without_source("no-code", _SEVERAL_PROGRAMS)
        if looks_like_a_change(text):
            return _without_source("no-code", _SHOWS_A_CHANGE)
        if self._has_parsed:
            return _without_source("no-entry")
        return _without_source("no-code", _FLAWS["no-code"] + self._complaint)

    def find_ends(self, text: str, marks: list[Mark], number: int) -> list[int]:
        """Return the numbers of the marks that may end the code after this one, the likeliest first.

        That is the first mark outside its strings and comments; `len(marks)` stands for the end of the text. A comment
        goes on to the end of its line, and so does a mark that is glued to it: it may be the end, too.
        """
        opening = marks[number]
        limit = min(len(text), opening.end + MAX_WRAPPED_CHARACTERS)
        position, candidate = opening.end, _first_mark(marks, opening.end)
        glued = 0
        for literal in find_literals(text, opening.end, limit) if self._remaining_scans > 0 else ():
            position = literal.end
            if candidate == len(marks) or marks[candidate].position < literal.start:
                break
            if marks[candidate].position < literal.end:
                if not literal.is_closed:
                    break
                candidate = _first_mark(marks, literal.end)
                inside = marks[candidate - 1]
                if literal.is_comment and not inside.labelled and not (glued and inside.kind == "next-turn"):
                    glued = candidate - 1
        self._remaining_scans -= position - opening.end
        if not glued:
            return [candidate]
        end = marks[candidate].start if candidate < len(marks) else len(text)
        return [glued] if not text[marks[glued].end : end].strip() else [candidate, glued]

    def read(self, text: str, opening: Mark, end: int, nested: int) -> list[_FoundProgram]:
        """Return the programs after a mark: one, or those in a JSON text, or none."""
        if end - opening.end > MAX_WRAPPED_CHARACTERS:
            self._has_oversized = self._has_oversized or _CODE.search(text, opening.end, end) is not None
            return []
        block = text[opening.end : end]
        readings = unwrap(block, opening.quotation) if _CODE.search(block) is not None else ()
        program = next((found for source in readings if (found := self._parse(source)) is not None), None)
        if program is not None and defines(program.tree, ENTRY_POINT):
            return [program]
        if programs := self._read_json(block, nested):
            return programs
        return [] if program is None else self._read_strings(program, nested) or [program]

    def read_open(self, text: str, opening: Mark, nested: int) -> list[_FoundProgram]:
        """Return the programs in the closed strings of a JSON text that was cut off."""
        block = text[opening.end : opening.end + MAX_WRAPPED_CHARACTERS]
        start = find_json(block)
        return self._read_json(block, nested) if start is not None and _CODE.search(block, 0, start) is None else []

    def read_prose(self, text: str, opening: Mark, end: int) -> list[_FoundProgram]:
        """Return the file after a mark that no mark separates from prose, or nothing."""
        if end - opening.end > MAX_WRAPPED_CHARACTERS or not _has_entry(text[opening.end : end]):
            return []
        trimmed = self._trim(next(unwrap(text[opening.end : end], opening.quotation)))
        return [trimmed] if trimmed is not None and defines(trimmed.tree, ENTRY_POINT) else []

    def add_trimmed(self, programs: list[_FoundProgram], texts: list[str]) -> list[_FoundProgram]:
        """Return the programs with those in texts that are mixed with prose, as far as they are needed."""
        file = _select_file(programs)
        if file is None:
            texts = [text for text in texts if _has_entry(text)]
        elif missing_names(file.tree):
            texts = [text for text in texts if _CODE.search(text) is not None]
        else:
            return programs
        trimmed = [found for text in texts[:MAX_MIXED_TEXTS] if (found := self._trim(text)) is not None]
        return [*reversed(trimmed), *programs]  # a later text may be a part of an earlier one, from a mark in a string

    def _parse(self, source: str) -> _FoundProgram | None:
        """Return the program that a text is, or None."""
        if source in self._results:
            return self._results[source]
        size = len(source.encode("utf-8", "surrogatepass"))
        if size > MAX_SOURCE_BYTES:
            self._has_oversized = True
            return None
        self._remaining_bytes -= size
        if self._remaining_bytes < 0:
            return None
        fixed = autofix(source)
        tree = parse(fixed)
        if tree is None:
            self._complaint = _describe_syntax_error(source) or self._complaint
        else:
            self._has_parsed = self._has_parsed or bool(tree.body)
        program = self._results[source] = _without_labels(fixed, tree) if tree is not None else None
        return program

    def _trim(self, text: str) -> _FoundProgram | None:
        """Return the program in a text that begins or ends with prose, or None.

        Prose is what cannot be Python and does not look like it. Each step cuts some of it, up to the parser's error.
        """
        lines = indented_part(text, f"def {ENTRY_POINT}(").split("\n")
        first, last = 0, len(lines)
        for _ in range(MAX_TRIMS):
            first = next((n for n in range(first, last) if _CODE_LINE.match(lines[n])), last)
            source = "\n".join(lines[first:last]).strip("\n") + "\n"
            self._remaining_bytes -= len(source)
            if first == last or self._remaining_bytes < 0 or len(source) > MAX_SOURCE_BYTES:
                return None
            error = find_syntax_error(source)
            if error is None:
                tree = parse(source)
                program = _without_labels(source, tree) if tree is not None else None
                return program._replace(trimmed=True) if program is not None else None
            line = first + max(1, error.lineno or 1) - 1
            if any(_CODE_LINE.match(rest) and not rest.startswith("#") for rest in lines[line:last]):
                first = max(first + 1, line)
            elif first < line < last:
                last = line
            else:
                return None
        return None

    def _read_json(self, block: str, nested: int) -> list[_FoundProgram]:
        """Return the program that one of the strings of a JSON text holds; none if they hold different ones."""
        if ENTRY_POINT not in block or nested >= MAX_NESTED_TEXTS:
            return []
        found = dict[str, list[_FoundProgram]]()
        for string in self._find_json_texts(block):
            marks = find_marks(string)
            programs = _find_programs(string, marks, self, was_cut=False, counts_thoughts=False, nested=nested + 1)
            if source := _assemble(programs):
                found[source] = programs
        if len(found) > 1:  # a test of the file is none
            found = {source: programs for source, programs in found.items() if not _is_use(programs)} or found
        self._has_several = self._has_several or len(found) > 1
        return next(iter(found.values())) if len(found) == 1 else []

    def _read_strings(self, program: _FoundProgram, nested: int) -> list[_FoundProgram]:
        """Return the file that a program writes, as one of its strings; none if it has different ones."""
        if nested >= MAX_NESTED_TEXTS:
            return []
        texts = (node.value for node in ast.walk(program.tree) if isinstance(node, ast.Constant))
        files = {text for text in texts if isinstance(text, str) and _has_entry(text)}
        found = self._parse(files.pop().strip("\n") + "\n") if len(files) == 1 else None
        if found is None or not defines(found.tree, ENTRY_POINT):
            return []
        return [found._replace(quoted=any(isinstance(node, _MORE_THAN_WRITING) for node in program.tree.body))]

    def _find_json_texts(self, block: str) -> Iterator[str]:
        """Return the strings in a JSON text that may hold a program, though the text be broken."""
        start = find_json(block)
        if start is None:
            return iter(())
        rest = block[start:]
        value = decode_json(rest)
        if value is None and _CODE.search(block, 0, start) is None:  # else it is a part of broken code
            self._remaining_bytes -= len(rest)
            value = decode_literal(rest) if self._remaining_bytes >= 0 else None
            if value is None:
                return closed_texts(rest, ENTRY_POINT)
        return find_texts(value, ENTRY_POINT)


def _without_labels(source: str, tree: ast.Module) -> _FoundProgram | None:
    """Return the program without labels at its ends: they are prose, though Python could read them.

    Return None if there is nothing but labels and texts.
    """
    body = find_body(tree, ENTRY_POINT)
    if all(map(_is_text, tree.body[body])):
        return None
    if len(tree.body[body]) == len(tree.body):
        return _FoundProgram(source, tree)
    lines = source.split("\n")
    end = tree.body[body.stop].lineno - 1 if body.stop < len(tree.body) else len(lines)
    start = (tree.body[body.start - 1].end_lineno or 0) if body.start else 0
    rest = "\n".join(lines[start:end]).strip("\n") + "\n"
    return _FoundProgram(rest, rest_tree) if (rest_tree := parse(rest)) is not None else None


def _has_entry(text: str) -> bool:
    """Return whether a line of the text looks as if it defined the entry point."""
    return re.search(rf"^[ \t>]*+def {ENTRY_POINT}\(", text, re.MULTILINE) is not None


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _describe_syntax_error(source: str) -> str:
    """Return the parser's error, if the block defines the entry point and so was meant to be the file."""
    if f"def {ENTRY_POINT}(" not in source:
        return ""
    error = find_syntax_error(source)
    if error is None:
        return ""
    line = (error.text or "").strip()[:200]
    return f"; line {error.lineno} of the last block is wrong: {error.msg}: {line}"
