"""The queue at the portal: places, joining, leaving and taking an offer, by pages and API; batch runs among them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from quotas.domain.admission import Admitted, Request
from quotas.domain.pools import CapacityPhase
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.services import admission, check, pools, queue, queue_steps, queue_views, runs
from quotas.services.admission import Ended
from tests.platform import BY, CPU, GPU, wait_for
from tests.portal.conftest import BASE, Portal, forms

JOIN = {"project": "vision", "profile": GPU}


@pytest.fixture(scope="module", autouse=True)
def _one_device(portal: Portal) -> None:
    now = int(time.time())
    pools.add_phase(portal.platform.database, "main", CapacityPhase("h100", now, 4, 4, 1), actor=BY, now=now)


@pytest.fixture
def free(portal: Portal) -> Iterator[Callable[[], None]]:
    """The only device is ada's; yield what frees it. Afterwards nobody waits."""
    database, now = portal.platform.database, int(time.time())
    policy = portal.platform.home.settings.policy()
    request = Request(new_run_id(), RunKind.NOTEBOOK, "ada", "vision", GPU)
    assert isinstance(admission.reserve(database, request, now, policy), Admitted)

    def end() -> None:
        admission.settle(database, request.run_id, Ended(None, None, Outcome.FAILED_TO_START), int(time.time()))

    yield end
    end()
    for place in queue_views.every(database, int(time.time())):
        queue.cancel(database, place.entry.run_id, actor=place.entry.person, now=int(time.time()))
    assert check.findings(database, int(time.time())) == []


def step(portal: Portal) -> None:
    queue_steps.step(portal.platform.database, int(time.time()), portal.platform.home.settings.policy())


def error_of(answer: httpx.Response) -> tuple[int, str, str]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["field"]


def test_a_place_is_taken_seen_and_given_up_by_the_api(portal: Portal, free: Callable[[], None]) -> None:
    del free
    made = portal.call("ben", "POST", "queue", json=JOIN)
    assert made.status_code == 201, made.text
    place = made.json()
    assert (place["state"], place["position"], place["waiting"]) == ("waiting", 1, 1)
    assert (place["wish"], place["mode"], place["device_model"], place["kind"]) == (
        "guaranteed",
        "offer",
        "h100",
        "notebook",
    )
    assert place["expected_at"] is None
    assert place["estimated_en"].startswith("No time can be given, as no run has ended yet")
    assert portal.call("ben", "POST", "queue", json=JOIN).json()["run"] == place["run"]
    assert [each["run"] for each in portal.call("ben", "GET", "queue").json()] == [place["run"]]
    assert portal.call("ada", "GET", "queue").json() == []
    assert portal.call("ben", "DELETE", f"queue/{place['run']}").status_code == 204
    assert portal.call("ben", "GET", f"queue/{place['run']}").json()["state"] == "cancelled"
    assert error_of(portal.call("ben", "DELETE", f"queue/{place['run']}")) == (400, "invalid_value", "entry")


def test_an_offer_is_taken_by_asking_the_platform_to_start(portal: Portal, free: Callable[[], None]) -> None:
    run = portal.call("ben", "POST", "queue", json=JOIN).json()["run"]
    free()
    step(portal)
    place = portal.call("ben", "GET", f"queue/{run}").json()
    assert place["state"] == "turn"
    assert place["turn_until"] > place["turn_at"]
    taken = portal.call("ben", "POST", f"queue/{run}/take")
    assert (taken.status_code, taken.json()["mode"]) == (200, "start")


def test_the_page_shows_it_and_has_its_buttons(portal: Portal, free: Callable[[], None]) -> None:
    assert "대기 중인 항목이 없습니다" in portal.open("ben", "queue").text
    run = portal.call("ben", "POST", "queue", json=JOIN).json()["run"]
    page = portal.open("ben", "queue")
    assert 'data-place="waiting"' in page.text
    assert "1건 중 1번째" in page.text
    assert f"{BASE}queue/{run}/take" not in forms(page)
    free()
    step(portal)
    page = portal.open("ben", "queue")
    assert f"{BASE}queue/{run}/take" in forms(page)
    page = portal.send("ben", f"queue/{run}/take", {})
    assert page.url.path == f"{BASE}queue"
    assert "시작 중" in page.text
    page = portal.send("ben", f"queue/{run}/cancel", {})
    assert "대기 중인 항목이 없습니다" in page.text
    assert f'href="{BASE}queue"' in portal.open("ben").text


