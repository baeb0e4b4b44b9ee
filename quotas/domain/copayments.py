"""The co-payment in KRW for devices: per run an exact numerator, per project and month one rounding.

A device-month is 30 days of 86,400 seconds of one device, whatever the calendar says. A run's numerator is its price
in KRW per device-month × devices × seconds; divided by the seconds of a device-month it is KRW. The numerators of a
month are added up, rounded down once, and what is left (under one KRW) is carried into the project's next statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from quotas.domain.ledger import Posting, TransferKind
from quotas.domain.months import Month, month_of
from quotas.domain.units import DAY_SECONDS, LARGEST, InvalidValue

DEVICE_MONTH_SECONDS = 30 * DAY_SECONDS


def numerator(krw_per_device_month: int, devices: int, seconds: int) -> int:
    """Return KRW × device-seconds: exact, and above zero for one second of one device at any price above zero."""
    return krw_per_device_month * devices * seconds


def split(starts_at: int, seconds: int) -> Iterator[tuple[Month, int]]:
    """Yield each month of the `seconds` from `starts_at` on, with those of them that lie in it: all of them, once."""
    ends_at = starts_at + seconds
    month = month_of(starts_at)
    while starts_at < ends_at:
        until = min(month.ends_at, ends_at)
        yield month, until - starts_at
        starts_at, month = until, month.plus(1)


class LineKind(StrEnum):
    """`use`: seconds of a run. `credit`: seconds of a run that was refunded, once it has been billed."""

    USE = "use"
    CREDIT = "credit"


@dataclass(frozen=True)
class Line:
    """The seconds of one run that a statement takes. `month` is the month in which a use lies, or a credit is given."""

    run_id: str
    kind: LineKind
    month: Month
    devices: int
    seconds: int
    krw_per_device_month: int

    @property
    def numerator(self) -> int:
        return numerator(self.krw_per_device_month, self.devices, self.seconds)


@dataclass(frozen=True)
class RunTime:
    """What a statement reads of a settled run that has a price: from when on, for how long, and what was billed of it.

    `paid_seconds` are those that its project paid from its hold: an overrun is borne by the operator, in KRW too.
    `refunded_seconds` are the whole seconds that all refunds of its charge come to. `billed` are the months of which
    it has a line, `credited_seconds` what was credited before.
    """

    run_id: str
    started_at: int
    paid_seconds: int
    refunded_seconds: int
    devices: int
    krw_per_device_month: int
    billed: frozenset[Month] = frozenset()
    credited_seconds: int = 0


def lines(runs: Iterable[RunTime], month: Month) -> list[Line]:
    """Return what the statement of `month` takes: each second up to its end that no earlier statement took.

    A run that was settled late brings the seconds of earlier months with it. Refunded seconds are credited as far as
    they have been billed by then.
    """
    found: list[Line] = []
    for run in runs:
        billed = 0
        for each, seconds in split(run.started_at, run.paid_seconds):
            if each > month:
                break
            billed += seconds
            if each not in run.billed:
                found.append(Line(run.run_id, LineKind.USE, each, run.devices, seconds, run.krw_per_device_month))
        credit = min(run.refunded_seconds, billed) - run.credited_seconds
        if credit > 0:
            found.append(Line(run.run_id, LineKind.CREDIT, month, run.devices, credit, run.krw_per_device_month))
    return found


@dataclass(frozen=True)
class Account:
    """A project's accounts in whole KRW: billed and open, billed and paid, paid and not for any bill."""

    owed: int = 0
    paid: int = 0
    credit: int = 0


@dataclass(frozen=True)
class Total:
    """A month's sum: carried_in + use - credit = amount × seconds of a device-month + carried_out, all exact.

    `amount` is whole KRW, below zero where more is credited than used; what is carried is at least zero and under one
    KRW.
    """

    carried_in: int
    use: int
    credit: int
    amount: int
    carried_out: int


def total(carried_in: int, taken: Iterable[Line]) -> Total:
    """Return the sum of a statement's lines after `carried_in`. Raises InvalidValue where the store cannot hold it."""
    known = list(taken)
    use = sum(line.numerator for line in known if line.kind is LineKind.USE)
    credit = sum(line.numerator for line in known if line.kind is LineKind.CREDIT)
    if carried_in + use > LARGEST or credit > LARGEST:
        raise InvalidValue(
            "statement",
            f"a sum of {max(use, credit)} KRW·s exceeds {LARGEST}; nothing was closed",
            f"합계 {max(use, credit)} 원·초가 한도 {LARGEST}을(를) 넘어 마감하지 않았습니다",
        )
    amount, carried_out = divmod(carried_in + use - credit, DEVICE_MONTH_SECONDS)
    return Total(carried_in, use, credit, amount, carried_out)


def postings(key: str, amount: int, account: Account) -> list[Posting]:
    """Return the transfers that bill `amount` KRW, or credit it when it is below zero; `key` names the statement.

    A bill uses the project's credit first. A credit lowers what is owed first; beyond it, what was paid becomes credit.
    """
    if amount >= 0:
        from_credit = min(amount, account.credit)
        parts = ((TransferKind.APPLY, from_credit), (TransferKind.BILL, amount - from_credit))
    else:
        from_owed = min(-amount, account.owed)
        parts = ((TransferKind.CREDIT, from_owed), (TransferKind.RETURN, -amount - from_owed))
    return [Posting(f"{key}:{kind.value}", kind, krw) for kind, krw in parts if krw]


def show_numerator(krw_seconds: int) -> str:
    """Write a numerator as KRW with the part below one as a fraction of a device-month: ``12,345 + 67/2592000``."""
    if krw_seconds < 0:
        shown = show_numerator(-krw_seconds)
        return f"-({shown})" if "+" in shown else f"-{shown}"
    whole, rest = divmod(krw_seconds, DEVICE_MONTH_SECONDS)
    return f"{whole:,} + {rest}/{DEVICE_MONTH_SECONDS}" if rest else f"{whole:,}"
