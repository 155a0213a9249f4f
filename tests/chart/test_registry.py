"""The embedded registry: the chart's two configurations and the credential, against the real program."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import bcrypt
import pytest
import yaml

from skill_operator.k8s.errors import Conflict
from skill_operator.registry.docker_config import RegistryCredential, render_docker_config
from skill_operator.registry.mirror import read_authorization
from skill_operator.registry.push_secret import (
    MIRROR_CONFIG,
    ensure_push_secret,
    ensure_read_secret,
    generate_credential,
    htpasswd_line,
    registry_host,
    usable_credential,
)
from skill_operator.registry.seed import seed
from skill_operator.registry.storage import RegistryStorage, StoredImage
from skill_operator.settings import Settings
from tests.chart.render import NAMESPACE, Object, containers, pod, program, render
from tests.free_ports import free_port
from tests.unit.registry.test_seed import SHARED, Layout

REGISTRY = "skill-operator-registry.operators.svc:5000"
GOOD = RegistryCredential("builder", "p" * 43)
MIRROR = RegistryCredential("mirror", "r" * 43)
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def secret(text: str | bytes, **more: Any) -> Object:
    encoded = base64.b64encode(text.encode() if isinstance(text, str) else text).decode()
    return {
        "kind": "Secret",
        "metadata": {"name": "registry-push", "namespace": f"{NAMESPACE}-builds"},
        "data": {".dockerconfigjson": encoded},
        **more,
    }


@pytest.fixture
def settings() -> Settings:
    return Settings.model_validate_json(render().settings())


@dataclass
class Secrets:
    """The API server's part, for one Secret: versions and conflicts, and somebody else who is faster now and then."""

    live: Object | None = None
    rivals: list[Object] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    version: int = 0
    place: tuple[str, str] = (f"{NAMESPACE}-builds", "registry-push")

    def put(self, obj: Object) -> Object:
        self.version += 1
        self.live = json.loads(json.dumps(obj))
        assert self.live is not None
        self.live["metadata"]["resourceVersion"] = str(self.version)
        return self.live

    def overtaken(self) -> None:
        if self.rivals:
            self.put(self.rivals.pop(0))

    async def get(self, kind: str, namespace: str | None, name: str) -> Object | None:
        assert (kind, namespace, name) == ("Secret", *self.place)
        return self.live

    async def create(self, obj: Object) -> Object:
        self.overtaken()
        if self.live is not None:
            raise Conflict("exists", 409)
        self.writes.append("create")
        return self.put(obj)

    async def apply(self, obj: Object) -> Object:
        self.overtaken()
        assert self.live is not None
        if obj["metadata"]["resourceVersion"] != self.live["metadata"]["resourceVersion"]:
            raise Conflict("stale", 409)
        assert obj["type"] == self.live.get("type", "kubernetes.io/dockerconfigjson")
        self.writes.append("apply")
        return self.put(obj)


def agreed(cluster: Secrets, htpasswd: Path) -> RegistryCredential:
    """The credential that Kaniko would use, after a look that the registry would take it."""
    assert cluster.live is not None
    found = usable_credential(cluster.live, REGISTRY)
    assert found
    user, _, digest = htpasswd.read_text().strip().partition(":")
    assert user == found.user
    assert bcrypt.checkpw(found.password.encode(), digest.encode())
    return found


def files(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}


async def test_made_once_and_kept(settings: Settings, tmp_path: Path) -> None:
    cluster, htpasswd = Secrets(), tmp_path / "htpasswd"
    await ensure_push_secret(cluster, settings, htpasswd)  # type: ignore[arg-type]
    first = agreed(cluster, htpasswd)
    assert cluster.live
    assert cluster.live["type"] == "kubernetes.io/dockerconfigjson"
    await ensure_push_secret(cluster, settings, htpasswd)  # type: ignore[arg-type]
    assert agreed(cluster, htpasswd) == first
    assert cluster.writes == ["create"]
    assert files(tmp_path) == {"htpasswd": 0o640}


