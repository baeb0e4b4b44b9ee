"""What breaks the invariants of machines and devices: statements on the centre of `tests.services.test_check`."""

# ruff: noqa: S608 - the statements are put together from the words above them

from __future__ import annotations

from tests.services.seat_cases import LATER, OPEN

FIRST = "(SELECT id FROM runs WHERE outcome = 'stopped' AND started_at IS NOT NULL ORDER BY started_at LIMIT 1)"
VOIDED = "(SELECT run_id FROM holds WHERE state = 'voided')"
DEVICE = (
    "INSERT INTO devices (id, node_id, uuid, kind, name, device_model, memory_bytes, paths, position, state, since,"
    " found_at, seen_at) VALUES"
)


def machine(added_at: int, *states: str, pool: int = 1) -> tuple[str, ...]:
    """Return what adds a machine with a device in each of the states, numbered from 1."""
    columns = "(id, name, pool_id, token_sha256, added_at, added_by)"
    return (
        f"INSERT INTO nodes {columns} VALUES (1, 'gpu-1', {pool}, 'x', {added_at}, 'x')",
        *(
            f"{DEVICE} ({number}, 1, 'GPU-{number}', 'gpu', 'H100', 'h100', 1, '[]', {number}, '{state}', 0, 0, 0)"
            for number, state in enumerate(states, start=1)
        ),
    )


def granted(run: str, *devices: int) -> tuple[str, ...]:
    """Return what grants the devices to the run."""
    grant = "INSERT INTO device_grants (run_id, device_id, granted_at) VALUES"
    return tuple(f"{grant} ({run}, {device}, {LATER})" for device in devices)


TWO, THREE = ("available",) * 2, ("available",) * 3
PAUSE = "INSERT INTO run_pauses (run_id, since, until_at, device_id, reason) VALUES"
DEVICE_CASES: list[tuple[set[str], tuple[str, ...]]] = [
    ({"runs_hold_their_devices"}, (*machine(0, *TWO),)),
    ({"runs_hold_their_devices"}, (*machine(LATER, *TWO), *granted(OPEN, 1))),
    ({"runs_hold_their_devices"}, (*machine(0, *THREE), *granted(OPEN, 1, 2), *granted(VOIDED, 3))),
    ({"runs_hold_their_devices"}, (*machine(LATER, *TWO, pool=7), *granted(OPEN, 1, 2))),
    (
        {"runs_hold_their_devices"},
        (*machine(0, *TWO), *granted(OPEN, 1, 2), "UPDATE devices SET device_model = 'another' WHERE id = 2"),
    ),
    ({"drained_are_the_open_drains"}, machine(LATER, "lost")),
    ({"pauses_end_with_their_runs"}, (*machine(LATER, *TWO), f"{PAUSE} ({FIRST}, 0, NULL, 1, 'gone')")),
]
RIGHT_DEVICES = (
    (*machine(0, *TWO), *granted(OPEN, 1, 2), f"{PAUSE} ({OPEN}, {LATER - 50}, NULL, 1, 'gone')"),
    (*machine(LATER, "lost"), "UPDATE pool_devices SET drained = 1"),
    (*machine(LATER, *TWO), f"{PAUSE} ({FIRST}, 0, 5, 1, 'gone')"),
)
