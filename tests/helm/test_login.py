"""The chart of a platform whose people log in at an identity provider."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quotas.home import LOGIN_SECRETS
from quotas.settings import read
from tests.helm.conftest import CHART, Tools, sets
from tests.helm.test_chart import CENTRE, objects, pods

pytestmark = pytest.mark.kubernetes

PROVIDER = sets(
    settings__login="oidc", settings__oidc_issuer="https://id.example.org/realms/a", settings__oidc_client_id="mudeung"
)
WHOLE = [
    *CENTRE,
    *PROVIDER,
    *sets(oidc__existingSecret="provider", oidc__caConfigMap="authority"),
    *("--set-json", 'networkPolicy.identityProvider={"cidrs":["192.0.2.7/32"],"ports":[8443]}'),
]


def sources(rendered: dict[tuple[str, str], Any], program: str) -> list[dict[str, Any]]:
    """Return what the secrets of a program's pod are put together from."""
    pod = dict(pods(rendered))[program]
    return next(volume["projected"]["sources"] for volume in pod["volumes"] if volume["name"] == "secrets")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (sets(settings__login="oidc"), "settings.oidc_issuer"),
        (PROVIDER, "oidc.existingSecret"),
        ([*PROVIDER, *sets(evaluation__enabled="true", oidc__existingSecret="x")], "one of the two"),
        (sets(settings__login="saml"), "'password', 'oidc'"),
        (sets(settings__oidc_ca="/tmp/ca.crt"), "oidc_ca"),
    ],
)
def test_what_a_login_lacks_is_told(helm: Tools, values: list[str], said: str) -> None:
    done = helm.run("helm", "template", "mudeung", str(CHART), *sets(database__existingSecret="x"), *values)
    assert done.returncode != 0
    assert said in done.stderr


def test_the_hub_alone_has_the_secrets_of_logins(helm: Tools) -> None:
    rendered = objects(helm.template(*WHOLE))
    hub = sources(rendered, "hub")
    assert {"secret": {"name": "provider", "items": [{"key": LOGIN_SECRETS[0], "path": LOGIN_SECRETS[0]}]}} in hub
    assert {"configMap": {"name": "authority", "items": [{"key": "ca.crt", "path": "oidc_ca.crt"}]}} in hub
    ours = next(each["secret"] for each in hub if each.get("secret", {}).get("name") == "ours")
    assert {"key": LOGIN_SECRETS[1], "path": LOGIN_SECRETS[1]} in ours["items"]
    for program in ("portal", "reconciler", "scheduler", "idleness"):
        assert not any(name in str(sources(rendered, program)) for name in (*LOGIN_SECRETS, "authority"))


def test_the_secret_may_stand_with_the_others(helm: Tools) -> None:
    hub = sources(objects(helm.template(*CENTRE, *PROVIDER)), "hub")
    assert {"secret": {"name": "ours", "items": [{"key": LOGIN_SECRETS[0], "path": LOGIN_SECRETS[0]}]}} in hub


def test_without_a_provider_nothing_is_asked_for(helm: Tools) -> None:
    rendered = objects(helm.template(*CENTRE))
    assert not any(name in str(sources(rendered, "hub")) for name in LOGIN_SECRETS)


def test_the_platform_takes_the_settings(helm: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = objects(helm.template(*WHOLE, "--set-json", 'settings.oidc_scopes=["openid","email"]'))
    file = tmp_path / "mudeung.toml"
    file.write_text(rendered["ConfigMap", "platform-settings"]["data"]["mudeung.toml"])
    monkeypatch.setenv("MUDEUNG_SETTINGS", str(file))
    settings = read(tmp_path)
    assert (settings.login, settings.oidc_issuer) == ("oidc", "https://id.example.org/realms/a")
    assert settings.oidc_scopes == ("openid", "email")
    assert (settings.public_url, settings.oidc_ca) == ("https://gpu.example.org", "/etc/mudeung/secrets/oidc_ca.crt")


def test_an_address_of_ones_own_is_not_overruled(helm: Tools) -> None:
    rendered = objects(helm.template(*WHOLE, *sets(settings__public_url="https://other.example.org")))
    text = rendered["ConfigMap", "platform-settings"]["data"]["mudeung.toml"]
    assert [line for line in text.splitlines() if "public_url" in line] == ['public_url = "https://other.example.org"']


def test_the_hub_alone_reaches_the_provider(helm: Tools) -> None:
    way = {"to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}], "ports": [{"protocol": "TCP", "port": 8443}]}
    rendered = objects(helm.template(*WHOLE))
    having = [name for (kind, name), each in rendered.items() if kind == "NetworkPolicy" and way in egress(each)]
    assert having == ["hub"]
    anywhere = objects(helm.template(*CENTRE, *PROVIDER))["NetworkPolicy", "hub"]
    assert {"ports": [{"protocol": "TCP", "port": 443}]} in egress(anywhere)
    without = objects(helm.template(*CENTRE))["NetworkPolicy", "hub"]
    assert {"ports": [{"protocol": "TCP", "port": 443}]} not in egress(without)


def egress(policy: dict[str, Any]) -> list[dict[str, Any]]:
    return list(policy["spec"].get("egress", ()))


def test_an_api_server_takes_it(cluster: Tools) -> None:
    text = cluster.template(*WHOLE, namespace="default")
    wanted = "\n---\n".join(each for each in text.split("\n---\n") if "kind: Deployment" in each or "Policy" in each)
    cluster.kubectl("apply", "--dry-run=server", "--namespace", "default", "-f", "-", given=wanted)


def test_an_installation_that_lets_nobody_in_says_so(helm: Tools) -> None:
    said = {}
    for name, values in {"nobody": CENTRE, "provider": WHOLE}.items():
        done = helm.run("helm", "install", "mudeung", str(CHART), "--dry-run=client", *values)
        said[name] = "Nobody can log in to it yet" in done.stdout
    assert said == {"nobody": True, "provider": False}
