"""What the kubelet and Prometheus are told."""

from __future__ import annotations

import socket

import aiohttp

from skill_operator.observability import health, metrics


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


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
