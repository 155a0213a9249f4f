"""Apply → Ready of a pinned Skill, beside a bare Deployment with the very pod template that the Skill was given.

    make bench            # ROUNDS=5

Both start from nothing but the images on the node; the rounds take turns, since the machine's speed drifts. What a bare
Deployment cannot do without is in both: scheduling, sandbox, the proof of isolation, import of the code, readiness.
Admission lets nobody but the operator run a skill's image, so the bare pods run the base image and mount the same code.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from benchmarks import show
from hack.install import NAMESPACE
from skill_operator.k8s.client import connect
from skill_operator.k8s.interface import Cluster
from skill_operator.registry.references import pull_reference
from skill_operator.settings import Settings

ROUNDS = int(os.environ.get("ROUNDS", "5"))
SECONDS = 180.0
Json = dict[str, Any]


def skill(namespace: str, name: str) -> Json:
    """Every one has source of its own, so every one is checked and built."""
    source = f"def run(input: dict) -> dict:\n    return {{'said': input['what']}}\n\nROUND = {name!r}\n"
    text = {"type": "string"}
    return {
        "apiVersion": "skill-operator.dev/v1alpha1",
        "kind": "Skill",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "description": "Says what it is told.",
            "input": {"type": "object", "properties": {"what": text}, "required": ["what"]},
            "output": {"type": "object", "properties": {"said": text}, "required": ["said"]},
            "examples": [{"name": "echo", "input": {"what": "hi"}, "output": {"said": "hi"}}],
            "source": {"inline": source},
        },
    }


def fence(namespace: str) -> Json:
    """For the bare Deployments what the operator's own policy is for its pods, whose labels nobody else may give."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "bare", "namespace": namespace},
        "spec": {
            "podSelector": {"matchExpressions": [{"key": "bare", "operator": "Exists"}]},
            "policyTypes": ["Ingress", "Egress"],
        },
    }


@asynccontextmanager
async def fenced(cluster: Cluster) -> AsyncIterator[str]:
    """A namespace of this run, with the fence of the bare Deployments."""
    namespace = f"bench-{uuid.uuid4().hex[:6]}"
    await cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    try:
        await cluster.apply(fence(namespace))
        yield namespace
    finally:
        await cluster.delete("Namespace", None, namespace)


async def base_image(cluster: Cluster) -> str:
    """Return the reference by which nodes pull the base image of the installed operator."""
    found = await cluster.get("ConfigMap", NAMESPACE, f"{NAMESPACE}-settings")
    assert found is not None
    settings = Settings.model_validate_json(found["data"]["settings.json"])
    return pull_reference(settings, settings.images.runtime)


def code(wanted: Json) -> Json:
    """Return the ConfigMap of a Skill's source, which the bare pods mount."""
    meta = wanted["metadata"]
    named = {"name": f"code-{meta['name']}", "namespace": meta["namespace"]}
    data = {"skill.py": wanted["spec"]["source"]["inline"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named, "data": data}


def bare(namespace: str, name: str, template: Json, image: str, config_map: str) -> Json:
    """Return a Deployment of the same pods without an operator: of the base image, with the code mounted."""
    labels = {"bare": name}
    metadata = {**template["metadata"], "labels": labels}
    (container,) = template["spec"]["containers"]
    mounts = [*container["volumeMounts"], {"name": "code", "mountPath": "/skill/skill.py", "subPath": "skill.py"}]
    volumes = [*template["spec"]["volumes"], {"name": "code", "configMap": {"name": config_map}}]
    container = {**container, "image": image, "volumeMounts": mounts}
    template = {**template, "spec": {**template["spec"], "containers": [container], "volumes": volumes}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": labels}, "template": {**template, "metadata": metadata}},
    }


def reached(obj: Json) -> dict[str, str]:
    """Conditions by type: their status."""
    return {c["type"]: c["status"] for c in obj.get("status", {}).get("conditions", [])}


async def seconds_until(
    cluster: Cluster, wanted: Json, done: Callable[[Json], bool], marks: dict[str, float] | None = None
) -> float:
    """From apply until `done` of a watched object; `marks` gets when each condition was first seen True."""
    began = time.monotonic()
    await cluster.apply(wanted)
    meta = wanted["metadata"]
    async with asyncio.timeout(SECONDS):
        async for change, obj in cluster.watch(wanted["kind"], meta["namespace"]):
            if change == "SYNCED" or obj["metadata"]["name"] != meta["name"]:
                continue
            now = time.monotonic() - began
            for type_, status in reached(obj).items():
                if marks is not None and status == "True":
                    marks.setdefault(type_, now)
            if done(obj):
                return now
    raise AssertionError("the watch ended")


async def main() -> None:
    ratios, builds, checks, bares, skills = [], [], [], [], []
    async with connect("skill-operator-bench") as cluster, fenced(cluster) as namespace:
        image = await base_image(cluster)
        for number in range(ROUNDS + 1):
            name, marks = f"round-{number}", dict[str, float]()
            a = await seconds_until(cluster, skill(namespace, name), lambda o: reached(o).get("Ready") == "True", marks)
            live = await cluster.get("Deployment", namespace, f"skill-{name}")
            assert live is not None
            await cluster.apply(mounted := code(skill(namespace, name)))
            code_name = mounted["metadata"]["name"]
            wanted = bare(namespace, f"bare-{number}", live["spec"]["template"], image, code_name)
            b = await seconds_until(cluster, wanted, lambda o: o.get("status", {}).get("availableReplicas", 0) > 0)
            await cluster.delete("Deployment", namespace, f"bare-{number}")
            await cluster.delete("Skill", namespace, name)
            if number:  # the first round warms up
                ratios.append(a / b)
                skills.append(a)
                bares.append(b)
                checks.append(marks["Verified"])
                builds.append(marks["Built"] - marks["Verified"])
    print(f"rounds                                          {ROUNDS}")
    print(f"apply to Ready, Skill / bare Deployment         {show(ratios)}   (goal: 6)")
    print(f"  Skill, seconds                                {show(skills)}")
    print(f"  bare Deployment, seconds                      {show(bares)}")
    print(f"apply to Verified, seconds                      {show(checks)}")
    print(f"build stage, seconds                            {show(builds)}   (goal: 5 at p95)")


if __name__ == "__main__":
    asyncio.run(main())
