"""`kubectl skill cost`: tokens by Skill and namespace, and what is left of today's quota where it may be read."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import typer

from kubectl_skill import output
from kubectl_skill.errors import CliError, ExitCode
from kubectl_skill.gateway import OPERATOR_LABELS, default_operator_namespace
from kubectl_skill.kubectl import Kubectl
from kubectl_skill.options import (
    AllNamespacesOption,
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    OperatorNamespaceOption,
    OutputOption,
    connect,
)
from kubectl_skill.output import OutputFormat
from kubectl_skill.skills import SkillView, read_skill
from skill_operator import naming

HEADER = ("NAMESPACE", "NAME", "MODEL", "ATTEMPTS", "TOKENS", "BUDGET", "IN HISTORY")


@dataclass(frozen=True)
class SkillCost:
    """SkillCost is what the code of a Skill took: for the present spec, and for all revisions in its history."""

    namespace: str
    name: str
    model: str
    attempts: int
    tokens: int
    budget: int
    history_tokens: int


def command(
    ctx: typer.Context,
    all_namespaces: AllNamespacesOption = False,
    output_format: OutputOption = None,
    operator_namespace: OperatorNamespaceOption = "",
    namespace: NamespaceOption = "",
    context: ContextOption = "",
    kubeconfig: KubeconfigOption = "",
) -> None:
    """Say what the code of Skills cost in tokens.

    Today's quota is the operator's own book: it takes the right to read ConfigMaps in the operator's namespace.
    """
    kubectl = connect(ctx, namespace, context, kubeconfig)
    costs = [cost_of(read_skill(raw)) for raw in kubectl.list_skills(all_namespaces=all_namespaces)]
    where = operator_namespace or default_operator_namespace()
    if output_format is OutputFormat.NAME:
        raise CliError("cost has no -o name: take json or yaml", ExitCode.USAGE)
    quota, trouble = read_quota(kubectl, where)
    if output_format is not None:
        value = {"skills": [vars(cost) for cost in costs], "namespaces": sums(costs), "today": quota}
        output.write_object(value, output_format)
        return
    if costs:
        output.write(output.table(HEADER, map(_row, costs)))
        output.write()
    for name, tokens in sums(costs).items():
        output.write(f"{name}: {tokens} tokens for the present code of its Skills{_today(quota, name)}")
    if not costs:
        output.note("There is no Skill here, and so no cost. -A looks in every namespace.")
    if trouble:
        output.note(trouble)


def cost_of(skill: SkillView) -> SkillCost:
    """Return what a Skill's code took. Revisions of the same code count once."""
    spent, status = skill.status.generation, skill.status
    codes = {made.source_digest: made.tokens for entry in status.history if (made := entry.provenance) is not None}
    model = spent.model if spent is not None else (status.provenance.model if status.provenance is not None else "")
    return SkillCost(
        skill.namespace,
        skill.name,
        model or ("pinned" if skill.spec.source is not None else ""),
        spent.attempts if spent is not None else 0,
        spent.tokens if spent is not None else 0,
        skill.spec.generation.token_budget if skill.spec.source is None else 0,
        sum(codes.values()),
    )


def sums(costs: Iterable[SkillCost]) -> dict[str, int]:
    """Return the tokens of the present code by namespace."""
    found: dict[str, int] = defaultdict(int)
    for cost in costs:
        found[cost.namespace] += cost.tokens
    return dict(sorted(found.items()))


def read_quota(kubectl: Kubectl, namespace: str) -> tuple[dict[str, Any] | None, str]:
    """Return what was spent today and may be spent, from the operator's own ConfigMaps, or why it cannot be read."""
    selector = f"{OPERATOR_LABELS},app.kubernetes.io/component=settings"
    try:
        account = kubectl.find("configmap", naming.ACCOUNT, "-n", namespace, namespaced=False)
        found = kubectl.json("get", "configmaps", "-n", namespace, "-l", selector, namespaced=False)["items"]
    except CliError as error:
        if error.code is not ExitCode.FORBIDDEN:
            raise
        return None, f"Today's quota is not shown: it takes the right to get and list configmaps in {namespace}."
    limits: dict[str, Any] = {}
    for item in found:
        settings = _parse((item.get("data") or {}).get("settings.json"))
        limits = (settings.get("generation") or {}).get("dailyTokens") or {}
    usage = _parse(((account or {}).get("data") or {}).get("account.json"))
    today = datetime.now(timezone.utc).date().isoformat()
    spent: dict[str, int] = defaultdict(int)
    if str(usage.get("day", "")) >= today:
        for name, tokens in (usage.get("spent") or {}).items():
            spent[str(name)] += int(tokens)
        for reserved in (usage.get("out") or {}).values():
            spent[str(reserved.get("namespace", ""))] += int(reserved.get("tokens", 0))
    return {
        "day": today,
        "spent": dict(sorted(spent.items())),
        "total": sum(spent.values()),
        "namespaceLimit": limits.get("namespace"),
        "totalLimit": limits.get("operator"),
    }, ""


def _parse(text: Any) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _today(quota: dict[str, Any] | None, namespace: str) -> str:
    if quota is None:
        return ""
    limit = f" of {quota['namespaceLimit']}" if quota["namespaceLimit"] else ""
    return f"; today {quota['spent'].get(namespace, 0)}{limit} were spent"


def _row(cost: SkillCost) -> tuple[str, ...]:
    figures = (cost.attempts, cost.tokens, cost.budget, cost.history_tokens)
    return (cost.namespace, cost.name, cost.model, *(str(figure) if figure else "" for figure in figures))
