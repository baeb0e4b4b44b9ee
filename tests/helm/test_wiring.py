"""In a cluster each program is a pod of its own: where they find each other, and what they are given."""

from __future__ import annotations

from pathlib import Path

import pytest

from quotas import home as homes
from quotas.home import CLUSTER_PORTS, PORTS, SECRETS_VARIABLE, Home, open_home
from quotas.session_variables import session_variables
from quotas.settings import FILE_VARIABLE, SettingsError
from spawners.servers import hub_bind_url, hub_url

EVERYWHERE = "0.0.0.0"  # noqa: S104 - the address of a pod
CLUSTER = 'backend = "kubernetes"\nkubernetes_namespace = "gpu"\n'


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of secrets, and the settings' file beside it, as the chart mounts them."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    file = tmp_path / "mudeung.toml"
    file.write_text(CLUSTER)
    monkeypatch.setenv(SECRETS_VARIABLE, str(folder))
    monkeypatch.setenv(FILE_VARIABLE, str(file))
    return folder


@pytest.fixture
def home(given: Path, tmp_path: Path) -> Home:
    (given / "session_key").write_text("a" * 64)
    return open_home(tmp_path / "home")


def test_programs_of_a_cluster_know_each_other_by_their_services(home: Home) -> None:
    assert hub_url(home) == "http://hub.gpu.svc:8081"
    assert hub_bind_url(home) == "http://0.0.0.0:8081"
    assert home.hub_api_url() == "http://hub.gpu.svc:8081/hub/api"
    assert home.proxy_api_url() == "http://proxy-api.gpu.svc:8001"
    assert home.portal_url() == "http://portal.gpu.svc:8082"
    assert home.ports() == CLUSTER_PORTS
    assert set(CLUSTER_PORTS) == set(PORTS)


def test_a_pod_asks_the_portal_by_its_service(home: Home) -> None:
    address = session_variables(home, "0" * 32)["MUDEUNG_SESSION_URL"]
    assert address == "http://portal.gpu.svc:8082/services/portal/api/session"


def test_elsewhere_programs_are_on_the_loopback_address(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    ports = home.ports()
    assert hub_url(home) == hub_bind_url(home) == f"http://127.0.0.1:{ports['hub']}"
    assert home.proxy_api_url() == f"http://127.0.0.1:{ports['proxy_api']}"
    assert home.portal_url() == f"http://127.0.0.1:{ports['portal']}"
    assert home.hub_api_url() == "http://127.0.0.1:8000/hub/api"
    assert home.hub_database_url() == f"sqlite:///{home.hub / 'jupyterhub.sqlite'}"


def test_a_given_secret_is_taken_and_none_is_made(home: Home, given: Path) -> None:
    (given / "portal_token").write_text("given\n")
    assert home.secret("portal_token") == "given"
    assert list(home.hub.glob("*.secret")) == []


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_a_missing_or_empty_secret_is_named(home: Home, given: Path, content: str | None) -> None:
    if content is not None:
        (given / "portal_token").write_text(content)
    with pytest.raises(SettingsError, match="the secret portal_token"):
        home.secret("portal_token")
    assert list(home.hub.glob("*.secret")) == []


def test_both_databases_are_given_by_their_addresses(home: Home, given: Path) -> None:
    (given / "database_url").write_text("postgresql://ledger:x@db/ledger\n")
    (given / "hub_database_url").write_text("postgresql+psycopg://hub:x@db/hub")
    assert not home.database().is_sqlite
    assert home.hub_database_url() == "postgresql+psycopg://hub:x@db/hub"


def test_a_cluster_without_the_address_of_its_ledger_makes_none(home: Home) -> None:
    with pytest.raises(SettingsError, match="database_url"):
        home.database()
    assert not (home.path / "ledger.sqlite").exists()


def test_settings_that_are_named_have_to_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "away.toml"))
    with pytest.raises(SettingsError, match=r"away\.toml"):
        open_home(tmp_path / "home")


def test_accounts_of_an_evaluation_are_chosen_in_a_cluster(given: Path, tmp_path: Path) -> None:
    settings = open_home(tmp_path / "home").settings
    assert (settings.evaluation, settings.passwords(), settings.host) == (False, False, EVERYWHERE)
    (given.parent / "mudeung.toml").write_text(CLUSTER + "evaluation = true\n")
    settings = open_home(tmp_path / "home").settings
    assert (settings.evaluation, settings.passwords()) == (True, True)


def test_outside_a_cluster_they_stay_on_the_machine(tmp_path: Path) -> None:
    assert open_home(tmp_path / "home").settings.passwords()
    with pytest.raises(SettingsError, match="loopback"):
        open_home(tmp_path / "home", host=EVERYWHERE)
    assert not open_home(tmp_path / "home", host=EVERYWHERE, evaluation=False).settings.passwords()


def test_the_home_is_known_by_its_variable(given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert given.is_dir()
    monkeypatch.setenv(homes.VARIABLE, str(tmp_path / "home"))
    assert homes.from_environment().settings.backend == "kubernetes"
