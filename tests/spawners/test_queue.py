"""Waiting at the hub's pages: refused, joined, started or offered in one's turn, given up; and no link is enough."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quotas.domain.pools import CapacityPhase
from quotas.domain.runs import RunState
from quotas.services import check, pools, queue_views
from quotas.services.queue_views import Place
from quotas.store import notices
from quotas.store import runs as runs_store
from quotas.store.database import Database
from tests.platform import BY, CPU, GPU, Platform, build_world, running, wait_for
from tests.spawners.visitor import Visitor

WAIT = {"profile": GPU, "wish": "guaranteed"}


def one_device(database: Database, now: int) -> None:
    """The small world with one H100."""
    build_world(database, now)
    pools.add_phase(database, "main", CapacityPhase("h100", now, 4, 4, 1), actor=BY, now=now)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("platform")
    with running(folder, reconciler=True, world=one_device, queue_seconds=1, offer_seconds=5) as started:
        yield started


@pytest.fixture(autouse=True)
def _sound(platform: Platform) -> Iterator[None]:
    yield
    for person in ("ada", "ben"):
        for place in places(platform, person):
            cancel(platform, person, place.entry.project)
        for project in ("vision", "robots"):
            if platform.server(person, project):
                platform.stop_server(person, project)
                platform.wait_stopped(person, project)
    assert check.findings(platform.database, int(time.time())) == []


def places(platform: Platform, person: str = "ben") -> list[Place]:
    return queue_views.of_person(platform.database, person, int(time.time()))


def state(platform: Platform, run_id: str) -> str:
    place = queue_views.one(platform.database, run_id, int(time.time()))
    assert place is not None
    return place.entry.state.value


def told(platform: Platform, person: str) -> list[str]:
    with platform.database.read() as transaction:
        return [row.kind for row in notices.of_person(transaction, person, 0, 100)][::-1]


def post(platform: Platform, person: str, path: str, **fields: str) -> Any:
    client = platform.browser(person)
    xsrf = client.cookies.get("_xsrf", path="/hub/")
    return client.post(f"/hub/queue/{path}", data={"_xsrf": xsrf, **fields})


def join(platform: Platform, person: str = "ben", mode: str = "offer", **fields: str) -> Any:
    return post(platform, person, f"{person}/vision", mode=mode, **{**WAIT, **fields})


def cancel(platform: Platform, person: str, project: str = "vision") -> Any:
    return post(platform, person, f"{person}/{project}/cancel")


def ada_has_the_device(platform: Platform) -> None:
    assert platform.start_server("ada", "vision", GPU).status_code == 201
    platform.wait_ready("ada", "vision")


def test_refused_joined_and_started_when_it_is_free(platform: Platform) -> None:
    ada_has_the_device(platform)
    with Visitor(platform.url) as ben:
        ben.log_in("ben")
        ben.visit("/hub/spawn/ben/vision")
        ben.send("/hub/spawn/ben/vision", profile=CPU)  # the form of what can be started is there as ever
        platform.wait_ready("ben", "vision")
        platform.stop_server("ben", "vision")
        platform.wait_stopped("ben", "vision")
        refused = platform.send_form("ben", "vision", {"profile": GPU})
        assert 'data-refusal="pool_full"' in refused.text
        assert 'action="/hub/queue/ben/vision"' in refused.text
        ben.visit("/hub/spawn/ben/vision")
        ben.send("/hub/queue/ben/vision", mode="start")
        assert ben.path == "/hub/home"
        assert 'data-place="waiting"' in ben.text
        assert "1건 중 1번째" in ben.text
        assert "아직 종료된 실행이 없어 예상 시각을 알 수 없습니다" in ben.text
        (place,) = places(platform)
        assert platform.server("ben", "vision") is None
        platform.stop_server("ada", "vision")
        wait_for("the start", lambda: state(platform, place.entry.run_id) == "taken")
        platform.wait_ready("ben", "vision")
        run = platform.runs("vision")[0]
        assert (run.id, run.state, run.profile) == (place.entry.run_id, RunState.RUNNING, GPU)
        wait_for("the notice", lambda: "queue started" in told(platform, "ben"))
        assert "queue turn" in told(platform, "ben")
        address = platform.api("ben", "GET", "/users/ben").json()["servers"]["vision"]["url"]
        assert platform.browser("ben").get(address).status_code == 200
        ben.visit("/hub/home")
        assert "data-place" not in ben.text


def test_an_offer_is_kept_for_a_while_and_then_is_the_next_ones(platform: Platform) -> None:
    ada_has_the_device(platform)
    join(platform)
    (first,) = places(platform)
    platform.stop_server("ada", "vision")
    wait_for("the turn", lambda: state(platform, first.entry.run_id) == "turn")
    assert platform.start_server("ada", "vision", GPU).json()["message"].startswith("No h100 is free")
    assert 'data-place="turn"' in platform.browser("ben").get("/hub/home").text
    join(platform, "ada")
    (second,) = places(platform, "ada")
    wait_for("its end", lambda: state(platform, first.entry.run_id) == "expired")
    assert told(platform, "ben")[-1] == "queue ended"
    wait_for("the next turn", lambda: state(platform, second.entry.run_id) == "turn")


def test_an_offer_is_taken_by_the_start_page(platform: Platform) -> None:
    join(platform)
    (place,) = places(platform)
    wait_for("the turn", lambda: state(platform, place.entry.run_id) == "turn")
    with Visitor(platform.url) as ben:
        ben.log_in("ben")
        ben.visit("/hub/spawn/ben/vision")
        assert 'data-place="turn"' in ben.text
        assert 'data-refusal="already_running"' not in ben.text
        ben.send("/hub/spawn/ben/vision")
        platform.wait_ready("ben", "vision")
    assert state(platform, place.entry.run_id) == "taken"
    assert platform.runs("vision")[0].id == place.entry.run_id


def test_another_profile_gives_the_turn_back(platform: Platform) -> None:
    join(platform)
    (place,) = places(platform)
    wait_for("the turn", lambda: state(platform, place.entry.run_id) == "turn")
    platform.start_server("ben", "vision", CPU)
    platform.wait_ready("ben", "vision")
    assert state(platform, place.entry.run_id) == "cancelled"
    ada_has_the_device(platform)


def test_a_turn_that_was_given_up_starts_nothing(platform: Platform) -> None:
    """The hub is asked for the server of a turn which ends at that moment."""
    ada_has_the_device(platform)
    join(platform)
    (place,) = places(platform)
    cancel(platform, "ben")
    before = len(platform.runs())
    body = {"user_options": {"profile": GPU, "turn": place.entry.run_id}}
    answer = platform.api("ben", "POST", "/users/ben/servers/vision", json=body)
    assert answer.status_code == 409
    assert "ben의 차례가 지났거나 취소되었습니다" in answer.json()["message"]
    assert len(platform.runs()) == before
    assert [run.person for run in platform.runs() if run.state is not RunState.SETTLED] == ["ada"]
    assert platform.start_server("ben", "vision", CPU).status_code == 201


def test_nobodys_turn_is_taken_by_another(platform: Platform) -> None:
    join(platform)
    (place,) = places(platform)
    wait_for("the turn", lambda: state(platform, place.entry.run_id) == "turn")
    body = {"user_options": {"profile": GPU, "turn": place.entry.run_id}}
    assert platform.api("ada", "POST", "/users/ada/servers/vision", json=body).status_code == 409
    assert state(platform, place.entry.run_id) == "turn"


def test_no_link_and_no_other_persons_form_joins_or_leaves(platform: Platform) -> None:
    ada_has_the_device(platform)
    client = platform.browser("ben")
    assert client.get("/hub/queue/ben/vision", params={**WAIT, "mode": "start"}).status_code == 405
    assert client.post("/hub/queue/ben/vision", data={**WAIT, "mode": "start"}).status_code == 403
    assert post(platform, "ada", "ben/vision", mode="start", **WAIT).status_code in (403, 404)
    assert places(platform) == []
    join(platform)
    assert client.post("/hub/queue/ben/vision/cancel").status_code == 403
    assert client.get("/hub/queue/ben/vision/cancel").status_code == 405
    assert post(platform, "ada", "ben/vision/cancel").status_code in (403, 404)
    assert len(places(platform)) == 1


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"wish": "reserved"}, 400, "form_invalid"),
        ({"mode": "now"}, 400, "form_invalid"),
        ({"image": "evil"}, 400, "form_invalid"),
        ({"turn": "x"}, 400, "form_invalid"),
        ({"profile": "gpu-none"}, 404, "profile_unknown"),
        ({"profile": CPU}, 409, "nothing_to_wait_for"),
    ],
)
def test_what_cannot_wait_is_refused_with_the_reason(
    platform: Platform, fields: dict[str, str], status: int, code: str
) -> None:
    answer = join(platform, **fields)
    assert answer.status_code == status
    assert f'data-refusal="{code}"' in answer.text
    assert places(platform) == []


def test_a_wish_goes_with_the_start(platform: Platform) -> None:
    answer = platform.send_form("ben", "vision", {"profile": GPU, "wish": "opportunistic"})
    assert answer.status_code == 200
    platform.wait_ready("ben", "vision")
    with platform.database.read() as transaction:
        row = runs_store.one(transaction, platform.runs("vision")[0].id)
    assert row.priority == "opportunistic"


def test_the_hub_may_be_away_when_it_is_ones_turn(tmp_path: Path) -> None:
    with running(tmp_path, reconciler=True, world=one_device, queue_seconds=1) as platform:
        ada_has_the_device(platform)
        join(platform, mode="start")
        (place,) = places(platform)
        platform.kill("hub")
        run = platform.runs("vision")[0]
        platform.backend.stop(run.id, 0)
        wait_for("the turn", lambda: state(platform, place.entry.run_id) == "turn")
        platform.start_hub()
        wait_for("the start", lambda: state(platform, place.entry.run_id) == "taken")
        platform.wait_ready("ben", "vision")
