"""A Skill, settings and what was observed of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, cast

from skill_operator.api.v1alpha1 import Skill
from skill_operator.generation.author import Author
from skill_operator.isolation.monitor import PROVEN
from skill_operator.isolation.user_namespaces import NodeFeatures
from skill_operator.reconcile.context import StageContext
from skill_operator.reconcile.foreign_policies import ForeignPolicies
from skill_operator.reconcile.job_queue import JobQueues
from skill_operator.reconcile.observed import Observed
from skill_operator.registry.client import BaseImage
from skill_operator.settings import ImageSettings, Settings

NOW = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)
SOURCE = "def run(input):\n    return {'said': input['what']}\n"
DIGEST = "sha256:" + "a" * 64
SETTINGS = Settings(
    images=ImageSettings(
        runtime="skill-operator/runtime@sha256:" + "1" * 64,
        checker="skill-operator/checker@sha256:" + "2" * 64,
        builder="localhost/kaniko:1",
        operator="localhost/operator:1",
    )
)


def skill(status: dict[str, Any] | None = None, **spec: Any) -> Skill:
    return Skill.model_validate(
        {
            "metadata": {"name": "echo", "namespace": "team", "uid": "u-1", "generation": 3},
            "spec": {
                "description": "Says what it is told.",
                "input": {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]},
                "output": {"type": "object"},
                "examples": [{"name": "one", "input": {"what": "a"}, "output": {"said": "a"}}],
                "source": {"inline": SOURCE},
                **spec,
            },
            "status": status or {},
        }
    )


def observed(of: Skill | None = None, **more: Any) -> Observed:
    values: dict[str, Any] = {
        "skill": of or skill(),
        "body": {},
        "config_maps": {},
        "jobs": {},
        "builds": {},
        "pods": (),
        "build_pods": (),
        "deployment": None,
        "policies": (),
        "foreign_policies": ForeignPolicies(),
        "blocked_networks": (),
        "isolation": PROVEN,
        "nodes": NodeFeatures([]),
        "base": BaseImage({"rootEntries": ["bin", "usr"]}, "10.96.1.1"),
    }
    return Observed(**(values | more))


async def nothing_lost(_image: str, _ask_again: bool) -> bool:
    return False


def stage_context(
    settings: Settings = SETTINGS,
    now: datetime = NOW,
    build_queue: Any = None,
    check_queue: Any = None,
    is_image_lost: Callable[[str, bool], Awaitable[bool]] = nothing_lost,
) -> StageContext:
    """Return what stages get that write no code. Where nothing else is said, none waits for a turn to build."""
    return StageContext(settings, now, cast("Author", None), JobQueues(build_queue, check_queue), is_image_lost)


def pod(job: str = "", end: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Of the Job of that name, whose UID is `uid-NAME`."""
    state = {"terminated": end} if end is not None else {"running": {}}
    container = {"name": "c", "image": "i", "state": more.pop("state", state), "lastState": {}}
    status = {"containerStatuses": [container], "conditions": more.pop("conditions", [])}
    labels = more.pop("labels", {}) | ({"job-name": job} if job else {})
    owners = [{"kind": "Job", "name": job, "uid": f"uid-{job}"}] if job else []
    return {"metadata": {"name": "p", "labels": labels, "ownerReferences": owners, **more}, "status": status}
