"""The rounds in which awards are looked at: who is told what, once, and how little of the ledger a round reads."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, update

from quotas.domain.ledger import Posting, TransferKind
from quotas.domain.runs import RunKind
from quotas.services import admission, award_notices, refunds, runs
from quotas.store import award_notices as store
from quotas.store import ledger as ledger_store
from quotas.store.database import Database, Prepared, _compile
from quotas.store.tables import allocations, audit_events, award_watches, awards, notices, persons, projects
from tests.services.centre import DAY, GPU_GFLOPS, START, Centre

BUDGET = 100_000 * GPU_GFLOPS
NOW = START + 10 * DAY
END = START + 365 * DAY


def rounds(centre: Centre, now: int, position: int = 0) -> int:
    """Go round as often as there is more to do; return how far the journal was read."""
    for _ in range(50):
        position, more = award_notices.look(centre.database, position, now)
        if not more:
            return position
    raise AssertionError("the rounds have no end")


def told(centre: Centre, person: str | None = None) -> list[tuple[str, str, str]]:
    """Return (person, kind, text in English) of the awards' notices, oldest first."""
    statement = (
        select(persons.c.username, notices.c.kind, notices.c.text_en)
        .join(persons, persons.c.id == notices.c.person_id)
        .where(notices.c.kind.in_(["award budget", "award end", "storage end"]))
        .order_by(notices.c.id)
    )
    with centre.database.read() as transaction:
        found = [tuple(row) for row in transaction.rows(statement)]
    return [each for each in found if person is None or each[0] == person]


def kinds(centre: Centre, person: str = "ada") -> list[str]:
    return [kind for _, kind, _ in told(centre, person)]


def spend(centre: Centre, seconds: int, at: int = NOW) -> None:
    """A batch run held and used a GPU for `seconds`."""
    run_id = centre.admitted(at, kind=RunKind.BATCH, seconds=seconds).run_id
    admission.started(centre.database, run_id, at)
    centre.settle(run_id, at, at + seconds)


def post(centre: Centre, allocation: int, kind: TransferKind, amount: int, key: str) -> None:
    with centre.database.write() as transaction:
        ledger_store.post(transaction, allocation, Posting(key, kind, amount), NOW)


def change(centre: Centre, table: Any, row: int, **values: object) -> None:
    with centre.database.write() as transaction:
        transaction.run(update(table).where(table.c.id == row).values(**values))


def test_pis_and_instructors_are_told_once_and_nobody_else(centre: Centre) -> None:
    centre.member("vision", "eve", "instructor")
    centre.member("vision", "dan", "pi")
    centre.member("vision", "kim", "learner")
    centre.award("vision", BUDGET)
    position = rounds(centre, NOW)
    assert told(centre) == []
    spend(centre, 81_000)
    for later in (0, 10, 400):
        position = rounds(centre, NOW + 90_000 + later, position)
    assert [person for person, _, _ in told(centre)] == ["ada", "eve", "dan"]
    assert {kind for _, kind, _ in told(centre)} == {"award budget"}
    assert "81.0 %" in told(centre)[0][2]


def test_what_is_held_counts_as_well(centre: Centre) -> None:
    centre.award("vision", 2_000 * GPU_GFLOPS)
    assert rounds(centre, NOW) == 1
    centre.admitted(NOW)
    rounds(centre, NOW, 1)
    assert kinds(centre) == ["award budget"]
    assert "96.0 %" in told(centre)[0][2]


def test_a_use_that_rises_is_told_at_each_mark(centre: Centre) -> None:
    centre.award("vision", BUDGET)
    position = 0
    for hour, seconds in enumerate((81_000, 1_000, 9_000, 5_000, 2_000)):
        spend(centre, seconds, NOW + hour * 100_000)
        position = rounds(centre, NOW + (hour + 1) * 100_000, position)
    shares = [re.findall(r"\d+\.\d %", text)[0] for _, _, text in told(centre)]
    assert shares == ["81.0 %", "91.0 %", "96.0 %"]


def test_what_the_operator_bore_is_no_use_of_the_award(centre: Centre) -> None:
    allocation = centre.award("vision", 10_000 * GPU_GFLOPS)
    run_id = centre.admitted(NOW).run_id
    centre.settle(run_id, NOW, NOW + 8_500)
    assert centre.balances(allocation)["spent"] == 8_500 * GPU_GFLOPS
    rounds(centre, NOW + 9_000)
    assert told(centre) == []


