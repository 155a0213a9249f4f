"""Whether a body fits a Skill's input schema, before a pod is bothered (or woken) with it.

This spares work; it is no gate: the skill's own runtime judges every call again. So what would cost the gateway, which
all tenants share, too much is simply passed on.
"""

from __future__ import annotations

import json
from typing import Any

from skill_operator.api.schemas import Budget, Contract, TooMuchWorkError
from skill_operator.api.text import printable
from skill_operator.api.v1alpha1 import ObjectMeta
from skill_operator.api.values import flaw, located
from skill_operator.gateway.problems import Problem

LARGEST = 1 << 15
WORK = 10_000
MOST = 5


def judge(contract: Contract | None, body: bytes, meta: ObjectMeta) -> None:
    """Raises Problem for what is no JSON or does not fit."""
    if len(body) > LARGEST:
        return
    try:
        value: Any = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        detail = printable(f"{error}. Send one JSON value, in UTF-8", 300)
        raise Problem(400, "invalid-json", "The body is no JSON", detail) from error
    if contract is None or flaw(value) is not None:
        return
    try:
        misfits = contract.misfits(value, Budget(WORK), MOST)
    except TooMuchWorkError:
        return
    if misfits:
        told = "; ".join(f"{located('input', misfit.place)}: {misfit.message}" for misfit in misfits)
        where = f"GET /v1/skills/{meta.namespace}/{meta.name} shows the schema"
        raise Problem(422, "invalid-input", "The body does not fit spec.input", f"{printable(told, 800)}. {where}")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
