"""A platform on a cluster, installed by the chart from nothing, upgraded, and refused a downgrade."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from cli.demo.browser import Browser
from quotas.store.migrate import head
from tests.helm import release
from tests.helm.conftest import CHART, Tools
from tests.helm.release import PROGRAMS, READY_SECONDS, VALUES, Installed

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]

NAMESPACE = "mudeung-test-install"
PREFIX = "mudeung-test-p-"
MEMBER, PROJECT = "member", "vision-drive"
SETTINGS = {"kubernetes_namespace_prefix": PREFIX}
RIGHTS = {
    "hub": {
        "pods": "create delete get list patch watch",
        "pods/log": "get",
        "jobs.batch": "list watch",
        "nodes": "get",
        "namespaces": "create get patch",
        "resourcequotas": "create get patch",
        "limitranges": "create get patch",
        "networkpolicies.networking.k8s.io": "create get patch",
        "persistentvolumeclaims": "create get",
        "persistentvolumes": "create get",
    },
    "reconciler": {
        "pods": "delete list patch watch",
        "pods/log": "get",
        "jobs.batch": "delete list watch",
        "nodes": "get",
    },
    "scheduler": {
        "pods": "delete list patch watch",
        "pods/log": "get",
        "jobs.batch": "create delete get list watch",
        "nodes": "get",
        "namespaces": "create get patch",
        "resourcequotas": "create get patch",
        "limitranges": "create get patch",
        "networkpolicies.networking.k8s.io": "create get patch",
        "persistentvolumeclaims": "create get",
        "persistentvolumes": "create get",
    },
    "platform": {},
}
"""What each account may do in every namespace, and what it uses it for is written in the chart."""


@pytest.fixture(scope="module")
def installed(cluster: Tools) -> Iterator[Installed]:
    """The platform, from nothing."""
    with release.installed(cluster, NAMESPACE, **SETTINGS) as made:
        yield made


@pytest.fixture
def member(installed: Installed) -> Iterator[Browser]:
    """A member of a project, logged in."""
    with installed.front() as address, contextlib.closing(Browser(address)) as browser:
        page = browser.log_in(MEMBER, installed.password(MEMBER))
        assert page.status == httpx.codes.OK
        assert "/hub/login" not in page.url
        yield browser


def test_every_program_is_ready_and_none_was_started_twice(installed: Installed) -> None:
    found = installed.tools.get("pods", "--namespace", NAMESPACE)["items"]
    states = {
        each["metadata"]["labels"]["app.kubernetes.io/component"]: each["status"]["containerStatuses"][0]
        for each in found
    }
    assert set(states) == {*PROGRAMS, "postgresql"}
    assert all(state["ready"] for state in states.values())
    assert {name for name, state in states.items() if state["restartCount"]} == set()


def test_a_person_logs_in_and_reaches_hub_and_portal(member: Browser) -> None:
    assert member.open("/services/portal/").status == httpx.codes.OK
    assert member.open("/hub/home").status == httpx.codes.OK


def test_a_scheduled_notebook_runs_as_a_job_and_is_charged(installed: Installed, member: Browser) -> None:
    portal = f"/services/portal/api/projects/{PROJECT}"
    asked = {"note": "test", "expires_in": 600}
    token = str(member.call("POST", f"/hub/api/users/{MEMBER}/tokens", asked)["token"])
    at = datetime.fromtimestamp(int(time.time()) + 2, UTC).isoformat()
    body = {"notebook": "train_digits.ipynb", "profile": "cpu-small", "at": at, "title": "test", "timeout_seconds": 300}
    schedule = member.call("POST", f"{portal}/schedules", body, token=token)["id"]
    deadline = time.monotonic() + READY_SECONDS
    run: dict[str, Any] = {}
    while run.get("state") != "succeeded":
        assert time.monotonic() < deadline, run
        assert run.get("state") not in {"failed", "refused", "lost"}, run
        time.sleep(1)
        runs = member.call("GET", f"{portal}/runs", token=token)
        run = next((each for each in runs if each["schedule_id"] == schedule), {})
    charges = installed.database("SELECT count(*) FROM charges WHERE run_id = '" + run["id"] + "'")  # noqa: S608
    assert charges == "1"


def test_no_program_was_refused_anything_by_the_cluster(installed: Installed) -> None:
    """What they have done so far needed no right that they lack."""
    for program in PROGRAMS:
        printed = installed.kubectl("logs", f"deployment/{program}", "--container", program)
        assert "forbidden" not in printed.lower(), program
        assert "Traceback" not in printed, program


def test_an_account_may_do_what_the_chart_lists_and_nothing_else(installed: Installed) -> None:
    for account, expected in RIGHTS.items():
        assert _rights(installed, account) == {name: set(verbs.split()) for name, verbs in expected.items()}, account


def _rights(installed: Installed, account: str) -> dict[str, set[str]]:
    """Return what the account may do beyond what every account may."""
    found: list[dict[str, set[str]]] = []
    for name in (account, "default"):
        who = f"--as=system:serviceaccount:{NAMESPACE}:{name}"
        printed = installed.tools.kubectl("auth", "can-i", "--list", who, "--namespace", "default").splitlines()[1:]
        rows = (re.fullmatch(r"(\S+)\s+\[.*?\]\s+\[.*?\]\s+\[(.*)\]", line) for line in printed)
        found.append({row[1]: set(row[2].split()) for row in rows if row})
    own, everyone = found
    return {name: verbs for name, verbs in own.items() if name not in everyone}


@pytest.mark.parametrize("account", ["hub", "reconciler", "scheduler"])
def test_an_account_changes_nothing_outside_the_projects(installed: Installed, account: str) -> None:
    """Rights hold everywhere, and the rule of the chart takes back what is too much of them."""
    who = f"--as=system:serviceaccount:{NAMESPACE}:{account}"
    tools = installed.tools
    pod = next(each["metadata"]["name"] for each in tools.get("pods", "-n", NAMESPACE)["items"])
    tries: list[tuple[str, ...]] = [("delete", "pod", pod, "-n", NAMESPACE)]
    if account == "hub":
        tries += [("annotate", "pod", pod, "-n", NAMESPACE, "a=b"), ("run", "x", "--image=x", "-n", "kube-system")]
    if account != "reconciler":
        tries += [("create", "namespace", "kube-more"), ("create", "namespace", f"{PREFIX}without-labels")]
        tries += [
            ("create", "quota", "x", "-n", "kube-system"),
            ("label", "namespace", "kube-system", "mudeung.home=x"),
        ]
    for words in tries:
        done = tools.run("kubectl", who, *words, "--dry-run=server")
        assert done.returncode != 0, words
        assert "changes nothing outside" in done.stderr, (words, done.stderr)


def test_nobody_reaches_a_program_that_has_no_business_with_it(installed: Installed) -> None:
    """From the portal the hub answers, and neither the proxy's inner door nor the outside world."""
    program = (
        "import socket,sys\n"
        "for name, port in (('hub', 8081), ('postgresql', 5432), ('proxy-api', 8001), ('kubernetes.default', 443)):\n"
        "    try:\n"
        "        socket.create_connection((name, port), 3).close(); print(name, 'open')\n"
        "    except OSError as error:\n"
        "        print(name, 'shut')\n"
    )
    printed = installed.kubectl("exec", "deployment/portal", "--container", "portal", "--", "python", "-c", program)
    assert printed.split("\n")[:4] == ["hub open", "postgresql open", "proxy-api shut", "kubernetes.default shut"]


