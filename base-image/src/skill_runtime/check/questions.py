"""Open questions: inputs of which neither the examples nor the schemas say what is right. Only people answer them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from skill_runtime import operator_contract as oc
from skill_runtime.text import one_line, one_line_json

QuestionKind = Literal["edge", "mutant", "opinion", "special"]


@dataclass(frozen=True)
class OpenQuestion:
    """OpenQuestion is one input with the two answers that seem possible: the accepted code's, then the other one.

    No model may ever read it: what is asked depends on examples that are held out.
    """

    kind: QuestionKind
    input: str
    answers: tuple[str, str]

    @classmethod
    def about(cls, kind: QuestionKind, value: Any, answers: tuple[str, str]) -> Self:
        """Return the question about an input, with all of its texts on one line each, cut to the contract's lengths."""
        longest = oc.MAX_QUESTION_INPUT_CHARACTERS
        one, other = (
            _cut(one_line(text, oc.MAX_QUESTION_ANSWER_CHARACTERS), oc.MAX_QUESTION_ANSWER_CHARACTERS)
            for text in answers
        )
        return cls(kind, _cut(one_line_json(value, longest), longest), (one, other))

    def document(self) -> dict[str, Any]:
        """Return the question as the report has it."""
        return {oc.QUESTION_KIND: self.kind, oc.QUESTION_INPUT: self.input, oc.QUESTION_ANSWERS: list(self.answers)}


def _cut(text: str, limit: int) -> str:
    """Return the text, of which escapes may have made more than `limit` characters, within the limit."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
