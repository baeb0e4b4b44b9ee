"""`mudeung up` as a real process: what it watches, what ends with it, and what a start finds after it was killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import nbformat
import psutil
import pytest

from cli.demo.browser import Browser
from cli.demo.platform import OwnPlatform
from cli.demo.round import MEMBER, PROFILE, PROJECT, SERVER
from cli.session import Session
from cli.supervision import leftovers, lock
from cli.up import Platform, Stop
from quotas.backends.docker import HOME_LABEL
from quotas.domain.admission import Admitted, Request
from quotas.domain.launch import Launch
from quotas.domain.policy import Policy
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.home import open_home
from quotas.services import admission, profiles, runs
from tests.cli.engine import skip_without_image

PROGRAMS = {"proxy", "hub", "reconciler", "idleness", "scheduler", "portal"}
WAIT_SECONDS = 60.0

Open = Callable[[OwnPlatform], Browser]


def wait_until(holds: Callable[[], object], what: str, seconds: float = WAIT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.3)


def pids(platform: OwnPlatform) -> dict[str, int]:
    """Return the process of each program that runs, by name."""
    found = {}
    for each in leftovers.living(platform.home):
        with contextlib.suppress(psutil.Error):
            found[each.environ()["MUDEUNG_PROGRAM"]] = each.pid
    return found


def everything_of(home: Path) -> list[str]:
    """Return every process that names the home in its environment or command line: the platform's and the runs'."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.environ().values(), *process.cmdline()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(home) in word for word in words):
            found.append(f"{process.pid} {process.cmdline()}")
    return found


def answers(platform: OwnPlatform, path: str) -> int:
    try:
        return httpx.get(platform.url + path, timeout=10, trust_env=False).status_code
    except httpx.HTTPError:
        return 0


def docker_names(home: Path) -> list[str]:
    """Return the names of the containers of the home's platform, running or not."""
    words = ["docker", "ps", "--all", "--format", "{{.Names}}", "--filter", f"label={HOME_LABEL}={home.resolve()}"]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout.split()


def start_server(platform: OwnPlatform, browser: Browser) -> None:
    browser.log_in(MEMBER, platform.password(MEMBER))
    page = browser.open(f"/hub/spawn/{MEMBER}/{PROJECT}")
    following = browser.submit(page, page.form(f"/spawn/{MEMBER}/{PROJECT}"), profile=PROFILE)
    if "spawn-pending" in following.url:
        assert list(browser.follow(following))[-1].get("ready")
    assert browser.open(f"{SERVER}/lab").status == 200


@pytest.fixture
def browser() -> Iterator[Callable[[OwnPlatform], Browser]]:
    """Open browsers on a platform; they are closed after the test."""
    opened: list[Browser] = []

    def open_one(platform: OwnPlatform) -> Browser:
        opened.append(Browser(platform.url))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPlatform]:
    """A platform on a home whose name would trip a careless configuration file."""
    home = tmp_path_factory.mktemp("up") / "home 100% ;x"
    home.mkdir()
    (home / "mudeung.toml").write_text("schedule_seconds = 1\n")
    own = OwnPlatform("local", "en", home)
    try:
        own.start()
        yield own
    finally:
        own.remove(keep=True)


def test_it_answers_through_the_proxy_and_tells_its_state(platform: OwnPlatform) -> None:
    assert answers(platform, "/hub/login") == 200
    assert answers(platform, "/services/portal/health") == 200
    shown = platform.read("status")
    assert (shown["running"], shown["url"], shown["backend"]) == ("yes", platform.url, "local")
    assert {each["name"] for each in shown["programs"]} == PROGRAMS
    assert platform.url in platform.printed()


