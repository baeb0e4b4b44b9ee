"""What an award buys by the published rate card: for somebody who reckons, for an application, for a project."""

from __future__ import annotations

from collections.abc import Container

from quotas.domain.award_value import AwardValue, Means, value
from quotas.domain.projects import Award
from quotas.domain.units import InvalidValue, show_instant
from quotas.services.people import unknown
from quotas.store import profiles as profiles_store
from quotas.store import projects as projects_store
from quotas.store import rates as rates_store
from quotas.store.database import Database, Transaction


def buys(database: Database, award: Award, now: int) -> AwardValue:
    """Return what the award buys of every rated profile, by the card in force when it starts, or now if it has.

    Raises InvalidValue before the first card, and for an award at another precision than the card's.
    """
    with database.read() as transaction:
        return _value(transaction, Means.of(award), now, None)


def of_project(database: Database, code: str, now: int) -> AwardValue:
    """Return what the project's award buys of the profiles that it may start; of all, where none is offered to it yet.

    Its budget is what the ledger granted, with what is still to be released of it. An application that is not decided
    is taken as it was asked for, without a burst factor. Raises InvalidValue for an unknown project, and as
    :func:`buys`.
    """
    with database.read() as transaction:
        row = projects_store.view(transaction, code, now)
        if row is None:
            raise unknown("project", code)
        if row.gflops is None:
            asked = Award(row.requested_gflops, row.requested_precision, row.requested_starts_at, row.requested_ends_at)
            means = Means.of(asked)
        else:
            budget = int(row.granted or 0) + int(row.pending or 0)
            means = Means(row.gflops, row.precision, row.starts_at, row.ends_at, budget, row.ceiling_gflops)
        offered = {each.code for each in projects_store.offered(transaction, row.id)}
        return _value(transaction, means, now, offered or None)


def _value(transaction: Transaction, means: Means, now: int, only: Container[str] | None) -> AwardValue:
    at = max(means.starts_at, now)
    card = rates_store.in_force(transaction, at)
    if card is None:
        when = show_instant(at)
        raise InvalidValue("rates", f"no rate card is in force at {when}", f"{when}에 시행 중인 요율표가 없습니다")
    devices = {
        row.code: row.device_count for row in profiles_store.every(transaction) if only is None or row.code in only
    }
    return value(means, card, devices)
