"""A server's life through the hub: started, found again, stopped, charged; light servers as local processes."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import httpx
import psutil
import pytest

from quotas.backends.local import FOLDER_VARIABLE
from quotas.domain.launch import RUN_VARIABLE
from quotas.domain.runs import Outcome, RunState
from quotas.services import check
from spawners.progress import PHASES, Phase
from tests.platform import CPU, GPU, LARGE, RATES, STAND_IN, Platform, running, wait_for


def processes(platform: Platform) -> list[psutil.Process]:
    """The processes of servers, their keepers included."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(FOLDER_VARIABLE) == str(platform.home.runs):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_server_is_held_while_it_runs_and_charged_when_it_is_stopped(platform: Platform) -> None:
    answer = platform.start_server("ada", "vision")
    assert answer.status_code == 201
    server = platform.wait_ready("ada", "vision")
    assert server["url"] == "/user/ada/vision/"
    reply = httpx.get(f"{platform.url}/user/ada/vision/api")
    assert reply.json() == {"version": "stand-in"}
    (run,) = platform.runs("vision")
    assert (run.state, run.person, run.profile, run.held) == (RunState.RUNNING, "ada", CPU, RATES[CPU] * 1920)
    (process,) = [each for each in processes(platform) if "stand_in.py" in each.cmdline()[-1] and each.children() == []]
    assert process.environ()[RUN_VARIABLE] == run.id
    assert process.environ()["CUDA_VISIBLE_DEVICES"] == ""
    assert Path(process.cwd()) == platform.home.projects / "vision"
    began = time.time()
    assert platform.stop_server("ada", "vision").status_code == 204
    assert time.time() - began < 5
    (run,) = platform.runs("vision")
    assert (run.state, run.outcome, run.held) == (RunState.SETTLED, Outcome.STOPPED, 0)
    assert run.seconds is not None
    assert 1 <= run.seconds <= 10
    assert run.charge == run.seconds * RATES[CPU]
    assert processes(platform) == []
    assert list(platform.home.runs.iterdir()) == []
    assert check.findings(platform.database, int(time.time())) == []


def test_a_real_notebook_runs_in_the_project_s_folder_with_the_person_s_home(tmp_path: Path) -> None:
    with running(tmp_path, server=None) as platform:
        (platform.home.project_folder("vision") / "data.csv").write_text("1,2\n")
        assert platform.start_server("ada", "vision").status_code == 201
        browser = platform.browser("ada")
        page = browser.get("/user/ada/vision/")
        assert str(page.url).endswith("/user/ada/vision/lab")
        assert "JupyterLab" in page.text
        files = browser.get("/user/ada/vision/api/contents/").json()["content"]
        assert [file["name"] for file in files] == ["data.csv"]
        setting = "/user/ada/vision/lab/api/settings/@jupyterlab/docmanager-extension:plugin"
        assert browser.get(setting).json()["schema"]["properties"]["autosaveInterval"]["default"] == 20
        log = platform.backend.log(platform.runs("vision")[0].id, 100_000)
        assert "jupyterlab | extension was successfully loaded" in log
        assert "jupyter_lsp | extension" not in log
        assert "notebook_shim | extension" not in log
        assert (platform.home.path / "people" / "ada" / ".local" / "share" / "jupyter" / "runtime").is_dir()
        assert platform.browser("ben").get("/user/ada/vision/lab").status_code == 403
        assert platform.stop_server("ada", "vision").status_code == 204
        assert platform.runs("vision")[0].outcome is Outcome.STOPPED
        assert processes(platform) == []


def test_the_hub_tells_the_loop_which_run_a_server_is(platform: Platform) -> None:
    platform.start_server("ada", "vision")
    platform.wait_ready("ada", "vision")
    (run,) = [run for run in platform.runs("vision") if run.state is RunState.RUNNING]
    headers = {"Authorization": f"token {platform.home.secret('reconciler_token')}"}
    users = httpx.get(f"{platform.url}/hub/api/users?state=active", headers=headers).json()
    state = users[0]["servers"]["vision"]["state"]
    assert (state["run_id"], state["profile"], state["until"]) == (run.id, CPU, run.until_at)
    platform.stop_server("ada", "vision")


def test_a_profile_leaves_nothing_to_the_next_start_of_the_same_server(platform: Platform) -> None:
    assert platform.start_server("ben", "robots", GPU).status_code == 403
    assert platform.start_server("ben", "robots", LARGE).status_code == 201
    run = platform.runs("robots")[0]
    assert (run.profile, run.gflops) == (LARGE, RATES[LARGE])
    platform.stop_server("ben", "robots")
    assert platform.start_server("ben", "robots", CPU).status_code == 201
    first, second = platform.runs("robots")[:2]
    assert (first.profile, first.gflops) == (CPU, RATES[CPU])
    assert first.id != second.id
    platform.stop_server("ben", "robots")


