"""Classes for tests of reservations: a course's lecture on Monday mornings in the small centre of eight devices."""

from __future__ import annotations

from sqlalchemy import select

from quotas.domain.reservations import Asked
from quotas.domain.runs import Outcome
from quotas.services import admission, check, reservations
from quotas.services.reservation_views import ReservationView, WindowView, show
from quotas.services.reservations import Approval
from quotas.store import notices
from quotas.store.database import Row
from quotas.store.tables import audit_events, pool_devices, runs
from tests.services.centre import GPU_GFLOPS, POLICY, START, Centre

HOUR = 3_600
LECTURE = 1_800_230_400
"""2027-01-18 09:00 KST, a Monday, two and a half days after the awards start."""
OPENS = LECTURE - POLICY.seats_early
RELEASE = LECTURE + POLICY.seats_release
LENGTH = 3 * HOUR
ENDS = LECTURE + LENGTH
WEEK = 7 * 86_400
PLENTY = 10**9 * GPU_GFLOPS


def asked(**changes: object) -> Asked:
    values: dict[str, object] = {
        "project": "vision",
        "profile": "gpu",
        "seats": 4,
        "zone": "Asia/Seoul",
        "starts_at": LECTURE,
        "seconds": LENGTH,
        "title_ko": "딥러닝 실습",
        "title_en": "Deep learning lab",
    }
    return Asked(**(values | changes))  # type: ignore[arg-type]


def requested(centre: Centre, *, now: int = START, by: str = "ada", **changes: object) -> int:
    """Ask as the PI does; return the reservation's number."""
    found, _ = reservations.request(centre.database, asked(**changes), by=by, now=now, policy=POLICY)
    return found.number


def approve(centre: Centre, number: int, *, now: int = START, **how: object) -> ReservationView:
    approval = Approval(**how)  # type: ignore[arg-type]
    found, _ = reservations.approve(centre.database, number, approval, actor="operator", now=now, policy=POLICY)
    return found


def approved(centre: Centre, *, now: int = START, **changes: object) -> ReservationView:
    """Ask and approve; return the reservation."""
    return approve(centre, requested(centre, now=now, **changes), now=now)


def tick(centre: Centre, now: int) -> dict[str, int]:
    """The loop comes by; return what it did."""
    return {name: times for name, times in reservations.tick(centre.database, now, POLICY).items() if times}


def window(centre: Centre, number: int, place: int = 0) -> WindowView:
    return show(centre.database, number).windows[place]


def seats(centre: Centre, number: int, place: int = 0) -> tuple[str, int, int, int]:
    """Return (state, kept, claimed, taken) of one of the reservation's windows."""
    found = window(centre, number, place)
    return found.state.value, found.kept, found.claimed, found.taken


def devices(centre: Centre, pool: int = 1) -> tuple[int, int]:
    """Return (in use, reserved) of the pool."""
    with centre.database.read() as transaction:
        row = transaction.one(select(pool_devices).where(pool_devices.c.pool_id == pool))
    return row.in_use, row.reserved


def leave(centre: Centre, run_id: str, started_at: int, now: int) -> admission.Charge:
    """The person stops their server at `now`."""
    ended = admission.Ended(started_at, now, Outcome.STOPPED)
    charge = admission.settle(centre.database, run_id, ended, now)
    assert charge is not None
    return charge


def seats_runs(centre: Centre) -> list[Row]:
    with centre.database.read() as transaction:
        return transaction.rows(select(runs).where(runs.c.kind == "seats").order_by(runs.c.id))


def told(centre: Centre, username: str, kind: str = "seats_open") -> list[Row]:
    with centre.database.read() as transaction:
        return [row for row in notices.of_person(transaction, username, 0, 100) if row.kind == kind]


def noted(centre: Centre, action: str) -> int:
    """Return how many audit events there are of this action."""
    with centre.database.read() as transaction:
        return len(transaction.rows(select(audit_events.c.id).where(audit_events.c.action == action)))


def sound(centre: Centre, now: int) -> None:
    """No invariant is broken."""
    assert check.findings(centre.database, now) == []
