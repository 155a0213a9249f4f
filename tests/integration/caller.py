"""Runs in a pod: calls skills again and again, whatever becomes of the cluster around it, and prints what it was told.

    python3 caller.py URL TOKEN NAMESPACE/NAME:FROM:TO:EVERY…

What is called may be given by its own URL too, then the gateway has no part in it.
Times are seconds from the first call of all; SIGTERM ends it sooner. The last line is JSON, the first says that it begins.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from typing import Any

import aiohttp


async def calls(
    session: aiohttp.ClientSession, url: str, plan: str, began: float, stop: asyncio.Event
) -> list[dict[str, Any]]:
    name, start, end, every = plan.rsplit(":", 3)
    address = name if "://" in name else f"{url}/v1/skills/{name}"
    made: list[dict[str, Any]] = []
    due = began + float(start)
    while due < began + float(end) and not stop.is_set():
        await asyncio.sleep(due - time.monotonic())
        at = time.monotonic() - began
        try:
            async with session.post(address, json={"what": "x"}) as answer:
                told = {
                    "status": answer.status,
                    "wait": answer.headers.get("Retry-After", ""),
                    "body": await answer.json(),
                }
        except (aiohttp.ClientError, OSError) as error:
            told = {"status": 0, "wait": "", "body": repr(error)}
        made.append({"skill": name, "at": at, "took": time.monotonic() - began - at, **told})
        due = max(due + float(every), time.monotonic())
    return made


async def main() -> None:
    url, token, *plans = sys.argv[1:]
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=90)) as session:
        print("begins", flush=True)
        began = time.monotonic()
        made = await asyncio.gather(*(calls(session, url, plan, began, stop) for plan in plans))
    print(json.dumps([one for of_plan in made for one in of_plan]))


if __name__ == "__main__":
    asyncio.run(main())
