from __future__ import annotations

import base64
import gzip
import io
import tarfile
from datetime import datetime, timedelta
from typing import Any

import pytest

from skill_operator import naming
from skill_operator.api.v1alpha1 import Provenance
from skill_operator.reconcile.result import Progress, Result
from skill_operator.reconcile.stages.build import build, confirm
from skill_operator.registry.client import BaseImage, RegistryUnavailable
from skill_operator.registry.monitor import RegistryState
from skill_operator.settings import Settings
from tests.unit.reconcile.samples import DIGEST, NOW, SETTINGS, SOURCE, observed, pod, skill, stage_context


def begun() -> tuple[str, dict[str, Any], dict[str, Any]]:
    result = build(observed(), Progress(source=SOURCE), stage_context())
    (context,), (job,) = result.apply, result.create
    return job["metadata"]["name"], context, job


def at(end: dict[str, Any] | None, seconds: float = 0, annotations: dict[str, str] | None = None) -> Any:
    name, _, job = begun()
    job["metadata"]["annotations"] |= annotations or {}
    progress = Progress(source=SOURCE)
    state = observed(builds={name: job}, build_pods=(pod(name, end),))
    return build(state, progress, stage_context(now=NOW + timedelta(seconds=seconds))), progress


def test_the_context_is_two_files_of_ours_and_the_same_each_time() -> None:
    _, context, _ = begun()
    data = gzip.decompress(base64.b64decode(context["binaryData"]["context.tar.gz"]))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = tar.getmembers()
        assert [(m.name, m.mode, m.uid, m.gid, m.isreg()) for m in members] == [
            ("Dockerfile", 0o444, 0, 0, True),
            ("skill.py", 0o444, 0, 0, True),
        ]
        dockerfile = tar.extractfile("Dockerfile")
        assert dockerfile is not None
        assert dockerfile.read().decode() == (
            f"FROM {SETTINGS.registry.push}/{SETTINGS.images.runtime}\nCOPY --chown=0:0 skill.py /skill/skill.py\n"
        )
    assert begun()[1] == context


