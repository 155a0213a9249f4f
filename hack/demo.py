"""Show three example Skills on their way from a description to an answer, and an agent that asks for one more.

python3 -m hack.demo
"""

from __future__ import annotations

import json
import ssl
import sys
import time
import urllib.error
import urllib.request
from typing import Any

from hack import workshop
from hack.cluster.access import Cluster
from hack.cluster.cli import current
from hack.cluster.engine import export
from hack.cluster.identity import CHECKOUT, cluster_name
from hack.cluster.shell import ClusterError, say
from hack.gateway import forwarded_gateway, read_gateway
from hack.install import NAMESPACE, install
from hack.model import deploy

DEMO = "demo"
SKILLS = CHECKOUT / "examples" / "skills"
CALLS: dict[str, dict[str, Any]] = {
    "word-count": {"text": "the quick fox and the lazy dog and the cat", "top": 2},
    "invoice-total": {"lines": [{"qty": 3, "price": 19.99}, {"qty": 1, "price": 0.05}], "discount": 0.1},
    "csv-stats": {"csv": "city,rain\nOslo,1.5\nLima,0\nBern,2.5\n", "column": "rain"},
}
READY_SECONDS = 240.0


def demo(cluster: Cluster) -> bool:
    """Install the chart, apply the examples and call each; return False where one does not become ready.

    At the end an agent asks for a Skill that is not there.
    """
    values, explanation = deploy.configure(cluster)
    install(cluster, values, workshop.write_values())
    say(f"\n{explanation}\n")
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": DEMO}})
    for name in CALLS:
        cluster.kubectl("apply", "--server-side", "-n", DEMO, "-f", str(SKILLS / f"{name}.yaml"))
        say(f"applied  {name}")
    if not _follow(cluster):
        return False
    token = cluster.caller(DEMO)
    with forwarded_gateway(cluster) as (gateway, port):
        for name, body in CALLS.items():
            say(
                f"\n$ curl -H \"Authorization: Bearer $TOKEN\" -d '{json.dumps(body)}' $GATEWAY/v1/skills/{DEMO}/{name}"
            )
            url = f"{gateway.scheme}://127.0.0.1:{port}/v1/skills/{DEMO}/{name}"
            say(_post(url, body, token, gateway.forwarded_context))
    say("\nAn agent lacks a tool:\n")
    if not workshop.run_agent(cluster):
        return False
    say(f"\n$ kubectl -n {workshop.NAMESPACE} get skills")
    say(cluster.kubectl("-n", workshop.NAMESPACE, "get", "skills"))
    return True


def _follow(cluster: Cluster) -> bool:
    """Print every change of a Skill's state; return True once all are ready."""
    printed: dict[str, str] = {}
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        skills = cluster.get("-n", DEMO, "skills")["items"]
        ready = set()
        for skill in skills:
            name, status = skill["metadata"]["name"], skill.get("status", {})
            known = {c["type"]: c for c in status.get("conditions", [])}
            state = known.get("Ready", {})
            generation = status.get("generation") or {}
            failure = generation.get("lastFailure")
            text = f"{state.get('reason', 'Pending')}"
            if generation:
                text += f"  (attempts {generation.get('attempts', 0)}, tokens {generation.get('tokens', 0)})"
            if failure and printed.get(f"{name}/failure") != failure["message"]:
                printed[f"{name}/failure"] = failure["message"]
                say(
                    f"{name:14} REFUSED by {failure['gate']}:\n"
                    + "\n".join(f"    {line}" for line in failure["message"].splitlines())
                )
            if printed.get(name) != text:
                printed[name] = text
                say(f"{name:14} {text}")
            if state.get("status") == "True" and state.get("observedGeneration") == skill["metadata"]["generation"]:
                ready.add(name)
            elif "Stalled" in known:
                say(f"{name} is stalled: {state.get('message')}")
                return False
        if ready >= set(CALLS):
            return True
        time.sleep(0.3)
    say(f"not ready within {READY_SECONDS:.0f} s; look: kubectl -n {DEMO} describe skills")
    return False


def _post(url: str, body: dict[str, Any], token: str, context: ssl.SSLContext | None) -> str:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=60) as response:
            return str(response.read().decode())
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}: {error.read().decode()}"


def main() -> int:
    """Run the demo and say how to go on."""
    engine = current()
    try:
        cluster = Cluster(engine, engine.status())
        if not demo(cluster):
            return 1
        gateway = read_gateway(cluster)
    except ClusterError as error:
        say(f"error: {error}")
        return 1
    trust = ""
    if gateway.authorities:
        trust = f"""
  kubectl -n {NAMESPACE} get configmap {NAMESPACE}-gateway-ca -o jsonpath='{{.data.ca\\.crt}}' > gateway-ca.crt"""
    say(f"""
Next:
  {export(cluster_name())}
  kubectl -n {DEMO} get skills                          # the Skills
  kubectl -n {DEMO} describe skill invoice-total        # its conditions and events
  kubectl -n {DEMO} get configmap invoice-total-source -o yaml   # the code that was accepted
  kubectl -n {NAMESPACE} port-forward service/{NAMESPACE}-gateway 8080:{gateway.port} &{trust}
  TOKEN=$(kubectl -n {DEMO} create token caller --audience skill-gateway)
  {gateway.curl(8080)}/v1/skills/{DEMO}/word-count -H "Authorization: Bearer $TOKEN" -d '{{"text": "to be or not"}}'
To stop:
  make down                                            # leaves nothing""")
    return 0


if __name__ == "__main__":
    sys.exit(main())
