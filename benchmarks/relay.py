"""Relaying to an awake skill, beside nginx's `proxy_pass` to the same upstream. Needs no cluster.

    make bench-relay      # ROUNDS=5 SECONDS=4

Needs nginx and wrk (Debian: nginx-light, wrk). The proxy that is measured has one core; the upstream, an nginx that
answers at once, and the load have the rest. Rounds take turns, since the machine's speed drifts, and what is reported
is the median of the ratios. Both get the same call; the gateway also looks its caller up, counts it against limits,
holds its body against a schema, and writes a line into its log. The same call as a tool's, over MCP, is held against a
server of the official SDK that has one tool, which answers at once and asks nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import mcp_types as types
import uvicorn
import uvloop
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.applications import Starlette
from starlette.routing import Mount

from benchmarks import show
from skill_operator.gateway import server
from skill_operator.gateway.access.kubernetes import AUDIENCE, KubernetesAuthorizer
from skill_operator.gateway.access.limits import CallLimiter
from skill_operator.gateway.invocation import Invoker
from skill_operator.gateway.pods.activator import Activator
from skill_operator.gateway.pods.connection import ConnectionPool
from skill_operator.gateway.pods.directory import Directory
from skill_operator.k8s.interface import Object
from skill_operator.observability import logs
from skill_operator.settings import CallLimitSettings, GatewayLimitSettings, GatewaySettings, ImageSettings, Settings
from tests.free_ports import free_ports

ROUNDS = int(os.environ.get("ROUNDS", "5"))
SECONDS = float(os.environ.get("SECONDS", "4"))
LOOKS = 5
LEAST_COMPUTED_SECONDS = 0.05  # five ticks of the kernel's clock
RATE = 500
CONNECTIONS = 32
BODY = b'{"what": "hello"}'
PATH = "/v1/skills/bench/echo"
TOKEN = "x" * 900  # about as long as a ServiceAccount's
ACCEPT = "application/json, text/event-stream"
MCP = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "bench__echo", "arguments": {"what": "hello"}},
}
NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/{name}.pid; error_log {folder}/{name}.err;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {folder}/{name}.body; proxy_temp_path {folder}/{name}.proxy;
  fastcgi_temp_path {folder}/x; uwsgi_temp_path {folder}/x; scgi_temp_path {folder}/x;
  keepalive_requests 10000000; keepalive_timeout 600s; default_type application/json;
  upstream pod {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 10000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ {does} }}
  }}
}}
"""
ANSWERS = 'return 200 \'{"said": "hello"}\';'
RELAYS = 'proxy_pass http://pod; proxy_http_version 1.1; proxy_set_header Connection "";'


class ApiServer:
    """ApiServer authenticates and allows every caller."""

    async def review(self, kind: str, _: Object) -> Object:
        known: Object = {"authenticated": True, "user": {"username": "bench"}, "audiences": [AUDIENCE]}
        return known if kind == "TokenReview" else {"allowed": True}


