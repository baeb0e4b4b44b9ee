"""What the reconciling loop and the queue's ask of the hub, over its REST API with the token of a service."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import quote

import httpx

log = logging.getLogger("mudeung.hub")

ANSWER_SECONDS = 10.0
"""How long the hub may take: listing thousands of servers keeps it busy for about a second."""
STOP_SECONDS = 30.0
"""The hub answers a request to clear a server's record after at most ten seconds, whether it is done or not."""
START_SECONDS = 25.0
"""The hub answers a request to start a server after at most ten seconds, whether it has started or not."""
PAGE_USERS = 200
MOST_PAGES = 500


class Hub:
    """The hub at `url` (without ``/hub``), asked with `token`. Its calls end in time and never raise."""

    def __init__(self, url: str, token: str) -> None:
        self._client = httpx.Client(
            base_url=f"{url}/hub/api",
            headers={"Authorization": f"token {token}", "Accept": "application/jupyterhub-pagination+json"},
            timeout=ANSWER_SECONDS,
            trust_env=False,
        )

    def known_runs(self) -> frozenset[str] | None:
        """Return the runs of servers that the hub counts as active or pending; None when it does not answer."""
        runs: set[str] = set()
        offset = 0
        try:
            for _ in range(MOST_PAGES):
                query = {"state": "active", "limit": PAGE_USERS, "offset": offset}
                answer = self._client.get("/users", params=query).raise_for_status().json()
                for user in answer["items"]:
                    runs |= _runs_of(user)
                following = answer["_pagination"]["next"]
                if following is None:
                    return frozenset(runs)
                offset = int(following["offset"])
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            log.warning("the hub does not answer: %s", error)
            return None
        log.error("the hub lists more than %d pages of users; its word is not taken", MOST_PAGES)
        return None

    def forget_server(self, person: str, project: str) -> bool:
        """Ask the hub to clear its record of a server that was stopped; return whether it took the request."""
        path = f"/users/{quote(person, safe='')}/servers/{quote(project, safe='')}"
        try:
            answer = self._client.delete(path, timeout=STOP_SECONDS)
        except httpx.HTTPError as error:
            log.warning("the hub did not clear the server of %s on %s: %s", person, project, error)
            return False
        if answer.is_success or answer.status_code == httpx.codes.NOT_FOUND:
            return True
        log.warning("the hub did not clear the server of %s on %s: %s", person, project, answer.text[:200])
        return False

    def start_server(self, person: str, project: str, profile: str, turn: str) -> bool:
        """Ask the hub to start a server in its turn; return whether it took the request. The gate decides about it."""
        path = f"/users/{quote(person, safe='')}/servers/{quote(project, safe='')}"
        body = {"user_options": {"profile": profile, "turn": turn}}
        try:
            answer = self._client.post(path, json=body, timeout=START_SECONDS)
        except httpx.HTTPError as error:
            log.warning("the hub did not start the server of %s on %s: %s", person, project, error)
            return False
        if not answer.is_success:
            log.warning("the hub did not start the server of %s on %s: %s", person, project, answer.text[:300])
        return answer.is_success

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()


def _runs_of(user: dict[str, Any]) -> set[str]:
    states = [server.get("state") or {} for server in (user.get("servers") or {}).values()]
    return {str(state["run_id"]) for state in states if state.get("run_id")}
