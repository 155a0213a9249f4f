"""The daily quota bounds the tokens that each namespace, and all Skills together, spend in one day (UTC).

Its usage is stored where no tenant may write, and before the ledger is: it may count a call that was never made, but
never misses one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from pydantic import ConfigDict, Field, ValidationError

from skill_operator.generation.decision import Wait
from skill_operator.generation.ledger import Ledger, StoredModel


class Reservation(StoredModel):
    """A reservation holds the tokens of one call that runs. `call` is the call's id."""

    namespace: str
    call: str
    tokens: int


class DailyUsage(StoredModel):
    """DailyUsage counts the tokens of one day: `spent` by namespace, and reservations by the uid of their Skill.

    A Skill has at most one call at a time, and so at most one reservation.
    """

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True, validate_by_alias=True)

    day: date
    spent: dict[str, int] = Field(default_factory=dict)
    reservations: dict[str, Reservation] = Field(default_factory=dict, alias="out")  # the alias is the stored name

    def tokens(self, namespace: str | None = None) -> int:
        """Return the tokens spent and reserved today by one namespace, or by all."""
        spent = sum(self.spent.values()) if namespace is None else self.spent.get(namespace, 0)
        reserved = (r.tokens for r in self.reservations.values() if namespace in {None, r.namespace})
        return spent + sum(reserved)


@dataclass(frozen=True)
class DailyQuota:
    """DailyQuota is the number of tokens a day that one namespace, and the whole operator, may spend."""

    namespace: int
    operator: int


def read(text: str, today: date) -> DailyUsage:
    """Parse the stored usage. Return an empty one if it is of an earlier day or unreadable.

    The usage of a future day counts for today: a clock that was wrong and is corrected frees no tokens, and blocks
    none for longer than that.
    """
    try:
        usage = DailyUsage.model_validate_json(text)
    except ValidationError:
        return DailyUsage(day=today)
    return usage.model_copy(update={"day": today}) if usage.day >= today else DailyUsage(day=today)


def settle(usage: DailyUsage, uid: str, ledger: Ledger) -> DailyUsage:
    """Return the usage with the Skill's reservation replaced by the price that its ledger records.

    A call that the ledger does not know costs what was reserved for it.
    """
    reservation = usage.reservations.get(uid)
    if reservation is None:
        return usage
    price = ledger.charged if reservation.call == ledger.call else reservation.tokens
    if price is None:  # the call still runs
        return usage
    spent = usage.spent | {reservation.namespace: usage.spent.get(reservation.namespace, 0) + price}
    others = {key: value for key, value in usage.reservations.items() if key != uid}
    return usage.model_copy(update={"spent": spent, "reservations": others})


def reserve(usage: DailyUsage, uid: str, namespace: str, call_id: str, tokens: int) -> DailyUsage:
    """Return the usage with `tokens` reserved for the call `call_id` of the Skill `uid`."""
    reservation = Reservation(namespace=namespace, call=call_id, tokens=tokens)
    return usage.model_copy(update={"reservations": usage.reservations | {uid: reservation}})


def find_wait(usage: DailyUsage, namespace: str, tokens: int, quota: DailyQuota, now: datetime) -> Wait | None:
    """Return the wait until the next day if `tokens` more would exceed the quota, else None."""
    for subject, used, limit, setting in (
        (f"namespace {namespace}", usage.tokens(namespace), quota.namespace, "namespace"),
        ("all Skills together", usage.tokens(), quota.operator, "operator"),
    ):
        if used + tokens > limit:
            midnight = datetime.combine(usage.day + timedelta(days=1), time(), UTC)
            text = (
                f"the daily tokens are spent: {subject} used {used} of {limit}, and the next call may need {tokens}. "
                f"Generation continues at 00:00 UTC, or when generation.dailyTokens.{setting} in the chart's values "
                "is raised"
            )
            return Wait((midnight - now).total_seconds(), "QuotaExhausted", text, stalled=True)
    return None
