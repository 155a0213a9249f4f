"""Events are counted, bounded and never in anybody's way."""

from __future__ import annotations

import asyncio
from typing import Any

from skill_operator.k8s import events
from skill_operator.k8s.errors import Unavailable
from skill_operator.k8s.events import EventRecorder

SKILL = {"kind": "Skill", "metadata": {"name": "a", "namespace": "b", "uid": "u"}}


class Writes:
    """What was applied."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.down = False

    async def apply(self, obj: dict[str, Any]) -> dict[str, Any]:
        if self.down:
            raise Unavailable("down")
        self.bodies.append(obj)
        return obj


async def settle(recorder: EventRecorder) -> None:
    writing = asyncio.create_task(recorder.run())
    for _ in range(3 * events.MAX_WAITING):
        await asyncio.sleep(0)
    writing.cancel()


async def test_what_is_said_again_is_counted_before_and_after_it_is_written() -> None:
    writes = Writes()
    recorder = EventRecorder(writes, "skill-operator")  # type: ignore[arg-type]
    for _ in range(1000):
        recorder.record(SKILL, "Normal", "Built", "image")
    await settle(recorder)
    recorder.record(SKILL, "Normal", "Built", "image")
    recorder.record(SKILL, "Normal", "Built", "another image")
    await settle(recorder)
    assert [(b["message"], b["count"]) for b in writes.bodies] == [
        ("image", 1000),
        ("image", 1001),
        ("another image", 1),
    ]
    assert (
        writes.bodies[0]["metadata"]["name"]
        == writes.bodies[1]["metadata"]["name"]
        != writes.bodies[2]["metadata"]["name"]
    )


async def test_too_many_are_dropped_and_counted() -> None:
    writes = Writes()
    recorder = EventRecorder(writes, "skill-operator")  # type: ignore[arg-type]
    for number in range(events.MAX_WAITING + 5):
        recorder.record(SKILL, "Normal", "Built", str(number))
    assert recorder.dropped == 5
    await settle(recorder)
    assert len(writes.bodies) == events.MAX_WAITING


async def test_an_api_server_that_is_down_ends_nothing() -> None:
    writes = Writes()
    recorder = EventRecorder(writes, "skill-operator")  # type: ignore[arg-type]
    writes.down = True
    recorder.record(SKILL, "Warning", "Failed", "x")
    recorder.record({}, "Warning", "Failed", "an object that is none")
    await settle(recorder)
    assert recorder.dropped == 2
    writes.down = False
    recorder.record(SKILL, "Warning", "Failed", "x")
    await settle(recorder)
    assert len(writes.bodies) == 1


async def test_what_is_remembered_is_bounded(monkeypatch: Any) -> None:
    monkeypatch.setattr(events, "MAX_WRITTEN", 10)
    recorder = EventRecorder(Writes(), "skill-operator")  # type: ignore[arg-type]
    for number in range(50):
        recorder.record(SKILL, "Normal", "Built", str(number))
    await settle(recorder)
    assert len(recorder._written) == 10


async def test_an_event_is_one_line_whatever_was_said() -> None:
    writes = Writes()
    recorder = EventRecorder(writes, "skill-operator")  # type: ignore[arg-type]
    recorder.record(SKILL, "Warning", "Failed", "no\nEvents:  <none>\r\n\x1b[2J")
    await settle(recorder)
    assert [body["message"] for body in writes.bodies] == ["no; Events: <none>; \\x1b[2J"]
