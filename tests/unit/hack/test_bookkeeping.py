"""The bookkeeping of clusters: slots, the kernel's settings, names, addresses, versions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hack.cluster import records, versions
from hack.cluster.identity import CHECKOUT, Identity, cluster_name
from hack.cluster.oci import Image
from hack.cluster.shell import ClusterError


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on paper: kernel settings and states in folders of the test."""
    kernel = tmp_path / "kernel"
    for knob in (*records.CHANGED_BY_KUBELET, records.WATCHES):
        (kernel / knob).parent.mkdir(parents=True, exist_ok=True)
        (kernel / knob).write_text("1\n")
    monkeypatch.setattr(records, "KERNEL", kernel)
    monkeypatch.setattr(records, "STATES", tmp_path / "states")
    monkeypatch.setattr("hack.cluster.identity.STATES", tmp_path / "states")
    return tmp_path


def begin(name: str) -> Identity:
    with records.exclusively(name):
        return records.claim(name)


def end(name: str) -> None:
    with records.exclusively(name):
        found = records.find(name)
        assert found
        records.release(found)


def test_slots_are_reused_lowest_first(machine: Path) -> None:
    assert [begin(name).slot for name in ("skill-a", "skill-b", "skill-c")] == [0, 1, 2]
    end("skill-b")
    assert begin("skill-d").slot == 1
    assert records.names() == ["skill-a", "skill-c", "skill-d"]


def test_the_last_cluster_restores_what_the_first_one_found(machine: Path) -> None:
    knob = machine / "kernel" / "kernel/panic"
    begin("skill-a")
    knob.write_text("10\n")
    begin("skill-b")
    end("skill-a")
    assert knob.read_text() == "10\n", "the second one still needs it"
    end("skill-b")
    assert knob.read_text().strip() == "1"
    assert (machine / "kernel" / records.WATCHES).read_text().strip() == "1"
    assert not (machine / "states").exists()


def test_an_interrupted_release_is_done_again(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    knob = machine / "kernel" / "kernel/panic"
    found = begin("skill-a")
    knob.write_text("10\n")

    def interrupted(_: str) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(records, "_knob", interrupted)
        with pytest.raises(KeyboardInterrupt):
            records.release(found)
    assert records.find("skill-a") == found
    end("skill-a")
    assert knob.read_text().strip() == "1"


def test_there_is_an_end_to_slots(machine: Path) -> None:
    for number in range(16):
        begin(f"skill-{number}")
    with pytest.raises(ClusterError, match="16 clusters stand already"):
        begin("skill-x")
    assert not (machine / "states" / "skill-x").exists()


def test_all_addresses_of_all_slots_differ() -> None:
    every = [(c.wire, c.pods, c.services) for c in (Identity("x", slot) for slot in range(16))]
    networks = [network for three in every for network in three]
    assert not any(a.overlaps(b) for i, a in enumerate(networks) for b in networks[i + 1 :])
    assert Identity("x", 15).veth == "skill15"


@pytest.mark.parametrize("given", ["Ü", "a b", "../up", "x" * 21, "a/b", "-", "UPPER", "a-"])
def test_a_bad_name_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTER", given)
    with pytest.raises(ClusterError, match="CLUSTER="):
        cluster_name()


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("hack/cluster/go/kube/go.mod", rf"k8s.io/kubernetes v{versions.KUBERNETES}\n"),
        ("kind-config.yaml", re.escape(f"image: {versions.KIND_NODE}\n")),
    ],
)
def test_versions_agree(file: str, pattern: str) -> None:
    assert re.search(pattern, (CHECKOUT / file).read_text())
    assert versions.KIND_NODE.startswith(f"kindest/node:v{versions.KUBERNETES.rpartition('.')[0]}.")


def test_an_image_is_the_same_bytes_for_the_same_content(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"x")
    image = Image("localhost/x:1", {}, {"bin/x": program}, {"a": b"1"}, {"tmp": 0o1777})
    one, two = (image.archive(tmp_path / name).read_bytes() for name in ("one", "two"))
    assert one == two
