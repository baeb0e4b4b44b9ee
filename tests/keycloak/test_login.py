"""People log in at a real identity provider, and are let in as long as both it and the ledger agree."""

from __future__ import annotations

import pytest

from tests.keycloak.conftest import Site
from tests.platform import CPU

pytestmark = pytest.mark.keycloak


def test_a_member_logs_in_sees_the_portal_and_starts_a_server(site: Site) -> None:
    with site.visitor() as ada:
        assert ada.answer.url.path.endswith("/protocol/openid-connect/auth"), "the hub sends to the provider"
        site.log_in(ada, "ada")
        assert (ada.answer.status_code, ada.path) == (200, "/hub/home")
        assert site.platform.admin("GET", "/users/ada").json()["admin"] is False
        assert ada.visit("/services/portal/").status_code == 200
        assert ada.path == "/services/portal/"
        assert "ada" in ada.text
        ada.visit("/hub/spawn/ada/vision")
        ada.send("/hub/spawn/ada/vision", profile=CPU)
        assert ada.answer.status_code == 200
        site.platform.admin("GET", "/users/ada")
        assert site.platform.wait_ready("ada", "vision")["ready"]
        ada.visit("/user/ada/vision/")
        assert ada.answer.status_code == 200
