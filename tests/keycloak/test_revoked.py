"""A login goes on as long as the ledger and the provider agree to it; what is away ends nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from quotas.services import identities, people
from tests.keycloak.conftest import FORM, Site
from tests.keycloak.test_login import denial
from tests.platform import Platform, wait_for
from tests.spawners.visitor import Visitor

pytestmark = pytest.mark.keycloak
BY = {"actor": "tests", "now": 1_800_000_000}


@pytest.fixture
def ada(site: Site) -> Iterator[Visitor]:
    with site.visitor() as visitor:
        yield site.log_in(visitor, "ada")


@pytest.fixture
def ben(site: Site) -> Iterator[Visitor]:
    """A member whom nothing depends on."""
    with site.visitor() as visitor:
        site.log_in(visitor, "ben")
        assert visitor.path == "/hub/home"
        yield visitor
    site.realm.change("ben", enabled=True)


def ask(platform: Platform, token: str, method: str = "GET", path: str = "/user") -> httpx.Response:
    headers = {"Authorization": f"token {token}"}
    body = {"last_activity": "2026-11-20T00:00:00Z"} if path.endswith("/activity") else None
    return httpx.request(method, f"{platform.url}/hub/api{path}", headers=headers, json=body, timeout=60)


def no_trace(site: Site) -> None:
    """The hub's log has no error that nobody expected."""
    printed = site.platform.printed("hub", 10**7)
    assert "Traceback" not in printed
    assert "Uncaught exception" not in printed


def test_who_is_logged_out_at_the_provider_is_logged_out_here(site: Site, ben: Visitor) -> None:
    platform = site.platform
    platform.start_server("ben", "vision")
    platform.wait_ready("ben", "vision")
    token = site.token("ben")
    assert ask(platform, token).json()["name"] == "ben"
    site.realm.change("ben", enabled=False)
    site.realm.log_out("ben")
    wait_for("the end of the login", lambda: ask(platform, token).status_code == 403, seconds=20)
    ben.visit("/hub/home")
    assert ben.form(FORM), "the provider asks who it is"
    ben.visit("/services/portal/")
    assert ben.form(FORM)
    alive = ask(platform, token, "POST", "/users/ben/activity")
    assert alive.status_code == 200, "a running server may say that it is alive"
    assert ask(platform, token).status_code == 403, "which makes nothing else good"
    start = ask(platform, token, "POST", "/users/ben/servers/robots")
    assert start.status_code == 403
    assert "ben" in {run.person for run in platform.runs() if run.state.value == "running"}, "work goes on"
    site.realm.change("ben", enabled=True)
    site.log_in(ben, "ben")
    assert ben.answer.status_code == 200
    assert ask(platform, token).status_code == 200, "a new login makes the token good again"
    platform.stop_server("ben", "vision")
    platform.wait_stopped("ben", "vision")


def test_an_access_token_that_ended_is_renewed_once_whoever_asks(site: Site, ben: Visitor) -> None:
    """Each refresh token is good for one use; a second use would end the session, and the login with it."""
    site.realm.set(accessTokenLifespan=2, revokeRefreshToken=True, refreshTokenMaxReuse=0)
    try:
        ben.client.cookies.clear()
        ben.visit("/hub/login")
        site.log_in(ben, "ben")
        token = site.token("ben")
        for _ in range(3):
            time.sleep(3)  # longer than the access token, and than the provider's word is taken
            with ThreadPoolExecutor(8) as threads:
                answers = list(threads.map(lambda _: ask(site.platform, token).status_code, range(8)))
            assert answers == [200] * 8
        assert ben.visit("/hub/home").history == [], "the provider was not asked by way of the browser"
    finally:
        site.realm.set(accessTokenLifespan=300, revokeRefreshToken=False)


def test_a_person_removed_from_the_ledger_is_out(site: Site) -> None:
    platform = site.platform
    with site.visitor() as cho:
        site.log_in(cho, "cho")
        assert cho.path == "/hub/home"
        platform.start_server("cho", "vision")
        platform.wait_ready("cho", "vision")
        token = site.token("cho")
        people.remove_person(platform.database, "cho", **BY)
        wait_for("the end of the login", lambda: ask(platform, token).status_code == 403, seconds=20)
        cho.visit("/hub/home")
        assert (cho.answer.status_code, denial(cho.answer)) == (403, "removed")
        assert cho.visit("/services/portal/").status_code == 403

        def stopped() -> bool:
            return not any(run.person == "cho" and run.state.value != "settled" for run in platform.runs())

        wait_for("the end of the server", stopped, seconds=60)
        people.restore_person(platform.database, "cho", **BY)
        cho.visit("/hub/home")
        assert (cho.answer.status_code, cho.path) == (200, "/hub/home")


