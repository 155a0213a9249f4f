"""What the controller makes of what gateways tell, and of those that do not."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from skill_operator.api.usage_report import PATH, CallEvent, CallFailure, RestoreRequest, SkillUsage, UsageReport
from skill_operator.k8s.errors import Unavailable
from skill_operator.k8s.pod_status import INCIDENT_MEMORY_SECONDS
from skill_operator.naming import SkillKey
from skill_operator.reconcile import usage_collector
from skill_operator.reconcile.usage_collector import NoReportError, UsageCollector, over_http
from tests.unit.reconcile.samples import SETTINGS


class World:
    """Gateways by address, and a clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.reports: dict[str, UsageReport | None] = {
            "10.0.0.1": UsageReport(age=900),
            "10.0.0.2": UsageReport(age=900),
        }
        self.phases: dict[str, str] = {}
        self.requests = 0
        self.lists = 0
        self.list_fails = False
        self.woken: list[SkillKey] = []
        self.gateways = UsageCollector(self, SETTINGS, self.fetch, self.woken.append, lambda: self.now)  # type: ignore[arg-type]

    async def list(self, kind: str, namespace: str, labels: dict[str, str]) -> list[dict[str, Any]]:
        self.lists += 1
        if self.list_fails:
            raise Unavailable("the API server is away")
        assert (kind, namespace, labels) == ("Pod", SETTINGS.namespace, SETTINGS.gateway_labels)
        return [
            {"metadata": {"uid": a}, "status": {"podIP": a, "phase": self.phases.get(a, "Running")}}
            for a in self.reports
        ]

    async def fetch(self, address: str) -> UsageReport:
        self.requests += 1
        if (report := self.reports[address]) is None:
            raise NoReportError("connection refused")
        return report

    async def idle(self, age: float = 0) -> float:
        return (await self.gateways.snapshot(age)).idle("u-1")

    async def settle(self, seconds: float) -> None:
        """Time passes, and the controller looks as often as it does."""
        for _ in range(int(seconds / 5)):
            self.now += 5
            await self.gateways.snapshot(0)


async def test_the_first_look_knows_nothing_of_the_past() -> None:
    world = World()
    assert await world.idle() == 0
    await world.settle(50)
    assert await world.idle() == 50


async def test_the_latest_use_counts() -> None:
    world = World()
    await world.idle()
    await world.settle(500)
    world.reports["10.0.0.1"] = UsageReport(age=900, skills={"u-1": SkillUsage(idle=30, open=0, waiting=0)})
    world.reports["10.0.0.2"] = UsageReport(age=900, skills={"u-1": SkillUsage(idle=200, open=0, waiting=0)})
    assert await world.idle() == 30
    world.reports["10.0.0.2"] = UsageReport(age=7)
    assert await world.idle() == 7


@pytest.mark.parametrize("end", ["gone", "silent", "failed"])
async def test_what_a_lost_gateway_knew_counts_as_use(end: str) -> None:
    world = World()
    await world.idle()
    await world.settle(500)
    if end == "gone":
        del world.reports["10.0.0.2"]
    elif end == "silent":
        world.reports["10.0.0.2"] = None
    else:
        world.phases["10.0.0.2"] = "Failed"
    assert await world.idle() == 0
    if end != "silent":
        await world.settle(60)
        assert await world.idle() == 60


async def test_a_long_time_without_a_look_counts_as_use() -> None:
    world = World()
    await world.idle()
    await world.settle(500)
    world.now += usage_collector.MAX_GAP_SECONDS + 1
    assert await world.idle() == 0


async def test_a_snapshot_is_shared_by_those_who_ask_at_once() -> None:
    world = World()
    await world.gateways.snapshot(0)
    requests = world.requests
    await world.gateways.snapshot(1)
    assert world.requests == requests
    world.now += 2
    await world.gateways.snapshot(1)
    assert world.requests == requests + 2


async def test_news_of_a_call_that_used_too_much_wake_its_skill_once_in_a_while() -> None:
    world, key = World(), SkillKey("team", "greedy")

    def failed(kind: str, ago: float, gateway: str = "10.0.0.1") -> None:
        failure = CallFailure.model_validate(
            {"namespace": "team", "name": "greedy", "request": "r-1", "kind": kind, "seconds_ago": ago}
        )
        world.reports[gateway] = UsageReport(
            age=900, skills={"u-1": SkillUsage(idle=0, open=0, waiting=0, failure=failure)}
        )

    failed("timeout", INCIDENT_MEMORY_SECONDS + 1)
    await world.gateways.snapshot(0)
    assert world.woken == [], "that is no news"
    failed("timeout", 2)
    await world.gateways.snapshot(0)
    assert world.woken == [key]
    assert world.gateways.exceeded_limit("u-1") == ("timeout", 2)
    for _ in range(11):  # it fails and fails
        world.now += 5
        await world.gateways.snapshot(0)
    assert world.woken == [key]
    world.now += 10
    await world.gateways.snapshot(0)
    assert world.woken == [key, key]
    failed("disk-full", 1, "10.0.0.2")
    await world.gateways.snapshot(0)
    assert world.woken == [key, key, key]
    world.now += 3
    assert world.gateways.exceeded_limit("u-1") == ("disk-full", 4), "the latest, whoever tells of it"
    assert world.gateways.exceeded_limit("u-2") is None


