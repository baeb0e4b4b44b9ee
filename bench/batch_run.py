"""A scheduled run beside plain papermill: the same notebook, parameters and interpreter, on this machine's processes.

Ours is timed from the scheduler's boot, with one schedule due, until the execution is recorded as ended and nothing of
the run is left: claim, check, snapshot, hold, launch, papermill in a process of its own, charge, output and log in the
project's folder. The other arm is `papermill IN OUT -p …` as a person would type it. The scheduler is a long-lived
process, so that its imports are not timed; those of the run's own process are, in both arms.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sqlalchemy import update

from batch.scheduler import Scheduler
from bench.measure import Result, at_most, paired
from quotas.domain.schedules import ExecutionState, Timing
from quotas.home import Home, open_home
from quotas.services import example, schedules
from quotas.services.example_centre import DEMO_PROJECT
from quotas.services.schedules import NewSchedule, Schedule
from quotas.store.database import Database
from quotas.store.migrate import migrate
from quotas.store.tables import schedules as schedules_table

PAIRS = 9
TARGET = 1.10
NOTEBOOK = Path(__file__).resolve().parent.parent / "examples" / "notebooks" / "train_digits.ipynb"
PARAMETERS = {"test_share": 0.3, "seed": 11}
PERSON, PROFILE = "member", "cpu-small"
RUN_SECONDS = 300


class Platform:
    """A home with the example centre and one schedule of the notebook, which fires when it is told to."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.database: Database = home.database()
        migrate(self.database)
        now = int(time.time())
        example.load(self.database, now=now)
        shutil.copy(NOTEBOOK, home.project_folder(DEMO_PROJECT))
        yearly = Timing("Asia/Seoul", cron="0 0 1 1 *")
        new = NewSchedule(DEMO_PROJECT, PERSON, PROFILE, NOTEBOOK.name, yearly, parameters=PARAMETERS)
        self.schedule: Schedule = schedules.create(self.database, new, actor=PERSON, now=now)

    def run(self) -> float:
        """Return the seconds that the schedule's run took, from its due instant's claim to its end."""
        due = update(schedules_table).values(next_at=int(time.time()) - 1)
        with self.database.write() as transaction:
            transaction.run(due)
        begin = time.perf_counter()
        Scheduler(self.home, self.database, self.home.backend()).run_once()
        seconds = time.perf_counter() - begin
        last = schedules.executions(self.database, self.schedule.project, 1)[0]
        if last.state is not ExecutionState.SUCCEEDED:
            raise RuntimeError(f"the run ended as {last.state}: {last.reason_en}\n{last.log}")
        time.sleep(1)  # two firings in one second would be one
        return seconds


def papermill(folder: Path) -> float:
    """Return the seconds that papermill's own command takes for the notebook."""
    parameters = [word for name, value in PARAMETERS.items() for word in ("-p", name, str(value))]
    program = Path(sys.executable).with_name("papermill")
    command = [str(program), str(NOTEBOOK), str(folder / "output.ipynb"), "--no-progress-bar", *parameters]
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, timeout=RUN_SECONDS, cwd=folder)
    return time.perf_counter() - begin


def measure(pairs: int = PAIRS) -> Result:
    """The figure: a scheduled run's wall time to plain papermill's, over `pairs` pairs."""
    with tempfile.TemporaryDirectory(prefix="mudeung-bench-") as folder:
        platform = Platform(open_home(Path(folder) / "home"))
        try:
            ratio = paired(platform.run, lambda: papermill(Path(folder)), pairs)
        finally:
            platform.database.close()
    return at_most(
        "batch_run", ratio, TARGET, {"unit": "seconds from claim to recorded end", "notebook": NOTEBOOK.name}
    )


def main(arguments: list[str] | None = None) -> int:
    """The figure is printed as a line of JSON; the status is 0 when it is met."""
    parser = argparse.ArgumentParser(prog="python -m bench.batch_run", description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"pairs of runs to measure (default {PAIRS})")
    result = measure(parser.parse_args(arguments).pairs)
    print(result.to_json())
    return 0 if result.met else 1


if __name__ == "__main__":
    sys.exit(main())
