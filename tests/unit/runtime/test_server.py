"""The server as its callers and its pod see it."""

import hashlib
import json
import re
import signal
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from skill_runtime import operator_contract as oc
from skill_runtime.http_server import parse_request_id
from tests.unit.runtime.harness import GOOD, HEAD, NO_CAPABILITIES, contract, family, serving, until

HOSTILE = """
import ctypes, os, signal, socket, sys, threading, time

def run(input):
    n = input["n"]
    if n == 1: time.sleep(1000)
    if n == 2: os._exit(7)
    if n == 3: os.kill(os.getpid(), signal.SIGSEGV)
    if n == 4: raise SystemExit("out")
    if n == 5: raise RuntimeError("\\x1b[31mred\\r\\nsecond")
    if n == 6: return {"n": float("nan")}
    if n == 7: return {"n": object()}
    if n == 8: return {"n": "text"}
    if n == 9: return {"n": 1, "more": "x" * (3 << 20)}
    if n == 10: print("x" * 300000); print("\\x1b]0;title\\x07"); return {"n": 0}
    if n == 11: return {"n": 10 ** 5000}
    if n == 12:
        nested = []
        for _ in range(500): nested = [nested]
        return {"n": 1, "deep": nested}
    if n == 13: os.close(0); os.closerange(3, 100)
    if n == 14: os.kill(os.getppid(), signal.SIGKILL)
    if n == 15:
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(1000)
            os._exit(0)
        time.sleep(1000)
    if n == 16:
        for fd in range(3, 64):
            try: os.write(fd, b"\\xff\\xff\\xff\\xff")
            except OSError: pass
        time.sleep(1000)
    if n == 17:
        for fd in range(3, 64):
            try: os.write(fd, b"\\x00\\x00\\x00\\x05e[[[[")
            except OSError: pass
        time.sleep(1000)
    if n == 18: f = lambda: f(); f()
    if n == 20:
        if os.fork() == 0:
            time.sleep(1000)
        raise BlockingIOError(11, "Resource temporarily unavailable")
    if n == 19: import json; json.dumps = json.loads = None
    return {"n": n + 1}
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("hostile"), HOSTILE, timeout=1) as served:
        yield served


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("good"), GOOD) as served:
        yield served


def slug(document):
    return document["type"].removeprefix("urn:skill-operator:")


def test_a_call_is_answered(good):
    response = good.request("POST", "/", b'{"n": 41.5}', X_Request_Id="abc-1")
    assert (response.status, response.headers["content-type"], response.read()) == (
        200,
        "application/json",
        b'{"n":42.5}',
    )
    line = next(line for line in good.log() if line.get("request") == "abc-1")
    assert (line["message"], line["status"]) == ("call", 200)


def test_a_value_error_rejects_the_input(good):
    status, document = good.call({"n": -1})
    assert (status, slug(document), document["detail"]) == (422, "input-rejected", "negative")


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"", 400, "invalid-json"),
        (b"{", 400, "invalid-json"),
        (b'{"n": NaN}', 400, "invalid-json"),
        (b'{"n": Infinity}', 400, "invalid-json"),
        (b'{"n": 1e999}', 400, "invalid-json"),
        (b'{"n": ' + b"9" * 5000 + b"}", 400, "invalid-json"),
        (b'{"n": "\xff"}', 400, "invalid-json"),
        (b'{"n": 1, "s": "\\ud800"}', 400, "invalid-json"),
        (b"[" * 100_000, 400, "invalid-json"),
        (b"[" * 400_000 + b"]" * 400_000, 400, "invalid-json"),
        (b'{"n": 1, "deep": ' + b"[" * 150 + b"]" * 150 + b"}", 400, "invalid-json"),
        ('{"n": 1}'.encode("utf-16"), 400, "invalid-json"),
        (b"[]", 422, "invalid-input"),
        (b'{"n": "1"}', 422, "invalid-input"),
        (b"{}", 422, "invalid-input"),
        (b'{"n": 1, "n": "last counts"}', 422, "invalid-input"),
        (b"x" * (1 << 20), 400, "invalid-json"),
        (b"x" * ((1 << 20) + 1), 413, "too-large"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_bad_bodies_are_told_apart(good, body, status, kind):
    response = good.request("POST", "/", body)
    document = json.loads(response.read())
    assert (response.status, slug(document)) == (status, kind)
    assert response.headers["content-type"] == "application/problem+json"
    assert document["status"] == status
    assert document["detail"].isprintable()
    assert good.call({"n": 1}) == (200, {"n": 2})


def test_a_body_without_a_length_is_cut_at_the_limit(good):
    with socket.create_connection(("127.0.0.1", good.port), 20) as raw:
        raw.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        with suppress(OSError):
            for _ in range(40):
                raw.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: " + b"9" * 19 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"a" * 100_000,
    ],
    ids=["tls", "two lengths", "negative length", "absurd length", "no host", "endless head"],
)
def test_what_is_not_http_is_refused(good, request_bytes):
    with socket.create_connection(("127.0.0.1", good.port), 20) as raw:
        with suppress(OSError):
            raw.sendall(request_bytes)
        assert re.match(rb"HTTP/1.1 4\d\d ", raw.recv(200))
    assert good.ready()


def test_connections_are_kept_and_requests_may_queue_on_them(good):
    one = b'POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 7\r\n\r\n{"n":1}'
    with socket.create_connection(("127.0.0.1", good.port), 20) as raw:
        raw.sendall(one * 3)
        data = b""
        while data.count(b'{"n":2}') < 3:
            part = raw.recv(65536)
            assert part
            data += part


def test_a_client_that_waits_for_permission_gets_it(good):
    with socket.create_connection(("127.0.0.1", good.port), 20) as raw:
        raw.sendall(b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 7\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 100 ")
        raw.sendall(b'{"n":1}')
        assert raw.recv(1000).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/", 405), ("POST", "/x", 404), ("PUT", "/", 405)])
def test_there_is_nothing_else(good, method, path, status):
    assert good.request(method, path).status == status


def test_request_ids_cannot_forge_log_lines(good):
    good.call({"n": 5}, X_Request_Id='x" onload="')
    assert not any("onload" in json.dumps(line) for line in good.log())


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        (b"abc-1", True),
        (b"A.b_c-9", True),
        (b"x" * 64, True),
        (b"x" * 65, False),
        (b"", False),
        (b"a:b", False),
        (b"a/b", False),
        (b"a+b=", False),
        (b"a b", False),
        (b"a\n", False),
        (b"\xe9", False),
    ],
    ids=repr,
)
def test_a_request_id_has_the_form_that_the_gateway_gives_it(value, accepted):
    assert parse_request_id(value) == (value.decode() if accepted else "")


@pytest.mark.parametrize(
    ("n", "status", "kind"),
    [
        (1, 504, "timeout"),
        (2, 500, "skill-error"),
        (3, 500, "skill-error"),
        (4, 500, "skill-error"),
        (5, 500, "skill-error"),
        (6, 500, "invalid-output"),
        (7, 500, "invalid-output"),
        (8, 500, "invalid-output"),
        (9, 502, "response-too-large"),
        (11, 500, "invalid-output"),
        (12, 500, "invalid-output"),
        (13, 500, "skill-error"),
        (15, 504, "timeout"),
        (16, 500, "invalid-output"),
        (17, 500, "invalid-output"),
        (18, 500, "skill-error"),
    ],
)
def test_whatever_a_skill_does_its_caller_gets_a_problem_and_the_next_an_answer(hostile, n, status, kind):
    got, document = hostile.call({"n": n}, X_Request_Id=f"hostile-{n}")
    assert (got, slug(document)) == (status, kind)
    assert "skill.py" not in document["detail"]
    assert hostile.call({"n": 100}) == (200, {"n": 101})


def test_a_skill_that_breaks_the_library_breaks_only_itself(tmp_path):
    with serving(tmp_path, HOSTILE, timeout=1, SKILL_WORKERS="1") as served:
        assert served.call({"n": 19})[0] == 500
        assert served.ready()


def test_errors_are_told_to_the_log_and_not_to_the_caller(hostile):
    _, document = hostile.call({"n": 5}, X_Request_Id="error-1")
    assert "red" not in json.dumps(document)
    line = next(line for line in hostile.log() if line.get("request") == "error-1")
    assert "RuntimeError: " in line["detail"]
    assert "skill.py line" in line["detail"]
    assert "\x1b" not in line["detail"]


def test_output_is_cut_escaped_and_belongs_to_its_call(hostile):
    hostile.call({"n": 10}, X_Request_Id="loud-1")
    raw = (hostile.folder / "log").read_text()
    assert "\x1b" not in raw
    assert "\x07" not in raw
    printed = [
        line["text"] for line in hostile.log() if line.get("request") == "loud-1" and line["message"] == "output"
    ]
    assert 60_000 < sum(map(len, printed)) < 70_000
    assert "is dropped" in printed[-1]


def test_a_call_that_never_returns_takes_no_other_down(tmp_path):
    with serving(tmp_path, HOSTILE, timeout=3, SKILL_WORKERS="2") as served, ThreadPoolExecutor(8) as threads:
        stuck = threads.submit(served.call, {"n": 1})
        began = time.monotonic()
        assert [served.call({"n": 100 + i}) for i in range(20)] == [(200, {"n": 101 + i}) for i in range(20)]
        assert served.ready()
        assert time.monotonic() - began < 3
        assert stuck.result()[0] == 504


@pytest.mark.parametrize("deadline", ["300", "0300", "0"])
def test_the_caller_s_deadline_ends_the_call_and_its_process(tmp_path, deadline):
    with serving(tmp_path, HOSTILE, timeout=60) as served:
        began = time.monotonic()
        status, told = served.call({"n": 15}, X_Skill_Deadline_Ms=deadline)
        assert (status, slug(told)) == (504, "timeout")
        assert time.monotonic() - began < 10
        until(lambda: len(family(served.process.pid)) == 2)  # server and zygote
        assert served.call({"n": 100}, X_Skill_Deadline_Ms="30000") == (200, {"n": 101})


@pytest.mark.parametrize(
    "deadline", ["", "-1", "soon", "1e3", "0x10", "\u0663\u0660\u0660".encode().decode("latin-1"), "9" * 400]
)
def test_a_deadline_that_is_none_changes_nothing(good, deadline):
    assert good.call({"n": 1}, X_Skill_Deadline_Ms=deadline) == (200, {"n": 2})


def test_no_deadline_is_later_than_the_skill_s_own(tmp_path):
    with serving(tmp_path, HOSTILE, timeout=1) as served:
        began = time.monotonic()
        status, told = served.call({"n": 1}, X_Skill_Deadline_Ms="60000")
        assert (status, told["detail"]) == (504, "no answer within 1 s")
        assert time.monotonic() - began < 10


def test_time_in_the_queue_is_time_of_the_call(tmp_path):
    """The caller is gone by then: a worker would work for nobody."""
    with (
        serving(tmp_path, HOSTILE, timeout=60, SKILL_WORKERS="1") as served,
        ThreadPoolExecutor() as threads,
    ):
        stuck = threads.submit(served.call, {"n": 1}, X_Skill_Deadline_Ms="4000")
        until(lambda: workers(served.process.pid))
        began = time.monotonic()
        status, told = served.call({"n": 100}, X_Skill_Deadline_Ms="200")
        assert (status, slug(told)) == (503, "overloaded")
        assert time.monotonic() - began < 3
        assert stuck.result()[0] == 504


SIZED = "def run(input):\n    n, character = input['n'], input['character']\n    return {'s': character * n}\n"
ANY = {"name": "ns/skill", "input": {"type": "object"}, "output": {"type": "object"}, "callTimeoutSeconds": 20}


@pytest.fixture(scope="module")
def sized(tmp_path_factory):
    def contract(folder, source, _timeout=5):
        (folder / "skill.py").write_text(source)
        (folder / "contract.json").write_text(json.dumps(ANY))

    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tests.unit.runtime.harness.contract", contract)
            served = stack.enter_context(serving(tmp_path_factory.mktemp("sized"), SIZED))
        yield served


@pytest.mark.parametrize("character", ["x", "\u00e9", "\u20ac", "\U0001f4a5", '"', "\x01"])
def test_the_limit_of_an_answer_is_in_bytes_of_utf_8(sized, character):
    """Of its JSON, in which some characters are escaped; however many bytes it is of ASCII."""
    each = len(json.dumps(character, ensure_ascii=False).encode()) - 2
    most = (oc.MAX_BODY_BYTES - len('{"s":""}')) // each
    response = sized.request("POST", "/", json.dumps({"n": most, "character": character}).encode())
    body = response.read()
    assert (response.status, len(body)) == (200, most * each + len('{"s":""}'))
    status, told = sized.call({"n": most + 1, "character": character})
    assert (status, slug(told), told["title"]) == (502, "response-too-large", "Response too large")
    assert str(oc.MAX_BODY_BYTES) in told["detail"]
    assert sized.call({"n": 1, "character": character}) == (200, {"s": character}), "the same process goes on"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-32-be"])
def test_a_body_in_another_encoding_is_no_json(sized, encoding):
    status, told = sized.call('{"n": 1, "character": "x"}'.encode(encoding))
    assert (status, slug(told)) == (400, "invalid-json")


def asked(served, n, **headers):
    """A connection on which a call is under way."""
    body = json.dumps({"n": n}).encode()
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
    raw = socket.create_connection(("127.0.0.1", served.port), 20)
    raw.sendall(b"POST / HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n%b" % (lines, len(body), body))
    return raw


@pytest.mark.parametrize("how", ["hangs up", "resets"])
def test_a_caller_who_leaves_takes_the_call_with_him(tmp_path, how):
    with serving(tmp_path, HOSTILE, timeout=600, SKILL_WORKERS="1") as served:
        raw = asked(served, 15, **{"x-request-id": "left-1"})
        until(lambda: len(family(served.process.pid)) >= 4)  # what it started is there, too
        if how == "resets":
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.close()
        until(lambda: len(family(served.process.pid)) == 2)  # server and zygote
        assert served.call({"n": 100}) == (200, {"n": 101})
        line = next(line for line in served.log() if line.get("request") == "left-1")
        assert (line["level"], line["message"], line["status"]) == ("info", "call", 499)


def test_who_leaves_the_queue_is_not_served(tmp_path):
    source = (
        f"import time\nSEEN = {str(tmp_path / 'seen')!r}\n"
        + HEAD
        + (
            "    with open(SEEN, 'a') as file: print(input['n'], file=file)\n"
            "    time.sleep(1000 if input['n'] == 1 else 0)\n    return {'n': 0}\n"
        )
    )
    with serving(tmp_path, source, timeout=600, SKILL_WORKERS="1") as served:
        first = asked(served, 1)
        until((tmp_path / "seen").exists)
        asked(served, 2, **{"x-request-id": "queued"}).close()
        until(lambda: any(line.get("request") == "queued" for line in served.log()))
        first.close()
        assert served.call({"n": 3}) == (200, {"n": 0})
        assert (tmp_path / "seen").read_text().split() == ["1", "3"]


def test_callers_who_leave_at_once_break_nothing(tmp_path):
    """Also while a worker is forked for them: the zygote's answer is for nobody else."""
    with serving(tmp_path, HOSTILE, timeout=600, SKILL_WORKERS="2") as served:
        zygote = next(pid for pid in family(served.process.pid) if pid != served.process.pid)
        for number in range(60):  # each a little later in the course of things
            raw = asked(served, 1)
            time.sleep(number / 5000)
            raw.close()
        assert [served.call({"n": 100 + i}) for i in range(5)] == [(200, {"n": 101 + i}) for i in range(5)]
        assert alive(zygote)
        until(lambda: len(family(served.process.pid)) <= 3)
        assert not [line for line in served.log() if line["level"] in ("warning", "error")]


