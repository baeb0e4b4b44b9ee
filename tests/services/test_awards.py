"""Suspension, revocation, and how an award stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from quotas.domain.admission import Admitted
from quotas.domain.awards import AwardState
from quotas.domain.policy import Policy
from quotas.domain.projects import Phase
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import Outcome
from quotas.domain.units import DAY_SECONDS, PPM
from quotas.services import admission, awards, projects, refunds, reports
from quotas.services.awards import AwardView
from tests.centre import NOW, Centre, applied, award, events, shown, start
from tests.services.deciding import all_is_well, approved, journal, refused, told, with_reviewer

POLICY = Policy()
BUDGET = 200_000 * 30 * DAY_SECONDS


@pytest.fixture
def centre(seeded: Centre) -> Centre:
    return with_reviewer(seeded)


def decide(centre: Centre, what: str, code: str = "vision", **changes: Any) -> list[AwardView]:
    values = {"reason": "They asked for it.", "actor": "operator", "now": NOW, **changes}
    if what == "revoke":
        values.setdefault("confirm", code)
    act: Callable[..., list[AwardView]] = getattr(awards, what)
    return act(centre.database, code, **values)


def state(centre: Centre, now: int = NOW, code: str = "vision") -> AwardState:
    (view,) = awards.of_project(centre.database, code, now)
    return view.state


def settled(centre: Centre, run: Admitted, seconds: int) -> None:
    ended = admission.Ended(run.opened_at, run.opened_at + seconds, Outcome.REVOKED)
    admission.settle(centre.database, run.run_id, ended, run.opened_at + seconds)


class TestSuspension:
    """Nothing starts and nothing is extended; it can be taken back."""

    def test_nothing_starts_until_it_is_resumed(self, centre: Centre) -> None:
        (view,) = decide(centre, "suspend")
        assert (view.state, view.reason) == (AwardState.SUSPENDED, "They asked for it.")
        assert (shown(centre).phase, shown(centre).suspended_at) == (Phase.SUSPENDED, NOW)
        refusal = start(centre)
        assert isinstance(refusal, Refused)
        assert refusal.code is Code.AWARD_SUSPENDED
        (view,) = decide(centre, "resume", now=NOW + 60, reason="Sorted out.")
        assert (view.state, view.reason) == (AwardState.ACTIVE, None)
        assert isinstance(start(centre), Admitted)
        assert [(each.since, each.ended_at, each.reason, each.ended_reason) for each in view.suspensions] == [
            (NOW, NOW + 60, "They asked for it.", "Sorted out.")
        ]
        assert events(centre, "vision")[-4:] == [
            "award suspended",
            "start refused",
            "award resumed",
            "start admitted",
        ]
        assert told(centre, "member") == ["award suspended", "award resumed"]
        assert told(centre, "outsider") == []
        all_is_well(centre, NOW + 60)

    def test_what_runs_lives_to_the_end_of_its_hold_and_no_longer(self, centre: Centre) -> None:
        run = start(centre)
        assert isinstance(run, Admitted)
        decide(centre, "suspend")
        late = run.until_at - POLICY.stop_margin - 1
        extension = admission.extend(centre.database, run.run_id, late, POLICY)
        assert (extension.standing.value, extension.until_at) == ("ending", run.until_at)
        assert extension.stop_at is not None
        assert late < extension.stop_at <= run.until_at
        settled(centre, run, 100)
        assert shown(centre).available == BUDGET - 100 * 50
        all_is_well(centre, late)

    def test_takes_nothing_and_gives_no_time_back(self, centre: Centre) -> None:
        before = shown(centre)
        decide(centre, "suspend")
        decide(centre, "resume", now=NOW + DAY_SECONDS)
        after = shown(centre, now=NOW + DAY_SECONDS)
        assert (after.ends_at, after.available, after.granted) == (before.ends_at, before.available, before.granted)

    def test_ends_with_the_award(self, centre: Centre) -> None:
        decide(centre, "suspend")
        assert state(centre, centre.ends_at) is AwardState.ENDED
        with refused("project", "is ended and cannot become active"):
            decide(centre, "resume", now=centre.ends_at)
        assert refunds.expire_ended(centre.database, centre.ends_at) == 1
        assert shown(centre, now=centre.ends_at).expired == BUDGET
        all_is_well(centre, centre.ends_at)

    def test_of_an_award_that_has_not_begun_keeps_it_from_starting(self, centre: Centre) -> None:
        approved(centre, "later", award(centre, starts_at=NOW + 10))
        decide(centre, "suspend", "later")
        assert state(centre, NOW + 20, "later") is AwardState.SUSPENDED
        decide(centre, "resume", "later", now=NOW + 5)
        assert state(centre, NOW + 5, "later") is AwardState.SCHEDULED
        assert state(centre, NOW + 10, "later") is AwardState.ACTIVE

    def test_still_counts_as_promised(self, centre: Centre) -> None:
        decide(centre, "suspend")
        applied(centre, "robot")
        with refused("award", "needs consent"):
            approved(centre, "sound", award(centre), consent=False, oversubscription_limit_ppm=PPM)


class TestRevocation:
    """It is final: what is left is the programme's again, and what runs is stopped."""

    def test_returns_what_is_available(self, centre: Centre) -> None:
        issued = sum(amount for _, amount in journal(centre, "vision"))
        (view,) = decide(centre, "revoke")
        assert (view.state, view.available, view.granted, view.expired) == (AwardState.REVOKED, 0, 0, 0)
        assert journal(centre, "vision") == [("grant", issued), ("revoke", issued)]
        found = shown(centre)
        assert (found.phase, found.revoked_at, found.standing_reason) == (Phase.REVOKED, NOW, "They asked for it.")
        assert found.storage_until == NOW + 30 * DAY_SECONDS
        refusal = start(centre)
        assert isinstance(refusal, Refused)
        assert refusal.code is Code.AWARD_REVOKED
        assert told(centre, "member") == ["award revoked"]
        assert refunds.expire_ended(centre.database, NOW) == 0
        assert refunds.expire_ended(centre.database, centre.ends_at) == 0
        all_is_well(centre, centre.ends_at)

    def test_stops_what_runs_at_once_and_returns_what_that_leaves(self, centre: Centre) -> None:
        run = start(centre, "h100")
        assert isinstance(run, Admitted)
        decide(centre, "revoke", now=NOW + 10)
        extension = admission.extend(centre.database, run.run_id, NOW + 11, POLICY)
        assert (extension.standing.value, extension.stop_at) == ("ending", NOW + 11)
        settled(centre, run, 20)
        assert refunds.expire_ended(centre.database, NOW + 21) == 1
        view = shown(centre, now=NOW + 21)
        assert (view.available, view.held, view.spent, view.expired) == (0, 0, 20 * 66_900, 0)
        assert view.granted == view.spent
        assert [kind for kind, _ in journal(centre, "vision")] == ["grant", "revoke", "revoke"]
        all_is_well(centre, NOW + 21)

    def test_returns_what_is_refunded_later(self, centre: Centre) -> None:
        run = start(centre, "h100")
        assert isinstance(run, Admitted)
        settled(centre, run, 20)
        decide(centre, "revoke", now=NOW + 30)
        refunds.refund_charge(centre.database, run.run_id, 500, reason="a fault", actor="operator", now=NOW + 40)
        view = shown(centre, now=NOW + 40)
        assert (view.available, view.expired, view.spent, view.granted) == (0, 0, 20 * 66_900 - 500, 20 * 66_900 - 500)
        all_is_well(centre, NOW + 40)

    def test_is_confirmed_by_the_projects_code(self, centre: Centre) -> None:
        for confirm in ("", "yes", "Vision", "sound"):
            with refused("confirm", "a revocation is final"):
                decide(centre, "revoke", confirm=confirm)
        assert state(centre) is AwardState.ACTIVE

    def test_of_a_suspended_award_ends_the_suspension(self, centre: Centre) -> None:
        decide(centre, "suspend")
        (view,) = decide(centre, "revoke", now=NOW + 5)
        assert view.state is AwardState.REVOKED
        assert view.suspensions[0].ended_at == NOW + 5

    def test_is_never_taken_back(self, centre: Centre) -> None:
        decide(centre, "revoke")
        for what in ("revoke", "suspend", "resume"):
            with refused("project", "vision is revoked and cannot become"):
                decide(centre, what)

    def test_counts_as_promised_no_more(self, centre: Centre) -> None:
        decide(centre, "revoke")
        approved(centre, "sound", award(centre), consent=False, oversubscription_limit_ppm=PPM)
        assert reports.status(centre.database, NOW).awarded_gflops == 200_000