def test_another_persons_entry_is_not_there(portal: Portal, free: Callable[[], None]) -> None:
    del free
    run = portal.call("ben", "POST", "queue", json=JOIN).json()["run"]
    for method, path in (("GET", run), ("DELETE", run), ("POST", f"{run}/take")):
        assert error_of(portal.call("ada", method, f"queue/{path}")) == (404, "not_found", "entry")
    assert portal.send("ada", f"queue/{run}/cancel", {}).status_code == 404
    assert portal.call("ben", "GET", f"queue/{run}").json()["state"] == "waiting"


def test_no_form_of_elsewhere_is_taken(portal: Portal, free: Callable[[], None]) -> None:
    del free
    run = portal.call("ben", "POST", "queue", json=JOIN).json()["run"]
    answer = portal.platform.browser("ben").post(f"{BASE}queue/{run}/cancel", data={"_csrf": "guessed"})
    assert answer.status_code == 403
    assert portal.open("ben", f"queue/{run}/cancel").status_code == 405
    assert portal.call("ben", "GET", f"queue/{run}").json()["state"] == "waiting"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"profile": GPU}, (400, "invalid_value", "project")),
        ({**JOIN, "wish": "reserved"}, (400, "invalid_value", "wish")),
        ({**JOIN, "mode": "now"}, (400, "invalid_value", "mode")),
        ({**JOIN, "mode": ["start"]}, (400, "invalid_value", "mode")),
        ({**JOIN, "person": "ada"}, (400, "invalid_value", "person")),
        ({**JOIN, "profile": CPU}, (409, "nothing_to_wait_for", "")),
        ({**JOIN, "project": "robots"}, (403, "profile_not_offered", "")),
        ({**JOIN, "project": "nothing"}, (404, "project_unknown", "")),
    ],
    ids=str,
)
def test_what_cannot_wait_is_refused_with_the_field_or_the_reason(
    portal: Portal, body: dict[str, object], expected: tuple[int, str, str]
) -> None:
    assert error_of(portal.call("ben", "POST", "queue", json=body)) == expected
    assert portal.call("ben", "GET", "queue").json() == []


@pytest.mark.parametrize("run", ["1", "x" * 36, "0190c8d4-0000-7000-8000-00000000000G"])
def test_an_id_that_is_none_is_not_found(portal: Portal, run: str) -> None:
    assert portal.call("ben", "GET", f"queue/{run}").status_code in (400, 404)
    assert portal.call("ben", "DELETE", f"queue/{run}").status_code in (400, 404)


def test_a_scheduled_run_waits_in_sight_and_can_be_given_up(portal: Portal, free: Callable[[], None]) -> None:
    del free
    body = {"notebook": "train.ipynb", "profile": GPU, "cron": "0 0 1 1 *", "wish": "guaranteed"}
    schedule = portal.call("ben", "POST", "projects/vision/schedules", json=body).json()
    assert schedule["wish"] == "guaranteed"
    claimed = portal.call("ben", "POST", f"projects/vision/schedules/{schedule['id']}/run").json()
    process = portal.platform.start("scheduler", [sys.executable, "-m", "batch", "scheduler"])

    def state() -> str:
        return str(portal.call("ben", "GET", f"runs/{claimed['id']}").json()["state"])

    wait_for("its place", lambda: state() == "waiting", process=process)
    assert portal.call("ben", "GET", f"queue/{claimed['id']}").json()["kind"] == "batch"
    for path in ("projects/vision", f"runs/{claimed['id']}"):
        page = portal.open("ben", path).text
        assert "1/1 · " in page
        assert "예상 시각을 알 수 없습니다" in page
    assert "예약 실행" in portal.open("ben", "queue").text
    portal.call("ben", "DELETE", f"queue/{claimed['id']}")
    wait_for("its end", lambda: state() == "cancelled", process=process)
    assert runs.run(portal.platform.database, claimed["id"]) is None


def test_the_form_of_a_schedule_asks_how_firmly(portal: Portal) -> None:
    page = portal.open("ben", "projects/vision/schedules/new?notebook=train.ipynb")
    assert 'name="wish"' in page.text
    assert "유휴 장치만 사용" in page.text