async def test_the_log_names_each_call_that_woke_a_skill_or_used_too_much_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    world = World()
    about = {"namespace": "team", "name": "greedy"}
    woken = CallEvent.model_validate(about | {"request": "r-1", "seconds_ago": 1})
    failure = CallFailure.model_validate(about | {"request": "r-1", "seconds_ago": 1, "kind": "timeout"})

    def logged() -> set[tuple[str, str, str]]:
        return {(r.getMessage(), r.skill, r.request) for r in caplog.records}  # type: ignore[attr-defined]

    for use in (
        SkillUsage(idle=0, open=0, waiting=0, activation=woken),
        SkillUsage(idle=0, open=0, waiting=0, activation=woken, failure=failure),
    ):
        world.reports["10.0.0.1"] = UsageReport(age=900, skills={"u-1": use})
        await world.gateways.snapshot(0)
        await world.gateways.snapshot(0)
    expected = {("woken by a call", "greedy", "r-1"), ("a call ended by its limits: timeout", "greedy", "r-1")}
    assert logged() == expected
    assert len(caplog.records) == 2
    old = woken.model_copy(update={"request": "r-0", "seconds_ago": usage_collector.MAX_GAP_SECONDS + 1})
    world.reports["10.0.0.1"] = UsageReport(
        age=900, skills={"u-1": SkillUsage(idle=0, open=0, waiting=0, activation=old)}
    )
    await world.gateways.snapshot(0)
    assert logged() == expected, "as when the controller has just started"


async def test_a_call_that_needs_its_skill_back_wakes_it_until_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    world, key = World(), SkillKey("team", "old")
    call = RestoreRequest(namespace="team", name="old", request="r-9", seconds_ago=1, archive="a-2")
    use = SkillUsage(idle=0, open=1, waiting=1, restore=call)
    world.reports["10.0.0.2"] = UsageReport(age=900, skills={"u-1": use})
    await world.gateways.snapshot(0)
    assert world.woken == [], "it is archived nowhere"
    for uid, archive in (("u-1", "a-1"), ("u-2", "a-2")):
        world.gateways.set_archived(key, uid, archive)
        await world.gateways.snapshot(0)
        assert not world.gateways.asks_to_restore(uid, archive), "of another archive, or another Skill"
    assert world.woken == []
    world.gateways.set_archived(key, "u-1", "a-2")
    await world.gateways.snapshot(0)
    assert world.woken == [key]
    assert world.gateways.asks_to_restore("u-1", "a-2")
    for _ in range(4):
        world.now += 1
        await world.gateways.snapshot(0)
    assert world.woken == [key], "it may be stuck for long"
    world.now += usage_collector.RESTORE_RETRY_SECONDS
    await world.gateways.snapshot(0)
    assert world.woken == [key, key]
    world.gateways.set_archived(key)
    world.now += 60
    await world.gateways.snapshot(0)
    assert world.woken == [key, key]
    told = [record for record in caplog.records if "archive" in record.getMessage()]
    assert [(record.skill, record.request) for record in told] == [("old", "r-9")]  # type: ignore[attr-defined]


async def test_between_two_polls_calls_are_looked_for_without_a_list_of_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_collector, "POLL_SECONDS", 0.2)
    world, key = World(), SkillKey("team", "old")
    polling = asyncio.create_task(world.gateways.run())
    try:
        async with asyncio.timeout(20):
            while world.lists < 3:
                await asyncio.sleep(0.002)
                world.now += 0.01
            assert world.requests <= world.lists * 2, "nothing is archived"
            world.gateways.set_archived(key, "u-1", "a-1")
            call = RestoreRequest(namespace="team", name="old", request="r-9", seconds_ago=1, archive="a-1")
            world.reports["10.0.0.1"] = UsageReport(
                age=900, skills={"u-1": SkillUsage(idle=0, open=1, waiting=1, restore=call)}
            )
            world.list_fails = True
            while world.woken != [key]:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.002)
    finally:
        polling.cancel()


async def test_before_the_first_poll_no_call_needs_anything() -> None:
    assert not World().gateways.asks_to_restore("u-1", "a-1")


@pytest.mark.parametrize(
    ("status", "text", "good"),
    [(200, '{"age": 1}', True), (200, "{", False), (200, '{"age": -1}', False), (500, '{"age": 1}', False)],
)
async def test_what_a_gateway_says(status: int, text: str, good: bool) -> None:
    async def tell(_: web.Request) -> web.Response:
        return web.Response(status=status, text=text)

    app = web.Application()
    app.router.add_get(PATH, tell)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:
        fetch = over_http(session, runner.addresses[0][1])
        if good:
            assert (await fetch("127.0.0.1")).age == 1
        else:
            with pytest.raises(NoReportError):
                await fetch("127.0.0.1")
        await runner.cleanup()
        with pytest.raises(NoReportError):
            await fetch("127.0.0.1")
