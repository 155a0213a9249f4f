"""Whether a body fits a Skill's input schema, before a pod is bothered (or woken) with it.

This spares work; it is no gate: the skill's own runtime judges every call again. So what would cost the gateway, which
all tenants share, too much is simply passed on.
"""

from __future__ import annotations

import json
import re
from typing import Any

from skill_operator.api.v1alpha1 import ObjectMeta
from skill_operator.gateway.problems import Problem
from skill_operator.untrusted.json_schema import CompiledSchema, TooMuchWorkError, WorkBudget
from skill_operator.untrusted.json_values import CHARACTERS_PER_UNIT, flaw, located, parse_json, reject_constant
from skill_operator.untrusted.text import printable

LARGEST = 1 << 15
WORK = 10_000
MOST = 5


def judge(contract: CompiledSchema | None, body: bytes, meta: ObjectMeta) -> None:
    """Raises Problem for what is no JSON or does not fit."""
    if len(body) <= LARGEST and (contract is None or not _surely_fits(contract, body)):
        _examine(contract, body, meta)


def _surely_fits(contract: CompiledSchema, body: bytes) -> bool:
    """Most bodies fit, and of most this can be told without a walk through them, which takes fifty times as long."""
    if _HALF_PAIR.search(body) is not None:
        return False
    try:
        text = body.decode().strip(" \t\r\n")
        value, end = _DECODER.raw_decode(text)
        return end == len(text) and contract.surely_fits(value, _weight_at_most(body), WORK)
    except (ValueError, RecursionError):
        return False


def _weight_at_most(body: bytes) -> int:
    """Of the value that this is: each of its nodes but the first follows a comma or an opening bracket."""
    return 1 + body.count(b",") + body.count(b"[") + body.count(b"{") + len(body) // CHARACTERS_PER_UNIT


def _examine(contract: CompiledSchema | None, body: bytes, meta: ObjectMeta) -> None:
    try:
        value: Any = parse_json(body)
    except (ValueError, RecursionError) as error:
        detail = printable(f"{error}. Send one JSON value, in UTF-8", 300)
        raise Problem("invalid-json", detail) from error
    if contract is None or flaw(value) is not None:
        return
    try:
        misfits = contract.misfits(value, WorkBudget(WORK), MOST)
    except TooMuchWorkError:
        return
    if misfits:
        told = "; ".join(f"{located('input', misfit.place)}: {misfit.message}" for misfit in misfits)
        where = f"GET /v1/skills/{meta.namespace}/{meta.name} shows the schema"
        raise Problem("invalid-input", f"{printable(told, 800)}. {where}")


_DECODER = json.JSONDecoder(parse_constant=reject_constant)
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")  # an escape that may be one: no text that this library of schemas takes