ALLOWED: dict[str, tuple[str, ...]] = {
    "scheduled": ("suspend", "revoke"),
    "active": ("suspend", "revoke"),
    "suspended": ("resume", "revoke"),
    "revoked": (),
    "ended": (),
}
WAYS: dict[str, tuple[str, ...]] = {"suspended": ("suspend",), "revoked": ("revoke",)}


@pytest.mark.parametrize("standing", ALLOWED)
def test_what_the_table_does_not_allow_is_refused_and_changes_nothing(centre: Centre, standing: str) -> None:
    starts_at = NOW + 10 if standing == "scheduled" else NOW - 10
    approved(centre, "sound", award(centre, starts_at=starts_at, ends_at=NOW + 100))
    for what in WAYS.get(standing, ()):
        decide(centre, what, "sound")
    now = NOW + 100 if standing == "ended" else NOW
    before = awards.of_project(centre.database, "sound", now)
    assert before[0].state == standing
    for what in {"suspend", "resume", "revoke"} - set(ALLOWED[standing]):
        with refused("project"):
            decide(centre, what, "sound", now=now)
        assert awards.of_project(centre.database, "sound", now) == before
    for what in ALLOWED[standing]:
        decide(centre, what, "sound", now=now)


@pytest.mark.parametrize("what", ["suspend", "resume", "revoke"])
def test_a_decision_says_why_and_of_what(centre: Centre, what: str) -> None:
    for reason in ("", " ", "x" * 2001):
        with refused("reason"):
            decide(centre, what, reason=reason)
    with refused("project", "there is no 'nothing'"):
        decide(centre, what, "nothing")
    applied(centre, "robot")
    with refused("project", "robot has no award"):
        decide(centre, what, "robot")


