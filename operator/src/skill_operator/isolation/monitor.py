"""Prove again and again that this cluster enforces its network policies, both ways, and not only when a pod starts.

PID 1 of every skill checks its own egress. This module checks what no pod can see of itself: that the enforcer lives
and lets through what policies allow (the prober responds), that an isolated pod cannot get out (the prober reports
so), that nobody gets in where no policy allows it (the controller tries), and that the beacon, by which every pod
checks its isolation, accepts connections.
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

from skill_operator.isolation.prober import BLOCKED_PORT, can_connect
from skill_operator.k8s.errors import ClusterError
from skill_operator.k8s.pod_status import ENFORCE
from skill_operator.naming import format_host_port
from skill_operator.settings import Settings

log = logging.getLogger(__name__)
PERIOD_SECONDS, RETRY_SECONDS = 10.0, 2.0
MAX_SILENT_ROUNDS = 3
"""Rounds without a response before the proof is void: one may be lost to a restart."""
TIMEOUT_SECONDS = 3.0


@dataclass(frozen=True)
class IsolationVerdict:
    """IsolationVerdict says what is known of the cluster's isolation, in the words of a condition."""

    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str


PROVEN = IsolationVerdict(
    "True", "EgressRefused", "the network plugin refuses a pod's egress before the pod loads the code"
)
UNPROVEN = IsolationVerdict(
    "Unknown", "NotProvenYet", "the prober has not responded yet: see deployment skill-operator-prober"
)


class IsolationMonitor:
    """IsolationMonitor probes every ten seconds, and calls `on_change` when the verdict changes."""

    def __init__(
        self,
        settings: Settings,
        on_change: Callable[[], Awaitable[None]],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        environment = os.environ if environment is None else environment
        host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
        self._api = format_host_port(host, port)
        self._settings = settings.isolation
        self._on_change = on_change
        self._silent_rounds = 0
        self._notified = True
        self.verdict = PROVEN if not self._settings.prober else UNPROVEN

    async def run(self) -> None:
        """Probe until cancelled; without a prober, do nothing."""
        if not self._settings.prober:
            await asyncio.Event().wait()
        while True:
            await self.update()
            steady = self.verdict == PROVEN and self._notified and not self._silent_rounds
            await asyncio.sleep(PERIOD_SECONDS if steady else RETRY_SECONDS)

    async def update(self) -> None:
        """Probe once and renew the verdict. An open network is believed at once, silence only when it lasts."""
        found = await self.probe()
        self._silent_rounds = self._silent_rounds + 1 if found.status == "Unknown" else 0
        if found != self.verdict and not 0 < self._silent_rounds < MAX_SILENT_ROUNDS:
            level = logging.INFO if found == PROVEN else logging.ERROR
            log.log(level, "isolation: %s: %s", found.reason, found.message)
            self.verdict, self._notified = found, False
        if not self._notified:
            try:
                await self._on_change()
            except ClusterError as error:
                log.warning("the new isolation verdict cannot be applied to the Skills yet: %s", error.message)
            else:
                self._notified = True

    async def probe(self) -> IsolationVerdict:
        """Return what one round of probes shows."""
        prober, beacon = self._settings.prober, self._settings.beacon
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                reached = await _fetch_report(prober, [self._api, beacon])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            cause = f"the prober {prober} does not respond ({str(error) or type(error).__name__})"
            return IsolationVerdict(
                "Unknown", "ProberSilent", f"{cause}: the network plugin's policy enforcer, or the prober, is down"
            )
        if reached:
            return IsolationVerdict(
                "False", "EgressNotBlocked", f"an isolated pod reached {', '.join(reached)}: {ENFORCE}"
            )
        if await can_connect(f"{prober.rpartition(':')[0]}:{BLOCKED_PORT}", TIMEOUT_SECONDS):
            return IsolationVerdict(
                "False", "IngressNotBlocked", f"an isolated pod was reached where no policy allows it: {ENFORCE}"
            )
        if beacon and not await can_connect(beacon, TIMEOUT_SECONDS):
            return IsolationVerdict(
                "Unknown", "BeaconSilent", f"the beacon {beacon}, by which pods check their isolation, does not respond"
            )
        return PROVEN


async def _fetch_report(prober: str, targets: list[str]) -> list[str]:
    """Return the targets that the prober reaches. Raises OSError, ValueError and the like.

    It opens a new connection each time, since policies apply to new connections.
    """
    host, _, port = prober.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    try:
        query = urlencode([("target", target) for target in targets if target])
        writer.write(f"GET /?{query} HTTP/1.1\r\nHost: prober\r\nConnection: close\r\n\r\n".encode())
        response = await reader.read(65536)
        while chunk := await reader.read(65536):
            response += chunk
        return [str(target) for target in json.loads(response.partition(b"\r\n\r\n")[2])["reached"]]
    finally:
        writer.close()
