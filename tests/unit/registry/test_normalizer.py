"""The end of a build: the same code becomes the same layer, whenever Kaniko wrote it, and a registry gets the rest."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from skill_operator.registry import normalizer
from skill_operator.registry.docker_config import RegistryCredential, render_docker_config
from skill_operator.registry.normalizer import EPOCH, NormalizeError, normalize, push_normalized, strip_times, unpack
from tests.unit.web_server import served

CODE = b"def run(input: dict) -> dict:\n    return {}\n"
CREDENTIAL = RegistryCredential("builder", "p" * 43)
OCI = "application/vnd.oci.image.manifest.v1+json"
BASE_LAYER = {"digest": "sha256:" + "1" * 64, "size": 7}


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def tar_of(code: bytes, time: float, name: str = "skill/skill.py") -> bytes:
    """As Kaniko writes it: the folders of the file, then the file, each with its times as PAX records."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for folder in ("/", "skill/"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, time
            entry.pax_headers = {"atime": f"{time + 1}", "ctime": f"{time + 2}"}
            tar.addfile(entry)
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode, entry.mtime = len(code), 0o444, time + 0.123456789
        entry.pax_headers = {"atime": f"{time + 1}", "ctime": f"{time + 2}"}
        tar.addfile(entry, io.BytesIO(code))
    return made.getvalue()


def image_of(code: bytes, time: float = 1e9) -> tuple[bytes, bytes, bytes]:
    """The manifest, the config and the last layer of what Kaniko pushes."""
    tar = tar_of(code, time)
    layer = gzip.compress(tar, mtime=int(time))
    config = json.dumps(
        {
            "created": f"2030-01-01T00:00:{int(time) % 60:02}Z",
            "config": {"Labels": {"a": "b"}},
            "history": [{"created": "2020-01-01T00:00:00Z"}, {"created": "2030-01-01T00:00:00Z", "author": "kaniko"}],
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64, digest(tar)]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI,
            "config": {"digest": digest(config), "size": len(config)},
            "layers": [BASE_LAYER, {"digest": digest(layer), "size": len(layer)}],
        }
    ).encode()
    return manifest, config, layer


@given(st.binary(max_size=2000), st.floats(1e9, 2e9), st.floats(1e9, 2e9))
def test_equal_code_is_an_equal_image_whenever_it_was_built(code: bytes, one: float, other: float) -> None:
    first, second = normalize(*image_of(code, one)), normalize(*image_of(code, other))
    assert first == second
    with tarfile.open(fileobj=io.BytesIO(first.layer)) as tar:
        entries = list(tar)
        assert [entry.mtime for entry in entries] == [0, 0, 0]
        assert not any({"mtime", "atime", "ctime"} & set(entry.pax_headers) for entry in entries)
        assert [(entry.name, entry.mode, entry.uid, entry.gid) for entry in entries[1:]] == [
            ("skill", 0o755, 0, 0),
            ("skill/skill.py", 0o444, 0, 0),
        ]
        content = tar.extractfile(entries[2])
        assert content is not None
        assert content.read() == code


def test_other_code_is_another_layer() -> None:
    assert normalize(*image_of(CODE)).layer != normalize(*image_of(CODE + b"\n")).layer


def test_a_long_name_and_what_is_no_file_stay() -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        link = tarfile.TarInfo("skill/" + "é" * 120)
        link.type, link.linkname, link.mtime = tarfile.SYMTYPE, "x" * 200, 1.5
        tar.addfile(link)
    with tarfile.open(fileobj=io.BytesIO(strip_times(made.getvalue()))) as tar:
        (entry,) = tar
    assert (entry.name, entry.linkname, entry.issym(), entry.mtime) == (link.name, link.linkname, True, 0)


def test_the_documents_agree_and_the_base_is_left_alone() -> None:
    image = normalize(*image_of(CODE))
    manifest, config = json.loads(image.manifest), json.loads(image.config)
    assert manifest["layers"][0] == BASE_LAYER
    assert manifest["layers"][1] == {"digest": digest(image.layer), "size": len(image.layer)}
    assert manifest["config"] == {"digest": digest(image.config), "size": len(image.config)}
    assert config["rootfs"]["diff_ids"] == ["sha256:" + "0" * 64, digest(gzip.decompress(image.layer))]
    assert config["created"] == EPOCH
    assert [each["created"] for each in config["history"]] == ["2020-01-01T00:00:00Z", EPOCH]
    assert config["config"] == {"Labels": {"a": "b"}}
    assert image.media_type == OCI


