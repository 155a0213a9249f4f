"""What all Skills together spend in a day: one account for the operator, with a line for each namespace.

It is kept where no tenant may write, and is written before the ledger is: it may count a call that was never made, but
never misses one. Days are those of UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from skill_operator.generation.ledger import Ledger, Wait


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Reservation(_Frozen):
    """A call that is out: what was reserved for it."""

    namespace: str
    call: str
    tokens: int


class DailyUsage(_Frozen):
    day: date
    spent: dict[str, int] = Field(default_factory=dict)  # by namespace
    out: dict[str, Reservation] = Field(default_factory=dict)  # by uid of the Skill, which has one call out at most

    def tokens(self, namespace: str | None = None) -> int:
        """Spent and reserved today, by one namespace or by all."""
        spent = sum(self.spent.values()) if namespace is None else self.spent.get(namespace, 0)
        return spent + sum(out.tokens for out in self.out.values() if namespace in {None, out.namespace})


@dataclass(frozen=True)
class DailyQuota:
    """Tokens a day."""

    namespace: int
    operator: int


def read(text: str, today: date) -> DailyUsage:
    """The account of today. What stands in one of a day to come counts for today: a clock that went wrong and was set
    right frees nothing, and locks nothing up for longer than that."""
    try:
        account = DailyUsage.model_validate_json(text)
    except ValidationError:
        return DailyUsage(day=today)
    return account.model_copy(update={"day": today}) if account.day >= today else DailyUsage(day=today)


def settle(account: DailyUsage, uid: str, ledger: Ledger) -> DailyUsage:
    """With the call that the ledger knows the price of; a call that no ledger knows costs what was reserved."""
    out = account.out.get(uid)
    if out is None or (out.call == ledger.call and ledger.charged is None):
        return account
    price = ledger.charged if out.call == ledger.call and ledger.charged is not None else out.tokens
    spent = account.spent | {out.namespace: account.spent.get(out.namespace, 0) + price}
    others = {key: value for key, value in account.out.items() if key != uid}
    return account.model_copy(update={"spent": spent, "out": others})


def reserve(account: DailyUsage, uid: str, namespace: str, call: str, tokens: int) -> DailyUsage:
    out = Reservation(namespace=namespace, call=call, tokens=tokens)
    return account.model_copy(update={"out": account.out | {uid: out}})


def refusal(account: DailyUsage, namespace: str, tokens: int, caps: DailyQuota, now: datetime) -> Wait | None:
    """Why so many tokens more are too many for today."""
    for who, spent, cap, value in (
        (f"namespace {namespace}", account.tokens(namespace), caps.namespace, "namespace"),
        ("all Skills together", account.tokens(), caps.operator, "operator"),
    ):
        if spent + tokens > cap:
            midnight = datetime.combine(account.day + timedelta(days=1), time(), UTC)
            text = (
                f"the day's tokens are spent: {who} used {spent} of {cap}, and the next call may need {tokens}. "
                f"It goes on at 00:00 UTC, or when generation.dailyTokens.{value} in the chart's values is raised"
            )
            return Wait((midnight - now).total_seconds(), "QuotaExhausted", text, stalled=True)
    return None