def test_an_account_that_an_operator_unlinked_is_logged_out_and_not_linked_again_by_that(
    site: Site, ben: Visitor
) -> None:
    token = site.token("ben")
    assert identities.unlink(site.platform.database, "ben", **BY) == 1
    wait_for("the end of the login", lambda: ask(site.platform, token).status_code == 403, seconds=20)
    assert identities.unlink(site.platform.database, "ben", **BY) == 0
    assert ben.visit("/hub/home").status_code == 200, "the provider vouches for the same account, which is linked anew"
    assert ben.path == "/hub/home"


def test_while_the_provider_is_away_logins_stay_and_nobody_comes_in(site: Site, ada: Visitor) -> None:
    platform = site.platform
    platform.start_server("ada", "robots")
    platform.wait_ready("ada", "robots")
    run = next(each.id for each in platform.runs() if each.person == "ada" and each.state.value == "running")
    token = site.token("ada")
    site.way.cut()
    try:
        ends = time.monotonic() + 3
        wait_for("logins to be stale", lambda: time.monotonic() > ends)
        assert ada.visit("/hub/home").url.path == "/hub/home"
        assert ask(platform, token).status_code == 200
        client = httpx.Client(base_url=platform.url, follow_redirects=True, timeout=60)
        with client:
            state = "x"
            answer = client.get(f"/hub/oauth_callback?code=a&state={state}")
            assert answer.status_code == 400
        platform.kill("hub")
        platform.start_hub()
        for language, what in (("en", "identity provider does not answer"), ("ko", "인증 서버가 응답하지 않아")):
            headers = {"Accept-Language": language}
            with httpx.Client(base_url=platform.url, follow_redirects=True, timeout=60, headers=headers) as client:
                answer = client.get("/hub/login")
                assert (answer.status_code, denial(answer)) == (503, "away")
                assert what in answer.text
                assert answer.headers["Retry-After"] == "60"
        assert "Nobody can log in: the identity provider is away" in platform.printed("hub", 10**6)
        assert [each.id for each in platform.runs() if each.person == "ada" and each.state.value == "running"] == [run]
        assert ada.visit("/user/ada/robots/").status_code == 200
    finally:
        site.way.mend()
    with site.visitor() as again:
        assert site.log_in(again, "ada").path == "/hub/home", "a hub that started without it needs no restart"
    platform.stop_server("ada", "robots")
    platform.wait_stopped("ada", "robots")
    no_trace(site)


def test_a_provider_that_goes_away_in_the_middle_of_a_login_is_told(site: Site) -> None:
    with site.visitor() as ben:
        form = ben.form(FORM)
        ben.client.follow_redirects = False
        fields = {**form.fields, "username": "ben", "password": "a password at the provider"}
        link = ben.client.post(form.action, data=fields).headers["Location"]
        site.way.cut()
        try:
            answer = ben.client.get(link)
            assert (answer.status_code, denial(answer)) == (503, "away")
        finally:
            site.way.mend()
    no_trace(site)


def test_a_secret_that_the_provider_does_not_know_is_told(site: Site) -> None:
    secret = site.platform.home.hub / "oidc_client_secret.secret"
    secret.write_text("wrong")
    site.restart_hub()
    try:
        with site.visitor() as ben:
            site.log_in(ben, "ben")
            assert (ben.answer.status_code, denial(ben.answer)) == (502, "not_understood")
    finally:
        secret.write_text(site.realm.secret)
        site.restart_hub()
    no_trace(site)


def test_someone_unknown_is_entered_where_that_is_set(site: Site) -> None:
    site.restart_hub(oidc_admit_unknown=True)
    try:
        with site.visitor() as eve:
            site.log_in(eve, "eve")
            assert (eve.answer.status_code, eve.path) == (200, "/hub/home")
    finally:
        site.restart_hub(oidc_admit_unknown=False)
    found = people.person(site.platform.database, "eve")
    assert found is not None
    assert (found.display_name, found.organisation, found.platform_roles) == ("Eve Kim", None, frozenset())


def test_at_a_public_address_with_tls_cookies_are_for_tls_only(site: Site) -> None:
    site.restart_hub(public_url="https://gpu.example.org")
    try:
        answer = httpx.get(f"{site.platform.url}/hub/oauth_login")
        assert "redirect_uri=https%3A%2F%2Fgpu.example.org%2Fhub%2Foauth_callback&" in answer.headers["Location"]
        assert "Secure" in answer.headers["Set-Cookie"]
    finally:
        site.restart_hub(public_url="")