def test_a_skill_sees_nothing_of_the_environment_but_the_proxy_of_its_hosts(tmp_path):
    shown = tmp_path / "shown"
    source = f"import json, os\nopen({str(shown)!r}, 'w').write(json.dumps(dict(os.environ)))\n" + GOOD
    proxy = {"HTTPS_PROXY": "http://10.96.7.7:3128", "no_proxy": "203.0.113.0/24"}
    with serving(tmp_path, source, **proxy, ALL_PROXY="socks5://10.0.0.1", SECRET="s"):
        seen = json.loads(shown.read_text())
    assert {name: value for name, value in seen.items() if "proxy" in name.lower()} == proxy
    assert not [name for name in seen if name.startswith(("SKILL", "KUBERNETES", "SECRET"))]


def test_too_many_calls_are_turned_away_and_told_when_to_come_back(tmp_path):
    with (
        serving(tmp_path, HOSTILE, timeout=2, SKILL_WORKERS="1", SKILL_QUEUE="1") as served,
        ThreadPoolExecutor(8) as threads,
    ):
        calls = [threads.submit(served.request, "POST", "/", b'{"n": 1}') for _ in range(6)]
        responses = [call.result() for call in calls]
        turned_away = [response for response in responses if response.status == 503]
        assert len(turned_away) >= 4
        assert all(response.headers["retry-after"] == "1" for response in turned_away)
        assert {response.headers["x-skill-not-taken"] for response in turned_away} == {"no-place"}
        assert {slug(json.loads(response.read())) for response in turned_away} == {"overloaded"}