async def test_whoever_is_faster_wins(settings: Settings, tmp_path: Path) -> None:
    cluster = Secrets(rivals=[secret(render_docker_config(GOOD, REGISTRY))])
    await ensure_push_secret(cluster, settings, tmp_path / "htpasswd")  # type: ignore[arg-type]
    assert agreed(cluster, tmp_path / "htpasswd") == GOOD
    assert cluster.writes == []


async def test_it_does_not_fight_for_ever(settings: Settings, tmp_path: Path) -> None:
    cluster = Secrets(rivals=[secret("rubbish")] * 9)
    with pytest.raises(Conflict, match="operators-builds/registry-push changes faster"):
        await ensure_push_secret(cluster, settings, tmp_path / "htpasswd")  # type: ignore[arg-type]
    assert files(tmp_path) == {}


async def test_no_secret_is_named(settings: Settings, tmp_path: Path) -> None:
    nowhere = settings.model_copy(update={"registry": settings.registry.model_copy(update={"push_secret": ""})})
    with pytest.raises(ValueError, match=r"registry\.pushSecret is empty"):
        await ensure_push_secret(Secrets(), nowhere, tmp_path / "htpasswd")  # type: ignore[arg-type]


def entry(**changes: Any) -> str:
    made = json.loads(render_docker_config(GOOD, REGISTRY))
    made["auths"][REGISTRY] |= changes
    return json.dumps(made)


def auth(text: str) -> str:
    return json.dumps({"auths": {REGISTRY: {"auth": base64.b64encode(text.encode()).decode()}}})


UNUSABLE: list[Object] = [
    secret(""),
    secret("{"),
    secret(b"\xff\xfe"),
    secret("null"),
    secret("[]"),
    secret("[" * 100_000),
    secret('{"auths": []}'),
    secret('{"auths": {}}'),
    secret(json.dumps({"auths": {REGISTRY: "builder"}})),
    secret(json.dumps({"auths": {REGISTRY: {"auth": 1}}})),
    secret(json.dumps({"auths": {REGISTRY: {"auth": "é"}}})),
    secret(render_docker_config(GOOD, "elsewhere.example")),
    secret(entry(auth="bm9jb2xvbg==")),
    secret(entry(password="q" * 43)),
    secret(entry(username="root")),
    secret(entry(username=1)),
    secret(auth("builder:")),
    secret(auth("builder:short")),
    secret(auth(f"builder:{'p' * 73}")),
    secret(auth(f"builder:{'p' * 40}\nroot:x")),
    secret(auth(f"bui\nlder:{'p' * 43}")),
    secret(auth(f":{'p' * 43}")),
    secret(auth(f"builder:{'é' * 36}")),
    {"metadata": {}},
    {"metadata": {}, "data": None},
    {"metadata": {}, "data": {".dockerconfigjson": "%%%"}},
    {"metadata": {}, "data": {".dockerconfigjson": 7}},
]


@pytest.mark.parametrize("bad", UNUSABLE, ids=range(len(UNUSABLE)))
async def test_what_cannot_be_used_is_replaced(bad: Object, settings: Settings, tmp_path: Path) -> None:
    assert usable_credential(bad, REGISTRY) is None
    cluster = Secrets()
    cluster.put({"type": "Opaque"} | bad)
    await ensure_push_secret(cluster, settings, tmp_path / "htpasswd")  # type: ignore[arg-type]
    agreed(cluster, tmp_path / "htpasswd")
    assert cluster.writes == ["apply"]


def test_a_person_s_secret_is_usable() -> None:
    """As `kubectl create secret docker-registry` writes it, with others beside it."""
    made = json.loads(render_docker_config(GOOD, REGISTRY))
    made["auths"]["elsewhere.example"] = {"auth": "eDp5"}
    made["auths"][REGISTRY]["email"] = "a@b.example"
    assert usable_credential(secret(json.dumps(made)), REGISTRY) == GOOD
    assert usable_credential(secret(auth(f"{GOOD.user}:{GOOD.password}")), REGISTRY) == GOOD