def test_awards_of_an_unknown_project_are_none(centre: Centre) -> None:
    with refused("project"):
        awards.of_project(centre.database, "nothing", NOW)
    applied(centre, "robot")
    assert awards.of_project(centre.database, "robot", NOW) == []


def test_the_files_are_kept_as_long_as_was_set_when_the_award_was_given(centre: Centre) -> None:
    approved(centre, "sound", storage_grace_days=3)
    assert shown(centre, "sound").storage_until is None
    end = centre.ends_at
    for after, phase in ((-1, Phase.ACTIVE), (0, Phase.GRACE), (3 * DAY_SECONDS - 1, Phase.GRACE)):
        assert shown(centre, "sound", now=end + after).phase is phase
    view = shown(centre, "sound", now=end + 3 * DAY_SECONDS)
    assert (view.phase, view.storage_until) == (Phase.ENDED, end + 3 * DAY_SECONDS)


@pytest.mark.parametrize("days", [-1, 3651, True])
def test_a_grace_that_cannot_be_is_refused(centre: Centre, days: int) -> None:
    with refused("storage_grace_days", "0 to 3650"):
        approved(centre, "sound", storage_grace_days=days)


def test_an_ended_project_has_no_awards_to_decide_of(centre: Centre) -> None:
    projects.end(centre.database, "vision", actor="operator", now=NOW)
    assert state(centre) is AwardState.ENDED
    for what in ("suspend", "resume", "revoke"):
        with refused("project", "vision is ended and cannot become"):
            decide(centre, what)
