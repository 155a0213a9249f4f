"""What the doctor says of good and bad clusters. Models and registries are real servers on loopback."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from skill_operator import doctor
from skill_operator.k8s.errors import Forbidden
from skill_operator.settings import ModelEndpoint, SelfSignedSettings, Settings
from tests.unit.certificates.samples import SERVING, TRUST, Clock, Stored, rotator
from tests.unit.certificates.samples import SETTINGS as OWN
from tests.unit.reconcile.samples import SETTINGS
from tests.unit.web_server import served

GOOD_NODE: dict[str, Any] = {
    "metadata": {"name": "one"},
    "status": {
        "nodeInfo": {"kubeletVersion": "v1.36.2"},
        "runtimeHandlers": [{"name": "", "features": {"userNamespaces": True}}, {"name": "runsc", "features": {}}],
    },
}


class FakeApiServer:
    """An API server that says these things."""

    def __init__(self, **objects: Any) -> None:
        self.objects = objects
        self.scanned = 0

    async def list(self, kind: str, namespace: str | None = None, labels: dict[str, str] | None = None) -> Any:
        answer = self.objects.get(kind, [])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def scan(
        self, kind: str, namespace: str | None = None, labels: dict[str, str] | None = None
    ) -> AsyncGenerator[Any, None]:
        for obj in await self.list(kind):
            if (labels or {}).items() <= obj["metadata"].get("labels", {}).items():
                self.scanned += 1
                yield obj

    async def get(self, kind: str, namespace: str | None, name: str) -> Any:
        return self.objects.get(f"{kind}/{name}")


@asynccontextmanager
async def answering(status: int) -> AsyncIterator[str]:
    async def handler(request: web.Request) -> web.Response:
        assert request.headers.get("Authorization", "Bearer key") == "Bearer key"
        return web.Response(status=status)

    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    async with served(app) as host:
        yield host


@pytest.mark.parametrize(
    ("handlers", "runtime_class", "state"),
    [
        ([{"name": "", "features": {"userNamespaces": True}}], "", "ok"),
        ([{"name": "", "features": {"userNamespaces": False}}], "", "bad"),
        ([{"name": ""}], "", "bad"),
        (None, "", "bad"),
        ([{"name": ""}, {"name": "runsc", "features": {"userNamespaces": True}}], "gvisor", "ok"),
    ],
)
async def test_user_namespaces_are_the_kubelet_s_word(handlers: Any, runtime_class: str, state: str) -> None:
    node = {**GOOD_NODE, "status": {**GOOD_NODE["status"], "runtimeHandlers": handlers}}
    isolation = SETTINGS.isolation.model_copy(update={"runtime_class_name": runtime_class})
    settings = SETTINGS.model_copy(update={"isolation": isolation})
    nodes, namespaces = await doctor._nodes(FakeApiServer(Node=[node]), settings)  # type: ignore[arg-type]
    assert (nodes.state, nodes.found) == ("ok", "1, kubelet v1.36.2")
    assert namespaces.state == state
    assert bool(namespaces.todo) is (state == "bad")


async def test_to_do_without_user_namespaces_is_bad_wherever_they_are() -> None:
    isolation = SETTINGS.isolation.model_copy(update={"user_namespaces": "Never"})
    settings = SETTINGS.model_copy(update={"isolation": isolation})
    _, line = await doctor._nodes(FakeApiServer(Node=[GOOD_NODE]), settings)  # type: ignore[arg-type]
    assert line.state == "bad"


async def test_the_plugin_is_known_by_its_pods() -> None:
    pods = [{"metadata": {"labels": {"k8s-app": "cilium"}}}, {"metadata": {}}]
    (line,) = await doctor._plugin(FakeApiServer(Pod=pods), SETTINGS)  # type: ignore[arg-type]
    assert (line.state, line.found) == ("ok", "Cilium")
    (line,) = await doctor._plugin(FakeApiServer(), SETTINGS)  # type: ignore[arg-type]
    assert line.state == "unknown"


async def test_the_plugin_is_known_without_reading_all_pods() -> None:
    pods = [{"metadata": {"labels": {"k8s-app": name}}} for name in ["cilium"] * 500 + ["a-tenant-s"] * 500]
    api_server = FakeApiServer(Pod=pods)
    await doctor._plugin(api_server, SETTINGS)  # type: ignore[arg-type]
    assert api_server.scanned == 1


@pytest.mark.parametrize(
    ("code", "state"), [(200, "ok"), (401, "bad"), (403, "bad"), (404, "unknown"), (500, "unknown")]
)
async def test_a_model_is_asked_without_spending(code: int, state: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("key\n")
    async with answering(code) as at:
        endpoint = ModelEndpoint(name="m", base_url=f"http://{at}/v1", model="x", api_key_file=str(tmp_path / "key"))
        line = await doctor._model(endpoint)
    assert (line.state, "key" in line.found.replace("the key", "")) == (state, False)
    assert (await doctor._model(endpoint)).state == "bad"  # it is gone
    gone = endpoint.model_copy(update={"api_key_file": str(tmp_path / "none")})
    assert "cannot be read" in (await doctor._model(gone)).found


@pytest.mark.parametrize("header", ["Authorization", "api-key", "X-Key"])
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_a_key_goes_nowhere_else(header: str, code: int, tmp_path: Path) -> None:
    """No library knows which header of whose is a credential, so no redirect is followed."""
    (tmp_path / "key").write_text("s3cret\n")
    elsewhere: list[web.Request] = []

    async def take(request: web.Request) -> web.Response:
        elsewhere.append(request)
        return web.json_response({})

    async def redirect(_: web.Request) -> web.Response:
        return web.Response(status=code, headers={"Location": f"http://{other}/v1/models"})

    thief, endpoint = web.Application(), web.Application()
    thief.router.add_get("/{path:.*}", take)
    endpoint.router.add_get("/{path:.*}", redirect)
    async with served(thief) as other, served(endpoint) as at:
        model = ModelEndpoint(
            name="m", base_url=f"http://{at}/v1", model="x", api_key_file=str(tmp_path / "key"), auth_header=header
        )
        line = await doctor._model(model)
    assert not elsewhere
    assert (line.state, f"redirects to http://{other}/v1/models" in line.found) == ("bad", True)


@pytest.mark.parametrize(("code", "state"), [(401, "ok"), (200, "bad"), (503, "bad"), (307, "bad")])
async def test_a_registry_must_ask_who_pushes(code: int, state: str) -> None:
    async with answering(code) as at:
        settings = SETTINGS.model_copy(update={"registry": SETTINGS.registry.model_copy(update={"push": f"{at}/x"})})
        assert (await doctor._check_push(settings, ""))[0] == state


UNBOUND = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."


@pytest.mark.parametrize(
    ("conditions", "settings", "todo"),
    [
        ([{"type": "PodScheduled", "status": "False", "message": UNBOUND}], {}, "registry.persistence.enabled: false"),
        ([{"type": "PodScheduled", "status": "False", "message": "no room"}], {}, "finds no node: no room"),
        ([], {}, "see statefulset skill-operator-registry"),
        ([], {"watch_namespaces": ["team"]}, "see statefulset skill-operator-registry"),
        ([], {"registry_labels": {}}, "see registry.read"),
    ],
)
async def test_a_registry_that_is_not_there_says_why(conditions: Any, settings: Any, todo: str) -> None:
    registry = SETTINGS.registry.model_copy(update={"read": "http://127.0.0.1:1"})
    pod = {"metadata": {"name": "registry-0", "labels": {}}, "status": {"conditions": conditions}}
    server = FakeApiServer(Pod=[pod])
    line, *_ = await doctor._registry(server, SETTINGS.model_copy(update={"registry": registry} | settings))  # type: ignore[arg-type]
    assert (line.check, line.state) == ("registry, read", "bad")
    assert todo in line.todo


async def test_an_open_cluster_is_bad_and_said_to_be() -> None:
    lax: Settings = SETTINGS.model_copy(update={"isolation": SETTINGS.isolation.model_copy(update={"required": False})})
    (line,) = await doctor._isolation(lax)
    assert line.state == "bad"
    assert "isolation.required: true" in line.todo


def encryption(**changes: Any) -> Any:
    settings: Settings = SETTINGS.model_copy(update=changes)
    return doctor._encryption(FakeApiServer(), settings)  # type: ignore[arg-type]


async def test_what_is_plain_is_named_with_what_to_do() -> None:
    models = [
        ModelEndpoint(name="near", base_url="http://inference.models.svc:8000/v1", model="m"),
        ModelEndpoint(name="keyed", base_url="HTTP://models.example/v1", model="m", api_key_file="/key"),
        ModelEndpoint(name="safe", base_url="https://models.example/v1", model="m"),
    ]
    lines = {line.check: line for line in await encryption(models=models)}
    assert {check: line.state for check, line in lines.items()} == dict.fromkeys(
        ["TLS, gateway", "TLS, registry", "TLS, model near", "TLS, model keyed"], "plain"
    )
    assert all(line.todo and line.found.startswith("plain HTTP: ") for line in lines.values())
    assert "gateway.tls.selfSigned: true" in lines["TLS, gateway"].todo
    assert "registry.embedded: false" in lines["TLS, registry"].todo
    assert ["and the key" in lines[f"TLS, model {name}"].found for name in ("near", "keyed")] == [False, True]


@pytest.mark.parametrize(
    ("insecure", "read", "found"),
    [
        (False, "https://r.example", "HTTPS"),
        (True, "https://r.example", "plain HTTP: pushes to r.example, credentials included"),
        (False, "http://u:secret@r.example/x", "plain HTTP: reads of r.example, credentials included"),
        (True, "http://r.example", "plain HTTP: pushes to r.example and reads of r.example, credentials included"),
    ],
)
async def test_a_registry_elsewhere_is_plain_by_what_it_is_used_for(insecure: bool, read: str, found: str) -> None:
    place = SETTINGS.registry.model_copy(update={"insecure": insecure, "read": read, "push": "r.example/team"})
    _, line = await encryption(registry=place, registry_labels={})
    assert (line.found, line.state) == (found, "ok" if found == "HTTPS" else "plain")
    assert ("registry.insecure: false" in line.todo) is (found != "HTTPS")


async def test_a_certificate_of_one_s_own_is_ok_unread() -> None:
    """The controller may not read that Secret."""
    line, *_ = await encryption(gateway=SETTINGS.gateway.model_copy(update={"tls_folder": "/etc/skill-operator-tls"}))
    assert (line.state, line.todo) == ("ok", "")
    assert "gateway.tls.secretName" in line.found


async def test_the_gateway_s_own_certificate_is_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.rotator, "read_resolv_conf", str)
    own = OWN.gateway.model_copy(update={"tls_folder": "/etc/skill-operator-tls"})
    stored, clock = Stored(), Clock()
    clock.now = datetime.now(UTC)

    async def line(gateway: Any = own) -> Any:
        settings = OWN.model_copy(update={"gateway": gateway})
        return await doctor._gateway_encryption(stored, settings)  # type: ignore[arg-type]

    assert (await line()).found == "there is no certificate that can be used"
    await rotator(stored, clock).rotate()
    assert (await line()).state == "ok"
    assert r"get configmap skill-operator-gateway-ca -o jsonpath='{.data.ca\.crt}'" in (await line()).found
    more = SelfSignedSettings(enabled=True, extra_names=["skills.example"])
    assert "is for other names" in (await line(own.model_copy(update={"self_signed": more}))).found
    bundle = stored.data(TRUST)["ca.crt"]
    stored.data(TRUST)["ca.crt"] = "rubbish"
    found = await line()
    assert (found.state, found.found) == ("bad", "callers do not get the CA of the certificate")
    assert "log of the controller" in found.todo
    stored.data(TRUST)["ca.crt"] = bundle
    stored.objects[SERVING]["metadata"]["labels"] = {}
    found = await line()
    assert (found.state, "is not the operator's: delete or rename it" in found.todo) == ("bad", True)
    stored, clock.now = Stored(), clock.now - timedelta(days=100)
    await rotator(stored, clock).rotate()
    assert (await line()).found.startswith("the certificate is valid until 20")


@pytest.mark.parametrize(
    ("live", "state", "found"),
    [
        (None, "bad", "there is no deployment"),
        ({"spec": {"replicas": 0}}, "ok", "at rest"),
        ({"spec": {"replicas": 2}, "status": {"availableReplicas": 1}}, "ok", "1 of 2 pods are available"),
        ({"spec": {"replicas": 1}, "status": {}}, "bad", "0 of 1 pods are available"),
    ],
)
async def test_the_egress_proxy(live: Any, state: str, found: str) -> None:
    server = FakeApiServer(**{f"Deployment/{SETTINGS.egress_proxy.deployment}": live})
    (line,) = await doctor._egress_proxy(server, SETTINGS)  # type: ignore[arg-type]
    assert (line.state, bool(line.todo)) == (state, state == "bad")
    assert found in line.found


async def test_what_may_not_be_asked_is_unknown_and_the_rest_is_still_said() -> None:
    isolation = SETTINGS.isolation.model_copy(update={"required": False})
    settings = SETTINGS.model_copy(
        update={"isolation": isolation, "registry": SETTINGS.registry.model_copy(update={"read": "http://127.0.0.1:1"})}
    )
    server = FakeApiServer(Node=Forbidden("nodes is forbidden", 403))
    lines = await doctor.examine(server, settings)  # type: ignore[arg-type]
    assert {line.check for line in lines} >= {
        "API server",
        "network plugin",
        "policies enforced",
        "Pod Security",
        "registry, read",
        "model",
        "TLS, gateway",
        "TLS, registry",
    }
    assert next(line for line in lines if line.check == "cluster's networks").state == "bad"
    text = doctor.table(lines)
    assert text.splitlines()[0].split() == ["CHECK", "FOUND"]
    assert "→ set models[]" in text