def test_an_upgrade_keeps_secrets_ledger_and_running_servers(installed: Installed, member: Browser) -> None:
    form = member.open(f"/hub/spawn/{MEMBER}/{PROJECT}")
    member.submit(form, form.form(f"/spawn/{MEMBER}/{PROJECT}"), profile="cpu-small")
    progress = f"/hub/api/users/{MEMBER}/servers/{PROJECT}/progress?_xsrf={member.xsrf('/hub/')}"
    events = list(member.stream(progress))
    assert events[-1].get("ready"), events[-1]["message"]
    assert member.open(f"/user/{MEMBER}/{PROJECT}/lab").status == httpx.codes.OK
    path = f"/user/{MEMBER}/{PROJECT}/api/status"
    began = member.call("GET", path)["started"]
    before = installed.secret("platform-secrets"), installed.secret("postgresql"), installed.mudeung("projects", "list")

    done = installed.helm("upgrade", settings={**SETTINGS, "reconcile_seconds": 11})
    assert done.returncode == 0, done.stderr
    # The proxy stays as it is, so that the server answers all the while that the hub is away.
    answered = 0
    while not installed.rolled_out():
        assert member.call("GET", path)["started"] == began
        answered += 1
        time.sleep(0.5)
    assert answered > 0
    after = installed.secret("platform-secrets"), installed.secret("postgresql"), installed.mudeung("projects", "list")
    assert after[:2] == before[:2]
    assert [each["code"] for each in after[2]] == [each["code"] for each in before[2]]
    assert "reconcile_seconds = 11" in installed.kubectl("get", "configmap", "platform-settings", "-o", "yaml")
    assert member.call("GET", path)["started"] == began
    server = member.call("GET", f"/hub/api/users/{MEMBER}")["servers"][PROJECT]
    assert server["ready"]
    member.call("DELETE", f"/hub/api/users/{MEMBER}/servers/{PROJECT}")


