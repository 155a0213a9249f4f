"""The guide for troubleshooting and the list of reasons, from the operator's table of reasons."""

from __future__ import annotations

from collections.abc import Mapping

from hack.docs.markdown import code, page, table
from skill_operator.api.reasons import EVENT, Reason, ReasonGroup

LOOK = """\
Every Skill says by itself what it waits for. Look in this order:

1. `kubectl get skills` shows the reason of `Ready` in the column Status.
2. `kubectl describe skill NAME` shows all conditions and the latest events. The message of a condition says what to
   do, often with the command.
3. The list below explains each reason. Search the page for the word.
4. `make doctor` examines the cluster: nodes, network plugin, isolation, registry, models and encryption. It says what
   to do about each finding.
5. The logs have the rest. Each line names the Skill, and one request id runs through gateway, skill and controller.

```sh
kubectl describe skill NAME                        # conditions and events
kubectl get configmap NAME-generation -o yaml      # every candidate, and why it was refused
kubectl logs deployment/skill-NAME                 # the skill's own log
make doctor                                        # what the cluster lacks

kubectl -n skill-operator logs deployment/skill-operator-controller
kubectl -n skill-operator logs deployment/skill-operator-gateway
kubectl -n skill-operator-builds get jobs,pods     # builds; failed ones stay for ten minutes
```

## How to read the conditions

- `Ready` is True while the Skill can be called. It repeats the reason of the stage that holds the Skill up.
- `Reconciling` is True while the operator works or waits, and goes on by itself.
- `Stalled` is True while a changed spec or a person must help.
- A condition with the status Unknown is in progress. False needs a look, except for `Active` of a Skill that sleeps.

To generate the code of a Skill once more as it is:

```sh
kubectl annotate skill NAME --overwrite skill-operator.dev/retry=$(date +%s)
```
"""


def troubleshooting(reasons: Mapping[str, Reason]) -> str:
    """Return the guide: how to look, then every reason with its meaning and what to do."""
    blocks = [LOOK, "## Every reason"]
    for group in ReasonGroup:
        rows = [
            (code(name), conditions(reason), reason.meaning, reason.action)
            for name, reason in reasons.items()
            if reason.group is group
        ]
        blocks += [f"### {group.value}", table(("Reason", "On", "What it means", "What to do"), rows)]
    return page("Troubleshooting", *blocks)


def reason_list(reasons: Mapping[str, Reason]) -> str:
    """Return one table of all reasons and the conditions they appear on, in alphabetical order."""
    rows = [(code(name), conditions(reason), reason.meaning) for name, reason in sorted(reasons.items())]
    return table(("Reason", "On", "What it means"), rows)


def conditions(reason: Reason) -> str:
    """Return the types of conditions that a reason appears on, as a text."""
    return ", ".join("an event" if type_ == EVENT else type_ for type_ in reason.conditions)
