"""The egress gate: nothing foreign runs before egress is proven blocked."""

import errno
import json
import select
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from skill_runtime import egress_gate
from tests.unit.runtime.harness import GOOD, check, closed_port, listening, serving

MARKER = "open({path!r}, 'w').close()\n"


def proof(port, **more):
    return egress_gate.EgressProof(
        {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(port), **more}
    )


def test_a_refusing_address_passes_after_a_whole_round():
    began = time.monotonic()
    proof(closed_port()).wait()
    assert 2 * egress_gate.ATTEMPT_INTERVAL_SECONDS <= time.monotonic() - began < 1


def test_packets_that_vanish_pass_as_soon_as_the_last_attempt_had_its_time():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):  # the backlog is full: what follows is dropped
            began = time.monotonic()
            proof(port).wait()
            assert (
                2 * egress_gate.ATTEMPT_INTERVAL_SECONDS + egress_gate.ATTEMPT_TIMEOUT_SECONDS
                <= time.monotonic() - began
                < 1
            )


def test_an_open_address_never_passes(monkeypatch):
    monkeypatch.setattr(egress_gate, "DEADLINE_SECONDS", 0.3)
    with listening() as port, pytest.raises(egress_gate.EgressNotBlockedError, match="could be reached") as caught:
        proof(port).wait()
    assert caught.value.target == f"127.0.0.1:{port}"


def test_it_passes_once_the_way_is_shut():
    server = socket.create_server(("127.0.0.1", 0), backlog=64)
    port = server.getsockname()[1]
    seen = threading.Event()

    def shut_after_the_first():
        server.accept()
        seen.set()
        server.close()

    threading.Thread(target=shut_after_the_first).start()
    proof(port).wait()
    assert seen.is_set()


def test_one_success_in_a_round_spoils_it():
    results = iter((False, True, False))

    def begin(family, address):
        target = open_port if next(results) else closed_port()
        return real(family, ("127.0.0.1", target))

    real = egress_gate._start_attempt
    target = (socket.AF_INET, ("127.0.0.1", 1))
    with listening() as open_port, pytest.MonkeyPatch.context() as patch:
        patch.setattr(egress_gate, "_start_attempt", begin)
        assert egress_gate._find_reachable([target], egress_gate.ATTEMPTS) == target


@pytest.mark.parametrize("open_one", ["api", "beacon"])
def test_each_target_must_be_shut(monkeypatch, open_one):
    monkeypatch.setattr(egress_gate, "DEADLINE_SECONDS", 0.3)
    with listening() as port:
        api, beacon = (port, closed_port()) if open_one == "api" else (closed_port(), port)
        with pytest.raises(egress_gate.EgressNotBlockedError, match="could be reached") as caught:
            proof(api, SKILL_BEACON=f"127.0.0.1:{beacon}").wait()
    assert caught.value.target == f"127.0.0.1:{port}"


