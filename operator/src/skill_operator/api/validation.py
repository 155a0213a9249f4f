"""Find the mistakes of a spec that the API server cannot see: wrong schemas, and examples that cannot pass.

What is found here costs no token. The order is that of the spec, so the same spec has the same first problem.
"""

from __future__ import annotations

import builtins
import ipaddress
import keyword
import math
import re
from collections.abc import Hashable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from skill_operator.api.egress_networks import BlockedNetwork, NeverGranted, exceptions
from skill_operator.api.v1alpha1 import HOST, INSIDE_HOST, NO_HOST, Egress, Example, SkillSpec, is_host
from skill_operator.runtime_contract import MAX_PATTERNS_KIB
from skill_operator.untrusted.json_schema import BadSchemaError, CompiledSchema, TooMuchWorkError, WorkBudget
from skill_operator.untrusted.json_values import CHARACTERS_PER_UNIT, Place, canonical, flaw, located, weight
from skill_operator.untrusted.schema_keywords import idle_keywords, refused_null
from skill_operator.untrusted.text import printable

MAX_PROBLEMS: Final = 10
MAX_PROBLEMS_PER_VALUE: Final = 3
MAX_UNITS: Final = 16_384  # of all examples: what a check Job can carry, and what a model could ever read
WORK_UNITS: Final = 250_000  # for all examples of a spec, about a third of a second
SEARCH_UNITS: Final = 64_000_000


class Effort(NamedTuple):
    """Effort bounds what it may cost to judge one spec."""

    spec_units: float
    patterns_kib: int
    units: int
    searches: int


WHOLE: Final = Effort(math.inf, MAX_PATTERNS_KIB, WORK_UNITS, SEARCH_UNITS)
QUICK: Final = Effort(4096, 256, 6000, 6000)  # about 20 ms, at most, of whoever serves others meanwhile

_PATH_LIMIT: Final = 256
_MESSAGE_LIMIT: Final = 512
_Located = tuple[str, str]


class SpecProblem(NamedTuple):
    """SpecProblem is one mistake and its place in the spec. Both texts are printable."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def problems(spec: SkillSpec) -> list[SpecProblem]:
    """Return at most ten problems of a spec, none for a good spec. It never raises, whatever the spec holds.

    It can take seconds and hundreds of megabytes: a process that serves others calls `quick_problems` first.
    """
    return _printable(_find_problems(spec, WHOLE))


def quick_problems(spec: SkillSpec) -> list[SpecProblem] | None:
    """Return what `problems` does, or None where that takes longer than a shared event loop can wait."""
    parts = [spec.input, spec.output, *((example.input, example.output) for example in spec.examples)]
    left = QUICK.spec_units
    for part in parts:
        left -= sum(weight(value, left) for value in part) if isinstance(part, tuple) else weight(part, left)
        if left < 0:
            return None
    try:
        return _printable(_find_problems(spec, QUICK))
    except TooMuchWorkError:
        return None


def problems_of(raw: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the problems of a stored spec, for a worker process: the arguments and the result are JSON."""
    return [(problem.path, problem.message) for problem in problems(SkillSpec.model_validate(raw))]


def never_granted(spec: SkillSpec, blocked_networks: Iterable[BlockedNetwork]) -> list[SpecProblem]:
    """Return the problems of grants in blocked networks, which depend on this very cluster."""
    return _printable(_blocked_grants(spec, tuple(blocked_networks)))


def advice(spec: SkillSpec) -> list[SpecProblem]:
    """Return what a good spec says in vain: keywords of its schemas that do nothing. At most ten, as of problems."""
    sides = (("spec.input", spec.input), ("spec.output", spec.output))
    return _printable(_at(base, *misfit) for base, schema in sides for misfit in idle_keywords(schema))


def read_spec(raw: object) -> tuple[SkillSpec | None, list[SpecProblem]]:
    """Return the spec that no API server has validated, such as a file, and its problems; None for another shape.

    As the API server does, this refuses unknown fields and converts nothing.
    """
    try:
        spec = SkillSpec.model_validate(raw, strict=True, extra="forbid")
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        return None, _printable((located("spec", entry["loc"]), entry["msg"]) for entry in errors)
    return spec, problems(spec)


def _printable(found: Iterable[_Located]) -> list[SpecProblem]:
    return [
        SpecProblem(printable(path, _PATH_LIMIT), printable(message, _MESSAGE_LIMIT))
        for path, message in islice(found, MAX_PROBLEMS)
    ]


def _find_problems(spec: SkillSpec, effort: Effort) -> Iterator[_Located]:
    if not spec.description.strip():
        yield "spec.description", "says nothing"
    takes, gives = _Side("input", spec.input, effort), _Side("output", spec.output, effort)
    yield from takes.problems
    if takes.contract and spec.input.get("type") != "object":
        yield "spec.input.type", "must be object: the body of a call is a JSON object"
    yield from gives.problems
    yield from _repeated("spec.examples", [example.name for example in spec.examples])
    yield from _examples(spec.examples, takes, gives, effort)
    for index, egress in enumerate(spec.egress):
        yield from _egress(f"spec.egress[{index}]", egress)
    yield from _blocked_grants(spec, ())
    yield from _repeated("spec.secrets", [grant.name for grant in spec.secrets])


