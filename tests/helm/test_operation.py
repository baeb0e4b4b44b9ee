"""What an operator relies on: figures are scraped, machines drained, images are there, a release is rolled back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from quotas.store.migrate import head
from tests.helm import release
from tests.helm.conftest import Tools
from tests.helm.definitions import PROMETHEUS, defined
from tests.helm.release import PROGRAMS, READY_SECONDS, SMALL, Installed
from tests.helm.test_chart import FULL

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]

NAMESPACE = "mudeung-test-operated"
MONITORING = f"{NAMESPACE}-monitoring"
PREFIX = "mudeung-test-o-"
NOTEBOOK, POSTGRESQL = (
    {"name": f"docker.io/mudeung/{name}", "tag": "latest", "pullPolicy": "Never"} for name in ("notebook", "postgresql")
)
MORE: dict[str, Any] = {
    "prePuller": {"continuous": {"enabled": True}, "extraImages": {"postgresql": POSTGRESQL}},
    "singleuser": {"image": NOTEBOOK},
    "serviceMonitor": {"enabled": True, "prometheusNamespace": MONITORING},
    "hub": {**SMALL, "pdb": {"enabled": True}},
    "idleness": {**SMALL, "extraEnv": {"TRIED": "yes"}},
}
"""Of the programs the idle culler alone is started anew."""
STATUS = "grep -E '^(Uid|CapEff|NoNewPrivs|Seccomp):' /proc/self/status; grep ' / ' /proc/mounts"
ASK = """
import sys, time, urllib.error, urllib.request

def answer(token):
    request = urllib.request.Request(sys.argv[1], headers={"Authorization": "Bearer " + token} if token else {})
    for _ in range(5):  # a pod's rules come into force a moment after it has its address
        try:
            with urllib.request.urlopen(request, timeout=10) as found:
                return f"{found.status} {'mudeung_' in found.read().decode()}"
        except urllib.error.HTTPError as refused:
            return refused.code
        except OSError:
            time.sleep(1)
    return "unreached"

for token in sys.argv[2:]:
    print(answer(token))
