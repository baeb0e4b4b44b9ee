"""docs/kubernetes/backup.md, tried: a platform is backed up, all of it is removed, and another one has what it had."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.demo.browser import Browser
from tests.helm import release
from tests.helm.conftest import Tools
from tests.helm.release import READY_SECONDS, Installed
from tests.helm.test_chart import SMALL, objects, pods

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "mudeung-test-restore"
SETTINGS = {"kubernetes_namespace_prefix": "mudeung-test-r-", "reconcile_seconds": 3}
MEMBER, PROJECT, PROFILE = "member", "vision-drive", "cpu-small"
SERVER = "mudeung-test-r-vision-drive"
PROJECT_FILE, HOME_FILE = "/home/jovyan/project/결과.csv", "/home/jovyan/.own"
CONTENT = "a,b\n1,2\n"
GONE_SECONDS = 120


@dataclass(frozen=True)
class Past:
    """What the first platform had when its backup was made."""

    balances: list[dict[str, Any]]
    charges: str
    files: str
    secrets: dict[str, str]
    password: str
    token: str
    ended: str
    open: str
    seen_at: int


def kept(installed: Installed, program: str = "hub") -> tuple[list[dict[str, Any]], str]:
    """Return each project's balance, and the sum of every file."""
    words = ("exec", f"deployment/{program}", "--container", program, "--")
    home = "/var/lib/mudeung"
    balances = installed.kubectl(*words, "mudeung", "ledger", "--balances", "-o", "json", "--home", home)
    command = f"cd {home} && find projects batch -type f -exec sha256sum {{}} + | sort"
    return json.loads(balances), installed.kubectl(*words, "sh", "-c", command)


def charges(installed: Installed) -> str:
    return installed.database("SELECT run_id, amount, gflops FROM charges ORDER BY run_id")


def start(browser: Browser, installed: Installed) -> str:
    """Return the run of the member's server, which is ready."""
    form = browser.open(f"/hub/spawn/{MEMBER}/{PROJECT}")
    browser.submit(form, form.form(f"/spawn/{MEMBER}/{PROJECT}"), profile=PROFILE)
    progress = f"/hub/api/users/{MEMBER}/servers/{PROJECT}/progress?_xsrf={browser.xsrf('/hub/')}"
    last = list(browser.stream(progress))[-1]
    assert last.get("ready"), last["message"]
    return installed.database("SELECT id FROM runs WHERE state = 'running'")


def stop(browser: Browser, installed: Installed, run: str) -> None:
    browser.call("DELETE", f"/hub/api/users/{MEMBER}/servers/{PROJECT}")
    settled(installed, run)


def settled(installed: Installed, run: str) -> tuple[str, int]:
    """Return how the run ended, and when, once it is charged."""
    deadline = time.monotonic() + GONE_SECONDS
    query = f"SELECT outcome || ' ' || finished_at FROM runs WHERE id = '{run}' AND state = 'settled'"  # noqa: S608
    while not (found := installed.database(query)):
        assert time.monotonic() < deadline, run
        time.sleep(0.5)
    outcome, finished_at = found.split()
    return outcome, int(finished_at)


def in_server(installed: Installed, run: str, line: str) -> str:
    words = ("exec", f"mudeung-{run}", "--namespace", SERVER, "--", "sh", "-c", line)
    return installed.tools.kubectl(*words)


@contextlib.contextmanager
def member(installed: Installed, password: str) -> Iterator[Browser]:
    """The member, logged in."""
    with installed.front() as address, contextlib.closing(Browser(address)) as browser:
        page = browser.log_in(MEMBER, password)
        assert page.status == httpx.codes.OK
        assert "/hub/login" not in page.url
        yield browser


def lived(installed: Installed, folder: Path) -> Past:
    """Somebody has worked on the platform, and goes on while it is backed up."""
    password = installed.password(MEMBER)
    with member(installed, password) as browser:
        asked = {"note": "test", "expires_in": 86_400}
        token = str(browser.call("POST", f"/hub/api/users/{MEMBER}/tokens", asked)["token"])
        ended = start(browser, installed)
        in_server(installed, ended, f"printf '{CONTENT}' >{PROJECT_FILE} && printf mine >{HOME_FILE}")
        stop(browser, installed, ended)
        open_run = start(browser, installed)
    balances, files = kept(installed)
    back_up(installed, folder)
    assert kept(installed) == (balances, files)
    seen_at = installed.database(f"SELECT seen_at FROM runs WHERE id = '{open_run}'")  # noqa: S608
    secrets = installed.secret("platform-secrets")
    return Past(balances, charges(installed), files, secrets, password, token, ended, open_run, int(seen_at))


