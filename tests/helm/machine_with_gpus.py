"""A machine of the cluster that has GPUs, as far as kubelet, device plugin and agent can tell: none of them is real.

The resource's plugin is registered with the real kubelet, which gives its devices to pods; the agent's NVML is the one
of :mod:`tests.nvml`, whose GPUs have the plugin's ids, and whose scenario a test changes under the running agent.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helm import device_plugin
from tests.helm.conftest import Tools
from tests.helm.release import PLATFORM, Installed
from tests.nvml.library import CUDA, NVML, Scenario, whole_gpu

RESOURCE = "nvidia.com/test-l40s"
"""A name of its own: whatever else the cluster's machines have stays as it is."""
GPUS = 4
HOST_FOLDER = "/var/lib/mudeung-test-agent"
PLUGIN = "device-plugin"
READY_SECONDS = 60
ROOT_FOLDER = """
from pathlib import Path
for path in Path("/proc").glob("[0-9]*/cmdline"):
    try:
        words = path.read_bytes().decode(errors="replace").split("\\0")
    except OSError:
        continue
    if words[0].rpartition("/")[2] == "kubelet":
        given = " ".join(words).replace("--root-dir=", "--root-dir ").partition("--root-dir ")[2]
        print(given.split(" ")[0])
        break
"""
"""Prints where a kubelet of this machine keeps its files, as far as its command says so."""


@dataclass
class GpuMachine:
    """The machine `name` of the cluster, with `scenario` as its GPUs."""

    release: Installed
    name: str
    scenario: Scenario

    @property
    def uuids(self) -> list[str]:
        return [self.scenario.uuid(number) for number in range(GPUS)]

    def in_plugin(self, *command: str, given: str | None = None) -> str:
        stdin = ["--stdin"] if given is not None else []
        return self.release.kubectl("exec", *stdin, PLUGIN, "--", *command, given=given)

    def show(self) -> None:
        """The agent sees the scenario as it is now."""
        text = self.scenario.path.read_text()
        self.in_plugin(
            "sh", "-c", "cat > /machine/scenario.new && mv /machine/scenario.new /machine/scenario", given=text
        )

    def given(self) -> list[str]:
        """Return the devices that the plugin was told to give, in order."""
        lines = self.release.kubectl("logs", PLUGIN).splitlines()
        return [each for line in lines if line.startswith("given:") for each in line.split()[1:]]

    def kubelet_folder(self) -> str:
        return self.in_plugin("python", "-c", ROOT_FOLDER).strip() or "/var/lib/kubelet"

    def agent_values(self) -> dict[str, Any]:
        """Return the chart's values for an agent on the machine."""
        return {
            "enabled": True,
            "existingSecret": "agents",
            # The label of NVIDIA's feature discovery is not needed here.
            "nodeSelector": {"nvidia.com/gpu.present": None, "kubernetes.io/hostname": self.name},
            "intervalSeconds": 2,
            "statePath": f"{HOST_FOLDER}/state",
            "podResourcesPath": f"{self.kubelet_folder()}/pod-resources",
            "extraEnv": {"LD_LIBRARY_PATH": "/opt/nvml", "MUDEUNG_NVML_SCENARIO": "/machine/scenario"},
            "extraVolumes": [
                {"name": "nvml", "configMap": {"name": "nvml"}},
                {"name": "machine", "hostPath": {"path": HOST_FOLDER}},
            ],
            "extraVolumeMounts": [
                {"name": "nvml", "mountPath": "/opt/nvml"},
                {"name": "machine", "mountPath": "/machine", "readOnly": True},
            ],
        }


@contextmanager
def gpu_machine(release: Installed, library: Path, folder: Path) -> Iterator[GpuMachine]:
    """A machine of the cluster has GPUs; in the end it has none, and nothing is left on it."""
    name = _node(release.tools)
    release.kubectl(
        "label", "namespace", release.namespace, "pod-security.kubernetes.io/enforce=privileged", "--overwrite"
    )
    values: dict[str, object] = {"driver": "580.65.06"}
    for number in range(GPUS):
        own = {"name": "NVIDIA L40S", "memory_total": 48 * 2**30, "capability": "8.9", "cores": 18_176, "gpm": 0}
        values |= whole_gpu("cluster", number, cut=False) | {f"gpu.{number}.{key}": own[key] for key in own}
    machine = GpuMachine(release, name, Scenario(folder / "scenario", values))
    code = Path(device_plugin.__file__).read_text()
    files = {each: base64.b64encode((library.parent / each).read_bytes()).decode() for each in (NVML, CUDA)}
    for given in (
        {"kind": "ConfigMap", "metadata": {"name": PLUGIN}, "data": {"device_plugin.py": code}},
        {"kind": "ConfigMap", "metadata": {"name": "nvml"}, "binaryData": files},
        _plugin(machine),
    ):
        release.kubectl("create", "-f", "-", given=json.dumps({"apiVersion": "v1", **given}))
    try:
        release.kubectl("wait", f"pod/{PLUGIN}", "--for=condition=Ready", f"--timeout={READY_SECONDS}s")
        machine.show()
        _wait_for_devices(release.tools, name)
        yield machine
    finally:
        release.tools.run("kubectl", "delete", "daemonset", "agent", "-n", release.namespace, "--ignore-not-found")
        clean = ("sh", "-c", f"rm -rf /machine/* {device_plugin.FOLDER}/{RESOURCE.replace('/', '-')}.sock")
        release.tools.run("kubectl", "exec", PLUGIN, "-n", release.namespace, "--", *clean)
        release.tools.run("kubectl", "delete", "pod", PLUGIN, "-n", release.namespace, "--grace-period=1")


def _node(cluster: Tools) -> str:
    """Return a machine of the cluster on which pods really run."""
    for node in cluster.get("nodes")["items"]:
        conditions = {each["type"]: each["status"] for each in node["status"]["conditions"]}
        if conditions.get("Ready") == "True" and not node["spec"].get("taints"):
            return str(node["metadata"]["name"])
    pytest.skip("no machine of the Kubernetes cluster takes pods")


def _plugin(machine: GpuMachine) -> dict[str, Any]:
    container = {
        "name": "plugin",
        "image": PLATFORM,
        "imagePullPolicy": "Never",
        "command": ["python", "/plugin/device_plugin.py", RESOURCE, *machine.uuids],
        "env": [{"name": "PYTHONPATH", "value": "/opt/mudeung/app"}],
        "securityContext": {"runAsUser": 0},
        "volumeMounts": [
            {"name": "code", "mountPath": "/plugin"},
            {"name": "plugins", "mountPath": str(device_plugin.FOLDER)},
            {"name": "machine", "mountPath": "/machine"},
        ],
    }
    volumes = [
        {"name": "code", "configMap": {"name": PLUGIN}},
        {"name": "plugins", "hostPath": {"path": str(device_plugin.FOLDER)}},
        {"name": "machine", "hostPath": {"path": HOST_FOLDER, "type": "DirectoryOrCreate"}},
    ]
    spec = {"nodeName": machine.name, "hostPID": True, "containers": [container], "volumes": volumes}
    return {"kind": "Pod", "metadata": {"name": PLUGIN}, "spec": {**spec, "terminationGracePeriodSeconds": 1}}


def _wait_for_devices(cluster: Tools, name: str) -> None:
    """The machine can give all of the devices to pods."""
    deadline = time.monotonic() + READY_SECONDS
    while (there := cluster.get("node", name)["status"]["allocatable"].get(RESOURCE)) != str(GPUS):
        assert time.monotonic() < deadline, f"{name} has {there} of {RESOURCE}"
        time.sleep(0.5)