def test_a_new_sum_is_told_anew_and_an_old_one_not_again(centre: Centre) -> None:
    allocation = centre.award("vision", BUDGET)
    spend(centre, 85_000)
    now = NOW + 90_000
    position = rounds(centre, now)
    assert len(told(centre)) == 1
    post(centre, allocation, TransferKind.SUPPLEMENT, BUDGET, "s1")
    position = rounds(centre, now, position)
    assert len(told(centre)) == 1
    post(centre, allocation, TransferKind.MOVE_OUT, BUDGET, "m1")
    position = rounds(centre, now, position)
    assert len(told(centre)) == 1, "the first sum again, of which this was told"
    post(centre, allocation, TransferKind.SUPPLEMENT, BUDGET // 20, "s2")
    rounds(centre, now, position)
    assert [re.findall(r"\d+\.\d %", text)[0] for _, _, text in told(centre)] == ["85.0 %", "80.9 %"]


def test_a_refund_is_no_new_sum(centre: Centre) -> None:
    centre.award("vision", BUDGET)
    spend(centre, 81_000)
    (run_id,) = [run.id for run in runs.runs(centre.database)]
    now = NOW + 90_000
    position = rounds(centre, now)
    refunds.refund_charge(centre.database, run_id, 5_000 * GPU_GFLOPS, reason="a fault", actor="operator", now=now)
    spend(centre, 6_000, now)
    rounds(centre, now + 10_000, position)
    assert len(told(centre)) == 1


def test_dates_are_told_without_any_transfer_and_the_most_urgent_only_by_a_late_loop(centre: Centre) -> None:
    centre.award("vision", BUDGET)
    position = rounds(centre, NOW)
    told_at = []
    for day in range(11, 366):
        before = len(told(centre))
        position = rounds(centre, START + day * DAY, position)
        if len(told(centre)) > before:
            told_at.append(365 - day)
    assert told_at == [30, 14, 7, 1]
    assert kinds(centre) == ["award end"] * 4

    centre.project("late", {"lee": "pi"})
    centre.award("late", BUDGET)
    rounds(centre, END - 2 * DAY, position)
    assert kinds(centre, "lee") == ["award end"]
    assert "within 2 days" in told(centre, "lee")[0][2]


def test_a_date_is_told_to_the_second_it_comes(centre: Centre) -> None:
    centre.award("vision", BUDGET)
    position = rounds(centre, END - 30 * DAY - 3)
    assert told(centre) == []
    position = rounds(centre, END - 30 * DAY - 1, position)
    assert told(centre) == []
    rounds(centre, END - 30 * DAY, position)
    assert kinds(centre) == ["award end"]


def test_a_longer_award_is_told_of_its_new_end(centre: Centre) -> None:
    allocation = centre.award("vision", BUDGET)
    position = rounds(centre, END - 10 * DAY)
    change(centre, allocations, allocation, ends_at=END + 50 * DAY)
    position = rounds(centre, END - 9 * DAY, position)
    assert kinds(centre) == ["award end"]
    rounds(centre, END + 20 * DAY, position)
    assert kinds(centre) == ["award end"] * 2


@pytest.mark.parametrize("state", ["ended", "suspended", "revoked", "scheduled"])
def test_nothing_is_told_of_an_award_that_does_not_run(centre: Centre, state: str) -> None:
    allocation = centre.award("vision", BUDGET)
    spend(centre, 99_000)
    with centre.database.write() as transaction:
        transaction.run(update(awards).values(storage_grace_days=0))
    if state == "ended":
        centre.end_project("vision")
    elif state == "scheduled":
        change(centre, allocations, allocation, starts_at=END - DAY)
    else:
        change(centre, allocations, allocation, **{f"{state}_at": NOW})
    position = 0
    for days in (20, 10, 5, 1.5):
        position = rounds(centre, END - int(days * DAY), position)
    assert told(centre) == []


def test_a_suspended_award_is_told_once_it_goes_on(centre: Centre) -> None:
    allocation = centre.award("vision", BUDGET)
    spend(centre, 90_000)
    change(centre, allocations, allocation, suspended_at=NOW)
    now = NOW + 100_000
    position = rounds(centre, now)
    assert told(centre) == []
    change(centre, allocations, allocation, suspended_at=None)
    rounds(centre, now + DAY, position)
    assert kinds(centre) == ["award budget"]


def test_the_keeping_of_files_is_told_at_its_days(centre: Centre) -> None:
    centre.award("vision", BUDGET)
    position = rounds(centre, END)
    before = len(told(centre))
    told_at = []
    for day in range(32):
        known = len(told(centre))
        position = rounds(centre, END + day * DAY, position)
        if len(told(centre)) > known:
            told_at.append(30 - day)
    assert told_at == [14, 7, 1]
    assert kinds(centre)[before:] == ["storage end"] * 3
    assert looked(centre.database) == [None]


def test_files_of_a_project_with_another_award_are_not_told_to_go(centre: Centre) -> None:
    centre.award("vision", BUDGET)
    centre.award("vision", BUDGET, starts_at=END, ends_at=END + 365 * DAY)
    position = rounds(centre, END - 5 * DAY)
    assert "next award starts at 2028-01-15 17:00 KST" in told(centre)[0][2]
    for day in (1, 17, 29):
        position = rounds(centre, END + day * DAY, position)
    assert kinds(centre) == ["award end"]


@pytest.mark.parametrize(("closed", "expected"), [(False, ["storage end"]), (True, [])])
def test_files_of_an_ended_project_are_told_to_go_until_they_have(
    centre: Centre, closed: bool, expected: list[str]
) -> None:
    centre.award("vision", BUDGET)
    values = {"state": "ended", "ended_at": NOW} | ({"closed_at": NOW + DAY} if closed else {})
    change(centre, projects, centre.projects["vision"], **values)
    rounds(centre, NOW + 29 * DAY)
    assert kinds(centre) == expected


def test_every_notice_stands_in_the_audit(centre: Centre) -> None:
    centre.award("vision", BUDGET)
    spend(centre, 95_000)
    rounds(centre, NOW + 100_000)
    with centre.database.read() as transaction:
        (event,) = transaction.rows(select(audit_events).where(audit_events.c.action == "told of award budget"))
    assert (event.actor, event.subject) == ("platform", "vision")
    assert f'"mark": 950000, "of": {BUDGET}' in event.detail


def test_loops_that_look_at_once_tell_once(centre: Centre) -> None:
    for number in range(8):
        code = f"project-{number}"
        centre.project(code, {"ada": "pi"})
        centre.award(code, BUDGET)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: rounds(centre, END - 5 * DAY), range(4)))
    assert len(told(centre)) == 8


