"""The scheduler: what is due is claimed once and comes to its end, whatever is killed, refused or late meanwhile."""

from __future__ import annotations

import datetime
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import delete, select, update

from batch.runner import INSPECT_SECONDS
from batch.scheduler import leading
from quotas.domain.people import MembershipRole
from quotas.domain.policy import Policy
from quotas.domain.runs import Outcome
from quotas.domain.schedules import ExecutionState, Timing
from quotas.domain.units import InvalidValue
from quotas.services import projects, runs, schedules
from quotas.services.reconciliation import Reconciler
from quotas.store.tables import allocations, memberships, persons, transfers
from tests.batch.conftest import DAY, ZONE, Platform, wait_for
from tests.batch.dying import MOMENTS

COUNTING = "import pathlib\nwith pathlib.Path('count.txt').open('a') as file: file.write('ran\\n')"
SLOW = f"{COUNTING}\nimport time; time.sleep(2)"


def ran(platform: Platform) -> int:
    """Return how often the counting notebook ran."""
    path = platform.folder / "count.txt"
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def working() -> Iterator[list[subprocess.Popen[str]]]:
    """Schedulers as processes of their own, which are killed in the end."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate(timeout=10)


def begin(platform: Platform, working: list[subprocess.Popen[str]], *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "batch", "scheduler", "--home", str(platform.home.path), *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    working.append(process)
    return process


def test_eight_processes_claim_each_firing_once(platform: Platform) -> None:
    notebook = platform.notebook("train.ipynb", "1")
    made = [platform.due(notebook) for _ in range(12)]
    now = int(time.time())
    command = [sys.executable, "-m", "tests.batch.claiming", platform.database.url, str(now)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    racing = [subprocess.Popen(command, **pipes) for _ in range(8)]  # type: ignore[call-overload]
    ready = [process.stdout.readline() for process in racing]
    answers = [process.communicate("go\n", timeout=30)[0] for process in racing]
    assert ready == ["ready\n"] * 8
    claimed = [run_id for answer in answers for run_id in json.loads(answer)]
    assert len(claimed) == len(set(claimed)) == len(made)
    assert sorted(claimed) == sorted(execution.run_id for execution in platform.executions())
    assert schedules.claim_due(platform.database, now) == []


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_scheduler_that_is_killed_is_followed_by_one_that_goes_on(platform: Platform, moment: str) -> None:
    # A run is looked at every few seconds: to be seen running it must last longer.
    source = f"{COUNTING}\nimport time; time.sleep({2 * INSPECT_SECONDS})" if moment == "running" else COUNTING
    schedule = platform.due(platform.notebook("count.ipynb", source))
    command = [sys.executable, "-m", "tests.batch.dying", str(platform.home.path), moment]
    killed = subprocess.run(command, timeout=60, check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    platform.scheduler().run_once()
    found = platform.only(schedule)
    assert found.state is ExecutionState.SUCCEEDED, (found.reason_en, found.log)
    assert platform.output(found).cells[0].source == source
    assert ran(platform) == 1
    assert platform.charges() == 1
    assert platform.run(found).outcome is Outcome.EXITED
    assert platform.backend.list_runs() == []
    assert [path.name for path in platform.home.batch.iterdir() if path.is_dir()] == []
    assert kinds_of_transfers(platform, found.run_id) == ["charge", "hold", "release"]


def kinds_of_transfers(platform: Platform, run_id: str) -> list[str]:
    with platform.database.read() as transaction:
        rows = transaction.rows(select(transfers.c.kind).where(transfers.c.run_id == run_id))
    return sorted(row.kind for row in rows)


def test_a_hold_that_was_released_meanwhile_starts_nothing(platform: Platform) -> None:
    schedule = platform.due(platform.notebook("count.ipynb", COUNTING))
    command = [sys.executable, "-m", "tests.batch.dying", str(platform.home.path), "reserved"]
    subprocess.run(command, timeout=60, check=False, capture_output=True)
    later = int(time.time()) + 700
    assert reconciler(platform).tick(later)["void"] == 1
    platform.scheduler().run_once()
    found = platform.only(schedule)
    assert found.state is ExecutionState.LOST
    assert "nothing was charged" in str(found.reason_en)
    assert ran(platform) == platform.charges() == 0


def test_a_hold_that_has_grown_too_short_meanwhile_starts_nothing(platform: Platform) -> None:
    schedule = platform.due(platform.notebook("count.ipynb", COUNTING))
    command = [sys.executable, "-m", "tests.batch.dying", str(platform.home.path), "reserved"]
    subprocess.run(command, timeout=60, check=False, capture_output=True)
    scheduler = platform.scheduler()
    scheduler.clock = lambda: time.time() + 310
    scheduler.run_once()
    found = platform.only(schedule)
    assert found.state is ExecutionState.LOST
    assert platform.run(found).charge == 0
    assert ran(platform) == platform.charges() == 0


def test_of_two_schedulers_one_works_and_the_other_takes_over(
    platform: Platform, working: list[subprocess.Popen[str]]
) -> None:
    schedule = platform.due(platform.notebook("count.ipynb", SLOW))
    first = begin(platform, working)
    wait_for(lambda: ran(platform) == 1, what="the run")
    begin(platform, working)
    first.kill()
    wait_for(platform.all_ended, what="the end")
    assert platform.only(schedule).state is ExecutionState.SUCCEEDED
    assert ran(platform) == platform.charges() == 1


def test_once_does_nothing_while_another_works(platform: Platform, working: list[subprocess.Popen[str]]) -> None:
    schedule = platform.due(platform.notebook("count.ipynb", COUNTING))
    with leading(platform.home, threading.Event()) as is_leader:
        assert is_leader
        busy = begin(platform, working, "--once")
        assert busy.wait(20) == 75
    assert "another scheduler works" in str(busy.stderr and busy.stderr.read())
    assert platform.executions(schedule) == []


def test_the_scheduler_ends_promptly_and_its_runs_go_on(
    platform: Platform, working: list[subprocess.Popen[str]]
) -> None:
    schedule = platform.due(platform.notebook("count.ipynb", SLOW))
    process = begin(platform, working)
    wait_for(lambda: ran(platform) == 1, what="the run")
    began = time.monotonic()
    process.terminate()
    assert process.wait(10) == 0
    assert time.monotonic() - began < 2
    (seen,) = platform.backend.list_runs()
    assert seen.running
    assert platform.only(schedule).state is ExecutionState.RUNNING
    platform.scheduler().run_once()
    assert platform.only(schedule).state is ExecutionState.SUCCEEDED
    assert ran(platform) == 1


def test_a_run_that_is_gone_is_lost(platform: Platform, working: list[subprocess.Popen[str]]) -> None:
    schedule = platform.due(platform.notebook("count.ipynb", SLOW))
    process = begin(platform, working)
    wait_for(lambda: ran(platform) == 1, what="the run")
    process.kill()
    process.wait(10)
    found = platform.only(schedule)
    platform.backend.stop(found.run_id, 0)
    platform.backend.remove(found.run_id)
    platform.scheduler().run_once()
    found = platform.only(schedule)
    assert found.state is ExecutionState.LOST
    assert "종료 기록 없이" in str(found.reason_ko)
    assert platform.run(found).outcome is Outcome.LOST


def reconciler(platform: Platform) -> Reconciler:
    return Reconciler(platform.database, platform.backend, NoHub(), Policy(), 600)


class NoHub:
    """A hub that is away."""

    def known_runs(self) -> frozenset[str] | None:
        return None

    def forget_server(self, person: str, project: str) -> bool:
        del person, project
        return False


def test_who_may_no_longer_run_is_stopped_and_the_execution_says_why(platform: Platform) -> None:
    schedule = platform.due(platform.notebook("count.ipynb", f"{COUNTING}\nimport time; time.sleep(60)"))
    scheduler = platform.scheduler()
    scheduler.boot()
    scheduler.look()
    wait_for(lambda: ran(platform) == 1, what="the run")
    assert reconciler(platform).tick(int(time.time()))["kept"] == 1
    leave(platform, "member")
    assert reconciler(platform).tick(int(time.time()))["stopped"] == 1
    wait_for(platform.all_ended, what="the end")
    found = platform.only(schedule)
    assert found.state is ExecutionState.CANCELLED
    assert "may no longer run" in str(found.reason_en)
    assert platform.run(found).outcome is Outcome.REVOKED
    assert platform.output(found).cells


def leave(platform: Platform, username: str) -> None:
    with platform.database.write() as transaction:
        person = transaction.one(select(persons.c.id).where(persons.c.username == username))
        transaction.run(delete(memberships).where(memberships.c.person_id == person.id))


def end_award(platform: Platform) -> None:
    with platform.database.write() as transaction:
        transaction.run(update(allocations).values(ends_at=int(time.time()) - 10))


def make_learner(platform: Platform) -> None:
    with platform.database.write() as transaction:
        transaction.run(update(memberships).values(role=MembershipRole.LEARNER.value))


@pytest.mark.parametrize(
    ("spoil", "korean", "english"),
    [
        (lambda platform: leave(platform, "member"), "구성원이 아닙니다", "is not a member of vision"),
        (end_award, "종료되었습니다", "The award of vision ended at 20"),
        (make_learner, "역할로는 할 수 없습니다", "may not do this in vision"),
        (
            lambda platform: projects.end(platform.database, "vision", actor="operator", now=int(time.time())),
            "종료되었습니다",
            "The project vision has ended",
        ),
    ],
)
def test_a_refusal_that_time_does_not_cure_pauses_the_schedule(
    platform: Platform, spoil: object, korean: str, english: str
) -> None:
    schedule = platform.due(platform.notebook("count.ipynb", COUNTING), timing=Timing(ZONE, cron="* * * * *"))
    assert callable(spoil)
    spoil(platform)
    platform.scheduler().run_once()
    found = platform.only(schedule)
    assert found.state is ExecutionState.REFUSED
    assert korean in str(found.reason_ko)
    assert english in str(found.reason_en)
    (paused,) = schedules.list_schedules(platform.database)
    assert not paused.enabled
    assert english in str(paused.pause_reason)
    assert ran(platform) == platform.charges() == 0
    assert platform.backend.list_runs() == []


def test_a_refusal_that_time_cures_leaves_the_schedule_on(platform: Platform) -> None:
    with platform.database.write() as transaction:
        transaction.run(update(allocations).values(ceiling_gflops=10))
    schedule = platform.due(platform.notebook("count.ipynb", COUNTING), timing=Timing(ZONE, cron="* * * * *"))
    platform.scheduler().run_once()
    assert platform.only(schedule).state is ExecutionState.REFUSED
    assert "allows 10 GF at once" in str(platform.only(schedule).reason_en)
    assert schedules.list_schedules(platform.database)[0].enabled


def test_a_cron_line_fires_in_its_zone(platform: Platform) -> None:
    now = int(datetime.datetime(2026, 10, 31, 12, tzinfo=datetime.UTC).timestamp())
    notebook = platform.notebook("train.ipynb", "1")
    expected = {
        "Asia/Seoul": datetime.datetime(2026, 11, 1, 2, 30, tzinfo=ZoneInfo("Asia/Seoul")),
        "America/New_York": datetime.datetime(2026, 11, 1, 2, 30, tzinfo=ZoneInfo("America/New_York")),
        "UTC": datetime.datetime(2026, 11, 1, 2, 30, tzinfo=datetime.UTC),
    }
    for zone, at in expected.items():
        new = schedules.NewSchedule(
            "vision", "member", "cpu-small", notebook, Timing(zone, cron="30 2 * * *"), title=zone
        )
        assert schedules.create(platform.database, new, actor="member", now=now).next_at == int(at.timestamp())
    for zone, at in sorted(expected.items(), key=lambda item: item[1]):
        assert schedules.claim_due(platform.database, int(at.timestamp()) - 1) == []
        (claimed,) = schedules.claim_due(platform.database, int(at.timestamp()))
        assert (claimed.title, claimed.scheduled_for) == (zone, int(at.timestamp()))


def test_missed_firings_fire_once_and_a_schedule_for_once_fires_once(platform: Platform) -> None:
    now = int(time.time())
    notebook = platform.notebook("count.ipynb", COUNTING)
    often = platform.schedule(notebook, timing=Timing(ZONE, cron="*/5 * * * *"))
    once = platform.schedule(notebook, timing=Timing(ZONE, once_at=now + 60))
    first = now - DAY
    platform.change(often.id, next_at=first)
    platform.change(once.id, once_at=first, next_at=first)
    platform.scheduler().run_once()
    platform.scheduler().run_once()
    assert ran(platform) == 2
    for schedule in (often, once):
        execution = platform.only(schedule)
        assert (execution.state, execution.scheduled_for) == (ExecutionState.SUCCEEDED, first)
    following = {each.id: each.next_at for each in schedules.list_schedules(platform.database)}
    assert following[once.id] is None
    assert now < int(following[often.id] or 0) <= now + 360


def test_a_firing_during_the_last_execution_is_refused_and_one_on_demand_runs(platform: Platform) -> None:
    schedule = platform.due(platform.notebook("count.ipynb", SLOW))
    scheduler = platform.scheduler()
    scheduler.boot()
    assert scheduler.look() == 1
    wait_for(lambda: ran(platform) == 1, what="the run")
    platform.change(schedule.id, next_at=int(time.time()))
    assert scheduler.look() == 0
    states = [each.state for each in platform.executions(schedule)]
    assert states == [ExecutionState.RUNNING, ExecutionState.REFUSED]
    assert "이전 실행" in str(platform.executions(schedule)[1].reason_ko)
    wait_for(platform.all_ended, what="the end")
    time.sleep(1)
    asked = schedules.run_now(platform.database, schedule.id, actor="member", now=int(time.time()))
    scheduler.look()
    wait_for(platform.all_ended, what="the end")
    found = schedules.execution(platform.database, asked.run_id)
    assert found is not None
    assert found.state is ExecutionState.SUCCEEDED
    assert ran(platform) == 2


def test_no_more_runs_than_the_setting_says_run_at_once(platform: Platform) -> None:
    notebook = platform.notebook("slow.ipynb", "import time; time.sleep(1)")
    for _ in range(6):
        platform.due(notebook)
    scheduler = platform.scheduler()
    most = 0
    scheduler.boot()
    scheduler.look()
    until = time.monotonic() + 40
    while not platform.all_ended():
        most = max(most, sum(seen.running for seen in platform.backend.list_runs()))
        scheduler.look()
        assert time.monotonic() < until
        time.sleep(0.1)
    assert most == platform.home.settings.max_batch_runs == 4
    assert {each.state for each in platform.executions()} == {ExecutionState.SUCCEEDED}


def test_a_simulated_device_is_held_and_not_attached(platform: Platform) -> None:
    schedule = platform.due(platform.notebook("count.ipynb", COUNTING), profile="h100")
    command = [sys.executable, "-m", "tests.batch.dying", str(platform.home.path), "reserved"]
    subprocess.run(command, timeout=60, check=False, capture_output=True)
    platform.scheduler().run_once()
    assert platform.only(schedule).state is ExecutionState.SUCCEEDED
    assert platform.run(platform.only(schedule)).gflops == 66_900


def test_a_device_that_cannot_be_attached_fails_before_it_runs_and_costs_nothing(platform: Platform) -> None:
    with platform.database.write() as transaction:
        transaction.cursor.execute("UPDATE pools SET simulated = 0")
    schedule = platform.due(platform.notebook("count.ipynb", COUNTING), profile="h100")
    platform.scheduler().run_once()
    found = platform.only(schedule)
    assert found.state is ExecutionState.FAILED
    assert "cannot attach" in str(found.reason_en)
    assert platform.run(found).charge == 0
    assert ran(platform) == 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"timing": Timing(ZONE, cron="0 0 30 2 *")}, "cron"),
        ({"timing": Timing(ZONE, cron="every day")}, "cron"),
        ({"timing": Timing(ZONE, cron="* * * * *", once_at=2_000_000_000)}, "cron"),
        ({"timing": Timing(ZONE)}, "cron"),
        ({"timing": Timing(ZONE, once_at=1)}, "at"),
        ({"timing": Timing("Asia/Seul", cron="* * * * *")}, "timezone"),
        ({"timeout_seconds": 0}, "timeout"),
        ({"timeout_seconds": 10**12}, "timeout"),
        ({"person": "outsider"}, "project"),
        ({"project": "none"}, "project"),
        ({"profile": "none"}, "profile"),
    ],
)
def test_what_cannot_be_scheduled_is_refused_with_the_fields_name(
    platform: Platform, changes: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidValue) as refused:
        platform.schedule("train.ipynb", **changes)
    assert refused.value.field == field
    assert refused.value.message_ko
    assert schedules.list_schedules(platform.database) == []


def test_the_command_needs_a_home_and_explains_itself(tmp_path: Path) -> None:
    def call(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "batch", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={"PATH": ""})

    assert "--once" in call("scheduler", "--help").stdout
    assert call("scheduler").returncode == 2
    assert "MUDEUNG_HOME" in call("scheduler").stderr
    (tmp_path / "mudeung.toml").write_text("schedule_seconds = 0")
    wrong = call("scheduler", "--home", str(tmp_path))
    assert wrong.returncode == 2
    assert "schedule_seconds = 0" in wrong.stderr


def test_an_absent_backend_concludes_nothing(platform: Platform) -> None:
    schedule = platform.due(platform.notebook("count.ipynb", COUNTING))
    (claimed,) = schedules.claim_due(platform.database, int(time.time()))
    record = platform.home.runs / claimed.run_id
    record.write_text("where this is, no run can be recorded")
    platform.scheduler().run_once()
    assert platform.only(schedule).state is ExecutionState.CLAIMED
    assert runs.run(platform.database, platform.only(schedule).run_id) is not None
    record.unlink()
    platform.scheduler().run_once()
    assert platform.only(schedule).state is ExecutionState.SUCCEEDED
    assert ran(platform) == 1