def test_a_way_that_answers_by_hanging_up_is_open():
    """A reset of what was connected comes from a host that was reached."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = (socket.AF_INET, server.getsockname())
        with egress_gate._start_attempt(*target) as attempt:
            connection, _ = server.accept()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            poll = select.poll()
            poll.register(attempt, select.POLLHUP)
            assert poll.poll(5000)
            assert egress_gate._first_to_connect([(attempt, target)], 1, settle=True) == target


@pytest.mark.parametrize("code", [errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EACCES, errno.EPERM])
def test_every_way_to_be_refused_counts(monkeypatch, code):
    class Refused:
        def fileno(self):
            return fake.fileno()

        def getsockopt(self, *_):
            return code

        def close(self):
            pass

    with socket.socket() as fake:  # not connected: poll says at once that something is up with it
        attempt = (Refused(), (socket.AF_INET, ("127.0.0.1", 1)))
        assert egress_gate._first_to_connect([attempt], 1, settle=True) is None


def test_who_was_held_up_looks_once_more(monkeypatch):
    """A throttled process may come back only after its patience is over, with the answer already there."""
    with listening() as port:
        attempt = egress_gate._start_attempt(socket.AF_INET, ("127.0.0.1", port))
        target = (socket.AF_INET, ("127.0.0.1", port))
        with attempt:
            assert egress_gate._first_to_connect([(attempt, target)], -1, settle=True) == target


@pytest.mark.parametrize(
    ("text", "family", "address"),
    [
        ("10.96.0.7:8082", socket.AF_INET, ("10.96.0.7", 8082)),
        ("[fd00::7]:8082", socket.AF_INET6, ("fd00::7", 8082)),
    ],
)
def test_the_beacon_as_it_is_written(text, family, address):
    found = egress_gate.egress_targets({"KUBERNETES_SERVICE_HOST": "127.0.0.1", "SKILL_BEACON": text})
    assert found[1] == (family, address)
    assert egress_gate.format_target(found[1]) == text


@pytest.mark.parametrize("beacon", ["beacon.example:1", "10.96.0.7", ":1", "10.96.0.7:0"])
def test_a_beacon_that_is_none_proves_nothing(beacon):
    with pytest.raises(egress_gate.EgressNotBlockedError, match="no attempt could be made"):
        proof(closed_port(), SKILL_BEACON=beacon).wait()


def test_isolation_that_opens_ends_the_skill(tmp_path):
    """While a call is under way."""
    source = "import time\ndef run(input):\n    time.sleep(60)\n    return {'n': 1}\n"
    port = closed_port()
    with (
        ThreadPoolExecutor() as threads,
        serving(tmp_path, source, KUBERNETES_SERVICE_PORT=str(port), SKILL_RECHECK="1") as server,
    ):
        call = threads.submit(server.call, {"n": 1})
        assert server.call({"n": "no number"})[0] == 422
        with socket.create_server(("127.0.0.1", port)):
            assert server.process.wait(20) == 3
        report = json.loads(server.last_word())
        assert (report["blocked"], report["target"]) == (False, f"127.0.0.1:{port}")
        assert call.exception() is not None or call.result()[0] == 500


@pytest.mark.parametrize(
    ("host", "port"),
    [("", "443"), ("kubernetes.default", "443"), ("127.0.0.1", "0"), ("127.0.0.1", "x"), ("::zz", "443")],
)
def test_where_nothing_can_be_proven_nothing_passes(host, port):
    with pytest.raises(egress_gate.EgressNotBlockedError, match="no attempt could be made"):
        egress_gate.EgressProof({"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}).wait()


def test_ipv6_addresses_are_understood():
    assert egress_gate.parse_target("fd00::1", "443") == (socket.AF_INET6, ("fd00::1", 443))


def test_what_is_not_shut_in_loads_nothing_and_says_so(tmp_path):
    served, checked = tmp_path / "served", tmp_path / "checked"
    source = MARKER.format(path=str(tmp_path / "ran")) + GOOD
    for folder in (served, checked):
        folder.mkdir()
    with (
        listening() as port,
        ThreadPoolExecutor() as threads,
        serving(served, source, KUBERNETES_SERVICE_PORT=str(port), wait=False) as server,
    ):
        check_ended = threads.submit(check, checked, source, env={"KUBERNETES_SERVICE_PORT": str(port)})
        assert server.process.wait(30) == 3
        ended = check_ended.result()
        assert ended.code == 3  # and no verdict
        for last_word in (server.last_word(), ended.last_word):
            report = json.loads(last_word)
            assert (report["blocked"], report["target"]) == (False, f"127.0.0.1:{port}")
            assert "could be reached" in report["detail"]
    assert not (tmp_path / "ran").exists()


def test_isolation_can_be_optional(tmp_path):
    with (
        listening() as port,
        serving(tmp_path, GOOD, KUBERNETES_SERVICE_PORT=str(port), SKILL_ISOLATION="optional") as served,
    ):
        assert served.call({"n": 1}) == (200, {"n": 2})
        assert any(
            line["message"].startswith("egress is not blocked; SKILL_ISOLATION=optional") for line in served.log()
        )