def test_a_downgrade_is_refused_and_changes_nothing(installed: Installed) -> None:
    """A ledger that a newer version has migrated fails the hook, whose log says why."""
    generations = _generations(installed)
    installed.database("UPDATE alembic_version SET version_num = '9999'")
    try:
        done = installed.helm("upgrade", settings={**SETTINGS, "reconcile_seconds": 12})
        assert done.returncode != 0
        assert "migration" in done.stderr
        assert "revision 9999, which this program does not know" in installed.kubectl("logs", "job/migration")
        assert _generations(installed) == generations
        assert "reconcile_seconds = 12" not in installed.kubectl("get", "configmap", "platform-settings", "-o", "yaml")
        assert installed.database("SELECT version_num FROM alembic_version") == "9999"
    finally:
        installed.database(f"UPDATE alembic_version SET version_num = '{head()}'")  # noqa: S608 - our own revision


def _generations(installed: Installed) -> dict[str, int]:
    found = installed.tools.get("deployments", "--namespace", NAMESPACE)["items"]
    return {each["metadata"]["name"]: int(each["metadata"]["generation"]) for each in found}


def test_a_platform_on_a_database_of_its_own_migrates_it_before_anything_is_made(installed: Installed) -> None:
    """With an external database the hook comes first: without an answer nothing at all is installed."""
    name = f"{NAMESPACE}-2"
    tools = installed.tools
    tools.kubectl("create", "namespace", name)
    try:
        url = "postgresql://nobody:x@127.0.0.1:1/nothing"
        words = ["secret", "generic", "databases", f"--from-literal=database_url={url}"]
        tools.kubectl("create", *words, f"--from-literal=hub_database_url={url}", "-n", name)
        values = {
            **VALUES,
            "settings": SETTINGS,
            "postgresql": {"enabled": False},
            "database": {"existingSecret": "databases"},
        }
        words = ["helm", "install", "second", str(CHART), "--namespace", name, "--values", "-", "--timeout", "90s"]
        done = tools.run(*words, given=json.dumps(values))
        assert done.returncode != 0
        assert "the ledger does not answer" in tools.kubectl("logs", "job/migration", "-n", name)
        assert tools.get("deployments", "-n", name)["items"] == []
    finally:
        tools.run("helm", "uninstall", "second", "--namespace", name)
        tools.kubectl("delete", "namespace", name, "--timeout=120s", seconds=130)
