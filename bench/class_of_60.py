"""A class of 60 asks for its servers at the same moment, in containers: ours with default settings, and plain hubs.

The plain JupyterHub has DockerSpawner and an image of the same packages; with its default time limits each start is
timed out by the others, so it is also given limits of 400 s, and those times are what ours are measured against.
"""

import argparse
import contextlib
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import docker
import httpx

from bench.hubs import Class, ours, plain, world
from bench.image_start import PLAIN, build_plain
from bench.measure import Result, at_most, ratio_of
from tests.platform import running

SERVERS = 60
LONG_SECONDS = 400
LIMIT_SECONDS = 600
LOOK_SECONDS = 15
HALF_TARGET = 0.3
ALL_TARGET = 0.5
READY = re.compile(r"^\[I (\S+ \S+) \S+ \S+\] User \S+ took [\d.]+ seconds to start", re.MULTILINE)
"""What a hub prints when a server is ready, with the time; asking it instead would cost what is measured."""


@dataclass(frozen=True)
class Times:
    """When the servers of one class were ready, in seconds from the first request, in order."""

    asked: int
    ready: tuple[float, ...]

    def seconds(self, share: float) -> float | None:
        """When this share of all who asked was ready, or None."""
        needed = round(self.asked * share)
        return self.ready[needed - 1] if len(self.ready) >= needed else None

    def told(self) -> dict[str, Any]:
        """The figures to publish."""
        figures = {"ready": len(self.ready), "of": self.asked}
        for name, share in (("half_seconds", 0.5), ("all_seconds", 1.0)):
            found = self.seconds(share)
            figures[name] = None if found is None else round(found, 1)
        return figures


def class_begins(learners: Class) -> Times:
    """All have asked at once, and those are ready that will be."""
    asked = len(learners.names)
    began, started = datetime.now(), time.monotonic()  # noqa: DTZ005 - the hub's log has the local time too
    with contextlib.suppress(httpx.TimeoutException):
        learners.ask_at_once()
    looked_at = started
    while time.monotonic() - started < LIMIT_SECONDS and len(ready_times(learners.log, began)) < asked:
        if time.monotonic() - looked_at > LOOK_SECONDS:
            looked_at = time.monotonic()
            if not learners.pending():
                break  # the others were given up
        time.sleep(1)
    return Times(asked, ready_times(learners.log, began))


def ready_times(log: Path, began: datetime) -> tuple[float, ...]:
    """The seconds from `began` to each line in the hub's log that tells of a ready server."""
    told = (datetime.fromisoformat(at) for at in READY.findall(log.read_text(errors="replace")))
    return tuple(sorted((at - began).total_seconds() for at in told if at >= began))


def our_class(servers: int) -> Times:
    """Ours, with default settings."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder), server=None, backend="docker", reconciler=True, world=world(servers)) as platform,
    ):
        return class_begins(ours(platform, servers))


def plain_class(servers: int, timeout: int | None) -> Times:
    """A plain hub, with its default time limits or with `timeout`."""
    with (
        tempfile.TemporaryDirectory() as folder,
        plain_network() as (network, gateway),
        plain(Path(folder), servers, image=PLAIN, network=network, gateway=gateway, timeout=timeout) as learners,
    ):
        return class_begins(learners)


@contextlib.contextmanager
def plain_network() -> Iterator[tuple[str, str]]:
    """Yield the name and gateway of a bridge network; it and all containers in it are gone afterwards."""
    name = "mudeung-bench-plain"
    with contextlib.closing(docker.from_env(timeout=120)) as client:
        network = client.networks.create(name, driver="bridge")
        try:
            network.reload()
            yield name, network.attrs["IPAM"]["Config"][0]["Gateway"].partition("/")[0]
        finally:
            for container in client.containers.list(all=True, filters={"network": name}):
                container.remove(force=True)
            network.remove()


def measure(servers: int = SERVERS, *, with_defaults: bool = True) -> list[Result]:
    """The figures: until half of the class is ready, and all of it, ours to the plain hub's with long limits."""
    with contextlib.closing(docker.from_env(timeout=600)) as client:
        build_plain(client)
    patient, ourselves = plain_class(servers, LONG_SECONDS), our_class(servers)
    detail: dict[str, Any] = {"unit": "seconds", "ours": ourselves.told(), "plain_400_s": patient.told()}
    if with_defaults:
        detail["plain_defaults"] = plain_class(servers, None).told()
    targets = (("class_half_ready", 0.5, HALF_TARGET), ("class_all_ready", 1.0, ALL_TARGET))
    return [
        at_most(name, ratio_of([_or_limit(ourselves, share)], [_or_limit(patient, share)]), target, detail)
        for name, share, target in targets
    ]


def _or_limit(times: Times, share: float) -> float:
    """When this share was ready; the limit where it never was, which flatters nobody who was."""
    found = times.seconds(share)
    return LIMIT_SECONDS if found is None else found


def main(arguments: list[str] | None = None) -> int:
    """The figures are printed as lines of JSON; the status is 0 when all are met."""
    parser = argparse.ArgumentParser(prog="python -m bench.class_of_60", description=__doc__)
    parser.add_argument("--servers", type=int, default=SERVERS, help=f"size of the class (default {SERVERS})")
    parser.add_argument("--no-defaults", action="store_true", help="leave out the plain hub with default time limits")
    asked = parser.parse_args(arguments)
    results = measure(asked.servers, with_defaults=not asked.no_defaults)
    for result in results:
        print(result.to_json())
    return 0 if all(result.met for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
