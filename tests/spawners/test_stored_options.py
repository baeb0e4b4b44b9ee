"""The options that the hub has stored are the last choice and no right: who may is read anew at every start."""

from __future__ import annotations

import time
from typing import Any

import pytest

from quotas.domain.people import MembershipRole
from quotas.domain.runs import RunState
from quotas.services import check, projects
from tests.platform import BY, CPU, GPU, LARGE, Platform


def again(platform: Platform, person: str, project: str = "vision") -> Any:
    """Ask for the server without a word about what is wanted."""
    return platform.api(person, "POST", f"/users/{person}/servers/{project}")


def test_a_start_that_names_nothing_takes_the_last_choice_with_a_hold_of_its_own(platform: Platform) -> None:
    for _ in range(2):
        answer = platform.start_server("ada", "vision", LARGE) if not platform.runs() else again(platform, "ada")
        assert answer.status_code == 201, answer.text
        platform.stop_server("ada", "vision")
    first, second = platform.runs("vision")
    assert (first.profile, second.profile) == (LARGE, LARGE)
    assert first.id != second.id
    assert first.charge
    assert second.charge


def test_a_choice_that_was_withdrawn_meanwhile_is_refused(platform: Platform) -> None:
    assert platform.start_server("ben", "vision", LARGE).status_code == 201
    platform.stop_server("ben", "vision")
    before = len(platform.runs())
    now = int(time.time())
    projects.withdraw_profile(platform.database, "vision", LARGE, actor=BY, now=now)
    refused = again(platform, "ben")
    assert refused.status_code == 403
    assert "vision" in refused.json()["message"]
    assert LARGE in refused.json()["message"]
    projects.offer_profile(platform.database, "vision", LARGE, actor=BY, now=now)
    projects.remove_member(platform.database, "vision", "ben", actor=BY, now=now)
    assert again(platform, "ben").status_code == 403
    assert len(platform.runs()) == before
    projects.add_member(platform.database, "vision", "ben", MembershipRole.MEMBER, actor=BY, now=now)
    assert again(platform, "ben").status_code == 201
    platform.stop_server("ben", "vision")


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_options_stored_beforehand_give_no_right(platform: Platform, method: str) -> None:
    before = len(platform.runs())
    if method == "PATCH":
        platform.api("ada", "PUT", "/users/ada/servers/robots")
    stored = platform.api("ada", method, "/users/ada/servers/robots", json={"user_options": {"profile": GPU}})
    assert stored.is_success, stored.text
    refused = again(platform, "ada", "robots")
    assert refused.status_code == 403
    assert f"robots may not use the profile {GPU}" in refused.json()["message"]
    assert len(platform.runs()) == before
    platform.api("ada", "DELETE", "/users/ada/servers/robots", json={"remove": True})


def test_a_server_that_is_given_another_project_s_name_is_that_project_s(platform: Platform) -> None:
    platform.api("ada", "PUT", "/users/ada/servers/elsewhere", json={"user_options": {"profile": GPU}})
    renamed = platform.api("ada", "PATCH", "/users/ada/servers/elsewhere", json={"name": "robots"})
    assert renamed.is_success, renamed.text
    before = len(platform.runs())
    assert f"robots may not use the profile {GPU}" in again(platform, "ada", "robots").json()["message"]
    assert len(platform.runs()) == before


def test_a_running_server_keeps_its_name_and_its_options(platform: Platform) -> None:
    assert platform.start_server("cho", "vision", CPU).status_code == 201
    for body in ({"name": "robots"}, {"user_options": {"profile": GPU}}):
        assert platform.api("cho", "PATCH", "/users/cho/servers/vision", json=body).status_code == 400
    (run,) = [each for each in platform.runs() if each.person == "cho"]
    assert (run.project, run.profile, run.state) == ("vision", CPU, RunState.RUNNING)
    platform.stop_server("cho", "vision")
    assert check.findings(platform.database, int(time.time())) == []
