"""Questions are short lines, whatever they are about, and the report has as many as fit."""

import hashlib
import hmac
import json
from itertools import product

import pytest

from skill_runtime import operator_contract as oc
from skill_runtime.check.findings import GateFinding
from skill_runtime.check.questions import OpenQuestion
from skill_runtime.check.report import CheckEvidence, sign_report
from skill_runtime.check.request import CheckRequest
from skill_runtime.contract import SkillContract

KEY = b"k" * 32
CONTRACT = SkillContract.from_document({"input": {"type": "object"}, "output": {}, "callTimeoutSeconds": 1})
REQUEST = CheckRequest("", "", CONTRACT, (), deterministic=True, granted=False, digest="d" * 64)
TEXTS = (
    "",
    "x",
    "two\nlines\r\n",
    "\u202e" * 900,
    "\x00\x1b[31m" * 200,
    '"\\' * 500,
    "💥" * 500,
    "\ud800" * 400,
    " \t" * 700,
)


def report(questions, finding=None):
    message = sign_report(KEY, REQUEST, finding, CheckEvidence(questions=questions))
    assert len(message.encode()) <= oc.TERMINATION_MESSAGE_BYTES
    envelope = json.loads(message)
    assert envelope["mac"] == hmac.new(KEY, envelope["report"].encode(), hashlib.sha256).hexdigest()
    return json.loads(envelope["report"])


@pytest.mark.parametrize(("value", "answer"), [*product(TEXTS, TEXTS)])
def test_a_question_is_bounded_and_printable(value, answer):
    question = OpenQuestion.about("mutant", {"x": value}, (answer, value))
    assert len(question.input) <= oc.MAX_QUESTION_INPUT_CHARACTERS
    assert all(len(text) <= oc.MAX_QUESTION_ANSWER_CHARACTERS for text in question.answers)
    assert all(text.isprintable() for text in (question.input, *question.answers))


@pytest.mark.parametrize("text", TEXTS)
def test_the_first_questions_are_reported_as_far_as_they_fit(text):
    questions = [OpenQuestion.about("edge", {"number": n, "x": text}, (text, text)) for n in range(5)]
    told = report(questions)["questions"]
    assert 1 <= len(told) <= oc.MAX_QUESTIONS
    assert told == [question.document() for question in questions[: len(told)]]


def test_short_questions_are_all_there():
    questions = [OpenQuestion.about("opinion", {"n": n}, ("1", "2")) for n in range(oc.MAX_QUESTIONS)]
    assert report(questions)["questions"] == [
        {"kind": "opinion", "input": f'{{"n": {n}}}', "answers": ["1", "2"]} for n in range(oc.MAX_QUESTIONS)
    ]


def test_refused_code_raises_no_question():
    question = OpenQuestion.about("edge", {}, ("1", "2"))
    assert report([question], GateFinding("schema", "wrong"))["questions"] == []
