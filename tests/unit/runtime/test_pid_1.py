"""What a process of the pod can do to PID 1, as the same user: the runtime works on, or the pod ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from skill_runtime import signals
from skill_runtime.http_server import HttpServer
from tests.unit.runtime.harness import (
    GOOD,
    HEAD,
    Served,
    check,
    serving,
    tools_with,
    until,
)

POD = ("unshare", "--user", "--map-user=65532", "--pid", "--fork", "--kill-child", "--mount-proc")
"""Makes the runtime PID 1 of a user that is not root, as in a pod."""
PRELUDE = """
import ctypes, errno, fcntl, os, resource, signal, socket, struct, time
libc = ctypes.CDLL(None, use_errno=True)

def system_call(*arguments):
    if libc.syscall(*map(ctypes.c_long, arguments)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def queue_signal(number, code, pid):
    info = struct.pack("iiiiii", number, 0, code, 0, pid, 0).ljust(128, b"\\0")
    memory = ctypes.create_string_buffer(info)
    system_call(SIGQUEUE, 1, number, ctypes.addressof(memory))

SIGQUEUE = {"x86_64": 129, "aarch64": 138}[os.uname().machine]
TGKILL = {"x86_64": 234, "aarch64": 131}[os.uname().machine]
PTRACE = {"x86_64": 101, "aarch64": 117}[os.uname().machine]
IOPRIO_SET = {"x86_64": 251, "aarch64": 30}[os.uname().machine]
"""
ATTACKS = {
    "every signal": "for number in signal.valid_signals(): os.kill(1, number)",
    "a flood of signals": "for _ in range(2000): os.kill(1, signal.SIGTERM); os.kill(1, signal.SIGCHLD)",
    "a signal queued with a forged sender": "queue_signal(15, -1, 0)",
    "a signal that claims to be of the kernel": "queue_signal(15, 128, 0)",
    "a signal that claims to be of kill": "queue_signal(15, 0, 0)",
    "a signal to the thread": "system_call(TGKILL, 1, 1, 15)",
    "a signal without room for its sender": (
        "resource.prlimit(1, resource.RLIMIT_SIGPENDING, (0, 0)); system_call(TGKILL, 1, 1, 15)"
    ),
    "a signal of a file": (
        "reading, writing = os.pipe(); fcntl.fcntl(reading, 10, 15); fcntl.fcntl(reading, fcntl.F_SETOWN, 1);"
        "fcntl.fcntl(reading, fcntl.F_SETFL, os.O_ASYNC); os.write(writing, b'x')"
    ),
    "a pidfd": "signal.pidfd_send_signal(os.pidfd_open(1), signal.SIGTERM)",
    "ptrace": "system_call(PTRACE, 16, 1, 0, 0)",
    "its memory": "open('/proc/1/mem', 'r+b')",
    "its environment": "open('/proc/1/environ').read(1)",
    "its files": "os.listdir('/proc/1/fd')",
    "its standard output": "open('/proc/1/fd/1', 'w')",
    "its priority": "os.setpriority(os.PRIO_PROCESS, 1, 19)",
    "its scheduler": "os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0))",
    "its processors": "os.sched_setaffinity(1, {max(os.sched_getaffinity(0))})",
    "its turn at the disk": "system_call(IOPRIO_SET, 1, 1, 3 << 13)",
    "its score": "open('/proc/1/oom_score_adj', 'w').write('1000')",
    **{
        f"its limit {name}": f"resource.prlimit(1, resource.RLIMIT_{name}, (0, 0))"
        for name in ("AS", "CPU", "DATA", "FSIZE", "NOFILE", "NPROC", "STACK", "SIGPENDING")
    },
    "its port": "socket.create_server(('0.0.0.0', PORT))",
    "its port at an address": "socket.create_server(('127.0.0.1', PORT))",
    "its port under IPv6": "socket.create_server(('::', PORT), family=socket.AF_INET6)",
    "its port shared": "socket.create_server(('', PORT), reuse_port=True)",
}


def source() -> str:
    """A skill that tries the attack of the number that it is called with; 1 says that it was refused."""
    return (
        PRELUDE
        + f"ATTACKS = {[*ATTACKS.values()]!r}\n"
        + HEAD
        + """
    try:
        exec(ATTACKS[input["n"]], globals() | {"PORT": input["port"]})
    except OSError:
        return {"n": 1}
    return {"n": 0}
"""
    )


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("pod"), source(), prefix=POD) as served:
        yield served


ROOT_ALONE = {"its files", "its score"} if os.getuid() == 0 else set()
"""What is refused by owning it: root of the machine owns it even here."""
ALLOWED = {"every signal", "a flood of signals", "a signal of a file", "a pidfd"}
"""What is no error, and has no effect."""


@pytest.mark.parametrize("name", ATTACKS)
def test_what_the_same_user_does_to_pid_1_has_no_effect(pod: Served, name: str) -> None:
    status, document = pod.call({"n": [*ATTACKS].index(name), "port": pod.port})
    assert status == 200
    assert document["n"] == (0 if name in ALLOWED | ROOT_ALONE else 1)
    assert pod.ready()
    assert not [line for line in pod.log() if line["message"] == "stopping"]


def test_a_signal_from_outside_ends_it(tmp_path: Path) -> None:
    with serving(tmp_path, GOOD, prefix=POD) as served:
        os.kill(served.pid_1, signal.SIGTERM)
        assert served.process.wait(20) == 0
        assert [line for line in served.log() if line["message"] == "stopping"]


@pytest.mark.parametrize(
    ("code", "pid", "outside"), [(0, 0, True), (0, 7, False), (-1, 0, False), (-6, 0, False), (128, 0, False)]
)
def test_a_signal_from_outside_is_one_of_kill_by_nobody_here(
    monkeypatch: pytest.MonkeyPatch, code: int, pid: int, outside: bool
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert signals.sent_from_outside(code, pid) is outside


def test_a_check_goes_on_whatever_is_sent_to_it_from_inside(tmp_path: Path) -> None:
    """Here by a tool: the policy knows some ways of a candidate."""
    ruff = 'kill -TERM 1; kill -INT 1; kill -HUP 1; kill -ALRM 1; exec "$ruff" "$@"'
    planted = tools_with(tmp_path / "tools", ruff)
    checked = check(tmp_path, GOOD, prefix=POD, env={"SKILL_TOOLS": str(planted)})
    assert (checked.code, checked.report["passed"]) == (0, True)


THIEF = (
    HEAD
    + """
    import os, signal, socket, time
    if input["n"] != 1:
        return {"n": 0}
    if os.fork() == 0:
        for _ in range(1000000):
            for family, host in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET, "127.0.0.1")):
                try:
                    socket.create_server((host, input["port"]), family=family)
                except OSError:
                    continue
                print("the port is mine", flush=True)
    print("ready", flush=True)
    while not os.path.exists(input["until"]):
        time.sleep(0.01)
    return {"n": 1}
