"""Progress reports, and the tranches that wait for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from quotas.domain.admission import Admitted
from quotas.domain.awards import TrancheState
from quotas.domain.changes import Change, ChangeKind
from quotas.domain.outcomes import Period, ReportState
from quotas.domain.people import MembershipRole
from quotas.domain.units import DAY_SECONDS, PPM, InvalidValue
from quotas.services import awards, changes, outcomes, projects
from quotas.services.outcomes import ReportView
from tests.centre import NOW, Centre, applied, approve, award, events, shown, start
from tests.services.deciding import PROGRAMME, REVIEWER, all_is_well, approved, journal, refused, told, with_reviewer

DAYS = 30
HALVES = (PPM // 2, PPM // 2)
BUDGET = 200_000 * DAYS * DAY_SECONDS


@pytest.fixture
def centre(seeded: Centre) -> Centre:
    """The project `sound` has the usual 30 days' award, from a day ago, in two halves; its report is due at half."""
    with_reviewer(seeded)
    approved(seeded, "sound", tranches_ppm=HALVES)
    return seeded


def the(centre: Centre, now: int = NOW, code: str = "sound") -> ReportView:
    """Return the report that the project's second tranche waits for."""
    (report,) = [each for each in outcomes.list_reports(centre.database, now, code) if each.tranche == 2]
    return report


def drafted(centre: Centre, report: int | None = None, *, now: int = NOW, **changed: int) -> ReportView:
    period = Period(**({"starts_at": centre.starts_at, "ends_at": now} | changed))
    number = the(centre).id if report is None else report
    return outcomes.draft(centre.database, number, period, "We trained.", actor="pi", now=now)


def submitted(centre: Centre, report: int | None = None, *, now: int = NOW, **changed: int) -> ReportView:
    number = drafted(centre, report, now=now, **changed).id
    return outcomes.submit(centre.database, number, actor="pi", now=now)


def verified(centre: Centre, report: int | None = None, *, now: int = NOW, **changed: int) -> ReportView:
    number = submitted(centre, report, now=now, **changed).id
    return outcomes.verify(centre.database, number, actor=REVIEWER, now=now)


