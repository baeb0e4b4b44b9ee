"""A project's life: applied for, decided, run by its members, ended."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from quotas.domain.admission import Admitted
from quotas.domain.ledger import replay
from quotas.domain.people import MembershipRole
from quotas.domain.pools import CapacityPhase
from quotas.domain.projects import Phase, ProjectKind, ProjectState
from quotas.domain.refusals import Refused
from quotas.domain.runs import Outcome
from quotas.domain.units import DAY_SECONDS, LARGEST, PPM, InvalidValue
from quotas.services import admission, pools, projects
from quotas.services.refunds import expire_ended
from quotas.store import ledger as ledger_store
from quotas.store.database import Database
from quotas.store.tables import accounts, transfers
from tests.centre import Centre, application, applied, approve, award, events, shown, start


def check_ledger(database: Database) -> None:
    """Every balance is what its transfers come to, and all of them come to zero."""
    with database.read() as transaction:
        rows = transaction.rows(transfers.select())
        balances = {row.id: row.balance for row in transaction.rows(accounts.select())}
    replayed = replay((row.debit_account_id, row.credit_account_id, row.amount) for row in rows)
    assert {account: balance for account, balance in balances.items() if balance} == {
        account: balance for account, balance in replayed.items() if balance
    }
    assert sum(balances.values()) == 0


class TestApplying:
    """An application waits for a decision."""

    def test_waits_with_its_applicant_as_pi(self, seeded: Centre) -> None:
        view = applied(seeded, "drone", kind=ProjectKind.COURSE)
        assert view == shown(seeded, "drone")
        assert (view.state, view.phase, view.kind) == (ProjectState.APPLIED, Phase.APPLIED, ProjectKind.COURSE)
        assert view.members == (("pi", "Pi", MembershipRole.PI),)
        assert (view.requested_gflops, view.gflops, view.granted) == (seeded.gflops, None, 0)
        assert events(seeded, "drone") == ["project applied for"]

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"code": "vision"}, "project"),
            ({"code": "Vision"}, "project"),
            ({"code": "x" * 31}, "project"),
            ({"code": "a--b"}, "project"),
            ({"title_ko": ""}, "title_ko"),
            ({"title_en": "x" * 301}, "title_en"),
            ({"organisation": "nowhere"}, "organisation"),
            ({"gflops": 0}, "award"),
            ({"gflops": -1}, "award"),
            ({"gflops": 2**63}, "award"),
            ({"gflops": True}, "award"),
            ({"gflops": LARGEST // DAY_SECONDS}, "award budget"),
            ({"precision": "fp31"}, "precision"),
            ({"ends_at": 1_799_913_600}, "ends"),
            ({"ends_at": 5}, "ends"),
            ({"starts_at": 0}, "starts"),
            ({"gflops": 1, "ends_at": 2**60}, "ends"),
        ],
    )
    def test_of_what_cannot_be_is_refused_and_nothing_is_kept(
        self, seeded: Centre, changes: dict[str, object], field: str
    ) -> None:
        before = projects.list_projects(seeded.database, seeded.now)
        with pytest.raises(InvalidValue) as refused:
            applied(seeded, **({"code": "drone"} | changes))
        assert refused.value.field == field
        assert refused.value.message_ko
        assert projects.list_projects(seeded.database, seeded.now) == before

    def test_needs_a_known_person(self, seeded: Centre) -> None:
        with pytest.raises(InvalidValue) as refused:
            projects.apply(seeded.database, application(seeded, "drone"), actor="nobody", now=seeded.now)
        assert refused.value.field == "applicant"

    def test_once_of_many_at_the_same_time_gets_the_code(self, seeded: Centre) -> None:
        def attempt(_: int) -> bool:
            try:
                applied(seeded, "drone")
            except InvalidValue:
                return False
            return True

        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(attempt, range(8))) == 1


class TestApproving:
    """An approval grants the award in the ledger."""

    def test_grants_the_budget_and_offers_the_profiles(self, seeded: Centre) -> None:
        applied(seeded, "drone")
        given = award(seeded, gflops=100_000, burst_ppm=2 * PPM, utilisation_ppm=PPM // 2)
        view = approve(seeded, "drone", given, profiles=["h100", "cpu-small", "h100"], reason=" good ")
        budget = 100_000 * 30 * DAY_SECONDS // 2
        assert (view.state, view.phase) == (ProjectState.APPROVED, Phase.ACTIVE)
        assert (view.granted, view.available, view.held, view.spent, view.expired) == (budget, budget, 0, 0, 0)
        assert (view.gflops, view.precision, view.ceiling_gflops, view.in_use_gflops) == (100_000, "fp32", 200_000, 0)
        assert view.profiles == ("cpu-small", "h100")
        assert (view.decision_reason, view.decided_by, view.decided_at) == ("good", "operator", seeded.now)
        with seeded.database.read() as transaction:
            journal = ledger_store.journal(transaction, "drone")
        assert [(row.kind, row.debit, row.credit, row.amount) for row in journal] == [
            ("grant", "issuance", "available", budget)
        ]
        assert events(seeded, "drone") == ["project applied for", "project approved"]
        check_ledger(seeded.database)

    def test_of_a_later_award_schedules_it(self, seeded: Centre) -> None:
        applied(seeded, "drone")
        approve(seeded, "drone", award(seeded, starts_at=seeded.now + 10, ends_at=seeded.now + 20))
        assert [shown(seeded, "drone", seeded.now + after).phase for after in (0, 9, 10, 19, 20)] == [
            Phase.SCHEDULED,
            Phase.SCHEDULED,
            Phase.ACTIVE,
            Phase.ACTIVE,
            Phase.GRACE,
        ]

    def test_at_another_precision_is_refused_with_the_programmes(self, seeded: Centre) -> None:
        applied(seeded, "drone")
        with pytest.raises(InvalidValue, match="the programme counts in fp32") as refused:
            approve(seeded, "drone", award(seeded, precision="fp16"))
        assert refused.value.field == "precision"

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"ends_at": 1_799_913_600}, "ends"),
            ({"ends_at": 1_799_913_599}, "ends"),
            ({"starts_at": 1, "ends_at": 1_799_999_999}, "ends"),
            ({"gflops": 0}, "award"),
            ({"gflops": -5}, "award"),
            ({"gflops": 2**63}, "award"),
            ({"gflops": LARGEST // DAY_SECONDS}, "award budget"),
            ({"burst_ppm": 0}, "burst_ppm"),
            ({"gflops": 10**9, "burst_ppm": LARGEST}, "award ceiling"),
            ({"utilisation_ppm": -1}, "utilisation_ppm"),
            ({"gflops": 1, "ends_at": 2**60}, "ends"),
        ],
    )
    def test_of_an_award_that_cannot_be_is_refused(
        self, seeded: Centre, changes: dict[str, object], field: str
    ) -> None:
        applied(seeded, "drone")
        with pytest.raises(InvalidValue) as refused:
            approve(seeded, "drone", award(seeded, **changes))
        assert refused.value.field == field
        assert shown(seeded, "drone").state is ProjectState.APPLIED

    def test_with_an_unknown_profile_changes_nothing(self, seeded: Centre) -> None:
        applied(seeded, "drone")
        before = shown(seeded, "drone")
        with pytest.raises(InvalidValue, match="there is no 'h900'") as refused:
            approve(seeded, "drone", profiles=["h100", "h900"])
        assert refused.value.field == "profile"
        assert shown(seeded, "drone") == before
        check_ledger(seeded.database)

    def test_beyond_the_largest_sum_of_the_ledger_is_refused(self, seeded: Centre) -> None:
        half = award(seeded, gflops=LARGEST // (30 * DAY_SECONDS) * 6 // 10)
        for code in ("drone", "robot"):
            applied(seeded, code)
        approve(seeded, "drone", half, consent=True)
        with pytest.raises(InvalidValue, match="the ledger would exceed") as refused:
            approve(seeded, "robot", half, consent=True)
        assert refused.value.field == "award"
        check_ledger(seeded.database)

    def test_at_the_same_time_by_many_grants_once(self, seeded: Centre) -> None:
        applied(seeded, "drone")

        def attempt(_: int) -> bool:
            try:
                approve(seeded, "drone")
            except InvalidValue:
                return False
            return True

        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(attempt, range(8))) == 1
        assert shown(seeded, "drone").granted == shown(seeded, "drone").available
        check_ledger(seeded.database)


class TestOversubscription:
    """Awards above the powered capacity × limit need consent. Powered: 4 × 66,900 + 7 × 8,109 = 324,363 GFLOPS."""

    POWERED = 4 * 66_900 + 7 * 8_109

    def test_just_at_the_limit_needs_none(self, seeded: Centre) -> None:
        applied(seeded, "drone")
        rest = award(seeded, gflops=self.POWERED - seeded.gflops)
        assert approve(seeded, "drone", rest, oversubscription_limit_ppm=PPM).state is ProjectState.APPROVED

    def test_above_it_is_refused_with_the_numbers_until_consented(self, seeded: Centre) -> None:
        applied(seeded, "drone")
        above = award(seeded, gflops=self.POWERED - seeded.gflops + 1)
        with pytest.raises(InvalidValue, match=r"324\.364 TF .* 100 % of the 324\.363 TF powered") as refused:
            approve(seeded, "drone", above, oversubscription_limit_ppm=PPM)
        assert refused.value.field == "award"
        assert shown(seeded, "drone").state is ProjectState.APPLIED
        view = approve(seeded, "drone", above, oversubscription_limit_ppm=PPM, consent=True)
        assert view.state is ProjectState.APPROVED

    def test_awards_of_ended_projects_and_of_other_times_do_not_count(self, seeded: Centre) -> None:
        whole = award(seeded, gflops=self.POWERED, starts_at=seeded.ends_at, ends_at=seeded.ends_at + DAY_SECONDS)
        for code in ("drone", "robot"):
            applied(seeded, code)
        approve(seeded, "drone", whole, oversubscription_limit_ppm=PPM)
        with pytest.raises(InvalidValue, match="needs consent"):
            approve(seeded, "robot", whole, oversubscription_limit_ppm=PPM)
        projects.end(seeded.database, "drone", actor="operator", now=seeded.now)
        approve(seeded, "robot", whole, oversubscription_limit_ppm=PPM)

    def test_a_phase_that_powers_less_later_counts(self, seeded: Centre) -> None:
        applied(seeded, "drone")
        later = CapacityPhase("h100", seeded.now + DAY_SECONDS, 4, 2, 2)
        pools.add_phase(seeded.database, seeded.pool, later, actor="operator", now=seeded.now)
        rest = award(seeded, gflops=self.POWERED - seeded.gflops)
        with pytest.raises(InvalidValue, match="2027-01-16"):
            approve(seeded, "drone", rest, oversubscription_limit_ppm=PPM)


Action = Callable[[Centre, str], object]
ACTIONS: dict[str, Action] = {
    "approve": approve,
    "reject": lambda seeded, code: projects.reject(
        seeded.database, code, reason="no", actor="operator", now=seeded.now
    ),
    "end": lambda seeded, code: projects.end(seeded.database, code, actor="operator", now=seeded.now),
}
WAYS: dict[ProjectState, tuple[str, ...]] = {
    ProjectState.APPLIED: (),
    ProjectState.APPROVED: ("approve",),
    ProjectState.REJECTED: ("reject",),
    ProjectState.ENDED: ("approve", "end"),
}
WRONG = [
    (state, action)
    for state in ProjectState
    for action in ACTIONS
    if (state, action)
    not in {(ProjectState.APPLIED, "approve"), (ProjectState.APPLIED, "reject"), (ProjectState.APPROVED, "end")}
]


@pytest.mark.parametrize(("state", "action"), WRONG)
def test_a_change_that_the_table_does_not_allow_is_refused(seeded: Centre, state: ProjectState, action: str) -> None:
    applied(seeded, "drone")
    for step in WAYS[state]:
        ACTIONS[step](seeded, "drone")
    before = shown(seeded, "drone")
    assert before.state is state
    with pytest.raises(InvalidValue, match=f"drone is {state} and cannot become") as refused:
        ACTIONS[action](seeded, "drone")
    assert refused.value.field == "project"
    assert shown(seeded, "drone") == before


@pytest.mark.parametrize("action", ACTIONS)
def test_nothing_is_decided_of_a_project_that_does_not_exist(seeded: Centre, action: str) -> None:
    with pytest.raises(InvalidValue, match="there is no 'nothing'"):
        ACTIONS[action](seeded, "nothing")


def test_a_rejection_says_why(seeded: Centre) -> None:
    applied(seeded, "drone")
    with pytest.raises(InvalidValue) as refused:
        projects.reject(seeded.database, "drone", reason=" ", actor="operator", now=seeded.now)
    assert refused.value.field == "reason"
    view = projects.reject(seeded.database, "drone", reason="Too large.\nAsk for less.", actor="rev", now=seeded.now)
    assert (view.state, view.decision_reason) == (ProjectState.REJECTED, "Too large.\nAsk for less.")
    assert (view.decided_by, view.decided_at) == ("rev", seeded.now)
    assert events(seeded, "drone") == ["project applied for", "project rejected"]


class TestEnding:
    """An end takes what is available; what is held is left to the loop."""

    def test_expires_what_is_available(self, seeded: Centre) -> None:
        before = shown(seeded)
        view = projects.end(seeded.database, seeded.project, actor="operator", now=seeded.now)
        assert (view.state, view.phase, view.ended_at) == (ProjectState.ENDED, Phase.GRACE, seeded.now)
        assert view.storage_until == seeded.now + 30 * DAY_SECONDS
        assert (view.available, view.held, view.spent, view.expired) == (0, 0, 0, before.granted)
        assert isinstance(start(seeded), Refused)
        assert expire_ended(seeded.database, seeded.now) == 0
        check_ledger(seeded.database)

    def test_leaves_what_is_held_until_its_run_is_settled(self, seeded: Centre) -> None:
        admitted = start(seeded)
        assert isinstance(admitted, Admitted)
        view = projects.end(seeded.database, seeded.project, actor="operator", now=seeded.now)
        assert (view.available, view.held) == (0, admitted.amount)
        ended = admission.Ended(seeded.now, seeded.now + 100, Outcome.REVOKED)
        admission.settle(seeded.database, admitted.run_id, ended, seeded.now + 100)
        assert expire_ended(seeded.database, seeded.now + 101) == 1
        view = shown(seeded, now=seeded.now + 101)
        assert (view.available, view.held, view.spent) == (0, 0, 100 * 50)
        assert view.spent + view.expired == view.granted
        check_ledger(seeded.database)
