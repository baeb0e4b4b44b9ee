"""A proxy that is started anew knows no routes: the hub tells it all of them, before anyone has to ask for it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.platform import Platform, answers, running, wait_for

TOLD_SECONDS = 15
"""Far below the minutes after which the hub compares its routes with the proxy's by itself."""


@pytest.fixture
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("platform")) as started:
        yield started


def test_a_proxy_that_was_started_anew_has_its_routes_within_seconds(platform: Platform) -> None:
    platform.start_server("ada", "vision")
    address = platform.url + platform.wait_ready("ada", "vision")["url"] + "api"
    assert answers(address, httpx.codes.OK)
    for _ in range(2):
        platform.kill("proxy")
        platform.start_proxy()
        wait_for("the hub's route", lambda: answers(f"{platform.url}/hub/health", httpx.codes.OK), seconds=TOLD_SECONDS)
        wait_for("the server's route", lambda: answers(address, httpx.codes.OK), seconds=TOLD_SECONDS)


def test_a_hub_that_is_started_while_the_proxy_is_away_finds_it(platform: Platform) -> None:
    """It waits for the proxy, and tells it what it should have."""
    platform.start_server("ada", "vision")
    address = platform.url + platform.wait_ready("ada", "vision")["url"] + "api"
    platform.kill("hub")
    platform.kill("proxy")
    platform.start_proxy()
    platform.start_hub()
    wait_for("the server's route", lambda: answers(address, httpx.codes.OK), seconds=TOLD_SECONDS)
