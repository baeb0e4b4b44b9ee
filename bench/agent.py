"""What the agent costs: CPU of its rounds beside a bare loop of the same NVML calls, and as a share of one core.

On the tests' library with eight H100, two of them cut into seven slices (20 devices), a process on each. That library
answers at once, where a driver takes its time: the ratio is the worst that it can be, as everything that it adds to
the calls themselves is the agent's own. The first figure is of what is done for each sample: the readings become
samples, their processes are looked up in `/proc`, each with the run that it is of. The second is of an agent as it
runs, all its threads, every 10 s a round that is encoded, written to the disk with fsync, sent over HTTP and
acknowledged, and every minute the devices listed anew; in per cent of one core, against the 1 % that was promised.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from agent.monitor import Monitor
from bench.measure import at_most, paired, ratio_of
from tests.nvml import library as nvml

ROUNDS = 100
PAIRS = 9
INTERVAL_SECONDS = 10
SECONDS = 60
TARGET_RATIO = 1.5
TARGET_PERCENT = 1.0
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def scenario_with_processes(folder: Path, pids: list[int]) -> nvml.Scenario:
    """Return the machine, with one process on each of its devices."""
    scenario = nvml.Scenario.standard(folder / "scenario")
    places = [f"gpu.{gpu}" for gpu in range(nvml.GPUS) if gpu not in nvml.CUT]
    places += [f"gpu.{gpu}.mig.{index}" for gpu in nvml.CUT for index in range(nvml.SLICES)]
    with scenario.together():
        for place, pid in zip(places, pids, strict=True):
            scenario.processes(place, {pid: 2**30})
    return scenario


@contextlib.contextmanager
def processes(count: int) -> Iterator[list[int]]:
    """So many processes run within, which know a run of theirs."""
    waiting = [sys.executable, "-S", "-c", "import sys; sys.stdin.read()"]
    surroundings = {**os.environ, "MUDEUNG_RUN": "0f0e0d0c-0000-4000-8000-000000000001"}
    children = [subprocess.Popen(waiting, stdin=subprocess.PIPE, env=surroundings) for _ in range(count)]
    try:
        yield [child.pid for child in children]
    finally:
        for child in children:
            child.communicate(timeout=10)


class Bare:
    """The same calls in a loop, with their results taken and dropped."""

    def __init__(self) -> None:
        import pynvml  # noqa: PLC0415 - the library is to be loaded before

        self.nvml: Any = pynvml
        pynvml.nvmlInit()
        self.whole, self.slices = [], []
        for index in range(pynvml.nvmlDeviceGetCount()):
            gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
            if not pynvml.nvmlDeviceGetMigMode(gpu)[0]:
                self.whole.append(gpu)
                continue
            for each in range(nvml.SLICES):
                handle = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, each)
                instance = pynvml.nvmlDeviceGetGpuInstanceId(handle)
                pair = [pynvml.nvmlGpmSampleAlloc(), pynvml.nvmlGpmSampleAlloc()]
                for sample in pair:
                    pynvml.nvmlGpmMigSampleGet(gpu, instance, sample)
                self.slices.append((handle, gpu, instance, pair))
        self.metrics = pynvml.c_nvmlGpmMetricsGet_t()
        self.metrics.version, self.metrics.numMetrics = pynvml.NVML_GPM_METRICS_GET_VERSION, 1
        self.metrics.metrics[0].metricId = pynvml.NVML_GPM_METRIC_SM_UTIL

    def round(self) -> None:
        nvml_ = self.nvml
        for gpu in self.whole:
            _ = nvml_.nvmlDeviceGetUtilizationRates(gpu).gpu
            _ = nvml_.nvmlDeviceGetPowerUsage(gpu)
            self.of_both(gpu)
        for handle, gpu, instance, pair in self.slices:
            pair.reverse()
            nvml_.nvmlGpmMigSampleGet(gpu, instance, pair[1])
            self.metrics.sample1, self.metrics.sample2 = pair
            nvml_.nvmlGpmMetricsGet(self.metrics)
            _ = self.metrics.metrics[0].value
            self.of_both(handle)

    def of_both(self, handle: Any) -> None:
        _ = self.nvml.nvmlDeviceGetMemoryInfo(handle).used
        for process in self.nvml.nvmlDeviceGetComputeRunningProcesses(handle):
            _ = process.pid, process.usedGpuMemory


class _Taking(BaseHTTPRequestHandler):
    """A platform that has every report, in a process of its own: its cost is none of the agent's."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        sequence = body.split(b'"sequence":', 1)[1].split(b",", 1)[0]
        said = b'{"accepted":' + sequence + b',"scrub":[],"send_devices":false}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its parent's name for it
        """Say nothing."""