"""


@pytest.fixture(scope="module")
def operated(cluster: Tools) -> Iterator[Installed]:
    """A release, upgraded to have what a data centre has."""
    with defined(cluster, PROMETHEUS), release.installed(cluster, NAMESPACE, kubernetes_namespace_prefix=PREFIX) as it:
        cluster.kubectl("create", "namespace", MONITORING)
        try:
            done = it.helm("upgrade", **MORE)
            assert done.returncode == 0, done.stderr
            it.wait()
            yield it
        finally:
            cluster.run("kubectl", "delete", "namespace", MONITORING, "--wait=false")


def pods(operated: Installed, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = operated.tools.get("pods", "--namespace", NAMESPACE, *words)["items"]
    return found


def ask(operated: Installed, namespace: str, url: str, *tokens: str) -> list[str]:
    """Return what a pod of the namespace is answered, with each of the tokens."""
    image = f"--image={NOTEBOOK['name']}:{NOTEBOOK['tag']}"
    words = ("run", "asking", image, "--image-pull-policy=Never", "--restart=Never", "--namespace", namespace)
    operated.tools.kubectl(*words, "--command", "--", "python", "-c", ASK, url, *tokens)
    done = ("wait", "pod/asking", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s", "--namespace", namespace)
    operated.tools.kubectl(*done)
    printed = operated.tools.kubectl("logs", "asking", "--namespace", namespace)
    operated.tools.kubectl("delete", "pod", "asking", "--namespace", namespace, "--wait=false")
    return printed.splitlines()


def test_prometheus_has_the_figures_by_its_token_and_nobody_else(operated: Installed) -> None:
    """The monitor is read as the operator reads it: services by labels, the port by name, the token by reference."""
    spec = operated.tools.get("servicemonitor", "portal", "--namespace", NAMESPACE)["spec"]
    (endpoint,) = spec["endpoints"]
    chosen = ",".join(f"{name}={value}" for name, value in spec["selector"]["matchLabels"].items())
    (service,) = operated.tools.get("services", "--namespace", NAMESPACE, "-l", chosen)["items"]
    (port,) = (each["port"] for each in service["spec"]["ports"] if each["name"] == endpoint["port"])
    url = f"http://{service['metadata']['name']}.{NAMESPACE}.svc:{port}{endpoint['path']}"
    credentials = endpoint["authorization"]["credentials"]
    token = operated.secret(credentials["name"])[credentials["key"]]
    assert ask(operated, MONITORING, url, token, "wrong", "") == ["200 True", "401", "401"]
    assert ask(operated, "default", url, token) == ["unreached"]


def test_the_operator_s_definition_knows_every_field_of_the_monitor(operated: Installed) -> None:
    monitor = operated.tools.template(*FULL, "-s", "templates/servicemonitor.yaml", namespace=NAMESPACE)
    words = ("kubectl", "apply", "--dry-run=server", "--validate=strict", "-f", "-")
    done = operated.tools.run(*words, given=monitor)
    assert done.returncode == 0, done.stderr
    assert operated.tools.run(*words, given=monitor.replace("interval:", "intervall:")).returncode != 0


def test_a_drained_machine_waits_for_the_pods_that_have_a_budget(operated: Installed) -> None:
    """Nothing is evicted here: the API server is asked whether it would."""
    guarded: dict[str, bool] = {}
    for pod in pods(operated, "-l", "app.kubernetes.io/component notin (migration,image-puller)"):
        name = pod["metadata"]["name"]
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "deleteOptions": {"dryRun": ["All"]},
        }
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/eviction"
        done = operated.tools.run("kubectl", "create", "--raw", path, "-f", "-", given=json.dumps(body))
        assert done.returncode == 0 or "disruption budget" in done.stderr, done.stderr
        guarded[pod["metadata"]["labels"]["app.kubernetes.io/component"]] = done.returncode != 0
    assert guarded == {name: name in {"proxy", "postgresql", "hub"} for name in (*PROGRAMS, "postgresql")}


def test_every_machine_has_the_images_of_servers(operated: Installed) -> None:
    words = ("rollout", "status", "daemonset/image-puller", "--timeout=60s")
    assert "successfully rolled out" in operated.kubectl(*words)
    (puller,) = pods(operated, "-l", "app.kubernetes.io/component=image-puller")
    states = puller["status"]["initContainerStatuses"]
    assert [each["state"]["terminated"]["exitCode"] for each in states] == [0]
    assert puller["status"]["containerStatuses"][0]["state"].keys() == {"running"}


def test_every_container_runs_without_rights_on_a_root_that_it_cannot_write(operated: Installed) -> None:
    """As the kernel of the machine says it, from inside."""
    seen = set()
    for pod in pods(operated, "--field-selector=status.phase=Running"):
        for container in pod["spec"]["containers"]:
            name = pod["metadata"]["name"]
            printed = operated.kubectl("exec", name, "--container", container["name"], "--", "sh", "-c", STATUS)
            *lines, mount = printed.strip().splitlines()
            status = {key: value.split() for key, value in (line.split(":", 1) for line in lines)}
            assert all(int(uid) >= 999 for uid in status["Uid"]), name
            assert int(status["CapEff"][0], 16) == 0, name
            assert (status["NoNewPrivs"], status["Seccomp"]) == (["1"], ["2"]), name
            assert "ro" in mount.split()[3].split(","), mount
            seen.add(container["name"])
    assert seen == {*PROGRAMS, "postgresql", "notebook"}


def test_a_release_is_rolled_back_and_keeps_ledger_and_secrets(operated: Installed) -> None:
    before = operated.secret("platform-secrets"), operated.secret("postgresql"), operated.mudeung("projects", "list")
    proxy = [each["metadata"]["uid"] for each in pods(operated, "-l", "app.kubernetes.io/component=proxy")]
    assert "TRIED" in operated.kubectl("get", "deployment", "idleness", "-o", "yaml")
    done = operated.tools.run(
        "helm", "rollback", "mudeung", "1", "--namespace", NAMESPACE, "--wait", seconds=READY_SECONDS
    )
    assert done.returncode == 0, done.stderr
    operated.wait()
    assert "TRIED" not in operated.kubectl("get", "deployment", "idleness", "-o", "yaml")
    assert operated.tools.get("daemonsets", "--namespace", NAMESPACE)["items"] == []
    assert (operated.secret("platform-secrets"), operated.secret("postgresql")) == before[:2]
    assert operated.mudeung("projects", "list") == before[2]
    assert proxy == [each["metadata"]["uid"] for each in pods(operated, "-l", "app.kubernetes.io/component=proxy")]


def test_a_ledger_that_is_newer_than_the_release_rolled_back_to_refuses_it(operated: Installed) -> None:
    operated.database("UPDATE alembic_version SET version_num = '9999'")
    try:
        done = operated.tools.run("helm", "rollback", "mudeung", "2", "--namespace", NAMESPACE, seconds=READY_SECONDS)
        assert done.returncode != 0
        assert "migration" in done.stderr
        assert "revision 9999, which this program does not know" in operated.kubectl("logs", "job/migration")
        assert "TRIED" not in operated.kubectl("get", "deployment", "idleness", "-o", "yaml")
    finally:
        operated.database(f"UPDATE alembic_version SET version_num = '{head()}'")  # noqa: S608 - our own revision
