"""The gateway before the protocol's own conformance suite, in the revision of today and in the one before it.

The suite sends no token and calls tools by names with `_`, which no Skill has. A relay stands between: it adds the one
and changes the other, and passes everything else on as it is.
"""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector, web

from tests.integration import npm_packages
from tests.integration.installed import Operator
from tests.integration.test_skill import apply, skill

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]
BASELINE = Path(__file__).with_name("conformance.toml")
REVISIONS = ("2025-11-25", "2026-07-28")
MANY_SCENARIOS = 30
SCENARIO_MILLISECONDS = 20_000
SUITE_SECONDS = 120
HOP_BY_HOP = {"transfer-encoding", "connection", "keep-alive"}
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
NOTHING = {"type": "object", "additionalProperties": False}
REGION = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
DRAFT_2020_12 = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
SAYS_TEXT = "This is a simple text response for testing."
SAYS = f"def run(input: dict) -> dict:\n    return {{'text': {SAYS_TEXT!r}}}\n"
FAILS = "def run(input: dict) -> dict:\n    raise ValueError('This tool intentionally returns an error for testing')\n"
SKILLS = {
    "test-simple-text": (NOTHING, SAYS, {}),
    "test-error-handling": (NOTHING, FAILS, None),
    "test-tool-with-progress": (NOTHING, SAYS, {}),
    "test-headers": (REGION, SAYS, {"region": "x"}),
    "json-schema-2020-12-tool": (DRAFT_2020_12, SAYS, {"email": "a"}),
}
TOOLS = {name.replace("-", "_").encode(): name.encode() for name in SKILLS}
"""The names of the suite's tools, and those of the Skills, which are as long."""


def translate(text: bytes, names: dict[bytes, bytes]) -> bytes:
    """Return the text with other names; a name within another one stays."""
    some = b"|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return re.sub(rb"(?<![\w-])(" + some + rb")(?![\w-])", lambda match: names[match[1]], text)


@asynccontextmanager
async def relay(operator: Operator, namespace: str) -> AsyncIterator[str]:
    """Serve the endpoint of a namespace to a client that has no token; yield its URL."""
    back = {skill: tool for tool, skill in TOOLS.items()}

    async def handle(request: web.Request) -> web.StreamResponse:
        headers = request.headers.copy()
        headers["Authorization"] = f"Bearer {operator.token}"
        if "Mcp-Name" in headers:
            headers["Mcp-Name"] = translate(headers["Mcp-Name"].encode(), TOOLS).decode()
        body = translate(await request.read(), TOOLS)
        url = f"{operator.url}/mcp/{namespace}"
        async with upstream.request(request.method, url, data=body, headers=headers) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for part in answer.content.iter_any():
                await response.write(translate(part, back))
        return response

    app = web.Application()
    app.router.add_route("*", "/mcp", handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    connector = TCPConnector(ssl=operator.service.forwarded_context or True)
    async with ClientSession(connector=connector, auto_decompress=False) as upstream:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"
        finally:
            await runner.cleanup()


async def run_suite(url: str, revision: str, results: Path) -> dict[str, list[str]]:
    """Run all that a revision has for servers; return what was found of each scenario: `CHECK: what it says`."""
    folder = await asyncio.to_thread(npm_packages.ensure)
    suite = folder / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    options = ("--requirements", revision, "-o", str(results), "--timeout", str(SCENARIO_MILLISECONDS))
    process = await asyncio.create_subprocess_exec(
        "node", "--import", str(folder / "older-node.mjs"), str(suite), "server", "--url", url, *options,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(SUITE_SECONDS):
            printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    found = read_findings(results)
    assert len(found) > MANY_SCENARIOS, printed.decode()[-2000:]
    return found


def read_findings(results: Path) -> dict[str, list[str]]:
    """Return what the suite wrote of each scenario."""
    found: dict[str, list[str]] = {}
    for file in results.glob("server-*/checks.json"):
        checks = json.loads(file.read_text())
        scenario = re.sub(r"^server-|-\d{4}-\d\d-\d\dT[\dZ-]+$", "", file.parent.name)
        found[scenario] = [
            f"{check['id']}: {check.get('errorMessage', '')}"
            for check in checks
            if check["status"] in {"FAILURE", "WARNING"}
        ]
    return found


def compare(found: dict[str, list[str]], expected: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the findings that nobody expects, and the expectations that nothing meets."""
    wanted = set(expected)
    met, unexpected = set(), []
    for scenario, findings in found.items():
        for finding in findings:
            names = {scenario, f"{scenario}/{finding.partition(':')[0]}"} & wanted
            met |= names
            if not names:
                unexpected.append(f"{scenario}/{finding}")
    return sorted(unexpected), sorted(wanted - met)


def read_baseline(revision: str) -> list[str]:
    entries = tomllib.loads(BASELINE.read_text())["expected"]
    assert all(entry["reason"] for entry in entries)
    expected = [name for entry in entries for name in entry.get(revision, [])]
    assert len(expected) == len(set(expected))
    return expected


async def test_the_gateway_conforms(operator: Operator, namespace: str, tmp_path: Path) -> None:
    for name, (schema, source, example) in SKILLS.items():
        ends = {"error": "ValueError"} if example is None else {"output": {"text": SAYS_TEXT}}
        examples = [{"name": "one", "input": example or {}} | ends]
        spec = {"input": schema, "output": TEXT, "examples": examples, "source": {"inline": source}}
        apply(operator, namespace, skill(name, summary="For the suite.", callTimeoutSeconds=20, **spec))
    for name in SKILLS:
        operator.ready(namespace, name)
    async with relay(operator, namespace) as url:
        found = await asyncio.gather(*(run_suite(url, revision, tmp_path / revision) for revision in REVISIONS))
    for revision, findings in zip(REVISIONS, found, strict=True):
        unexpected, stale = compare(findings, read_baseline(revision))
        assert not unexpected, f"{revision}: the suite finds\n" + "\n".join(unexpected)
        assert not stale, f"{revision}: not found any more, so take it out of {BASELINE.name}: {', '.join(stale)}"
