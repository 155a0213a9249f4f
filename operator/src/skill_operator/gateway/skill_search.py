"""A search for Skills by the words of a query, ranked with Okapi BM25, in memory.

The formula is that of Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with the
inverse document frequency of Lucene, which is never negative. Frequencies are those of the Skills that the caller may
call: nothing of other Skills has a part in order or time, and every replica gives the same order.

A Skill's words are kept for each version of it. A search looks up its terms in each Skill's table and walks no text, so
what one Skill costs depends on no words in it.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import re
import sys
import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, compress, islice, pairwise
from typing import Any, NamedTuple

from skill_operator.api.listed_tool import first_paragraph, short_description
from skill_operator.api.v1alpha1 import SkillSpec
from skill_operator.gateway.access.authorizer import Caller
from skill_operator.gateway.access.limits import FairShares
from skill_operator.gateway.pods.directory import Directory, SkillEntry
from skill_operator.gateway.problems import Problem
from skill_operator.naming import SkillKey
from skill_operator.untrusted.json_values import children

MAX_QUERY_BYTES = 1024
MAX_RESULTS = 20
DEFAULT_RESULTS = 5
MAX_RUNNING = 64  # searches at once, of which one computes
MAX_QUERY_WORDS = 32
MAX_DOCUMENT_WORDS = 256
MAX_TEXT_CHARACTERS = 2048  # of one text: a summary has 1,024
MAX_WORD_CHARACTERS = 64
MAX_NODES = 512  # of a schema that are looked at for names of properties
MAX_NAMES = 256  # of properties
BATCH = 64  # Skills that are looked at before others have their turn
SATURATION_RATIO = 1.2  # k1: how soon more of the same term counts no more
LENGTH_RATIO = 0.75  # b: how far a Skill's length weighs against it
PREFIX_CHARACTERS = 5  # the best length for stemming by truncation in most languages of Europe, English among them
NAME_WEIGHT, SUMMARY_WEIGHT, WEIGHT = 3, 2, 1
_STOP_WORDS = """
a an and any are as at be by can do does each for from has have how i if in into is it its me my no not of on one or out
so than that the their them then there they this to up was we what when which who will with you your
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
# Scripts that write no spaces between words, or few: what is kept of them are pairs of characters, as Lucene does it.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_MARKS = "".join(chr(code) for code in range(0x300, 0x3000) if unicodedata.category(chr(code)).startswith("M"))
_RUN = re.compile(rf"(?P<unspaced>[{_UNSPACED}]+)|(?:[^\W_{_UNSPACED}]|[{_MARKS}])+")
_VERB_ENDING = re.compile(r"(\w{2,}[^\W\d_])(ing|ed|e)")
_ACCENT = re.compile("[\u0300-\u036f]")


class SearchDocument(NamedTuple):
    """SearchDocument is what a search knows of a Skill: its terms with their frequencies, and its length in words.

    A field counts a term once, however often it says it, while the length counts each repeat: repeats only cost.
    """

    frequencies: dict[str, int]
    length: int


class _KnownDocument(NamedTuple):
    """_KnownDocument is the document of one version of a Skill."""

    uid: str
    generation: int
    document: SearchDocument


