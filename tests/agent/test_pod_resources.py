"""Which pod has which device, as a kubelet says over its socket; a kubelet that restarts, hangs and fails."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from agent import pod_resources
from agent.monitor import Monitor
from agent.npus import by_plugin_ids, find
from agent.pod_resources import Held, Pods
from agent.processes import PodLogs, Runs
from quotas.domain.terms_kubernetes import pod_name
from tests.agent.conftest import Run
from tests.agent.kubelet import Kubelet, serving
from tests.agent.platform import Platform
from tests.nvml.library import Scenario

GPU = "nvidia.com/gpu"
RUN = "019aa0c5-6c00-7000-8000-00000000000a"
OURS, OTHERS = ("mudeung-vision", pod_name(RUN)), ("others", "training-0")


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "kubelet.sock"


@pytest.fixture
def kubelet(socket: Path) -> Iterator[Kubelet]:
    made = Kubelet()
    with serving(made, socket):
        yield made


@pytest.fixture
def pods(socket: Path, monkeypatch: pytest.MonkeyPatch) -> Pods:
    """Ask that kubelet, and at once again when it did not answer; a machine knows what begins with `GPU-`."""
    monkeypatch.setattr(pod_resources, "REST_SECONDS", 0)
    return Pods(pod_resources.Kubelet(socket), lambda own: own if own.startswith("GPU-") else "")


def test_what_the_kubelet_says_is_read(kubelet: Kubelet, socket: Path) -> None:
    kubelet.pods = {OURS: {GPU: ("GPU-1", "GPU-2")}, OTHERS: {GPU: ("GPU-3",), "rdma/hca": ("hca-1",)}, ("a", "b"): {}}
    assert pod_resources.Kubelet(socket).list() == [
        Held(*OURS, GPU, ("GPU-1", "GPU-2")),
        Held(*OTHERS, GPU, ("GPU-3",)),
        Held(*OTHERS, "rdma/hca", ("hca-1",)),
    ]


def test_a_large_answer_is_read(kubelet: Kubelet, socket: Path) -> None:
    kubelet.pods = {("n" * 60, f"p-{number:0200}"): {GPU: (f"GPU-{number:036}",)} for number in range(20_000)}
    assert len(pod_resources.Kubelet(socket).list()) == 20_000


class TestPods:
    def test_each_has_its_devices_and_what_only_the_plugin_can_name(self, kubelet: Kubelet, pods: Pods) -> None:
        kubelet.pods = {
            OURS: {GPU: ("GPU-2", "GPU-1"), "rebellions.ai/ATOM": ("rbln7",)},
            OTHERS: {GPU: ("GPU-3",), "rdma/hca": ("hca-1",)},
            ("others", "no-device-of-ours"): {"rdma/hca": ("hca-2",)},
        }
        found = pods.look()
        assert found is not None
        ours, others = found
        assert (ours.namespace, ours.pod) == OURS
        assert (ours.uuids, ours.unknown) == (("GPU-2", "GPU-1"), ("rebellions.ai/ATOM rbln7",))
        assert (others.uuids, others.shared) == (("GPU-3",), False)

    def test_a_device_that_is_shared_out_by_time_is_named_once_and_as_such(self, kubelet: Kubelet, pods: Pods) -> None:
        kubelet.pods = {OURS: {GPU: ("GPU-1::3",)}, OTHERS: {GPU: ("GPU-1::0", "GPU-1::1", "GPU-2::0")}}
        found = pods.look()
        assert found is not None
        assert [(pod.uuids, pod.shared) for pod in found] == [(("GPU-1",), True), (("GPU-1", "GPU-2"), True)]

    def test_a_pod_has_its_devices_since_the_last_look_without_it(self, kubelet: Kubelet, pods: Pods) -> None:
        kubelet.pods = {OTHERS: {GPU: ("GPU-1",)}}
        began = time.time()
        first = pods.look()
        assert first is not None
        assert began - 0.001 <= first[0].since <= time.time()
        time.sleep(0.05)
        kubelet.pods = {OTHERS: {GPU: ("GPU-1",)}, OURS: {GPU: ("GPU-2",)}}
        second = pods.look()
        assert second is not None
        assert [pod.since for pod in second] == [first[0].since, first[0].since]
        time.sleep(0.05)
        kubelet.pods = {}
        assert pods.look() == ()
        gone = time.time()
        kubelet.pods = {OURS: {GPU: ("GPU-2",)}}
        time.sleep(0.05)
        third = pods.look()
        assert third is not None
        assert first[0].since < third[0].since <= gone

    def test_what_is_there_at_first_may_be_there_since_an_earlier_agent_looked(
        self, kubelet: Kubelet, socket: Path
    ) -> None:
        kubelet.pods = {OURS: {GPU: ("GPU-2",)}}
        found = Pods(pod_resources.Kubelet(socket), str, looked_at=1234.5).look()
        assert found is not None
        assert found[0].since == 1234.5


class TestAway:
    def test_without_a_socket_nothing_is_said(self, socket: Path, pods: Pods) -> None:
        assert not socket.exists()
        assert pods.look() is None

    def test_a_kubelet_that_restarts_is_asked_again_and_nothing_began_anew(
        self, socket: Path, pods: Pods, caplog: pytest.LogCaptureFixture
    ) -> None:
        kubelet = Kubelet()
        kubelet.pods = {OURS: {GPU: ("GPU-2",)}}
        with serving(kubelet, socket):
            before = pods.look()
        assert before is not None
        for _ in range(3):
            assert pods.look() is None
        assert [record.message for record in caplog.records if "is not known" in record.message] != []
        assert len(caplog.records) == 1  # said once, however long it is away
        with serving(kubelet, socket):
            assert pods.look() == before

    def test_one_that_hangs_holds_nobody_up(
        self, kubelet: Kubelet, socket: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pod_resources, "CALL_SECONDS", 0.2)
        kubelet.hangs = 1.0
        asked = Pods(pod_resources.Kubelet(socket), str)
        began = time.monotonic()
        assert [asked.look() for _ in range(5)] == [None] * 5
        assert time.monotonic() - began < 0.9
        assert kubelet.calls == 1  # and is left alone for a while

    @pytest.mark.parametrize("status", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED])
    def test_one_that_fails_says_nothing(self, kubelet: Kubelet, pods: Pods, status: grpc.StatusCode) -> None:
        kubelet.status = status
        assert pods.look() is None
        kubelet.status = None
        assert pods.look() == ()

    def test_what_is_no_kubelet_says_nothing(self, socket: Path, pods: Pods) -> None:
        socket.write_text("no socket")
        assert pods.look() is None


class TestNpus:
    """Ids of the makers' plugins, for the cards as :mod:`tests.agent.test_npus` finds them."""

    @pytest.fixture
    def root(self, empty_root: Path) -> Path:
        for path in ("rbln0", "rbln1", "rngd/npu0mgmt", "rngd/npu0pe0", "npu3_mgmt"):
            (empty_root / "dev" / path).parent.mkdir(exist_ok=True)
            (empty_root / "dev" / path).touch()
        for folder, address in (
            ("rebellions/rbln0", "0000:b6:00.0"),
            ("rebellions/rbln1", "0000:b7:00.0"),
            ("rngd_mgmt/rngd!npu0mgmt", "0000:c1:00.0"),
        ):
            facts = empty_root / "sys/class" / folder
            facts.mkdir(parents=True)
            (facts / "device").symlink_to(f"../../../devices/pci0000:b0/{address}")
        serial = "09512C86-0702-4303-8F40-454746474A40"
        (empty_root / "sys/class/rngd_mgmt/rngd!npu0mgmt/device_uuid").write_text(f"{serial}\n")
        return empty_root

    @pytest.mark.parametrize(
        ("plugin_id", "path"),
        [
            ("rbln1", "/dev/rbln1"),
            ("0000:b6:00.0", "/dev/rbln0"),
            ("0000:B7:00.0", "/dev/rbln1"),
            ("09512C86-0702-4303-8F40-454746474A40", "/dev/rngd/npu0mgmt"),
            ("09512c86-0702-4303-8f40-454746474a40", "/dev/rngd/npu0mgmt"),
            ("0000:c1:00.0", "/dev/rngd/npu0mgmt"),
            ("rbln2", None),
            ("0000:b8:00.0", None),
            ("", None),
        ],
    )
    def test_an_id_names_the_card(self, root: Path, proc: Path, plugin_id: str, path: str | None) -> None:
        by_uuid = {device.uuid: device.paths[0] for device in find(root)}
        assert len(by_uuid) == 4
        monitor = Monitor(root, proc, nvml=False)
        monitor.look()
        assert by_uuid.get(monitor.named(plugin_id)) == path
        assert by_plugin_ids(root, find(root)).get(plugin_id.lower()) == (monitor.named(plugin_id) or None)


