"""Starts the runtime as a process of its own, as a pod does, with files and addresses of the test."""

from __future__ import annotations

import atexit
import base64
import gzip
import hashlib
import hmac
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from skill_runtime import operator_contract
from skill_runtime.check import mypy_gate

SOURCE = Path(__file__).parents[3] / "base-image" / "src"
KEY = secrets.token_hex(32)
HIDDEN = 10**8 + secrets.randbelow(10**8)
"""Of this run alone, since some tests look for them all over the machine."""
NUMBER = {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}
TYPES = """from typing import TypedDict

class Input(TypedDict):
    n: float

class Output(TypedDict):
    n: float
"""
HEAD = "from skill_types import Input, Output\n\ndef run(input: Input) -> Output:\n"
GOOD = HEAD + "    if input['n'] < 0:\n        raise ValueError('negative')\n    return {'n': input['n'] + 1}\n"
EXAMPLES = (
    {"name": "one", "input": {"n": 1}, "output": {"n": 2}},
    {"name": "negative", "input": {"n": -1}, "error": "ValueError"},
    {"name": "secret-name", "input": {"n": HIDDEN}, "output": {"n": HIDDEN + 1}, "hidden": True},
)
MANIFEST = {
    "python": "3.13",
    "distributions": {},
    "modules": {"numpy": "numpy", "pandas": "pandas", "yaml": "PyYAML"},
    "standard": sorted(sys.stdlib_module_names),
    "rootEntries": [],
}
PRIVATE_PIDS = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")
"""Makes the runtime PID 1, as in a pod: what it starts can neither outlive nor kill it."""
NO_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
"""As in a pod, even if the tests run as root: nobody may look where only root may."""


def closed_port() -> int:
    """A port of loopback where nothing listens: blocked egress."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(folder: Path, **more: str) -> dict[str, str]:
    """What the operator gives to a pod."""
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    (folder / "scratch").mkdir(exist_ok=True)
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(SOURCE),
        "SKILL_ROOT": str(folder),
        "SKILL_CONTRACT": str(folder / "contract.json"),
        "SKILL_TERMINATION_LOG": str(folder / "termination-log"),
        "SKILL_TOOLS": str(tools()),
        "SKILL_SCRATCH": str(folder / "scratch"),
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(closed_port()),
        **more,
    }


@cache
def tools() -> Path:
    """This environment's ruff and mypy in the shape of the image's, with what mypy has read kept between checks."""
    folder = Path(tempfile.mkdtemp(prefix="tools-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "bin").mkdir()
    for name, program in {"python3": sys.executable, "ruff": f"{sys.prefix}/bin/ruff"}.items():
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec "{program}" "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    warm = [sys.executable, SOURCE.parent / "warm.py", folder / "cache", mypy_gate.CONFIGURATION, sys.executable]
    subprocess.run([*warm, "json", "os", "time"], check=True, capture_output=True)
    return folder


def tools_with(folder: Path, ruff: str) -> Path:
    """Those tools with another ruff, a shell script that finds the real one at $ruff."""
    real = tools()
    (folder / "bin").mkdir(parents=True)
    for name in ("bin/python3", "cache"):
        (folder / name).symlink_to(real / name)
    (folder / "bin" / "ruff").write_text(f"#!/bin/sh\nruff={real}/bin/ruff\n{ruff}\n")
    (folder / "bin" / "ruff").chmod(0o755)
    return folder


def command(name: str) -> list[str]:
    return [sys.executable, "-m", "skill_runtime", name]


@dataclass
class Served:
    """A running server."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        return connection.getresponse()

    def call(self, value: Any, **headers: str) -> tuple[int, Any]:
        """Status and document of a call."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        response = self.request("POST", "/", body, **headers)
        return response.status, json.loads(response.read())

    def ready(self) -> bool:
        try:
            return self.request("GET", "/healthz").status == 200
        except OSError:
            return False

    @property
    def pid_1(self) -> int:
        """The server's id outside of its namespace, where it has one."""
        pid = self.process.pid
        if "unshare" not in self.process.args[:1]:  # type: ignore[index]
            return pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "log").read_text().splitlines()]

    def last_word(self) -> str:
        path = self.folder / "termination-log"
        return path.read_text() if path.exists() else ""


