"""The operator on the real cluster, as `make install` leaves it."""

from __future__ import annotations

import fcntl
import json
import ssl
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from kubernetes import client, config

from hack import images
from hack.cluster.access import Cluster
from hack.cluster.cli import current
from hack.gateway import GatewayService, forwarded_gateway
from hack.install import NAMESPACE, forward, install
from hack.model import deploy
from skill_operator.naming import GROUP, VERSION

T = TypeVar("T")
POLL_SECONDS = 0.1, 0.5  # at first, at most: a kubectl costs 0.1 s of CPU, which tests that run side by side share


def until(what: str, seconds: float, look: Callable[[], T | None]) -> T:
    """What `look` returns once it is true."""
    began = time.monotonic()
    while True:
        found = look()
        if found:
            return found
        waited = time.monotonic() - began
        assert waited < seconds, f"not within {seconds} s: {what}"
        time.sleep(min(max(POLL_SECONDS[0], waited / 10), POLL_SECONDS[1]))


SCRIPT_REQUESTS = {"cpu": "100m", "memory": "64Mi"}  # little, or skills would have to leave a small node
RUNTIME_CLASS = "of-the-tests"  # may be asked for, and is not there unless a test makes it
VALUES: dict[str, Any] = {
    "isolation": {"runtimeClassNames": [RUNTIME_CLASS]},
    "gateway": {"workshop": {"enabled": True, "perMinute": 600}},
}
"""Values of the chart that all tests rely on, beside those of `install_for_tests` itself."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    headers: Message  # whatever the case of their names


@dataclass
class Operator:
    """The installed operator and ways to use it as its users do."""

    cluster: Cluster
    gateway: int
    model: int
    token: str  # of one who may call every Skill
    service: GatewayService

    @property
    def url(self) -> str:
        """Return the gateway's address on this machine."""
        return f"{self.service.scheme}://127.0.0.1:{self.gateway}"

    def skill(self, namespace: str, name: str) -> dict[str, Any]:
        """Return a Skill. Most polls of tests come here, so no kubectl is started."""
        found = self.objects.get_namespaced_custom_object(GROUP, VERSION, namespace, "skills", name)
        return cast("dict[str, Any]", found)

    @cached_property
    def objects(self) -> client.CustomObjectsApi:
        """Return a client of the API server."""
        return client.CustomObjectsApi(config.new_client_from_config(str(self.cluster.kubeconfig)))  # type: ignore[no-untyped-call]

    def condition(self, namespace: str, name: str, type_: str) -> dict[str, Any]:
        found = self.skill(namespace, name).get("status", {}).get("conditions", [])
        return next((c for c in found if c["type"] == type_), {})

    def ready(self, namespace: str, name: str, seconds: int = 120) -> dict[str, Any]:
        """As a script would wait; the error tells what the Skill says."""
        wait = ("wait", "--for=condition=Ready", f"skill/{name}", f"--timeout={seconds}s")
        try:
            self.cluster.kubectl("-n", namespace, *wait)
        except Exception as error:
            raise AssertionError(json.dumps(self.skill(namespace, name).get("status"), indent=1)) from error
        return self.skill(namespace, name)

    def reason(self, namespace: str, name: str, type_: str, reason: str, seconds: float = 90) -> dict[str, Any]:
        """The condition, once it has this reason."""

        def look() -> dict[str, Any] | None:
            found = self.condition(namespace, name, type_)
            return found if found.get("reason") == reason else None

        try:
            return until(f"{type_}={reason}", seconds, look)
        except AssertionError as error:
            raise AssertionError(
                f"{error}\n{json.dumps(self.skill(namespace, name).get('status'), indent=1)}"
            ) from None

    def call(self, namespace: str, name: str, body: Any, raw: bytes | None = None) -> Answer:
        url = f"{self.url}/v1/skills/{namespace}/{name}"
        data = raw if raw is not None else json.dumps(body).encode()
        return http("POST", url, data, token=self.token, context=self.service.forwarded_context)

    def asked(self, marker: str) -> list[dict[str, Any]]:
        """The requests that the model got about this marker."""
        requests = self._request_model("GET", "requests").body
        found = requests["requests"] if isinstance(requests, dict) else requests
        return [r for r in found if marker in json.dumps(r)]

    def script(self, script: dict[str, Any]) -> None:
        """Add replies to the model's script; those of other markers stay, so tests can run side by side."""
        assert self._request_model("PATCH", "script", json.dumps(script).encode()).status < 300

    def _request_model(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Ask the scripted model; a script may be added twice. The way to a pod that is gone breaks with its first use."""

        def ask() -> Answer | None:
            try:
                return http(method, f"http://127.0.0.1:{self.model}/{path}", body)
            except (OSError, HTTPException):
                return None

        return until("the model's answer", 60, ask)

    def run_script(self, namespace: str, script: Path, *arguments: str, limits: dict[str, str] | None = None) -> None:
        """Start a pod that runs it with the operator's libraries; both have its name without the suffix.

        Where the gateway publishes a CA, the script trusts no other.
        """
        name = script.stem.replace("_", "-")
        meta = {"name": name, "namespace": namespace}
        container = {
            "name": name,
            "resources": {"limits": limits, "requests": SCRIPT_REQUESTS} if limits else {},
            "image": images.built()["operator"]["name"],
            "imagePullPolicy": "Never",
            "command": ["python3", f"/script/{script.name}", *arguments],
            "volumeMounts": [{"name": "script", "mountPath": "/script"}],
        }
        files = {script.name: script.read_text()}
        if self.service.authorities:
            files["ca.crt"] = self.service.authorities
            container["env"] = [{"name": "SSL_CERT_FILE", "value": "/script/ca.crt"}]
        volume = {"name": "script", "configMap": {"name": name}}
        spec = {"restartPolicy": "Never", "containers": [container], "volumes": [volume]}
        self.cluster.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": files},
            {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec},
        )

    def scale(self, component: str, replicas: int) -> None:
        """Until so many pods are there, none is on its way out, and the gateway is reached again if it is that."""
        kind = "statefulset" if component == "registry" else "deployment"
        name = f"{kind}/{NAMESPACE}-{component}"
        self.cluster.kubectl("-n", NAMESPACE, "scale", name, f"--replicas={replicas}")
        self.cluster.kubectl("-n", NAMESPACE, "rollout", "status", name, "--timeout=120s")
        selector = f"app.kubernetes.io/component={component}"

        def settled() -> bool:
            return len(self.cluster.get("-n", NAMESPACE, "pods", "-l", selector)["items"]) == replicas

        until(f"{replicas} pods of {component}", 90, settled)
        if component == "gateway" and replicas:
            self.await_gateway()

    def await_gateway(self) -> None:
        """Wait for a way to the gateway, after its pod was replaced.

        The forwarded port leads to one pod, and is opened anew only after a connection to one that is gone, which may
        hang.
        """
        until("a way to the gateway", 120, self._reaches)

    def _reaches(self) -> bool:
        try:
            url, context = f"{self.url}/v1/skills", self.service.forwarded_context
            return http("GET", url, None, token=self.token, context=context, timeout=5).status == 200
        except (OSError, HTTPException):
            return False


def http(
    method: str,
    url: str,
    body: bytes | None,
    token: str = "",
    context: ssl.SSLContext | None = None,
    timeout: float = 60,
) -> Answer:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(url, body, headers, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=timeout) as answer:
            status, data, told = answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        status, data, told = error.code, error.read(), error.headers
    try:
        return Answer(status, json.loads(data), told)
    except ValueError:
        return Answer(status, data, told)


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The checkout's cluster: the one that runs, or one started now. It stays, for the next run."""
    mine = current()
    mine.up()
    return Cluster(mine, mine.status())


def merged(values: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Return values of a chart with more over them, as helm merges files of values."""
    nested = {
        key: merged(values[key], value)
        for key, value in more.items()
        if isinstance(value, dict) and isinstance(values.get(key), dict)
    }
    return values | more | nested


def install_for_tests(cluster: Cluster, bases: dict[str, str] | None = None, **values: Any) -> None:
    """Install the chart with VALUES, over them these values, and the scripted model. `bases`: see hack.install.install.

    What a test has installed with other values, it ends with this function and none.
    """
    configured, _ = deploy.configure(cluster)
    user = cluster.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
    with tempfile.TemporaryDirectory() as folder:
        more = Path(folder) / "values.json"
        trusted = {"trustedUsers": [user]}  # tests pose as the operator, which others may not
        more.write_text(json.dumps(merged(VALUES, values | {"admission": trusted})))
        install(cluster, configured, more, bases=bases)


@contextmanager
def connected(cluster: Cluster) -> Iterator[Operator]:
    """Forward ports to the installed operator's gateway and to the model."""
    with (
        forwarded_gateway(cluster) as (service, gateway),
        forward(cluster, f"service/{deploy.NAME}", 8000, deploy.MODEL_NAMESPACE) as scripted,
    ):
        yield Operator(cluster, gateway, scripted, cluster.caller("default", "tests", everywhere=True), service)


@contextmanager
def installed(cluster: Cluster, bases: dict[str, str] | None = None, **values: Any) -> Iterator[Operator]:
    """Install the operator with these values, and connect to it."""
    install_for_tests(cluster, bases, **values)
    with connected(cluster) as operator:
        yield operator


@pytest.fixture(scope="session")
def operator(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Operator]:
    """Provide the operator, which the first of all workers installs."""
    if worker_id == "master":  # no workers
        install_for_tests(cluster)
    else:
        shared = tmp_path_factory.getbasetemp().parent  # of this run, by all its workers
        with (shared / "install.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = shared / "installed"
            if not done.exists():
                install_for_tests(cluster)
                done.touch()
    with connected(cluster) as made:
        yield made


@pytest.fixture(autouse=True)
def reached(request: pytest.FixtureRequest) -> None:
    """Open the way to the gateway anew where a serial test before this one ended the pod that it led to."""
    if request.node.get_closest_marker("serial") and "operator" in request.fixturenames:
        installed_operator: Operator = request.getfixturevalue("operator")
        installed_operator.await_gateway()


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    with cluster.namespace("skills") as name:
        yield name
