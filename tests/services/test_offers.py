"""What a person may start now, and the decision explained."""

from __future__ import annotations

import pytest

from quotas.domain.admission import RULES, Admitted, Request
from quotas.domain.policy import Policy
from quotas.domain.projects import Phase
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import RunKind, new_run_id
from quotas.services import admission, offers, projects
from tests import centre as world
from tests.centre import Centre

POLICY = Policy()


@pytest.fixture
def centre(seeded: Centre) -> Centre:
    """The small centre with people, supply and one active project."""
    return seeded


def request(centre: Centre, profile: str, person: str = "member", project: str | None = None) -> Request:
    return Request(new_run_id(), RunKind.NOTEBOOK, person, project or centre.project, profile)


def decisions(centre: Centre) -> dict[str, Admitted | Refused]:
    (project,) = offers.offers(centre.database, centre.member, centre.now, POLICY)
    return {profile.code: profile.decision for profile in project.profiles}


def test_a_member_sees_the_project_with_its_profiles(centre: Centre) -> None:
    (project,) = offers.offers(centre.database, centre.member, centre.now, POLICY)
    assert (project.code, project.phase, project.role) == (centre.project, Phase.ACTIVE, "member")
    assert project.granted == project.available == centre.gflops * (centre.ends_at - centre.starts_at)
    h100 = next(profile for profile in project.profiles if profile.code == "h100")
    assert (h100.gflops, h100.free_devices, h100.available) == (66_900, 4, True)
    assert h100.affordable_seconds == min(project.available // 66_900, centre.ends_at - centre.now)


def test_a_stranger_sees_nothing(centre: Centre) -> None:
    assert offers.offers(centre.database, centre.outsider, centre.now, POLICY) == []
    assert offers.offers(centre.database, "nobody", centre.now, POLICY) == []


def test_what_cannot_be_had_stays_visible_with_its_reason(centre: Centre) -> None:
    projects.withdraw_profile(centre.database, centre.project, "h100", actor=centre.operator, now=centre.now)
    found = decisions(centre)
    assert isinstance(found["cpu-small"], Admitted)
    refused = found["h100"]
    assert isinstance(refused, Refused)
    assert refused.code is Code.PROFILE_NOT_OFFERED


def test_an_open_server_is_named_and_refuses_a_second(centre: Centre) -> None:
    first = request(centre, "h100-1g")
    admission.reserve(centre.database, first, centre.now, POLICY)
    (project,) = offers.offers(centre.database, centre.member, centre.now, POLICY)
    assert (project.open_run, project.open_profile) == (first.run_id, "h100-1g")
    assert {each.decision.code for each in project.profiles if isinstance(each.decision, Refused)} == {
        Code.ALREADY_RUNNING
    }


def test_a_project_that_can_start_something_comes_first(centre: Centre) -> None:
    projects.apply(centre.database, world.application(centre, "aaa-waiting"), actor=centre.member, now=centre.now)
    assert [each.code for each in offers.offers(centre.database, centre.member, centre.now, POLICY)] == [
        centre.project,
        "aaa-waiting",
    ]


def test_a_refusal_names_the_largest_profile_that_fits(centre: Centre) -> None:
    for person in (centre.pi, centre.member):
        admission.reserve(centre.database, request(centre, "h100", person), centre.now, POLICY)
    projects.add_member(
        centre.database, centre.project, centre.outsider, world.MembershipRole.MEMBER, actor="pi", now=centre.now
    )
    asked = request(centre, "h100", centre.outsider)
    # Two H100 are in use, 133.8 of 200 TF: a third would be 200.7.
    refused = admission.reserve(centre.database, asked, centre.now, POLICY)
    assert isinstance(refused, Refused)
    assert refused.code is Code.CEILING
    assert offers.with_what_fits(centre.database, asked, refused, centre.now, POLICY).fits_now == "h100-1g"


def test_rights_are_not_cured_by_a_smaller_profile(centre: Centre) -> None:
    asked = request(centre, "h100", centre.outsider)
    refused = admission.reserve(centre.database, asked, centre.now, POLICY)
    assert isinstance(refused, Refused)
    assert offers.with_what_fits(centre.database, asked, refused, centre.now, POLICY).fits_now is None


def test_explain_tells_every_rule_and_holds_nothing(centre: Centre) -> None:
    explained = offers.explain(centre.database, request(centre, "h100"), centre.now, POLICY)
    assert isinstance(explained.decision, Admitted)
    assert [outcome.rule for outcome in explained.rules] == [rule.__name__ for rule in RULES]
    assert explained.numbers["rate_gflops"] == 66_900
    assert explained.numbers["in_use_gflops"] == 0
    (project,) = offers.offers(centre.database, centre.member, centre.now, POLICY)
    assert project.open_run is None


@pytest.mark.parametrize("days", [-3, 40])
def test_explain_outside_of_the_award(centre: Centre, days: int) -> None:
    explained = offers.explain(centre.database, request(centre, "h100"), centre.now + days * 86_400, POLICY)
    assert isinstance(explained.decision, Refused)
    assert explained.decision.code is (Code.AWARD_NOT_STARTED if days < 0 else Code.AWARD_ENDED)
    assert "KST" in explained.decision.message("ko")