def test_a_server_that_ends_by_itself_is_charged_and_cleared(tmp_path: Path) -> None:
    with running(tmp_path, environment={"MUDEUNG_TEST_POLL_SECONDS": "1"}) as platform:
        platform.start_server("ada", "vision")
        platform.wait_ready("ada", "vision")
        for process in processes(platform):
            if process.children() == []:
                process.send_signal(signal.SIGKILL)
        platform.wait_stopped("ada", "vision")
        (run,) = platform.runs("vision")
        assert (run.state, run.outcome, run.exit_code) == (RunState.SETTLED, Outcome.EXITED, 137)
        assert run.charge
        assert list(platform.home.runs.iterdir()) == []


def test_a_restarted_hub_finds_its_servers_and_they_are_charged_without_a_gap(tmp_path: Path) -> None:
    with running(tmp_path) as platform:
        for person, project in (("ada", "vision"), ("ben", "robots")):
            platform.start_server(person, project)
            platform.wait_ready(person, project)
        before = {run.id: run.started_at for run in platform.runs()}
        alive = {process.pid for process in processes(platform)}
        for number in (signal.SIGKILL, signal.SIGTERM):
            platform.kill("hub", number)
            assert httpx.get(f"{platform.url}/user/ada/vision/api").status_code == 200
            platform.start_hub()
            platform.wait_ready("ada", "vision")
            platform.wait_ready("ben", "robots")
            assert {process.pid for process in processes(platform)} == alive
        time.sleep(1)
        platform.stop_server("ada", "vision")
        platform.stop_server("ben", "robots")
        assert {run.id: run.started_at for run in platform.runs()} == before
        for run in platform.runs():
            assert run.finished_at is not None
            assert run.started_at is not None
            assert run.seconds in (run.finished_at - run.started_at, run.finished_at - run.started_at - 1)
        assert check.findings(platform.database, int(time.time())) == []


def test_a_start_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    never_answers = ("/bin/sleep", "600")
    with running(tmp_path, server=never_answers) as platform:
        platform.api("ada", "GET", "/user")
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{platform.url}/hub/api/users/ada/servers/vision",
                headers={"Authorization": f"token {platform._tokens['ada']}"},
                json={"profile": CPU},
                timeout=1.5,
            )
        (run,) = platform.runs("vision")
        assert run.state is RunState.RUNNING
        assert platform.stop_server("ada", "vision").status_code in {202, 204}
        wait_for("its charge", lambda: platform.runs("vision")[0].state is RunState.SETTLED)
        assert platform.runs("vision")[0].outcome is Outcome.FAILED_TO_START
        wait_for("its end", lambda: not processes(platform))
        platform.wait_stopped("ada", "vision")
        assert check.findings(platform.database, int(time.time())) == []


def test_a_server_that_ends_before_it_answers_is_refused_with_its_exit_code(tmp_path: Path) -> None:
    with running(tmp_path, server=("/bin/sh", "-c", "echo no such thing; exit 3")) as platform:
        answer = platform.start_server("ada", "vision")
        assert answer.status_code == 503
        run = platform.runs("vision")[0]
        assert answer.json()["message"] == (
            "The server of vision with cpu-small could not be started: it ended before it answered (exit code 3). "
            f"Try again, or tell the operator the run {run.id}."
        )
        assert (run.state, run.outcome, run.exit_code) == (RunState.SETTLED, Outcome.FAILED_TO_START, 3)
        assert "no such thing" in platform.printed("hub")
        assert list(platform.home.runs.iterdir()) == []
        for _ in range(6):
            assert platform.start_server("ada", "vision").status_code == 503
        assert platform.processes["hub"].poll() is None


def test_a_start_that_takes_too_long_is_given_up_with_the_reason(tmp_path: Path) -> None:
    with running(tmp_path, server=("/bin/sleep", "600"), start_timeout_seconds=2) as platform:
        answer = platform.start_server("ada", "vision")
        assert answer.status_code == 503
        assert "was not ready after 2 s" in answer.json()["message"]
        assert processes(platform) == []
        assert platform.runs("vision")[0].outcome is Outcome.FAILED_TO_START


def test_starts_beyond_the_slots_wait_for_their_turn_and_say_so(tmp_path: Path) -> None:
    slow = ("/bin/sh", "-c", f"sleep 2; exec {' '.join(STAND_IN)}")
    with running(tmp_path, server=slow, start_slots=1) as platform:
        platform.api("ada", "GET", "/user")
        platform.api("cho", "GET", "/user")
        headers = {person: {"Authorization": f"token {platform._tokens[person]}"} for person in ("ada", "cho")}
        api = f"{platform.url}/hub/api/users"
        for person in ("ada", "cho"):
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(
                    f"{api}/{person}/servers/vision", headers=headers[person], json={"profile": CPU}, timeout=0.3
                )
        said = [event["message"] for event in platform.progress("cho", "vision")]
        waits, starts = said.index("Waiting for its turn: 1 of 1, about 3 s."), said.index(PHASES[Phase.ANSWERING].en)
        assert waits < starts
        assert said[-1] == "The server is ready."
        first, second = sorted(platform.runs("vision"), key=lambda run: run.id)
        assert first.started_at is not None
        assert second.started_at is not None
        assert second.started_at >= first.started_at + 2
        assert second.requested_at - first.requested_at < 2