def test_nobody_guesses_it() -> None:
    made = {generate_credential().password for _ in range(50)}
    assert len(made) == 50
    assert all(len(password) >= 43 for password in made)


@pytest.mark.parametrize(
    ("push", "name"),
    [
        ("registry:5000", "registry:5000"),
        ("ghcr.io/a/b", "ghcr.io"),
        ("registry.example:8443/a", "registry.example:8443"),
    ],
)
def test_the_name_a_credential_is_looked_up_by(push: str, name: str) -> None:
    assert registry_host(push) == name


async def test_the_mirrors_have_a_credential_of_their_own(settings: Settings, tmp_path: Path) -> None:
    cluster = Secrets(place=(f"{NAMESPACE}-nodes", MIRROR_CONFIG))
    for _ in range(2):
        await ensure_read_secret(cluster, settings, tmp_path / "readers")  # type: ignore[arg-type]
    assert cluster.writes == ["create"]
    assert cluster.live
    assert agreed(cluster, tmp_path / "readers").user == "mirror"
    kept = tmp_path / "config.json"
    kept.write_bytes(base64.b64decode(cluster.live["data"][".dockerconfigjson"]))
    assert read_authorization(kept) == agreed(cluster, tmp_path / "readers").header


# --- the real registry ---


@dataclass(frozen=True)
class Registry:
    writer: str
    reader: str

    def call(
        self, method: str, url: str, user: RegistryCredential | None = None, body: bytes | None = None, **headers: str
    ) -> tuple[int, Any]:
        request = urllib.request.Request(url, data=body, method=method)
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        if user:
            request.add_header("Authorization", f"Basic {user.auth}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, (answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            return error.code, error

    def push(self, user: RegistryCredential) -> str:
        """One image of one configuration and no layer; its digest."""
        return self.image("skills/a/b", "r1", user=user)

    def blob(
        self, repository: str, content: bytes, kind: str = "layer.v1.tar", user: RegistryCredential = GOOD
    ) -> Object:
        """As builds upload it, unless the repository has it; its descriptor."""
        blob = f"sha256:{hashlib.sha256(content).hexdigest()}"
        described = {"mediaType": f"application/vnd.oci.image.{kind}", "size": len(content), "digest": blob}
        if self.call("HEAD", f"{self.writer}/v2/{repository}/blobs/{blob}", user)[0] == 200:
            return described
        status, answer = self.call("POST", f"{self.writer}/v2/{repository}/blobs/uploads/", user)
        assert status == 202
        status, _ = self.call(
            "PUT", f"{answer[0]['Location']}&digest={blob}", user, content, Content_Type="application/octet-stream"
        )
        assert status == 201
        return described

    def image(self, repository: str, tag: str, *layers: bytes, user: RegistryCredential = GOOD) -> str:
        """Its digest."""
        config = self.blob(repository, b"{}", "config.v1+json", user)
        blobs = [self.blob(repository, layer, user=user) for layer in layers]
        manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": blobs}).encode()
        url = f"{self.writer}/v2/{repository}/manifests/{tag}"
        status, answer = self.call("PUT", url, user, manifest, Content_Type=MANIFEST)
        assert status == 201
        return str(answer[0]["Docker-Content-Digest"])

    def status(self, repository: str, reference: str) -> int:
        return self.call("GET", f"{self.reader}/v2/{repository}/manifests/{reference}", MIRROR, Accept=MANIFEST)[0]

    def pull(self, reference: str) -> int:
        return self.status("skills/a/b", reference)

    def whole(self, repository: str, reference: str) -> bool:
        """Whether a node could pull it."""
        url = f"{self.reader}/v2/{repository}/manifests/{reference}"
        _, (_, text) = self.call("GET", url, MIRROR, Accept=MANIFEST)
        manifest = json.loads(text)
        for each in (manifest["config"], *manifest["layers"]):
            status, answer = self.call("GET", f"{self.reader}/v2/{repository}/blobs/{each['digest']}", MIRROR)
            assert (status, len(answer[1])) == (200, each["size"])
        return True


@contextmanager
def serving(program: str, config: Path) -> Iterator[None]:
    with subprocess.Popen([program, "serve", str(config)], stderr=subprocess.PIPE, text=True) as process:
        try:
            said = []
            for line in process.stderr or ():
                said.append(line)
                if "listening on" in line:
                    break
            else:
                pytest.fail("the registry did not start: " + "".join(said))
            Thread(target=deque, args=(process.stderr, 0), daemon=True).start()  # else it waits for somebody to read
            yield
        finally:
            process.kill()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """Both containers as the chart configures them; only folders and ports are the test's."""
    distribution = program("registry")
    (tmp_path / "data").mkdir()
    (tmp_path / "writers").write_text(htpasswd_line(GOOD))
    (tmp_path / "readers").write_text(htpasswd_line(MIRROR))
    urls = {}
    with ExitStack() as stack:
        for name in ("writer", "reader"):
            config = yaml.safe_load(render().component("ConfigMap", "registry")["data"][f"{name}.yml"])
            config["storage"]["filesystem"]["rootdirectory"] = str(tmp_path / "data")
            port = free_port()
            config["http"]["addr"] = f"127.0.0.1:{port}"
            config["auth"]["htpasswd"]["path"] = str(tmp_path / Path(config["auth"]["htpasswd"]["path"]).name)
            file = tmp_path / f"{name}.yml"
            file.write_text(yaml.safe_dump(config))
            urls[name] = f"http://127.0.0.1:{port}"
            stack.enter_context(serving(distribution, file))
        yield Registry(**urls)


def test_only_the_builder_pushes_and_only_the_mirrors_read(registry: Registry) -> None:
    for server in (registry.writer, registry.reader):
        assert registry.call("GET", f"{server}/")[0] == 200  # what the probes ask for
    digest = registry.push(GOOD)
    assert registry.pull("r1") == registry.pull(digest) == 200
    for stranger in (None, RegistryCredential("builder", "q" * 43), RegistryCredential("root", GOOD.password)):
        assert registry.call("POST", f"{registry.writer}/v2/skills/a/b/blobs/uploads/", stranger)[0] == 401
        assert registry.call("GET", f"{registry.writer}/v2/skills/a/b/manifests/r1", stranger)[0] == 401
    config = registry.call("GET", f"{registry.reader}/v2/skills/a/b/manifests/r1", MIRROR, Accept=MANIFEST)
    blob = json.loads(config[1][1])["config"]["digest"]
    paths = ("", "_catalog", "skills/a/b/tags/list", "skills/a/b/manifests/r1", f"skills/a/b/manifests/{digest}")
    for stranger in (None, GOOD, RegistryCredential(MIRROR.user, "q" * 43)):
        for path in (*paths, f"skills/a/b/blobs/{blob}"):
            assert registry.call("GET", f"{registry.reader}/v2/{path}", stranger)[0] == 401
            assert registry.call("HEAD", f"{registry.reader}/v2/{path}", stranger)[0] == 401
    assert registry.call("POST", f"{registry.writer}/v2/skills/a/b/blobs/uploads/", MIRROR)[0] == 401


def test_the_reader_only_reads(registry: Registry) -> None:
    digest = registry.push(GOOD)
    for user in (MIRROR,):
        assert registry.call("POST", f"{registry.reader}/v2/skills/a/b/blobs/uploads/", user)[0] == 405
        assert registry.call("PUT", f"{registry.reader}/v2/skills/a/b/manifests/r2", user, b"{}")[0] == 405
        assert registry.call("DELETE", f"{registry.reader}/v2/skills/a/b/manifests/{digest}", user)[0] == 405
    assert registry.pull(digest) == 200


def test_nobody_deletes_over_the_network(registry: Registry) -> None:
    digest = registry.push(GOOD)
    for what in (f"manifests/{digest}", "manifests/r1", "blobs/sha256:" + hashlib.sha256(b"{}").hexdigest()):
        assert registry.call("DELETE", f"{registry.writer}/v2/skills/a/b/{what}", GOOD)[0] == 405
    assert registry.pull(digest) == 200


def test_each_request_costs_little() -> None:
    """A build makes some twenty, and bcrypt at its usual cost would take seconds of them."""
    assert htpasswd_line(GOOD).startswith(f"{GOOD.user}:$2b$04$")


def test_images_of_dead_skills_free_the_disk_and_nothing_else_changes(registry: Registry, tmp_path: Path) -> None:
    storage = RegistryStorage(tmp_path / "data", grace=0, settle=0)
    base = registry.image("skill-operator/runtime", "latest", b"base" * 100_000)
    for name in ("a/dead", "a/alive", "b/dead"):
        registry.image(f"skills/{name}", "r1", b"base" * 100_000, name.encode() * 50_000)
    kept = registry.image("skills/a/alive", "r2", b"base" * 100_000, b"new" * 50_000)
    before = used(tmp_path / "data")
    assert {image.repository for image in storage.images("skills/")} == {
        "skills/a/alive",
        "skills/a/dead",
        "skills/b/dead",
    }
    for image in storage.images("skills/"):
        if image.digest != kept:
            storage.remove(image)
    assert registry.status("skills/a/dead", "r1") == registry.status("skills/a/alive", "r1") == 404
    assert storage.collect() > 700_000
    assert used(tmp_path / "data") < before - 700_000
    assert not (tmp_path / "data/docker/registry/v2/repositories/skills/b").exists()
    assert registry.whole("skill-operator/runtime", base)
    assert registry.whole("skills/a/alive", kept)
    assert storage.collect() == 0
    again = registry.image("skills/a/dead", "r1", b"base" * 100_000, b"a/dead" * 50_000)
    assert registry.whole("skills/a/dead", again)


def test_what_is_young_is_left_alone(registry: Registry, tmp_path: Path) -> None:
    """As an upload whose manifest is still to come."""
    registry.blob("skills/a/b", b"on its way")
    digest = registry.image("skills/a/c", "r1", b"layer")
    storage = RegistryStorage(tmp_path / "data", grace=600, settle=0)
    assert storage.images("skills/") == []
    storage.remove(StoredImage("skills/a/c", digest))
    assert storage.collect() == 0
    assert RegistryStorage(tmp_path / "data", grace=0, settle=0).collect() > 0


@pytest.mark.parametrize("how", ["pushed anew", "linked to what was there"])
def test_what_is_wanted_again_in_the_middle_of_it_stays(registry: Registry, tmp_path: Path, how: str) -> None:
    content = b"layer" * 1000
    name = hashlib.sha256(content).hexdigest()
    place = tmp_path / "data/docker/registry/v2/blobs/sha256" / name[:2] / name
    registry.blob("skills/a/b", content)

    class Interrupted(RegistryStorage):
        def pause(self) -> None:
            assert not place.exists()
            if how == "pushed anew":
                registry.image("skills/a/b", "r1", content)
            else:
                link = tmp_path / "data/docker/registry/v2/repositories/skills/a/c/_layers/sha256" / name / "link"
                link.parent.mkdir(parents=True)
                (link.parents[3] / "_manifests").mkdir()
                link.write_text(f"sha256:{name}")

    Interrupted(tmp_path / "data", grace=0).collect()
    assert (place / "data").read_bytes() == content
    assert not list((tmp_path / "data/trash").iterdir())


@pytest.mark.parametrize("bad", [b"{", b"[]", b'{"layers": [1]}', b'{"config": {}}', b"[" * 100_000])
def test_a_manifest_that_cannot_be_read_stops_everything(registry: Registry, tmp_path: Path, bad: bytes) -> None:
    registry.blob("skills/a/b", b"of nobody")
    digest = registry.image("skills/a/c", "r1", b"layer").removeprefix("sha256:")
    (tmp_path / "data/docker/registry/v2/blobs/sha256" / digest[:2] / digest / "data").write_bytes(bad)
    before = used(tmp_path / "data")
    with pytest.raises(ValueError, match="this is no OCI manifest"):
        RegistryStorage(tmp_path / "data", grace=0, settle=0).collect()
    assert used(tmp_path / "data") == before


def test_an_empty_disk_is_swept(tmp_path: Path) -> None:
    assert RegistryStorage(tmp_path, grace=0, settle=0).images("skills/") == []
    assert RegistryStorage(tmp_path, grace=0, settle=0).collect() == 0


def used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# --- the base images ---


def test_the_registry_serves_what_it_was_seeded_with(registry: Registry, tmp_path: Path) -> None:
    """It has them before it starts; that it runs here already shows that it keeps no list of its own."""
    layout, storage = Layout(tmp_path / "bases"), RegistryStorage(tmp_path / "data", grace=600)
    images = {"skill-operator/runtime": layout.runtime, "skill-operator/checker": layout.checker}
    for repository, digest in images.items():
        assert registry.status(repository, digest) == 404
    for _ in range(2):
        seed(layout.settings(), layout.folder, storage)
        for repository, digest in images.items():
            assert registry.status(repository, digest) == 200
            assert registry.whole(repository, digest)
    assert registry.status("skill-operator/runtime", layout.checker) == 404, "each in its own repository"


def test_builds_on_a_seeded_base_survive_the_sweep(registry: Registry, tmp_path: Path) -> None:
    layout, storage = Layout(tmp_path / "bases"), RegistryStorage(tmp_path / "data", grace=0, settle=0)
    seed(layout.settings(), layout.folder, storage)
    built = registry.image("skills/a/b", "r1", SHARED, b"skill.py")
    storage.collect()
    assert registry.whole("skills/a/b", built)
    assert registry.whole("skill-operator/runtime", layout.runtime)
    storage.remove(StoredImage("skill-operator/runtime", layout.runtime))
    storage.remove(StoredImage("skill-operator/checker", layout.checker))
    storage.collect()
    assert registry.status("skill-operator/runtime", layout.runtime) == 404
    seed(layout.settings(), layout.folder, storage)
    assert registry.whole("skill-operator/runtime", layout.runtime)
    assert registry.whole("skills/a/b", built)


# --- how the chart puts it together ---


def test_containers_of_the_pod() -> None:
    deployment = render().workload("registry")
    credentials, bases, reader, writer, sweeper = containers(deployment)
    mounts = {c["name"]: {m["name"]: m for m in c["volumeMounts"]} for c in containers(deployment)}
    assert bases["args"][-1] == mounts["bases"]["data"]["mountPath"]
    assert "auth" not in mounts["bases"]
    assert sweeper["args"] == ["registry-sweep", mounts["sweeper"]["data"]["mountPath"]]
    assert "ports" not in sweeper
    assert "auth" not in mounts["sweeper"]
    assert credentials["args"] == ["registry-credentials", "/auth/writers", "/auth/readers"]
    assert reader["image"] == writer["image"] == "docker.io/library/registry:3"
    assert mounts["reader"]["data"]["readOnly"]
    assert not mounts["writer"]["data"]["readOnly"]
    assert mounts["writer"]["auth"]["readOnly"]
    assert mounts["reader"]["auth"]["readOnly"]
    assert "data" not in mounts["credentials"]
    config = render().component("ConfigMap", "registry")["data"]
    for container in (reader, writer):
        text = yaml.safe_load(config[Path(container["args"][1]).name])
        assert text["http"]["addr"] == f":{container['ports'][0]['containerPort']}"
        assert text["storage"]["filesystem"]["rootdirectory"] == mounts[container["name"]]["data"]["mountPath"]
    checked = [yaml.safe_load(config[f"{name}.yml"])["auth"]["htpasswd"]["path"] for name in ("writer", "reader")]
    assert checked == credentials["args"][1:]
    (auth_volume,) = (v for v in pod(deployment)["spec"]["volumes"] if v["name"] == "auth")
    assert auth_volume["emptyDir"]["medium"] == "Memory"
