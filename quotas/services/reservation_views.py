"""Reservations as people see them: where each stands, its windows with their seats, and who claimed one."""

from __future__ import annotations

from dataclasses import dataclass

from quotas.domain.reservations import COMING, ReservationState, Roster, WindowState, unclaimed
from quotas.services.people import unknown
from quotas.store import reservation_windows as windows_store
from quotas.store import reservations as store
from quotas.store.database import Database, Row, Transaction

MOST_LISTED = 500


@dataclass(frozen=True)
class WindowView:
    """One window in seconds UTC: `taken` of its seats run now, `kept` are free for the roster, `claimed` ever were."""

    id: int
    opens_at: int
    starts_at: int
    release_at: int
    ends_at: int
    state: WindowState
    seats: int
    kept: int
    claimed: int
    taken: int

    @property
    def released(self) -> int:
        """How many seats nobody claimed in time."""
        after = {WindowState.RELEASED, WindowState.ENDED}
        return unclaimed(self.seats, self.claimed) if self.state in after else 0


@dataclass(frozen=True)
class ReservationView:
    """One reservation. `windows` are those that were approved; `next_at` is when the next begins."""

    number: int
    project: str
    profile: str
    device_model: str
    device_count: int
    pool: str
    title_ko: str
    title_en: str
    seats: int
    zone: str
    starts_at: int
    seconds: int
    rrule: str | None
    charge_idle: bool
    state: ReservationState
    roster: Roster
    requester: str
    requested_at: int
    decided_by: str | None
    decided_at: int | None
    reason: str | None
    next_at: int | None
    window_count: int
    windows: tuple[WindowView, ...] = ()

    def title(self, language: str) -> str:
        return self.title_ko if language == "ko" else self.title_en

    @property
    def current(self) -> WindowView | None:
        """The window that is open, else the next one to come."""
        coming = [window for window in self.windows if window.state in COMING]
        return next((each for each in coming if each.state is not WindowState.SCHEDULED), coming[0] if coming else None)


@dataclass(frozen=True)
class OnRoster:
    """A person on a roster; `role` is None of one who is no member any more, who can claim nothing."""

    username: str
    display_name: str
    role: str | None


@dataclass(frozen=True)
class Claim:
    """A seat that a person took at `claimed_at` (seconds UTC) with a run; `is_open`: they have it now."""

    window_id: int
    username: str
    display_name: str
    run_id: str
    claimed_at: int
    until_at: int
    is_open: bool


def show(database: Database, number: int) -> ReservationView:
    """Return the reservation with its windows. Raises InvalidValue when there is none of this number."""
    with database.read() as transaction:
        return view(transaction, number)


def view(transaction: Transaction, number: int) -> ReservationView:
    """Return the same, of a transaction's moment."""
    row = store.one(transaction, number)
    if row is None:
        raise unknown("reservation", str(number))
    windows = tuple(_window(each) for each in windows_store.of_reservation(transaction, number))
    coming = [each.starts_at for each in windows if each.state in COMING]
    return _view(row, windows, min(coming, default=None), len(windows))


def latest(database: Database, project: str | None = None, limit: int = MOST_LISTED) -> list[ReservationView]:
    """Return the newest reservations without their windows, newest first, of one project or of all."""
    with database.read() as transaction:
        rows = store.newest(transaction, project, min(limit, MOST_LISTED))
        found = windows_store.summaries(transaction, min((row.id for row in rows), default=0)) if rows else {}
    listed = []
    for row in rows:
        summary = found.get(row.id)
        listed.append(_view(row, (), summary.next_at if summary else None, summary.windows if summary else 0))
    return listed


def roster(database: Database, number: int) -> list[OnRoster]:
    """Return who is on the roster as of now, by username: its list, or all members. Raises InvalidValue."""
    with database.read() as transaction:
        row = store.one(transaction, number)
        if row is None:
            raise unknown("reservation", str(number))
        return on_roster(transaction, row)


def on_roster(transaction: Transaction, row: Row) -> list[OnRoster]:
    """Return the same of a reservation that was read."""
    members = row.roster == Roster.MEMBERS.value
    found = store.members(transaction, row.project_id) if members else store.roster(transaction, row.id)
    return [OnRoster(each.username, each.display_name, each.role) for each in found]


def claims(database: Database, number: int, window_id: int = 0) -> list[Claim]:
    """Return who claimed seats, in the order of time: of one window, or (0) of all of the reservation."""
    with database.read() as transaction:
        return [
            Claim(
                window_id=row.window_id,
                username=row.username,
                display_name=row.display_name,
                run_id=row.run_id,
                claimed_at=row.opened_at,
                until_at=row.until_at,
                is_open=bool(row.is_open),
            )
            for row in store.claims(transaction, number, window_id)
        ]


def _window(row: Row) -> WindowView:
    return WindowView(
        id=row.id,
        opens_at=row.opens_at,
        starts_at=row.starts_at,
        release_at=row.release_at,
        ends_at=row.ends_at,
        state=WindowState(row.state),
        seats=row.seats,
        kept=row.kept,
        claimed=row.claimed,
        taken=row.taken,
    )


def _view(row: Row, windows: tuple[WindowView, ...], next_at: int | None, count: int) -> ReservationView:
    return ReservationView(
        number=row.id,
        project=row.project,
        profile=row.profile,
        device_model=row.device_model,
        device_count=row.device_count,
        pool=row.pool,
        title_ko=row.title_ko,
        title_en=row.title_en,
        seats=row.seats,
        zone=row.zone,
        starts_at=row.starts_at,
        seconds=row.seconds,
        rrule=row.rrule,
        charge_idle=bool(row.charge_idle),
        state=ReservationState(row.state),
        roster=Roster(row.roster),
        requester=row.requester,
        requested_at=row.requested_at,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        reason=row.reason,
        next_at=next_at,
        window_count=count,
        windows=windows,
    )
