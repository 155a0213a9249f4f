"""The search for Skills: which words meet, in which order Skills come, and what a search costs whatever they say."""

from __future__ import annotations

import asyncio
import random
import string
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.search import found_within, office_directory
from skill_operator import naming
from skill_operator.gateway import skill_search
from skill_operator.gateway.access.authorizer import Caller
from skill_operator.gateway.pods.directory import Directory
from skill_operator.gateway.problems import Problem
from skill_operator.gateway.skill_search import SearchDocument, SkillSearch, query_terms, rank, terms_of, words
from skill_operator.naming import SkillKey
from tests.unit.gateway.objects import skill

ALICE = Caller("alice")
pytestmark = pytest.mark.timeout(60)


def directory_of(*bodies: dict[str, Any]) -> Directory:
    directory = Directory()
    for body in bodies:
        directory.on_skill("ADDED", body)
    return directory


def said(name: str, summary: str, namespace: str = "finance", **spec: Any) -> dict[str, Any]:
    return skill(name, namespace, summary=summary, **spec)


async def find(directory: Directory, query: str, keys: Iterable[SkillKey] | None = None, limit: int = 20) -> list[str]:
    found = await SkillSearch(directory).find(ALICE, directory.entries if keys is None else keys, query, limit)
    return [name for _, name in found]


class TestWords:
    @pytest.mark.parametrize(
        ("text", "wanted"),
        [
            ("unitPrice", ["unitprice", "unit", "price"]),
            ("vat_number invoice-total", ["vat", "number", "invoice", "total"]),
            ("HTTPServer", ["httpserver", "http", "server"]),
            ("iso8601", ["iso8601", "iso", "8601"]),
            ("Straße CAFÉ ﬁle", ["strasse", "cafe", "file"]),
            ("Счёт-фактура", ["счет", "фактура"]),
            ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
            ("発票合計PDF", ["発票", "票合", "合計", "pdf"]),
            ("한국어", ["한국", "국어"]),
            ("the sum of it", ["sum"]),
            ("?! __ \ud800", []),
        ],
    )
    def test_a_text_is_its_words_and_their_parts(self, text: str, wanted: list[str]) -> None:
        assert list(words(text)) == wanted

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("invoice", "invoices"),
            ("category", "categories"),
            ("box", "boxes"),
            ("address", "addresses"),
            ("batch", "batches"),
            ("tax", "taxes"),
            ("convert", "conversion"),
            ("calculate", "calculation"),
            ("Rechnung", "Rechnungen"),
            ("calcul", "calculer"),
        ],
    )
    def test_forms_of_a_word_share_a_term(self, one: str, other: str) -> None:
        assert set(query_terms(one)) & set(query_terms(other))

    @pytest.mark.parametrize(("one", "other"), [("bus", "bu"), ("status", "statu"), ("press", "pres"), ("tax", "taxi")])
    def test_other_words_do_not(self, one: str, other: str) -> None:
        assert terms_of(one)[0] != terms_of(other)[0]

    @given(st.text())
    def test_any_text_has_words_of_bounded_length(self, text: str) -> None:
        for word in words(text):
            assert word
            assert len(word) <= 3 * skill_search.MAX_WORD_CHARACTERS  # case folding may write one letter as three
            assert word not in skill_search.STOP_WORDS

    @given(st.text(st.characters(codec="utf-8"), min_size=1))
    def test_a_text_finds_itself(self, text: str) -> None:
        assert query_terms(text) == query_terms(text.strip())
        assert all(query_terms(word) for word in words(text))


