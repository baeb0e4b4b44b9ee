"""Renewals: their own objects, which change nothing of the award that runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from quotas.domain.admission import Admitted, Request
from quotas.domain.awards import AwardState, Programme
from quotas.domain.changes import Change, ChangeKind
from quotas.domain.people import MembershipRole
from quotas.domain.policy import Policy
from quotas.domain.projects import Phase
from quotas.domain.refusals import Code, Refused
from quotas.domain.renewals import ALLOWED_CHANGES, RenewalState, Wish
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.domain.units import DAY_SECONDS, PPM, InvalidValue
from quotas.services import admission, awards, changes, outcomes, projects, refunds, renewals
from quotas.services.renewals import Given, RenewalView
from tests.centre import NOW, Centre, applied, award, events, shown, start
from tests.services.deciding import PROGRAMME, REVIEWER, all_is_well, approved, journal, refused, told, with_reviewer

POLICY = Policy()
BUDGET = 200_000 * 30 * DAY_SECONDS


@pytest.fixture
def centre(seeded: Centre) -> Centre:
    return with_reviewer(seeded)


def wish(centre: Centre, **changed: Any) -> Wish:
    return Wish(**({"gflops": 100_000, "precision": "fp32", "ends_at": centre.ends_at + 10 * DAY_SECONDS} | changed))


def filed(centre: Centre, code: str = "vision", asked: Wish | None = None, **values: Any) -> RenewalView:
    given = {"reason": "It goes well.", "actor": "pi", "now": NOW, **values}
    return renewals.file(centre.database, code, asked or wish(centre), **given)


def in_review(centre: Centre, now: int = NOW, **values: Any) -> RenewalView:
    renewal = filed(centre, now=now, **values).id
    renewals.submit(centre.database, renewal, actor="pi", now=now)
    return renewals.review(centre.database, renewal, actor=REVIEWER, now=now)


def approve(centre: Centre, renewal: int, given: Given = Given(), **values: Any) -> RenewalView:  # noqa: B008 - frozen
    how = {"reason": "Well used.", "programme": PROGRAMME, "actor": REVIEWER, "now": NOW, **values}
    return renewals.approve(centre.database, renewal, given, **how)


def started(centre: Centre, now: int, profile: str = "cpu-small") -> admission.Decision:
    request = Request(new_run_id(), RunKind.NOTEBOOK, centre.member, centre.project, profile)
    return admission.reserve(centre.database, request, now, POLICY)


class TestTheWay:
    """Draft, submitted, in review, decided."""

    def test_to_a_new_award_that_starts_as_the_last_one_ends(self, centre: Centre) -> None:
        before = shown(centre)
        renewal = in_review(centre)
        assert (renewal.state, renewal.reviewer) == (RenewalState.IN_REVIEW, REVIEWER)
        done = approve(centre, renewal.id)
        assert (done.state, done.decided_by, done.decision_reason) == (RenewalState.APPROVED, REVIEWER, "Well used.")
        old, new = awards.of_project(centre.database, "vision", NOW)
        assert (old.id, new.id) == (done.award, done.new_award)
        assert (new.starts_at, new.ends_at) == (old.ends_at, old.ends_at + 10 * DAY_SECONDS)
        assert (new.gflops, new.granted, new.state) == (100_000, 100_000 * 10 * DAY_SECONDS, AwardState.SCHEDULED)
        assert shown(centre) == before
        assert told(centre, "pi") == ["renewal"]
        assert events(centre, "vision")[-4:] == [
            "renewal filed",
            "renewal submitted",
            "renewal in_review",
            "renewal approved",
        ]
        all_is_well(centre, NOW)
        all_is_well(centre, centre.ends_at + 1)

    def test_a_draft_can_be_changed_and_nothing_later(self, centre: Centre) -> None:
        renewal = filed(centre).id
        changed = renewals.edit(centre.database, renewal, wish(centre, gflops=5), reason="Less.", actor="pi", now=NOW)
        assert (changed.gflops, changed.reason, changed.state) == (5, "Less.", RenewalState.DRAFT)
        renewals.submit(centre.database, renewal, actor="pi", now=NOW)
        with refused("renewal", "is submitted and cannot become draft"):
            renewals.edit(centre.database, renewal, wish(centre), reason="More.", actor="pi", now=NOW)

    def test_what_is_given_may_differ_from_what_was_asked_for(self, centre: Centre) -> None:
        renewal = in_review(centre)
        given = Given(50_000, centre.ends_at + DAY_SECONDS, 4 * PPM, PPM // 2, (PPM // 4, 3 * PPM // 4))
        approve(centre, renewal.id, given)
        _, new = awards.of_project(centre.database, "vision", NOW)
        budget = 50_000 * DAY_SECONDS // 2
        assert (new.gflops, new.ceiling_gflops, new.ends_at) == (50_000, 200_000, centre.ends_at + DAY_SECONDS)
        assert (new.granted, new.tranches[0].amount) == (budget // 4, budget - budget // 4)
        all_is_well(centre, NOW)

    def test_a_rejection_says_why(self, centre: Centre) -> None:
        renewal = in_review(centre).id
        with refused("reason"):
            renewals.reject(centre.database, renewal, reason=" ", actor=REVIEWER, now=NOW)
        view = renewals.reject(centre.database, renewal, reason="No data.", actor=REVIEWER, now=NOW)
        assert (view.state, view.decision_reason) == (RenewalState.REJECTED, "No data.")
        assert told(centre, "pi") == ["renewal"]
        assert filed(centre).state is RenewalState.DRAFT

    def test_what_the_table_does_not_allow_is_refused(self, centre: Centre) -> None:
        def reject(renewal: int) -> object:
            return renewals.reject(centre.database, renewal, reason="a", actor=REVIEWER, now=NOW)

        ways: dict[RenewalState, Callable[[int], object]] = {
            RenewalState.DRAFT: lambda renewal: renewals.edit(
                centre.database, renewal, wish(centre), reason="a", actor="pi", now=NOW
            ),
            RenewalState.SUBMITTED: lambda renewal: renewals.submit(centre.database, renewal, actor="pi", now=NOW),
            RenewalState.IN_REVIEW: lambda renewal: renewals.review(centre.database, renewal, actor=REVIEWER, now=NOW),
            RenewalState.APPROVED: lambda renewal: approve(centre, renewal),
            RenewalState.REJECTED: reject,
            RenewalState.WITHDRAWN: lambda renewal: renewals.withdraw(centre.database, renewal, actor="pi", now=NOW),
        }
        road = (RenewalState.SUBMITTED, RenewalState.IN_REVIEW)
        for number, state in enumerate(RenewalState):
            approved(centre, f"p{number}")
            renewal = filed(centre, f"p{number}").id
            taken = {RenewalState.DRAFT: (), RenewalState.SUBMITTED: road[:1], RenewalState.IN_REVIEW: road}
            for step in taken.get(state, (*road, state)):
                ways[step](renewal)
            before = renewals.show(centre.database, renewal)
            assert before is not None
            assert before.state is state
            for new in set(RenewalState) - ALLOWED_CHANGES[state]:
                with refused("renewal", f"is {state} and cannot become {new}"):
                    ways[new](renewal)
                assert renewals.show(centre.database, renewal) == before


class TestWho:
    """A PI of that project files, a reviewer who is not of it decides."""

    @pytest.mark.parametrize("who", ["member", "outsider", "boss", REVIEWER, "operator", "nobody"])
    def test_a_strangers_project_is_refused(self, centre: Centre, who: str) -> None:
        with refused("project", "only its PIs may ask for this"):
            filed(centre, actor=who)
        renewal = filed(centre).id
        for act in (
            lambda: renewals.edit(centre.database, renewal, wish(centre), reason="a", actor=who, now=NOW),
            lambda: renewals.submit(centre.database, renewal, actor=who, now=NOW),
            lambda: renewals.withdraw(centre.database, renewal, actor=who, now=NOW),
        ):
            with refused("project", "only its PIs"):
                act()

    def test_a_pi_of_another_project_is_a_stranger(self, centre: Centre) -> None:
        approved(centre, "sound")
        projects.add_member(centre.database, "sound", "boss", MembershipRole.PI, actor="operator", now=NOW)
        with refused("project", "'vision' is no project of which 'boss' is a PI"):
            filed(centre, actor="boss")
        assert filed(centre, "sound", actor="boss").filed_by == "boss"

    def test_which_projects_there_are_is_not_found_out_by_asking(self, centre: Centre) -> None:
        messages = set()
        for code in ("vision", "nothing"):
            with pytest.raises(InvalidValue) as caught:
                filed(centre, code, actor="boss")
            messages.add(str(caught.value).replace(code, "…"))
        assert len(messages) == 1

    @pytest.mark.parametrize("who", ["pi", "member", "outsider", "nobody"])
    def test_only_a_reviewer_decides(self, centre: Centre, who: str) -> None:
        renewal = filed(centre).id
        renewals.submit(centre.database, renewal, actor="pi", now=NOW)
        with refused("by"):
            renewals.review(centre.database, renewal, actor=who, now=NOW)
        renewals.review(centre.database, renewal, actor=REVIEWER, now=NOW)
        with refused("by"):
            approve(centre, renewal, actor=who)
        with refused("by"):
            renewals.reject(centre.database, renewal, reason="a", actor=who, now=NOW)

    def test_a_reviewer_who_is_a_member_does_not(self, centre: Centre) -> None:
        renewal = in_review(centre).id
        projects.add_member(centre.database, "vision", REVIEWER, MembershipRole.MEMBER, actor="operator", now=NOW)
        with refused("by", "judge is a member of vision"):
            approve(centre, renewal)


class TestWhatIsRefused:
    """With the field, and what is allowed."""

    @pytest.mark.parametrize(
        ("changed", "field"),
        [
            ({"gflops": 0}, "award"),
            ({"gflops": -1}, "award"),
            ({"gflops": 2**63}, "award"),
            ({"gflops": 2**60}, "award budget"),
            ({"precision": "fp31"}, "precision"),
            ({"ends_at": NOW}, "until"),
            ({"ends_at": NOW + 29 * DAY_SECONDS}, "until"),
            ({"ends_at": 32_503_680_001}, "until"),
            ({"ends_at": 0}, "until"),
        ],
    )
    def test_a_wish_that_cannot_be(self, centre: Centre, changed: dict[str, Any], field: str) -> None:
        with refused(field):
            filed(centre, asked=None if changed is None else wish(centre, **changed))
        assert renewals.list_renewals(centre.database) == []

    def test_a_second_one(self, centre: Centre) -> None:
        first = filed(centre).id
        with refused("project", f"the renewal {first} of vision is open already"):
            filed(centre)
        renewals.withdraw(centre.database, first, actor="pi", now=NOW)
        assert filed(centre).state is RenewalState.DRAFT

    def test_without_a_reason(self, centre: Centre) -> None:
        with refused("reason"):
            filed(centre, reason="")

    def test_of_a_project_without_an_award_or_an_end(self, centre: Centre) -> None:
        applied(centre, "robot")
        with refused("project", "robot is applied"):
            filed(centre, "robot")
        projects.end(centre.database, "vision", actor="operator", now=NOW)
        with refused("project", "vision is ended"):
            filed(centre)

    def test_of_a_revoked_award(self, centre: Centre) -> None:
        renewal = in_review(centre).id
        awards.revoke(centre.database, "vision", reason="a", confirm="vision", actor="operator", now=NOW)
        with refused("project", "was revoked, and that is final"):
            approve(centre, renewal)
        renewals.withdraw(centre.database, renewal, actor="pi", now=NOW)
        with refused("project", "was revoked"):
            filed(centre)

    def test_while_it_is_suspended(self, centre: Centre) -> None:
        renewal = in_review(centre).id
        awards.suspend(centre.database, "vision", reason="a", actor="operator", now=NOW)
        with refused("project", "vision is suspended; resume or revoke it first"):
            approve(centre, renewal)
        awards.resume(centre.database, "vision", reason="a", actor="operator", now=NOW)
        assert approve(centre, renewal).state is RenewalState.APPROVED

    def test_while_a_report_is_overdue(self, centre: Centre) -> None:
        renewal = filed(centre).id
        report = outcomes.require(centre.database, "vision", NOW + 1, actor="operator", now=NOW).id
        late = NOW + 1
        with refused("report", f"report {report} was due at"):
            renewals.submit(centre.database, renewal, actor="pi", now=late)
        renewals.submit(centre.database, renewal, actor="pi", now=NOW)
        renewals.review(centre.database, renewal, actor=REVIEWER, now=NOW)
        with refused("report", "it must be submitted first"):
            approve(centre, renewal, now=late)
        period = outcomes.Period(centre.starts_at, NOW)
        outcomes.draft(centre.database, report, period, "Done.", actor="pi", now=late)
        outcomes.submit(centre.database, report, actor="pi", now=late)
        assert approve(centre, renewal, now=late).state is RenewalState.APPROVED

    def test_beyond_the_capacity_without_consent(self, centre: Centre) -> None:
        tight = Programme("fp32", PPM)
        renewal = in_review(centre, asked=wish(centre, gflops=4 * 66_900 + 7 * 8_109 + 1)).id
        with refused("award", "needs consent"):
            approve(centre, renewal, programme=tight)
        assert len(awards.of_project(centre.database, "vision", NOW)) == 1
        approve(centre, renewal, programme=Programme("fp32", PPM, consent=True))

    def test_at_another_precision_than_the_programmes(self, centre: Centre) -> None:
        renewal = in_review(centre, asked=wish(centre, precision="fp16")).id
        with refused("precision", "the programme counts in fp32"):
            approve(centre, renewal)

    def test_where_the_award_was_extended_past_it(self, centre: Centre) -> None:
        renewal = in_review(centre).id
        extension = Change(ChangeKind.EXTENSION, ends_at=centre.ends_at + 20 * DAY_SECONDS)
        changes.apply_directly(
            centre.database, "vision", extension, reason="a", programme=PROGRAMME, actor="operator", now=NOW
        )
        with refused("until", "when it would start"):
            approve(centre, renewal)

    def test_an_extension_into_the_next_award(self, centre: Centre) -> None:
        approve(centre, in_review(centre).id)
        extension = Change(ChangeKind.EXTENSION, ends_at=centre.ends_at + 1)
        with refused("until", "must be at most 2027-02-13 17:00 KST, when the project's next award starts"):
            changes.apply_directly(
                centre.database, "vision", extension, reason="a", programme=PROGRAMME, actor="operator", now=NOW
            )


def at_draft(centre: Centre) -> None:
    filed(centre)


def at_submitted(centre: Centre) -> None:
    renewals.submit(centre.database, filed(centre).id, actor="pi", now=NOW)


def at_approved(centre: Centre) -> None:
    approve(centre, in_review(centre).id)


def at_rejected(centre: Centre) -> None:
    renewals.reject(centre.database, in_review(centre).id, reason="a", actor=REVIEWER, now=NOW)


def at_withdrawn(centre: Centre) -> None:
    renewals.withdraw(centre.database, filed(centre).id, actor="pi", now=NOW)


STATES = {
    RenewalState.DRAFT: at_draft,
    RenewalState.SUBMITTED: at_submitted,
    RenewalState.IN_REVIEW: in_review,
    RenewalState.APPROVED: at_approved,
    RenewalState.REJECTED: at_rejected,
    RenewalState.WITHDRAWN: at_withdrawn,
}


def test_every_state_is_tried_below() -> None:
    assert set(STATES) == set(RenewalState)


@pytest.mark.parametrize("state", RenewalState)
def test_a_renewal_in_any_state_leaves_the_award_as_it_is(centre: Centre, state: RenewalState) -> None:
    """It starts, extends, charges and expires to the second and the unit as it would without."""
    before = shown(centre)
    STATES[state](centre)
    assert renewals.list_renewals(centre.database, "vision")[0].state is state
    assert shown(centre) == before
    run = start(centre)
    assert isinstance(run, Admitted)
    assert (run.amount, run.until_at) == (1920 * 50, NOW + 1920)
    extension = admission.extend(centre.database, run.run_id, NOW + 900, POLICY)
    assert (extension.standing.value, extension.until_at) == ("extended", NOW + 900 + 1920)
    ended = admission.Ended(NOW, NOW + 1000, Outcome.STOPPED)
    charge = admission.settle(centre.database, run.run_id, ended, NOW + 1000)
    assert charge is not None
    assert charge.amount == 50_000
    last = started(centre, centre.ends_at - 700)
    assert isinstance(last, Admitted)
    assert last.until_at == centre.ends_at
    admission.settle(
        centre.database,
        last.run_id,
        admission.Ended(last.opened_at, centre.ends_at, Outcome.LIMIT),
        centre.ends_at,
    )
    assert refunds.expire_ended(centre.database, centre.ends_at - 1) == 0
    assert refunds.expire_ended(centre.database, centre.ends_at) == 1
    old = awards.of_project(centre.database, "vision", centre.ends_at)[0]
    assert (old.state, old.ends_at, old.available) == (AwardState.ENDED, before.ends_at, 0)
    assert (old.spent, old.expired) == (50_000 + 700 * 50, BUDGET - 50_000 - 700 * 50)
    now = started(centre, centre.ends_at)
    assert isinstance(now, Admitted) == (state is RenewalState.APPROVED)
    if isinstance(now, Refused):
        assert now.code is Code.AWARD_ENDED
    all_is_well(centre, centre.ends_at)


class TestTheSeam:
    """Where one award ends and the next one starts, every second belongs to exactly one of them."""

    @pytest.fixture
    def renewed(self, centre: Centre) -> Centre:
        approve(centre, in_review(centre).id)
        return centre

    def test_the_second_before_is_the_old_ones_and_the_next_the_new_ones(self, renewed: Centre) -> None:
        old, new = awards.of_project(renewed.database, "vision", NOW)
        seam = renewed.ends_at
        assert [shown(renewed, now=seam + after).ends_at for after in (-1, 0)] == [old.ends_at, new.ends_at]
        assert [shown(renewed, now=seam + after).phase for after in (-1, 0)] == [Phase.ACTIVE, Phase.ACTIVE]
        run = started(renewed, seam)
        assert isinstance(run, Admitted)
        assert awards.of_project(renewed.database, "vision", seam)[1].held == run.amount

    def test_a_server_that_runs_over_it_ends_with_the_old_award_and_its_person_is_told(self, renewed: Centre) -> None:
        seam = renewed.ends_at
        run = started(renewed, seam - 1000)
        assert isinstance(run, Admitted)
        assert run.until_at == seam
        extension = admission.extend(renewed.database, run.run_id, seam - 900, POLICY)
        assert (extension.standing.value, extension.until_at, extension.stop_at) == ("ending", seam, seam - 120)
        assert told(renewed, "member") == ["run ending"]
        admission.settle(
            renewed.database, run.run_id, admission.Ended(run.opened_at, seam - 100, Outcome.LIMIT), seam - 100
        )
        again = started(renewed, seam)
        assert isinstance(again, Admitted)
        old, new = awards.of_project(renewed.database, "vision", seam)
        assert (old.spent, new.held, new.spent) == (900 * 50, again.amount, 0)
        all_is_well(renewed, seam)

    def test_what_it_settles_late_is_the_old_awards(self, renewed: Centre) -> None:
        seam = renewed.ends_at
        run = started(renewed, seam - 1000)
        assert isinstance(run, Admitted)
        ended = admission.Ended(run.opened_at, seam - 500, Outcome.STOPPED)
        admission.settle(renewed.database, run.run_id, ended, seam + 50)
        assert refunds.expire_ended(renewed.database, seam + 50) == 1
        old, new = awards.of_project(renewed.database, "vision", seam + 50)
        assert (old.spent, old.available, old.held) == (500 * 50, 0, 0)
        assert new.available == new.granted
        all_is_well(renewed, seam + 50)

    def test_the_files_are_kept_after_the_last_of_them(self, renewed: Centre) -> None:
        seam = renewed.ends_at
        assert shown(renewed, now=seam).storage_until is None
        end = seam + 10 * DAY_SECONDS
        assert shown(renewed, now=end).storage_until == end + 30 * DAY_SECONDS

    def test_a_suspension_and_a_revocation_are_of_both(self, renewed: Centre) -> None:
        views = awards.suspend(renewed.database, "vision", reason="a", actor="operator", now=NOW)
        assert [view.state for view in views] == [AwardState.SUSPENDED] * 2
        assert isinstance(started(renewed, renewed.ends_at), Refused)
        views = awards.resume(renewed.database, "vision", reason="a", actor="operator", now=NOW)
        assert [view.state for view in views] == [AwardState.ACTIVE, AwardState.SCHEDULED]
        views = awards.revoke(renewed.database, "vision", reason="a", confirm="vision", actor="operator", now=NOW)
        assert [(view.state, view.available, view.granted) for view in views] == [(AwardState.REVOKED, 0, 0)] * 2
        all_is_well(renewed, NOW)

    def test_a_projects_end_ends_both(self, renewed: Centre) -> None:
        projects.end(renewed.database, "vision", actor="operator", now=NOW)
        old, new = awards.of_project(renewed.database, "vision", NOW)
        assert (old.available, new.available) == (0, 0)
        assert [kind for kind, _ in journal(renewed, "vision")] == ["grant", "grant", "expire", "expire"]
        all_is_well(renewed, NOW)

    def test_another_one_follows_the_new_award(self, renewed: Centre) -> None:
        later = wish(renewed, ends_at=renewed.ends_at + 20 * DAY_SECONDS)
        approve(renewed, in_review(renewed, asked=later).id)
        found = awards.of_project(renewed.database, "vision", NOW)
        assert [view.starts_at for view in found][1:] == [view.ends_at for view in found][:-1]
        all_is_well(renewed, NOW)


def test_a_renewal_after_the_end_starts_at_once(centre: Centre) -> None:
    late = centre.ends_at + 5 * DAY_SECONDS
    assert shown(centre, now=late).phase is Phase.GRACE
    refunds.expire_ended(centre.database, late)
    renewal = in_review(centre, now=late).id
    approve(centre, renewal, now=late + 60)
    _, new = awards.of_project(centre.database, "vision", late + 60)
    assert (new.starts_at, new.state) == (late + 60, AwardState.ACTIVE)
    assert shown(centre, now=late + 60).phase is Phase.ACTIVE
    assert isinstance(started(centre, late + 60), Admitted)
    all_is_well(centre, late + 60)


def test_there_is_no_other(centre: Centre) -> None:
    with refused("renewal", "there is no '99'"):
        renewals.submit(centre.database, 99, actor="pi", now=NOW)
    assert renewals.show(centre.database, 99) is None
    with refused("project"):
        renewals.list_renewals(centre.database, "nothing")


def test_the_old_awards_burst_is_kept_unless_another_is_given(centre: Centre) -> None:
    approved(centre, "burst", award(centre, burst_ppm=3 * PPM, utilisation_ppm=PPM // 2))
    approve(centre, in_review(centre, code="burst").id)
    _, new = awards.of_project(centre.database, "burst", NOW)
    assert (new.ceiling_gflops, new.granted) == (300_000, 100_000 * 10 * DAY_SECONDS // 2)
