"""`mudeung nodes`: what operators are shown of machines and devices, and what they do with them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from quotas.domain.admission import Admitted, Request
from quotas.domain.node_reports import EventKind, PodDevices
from quotas.domain.policy import Policy
from quotas.domain.runs import RunKind, new_run_id
from quotas.domain.terms_kubernetes import pod_name
from quotas.services import admission, check, inventory, projects
from tests.centre import Centre
from tests.cli.conftest import Ended
from tests.services.machines import Machine, cut, gpu

Invoke = Callable[..., Ended]


@pytest.fixture
def machine(invoke: Invoke, centre: Centre) -> Machine:
    """A machine of the pool `hall`, with two GPUs."""
    assert invoke("pools", "add", "hall", "--name-ko", "전산실", "--name-en", "Hall").code == 0
    added = invoke("nodes", "add", "gpu-1", "--pool", "hall", "-o", "json")
    assert added.code == 0, added.errors
    machine = Machine(centre.database, "gpu-1", added.json["token"])
    machine.has(gpu(0), gpu(1))
    machine.list(centre.now)
    return machine


def states(invoke: Invoke) -> dict[str, str]:
    return {row["uuid"]: row["state"] for row in invoke("nodes", "devices", "-o", "json").json}


def hold(centre: Centre, model: str = "h100") -> str:
    request = Request(new_run_id(), RunKind.NOTEBOOK, centre.member, centre.project, model)
    assert isinstance(admission.reserve(centre.database, request, centre.now, Policy()), Admitted)
    return request.run_id


def test_the_token_is_said_once_and_how_it_is_used(invoke: Invoke, machine: Machine, centre: Centre) -> None:
    said = invoke("nodes", "add", "gpu-2", "--pool", "hall").output
    assert "Token of gpu-2, which is not shown again: " in said
    assert "mudeung agent --url" in said
    token = said.split("again: ")[1].split()[0]
    assert Machine(centre.database, "gpu-2", token).report(centre.now).accepted == 1
    assert token not in invoke("nodes", "list", "-o", "json").output
    assert machine.token not in invoke("nodes", "list").output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("Gpu", "--pool", "hall"), "machine's name"),
        (("gpu-2", "--pool", "main"), "simulated"),
        (("gpu-2", "--pool", "nothing"), "there is no 'nothing'"),
        (("gpu-1", "--pool", "hall"), "taken"),
    ],
)
def test_a_machine_that_cannot_be_added(invoke: Invoke, machine: Machine, words: tuple[str, ...], message: str) -> None:
    assert machine.name == "gpu-1"
    refused = invoke("nodes", "add", *words)
    assert refused.code == 1
    assert message in refused.errors


def test_machines_in_three_forms_and_two_languages(invoke: Invoke, machine: Machine, centre: Centre) -> None:
    machine.lose(centre.now, gpu(0).uuid)
    invoke("nodes", "add", "gpu-2", "--pool", "hall")
    first, second = invoke("nodes", "list", "-o", "json").json
    assert (first["node"], first["pool"], first["state"]) == ("gpu-1", "hall", "reporting")
    assert first["devices"] == {"available": 1, "lost": 1}
    assert (second["state"], second["reported_at"]) == ("never_heard", None)
    table = invoke("nodes", "list").output
    assert "never heard" in table
    assert "available 1, lost 1" in table
    korean = invoke("nodes", "list", "--lang", "ko").output
    assert "보고 없음" in korean
    assert "사용 가능 1, 장애 1" in korean
    assert next(csv.DictReader(io.StringIO(invoke("nodes", "list", "-o", "csv").output)))["state"] == "reporting"


def test_a_silent_machine_is_shown_as_silent(invoke: Invoke, machine: Machine, centre: Centre) -> None:
    machine.report(centre.now - 1000)
    assert invoke("nodes", "list", "-o", "json").json[0]["state"] == "silent"


def test_devices_with_who_holds_them_and_why_not(invoke: Invoke, machine: Machine, centre: Centre) -> None:
    invoke("pools", "drain", "main", "h100", "4", "--reason", "the simulated ones")
    run_id = hold(centre)
    machine.event(centre.now, gpu(1).uuid, EventKind.XID, 79)
    rows = {row["uuid"]: row for row in invoke("nodes", "devices", "-o", "json").json}
    held, lost = rows[gpu(0).uuid], rows[gpu(1).uuid]
    assert (held["run"], held["project"], held["person"]) == (run_id, centre.project, centre.member)
    assert (lost["state"], lost["reason"]) == ("lost", "Xid 79: the GPU is gone from its bus")
    assert "버스에서 사라졌습니다" in invoke("nodes", "devices", "--lang", "ko").output
    assert invoke("nodes", "devices", "--node", "gpu-9", "-o", "json").json == []
    assert invoke("nodes", "devices", "--pool", "hall", "--node", "gpu-1", "-o", "json").json == list(rows.values())
    (event,) = invoke("nodes", "events", "-o", "json").json
    assert (event["kind"], event["code"], event["uuid"]) == ("xid", 79, gpu(1).uuid)
    assert invoke("nodes", "events", "--device", gpu(0).uuid).output == "(none)\n"
    assert "there is no 'GPU-nothing'" in invoke("nodes", "events", "--device", "GPU-nothing").errors


def test_what_the_catalogue_does_not_know_is_matched(invoke: Invoke, machine: Machine, centre: Centre) -> None:
    strange = replace(gpu(2), name="NVIDIA H100 NVL")
    machine.has(gpu(0), gpu(1), strange, *cut(gpu(3), 1, units=18))
    machine.list(centre.now)
    shown = invoke("nodes", "devices").output
    assert "1 have no model and are given to nobody" in shown
    assert "18, not 16" in shown
    assert "Of another size than the catalogue says: h100-mig-1g.10gb" in shown
    assert "there is no 'h101'" in invoke("nodes", "match", strange.uuid, "h101").errors
    assert invoke("nodes", "match", strange.uuid, "h100").output == f"{strange.uuid} is a h100.\n"
    assert check.findings(centre.database, centre.now) == []


def test_quarantined_and_released_with_a_reason_and_a_question(
    invoke: Invoke, machine: Machine, centre: Centre
) -> None:
    device = next(iter(machine.devices))
    assert invoke("nodes", "quarantine", device).code == 2
    assert invoke("nodes", "quarantine", device, "--reason", "loud").output == f"{device} is quarantined.\n"
    refused = invoke("nodes", "release", device, "--reason", "quiet", given="n\n")
    assert (refused.code, states(invoke)[device]) == (1, "quarantined")
    assert "nothing was done" in refused.errors
    released = invoke("nodes", "release", device, "--reason", "quiet", given="y\n")
    assert (released.code, states(invoke)[device]) == (0, "available")
    assert check.findings(centre.database, centre.now) == []


def test_what_a_run_holds_is_quarantined_after_it(invoke: Invoke, machine: Machine, centre: Centre) -> None:
    invoke("pools", "drain", "main", "h100", "4", "--reason", "the simulated ones")
    run_id = hold(centre)
    said = invoke("nodes", "quarantine", gpu(0).uuid, "--reason", "loud").output
    assert "once that has ended" in said
    assert "available, then quarantined" in invoke("nodes", "devices").output
    admission.settle(centre.database, run_id, admission.Ended(None, None, admission.Outcome.STOPPED), centre.now)
    assert states(invoke)[gpu(0).uuid] == "quarantined"
    assert machine.name == "gpu-1"


def test_cleaning_is_chosen_for_a_pool(invoke: Invoke, machine: Machine) -> None:
    assert machine.name == "gpu-1"
    assert invoke("nodes", "cleaning", "hall", "quarantine").output == "Between two runs in hall: quarantine.\n"
    assert invoke("nodes", "cleaning", "hall", "soap").code == 2
    assert "there is no 'nothing'" in invoke("nodes", "cleaning", "nothing", "none").errors


class TestCluster:
    """Where the backend is a cluster, that gives the devices to runs, and the machine tells which."""

    @pytest.fixture
    def node(self, invoke: Invoke, centre: Centre, tmp_path: Path) -> Machine:
        (tmp_path / "home/mudeung.toml").write_text('backend = "kubernetes"\nkubernetes_namespace_prefix = "lab-"\n')
        assert invoke("pools", "add", "hall", "--name-ko", "전산실", "--name-en", "Hall").code == 0
        added = invoke("nodes", "add", "node-1", "--pool", "hall", "-o", "json")
        machine = Machine(centre.database, "node-1", added.json["token"])
        machine.has(gpu(0), gpu(1))
        machine.list(centre.now)
        return machine

    def test_the_devices_of_a_run_are_shown_as_the_machine_tells(
        self, invoke: Invoke, node: Machine, centre: Centre
    ) -> None:
        run_id = hold(centre)
        assert invoke("runs", "show", run_id, "-o", "json").json["devices"] is None
        first, second = node.devices
        own = PodDevices(f"lab-{centre.project}", pod_name(run_id), centre.now, (second,))
        others = PodDevices("others", "training-0", centre.now, (first,))
        report = node.made(centre.now, pods=(own, others))
        inventory.take_report(centre.database, node.token, report, centre.now, Policy(), prefix="lab-")
        assert invoke("runs", "show", run_id, "-o", "json").json["devices"] == second
        assert second in invoke("runs", "show", run_id).output
        listed = {row["uuid"]: row for row in invoke("nodes", "devices", "-o", "json").json}
        assert (listed[second]["run"], listed[second]["state"]) == (run_id, "available")
        assert (listed[first]["state"], listed[first]["reason"]) == ("occupied", "others/training-0")
        assert "used by others" in invoke("nodes", "devices").output
        assert invoke("check").code == 0

    def test_nothing_is_done_between_two_runs(self, invoke: Invoke, node: Machine) -> None:
        assert node.name == "node-1"
        refused = invoke("nodes", "cleaning", "hall", "quarantine")
        assert refused.code == 1
        assert "one right after the other" in refused.errors


def test_a_device_that_was_taken_out_is_retired_and_its_machine_removed(
    invoke: Invoke, machine: Machine, centre: Centre
) -> None:
    kept, out = gpu(0), gpu(1)
    machine.has(kept)
    machine.list(centre.now)
    assert "does not have" in invoke("nodes", "release", out.uuid, "--reason", "x", "--yes").errors
    assert invoke("nodes", "retire", out.uuid, "--reason", "sent back", "--yes").output == f"{out.uuid} is retired.\n"
    assert list(states(invoke)) == [kept.uuid]
    assert out.uuid in invoke("nodes", "devices", "--all", "-o", "json").output
    assert "Remove gpu-1" in invoke("nodes", "remove", "gpu-1", given="n\n").errors
    assert invoke("nodes", "remove", "gpu-1", "--yes").output == "Removed gpu-1 with 1 devices.\n"
    assert invoke("nodes", "list").output == "(none)\n"
    assert check.findings(centre.database, centre.now) == []


def test_a_token_is_changed(invoke: Invoke, machine: Machine, centre: Centre) -> None:
    assert invoke("nodes", "rotate", "gpu-1", given="n\n").code == 1
    assert machine.report(centre.now).accepted
    changed = invoke("nodes", "rotate", "gpu-1", "--yes", "-o", "json").json
    assert changed["token"] != machine.token
    machine.token = changed["token"]
    assert machine.report(centre.now).accepted


def test_a_profile_that_no_machine_can_serve_is_refused_at_the_desk(
    invoke: Invoke, machine: Machine, centre: Centre
) -> None:
    words = ["--name-ko", "새", "--name-en", "New", "--image", "science", "--cores", "1", "--memory-gib", "1"]
    more = ["--storage-gib", "1", "--device"]
    refused = invoke("profiles", "add", "t4", *words, *more, "t4", "--devices", "1")
    assert refused.code == 1
    assert "no machine has t4; there are (most for one run): h100 × 4, h100-mig-1g.10gb × 7" in refused.errors
    assert (
        "no single machine has 9 h100" in invoke("profiles", "add", "x", *words, *more, "h100", "--devices", 9).errors
    )
    assert machine.name
    projects.withdraw_profile(centre.database, centre.project, "h100", actor="op", now=centre.now)
    assert invoke("projects", "profiles", "offer", centre.project, "h100").code == 0
