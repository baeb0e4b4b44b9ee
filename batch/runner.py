"""One execution, carried from its claim to its end.

Every step may be taken again: whoever takes up an execution, after whatever crash, asks the backend what there is and
goes on from there. The run's UUID makes reserving, launching, settling and finishing happen once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from batch import snapshots
from batch.commands import launch
from batch.snapshots import RunFiles
from batch.verdicts import (
    NO_OUTPUT,
    PREEMPTED,
    RUN_AGAIN,
    STOPPED,
    TOO_LATE,
    Circumstances,
    Verdict,
    failing_cell,
    judge,
    not_kept,
)
from quotas.backends.port import Backend, BackendAway
from quotas.domain.admission import Admitted, Request
from quotas.domain.extension import Standing
from quotas.domain.launch import Seen
from quotas.domain.profiles import Profile
from quotas.domain.queue import WAITABLE, EntryState, Mode
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import Limit, Outcome, RunKind
from quotas.domain.schedules import ExecutionState
from quotas.domain.units import InvalidValue
from quotas.home import Home
from quotas.services import (
    admission,
    assignment,
    offers,
    placement,
    profiles,
    queue,
    queue_views,
    repeats,
    runs,
    schedules,
)
from quotas.services.admission import Ended
from quotas.services.schedules import Execution, Finished
from quotas.session_variables import session_variables
from quotas.store.database import Database, DatabaseAway

log = logging.getLogger("mudeung.batch")

SOFT_MARGIN_SECONDS = 5
"""The executor ends this long before the time limit, so that it is not stopped from outside and keeps its output."""
HARD_MARGIN_SECONDS = 30
"""A run that goes on this long beyond its time limit is stopped, or as long as its hold has a margin."""
STOP_GRACE_SECONDS = 10
YOUNG_SECONDS = 60
QUICK_PAUSE_SECONDS = 0.02
SLOW_PAUSE_SECONDS = 0.5
INSPECT_SECONDS = 3
"""How often the backend is asked about a run whose record says that it goes on."""
QUICK_LOOKS = 200
"""How often the backend may be asked at once because the record says so: the notebook's code can write the record."""
LOG_BYTES = 2**20


GIVEN_UP = {
    EntryState.CANCELLED: ExecutionState.CANCELLED,
    EntryState.EXPIRED: ExecutionState.REFUSED,
    EntryState.REFUSED: ExecutionState.REFUSED,
}
"""As what an execution ends whose entry in the queue ended so."""


