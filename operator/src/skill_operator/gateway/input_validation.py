"""Validation of a call's body against its Skill's input schema, before a pod gets it (or is started for it).

This spares work; it is no gate: the skill's own runtime validates every call again. So what would cost the gateway,
which all tenants share, too much is simply passed on.
"""

from __future__ import annotations

import json
import re

from skill_operator.api.v1alpha1 import ObjectMeta
from skill_operator.gateway.problems import Problem
from skill_operator.untrusted.json_schema import CompiledSchema, TooMuchWorkError, WorkBudget
from skill_operator.untrusted.json_values import CHARACTERS_PER_UNIT, flaw, located, parse_json, reject_constant
from skill_operator.untrusted.text import printable

MAX_VALIDATED_BYTES = 1 << 15
MAX_WORK = 5_000
MAX_MISFITS = 5


def validate_input(schema: CompiledSchema | None, body: bytes, meta: ObjectMeta) -> None:
    """Validate a body; without a schema, only that it is JSON. Raises Problem for what is no JSON or does not fit."""
    if len(body) <= MAX_VALIDATED_BYTES and (schema is None or not _surely_fits(schema, body)):
        _validate_fully(schema, body, meta)


def _surely_fits(schema: CompiledSchema, body: bytes) -> bool:
    """Return whether a body fits, where that can be known without a walk through it, which takes fifty times as long.

    Most bodies fit, and of most this can be known.
    """
    if _SURROGATE_ESCAPE.search(body) is not None:
        return False
    try:
        text = body.decode().strip(" \t\r\n")
        value, end = _DECODER.raw_decode(text)
        return end == len(text) and schema.surely_fits(value, _max_weight(body), len(text), MAX_WORK)
    except (ValueError, RecursionError):
        return False


def _max_weight(body: bytes) -> int:
    """Return a bound on the weight of the value: each node but the first follows a comma or an opening bracket."""
    return 1 + body.count(b",") + body.count(b"[") + body.count(b"{") + len(body) // CHARACTERS_PER_UNIT


def _validate_fully(schema: CompiledSchema | None, body: bytes, meta: ObjectMeta) -> None:
    try:
        value = parse_json(body)
    except (ValueError, RecursionError) as error:
        detail = printable(f"{error}. Send one JSON value, in UTF-8", 300)
        raise Problem("invalid-json", detail) from error
    if schema is None or flaw(value) is not None:
        return
    try:
        misfits = schema.misfits(value, WorkBudget(MAX_WORK, MAX_WORK), MAX_MISFITS)
    except TooMuchWorkError:
        return
    if misfits:
        text = "; ".join(f"{located('input', misfit.place)}: {misfit.message}" for misfit in misfits)
        hint = f"GET /v1/skills/{meta.namespace}/{meta.name} shows the schema"
        raise Problem("invalid-input", f"{printable(text, 800)}. {hint}")


_DECODER = json.JSONDecoder(parse_constant=reject_constant)
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")  # perhaps half a pair: no text that the schema library takes
