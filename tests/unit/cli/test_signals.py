"""Whatever ends the plugin ends the kubectl that it started, too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
KUBECTL = f"""#!{sys.executable}
import os, sys, time
if "port-forward" in sys.argv:
    open(os.environ["PID_FILE"], "w").write(str(os.getpid()))
    print("Forwarding from 127.0.0.1:" + os.environ["GATEWAY_PORT"] + " -> 8080", flush=True)
    time.sleep(60)
print('{{"items": [{{"metadata": {{"name": "g"}}, "spec": {{"ports": [{{"name": "http", "port": 80}}]}}}}]}}')
"""


def is_running(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_no_kubectl_is_left_behind(number: signal.Signals, tmp_path: Path) -> None:
    program = tmp_path / "kubectl"
    program.write_text(KUBECTL)
    program.chmod(0o755)
    gateway = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import http.server as h; s = h.HTTPServer(('127.0.0.1', 0), h.BaseHTTPRequestHandler); print(s.server_port, flush=True); s.serve_forever()",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert gateway.stdout is not None
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "PYTHONPATH": f"{ROOT}/cli/src:{ROOT}/operator/src",
        "PYTHONUNBUFFERED": "1",
        "SKILL_TOKEN": "x",
        "PID_FILE": str(tmp_path / "pid"),
        "GATEWAY_PORT": gateway.stdout.readline().strip(),
    }
    command = [sys.executable, "-m", "kubectl_skill", "ui", "--no-browser"]
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # shells ignore it in the background
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        pid = int((tmp_path / "pid").read_text())
        assert is_running(pid)
        process.send_signal(number)
        assert process.wait(20) == (0 if number is signal.SIGINT else 128 + number)
        deadline = time.monotonic() + 10
        while is_running(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not is_running(pid)
    finally:
        process.kill()
        gateway.kill()
        for each in (process, gateway):
            each.communicate()
        if (tmp_path / "pid").exists() and is_running(left := int((tmp_path / "pid").read_text())):
            os.kill(left, signal.SIGKILL)