class TestOrder:
    async def test_every_field_is_searched(self) -> None:
        body = said(
            "lime",
            "Weighs citrus.",
            "orchard",
            description="Peel it first.\n\nNever read.",
            input={
                "type": "object",
                "properties": {"a": {"type": "array", "items": {"properties": {"unitPrice": {}}}}},
            },
            output={"type": "object", "properties": {"grams": {"type": "integer"}}},
            examples=[{"name": "overripe", "input": {"a": []}, "output": {"grams": 1}}],
        )
        directory = directory_of(body, said("other", "Something else.", "sea"))
        for query in ("lime", "citrus weighing", "peeling", "unit price", "grams", "overripe", "orchard"):
            assert (await find(directory, query))[0] == "lime", query
        assert await find(directory, "never") == []

    async def test_a_rare_word_counts_more_and_a_name_more_than_a_mention(self) -> None:
        directory = directory_of(
            said("report", "Counts invoices."),
            said("invoice-sum", "Adds up amounts."),
            *(said(f"list-{number}", "Lists amounts.") for number in range(9)),
        )
        assert (await find(directory, "amounts of an invoice"))[0] == "invoice-sum"
        assert (await find(directory, "invoice"))[:2] == ["invoice-sum", "report"]

    async def test_ties_are_in_the_order_of_names_however_skills_came(self) -> None:
        bodies = [said(f"s{number}", "Sums.", namespace) for number in range(9) for namespace in ("a", "b")]
        orders = []
        for seed in range(5):
            random.Random(seed).shuffle(bodies)
            directory = directory_of(*bodies)
            orders.append(await SkillSearch(directory).find(ALICE, directory.entries, "sums", 20))
        assert orders == [sorted(SkillKey(space, f"s{number}") for space in "ab" for number in range(9))] * 5

    @pytest.mark.parametrize("name", ["b.c", "invoice", "x" * 60])
    async def test_who_is_named_exactly_is_first(self, name: str) -> None:
        rivals = [said(f"{name.replace('.', '-')}-{number}", f"{name} finance {name}") for number in range(9)]
        directory = directory_of(said(name, "Sums."), *rivals)
        tool, bare = naming.tool("finance", name), naming.bare_tool("finance", name)
        for query in (name, f"finance/{name}", f"finance__{name}", tool, bare, f" {bare} "):
            assert (await find(directory, query, limit=1)) == [name], query

    async def test_what_is_no_word_finds_nothing(self) -> None:
        assert await find(directory_of(said("invoice", "Sums.")), "?! the ...") == []
        assert await find(Directory(), "invoice") == []

    async def test_a_deleted_skill_is_forgotten_and_a_changed_one_read_anew(self) -> None:
        directory = directory_of(said("invoice", "Sums apples."))
        search = SkillSearch(directory)
        assert await search.find(ALICE, directory.entries, "apples", 5)
        directory.on_skill("MODIFIED", said("invoice", "Sums pears.", generation=2))
        assert not await search.find(ALICE, directory.entries, "apples", 5)
        assert await search.find(ALICE, directory.entries, "pear", 5)
        keys = list(directory.entries)
        directory.on_skill("DELETED", said("invoice", "Sums pears."))
        assert await search.find(ALICE, keys, "pear", 5) == []
        assert search._documents == {}


