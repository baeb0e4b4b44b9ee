"""What the portal's pages have to show: a PI's runs, schedules, recall, reservations and notices, and a full pool."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import select, update

from quotas.domain.admission import Admitted, Request
from quotas.domain.months import month_of
from quotas.domain.node_reports import Process
from quotas.domain.people import MembershipRole
from quotas.domain.policy import Policy
from quotas.domain.queue import Mode
from quotas.domain.recalls import RecallPolicy
from quotas.domain.refusals import Refused
from quotas.domain.reservations import Asked
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.domain.schedules import ExecutionState, Timing
from quotas.domain.units import DAY_SECONDS, HOUR_SECONDS
from quotas.services import (
    admission,
    notebooks,
    people,
    projects,
    queue,
    queue_steps,
    recall_steps,
    recalls,
    reservations,
    schedules,
)
from quotas.services.schedules import Finished, NewSchedule, Schedule
from quotas.store.database import Database
from quotas.store.tables import device_grants, devices
from tests.browser.conftest import example_world
from tests.metered import machine, samples
from tests.platform import PASSWORD, ROOT

PI, MEMBER, OPERATOR = "haram.noh", "member", "operator"
LEARNER = "bora.jang"
"""Has a seat of the window that is open."""
PROJECT, OTHER_PROJECT = "digital-twin", "traffic-sim"
OVER_PROJECT = "harbor-watch"
"""The member is in it; its award has ended."""
NOTEBOOK = "train_digits.ipynb"
SCARCE = "h100-3g"
"""A profile of whose devices the example centre has two."""
LONG_WORD = "https://data.example/" + "a" * 120


def world(database: Database, now: int) -> None:
    """The example centre, whose PI of `PROJECT` can log in."""
    example_world(database, now)
    by = {"actor": OPERATOR, "now": now}
    people.set_password(database, PI, PASSWORD, **by)
    for person in (MEMBER, LEARNER):
        projects.add_member(database, PROJECT, person, MembershipRole.MEMBER, **by)


@dataclass(frozen=True)
class Shown:
    """The numbers of what is there."""

    failed: str
    measured: str
    succeeded: str
    recall: int
    open_reservation: int
    waiting_reservation: int


def fill(database: Database, folder: Path, now: int) -> Shown:
    """There is something on each page; `folder` is the project's."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / "examples" / "notebooks" / NOTEBOOK, folder / NOTEBOOK)
    schedule, paused = (_schedule(database, folder, f"야간 학습 {LONG_WORD}", now) for _ in range(2))
    schedules.pause(database, paused.id, reason=f"paused by {PI}", actor=PI, now=now)
    cell = {"index": 3, "source": f"fit(data)  # {LONG_WORD}", "ename": "ValueError", "evalue": LONG_WORD}
    failed = Finished(
        ExecutionState.FAILED,
        exit_code=1,
        reason_ko="4번 셀에서 실패했습니다",
        reason_en="Cell 4 failed",
        failing_cell={**cell, "traceback": "Traceback (most recent call last):\n  …\nValueError"},
        log=f"cell 1\ncell 2\n{LONG_WORD}\n",
    )
    succeeded = Finished(ExecutionState.SUCCEEDED, exit_code=0, output="runs/1/output.ipynb")
    _queue(database, _schedule(database, folder, "Large", now, SCARCE), now)
    failed_run = _run(database, schedule, failed, now - 2 * HOUR_SECONDS)
    return Shown(
        failed=failed_run,
        measured=_devices(database, failed_run, now),
        succeeded=_run(database, schedule, succeeded, now - HOUR_SECONDS),
        recall=_recall(database, now),
        open_reservation=_open_reservation(database, now),
        waiting_reservation=_reserve(database, now, profile=SCARCE, starts_at=now + DAY_SECONDS, seats=5),
    )


def _schedule(database: Database, folder: Path, title: str, now: int, profile: str = "cpu-small") -> Schedule:
    timing = Timing("Asia/Seoul", cron="30 2 * * 1-5")
    new = NewSchedule(PROJECT, PI, profile, NOTEBOOK, timing, parameters={"seed": 7}, title=title)
    return notebooks.schedule(database, folder, new, now=now - 3 * HOUR_SECONDS)


def _run(database: Database, schedule: Schedule, finished: Finished, at: int) -> str:
    execution = schedules.run_now(database, schedule.id, actor=PI, now=at)
    run = execution.run_id
    request = Request(run, RunKind.BATCH, PI, PROJECT, "cpu-small", seconds=600, door="batch")
    assert isinstance(admission.reserve(database, request, at, Policy()), Admitted)
    admission.started(database, run, at)
    schedules.mark_running(database, run, notebook_sha256="0" * 64, output="runs/1/output.ipynb")
    admission.settle(database, run, admission.Ended(at, at + 90, Outcome.EXITED, finished.exit_code), at + 90)
    schedules.finish(database, run, finished, at + 90)
    return run


