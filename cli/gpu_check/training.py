"""The training notebook: run cell by cell in a server's kernel, and once more by schedule."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cli.demo.kernel import Kernel
from cli.demo.story import Differs, Step
from cli.gpu_check import cuda
from cli.gpu_check.centre import PROFILE, PROJECT
from cli.gpu_check.servers import Person

NOTEBOOK = "gpu_training.ipynb"
LOOKING = "gpu_devices.ipynb"
SOURCE = Path(__file__).with_name(NOTEBOOK)
PORTAL = "/services/portal/api"
AROUND_SECONDS = 300.0
"""What the notebook may take beside its training: to make its data, and to compare with numpy."""
DUE_SECONDS = 4
BEGIN_SECONDS = 120.0
POLL_SECONDS = 0.5
FINAL = {"succeeded", "failed", "timed_out", "kernel_died", "out_of_memory", "cancelled", "lost", "refused"}


def notebook() -> dict[str, Any]:
    """Return the training notebook."""
    content: dict[str, Any] = json.loads(SOURCE.read_text(encoding="utf-8"))
    return content


def looking_notebook() -> dict[str, Any]:
    """Return a notebook that only says which devices it sees."""
    cell: dict[str, Any] = {"cell_type": "code", "id": "look", "execution_count": None, "metadata": {}, "outputs": []}
    return {**notebook(), "cells": [{**cell, "source": cuda.LOOK.strip("\n")}]}


def train(kernel: Kernel, seconds: float) -> dict[str, Any]:
    """Run every cell for so long a training; return the result that the notebook prints."""
    printed = ""
    for cell in notebook()["cells"]:
        if cell["cell_type"] == "code":
            printed += kernel.run("".join(cell["source"]), seconds + AROUND_SECONDS)
            if "parameters" in cell["metadata"].get("tags", ()):
                kernel.run(f"seconds = {seconds!r}")
    return cuda.line(printed, "result")


def check_result(step: Step, result: Mapping[str, Any], uuid: str) -> None:
    """The training was on the device, its loss fell, and numpy has the same."""
    step.expect(result["uuid"] == cuda.plain(uuid), f"the device {uuid}", result["uuid"])
    first, last, again = (float(result[name]) for name in ("first_loss", "final_loss", "numpy_loss"))
    step.expect(last < first / 2, f"a loss below half of {first}", last)
    step.expect(abs(last - again) <= 1e-3 * again, f"numpy's loss {again}", last)
    step.note(f"{result['device']}, CUDA {result['cuda']}: {result['steps']:,} steps in {result['seconds']} s")
    step.note(f"{result['gflops']:,} GFLOP/s (FP32); {int(result['memory_bytes']) / 2**20:,.0f} MiB")
    step.note(f"loss {first:.4f} → {last:.6f}; numpy {again:.6f}, least squares {float(result['least_loss']):.6f}")


def schedule(
    person: Person, path: str, parameters: Mapping[str, object], seconds: float, look: Callable[[str], None]
) -> dict[str, Any]:
    """Run the notebook by schedule in a few seconds; return its execution once it has ended.

    `look` is called with the run's id again and again meanwhile.
    """
    token = person.token()
    at = datetime.fromtimestamp(int(time.time()) + DUE_SECONDS, UTC)
    body: dict[str, Any] = {"notebook": path, "profile": PROFILE, "at": at.isoformat(), "parameters": dict(parameters)}
    body |= {"title": "gpu-check", "timeout_seconds": int(seconds + AROUND_SECONDS)}
    made = person.browser.call("POST", f"{PORTAL}/projects/{PROJECT}/schedules", body, token=token)
    limit = DUE_SECONDS + BEGIN_SECONDS + seconds + AROUND_SECONDS
    deadline = time.monotonic() + limit
    found: dict[str, Any] = {}
    while time.monotonic() < deadline:
        runs = person.browser.call("GET", f"{PORTAL}/projects/{PROJECT}/runs", token=token)
        mine = [each for each in runs if each.get("schedule_id") == made["id"]]
        if mine:
            found = person.browser.call("GET", f"{PORTAL}/runs/{mine[0]['id']}", token=token)
            if found["state"] in FINAL:
                return found
            look(str(found["id"]))
        time.sleep(POLL_SECONDS)
    raise Differs(f"a run of schedule {made['id']} that ends within {limit:.0f} s", found or "none")