class TestWhatOthersSay:
    async def test_the_order_is_that_of_the_visible_skills_alone(self) -> None:
        """Words that are rare among one's own Skills stay so, however many Skills of others have them."""
        own = [said("alpha", "Sums apples."), *(said(f"beta-{n}", "Sums pears and counts apples.") for n in range(5))]
        others = [said(f"x{n}", "apples apples pears sums", "legal") for n in range(300)]
        alone, crowded = directory_of(*own), directory_of(*others, *own)
        for query in ("apples", "pears and apples", "count sums", "legal apples"):
            assert await find(crowded, query, list(alone.entries)) == await find(alone, query)

    async def test_what_others_have_costs_nothing(self) -> None:
        looked_up = 0

        class Counted(dict[str, int]):
            def get(self, *term: Any) -> Any:
                nonlocal looked_up
                looked_up += 1
                return super().get(*term)

        async def work(documents: int, said_each: list[str]) -> int:
            nonlocal looked_up
            looked_up = 0
            document = SearchDocument(Counted(dict.fromkeys(said_each, 1)), len(said_each))
            await rank({SkillKey("a", str(number)): document for number in range(documents)}, query_terms("sum of two"))
            return looked_up

        terms = len(query_terms("sum of two"))
        for hostile in ([], ["sum"] * 256, [f"w{number}" for number in range(256)], query_terms("sum of two")):
            assert await work(100, hostile) == 100 * terms

    @pytest.mark.parametrize(
        "text",
        ["sum " * 256, " ".join(f"sum w{n}" for n in range(120)), "sum" * 300, "sum-" * 250, "Sum sums SUM " * 80],
    )
    async def test_a_summary_of_one_word_is_not_before_one_that_says_it(self, text: str) -> None:
        honest = said("honest", "Gives the sum of the lines of an invoice.", "b")
        stuffed = said("stuffed", text[:1024], "a")
        assert (await find(directory_of(honest, stuffed), "sum"))[0] == "honest"
        assert (await find(directory_of(honest, stuffed), "sum of invoice lines"))[0] == "honest"

    @pytest.mark.parametrize(
        "spec",
        [
            {"summary": "\ufdfa" * 1024},
            {"summary": "aB1" * 341},
            {"description": "x" * 16_000},
            {"description": "é\u0301" * 8_000},
            {"input": {"type": "object", "properties": {f"p{n}": {} for n in range(3000)}}},
            {"input": {"type": "object", "properties": {"€" * 20_000: {}}}},
            {"input": {"type": "object", "enum": [[]] * 3000}},
            {"examples": [{"name": "n" * 63, "input": {"lines": []}, "output": {}}] * 64},
        ],
    )
    async def test_one_skill_has_so_many_words_and_no_more(self, spec: dict[str, Any]) -> None:
        directory = directory_of(skill("odd", **{"description": "Odd."} | spec), said("invoice", "Sums."))
        assert await find(directory, "sums") == ["invoice"]
        entry = directory.entries[SkillKey("finance", "odd")]
        if entry.skill is not None:
            document = skill_search.make_document(SkillKey("finance", "odd"), entry.skill.spec)
            assert len(document.frequencies) <= 2 * skill_search.MAX_DOCUMENT_WORDS
            assert document.length <= skill_search.NAME_WEIGHT * skill_search.MAX_DOCUMENT_WORDS

    @pytest.mark.parametrize("letter", ["a", "é", "計", "\U0001f600"])
    async def test_a_query_is_bounded(self, letter: str) -> None:
        directory = directory_of(said("invoice", "Sums."))
        fitting = letter * (skill_search.MAX_QUERY_BYTES // len(letter.encode()))
        assert await find(directory, fitting) == []
        with pytest.raises(Problem, match="1024 bytes"):
            await find(directory, fitting + letter)
        assert len(query_terms(" ".join(string.ascii_letters) * 20)) <= 2 * skill_search.MAX_QUERY_WORDS
        assert len(query_terms(" ".join(f"w{n}abc" for n in range(200)))) <= 2 * skill_search.MAX_QUERY_WORDS

    async def test_others_have_their_turn_meanwhile(self) -> None:
        directory = directory_of(*(said(f"s{number}", "Sums.") for number in range(600)))
        search, turns = SkillSearch(directory), 0

        async def others() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        waiting = asyncio.create_task(others())
        await search.find(ALICE, directory.entries, "sums", 5)
        new, turns = turns, 0
        await search.find(ALICE, directory.entries, "sums", 5)
        waiting.cancel()
        assert new >= 600
        assert turns >= 2 * (600 // skill_search.BATCH)

    async def test_many_searches_hold_up_others_no_more_than_one(self) -> None:
        directory = directory_of(*(said(f"s{number}", "Sums.") for number in range(600)))
        search, turns = SkillSearch(directory), 0
        await search.find(ALICE, directory.entries, "sums", 5)

        async def others() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        waiting = asyncio.create_task(others())
        await asyncio.gather(*(search.find(ALICE, directory.entries, "sums", 5) for _ in range(20)))
        waiting.cancel()
        assert turns >= 20 * 2 * (600 // skill_search.BATCH)

    async def test_one_caller_cannot_have_all_searches(self) -> None:
        directory = directory_of(*(said(f"s{number}", "Sums.") for number in range(300)))
        search = SkillSearch(directory)
        many = [search.find(ALICE, directory.entries, "sums", 5) for _ in range(skill_search.MAX_RUNNING)]
        bob = asyncio.gather(*many, search.find(Caller("bob"), directory.entries, "sums", 5), return_exceptions=True)
        *alice, found = await bob
        refused = [problem for problem in alice if isinstance(problem, Problem)]
        assert {problem.slug for problem in refused} == {"overloaded"}
        assert 0 < len(refused) < skill_search.MAX_RUNNING
        assert len(found) == 5
        assert search._running.held == 0


async def test_an_agent_finds_its_tool_by_other_words() -> None:
    """A part of `make bench-search`: every fifth query, among all the tasks of the office."""
    directory, tasks = office_directory()
    assert len(tasks) == 836
    found = await found_within(directory, tasks[::5], 5)
    assert found >= 0.9