class _Side:
    """_Side is one of the two schemas, compiled where that is possible."""

    def __init__(self, name: str, schema: dict[str, Any], effort: Effort) -> None:
        self.name = name
        self.contract: CompiledSchema | None = None
        self.problems: list[_Located] = []
        try:
            self.contract = CompiledSchema(schema, effort.patterns_kib)
        except BadSchemaError as error:
            self.problems += [_at(f"spec.{name}", *misfit) for misfit in error.misfits]
        else:
            self.problems += [_at(f"spec.{name}", *misfit) for misfit in refused_null(schema)]

    def misfits(self, path: str, value: Any, budget: WorkBudget) -> Iterator[_Located]:
        """Yield where an example does not fit; nothing if the schema itself is wrong, which is reported already."""
        if self.contract is None:
            return
        for misfit in self.contract.misfits(value, budget, MAX_PROBLEMS_PER_VALUE):
            yield _at(f"{path}.{self.name}", *misfit)


def _at(base: str, place: Place, message: str) -> _Located:
    return located(base, place), message


def _repeated(path: str, names: list[str]) -> Iterator[_Located]:
    """Yield names that repeat. The API server rejects them, too, but a file has not met it."""
    for index, name in enumerate(names):
        first = names.index(name)
        if first != index:
            yield f"{path}[{index}].name", f"{name} is the name of {path}[{first}] too"


def _examples(examples: list[Example], takes: _Side, gives: _Side, effort: Effort) -> Iterator[_Located]:
    flawed = [
        _at(f"spec.examples[{index}]", *found) for index, example in enumerate(examples) if (found := _flaw(example))
    ]
    if flawed:
        yield from flawed
        return
    units = sum(weight(example.input) + weight(example.output) for example in examples)
    if units > MAX_UNITS:
        size = f"{MAX_UNITS} values or {MAX_UNITS * CHARACTERS_PER_UNIT // 1024} KiB of text"
        yield "spec.examples", f"are too much together; they may hold about {size}"
        return
    budget = WorkBudget(effort.units, effort.searches)
    outcomes: dict[Hashable, tuple[int, Hashable]] = {}
    for index, example in enumerate(examples):
        path = f"spec.examples[{index}]"
        yield from _outcome(path, example)
        try:
            for place, message in takes.misfits(path, example.input, budget):
                yield place, message if example.error is None else f"{message}, so the schema refuses it, not the code"
            if example.error is None:
                yield from gives.misfits(path, example.output, budget)
        except TooMuchWorkError:
            if effort is not WHOLE:
                raise
            yield path, "checking it takes too much work: use simpler patterns or schemas, or shorter texts"
            return
        outcome = ("error", example.error) if example.error is not None else ("output", canonical(example.output))
        first, expected = outcomes.setdefault(canonical(example.input), (index, outcome))
        if expected != outcome:
            yield path, f"contradicts spec.examples[{first}] ({examples[first].name}): same input, another outcome"


def _flaw(example: Example) -> tuple[Place, str] | None:
    for name, value in (("input", example.input), ("output", example.output)):
        if found := flaw(value):
            return (name, *found[0]), found[1]
    return None


def _outcome(path: str, example: Example) -> Iterator[_Located]:
    if example.error is None:
        if not example.has_output:
            yield path, "needs an output or an error"
        return
    if example.has_output and example.output is not None:
        yield path, "has both an output and an error; one call has one outcome"
    builtin = getattr(builtins, example.error, None)
    if isinstance(builtin, type) and issubclass(builtin, BaseException):
        if not issubclass(builtin, Exception):
            yield (
                f"{path}.error",
                f"{example.error} ends the program; a call may raise only what derives from Exception",
            )
    elif builtin is not None or keyword.iskeyword(example.error):
        yield f"{path}.error", f"{example.error} is no name of an exception class, such as ValueError"


def _egress(path: str, egress: Egress) -> Iterator[_Located]:
    if (egress.cidr is None) == (egress.host is None):
        yield path, "needs a cidr or a host, and not both"
    elif egress.host is not None:
        yield from _host(f"{path}.host", egress.host)
    else:
        yield from _cidr(f"{path}.cidr", egress.cidr or "")


def _host(path: str, host: str) -> Iterator[_Located]:
    """Check the rules of the API server once more, for Skills that were stored before them, or never."""
    if not is_host(host):
        yield path, f"{host} {INSIDE_HOST if re.fullmatch(HOST, host) else NO_HOST}"


def _cidr(path: str, cidr: str) -> Iterator[_Located]:
    try:
        network = ipaddress.ip_network(cidr, strict=False)
    except ValueError:
        yield path, f"{cidr} is no network such as 203.0.113.0/24"
        return
    if str(network) != cidr and ipaddress.ip_interface(cidr).ip != network.network_address:
        yield path, f"{cidr} is an address inside {network}; write the network or a /{network.max_prefixlen}"


def _blocked_grants(spec: SkillSpec, blocked_networks: Iterable[BlockedNetwork]) -> Iterator[_Located]:
    for index, cidr, _ in spec.networks:
        try:
            exceptions(cidr, blocked_networks)
        except NeverGranted as error:
            yield f"spec.egress[{index}].cidr", str(error)
        except ValueError:
            continue  # no network at all, which is reported already
