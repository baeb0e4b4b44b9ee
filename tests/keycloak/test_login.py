"""People log in at a real identity provider; who is no person of the ledger is told why not."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from quotas.services import people
from quotas.store import audit
from tests.keycloak.conftest import FORM, Site
from tests.keycloak.realm import PASSWORD
from tests.platform import CPU

pytestmark = pytest.mark.keycloak
BACK = "/hub/oauth_callback"


def denial(answer: httpx.Response) -> str:
    """Return the reason on the page of a login that failed."""
    return answer.text.partition('data-refusal="')[2].partition('"')[0]


def test_a_member_logs_in_sees_the_portal_and_starts_a_server(site: Site) -> None:
    with site.visitor() as ada:
        assert ada.path.endswith("/protocol/openid-connect/auth"), "the hub sends to the provider"
        site.log_in(ada, "ada")
        assert (ada.answer.status_code, ada.path) == (200, "/hub/home")
        assert site.platform.admin("GET", "/users/ada").json()["admin"] is False
        assert ada.visit("/services/portal/").status_code == 200
        assert ada.path == "/services/portal/"
        assert "ada" in ada.text
        ada.visit("/hub/spawn/ada/vision")
        assert ada.send("/hub/spawn/ada/vision", profile=CPU).status_code == 200
        assert site.platform.wait_ready("ada", "vision")["ready"]
        assert ada.visit("/user/ada/vision/").status_code == 200
    with site.platform.database.read() as transaction:
        linked = [row.subject for row in audit.latest(transaction) if row.action == "account linked"]
    assert linked == ["ada"]


def test_a_login_leads_to_where_it_was_wanted_and_nowhere_else(site: Site) -> None:
    with site.visitor() as ben:
        ben.client.cookies.clear()
        ben.visit("/hub/spawn/ben/robots")
        site.log_in(ben, "ben")
        assert ben.path == "/hub/spawn/ben/robots"
    with site.visitor() as ben:
        ben.client.cookies.clear()
        ben.visit("/hub/oauth_login?next=https%3A%2F%2Fexample.org%2Fhub%2Fhome")
        site.log_in(ben, "ben")
        assert str(ben.answer.url) == f"{site.platform.url}/hub/home"


@pytest.mark.parametrize(
    ("language", "what"),
    [("en", "Your account “eve” is not known on this platform."), ("ko", "계정 “eve”: 이 플랫폼에 등록되어 있지")],
)
def test_a_stranger_is_told_what_is_wrong_and_what_to_do(site: Site, language: str, what: str) -> None:
    with site.visitor(language) as eve:
        site.log_in(eve, "eve")
        assert (eve.answer.status_code, eve.path) == (403, BACK)
        assert denial(eve.answer) == "unknown"
        assert what in eve.text
        assert {"en": "ask", "ko": "등록을 요청"}[language] in eve.text.lower()
        assert eve.answer.headers["Cache-Control"] == "no-store"
        assert eve.visit("/hub/home").status_code == 403, "the provider says again who it is"
        eve.visit("/hub/oauth_login?another=1")
        assert eve.form(FORM), "with another account the provider asks for the password again"
    assert site.platform.admin("GET", "/users/eve").status_code == 404
    assert people.person(site.platform.database, "eve") is None


def test_a_claim_that_is_no_name_here_is_told(site: Site) -> None:
    with site.visitor() as eve:
        site.log_in(eve, "7eve")
        assert (eve.answer.status_code, denial(eve.answer)) == (403, "no_name")
        assert "“7eve”" in eve.text


def test_an_account_that_was_renamed_is_the_same_persons_and_the_name_not_the_next_ones(site: Site) -> None:
    with site.visitor() as dan:
        site.log_in(dan, "dan")
        assert dan.path == "/hub/home"
    site.realm.change("dan", username="fox", email="fox@example.org")
    site.realm.add("dan")
    with site.visitor() as dan:
        site.log_in(dan, "fox")
        assert dan.path == "/hub/home"
        assert "dan" in dan.text
        assert "fox" not in dan.text
    with site.visitor() as other:
        site.log_in(other, "dan")
        assert (other.answer.status_code, denial(other.answer)) == (403, "other_account")


@contextmanager
def begun(site: Site) -> Iterator[tuple[httpx.Client, str]]:
    """Yield a browser that the hub has sent to the provider, and the state that it gave along."""
    with httpx.Client(base_url=site.platform.url, timeout=60, headers={"Accept-Language": "en"}) as client:
        away = client.get("/hub/oauth_login").headers["Location"]
        yield client, parse_qs(urlsplit(away).query)["state"][0]


def test_the_way_to_the_provider_has_a_state_and_a_challenge(site: Site) -> None:
    with httpx.Client(base_url=site.platform.url) as client:
        answer = client.get("/hub/oauth_login", headers={"Accept-Language": "ko"})
    query = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert query["code_challenge_method"] == ["S256"]
    assert query["redirect_uri"] == [f"{site.platform.url}{BACK}"]
    assert (query["scope"], query["ui_locales"]) == (["openid profile"], ["ko"])
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


@pytest.mark.parametrize(
    "forged",
    [
        {"state": urlsafe_b64encode(json.dumps({"state_id": "0" * 32}).encode()).decode()},
        {"state": ""},
        {"state": "%%%"},
        {"state": "상태"},
        {"state": urlsafe_b64encode(b"[]").decode()},
        {"state": urlsafe_b64encode(b"[" * 9_000).decode()},
        {"code": ""},
        {"error": "access_denied", "state": "x"},
    ],
    ids=["another's", "empty", "no base64", "no ascii", "no object", "too deep", "no code", "an error with it"],
)
def test_a_login_that_was_not_begun_here_is_refused(site: Site, forged: dict[str, str]) -> None:
    with begun(site) as (client, state):
        answer = client.get(f"{BACK}?{urlencode({'code': 'forged', 'state': state, **forged})}")
        assert (answer.status_code, denial(answer)) == (400, "not_begun")
        assert "Log in again." in answer.text
        assert client.get("/hub/home").status_code == 302


def test_somebody_elses_answer_of_the_provider_logs_nobody_in(site: Site) -> None:
    """A link to the callback with the code of another's login, opened in a browser that has begun none, or its own."""
    with begun(site) as (client, _), site.visitor() as ada:
        form = ada.form(FORM)
        ada.client.follow_redirects = False
        given = ada.client.post(form.action, data={**form.fields, "username": "ada", "password": PASSWORD})
        link = given.headers["Location"]
        assert urlsplit(link).path == BACK
        with httpx.Client(timeout=60) as nobody:
            assert denial(nobody.get(link)) == "not_begun"
        assert denial(client.get(link)) == "not_begun"
        code = parse_qs(urlsplit(link).query)["code"][0]
        with begun(site) as (other, state):
            answer = other.get(f"{BACK}?{urlencode({'code': code, 'state': state})}")
            assert (answer.status_code, denial(answer)) == (400, "not_confirmed"), "the challenge was another's"
            assert other.get("/hub/home").status_code == 302


