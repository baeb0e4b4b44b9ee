"""A machine whose devices are all held: the next start waits in the queue, and begins when one of them is free."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from cli.demo.browser import Browser
from cli.demo.story import Differs
from tests.helm.cluster_watch import Machine, machines
from tests.helm.load import keep_notebook, schedule
from tests.helm.standing import FULL, OPEN, Standing, until
from tests.helm.world import DEVICE, MODELS, PROJECT

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]

BATCH_RUNS = 2
HOLDERS = tuple(f"learner{number}" for number in range(1, 9))
NEXT, PLANNER = "member", "pi"
FREE_SECONDS = 240


@pytest.fixture
def machine(standing: Standing) -> str:
    """A machine none of whose devices is held by others."""

    def free() -> str:
        found = (each for each in machines(standing.release.tools) if each.free.get(FULL, 0) >= standing.devices)
        return next((each.name for each in found), "")

    try:
        name = until(f"{standing.devices} {FULL} that nobody holds", free, FREE_SECONDS, pause=5)
    except AssertionError:
        pytest.skip(f"others hold the {FULL} of every machine")
    return name


def test_the_start_for_which_no_device_is_left_waits_and_begins_when_one_is_free(
    standing: Standing, machine: str
) -> None:
    holders = HOLDERS[: standing.devices - BATCH_RUNS]
    try:
        _fill(standing, holders)
        assert standing.witness.asked(FULL) == standing.devices
        _refused_and_queued(standing)
        first = standing.person(holders[0])
        ended, began = standing.open_run(first.name)["id"], time.time()
        first.stop().raise_for_status()
        person = standing.person(NEXT)
        until("the server of whose turn it is", lambda: (person.server() or {}).get("ready"), 120)
        run = standing.open_run(NEXT)
        assert run["requested_at"] >= int(began)
        earlier, later = standing.pod_of(ended), standing.pod_of(run["id"])
        assert earlier.finished_at is not None
        assert later.started_at is not None
        assert later.started_at >= earlier.finished_at
        assert standing.witness.asked(FULL) == standing.devices
        assert _names(standing)[machine].free[FULL] == _names(standing)[machine].devices[FULL] - standing.devices
    finally:
        _empty(standing, (*holders, NEXT))
    assert standing.witness.most[FULL] == standing.devices
    standing.check()


def _names(standing: Standing) -> dict[str, Machine]:
    return {each.name: each for each in machines(standing.release.tools)}


def _fill(standing: Standing, holders: tuple[str, ...]) -> None:
    """Servers and batch runs hold every device, each in a pod that runs."""
    people = [standing.person(name) for name in holders]
    with ThreadPoolExecutor(len(people)) as threads:
        for answer in threads.map(lambda person: person.start(DEVICE), people):
            answer.raise_for_status()
    for person in people:
        person.wait_ready()
    path = keep_notebook(people[0], 600)
    for _ in range(BATCH_RUNS):
        schedule(standing.person(PLANNER), path, 2, DEVICE)

    def running() -> bool:
        held = [run for run, row in standing.runs().items() if row["state"] in OPEN and row["profile"] == DEVICE]
        begun = [run for run in held if any(pod.started_at for pod in standing.witness.pods(run))]
        return len(begun) == standing.devices

    until("a pod that runs for each device", running, 120)


def _refused_and_queued(standing: Standing) -> None:
    """One more start is refused, with the way to the queue; taken, it holds nothing."""
    before = set(standing.runs())
    answer = standing.person(NEXT).start(DEVICE)
    assert answer.status_code == httpx.codes.CONFLICT
    told = answer.json()["message"]
    assert MODELS[DEVICE] in told
    assert str(standing.devices) in told
    with contextlib.closing(standing.browser(NEXT)) as browser:
        form = browser.open(f"/hub/spawn/{NEXT}/{PROJECT}")
        refused = browser.submit(form, form.form(f"/spawn/{NEXT}/{PROJECT}"), profile=DEVICE)
        assert refused.status == httpx.codes.CONFLICT
        assert 'data-refusal="pool_full"' in refused.html
        home = browser.submit(refused, refused.form(f"/queue/{NEXT}/{PROJECT}"), profile=DEVICE, mode="start")
        assert 'data-place="waiting"' in home.html
        time.sleep(5)  # the queue is looked at every second
        assert 'data-place="waiting"' in browser.open("/hub/home").html
    assert set(standing.runs()) == before
    assert standing.person(NEXT).server() is None
    assert standing.witness.asked(FULL) == standing.devices


def _empty(standing: Standing, names: tuple[str, ...]) -> None:
    """Nobody holds a device: servers are stopped, and the pods of batch runs are taken away."""
    _leave_the_queue(standing.browser(NEXT))
    for pod in standing.witness.present():
        row = standing.runs()[pod.run]
        if row["kind"] == "batch" and row["state"] in OPEN:
            words = ("delete", "pod", pod.name, "--namespace", pod.namespace, "--wait=false")
            standing.release.tools.kubectl(*words)
    people = [standing.person(name) for name in names]
    with ThreadPoolExecutor(len(people)) as threads:
        list(threads.map(lambda person: person.stop(), people))
    standing.wait_until_whole()
    assert standing.witness.asked(FULL) == 0


def _leave_the_queue(browser: Browser) -> None:
    with contextlib.closing(browser):
        home = browser.open("/hub/home")
        with contextlib.suppress(Differs):  # they do not wait any more
            browser.submit(home, home.form(f"/queue/{NEXT}/{PROJECT}/cancel"))
