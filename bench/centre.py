"""A simulated centre: a seeded year of 125 projects with 10.74 PF of awards on 8.85 PF, then 50 % and 100 % of 88.5 PF.

It goes through the engine's own services with a clock of its own: awards and renewals, notebooks and batch runs with
the rhythm of days and weeks, a class of 60 on weekdays at 9:00, borrowing, the queue, preemption, failing devices,
recalls, and at last a power cut to half. After each step cheap invariants are checked, after each day all of them over
the whole ledger; the status is 1 where one does not hold. The same seed gives the same figures, and the same digest of
the journal, on SQLite and on PostgreSQL.

Without `--database` the ledger is a scratch file of SQLite in memory that is not kept.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.centre_figures import Figures, figures, tables
from bench.centre_plan import WHOLE_PROJECTS, Scale
from bench.centre_watch import Broken
from bench.centre_year import Year
from quotas.store.database import Database
from quotas.store.migrate import migrate

SEED = 1
DAYS = 365
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder that Linux keeps in memory
PAGE = Path(__file__).resolve().parent.parent / "docs" / "simulated_centre.md"
PROGRESS_DAYS = 30


def simulate(database: Database, scale: Scale, *, loud: bool = False) -> Figures:
    """Return the figures of a year in the empty database. Raises Broken where an invariant does not hold."""
    migrate(database)
    year = Year(database, scale)
    began = time.process_time()

    def told(day: int) -> None:
        if loud and (day % PROGRESS_DAYS == 0 or day == scale.days):
            spent = time.process_time() - began
            print(f"day {day}: {year.runs.tally.runs:,} runs, {spent:,.0f} s of processor", file=sys.stderr, flush=True)

    year.run(told)
    return figures(year)


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """Give the URL of an SQLite file that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="mudeung-centre-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield f"sqlite:///{folder}/centre.sqlite"


def command(scale: Scale) -> str:
    """Return the command that prints these figures again."""
    words = [".venv/bin/python -m bench.centre", f"--seed {scale.seed}"]
    words += [f"--days {scale.days}"] * (scale.days != DAYS)
    words += [f"--projects {scale.projects}"] * (scale.projects != WHOLE_PROJECTS)
    return " ".join(words)


_SOURCE = """What is below was printed, and written here, by

    {command} --write

Rates are at FP32: one H100 is 66.9 TF. The awards of 10.74 PF are raised with each phase by renewals, and are not
lowered in the cut."""
_COARSE = """\
The engine's rules are the platform's own. Three things are coarser than on one, so that a year passes in minutes:
a notebook's hold covers four hours, not half an hour; the loop goes round every ten minutes and the queue takes a step
every twenty, so that a wait is known to twenty minutes; and nothing waits for a disk. What people do is invented: how
much they want, when, for how long, and how long they wait for it."""


def page(found: Figures, scale: Scale) -> str:
    """Return the page of the documentation."""
    by_phase, refusals, whole = tables(found)
    parts = ["# A simulated centre", *(__doc__ or "").split("\n\n")[:2]]
    parts += [_SOURCE.format(command=command(scale)), _COARSE, "## By phase", by_phase]
    parts += ["## Refusals at first, by reason"]
    parts += ["Who is refused for the ceiling may ask again to borrow; who finds no room may wait, which most do."]
    parts += [refusals, "## The whole", whole, f"Digest of all figures and of the journal: `{found.digest}`"]
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """The figures are printed; the status is 1 where an invariant did not hold."""
    parser = argparse.ArgumentParser(prog="python -m bench.centre", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED, help=f"what everything is drawn from (default {SEED})")
    parser.add_argument("--days", type=int, default=DAYS, help=f"how long it is watched, 12 at least (default {DAYS})")
    parser.add_argument(
        "--projects",
        type=int,
        default=WHOLE_PROJECTS,
        help=f"4 at least; all else with them (default {WHOLE_PROJECTS})",
    )
    parser.add_argument("--database", help="URL of an empty database that is kept, SQLite or PostgreSQL")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.parent.name}/{PAGE.name} too")
    asked = parser.parse_args(arguments)
    if asked.days < 12 or asked.projects < 4:
        parser.error("a year has at least 12 days and 4 projects, so that each phase and the class are in it")
    scale = Scale(asked.seed, asked.projects, asked.days)
    with contextlib.ExitStack() as stack:
        url = asked.database or stack.enter_context(scratch())
        database = stack.enter_context(contextlib.closing(Database(url)))
        try:
            found = simulate(database, scale, loud=True)
        except Broken as broken:
            print(f"an invariant does not hold: {broken}", file=sys.stderr)
            return 1
    print(page(found, scale), end="")
    if asked.write:
        PAGE.write_text(page(found, scale), encoding="utf-8")
        print(f"written: {PAGE}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
