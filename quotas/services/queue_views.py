"""The queue as people see it: who waits where, when a turn is to be expected, and how that was estimated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from quotas.domain.admission import Admitted, Request, decide
from quotas.domain.policy import Policy
from quotas.domain.priorities import WISHES, Priority
from quotas.domain.queue import PASSED_OVER, WAITABLE, EntryState, Share, Waiting, in_order
from quotas.domain.refusals import Code, Refused
from quotas.domain.reservations import WindowState
from quotas.domain.runs import RunKind
from quotas.domain.waiting_time import SAMPLE, Coming, Estimate, History, Line, Occupied, Wanted, estimate
from quotas.services.queue_entries import Entry, entry_of
from quotas.services.queue_steps import free, shares_of, usable, waiting_of
from quotas.store import admission as admission_store
from quotas.store import preemption as holders_store
from quotas.store import queue as store
from quotas.store.database import Database, Row, Transaction

MOST_CHANGES = 50
"""How many coming windows, and how many phases, an expectation takes into account."""
LAST = "~"
"""The id of someone who would join now: behind all that came at the same moment."""


@dataclass(frozen=True)
class Place:
    """An entry with its place: the `position`th of `waiting`. None and no estimate for one that is not in the line.

    One that is passed over for its own reason has no position, and `estimate` says when devices are expected.
    """

    entry: Entry
    position: int | None = None
    waiting: int = 0
    estimate: Estimate | None = None

    def passed_over(self, language: str) -> str | None:
        """Return why others pass it, or None."""
        code = self.entry.blocked_by
        if code is None or not self.entry.is_open:
            return None
        korean, english = PASSED_OVER[Code(code)]
        return korean if language == "ko" else english


@dataclass(frozen=True)
class Wait:
    """What a person could wait for on a project: the profile, with one who would wait for it, and what to expect.

    `starts`: with this wish it would be started now, as idle devices are borrowed.
    """

    profile: str
    wish: Priority
    position: int
    estimate: Estimate | None
    starts: bool = False


class _Lines:
    """The lines of device models at one moment, each read once."""

    def __init__(self, transaction: Transaction, now: int) -> None:
        self.transaction = transaction
        self.now = now
        self._rows: dict[str, tuple[list[Waiting], dict[str, Share]]] = {}
        self._lines: dict[str, Line] = {}

    def place(self, row: Row) -> Place:
        entry = entry_of(row)
        if entry.state is not EntryState.WAITING:
            return Place(entry)
        waiting, shares = self._waiting(entry.device_model)
        own = next((each for each in waiting if each.run_id == entry.run_id), None)
        if own is None:
            return Place(entry)
        others = [each for each in waiting if each.run_id != entry.run_id]
        position, expected = self._behind(entry.device_model, others, shares, own)
        return Place(entry, position if entry.blocked_by is None else None, len(others) + 1, expected)

    def joining(self, device_model: str, joining: Waiting) -> tuple[int, Estimate]:
        """Return the position and the expectation of one who would join now."""
        waiting, shares = self._waiting(device_model)
        own = shares_of(store.share(self.transaction, joining.project, self.now), self.now)
        return self._behind(device_model, waiting, {**shares, **own}, joining)

    def _behind(
        self, device_model: str, others: list[Waiting], shares: dict[str, Share], own: Waiting
    ) -> tuple[int, Estimate]:
        in_line = in_order([*(each for each in others if each.blocked_by is None), own], shares)
        before = in_line[: in_line.index(own)]
        wanted = [Wanted(each.device_count, each.seconds) for each in before]
        return len(before) + 1, estimate(own.device_count, wanted, self._line(device_model), self.now)

    def _waiting(self, device_model: str) -> tuple[list[Waiting], dict[str, Share]]:
        if device_model not in self._rows:
            rows = store.line(self.transaction, device_model, self.now)
            self._rows[device_model] = [waiting_of(row) for row in rows], shares_of(rows, self.now)
        return self._rows[device_model]

    def _line(self, device_model: str) -> Line:
        if device_model not in self._lines:
            self._lines[device_model] = _read_line(self.transaction, device_model, self.now)
        return self._lines[device_model]


def _read_line(transaction: Transaction, device_model: str, now: int) -> Line:
    pools = holders_store.pools_of(transaction, device_model, now)
    rows = holders_store.open_holds(transaction, device_model)
    ended, seconds = store.history(transaction, device_model, SAMPLE)
    return Line(
        usable=sum(usable(pool) for pool in pools),
        free=sum(free(pool) for pool in pools),
        occupied=tuple(Occupied(row.device_count, row.opened_at, _known_end(row)) for row in rows),
        coming=(*_windows(transaction, device_model, now), *_phases(transaction, device_model, now, pools)),
        history=History(ended, seconds // ended if ended else None),
    )


def _known_end(row: Row) -> int | None:
    """Return when the run gives its devices back at the latest, None for one that goes on as long as it likes."""
    if row.preempt_at is not None:
        return min(int(row.preempt_at), int(row.until_at))
    if row.kind != RunKind.NOTEBOOK.value or row.window_id is not None or row.warned_at is not None:
        return int(row.until_at)
    return None if row.ends_by is None else int(row.ends_by)


def _windows(transaction: Transaction, device_model: str, now: int) -> Iterator[Coming]:
    """Yield what windows take and give back; seats of one that is to open are taken to be claimed."""
    for row in store.windows(transaction, device_model, now, MOST_CHANGES):
        if row.state == WindowState.SCHEDULED.value:
            yield Coming(row.opens_at, -row.seats * row.device_count)
            yield Coming(row.ends_at, row.seats * row.device_count)
        elif row.kept:
            at = row.release_at if row.state == WindowState.OPEN.value else row.ends_at
            yield Coming(at, row.kept * row.device_count)


def _phases(transaction: Transaction, device_model: str, now: int, pools: list[Row]) -> Iterator[Coming]:
    healthy = {pool.pool_id: pool.healthy for pool in pools}
    for row in store.phases(transaction, device_model, now, MOST_CHANGES):
        yield Coming(row.from_at, row.healthy - healthy.get(row.pool_id, 0))
        healthy[row.pool_id] = row.healthy


def of_person(database: Database, person: str, now: int) -> list[Place]:
    """Return where the person waits, or has a turn; those who came first before."""
    with database.read() as transaction:
        lines = _Lines(transaction, now)
        return [lines.place(row) for row in store.of_person(transaction, person)]


def one(database: Database, run_id: str, now: int) -> Place | None:
    """Return the entry with its place, also one that has ended; None where there is none."""
    with database.read() as transaction:
        row = store.one(transaction, run_id)
        return None if row is None else _Lines(transaction, now).place(row)


def every(database: Database, now: int, limit: int = 1_000) -> list[Place]:
    """Return who waits, or has a turn; those who came first before."""
    with database.read() as transaction:
        lines = _Lines(transaction, now)
        return [lines.place(row) for row in store.open_entries(transaction, limit)]


def waits(
    database: Database, person: str, project: str, profiles: list[str], now: int, policy: Policy
) -> tuple[Wait, ...]:
    """Return for which of the profiles, that were refused, the person can wait, or start on borrowed devices.

    Of each it is the firmest wish with which that is so.
    """
    with database.read() as transaction:
        lines = _Lines(transaction, now)
        found = (_wait(transaction, lines, person, project, profile, policy) for profile in profiles)
        return tuple(wait for wait in found if wait is not None)


def _wait(
    transaction: Transaction, lines: _Lines, person: str, project: str, profile: str, policy: Policy
) -> Wait | None:
    for wish in WISHES:
        asked = Request(LAST, RunKind.NOTEBOOK, person, project, profile, wish=wish)
        situation, _ = admission_store.read_situation(transaction, asked, lines.now, policy)
        decision = decide(asked, situation, lines.now, policy)
        if situation.device_model is None:
            return None
        if isinstance(decision, Admitted):
            return Wait(profile, wish, 0, None, starts=True)
        if decision.code in WAITABLE:
            joining = Waiting(LAST, project, wish, lines.now, situation.device_count)
            position, expected = lines.joining(situation.device_model, joining)
            return Wait(profile, wish, position, expected)
        if decision.code is not Code.CEILING:
            return None
    return None


def with_known_time(database: Database, request: Request, refused: Refused, now: int) -> Refused:
    """Return a refusal for want of devices with the time from which there are some, where known ends say so."""
    if refused.code not in WAITABLE or refused.earliest_at is not None:
        return refused
    with database.read() as transaction:
        lines = _Lines(transaction, now)
        device, needed = refused.numbers.get("device"), refused.numbers.get("needed", 1)
        if not isinstance(device, str) or not isinstance(needed, int):
            return refused
        joining = Waiting(LAST, request.project, request.wish, now, needed, request.seconds)
        _, expected = lines.joining(device, joining)
    at = expected.at if expected.certain else None
    return refused if at is None or at <= now else replace(refused, earliest_at=at)
