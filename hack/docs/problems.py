"""The list of the words that programs may rely on: problem types, conditions and their reasons, headers."""

from __future__ import annotations

from collections.abc import Mapping

from hack.docs.markdown import code, page, table
from hack.docs.reasons import reason_list
from skill_operator.api.reasons import Reason
from skill_operator.gateway.problems import MEDIA_TYPE, TYPE_PREFIX, ProblemDefinition, RuntimeProblemDefinition

INTRODUCTION = """\
These words do not change within `v1alpha1`. Programs and alerts may compare them; messages are for people and may
change. What to do about each reason is in [troubleshooting](../how-to/troubleshooting.md).
"""
CONDITIONS_TEXT = """\
`status.conditions` follows Kubernetes' conventions and kstatus, so that `kubectl wait`, Flux and Argo CD understand it.
"""
REASONS_TEXT = """\
`Ready`, `Reconciling` and `Stalled` repeat the reason of the stage that holds the Skill up. Each change of a condition
is an event with the same reason.
"""
PROBLEMS_TEXT = f"""\
Every error of the gateway is `{MEDIA_TYPE}` (RFC 9457): `type`, `title`, `status`, `detail` and `requestId`. `type` is
`{TYPE_PREFIX}` and one of these words; `detail` says what to do. Requests, headers and limits are in
[gateway API](gateway-api.md).
"""
RUNTIME_TEXT = "The runtime of a skill makes these, and the gateway passes them on:"
CONTRACT = """\
What operator and runtime agree on, such as environment variables, headers, exit codes and the fields of reports, is in
the [runtime contract](../runtime-contract.md).
"""


def render(
    conditions: Mapping[str, str],
    reasons: Mapping[str, Reason],
    problems: Mapping[str, ProblemDefinition],
    runtime_problems: Mapping[str, RuntimeProblemDefinition],
) -> str:
    """Return the page."""
    types = table(("Type", "True when"), [(code(name), meaning) for name, meaning in conditions.items()])
    return page(
        "Problems and conditions",
        INTRODUCTION,
        "## Problem types",
        PROBLEMS_TEXT,
        table(
            ("Type", "Status", "Title", "What it means", "What to do"),
            [(code(slug), str(each.status), each.title, each.meaning, each.action) for slug, each in problems.items()],
        ),
        RUNTIME_TEXT,
        table(
            ("Type", "Status", "What it means", "What to do"),
            [(code(slug), str(each.status), each.meaning, each.action) for slug, each in runtime_problems.items()],
        ),
        "## Conditions",
        CONDITIONS_TEXT,
        types,
        "## Reasons",
        REASONS_TEXT,
        reason_list(reasons),
        "## Headers, environment and exit codes",
        CONTRACT,
    )
