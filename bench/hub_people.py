"""What people cost the hub who are known to it and have no server: memory, a restart, and lists of them.

A hub of ours is given so many people, ended, and started anew with all of them; then it is asked for its active
servers, as the loops ask each round, for a page of people, and for all of them page by page. Every figure is of one
process on this machine, and what it takes of memory is what the system says it has.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from quotas.services import people
from quotas.store.database import Database
from tests.platform import BY, Platform, build_world, running

SIZES = (100, 1_000, 5_000)
PAGE, AT_ONCE = 200, 500
MIB = 2**20


def build(database: Database, now: int, size: int) -> None:
    """The ledger has so many people."""
    build_world(database, now)
    for name in names(size):
        people.add_person(database, name, name, organisation="lab", language="en", actor=BY, now=now)


def names(size: int) -> list[str]:
    return [f"known{number:05d}" for number in range(size)]


def pages(platform: Platform) -> Iterator[list[dict[str, Any]]]:
    """Yield the people that the hub knows, a page at a time."""
    offset = 0
    while page := platform.admin("GET", f"/users?limit={PAGE}&offset={offset}").raise_for_status().json():
        yield page
        offset += len(page)


def spent(began: float) -> float:
    return round(time.perf_counter() - began, 3)


def measure(folder: Path, size: int) -> dict[str, Any]:
    """Return the figures with so many people."""
    with running(folder, world=lambda database, now: build(database, now, size)) as platform:
        known = names(size)
        for at in range(0, size, AT_ONCE):
            platform.admin("POST", "/users", json={"usernames": known[at : at + AT_ONCE]}).raise_for_status()
        platform.kill("hub")
        began = time.perf_counter()
        platform.start_hub()
        restart = spent(began)
        memory = psutil.Process(platform.processes["hub"].pid).memory_info().rss
        began = time.perf_counter()
        platform.admin("GET", "/users?state=active").raise_for_status()
        active = spent(began)
        began = time.perf_counter()
        platform.admin("GET", f"/users?limit={PAGE}").raise_for_status()
        page = spent(began)
        began = time.perf_counter()
        counted = sum(map(len, pages(platform)))
        if counted < size:
            raise RuntimeError(f"the hub knows {counted} of {size} people")
        after = psutil.Process(platform.processes["hub"].pid).memory_info().rss
        return {
            "people": size,
            "restart_seconds": restart,
            "active_seconds": active,
            "page_seconds": page,
            "all_seconds": spent(began),
            "started_mib": memory // MIB,
            "listed_mib": after // MIB,
        }


def main(arguments: list[str] | None = None) -> int:
    """A line of JSON is printed for each size."""
    parser = argparse.ArgumentParser(prog="python -m bench.hub_people", description=__doc__)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="how many people, each of them")
    for size in map(int, parser.parse_args(arguments).sizes.split(",")):
        with tempfile.TemporaryDirectory(prefix="hub-people-") as folder:
            print(json.dumps(measure(Path(folder), size)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