@contextlib.contextmanager
def platform() -> Iterator[str]:
    """Its address; it answers within."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Taking)
    child = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)
    child.start()
    server.server_close()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        child.kill()
        child.join(5)


def microseconds(work: Any, rounds: int = ROUNDS) -> float:
    """Return the CPU of one call, of the whole process, in microseconds."""
    before = time.process_time()
    for _ in range(rounds):
        work()
    return (time.process_time() - before) / rounds * 1e6


def cpu_nanoseconds(pid: int) -> int:
    """Return what the process's threads have used of the CPU, as the scheduler counts it."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def percent_of_a_core(url: str, folder: Path, library: Path, seconds: int) -> float:
    """Return what a running agent uses in `seconds`, once it has started, in per cent of one core."""
    words = [sys.executable, "-m", "agent", "--url", url, "--state", str(folder / "state")]
    words += ["--interval", str(INTERVAL_SECONDS)]
    surroundings = {**os.environ, **nvml.environment(library, folder / "scenario"), "MUDEUNG_AGENT_TOKEN": "any"}
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(words, env=surroundings, stdout=log, stderr=log)
        try:
            time.sleep(INTERVAL_SECONDS / 2)  # from between two rounds to between two rounds
            before, began = cpu_nanoseconds(child.pid), time.monotonic()
            time.sleep(seconds)
            used, spent = cpu_nanoseconds(child.pid) - before, time.monotonic() - began
        finally:
            child.terminate()
            status = child.wait(10)
    if status or b"0 reports wait" not in (folder / "log").read_bytes():
        raise RuntimeError(f"the agent did not report all:\n{(folder / 'log').read_text()}")
    return used / 1e9 / spent * 100


def main(arguments: list[str] | None = None) -> int:
    """The figures are printed, a line of JSON each; the status is 0 when both are met."""
    parser = argparse.ArgumentParser(prog="python -m bench.agent", description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"pairs of samples to measure (default {PAIRS})")
    parser.add_argument("--seconds", type=int, default=SECONDS, help=f"of a running agent (default {SECONDS})")
    parser.add_argument("--folder", type=Path, default=Path("build"), help="a folder on the disk to measure")
    chosen = parser.parse_args(arguments)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    devices = nvml.GPUS - len(nvml.CUT) + len(nvml.CUT) * nvml.SLICES
    for name in PROXIES:
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=chosen.folder, prefix="agent-")))
        pids = stack.enter_context(processes(devices))
        url = stack.enter_context(platform())
        library = nvml.build(folder / "library")
        nvml.load(library, scenario_with_processes(folder, pids))
        monitor = stack.enter_context(contextlib.closing(Monitor(Path("/"), Path("/proc"))))
        monitor.look()
        bare = Bare()

        def sampling() -> None:
            samples, _, _ = monitor.sample(lambda _uuid, _at: 10_000)
            if len(samples) != devices:
                raise RuntimeError(f"{len(samples)} samples of {devices} devices")

        ratio = paired(lambda: microseconds(sampling), lambda: microseconds(bare.round), chosen.pairs)
        percent = percent_of_a_core(url, folder, library, chosen.seconds)
    results = [
        at_most(
            "agent_sample_to_nvml",
            ratio,
            TARGET_RATIO,
            {"devices": devices, "processes": devices, "unit": "microseconds of CPU of a round of samples"},
        ),
        at_most(
            "agent_percent_of_a_core",
            ratio_of([percent], [1.0]),
            TARGET_PERCENT,
            {
                "devices": devices,
                "seconds": chosen.seconds,
                "unit": f"per cent of one core, of a process with a round every {INTERVAL_SECONDS} s",
            },
        ),
    ]
    for result in results:
        print(result.to_json())
    return 0 if all(result.met for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
