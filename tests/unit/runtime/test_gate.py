"""The egress gate: nothing foreign runs before the way out was seen shut."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from skill_runtime import gate
from tests.unit.runtime.harness import GOOD, check, closed_port, listening, serving

MARKER = "open({path!r}, 'w').close()\n"


def proof(port, **more):
    return gate.Proof({"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(port), **more})


def test_a_refusing_address_passes_after_a_whole_round():
    began = time.monotonic()
    proof(closed_port()).wait()
    assert 2 * gate.SPACING <= time.monotonic() - began < 1


def test_packets_that_vanish_pass_as_soon_as_the_last_attempt_had_its_time():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):  # the backlog is full: what follows is dropped
            began = time.monotonic()
            proof(port).wait()
            assert 2 * gate.SPACING + gate.PATIENCE <= time.monotonic() - began < 1


def test_an_open_address_never_passes(monkeypatch):
    monkeypatch.setattr(gate, "DEADLINE", 0.3)
    with listening() as port, pytest.raises(gate.EgressNotBlockedError, match="could be reached") as caught:
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

    real = gate._begin
    with listening() as open_port, pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "_begin", begin)
        assert gate._round_fails(socket.AF_INET, ("127.0.0.1", 1)) is False


@pytest.mark.parametrize(
    ("host", "port"),
    [("", "443"), ("kubernetes.default", "443"), ("127.0.0.1", "0"), ("127.0.0.1", "x"), ("::zz", "443")],
)
def test_where_nothing_can_be_proven_nothing_passes(host, port):
    with pytest.raises(gate.EgressNotBlockedError, match="no attempt could be made"):
        gate.Proof({"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}).wait()


def test_ipv6_addresses_are_understood():
    assert gate.resolve("fd00::1", "443") == (socket.AF_INET6, ("fd00::1", 443))


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
        expected = {"refused": False, "target": f"127.0.0.1:{port}"}
        assert server.process.wait(30) == 3
        assert json.loads(server.last_word()) == expected
        ended = check_ended.result()
        assert ended.code == 3  # and no verdict
        assert json.loads(ended.last_word) == expected
    assert not (tmp_path / "ran").exists()


def test_isolation_can_be_optional(tmp_path):
    with (
        listening() as port,
        serving(tmp_path, GOOD, KUBERNETES_SERVICE_PORT=str(port), SKILL_ISOLATION="optional") as served,
    ):
        assert served.call({"n": 1}) == (200, {"n": 2})
        assert any(line["event"] == "not shut in, and told not to mind" for line in served.log())
