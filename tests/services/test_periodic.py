"""Jobs that are done now and then: when they are due, by one process at a time, and none for all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update

from quotas.domain.recalls import RecallPolicy
from quotas.services import periodic, recalls
from quotas.services.periodic import Job, Progress
from quotas.store.database import Database, DatabaseAway
from quotas.store.tables import notices, periodic_jobs
from tests.services.centre import START, Centre
from tests.services.recall_centre import BUDGET, END, MARCH, NOW

JOBS = periodic.jobs(RecallPolicy())


def counting(seen: list[tuple[Progress, int]], *, name: str = "count", pieces: int = 1) -> Job:
    """A job of several pieces that notes when it was done, and how far it was."""

    def work(_database: Database, progress: Progress, now: int) -> tuple[Progress, bool]:
        seen.append((progress, now))
        position = progress.position + 1
        return Progress("round", position), position % pieces != 0

    return Job(name, 100, work)


def test_a_job_is_done_at_once_and_then_after_its_pause(database: Database) -> None:
    seen: list[tuple[Progress, int]] = []
    job = counting(seen)
    done = [now for now in range(0, 301, 20) if periodic.run(database, (job,), now)]
    assert done == [0, 100, 200, 300]
    assert [progress for progress, _ in seen] == [Progress(), *(Progress("round", number) for number in (1, 2, 3))]


def test_a_job_with_more_to_do_goes_on_at_the_next_tick(database: Database) -> None:
    seen: list[tuple[Progress, int]] = []
    job = counting(seen, pieces=3)
    done = [now for now in range(0, 241, 20) if periodic.run(database, (job,), now)]
    assert done == [0, 20, 40, 140, 160, 180]


def test_a_job_that_fails_is_due_again_after_its_pause_and_keeps_none_from_work(database: Database) -> None:
    def fail(_database: Database, _progress: Progress, _now: int) -> tuple[Progress, bool]:
        raise ValueError("broken")

    seen: list[tuple[Progress, int]] = []
    both = (Job("broken", 50, fail), counting(seen))
    assert periodic.run(database, both, 0) == ["count"]
    assert periodic.run(database, both, 40) == []
    with database.read() as transaction:
        row = transaction.one(select(periodic_jobs).where(periodic_jobs.c.name == "broken"))
    assert (row.due_at, row.round, row.position) == (50, "", 0)


def test_an_absent_ledger_is_told(database: Database) -> None:
    def away(_database: Database, _progress: Progress, _now: int) -> tuple[Progress, bool]:
        raise DatabaseAway("gone")

    with pytest.raises(DatabaseAway):
        periodic.run(database, (Job("away", 50, away),), 0)
    seen: list[tuple[Progress, int]] = []
    assert periodic.run(database, (counting(seen, name="away"),), 49) == []
    assert periodic.run(database, (counting(seen, name="away"),), 50) == ["away"]


def test_processes_that_come_at_once_do_a_job_once(database: Database) -> None:
    seen: list[tuple[Progress, int]] = []
    job = counting(seen)
    with ThreadPoolExecutor(4) as threads:
        for now in (0, 100, 200):
            list(threads.map(lambda _, at=now: periodic.run(database, (job,), at), range(4)))
    assert [now for _, now in seen] == [0, 100, 200]


def test_the_platforms_jobs_tell_and_recall(centre: Centre) -> None:
    centre.award("vision", BUDGET, starts_at=START, ends_at=END)
    assert periodic.run(centre.database, JOBS, MARCH.starts_at) == [job.name for job in JOBS]
    with centre.database.write() as transaction:
        transaction.run(update(periodic_jobs).values(due_at=NOW))
    for tick in range(NOW, NOW + 100, 20):
        periodic.run(centre.database, JOBS, tick)
    assert [each.state.value for each in recalls.list_recalls(centre.database)] == ["notified"]
    periodic.run(centre.database, JOBS, END - 20)
    with centre.database.read() as transaction:
        kinds = [row.kind for row in transaction.rows(select(notices.c.kind).order_by(notices.c.id))]
    assert kinds == ["recall notice", "award end"]