def back_up(installed: Installed, folder: Path) -> None:
    """The commands of the documentation."""
    words = ["kubectl", "--namespace", NAMESPACE, "exec", "deploy/hub", "--container", "hub", "--", "mudeung"]
    with (folder / "mudeung.tar").open("wb") as to:
        done = subprocess.run([*words, "backup", "-"], stdout=to, stderr=subprocess.PIPE, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    secret = installed.tools.get("secret", "platform-secrets", "--namespace", NAMESPACE)
    for key in ("uid", "resourceVersion", "creationTimestamp", "managedFields"):
        secret["metadata"].pop(key, None)
    (folder / "platform-secrets.json").write_text(json.dumps(secret))
    assert homes("save", folder / "homes").endswith(" bytes")


def homes(what: str, folder: Path, *more: str) -> str:
    """Return what was done about the member's own volume."""
    words = [sys.executable, str(ROOT / "scripts" / "kubernetes_homes.py"), what, NAMESPACE, str(folder), *more]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    own = f"{SERVER}/home-{MEMBER}: "
    return next(line.removeprefix(own) for line in done.stdout.splitlines() if line.startswith(own))


@pytest.fixture(scope="module")
def restored(cluster: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Installed, Past]]:
    """A platform installed from nothing on new volumes, with the backup of one of which nothing is left."""
    folder = tmp_path_factory.mktemp("backup")
    with release.installed(cluster, NAMESPACE, **SETTINGS) as first:
        past = lived(first, folder)
    second = Installed(cluster, NAMESPACE, dict(SETTINGS))
    try:
        cluster.kubectl("create", "namespace", NAMESPACE)
        second.kubectl("create", "-f", str(folder / "platform-secrets.json"))
        done = second.helm("install", maintenance={"enabled": True, **release.SMALL})
        assert done.returncode == 0, done.stderr
        for each in ("statefulset/postgresql", "deployment/maintenance"):
            second.kubectl("rollout", "status", each, f"--timeout={READY_SECONDS}s", seconds=READY_SECONDS + 10)
        put_back(second, folder, past)
        done = second.helm("upgrade", "--timeout", f"{READY_SECONDS}s")
        assert done.returncode == 0, done.stderr
        second.wait()
        yield second, past
    finally:
        release.remove(second)


def put_back(second: Installed, folder: Path, past: Past) -> None:
    """The backup is restored, and at once each balance and every file is as it was; nothing else runs meanwhile."""
    into = ("exec", "--stdin", "deploy/maintenance", "--", "mudeung", "--lang", "en", "restore", "-")
    # A test's cluster may give out a volume that somebody has used before.
    empty = ("exec", "deploy/maintenance", "--", "sh", "-c", "rm -rf /var/lib/mudeung/*; ls /var/lib/mudeung")
    assert second.kubectl(*empty) == ""
    words = ["kubectl", "--namespace", NAMESPACE, *into]
    with (folder / "mudeung.tar").open("rb") as source:
        done = subprocess.run(words, stdin=source, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 runs were open then" in done.stdout
    assert "Every invariant holds." in done.stdout
    assert homes("load", folder / "homes", "--replace") == "loaded"
    assert "was left as it is" in homes("load", folder / "homes")
    assert kept(second, "maintenance") == (past.balances, past.files)
    assert charges(second) == past.charges


def test_the_first_platform_had_something_to_lose(restored: tuple[Installed, Past]) -> None:
    _, past = restored
    assert past.ended in past.charges
    assert len(past.balances) > 1
    assert "결과.csv" in past.files
    assert sum(int(each["spent_gflops_seconds"]) for each in past.balances) > 0


def test_what_ran_at_the_time_of_the_backup_is_charged_until_it_was_seen(restored: tuple[Installed, Past]) -> None:
    second, past = restored
    outcome, finished_at = settled(second, past.open)
    assert outcome == "lost"
    # The copy is of a moment before the platform was asked, at most a few rounds of the loop.
    assert past.seen_at - 60 <= finished_at <= past.seen_at
    assert set(past.charges.splitlines()) < set(charges(second).splitlines())
    assert "Every invariant holds." in second.in_hub("mudeung", "--lang", "en", "check")


def test_people_log_in_as_before_and_their_tokens_hold(restored: tuple[Installed, Past]) -> None:
    second, past = restored
    assert second.secret("platform-secrets") == past.secrets
    with member(second, past.password) as browser:
        assert browser.open("/services/portal/").status == httpx.codes.OK
        assert browser.call("GET", "/hub/api/user", token=past.token)["name"] == MEMBER


def test_a_server_starts_with_the_files_of_project_and_person(restored: tuple[Installed, Past]) -> None:
    second, past = restored
    settled(second, past.open)
    with member(second, past.password) as browser:
        run = start(browser, second)
        assert in_server(second, run, f"cat {PROJECT_FILE}") == CONTENT
        assert in_server(second, run, f"cat {HOME_FILE}; printf more >>{HOME_FILE}") == "mine"
        stop(browser, second, run)


def test_while_it_is_maintained_no_program_runs_but_the_proxy(helm: Tools) -> None:
    rendered = objects(helm.template(*SMALL, "--set", "maintenance.enabled=true"))
    running = {name for (kind, name), each in rendered.items() if kind == "Deployment" and each["spec"]["replicas"]}
    assert running == {"proxy", "maintenance"}
    [pod] = [each for name, each in pods(rendered) if name == "maintenance"]
    assert not pod["automountServiceAccountToken"]
    assert ("Deployment", "maintenance") not in objects(helm.template(*SMALL))
