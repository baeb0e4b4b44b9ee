"""A batch run on idle devices that are wanted back: told, stopped, charged, its output kept, and run once more."""

from __future__ import annotations

import time

from quotas.domain.admission import Admitted, Request
from quotas.domain.policy import Policy
from quotas.domain.priorities import Priority
from quotas.domain.queue import Mode
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.domain.schedules import ExecutionState
from quotas.services import admission, check, pools, queue, queue_steps, schedules
from quotas.services.reconciliation import Reconciler
from tests.batch.conftest import Platform, wait_for

POLICY = Policy(preempt_notice=2)
PARTS = ("print('kept')", "import pathlib\npathlib.Path('begun').touch()\nimport time; time.sleep(60)")


class NoHub:
    """A hub that is away."""

    def known_runs(self) -> frozenset[str] | None:
        return None

    def forget_server(self, person: str, project: str) -> bool:
        del person, project
        return False


def test_it_is_told_stopped_charged_and_run_once_more(platform: Platform) -> None:
    database, now = platform.database, int(time.time())
    pools.drain(database, "main", "h100", 3, "one is enough", actor="operator", now=now)
    schedule = platform.due(platform.notebook("long.ipynb", *PARTS), profile="h100")
    (execution,) = schedules.claim_due(database, now)
    scheduler = platform.scheduler()
    scheduler.boot()
    idle = Request(execution.run_id, RunKind.BATCH, "member", "vision", "h100", 600, "batch", Priority.OPPORTUNISTIC)
    assert isinstance(admission.reserve(database, idle, now, POLICY), Admitted)
    scheduler.look()
    wait_for((platform.folder / "begun").exists, what="the run")

    asked = Request(new_run_id(), RunKind.NOTEBOOK, "pi", "vision", "h100")
    queue.join(database, asked, Mode.OFFER, int(time.time()), POLICY)
    told_at = int(time.time())
    assert queue_steps.step(database, told_at, POLICY)["waits"] == 1
    loop = Reconciler(database, platform.backend, NoHub(), POLICY, 600)
    assert loop.tick(told_at + 1)["ending"] == 1
    scheduler.stop()  # so that the repeat stays where it is
    scheduler.leave()
    assert loop.tick(told_at + POLICY.preempt_notice)["stopped"] == 1
    assert queue_steps.step(database, told_at + POLICY.preempt_notice, POLICY)["turn"] == 1

    last = platform.scheduler()
    last.boot()
    (first,) = [each for each in schedules.unfinished(database) if each.run_id == execution.run_id]
    assert last._runner is not None
    last._runner.carry(first)
    first, again = platform.executions(schedule)
    assert (first.run_id, first.state) == (execution.run_id, ExecutionState.CANCELLED)
    assert first.reason_en == (
        "Its borrowed devices were wanted back; it is run once more as soon as there are devices."
    )
    run = platform.run(first)
    assert (run.outcome, run.charge) == (Outcome.PREEMPTED, run.gflops * run.seconds)
    assert "kept\n" in [each.get("text") for cell in platform.output(first).cells for each in cell.get("outputs", ())]
    assert (again.state, again.scheduled_for) == (ExecutionState.CLAIMED, run.finished_at)
    assert check.findings(database, int(time.time())) == []
