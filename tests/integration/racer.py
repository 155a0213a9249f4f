"""Runs in a pod: calls skills just when they fall asleep, and prints as JSON what became of each call.

    python3 racer.py URL TOKEN SECONDS IDLE NAMESPACE/NAME…

A connection that breaks is what a killed gateway leaves behind: the call is made again, as any client of a Service
does. Whatever is answered must be right.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import Any

import aiohttp

PATIENCE = 90.0


async def call(session: aiohttp.ClientSession, url: str, what: str) -> dict[str, Any]:
    began, broken = time.time(), 0
    while True:
        sent = time.time()
        try:
            async with session.post(url, json={"what": what}) as answer:
                body = await answer.text()
                cold = int(answer.headers.get("X-Skill-Cold-Start", 0))
                right = answer.status == 200 and json.loads(body) == {"said": what}
                told = "" if right else body[:500]
                return {"from": sent, "to": time.time(), "cold": cold, "right": right, "broken": broken, "told": told}
        except (aiohttp.ClientError, OSError) as error:
            broken += 1
            if time.time() - began > PATIENCE:
                told = f"no answer: {error!r}"
                return {"from": sent, "to": time.time(), "cold": 0, "right": False, "broken": broken, "told": told}
            await asyncio.sleep(0.1)


async def race(session: aiohttp.ClientSession, url: str, name: str, end: float, idle: float) -> list[dict[str, Any]]:
    """Again and again: one to four calls at once, now and then a long one, at about the moment of its sleep."""
    made: list[dict[str, Any]] = []
    while time.time() < end:
        calls = [f"{name}-{random.random()}" for _ in range(random.randint(1, 4))]
        if random.random() < 0.2:
            calls.append(str(int(idle) + 2))
        answers = await asyncio.gather(*(call(session, f"{url}/v1/skills/{name}", what) for what in calls))
        made += [
            {"skill": name, "takes": int(what) if what.isdecimal() else 0, **answer}
            for what, answer in zip(calls, answers, strict=True)
        ]
        await asyncio.sleep(idle + random.uniform(-0.2, 1.2))
    return made


async def main() -> None:
    url, token, seconds, idle, *names = sys.argv[1:]
    connector = aiohttp.TCPConnector(force_close=True)  # each call goes to any of the gateways
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:
        end = time.time() + float(seconds)
        made = await asyncio.gather(*(race(session, url, name, end, float(idle)) for name in names))
    print(json.dumps([one for of_skill in made for one in of_skill]))


if __name__ == "__main__":
    asyncio.run(main())