def test_nothing_listens_beyond_loopback(platform: OwnPlatform) -> None:
    listening = [
        connection.laddr.ip
        for process in leftovers.living(platform.home)
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 4
    assert set(listening) <= {"127.0.0.1", "::1"}


def test_secrets_are_the_owners_alone(platform: OwnPlatform) -> None:
    for name in ("programs.json", "proxy_token.secret"):
        assert (platform.home / "hub" / name).stat().st_mode & 0o077 == 0
    assert (platform.home / "hub").stat().st_mode & 0o077 == 0


def test_a_second_one_in_the_same_home_is_refused(platform: OwnPlatform) -> None:
    code, output = platform.command("up", "--port", "0")
    assert code == 1
    assert f"another `mudeung up` (process {platform.process.pid})" in output  # type: ignore[union-attr]


def test_every_program_that_is_killed_is_started_again_and_servers_go_on(platform: OwnPlatform, browser: Open) -> None:
    member = browser(platform)
    start_server(platform, member)
    server = member.call("GET", f"{SERVER}/api/status")
    before = pids(platform)
    assert set(before) == {*PROGRAMS, "supervisor"}
    for name in PROGRAMS:
        os.kill(before[name], signal.SIGKILL)
    wait_until(lambda: set(pids(platform)) == {*PROGRAMS, "supervisor"}, "all programs again")
    after = pids(platform)
    assert all(after[name] != before[name] for name in PROGRAMS)
    assert after["supervisor"] == before["supervisor"]
    wait_until(lambda: answers(platform, "/hub/health") == 200, "the hub")
    wait_until(lambda: answers(platform, f"{SERVER}/api") == 200, "the server through the proxy")
    assert member.call("GET", f"{SERVER}/api/status")["started"] == server["started"]
    wait_until(lambda: "hub ended and was started again" in platform.printed(), "a line about it", 10)


def test_even_the_watching_process_is_started_again(platform: OwnPlatform) -> None:
    before = pids(platform)
    os.kill(before["supervisor"], signal.SIGKILL)
    wait_until(
        lambda: set(after := pids(platform)) == {*before} and not set(after.values()) & set(before.values()),
        "every process anew",
    )
    wait_until(lambda: answers(platform, f"{SERVER}/api") == 200, "the server through the proxy")


def open_runs(platform: OwnPlatform) -> dict[str, str]:
    """Return the ids of the open runs that run, by kind."""
    rows = platform.read("runs", "list", "--project", PROJECT)
    return {row["kind"]: row["id"] for row in rows if row["state"] == "running"}


def start_batch_run(platform: OwnPlatform) -> None:
    """A notebook that takes long is run on the project, beside the server that runs there."""
    cells = [nbformat.v4.new_code_cell("print('begun')"), nbformat.v4.new_code_cell("import time; time.sleep(600)")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), platform.home / "projects" / PROJECT / "long.ipynb")
    words = ["--person", MEMBER, "--profile", PROFILE, "--at", "2090-01-01"]
    assert platform.command("schedules", "add", PROJECT, "long.ipynb", *words)[0] == 0
    assert platform.command("schedules", "run", "1")[0] == 0
    wait_until(lambda: set(open_runs(platform)) == {"notebook", "batch"}, "a server and a batch run")


def test_ctrl_c_stops_and_charges_what_runs_and_leaves_nothing(platform: OwnPlatform) -> None:
    start_batch_run(platform)
    running = open_runs(platform)
    assert platform.stop() == 0
    assert everything_of(platform.home) == []
    assert "stopping 1 server, 1 batch run" in platform.printed()
    for run_id in running.values():
        run = platform.read("runs", "show", run_id)
        assert (run["state"], run["outcome"]) == ("settled", "stopped")
        assert int(run["charge_gflops_seconds"]) == 100 * run["seconds"] > 0
    assert platform.read("runs", "show", running["batch"])["execution"] == "cancelled"
    assert list((platform.home / "runs").iterdir()) == []
    assert platform.command("check") == (0, "Every invariant holds.")
    assert platform.command("status")[0] == 1