def contract(folder: Path, source: str, timeout: float = 5) -> None:
    """What a pod finds of its skill: the code, and what it takes and gives."""
    (folder / "skill.py").write_text(source)
    document = {"name": "ns/skill", "input": NUMBER, "output": NUMBER, "callTimeoutSeconds": timeout}
    (folder / "contract.json").write_text(json.dumps(document))


@contextmanager
def serving(
    folder: Path,
    source: str,
    *,
    timeout: float = 5,
    wait: bool = True,
    prefix: tuple[str, ...] = (),
    **more: str,
) -> Iterator[Served]:
    """A server of this source, ended afterwards."""
    contract(folder, source, timeout)
    port = closed_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*prefix, *command("serve")],
            env=environment(folder, SKILL_PORT=str(port), **more),
            stdout=log,
            stderr=log,
            cwd=folder,
        )
    served = Served(folder, port, process)
    try:
        if wait:
            until(lambda: served.ready() or process.poll() is not None)
        yield served
    finally:
        if process.poll() is None:
            os.kill(served.pid_1, signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def until(condition: Any, seconds: float = 20) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)


def run_program(program: str, *arguments: str, seconds: float) -> str:
    """Run a program that uses the runtime, which must end well and complain of nothing. Return what it printed."""
    command = [sys.executable, "-c", program, *arguments]
    ended = subprocess.run(
        command, env={"PYTHONPATH": str(SOURCE)}, timeout=seconds, check=False, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def family(pid: int) -> set[int]:
    """A process and its descendants."""
    parents = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdecimal() else ["Z"]
            if fields[0] != "Z":
                parents[int(entry.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


@dataclass(frozen=True)
class Checked:
    """A check that ended."""

    code: int
    last_word: str
    log: str

    @property
    def report(self) -> dict[str, Any]:
        """The report, after its signature and the exit code were verified as the operator does."""
        signed = json.loads(self.last_word)
        expected = hmac.new(bytes.fromhex(KEY), signed["report"].encode(), hashlib.sha256).hexdigest()
        assert hmac.compare_digest(expected, signed["mac"])
        report: dict[str, Any] = json.loads(signed["report"])
        assert self.code == (operator_contract.EXIT_OK if report["passed"] else operator_contract.EXIT_REFUSED)
        return report


def check_environment(source: str, **more: Any) -> dict[str, str]:
    """A check request, as environment."""
    document = {
        "source": source,
        "types": TYPES,
        "input": NUMBER,
        "output": NUMBER,
        "examples": EXAMPLES,
        "callTimeoutSeconds": 2,
        **more,
    }
    data = base64.b64encode(gzip.compress(json.dumps(document).encode())).decode()
    half = len(data) // 2
    return {"SKILL_CHECK_0": data[:half], "SKILL_CHECK_1": data[half:], "SKILL_REPORT_KEY": KEY}


def check(
    folder: Path, source: str, *, prefix: tuple[str, ...] = (), env: dict[str, str] | None = None, **more: Any
) -> Checked:
    """Run a check to its end."""
    return run_check(folder, {**check_environment(source, **more), **(env or {})}, prefix=prefix)


def run_check(folder: Path, variables: dict[str, str], *, prefix: tuple[str, ...] = ()) -> Checked:
    """Run a check with the variables that the operator gives to its container."""
    ended = subprocess.run(
        [*prefix, *command("check")],
        env=environment(folder, **variables),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    log = folder / "termination-log"
    return Checked(ended.returncode, log.read_text() if log.exists() else "", ended.stdout + ended.stderr)


@contextmanager
def listening() -> Iterator[int]:
    """A port of loopback where connections are accepted: open egress."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:

        def take() -> None:
            with suppress(OSError):
                while True:
                    server.accept()[0].close()

        taking = threading.Thread(target=take)
        taking.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            taking.join()
