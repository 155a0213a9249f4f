"""A deaf watch is found by what is read anyway."""

from __future__ import annotations

from typing import Any

import pytest

from skill_operator import naming
from skill_operator.k8s.watch_health import MAX_DELETIONS, WatchHealth


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def obj(uid: str, version: object) -> dict[str, Any]:
    return {"kind": "Skill", "metadata": {"namespace": "n", "name": uid, "uid": uid, "resourceVersion": str(version)}}


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def watch_health(time: Time) -> WatchHealth:
    return WatchHealth(60, time)


def test_what_was_told_is_no_news(watch_health: WatchHealth, time: Time) -> None:
    watch_health.observe_event(obj("a", 9)["metadata"])
    assert (
        watch_health.observe_read([obj("a", 9), obj("a", 8)]) == []
    )  # a read may be older than what was told meanwhile
    time.now += 3600
    assert watch_health.find_problem() is None


def test_the_watch_may_be_late_but_not_for_long(watch_health: WatchHealth, time: Time) -> None:
    watch_health.observe_event(obj("a", 9)["metadata"])
    assert watch_health.observe_read([obj("a", 10)]) == [obj("a", 10)]
    time.now += 59
    watch_health.observe_read([obj("a", 10)])
    assert watch_health.find_problem() is None
    assert watch_health.overdue_skills() == set()
    time.now += 2
    assert watch_health.find_problem() is None, "it may be gone"
    assert watch_health.overdue_skills() == {"a"}, "to be read again"
    watch_health.observe_read([obj("a", 10)])
    problem = watch_health.find_problem()
    assert problem
    assert "Skills has not delivered n/a for 61 s" in problem
    watch_health.observe_event(obj("a", 10)["metadata"])
    assert watch_health.find_problem() is None


def test_new_reads_do_not_make_an_old_doubt_young(watch_health: WatchHealth, time: Time) -> None:
    for version in range(10):
        watch_health.observe_read([obj("a", version)])
        time.now += 10
    assert watch_health.find_problem()
    watch_health.observe_event(obj("a", 0)["metadata"])  # late, but alive
    assert watch_health.find_problem() is None


def test_a_read_older_than_a_deletion_is_no_doubt(watch_health: WatchHealth, time: Time) -> None:
    watch_health.observe_read([obj("a", 5)])
    watch_health.observe_event(obj("a", 6)["metadata"], deleted=True)
    assert watch_health.observe_read([obj("a", 5)]) == []
    time.now += 3600
    assert watch_health.find_problem() is None


def test_what_is_not_read_again_is_no_doubt_and_is_forgotten(watch_health: WatchHealth, time: Time) -> None:
    """A watch that was interrupted reports nothing of what came and went meanwhile."""
    watch_health.observe_read([obj(f"gone-{number}", 5) for number in range(1000)])
    time.now += 3600
    assert watch_health.find_problem() is None
    watch_health.observe_read([])
    assert watch_health.overdue_skills() == set()
    assert not watch_health._missing


def test_an_object_of_a_skill_has_that_skill_read_again(watch_health: WatchHealth, time: Time) -> None:
    job = obj("job-1", 5) | {"kind": "Job"}
    job["metadata"]["labels"] = {naming.UID_LABEL: "u-1"}
    watch_health.observe_read([job])
    time.now += 61
    assert watch_health.overdue_skills() == {"u-1"}


def test_what_comes_and_goes_takes_no_memory(watch_health: WatchHealth, time: Time) -> None:
    for number in range(5000):
        watch_health.observe_event(obj(f"u-{number}", 1)["metadata"])
        watch_health.observe_event(obj(f"u-{number}", 2)["metadata"], deleted=True)
    assert len(watch_health._deleted) == MAX_DELETIONS
    assert not watch_health._delivered


def test_a_version_that_is_no_number_is_never_news(watch_health: WatchHealth) -> None:
    assert watch_health.observe_read([obj("a", "x17"), obj("b", "²")]) == []
