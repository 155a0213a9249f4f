"""What a skill cannot take, with the runtime as PID 1, as in a pod. Processes: on a cluster, in tests/hostile."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from skill_runtime import problems, replies, resource_limits
from tests.unit.runtime.harness import NO_CAPABILITIES, PRIVATE_PIDS, serving

GREEDY = """
import os

def run(input):
    n = input["n"]
    if n == 3:
        with open(PLACE + "/x", "wb") as file:
            while True:
                file.write(bytes(1 << 20))
    if n == 4:
        return {"n": len(os.listdir(PLACE))}
    return {"n": n}
"""
SMALL = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=8m tmpfs "$0" && exec "$@"')


@pytest.fixture(scope="module")
def greedy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("greedy")
    (folder / "scratch").mkdir()
    source = GREEDY.replace("PLACE", repr(str(folder / "scratch")))
    prefix = (*SMALL, str(folder / "scratch"), *PRIVATE_PIDS, *NO_CAPABILITIES)
    try:
        subprocess.run([*prefix, "true"], check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no namespaces: {error.stderr}")
    with serving(folder, source, prefix=prefix, timeout=4) as served:
        yield served


def slug(document):
    return document["type"].removeprefix("urn:skill-operator:")


def test_a_full_disk_is_told_and_emptied(greedy):
    status, told = greedy.call({"n": 3})
    assert (status, slug(told)) == (500, "disk-full")
    assert greedy.call({"n": 4}) == (200, {"n": 0})
    assert "/tmp was full and is emptied" in [line["message"] for line in greedy.log()]


def test_the_words_for_each():
    def told(kind, *types, message=""):
        return problems.problem_for(replies.WorkerFailure(kind, types, message))[0].slug

    assert told("memory") == "out-of-memory"
    assert told("raised", "MemoryError", "Exception") == "out-of-memory"
    assert told("raised", "OSError", message="[Errno 28] No space left on device: '/tmp/x'") == "disk-full"
    assert told("raised", "RuntimeError", message="can't start new thread") == "too-many-processes"
    assert told("died") == "skill-error"


def test_nothing_is_emptied_where_this_is_not_pid_1(tmp_path: Path):
    (tmp_path / "mine").touch()
    assert not resource_limits.empty_scratch(tmp_path, always=True)
    assert (tmp_path / "mine").exists()


def test_limits_outside_a_user_namespace_leave_the_count_of_the_whole_node_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(resource_limits, "has_user_namespace", lambda: False)
    assert "NPROC" not in resource_limits.skill_limits(tmp_path)
    monkeypatch.setattr(resource_limits, "has_user_namespace", lambda: True)
    assert resource_limits.skill_limits(tmp_path)["NPROC"] == resource_limits.MAX_PROCESSES
    assert json.dumps(resource_limits.skill_limits(tmp_path))
    assert resource_limits.count_oom_kills() >= 0
    assert os.getpid() != 1
