"""A batch run that gave its devices back is run once more: once, and not where its schedule is off."""

from __future__ import annotations

import pytest

from quotas.domain.admission import Admitted, Request
from quotas.domain.policy import Policy
from quotas.domain.priorities import Priority
from quotas.domain.runs import Outcome, RunKind
from quotas.domain.schedules import ExecutionState, Timing
from quotas.services import admission, repeats, schedules
from quotas.services.schedules import Execution, Finished, NewSchedule
from tests.centre import NOW, Centre


def fire(seeded: Centre) -> Execution:
    """A schedule for once fires now."""
    timing = Timing("Asia/Seoul", once_at=NOW + 10)
    new = NewSchedule(seeded.project, seeded.member, "h100", "train.ipynb", timing)
    schedules.create(seeded.database, new, actor=seeded.member, now=NOW)
    (execution,) = schedules.claim_due(seeded.database, NOW + 10)
    return execution


def end(seeded: Centre, run_id: str, outcome: Outcome, at: int) -> None:
    """The execution's run was held on idle devices, ran for a minute, and ended as that at `at`."""
    who = seeded.member, seeded.project, "h100"
    request = Request(run_id, RunKind.BATCH, *who, 3600, "batch", Priority.OPPORTUNISTIC)
    assert isinstance(admission.reserve(seeded.database, request, at - 60, Policy()), Admitted)
    admission.settle(seeded.database, run_id, admission.Ended(at - 60, at, outcome), at)
    schedules.finish(seeded.database, run_id, Finished(ExecutionState.CANCELLED), at)


def test_it_is_claimed_once_more_and_not_a_third_time(seeded: Centre) -> None:
    first = fire(seeded)
    end(seeded, first.run_id, Outcome.PREEMPTED, NOW + 100)
    again = repeats.claim(seeded.database, first.run_id, NOW + 101)
    assert again is not None
    assert repeats.claim(seeded.database, first.run_id, NOW + 500) == again
    (waiting,) = schedules.unfinished(seeded.database)
    assert (waiting.run_id, waiting.schedule_id, waiting.state) == (again, first.schedule_id, ExecutionState.CLAIMED)
    assert (waiting.scheduled_for, waiting.parameters) == (NOW + 100, first.parameters)
    end(seeded, again, Outcome.PREEMPTED, NOW + 1000)
    assert repeats.claim(seeded.database, again, NOW + 1001) is None
    assert schedules.unfinished(seeded.database) == []


@pytest.mark.parametrize("outcome", [Outcome.STOPPED, Outcome.LIMIT, Outcome.REVOKED, Outcome.EXITED])
def test_what_ended_otherwise_is_not_run_again(seeded: Centre, outcome: Outcome) -> None:
    execution = fire(seeded)
    end(seeded, execution.run_id, outcome, NOW + 100)
    assert repeats.claim(seeded.database, execution.run_id, NOW + 101) is None
    assert repeats.claim(seeded.database, "of nothing", NOW + 101) is None


def test_a_paused_schedule_runs_nothing_again(seeded: Centre) -> None:
    execution = fire(seeded)
    end(seeded, execution.run_id, Outcome.PREEMPTED, NOW + 100)
    schedules.pause(seeded.database, execution.schedule_id, reason="enough", actor=seeded.member, now=NOW + 50)
    assert repeats.claim(seeded.database, execution.run_id, NOW + 101) is None