async def gateway(port: int, upstream: int) -> None:
    """The gateway as it is, but for the cluster: it knows one Skill, whose pod is the upstream."""
    logs.configure("info")
    often = CallLimitSettings(per_minute=1_000_000, concurrent=256)  # it is counted, and never reached
    limits = GatewaySettings(limits=GatewayLimitSettings(caller=often))
    settings = Settings(
        images=ImageSettings(runtime="r", checker="c", builder="b", operator="o"), listen_port=port, gateway=limits
    )
    directory = Directory()
    directory.unsynced.clear()
    meta = {"name": "echo", "namespace": "bench", "uid": "u-1", "generation": 1}
    text = {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]}
    stamp = {"observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z", "message": ""}
    ready = {"type": "Ready", "status": "True", "reason": "Ready", **stamp}
    spec = {"description": "Repeats its input.", "input": text, "output": {"type": "object"}}
    directory.on_skill("ADDED", {"metadata": meta, "spec": spec, "status": {"conditions": [ready]}})
    labels = {"skill-operator.dev/skill-uid": "u-1"}
    status = {"phase": "Running", "podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
    directory.on_pod("ADDED", {"metadata": {"name": "p", "namespace": "bench", "labels": labels}, "status": status})
    with ConnectionPool(upstream).open() as pool:
        activator = Activator(None, directory, pool, settings.gateway.wake)  # type: ignore[arg-type]
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        invoker = Invoker(directory, pool, activator, CallLimiter(settings.gateway.limits))
        server.freeze_garbage_collector()
        authorizer = KubernetesAuthorizer(ApiServer())  # type: ignore[arg-type]
        await server.make_server(invoker, authorizer, settings).run_until(stop)


async def sdk(port: int) -> None:
    """A server as the SDK makes it."""

    async def call(_: Any, __: types.CallToolRequestParams) -> types.CallToolResult:
        return types.CallToolResult(content=[types.TextContent(text="hello")], structured_content={"said": "hello"})

    made: Server[Any] = Server("bare", on_call_tool=call)
    manager = StreamableHTTPSessionManager(made, stateless=True)
    app = Starlette(routes=[Mount("/", app=manager.handle_request)], lifespan=lambda _: manager.run())
    await uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning")).serve()


@contextlib.contextmanager
def started(argv: list[str], port: int, cores: set[int]) -> Iterator[int]:
    """Its process id, until it ends; on these cores alone."""
    process = subprocess.Popen([*on(cores), *argv], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, argv
            assert time.monotonic() < deadline, argv
            time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        process.wait(40)


def nginx(folder: Path, name: str, port: int, upstream: int, does: str) -> list[str]:
    file = folder / f"{name}.conf"
    file.write_text(NGINX.format(folder=folder, name=name, port=port, upstream=upstream, does=does))
    return ["nginx", "-p", str(folder), "-c", str(file)]


def on(cores: set[int]) -> list[str]:
    return ["taskset", "-c", ",".join(map(str, cores))]


def cpu(process: int) -> float:
    """Seconds that it has computed."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def post(file: Path, body: bytes, **headers: str) -> Path:
    """A script for wrk."""
    given = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"} | headers
    lines = [f"wrk.headers['{name}'] = '{value}'" for name, value in given.items()]
    file.write_text("\n".join(["wrk.method = 'POST'", f"wrk.body = '{body.decode()}'", *lines, ""]))
    return file


def check(port: int) -> None:
    """A tool answers. Raises AssertionError."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", "Accept": ACCEPT}
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", "/mcp", json.dumps(MCP), headers)
    with connection.getresponse() as answer:
        body = answer.read()
    assert answer.status == 200, answer.status
    assert b'"structuredContent":{"said":"hello"}' in body, body


def throughput(port: int, process: int, path: str, script: Path, cores: set[int]) -> tuple[float, float]:
    """Calls a second and calls for each second that the proxy computed, closed loop. What is not 2xx fails the run.

    A machine that stands still for the whole of a short look, as a guest does whose host is busy, measured nothing:
    it is looked again, a few times.
    """
    for _ in range(LOOKS):
        rate, calls, used, output = look(port, process, path, script, cores)
        if calls and used >= LEAST_COMPUTED_SECONDS:
            return rate, calls / used
    sys.exit(f"process {process} computed {used:g} s in the last of {LOOKS} looks of {SECONDS:g} s:\n{output}")


def look(port: int, process: int, path: str, script: Path, cores: set[int]) -> tuple[float, int, float, str]:
    """Calls a second, calls in all, seconds that the proxy computed meanwhile, and the words of the load's program."""
    wrk = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS:g}s", "--timeout", "30s", "-s", str(script)]
    before = cpu(process)
    output = subprocess.run(
        [*on(cores), *wrk, f"http://127.0.0.1:{port}{path}"], check=True, capture_output=True, text=True
    ).stdout
    used = cpu(process) - before
    assert "Non-2xx" not in output, output
    assert "Socket errors" not in output, output
    rate, calls = re.search(r"Requests/sec:\s+([\d.]+)", output), re.search(r"(\d+) requests in", output)
    assert rate, output
    assert calls, output
    return float(rate[1]), int(calls[1]), used, output


