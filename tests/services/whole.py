"""Random walks over all that the engine does, on a real database: after each step everything that must be so, is so.

Beside :mod:`tests.services.machine`, which knows what each answer must be, this machine knows only what must hold of
any. It does what the loop beside the hub does, and what people, instructors, reviewers and operators do between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import bindparam, select

from quotas.domain.admission import Admitted, Request
from quotas.domain.awards import Programme
from quotas.domain.changes import Change, ChangeKind
from quotas.domain.extension import Standing
from quotas.domain.months import month_of
from quotas.domain.outcomes import Period
from quotas.domain.people import MembershipRole
from quotas.domain.policy import Policy
from quotas.domain.pools import CapacityPhase
from quotas.domain.priorities import Priority
from quotas.domain.projects import ProjectKind
from quotas.domain.queue import WAITABLE, EntryState, Mode
from quotas.domain.rates import Precision
from quotas.domain.recalls import Decision, RecallPolicy
from quotas.domain.refusals import Refused
from quotas.domain.renewals import Wish
from quotas.domain.reservations import Asked
from quotas.domain.runs import Limit, Outcome, RunKind
from quotas.domain.units import DAY_SECONDS, HOUR_SECONDS, PPM, InvalidValue
from quotas.services import (
    admission,
    awards,
    changes,
    check,
    copayments,
    outcomes,
    people,
    periodic,
    pools,
    pressure,
    projects,
    queue,
    queue_steps,
    queue_views,
    recall_steps,
    recalls,
    refunds,
    renewals,
    reservation_windows,
    reservations,
)
from quotas.services.admission import Ended
from quotas.store import runs as runs_store
from quotas.store.database import Prepared, Row
from quotas.store.tables import profiles as profiles_table
from quotas.store.tables import reservation_windows as reservation_windows_table
from tests import centre as small
from tests.databases import Databases

POLICY = Policy()
PROGRAMME = Programme(Precision.FP32.value, 10 * PPM, consent=True)
RECALLS = RecallPolicy(threshold_ppm=PPM, months=1, objection_seconds=DAY_SECONDS)
PEOPLE = ("pi", "member", "outsider", "ada", "bob")
PROFILES = ("cpu-small", "h100-1g", "h100-1g", "h100")
PROFILE = st.sampled_from(PROFILES)
MODELS = ("h100", "h100-mig-1g.10gb")
WISH = st.sampled_from([Priority.GUARANTEED, Priority.GUARANTEED, Priority.BORROWED, Priority.OPPORTUNISTIC])
PICK = st.integers(0, 63)
Result = TypeVar("Result")
_NEXT_WINDOW = Prepared(
    select(reservation_windows_table.c.opens_at, profiles_table.c.code.label("profile"))
    .join(profiles_table, profiles_table.c.id == reservation_windows_table.c.profile_id)
    .where(
        reservation_windows_table.c.state.in_(["scheduled", "open"]),
        reservation_windows_table.c.ends_at > bindparam("now"),
    )
    .order_by(reservation_windows_table.c.opens_at)
    .limit(1)
)


class Whole(RuleBasedStateMachine):
    """`done` counts, over all walks, what was really done: a walk in which all is refused proves nothing."""

    databases: Databases
    done: ClassVar[Counter[str]] = Counter()

    @initialize()
    def open_the_centre(self) -> None:
        self.database = self.databases.with_centre()
        self.centre = small.Centre(self.database)
        self.now = self.centre.now
        self.codes = ["vision"]
        self.entries: list[str] = []
        self.asked = 0
        for person in ("ada", "bob"):
            by = {"actor": "operator", "now": self.now}
            people.add_person(self.database, person, person, organisation="lab", **by)
            projects.add_member(self.database, "vision", person, MembershipRole.MEMBER, **by)
        self._class("course")
        for code in self.codes:
            self._change("lasting", code, Change(ChangeKind.EXTENSION, ends_at=self.now + 200 * DAY_SECONDS))

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.databases.drop(self.database)

    def _class(self, code: str) -> None:
        asked = small.application(self.centre, code, kind=ProjectKind.COURSE)
        projects.apply(self.database, asked, actor="pi", now=self.now)
        small.approve(self.centre, code, now=self.now, consent=True)
        for person in ("member", "outsider", "ada"):
            projects.add_member(self.database, code, person, MembershipRole.LEARNER, actor="pi", now=self.now)
        self.codes.append(code)

    def _try(self, name: str, call: Callable[..., Result], *arguments: object, **named: object) -> Result | None:
        """Return the result of the call on this centre's database; None when its input was refused, as it may be."""
        try:
            result = call(self.database, *arguments, **named)
        except InvalidValue:
            return None
        self.done[name] += 1
        return result

    def _open(self) -> list[Row]:
        with self.database.read() as transaction:
            return [row for row in runs_store.open_runs(transaction) if row.kind != RunKind.SEATS.value]

    # Time, and the loop.

    @rule(seconds=st.sampled_from([20, 300, 600, 900, 1_500, 1_800]))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        self._tick()

    @rule(pick=PICK, seconds=st.sampled_from([HOUR_SECONDS, 6 * HOUR_SECONDS, DAY_SECONDS]))
    def the_loop_was_away(self, pick: int, seconds: int) -> None:
        """Now and then for weeks, so that awards end and months can be looked back on."""
        self.now += seconds if pick % 8 else 50 * DAY_SECONDS

    @rule()
    def until_a_window_opens(self) -> None:
        """The class comes: all of its learners start at once."""
        with self.database.read() as transaction:
            coming = transaction.one(_NEXT_WINDOW, now=self.now)
        if coming is None or coming.opens_at > self.now + 2 * DAY_SECONDS:
            return
        self.now = max(coming.opens_at, self.now)
        self._tick()
        for person in ("member", "outsider", "ada"):
            self._ask(1, person, coming.profile, None, Priority.GUARANTEED)

    @rule()
    def go_round(self) -> None:
        self._tick()

    def _tick(self) -> None:
        """What the loop does in one round, in its order."""
        self.done.update(
            {f"window {name}": n for name, n in reservation_windows.tick(self.database, self.now, POLICY).items()}
        )
        self.done["pressure"] += pressure.relieve(self.database, self.now, POLICY)
        for row in self._open():
            extension = admission.extend(self.database, row.id, self.now, POLICY)
            self.done[f"extension {extension.standing.value}"] += 1
            if (
                extension.standing is Standing.ENDING
                and extension.stop_at is not None
                and extension.stop_at <= self.now
            ):
                outcome = Outcome.PREEMPTED if extension.limit is Limit.PREEMPTED else Outcome.LIMIT
                self._end(row, outcome)
        refunds.expire_ended(self.database, self.now)
        self.done.update({f"queue {name}": n for name, n in queue_steps.step(self.database, self.now, POLICY).items()})
        periodic.run(self.database, periodic.jobs(RECALLS), self.now)

    def _end(self, row: Row, outcome: Outcome) -> None:
        waits = row.state == "held" and row.id in self.entries
        if waits:
            entry = queue_views.one(self.database, row.id, self.now)
            if entry is not None and entry.entry.state is EntryState.TURN:
                return  # the queue gives it back
        began = row.started_at
        ended = Ended(began, None if began is None else max(self.now, began), outcome)
        admission.settle(self.database, row.id, ended, self.now)
        self.done[f"ended {outcome.value} {row.priority}"] += 1

    # People.

    @rule(pick=PICK, asked=st.lists(st.tuples(st.sampled_from(PEOPLE), PROFILE, WISH), min_size=1, max_size=5))
    def start(self, pick: int, asked: list[tuple[str, str, Priority]]) -> None:
        for number, (person, profile, wish) in enumerate(asked):
            self._ask(0 if number else pick, person, profile, None, wish)

    @rule(wish=WISH)
    def everybody_starts_the_largest(self, wish: Priority) -> None:
        for number, person in enumerate(PEOPLE):
            self._ask(2 * number, person, "h100", None, wish)

    @rule(pick=PICK, profile=st.sampled_from(PROFILES), seconds=st.sampled_from([600, 7_200, 40_000]), wish=WISH)
    def run_a_batch(self, pick: int, profile: str, seconds: int, wish: Priority) -> None:
        self._ask(pick, "pi", profile, seconds, wish)

    def _ask(self, pick: int, person: str, profile: str, seconds: int | None, wish: Priority) -> None:
        kind = RunKind.NOTEBOOK if seconds is None else RunKind.BATCH
        code = self.codes[pick % len(self.codes)]
        self.asked += 1
        request = Request(
            f"{self.asked:08x}-0000-7000-8000-000000000000", kind, person, code, profile, seconds, "whole", wish
        )
        decision = queue.start(self.database, request, self.now, POLICY)
        if isinstance(decision, Admitted):
            self.done[f"admitted {decision.priority.value}"] += 1
            if pick % 4:
                admission.started(self.database, decision.run_id, self.now)
        elif decision.code in WAITABLE and pick % 3:
            mode = Mode.START if pick % 2 else Mode.OFFER
            entry = self._try("joined", queue.join, request, mode, self.now, POLICY)
            if entry is not None and not isinstance(entry, Refused):
                self.entries.append(entry.run_id)

    @rule(pick=PICK)
    def somebody_waits(self, pick: int) -> None:
        """For what may all be lent to others."""
        self._ask(4 * pick + 1, "pi", "h100", None, Priority.GUARANTEED)
        self._tick()

    @precondition(lambda self: self.entries)
    @rule(pick=PICK)
    def take_or_leave_a_turn(self, pick: int) -> None:
        places = queue_views.every(self.database, self.now)
        if not places:
            return
        turns = [place.entry for place in places if place.entry.state is EntryState.TURN]
        choice = turns or [place.entry for place in places]
        entry = choice[pick % len(choice)]
        if turns and pick % 4:
            self._try("turn taken", queue.take, entry.run_id, person=entry.person, now=self.now)
            admission.started(self.database, entry.run_id, self.now)
        else:
            self._try("left the queue", queue.cancel, entry.run_id, actor=entry.person, now=self.now)

    @rule(pick=PICK, outcome=st.sampled_from([Outcome.STOPPED, Outcome.EXITED, Outcome.FAILED_TO_START]))
    def stop(self, pick: int, outcome: Outcome) -> None:
        rows = self._open()
        if rows:
            self._end(rows[pick % len(rows)], outcome)

    @rule(pick=PICK)
    def refund(self, pick: int) -> None:
        with self.database.read() as transaction:
            charged = [row for row in runs_store.latest(transaction, None, 20) if row.charge]
        if charged:
            row = charged[pick % len(charged)]
            amount = max(row.charge // 3, 1)
            self._try("refunded", refunds.refund_charge, row.id, amount, reason="drawn", actor="operator", now=self.now)

    # Operators: devices.

    @rule(model=st.sampled_from(MODELS), count=st.integers(1, 3))
    def drain(self, model: str, count: int) -> None:
        self._try(
            "drained",
            pools.drain,
            "main",
            model,
            count,
            "drawn",
            actor="operator",
            now=self.now,
        )

    @rule(pick=PICK)
    def undrain(self, pick: int) -> None:
        drains = pools.open_drains(self.database)
        if drains:
            drain = drains[pick % len(drains)].id
            self._try("undrained", pools.undrain, drain, actor="operator", now=self.now)

    @rule(model=st.sampled_from(MODELS), healthy=st.integers(0, 7), ahead=st.sampled_from([0, 1_200, 7_200]))
    def change_phase(self, model: str, healthy: int, ahead: int) -> None:
        phase = CapacityPhase(model, self.now + ahead, 7, 7, healthy)
        self._try("phase added", pools.add_phase, "main", phase, actor="operator", now=self.now)

    # Instructors: seats.

    @rule(
        seats=st.integers(1, 5),
        ahead=st.sampled_from([700, 1_800, 7_200, DAY_SECONDS]),
        charge_idle=st.booleans(),
        profile=st.sampled_from(["h100-1g", "h100-1g", "h100"]),
        rrule=st.sampled_from([None, None, "FREQ=DAILY;COUNT=3"]),
        leave_out=st.booleans(),
    )
    def reserve_seats(
        self, seats: int, ahead: int, charge_idle: bool, profile: str, rrule: str | None, leave_out: bool
    ) -> None:
        asked = Asked(
            "course", profile, seats, "Asia/Seoul", self.now + ahead, 3_600, "수업", "Class", rrule, charge_idle
        )
        found = self._try("seats asked for", reservations.request, asked, by="pi", now=self.now, policy=POLICY)
        if found is not None:
            number, approval = found[0].number, reservations.Approval(leave_out=leave_out)
            self._try(
                "seats approved",
                reservations.approve,
                number,
                approval,
                actor="operator",
                now=self.now,
                policy=POLICY,
            )

    @rule(pick=PICK)
    def cancel_a_reservation(self, pick: int) -> None:
        self._try(
            "seats cancelled",
            reservations.cancel,
            pick % 4 + 1,
            reason="drawn",
            actor="operator",
            now=self.now,
        )

    # Reviewers: awards.

    def _change(self, name: str, code: str, change: Change) -> None:
        self._try(
            name,
            changes.apply_directly,
            code,
            change,
            reason="drawn",
            programme=PROGRAMME,
            actor="operator",
            now=self.now,
        )

    @rule(pick=PICK, amount=st.sampled_from([10**6, 10**9, 10**11]), kind=st.sampled_from(list(ChangeKind)))
    def change_an_award(self, pick: int, amount: int, kind: ChangeKind) -> None:
        code, other = self.codes[pick % 2], self.codes[1 - pick % 2]
        change = {
            ChangeKind.SUPPLEMENT: Change(ChangeKind.SUPPLEMENT, gflops=20_000)
            if pick % 3
            else Change(ChangeKind.SUPPLEMENT, amount=amount),
            ChangeKind.EXTENSION: Change(ChangeKind.EXTENSION, ends_at=self.now + 40 * DAY_SECONDS),
            ChangeKind.REDUCTION: Change(ChangeKind.REDUCTION, gflops=10_000)
            if pick % 3
            else Change(ChangeKind.REDUCTION, amount=amount),
            ChangeKind.MOVE: Change(ChangeKind.MOVE, amount=amount, to_project=other),
        }[kind]
        self._change(kind.value, code, change)

    @rule(pick=PICK)
    def suspend_or_resume(self, pick: int) -> None:
        """Who is suspended is not for long, so that there is something to see."""
        for code in self.codes:
            self._try("resumed", awards.resume, code, reason="drawn", actor="operator", now=self.now)
        code = self.codes[pick % len(self.codes)]
        call = awards.suspend
        if pick % 3:
            return
        self._try(
            "suspended",
            call,
            code,
            reason="drawn",
            actor="operator",
            now=self.now,
        )

    @precondition(lambda self: len(self.codes) < 6)
    @rule(pick=PICK)
    def revoke_or_end(self, pick: int) -> None:
        """A new project comes with it, so that there is always something to do."""
        if pick % 4:
            return
        code = self.codes[pick % len(self.codes)]
        if pick % 8:
            self._try(
                "revoked",
                awards.revoke,
                code,
                reason="drawn",
                confirm=code,
                actor="operator",
                now=self.now,
            )
        else:
            self._try("project ended", projects.end, code, actor="operator", now=self.now)
        new = f"project-{len(self.codes)}"
        ends_at = self.now + 29 * DAY_SECONDS
        asked = small.application(self.centre, new, starts_at=self.now, ends_at=ends_at)
        projects.apply(self.database, asked, actor="pi", now=self.now)
        given = small.award(self.centre, starts_at=self.now, ends_at=ends_at)
        half = (PPM // 2, PPM - PPM // 2)
        small.approve(self.centre, new, given, now=self.now, consent=True, tranches_ppm=half)
        self.codes.append(new)

    @precondition(lambda self: len(self.codes) > 2)
    @rule(pick=PICK)
    def report(self, pick: int) -> None:
        """What is due is written and decided: verified as a rule, which releases a tranche."""
        period = Period(self.now - 2 * HOUR_SECONDS, self.now - HOUR_SECONDS)
        for found in outcomes.list_reports(self.database, self.now):
            self._try("report drafted", outcomes.draft, found.id, period, "x", actor="pi", now=self.now)
            self._try("report submitted", outcomes.submit, found.id, actor="pi", now=self.now)
            if pick % 4:
                self._try("report verified", outcomes.verify, found.id, actor="operator", now=self.now)

    @rule(pick=PICK)
    def renew(self, pick: int) -> None:
        code = self.codes[pick % len(self.codes)]
        wish = Wish(100_000, Precision.FP32.value, self.now + 90 * DAY_SECONDS)
        filed = self._try(
            "renewal filed",
            renewals.file,
            code,
            wish,
            reason="drawn",
            actor="pi",
            now=self.now,
        )
        if filed is None:
            return
        given = renewals.Given()
        self._try("renewal submitted", renewals.submit, filed.id, actor="pi", now=self.now)
        self._try("renewal reviewed", renewals.review, filed.id, actor="operator", now=self.now)
        self._try(
            "renewal approved",
            renewals.approve,
            filed.id,
            given,
            reason="drawn",
            programme=PROGRAMME,
            actor="operator",
            now=self.now,
        )

    @rule(pick=PICK)
    def recall(self, pick: int) -> None:
        for found in recalls.list_recalls(self.database):
            self._try("objected", recall_steps.object_to, found.id, "no", person="pi", now=self.now)
            decision = (Decision.UPHELD, Decision.WITHDRAWN)[pick % 2]
            self._try(
                f"recall {decision.value}",
                recall_steps.decide,
                found.id,
                decision,
                reason="drawn",
                by="operator",
                now=self.now,
            )
            self._try(
                "recall executed",
                recall_steps.execute,
                found.id,
                actor="operator",
                now=self.now,
            )

    @precondition(lambda self: self.now > self.centre.now + 5 * DAY_SECONDS)
    @rule()
    def close_the_month(self) -> None:
        before = month_of(self.now - 31 * DAY_SECONDS)
        self._try("month closed", copayments.close, before, actor="operator", now=self.now)

    # What must be so, always.

    @invariant()
    def nothing_is_found(self) -> None:
        if hasattr(self, "database"):
            assert check.findings(self.database, self.now) == []
