"""An agent that lacks a tool: it looks for one, asks for it with three examples, hears how it is made, and calls it.

    python3 demo_agent.py GATEWAY_URL TOKEN_FILE

It runs in a pod of the demo, and speaks to the gateway by the official client of the Model Context Protocol.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

WAIT_SECONDS = 300.0
POLL_SECONDS = 1.0
NEED = "write a year in Roman numerals"
REQUEST: dict[str, Any] = {
    "name": "roman-numeral",
    "summary": "Writes a whole number from 1 to 3999 in Roman numerals, such as a year on a building.",
    "description": "Write n in Roman numerals. Four and nine are written by subtraction: IV, IX, XL, XC, CD, CM.",
    "input": {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 1, "maximum": 3999}},
        "required": ["n"],
        "additionalProperties": False,
    },
    "output": {
        "type": "object",
        "properties": {"numeral": {"type": "string", "pattern": "^[MDCLXVI]+$"}},
        "required": ["numeral"],
        "additionalProperties": False,
    },
    "examples": [
        {"input": {"n": 4}, "output": {"numeral": "IV"}},
        {"input": {"n": 49}, "output": {"numeral": "XLIX"}},
        {"input": {"n": 1994}, "output": {"numeral": "MCMXCIV"}},
    ],
}
CALL = {"n": 2026}
Json = dict[str, Any]


def say(who: str, text: str) -> None:
    """Print a line at once."""
    print(f"{who:8} {text}", flush=True)


class Listener:
    """Listener prints each message of progress that is news."""

    def __init__(self) -> None:
        self._last = ""

    async def hear(self, progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG002
        """Print the first line of a message."""
        line = (message or "").partition("\n")[0]
        if line and line != self._last:
            self._last = line
            say("gateway", line)


async def call(client: Client, tool: str, arguments: Json, listener: Listener | None = None) -> Json:
    """Return what a tool answers. Ends the program where it refuses."""
    result: Any = await client.call_tool(tool, arguments, progress_callback=listener.hear if listener else None)
    if result.is_error:
        sys.exit(f"{tool} refuses: {result.content[0].text}")
    return dict(result.structured_content)


async def ask(client: Client) -> Json:
    """Return the state of the Skill that was asked for, once it is made. Raises TimeoutError."""
    listener = Listener()
    state = await call(client, "create_skill", REQUEST, listener)
    end = time.monotonic() + WAIT_SECONDS
    while state.get("status") == "working":  # a client's patience ends before the work does, so that it gets a handle
        if time.monotonic() > end:
            raise TimeoutError(f"it is still being made after {WAIT_SECONDS:.0f} s: {state}")
        await asyncio.sleep(POLL_SECONDS)
        state = await call(client, "skill_status", {"taskId": state["taskId"]})
        await listener.hear(0, None, f"{state.get('reason')}: {state.get('message')}")
    return state


async def main(gateway: str, token: str) -> None:
    """Look for a tool, ask for it, and call it."""
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=120) as http,
        Client(streamable_http_client(f"{gateway}/mcp/search", http_client=http)) as client,
    ):
        say("agent", f"looks for a tool: {NEED}")
        found = await call(client, "find_skills", {"query": NEED})
        say("gateway", f"{len(found['skills'])} tools fit")
        say("agent", f"asks for one, with {len(REQUEST['examples'])} examples")
        state = await ask(client)
        if state.get("status") != "completed":
            sys.exit(f"no tool was made: {state}")
        say("agent", f"calls {state['tool']} with {json.dumps(CALL)}")
        answer = await call(client, "call_skill", {"name": state["tool"], "input": CALL})
        say("skill", json.dumps(answer))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]).read_text()))