@pytest.mark.usefixtures("library")
class TestAgent:
    def test_each_round_says_which_pod_has_which_device(
        self, run: Run, platform: Platform, scenario: Scenario, kubelet: Kubelet, socket: Path
    ) -> None:
        kubelet.pods = {OURS: {GPU: (scenario.uuid(0),), "rebellions.ai/ATOM": ("rbln9",)}}
        run("--pod-resources", str(socket))
        platform.wait(lambda it: sum(bool(each.get("pods")) for each in it.reports) >= 2)
        (pod,) = platform.reports[-1]["pods"]
        assert pod["since"] <= platform.reports[-1]["at"]
        del pod["since"]
        assert pod == {
            "namespace": "mudeung-vision",
            "pod": pod_name(RUN),
            "uuids": [scenario.uuid(0)],
            "unknown": ["rebellions.ai/ATOM rbln9"],
            "shared": False,
        }
        kubelet.pods = {}
        platform.wait(lambda it: it.reports[-1].get("pods") == [])

    def test_where_the_kubelet_is_away_the_rest_goes_on(self, run: Run, platform: Platform, socket: Path) -> None:
        child = run("--pod-resources", str(socket))
        platform.wait(lambda it: len(it.all("samples")) > 20)
        assert all("pods" not in report for report in platform.reports)
        child.terminate()
        said, _ = child.communicate(timeout=10)
        assert said.count("which pod has which device is not known") == 1
        assert child.returncode == 0

    def test_elsewhere_nothing_is_said_of_pods(self, run: Run, platform: Platform) -> None:
        run()
        platform.wait(lambda it: len(it.reports) >= 2)
        assert all("pods" not in report for report in platform.reports)


