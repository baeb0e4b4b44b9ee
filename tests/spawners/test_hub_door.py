"""What the reconciling loop reads of the hub: page after page, and nothing that is no answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from quotas.domain.runs import RunState
from spawners import hub_door
from spawners.hub_door import Hub
from tests.platform import Platform


@pytest.fixture
def hub(platform: Platform) -> Iterator[Callable[..., Hub]]:
    """Make doors to the hub; they are closed after the test."""
    made: list[Hub] = []

    def make(path: str = "", token: str | None = None) -> Hub:
        made.append(Hub(platform.url + path, token or platform.home.secret("reconciler_token")))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(scope="module", autouse=True)
def _three_servers(platform: Platform) -> None:
    for person in ("ada", "ben", "cho"):
        platform.start_server(person, "vision")
        platform.wait_ready(person, "vision")
    platform.api("dan", "GET", "/user")  # someone without a server


@pytest.mark.parametrize("users", [1, 2, 200])
def test_servers_beyond_the_first_page_are_known(
    platform: Platform, hub: Callable[..., Hub], monkeypatch: pytest.MonkeyPatch, users: int
) -> None:
    monkeypatch.setattr(hub_door, "PAGE_USERS", users)
    assert hub().known_runs() == {run.id for run in platform.runs() if run.state is RunState.RUNNING}
    assert len(platform.runs()) == 3


def test_more_pages_than_the_limit_are_no_answer(hub: Callable[..., Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not listed must not count as gone."""
    monkeypatch.setattr(hub_door, "PAGE_USERS", 1)
    monkeypatch.setattr(hub_door, "MOST_PAGES", 2)
    assert hub().known_runs() is None


@pytest.mark.parametrize(("path", "token"), [("", "forged"), ("/nowhere", None), ("/user/ada/vision", None)])
def test_what_is_no_list_of_servers_is_no_answer(
    platform: Platform, hub: Callable[..., Hub], path: str, token: str | None
) -> None:
    assert hub(path, token).known_runs() is None
    hub(path, token).forget_server("ada", "vision")
    assert platform.server("ada", "vision")


def test_a_server_that_nobody_has_is_forgotten_already(platform: Platform, hub: Callable[..., Hub]) -> None:
    assert hub().forget_server("nobody", "vision")
    assert hub().forget_server("ada/../ben", "../vision")
    assert platform.server("ben", "vision")
