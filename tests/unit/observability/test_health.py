"""What the kubelet and Prometheus are told."""

from __future__ import annotations

import asyncio
import threading

import aiohttp
import pytest

from skill_operator.observability import health, metrics
from tests.free_ports import free_port, free_ports


async def test_each_check_is_asked_each_time() -> None:
    problems: dict[str, str | None] = {"lists": "none yet", "work": None}
    port = free_port()
    ready = {"lists": lambda: problems["lists"], "work": lambda: problems["work"]}
    async with health.serve(port, {}, ready), aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:

        async def ask(path: str) -> tuple[int, str]:
            async with client.get(path) as answer:
                return answer.status, await answer.text()

        assert await ask("/healthz") == (200, "ok\n")
        assert await ask("/readyz") == (503, "lists: none yet\n")
        problems |= {"work": "stuck"}
        assert await ask("/readyz") == (503, "lists: none yet\nwork: stuck\n")
        problems |= {"lists": None, "work": None}
        assert await ask("/readyz") == (200, "ok\n")
        metrics.record_reconcile("build", "waiting")
        status, text = await ask("/metrics")
        assert status == 200
        assert 'skill_operator_reconcile_total{result="waiting",stage="build"}' in text


async def test_a_check_that_fails_is_a_problem() -> None:
    port = free_port()
    live = {"bug": lambda: str(1 / 0)}
    url = f"http://127.0.0.1:{port}/healthz"
    async with health.serve(port, live, {}), aiohttp.ClientSession() as client, client.get(url) as answer:
        assert answer.status == 503
        assert await answer.text() == "bug: the check itself failed: ZeroDivisionError\n"


async def test_a_document_is_on_its_own_port_alone() -> None:
    health_port, port = free_ports(2)
    async with (
        health.serve(health_port, {}, {}),
        health.serve_document(port, "/usage", lambda: '{"skills": {}}'),
        aiohttp.ClientSession() as client,
    ):
        for where, path, status in (
            (port, "/usage", 200),
            (port, "/metrics", 404),
            (port, "/healthz", 404),
            (health_port, "/usage", 404),
        ):
            async with client.get(f"http://127.0.0.1:{where}{path}") as answer:
                assert answer.status == status


async def test_one_scrape_is_made_at_a_time_and_few_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most, release = 0, 0, threading.Event()

    def slow() -> bytes:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        release.wait(10)
        inside -= 1
        return b""

    monkeypatch.setattr(health, "generate_latest", slow)
    port = free_port()
    async with health.serve(port, {}, {}), aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:

        async def status(path: str) -> int:
            async with client.get(path) as answer:
                return answer.status

        scrapes = [asyncio.create_task(status("/metrics")) for _ in range(20)]
        async with asyncio.timeout(10):
            while sum(task.done() for task in scrapes) < 20 - health.MAX_SCRAPES:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert await status("/healthz") == 200, "meanwhile the kubelet is answered"
        release.set()
        assert sorted(await asyncio.gather(*scrapes)) == [200] * 4 + [503] * 16
    assert most == 1