def test_a_fallen_zygote_is_replaced(tmp_path):
    with serving(tmp_path, HOSTILE, timeout=1, SKILL_WORKERS="1") as served:
        served.call({"n": 14})
        until(lambda: any("is started again" in line["message"] for line in served.log()))
        until(served.ready)
        served.call({"n": 2})  # the worker that was forked before
        assert served.call({"n": 100}) == (200, {"n": 101})


def test_a_zygote_that_keeps_falling_ends_the_pod(tmp_path):
    source = "import os, threading\nthreading.Timer(0.05, os._exit, (1,)).start()\n" + GOOD
    with serving(tmp_path, source, wait=False) as served:
        assert served.process.wait(30) == 1
        assert "ended 6 times" in served.last_word()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import nothing_like_it\n" + GOOD, "skill.py line 1: ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("def run(:\n", "skill.py line 1: SyntaxError: "),
        ("x = 1\n1 / 0\n", "skill.py line 2: ZeroDivisionError: division by zero"),
        ("x = 1\n", "skill.py: TypeError: skill.py defines no function run"),
        ("run = 3\n", "skill.py: TypeError: skill.py defines no function run"),
        ("raise SystemExit(0)\n", "skill.py line 1: SystemExit: 0"),
        ("import os\nos._exit(0)\n", "the process ended while skill.py was loading"),
        ("raise ValueError('\\x1b[31m\\r' + 'x' * 5000)\n", "skill.py line 1: ValueError: \\x1b[31m\\x0dxxx"),
        (
            "class E(Exception):\n    def __str__(self): raise E\nraise E\n",
            "skill.py line 3: E: (its text cannot be read)",
        ),
    ],
    ids=["import", "syntax", "division", "no run", "run is no function", "exit", "os._exit", "long", "hostile text"],
)
def test_a_skill_that_cannot_be_loaded_ends_the_pod_with_a_reason(tmp_path, source, said):
    with serving(tmp_path, source, wait=False) as served:
        assert served.process.wait(20) == 1
        assert served.last_word().startswith(said)
        assert served.last_word().isprintable()
        assert len(served.last_word()) < 1024


