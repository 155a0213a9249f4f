"""The house rules hold in all of the project, and each rule finds what is planted for it."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

import pytest

from tests.unit import house_rules as rules
from tests.unit.house_rules import Source

ROOT = Path(__file__).parents[2]
PRODUCT = ("operator/src", "base-image/src", "operator/egress-proxy", "cli/src")
SOURCES = rules.read_sources(ROOT, (*PRODUCT, "hack"))
TESTS = rules.read_sources(ROOT, ("tests", "benchmarks"))

# Exceptions are data, each with its reason. One that is not needed any more fails the test.
SAME_CLASS_NAMES = {
    "Cluster": "the operator's protocol of a Kubernetes API, and the machine that hack/cluster runs one on",
    "ClusterError": "the errors of the two above",
}
CONSTANTS_WITHOUT_UNIT: dict[str, str] = {}
OLD_NAMES: dict[str, str] = {}
# Paths whose text tells of old names on purpose.
HISTORY = ("CHANGELOG.md", "docs/adr/", "tests/unit/house_rules.py", "tests/unit/test_house.py")
TEXT_FOLDERS = (
    "benchmarks",
    "base-image",
    "charts",
    "cli",
    "crds",
    "docs",
    "examples",
    "hack",
    "operator",
    "tests",
    ".github",
)
TEXT_SUFFIXES = {".c", ".conf", ".go", ".in", ".json", ".md", ".py", ".sh", ".tpl", ".txt", ".yaml", ".yml", ""}


def texts() -> dict[str, str]:
    """Return the text of every file that holds words of ours, by path; what is locked or generated elsewhere is not."""
    paths = [*ROOT.glob("*"), *(path for folder in TEXT_FOLDERS for path in (ROOT / folder).rglob("*"))]
    names = {str(p.relative_to(ROOT)): p for p in paths if p.suffix in TEXT_SUFFIXES and p.is_file()}
    skipped = (*HISTORY, "site/")
    return {
        name: path.read_text(encoding="utf-8", errors="replace")
        for name, path in sorted(names.items())
        if not name.startswith(skipped) and "requirements" not in path.name and "__pycache__" not in path.parts
    }


def report(found: list[str]) -> str:
    """Return the breaches as a text that a failed assertion shows."""
    return "\n".join(["", *found])


class TestTheProject:
    def test_no_class_name_is_defined_twice(self) -> None:
        found = rules.duplicate_classes(SOURCES, SAME_CLASS_NAMES)
        assert not found, report(found)

    def test_constants_carry_their_unit(self) -> None:
        found = rules.constants_without_unit(SOURCES, CONSTANTS_WITHOUT_UNIT)
        assert not found, report(found)

    def test_no_constant_is_defined_twice(self) -> None:
        found = rules.constants_defined_twice([*SOURCES, *TESTS])
        assert not found, report(found)

    def test_no_request_follows_a_redirect(self) -> None:
        found = rules.followed_redirects(rules.read_sources(ROOT, PRODUCT))
        assert not found, report(found)

    def test_modules_say_what_they_are_for(self) -> None:
        found = rules.unclear_modules(SOURCES)
        assert not found, report(found)

    def test_no_docstring_is_a_fragment(self) -> None:
        found = rules.fragments(SOURCES)
        assert not found, report(found)

    def test_no_name_is_an_old_one(self) -> None:
        found = rules.old_names(SOURCES, rules.OF_PRODUCT, OLD_NAMES)
        assert not found, report(found)

    def test_no_component_has_its_old_name_in_tests(self) -> None:
        found = rules.old_names(TESTS, rules.OF_TESTS, {})
        assert not found, report(found)

    @pytest.mark.parametrize("pattern", [rules.OLD_WORDS, rules.OLD_PUBLIC], ids=["words", "public-names"])
    def test_no_text_has_an_old_word(self, pattern: re.Pattern[str]) -> None:
        found = rules.old_text(texts(), pattern)
        assert not found, report(found)


def planted(text: str, path: str = "operator/src/planted.py") -> list[Source]:
    """Return a module of this text."""
    return [Source(path, dedent(text))]


class TestClassNames:
    def test_a_second_definition_is_found_wherever_it_is(self) -> None:
        there = Source("hack/there.py", "def f():\n    class Pod: ...\n")
        found = rules.duplicate_classes([*planted("class Pod: ...\nclass Job: ...\n"), there], {})
        assert found == ["class Pod is defined in operator/src/planted.py:1, hack/there.py:2"]

    def test_one_with_a_reason_is_let_through(self) -> None:
        twice = [*planted("class Pod: ...\n"), Source("hack/there.py", "class Pod: ...\n")]
        assert not rules.duplicate_classes(twice, {"Pod": "the same thing"})

    def test_a_reason_that_nothing_needs_is_found(self) -> None:
        assert rules.duplicate_classes(planted("class Pod: ...\n"), {"Pod": "the same thing"})


class TestUnits:
    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("PAUSE = 1.5", "PAUSE"),
            ("PAUSE: Final = 1.5", "PAUSE"),
            ("PAUSE: float = -1.5", "PAUSE"),
            ("PAUSE = 60 * 1.5", "PAUSE"),
            ("PAUSES = (0.1, 1.0)", "PAUSES"),
            ("FIRST_SECONDS, LAST = 1.0, 2.0", "LAST"),
            ("_A = B_SECONDS = 1.0", "_A"),
            ("class Pod:\n    PAUSE: Final = 1.5", "PAUSE"),
            ("SECONDS_OF_PAUSE = 1.5", "SECONDS_OF_PAUSE"),
            ("LIMIT = 1 << 14", "LIMIT"),
            ("LIMIT: Final = 4 * 1024", "LIMIT"),
            ("LIMIT = 4 * 1024 * 1024", "LIMIT"),
            ("LIMIT_SECONDS = 1024 * 3", "LIMIT_SECONDS"),
        ],
    )
    def test_a_constant_without_one_is_found(self, text: str, name: str) -> None:
        (found,) = rules.constants_without_unit(planted(text), {})
        assert f" {name} must end in " in found
        assert not rules.constants_without_unit(planted(text), {f"operator/src/planted.py:{name}": "a reason"})

    @pytest.mark.parametrize(
        "text",
        [
            "PAUSE_SECONDS = 1.5",
            "_SECONDS = 1.5",
            "FULL_RATIO: Final = 0.9",
            "FIRST_SECONDS, LAST_SECONDS = 1.0, 2.0",
            "LIMIT_BYTES = 4 * 1024 * 1024",
            "LIMIT_BYTES = 1 << 14",
            "LIMIT_CHARACTERS = 1 << 14",
            "ATTEMPTS = 3",
            "pause = 1.5",
            "def f():\n    PAUSE = 1.5",
            "BUCKETS = Histogram(buckets=(0.1, 0.2))",
        ],
    )
    def test_what_has_one_or_needs_none_is_let_through(self, text: str) -> None:
        assert not rules.constants_without_unit(planted(text), {})

    def test_a_reason_that_nothing_needs_is_found(self) -> None:
        assert rules.constants_without_unit(planted("PAUSE_SECONDS = 1.5"), {"operator/src/planted.py:PAUSE": "none"})


class TestTwice:
    def test_a_constant_is_found(self) -> None:
        (found,) = rules.constants_defined_twice(planted("A = 1\nB: int = 2\nA = 1\n"))
        assert "A is defined 2 times" in found

    def test_one_of_another_class_is_let_through(self) -> None:
        assert not rules.constants_defined_twice(planted("A = 1\nclass B:\n    A = 2\nclass C:\n    A = 3\n"))


class TestRedirects:
    @pytest.mark.parametrize("arguments", ["url", "url, headers=headers", "url, allow_redirects=True"])
    def test_a_request_that_follows_them_is_found(self, arguments: str) -> None:
        text = f"async def f():\n    async with ClientSession() as session, session.get({arguments}):\n        pass\n"
        (found,) = rules.followed_redirects(planted(text))
        assert found == "operator/src/planted.py:2: pass allow_redirects=False"

    @pytest.mark.parametrize("call", ["session.get(url, allow_redirects=False)", "queue.hold(key)", "timeout(1)"])
    def test_what_follows_none_is_let_through(self, call: str) -> None:
        assert not rules.followed_redirects(planted(f"async def f():\n    async with {call}:\n        pass\n"))


class TestDocstrings:
    @pytest.mark.parametrize(
        "text",
        ["", "x = 1", '"""Short words."""', '"""The pods of a Skill"""', '"""The pods of a Skill\n\nand a period."""'],
    )
    def test_a_module_that_does_not_say_what_it_is_for_is_found(self, text: str) -> None:
        assert rules.unclear_modules(planted(text))

    @pytest.mark.parametrize(
        "text",
        [
            '"""The client speaks HTTP/1.1 to pods."""',
            '"""The client speaks HTTP/1.1\nto pods, e.g. skills. It\nis fast"""',
            '"""The types of `skill-operator.dev/v1alpha1`. The rest is elsewhere."""',
        ],
    )
    def test_a_sentence_is_let_through(self, text: str) -> None:
        assert not rules.unclear_modules(planted(text))

    @pytest.mark.parametrize("word", sorted(rules.FRAGMENT_STARTS))
    def test_a_fragment_is_found(self, word: str) -> None:
        text = f'"""{word} the pods."""\nclass A:\n    """{word} it."""\n    async def f(self):\n        """\n        {word}, then."""'
        assert len(rules.fragments(planted(text))) == 3

    def test_words_that_only_begin_alike_are_let_through(self) -> None:
        text = '"""Tokens of a day."""\ndef f():\n    """Inputs are here."""\ndef g():\n    """`None` is an answer."""'
        assert not rules.fragments(planted(text))


class TestOldNames:
    @pytest.mark.parametrize(
        "text",
        [
            "cage = 1",
            "def f(cage): ...",
            "x.caged_pod",
            "class CagedPod: ...",
            "class _Upstream: ...",
            "def _knock(): ...",
            "f(stays_shut=1)",
            "import x as books",
            "try: ...\nexcept E as told: ...",
            "match x:\n    case {'a': seen}: ...",
            "_PATIENCE_SECONDS = 3.0",
            "PATIENCE: Final = 3.0",
        ],
    )
    def test_an_old_name_is_found(self, text: str) -> None:
        (found,) = rules.old_names(planted(text), rules.OF_PRODUCT, {})
        assert "old word" in found

    def test_tests_may_say_what_was_seen_but_name_no_component_of_before(self) -> None:
        (found,) = rules.old_names(planted("seen = told = 1\nwaker = 2\nclass Watch: ..."), rules.OF_TESTS, {})
        assert ":2: waker is" in found

    def test_a_module_of_an_old_name_is_found(self) -> None:
        assert rules.old_names(planted("", "operator/src/cage/__init__.py"), rules.OF_PRODUCT, {})
        assert rules.old_names(planted("", "operator/src/gateway/doorman.py"), rules.OF_PRODUCT, {})

    @pytest.mark.parametrize("text", ["overseen = 1", "class UpstreamClosed: ...", "unrelated.last_seen", "'cage'"])
    def test_what_only_looks_like_one_is_let_through(self, text: str) -> None:
        assert not rules.old_names(planted(text), rules.OF_PRODUCT, {})

    def test_text_is_searched_for_whole_words(self) -> None:
        page = {"docs/page.md": "A locksmith.\nThe Cage holds, and pages too. Discaged.\n"}
        assert rules.old_text(page, rules.OLD_WORDS) == ["docs/page.md:2: Cage"]

    def test_public_names_of_before_are_found(self) -> None:
        page = {"docs/page.md": "`pod-broke-off`, urn:skill-operator:foreign-host, but not-answering-x is none"}
        assert [each.rpartition(" ")[2] for each in rules.old_text(page, rules.OLD_PUBLIC)] == [
            "pod-broke-off",
            "foreign-host",
        ]
