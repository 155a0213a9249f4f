"""The base image's label, read from a real registry API on loopback."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from skill_operator.registry import client
from skill_operator.registry.client import BaseImagesDiffer, RegistryUnavailable, is_lost, read_base
from skill_operator.settings import ImageSettings, RegistrySettings, Settings

MANIFEST = {"python": "3.13", "rootEntries": ["bin", "usr"], "distributions": {f"d{n}": "1" for n in range(30_000)}}


class Answers:
    """What the registry says; tests change it."""

    def __init__(self) -> None:
        self.labels: object = {client.LABEL: json.dumps(MANIFEST)}
        self.checker: object = None  # as the base
        self.status = 200
        self.url = ""
        self.asked: list[str] = []  # the folder of each image that was read

    async def manifest(self, request: web.Request) -> web.Response:
        self.asked.append(request.path.removeprefix("/v2/").partition("/")[0])
        return web.json_response({"config": {"digest": "sha256:c"}}, status=self.status)

    async def config(self, request: web.Request) -> web.StreamResponse:
        """In small pieces, as a network brings it."""
        response = web.StreamResponse()
        await response.prepare(request)
        checker = self.checker is not None and "checker" in request.path
        data = json.dumps({"config": {"Labels": self.checker if checker else self.labels}}).encode()
        for at in range(0, len(data), 5000):
            await response.write(data[at : at + 5000])
        return response

    def settings(self) -> Settings:
        images = ImageSettings(runtime="base/runtime@sha256:r", checker="base/checker@sha256:r", builder="b")
        return Settings(images=images, registry=RegistrySettings(push="localhost:5000", read=self.url))


@pytest.fixture
async def answers() -> AsyncIterator[Answers]:
    made = Answers()
    app = web.Application()
    for folder in ("", "team/"):
        app.router.add_get(f"/v2/{folder}base/{{image}}/manifests/sha256:r", made.manifest)
        app.router.add_get(f"/v2/{folder}base/{{image}}/blobs/sha256:c", made.config)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


async def test_a_label_that_comes_in_pieces_is_read_whole(answers: Answers) -> None:
    base = await read_base(answers.settings())
    assert base.manifest == MANIFEST
    assert base.root_entries == ("bin", "usr")
    assert base.registry_address == "127.0.0.1"


async def test_r42_nothing_is_built_on_another_image_than_was_checked_in(answers: Answers) -> None:
    answers.checker = {client.LABEL: json.dumps(MANIFEST | {"python": "3.12"})}
    with pytest.raises(BaseImagesDiffer, match=r"base/checker@sha256:r is not made of base/runtime@sha256:r") as caught:
        await read_base(answers.settings())
    assert caught.value.reason == "BaseImagesDiffer"


@pytest.mark.parametrize("labels", [None, {}, [], {client.LABEL: "{"}, {client.LABEL: 7}])
async def test_an_image_without_the_label_is_named(answers: Answers, labels: object) -> None:
    answers.labels = labels
    with pytest.raises(RegistryUnavailable, match="base/runtime"):
        await read_base(answers.settings())


@pytest.mark.parametrize(
    ("status", "said"), [(404, "make install"), (500, "does not answer"), (401, "registry.readSecret")]
)
async def test_a_registry_that_refuses_is_asked_again_later(answers: Answers, status: int, said: str) -> None:
    answers.status = status
    with pytest.raises(RegistryUnavailable, match=said):
        await read_base(answers.settings())


async def test_a_registry_that_is_down_is_said_to_be(answers: Answers) -> None:
    answers.url = "http://127.0.0.1:1"
    with pytest.raises(RegistryUnavailable, match="does not answer"):
        await read_base(answers.settings())


async def test_a_label_without_end_is_cut(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_DOCUMENT_BYTES", 100_000)
    with pytest.raises(RegistryUnavailable, match="larger than"):
        await read_base(answers.settings())


@pytest.mark.parametrize(("status", "said"), [(200, False), (404, True), (500, False)])
async def test_an_image_is_lost_only_if_the_registry_says_so(answers: Answers, status: int, said: bool) -> None:
    answers.status = status
    assert await is_lost(answers.settings(), "localhost:30500/base/runtime@sha256:r") is said
    answers.url = "http://127.0.0.1:1"
    assert await is_lost(answers.settings(), "localhost:30500/base/runtime@sha256:r") is False


@pytest.mark.parametrize("image", ["base/runtime@sha256:r", "reg.example:5000/team/base/runtime@sha256:r"])
async def test_a_registry_that_is_shared_has_our_images_under_a_path(answers: Answers, image: str) -> None:
    """The URL has none, the names have."""
    plain = answers.settings()
    place = plain.registry.model_copy(update={"pull": "reg.example:5000/team"})
    settings = plain.model_copy(
        update={"images": plain.images.model_copy(update={"runtime": image}), "registry": place}
    )
    assert (await read_base(settings)).root_entries == ("bin", "usr")
    assert not await is_lost(settings, "reg.example:5000/team/base/runtime@sha256:r")
    assert set(answers.asked) == {"team"}
    assert await is_lost(settings, "reg.example:5000/team/base/other@sha256:s")
