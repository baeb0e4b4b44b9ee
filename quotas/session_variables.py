"""What a run is given in its environment to ask the platform about itself."""

from __future__ import annotations

import logging

from quotas.backends.port import BackendAway
from quotas.domain.sessions import API_PATH, TOKEN_VARIABLE, URL_VARIABLE, token_of
from quotas.home import Home

log = logging.getLogger("mudeung.sessions")


def session_variables(home: Home, run_id: str) -> dict[str, str]:
    """Return the run's token and the address that it opens, as the run reaches it; the engine is usually not asked.

    Nothing where containers have no network yet and the engine is away: the run goes on without.
    """
    try:
        address = f"{_portal(home)}{API_PATH}"
    except BackendAway as away:
        log.warning("run %s cannot ask for its time left: %s", run_id, away)
        return {}
    return {TOKEN_VARIABLE: token_of(home.secret("session_key"), run_id), URL_VARIABLE: address}


def _portal(home: Home) -> str:
    """Processes and pods reach the portal as the proxy does, containers at their network's gateway: this machine."""
    if home.settings.backend != "docker":
        return home.portal_url()
    from quotas.network import known_gateway  # noqa: PLC0415 - the Docker client loads slowly

    address = known_gateway(home)
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:{home.ports()['portal']}"
