"""Run every measurement, one after the other; write `bench/results.json` and `docs/benchmarks.md`, print a table.

Each also runs alone: `python -m bench.NAME --help`. The status is 0 when all asked for was measured, met or
not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results.json"
PAGE = ROOT / "docs" / "benchmarks.md"
TIMEOUT_SECONDS = 3600

MEASUREMENTS: dict[str, tuple[list[str], str]] = {
    "decision": (
        ["decision"],
        "a durable admission decision ÷ one fsync'd one-row SQLite transaction, and its growth with projects",
    ),
    "growth": (
        ["growth"],
        "a decision, a balance, a queue step and a monthly report: of 100,000 projects ÷ of 1,000, on both databases",
    ),
    "spawn_rate": (
        ["spawn_rate"],
        "ready servers a minute through our gate ÷ plain JupyterHub's, the same light servers",
    ),
    "spawn_rate_real": (["spawn_rate", "--real", "--pairs", "7", "--servers", "4"], "the same with real JupyterLab"),
    "image_start": (["image_start"], "the notebook image's time to its first answer ÷ a plain image's"),
    "batch_run": (["batch_run"], "a scheduled run's wall time ÷ plain papermill's on the same notebook"),
    "metering": (
        ["metering"],
        "rows kept ÷ samples taken of 8 GPUs and 14 slices, and what of a core the samples of 1,000 devices take",
    ),
    "kubernetes": (
        ["kubernetes"],
        "1,000 servers of 200 projects as pods on simulated machines ÷ the same with plain KubeSpawner",
    ),
    "class_of_60": (
        ["class_of_60"],
        "a class of 60 at once: our time to half and to all ready ÷ plain JupyterHub's with long timeouts",
    ),
    "agent": (
        ["agent"],
        "CPU of the machine's agent: a round of samples ÷ a bare loop of the same NVML calls, and its share of a core",
    ),
}
"""Name → (module of `bench` and its arguments, what it measures)."""

NOTES = {
    "kubernetes": """
It takes the cluster that `KUBECONFIG` names, with machines that [kwok](https://kwok.sigs.k8s.io) plays: pods turn ready
there without running. `kwok --manage-nodes-with-label-selector type=simulated`, with its stages for nodes and pods,
plays 25 such machines for 1,000 servers on either side; `--servers 100 --projects 20` measures less.

```yaml
apiVersion: v1
kind: Node
metadata:
  name: simulated-1
  labels: {type: simulated, kubernetes.io/hostname: simulated-1}
  annotations: {kwok.x-k8s.io/node: fake}
spec:
  taints: [{key: type, value: simulated, effect: NoSchedule}]
status:
  allocatable: &all {cpu: "128", memory: 2Ti, pods: "250", nvidia.com/gpu: "100"}
  capacity: *all
```

The machines stay; all else that the measurement makes on the cluster is gone when it ends. Namespaces and volumes are
made before, as those of people and projects that have been there for a while; the fair share of the API server holds
for both hubs, and neither limits its own calls. Each hub keeps its state in a file of SQLite as it does by itself: ours
with a write-ahead log, as a commit in the hub's one thread then waits less for the disk.
""",
}
"""What someone needs to know to measure it for themselves."""

SIDE = {"lower": "≤", "higher": "≥"}


def measure(name: str) -> list[dict[str, Any]]:
    """Return the results that the measurement printed; raise RuntimeError when it printed none."""
    (module, *arguments), _ = MEASUREMENTS[name]
    command = [sys.executable, "-m", f"bench.{module}", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_SECONDS, check=False)
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"name"')]
    if not results:
        raise RuntimeError(f"bench.{name} ended with status {done.returncode} and no result:\n{done.stdout[-2000:]}")
    return results


def table(results: list[dict[str, Any]]) -> str:
    """Return the results as a Markdown table."""
    rows = ["| figure | ratio | 95 % interval | target | met |", "|---|---:|---|---:|---|"]
    rows += [
        f"| {one['name']} | {one['ratio']:.3f} | {one['low']:.3f} to {one['high']:.3f} "
        f"| {SIDE[one['better']]} {one['target']:g} | {'yes' if one['met'] else 'no'} |"
        for one in results
    ]
    return "\n".join(rows)


def page(measured: dict[str, list[dict[str, Any]]], when: str) -> str:
    """Return the page of the documentation: every figure with the command that prints it."""
    parts = [
        "# Measured",
        "",
        "Ratios of two arms run side by side in one run of the command that is named. `make bench` runs them all.",
        f"{os.cpu_count()} cores, Python {platform.python_version()}, {when}.",
        "",
        "What is here is what was measured, met or not. Each figure is the median of paired ratios with its 95 %",
        "bootstrap interval. Absolute figures of a shared machine are noisy; ratios hold better.",
        "",
    ]
    for name, results in measured.items():
        (module, *arguments), what = MEASUREMENTS[name]
        parts += [f"## {name}", "", f"{what[0].upper()}{what[1:]}.", ""]
        parts += [f"`{' '.join(['.venv/bin/python -m', f'bench.{module}', *arguments])}`", "", table(results), ""]
        parts += [NOTES[name].strip(), ""] if name in NOTES else []
        for one in results:
            parts += [
                f"- {one['name']}: `{json.dumps(one['detail'], ensure_ascii=False)}`" for _ in [0] if one["detail"]
            ]
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(MEASUREMENTS)} (default: all)")
    names = parser.parse_args().names or list(MEASUREMENTS)
    unknown = sorted(set(names) - set(MEASUREMENTS))
    if unknown:
        parser.error(f"no measurement {', '.join(unknown)}; there are: {', '.join(MEASUREMENTS)}")
    measured = earlier()
    failed = False
    for name in names:
        print(f"bench.{name}: {MEASUREMENTS[name][1]} …", flush=True)
        try:
            measured[name] = measure(name)
            print(table(measured[name]), flush=True)
        except (RuntimeError, subprocess.TimeoutExpired, ValueError) as error:
            print(error, file=sys.stderr)
            failed = True
    measured = {name: measured[name] for name in MEASUREMENTS if name in measured}
    listed = [{**one, "measurement": name} for name, results in measured.items() for one in results]
    RESULTS.write_text(json.dumps(listed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(measured, datetime.now(UTC).date().isoformat()), encoding="utf-8")
    print(f"\n{table(listed)}\n\nwritten: {RESULTS.relative_to(ROOT)}, {PAGE.relative_to(ROOT)}")
    return 1 if failed else 0


def earlier() -> dict[str, list[dict[str, Any]]]:
    """Return the results of an earlier run, by measurement, so that some can be measured anew alone."""
    found: dict[str, list[dict[str, Any]]] = {}
    if RESULTS.exists():
        for one in json.loads(RESULTS.read_text(encoding="utf-8")):
            found.setdefault(one.pop("measurement"), []).append(one)
    return found


if __name__ == "__main__":
    sys.exit(main())
