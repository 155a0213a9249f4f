"""Spawn of the runtime until its first answer, beside a bare asyncio server that says the same. Needs no cluster.

    make bench-relay      # STARTS=20

A skill that is woken waits for this, so the runtime imports no framework. It has more to do before it answers: it sees
its way out refused (here at once, by loopback), forks the process that loads the code, and checks input and output.
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


def started(argv: list[str], port: int, env: Mapping[str, str]) -> float:
    """Seconds from the spawn to the end of the first answer."""
    began = time.perf_counter()
    process = subprocess.Popen(
        argv, env={**env, "SKILL_PORT": str(port)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not _asked(port):
            assert process.poll() is None, argv
            assert time.perf_counter() < began + 30, argv
            time.sleep(0.002)
        return time.perf_counter() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _asked(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(REQUEST)
            answer = b""
            while chunk := connection.recv(4096):
                answer += chunk
    except OSError:
        return False
    return answer.startswith(b"HTTP/1.1 200")


def main() -> None:
    ratios, ours = [], []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        contract(folder, GOOD)
        bare = folder / "bare.py"
        bare.write_text(BARE)
        env = environment(folder)
        for number in range(STARTS + 1):
            runtime = started(command("serve"), closed_port(), env)
            raw = started([sys.executable, "-I", str(bare)], closed_port(), env)
            if number:  # the first round warms up
                ratios.append(runtime / raw)
                ours.append(runtime)
    print(f"spawn to first answer, runtime / bare server    {show(ratios)}   (goal: 1.8)")
    print(f"  of the runtime, seconds                       {show(ours)}")


if __name__ == "__main__":
    main()