def broken() -> list[tuple[bytes, bytes, bytes]]:
    manifest, config, layer = image_of(CODE)
    without = {key: value for key, value in json.loads(config).items() if key != "rootfs"}
    return [
        (b"", config, layer),
        (b"[" * 100, config, layer),
        (b"{}", config, layer),
        (manifest, b"{}", layer),
        (manifest, json.dumps(without).encode(), layer),
        (manifest, b"[]", layer),
        (manifest, config, b""),
        (manifest, config, b"not gzipped"),
        (manifest, config, layer[:-9]),
        (manifest, config, gzip.compress(b"no tar" * 1000)),
        (manifest, config, gzip.compress(tar_of(b"another", 0))),
    ]


@pytest.mark.parametrize("documents", broken())
def test_what_is_no_image_is_told(documents: tuple[bytes, bytes, bytes]) -> None:
    with pytest.raises(NormalizeError):
        normalize(*documents)


@pytest.mark.parametrize("tar", [b"no tar" * 1000, tar_of(CODE, 0)[:700]])
def test_a_layer_that_is_no_whole_tar_is_told(tar: bytes) -> None:
    with pytest.raises(NormalizeError):
        strip_times(tar)


def test_a_layer_that_swells_is_not_unpacked() -> None:
    with pytest.raises(NormalizeError, match="has more than"):
        unpack(gzip.compress(b"\0" * (normalizer.MAX_LAYER_BYTES + 1)))


