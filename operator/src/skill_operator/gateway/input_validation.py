"""Validation of a call's body against its Skill's input schema, before a pod gets it (or is started for it).

This spares work; it is no gate: the skill's own runtime validates every call again. So what would cost the gateway,
which all tenants share, too much is simply passed on.
"""

from __future__ import annotations

import json
import re

from skill_operator import runtime_contract
from skill_operator.api.v1alpha1 import ObjectMeta
from skill_operator.gateway.problems import Problem
from skill_operator.untrusted.json_schema import CompiledSchema, TooMuchWorkError, WorkBudget
from skill_operator.untrusted.json_values import (
    CHARACTERS_PER_UNIT,
    encodes,
    finite_float,
    flaw,
    is_deeper,
    located,
    parse_json,
    reject_constant,
)
from skill_operator.untrusted.text import printable

MAX_VALIDATED_BYTES = 1 << 15
MAX_WORK = 5_000
MAX_MISFITS = 5


def validate_input(schema: CompiledSchema | None, body: bytes, meta: ObjectMeta) -> None:
    """Validate a body; without a schema, only that it is JSON. Raises Problem for what is no JSON or does not fit."""
    check_encoding(body)
    if len(body) <= MAX_VALIDATED_BYTES and (schema is None or not _surely_fits(schema, body)):
        _validate_fully(schema, body, meta)


def check_encoding(beginning: bytes) -> None:
    """Raise Problem (400) where a body, of which this is the beginning, is surely not JSON in UTF-8.

    JSON begins with a character of ASCII, so that UTF-16 and UTF-32 show in the first four bytes (RFC 4627, section
    3), and a byte order mark in the first one.
    """
    if beginning[:1] >= b"\x80" or b"\0" in beginning[:4]:
        raise Problem("invalid-json", "send one JSON value, in UTF-8 and without a byte order mark")


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
    if _SURROGATE_ESCAPE.search(body) is not None and not encodes(json.dumps(value, ensure_ascii=False)):
        raise Problem("invalid-json", "a string holds half of a surrogate pair, which is no text")
    found = flaw(value)
    if found is not None and is_deeper(value, runtime_contract.MAX_LEVELS):
        raise Problem("invalid-json", f"it has more than {runtime_contract.MAX_LEVELS} levels of objects and arrays")
    if schema is None or found is not None:
        return
    try:
        misfits = schema.misfits(value, WorkBudget(MAX_WORK, MAX_WORK), MAX_MISFITS)
    except TooMuchWorkError:
        return
    if misfits:
        text = "; ".join(f"{located('input', misfit.place)}: {misfit.message}" for misfit in misfits)
        hint = f"GET /v1/skills/{meta.namespace}/{meta.name} shows the schema"
        raise Problem("invalid-input", f"{printable(text, 800)}. {hint}")


_DECODER = json.JSONDecoder(parse_constant=reject_constant, parse_float=finite_float)
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")  # perhaps half a pair: no text that the schema library takes
