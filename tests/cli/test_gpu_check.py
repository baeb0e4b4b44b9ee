"""`mudeung gpu-check`: what is shown without a GPU is shown, and what is not is said; the training computes."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from cli.demo.kernel import Kernel
from cli.demo.story import Differs, Step
from cli.gpu_check import centre, cuda, inventory, metering, training
from cli.gpu_check.metering import Figures
from cli.gpu_check.nvml import Poll
from tests.cli import ptx
from tests.nvml import library
from tests.nvml.library import Scenario

MEBIBYTE = 2**20
INTERVAL = 2
SECONDS = 8
BUSY, WATTS, USED = 60, 300, 20 * 2**30
DEVICE_MEMORY = 8 * MEBIBYTE
"""Of each device of the small CUDA library, whose memory is a file."""

PROMISED = [
    "NVML says what this machine has",
    "The agent reads the same devices",
    "The platform starts (local)",
    "An operator adds this machine; its agent starts",
    "Its devices appear as NVML lists them",
    "They are the pool's capacity",
    "A profile with one of them is rated and offered to a project",
    "pi starts a server",
    "Its kernel is given exactly that device",
    "A second server has another device",
    "With none free the next start is refused",
    "The second server is stopped and charged",
    "Its use is read for 8 s all the same",
    "The server is stopped and charged",
    "What was metered is what NVML says",
    "The device is scrubbed, and can be held again",
    "A notebook runs by schedule",
    "Each run is charged its rate for its true seconds",
    "Every device is scrubbed, and can be held again",
    "Every invariant of the ledger holds",
    "Everything ends; nothing is left running",
]
NOT_DONE = ["nvidia-smi lists the same devices", "CUDA sees exactly that device", "A training notebook computes on it"]


def run_check(tmp_path: Path, *words: str, seconds: int = 280, **variables: str) -> tuple[int, str]:
    """Return the exit code and what was printed; its temporary home is made in `tmp_path`, and gone afterwards."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", "gpu-check", "--lang", "en", *words],
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, "TMPDIR": str(tmp_path), **variables},
        check=False,
    )
    assert list(tmp_path.glob("mudeung-gpu-check-*")) == []
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="session")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library.build(tmp_path_factory.mktemp("libraries"))


@pytest.fixture
def machine(tmp_path: Path, nvml: Path) -> tuple[Scenario, dict[str, str]]:
    """Two H100 of which the first is busy, and the variables by which a process sees them."""
    scenario = Scenario.uncut(tmp_path / "scenario", 2)
    scenario.gpu(0, busy=BUSY, power=WATTS * 1000, memory_used=USED)
    scenario.gpu(1, busy=5, power=90_000, memory_used=2**30)
    memory = tmp_path / "memory"
    memory.mkdir()
    for number in range(2):
        (memory / scenario.uuid(number)).write_bytes(b"\xaa" * DEVICE_MEMORY)
    variables = {**library.environment(nvml, scenario), "MUDEUNG_CUDA_MEMORY": str(memory)}
    return scenario, {**variables, "PATH": path_without_smi()}


def path_without_smi() -> str:
    """The machine that runs the tests may have GPUs of its own: its tool does not know of ours."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    return os.pathsep.join(each for each in folders if not (Path(each) / inventory.SMI).exists())


def test_without_cuda_all_but_cuda_is_shown_and_the_check_is_incomplete(
    tmp_path: Path, machine: tuple[Scenario, dict[str, str]]
) -> None:
    scenario, variables = machine
    charged = r"(notebook|batch): (\d+) s × 66,900 = ([\d,]+) GFLOPS·s; ([\d.]+) s"
    report = tmp_path / "report.md"
    words = ["--seconds", str(SECONDS), "--interval", str(INTERVAL), "--write", str(report)]
    code, printed = run_check(tmp_path, *words, **variables)
    assert code == 3, printed
    printed = printed.partition("The report:")[0]
    steps = re.findall(r"^ *\d+\. (.) (.*) \([\d.]+ s\)$", printed, re.MULTILINE)
    assert [title for mark, title in steps if mark == "✓"] == PROMISED, printed
    assert [title for mark, title in steps if mark == "–"] == NOT_DONE
    assert "not done: no CUDA driver: libcuda.so.1 has no cuDeviceGetUuid" in printed
    first = scenario.uuid(0)
    assert f"CUDA_VISIBLE_DEVICES={first}" in printed
    assert "h100" in next(line for line in printed.splitlines() if f"{first}: NVIDIA H100 80GB HBM3" in line)
    _check_metering(printed)
    runs = re.findall(charged, printed)
    assert sorted(kind for kind, *_ in runs) == ["batch", "notebook", "notebook"]
    for _, seconds, charge, lived in runs:
        assert int(charge.replace(",", "")) == 66_900 * int(seconds)
        assert abs(int(seconds) - float(lived)) <= 1.5
    for number in range(2):
        memory = (tmp_path / "memory" / scenario.uuid(number)).read_bytes()
        assert memory == bytes(DEVICE_MEMORY)
    page = report.read_text(encoding="utf-8")
    assert page.startswith("# GPU check: NVIDIA H100 80GB HBM3\n")
    for said in ("550.90.07", "exit 3", "incomplete", "2 × NVIDIA H100 80GB HBM3", "– A training notebook"):
        assert said in page, said


def _check_metering(printed: str) -> None:
    """The platform's figures are the scenario's, which are NVML's own answers."""
    numbers = {
        name: (float(platform.replace(",", "")), float(own.replace(",", "")))
        for name, platform, own in re.findall(
            r"(covered time|busy time|energy|largest memory): platform ([\d.,]+) \w+, NVML ([\d.,]+)", printed
        )
    }
    assert set(numbers) == {"covered time", "busy time", "energy", "largest memory"}
    for seen, *_ in numbers.values():
        assert seen > 0
    covered, own_covered = numbers["covered time"]
    assert covered >= SECONDS - 2 * INTERVAL
    for used, time_covered in zip(numbers["busy time"], (covered, own_covered), strict=True):
        assert used == pytest.approx(time_covered * BUSY / 100, abs=0.2)
    for used, time_covered in zip(numbers["energy"], (covered, own_covered), strict=True):
        assert used == pytest.approx(time_covered * WATTS, abs=0.2 * WATTS)
    assert numbers["largest memory"] == (USED / MEBIBYTE, USED / MEBIBYTE)


