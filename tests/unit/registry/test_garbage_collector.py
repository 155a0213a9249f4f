"""What a sweep leaves alone, whatever the Skill is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from skill_operator.k8s.interface import Cluster
from skill_operator.reconcile.result import Progress
from skill_operator.reconcile.stages.build import build
from skill_operator.registry.garbage_collector import sweep
from skill_operator.registry.references import skill_repository
from skill_operator.registry.storage import RegistryStorage
from tests.unit.reconcile.samples import DIGEST, SETTINGS, SOURCE, observed, skill, stage_context

NAMES = ["echo", "a.b", "y" * 253, "x-" + "0" * 32]


class Objects:
    """An API server that has these objects, whatever labels are asked for."""

    def __init__(self, **kinds: list[dict[str, Any]]) -> None:
        self.kinds = kinds

    async def list(self, kind: str, *_: Any) -> list[dict[str, Any]]:
        return self.kinds.get(kind, [])


def store(root: Path, repository: str) -> RegistryStorage:
    storage = RegistryStorage(root, grace=0, settle=0)
    storage.put_blob(DIGEST, [json.dumps({"schemaVersion": 2, "layers": []}).encode()])
    storage.link_manifest(repository, DIGEST)
    return storage


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("state", ["building", "in use", "gone"])
async def test_only_images_of_nobody_are_swept(tmp_path: Path, name: str, state: str) -> None:
    of = skill()
    of = of.model_copy(update={"metadata": of.metadata.model_copy(update={"name": name})})
    (job,) = build(observed(of), Progress(source=SOURCE), stage_context()).create
    repository = skill_repository(SETTINGS, "team", name)
    storage = store(tmp_path, repository)
    used = {"status": {"image": f"{SETTINGS.registry.pull}/{repository}@{DIGEST}"}}
    objects = Objects(Job=[job] if state == "building" else [], Skill=[used] if state == "in use" else [])
    await sweep(cast("Cluster", objects), SETTINGS, storage)
    assert [image.repository for image in storage.images("skills/")] == ([] if state == "gone" else [repository])


async def test_the_image_of_an_archived_skill_goes_and_its_earlier_ones_stay(tmp_path: Path) -> None:
    repository = skill_repository(SETTINGS, "team", "echo")
    storage = store(tmp_path, repository)
    place = f"{SETTINGS.registry.pull}/{repository}"
    older = "sha256:" + "b" * 64
    status: dict[str, Any] = {
        "image": f"{place}@{DIGEST}",
        "history": [{"image": f"{place}@{DIGEST}"}, {"image": f"{place}@{older}"}],
        "archive": {"time": "2030-01-01T12:00:00Z"},
    }
    storage.link_manifest(repository, older)
    await sweep(cast("Cluster", Objects(Skill=[{"status": status}])), SETTINGS, storage)
    assert [image.digest for image in storage.images("skills/")] == [older]


async def test_the_image_of_an_archived_skill_that_pins_its_revision_stays(tmp_path: Path) -> None:
    repository = skill_repository(SETTINGS, "team", "echo")
    storage = store(tmp_path, repository)
    image = f"{SETTINGS.registry.pull}/{repository}@{DIGEST}"
    body = {"spec": {"revision": "32cc067e86"}, "status": {"image": image, "archive": {"time": "2030-01-01T12:00:00Z"}}}
    await sweep(cast("Cluster", Objects(Skill=[body])), SETTINGS, storage)
    assert len(storage.images("skills/")) == 1, "it is never built again"


async def test_an_image_that_somebody_else_runs_stays(tmp_path: Path) -> None:
    repository = skill_repository(SETTINGS, "team", "echo")
    storage = store(tmp_path, repository)
    image = f"{SETTINGS.registry.pull}/{repository}@{DIGEST}"
    archived = {"status": {"image": image, "archive": {"time": "2030-01-01T12:00:00Z"}}}
    pod = {"spec": {"containers": [{"image": image}]}}
    for objects in (Objects(Skill=[archived], Pod=[pod]), Objects(Skill=[archived, {"status": {"image": image}}])):
        await sweep(cast("Cluster", objects), SETTINGS, storage)
        assert len(storage.images("skills/")) == 1


@pytest.mark.parametrize("place", ["history", "trial"])
async def test_images_of_the_history_and_of_a_trial_are_kept(tmp_path: Path, place: str) -> None:
    repository = skill_repository(SETTINGS, "team", "echo")
    storage = store(tmp_path, repository)
    entry = {"image": f"{SETTINGS.registry.pull}/{repository}@{DIGEST}"}
    status: dict[str, Any] = {"image": "", "history": [entry]} if place == "history" else {"trial": entry}
    await sweep(cast("Cluster", Objects(Skill=[{"status": status}])), SETTINGS, storage)
    assert [image.digest for image in storage.images("skills/")] == [DIGEST]
    await sweep(cast("Cluster", Objects(Skill=[{"status": {"history": []}}])), SETTINGS, storage)
    assert list(storage.images("skills/")) == []
