"""When what is renewed: decisions of the time, the names and what is there, and of nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from skill_operator.certificates import renewal
from skill_operator.certificates.issuing import AUTHORITY_LIFE, SERVING_LIFE, issue_authority, issue_serving
from skill_operator.certificates.renewal import Found, needed_former, why_new_authority, why_new_serving
from tests.unit.certificates.samples import MORE_NAMES, NAMES, NOW

SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)


def found(now: datetime = NOW, names: tuple[str, ...] = NAMES) -> Found:
    authority = issue_authority(now, names)
    return Found(authority, issue_serving(now, names, authority))


def replaced(now: datetime, names: tuple[str, ...] = NAMES, serving_at: datetime = NOW) -> Found:
    """A new CA made now, beside a certificate that the former one signed for NAMES."""
    old = found(serving_at)
    assert old.authority is not None
    return Found(issue_authority(now, names), old.serving, (old.authority.certificate,))


def test_what_is_missing_is_made() -> None:
    assert why_new_authority(NOW, Found(None, None), NAMES) == "there is none that can be used"
    assert why_new_serving(NOW, Found(found().authority, None), NAMES) == "there is none that can be used"
    with pytest.raises(ValueError, match="without a CA"):
        why_new_serving(NOW, Found(None, None), NAMES)


@pytest.mark.parametrize(
    ("after", "due"),
    [
        (timedelta(0), False),
        (-timedelta(minutes=59), False),  # the clock of another node is late
        (-timedelta(minutes=61), True),
        (AUTHORITY_LIFE * 2 / 3 - SECOND, False),
        (AUTHORITY_LIFE * 2 / 3, True),
        (AUTHORITY_LIFE, True),
        (AUTHORITY_LIFE * 10, True),
    ],
)
def test_a_ca_lives_two_thirds_of_its_life(after: timedelta, due: bool) -> None:
    assert bool(why_new_authority(NOW + after, found(), NAMES)) is due


@pytest.mark.parametrize(
    ("after", "due"),
    [
        (timedelta(0), False),
        (-timedelta(minutes=59), False),
        (-timedelta(minutes=61), True),
        (SERVING_LIFE * 2 / 3 - SECOND, False),
        (SERVING_LIFE * 2 / 3, True),
        (SERVING_LIFE, True),
    ],
)
def test_a_certificate_lives_two_thirds_of_its_life(after: timedelta, due: bool) -> None:
    assert bool(why_new_serving(NOW + after, found(), NAMES)) is due


@pytest.mark.parametrize("names", [MORE_NAMES, NAMES[:-1], NAMES[1:], (*NAMES[1:], NAMES[0])])
def test_other_names_are_a_new_ca(names: tuple[str, ...]) -> None:
    assert why_new_authority(NOW, found(), names) == "the present one is not for these names"


def test_a_ca_that_another_one_signed_is_none_of_ours() -> None:
    one, other = found(), found()
    assert one.authority is not None
    assert other.authority is not None
    below = replace(other.authority, certificate=one.serving.certificate if one.serving else None)  # type: ignore[arg-type]
    assert why_new_authority(NOW, Found(below, None), NAMES)


@pytest.mark.parametrize(
    ("names", "after", "due"),
    [
        (NAMES, timedelta(0), False),
        (NAMES, renewal.SETTLING - SECOND, False),
        (NAMES, renewal.SETTLING, True),
        (MORE_NAMES, renewal.SETTLING_OF_NEW_NAMES - SECOND, False),
        (MORE_NAMES, renewal.SETTLING_OF_NEW_NAMES, True),
    ],
)
def test_a_new_ca_signs_when_callers_know_it(names: tuple[str, ...], after: timedelta, due: bool) -> None:
    assert bool(why_new_serving(NOW + after, replaced(NOW, names), names)) is due


def test_nothing_is_waited_for_when_the_old_one_is_about_to_expire() -> None:
    ends = NOW + SERVING_LIFE
    state = replaced(ends - 2 * DAY)
    assert why_new_serving(ends - 2 * DAY, state, NAMES) == ""
    assert why_new_serving(ends - DAY, state, NAMES) == "the CA has been replaced"


def test_what_no_known_ca_signed_is_replaced_at_once() -> None:
    state = replace(replaced(NOW), former=())
    assert why_new_serving(NOW, state, NAMES) == "no CA that callers know has signed the present one"
    strange = replace(state, former=(issue_authority(NOW, NAMES).certificate,))
    assert why_new_serving(NOW, strange, NAMES) == "no CA that callers know has signed the present one"


def test_the_former_ca_is_published_until_no_gateway_needs_it() -> None:
    state = replaced(NOW)
    assert needed_former(NOW, state) == state.former
    assert needed_former(NOW + 30 * DAY, state) == state.former, "it still serves"
    assert state.authority is not None
    moved = replace(state, serving=issue_serving(NOW + 7 * DAY, NAMES, state.authority))
    assert needed_former(NOW + 7 * DAY, moved) == state.former, "gateways have not loaded the new one yet"
    assert needed_former(NOW + 8 * DAY - SECOND, moved) == state.former
    assert needed_former(NOW + 8 * DAY, moved) == ()
    lost = replace(state, serving=None)
    assert needed_former(NOW, lost) == state.former, "gateways go on with the one that they have"
    assert needed_former(NOW + AUTHORITY_LIFE, lost) == (), "nobody believes it any more"


def test_of_many_former_the_one_in_use_is_kept() -> None:
    state = replaced(NOW)
    many = tuple(issue_authority(NOW, NAMES).certificate for _ in range(30))
    kept = needed_former(NOW, replace(state, former=(*many, *state.former, *many)))
    assert kept == (*state.former, *many[: renewal.MAX_FORMER - 1])
