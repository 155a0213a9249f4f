"""`kubectl skill doctor`: what the user may do, how the Skills are, and what the operator's own doctor says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Final

import typer

from kubectl_skill import output
from kubectl_skill.errors import CliError, ExitCode
from kubectl_skill.gateway import OPERATOR_LABELS, default_operator_namespace
from kubectl_skill.kubectl import SKILLS, Kubectl
from kubectl_skill.options import (
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    OperatorNamespaceOption,
    OutputOption,
    connect,
)
from kubectl_skill.output import Color, OutputFormat
from kubectl_skill.skills import read_skill
from skill_operator.naming import GROUP, VERSION

GOOD, BAD, UNKNOWN, LACKING = "ok", "bad", "unknown", "no"
_COLORS: Final = {GOOD: Color.GREEN, BAD: Color.RED, UNKNOWN: Color.YELLOW, "plain": Color.YELLOW}
_REMOTE: Final = re.compile(r"^(?P<check>\S.*?)  +(?P<state>ok|plain|bad|unknown)  (?P<found>.*)$")
MAX_LISTED_SKILLS = 5


@dataclass(frozen=True)
class Examined:
    """Examined is one line of the report. `todo` is empty where there is nothing to do."""

    check: str
    state: str
    found: str
    todo: str = ""


@dataclass(frozen=True)
class UsersRight:
    """UsersRight is something that the user may be allowed to do, and the verbs of the plugin that need it."""

    verb: str
    resource: str
    needed_by: str
    in_operator_namespace: bool = False


RIGHTS: Final[tuple[UsersRight, ...]] = (
    UsersRight("get", SKILLS, "why, history, diff, logs, approve, reject, rollback, export, example add"),
    UsersRight("list", SKILLS, "list, cost, doctor, completion of names"),
    UsersRight("get", "configmaps", "diff, approve, export"),
    UsersRight("list", "configmaps", "diff, approve, export"),
    UsersRight("list", "pods", "logs"),
    UsersRight("get", "pods/log", "logs"),
    UsersRight("create", SKILLS, "apply"),
    UsersRight("patch", SKILLS, "apply, approve, reject, retry, rollback, example add --apply"),
    UsersRight("update", f"{SKILLS}/approval", "approve, reject"),
    UsersRight("create", f"{SKILLS}/call", "call and ui, with your own token"),
    UsersRight("create", "serviceaccounts/token", "call --as-account, ui --as-account"),
    UsersRight("list", "services", "call, ui", in_operator_namespace=True),
    UsersRight("get", "services", "call, ui", in_operator_namespace=True),
    UsersRight("list", "pods", "call, ui", in_operator_namespace=True),
    UsersRight("get", "pods", "call, ui", in_operator_namespace=True),
    UsersRight("create", "pods/portforward", "call, ui", in_operator_namespace=True),
    UsersRight("get", "configmaps", "call and ui over TLS: its CA; cost: today's quota", in_operator_namespace=True),
    UsersRight("list", "configmaps", "cost: today's quota", in_operator_namespace=True),
    UsersRight("list", "deployments", "doctor: the operator's own", in_operator_namespace=True),
    UsersRight("get", "deployments", "doctor: the operator's own", in_operator_namespace=True),
    UsersRight("create", "pods/exec", "doctor: the operator's own", in_operator_namespace=True),
)


def command(
    ctx: typer.Context,
    output_format: OutputOption = None,
    operator_namespace: OperatorNamespaceOption = "",
    namespace: NamespaceOption = "",
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Examine the cluster, your rights and the Skills of the namespace.

    What you may not see is said, and is no failure. The command ends with 1 where a line is bad.
    """
    if output_format is OutputFormat.NAME:
        raise CliError("doctor has no -o name: take json or yaml", ExitCode.USAGE)
    kubectl = connect(ctx, namespace, context, kubeconfig)
    where = operator_namespace or default_operator_namespace()
    lines = [*_cluster(kubectl), *_rights(kubectl, where), *_skills(kubectl), *_operator(kubectl, where)]
    if output_format is not None:
        output.write_object([asdict(line) for line in lines], output_format)
    else:
        _write(lines)
    if any(line.state == BAD for line in lines):
        raise typer.Exit(ExitCode.UNWELL)


def _cluster(kubectl: Kubectl) -> Iterator[Examined]:
    """Examine the way to the cluster, and that it knows Skills. Raises CliError where there is no cluster at all."""
    versions = kubectl.json("version", namespaced=False)
    server = versions.get("serverVersion", {}).get("gitVersion", "?")
    client = versions.get("clientVersion", {}).get("gitVersion", "?")
    yield Examined("cluster", GOOD, f"Kubernetes {server}; kubectl {client}")
    try:
        yield Examined("you", GOOD, f"{kubectl.user}; namespace {kubectl.namespace}")
    except CliError as error:
        yield Examined("you", UNKNOWN, error.message)
    done = kubectl.attempt("get", "--raw", f"/apis/{GROUP}/{VERSION}", namespaced=False)
    if done.returncode == 0:
        yield Examined("API", GOOD, f"the cluster knows {SKILLS}")
    else:
        yield Examined("API", BAD, f"the cluster does not know {SKILLS}", "install the operator's chart")