@dataclass
class Runner:
    """Carries executions. `door` is the scheduler's instance; `stopping` ends every wait and leaves runs running."""

    home: Home
    database: Database
    backend: Backend
    door: str
    stopping: threading.Event = field(default_factory=threading.Event)
    clock: Callable[[], float] = time.time

    def carry(self, execution: Execution) -> bool:
        """The execution has ended and its end is recorded, or it waits in the queue; False when the platform stops.

        Raises BackendAway and DatabaseAway: nothing is concluded, and it is to be carried again later.
        """
        files = self.files(execution.run_id)
        seen = self.backend.inspect(execution.run_id)
        if execution.state is not ExecutionState.RUNNING and (seen is None or _never_ran(seen)):
            seen = self._start(execution, files)
            if seen is None:
                return not self.stopping.is_set()
        if seen is not None and seen.started_at is not None:
            self._note_start(execution, files, seen.started_at)
        if seen is not None and seen.running:
            seen = self._follow(execution, files, seen)
            if seen is not None and seen.running:
                return False
        self._end(execution, files, seen)
        return True

    def files(self, run_id: str) -> RunFiles:
        return RunFiles(self.home.batch / run_id)

    def _now(self) -> int:
        return int(self.clock())

    def _start(self, execution: Execution, files: RunFiles) -> Seen | None:
        """Return what was launched; None when the execution ended instead, waits, or the platform stops."""
        if self._waited_in_vain(execution, files):
            return None
        project_folder = self.home.project_folder(execution.project)
        try:
            snapshots.take(files, project_folder, execution)
            profile = self._profile(execution)
        except InvalidValue as invalid:
            self._finish(execution, files, _cannot(invalid))
            return None
        admitted = self._reserve(execution, files)
        if admitted is None or self.stopping.is_set():
            return None
        late = self._now() - admitted.opened_at
        if late > execution.timeout_seconds // 2:
            # The hold is of the time before a crash; what is left of it would be too short for the run.
            self._finish(execution, files, TOO_LATE)
            return None
        try:
            todo = launch(
                self.backend.name,
                execution,
                profile,
                files,
                project_folder,
                deadline_seconds=max(execution.timeout_seconds - SOFT_MARGIN_SECONDS - late, 1),
                devices=assignment.devices_for(self.database, self.backend, admitted, self._now()),
            )
            session = session_variables(self.home, execution.run_id)
            environment = {**todo.environment, **session}
            held = placement.held(self.database, todo, admitted)
            return self.backend.launch(replace(held, environment=environment))
        except InvalidValue as invalid:
            self._finish(execution, files, self._cannot_launch(invalid, profile))
            return None

    def _cannot_launch(self, invalid: InvalidValue, profile: Profile) -> Verdict:
        if invalid.field != "devices":
            return _cannot(invalid)
        refused = assignment.refusal(invalid, self.backend.name, profile)
        return Verdict(ExecutionState.FAILED, refused.message("en"), refused.message("ko"))

    def _profile(self, execution: Execution) -> Profile:
        found = profiles.profile(self.database, execution.profile)
        if found is None:
            raise InvalidValue(
                "profile", f"there is no {execution.profile}", f"프로필 {execution.profile}이(가) 없습니다"
            )
        return found

    def _reserve(self, execution: Execution, files: RunFiles) -> Admitted | None:
        """Return the admission, its hold open, be it that of its turn; None when it was refused, or waits for one.

        The notebook that it is to run has been taken already, and stays as it is while it waits.
        """
        now = self._now()
        request = Request(
            run_id=execution.run_id,
            kind=RunKind.BATCH,
            person=execution.person,
            project=execution.project,
            profile=execution.profile,
            seconds=execution.timeout_seconds,
            door=self.door,
            wish=execution.wish,
        )
        policy = self.home.settings.policy()
        decision = queue.start(self.database, request, now, policy)
        if isinstance(decision, Refused) and decision.code in WAITABLE:
            refused = self._wait(request, decision)
            if refused is None:
                return None
            decision = refused
        if isinstance(decision, Refused):
            if decision.code is Code.LEDGER_AWAY:
                raise DatabaseAway("the ledger does not answer")
            if decision.code is Code.RUN_ENDED:
                # Its hold was taken before a crash, and released as nothing was started in time.
                self._finish(execution, files, TOO_LATE)
                return None
            refused = offers.with_what_fits(self.database, request, decision, now, policy)
            log.info("execution %s of schedule %s: refused: %s", execution.run_id, execution.schedule_id, refused.code)
            schedules.refuse(self.database, execution.run_id, refused, now)
            files.remove()
            return None
        return decision

    def _wait(self, request: Request, refused: Refused) -> Refused | None:
        """Return None when the request waits in the queue, else why it does not."""
        settings = self.home.settings
        limits = settings.queue_limits()
        joined = queue.join(self.database, request, Mode.START, self._now(), settings.policy(), limits)
        if isinstance(joined, Refused):
            return joined
        schedules.mark_waiting(self.database, request.run_id)
        log.info("execution %s waits in the queue: %s", request.run_id, refused.code)
        return None

    def _waited_in_vain(self, execution: Execution, files: RunFiles) -> bool:
        """Return whether the execution has ended, as its entry in the queue has, other than by its turn."""
        if execution.queue_state not in GIVEN_UP:
            return False
        place = queue_views.one(self.database, execution.run_id, self._now())
        if place is None:
            return False
        state, entry = GIVEN_UP[execution.queue_state], place.entry
        self._finish(execution, files, Verdict(state, entry.reason_en, entry.reason_ko))
        return True

    def _note_start(self, execution: Execution, files: RunFiles, started_at: float) -> None:
        """The ledger and the schedule know that the run has begun, and of what; repeating it changes nothing."""
        admission.started(self.database, execution.run_id, started_at)
        if execution.state is not ExecutionState.RUNNING and files.notebook.exists():
            output = snapshots.output_path(execution)
            schedules.mark_running(self.database, execution.run_id, notebook_sha256=files.sha256(), output=output)

    def _follow(self, execution: Execution, files: RunFiles, seen: Seen) -> Seen | None:
        """Return the run as it was seen at its end, still running when the platform stops, None when it is gone.

        While it is young the record is read often, as that costs nothing; the backend is asked seldom, except for a
        moment after the record says that the run has ended.
        """
        margin = min(HARD_MARGIN_SECONDS, self.home.settings.stop_margin_seconds)
        stop_at = (seen.started_at or self.clock()) + execution.timeout_seconds + margin
        began = time.monotonic()
        inspect_at = time.monotonic() + INSPECT_SECONDS
        quick_looks = QUICK_LOOKS
        while not self.stopping.is_set():
            ending = quick_looks > 0 and files.read_record().get("state", "running") != "running"
            if ending or time.monotonic() >= inspect_at:
                quick_looks -= ending
                inspect_at = time.monotonic() + INSPECT_SECONDS
                try:
                    found = self._look(execution.run_id, stop_at)
                except BackendAway as away:
                    log.warning("run %s: %s", execution.run_id, away)
                    found = seen
                if found is None or not found.running:
                    return found
                if found.started_at is not None and seen.started_at is None:  # it has waited for a machine
                    self._note_start(execution, files, found.started_at)
                    stop_at = found.started_at + execution.timeout_seconds + margin
                seen = found
            young = time.monotonic() - began < YOUNG_SECONDS
            self.stopping.wait(QUICK_PAUSE_SECONDS if ending or young else SLOW_PAUSE_SECONDS)
        return seen

    def _look(self, run_id: str, stop_at: float) -> Seen | None:
        """Ask the backend; a run beyond its last moment is stopped first."""
        if self.clock() > stop_at:
            self.backend.stop(run_id, STOP_GRACE_SECONDS)
        return self.backend.inspect(run_id)

    def _end(self, execution: Execution, files: RunFiles, seen: Seen | None) -> None:
        """The run is charged, what it left is kept, its end is recorded, and its traces in the backend are gone."""
        cell = failing_cell(files.read_record())
        verdict = judge(seen, cell, Circumstances(execution.timeout_seconds, self._stopped_for(execution, seen)))
        ended = Ended(None, None, verdict.outcome)
        if seen is not None:
            outcome = verdict.outcome if seen.started_at is not None else Outcome.FAILED_TO_START
            ended = Ended(seen.started_at, seen.finished_at, outcome, seen.exit_code)
        charge = admission.settle(self.database, execution.run_id, ended, self._now())
        if verdict is PREEMPTED and repeats.claim(self.database, execution.run_id, self._now()):
            verdict = RUN_AGAIN
        text = self.backend.log(execution.run_id, LOG_BYTES) if seen else ""
        output, verdict = self._keep(execution, files, text, verdict)
        finished = Finished(
            verdict.state,
            seen.exit_code if seen else None,
            verdict.reason_ko,
            verdict.reason_en,
            failing_cell=cell,
            log=text,
            output=output or "",
        )
        schedules.finish(self.database, execution.run_id, finished, self._now())
        log.info("run %s of schedule %s: %s, %s", execution.run_id, execution.schedule_id, verdict.state, charge)
        if seen is not None:
            self.backend.remove(execution.run_id)
        if output is not None:
            files.remove()

    def _stopped_for(self, execution: Execution, seen: Seen | None) -> Outcome | None:
        """Return why the platform stopped the run, if it did: as the ledger has it, or as the reconciling loop finds.

        The loop stops a run before it settles it, so that the end may be seen here first.
        """
        stored = runs.run(self.database, execution.run_id)
        if stored is None or seen is None or seen.exit_code not in STOPPED:
            return None
        if stored.outcome is not None:
            return stored.outcome
        now, policy = self._now(), self.home.settings.policy()
        found = admission.extend(self.database, execution.run_id, now, policy)
        if found.standing is Standing.CLOSED:  # the loop has settled it between the two looks
            settled = runs.run(self.database, execution.run_id)
            return settled.outcome if settled else None
        limit = found.limit
        if limit is Limit.RIGHTS:
            return Outcome.REVOKED
        if limit is Limit.PREEMPTED:  # before that moment it is somebody else who stops it
            return Outcome.PREEMPTED if found.stop_at is not None and found.stop_at <= now else None
        ran = (seen.finished_at or 0.0) - (seen.started_at or 0.0)
        return Outcome.LIMIT if limit or ran >= execution.timeout_seconds - SOFT_MARGIN_SECONDS else None

    def _keep(self, execution: Execution, files: RunFiles, text: str, verdict: Verdict) -> tuple[str | None, Verdict]:
        """Return where the output notebook now is ("" without one, None where it could not be kept), and the verdict.

        A success without an output that is kept is none.
        """
        folder = self.home.project_folder(execution.project)
        succeeded = verdict.state is ExecutionState.SUCCEEDED
        try:
            output = snapshots.keep(files, folder, snapshots.output_path(execution), text)
        except OSError as error:
            log.warning("run %s: its output stays in %s: %s", execution.run_id, files.folder, error)
            return None, not_kept(error.strerror or str(error)) if succeeded else verdict
        return output, verdict if output or not succeeded else NO_OUTPUT

    def _finish(self, execution: Execution, files: RunFiles, verdict: Verdict) -> None:
        """The execution ended before anything of it ran; what was held for it is released."""
        admission.settle(self.database, execution.run_id, Ended(None, None, Outcome.FAILED_TO_START), self._now())
        log.info("execution %s of schedule %s: %s", execution.run_id, execution.schedule_id, verdict)
        finished = Finished(verdict.state, reason_ko=verdict.reason_ko, reason_en=verdict.reason_en)
        schedules.finish(self.database, execution.run_id, finished, self._now())
        files.remove()


def _never_ran(seen: Seen) -> bool:
    """Whoever launched it was ended between its making and its start."""
    return not seen.running and seen.started_at is None and seen.exit_code is None


def _cannot(invalid: InvalidValue) -> Verdict:
    """Return the verdict on a schedule that cannot be run as things now are."""
    return Verdict(ExecutionState.FAILED, invalid.in_language("en"), invalid.in_language("ko"))