def looked(database: Database) -> list[int | None]:
    with database.read() as transaction:
        return [row.look_at for row in transaction.rows(select(award_watches).order_by(award_watches.c.allocation_id))]


def test_a_round_looks_at_so_many_and_says_that_there_are_more(centre: Centre, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(award_notices, "IN_ONE_TRANSACTION", 5)
    monkeypatch.setattr(award_notices, "LOOKS_AT_ONCE", 10)
    monkeypatch.setattr(award_notices, "TRANSFERS_AT_ONCE", 30)
    for number in range(35):
        centre.project(f"project-{number}", {"ada": "pi"})
        centre.award(f"project-{number}", BUDGET)
    position, more = award_notices.look(centre.database, 0, NOW)
    assert (position, more) == (30, True)
    assert len([at for at in looked(centre.database) if at]) == 10
    rounds(centre, NOW, position)
    assert looked(centre.database) == [NOW + DAY] * 35
    assert award_notices.look(centre.database, 35, NOW + DAY - 1) == (35, False)


def plan(database: Database, statement: Prepared, **parameters: object) -> str:
    """Return SQLite's plan of a statement."""
    text, arguments, _ = _compile(statement.statement, database.engine.dialect)
    with database.engine.connect() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", arguments(parameters))
        return "\n".join(row.detail for row in rows)


@pytest.mark.parametrize("dialect", ["sqlite"])
def test_no_round_scans_the_ledger_or_all_awards(centre: Centre, dialect: str) -> None:
    assert dialect == "sqlite"
    moved = plan(centre.database, store.MOVED, after=5, until=10)
    looks = plan(centre.database, store.TO_LOOK_AT, now=NOW, limit=100)
    assert "SCAN" not in moved
    assert "SCAN" not in looks
    assert "SEARCH transfers USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)" in moved
    assert "SEARCH award_watches USING COVERING INDEX ix_award_watches_look_at (look_at<?)" in looks
    assert "SEARCH transfers USING INDEX ix_transfers_awarded (allocation_id=?)" in looks