def test_sigterm_lets_calls_finish(tmp_path):
    source = "import time\n" + HEAD + "    time.sleep(input['n'])\n    return {'n': 1}\n"
    with serving(tmp_path, source) as served, ThreadPoolExecutor() as threads:
        call = threads.submit(served.call, {"n": 1})
        until(lambda: workers(served.process.pid))
        served.process.send_signal(signal.SIGTERM)
        assert call.result() == (200, {"n": 1})
        assert served.process.wait(5) == 0


def test_sigterm_waits_no_longer_than_the_grace(tmp_path):
    with serving(tmp_path, HOSTILE, timeout=60, SKILL_GRACE="1") as served, ThreadPoolExecutor() as threads:
        call = threads.submit(served.call, {"n": 1})
        until(lambda: workers(served.process.pid))
        began = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(10) == 0
        assert 0.9 < time.monotonic() - began < 5
        assert isinstance(call.exception(), OSError)


def test_nothing_is_left_when_it_ends(tmp_path):
    with serving(tmp_path, HOSTILE, timeout=1) as served, ThreadPoolExecutor() as threads:
        threads.submit(served.call, {"n": 15})
        until(lambda: len(family(served.process.pid)) >= 4)
        members = family(served.process.pid)
        served.process.send_signal(signal.SIGTERM)
        served.process.wait(10)
        assert not [pid for pid in members if alive(pid)]


