"""The parts of `make integration`: each test of the cluster runs in one of them."""

from __future__ import annotations

from itertools import product

import pytest
from _pytest.mark.expression import Expression

from hack import integration

PARTS = (integration.SIDE_BY_SIDE, integration.ONE_BY_ONE, integration.AT_THE_END)


@pytest.mark.parametrize("is_set", list(product([False, True], repeat=3)))
def test_each_test_of_the_cluster_runs_in_one_part(is_set: tuple[bool, ...]) -> None:
    marks = dict(zip(("cluster", "serial", "last"), is_set, strict=True))
    chosen = [part for part in PARTS if Expression.compile(part).evaluate(lambda name, **_: marks[name])]
    assert len(chosen) == marks["cluster"]
