"""Ready servers a minute through our gate, to those of a plain JupyterHub with the same kind of spawner.

Both hubs start the same light stand-in as local processes, so that the hub is what is measured; `--real` takes real
JupyterLab servers instead. Each measure is `--servers` learners who ask at the same moment, until the last is ready.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from bench.hubs import Class, ours, plain, world
from bench.measure import Result, at_least, paired
from tests.platform import STAND_IN, running

TARGET = 0.95
PAIRS = 9
SERVERS = 20
REAL = (sys.executable, "-m", "jupyterhub.singleuser", "--allow-root", "--ip=127.0.0.1")


def rate(learners: Class) -> float:
    """Servers a minute, from the first request to the last ready server; they are stopped afterwards."""
    began = time.perf_counter()
    statuses = learners.ask_at_once()
    while statuses.count(202):
        # Its start takes longer than a hub keeps an answer waiting: asked again, it says when it is ready.
        time.sleep(0.05)
        statuses = [200 if learners.ready() == len(learners.names) else 202]
    took = time.perf_counter() - began
    if not set(statuses) <= {200, 201}:
        raise RuntimeError(f"not every server was started: {statuses}")
    learners.stop_at_once()
    return 60 * len(learners.names) / took


def measure(pairs: int = PAIRS, servers: int = SERVERS, *, real: bool = False) -> Result:
    """The figure: our rate to the plain hub's over `pairs` pairs."""
    command = REAL if real else STAND_IN
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder), server=None if real else STAND_IN, world=world(servers)) as platform,
        plain(Path(folder) / "plain", servers, command=list(command)) as other,
    ):
        learners = ours(platform, servers)
        ratio = paired(lambda: rate(learners), lambda: rate(other), pairs)
    name = "spawn_rate_real" if real else "spawn_rate"
    return at_least(name, ratio, TARGET, {"unit": "ready servers a minute", "servers": servers})


def main(arguments: list[str] | None = None) -> int:
    """The figure is printed as a line of JSON; the status is 0 when it is met."""
    parser = argparse.ArgumentParser(prog="python -m bench.spawn_rate", description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"pairs to measure (default {PAIRS})")
    parser.add_argument("--servers", type=int, default=SERVERS, help=f"learners who ask at once (default {SERVERS})")
    parser.add_argument("--real", action="store_true", help="start real JupyterLab servers")
    asked = parser.parse_args(arguments)
    result = measure(asked.pairs, asked.servers, real=asked.real)
    print(result.to_json())
    return 0 if result.met else 1


if __name__ == "__main__":
    sys.exit(main())
