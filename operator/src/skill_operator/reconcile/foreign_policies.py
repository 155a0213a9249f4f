"""Foreign policies are the other NetworkPolicies of a Skill's namespace: whoever may write them may open the Skill.

There may be thousands of them, and each may be as large as the API server takes. Of all of them names alone are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from skill_operator.api.v1alpha1 import Skill
from skill_operator.k8s.errors import TooMuch, Unavailable
from skill_operator.k8s.interface import UNREADABLE, Cluster, Object
from skill_operator.resources.network_policy import own_policy_names, widens

MAX_NAMES = 10


@dataclass(frozen=True)
class ForeignPolicies:
    """ForeignPolicies holds the names of the policies that open the Skill, and of those that are too large to be read.

    Where it is not complete, the namespace has more policies than the operator reads.
    """

    widening: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    is_complete: bool = True

    def explain_widening(self) -> str:
        """Return which policies open the Skill, and what to do; empty if none is known."""
        if not self.widening:
            return ""
        return (
            f"other NetworkPolicies allow more traffic than the spec does: {_join(self.widening)}; "
            "delete them, or narrow their podSelector"
        )

    def explain_doubt(self) -> str:
        """Return why it is not known whether some policy opens the Skill, and what to do; empty if it is known."""
        if self.unread:
            cause = f"are too large to be read: {_join(self.unread)}"
        elif not self.is_complete:
            cause = "of this namespace are more than the operator can read"
        else:
            return ""
        return (
            f"NetworkPolicies {cause}; one may allow more traffic than the spec does: delete them, or make them smaller"
        )


async def read_policies(cluster: Cluster, skill: Skill) -> tuple[dict[str, Object], ForeignPolicies]:
    """Read the policies of the Skill's namespace: by name those of the operator's names, and what others mean.

    However many others there are, the operator's are found. Raises ClusterError.
    """
    namespace, own_names = skill.metadata.namespace, own_policy_names(skill)
    found: dict[str, Object] = {}
    widening: list[str] = []
    unread: list[str] = []
    is_complete = True
    try:
        async for policy in cluster.scan("NetworkPolicy", namespace):
            name = policy["metadata"]["name"]
            if name in own_names:
                found[name] = policy
            elif UNREADABLE in policy:
                unread.append(name)
            elif widens(policy, skill):
                widening.append(name)
    except (TooMuch, Unavailable):  # a list may time out for its size: what can be narrowed does not wait for it
        is_complete = False
    if not is_complete:
        names = sorted(own_names - found.keys())
        missed = await asyncio.gather(*(cluster.get("NetworkPolicy", namespace, name) for name in names))
        found |= {name: policy for name, policy in zip(names, missed, strict=True) if policy is not None}
    return found, ForeignPolicies(tuple(sorted(widening)), tuple(sorted(unread)), is_complete)


def _join(names: Sequence[str]) -> str:
    more = f" (and then {len(names) - MAX_NAMES} more)" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more
