"""The agent as a DaemonSet on a real cluster: what the kubelet gives to a server is metered, paused and charged as its.

The server's device is chosen by the kubelet's device manager; which it was, only the agent tells the platform.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.demo.browser import Browser
from tests.helm import release as releases
from tests.helm import world
from tests.helm.conftest import Tools
from tests.helm.machine_with_gpus import GPUS, RESOURCE, GpuMachine, gpu_machine
from tests.helm.release import Installed
from tests.helm.standing import Person, until
from tests.nvml import library as nvml

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]

NAMESPACE = "mudeung-test-agent"
SETTINGS: dict[str, Any] = {"kubernetes_namespace_prefix": "mudeung-test-g-", "reconcile_seconds": 2}
MEMBER = "member"
MISSED = 10
"""Seconds that an agent which samples every 2 s may miss while a small machine is busy with everything else."""
STRANGER = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "stranger"},
    "spec": {
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {
                "name": "stranger",
                "image": releases.PLATFORM,
                "imagePullPolicy": "Never",
                "command": ["sleep", "3600"],
                "resources": {"limits": {RESOURCE: "2"}},
            }
        ],
    },
}


@dataclass
class Centre:
    """The platform with one machine, and someone who uses it."""

    release: Installed
    machine: GpuMachine
    member: Person

    def devices(self) -> dict[str, dict[str, Any]]:
        return {each["uuid"]: each for each in self.release.mudeung("nodes", "devices")}

    def states(self) -> list[str]:
        return sorted(each["state"] for each in self.devices().values())

    def started(self) -> str:
        """Return the run of a server that has just been started, and is ready."""
        assert self.member.start(world.DEVICE).status_code in {201, 202}
        self.member.wait_ready()
        where = f"state <> 'settled' AND kind = 'notebook' AND person_id = {self.person_id}"
        return self.release.database(f"SELECT id FROM runs WHERE {where}")  # noqa: S608

    @property
    def person_id(self) -> str:
        return self.release.database(f"SELECT id FROM persons WHERE username = '{MEMBER}'")  # noqa: S608

    def stopped(self, run_id: str) -> dict[str, Any]:
        """Return the run, whose server has been stopped and which is charged."""
        assert self.member.stop().status_code in {202, 204}
        self.member.wait_stopped()
        until("its settlement", lambda: self.run(run_id)["state"] == "settled")
        return self.run(run_id)

    def run(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.release.mudeung("runs", "show", run_id)
        return found

    def usage(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.release.mudeung("usage", "--run", run_id)
        return found

    def held_by(self, run_id: str) -> list[str]:
        return [uuid for uuid, each in self.devices().items() if each["run"] == run_id]

    def seen_and_span(self, run_id: str) -> tuple[int, int]:
        """Return the milliseconds of the run's one device that samples cover, and those from its start to the last."""
        (row,) = self.rows(
            "SELECT sum(m.seen_milliseconds) AS seen,"  # noqa: S608
            " max(d.metered_until_milliseconds) - max(r.started_at) * 1000 AS span"
            " FROM meter_hours m JOIN runs r ON r.id = m.run_id JOIN device_grants g ON g.run_id = r.id"
            f" JOIN devices d ON d.id = g.device_id WHERE r.id = '{run_id}'"
        )
        return row["seen"], row["span"]

    def rows(self, statement: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(
            self.release.database(f"SELECT coalesce(json_agg(t), '[]') FROM ({statement}) t")  # noqa: S608
        )
        return found

    def sound(self) -> None:
        self.release.in_hub("mudeung", "--home", "/var/lib/mudeung", "check")

    def agent(self) -> str:
        """Return the agent's pod, which is ready."""
        self.release.kubectl("rollout", "status", "daemonset/agent", "--timeout=60s")
        selector = "app.kubernetes.io/component=agent"
        words = ("get", "pods", "--selector", selector, "--output", "jsonpath={.items[*].metadata.name}")
        (name,) = self.release.kubectl(*words).split()
        return name


@pytest.fixture(scope="module")
def centre(cluster: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    """A platform, an agent on its machine, and a member of a project."""
    folder = tmp_path_factory.mktemp("gpus")
    library = nvml.build(folder)
    with contextlib.ExitStack() as stack:
        release = stack.enter_context(releases.installed(cluster, NAMESPACE, **SETTINGS))
        machine = stack.enter_context(gpu_machine(release, library, folder))
        release.in_hub("python", "-", f"{RESOURCE}={GPUS}", f"{RESOURCE}=0", given=Path(world.__file__).read_text())
        token = release.mudeung("nodes", "add", machine.name, "--pool", world.POOL)["token"]
        release.kubectl("create", "secret", "generic", "agents", f"--from-literal={machine.name}={token}")
        done = release.helm("upgrade", agent=machine.agent_values())
        assert done.returncode == 0, done.stderr
        release.wait()
        address = stack.enter_context(release.front())
        with contextlib.closing(Browser(address)) as browser:
            browser.log_in(MEMBER, release.password(MEMBER))
            made = browser.call("POST", f"/hub/api/users/{MEMBER}/tokens", {"note": "test", "expires_in": 3600})
        yield Centre(release, machine, Person(MEMBER, address, str(made["token"])))


def test_the_agent_s_pod_lists_the_machine_s_devices(centre: Centre) -> None:
    assert centre.agent()
    until("the devices", lambda: len(centre.devices()) == GPUS)
    found = centre.devices()
    assert list(found) == centre.machine.uuids
    assert {(each["device_model"], each["state"], each["node"]) for each in found.values()} == {
        ("l40s", "available", centre.machine.name)
    }
    (node,) = centre.release.mudeung("nodes", "list")
    assert node["state"] == "reporting"
    centre.sound()


def test_a_server_s_device_is_known_and_what_it_uses_is_metered_to_it(centre: Centre) -> None:
    run_id = centre.started()
    (uuid,) = until("the run's device", lambda: centre.held_by(run_id))
    assert uuid == centre.machine.given()[-1]  # as the kubelet told the device plugin
    assert centre.run(run_id)["devices"] == uuid
    number = centre.machine.uuids.index(uuid)
    pid = int(_processes_of(centre, run_id)[0])
    centre.machine.scenario.gpu(number, busy=80, memory_used=2**30, power=200_000)
    centre.machine.scenario.processes(f"gpu.{number}", {pid: 2**30})
    centre.machine.show()
    metered = until("what it used", lambda: (use := centre.usage(run_id))["busy_seconds"] >= 4 and use)
    assert metered["busy_seconds"] <= metered["measured_seconds"] <= metered["seen_seconds"]
    seen, span = centre.seen_and_span(run_id)
    assert seen <= span
    later = until("more", lambda: (use := centre.usage(run_id))["seen_seconds"] >= metered["seen_seconds"] + 6 and use)
    assert later["gap_seconds"] <= metered["gap_seconds"] + MISSED, (metered, later)
    assert metered["most_memory_bytes"] == 2**30
    assert centre.devices()[uuid]["busy_percent"] == "80"
    # Its own process is its own, though no engine of containers was asked.
    assert [each for each in centre.release.mudeung("nodes", "events") if each["kind"] == "foreign"] == []
    centre.sound()


def _processes_of(centre: Centre, run_id: str) -> list[str]:
    """Return the processes of the run's pod, by their numbers on its machine."""
    words = f"grep -sl 'MUDEUNG_RUN={run_id}' /proc/[0-9]*/environ"
    found = centre.release.tools.run("kubectl", "-n", NAMESPACE, "exec", centre.agent(), "--", "sh", "-c", words)
    numbers = [line.split("/")[2] for line in found.stdout.split()]
    assert numbers, found.stderr
    return numbers


def test_an_agent_that_is_killed_comes_back_and_counts_nothing_twice(centre: Centre) -> None:
    (run,) = centre.rows("SELECT id, started_at FROM runs WHERE state = 'running'")
    grants = centre.rows("SELECT * FROM device_grants")
    before = centre.usage(run["id"])["seen_seconds"]
    killed = centre.agent()
    centre.release.kubectl("delete", "pod", killed, "--grace-period=0", "--force")
    until("another agent", lambda: centre.agent() != killed)
    until("what it sees", lambda: centre.usage(run["id"])["seen_seconds"] > before + 5)
    seen, span = centre.seen_and_span(run["id"])
    assert seen <= span
    assert centre.rows("SELECT * FROM device_grants") == grants
    centre.sound()


def test_what_another_workload_has_is_not_free(centre: Centre) -> None:
    centre.release.kubectl("create", "-f", "-", given=json.dumps(STRANGER))
    try:
        until("that it is told", lambda: centre.states().count("occupied") == 2)
        occupied = [each for each in centre.devices().values() if each["state"] == "occupied"]
        assert {each["reason"] for each in occupied} == {f"{NAMESPACE}/stranger"}
        (free,) = centre.rows("SELECT drained, in_use FROM pool_devices WHERE device_model = 'l40s'")
        assert free == {"drained": 2, "in_use": 1}
        centre.sound()
    finally:
        centre.release.kubectl("delete", "pod", "stranger", "--grace-period=1")
    until("that they are free", lambda: centre.states() == ["available"] * GPUS)
    centre.sound()


def test_a_lost_device_pauses_its_run_and_the_charge_is_until_then(centre: Centre) -> None:
    (run,) = centre.rows("SELECT id, started_at FROM runs WHERE state = 'running'")
    (uuid,) = centre.held_by(run["id"])
    number = centre.machine.uuids.index(uuid)
    centre.machine.scenario.lose(number)
    centre.machine.show()
    (pause,) = until("the pause", lambda: centre.rows("SELECT run_id, since, until_at FROM run_pauses"))
    assert (pause["run_id"], pause["until_at"]) == (run["id"], None)
    assert centre.devices()[uuid]["state"] == "lost"
    told = centre.rows(f"SELECT kind, text_en FROM notices WHERE person_id = {centre.person_id}")  # noqa: S608
    (lost,) = [each for each in told if each["kind"] == "device lost"]
    assert "lost its device NVIDIA L40S" in lost["text_en"]
    centre.sound()
    ended = centre.stopped(run["id"])
    assert ended["seconds"] == pause["since"] - run["started_at"]
    assert centre.held_by(run["id"]) == []
    assert ended["devices"] == uuid  # it is known which it held
    (grant,) = centre.rows(f"SELECT released_at FROM device_grants WHERE run_id = '{run['id']}'")  # noqa: S608
    assert grant["released_at"] is not None
    centre.sound()
    centre.machine.scenario.lose(number, lost=False)
    centre.machine.scenario.processes(f"gpu.{number}", {})
    centre.machine.show()
    until("its return", lambda: centre.states() == ["available"] * GPUS, seconds=120)
    centre.sound()


def test_the_next_server_is_charged_for_what_its_pod_ran_and_its_device_is_given_back(centre: Centre) -> None:
    run_id = centre.started()
    (uuid,) = until("the run's device", lambda: centre.held_by(run_id))
    assert uuid == centre.machine.given()[-1]
    running = until("what it used", lambda: (use := centre.usage(run_id))["seen_seconds"] >= 4 and use)
    ended = centre.stopped(run_id)
    (row,) = centre.rows(f"SELECT started_at, finished_at FROM runs WHERE id = '{run_id}'")  # noqa: S608
    assert ended["seconds"] in {row["finished_at"] - row["started_at"], row["finished_at"] - row["started_at"] + 1}
    use = centre.usage(run_id)
    assert use["seen_seconds"] + use["gap_seconds"] == use["held_seconds"]
    # A sample within which it ended is nobody's, and its end was known a round of the loop later.
    assert use["gap_seconds"] <= running["gap_seconds"] + MISSED, (running, use)
    until("that all are free", lambda: centre.states() == ["available"] * GPUS)
    (counts,) = centre.rows("SELECT drained, in_use FROM pool_devices WHERE device_model = 'l40s'")
    assert counts == {"drained": 0, "in_use": 0}
    centre.sound()
