"""Devices for tests that have no accelerator: machines that report some, and harmless device files.

The files are character devices with the number of `fuse`, which Docker's own device rules leave out, under names of
the test's own in `/dev`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import select

from quotas.domain.inventory import Cleaning
from quotas.domain.node_reports import DeviceKind, FoundDevice, Report
from quotas.services import cleaning, inventory, nodes
from quotas.store.database import Database
from quotas.store.tables import devices

NUMBER = os.makedev(10, 229)
GROUP = 44
"""A group that owns them, and that no process of a container is in by itself."""
GIB = 2**30
H100 = "NVIDIA H100 80GB HBM3"
UUID = "{kind}-{number:08x}-7e57-4000-8000-000000000000"


@contextlib.contextmanager
def character_devices() -> Iterator[Callable[[str], str]]:
    """Yield what makes a device file, with a name like the one given, and returns its path; all go in the end."""
    made: list[Path] = []

    def make(name: str) -> str:
        path = Path("/dev") / f"{name}-{secrets.token_hex(4)}"
        try:
            os.mknod(path, stat.S_IFCHR | 0o660, NUMBER)
        except PermissionError as error:
            pytest.skip(f"no device can be made here: {error}")
        made.append(path)
        os.chown(path, 0, GROUP)
        path.chmod(0o660)
        return str(path)

    try:
        yield make
    finally:
        for path in made:
            path.unlink(missing_ok=True)


def add_machine(
    database: Database, found: Sequence[FoundDevice], now: int, *, pool: str = "main", clean: Cleaning = Cleaning.NONE
) -> None:
    """A machine of the pool has reported these devices; between two runs the pool does with them what `clean` says."""
    token = nodes.add(database, "gpu-1", pool, actor="tests", now=now)
    cleaning.set_cleaning(database, pool, clean, actor="tests", now=now)
    inventory.take_report(
        database, token, Report(str(uuid.uuid4()), 1, float(now), "0.1.0", 10, devices=tuple(found)), now
    )


def gpu(number: int) -> FoundDevice:
    """Return a whole H100."""
    files = (f"/dev/nvidia{number}", "/dev/nvidiactl")
    name = UUID.format(kind="GPU", number=number)
    return FoundDevice(name, DeviceKind.GPU, H100, 80 * GIB, number, 132, paths=files)


def cut(number: int, slices: int) -> list[FoundDevice]:
    """Return the slices of an H100 that is cut into them."""
    parent = gpu(number)
    return [
        FoundDevice(
            UUID.format(kind="MIG", number=256 * number + each),
            DeviceKind.MIG,
            f"{H100} MIG 1g.10gb",
            10 * GIB,
            100 * number + each,
            16,
            "1g.10gb",
            parent.uuid,
            parent.paths,
        )
        for each in range(slices)
    ]


def npu(number: int, *paths: str) -> FoundDevice:
    """Return an ATOM with these device files."""
    return FoundDevice(f"tests-npu{number}", DeviceKind.NPU, "RBLN-CA02", 16 * GIB, number, paths=paths)


def states(database: Database) -> dict[str, str]:
    """Return the state of each device by its UUID."""
    with database.read() as transaction:
        return {row.uuid: row.state for row in transaction.rows(select(devices.c.uuid, devices.c.state))}
