"""Schedules: claimed once, finished once, refused with a reason."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from quotas.domain.people import MembershipRole
from quotas.domain.refusals import Code, Refused
from quotas.domain.schedules import ExecutionState, Timing
from quotas.domain.units import InvalidValue
from quotas.services import people, projects, schedules
from quotas.services.schedules import Finished, NewSchedule
from quotas.store.database import Database
from tests.centre import Centre

SEOUL = "Asia/Seoul"


@pytest.fixture
def centre(seeded: Centre) -> Centre:
    """The small centre with people, supply and one active project."""
    return seeded


def new(centre: Centre, **changes: object) -> NewSchedule:
    values: dict[str, object] = {
        "project": centre.project,
        "person": centre.member,
        "profile": "cpu-small",
        "notebook": "train.ipynb",
        "timing": Timing(SEOUL, cron="30 2 * * *"),
        "parameters": {"seed": 7},
    }
    return NewSchedule(**(values | changes))  # type: ignore[arg-type]


def create(centre: Centre, **changes: object) -> schedules.Schedule:
    return schedules.create(centre.database, new(centre, **changes), actor=centre.member, now=centre.now)


def instant(text: str, zone: str = SEOUL) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


def test_a_cron_line_is_read_in_its_zone(centre: Centre) -> None:
    schedule = create(centre)
    assert schedule.next_at == instant("2027-01-16T02:30")
    assert create(centre, timing=Timing("UTC", cron="30 2 * * *")).next_at == instant("2027-01-16T02:30", "UTC")


def test_a_firing_is_claimed_once_by_eight_at_once(centre: Centre) -> None:
    schedule = create(centre)
    assert schedule.next_at is not None
    at = schedule.next_at
    others = [Database(centre.database.url) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(lambda database: schedules.claim_due(database, at), others))
    for database in others:
        database.close()
    (execution,) = [execution for each in claimed for execution in each]
    assert (execution.state, execution.scheduled_for) == (ExecutionState.CLAIMED, at)
    assert execution.parameters == {"seed": 7}
    (stored,) = schedules.list_schedules(centre.database, centre.project)
    assert stored.next_at == at + 86_400


def test_missed_firings_are_made_up_once(centre: Centre) -> None:
    schedule = create(centre)
    assert schedule.next_at is not None
    later = schedule.next_at + 10 * 86_400 + 5
    assert len(schedules.claim_due(centre.database, later)) == 1
    assert schedules.claim_due(centre.database, later) == []
    (stored,) = schedules.list_schedules(centre.database)
    assert stored.next_at == schedule.next_at + 11 * 86_400


def test_once_fires_once(centre: Centre) -> None:
    create(centre, timing=Timing(SEOUL, once_at=centre.now + 60))
    assert schedules.claim_due(centre.database, centre.now + 59) == []
    assert len(schedules.claim_due(centre.database, centre.now + 60)) == 1
    (stored,) = schedules.list_schedules(centre.database)
    assert stored.next_at is None


def test_an_overlapping_firing_is_recorded_as_refused(centre: Centre) -> None:
    schedule = create(centre, timing=Timing(SEOUL, cron="* * * * *"))
    assert schedule.next_at is not None
    (first,) = schedules.claim_due(centre.database, schedule.next_at)
    assert schedules.claim_due(centre.database, schedule.next_at + 60) == []
    newest, oldest = schedules.executions(centre.database, centre.project)
    assert (newest.state, oldest.run_id) == (ExecutionState.REFUSED, first.run_id)
    assert newest.reason_ko
    assert newest.reason_en
    schedules.finish(centre.database, first.run_id, Finished(ExecutionState.SUCCEEDED, 0), schedule.next_at + 70)
    assert len(schedules.claim_due(centre.database, schedule.next_at + 120)) == 1


def test_an_execution_ends_once(centre: Centre) -> None:
    schedule = create(centre)
    run = schedules.run_now(centre.database, schedule.id, actor=centre.member, now=centre.now)
    schedules.mark_running(centre.database, run.run_id, notebook_sha256="0" * 64, output="runs/x/output.ipynb")
    failed = Finished(ExecutionState.FAILED, 1, failing_cell={"index": 3, "ename": "ValueError"}, log="…")
    assert schedules.finish(centre.database, run.run_id, failed, centre.now + 9)
    assert not schedules.finish(centre.database, run.run_id, Finished(ExecutionState.SUCCEEDED), centre.now + 10)
    stored = schedules.execution(centre.database, run.run_id)
    assert stored is not None
    assert (stored.state, stored.exit_code, stored.finished_at) == (ExecutionState.FAILED, 1, centre.now + 9)
    assert stored.failing_cell == {"index": 3, "ename": "ValueError"}
    assert schedules.unfinished(centre.database) == []


def test_a_refusal_that_time_does_not_cure_pauses_the_schedule(centre: Centre) -> None:
    schedule = create(centre)
    full = schedules.run_now(centre.database, schedule.id, actor=centre.member, now=centre.now)
    names = {"person": "member", "project": centre.project, "profile": "cpu-small"}
    numbers = {**names, "device": "h100", "needed": 1, "healthy": 4, "in_use": 4, "reserved": 0}
    schedules.refuse(centre.database, full.run_id, Refused(Code.POOL_FULL, numbers), centre.now)
    assert schedules.list_schedules(centre.database)[0].enabled
    ended = schedules.run_now(centre.database, schedule.id, actor=centre.member, now=centre.now + 1)
    schedules.refuse(centre.database, ended.run_id, Refused(Code.PROJECT_ENDED, names), centre.now + 1)
    (paused,) = schedules.list_schedules(centre.database)
    assert not paused.enabled
    assert "ended" in (paused.pause_reason or "")
    assert schedules.claim_due(centre.database, centre.now + 7 * 86_400) == []
    resumed = schedules.resume(centre.database, schedule.id, actor=centre.pi, now=centre.now + 7 * 86_400)
    assert resumed.enabled
    assert resumed.next_at is not None
    assert resumed.next_at > centre.now + 7 * 86_400


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"timing": Timing(SEOUL, cron="0 0 30 2 *")}, "cron"),
        ({"timing": Timing(SEOUL, cron="every day")}, "cron"),
        ({"timing": Timing(SEOUL, cron="* * * * * *")}, "cron"),
        ({"timing": Timing("Mars/Olympus", cron="* * * * *")}, "timezone"),
        ({"timing": Timing(SEOUL)}, "cron"),
        ({"timing": Timing(SEOUL, once_at=1)}, "at"),
        ({"timing": Timing(SEOUL, cron="* * * * *", once_at=2_000_000_000)}, "cron"),
        ({"timeout_seconds": 0}, "timeout"),
        ({"timeout_seconds": -5}, "timeout"),
        ({"timeout_seconds": 10**9}, "timeout"),
        ({"profile": "h900"}, "profile"),
        ({"project": "nowhere"}, "project"),
        ({"person": "outsider"}, "project"),
    ],
)
def test_bad_input_is_refused_with_its_field(centre: Centre, changes: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        create(centre, **changes)
    assert raised.value.field == field
    assert schedules.list_schedules(centre.database) == []


def test_a_learner_may_not_schedule(centre: Centre) -> None:
    people.add_person(centre.database, "learner", "Learner", organisation=None, actor="operator", now=centre.now)
    projects.add_member(
        centre.database, centre.project, "learner", MembershipRole.LEARNER, actor=centre.pi, now=centre.now
    )
    with pytest.raises(InvalidValue, match="may not schedule"):
        create(centre, person="learner")


def test_unknown_schedules_are_named(centre: Centre) -> None:
    for call in (schedules.resume, schedules.run_now):
        with pytest.raises(InvalidValue, match="no schedule 99"):
            call(centre.database, 99, actor="pi", now=centre.now)
    with pytest.raises(InvalidValue, match="no schedule 99"):
        schedules.pause(centre.database, 99, reason="x", actor="pi", now=centre.now)