def test_what_a_stuck_call_left_behind_is_ended_with_it(tmp_path):
    with serving(tmp_path, HOSTILE, timeout=1) as served:
        assert served.call({"n": 15})[0] == 504
        assert served.call({"n": 100})[0] == 200
        until(lambda: len(family(served.process.pid)) == 3)  # server, zygote, one worker


def test_what_a_call_that_ran_out_of_processes_started_is_ended_with_it(tmp_path):
    """It answers, as an exception does; but what it started holds on to what ran out."""
    with serving(tmp_path, HOSTILE) as served:
        status, told = served.call({"n": 20})
        assert (status, slug(told)) == (500, "too-many-processes")
        assert served.call({"n": 100}) == (200, {"n": 101})
        until(lambda: len(family(served.process.pid)) == 3)


def test_a_skill_sees_neither_the_environment_nor_the_memory_of_the_server(tmp_path):
    source = """
import os
from skill_types import Input, Output, Anything
def run(input: Input) -> Output:
    server = os.getppid()
    server = int(open(f"/proc/{server}/stat").read().rpartition(")")[2].split()[1])
    seen = []
    for name in ("environ", "mem", "maps"):
        try:
            with open(f"/proc/{server}/{name}", "rb") as file:
                file.read(1)
            seen.append(name)
        except OSError:
            pass
    return {"n": len(seen), "environment": dict(os.environ), "types": Input is dict and Anything is dict}
"""
    with serving(tmp_path, source, prefix=NO_CAPABILITIES, SECRET_OF_THE_POD="do-not-tell") as served:
        status, document = served.call({"n": 0})
        assert (status, document["n"], document["types"]) == (200, 0, True)
        assert not [name for name in document["environment"] if name.startswith(("SKILL", "KUBERNETES", "SECRET"))]