def test_without_a_driver_nothing_is_started(tmp_path: Path, nvml: Path) -> None:
    code, printed = run_check(tmp_path, **library.environment(nvml, tmp_path / "no scenario"))
    assert code == 3, printed
    assert "1. – NVML says what this machine has" in printed
    assert "not done: no NVIDIA driver: " in printed
    assert "The platform starts" not in printed
    assert "incomplete" in printed


def test_a_device_that_the_catalogue_does_not_know_is_said_so(
    tmp_path: Path, machine: tuple[Scenario, dict[str, str]]
) -> None:
    scenario, variables = machine
    for number in range(2):
        scenario.gpu(number, name="NVIDIA Imaginary 9000")
    code, printed = run_check(tmp_path, "--interval", "1", **variables)
    assert code == 3, printed
    assert "not done: the catalogue knows none of these devices: NVIDIA Imaginary 9000" in printed
    assert "starts a server" not in printed


def test_the_report_needs_a_folder(tmp_path: Path) -> None:
    code, printed = run_check(tmp_path, "--write", str(tmp_path / "none" / "report.md"))
    assert code == 1
    assert "there is no folder" in printed


def run_notebook(monkeypatch: pytest.MonkeyPatch, driver: ptx.Driver, **parameters: object) -> dict[str, Any]:
    """Return what the training notebook's cells leave behind, on the driver."""
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver if name == cuda.LIBRARY else None)
    names: dict[str, Any] = {}
    for cell in training.notebook()["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)  # noqa: S102 - it is our own notebook
            if "parameters" in cell["metadata"].get("tags", ()):
                names.update(parameters)
    return names


def test_the_training_computes_what_numpy_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = uuid.UUID(int=0x1234_5678_9ABC_DEF0_0FED_CBA9_8765_4321)
    driver = ptx.Driver(own.bytes)
    names = run_notebook(monkeypatch, driver, seconds=2.0, rows=512, features=32, rate=0.5)
    result = cuda.line(capsys.readouterr().out, "result")
    assert result["uuid"] == str(own) == cuda.plain(f"GPU-{own}")
    assert result["steps"] >= 16
    assert result["first_loss"] > 1
    assert 0.011 > result["final_loss"] > result["least_loss"] * 0.999
    assert np.allclose(names["found"], names["best"], atol=1e-3)
    assert driver.memory.pieces == {}
    assert driver.launches > 3 * result["steps"]


class SmallKernel:
    """Runs cells in this process, with less data than the notebook has by itself."""

    def __init__(self, read: Callable[[], str]) -> None:
        self.read = read
        self.names: dict[str, Any] = {}

    def run(self, code: str, seconds: float = 60.0) -> str:
        assert seconds >= 60
        exec(code, self.names)  # noqa: S102 - it is our own notebook
        if "rows" in self.names and self.names["rows"] > 512:
            self.names.update(rows=512, features=32, rate=0.5)
        return self.read()


def test_a_training_of_a_person_is_as_long_as_asked_and_its_result_is_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = f"GPU-{uuid.UUID(int=5)}"
    driver = ptx.Driver(uuid.UUID(int=5).bytes)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver if name == cuda.LIBRARY else None)
    kernel = SmallKernel(lambda: capsys.readouterr().out)
    result = training.train(cast("Kernel", kernel), 1.5)
    assert 1.5 <= result["seconds"] < 10
    step = Step("training")
    training.check_result(step, result, own)
    assert "PTX by numpy" in step.notes[0]
    for wrong in ({"uuid": "other"}, {"final_loss": 2.0}, {"numpy_loss": result["final_loss"] * 1.01}):
        with pytest.raises(Differs):
            training.check_result(Step("training"), {**result, **wrong}, own)


