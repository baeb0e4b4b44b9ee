"""Every invariant of the stored data, checked as it is: one table, and what was found against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from quotas.domain import ledger
from quotas.store import check as store
from quotas.store import check_awards as awards_store
from quotas.store import check_copayments as copayments_store
from quotas.store import check_devices as devices_store
from quotas.store import check_pools as pools_store
from quotas.store import check_seats as seats_store
from quotas.store import recalls as recalls_store
from quotas.store.database import Database, Prepared, Row, Transaction


@dataclass(frozen=True)
class Finding:
    """An invariant that does not hold: which, of what (an account, a run, a pool), and the numbers that differ."""

    invariant: str
    subject: str
    detail: str


Look = Callable[[Transaction, int], Iterator[tuple[str, str]]]


def sums_are_zero(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """The balances of all accounts of an asset add up to zero."""
    return _rows(transaction, store.SUMS)


def no_balance_below_zero(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """No balance of an allocation is below zero, and none is larger than the store can hold."""
    return _rows(transaction, store.NEGATIVE)


def balance_is_its_transfers(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """A balance equals the sum of its account's transfers."""
    return _rows(transaction, store.TRANSFERS_DIFFER)


def held_is_the_open_holds(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """What is held of an allocation equals its open holds."""
    return _rows(transaction, store.HELD_DIFFERS)


def rate_in_use_is_the_open_holds(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """The rate in use under an allocation's ceiling, and beyond it, is that of its open holds of those classes."""
    yield from _rows(transaction, store.IN_USE_DIFFERS)
    yield from _rows(transaction, store.BEYOND_DIFFERS)


def devices_in_use_are_the_open_holds(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """The devices in use of a pool equal those of the open holds, and every held device is of a pool."""
    yield from _rows(transaction, store.DEVICES_DIFFER)
    yield from _rows(transaction, store.DEVICES_OF_NO_POOL)


def nothing_admitted_over_capacity(transaction: Transaction, now: int) -> Iterator[tuple[str, str]]:
    """No run was admitted to a pool beyond the healthy devices of its phase."""
    return _rows(transaction, store.OVER_CAPACITY, now=now)


def one_hold_per_run(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """An open run has one open hold and a settled run none; a person has one open notebook on a project."""
    yield from _rows(transaction, store.HOLD_OF_RUN)
    yield from _rows(transaction, store.TWO_OPEN_NOTEBOOKS)


def one_charge_per_posted_run(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """A posted run has exactly one charge, its pinned rate × its seconds; any other run has none."""
    return _rows(transaction, store.CHARGE_OF_HOLD)


def pinned_rate_is_on_its_card(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """The rate pinned by a hold is the one of its profile on its rate card, unchanged."""
    return _rows(transaction, store.PINNED_RATE)


def charge_is_hold_and_overrun(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """A charge is what was taken from its hold, at most all of it, and its overrun."""
    return _rows(transaction, store.CHARGE_DIFFERS)


def refunds_within_the_charge(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """The refunds of a run are at most what its project paid for it."""
    return _rows(transaction, store.REFUNDED_TOO_MUCH)


def intervals_never_overlap(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """A person's notebook runs on a project follow each other."""
    return _rows(transaction, store.INTERVALS_OVERLAP)


def nothing_held_past_the_end(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """No hold reaches past its award's end."""
    return _rows(transaction, store.PAST_THE_END)


def amounts_are_positive(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """No amount of a transfer, hold or charge is zero, negative or larger than the store can hold."""
    for statement in store.AMOUNTS:
        yield from _rows(transaction, statement)


def transfers_have_their_sides(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """A transfer moves between the accounts of its kind and asset, of its own allocation or the programme."""
    return _rows(transaction, store.WRONG_SIDES)


def keys_are_unique(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """No key and no sequence is on two transfers."""
    for statement in store.TWICE:
        yield from _rows(transaction, statement)


def replay_gives_the_balances(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """Replaying the journal from its first transfer gives the balances as they are."""
    replayed = dict(ledger.replay(store.journal(transaction)))
    differing = [
        (account, balance, replayed.get(account, 0))
        for account, balance in store.balances(transaction)
        if replayed.pop(account, 0) != balance
    ]
    for account, balance, by_journal in differing[: store.LIMIT]:
        yield store.account_name(transaction, account), f"balance {balance}, journal {by_journal}"
    for account, by_journal in list(replayed.items())[: store.LIMIT]:
        yield store.account_name(transaction, account), f"balance none, journal {by_journal}"


def recalls_are_their_transfers(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """A recall that was executed has one transfer, of its amount, and nothing else is recalled."""
    yield from _rows(transaction, recalls_store.EXECUTED_WITHOUT_TRANSFER)
    yield from _rows(transaction, recalls_store.TRANSFER_WITHOUT_EXECUTED)


def statements_add_up(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """A month's statement of the co-payment is the sum of its lines and of what the one before it carried over."""
    yield from _rows(transaction, copayments_store.STATEMENTS_DIFFER)
    yield from _rows(transaction, copayments_store.CARRIED_DIFFERS)


def statements_are_their_transfers(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """A statement's amount is what its transfers billed or credited, and all of a project's are owed or paid."""
    yield from _rows(transaction, copayments_store.POSTED_DIFFERS)
    yield from _rows(transaction, copayments_store.BILLED_DIFFERS)


def lines_are_the_runs_paid_time(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """The lines of a run have its pinned price and its devices, and at most the seconds that were paid or refunded."""
    yield from _rows(transaction, copayments_store.PRICE_DIFFERS)
    yield from _rows(transaction, copayments_store.TIME_DIFFERS)


def tranches_are_their_transfers(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """An award is granted once, and each later tranche by one transfer of its amount, once it was released."""
    yield from _rows(transaction, awards_store.GRANT_OF_NO_AWARD)
    yield from _rows(transaction, awards_store.TRANCHE_DIFFERS)
    yield from _rows(transaction, awards_store.TRANCHE_OF_NOTHING)


def changes_are_their_transfers(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """A change that was applied moved its amount once, and a move of budget the same out of one award into another."""
    yield from _rows(transaction, awards_store.CHANGE_DIFFERS)
    yield from _rows(transaction, awards_store.CHANGE_OF_NOTHING)


def awards_never_overlap(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """No two awards of a project run at the same time; one that was revoked does not count."""
    return _rows(transaction, awards_store.OVERLAP)


def allocations_are_their_awards(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """An allocation runs as long as its award, and is suspended while, and only while, a suspension of it is open."""
    yield from _rows(transaction, awards_store.TERMS_DIFFER)
    yield from _rows(transaction, awards_store.SUSPENSION_DIFFERS)


def drained_are_the_open_drains(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """The drained devices of a pool are those of its open drains, and those that are being cleaned or are lost."""
    return _rows(transaction, pools_store.DRAINED_DIFFERS)


def runs_hold_their_devices(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """Where the platform gives devices to runs, an open run holds as many as it pays for, of its model; others none."""
    yield from _rows(transaction, devices_store.GRANTS_DIFFER)
    yield from _rows(transaction, devices_store.HELD_WITHOUT_DEVICE)
    yield from _rows(transaction, devices_store.GRANT_OF_ANOTHER)


def pauses_end_with_their_runs(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """Only a run that is open has a charge that is paused."""
    return _rows(transaction, devices_store.PAUSED_AFTER_ITS_END)


def only_borrowed_devices_are_wanted_back(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """A run that gives its devices back holds them beyond its project's ceiling, and says when and for whom."""
    return _rows(transaction, pools_store.PREEMPTED_FIRM)


def marks_are_of_what_is_extended(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """Only what is extended is extended no further, and never than before it began."""
    return _rows(transaction, pools_store.WRONG_END)


def reserved_devices_are_the_kept_seats(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """The reserved devices of a pool are those of the seats that open windows keep; no other window keeps any."""
    yield from _rows(transaction, seats_store.RESERVED_DIFFERS)
    yield from _rows(transaction, seats_store.KEPT_BY_NO_WINDOW)


def no_more_seats_than_the_window_has(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """The claimed seats of a window, and those that are taken and kept, are never more than it has."""
    return _rows(transaction, seats_store.TOO_MANY_SEATS)


def seats_are_the_rosters(transaction: Transaction, _now: int) -> Iterator[tuple[str, str]]:
    """A reserved hold is of a window, within it, of its project and profile, by someone who was on its roster then."""
    return _rows(transaction, seats_store.SEAT_OF_A_STRANGER)


def nothing_admitted_into_kept_seats(transaction: Transaction, now: int) -> Iterator[tuple[str, str]]:
    """Nothing else was admitted to the devices of seats that are kept or taken."""
    return _rows(transaction, seats_store.ADMITTED_INTO_SEATS, now=now)


INVARIANTS: tuple[Look, ...] = (
    sums_are_zero,
    no_balance_below_zero,
    balance_is_its_transfers,
    held_is_the_open_holds,
    rate_in_use_is_the_open_holds,
    devices_in_use_are_the_open_holds,
    nothing_admitted_over_capacity,
    runs_hold_their_devices,
    pauses_end_with_their_runs,
    one_hold_per_run,
    one_charge_per_posted_run,
    pinned_rate_is_on_its_card,
    charge_is_hold_and_overrun,
    refunds_within_the_charge,
    intervals_never_overlap,
    nothing_held_past_the_end,
    amounts_are_positive,
    transfers_have_their_sides,
    keys_are_unique,
    replay_gives_the_balances,
    recalls_are_their_transfers,
    statements_add_up,
    statements_are_their_transfers,
    lines_are_the_runs_paid_time,
    tranches_are_their_transfers,
    changes_are_their_transfers,
    awards_never_overlap,
    allocations_are_their_awards,
    drained_are_the_open_drains,
    only_borrowed_devices_are_wanted_back,
    marks_are_of_what_is_extended,
    reserved_devices_are_the_kept_seats,
    no_more_seats_than_the_window_has,
    seats_are_the_rosters,
    nothing_admitted_into_kept_seats,
)
"""Each is a function of its name, whose docstring says what must be so."""


def findings(database: Database, now: int) -> list[Finding]:
    """Return what breaks an invariant, all of one moment; an empty list when all is as it must be."""
    with database.read() as transaction:
        return [
            Finding(invariant.__name__, subject, detail)
            for invariant in INVARIANTS
            for subject, detail in invariant(transaction, now)
        ]


def _rows(transaction: Transaction, statement: Prepared, **parameters: int) -> Iterator[tuple[str, str]]:
    for row in transaction.rows(statement, **parameters):
        yield str(row[0]), _numbers(row)


def _numbers(row: Row) -> str:
    named = list(zip(row._fields, row, strict=True))[1:]
    return ", ".join(f"{name.replace('_', ' ')} {'none' if value is None else value}" for name, value in named)
