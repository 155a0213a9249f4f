"""What the pages name is found, and run or not run for a reason."""

from __future__ import annotations

from hack import check_docs
from hack.cluster.identity import CHECKOUT

PAGE = """Prose that says make such and
make of it what you like.

Run `make unit`, or `WORKERS=2 make integration`; `make` alone prints the list.

```
ROUNDS=1 make bench   # not: make nothing
$ make cluster && make doctor
```
"""


def test_code_counts_and_prose_does_not() -> None:
    assert check_docs.documented(PAGE) == {"unit", "integration", "bench", "cluster", "doctor"}


def test_a_target_that_nobody_runs_is_a_problem() -> None:
    named = {"a.md": {"unit", "nothing"}, "b.md": {"new"}}
    assert check_docs.missing(named, "unit: x\nnew:\n") == [
        "a.md names make nothing, which the Makefile does not have",
        "b.md names make new; add it to RUNS or NOT_RUN in hack/check_docs.py",
    ]


def test_every_target_of_the_pages_is_known() -> None:
    named = check_docs.pages()
    assert "demo" in named["README.md"]
    assert check_docs.missing(named, (CHECKOUT / "Makefile").read_text()) == []
    assert not check_docs.RUNS.keys() & check_docs.NOT_RUN.keys()
