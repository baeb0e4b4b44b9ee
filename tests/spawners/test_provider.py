"""What the hub knows of an identity provider, and how it asks; with a real one: tests/keycloak."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest, HTTPResponse

from quotas.domain.identities import Denial
from quotas.home import open_home
from quotas.settings import Settings, SettingsError, read
from spawners.login_pages import TABLE, Trouble
from spawners.provider import AGAIN_SECONDS, METADATA_SECONDS, Metadata, Provider, ProviderAway, metadata
from spawners.provider_login import ProviderLogin, _says_alive, _trouble

ISSUER = "https://id.example.org/realms/centre"
DOCUMENT = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/auth",
    "token_endpoint": f"{ISSUER}/token",
    "userinfo_endpoint": f"{ISSUER}/userinfo",
    "end_session_endpoint": f"{ISSUER}/logout",
    "response_types_supported": ["code"],
}
OIDC = {"evaluation": False, "login": "oidc", "oidc_issuer": ISSUER, "oidc_client_id": "mudeung"}


def test_a_discovery_document_says_where_the_parts_are() -> None:
    found = metadata(DOCUMENT, ISSUER + "/")
    assert found == Metadata(ISSUER, f"{ISSUER}/auth", f"{ISSUER}/token", f"{ISSUER}/userinfo", f"{ISSUER}/logout")
    assert metadata({k: v for k, v in DOCUMENT.items() if k != "end_session_endpoint"}, ISSUER).end_session == ""


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (None, "no JSON object"),
        ([], "no JSON object"),
        ({**DOCUMENT, "issuer": "https://other.example.org"}, "that of 'https://other.example.org'"),
        ({**DOCUMENT, "issuer": None}, "that of None"),
        ({**DOCUMENT, "token_endpoint": None}, "token_endpoint"),
        ({**DOCUMENT, "token_endpoint": "http://id.example.org/token"}, "no https address"),
        ({**DOCUMENT, "userinfo_endpoint": 7}, "userinfo_endpoint"),
        ({**DOCUMENT, "end_session_endpoint": "javascript:alert(1)"}, "end_session_endpoint"),
    ],
)
def test_a_document_that_is_not_the_providers_is_refused(document: object, said: str) -> None:
    with pytest.raises(ProviderAway, match=said):
        metadata(document, ISSUER)


class Answers:
    """What a provider answers, one after the other, and how often it was asked; the clock is set by hand."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.now = 1000.0
        self.provider = Provider(ISSUER, self.fetch, clock=lambda: self.now)

    async def fetch(self, address: str) -> Any:
        self.asked.append(address)
        await asyncio.sleep(0)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_the_document_is_read_once_and_again_in_time() -> None:
    async def all_at_once() -> None:
        await asyncio.gather(*(answers.provider.metadata() for _ in range(50)))
        assert answers.asked == [f"{ISSUER}/.well-known/openid-configuration"]
        answers.now += METADATA_SECONDS
        await answers.provider.metadata()
        assert len(answers.asked) == 2

    answers = Answers(DOCUMENT, DOCUMENT)
    asyncio.run(all_at_once())


@pytest.mark.parametrize(
    "error", [OSError("refused"), TimeoutError(), ValueError("no JSON"), HTTPClientError(599), HTTPClientError(404)]
)
def test_a_provider_that_was_never_reached_is_away_and_one_that_was_is_known(error: Exception) -> None:
    async def go() -> None:
        with pytest.raises(ProviderAway, match="openid-configuration"):
            await answers.provider.metadata()
        known = await answers.provider.metadata()
        answers.now += METADATA_SECONDS
        assert await answers.provider.metadata() == known
        answers.now += AGAIN_SECONDS - 1
        assert await answers.provider.metadata() == known
        assert len(answers.asked) == 3, "it is not asked at every login meanwhile"
        answers.now += 1
        assert await answers.provider.metadata() == known
        assert len(answers.asked) == 4

    answers = Answers(error, DOCUMENT, error, DOCUMENT)
    asyncio.run(go())


def test_every_way_in_which_a_login_fails_has_a_page() -> None:
    assert set(TABLE) == {*Trouble, *Denial}
    assert {row.status for row in TABLE.values()} <= {400, 403, 502, 503}
    assert {TABLE[denial].status for denial in Denial} == {403, 502}


