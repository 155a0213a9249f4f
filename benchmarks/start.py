"""Benchmark the start of the runtime, from spawn to first response, beside a bare asyncio server. Needs no cluster.

    make bench-relay      # STARTS=20

A cold start waits for this, so the runtime imports no framework. It has more to do than the bare server before it
responds: it proves its egress blocked (here at once, by loopback), forks the process that loads the code, and validates
input and output.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks import show
from tests.unit.runtime.harness import GOOD, closed_port, command, contract, environment

STARTS = int(os.environ.get("STARTS", "20"))
REQUEST = (
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 8\r\nConnection: close\r\n\r\n"
    b'{"n": 1}'
)
BARE = """
import asyncio, json, os

async def answer(reader, writer):
    head = await reader.readuntil(b"\\r\\n\\r\\n")
    lines = head.lower().split(b"\\r\\n")
    size = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
    n = json.loads(await reader.readexactly(size))["n"]
    body = json.dumps({"n": n + 1}).encode()
    writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\nConnection: close\\r\\n\\r\\n" % len(body) + body)
    await writer.drain()
    writer.close()

async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", int(os.environ["SKILL_PORT"]))
    await server.serve_forever()

asyncio.run(main())
"""


def measure_start(argv: list[str], port: int, env: Mapping[str, str]) -> float:
    """Return the seconds from the spawn to the end of the first response."""
    start = time.perf_counter()
    process = subprocess.Popen(
        argv, env={**env, "SKILL_PORT": str(port)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not _responds(port):
            assert process.poll() is None, argv
            assert time.perf_counter() < start + 30, argv
            time.sleep(0.002)
        return time.perf_counter() - start
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _responds(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(REQUEST)
            response = b""
            while chunk := connection.recv(4096):
                response += chunk
    except OSError:
        return False
    return response.startswith(b"HTTP/1.1 200")


def main() -> None:
    """Measure both servers in turn and print the ratio."""
    ratios, runtimes = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contract(folder, GOOD)
        bare = folder / "bare.py"
        bare.write_text(BARE)
        env = environment(folder)
        for number in range(STARTS + 1):
            runtime = measure_start(command("serve"), closed_port(), env)
            bare_seconds = measure_start([sys.executable, "-I", str(bare)], closed_port(), env)
            if number:  # the first round warms up
                ratios.append(runtime / bare_seconds)
                runtimes.append(runtime)
    print(f"spawn to first response, runtime / bare server  {show(ratios)}   (goal: 1.8)")
    print(f"  of the runtime, seconds                       {show(runtimes)}")


if __name__ == "__main__":
    main()
