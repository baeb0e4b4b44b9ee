"""A realm of a real Keycloak, made and changed by its admin API."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from typing import Any

import httpx

URL = os.environ.get("MUDEUNG_KEYCLOAK", "http://127.0.0.1:8180").rstrip("/")
ADMIN = os.environ.get("MUDEUNG_KEYCLOAK_ADMIN", "admin")
ADMIN_PASSWORD = os.environ.get("MUDEUNG_KEYCLOAK_PASSWORD", "admin")
CLIENT = "mudeung"
PASSWORD = "a password at the provider"


def missing() -> str:
    """Return why there is no Keycloak to test with, or an empty text."""
    try:
        answer = httpx.get(f"{URL}/realms/master/.well-known/openid-configuration", timeout=10)
    except httpx.TransportError as error:
        return f"no Keycloak at {URL} (MUDEUNG_KEYCLOAK): {error}"
    return "" if answer.status_code == 200 else f"{URL} is no Keycloak: {answer.status_code}"


@dataclass
class Realm:
    """A realm with one client, whose people come back to `platform`, an address."""

    platform: str
    name: str = field(default_factory=lambda: f"mudeung-{secrets.token_hex(4)}")
    secret: str = field(default_factory=lambda: secrets.token_hex(16))

    def make(self, *usernames: str) -> None:
        """The realm is there, with these accounts."""
        client = {
            "clientId": CLIENT,
            "secret": self.secret,
            "publicClient": False,
            "standardFlowEnabled": True,
            "directAccessGrantsEnabled": False,
            "redirectUris": [f"{self.platform}/hub/oauth_callback"],
            "attributes": {
                "pkce.code.challenge.method": "S256",
                "post.logout.redirect.uris": f"{self.platform}/hub/logout",
            },
        }
        realm = {
            "realm": self.name,
            "enabled": True,
            "sslRequired": "none",
            "editUsernameAllowed": True,
            "clients": [client],
        }
        self._ask("POST", "", json={**realm, "users": [account(each) for each in usernames]})

    def remove(self) -> None:
        self._ask("DELETE", f"/{self.name}")

    def add(self, username: str) -> None:
        self._ask("POST", f"/{self.name}/users", json=account(username))

    def change(self, account_name: str, **fields: Any) -> None:
        """The account has these fields."""
        known = self._known(account_name)
        self._ask("PUT", f"/{self.name}/users/{known['id']}", json={**known, **fields})

    def log_out(self, username: str) -> None:
        """None of the account's sessions goes on."""
        self._ask("POST", f"/{self.name}/users/{self._known(username)['id']}/logout")

    def set(self, **fields: Any) -> None:
        """The realm has these fields."""
        self._ask("PUT", f"/{self.name}", json=fields)

    def _known(self, username: str) -> dict[str, Any]:
        found = self._ask("GET", f"/{self.name}/users", params={"username": username, "exact": "true"}).json()
        assert len(found) == 1, f"{len(found)} accounts {username}"
        return dict(found[0])

    def _ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        fields = {"grant_type": "password", "client_id": "admin-cli", "username": ADMIN, "password": ADMIN_PASSWORD}
        token = httpx.post(f"{URL}/realms/master/protocol/openid-connect/token", data=fields, timeout=30)
        headers = {"Authorization": f"Bearer {token.raise_for_status().json()['access_token']}"}
        answer = httpx.request(method, f"{URL}/admin/realms{path}", headers=headers, timeout=60, **arguments)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer


def account(username: str) -> dict[str, Any]:
    """Return an account that Keycloak asks nothing of at its first login."""
    return {
        "username": username,
        "enabled": True,
        "firstName": username.title(),
        "lastName": "Kim",
        "email": f"{username.replace('@', '-at-')}@example.org",
        "emailVerified": True,
        "credentials": [{"type": "password", "value": PASSWORD, "temporary": False}],
    }