class TestTranches:
    """Only the first is granted with the award; each later one is released once, by its verified report."""

    def test_the_first_is_granted_and_the_others_wait(self, centre: Centre) -> None:
        view = shown(centre, "sound")
        assert (view.granted, view.available, view.pending, view.forfeited) == (
            BUDGET // 2,
            BUDGET // 2,
            BUDGET // 2,
            0,
        )
        (found,) = awards.of_project(centre.database, "sound", NOW)
        (tranche,) = found.tranches
        assert (tranche.number, tranche.amount, tranche.state) == (2, BUDGET // 2, TrancheState.PENDING)
        assert (tranche.report, tranche.report_state) == (the(centre).id, ReportState.DUE)
        assert the(centre).due_at == tranche.due_at == centre.starts_at + DAYS // 2 * DAY_SECONDS
        assert the(centre).tranche == 2
        all_is_well(centre, NOW)

    def test_a_verified_report_releases_the_next(self, centre: Centre) -> None:
        report = verified(centre)
        assert (report.state, report.decided_by) == (ReportState.VERIFIED, REVIEWER)
        view = shown(centre, "sound")
        assert (view.granted, view.available, view.pending) == (BUDGET, BUDGET, 0)
        assert journal(centre, "sound") == [("grant", BUDGET // 2), ("tranche", BUDGET // 2)]
        assert events(centre, "sound")[-4:] == [
            "report drafted",
            "report submitted",
            "report verified",
            "tranche released",
        ]
        assert told(centre, "pi") == ["report verified", "tranche released"]
        all_is_well(centre, NOW)

    def test_a_tranche_makes_a_spent_award_run_again(self, centre: Centre) -> None:
        reduce = Change(ChangeKind.REDUCTION, amount=shown(centre, "sound").available)
        changes.apply_directly(
            centre.database, "sound", reduce, reason="a", programme=PROGRAMME, actor="operator", now=NOW
        )
        assert shown(centre, "sound").available == 0
        verified(centre)
        assert shown(centre, "sound").available == BUDGET // 2

    def test_uneven_shares_lose_nothing(self, centre: Centre) -> None:
        odd = award(centre, gflops=7, ends_at=centre.starts_at + 11)
        approved(
            centre, "odd", award(centre, gflops=7, starts_at=NOW, ends_at=NOW + 11), tranches_ppm=(333_333, 666_667)
        )
        (found,) = awards.of_project(centre.database, "odd", NOW)
        assert (found.granted, found.tranches[0].amount) == (25, 52)
        assert odd.budget_gflops_seconds() == 77

    @pytest.mark.parametrize(
        "shares",
        [(PPM // 2,), (PPM // 2, PPM // 2 + 1), (0, PPM), (-1, PPM + 1), (PPM // 20,) * 20, (True, PPM - 1), (1.0, 2)],
    )
    def test_shares_that_are_not_the_whole_are_refused(self, centre: Centre, shares: tuple[int, ...]) -> None:
        applied(centre, "robot")
        before = shown(centre, "robot")
        with refused("tranches"):
            approve(centre, "robot", tranches_ppm=shares, consent=True)
        assert shown(centre, "robot") == before

    def test_a_share_of_nothing_is_refused(self, centre: Centre) -> None:
        applied(centre, "robot")
        with refused("tranches"):
            approve(centre, "robot", award(centre, gflops=1, starts_at=NOW, ends_at=NOW + 3), tranches_ppm=(1, PPM - 1))

    def test_three_are_released_in_their_order_whatever_order_their_reports_come_in(self, centre: Centre) -> None:
        approved(centre, "thirds", tranches_ppm=(PPM // 2, PPM // 4, PPM // 4))
        second, third = (each.id for each in outcomes.list_reports(centre.database, NOW, "thirds"))
        verified(centre, third, ends_at=NOW - 100)
        assert shown(centre, "thirds").granted == BUDGET // 2
        verified(centre, second, starts_at=NOW - 100)
        assert journal(centre, "thirds") == [("grant", BUDGET // 2), ("tranche", BUDGET // 4), ("tranche", BUDGET // 4)]
        all_is_well(centre, NOW)

    def test_of_an_award_that_is_over_is_forfeited(self, centre: Centre) -> None:
        report = submitted(centre).id
        end = centre.ends_at
        view = shown(centre, "sound", now=end)
        assert (view.granted, view.pending, view.forfeited) == (BUDGET // 2, 0, BUDGET // 2)
        outcomes.verify(centre.database, report, actor=REVIEWER, now=end)
        (found,) = awards.of_project(centre.database, "sound", end)
        assert found.tranches[0].state is TrancheState.FORFEITED
        assert journal(centre, "sound") == [("grant", BUDGET // 2)]
        all_is_well(centre, end)

    @pytest.mark.parametrize("how", ["end", "revoke"])
    def test_of_an_award_that_was_ended_is_forfeited_too(self, centre: Centre, how: str) -> None:
        report = submitted(centre).id
        if how == "end":
            projects.end(centre.database, "sound", actor="operator", now=NOW)
        else:
            awards.revoke(centre.database, "sound", reason="a", confirm="sound", actor="operator", now=NOW)
        outcomes.verify(centre.database, report, actor=REVIEWER, now=NOW)
        assert shown(centre, "sound").forfeited == BUDGET // 2
        assert "tranche" not in [kind for kind, _ in journal(centre, "sound")]
        all_is_well(centre, NOW)


class TestReports:
    """Written by a PI, decided by someone who is not of the project."""

    def test_a_returned_report_can_be_submitted_again(self, centre: Centre) -> None:
        report = submitted(centre).id
        back = outcomes.send_back(centre.database, report, reason="Which data?", actor=REVIEWER, now=NOW)
        assert (back.state, back.decision_reason) == (ReportState.RETURNED, "Which data?")
        assert told(centre, "pi") == ["report returned"]
        assert shown(centre, "sound").granted == BUDGET // 2
        outcomes.submit(centre.database, report, actor="pi", now=NOW)
        outcomes.send_back(centre.database, report, reason="Still?", actor=REVIEWER, now=NOW + 1)
        assert told(centre, "pi") == ["report returned", "report returned"]
        verified(centre, now=NOW + 2)
        assert shown(centre, "sound").granted == BUDGET

    def test_a_draft_can_be_written_anew(self, centre: Centre) -> None:
        drafted(centre)
        again = outcomes.draft(
            centre.database, the(centre).id, Period(NOW - 50, NOW), "Better.", actor="pi", now=NOW + 1
        )
        assert (again.summary, again.period_starts_at, again.state) == ("Better.", NOW - 50, ReportState.DRAFT)

    @pytest.mark.parametrize("who", ["member", "outsider", REVIEWER, "operator", "nobody"])
    def test_only_a_pi_writes(self, centre: Centre, who: str) -> None:
        report, period = the(centre).id, Period(centre.starts_at, NOW)
        with refused("project"):
            outcomes.draft(centre.database, report, period, "a", actor=who, now=NOW)
        drafted(centre)
        with refused("project"):
            outcomes.submit(centre.database, report, actor=who, now=NOW)

    @pytest.mark.parametrize("who", ["pi", "outsider", "nobody"])
    def test_only_a_reviewer_decides(self, centre: Centre, who: str) -> None:
        report = submitted(centre).id
        for decide in self.decisions(centre, report, who):
            with refused("by"):
                decide()

    def test_a_reviewer_who_is_a_member_does_not(self, centre: Centre) -> None:
        report = submitted(centre).id
        projects.add_member(centre.database, "sound", REVIEWER, MembershipRole.LEARNER, actor="operator", now=NOW)
        for decide in self.decisions(centre, report, REVIEWER):
            with refused("by", "judge is a member of sound"):
                decide()

    @staticmethod
    def decisions(centre: Centre, report: int, who: str) -> tuple[Callable[[], object], ...]:
        return (
            lambda: outcomes.verify(centre.database, report, actor=who, now=NOW),
            lambda: outcomes.send_back(centre.database, report, reason="a", actor=who, now=NOW),
        )

    def test_an_operator_who_is_no_member_may_decide(self, centre: Centre) -> None:
        report = submitted(centre).id
        assert (
            outcomes.verify(centre.database, report, actor="operator", now=NOW, reason=" ").state
            is ReportState.VERIFIED
        )

    def test_what_the_table_does_not_allow_is_refused(self, centre: Centre) -> None:
        ways: dict[str, Callable[[int], object]] = {
            "draft": lambda report: drafted(centre, report),
            "submit": lambda report: outcomes.submit(centre.database, report, actor="pi", now=NOW),
            "verify": lambda report: outcomes.verify(centre.database, report, actor=REVIEWER, now=NOW),
            "return": lambda report: outcomes.send_back(centre.database, report, reason="a", actor=REVIEWER, now=NOW),
        }
        allowed = {
            ReportState.DUE: {"draft"},
            ReportState.DRAFT: {"draft", "submit"},
            ReportState.SUBMITTED: {"verify", "return"},
            ReportState.RETURNED: {"draft", "submit"},
            ReportState.VERIFIED: set(),
        }
        roads = {
            ReportState.DUE: (),
            ReportState.DRAFT: ("draft",),
            ReportState.SUBMITTED: ("draft", "submit"),
            ReportState.RETURNED: ("draft", "submit", "return"),
            ReportState.VERIFIED: ("draft", "submit", "verify"),
        }
        for number, (state, road) in enumerate(roads.items()):
            approved(centre, f"p{number}", tranches_ppm=HALVES)
            report = the(centre, code=f"p{number}").id
            for step in road:
                ways[step](report)
            before = the(centre, code=f"p{number}")
            assert before.state is state
            for step in set(ways) - allowed[state]:
                with refused("report", f"{report} is {state} and cannot become"):
                    ways[step](report)
                assert the(centre, code=f"p{number}") == before

    def test_an_operator_may_ask_for_one(self, centre: Centre) -> None:
        report = outcomes.require(centre.database, "vision", NOW + DAY_SECONDS, actor="operator", now=NOW)
        assert (report.state, report.tranche, report.due_at) == (ReportState.DUE, None, NOW + DAY_SECONDS)
        assert told(centre, "pi") == ["report required"]
        assert verified(centre, report.id).state is ReportState.VERIFIED

    @pytest.mark.parametrize("due", [NOW, NOW - 1, 0, -5, 2**62])
    def test_none_is_due_in_the_past(self, centre: Centre, due: int) -> None:
        with refused("due", "must be after 2027-01-15 17:00 KST"):
            outcomes.require(centre.database, "vision", due, actor="operator", now=NOW)

    def test_none_is_due_of_a_project_without_an_award(self, centre: Centre) -> None:
        applied(centre, "robot")
        with refused("project", "robot has no award"):
            outcomes.require(centre.database, "robot", NOW + 1, actor="operator", now=NOW)

    def test_there_is_no_other(self, centre: Centre) -> None:
        with refused("report", "there is no '99'"):
            outcomes.verify(centre.database, 99, actor=REVIEWER, now=NOW)
        assert outcomes.show(centre.database, 99, NOW) is None


class TestPeriods:
    """A report tells of the past, of its award, and of what no verified report has told of."""

    def test_for_the_future_is_refused(self, centre: Centre) -> None:
        with refused("to", r"a report tells of the past: at most 2027-01-15 17:00 KST, not 2027-01-15 17:01 KST"):
            drafted(centre, ends_at=NOW + 60)
        with refused("from", "before 2027-01-15 17:00 KST"):
            drafted(centre, starts_at=NOW + 1, ends_at=NOW + 60)
        assert the(centre).state is ReportState.DUE

    def test_before_or_after_the_award_is_refused(self, centre: Centre) -> None:
        with refused("from", "at or after the award's start"):
            drafted(centre, starts_at=centre.starts_at - 1)
        end = centre.ends_at
        with refused("to", "at most"):
            drafted(centre, ends_at=end + 1, now=end + DAY_SECONDS)
        assert drafted(centre, ends_at=end, now=end + DAY_SECONDS).period_ends_at == end

    @pytest.mark.parametrize("ends_at", [NOW - 10, NOW - 11])
    def test_of_nothing_is_refused(self, centre: Centre, ends_at: int) -> None:
        with refused("to", "must be after"):
            drafted(centre, starts_at=NOW - 10, ends_at=ends_at)

    def test_that_was_told_of_already_is_refused(self, centre: Centre) -> None:
        verified(centre, starts_at=NOW - 200, ends_at=NOW - 100)
        more = outcomes.require(centre.database, "sound", NOW + 10, actor="operator", now=NOW).id
        for starts, ends in ((-200, -100), (-150, -50), (-300, -199), (-101, -100), (-300, 0)):
            with refused("from", "has told of"):
                drafted(centre, more, starts_at=NOW + starts, ends_at=NOW + ends)
        assert drafted(centre, more, starts_at=NOW - 100).state is ReportState.DRAFT
        assert drafted(centre, more, starts_at=NOW - 300, ends_at=NOW - 200).state is ReportState.DRAFT

    def test_two_reports_of_one_time_are_not_both_verified(self, centre: Centre) -> None:
        more = outcomes.require(centre.database, "sound", NOW + 10, actor="operator", now=NOW).id
        first = submitted(centre).id
        submitted(centre, more)
        outcomes.verify(centre.database, first, actor=REVIEWER, now=NOW)
        with refused("from", "has told of"):
            outcomes.verify(centre.database, more, actor=REVIEWER, now=NOW)
        back = outcomes.send_back(centre.database, more, reason="told already", actor=REVIEWER, now=NOW)
        assert back.state is ReportState.RETURNED

    def test_another_projects_report_is_no_matter(self, centre: Centre) -> None:
        verified(centre)
        report = outcomes.require(centre.database, "vision", NOW + 10, actor="operator", now=NOW).id
        assert drafted(centre, report).state is ReportState.DRAFT

    @pytest.mark.parametrize("summary", ["", "  ", "x" * 20_001, "a\x07b"])
    def test_a_summary_says_something(self, centre: Centre, summary: str) -> None:
        with refused("summary"):
            outcomes.draft(centre.database, the(centre).id, Period(NOW - 10, NOW), summary, actor="pi", now=NOW)


class TestOverdue:
    """What is overdue blocks the next tranche and a renewal, never a running server."""

    def due(self, centre: Centre) -> int:
        return the(centre).due_at

    def test_follows_from_the_clock_and_the_state(self, centre: Centre) -> None:
        due = self.due(centre)
        assert [the(centre, at).is_overdue for at in (due - 1, due, due + 1)] == [False, True, True]
        drafted(centre)
        assert the(centre, due).is_overdue
        outcomes.submit(centre.database, the(centre).id, actor="pi", now=NOW)
        assert not the(centre, due).is_overdue
        outcomes.send_back(centre.database, the(centre).id, reason="a", actor=REVIEWER, now=NOW)
        assert the(centre, due).is_overdue
        verified(centre)
        assert not the(centre, due).is_overdue
        assert outcomes.list_reports(centre.database, due, overdue=True) == []

    def test_lets_what_runs_run_and_more_start(self, centre: Centre) -> None:
        outcomes.require(centre.database, "vision", NOW + 1, actor="operator", now=NOW)
        later = Centre(centre.database, now=NOW + 2)
        assert [each.project for each in outcomes.list_reports(centre.database, later.now, overdue=True)] == ["vision"]
        assert isinstance(start(later), Admitted)

    def test_a_late_report_that_is_verified_releases_its_tranche(self, centre: Centre) -> None:
        late = self.due(centre) + 5
        verified(centre, now=late)
        assert shown(centre, "sound", now=late).granted == BUDGET

    def test_another_overdue_report_keeps_the_tranche_until_it_is_submitted(self, centre: Centre) -> None:
        other = outcomes.require(centre.database, "sound", NOW + 1, actor="operator", now=NOW).id
        late = NOW + 10
        verified(centre, now=late, ends_at=NOW)
        assert shown(centre, "sound", now=late).granted == BUDGET // 2
        assert told(centre, "pi") == ["report required", "report verified"]
        submitted(centre, other, now=late, starts_at=NOW)
        assert told(centre, "pi")[-1] == "tranche released"
        assert shown(centre, "sound", now=late).granted == BUDGET
        outcomes.verify(centre.database, other, actor=REVIEWER, now=late)
        assert journal(centre, "sound") == [("grant", BUDGET // 2), ("tranche", BUDGET // 2)]
        all_is_well(centre, late)


def test_an_unknown_project_has_no_reports(centre: Centre) -> None:
    with pytest.raises(InvalidValue, match="there is no 'nothing'"):
        outcomes.list_reports(centre.database, NOW, "nothing")