class SkillSearch:
    """SkillSearch finds Skills of a directory."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._documents: dict[SkillKey, _KnownDocument] = {}
        self._running = FairShares(MAX_RUNNING)
        self._turn = asyncio.Semaphore(1)
        directory.skill_listeners.append(self._on_skill_change)

    async def find(self, caller: Caller, keys: Iterable[SkillKey], query: str, limit: int) -> list[SkillKey]:
        """Return the best of these Skills, which are those that the caller may call, best first.

        A Skill that is named exactly is the first one. Ties are in the order of names. Raises Problem (422) for a
        query of more than MAX_QUERY_BYTES, and Problem (503) where the caller has its share of running searches.
        """
        if len(query.encode("utf-8", "surrogatepass")) > MAX_QUERY_BYTES:
            raise Problem("invalid-input", f"the query is longer than {MAX_QUERY_BYTES} bytes of UTF-8")
        with self._running.hold(caller.namespace, caller.name) as admitted:
            if not admitted:
                raise Problem("overloaded", "your searches hold their share of those that run; search again", 1)
            async with self._turn:  # together they would take the loop for as long as there are many
                scores = await rank(await self._read(keys), query_terms(query))
        name = query.strip()
        return heapq.nsmallest(limit, scores, key=lambda key: (not self._is_named(key, name), -scores[key], key))

    async def coverage(
        self, caller: Caller, keys: Iterable[SkillKey], text: str, limit: int
    ) -> list[tuple[SkillKey, float]]:
        """Return the Skills that have most of a text's words, and how much of their weight each has, from 0 to 1.

        Raises Problem (503) where the caller has its share of running searches.
        """
        with self._running.hold(caller.namespace, caller.name) as admitted:
            if not admitted:
                raise Problem("overloaded", "your searches hold their share of those that run; search again", 1)
            async with self._turn:
                shares = await coverage(await self._read(keys), query_terms(text))
        return heapq.nsmallest(limit, shares.items(), key=lambda item: (-item[1], item[0]))

    def _is_named(self, key: SkillKey, name: str) -> bool:
        """Return whether a name is the Skill's own, with or without its namespace, or that of its tool anywhere."""
        tools = self._directory.tools
        return name in {key.name, f"{key.namespace}/{key.name}", f"{key.namespace}__{key.name}"} or key in {
            tools.get(name),
            tools.get(f"{key.namespace}/{name}"),
        }

    async def _read(self, keys: Iterable[SkillKey]) -> dict[SkillKey, SearchDocument]:
        """Return the documents of the Skills that can be read. Each is made once for each version of its Skill."""
        documents = {}
        for key in keys:
            entry, known = self._directory.entries.get(key), self._documents.get(key)
            if entry is None or entry.skill is None:
                continue
            if known is None or (known.uid, known.generation) != (entry.meta.uid, entry.meta.generation):
                known = _KnownDocument(entry.meta.uid, entry.meta.generation, make_document(key, entry.skill.spec))
                self._documents[key] = known
                await asyncio.sleep(0)  # for the calls of others: there may be thousands of new ones
            documents[key] = known.document
        return documents

    def _on_skill_change(self, before: SkillEntry | None, after: SkillEntry | None) -> None:
        if before is not None and (after is None or _spec_of(before) is not _spec_of(after)):
            self._documents.pop(SkillKey(before.meta.namespace, before.meta.name), None)


def _spec_of(entry: SkillEntry) -> SkillSpec | None:
    return entry.skill.spec if entry.skill is not None else None


async def rank(documents: Mapping[SkillKey, SearchDocument], terms: Sequence[str]) -> dict[SkillKey, float]:
    """Return the score of each document that has one of the terms.

    The work is one look-up for each term and document, and then one product for each of those that were found.
    """
    matches: dict[SkillKey, list[int]] = {}
    holders = [0] * len(terms)  # documents that have the term
    for number, (key, document) in enumerate(documents.items(), 1):
        row = [document.frequencies.get(term, 0) for term in terms]
        if any(row):
            matches[key] = row
            holders = [count + (frequency > 0) for count, frequency in zip(holders, row, strict=True)]
        if number % BATCH == 0:
            await asyncio.sleep(0)
    total = len(documents)
    weights = [math.log1p((total - count + 0.5) / (count + 0.5)) for count in holders]
    mean_length = sum(document.length for document in documents.values()) / max(1, total)
    scores: dict[SkillKey, float] = {}
    for number, (key, row) in enumerate(matches.items(), 1):
        damping = SATURATION_RATIO * (1 - LENGTH_RATIO + LENGTH_RATIO * documents[key].length / mean_length)
        parts = (weight * count / (count + damping) for weight, count in zip(weights, row, strict=True))
        scores[key] = (SATURATION_RATIO + 1) * sum(parts)
        if number % BATCH == 0:
            await asyncio.sleep(0)
    return scores


async def coverage(documents: Mapping[SkillKey, SearchDocument], terms: Sequence[str]) -> dict[SkillKey, float]:
    """Return which share of the terms' weight each document has, of those that have any.

    Weights are those of `rank`, but that a term which no document has weighs no more than one that a single one has.
    """
    rows: dict[SkillKey, list[bool]] = {}
    holders = [0] * len(terms)
    for number, (key, document) in enumerate(documents.items(), 1):
        row = [term in document.frequencies for term in terms]
        if any(row):
            rows[key] = row
            holders = [count + has for count, has in zip(holders, row, strict=True)]
        if number % BATCH == 0:
            await asyncio.sleep(0)
    total = len(documents)
    weights = [math.log1p((total - count + 0.5) / (count + 0.5)) for count in (max(1, count) for count in holders)]
    whole = sum(weights)
    return {key: sum(compress(weights, row)) / whole for key, row in rows.items()}