@pytest.mark.parametrize(
    "contract",
    [
        "{",
        "{}",
        '{"input": {}, "output": {}, "callTimeoutSeconds": 0}',
        '{"input": {"type": "nonsense"}, "output": {}, "callTimeoutSeconds": 1}',
        '{"input": {"$ref": "http://127.0.0.1:1/schema"}, "output": {}, "callTimeoutSeconds": 1}',
    ],
)
def test_an_unusable_contract_is_told(tmp_path, contract):
    (tmp_path / "skill.py").write_text(GOOD)
    with serving(tmp_path, GOOD, wait=False, SKILL_CONTRACT=str(tmp_path / "other.json")) as served:
        (tmp_path / "other.json").write_text(contract)
        assert served.process.wait(20) == 2
        assert "server failed" in [line["message"] for line in served.log()]


def test_another_contract_than_the_pod_was_deployed_with_is_refused(tmp_path):
    """Whoever may write ConfigMaps could have a secret given out, or turn the schemas off."""
    contract(tmp_path, GOOD)
    approved = (tmp_path / "contract.json").read_bytes()
    exchanged = tmp_path / "exchanged.json"
    exchanged.write_text(json.dumps(json.loads(approved) | {"openSecrets": ["api-key"], "input": {}}))
    digest = hashlib.sha256(approved).hexdigest()
    with serving(tmp_path, GOOD, wait=False, SKILL_CONTRACT=str(exchanged), SKILL_CONTRACT_DIGEST=digest) as served:
        assert served.process.wait(20) == 2
        (line,) = [line for line in served.log() if line["message"] == "server failed"]
        assert "delete the ConfigMap" in line["detail"]
        assert not served.ready()


def test_the_very_contract_is_served(tmp_path):
    contract(tmp_path, GOOD)
    digest = hashlib.sha256((tmp_path / "contract.json").read_bytes()).hexdigest()
    with serving(tmp_path, GOOD, SKILL_CONTRACT_DIGEST=digest) as served:
        assert served.call({"n": 1}) == (200, {"n": 2})


@pytest.mark.parametrize("digest", ["0" * 64, "x", " "])
def test_a_digest_that_no_file_has_serves_nothing(tmp_path, digest):
    with serving(tmp_path, GOOD, wait=False, SKILL_CONTRACT_DIGEST=digest) as served:
        assert served.process.wait(20) == 2


def workers(pid: int) -> bool:
    return len(family(pid)) >= 3


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