def test_the_builder_has_no_right_that_it_does_not_need() -> None:
    _, _, job = begun()
    spec = job["spec"]["template"]["spec"]
    (kaniko,), (normalizer,) = spec["initContainers"], spec["containers"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["hostUsers"] is False
    assert spec["dnsPolicy"] == "None"
    for container in (kaniko, normalizer):
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["resources"]["limits"]["memory"]
    assert normalizer["securityContext"]["runAsNonRoot"]
    assert normalizer["securityContext"]["readOnlyRootFilesystem"]
    assert spec["priorityClassName"] == SETTINGS.priority_class_name, "it must not push a skill off its node"
    assert job["spec"]["activeDeadlineSeconds"] > 0
    for flag in ("--single-snapshot", "--reproducible", "--cache", "--insecure"):
        assert flag not in kaniko["args"]
    assert "--ignore-path=/usr" in kaniko["args"]
    assert "--ignore-path=/skill" not in kaniko["args"]
    assert job["metadata"]["namespace"] == SETTINGS.builder_namespace


def test_done_when_the_container_has_ended() -> None:
    result, progress = at({"exitCode": 0, "message": DIGEST})
    assert result.is_done
    assert progress.image == f"{SETTINGS.registry.pull}/skills/team/echo@{DIGEST}"


def test_a_known_image_is_not_built_again() -> None:
    _, progress = at({"exitCode": 0, "message": DIGEST})
    status = {"revisionDigest": progress.revision, "image": progress.image}
    again = Progress(source=SOURCE)
    result = build(observed(skill(status)), again, stage_context())
    assert result.is_done
    assert not result.create
    assert again.image == progress.image
    other = Progress(source=SOURCE + "# changed\n")
    assert build(observed(skill(status)), other, stage_context()).create


@pytest.mark.parametrize("message", ["", "error pushing image: connection refused\n", "x" * 100_000])
def test_a_failed_build_waits_longer_each_time(message: str) -> None:
    end = {"exitCode": 1, "message": message, "finishedAt": NOW.isoformat()}
    early, _ = at(end, 1)
    assert not early.create
    assert not early.is_stalled
    assert early.conditions[0].reason == "BuildFailed"
    assert early.after == pytest.approx(4)
    later, _ = at(end, 6)
    assert later.create[0]["metadata"]["annotations"]["skill-operator.dev/failures"] == "1"
    third, _ = at(end, 6, {"skill-operator.dev/failures": "2"})
    assert not third.create
    last, _ = at(end, 301, {"skill-operator.dev/failures": "60"})
    assert last.create


def test_a_build_whose_pod_was_taken_with_its_digest_is_made_again() -> None:
    name, _, job = begun()
    done = {"type": "Complete", "status": "True", "lastTransitionTime": NOW.isoformat()}
    job["status"] = {"conditions": [done]}
    early = build(observed(builds={name: job}), Progress(source=SOURCE), stage_context())
    assert (early.conditions[0].reason, early.after, early.create) == ("BuildFailed", 5, ())
    assert "its pod was deleted" in early.conditions[0].message
    later = build(observed(builds={name: job}), Progress(source=SOURCE), stage_context(now=NOW + timedelta(seconds=6)))
    assert (len(later.create), len(later.delete)) == (1, 1)


def test_a_success_without_a_digest_is_a_failure() -> None:
    result, progress = at({"exitCode": 0, "message": "sha256:short", "finishedAt": NOW.isoformat()})
    assert not result.is_done
    assert not progress.image


def running(revision: str, image: str) -> dict[str, Any]:
    template = {
        "metadata": {"annotations": {naming.REVISION_DIGEST: revision}},
        "spec": {"containers": [{"image": image}]},
    }
    labels = {naming.REVISION_LABEL: naming.shorten(revision)}
    return {"metadata": {"labels": labels}, "spec": {"template": template}}


def recorded(revision: str, image: str) -> dict[str, Any]:
    return {"revision": naming.shorten(revision), "revisionDigest": revision, "image": image}


@pytest.mark.parametrize("place", ["status", "history", "deployment"])
def test_an_image_is_taken_again_by_the_whole_digest_alone(place: str) -> None:
    """Two sources of one label are found within seconds."""
    _, before = at({"exitCode": 0, "message": DIGEST})
    rival = before.revision[:10] + "0" * 54

    def state(revision: str, image: str) -> Any:
        entry = recorded(revision, image)
        history = {"history": [entry | {"time": NOW.isoformat()}]}
        status = {"status": entry, "history": history, "deployment": {}}[place]
        return observed(skill(status), deployment=running(revision, image) if place == "deployment" else None)

    assert build(state(before.revision, before.image), Progress(source=SOURCE), stage_context()).is_done
    assert build(state(rival, before.image), Progress(source=SOURCE), stage_context()).create


@pytest.mark.parametrize(
    "image",
    [
        f"localhost:30500/skills/other/echo@{DIGEST}",
        f"localhost:30500/skills/team/echo/more@{DIGEST}",
        f"elsewhere.example/skills/team/echo@{DIGEST}",
        "localhost:30500/skills/team/echo:latest",
        f"localhost:30500/skills/team/echo:latest@{DIGEST}",
        f"localhost:30500/skills/team/echo@{DIGEST}0",
        "localhost:30500/skills/team/echo@sha256:short",
        "",
    ],
)
@pytest.mark.parametrize("place", ["status", "history", "deployment"])
def test_what_is_recorded_counts_only_as_an_image_of_the_skills_own(place: str, image: str) -> None:
    _, before = at({"exitCode": 0, "message": DIGEST})
    entry = recorded(before.revision, image)
    history = {"history": [entry | {"image": image or "none", "time": NOW.isoformat()}]}
    status = {"status": entry, "history": history, "deployment": {}}[place]
    live = running(before.revision, image) if place == "deployment" else None
    again = Progress(source=SOURCE)
    assert build(observed(skill(status), deployment=live), again, stage_context()).create
    assert not again.image


def test_a_build_is_named_and_marked_by_whole_digests() -> None:
    name, context, job = begun()
    revision = job["metadata"]["annotations"][naming.REVISION_DIGEST]
    assert len(revision) * 4 == 256
    assert context["metadata"]["name"] == name
    assert context["immutable"] is True, "nobody writes another context over it"
    hexadecimal = name.rpartition("-")[2]
    assert len(hexadecimal) * 4 >= 128
    namesake = skill()
    metadata = namesake.metadata.model_copy(update={"uid": "u-2"})
    namesake = namesake.model_copy(update={"metadata": metadata})
    other = build(observed(namesake), Progress(source=SOURCE), stage_context())
    assert other.create[0]["metadata"]["name"] != name, "of a Skill of the same name that came later"


# --- the registry was away ---

UNPULLED = pod(state={"waiting": {"reason": "ErrImagePull", "message": "not found"}})
OTHER_DIGEST = "sha256:" + "b" * 64


class Turns:
    """The build queue: what was requested, and what it answers."""

    def __init__(self, position: int = 0) -> None:
        self.position = position
        self.urgent: list[bool] = []

    async def request(self, _key: object, *, urgent: bool) -> int:
        self.urgent.append(urgent)
        return self.position


class Registry:
    """The registry, which has lost every image; and how it was asked."""

    def __init__(self, *lost: str) -> None:
        self.lost = lost
        self.requests: list[tuple[str, bool]] = []

    async def is_image_lost(self, image: str, ask_again: bool) -> bool:
        self.requests.append((image, ask_again))
        return image in self.lost


def built_before() -> Progress:
    return at({"exitCode": 0, "message": DIGEST})[1]


async def decide(state: Any, registry: Registry, turns: Turns) -> tuple[Result, Progress]:
    context = stage_context(build_queue=turns, is_image_lost=registry.is_image_lost)
    progress = Progress(source=SOURCE)
    return await confirm(build(state, progress, context), state, progress, context), progress


@pytest.mark.parametrize("place", ["status", "history", "deployment"])
@pytest.mark.parametrize(("pods", "urgent"), [((), False), ((UNPULLED,), True)])
async def test_a_lost_image_is_built_again_beside_what_runs(place: str, pods: Any, urgent: bool) -> None:
    before = built_before()
    entry = recorded(before.revision, before.image)
    status = {"status": entry, "history": {"history": [entry | {"time": NOW.isoformat()}]}, "deployment": {}}[place]
    live = running(before.revision, before.image) if place == "deployment" else None
    registry, turns = Registry(before.image), Turns()
    state = observed(skill(status), deployment=live, pods=pods)
    result, progress = await decide(state, registry, turns)
    assert registry.requests == [(before.image, urgent)], "whoever cannot pull wants to know it now"
    assert result.is_done, "the Skill goes on"
    assert progress.image == before.image
    assert [(c.type, c.status, c.reason) for c in result.conditions] == [("Built", "False", "ImageLost")]
    assert [each["kind"] for each in (*result.apply, *result.create)] == ["ConfigMap", "Job"]
    assert turns.urgent == [urgent], "what somebody calls for comes first"
    waits, _ = await decide(state, registry, Turns(3))
    assert waits.is_done
    assert not waits.create
    assert waits.after
    stored, _ = await decide(state, Registry(), turns)
    assert stored.conditions[0].reason == "Built"
    assert not stored.create


def restored(**more: Any) -> Any:
    """A Skill that comes back from the archive, and has no Deployment."""
    before = built_before()
    moment = {"lastTransitionTime": NOW.isoformat(), "message": ""}
    active = {"type": "Active", "status": "False", "reason": "Restoring", **moment}
    return observed(skill(recorded(before.revision, before.image) | {"conditions": [active]}), **more)


async def test_a_restored_skill_waits_for_an_image_that_was_swept() -> None:
    registry, turns = Registry(built_before().image), Turns()
    result, _ = await decide(restored(), registry, turns)
    assert registry.requests == [(built_before().image, True)], "what was there before may be gone"
    assert not result.is_done, "a node need not have it"
    assert [(c.type, c.status, c.reason) for c in result.conditions] == [("Built", "Unknown", "Building")]
    assert [each["kind"] for each in (*result.apply, *result.create)] == ["ConfigMap", "Job"]
    assert turns.urgent == [True], "a call may wait for it"
    waits, _ = await decide(restored(), registry, Turns(3))
    assert [(c.status, c.reason) for c in waits.conditions] == [("Unknown", "Queued")]


async def test_a_restored_skill_takes_an_image_that_is_there() -> None:
    result, progress = await decide(restored(), Registry(), Turns())
    assert result.is_done
    assert progress.image == built_before().image
    assert not result.create


async def test_a_restored_skill_waits_while_nobody_can_tell_whether_its_image_is_there() -> None:
    away = RegistryState(BaseImage({}, ""), RegistryUnavailable("no answer"))
    result, _ = await decide(restored(registry=away), Registry(), Turns())
    assert not result.is_done
    assert [(c.status, c.reason) for c in result.conditions] == [("Unknown", "RegistryUnavailable")]


async def test_a_lost_image_is_replaced_when_the_new_one_is_built() -> None:
    name, _, job = begun()
    before = built_before()
    state = observed(
        skill(recorded(before.revision, before.image)),
        builds={name: job},
        build_pods=(pod(name, {"exitCode": 0, "message": OTHER_DIGEST, "finishedAt": NOW.isoformat()}),),
    )
    state.builds[name]["metadata"]["creationTimestamp"] = NOW.isoformat()
    result, progress = await decide(state, Registry(before.image), Turns())
    assert progress.image.endswith(f"@{OTHER_DIGEST}")
    assert result.conditions[0].reason == "Built"


def built_from_equal_code() -> tuple[str, Progress, Any]:
    """The name of a build, its image as it is recorded, and what is observed once the build has made that image."""
    name, _, job = begun()
    before = built_before()
    done = pod(name, {"exitCode": 0, "message": DIGEST})
    state = observed(skill(recorded(before.revision, before.image)), builds={name: job}, build_pods=(done,))
    return name, before, state


async def test_the_build_that_made_the_lost_image_is_not_taken_for_another() -> None:
    name, before, state = built_from_equal_code()
    result, progress = await decide(state, Registry(before.image), Turns())
    assert result.conditions[0].reason == "ImageLost"
    assert [ref.name for ref in result.delete] == [name]
    assert result.after is not None
    assert progress.image == before.image


async def test_equal_code_is_built_into_the_digest_that_was_lost() -> None:
    name, before, state = built_from_equal_code()
    result, progress = await decide(state, Registry(), Turns())
    assert [(c.status, c.reason) for c in result.conditions] == [("True", "Built")]
    assert progress.image == before.image
    assert [ref.name for ref in result.delete] == [name]


@pytest.mark.parametrize("kaniko_failed", [True, False])
def test_the_container_of_a_build_that_failed_says_why(kaniko_failed: bool) -> None:
    name, _, job = begun()
    ended = {"exitCode": 1, "message": "first line\nthe registry refuses\n", "finishedAt": NOW.isoformat()}
    well = {"exitCode": 0, "message": "", "finishedAt": NOW.isoformat()}
    waiting = {"waiting": {"reason": "PodInitializing"}}
    made = pod(name)
    made["status"] |= {
        "initContainerStatuses": [{"name": "kaniko", "state": {"terminated": ended if kaniko_failed else well}}],
        "containerStatuses": [{"name": "normalizer", "state": waiting if kaniko_failed else {"terminated": ended}}],
    }
    result = build(observed(builds={name: job}, build_pods=(made,)), Progress(source=SOURCE), stage_context())
    assert result.conditions[0].reason == "BuildFailed"
    assert "the registry refuses" in result.conditions[0].message


async def test_a_skill_that_has_its_image_goes_on_while_the_registry_is_away() -> None:
    before = built_before()
    away = RegistryState(BaseImage({}, ""), RegistryUnavailable("the registry does not answer: refused"))
    state = observed(skill(recorded(before.revision, before.image)), registry=away)
    result, progress = await decide(state, Registry(), Turns())
    assert result.is_done
    assert progress.image == before.image
    (told,) = result.conditions
    assert (told.type, told.status, told.reason) == ("Built", "True", "RegistryUnavailable")
    assert "cannot be built again" in told.message
    assert "does not answer: refused" in told.message
    assert not result.delete


def test_a_build_that_failed_while_the_registry_was_away_is_made_again_when_it_is_back() -> None:
    name, _, job = begun()
    job["metadata"]["annotations"]["skill-operator.dev/failures"] = "60"
    end = {"exitCode": 1, "message": "no route", "finishedAt": NOW.isoformat()}
    failed = (pod(name, end),)

    def made_again(back_since: datetime | None) -> bool:
        state = observed(builds={name: job}, build_pods=failed, registry=RegistryState(back_since=back_since))
        return bool(build(state, Progress(source=SOURCE), stage_context(now=NOW + timedelta(seconds=2))).create)

    assert made_again(NOW + timedelta(seconds=1))
    assert not made_again(NOW - timedelta(seconds=1)), "it failed for another reason"
    assert not made_again(None)


# --- names as registries take them ---


def named(settings: Settings, name: str = "echo") -> tuple[str, str]:
    """Where a build of this Skill pushes to, and what its pods pull."""
    of = skill()
    of = of.model_copy(update={"metadata": of.metadata.model_copy(update={"name": name})})
    progress, context = Progress(source=SOURCE), stage_context(settings)
    (job,) = build(observed(of), progress, context).create
    spec = job["spec"]["template"]["spec"]
    (kaniko,), (normalizer,) = spec["initContainers"], spec["containers"]
    (raw,) = (a.partition("=")[2] for a in kaniko["args"] if a.startswith("--destination="))
    destination = str(normalizer["args"][0])
    assert raw.rpartition(":")[0] == destination.rpartition(":")[0]
    assert raw != destination
    assert len(raw.rpartition(":")[2]) <= 128
    name = job["metadata"]["name"]
    done = observed(of, builds={name: job}, build_pods=(pod(name, {"exitCode": 0, "message": DIGEST}),))
    built = Progress(source=SOURCE)
    assert build(done, built, context).is_done
    again = Progress(source=SOURCE)
    known = of.model_copy(update={"status": skill(recorded(built.revision, built.image)).status})
    assert build(observed(known), again, context).is_done, "it is known as the Skill's own"
    return destination.removeprefix(f"{settings.registry.push}/"), built.image


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("name", ["echo", "y" * 253, "a.b", "x-" + "0" * 32])
def test_what_is_pushed_is_what_is_pulled(flat: bool, name: str) -> None:
    registry = SETTINGS.registry.model_copy(update={"flat_names": flat, "push": "r.example/a", "pull": "p.example/a"})
    settings = SETTINGS.model_copy(update={"registry": registry})
    pushed, pulled = named(settings, name)
    repository, _, tag = pushed.rpartition(":")
    assert pulled == f"p.example/a/{repository}@{DIGEST}"
    assert repository.count("/") == (0 if flat else 2)
    assert len(f"r.example/a/{repository}") <= 255
    assert len(tag) <= 128


def test_of_one_repository_no_two_skills_share_a_tag() -> None:
    """Else the registry's rules for what has no tag would delete the former one's image."""
    registry = SETTINGS.registry.model_copy(update={"flat_names": True})
    settings = SETTINGS.model_copy(update={"registry": registry})
    names = ("echo", "echo-b", "echo.b", "y" * 253, "y" * 252)
    pushed = [named(settings, name)[0] for name in names]
    assert {each.rpartition(":")[0] for each in pushed} == {"skills-team"}
    assert len(set(pushed)) == len(names)


PROVENANCE = Provenance(
    author="model",
    source_digest=naming.source_digest(SOURCE),
    model="writer-1\n--label=x",
    prompt_version="3",
    attempts=2,
    tokens=300,
    time=NOW,
    checker="c@sha256:" + "2" * 64,
)


def build_of(provenance: Provenance | None) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the Job, and the labels that its image gets."""
    (job,) = build(observed(), Progress(source=SOURCE, provenance=provenance), stage_context()).create
    arguments = job["spec"]["template"]["spec"]["initContainers"][0]["args"]
    labels = [argument.removeprefix("--label=") for argument in arguments if argument.startswith("--label=")]
    return job, dict(label.split("=", 1) for label in labels)


def test_an_image_says_who_wrote_its_code() -> None:
    _, labels = build_of(PROVENANCE)
    group = naming.GROUP
    assert labels == {
        "org.opencontainers.image.revision": naming.revision(SOURCE, SETTINGS.images.runtime),
        "org.opencontainers.image.base.name": f"{SETTINGS.registry.push}/{SETTINGS.images.runtime}",
        f"{group}/author": "model",
        f"{group}/source-digest": naming.source_digest(SOURCE),
        f"{group}/model": "writer-1; --label=x",
        f"{group}/prompt-version": "3",
        f"{group}/attempts": "2",
        f"{group}/tokens": "300",
        f"{group}/time": "2030-01-01T12:00:00Z",
        f"{group}/checker": PROVENANCE.checker,
    }


def test_what_an_image_says_makes_no_other_build() -> None:
    """What runs is the same: a build that is under way goes on, and no image is built again, for another label."""
    job, _ = build_of(PROVENANCE)
    other, _ = build_of(PROVENANCE.model_copy(update={"tokens": 1, "checker": "other"}))
    unknown, _ = build_of(None)
    assert job["metadata"] == other["metadata"] == unknown["metadata"]
    state = observed(builds={job["metadata"]["name"]: job})
    result = build(state, Progress(source=SOURCE), stage_context())
    assert not result.create
    assert not result.delete
