"""Who may log in, what is said to the others, and how often anyone may try."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import delete
from tornado.web import HTTPError

from quotas.services import people
from quotas.store.database import Database
from quotas.store.tables import credentials, persons
from spawners import language
from spawners.login import FailedTries, LedgerAuthenticator
from tests import centre
from tests.platform import PASSWORD, Platform
from tests.spawners.visitor import Visitor

WRONG = "사용자 이름 또는 비밀번호가 올바르지 않습니다."


@pytest.fixture
def visitor(platform: Platform) -> Iterator[Visitor]:
    with Visitor(platform.url) as someone:
        yield someone


def test_a_person_of_the_ledger_logs_in_with_their_password(platform: Platform, visitor: Visitor) -> None:
    answer = visitor.log_in("ada")
    assert (answer.status_code, visitor.path) == (200, "/hub/home")
    assert platform.admin("GET", "/users/ada").json()["admin"] is False


def test_capitals_and_blanks_around_a_username_are_forgiven(visitor: Visitor) -> None:
    visitor.log_in(" Ada ")
    assert visitor.path == "/hub/home"


@pytest.mark.parametrize(
    ("username", "password"),
    [("ada", "wrong"), ("nobody", PASSWORD), ("ada", PASSWORD + " "), ("../ada", PASSWORD), ("ada", "x" * 300)],
)
def test_anyone_else_is_refused_without_saying_what_was_wrong(platform: Platform, username: str, password: str) -> None:
    with Visitor(platform.url, "ko") as visitor:
        answer = visitor.log_in(username, password)
        assert answer.status_code == 403
        assert WRONG in visitor.text
        assert visitor.form("/hub/login").fields["username"] == username
        assert visitor.visit("/hub/home").url.path == "/hub/login"


@pytest.mark.parametrize(
    "fields", [{}, {"username": "ada"}, {"password": PASSWORD}, {"username": " ", "password": " "}]
)
def test_an_incomplete_form_is_told_so(visitor: Visitor, fields: dict[str, str]) -> None:
    form = visitor.form("/hub/login")
    answer = visitor.client.post(form.action, data={"_xsrf": form.fields["_xsrf"], **fields})
    assert answer.status_code == 400
    assert "Write a username and a password." in answer.text


def test_a_megabyte_is_no_username(visitor: Visitor) -> None:
    answer = visitor.log_in("a" * 1_000_000)
    assert answer.status_code == 403
    assert len(answer.text) < 100_000


def test_a_form_without_the_pages_token_is_refused(visitor: Visitor) -> None:
    answer = visitor.client.post("/hub/login", data={"username": "ada", "password": PASSWORD})
    assert answer.status_code == 403
    assert "Login form invalid or expired. Try again." in answer.text


def test_after_five_failures_one_waits_and_is_told_until_when(visitor: Visitor) -> None:
    for _ in range(5):
        assert visitor.log_in("cho", "wrong").status_code == 403
    answer = visitor.log_in("cho")
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 300
    assert "Too many failed tries. Try again after 20" in visitor.text
    assert " KST." in visitor.text
    assert visitor.log_in("ada").status_code == 200, "someone else may still log in from there"


def test_a_person_taken_out_of_the_ledger_is_logged_out(database: Database) -> None:
    authenticator = made(database)
    centre.build(database)
    assert asyncio.run(authenticator.refresh_user(SimpleNamespace(name="outsider"))) is True
    with database.write() as transaction:
        transaction.run(delete(credentials))
        transaction.run(delete(persons).where(persons.c.username == "outsider"))
    assert asyncio.run(authenticator.refresh_user(SimpleNamespace(name="outsider"))) is False


def test_a_refreshed_login_notes_the_persons_language(database: Database) -> None:
    centre.build(database)
    people.set_language(database, "member", "en", now=centre.NOW)
    asyncio.run(made(database).refresh_user(SimpleNamespace(name="member")))
    assert language.of_person("member", "ko") == "en"


@pytest.fixture
def gone(tmp_path: Path) -> Iterator[Database]:
    """A database in a folder that is not there."""
    database = Database(f"sqlite:///{tmp_path / 'missing' / 'ledger.sqlite'}")
    yield database
    database.close()


def made(database: Database, **changes: Any) -> LedgerAuthenticator:
    return LedgerAuthenticator(**{"database": lambda: database, "passwords": True, **changes})


def request(accepts: str = "en") -> Any:
    """The few parts of a hub's request that a login reads."""
    inner = SimpleNamespace(remote_ip="127.0.0.1", headers={"Accept-Language": accepts})
    return SimpleNamespace(request=inner, get_cookie=lambda _name: None)


def refused(authenticator: LedgerAuthenticator, accepts: str = "en") -> HTTPError:
    with pytest.raises(HTTPError) as caught:
        asyncio.run(authenticator.authenticate(request(accepts), {"username": "member", "password": "secret enough"}))
    return caught.value


@pytest.mark.parametrize(("accepts", "part"), [("en", "The ledger does not answer"), ("ko", "원장이 응답하지 않아")])
def test_without_the_ledger_nobody_logs_in_and_nobody_is_logged_out(gone: Database, accepts: str, part: str) -> None:
    authenticator = made(gone)
    for _ in range(7):  # what was nobody's fault does not count as a failed try
        error = refused(authenticator, accepts)
        assert error.status_code == 503
        assert part in error.jupyterhub_message
        assert error.headers["Retry-After"] == "60"
    assert asyncio.run(authenticator.refresh_user(SimpleNamespace(name="member"))) is True


def test_passwords_are_for_evaluation_platforms_only(database: Database) -> None:
    centre.build(database)
    people.set_password(database, "member", "secret enough", actor="x", now=centre.NOW)
    error = refused(made(database, passwords=False))
    assert error.status_code == 403
    assert error.jupyterhub_message == "This platform has no accounts with passwords."
    model = asyncio.run(made(database).authenticate(request(), {"username": "member", "password": "secret enough"}))
    assert model == {"name": "member", "admin": False}


def test_many_tries_at_once_are_no_way_around_the_limit(database: Database) -> None:
    authenticator = made(database)

    async def all_at_once() -> list[object]:
        tries = (
            authenticator.authenticate(request(), {"username": "member", "password": f"guess {number}"})
            for number in range(20)
        )
        return await asyncio.gather(*tries, return_exceptions=True)

    answers = asyncio.run(all_at_once())
    assert answers.count(None) == 5
    assert sum(isinstance(answer, HTTPError) and answer.status_code == 429 for answer in answers) == 15


def test_failed_tries_are_forgotten_in_time() -> None:
    tries = FailedTries(most=2, window_seconds=100)
    tries.begin("a", 0)
    tries.begin("a", 50)
    assert tries.blocked_until("a", 60) == 100
    assert tries.blocked_until("b", 60) is None
    assert tries.blocked_until("a", 100) is None
    tries.begin("a", 100)
    assert tries.blocked_until("a", 101) == 150
    tries.take_back("a")
    assert tries.blocked_until("a", 101) is None
    assert tries.blocked_until("a", 10_000) is None


def test_a_million_names_are_not_kept() -> None:
    tries = FailedTries(most=1, keys=1000)
    began = time.monotonic()
    for number in range(100_000):
        tries.begin(f"name {number}", 1)
    assert len(tries._tries) == 1000
    assert tries.blocked_until("name 99999", 1) is not None
    assert time.monotonic() - began < 30
