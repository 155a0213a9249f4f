"""The list of the words that programs may rely on: problem types, conditions and their reasons, headers."""

from __future__ import annotations

from collections.abc import Mapping

from hack.docs.markdown import code, page, table
from hack.docs.reasons import reason_list
from skill_operator.api.reasons import Reason

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
CONTRACT = """\
Headers between gateway and skill, exit codes and the fields of reports are in the
[runtime contract](../runtime-contract.md).
"""


def render(conditions: Mapping[str, str], reasons: Mapping[str, Reason]) -> str:
    """Return the page."""
    types = table(("Type", "True when"), [(code(name), meaning) for name, meaning in conditions.items()])
    return page(
        "Problems and conditions",
        INTRODUCTION,
        "## Conditions",
        CONDITIONS_TEXT,
        types,
        "## Reasons",
        REASONS_TEXT,
        reason_list(reasons),
        "## Headers and exit codes",
        CONTRACT,
    )
