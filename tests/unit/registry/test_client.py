"""The base image's label, read from a real registry API on loopback."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from skill_operator.registry import client
from skill_operator.registry.client import BaseImagesDiffer, RegistryUnavailable, is_stored, read_base
from skill_operator.settings import ImageSettings, RegistrySettings, Settings
from tests.unit.web_server import served

MANIFEST = {"python": "3.13", "rootEntries": ["bin", "usr"], "distributions": {f"d{n}": "1" for n in range(30_000)}}


class Answers:
    """What the registry says; tests change it. `forge` changes bytes after their digest was made."""

    def __init__(self) -> None:
        self.labels: object = {client.LABEL: json.dumps(MANIFEST)}
        self.checker: object = None  # as the base
        self.status = 200
        self.url = ""
        self.asked: list[str] = []  # the folder of each image that was read
        self.methods: list[str] = []  # of the requests for manifests
        self.forge: set[str] = set()
        self.location = ""  # where blobs are
        self.stored: list[dict[str, str]] = []  # the headers of what was read there

    def _config(self, image: str) -> bytes:
        is_checker = self.checker is not None and image == "checker"
        return json.dumps({"config": {"Labels": self.checker if is_checker else self.labels}}).encode()

    def _manifest(self, image: str) -> bytes:
        return json.dumps({"config": {"digest": digest(self._config(image))}}).encode()

    async def manifest(self, request: web.Request) -> web.Response:
        self.methods.append(request.method)
        self.asked.append(request.path.removeprefix("/v2/").partition("/")[0])
        image, wanted = request.match_info["image"], request.match_info["digest"]
        data = self._manifest(image)
        if wanted not in {digest(data), "latest"}:
            return web.Response(status=404)
        return web.Response(body=data + b" " * ("manifest" in self.forge), status=self.status)

    async def config(self, request: web.Request) -> web.StreamResponse:
        """In small pieces, as a network brings it."""
        if self.location:
            return web.Response(status=307, headers={"Location": self.location})
        return await self._send_config(request, request.match_info["image"])

    async def storage(self, request: web.Request) -> web.StreamResponse:
        self.stored.append(dict(request.headers))
        return await self._send_config(request, "runtime")

    async def _send_config(self, request: web.Request, image: str) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        data = self._config(image) + b" " * ("config" in self.forge)
        for at in range(0, len(data), 5000):
            await response.write(data[at : at + 5000])
        return response

    def image(self, name: str, folder: str = "") -> str:
        return f"{folder}base/{name}@{digest(self._manifest(name))}"

    def settings(self, **registry: Any) -> Settings:
        images = ImageSettings(runtime=self.image("runtime"), checker=self.image("checker"), builder="b", operator="o")
        return Settings(images=images, registry=RegistrySettings(push="localhost:5000", read=self.url, **registry))


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
async def answers() -> AsyncIterator[Answers]:
    made = Answers()
    app = web.Application()
    for folder in ("", "team/"):
        app.router.add_get(f"/v2/{folder}base/{{image}}/manifests/{{digest}}", made.manifest)
        app.router.add_get(f"/v2/{folder}base/{{image}}/blobs/{{digest}}", made.config)
    app.router.add_get("/storage", made.storage)
    async with served(app) as host:
        made.url = f"http://{host}"
        yield made


async def test_a_label_that_comes_in_pieces_is_read_whole(answers: Answers) -> None:
    base = await read_base(answers.settings())
    assert base.manifest == MANIFEST
    assert base.root_entries == ("bin", "usr")
    assert base.registry_address == "127.0.0.1"


async def test_r42_nothing_is_built_on_another_image_than_was_checked_in(answers: Answers) -> None:
    answers.checker = {client.LABEL: json.dumps(MANIFEST | {"python": "3.12"})}
    with pytest.raises(BaseImagesDiffer, match=r"base/checker@\S+ is not made of base/runtime@") as caught:
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
    image = answers.image("runtime", "localhost:30500/")
    assert (await is_stored(answers.settings(), image) is False) is said
    answers.url = "http://127.0.0.1:1"
    assert await is_stored(answers.settings(), image) is not False


@pytest.mark.parametrize("folder", ["", "reg.example:5000/team/"])
async def test_a_registry_that_is_shared_has_our_images_under_a_path(answers: Answers, folder: str) -> None:
    """The URL has none, the names have."""
    image = answers.image("runtime", folder)
    plain = answers.settings()
    place = plain.registry.model_copy(update={"pull": "reg.example:5000/team"})
    settings = plain.model_copy(
        update={"images": plain.images.model_copy(update={"runtime": image}), "registry": place}
    )
    assert (await read_base(settings)).root_entries == ("bin", "usr")
    assert await is_stored(settings, answers.image("runtime", "reg.example:5000/team/")) is not False
    assert set(answers.asked) == {"team"}
    assert await is_stored(settings, f"reg.example:5000/team/base/other@{digest(b'')}") is False


@pytest.mark.parametrize("forged", ["manifest", "config"])
async def test_bytes_that_are_not_those_of_the_digest_are_not_read(answers: Answers, forged: str) -> None:
    answers.forge.add(forged)
    with pytest.raises(RegistryUnavailable, match="other bytes than its digest"):
        await read_base(answers.settings())


@pytest.mark.parametrize("wanted", ["sha256:", "sha256:" + "1" * 63, "md5:d41d8cd98f00b204e9800998ecf8427e", "1" * 64])
async def test_what_is_no_digest_is_no_proof(answers: Answers, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not client._has_digest(b"", wanted)
    assert client._has_digest(b"a", digest(b"a"))


@pytest.mark.parametrize(
    "manifest",
    [{"config": {"digest": each}} for each in (7, "", "sha256:c", "../../x", None)] + [{"config": []}, [], 7],
)
async def test_a_manifest_of_another_shape_is_no_base_image(answers: Answers, manifest: object) -> None:
    data = json.dumps(manifest).encode()
    answers._manifest = lambda _: data  # type: ignore[method-assign]
    with pytest.raises(RegistryUnavailable, match="is no base image"):
        await read_base(answers.settings())


async def test_a_document_nested_without_end_is_no_base_image(answers: Answers) -> None:
    answers._manifest = lambda _: b"[" * 100_000  # type: ignore[method-assign]
    with pytest.raises(RegistryUnavailable, match="is no base image"):
        await read_base(answers.settings())


async def test_a_blob_elsewhere_on_the_host_is_read_without_the_credential(answers: Answers) -> None:
    answers.location = "/storage"
    assert (await read_base(answers.settings())).manifest == MANIFEST
    assert answers.stored
    assert all("Authorization" not in headers for headers in answers.stored)


@pytest.mark.parametrize(
    "location",
    [
        "http://localhost:PORT/storage",
        "http://10.0.0.1/storage",
        "https://169.254.169.254/latest/meta-data",
        "https://localhost:PORT/storage",
        "https://[::1]/storage",
        "https://127.1/storage",
        "ftp://127.0.0.1/storage",
        "http://user:pw@127.0.0.1:PORT/storage",
        "//localhost:PORT/storage",
    ],
)
async def test_a_redirect_to_the_inside_is_not_followed(answers: Answers, location: str) -> None:
    answers.location = location.replace("PORT", answers.url.rpartition(":")[2])
    with pytest.raises(RegistryUnavailable):
        await read_base(answers.settings())
    assert answers.stored == []


async def test_a_host_of_the_setting_may_keep_the_blobs(answers: Answers) -> None:
    answers.location = f"http://localhost:{answers.url.rpartition(':')[2]}/storage"
    assert (await read_base(answers.settings(trusted_hosts=["localhost"]))).manifest == MANIFEST


async def test_redirects_end(answers: Answers) -> None:
    answers.location = "/v2/base/runtime/blobs/again"
    with pytest.raises(RegistryUnavailable, match="redirected more than"):
        await read_base(answers.settings())


def platform(letter: str, system: str, machine: str) -> dict[str, object]:
    return {"digest": f"sha256:{letter * 64}", "platform": {"os": system, "architecture": machine}}


AMD64, ARM64 = platform("a", "linux", "amd64"), platform("b", "linux", "arm64")


@pytest.mark.parametrize(
    ("manifests", "told"),
    [
        ([AMD64, ARM64], [f"{AMD64['digest']} for linux/amd64", f"{ARM64['digest']} for linux/arm64"]),
        ([AMD64, platform("c", "unknown", "unknown")], ["(sha256:" + "a" * 64 + " for linux/amd64)"]),
        ([], ["names none"]),
        ([7, None, {}, {"digest": "sha256:x", "platform": {}}], ["names none"]),
        ([platform("d", "linux\n\x1b[31m", "amd64")], ["sha256:" + "d" * 64]),
        ([AMD64] * 500, ["linux/amd64"]),
    ],
)
@pytest.mark.parametrize("kind", ["oci.image.index.v1", "docker.distribution.manifest.list.v2"])
async def test_an_index_of_several_platforms_is_told_as_such(
    answers: Answers, manifests: list[object], told: list[str], kind: str
) -> None:
    document = {"schemaVersion": 2, "mediaType": f"application/vnd.{kind}+json", "manifests": manifests}
    data = json.dumps(document).encode()
    answers._manifest = lambda _: data  # type: ignore[method-assign]
    with pytest.raises(client.BaseImageInvalid, match="is an index of images for several platforms") as caught:
        await read_base(answers.settings())
    message = str(caught.value)
    assert all(each in message for each in told)
    assert message.isprintable()
    assert len(message) < 2000
    assert f"application/vnd.{kind}+json" in client.ACCEPT, "else some registries deny that there is such an image"
