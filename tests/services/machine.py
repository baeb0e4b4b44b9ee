"""Random walks over the real engine on a real database, beside the model in plain integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select

from quotas.domain.admission import Admitted, Decision, Request
from quotas.domain.extension import Standing
from quotas.domain.people import MembershipRole
from quotas.domain.policy import Policy
from quotas.domain.pools import CapacityPhase
from quotas.domain.priorities import Priority
from quotas.domain.projects import Award
from quotas.domain.rates import Precision, Rate, RateCard, RateRule
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.domain.units import PPM
from quotas.services import admission, awards, check, pools, projects, rates, refunds
from quotas.services.admission import Ended
from quotas.store.database import DatabaseAway, Prepared
from quotas.store.tables import accounts, allocations, metadata
from quotas.store.tables import projects as projects_table
from tests import centre as small
from tests.databases import Databases
from tests.services.faults import failing_after
from tests.services.model import Asked, Model, Project, Run

POLICY = Policy()
PEOPLE = ("pi", "member", "outsider")
DEVICES = {"cpu-small": None, "h100-1g": "h100-mig-1g.10gb", "h100": "h100"}
RATES = {"cpu-small": 50, "h100-1g": 8_109, "h100": 66_900}
WISH = st.sampled_from(["guaranteed", "guaranteed", "borrowed", "opportunistic"])
PICK = st.integers(0, 63)
"""Which of those there are; small numbers are the likely ones."""
AWARDS = st.fixed_dictionaries(
    {
        "gflops": st.sampled_from([50, 20_000, 140_000, 400_000]),
        "starts_in": st.sampled_from([-3_600, 0, 0, 0, 900]),
        "lasts": st.sampled_from([1_200, 7_200, 86_400, 30 * 86_400]),
        "burst_ppm": st.sampled_from([PPM, 4 * PPM]),
        "utilisation_ppm": st.sampled_from([PPM, PPM // 20, 1 + PPM // 3]),
    }
)


_OF_PROJECT = allocations.c.project_id == projects_table.c.id
_BALANCES = Prepared(
    select(projects_table.c.code, accounts.c.kind, accounts.c.balance)
    .select_from(accounts)
    .outerjoin(allocations, allocations.c.id == accounts.c.allocation_id)
    .outerjoin(projects_table, _OF_PROJECT)
)
_IN_USE = Prepared(
    select(projects_table.c.code, allocations.c.in_use_gflops, allocations.c.beyond_gflops).join(
        allocations, _OF_PROJECT
    )
)
_ALL = [Prepared(select(table)) for table in metadata.sorted_tables]


class Crash(Exception):  # noqa: N818 - it is what happens
    """The process ends here, as far as the engine can tell."""


class Machine(RuleBasedStateMachine):
    """Each rule does one thing to the engine and the same to the model; after each, both must say the same."""

    databases: Databases

    @initialize(drawn=AWARDS)
    def open_the_centre(self, drawn: dict[str, int]) -> None:
        self.database = self.databases.with_centre()
        self.centre = small.Centre(self.database)
        self.now = self.centre.now
        self.model = Model(
            profiles=DEVICES,
            cards=[(self.centre.starts_at, RATES)],
            phases={"h100": [(self.centre.starts_at, 4)], "h100-mig-1g.10gb": [(self.centre.starts_at, 7)]},
        )
        granted = small.award(self.centre)
        self._award("vision", granted, {"pi": "pi", "member": "member"})
        self.asked: list[Asked] = []
        self._grant(drawn)

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.databases.drop(self.database)

    def _award(self, code: str, award: Award, members: dict[str, str]) -> None:
        budget, ceiling = award.budget_gflops_seconds(), award.ceiling_gflops()
        self.model.award(Project(code, award.starts_at, award.ends_at, ceiling, budget, members))

    # Who may do what, and how much of it there is.

    def _project(self, pick: int, *, alive: bool = True) -> Project:
        """Return one of the projects: one that can run something, where there is one and it matters."""
        every = list(self.model.projects.values())
        running = [each for each in every if each.starts_at <= self.now and not each.is_over(self.now)]
        choice = running if alive and running and pick % 8 else every
        return choice[pick % len(choice)]

    def _run(self, pick: int) -> Asked:
        """Return what was asked once: of an open run, where there is one and the pick is not the eighth."""
        choice = [run.asked for run in self.model.open_runs()] if pick % 8 else []
        choice = choice or self.asked
        return choice[pick % len(choice)]

    @precondition(lambda self: len(self.model.projects) < 5)
    @rule(drawn=AWARDS)
    def grant(self, drawn: dict[str, int]) -> None:
        self._grant(drawn)

    def _grant(self, drawn: dict[str, int]) -> None:
        code = f"project-{len(self.model.projects)}"
        starts_at = self.now + drawn["starts_in"]
        award = Award(
            drawn["gflops"],
            Precision.FP32.value,
            starts_at,
            starts_at + drawn["lasts"],
            drawn["burst_ppm"],
            drawn["utilisation_ppm"],
        )
        if award.ends_at <= self.now:
            return
        projects.apply(self.database, small.application(self.centre, code), actor="pi", now=self.now)
        small.approve(self.centre, code, award, now=self.now, consent=True)
        self._award(code, award, {"pi": "pi"})

    @rule(pick=PICK, person=st.sampled_from(["member", "outsider"]), role=st.sampled_from(["member", "learner"]))
    def add_or_remove_member(self, pick: int, person: str, role: str) -> None:
        project = self._project(pick)
        if person in project.members:
            projects.remove_member(self.database, project.code, person, actor="pi", now=self.now)
            del project.members[person]
        elif not project.ended:
            projects.add_member(self.database, project.code, person, MembershipRole(role), actor="pi", now=self.now)
            project.members[person] = role

    @precondition(lambda self: len([each for each in self.model.projects.values() if not each.ended]) > 1)
    @rule(pick=PICK)
    def end_project(self, pick: int) -> None:
        project = self._project(pick)
        if not project.ended:
            projects.end(self.database, project.code, actor="operator", now=self.now)
            project.ended = True
            self.model.expire(project)

    @rule(pick=PICK)
    def suspend_or_resume(self, pick: int) -> None:
        project = self._project(pick)
        if project.is_over(self.now) or project.starts_at > self.now or pick % 3:
            return
        change = awards.resume if project.suspended else awards.suspend
        change(self.database, project.code, reason="drawn", actor="operator", now=self.now)
        project.suspended = not project.suspended

    @rule(factor=st.sampled_from([1, 3]), without=st.sampled_from([None, "cpu-small"]))
    def publish_rates(self, factor: int, without: str | None) -> None:
        if self.model.cards[-1][0] >= self.now:
            return
        card = {code: max(gflops // factor, 1) for code, gflops in RATES.items() if code != without}
        rows = tuple(Rate(code, gflops, RateRule.ASSIGNED, "drawn", "operator") for code, gflops in card.items())
        version = len(self.model.cards) + 1
        rates.publish(self.database, RateCard(version, self.now, Precision.FP32, rows), actor="operator", now=self.now)
        self.model.cards.append((self.now, card))

    @rule(
        model=st.sampled_from(["h100", "h100-mig-1g.10gb"]), healthy=st.integers(0, 3), ahead=st.sampled_from([0, 900])
    )
    def change_phase(self, model: str, healthy: int, ahead: int) -> None:
        from_at = self.now + ahead
        if any(begun == from_at for begun, _ in self.model.phases[model]):
            return
        pools.add_phase(
            self.database, "main", CapacityPhase(model, from_at, 5, 5, healthy), actor="operator", now=self.now
        )
        self.model.phases[model].append((from_at, healthy))

    @rule(seconds=st.sampled_from([1, 59, 600, 900, 1_800, 3_600]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @precondition(lambda self: self.model.runs)
    @rule(seconds=st.sampled_from([7_200, 86_400, 14 * 86_400]))
    def wait_long(self, seconds: int) -> None:
        self.now += seconds

    # Runs.

    @rule(pick=PICK, person=st.sampled_from(PEOPLE), profile=st.sampled_from(list(DEVICES)), wish=WISH)
    def ask_for_a_notebook(self, pick: int, person: str, profile: str, wish: str) -> None:
        self._ask(pick, person, profile, None, wish)

    @rule(
        pick=PICK,
        person=st.sampled_from(PEOPLE),
        profile=st.sampled_from(list(DEVICES)),
        seconds=st.sampled_from([1, 600, 7_200]),
        wish=WISH,
    )
    def ask_for_a_batch_run(self, pick: int, person: str, profile: str, seconds: int, wish: str) -> None:
        self._ask(pick, person, profile, seconds, wish)

    def _ask(self, pick: int, person: str, profile: str, seconds: int | None, wish: str) -> None:
        kind, project = RunKind.NOTEBOOK if seconds is None else RunKind.BATCH, self._project(pick)
        if pick % 4 and person not in project.members:
            person = next(iter(project.members))
        self.asked.append(Asked(new_run_id(), kind.value, person, project.code, profile, seconds, wish))
        self._reserve(self.asked[-1])

    @precondition(lambda self: self.asked)
    @rule(pick=PICK)
    def ask_again(self, pick: int) -> None:
        self._reserve(self._run(pick))

    def _reserve(self, asked: Asked) -> None:
        expected = self.model.decide(asked, self.now)
        self._compare(self._call_reserve(asked), expected)
        if isinstance(expected, Run):
            self.model.admit(expected)

    def _call_reserve(self, asked: Asked) -> Decision:
        who = RunKind(asked.kind), asked.person, asked.project, asked.profile
        request = Request(asked.run_id, *who, asked.seconds, "machine", Priority(asked.wish))
        return admission.reserve(self.database, request, self.now, POLICY)

    @staticmethod
    def _compare(decision: Decision, expected: Run | str) -> None:
        if isinstance(expected, str):
            assert isinstance(decision, Refused)
            assert decision.code == expected
            return
        assert isinstance(decision, Admitted), decision
        assert (decision.amount, decision.until_at) == (expected.amount, expected.until_at)
        assert (decision.gflops, decision.device_model) == (expected.gflops, expected.model)
        assert (decision.priority.value, decision.ends_by) == (expected.priority, expected.ends_by)

    @precondition(lambda self: self.asked)
    @rule(pick=PICK)
    def start(self, pick: int) -> None:
        asked = self._run(pick)
        admission.started(self.database, asked.run_id, self.now)
        run = self.model.runs.get(asked.run_id)
        if run is not None and run.is_open and run.started_at is None:
            run.started_at = run.seen_at = self.now

    @precondition(lambda self: self.asked)
    @rule(pick=PICK)
    def see(self, pick: int) -> None:
        asked = self._run(pick)
        admission.seen(self.database, asked.run_id, self.now)
        run = self.model.runs.get(asked.run_id)
        if run is not None and run.is_open:
            run.seen_at = self.now

    @precondition(lambda self: self.asked)
    @rule(pick=PICK)
    def extend(self, pick: int) -> None:
        asked = self._run(pick)
        extension = admission.extend(self.database, asked.run_id, self.now, POLICY)
        if asked.run_id in self.model.runs:
            expected = self.model.extend(self.model.runs[asked.run_id], self.now)
            assert (extension.standing.value, extension.until_at) == expected
        else:
            assert extension.standing is Standing.CLOSED

    @rule()
    def extend_all(self) -> None:
        for run in self.model.open_runs():
            extension = admission.extend(self.database, run.asked.run_id, self.now, POLICY)
            assert (extension.standing.value, extension.until_at) == self.model.extend(run, self.now)

    @precondition(lambda self: self.asked)
    @rule(pick=PICK, how=st.sampled_from(["stopped", "stopped", "lost", "never", "early clock", "late clock"]))
    def settle(self, pick: int, how: str) -> None:
        asked = self._run(pick)
        self._settle(asked.run_id, self._ended(asked.run_id, how))

    @precondition(lambda self: self.asked)
    @rule(pick=PICK)
    def settle_twice(self, pick: int) -> None:
        asked = self._run(pick)
        for how in ("stopped", "never"):
            self._settle(asked.run_id, self._ended(asked.run_id, how))

    def _ended(self, run_id: str, how: str) -> Ended:
        run = self.model.runs.get(run_id)
        began = None if run is None or how == "never" else (run.started_at or run.opened_at)
        end = {"lost": None, "never": None, "late clock": self.now * 1000}.get(how, self.now)
        if how == "early clock" and began is not None:
            began -= 86_400
        return Ended(began, end, Outcome.STOPPED)

    def _settle(self, run_id: str, ended: Ended) -> None:
        charge = admission.settle(self.database, run_id, ended, self.now)
        run = self.model.runs.get(run_id)
        if run is None:
            assert charge is None
            return
        was_open = run.is_open
        self.model.settle(run, *self._whole(ended), self.now)
        assert charge == admission.Charge(run_id, run.seconds, run.charge, run.overrun, settled_now=was_open)

    @staticmethod
    def _whole(ended: Ended) -> tuple[int | None, int | None]:
        began = None if ended.started_at is None else int(ended.started_at)
        return began, None if ended.finished_at is None else int(ended.finished_at)

    @rule()
    def expire(self) -> None:
        assert refunds.expire_ended(self.database, self.now) == self.model.expire_ended(self.now)

    @precondition(lambda self: self.asked)
    @rule(pick=PICK, share=st.sampled_from([1, 2, 3]), key=st.sampled_from([None, "ticket"]))
    def refund(self, pick: int, share: int, key: str | None) -> None:
        asked = self._run(pick)
        run = self.model.runs.get(asked.run_id)
        paid = run.charge - run.overrun - run.refunded if run is not None else 0
        if run is None or paid // share == 0 or (key and run.refunded):
            return
        amount = paid // share
        for _ in range(2 if key else 1):
            refunds.refund_charge(
                self.database, asked.run_id, amount, reason="drawn", actor="operator", now=self.now, key=key
            )
        self.model.refund(run, amount, self.now)

    # What goes wrong in between.

    @precondition(lambda self: self.asked)
    @rule(pick=PICK, statement=st.integers(1, 16), what=st.sampled_from(["reserve", "extend", "settle", "expire"]))
    def crash(self, pick: int, statement: int, what: str) -> None:
        """The process ends after any statement: all is as before, and the same again does what it should have."""
        asked = self._run(pick)
        self._crash(asked, statement, what, Crash("here"))

    @precondition(lambda self: self.asked)
    @rule(pick=PICK, statement=st.integers(1, 16), what=st.sampled_from(["reserve", "extend", "settle"]))
    def database_away(self, pick: int, statement: int, what: str) -> None:
        """The database stops answering after any statement: nothing is held, nothing is charged."""
        asked = self._run(pick)
        self._crash(asked, statement, what, DatabaseAway("here"))

    def _crash(self, asked: Asked, statement: int, what: str, error: Exception) -> None:
        calls: dict[str, Callable[[], Any]] = {
            "reserve": lambda: self._call_reserve(replace(asked, run_id=new_run_id())),
            "extend": lambda: admission.extend(self.database, asked.run_id, self.now, POLICY),
            "settle": lambda: admission.settle(
                self.database, asked.run_id, self._ended(asked.run_id, "stopped"), self.now
            ),
            "expire": lambda: refunds.expire_ended(self.database, self.now),
        }
        before = self._stored()
        with failing_after(statement, error) as reached:
            try:
                answer = calls[what]()
            except type(error):
                answer = None
        if not reached():
            self._done_after_all(asked, what, answer)
            return
        assert answer is None or (isinstance(answer, Refused) and answer.code is Code.LEDGER_AWAY)
        if what == "expire":  # several transactions, each whole; the next call does the rest
            refunds.expire_ended(self.database, self.now)
            self.model.expire_ended(self.now)
        else:
            assert self._stored() == before

    def _done_after_all(self, asked: Asked, what: str, answer: Any) -> None:
        """The call had fewer statements than that, and was done."""
        run = self.model.runs.get(asked.run_id)
        if what == "reserve":
            new = answer.run_id if isinstance(answer, Admitted) else new_run_id()
            expected = self.model.decide(replace(asked, run_id=new), self.now)
            self._compare(answer, expected)
            if isinstance(expected, Run):
                self.model.admit(expected)
        elif what == "extend" and run is not None:
            self.model.extend(run, self.now)
        elif what == "settle" and run is not None:
            self.model.settle(run, *self._whole(self._ended(asked.run_id, "stopped")), self.now)
        elif what == "expire":
            self.model.expire_ended(self.now)

    def _stored(self) -> list[list[Any]]:
        with self.database.read() as transaction:
            return [transaction.rows(statement) for statement in _ALL]

    # What must be so, always.

    @invariant()
    def nothing_is_found(self) -> None:
        assert check.findings(self.database, self.now) == []

    @invariant()
    def the_store_says_what_the_model_says(self) -> None:
        with self.database.read() as transaction:
            rows = transaction.rows(_BALANCES)
            in_use = {row.code: (row.in_use_gflops, row.beyond_gflops) for row in transaction.rows(_IN_USE)}
        stored: dict[str | None, dict[str, int]] = {}
        for row in rows:
            stored.setdefault(row.code, {})[row.kind] = row.balance
        assert stored.pop(None) == {"issuance": self.model.issuance, "overrun": self.model.overrun}
        assert stored == {code: project.balances() for code, project in self.model.projects.items()}
        assert in_use == {code: (project.in_use, project.beyond) for code, project in self.model.projects.items()}