"""
)


def test_while_it_drains_nobody_else_can_have_its_port(tmp_path: Path) -> None:
    """Calls in flight go on, others are refused in words, and so are probes."""
    let_go = tmp_path / "let go"
    with serving(tmp_path, THIEF, timeout=20, prefix=POD) as served, ThreadPoolExecutor() as threads:
        kept = socket.create_connection(("127.0.0.1", served.port))
        call = threads.submit(served.call, {"n": 1, "port": served.port, "until": str(let_go)})
        until(lambda: any(line.get("text") == "ready" for line in served.log()))
        os.kill(served.pid_1, signal.SIGTERM)
        until(lambda: any(line["message"] == "stopping" for line in served.log()))
        assert kept.recv(1) == b""
        for path, method in (("/", "POST"), ("/healthz", "GET")):
            response = served.request(method, path, b'{"n": 2}')
            assert (response.status, response.headers["connection"]) == (503, "close")
            assert response.headers["x-skill-not-taken"] == "draining"
            assert json.loads(response.read())["type"] == "urn:skill-operator:draining"
        let_go.touch()
        assert call.result() == (200, {"n": 1})
        assert served.process.wait(20) == 0
        assert not [line for line in served.log() if line.get("text") == "the port is mine"]


def test_it_listens_at_ipv6_addresses_too(pod: Served) -> None:
    with socket.create_connection(("::1", pod.port), 20) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


def test_without_ipv6_it_listens_at_ipv4_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)

    async def listen() -> int:
        return await HttpServer(None, 1, "").listen(0)  # type: ignore[arg-type]

    assert asyncio.run(listen()) > 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-Skill-Uid": "u-1"}, 200),
        ({"x-skill-uid": "u-1"}, 200),
        ({}, 200),
        ({"X-Skill-Uid": "u-2"}, 421),
        ({"X-Skill-Uid": ""}, 421),
        ({"X-Skill-Uid": "u-1, u-2"}, 421),
    ],
)
def test_a_call_of_another_skill_is_refused(named: Served, headers: dict[str, str], status: int) -> None:
    response = named.request("POST", "/", b'{"n": 1}', **headers)
    assert response.status == status
    assert response.headers["x-skill-not-taken"] == (None if status == 200 else "other-skill")


def test_a_call_of_another_skill_is_refused_before_its_body(named: Served) -> None:
    with socket.create_connection(("127.0.0.1", named.port), 20) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\nx-skill-uid: u-2\r\ncontent-length: 7\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 421 ")


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("named"), GOOD, SKILL_UID="u-1") as served:
        yield served
