"""Two changes of the ledger, interleaved at each of their statements: as if one had been before the other.

On PostgreSQL they are two transactions side by side, one of which may wait for the other's rows; on SQLite the second
waits for the first's end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import select

from quotas.domain.admission import Admitted
from quotas.domain.ledger import TransferKind
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import Outcome, new_run_id
from quotas.services import admission, check, refunds
from quotas.services.admission import Ended
from quotas.store.tables import charges, holds, transfers
from tests.services.centre import DAY, FIRST_HOLD, GPU_GFLOPS, POLICY, START, Centre
from tests.services.stepping import interleave

NOW = START + DAY
PLENTY = 10**9 * GPU_GFLOPS
ONE = FIRST_HOLD * GPU_GFLOPS
ALL = 1_000
Calls = tuple[Callable[[], Any], Callable[[], Any]]


@dataclass
class Case:
    """Two calls, prepared anew for each interleaving, and what their answers must be, in either order."""

    name: str
    budget: int
    prepare: Callable[[Centre, int], Calls]
    answers: tuple[set[str], ...]
    devices: int = 8


def two_people(centre: Centre, now: int) -> Calls:
    return lambda: centre.reserve(now, person="ada"), lambda: centre.reserve(now, person="bob")


def one_person(centre: Centre, now: int) -> Calls:
    return lambda: centre.reserve(now), lambda: centre.reserve(now)


def one_request(centre: Centre, now: int) -> Calls:
    run_id = new_run_id()
    return lambda: centre.reserve(now, run_id=run_id), lambda: centre.reserve(now, run_id=run_id)


def ending(centre: Centre, run_id: str, now: int) -> Callable[[], Any]:
    return lambda: admission.settle(centre.database, run_id, Ended(now, now + 100, Outcome.STOPPED), now + 1000)


def the_last_is_given_back(centre: Centre, now: int) -> Calls:
    run_id = centre.admitted(now, person="bob").run_id
    return ending(centre, run_id, now), lambda: centre.reserve(now + 1000, person="ada")


def settled_twice(centre: Centre, now: int) -> Calls:
    run_id = centre.admitted(now).run_id
    return ending(centre, run_id, now), ending(centre, run_id, now)


def extended_and_settled(centre: Centre, now: int) -> Calls:
    run_id = centre.admitted(now).run_id
    return lambda: admission.extend(centre.database, run_id, now + 1000, POLICY), ending(centre, run_id, now)


def extended_and_reserved(centre: Centre, now: int) -> Calls:
    run_id = centre.admitted(now, person="bob").run_id
    return (
        lambda: admission.extend(centre.database, run_id, now + 1000, POLICY),
        lambda: centre.reserve(now + 1000, person="ada"),
    )


CASES = [
    Case("the last budget", ONE, two_people, ({"admitted", Code.BUDGET_SHORT.value},)),
    Case("the last device", PLENTY, two_people, ({"admitted", Code.POOL_FULL.value},), devices=1),
    Case("one server", PLENTY, one_person, ({"admitted", Code.ALREADY_RUNNING.value},)),
    Case("one request", PLENTY, one_request, ({"admitted"},)),
    Case("given back", ONE, the_last_is_given_back, ({"settled", "admitted"}, {"settled", Code.BUDGET_SHORT.value})),
    Case("settled twice", PLENTY, settled_twice, ({"settled", "settled before"},)),
    Case("extended, settled", PLENTY, extended_and_settled, ({"extended", "settled"}, {"closed", "settled"})),
    # One hold and 1,000 s more: the extension takes them all, or the start does and leaves nothing to extend with.
    Case(
        "extended, reserved",
        ONE + 1000 * GPU_GFLOPS,
        extended_and_reserved,
        ({"extended", Code.BUDGET_SHORT.value}, {"ending", "admitted"}),
    ),
]


def word(answer: Any) -> str:
    if isinstance(answer, Admitted):
        return "admitted"
    if isinstance(answer, Refused):
        return answer.code.value
    if isinstance(answer, admission.Charge):
        return "settled" if answer.settled_now else "settled before"
    return str(answer.standing)


def stops(centre: Centre, calls: Calls) -> list[tuple[int, int]]:
    """Return how far each goes before the other, up to where the first has done all."""
    first, second = interleave(centre.database, *calls, (ALL, 0))
    # On SQLite the second does nothing while the first is under way.
    every = range(1) if centre.database.is_sqlite else range(second.statements + 1)
    return [(one, other) for one in range(1, first.statements + 1) for other in every]


def restore(centre: Centre, allocation: int, budget: int) -> None:
    """Nothing is open, and the allocation has its budget again: all that was charged is refunded."""
    with centre.database.read() as transaction:
        left = [row.run_id for row in transaction.rows(select(holds.c.run_id).where(holds.c.state == "open"))]
    for run_id in left:
        centre.settle(run_id, None, None)
    refunded = select(transfers.c.run_id).where(transfers.c.kind == TransferKind.REFUND.value)
    with centre.database.read() as transaction:
        charged = transaction.rows(select(charges).where(charges.c.run_id.not_in(refunded)))
    for row in charged:
        paid = row.amount - row.overrun_amount
        refunds.refund_charge(centre.database, row.run_id, paid, reason="again", actor="operator", now=row.settled_at)
    assert centre.balances(allocation)["available"] == budget


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_at_each_statement_one_is_before_the_other(centre: Centre, case: Case) -> None:
    centre.phase(case.devices, START + 1)
    allocation = centre.award("vision", case.budget)
    seen: set[frozenset[str]] = set()
    now = NOW
    for order in (1, -1):
        for pair in stops(centre, case.prepare(centre, now)[::order]):
            restore(centre, allocation, case.budget)
            now += 2_000  # the runs of one interleaving are over before those of the next
            calls, before = case.prepare(centre, now)[::order], centre.count(charges)
            words = [word(call.join()) for call in interleave(centre.database, *calls, pair)]
            assert set(words) in case.answers, (order, pair, words)
            assert centre.count(charges) - before == words.count("settled")
            assert check.findings(centre.database, now + 1000) == [], (order, pair)
            seen.add(frozenset(words))
        restore(centre, allocation, case.budget)
        now += 2_000
    assert len(seen) == len(case.answers), seen