def test_a_training_whose_kernel_is_wrong_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(ptx.Driver):
        def cuModuleLoadDataEx(self, module: Any, source: Any, *rest: Any) -> int:  # noqa: N802 - CUDA's own name
            broken = source.value.replace(b"sub.f32 %e2, %e2, %y;", b"sub.f32 %e2, %y, %e2;")
            assert broken != source.value
            return super().cuModuleLoadDataEx(module, ctypes.c_char_p(broken), *rest)

    with pytest.raises(AssertionError):
        run_notebook(monkeypatch, Wrong(bytes(16)), seconds=0.5, rows=256, features=32, rate=0.5)


def test_the_kernels_run_on_every_gpu_since_pascal() -> None:
    kernels = ptx.parse("".join(training.notebook()["cells"][6]["source"]))
    assert set(kernels) == {"residuals", "gradients", "descend"}


def test_a_training_notebook_is_one_that_can_be_scheduled() -> None:
    [parameters] = [cell for cell in training.notebook()["cells"] if cell["metadata"].get("tags") == ["parameters"]]
    assert "seconds: float = 60.0" in "".join(parameters["source"])
    assert [cell["cell_type"] for cell in training.looking_notebook()["cells"]] == ["code"]


def test_what_smi_lists_without_what_is_cut() -> None:
    whole, cut, part = "GPU-11111111-aaaa", "GPU-22222222-bbbb", "MIG-33333333-cccc"
    listing = (
        f"GPU 0: NVIDIA H100 80GB HBM3 (UUID: {whole})\n"
        f"GPU 1: NVIDIA H100 80GB HBM3 (UUID: {cut})\n"
        f"  MIG 1g.10gb     Device  0: (UUID: {part})\n"
    )
    assert inventory.held_uuids(listing, [cut]) == {whole, part}
    assert inventory.held_uuids(listing) == {whole, cut, part}


def poll(at: float, busy: float | None = None, watts: float | None = None, joules: float | None = None) -> Poll:
    return Poll(at, busy, watts, joules, None if busy is None else int(busy * 1000))


def test_polls_are_summed_over_the_time_that_is_asked_for() -> None:
    polls = [poll(0, 0.0, 100, 0), poll(10, 0.5, 200, 1500), poll(20, 1.0, 300, 4500)]
    assert metering.figures(polls, 0, 20) == Figures(20, 15.0, 4500.0, 1000)
    assert metering.figures(polls, 5, 12) == Figures(7, 2.5 + 2.0, 750 + 600, 1000)
    assert metering.figures(polls, 30, 40) == Figures(0, None, None, None)


def test_without_a_counter_energy_is_the_power_over_the_time() -> None:
    polls = [poll(0, 0.0, 100), poll(10, 0.5, 200), poll(20, 1.0, 300)]
    assert metering.figures(polls, 0, 15).energy_joules == 10 * 200 + 5 * 300
    nothing = metering.figures([poll(0), poll(10)], 0, 10)
    assert nothing == Figures(10, None, None, None)


def test_figures_may_differ_by_a_tenth_or_an_interval() -> None:
    def held(platform: Figures, own: Figures, interval: float) -> list[bool | None]:
        return [each.holds for each in metering.compare(platform, own, interval, most_watts=500)]

    own = Figures(1000.0, 500.0, 100_000.0, 1000 * MEBIBYTE)
    assert held(Figures(995.0, 451.0, 91_000.0, 1064 * MEBIBYTE), own, 2) == [True, True, True, True]
    assert held(Figures(995.0, 449.0, 89_000.0, 1065 * MEBIBYTE), own, 2) == [True, False, False, False]
    assert held(Figures(995.0, 449.0, 89_000.0, None), own, 60) == [True, True, True, None]
    assert held(Figures(800.0, None, None, 0), Figures(1000.0, None, None, 0), 2) == [False, None, None, True]


def test_a_model_is_chosen_by_its_number_and_whole_ones_first() -> None:
    rows = [{"device_model": model, "name": "x"} for model in ["h100-mig-1g.10gb"] * 3 + ["h100", "a100", "a100", None]]
    assert centre.choose_model(rows, None) == "a100"
    assert centre.choose_model(rows, "h100-mig-1g.10gb") == "h100-mig-1g.10gb"
    with pytest.raises(Differs):
        centre.choose_model(rows, "t4")


def test_a_line_of_json_is_found_in_what_was_printed() -> None:
    assert cuda.line('a\nresult = {"x": 1}\nb\n', "result") == {"x": 1}
    with pytest.raises(Differs):
        cuda.line("nothing", "result")
    assert json.loads(json.dumps(training.looking_notebook()))


def test_what_a_kernel_is_asked_says_what_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", cuda.LOOK],
        capture_output=True,
        text=True,
        timeout=30,
        env={"PATH": os.environ["PATH"], "CUDA_VISIBLE_DEVICES": "GPU-1", "LD_LIBRARY_PATH": str(tmp_path)},
        check=True,
    )
    seen = cuda.line(done.stdout, "seen")
    assert (seen["visible"], seen["attached"]) == ("GPU-1", None)
    if shutil.which(inventory.SMI) is None:
        assert cuda.LIBRARY in seen["error"]
