"""Describe a failed cluster test: its Skills with conditions and events, and what the operator logged meanwhile."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from hack.cluster.access import Cluster
from hack.install import NAMESPACE

LOG_LINES = 50
_NAMESPACE = re.compile(r"[a-z]+-[0-9a-f]{8}")  # as Cluster.namespace names them


def namespaces_of(fixtures: dict[str, Any]) -> list[str]:
    """Return the namespaces among a test's fixtures, which are names or objects with an attribute `namespace`."""
    names = [value if isinstance(value, str) else getattr(value, "namespace", None) for value in fixtures.values()]
    return sorted({name for name in names if isinstance(name, str) and _NAMESPACE.fullmatch(name)})


def describe(cluster: Cluster, namespaces: list[str], began: float) -> list[tuple[str, str]]:
    """Return titles and texts. `began` is the test's start in seconds of the epoch; no command raises."""
    sections = []
    for namespace in namespaces:
        sections.append((f"Skills in {namespace}", _skills(cluster, namespace)))
        columns = "-o=custom-columns=AT:.lastTimestamp,OF:.involvedObject.name,REASON:.reason,MESSAGE:.message"
        events = cluster.kubectl("-n", namespace, "get", "events", "--sort-by=.lastTimestamp", columns, check=False)
        sections.append((f"events in {namespace}", events))
    since = datetime.fromtimestamp(began, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    for component in ("controller", "gateway"):
        selector = f"app.kubernetes.io/component={component}"
        chosen = ("-n", NAMESPACE, "logs", "-l", selector, "--prefix", f"--since-time={since}", "--tail=-1")
        lines = cluster.kubectl(*chosen, check=False).splitlines()[-LOG_LINES:]
        sections.append((f"log of the {component}", "\n".join(lines)))
    return sections


def _skills(cluster: Cluster, namespace: str) -> str:
    try:
        skills = json.loads(cluster.kubectl("-n", namespace, "get", "skills", "-o", "json", check=False))["items"]
    except (ValueError, KeyError):
        return "the Skills cannot be listed"
    lines = []
    for skill in skills:
        status = skill.get("status", {})
        lines.append(f"{skill['metadata']['name']}  generation {skill['metadata']['generation']}")
        for condition in status.get("conditions", []):
            part = (condition.get(field, "") for field in ("type", "status", "reason", "message"))
            lines.append("    {:12} {:8} {:20} {}".format(*part))
        rest = {key: value for key, value in status.items() if key != "conditions"}
        lines.append(f"    {json.dumps(rest)}")
    return "\n".join(lines)
