"""The chart, rendered by the real helm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.cluster import binaries

Object = dict[str, Any]
ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "skill-operator"
CASES = tuple(sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml")))
RELEASE = "skill-operator"
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")
NAMESPACE = "operators"


class Refused(Exception):
    """What helm said."""


def program(name: str) -> str:
    """Where a program is: what `make cluster` built, else that of PATH. Without either, the test that asks is skipped."""
    built = binaries.path(name)
    found = str(built) if built.exists() else shutil.which(name)
    return found or pytest.skip(f"no {name} here: `make cluster` builds it, or put one into PATH")


def call(*arguments: str) -> str:
    """What helm prints, with neither a cluster nor a configuration of the caller's."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "KUBECONFIG": "/nonexistent"}
    done = subprocess.run(
        [program("helm"), *arguments], capture_output=True, text=True, env=environment, check=False, timeout=60
    )
    if done.returncode:
        raise Refused(done.stdout + done.stderr)
    return done.stdout


def values(case: str) -> Path:
    return CHART / "ci" / f"{case}-values.yaml"


@dataclass(frozen=True)
class Rendered:
    """The objects of one release."""

    objects: tuple[Object, ...]

    def kind(self, *kinds: str) -> list[Object]:
        return [obj for obj in self.objects if obj["kind"] in kinds]

    def one(self, kind: str, name: str) -> Object:
        (found,) = (obj for obj in self.kind(kind) if obj["metadata"]["name"] == name)
        return found

    def component(self, kind: str, component: str) -> Object:
        (found,) = (obj for obj in self.kind(kind) if labels(obj)["app.kubernetes.io/component"] == component)
        return found

    def workload(self, component: str) -> Object:
        """What makes the component's pods."""
        (found,) = (obj for obj in self.kind(*WORKLOADS) if labels(obj)["app.kubernetes.io/component"] == component)
        return found

    def settings(self) -> str:
        (found,) = (obj for obj in self.kind("ConfigMap") if "settings.json" in obj["data"])
        text: str = found["data"]["settings.json"]
        return text


def labels(obj: Object) -> dict[str, str]:
    found: dict[str, str] = obj["metadata"].get("labels", {})
    return found


def pod(deployment: Object) -> Object:
    found: Object = deployment["spec"]["template"]
    return found


def containers(deployment: Object) -> Iterator[Object]:
    spec = pod(deployment)["spec"]
    yield from spec.get("initContainers", [])
    yield from spec["containers"]


@lru_cache(maxsize=64)
def render(
    case: str = "default",
    *more: str,
    release: str = RELEASE,
    namespace: str = NAMESPACE,
    apis: tuple[str, ...] = (),
) -> Rendered:
    """The objects of a file of values in ci/, `more` being --set arguments, on a cluster that has these APIs besides."""
    arguments = [argument for one in more for argument in ("--set-json", one)]
    arguments += [argument for api in apis for argument in ("--api-versions", api)]
    text = call("template", release, str(CHART), "--namespace", namespace, "--values", str(values(case)), *arguments)
    return Rendered(tuple(obj for obj in yaml.load_all(text, yaml.CSafeLoader) if obj))


def setting(path: str, value: Any) -> str:
    """A --set-json argument."""
    return f"{path}={json.dumps(value)}"
