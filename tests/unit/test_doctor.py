"""What the doctor says of good and bad clusters. Models and registries are real servers on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from skill_operator import doctor
from skill_operator.k8s.errors import Forbidden
from skill_operator.settings import ModelEndpoint, Settings
from tests.unit.reconcile.samples import SETTINGS

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

    async def list(self, kind: str, namespace: str | None = None, labels: dict[str, str] | None = None) -> Any:
        answer = self.objects.get(kind, [])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def get(self, kind: str, namespace: str | None, name: str) -> Any:
        return self.objects.get(f"{kind}/{name}")


@asynccontextmanager
async def answering(status: int) -> AsyncIterator[str]:
    async def handler(request: web.Request) -> web.Response:
        assert request.headers.get("Authorization", "Bearer key") == "Bearer key"
        return web.Response(status=status)

    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield "127.0.0.1:" + str(runner.addresses[0][1])
    finally:
        await runner.cleanup()


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


@pytest.mark.parametrize(("code", "state"), [(401, "ok"), (200, "bad"), (503, "bad")])
async def test_a_registry_must_ask_who_pushes(code: int, state: str) -> None:
    async with answering(code) as at:
        settings = SETTINGS.model_copy(update={"registry": SETTINGS.registry.model_copy(update={"push": f"{at}/x"})})
        assert (await doctor._check_push(settings, ""))[0] == state


async def test_an_open_cluster_is_bad_and_said_to_be() -> None:
    lax: Settings = SETTINGS.model_copy(update={"isolation": SETTINGS.isolation.model_copy(update={"required": False})})
    (line,) = await doctor._isolation(lax)
    assert line.state == "bad"
    assert "isolation.required: true" in line.todo


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
    }
    assert next(line for line in lines if line.check == "cluster's networks").state == "bad"
    text = doctor.table(lines)
    assert text.splitlines()[0].split() == ["CHECK", "FOUND"]
    assert "→ set models[]" in text