async def latency(port: int) -> float:
    """The median at a fixed rate, open loop: a call is due at its time, however slow the one before it was."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {len(BODY)}"
    request = head.encode() + b"\r\n\r\n" + BODY
    taken: list[float] = []
    now = time.perf_counter  # the loop's own clock counts milliseconds
    async with idle_connections(port) as idle:
        began = now() + 0.1

        async def call(due: float) -> None:
            reader, writer = await idle.get()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            size = re.search(rb"(?i)content-length: (\d+)", head)
            assert size, head
            await reader.readexactly(int(size[1]))
            taken.append(now() - due)
            idle.put_nowait((reader, writer))

        async with asyncio.TaskGroup() as tasks:
            for number in range(int(SECONDS * RATE)):
                due = began + number / RATE
                await asyncio.sleep(due - now())
                tasks.create_task(call(max(due, now())))
    return statistics.median(taken)


@contextlib.asynccontextmanager
async def idle_connections(
    port: int,
) -> AsyncIterator[asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    idle: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        idle.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    yield idle
    while not idle.empty():
        idle.get_nowait()[1].close()


def main() -> None:
    missing = [name for name in ("nginx", "wrk") if shutil.which(name) is None]
    if missing:
        sys.exit(f"{' and '.join(missing)} must be installed (Debian: nginx-light, wrk)")
    cores = sorted(os.sched_getaffinity(0))
    alone, rest = {cores[0]}, set(cores[1:]) or {cores[0]}
    upstream, plain, ours, sdks = free_ports(4)
    with tempfile.TemporaryDirectory() as made, contextlib.ExitStack() as stack:
        folder = Path(made)
        script = post(folder / "post.lua", BODY)
        tool = post(folder / "tool.lua", json.dumps(MCP).encode(), Accept=ACCEPT)
        stack.enter_context(started(nginx(folder, "pod", upstream, upstream, ANSWERS), upstream, rest))
        pid = stack.enter_context(started(nginx(folder, "proxy", plain, upstream, RELAYS), plain, alone))
        own = [sys.executable, "-m", "benchmarks.relay", "gateway", str(ours), str(upstream)]
        our_pid = stack.enter_context(started(own, ours, alone))
        bare = [sys.executable, "-m", "benchmarks.relay", "sdk", str(sdks)]
        sdk_pid = stack.enter_context(started(bare, sdks, alone))
        for port in (ours, sdks):  # wrk does not look into answers
            check(port)
        os.sched_setaffinity(0, rest)
        rates, costs, added, calls, tools, tool_costs = [], [], [], [], [], []
        for number in range(ROUNDS + 1):
            (rate, each), (their_rate, their_each) = (
                throughput(port, process, PATH, script, rest) for port, process in ((ours, our_pid), (plain, pid))
            )
            (tool_rate, tool_each), (sdk_rate, _) = (
                throughput(port, process, "/mcp", tool, rest) for port, process in ((ours, our_pid), (sdks, sdk_pid))
            )
            direct, nginx_p50, our_p50 = (uvloop.run(latency(port)) for port in (upstream, plain, ours))
            if number:  # the first round warms up
                rates.append(rate / their_rate)
                costs.append(each / their_each)
                calls.append(each)
                tools.append(tool_rate / sdk_rate)
                tool_costs.append(tool_each / each)
                if nginx_p50 > direct:  # else what it added is less than the clock's noise
                    added.append((our_p50 - direct) / (nginx_p50 - direct))
    print(f"throughput on one core, gateway / nginx         {show(rates)}   (goal: 0.25)")
    print(f"calls for each second computed, gateway / nginx {show(costs)}")
    print(f"  of the gateway                                {show(calls)}")
    shown = show(added) if added else "below the noise"
    print(f"added p50 at {RATE} calls/s, gateway / nginx       {shown}   (goal: at most 4)")
    print(f"tools called on one core, gateway / bare SDK    {show(tools)}")
    print(f"calls for each second computed, MCP / HTTP      {show(tool_costs)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["gateway"]:
        uvloop.run(gateway(int(sys.argv[2]), int(sys.argv[3])))
    elif sys.argv[1:2] == ["sdk"]:
        uvloop.run(sdk(int(sys.argv[2])))
    else:
        main()
