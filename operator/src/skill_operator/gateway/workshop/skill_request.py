"""The request of an agent for a Skill, and the object that it becomes. Nothing of it is trusted or run."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from skill_operator import naming
from skill_operator.api.v1alpha1 import SkillSpec
from skill_operator.api.validation import quick_problems
from skill_operator.gateway.problems import Problem
from skill_operator.k8s.interface import Object
from skill_operator.settings import WorkshopSettings
from skill_operator.untrusted.json_values import flaw, located, weight
from skill_operator.untrusted.text import printable

MAX_UNITS: Final = 8_192  # of a request: its values, and a share of its text
MAX_NAME_CHARACTERS: Final = 63
MAX_REPORTED: Final = 5  # mistakes in one response
REQUIRED: Final = ("summary", "description", "input", "output", "examples")
OPTIONAL: Final = ("name", "namespace", "source", "force")
_EXAMPLE_FIELDS: Final = frozenset({"name", "input", "output", "error"})


class SkillRequest(NamedTuple):
    """SkillRequest is what one caller asks for. `content` is the part of `spec` that is the caller's own."""

    namespace: str
    name: str  # empty: one is made of the summary
    content: dict[str, Any]
    force: bool

    def digest(self, maker: str) -> str:
        """Return by what a repeated request is known: equal for equal requests of one caller."""
        return naming.digest(maker, self.namespace, self.name, self.content)

    def object_name(self, maker: str) -> str:
        """Return the name of the Skill, which a repeated request has again."""
        return self.name or naming.requested(self.content["summary"], self.digest(maker))


def read_request(arguments: dict[str, Any], namespace: str) -> SkillRequest:
    """Return the request that these arguments are; `namespace` is where it is for, where they name none.

    Whether its schemas and examples are right is `check_content`'s to say. Raises Problem (422).
    """
    if found := flaw(arguments):
        raise _invalid(f"{located('request', found[0])}: it {found[1]}")
    if weight(arguments, MAX_UNITS) > MAX_UNITS:
        raise _invalid(f"it has more than {MAX_UNITS} values, of which 64 characters of text are one")
    if strange := sorted(set(arguments) - {*REQUIRED, *OPTIONAL}):
        known = ", ".join((*REQUIRED, *OPTIONAL))
        raise _invalid(f"it has no field {printable(strange[0], 63)}; it has {known}")
    if missing := [field for field in REQUIRED if field not in arguments]:
        raise _invalid(f"{', '.join(missing)} must be given")
    name, chosen = _label(arguments, "name"), _label(arguments, "namespace")
    if namespace and chosen not in {"", namespace}:
        raise _invalid(f"namespace must be {namespace} at this address")
    if not isinstance(arguments.get("force", False), bool):
        raise _invalid("force must be true or false")
    if not isinstance(arguments["summary"], str) or not arguments["summary"].strip():
        raise _invalid("summary must say in words what the skill does and when to use it")
    content = {field: arguments[field] for field in REQUIRED} | {"examples": name_examples(arguments["examples"])}
    if arguments.get("source") is not None:
        content["source"] = {"inline": arguments["source"]}
    return SkillRequest(namespace or chosen, name, content, arguments.get("force", False))


def name_examples(examples: Any, others: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Return the examples, each with a name: agents need not think of any. `others` are taken. Raises Problem (422)."""
    if not isinstance(examples, list) or not all(isinstance(example, dict) for example in examples):
        raise _invalid("examples must be a list of objects with input, and output or error")
    for number, example in enumerate(examples, 1):
        if strange := sorted(set(example) - _EXAMPLE_FIELDS):
            raise _invalid(f"examples[{number - 1}] has no field {printable(strange[0], 63)}")
    taken = {example["name"] for example in examples if isinstance(example.get("name"), str)} | set(others)
    names = (f"example-{number}" for number in itertools.count(1))
    free = (name for name in names if name not in taken)
    return [example if "name" in example else {"name": next(free), **example} for example in examples]


def check_content(content: dict[str, Any]) -> SkillSpec:
    """Return the spec that is asked for. Raises Problem (422) where it cannot be one.

    What takes longer than a shared loop can wait is left to the controller, whose conditions then tell of it.
    """
    try:
        spec = SkillSpec.model_validate(content, strict=True, extra="forbid")
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)[:MAX_REPORTED]
        raise _invalid("; ".join(f"{located('request', entry['loc'])}: {entry['msg']}" for entry in errors)) from error
    found = [str(problem) for problem in (quick_problems(spec) or ())[:MAX_REPORTED]]
    if found:
        raise _invalid("; ".join(found))
    return spec


def skill_object(request: SkillRequest, maker: str, review: str, settings: WorkshopSettings) -> Object:
    """Return the Skill that is written for a request. The chart's admission policy holds the gateway to its bounds."""
    annotations = {naming.CREATED_BY_ANNOTATION: maker, naming.REQUEST_ANNOTATION: request.digest(maker)}
    bounds = {"maxAttempts": settings.max_attempts, "tokenBudget": settings.token_budget}
    return {
        "apiVersion": naming.API_VERSION,
        "kind": "Skill",
        "metadata": {
            "namespace": request.namespace,
            "name": request.object_name(maker),
            "annotations": annotations,
        },
        "spec": {
            **request.content,
            "generation": bounds,
            "review": review,
            "archiveAfterSeconds": settings.archive_after_seconds,
        },
    }


def _label(arguments: dict[str, Any], field: str) -> str:
    text = arguments.get(field, "")
    if not isinstance(text, str) or (text and not naming.is_label(text)):
        raise _invalid(f"{field} must be lower-case letters, digits and dashes, {MAX_NAME_CHARACTERS} at most")
    return text


def _invalid(detail: str) -> Problem:
    return Problem("invalid-skill", printable(detail, 1000))
