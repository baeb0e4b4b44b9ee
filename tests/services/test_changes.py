"""Changes of awards: requested by a PI, decided by a reviewer, or applied by an operator; and what they come to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from quotas.domain.admission import Admitted
from quotas.domain.changes import Change, ChangeKind, ChangeState
from quotas.domain.people import MembershipRole
from quotas.domain.projects import Phase
from quotas.domain.runs import Outcome
from quotas.domain.units import DAY_SECONDS, LARGEST, PPM, InvalidValue
from quotas.services import admission, awards, changes, projects, refunds
from quotas.services.changes import ChangeView
from tests.centre import Centre, award, events, shown, start
from tests.services.deciding import PROGRAMME, REVIEWER, all_is_well, approved, journal, refused, told, with_reviewer

SUPPLEMENT = Change(ChangeKind.SUPPLEMENT, gflops=10_000)
POWERED = 4 * 66_900 + 7 * 8_109
"""What the centre powers, in GFLOPS."""


@pytest.fixture
def centre(seeded: Centre) -> Centre:
    return with_reviewer(seeded)


def requested(centre: Centre, change: Change = SUPPLEMENT, **values: object) -> ChangeView:
    given = {"reason": "more data", "actor": centre.pi, "now": centre.now, **values}
    return changes.request(centre.database, centre.project, change, **given)  # type: ignore[arg-type]


def decided(centre: Centre, change: ChangeView, **values: object) -> ChangeView:
    given = {"reason": "well founded", "programme": PROGRAMME, "actor": REVIEWER, "now": centre.now, **values}
    return changes.approve(centre.database, change.id, **given)  # type: ignore[arg-type]


def direct(centre: Centre, change: Change, code: str = "vision", **values: object) -> ChangeView:
    given = {"reason": "decided", "programme": PROGRAMME, "actor": "operator", "now": centre.now, **values}
    return changes.apply_directly(centre.database, code, change, **given)  # type: ignore[arg-type]


class TestTheWay:
    """A request changes nothing until it is decided, by someone who is not of the project."""

    def test_from_a_request_to_its_effect(self, centre: Centre) -> None:
        before = shown(centre)
        change = requested(centre)
        assert (change.state, change.gflops, change.amount) == (ChangeState.REQUESTED, 10_000, None)
        assert shown(centre) == before
        applied = decided(centre, change)
        added = 10_000 * (centre.ends_at - centre.now)
        assert (applied.state, applied.amount) == (ChangeState.APPLIED, added)
        assert (applied.decided_by, applied.decision_reason) == (REVIEWER, "well founded")
        after = shown(centre)
        assert (after.gflops, after.ceiling_gflops) == (210_000, 210_000)
        assert (after.granted, after.available) == (before.granted + added, before.available + added)
        assert journal(centre, "vision") == [("grant", before.granted), ("supplement", added)]
        assert events(centre, "vision")[-2:] == ["award change requested", "award change applied"]
        assert told(centre, "pi") == ["award change"]
        assert told(centre, "member") == []
        assert changes.list_changes(centre.database, "vision") == [changes.show(centre.database, change.id)]
        all_is_well(centre, centre.now)

    @pytest.mark.parametrize("who", ["member", "outsider", "operator", REVIEWER, "nobody"])
    def test_only_a_pi_requests(self, centre: Centre, who: str) -> None:
        with refused("project", "only its PIs"):
            requested(centre, actor=who)
        assert changes.list_changes(centre.database) == []

    def test_a_project_that_there_is_not_is_refused_like_a_strangers(self, centre: Centre) -> None:
        with refused("project", "'nothing' is no project of which 'pi' is a PI"):
            changes.request(centre.database, "nothing", SUPPLEMENT, reason="a", actor="pi", now=centre.now)

    @pytest.mark.parametrize(
        ("who", "match"), [("outsider", "must be a reviewer"), ("pi", "must be"), ("nobody", "no")]
    )
    def test_only_a_reviewer_decides(self, centre: Centre, who: str, match: str) -> None:
        change = requested(centre)
        for decide in (lambda: decided(centre, change, actor=who), lambda: self.rejected(centre, change, actor=who)):
            with refused("by", match):
                decide()
        assert changes.show(centre.database, change.id) == change

    def test_a_reviewer_who_is_a_member_does_not(self, centre: Centre) -> None:
        change = requested(centre)
        projects.add_member(
            centre.database, "vision", REVIEWER, MembershipRole.MEMBER, actor="operator", now=centre.now
        )
        with refused("by", "judge is a member of vision"):
            decided(centre, change)

    def test_a_reviewer_of_the_project_that_receives_does_not_either(self, centre: Centre) -> None:
        approved(centre, "sound")
        change = requested(centre, Change(ChangeKind.MOVE, amount=5, to_project="sound"))
        projects.add_member(centre.database, "sound", REVIEWER, MembershipRole.MEMBER, actor="operator", now=centre.now)
        with refused("by", "judge is a member of sound"):
            decided(centre, change)

    @staticmethod
    def rejected(centre: Centre, change: ChangeView, actor: str = REVIEWER, reason: str = "no") -> ChangeView:
        return changes.reject(centre.database, change.id, reason=reason, actor=actor, now=centre.now)

    def test_a_rejection_and_a_request_say_why(self, centre: Centre) -> None:
        with refused("reason"):
            requested(centre, reason=" ")
        change = requested(centre)
        with refused("reason"):
            self.rejected(centre, change, reason="")
        with refused("reason"):
            decided(centre, change, reason="")
        assert self.rejected(centre, change).state is ChangeState.REJECTED
        assert told(centre, "pi") == ["award change"]

    def test_what_was_decided_is_not_decided_again(self, centre: Centre) -> None:
        def withdrawn(change: ChangeView) -> ChangeView:
            return changes.withdraw(centre.database, change.id, actor="pi", now=centre.now)

        ways = {
            ChangeState.APPLIED: lambda change: decided(centre, change),
            ChangeState.REJECTED: lambda change: self.rejected(centre, change),
            ChangeState.WITHDRAWN: withdrawn,
        }
        for first, way in ways.items():
            change = requested(centre)
            assert way(change).state is first
            before = shown(centre)
            for second, again in ways.items():
                with refused("change", f"is {first} and cannot become {second}"):
                    again(change)
            assert shown(centre) == before

    def test_only_a_pi_withdraws(self, centre: Centre) -> None:
        change = requested(centre)
        with refused("project"):
            changes.withdraw(centre.database, change.id, actor="member", now=centre.now)

    def test_one_of_many_decisions_at_the_same_time_is_made(self, centre: Centre) -> None:
        change = requested(centre)
        granted = shown(centre).granted

        def attempt(_: int) -> bool:
            try:
                decided(centre, change)
            except InvalidValue:
                return False
            return True

        with ThreadPoolExecutor(6) as threads:
            assert sum(threads.map(attempt, range(6))) == 1
        assert shown(centre).granted == granted + 10_000 * (centre.ends_at - centre.now)
        all_is_well(centre, centre.now)

    def test_there_is_no_other(self, centre: Centre) -> None:
        with refused("change", "there is no '99'"):
            changes.withdraw(centre.database, 99, actor="pi", now=centre.now)
        assert changes.show(centre.database, 99) is None


class TestSupplements:
    """More rate, more budget, or both, promised within the limit over capacity."""

    def test_of_budget_alone_raises_no_ceiling(self, centre: Centre) -> None:
        before = shown(centre)
        direct(centre, Change(ChangeKind.SUPPLEMENT, amount=7_000_000))
        after = shown(centre)
        assert (after.gflops, after.ceiling_gflops) == (before.gflops, before.ceiling_gflops)
        assert after.granted == before.granted + 7_000_000

    def test_of_both_adds_what_is_said(self, centre: Centre) -> None:
        before = shown(centre)
        direct(centre, Change(ChangeKind.SUPPLEMENT, gflops=5, amount=11))
        assert (shown(centre).gflops, shown(centre).granted) == (200_005, before.granted + 11)

    def test_counts_against_the_capacity(self, centre: Centre) -> None:
        limited = replace(PROGRAMME, oversubscription_limit_ppm=PPM)
        direct(centre, Change(ChangeKind.SUPPLEMENT, gflops=POWERED - 200_000), programme=limited)
        with refused("award", "needs consent"):
            direct(centre, Change(ChangeKind.SUPPLEMENT, gflops=1), programme=limited)
        assert shown(centre).gflops == POWERED
        direct(centre, Change(ChangeKind.SUPPLEMENT, gflops=1), programme=replace(limited, consent=True))
        assert shown(centre).gflops == POWERED + 1

    def test_of_budget_counts_as_the_rate_that_uses_it_up(self, centre: Centre) -> None:
        limited = replace(PROGRAMME, oversubscription_limit_ppm=PPM)
        seconds = centre.ends_at - centre.now
        fits = Change(ChangeKind.SUPPLEMENT, amount=(POWERED - 200_000) * seconds)
        direct(centre, fits, programme=limited)
        with refused("award", "needs consent"):
            direct(centre, Change(ChangeKind.SUPPLEMENT, amount=1), programme=limited)
        (view,) = awards.of_project(centre.database, "vision", centre.now)
        assert (view.gflops, view.extra_gflops) == (200_000, POWERED - 200_000)

    def test_makes_a_spent_award_run_again(self, centre: Centre) -> None:
        direct(centre, Change(ChangeKind.REDUCTION, amount=shown(centre).available))
        assert shown(centre).phase is Phase.EXHAUSTED
        assert not isinstance(start(centre), Admitted)
        direct(centre, Change(ChangeKind.SUPPLEMENT, amount=10_000_000))
        assert isinstance(start(centre), Admitted)
        all_is_well(centre, centre.now)

    @pytest.mark.parametrize("amount", [LARGEST, LARGEST - 1])
    def test_that_the_ledger_cannot_hold_is_refused(self, centre: Centre, amount: int) -> None:
        before = shown(centre)
        consenting = replace(PROGRAMME, consent=True)
        with refused("amount"):
            direct(centre, Change(ChangeKind.SUPPLEMENT, amount=amount), programme=consenting)
        assert shown(centre) == before
        assert changes.list_changes(centre.database) == []
        all_is_well(centre, centre.now)


class TestExtensions:
    """A later end; what is over is renewed instead."""

    def test_moves_the_end_and_leaves_the_budget(self, centre: Centre) -> None:
        before = shown(centre)
        later = centre.ends_at + 5 * DAY_SECONDS
        view = direct(centre, Change(ChangeKind.EXTENSION, ends_at=later))
        assert (view.before_ends_at, view.ends_at, view.amount) == (centre.ends_at, later, None)
        after = shown(centre)
        assert (after.ends_at, after.granted) == (later, before.granted)
        assert isinstance(
            admission.reserve(centre.database, self.request(centre), centre.ends_at + 10, admission.Policy()), Admitted
        )
        assert refunds.expire_ended(centre.database, centre.ends_at + 10) == 0
        all_is_well(centre, centre.ends_at + 10)

    @staticmethod
    def request(centre: Centre) -> admission.Request:
        return admission.Request("r1", admission.RunKind.NOTEBOOK, centre.member, "vision", "cpu-small")

    def test_may_add_budget(self, centre: Centre) -> None:
        before = shown(centre)
        direct(centre, Change(ChangeKind.EXTENSION, ends_at=centre.ends_at + DAY_SECONDS, amount=123))
        assert shown(centre).granted == before.granted + 123
        assert journal(centre, "vision")[-1] == ("supplement", 123)

    @pytest.mark.parametrize("days", [0, -1])
    def test_must_lie_after_the_present_end(self, centre: Centre, days: int) -> None:
        with refused("until", "must be after the present end"):
            direct(centre, Change(ChangeKind.EXTENSION, ends_at=centre.ends_at + days * DAY_SECONDS))

    def test_is_refused_once_the_award_is_over(self, centre: Centre) -> None:
        change = Change(ChangeKind.EXTENSION, ends_at=centre.ends_at + DAY_SECONDS)
        waiting = requested(centre, change)
        for attempt in (
            lambda: direct(centre, change, now=centre.ends_at),
            lambda: decided(centre, waiting, now=centre.ends_at),
            lambda: requested(centre, change, now=centre.ends_at),
        ):
            with refused("project", "is ended, and what is over is not changed; apply for a renewal"):
                attempt()
        assert shown(centre, now=centre.ends_at).ends_at == centre.ends_at

    def test_counts_against_the_capacity_of_the_added_time_only(self, centre: Centre) -> None:
        limited = replace(PROGRAMME, oversubscription_limit_ppm=PPM)
        later = award(centre, gflops=POWERED, starts_at=centre.ends_at + DAY_SECONDS, ends_at=centre.ends_at * 2)
        approved(centre, "sound", later)
        direct(centre, Change(ChangeKind.EXTENSION, ends_at=centre.ends_at + DAY_SECONDS), programme=limited)
        with refused("award", "needs consent"):
            direct(centre, Change(ChangeKind.EXTENSION, ends_at=centre.ends_at + DAY_SECONDS + 1), programme=limited)

    def test_reaches_no_further_than_awards_may(self, centre: Centre) -> None:
        with refused("ends", "must be before 3000"):
            direct(centre, Change(ChangeKind.EXTENSION, ends_at=32_503_680_001))


class TestReductions:
    """Less, but never less than what is spent and held."""

    def test_takes_at_most_what_is_available(self, centre: Centre) -> None:
        held = start(centre, "h100")
        assert isinstance(held, Admitted)
        before = shown(centre)
        with refused("budget", f"at most the {before.available} GFLOPS·s"):
            direct(centre, Change(ChangeKind.REDUCTION, amount=before.available + 1))
        direct(centre, Change(ChangeKind.REDUCTION, amount=before.available))
        after = shown(centre)
        assert (after.granted, after.available, after.held) == (held.amount, 0, held.amount)
        assert journal(centre, "vision")[-1] == ("reduce", before.available)
        all_is_well(centre, centre.now)

    def test_of_the_rate_lowers_the_ceiling_and_what_is_promised(self, centre: Centre) -> None:
        limited = replace(PROGRAMME, oversubscription_limit_ppm=PPM)
        before = shown(centre)
        direct(centre, Change(ChangeKind.REDUCTION, gflops=199_999))
        after = shown(centre)
        assert (after.gflops, after.ceiling_gflops, after.granted) == (1, 1, before.granted)
        assert not isinstance(start(centre), Admitted)
        approved(centre, "sound", award(centre, gflops=POWERED - 1), oversubscription_limit_ppm=PPM, consent=False)
        with refused("award"):
            direct(centre, Change(ChangeKind.SUPPLEMENT, gflops=1), programme=limited)

    def test_of_the_whole_rate_is_refused(self, centre: Centre) -> None:
        with refused("rate", "must be less than the award's 200 TF"):
            direct(centre, Change(ChangeKind.REDUCTION, gflops=200_000))

    def test_takes_back_what_a_supplement_of_budget_promised(self, centre: Centre) -> None:
        seconds = centre.ends_at - centre.now
        direct(centre, Change(ChangeKind.SUPPLEMENT, amount=50 * seconds))
        direct(centre, Change(ChangeKind.REDUCTION, amount=20 * seconds))
        (view,) = awards.of_project(centre.database, "vision", centre.now)
        assert view.extra_gflops == 30


class TestMoves:
    """Budget goes from one award that runs to another; nothing is made and nothing lost."""

    @pytest.fixture(autouse=True)
    def _second(self, centre: Centre) -> None:
        approved(centre, "sound")

    MOVE = Change(ChangeKind.MOVE, amount=1_000_000, to_project="sound")

    def test_conserves_what_there_is(self, centre: Centre) -> None:
        before = shown(centre), shown(centre, "sound")
        change = requested(centre, self.MOVE)
        view = decided(centre, change)
        assert (view.to_project, view.amount) == ("sound", 1_000_000)
        after = shown(centre), shown(centre, "sound")
        assert [view.available for view in after] == [
            before[0].available - 1_000_000,
            before[1].available + 1_000_000,
        ]
        assert sum(view.granted for view in after) == sum(view.granted for view in before)
        assert journal(centre, "vision")[-1] == ("move_out", 1_000_000)
        assert journal(centre, "sound")[-1] == ("move_in", 1_000_000)
        assert [each.id for each in changes.list_changes(centre.database, "sound")] == [view.id]
        all_is_well(centre, centre.now)

    def test_never_touches_what_is_held(self, centre: Centre) -> None:
        held = start(centre, "h100")
        assert isinstance(held, Admitted)
        available = shown(centre).available
        with refused("budget", "what is spent or held stays"):
            direct(centre, replace(self.MOVE, amount=available + 1))
        direct(centre, replace(self.MOVE, amount=available))
        assert (shown(centre).available, shown(centre).held) == (0, held.amount)
        charge = admission.settle(
            centre.database,
            held.run_id,
            admission.Ended(centre.now, centre.now + 60, Outcome.STOPPED),
            centre.now + 60,
        )
        assert charge is not None
        assert charge.overrun == 0
        all_is_well(centre, centre.now + 60)

    def test_to_another_organisation_needs_an_operator(self, centre: Centre) -> None:
        approved(centre, "firms", organisation="firm")
        move = replace(self.MOVE, to_project="firms")
        with refused("to", "only an operator may move budget to another's"):
            requested(centre, move)
        assert direct(centre, move).state is ChangeState.APPLIED

    def test_of_a_pi_tells_nothing_of_what_other_projects_there_are(self, centre: Centre) -> None:
        approved(centre, "firms", organisation="firm")
        messages = set()
        for other in ("firms", "nothing"):
            with pytest.raises(InvalidValue) as caught:
                requested(centre, replace(self.MOVE, to_project=other))
            messages.add(str(caught.value).replace(other, "…"))
        assert len(messages) == 1

    def test_needs_two_awards_that_run(self, centre: Centre) -> None:
        later = award(centre, starts_at=centre.now + 10)
        approved(centre, "later", later)
        with refused("to", "the award of later is scheduled"):
            direct(centre, replace(self.MOVE, to_project="later"))
        awards.suspend(centre.database, "sound", reason="a", actor="operator", now=centre.now)
        with refused("to", "the award of sound is suspended"):
            direct(centre, self.MOVE)
        projects.end(centre.database, "sound", actor="operator", now=centre.now)
        with refused("to", "sound is ended"):
            direct(centre, self.MOVE)
        with refused("project", "the award of later is scheduled"):
            direct(centre, Change(ChangeKind.MOVE, amount=5, to_project="vision"), "later")

    def test_to_itself_is_none(self, centre: Centre) -> None:
        with refused("to", "another project"):
            direct(centre, replace(self.MOVE, to_project="vision"))

    def test_what_was_available_when_it_was_requested_may_be_gone(self, centre: Centre) -> None:
        available = shown(centre).available
        change = requested(centre, replace(self.MOVE, amount=available))
        assert isinstance(start(centre), Admitted)
        with refused("budget"):
            decided(centre, change)
        assert changes.show(centre.database, change.id) == change
        all_is_well(centre, centre.now)


def test_nothing_is_changed_of_a_project_that_is_not_approved(centre: Centre) -> None:
    with refused("project", "there is no 'nothing'"):
        direct(centre, SUPPLEMENT, "nothing")
    projects.end(centre.database, "vision", actor="operator", now=centre.now)
    with refused("project", "vision is ended"):
        direct(centre, SUPPLEMENT)
    with refused("project", "vision is ended"):
        requested(centre)
