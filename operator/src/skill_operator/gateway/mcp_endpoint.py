"""The endpoints of the Model Context Protocol: all tools at /mcp, those of a namespace below it, and the search."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from starlette.types import Scope

from skill_operator import naming
from skill_operator.gateway.http.paths import LABEL
from skill_operator.naming import SkillKey

PATH = "/mcp"
SEARCH_PATH = "/mcp/search"
_ENDPOINT = re.compile(rf"{PATH}(/{LABEL})?")


def is_endpoint(path: str) -> bool:
    """Return whether a path is that of all tools, of the search, or of a namespace, which may not exist."""
    return _ENDPOINT.fullmatch(path) is not None


class McpEndpoint(NamedTuple):
    """McpEndpoint is what one path shows: the tools of a namespace, by names without it, or of all namespaces."""

    namespace: str = ""
    search_only: bool = False

    @classmethod
    def of_request(cls, scope: Scope) -> McpEndpoint:
        """Return the endpoint of a request that the routes let through."""
        return cls(scope["path_params"].get("namespace", ""), scope["path"] == SEARCH_PATH)

    def is_bounded(self, tools: int, list_at_most: int) -> bool:
        """Return whether a caller with so many tools here has them found instead of listed."""
        return self.search_only or tools > list_at_most

    def covers(self, key: SkillKey) -> bool:
        """Return whether the endpoint shows this Skill to those who may call it."""
        return self.namespace in {"", key.namespace}

    def select(self, keys: Iterable[SkillKey]) -> list[SkillKey]:
        """Return those of the Skills that the endpoint shows."""
        return [key for key in keys if self.covers(key)]

    def tool_name(self, key: SkillKey) -> str:
        """Return the name that a Skill's tool has here."""
        return naming.bare_tool(*key) if self.namespace else naming.tool(*key)

    def resolve(self, name: str, tools: Mapping[str, SkillKey]) -> SkillKey:
        """Return the Skill that a name means here, which may not exist: a tool's name, or `namespace/name`.

        `tools` are the Skills by name of tool. With a namespace, names are looked for in it alone.
        """
        if self.namespace:
            bare = name.removeprefix(f"{self.namespace}/").removeprefix(f"{self.namespace}__")
            return tools.get(f"{self.namespace}/{bare}") or SkillKey(self.namespace, bare)
        if "/" in name:
            return tools.get(name) or SkillKey(*name.partition("/")[::2])
        return tools.get(name) or naming.skill_of_tool(name)
