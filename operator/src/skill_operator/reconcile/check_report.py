"""The checker's verdict. It is foreign bytes until its signature and its model have been verified."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from skill_operator import runtime_contract
from skill_operator.untrusted.text import single_line

MAX_TEXT_CHARACTERS = 4096  # of any text in a report: a termination message has no more bytes


# Foreign text: whatever comes becomes one printable line.
QuestionInput = Annotated[
    str,
    Field(max_length=MAX_TEXT_CHARACTERS),
    AfterValidator(lambda text: single_line(text, runtime_contract.MAX_QUESTION_INPUT_CHARACTERS)),
]
QuestionAnswer = Annotated[
    str,
    Field(max_length=MAX_TEXT_CHARACTERS),
    AfterValidator(lambda text: single_line(text, runtime_contract.MAX_QUESTION_ANSWER_CHARACTERS)),
]


class ReportedQuestion(BaseModel):
    """An input of which examples and schemas do not say what is right, with two possible answers.

    It is for people: no prompt may ever hold one, since what is asked depends on examples that are held out.
    """

    kind: Literal["edge", "mutant", "opinion", "special"]
    input: QuestionInput
    answers: tuple[QuestionAnswer, QuestionAnswer]

    @property
    def text(self) -> str:
        """The question in words."""
        one, other = self.answers
        return f"`{self.input}`: {one}, or {other}?"


class CheckReport(BaseModel):
    """The checker's verdict on a candidate. `private` and `questions` are for people: no prompt may ever hold them."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True)

    subject: Annotated[str, Field(max_length=64)] = ""
    passed: bool
    gate: Annotated[str, Field(max_length=32, pattern=r"^[a-z-]+$")] | None = None
    message: Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS)] = ""
    private: Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS)] = ""
    line: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    passed_examples: Annotated[int, Field(ge=0, le=1000)] = 0
    total_examples: Annotated[int, Field(ge=0, le=1000)] = 0
    promises: Annotated[int, Field(ge=0, le=1000)] = 0
    mutants: Annotated[int, Field(ge=0, le=1000)] = 0
    mutants_killed: Annotated[int, Field(ge=0, le=1000)] = 0
    mutants_skipped: Literal["Granted", "NotDeterministic", "Slow", "Memory"] | None = None
    questions: Annotated[tuple[ReportedQuestion, ...], Field(max_length=runtime_contract.MAX_QUESTIONS)] = ()

    def wire(self) -> dict[str, Any]:
        """Return the report as the checker writes it."""
        return self.model_dump(mode="json", by_alias=True)


def read_end(end: Mapping[str, Any], key: str) -> CheckReport | None:
    """Return the report of a container that ended by itself, if PID 1 signed it and its exit code says the same.

    The signature alone is no proof: the key stands in the Job, which others may read, and any process of the container
    may write its last message, where PID 1 is killed before it does. The exit code is PID 1's alone.
    """
    code = end.get("exitCode")
    if code not in {runtime_contract.EXIT_OK, runtime_contract.EXIT_REFUSED}:
        return None
    report = read_signed(str(end.get("message", "")), key)
    return report if report is None or not report.passed or code == runtime_contract.EXIT_OK else None


def read_signed(message: str, key: str) -> CheckReport | None:
    """Return the report in the last message of a check's container, if PID 1 signed it with this Job's key."""
    envelope = _parse_json(message)
    if not isinstance(envelope, dict):
        return None
    text, mac = envelope.get(runtime_contract.ENVELOPE_REPORT), envelope.get(runtime_contract.ENVELOPE_MAC)
    if not isinstance(text, str) or not isinstance(mac, str):
        return None
    expected = hmac.new(bytes.fromhex(key), text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
    return parse(text) if hmac.compare_digest(expected.encode(), mac.encode("utf-8", "replace")) else None


def parse(text: str) -> CheckReport | None:
    """Return the report in `text`, or None where there is none."""
    try:
        return CheckReport.model_validate(_parse_json(text))
    except ValidationError:
        return None


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
