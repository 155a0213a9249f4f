"""The lasting proof that this cluster enforces its policies, both ways, now and not only when a pod began.

Every skill's PID 1 looks at its own way out. What no pod can see of itself is looked at here: that the enforcer lives
and lets through what policies allow (the prober answers us), that a caged pod cannot get out (it says so), that nobody
gets in where no policy allows it (we try), and that the beacon, which all cages are measured by, is lit.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode

from skill_operator.isolation.prober import DOOR, reaches
from skill_operator.k8s.errors import ClusterError
from skill_operator.k8s.pod_status import ENFORCE
from skill_operator.naming import format_host_port
from skill_operator.settings import Settings

log = logging.getLogger(__name__)
PERIOD, SOON = 10.0, 2.0
SILENCES = 3
"""Rounds without an answer before the proof is void: one may be lost to a restart."""
PATIENCE = 3.0


@dataclass(frozen=True)
class IsolationVerdict:
    """What is known of the cage; the words of a condition."""

    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str


PROVEN = IsolationVerdict("True", "EgressRefused", "a pod sees its way out refused before it loads the code")
UNPROVEN = IsolationVerdict(
    "Unknown", "NotProvenYet", "the prober was not heard yet: see deployment skill-operator-prober"
)


class IsolationMonitor:
    """Looks every ten seconds, and tells when the verdict changes."""

    def __init__(
        self,
        settings: Settings,
        changed: Callable[[], Awaitable[None]],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        environment = os.environ if environment is None else environment
        host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
        self._api = format_host_port(host, port)
        self._settings = settings.isolation
        self._changed = changed
        self._silences = 0
        self._told = True
        self.verdict = PROVEN if not self._settings.prober else UNPROVEN

    async def run(self) -> None:
        if not self._settings.prober:
            await asyncio.Event().wait()
        while True:
            await self.step()
            await asyncio.sleep(PERIOD if self.verdict == PROVEN and self._told and not self._silences else SOON)

    async def step(self) -> None:
        """One look. An open way is believed at once, silence only when it lasts."""
        found = await self.look()
        self._silences = self._silences + 1 if found.status == "Unknown" else 0
        if found != self.verdict and not 0 < self._silences < SILENCES:
            level = logging.INFO if found == PROVEN else logging.ERROR
            log.log(level, "the cage: %s: %s", found.reason, found.message)
            self.verdict, self._told = found, False
        if not self._told:
            try:
                await self._changed()
            except ClusterError as error:
                log.warning("the Skills cannot be told yet: %s", error.message)
            else:
                self._told = True

    async def look(self) -> IsolationVerdict:
        prober, beacon = self._settings.prober, self._settings.beacon
        try:
            async with asyncio.timeout(PATIENCE):
                reached = await _ask(prober, [self._api, beacon])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            why = f"the prober {prober} does not answer ({str(error) or type(error).__name__})"
            return IsolationVerdict(
                "Unknown", "ProberSilent", f"{why}: the network plugin's policy enforcer, or the prober, is down"
            )
        if reached:
            return IsolationVerdict("False", "EgressNotBlocked", f"a caged pod reached {', '.join(reached)}: {ENFORCE}")
        if await reaches(f"{prober.rpartition(':')[0]}:{DOOR}", PATIENCE):
            return IsolationVerdict(
                "False", "IngressNotBlocked", f"a caged pod was reached where no policy allows it: {ENFORCE}"
            )
        if beacon and not await reaches(beacon, PATIENCE):
            return IsolationVerdict(
                "Unknown", "BeaconSilent", f"the beacon {beacon}, which cages are measured by, does not answer"
            )
        return PROVEN


async def _ask(prober: str, targets: list[str]) -> list[str]:
    """Over a connection of its own: policies are asked about new ones. Raises OSError, ValueError and the like."""
    host, _, port = prober.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    try:
        query = urlencode([("target", target) for target in targets if target])
        writer.write(f"GET /?{query} HTTP/1.1\r\nHost: prober\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read(65536)
        while chunk := await reader.read(65536):
            answer += chunk
        return [str(target) for target in json.loads(answer.partition(b"\r\n\r\n")[2])["reached"]]
    finally:
        writer.close()
