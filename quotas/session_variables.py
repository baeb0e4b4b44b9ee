"""What a run is given in its environment to ask the platform about itself."""

from __future__ import annotations

import logging

from quotas.backends.port import BackendAway
from quotas.domain.sessions import API_PATH, TOKEN_VARIABLE, URL_VARIABLE, token_of
from quotas.home import Home

log = logging.getLogger("mudeung.sessions")

LOOPBACK = "127.0.0.1"


def session_variables(home: Home, run_id: str) -> dict[str, str]:
    """Return the run's token and the address that it opens, as the run reaches it; the engine is usually not asked.

    Nothing where containers have no network yet and the engine is away: the run goes on without.
    """
    try:
        address = f"http://{_host(home)}:{home.ports()['portal']}{API_PATH}"
    except BackendAway as away:
        log.warning("run %s cannot ask for its time left: %s", run_id, away)
        return {}
    return {TOKEN_VARIABLE: token_of(home.secret("session_key"), run_id), URL_VARIABLE: address}


def _host(home: Home) -> str:
    """Processes reach the portal at the loopback, containers at the gateway of their network, which is this machine."""
    if home.settings.backend != "docker":
        return LOOPBACK
    from quotas.network import known_gateway  # noqa: PLC0415 - the Docker client loads slowly

    address = known_gateway(home)
    return f"[{address}]" if ":" in address else address
