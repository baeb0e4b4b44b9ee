"""What breaks the invariants of reservations, as statements on the centre of :mod:`tests.services.test_check`."""

# ruff: noqa: S608 - the statements are put together from the words above them

from __future__ import annotations

from tests.services.centre import DAY, GPU_GFLOPS, START

LATER = START + DAY + 10_000
OPEN = "(SELECT run_id FROM holds WHERE state = 'open' AND device_count = 2)"
"""A notebook of ada's on two devices, held from 100 seconds before `LATER`."""
RESERVATION = (
    "INSERT INTO reservations (id, project_id, profile_id, pool_id, title_ko, title_en, seats, zone, starts_at,"
    " seconds, charge_idle, state, requested_at, requested_by, decided_at, roster)"
    f" VALUES (1, 1, 2, 1, '수업', 'Class', 4, 'Asia/Seoul', {LATER - 300}, 7200, 0, 'approved', 0, 1, {LATER - 9000},"
    " 'listed')"
)
ON_THE_ROSTER = "INSERT INTO reservation_roster (reservation_id, person_id, added_at) VALUES (1, 1, 0)"


def window(
    state: str,
    kept: int,
    claimed: int,
    *,
    seats: int = 4,
    opened: int = 900,
    lasts: int = 7_200,
    pool: int = 1,
    project: int = 1,
) -> str:
    """Return the statement that adds a window of two-device seats that opened so long ago and lasts from then."""
    opens = LATER - opened
    instants = f"{opens}, {opens + 600}, {opens + 1500}, {opens + lasts}"
    return (
        "INSERT INTO reservation_windows (id, reservation_id, project_id, profile_id, pool_id, device_model,"
        " device_count, seats, opens_at, starts_at, release_at, ends_at, state, kept, claimed)"
        f" VALUES (1, 1, {project}, 2, {pool}, 'h100', 2, {seats}, {instants}, '{state}', {kept}, {claimed})"
    )


def kept(seats: int) -> str:
    return f"UPDATE pool_devices SET reserved = {2 * seats} WHERE pool_id = 1"


CLAIMED = (
    f"UPDATE holds SET priority = 'reserved', window_id = 1 WHERE run_id = {OPEN}",
    f"UPDATE allocations SET in_use_gflops = in_use_gflops - {2 * GPU_GFLOPS} WHERE id = 1",
)
"""The notebook has a seat of the window."""
SEATS = "seats_are_the_rosters"
TOO_MANY = "no_more_seats_than_the_window_has"
KEPT = "reserved_devices_are_the_kept_seats"

SEAT_CASES: list[tuple[set[str], tuple[str, ...]]] = [
    ({KEPT}, ("UPDATE pool_devices SET reserved = 1",)),
    ({KEPT}, (RESERVATION, window("open", 2, 0))),
    ({KEPT}, (RESERVATION, window("ended", 1, 0), kept(1))),
    ({KEPT}, (RESERVATION, window("open", 1, 0, pool=7))),
    ({TOO_MANY}, (RESERVATION, window("released", 0, 5))),
    ({TOO_MANY}, (RESERVATION, window("open", 1, 1, seats=1), ON_THE_ROSTER, kept(1), *CLAIMED)),
    ({TOO_MANY}, (RESERVATION, window("open", 1, 0, seats=2), ON_THE_ROSTER, kept(1), *CLAIMED)),
    ({SEATS}, (RESERVATION, window("open", 1, 1), kept(1), *CLAIMED)),
    ({SEATS}, (RESERVATION, window("open", 1, 1, opened=99), ON_THE_ROSTER, kept(1), *CLAIMED)),
    ({SEATS}, (RESERVATION, window("open", 1, 1, lasts=1800), ON_THE_ROSTER, kept(1), *CLAIMED)),
    (
        {SEATS},
        (
            RESERVATION,
            window("open", 1, 1),
            f"{ON_THE_ROSTER.replace('added_at', 'added_at, removed_at').replace('0)', f'0, {LATER - 500})')}",
            kept(1),
            *CLAIMED,
        ),
    ),
    ({SEATS}, (RESERVATION, window("open", 1, 1, project=2), ON_THE_ROSTER, kept(1), *CLAIMED)),
    ({SEATS}, (CLAIMED[0].replace("window_id = 1", "window_id = NULL"), CLAIMED[1])),
    ({"nothing_admitted_into_kept_seats"}, (RESERVATION, window("open", 4, 0), kept(4))),
]
RIGHT_SEATS: list[tuple[str, ...]] = [
    (RESERVATION, window("open", 3, 1), ON_THE_ROSTER, kept(3), *CLAIMED),
    (RESERVATION, window("open", 3, 0), kept(3)),
    (
        RESERVATION,
        window("open", 4, 0).replace("'open'", "'scheduled'").replace(", 4, 0)", ", 0, 0)"),
    ),
    # Admitted before the windows were approved, or to end before; and devices went missing since.
    (RESERVATION.replace(str(LATER - 9000), str(LATER - 50)), window("open", 4, 0), kept(4)),
    (RESERVATION, window("open", 4, 0), kept(4), f"UPDATE holds SET ends_by = {LATER - 10} WHERE run_id = {OPEN}"),
    (RESERVATION, window("open", 4, 0), kept(4), f"UPDATE capacity_phases SET from_at = {LATER - 60}"),
]