def answered(code: int, body: bytes = b"") -> HTTPClientError:
    response = HTTPResponse(HTTPRequest(ISSUER), code, buffer=io.BytesIO(body))
    return HTTPClientError(code, response=response)


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (answered(400, b'{"error": "invalid_grant"}'), Trouble.NOT_CONFIRMED),
        (answered(400, b'{"error": "invalid_request"}'), Trouble.NOT_UNDERSTOOD),
        (answered(401, b'{"error": "invalid_client"}'), Trouble.NOT_UNDERSTOOD),
        (answered(400, b"<html>"), Trouble.NOT_UNDERSTOOD),
        (answered(400, b'["invalid_grant"]'), Trouble.NOT_UNDERSTOOD),
        (answered(429), Trouble.AWAY),
        (answered(500), Trouble.AWAY),
        (HTTPClientError(599), Trouble.AWAY),
        (ConnectionRefusedError(), Trouble.AWAY),
        (ProviderAway(), Trouble.AWAY),
    ],
)
def test_what_an_answer_at_a_login_means(error: Exception, trouble: Trouble) -> None:
    assert _trouble(error) is trouble


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/hub/api/users/ada/activity", True),
        ("POST", "/base/hub/api/users/ada/activity", True),
        ("GET", "/hub/api/users/ada/activity", False),
        ("POST", "/hub/api/users/ada/servers/activity", False),
        ("POST", "/hub/api/users/ada/servers/vision/activity", False),
        ("POST", "/hub/api/users/ada/tokens", False),
        ("GET", "/hub/api/user", False),
    ],
)
def test_only_a_word_that_a_server_is_alive_passes_without_a_login(method: str, path: str, expected: bool) -> None:
    handler = SimpleNamespace(request=SimpleNamespace(method=method, path=path))
    assert _says_alive(handler) is expected  # type: ignore[arg-type]


def test_a_login_is_as_strict_as_it_can_be() -> None:
    made = ProviderLogin(issuer=ISSUER, ca="/etc/ca.crt")
    assert made.enable_pkce
    assert made.enable_auth_state
    assert made.auth_refresh_strict
    assert made.auth_refresh_age == 60
    assert made.allow_all
    assert made.http_request_kwargs["ca_certs"] == "/etc/ca.crt"
    assert made.http_request_kwargs["request_timeout"] == 10
    assert made.http_request_kwargs["follow_redirects"] is False


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"evaluation": True}, "evaluation = false"),
        ({"oidc_issuer": ""}, "oidc_issuer"),
        ({"oidc_issuer": "http://id.example.org"}, "https"),
        ({"oidc_issuer": "https://id.example.org?a=b"}, "https"),
        ({"oidc_issuer": "id.example.org"}, "https"),
        ({"oidc_client_id": ""}, "oidc_client_id"),
        ({"oidc_scopes": ("profile",)}, "openid"),
        ({"oidc_username_claim": ""}, "oidc_username_claim"),
        ({"login": "ldap"}, "login"),
        ({"public_url": "gpu.example.org"}, "public_url"),
        ({"public_url": "https://gpu.example.org/hub"}, "public_url"),
        ({"public_url": "ftp://gpu.example.org"}, "public_url"),
    ],
)
def test_settings_that_would_let_in_anyone_or_nobody_are_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        read(tmp_path, **{**OIDC, **changes})


@pytest.mark.parametrize(
    "changes",
    [{}, {"oidc_issuer": "http://127.0.0.1:8180/realms/a"}, {"public_url": "https://gpu.example.org:8443/"}],
)
def test_settings_of_a_provider_are_taken(tmp_path: Path, changes: dict[str, Any]) -> None:
    settings = read(tmp_path, **{**OIDC, "host": "0.0.0.0", **changes})  # noqa: S104 - behind an ingress
    assert settings.login == "oidc"
    assert not settings.passwords()


def test_nobody_is_let_in_by_default_in_a_cluster() -> None:
    settings = Settings(backend="kubernetes")
    assert (settings.login, settings.passwords()) == ("password", False)


def test_a_secret_that_somebody_else_made_is_never_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = open_home(tmp_path / "home")
    with pytest.raises(SettingsError, match=r"oidc_client_secret is missing: write it to .*hub/oidc_client_secret"):
        home.entrusted("oidc_client_secret")
    kept = home.hub / "oidc_client_secret.secret"
    kept.write_text(" \n")
    with pytest.raises(SettingsError, match="missing"):
        home.entrusted("oidc_client_secret")
    kept.write_text("from the provider\n")
    assert home.entrusted("oidc_client_secret") == "from the provider"
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "oidc_client_secret").write_text("from the cluster")
    monkeypatch.setenv("MUDEUNG_SECRETS", str(tmp_path / "given"))
    assert home.entrusted("oidc_client_secret") == "from the cluster"
