"""Scheduled runs with devices: each has its own, and what cannot be attached fails with its reason, free of charge."""

from __future__ import annotations

import re
import time

import pytest
from sqlalchemy import update

from batch.scheduler import Scheduler
from quotas.backends.docker import prepare_project_folder
from quotas.domain.runs import Outcome
from quotas.domain.schedules import ExecutionState
from quotas.services import check
from quotas.services.schedules import Execution
from quotas.store.tables import pools, profiles
from tests.batch.conftest import Platform
from tests.devices import add_machine, character_devices, gpu, npu, states

VISIBLE = "import os\nprint(f'sees=<{os.environ[\"CUDA_VISIBLE_DEVICES\"]}>')"


def real(platform: Platform) -> None:
    """What runs is given devices: the pool is no longer simulated."""
    with platform.database.write() as transaction:
        transaction.run(update(pools).values(simulated=0))


@pytest.fixture
def contained(contained: tuple[Platform, Scheduler]) -> tuple[Platform, Scheduler]:
    """The same, with real devices."""
    real(contained[0])
    return contained


def nothing_was_charged(platform: Platform, found: Execution) -> None:
    run = platform.run(found)
    assert (found.state, run.outcome, run.charge) == (ExecutionState.FAILED, Outcome.FAILED_TO_START, 0)
    assert set(states(platform.database).values()) <= {"available"}
    assert check.findings(platform.database, int(time.time())) == []


def test_processes_see_the_device_that_they_hold(platform: Platform) -> None:
    real(platform)
    add_machine(platform.database, [gpu(0), gpu(1)], int(time.time()))
    notebook = platform.notebook("train.ipynb", VISIBLE)
    for profile in ("h100", "h100", "cpu-small"):
        platform.due(notebook, profile=profile)
    platform.scheduler().run_once()
    found = platform.executions()
    assert {each.state for each in found} == {ExecutionState.SUCCEEDED}, [each.log for each in found]
    nothing, *seen = sorted(match[1] for each in found if (match := re.search("sees=<(.*)>", str(each.log))))
    assert nothing == ""
    assert len(seen) == 2
    assert set(seen) <= {gpu(0).uuid, gpu(1).uuid}
    assert set(states(platform.database).values()) == {"available"}
    assert check.findings(platform.database, int(time.time())) == []


def test_a_pool_without_machines_says_what_the_operator_is_to_do(platform: Platform) -> None:
    real(platform)
    schedule = platform.due(platform.notebook("train.ipynb", VISIBLE), profile="h100")
    platform.scheduler().run_once()
    found = platform.only(schedule)
    assert "mudeung nodes add" in str(found.reason_en)
    assert "연결할 수 없습니다: 자원 풀에" in str(found.reason_ko)
    assert "mudeung nodes add" in str(found.reason_ko)
    nothing_was_charged(platform, found)


@pytest.mark.docker
def test_a_container_has_its_device_and_no_other(contained: tuple[Platform, Scheduler]) -> None:
    platform, scheduler = contained
    with character_devices() as make:
        paths = [make("npu"), make("npu")]
        add_machine(platform.database, [npu(number, path) for number, path in enumerate(paths)], int(time.time()))
        with platform.database.write() as transaction:
            transaction.run(update(profiles).where(profiles.c.code == "h100").values(device_model="atom"))
        source = f"for each in {paths!r}:\n    try:\n        open(each, 'rb').close()\n        print('has', each)\n"
        source += "    except OSError as error:\n        print(error)"
        notebook = platform.notebook("train.ipynb", source)
        prepare_project_folder(platform.folder)
        for _ in range(2):
            platform.due(notebook, profile="h100")
        scheduler.run_once()
        found = platform.executions()
        assert {each.state for each in found} == {ExecutionState.SUCCEEDED}, [each.log for each in found]
        opened = [[line for line in str(each.log).splitlines() if line.startswith("has")] for each in found]
        assert [len(lines) for lines in opened] == [1, 1]
        assert set(states(platform.database).values()) == {"available"}
        assert all(platform.run(each).charge for each in found)
        assert check.findings(platform.database, int(time.time())) == []


@pytest.mark.docker
def test_an_engine_without_the_driver_fails_the_execution_at_once(contained: tuple[Platform, Scheduler]) -> None:
    platform, scheduler = contained
    add_machine(platform.database, [gpu(0)], int(time.time()))
    schedule = platform.due(platform.notebook("train.ipynb", VISIBLE), profile="h100")
    scheduler.run_once()
    found = platform.only(schedule)
    assert "Docker cannot attach it: could not select device driver" in str(found.reason_en)
    nothing_was_charged(platform, found)
    assert scheduler.backend.inspect(found.run_id) is None


@pytest.mark.docker
def test_a_device_file_that_is_gone_fails_the_execution_at_once(contained: tuple[Platform, Scheduler]) -> None:
    platform, scheduler = contained
    add_machine(platform.database, [npu(0, "/dev/mudeung-tests-absent")], int(time.time()))
    with platform.database.write() as transaction:
        transaction.run(update(profiles).where(profiles.c.code == "h100").values(device_model="atom"))
    schedule = platform.due(platform.notebook("train.ipynb", VISIBLE), profile="h100")
    scheduler.run_once()
    found = platform.only(schedule)
    assert "this machine has no /dev/mudeung-tests-absent" in str(found.reason_en)
    nothing_was_charged(platform, found)