def _rights(kubectl: Kubectl, operator_namespace: str) -> list[Examined]:
    def ask(right: UsersRight) -> Examined:
        place = ["-n", operator_namespace] if right.in_operator_namespace else []
        may = kubectl.attempt(
            "auth", "can-i", right.verb, *_split(right.resource), *place, "--quiet", namespaced=not place
        )
        where = operator_namespace if right.in_operator_namespace else kubectl.namespace
        return Examined(
            f"may {right.verb} {right.resource.replace(f'.{GROUP}', '')}",
            GOOD if may.returncode == 0 else LACKING,
            f"in {where}; for {right.needed_by}",
        )

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(ask, RIGHTS))


def _split(resource: str) -> list[str]:
    """Return a resource as `auth can-i` takes it: a subresource is an option."""
    name, _, subresource = resource.partition("/")
    return [name, f"--subresource={subresource}"] if subresource else [name]


def _skills(kubectl: Kubectl) -> Iterator[Examined]:
    try:
        found = [read_skill(raw) for raw in kubectl.list_skills()]
    except CliError as error:
        yield Examined("Skills", UNKNOWN, error.message)
        return
    stalled = [skill for skill in found if skill.state == "Stalled"]
    yield Examined("Skills", GOOD, f"{len(found)} in {kubectl.namespace}, {len(stalled)} of them stalled")
    for skill in stalled[:MAX_LISTED_SKILLS]:
        reason = skill.holdup.reason if skill.holdup is not None else ""
        yield Examined(f"Skill {skill.name}", BAD, f"is stalled: {reason}", f"kubectl skill why {skill.name}")


def _operator(kubectl: Kubectl, namespace: str) -> Iterator[Examined]:
    """Run the operator's own doctor in the controller's pod, where the user may."""
    selector = f"{OPERATOR_LABELS},app.kubernetes.io/component=controller"
    try:
        found = kubectl.json("get", "deployments", "-n", namespace, "-l", selector, namespaced=False)["items"]
    except CliError as error:
        yield Examined("operator", UNKNOWN, error.message, "let an administrator run `kubectl skill doctor`")
        return
    if not found:
        todo = "name its namespace with --operator-namespace, or install the chart"
        yield Examined("operator", BAD, f"there is no controller in the namespace {namespace}", todo)
        return
    deployment = found[0]
    name = deployment["metadata"]["name"]
    ready = deployment.get("status", {}).get("readyReplicas", 0)
    wanted = deployment["spec"].get("replicas", 1)
    if not ready:
        todo = f"kubectl -n {namespace} describe deployment {name}"
        yield Examined("operator", BAD, f"{ready} of {wanted} pods of deployment {name} are ready", todo)
        return
    yield Examined("operator", GOOD, f"{ready} of {wanted} pods of deployment {name} are ready")
    where = ("-n", namespace, "exec", f"deployment/{name}", "-c", "controller", "--")
    command = ("python3", "-m", "skill_operator", "doctor")
    done = kubectl.attempt(*where, *command, namespaced=False, timeout=False)
    lines = list(parse_remote(done.stdout))
    if lines:
        yield from lines
        return
    todo = "let an administrator run `kubectl skill doctor`"
    yield Examined("operator's doctor", UNKNOWN, "you may not run it in the controller's pod (create pods/exec)", todo)


def parse_remote(text: str) -> Iterator[Examined]:
    """Yield the lines of the operator's own report (`skill_operator.doctor.table`)."""
    last: Examined | None = None
    for line in text.splitlines()[1:]:
        if (match := _REMOTE.match(line)) is not None:
            if last is not None:
                yield last
            last = Examined(match["check"].strip(), match["state"], match["found"].strip())
        elif last is not None and line.lstrip().startswith("→ "):
            last = Examined(last.check, last.state, last.found, line.lstrip()[2:])
    if last is not None:
        yield last


def _write(lines: list[Examined]) -> None:
    wide = max(len(output.clean(line.check)) for line in lines)
    states = max(len(line.state) for line in lines)
    for line in lines:
        color = _COLORS.get(line.state)
        state = line.state.ljust(states)
        shown = output.clean(state) if color is None else output.paint(state, color)
        output.write_parts(output.clean(line.check.ljust(wide)), "  ", shown, "  ", output.clean(line.found))
        if line.todo:
            output.write_parts(" " * (wide + states + 4), output.clean(f"→ {line.todo}"))