def test_after_it_was_killed_nothing_of_it_survives_and_the_next_start_goes_on(
    platform: OwnPlatform, browser: Open
) -> None:
    """The home is the one that was stopped above: its accounts and its example are not made again."""
    accounts = (platform.home / "accounts.txt").read_text()
    platform.start()
    member = browser(platform)
    start_server(platform, member)
    server = member.call("GET", f"{SERVER}/api/status")
    head = platform.process
    assert head is not None
    head.kill()
    head.wait(10)
    wait_until(lambda: not pids(platform), "the programs gone", 45)
    assert platform.read("runs", "list")[0]["state"] == "running"

    platform.start()
    wait_until(lambda: answers(platform, f"{SERVER}/api") == 200, "the same server, found again")
    again = browser(platform)
    again.log_in(MEMBER, platform.password(MEMBER))
    again.open(f"{SERVER}/lab")
    assert again.call("GET", f"{SERVER}/api/status")["started"] == server["started"]
    assert platform.stop() == 0
    assert everything_of(platform.home) == []
    assert platform.read("runs", "list")[0]["outcome"] == "stopped"
    assert platform.command("check")[0] == 0
    assert (platform.home / "accounts.txt").read_text() == accounts


def test_sigterm_during_the_start_and_ctrl_c_after_it_end_it_cleanly(platform: OwnPlatform) -> None:
    process = OwnPlatform("local", "en", platform.home).launch()
    wait_until(lambda: "hub" in pids(platform), "the hub's process", 30)
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert everything_of(platform.home) == []


def test_only_a_later_signal_is_a_second_one() -> None:
    stop = Stop()
    for _ in range(2):
        stop.ask(signal.SIGINT, None)
    assert (stop.requested.is_set(), stop.hastened.is_set()) == (True, False)
    stop.asked_at -= 1
    stop.ask(signal.SIGINT, None)
    assert stop.hastened.is_set()


def test_a_hub_that_does_not_start_is_told_with_its_log_and_nothing_is_left(tmp_path: Path) -> None:
    own = OwnPlatform("local", "en", tmp_path)
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "jupyterhub.sqlite").write_text("this is no database, and somebody's file")
    process = own.launch()
    assert process.wait(90) == 1
    assert f"hub did not start. End of {tmp_path / 'log' / 'hub.log'}:" in own.printed()
    assert "file is not a database" in own.printed()
    assert everything_of(tmp_path) == []
    assert (tmp_path / "hub" / "jupyterhub.sqlite").read_text() == "this is no database, and somebody's file"


def test_a_start_with_another_backend_ends_what_the_first_left(platform: OwnPlatform) -> None:
    """The platform is stopped here, and its runs were settled; one more is left behind by hand."""
    home = open_home(platform.home)
    database = home.database()
    request = Request(new_run_id(), RunKind.NOTEBOOK, MEMBER, PROJECT, PROFILE, door="test")
    assert isinstance(admission.reserve(database, request, int(time.time()), Policy()), Admitted)
    profile = profiles.profile(database, PROFILE)
    assert profile is not None
    words = ("/bin/sh", "-c", "sleep 600")
    launch = Launch(request.run_id, RunKind.NOTEBOOK, MEMBER, PROJECT, profile, words, str(home.projects))
    home.backend().launch(launch)
    with lock.alone(home.path) as held:
        other = Platform(
            Session(platform.home, "en", int(time.time())), open_home(home.path, backend="docker"), {}, Stop(), held
        )
        other.database = database
        other._end_runs_of_another_backend()
    assert home.backend().list_runs() == []
    run = runs.run(database, request.run_id)
    assert run is not None
    assert run.outcome is Outcome.STOPPED
    assert (home.hub / "backend").read_text() == "docker"


@pytest.mark.docker
def test_ctrl_c_leaves_no_container(tmp_path: Path, browser: Open) -> None:
    skip_without_image()
    own = OwnPlatform("docker", "en", tmp_path)
    try:
        own.start()
        start_server(own, browser(own))
        containers = docker_names(tmp_path)
        assert len(containers) == 1
        assert own.stop() == 0
        assert docker_names(tmp_path) == []
        assert own.read("runs", "list", "--project", PROJECT)[0]["outcome"] == "stopped"
        assert own.command("check")[0] == 0
    finally:
        own.remove(keep=False)
