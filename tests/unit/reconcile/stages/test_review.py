from __future__ import annotations

import re

from skill_operator.reconcile.result import Progress
from skill_operator.reconcile.stages.review import review
from tests.unit.reconcile.samples import SOURCE, observed, skill, stage_context

APPROVE = re.compile(r"skill-operator\.dev/approve=(\w+)")


def approval_code(source: str) -> str:
    """What a reviewer of this code is told to write."""
    (note,) = review(observed(skill(review="Manual")), Progress(source=source), stage_context()).conditions
    assert (note.type, note.status, note.reason) == ("Built", "Unknown", "AwaitingApproval")
    found = APPROVE.search(note.message)
    assert found is not None
    return found[1]


def approved(source: str, code: str) -> bool:
    wanted = skill(review="Manual")
    meta = wanted.metadata.model_copy(update={"annotations": {"skill-operator.dev/approve": code}})
    return review(
        observed(wanted.model_copy(update={"metadata": meta})), Progress(source=source), stage_context()
    ).is_done


def test_by_default_nobody_is_asked() -> None:
    assert review(observed(), Progress(source=SOURCE), stage_context()).is_done


def test_what_was_approved_goes_on_and_nothing_else() -> None:
    code = approval_code(SOURCE)
    assert approved(SOURCE, code)
    assert not approved(SOURCE + "# and more\n", code)
    assert not approved(SOURCE, "")


def test_an_approval_cannot_be_met_by_a_second_text_that_was_searched_for() -> None:
    assert len(approval_code(SOURCE)) * 4 >= 128