class TestProcesses:
    """Of a pod's process the run is that of its pod, whose name the kubelet keeps in a folder of the machine."""

    UID = "6f1d2c3b-0000-4a5b-8c7d-001122334455"

    @pytest.fixture
    def logs(self, tmp_path: Path) -> Path:
        folder = tmp_path / "host/var/log/pods"
        for name in (f"mudeung-vision_{pod_name(RUN)}_{self.UID}", "others_training-0_" + self.UID.replace("6f", "7f")):
            (folder / name).mkdir(parents=True)
        return tmp_path / "host"

    @pytest.mark.parametrize(
        ("groups", "run_id"),
        [
            ("4:memory:/kubepods/burstable/pod{uid}/" + "a" * 64, RUN),
            ("0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid_}.slice/cri-{id}.scope", RUN),
            ("0::/../../kubepods-pod{uid_}.slice/cri-containerd-" + "b" * 64 + ".scope", RUN),
            ("0::/kubepods/pod7f1d2c3b-0000-4a5b-8c7d-001122334455/x", ""),
            ("0::/kubepods/pod00000000-0000-4a5b-8c7d-001122334455/x", ""),
            ("0::/user.slice", ""),
        ],
    )
    def test_a_process_is_of_its_pod_s_run(self, logs: Path, proc: Path, groups: str, run_id: str) -> None:
        (proc / "77").mkdir()
        text = groups.format(uid=self.UID, uid_=self.UID.replace("-", "_"), id="c" * 64)
        (proc / "77/cgroup").write_text(text)
        # What it says of itself is not read.
        (proc / "77/environ").write_text(f"MUDEUNG_RUN={RUN}\0" if "user" not in groups else "")
        runs = Runs(proc, PodLogs(logs))
        assert runs.of(77) == run_id
        runs.close()


def test_an_agent_elsewhere_loads_no_grpc(surroundings: dict[str, str]) -> None:
    code = "import sys, agent.service; print('grpc' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=surroundings, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "False"
