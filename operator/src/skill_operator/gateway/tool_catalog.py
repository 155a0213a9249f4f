"""The tools that Skills are, each made and encoded once for each version of its Skill, when somebody first asks.

A list of a thousand tools is a megabyte. To make it anew for each request would hold up the calls of others, so the
parts of a list are kept, and whoever asks gets those that they may see.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import mcp_types as types
from mcp_types.methods import serialize_server_result
from mcp_types.version import is_version_at_least

from skill_operator.api.listed_tool import MAX_DESCRIPTION, ListedTool, listed_tool, shortened
from skill_operator.api.v1alpha1 import Skill
from skill_operator.gateway.mcp_endpoint import McpEndpoint
from skill_operator.gateway.pods.directory import Directory, SkillEntry
from skill_operator.naming import SkillKey

MAX_PAGE_BYTES = 4 << 20  # of one response: many clients read no second page
ANY_OUTPUT_REVISION = "2026-07-28"  # before, a tool's structured output was an object
SAME_AUTHOR = "Note: one agent wrote both the code and the examples that it was checked with."
ALL = McpEndpoint()
_Version = tuple[str, int, str, bool, bool, str]


class Page(NamedTuple):
    """Page is a part of a list: its tools as JSON, and the name of the last one where more follow."""

    tools: list[bytes]
    last: str | None


@dataclass
class _Known:
    """_Known is what was made of one version of a Skill that is a tool."""

    tool: ListedTool | None = None
    encoded: dict[tuple[str, str], bytes] = field(default_factory=dict)  # by name, and by revision of the protocol


class ToolCatalog:
    """ToolCatalog knows which Skills of a directory are tools."""

    def __init__(self, directory: Directory) -> None:
        self._entries = directory.entries
        self._known: dict[SkillKey, _Known] = {}

    @property
    def keys(self) -> list[SkillKey]:
        """Return the Skills that are tools."""
        return list(self._known)

    @property
    def listed_keys(self) -> list[SkillKey]:
        """Return the Skills that are tools, without those that are archived: these are found, and can be called."""
        return [key for key in self._known if (entry := self._entries.get(key)) is None or not entry.archive]

    def update(self, before: SkillEntry | None, after: SkillEntry | None) -> bool:
        """Take a change of a Skill, and return whether it is one of the list of tools."""
        entry = after or before
        if entry is None or _tool_version(before) == _tool_version(after):
            return False
        key = SkillKey(entry.meta.namespace, entry.meta.name)
        known = self._known.pop(key, None)
        if after is not None and _tool_version(after):
            self._known[key] = known if known is not None and _is_same_tool(before, after) else _Known()
        return True

    def find(self, key: SkillKey) -> ListedTool | None:
        """Return the tool that a Skill is, or None."""
        known, entry = self._known.get(key), self._entries.get(key)
        if known is None or entry is None or entry.skill is None:
            return None
        if known.tool is None:
            known.tool = listed_tool(*key, entry.skill.spec)
        return known.tool

    async def fetch(self, key: SkillKey) -> ListedTool | None:
        """Return the tool that a Skill is, or None; others have their turn before and after a new one is made."""
        known = self._known.get(key)
        if known is None or known.tool is not None:
            return self.find(key)
        await asyncio.sleep(0)
        self.find(key)
        await asyncio.sleep(0)
        return self.find(key)

    async def page(self, keys: Iterable[SkillKey], after: str, revision: str, endpoint: McpEndpoint = ALL) -> Page:
        """Return the tools of these Skills by name, from the one after `after`: as many as one response holds."""
        rest = sorted((name, key) for key in keys if (name := endpoint.tool_name(key)) > after)
        tools: list[bytes] = []
        size = 0
        last: str | None = None
        for name, key in rest:
            if not self._is_encoded(key, name, revision):
                await self.fetch(key)
                await asyncio.sleep(0)  # for the calls of others: there may be thousands of new ones
            encoded = self._encode(key, name, revision)
            if encoded is None:
                continue
            size += len(encoded) + 1
            if tools and size > MAX_PAGE_BYTES:
                return Page(tools, last)
            tools.append(encoded)
            last = name
        return Page(tools, None)

    def _encode(self, key: SkillKey, name: str, revision: str) -> bytes | None:
        """Return a tool as this revision of the protocol writes it, or None where it is gone."""
        tool, entry = self.find(key), self._entries.get(key)
        if tool is None or entry is None:
            return None
        encoded = self._known[key].encoded
        if (name, revision) not in encoded:
            encoded[name, revision] = encode_tool(tool._replace(name=name), entry, revision)
        return encoded[name, revision]

    def _is_encoded(self, key: SkillKey, name: str, revision: str) -> bool:
        known = self._known.get(key)
        return known is None or (name, revision) in known.encoded


def encode_tool(tool: ListedTool, entry: SkillEntry, revision: str) -> bytes:
    """Return the tool that a Skill is as JSON of a revision of the protocol, in one line."""
    egress = bool(entry.skill and entry.skill.spec.egress)
    output = tool.output.schema
    described = types.Tool(
        name=tool.name,
        title=entry.meta.name,
        description=_with_note(tool.description, note_of(entry.skill) if entry.skill else ""),
        input_schema=tool.input.schema,
        output_schema=output if has_structured_output(output.get("type") == "object", revision) else None,
        # A skill without egress can change nothing outside its sandbox.
        annotations=types.ToolAnnotations(read_only_hint=not egress, open_world_hint=egress),
    )
    return encode_any_tool(described, revision)


def encode_any_tool(tool: types.Tool, revision: str) -> bytes:
    """Return a tool as JSON of a revision of the protocol, in one line."""
    listed: dict[str, Any] = {"tools": [tool.model_dump(mode="json", by_alias=True, exclude_none=True)]}
    if is_version_at_least(revision, ANY_OUTPUT_REVISION):
        listed |= {"ttlMs": 0, "cacheScope": "private", "resultType": "complete"}  # which every list has
    shaped = serialize_server_result("tools/list", revision, listed)["tools"][0]
    return json.dumps(shaped, separators=(",", ":")).encode()


def note_of(skill: Skill) -> str:
    """Return what an agent must know of a tool beside what it does; mostly nothing."""
    evidence = skill.status.evidence
    return SAME_AUTHOR if evidence is not None and evidence.author == "same" else ""


def has_structured_output(is_object: bool, revision: str) -> bool:
    """Return whether output is told as a value, not only as a text."""
    return is_object or is_version_at_least(revision, ANY_OUTPUT_REVISION)


def _with_note(description: str, note: str) -> str:
    return f"{shortened(description, MAX_DESCRIPTION - len(note) - 2)}\n\n{note}" if note else description


def _is_same_tool(before: SkillEntry | None, after: SkillEntry) -> bool:
    """Return whether all that is encoded of a Skill stays: its identity, its spec, and what is noted of it."""
    if before is None or before.skill is None or after.skill is None or before.meta.uid != after.meta.uid:
        return False
    return before.skill.spec is after.skill.spec and note_of(before.skill) == note_of(after.skill)


def _tool_version(entry: SkillEntry | None) -> _Version | None:
    """Return what changes with a tool; None for what is none: it cannot be parsed, or nothing can run yet."""
    skill = entry.skill if entry else None
    if entry is None or skill is None or not skill.status.image or skill.spec.input.get("type") != "object":
        return None
    meta = skill.metadata
    return meta.uid, *entry.version, skill.status.archive is not None, meta.is_promoted, note_of(skill)
