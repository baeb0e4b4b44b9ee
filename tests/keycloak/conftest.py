"""A platform whose people log in at a Keycloak, which they and the hub reach by a way that can be cut."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from quotas.ports import free_ports
from tests.keycloak import realm as keycloak
from tests.keycloak.realm import CLIENT, PASSWORD, Realm
from tests.keycloak.way import Way
from tests.platform import Platform, answers, running, wait_for
from tests.spawners.visitor import Visitor

HERE = Path(__file__).parent
FORM = "/login-actions/authenticate"
ACCOUNTS = ("ada", "ben", "cho", "dan", "eve", "7eve")
"""Of these the ledger knows neither eve nor 7eve."""


class Stranger(Visitor):
    """A browser that, as browsers do, sends cookies for TLS to loopback addresses as well: Keycloak's are such."""

    def __init__(self, url: str, language: str = "en") -> None:
        super().__init__(url, language)
        self.client.cookies.clear()
        self.client.event_hooks = {"response": [self._take_cookies]}
        self.visit("/hub/login")

    def _take_cookies(self, _answer: httpx.Response) -> None:
        for cookie in self.client.cookies.jar:
            cookie.secure = False


@dataclass
class Site:
    """The platform, its provider, and the way between."""

    platform: Platform
    realm: Realm
    way: Way

    def visitor(self, language: str = "en") -> Visitor:
        """Return a browser at the provider's login form, where the hub has sent it."""
        return Stranger(self.platform.url, language)

    def log_in(self, visitor: Visitor, username: str) -> Visitor:
        visitor.send(FORM, username=username, password=PASSWORD)
        return visitor

    def restart_hub(self, **settings: Any) -> None:
        """The hub is another process, with these settings in place of earlier ones."""
        self.platform.kill("hub")
        self.platform.overrides = {**self.platform.overrides, **settings}
        self.platform.start_hub()

    def token(self, person: str) -> str:
        """Return a token of the person's for the hub's API."""
        made = self.platform.admin("POST", f"/users/{person}/tokens", json={"note": "tests"}).raise_for_status()
        return str(made.json()["token"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    reason = keycloak.missing()
    if reason:
        pytest.skip(reason)
    server = urlsplit(keycloak.URL)
    way = Way(server.hostname or "", server.port or 80)
    port = free_ports(1)[0]
    realm = Realm(f"http://127.0.0.1:{port}")
    settings = {
        "port": port,
        "evaluation": False,
        "login": "oidc",
        "oidc_issuer": f"http://127.0.0.1:{way.port}/realms/{realm.name}",
        "oidc_client_id": CLIENT,
        "oidc_end_session": True,
    }
    environment = {
        "MUDEUNG_TEST_PORTAL": "1",
        "MUDEUNG_TEST_HUB_CONFIG": str(HERE.parent / "spawners" / "hub_config.py"),
    }
    realm.make(*ACCOUNTS)
    try:
        folder = tmp_path_factory.mktemp("site")
        with running(folder, hub=False, reconciler=True, environment=environment, **settings) as platform:
            secret = platform.home.hub / "oidc_client_secret.secret"
            secret.write_text(f"{realm.secret}\n")
            secret.chmod(0o600)
            platform.config = HERE / "hub_config.py"
            platform.start_hub()
            process = platform.start("portal", [sys.executable, "-m", "portal"])
            wait_for("the portal", lambda: answers(f"{platform.url}/services/portal/health", 200), process=process)
            yield Site(platform, realm, way)
    finally:
        realm.remove()
        way.cut()