class Registry:
    """A registry by the OCI distribution spec, with one repository that a credential is needed for."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.uploads = "/v2/team/skills/blobs/uploads/1?state=a%2Fb"
        self.allowed = True
        self.keeps = False  # refuses to delete
        self.requests: list[str] = []
        self.host = ""

    def push(self, code: bytes, time: float = 1e9) -> str:
        manifest, config, layer = image_of(code, time)
        self.blobs |= {digest(each): each for each in (config, layer)}
        self.manifests[digest(manifest)] = manifest
        return digest(manifest)

    @web.middleware
    async def authenticate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        if request.headers.get("Authorization") != CREDENTIAL.header:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="registry"'})
        if request.method != "GET" and not self.allowed:
            return web.Response(status=403)
        response: web.StreamResponse = await handler(request)
        return response

    async def ping(self, _: web.Request) -> web.Response:
        return web.Response()

    async def read(self, request: web.Request) -> web.Response:
        kind, wanted = request.match_info["kind"], request.match_info["digest"]
        data = (self.manifests if kind == "manifests" else self.blobs).get(wanted)
        return web.Response(status=404) if data is None else web.Response(body=data)

    async def begin(self, _: web.Request) -> web.Response:
        return web.Response(status=202, headers={"Location": self.uploads})

    async def upload(self, request: web.Request) -> web.Response:
        data = await request.read()
        if request.query["state"] != "a/b" or request.query["digest"] != digest(data):
            return web.Response(status=400, text="digest invalid")
        self.blobs[digest(data)] = data
        return web.Response(status=201)

    async def put(self, request: web.Request) -> web.Response:
        data = await request.read()
        described = json.loads(data)
        known = {each["digest"] for each in (described["config"], *described["layers"])} <= {
            *self.blobs,
            BASE_LAYER["digest"],
        }
        if not known or request.headers["Content-Type"] != described["mediaType"]:
            return web.Response(status=400, text="blob unknown")
        self.manifests |= {request.match_info["tag"]: data, digest(data): data}
        return web.Response(status=201)

    async def delete(self, request: web.Request) -> web.Response:
        if self.keeps:
            return web.Response(status=405)
        del self.manifests[request.match_info["tag"]]
        return web.Response(status=202)


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    made = Registry()
    app = web.Application(middlewares=[made.authenticate])
    app.router.add_get("/v2/", made.ping)
    app.router.add_get("/v2/team/skills/{kind:manifests|blobs}/{digest}", made.read)
    app.router.add_post("/v2/team/skills/blobs/uploads/", made.begin)
    app.router.add_put("/v2/team/skills/blobs/uploads/1", made.upload)
    app.router.add_put("/v2/team/skills/manifests/{tag}", made.put)
    app.router.add_delete("/v2/team/skills/manifests/{tag}", made.delete)
    async with served(app) as host:
        made.host = host
        yield made


@pytest.fixture
def credentials(registry: Registry, tmp_path: Path) -> str:
    file = tmp_path / "config.json"
    file.write_text(render_docker_config(CREDENTIAL, registry.host))
    return str(file)


async def run(registry: Registry, of: str, credentials: str, *, insecure: bool = True) -> str:
    return await push_normalized(f"{registry.host}/team/skills:r1", of, credentials, insecure=insecure)


@pytest.mark.parametrize("keeps", [True, False])
async def test_builds_at_other_times_push_one_image(registry: Registry, credentials: str, keeps: bool) -> None:
    registry.keeps = keeps
    raw = registry.push(CODE, 1e9)
    first = await run(registry, raw, credentials)
    assert registry.manifests["r1"] == registry.manifests[first]
    assert (raw in registry.manifests) == keeps
    uploads = [each for each in registry.requests if "uploads/1" in each]
    assert await run(registry, registry.push(CODE, 2e9), credentials) == first
    assert [each for each in registry.requests if "uploads/1" in each] == uploads, "what is there is not sent again"
    assert await run(registry, registry.push(CODE + b"\n", 2e9), credentials) != first


@pytest.mark.parametrize("location", ["", "http://127.0.0.1:1/elsewhere?state=a", "ftp://x/", "//evil.example/u"])
async def test_no_code_goes_where_the_registry_points_to(registry: Registry, credentials: str, location: str) -> None:
    registry.uploads = location
    with pytest.raises(NormalizeError):
        await run(registry, registry.push(CODE), credentials)
    assert "r1" not in registry.manifests


async def test_a_credential_that_may_not_push_is_told(registry: Registry, credentials: str) -> None:
    registry.allowed = False
    with pytest.raises(NormalizeError, match=r"the credential of registry\.pushSecret may not push"):
        await run(registry, registry.push(CODE), credentials)


async def test_no_credential_is_told(registry: Registry) -> None:
    with pytest.raises(NormalizeError, match=r"the credential of registry\.pushSecret may not read"):
        await run(registry, registry.push(CODE), "")


async def test_a_registry_that_forges_bytes_is_not_believed(registry: Registry, credentials: str) -> None:
    raw = registry.push(CODE)
    layer = json.loads(registry.manifests[raw])["layers"][-1]["digest"]
    registry.blobs[layer] = image_of(CODE + b"#")[2]
    with pytest.raises(NormalizeError, match="other bytes than its digest"):
        await run(registry, raw, credentials)
    assert "r1" not in registry.manifests


async def test_plain_http_is_used_where_it_is_allowed_alone(registry: Registry, credentials: str) -> None:
    with pytest.raises(NormalizeError, match="does not answer"):
        await run(registry, registry.push(CODE), credentials, insecure=False)
    assert registry.requests == []


async def test_a_registry_that_is_away_is_told(credentials: str) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(NormalizeError, match=f"{host} does not answer"):
            await push_normalized(f"{host}/team/skills:r1", "sha256:" + "a" * 64, credentials, insecure=True)


async def test_the_digest_is_the_container_s_last_word(
    registry: Registry, credentials: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, message = tmp_path / "digest", tmp_path / "message"
    monkeypatch.setattr(normalizer, "_TERMINATION_MESSAGE", message)
    arguments = (f"{registry.host}/team/skills:r1", str(file), credentials, "insecure")
    file.write_text(registry.push(CODE) + "\n")
    await asyncio.to_thread(normalizer.main, *arguments)
    assert message.read_text() == digest(registry.manifests["r1"])
    file.write_text("sha256:" + "e" * 64)
    with pytest.raises(SystemExit, match=r"written without times: .* does not exist"):
        await asyncio.to_thread(normalizer.main, *arguments)