def make_document(key: SkillKey, spec: SkillSpec) -> SearchDocument:
    """Return what a search knows of a Skill, from its first MAX_DOCUMENT_WORDS words."""
    summary, paragraph = short_description(spec), first_paragraph(spec)
    names = chain(property_names(spec.input), property_names(spec.output))
    fields: list[tuple[int, Iterable[str]]] = [
        (NAME_WEIGHT, [key.name]),
        (SUMMARY_WEIGHT, [summary]),
        (WEIGHT, [paragraph] if paragraph != summary else []),
        (WEIGHT, islice(names, MAX_NAMES)),
        (WEIGHT, [example.name for example in spec.examples]),
        (WEIGHT, [key.namespace]),
    ]
    frequencies: dict[str, int] = {}
    length, left = 0, MAX_DOCUMENT_WORDS
    for weight, texts in fields:
        found = list(islice((word for text in texts for word in words(text)), left))
        left -= len(found)
        length += weight * len(found)
        for term in {term for word in found for term in terms_of(word)}:
            shared = sys.intern(term)  # one text for all Skills
            frequencies[shared] = frequencies.get(shared, 0) + weight
    return SearchDocument(frequencies, max(1, length))


def query_terms(query: str) -> list[str]:
    """Return the different terms of the first MAX_QUERY_WORDS words of a query, in their order."""
    found = islice(words(query), MAX_QUERY_WORDS)
    return list(dict.fromkeys(term for word in found for term in terms_of(word)))


def property_names(schema: Any) -> Iterator[str]:
    """Yield the names of properties in a schema, those at its top first, in no more than MAX_NODES values."""
    waiting = deque([schema])
    for _ in range(MAX_NODES):
        if not waiting:
            return
        node = waiting.popleft()
        if isinstance(node, dict) and isinstance(node.get("properties"), dict):
            yield from node["properties"]
        waiting.extend(child for _, child in islice(children(node), MAX_NODES))


def words(text: str) -> Iterator[str]:
    """Yield the words of a text in lower case, without accents and stop words.

    A word like `unitPrice` or `iso8601` is itself and its parts. Of a script without spaces, words are pairs.
    """
    plain = unicodedata.normalize("NFKD", text[:MAX_TEXT_CHARACTERS])
    for match in _RUN.finditer(unicodedata.normalize("NFC", _ACCENT.sub("", plain))):
        run = match[0][:MAX_WORD_CHARACTERS]
        if match["unspaced"]:
            yield from (run[start : start + 2] for start in range(max(1, len(run) - 1)))
            continue
        for word in [run] if run.isalpha() and run.islower() else dict.fromkeys([run, *_parts(run)]):
            lower = word.casefold()
            if lower not in STOP_WORDS:
                yield lower


def _parts(word: str) -> list[str]:
    """Return the parts of a word in camel case, or of letters and digits."""
    starts = [
        place
        for place, (former, letter) in enumerate(pairwise(word), 1)
        if former.isdigit() != letter.isdigit()
        or (letter.isupper() and (not former.isupper() or word[place + 1 : place + 2].islower()))
    ]
    return [word[start:end] for start, end in pairwise([0, *starts, len(word)])]


def terms_of(word: str) -> tuple[str, str]:
    """Return the terms that stand for a word: its singular, and the beginning that other forms of it share."""
    singular = _singular(word)
    return singular, f"{_stem(singular)[:PREFIX_CHARACTERS]}~"


def _singular(word: str) -> str:
    """Return an English plural without its ending, after the S-stemmer of Harman, "How effective is suffixing?"."""
    if len(word) > 3 and word.endswith("ies"):
        return f"{word[:-3]}y"
    if len(word) > 4 and word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("us", "ss", "is")) else word


def _stem(word: str) -> str:
    """Return a verb without -ing, -ed or -e, and with one consonant for two: short ones need more than a beginning."""
    match = _VERB_ENDING.fullmatch(word)
    if match is None:
        return word
    stem = match[1]
    return stem[:-1] if match[2] != "e" and stem[-1] == stem[-2] and stem[-1] not in "aeioulsz" else stem