def test_a_code_that_the_provider_never_gave_is_refused(site: Site) -> None:
    with begun(site) as (client, state):
        answer = client.get(f"{BACK}?{urlencode({'code': 'forged', 'state': state})}")
        assert (answer.status_code, denial(answer)) == (400, "not_confirmed")


@pytest.mark.parametrize(
    ("said", "shown"), [("access_denied", "access_denied"), ("<b>call 555", "error"), ("x" * 5000, "error")]
)
def test_what_the_provider_said_is_shown_as_a_word(site: Site, said: str, shown: str) -> None:
    with begun(site) as (client, state):
        answer = client.get(f"{BACK}?{urlencode({'error': said, 'error_description': '<b>call 555', 'state': state})}")
        assert (answer.status_code, denial(answer)) == (403, "said_no")
        assert f"did not log you in ({shown})" in answer.text
        assert "555" not in answer.text


def test_a_logout_is_one_at_the_provider_too(site: Site) -> None:
    with site.visitor() as cho:
        site.log_in(cho, "cho")
        assert cho.path == "/hub/home"
        cho.visit("/hub/logout")
        assert (cho.answer.status_code, cho.path) == (200, "/hub/logout")
        assert "You are logged out" in cho.text
        cho.visit("/hub/home")
        assert cho.form(FORM), "the provider asks for the password again"


def test_behind_a_proxy_with_tls_people_come_back_by_tls(site: Site) -> None:
    """Only what the browser itself says it used counts, which the proxies in between add to."""
    with httpx.Client(base_url=site.platform.url) as client:
        headers = {"X-Forwarded-Proto": "https", "Host": "gpu.example.org"}
        answer = client.get("/hub/oauth_login", headers=headers)
    query = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert query["redirect_uri"] == ["https://gpu.example.org/hub/oauth_callback"]