def _devices(database: Database, failed: str, now: int) -> str:
    """A machine has a device in each state; return the run of the PI's that holds one, of which not all was seen."""
    at = now - 3 * HOUR_SECONDS
    request = Request(new_run_id(), RunKind.BATCH, PI, PROJECT, "cpu-small", seconds=5 * HOUR_SECONDS, door="batch")
    assert isinstance(admission.reserve(database, request, at, Policy()), Admitted)
    admission.started(database, request.run_id, at)
    node = machine(database, at, count=5, simulated=True)
    began = now - 2 * HOUR_SECONDS
    with database.write() as transaction:
        for position, (run, start, end) in enumerate(((request.run_id, at, None), (failed, began, began + 90))):
            found = transaction.one(select(devices.c.id).where(devices.c.uuid == node.uuids[position]))
            assert found is not None
            grant = {"run_id": run, "device_id": found.id, "granted_at": start, "released_at": end}
            transaction.insert(device_grants, grant)
        for uuid, state in zip(node.uuids[2:], ("cleaning", "quarantined", "lost"), strict=True):
            transaction.run(update(devices).where(devices.c.uuid == uuid).values(state=state, reason=LONG_WORD))
    stray = (Process(4242, 2**30),)
    node.take(list(samples(node.uuids[0], at, at + HOUR_SECONDS, busy_ppm=600_000, processes=stray)), now)
    node.take(list(samples(node.uuids[0], at + HOUR_SECONDS, at + 2 * HOUR_SECONDS, busy_ppm=None)), now)
    node.take(list(samples(node.uuids[0], now - 60, now, busy_ppm=50_000)), now)
    return request.run_id


def _recall(database: Database, now: int) -> int:
    """The project has used nothing for months: that is proposed for recall, and its people may object."""
    month = str(month_of(now).plus(-1))
    proposed = recalls.propose(database, month, RecallPolicy(), actor=OPERATOR, now=now)
    recall = {each.project: each.recall for each in proposed}[PROJECT]
    assert recall is not None
    recall_steps.notify(database, recall, RecallPolicy(), actor=OPERATOR, now=now)
    return recall


def _reserve(database: Database, now: int, *, profile: str, starts_at: int, seats: int) -> int:
    asked = Asked(
        project=PROJECT,
        profile=profile,
        seats=seats,
        zone="Asia/Seoul",
        starts_at=starts_at,
        seconds=4 * HOUR_SECONDS,
        title_ko="마감 전 실험",
        title_en="Experiments before a deadline",
        rrule="FREQ=WEEKLY;COUNT=4",
    )
    view, _ = reservations.request(database, asked, by=PI, now=now, policy=Policy())
    return view.number


def _open_reservation(database: Database, now: int) -> int:
    """A reservation whose first window is open, with one seat claimed."""
    policy = Policy()
    number = _reserve(database, now, profile="h100", starts_at=now + 60, seats=4)
    reservations.approve(database, number, reservations.Approval(), actor=OPERATOR, now=now, policy=policy)
    reservations.tick(database, now, policy)
    _start(database, LEARNER, PROJECT, "h100", now)
    return number


def _queue(database: Database, large: Schedule, now: int) -> None:
    """No device of the scarce profile is free; the member's turn has come, the PI and a run of theirs wait."""
    first = _start(database, "nari.park", "llm-korean", SCARCE, now)
    _start(database, "taeyang.choi", "protein-fold", SCARCE, now)
    _wait(database, Request(new_run_id(), RunKind.NOTEBOOK, MEMBER, PROJECT, SCARCE), Mode.OFFER, now)
    admission.settle(database, first, admission.Ended(now, now, Outcome.STOPPED), now)
    assert queue_steps.step(database, now, Policy())["turn"] == 1
    run = schedules.run_now(database, large.id, actor=PI, now=now).run_id
    schedules.mark_waiting(database, run)
    _wait(database, Request(run, RunKind.BATCH, PI, PROJECT, SCARCE, seconds=large.timeout_seconds), Mode.START, now)
    _wait(database, Request(new_run_id(), RunKind.NOTEBOOK, PI, PROJECT, SCARCE), Mode.START, now)


def _wait(database: Database, request: Request, mode: Mode, now: int) -> None:
    joined = queue.join(database, request, mode, now, Policy())
    assert not isinstance(joined, Refused), joined.sentence("en")


def _start(database: Database, person: str, project: str, profile: str, now: int) -> str:
    request = Request(new_run_id(), RunKind.NOTEBOOK, person, project, profile, door="tests")
    decision = admission.reserve(database, request, now, replace(Policy(), hold=HOUR_SECONDS))
    assert isinstance(decision, Admitted), decision.sentence("en")
    admission.started(database, request.run_id, now)
    return request.run_id
