"""The waiting queue's rows: who waits for a device model, with all that their order follows from.

Only open entries are read, and what is read of the ledger is found by an index: no statement grows with it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, BindParameter, Select, and_, bindparam, func, insert, literal, select, update

from quotas.domain.ledger import AccountKind
from quotas.domain.queue import DOOR, EntryState, Mode
from quotas.domain.reservations import WindowState
from quotas.domain.runs import HoldState, RunKind, RunState
from quotas.store.admission import chosen_allocation
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import (
    accounts,
    allocations,
    awards,
    capacity_phases,
    charges,
    device_models,
    holds,
    persons,
    profiles,
    projects,
    queue_entries,
    reservation_windows,
    runs,
)

_run: BindParameter[str] = bindparam("run")
_now: BindParameter[int] = bindparam("now", type_=BigInteger)
_limit: BindParameter[int] = bindparam("limit", type_=BigInteger)
_entry = queue_entries.c


def _word(text: str) -> BindParameter[Any]:
    return literal(text, literal_execute=True)


_is_open = _entry.ended_at.is_(None)
_is_waiting = and_(_entry.state == _word(EntryState.WAITING.value), _is_open)
_is_turn = and_(_entry.state == _word(EntryState.TURN.value), _is_open)
_is_notebook = _entry.kind == _word(RunKind.NOTEBOOK.value)

_ENTRY = (
    select(
        *queue_entries.c,
        persons.c.username.label("person"),
        projects.c.code.label("project"),
        projects.c.title_ko,
        projects.c.title_en,
        profiles.c.code.label("profile"),
        profiles.c.name_ko,
        profiles.c.name_en,
        device_models.c.name.label("device_name"),
    )
    .join(persons, persons.c.id == _entry.person_id)
    .join(projects, projects.c.id == _entry.project_id)
    .join(profiles, profiles.c.id == _entry.profile_id)
    .join(device_models, device_models.c.code == _entry.device_model)
)
_ONE = Prepared(_ENTRY.where(_entry.run_id == _run))
_OPEN_NOTEBOOK = Prepared(
    _ENTRY.where(
        _is_notebook, _is_open, persons.c.username == bindparam("person"), projects.c.code == bindparam("project")
    )
)
_OPEN = Prepared(_ENTRY.where(_is_open).order_by(_entry.joined_at, _entry.run_id).limit(_limit))
_OPEN_OF_PERSON = Prepared(
    _ENTRY.where(_is_open, persons.c.username == bindparam("person")).order_by(_entry.joined_at, _entry.run_id)
)
_OVER = Prepared(
    _ENTRY.where(_is_turn, _entry.device_model == bindparam("model"), _entry.turn_until <= _now)
    .order_by(_entry.turn_until, _entry.run_id)
    .limit(_limit)
)
_TO_START = Prepared(
    _ENTRY.where(
        _is_turn,
        _is_notebook,
        _entry.mode == _word(Mode.START.value),
        _entry.turn_until > _now,
        func.coalesce(_entry.asked_at, 0) <= bindparam("asked_before", type_=BigInteger),
    )
    .order_by(_entry.turn_at, _entry.run_id)
    .limit(_limit)
)
_MODELS = Prepared(select(_entry.device_model).where(_is_open).distinct().order_by(_entry.device_model))
_COUNT_OF_MODEL = Prepared(
    select(func.count().label("entries")).where(_is_waiting, _entry.device_model == bindparam("model"))
)
_COUNT_OF_PERSON = Prepared(
    select(func.count().label("entries")).where(
        _is_open, _is_notebook, _entry.person_id == bindparam("person_id", type_=BigInteger)
    )
)

_held = accounts.alias("held")
_SHARES = (
    projects.c.code.label("project"),
    allocations.c.decayed_use,
    allocations.c.decayed_at,
    awards.c.gflops.label("award_gflops"),
    _held.c.balance.label("held"),
)


def _with_shares(statement: Select[Any]) -> Select[Any]:
    """Return the statement, which has the projects, with what their fair shares follow from."""
    return (
        statement.outerjoin(allocations, allocations.c.id == chosen_allocation)
        .outerjoin(awards, awards.c.id == allocations.c.award_id)
        .outerjoin(
            _held,
            and_(_held.c.allocation_id == allocations.c.id, _held.c.kind == _word(AccountKind.HELD.value)),
        )
    )


_SHARE = Prepared(_with_shares(select(*_SHARES).select_from(projects)).where(projects.c.code == bindparam("project")))
_LINE = Prepared(
    _with_shares(
        select(
            _entry.run_id,
            _entry.kind,
            _entry.wish,
            _entry.joined_at,
            _entry.device_count,
            _entry.seconds,
            _entry.blocked_by,
            *_SHARES,
        ).join(projects, projects.c.id == _entry.project_id)
    ).where(_is_waiting, _entry.device_model == bindparam("model"))
)

_LAST = (
    select(charges.c.seconds)
    .select_from(holds)
    .join(charges, charges.c.run_id == holds.c.run_id)
    .where(
        holds.c.state == _word(HoldState.POSTED.value),
        holds.c.device_model.is_not(None),
        holds.c.device_model == bindparam("model"),
    )
    .order_by(holds.c.closed_at.desc())
    .limit(_limit)
    .subquery("last")
)
_HISTORY = Prepared(
    select(func.count().label("runs"), func.coalesce(func.sum(_LAST.c.seconds), 0).label("seconds")).select_from(_LAST)
)

_WINDOWS = Prepared(
    select(
        reservation_windows.c.state,
        reservation_windows.c.device_count,
        reservation_windows.c.seats,
        reservation_windows.c.kept,
        reservation_windows.c.opens_at,
        reservation_windows.c.release_at,
        reservation_windows.c.ends_at,
    )
    .where(
        reservation_windows.c.device_model == bindparam("model"),
        reservation_windows.c.state.in_(
            [_word(each.value) for each in (WindowState.SCHEDULED, WindowState.OPEN, WindowState.RELEASED)]
        ),
        reservation_windows.c.ends_at > _now,
    )
    .order_by(reservation_windows.c.opens_at, reservation_windows.c.id)
    .limit(_limit)
)
_PHASES = Prepared(
    select(capacity_phases.c.pool_id, capacity_phases.c.from_at, capacity_phases.c.healthy)
    .where(capacity_phases.c.device_model == bindparam("model"), capacity_phases.c.from_at > _now)
    .order_by(capacity_phases.c.from_at, capacity_phases.c.pool_id)
    .limit(_limit)
)

_ADD = Prepared(
    insert(queue_entries).values(
        {
            name: bindparam(name)
            for name in (
                "run_id",
                "kind",
                "person_id",
                "project_id",
                "profile_id",
                "device_model",
                "device_count",
                "seconds",
                "wish",
                "mode",
                "joined_at",
            )
        }
        | {"state": _word(EntryState.WAITING.value)}
    )
)
_CHOOSE = Prepared(
    update(queue_entries)
    .where(_entry.run_id == _run, _is_open)
    .values(wish=bindparam("wish"), mode=bindparam("mode"), asked_at=None)
)
_BLOCK = Prepared(
    update(queue_entries).where(_entry.run_id == _run, _is_waiting).values(blocked_by=bindparam("blocked_by"))
)
_TO_TURN = Prepared(
    update(queue_entries)
    .where(_entry.run_id == _run, _is_waiting)
    .values(
        state=_word(EntryState.TURN.value), blocked_by=None, turn_at=_now, turn_until=bindparam("until"), asked_at=None
    )
)
_END = Prepared(
    update(queue_entries)
    .where(_entry.run_id == _run, _is_open, _entry.state == bindparam("old_state"))
    .values(
        state=bindparam("new_state"),
        ended_at=_now,
        reason_ko=bindparam("reason_ko"),
        reason_en=bindparam("reason_en"),
    )
)
_ASKED = Prepared(
    update(queue_entries)
    .where(
        _entry.run_id == _run,
        _is_turn,
        func.coalesce(_entry.asked_at, 0) <= bindparam("asked_before", type_=BigInteger),
    )
    .values(asked_at=_now)
)
_HAND_OVER = Prepared(
    update(runs)
    .where(runs.c.id == _run, runs.c.door == _word(DOOR), runs.c.state == _word(RunState.HELD.value))
    .values(door=bindparam("door"), requested_at=_now)
)


def one(transaction: Transaction, run_id: str) -> Row | None:
    """Return the entry of the run that it becomes, with names, or None."""
    return transaction.one(_ONE, run=run_id)


def open_notebook(transaction: Transaction, person: str, project: str) -> Row | None:
    """Return the person's entry for a server on the project that waits or is in its turn, or None."""
    return transaction.one(_OPEN_NOTEBOOK, person=person, project=project)


def open_entries(transaction: Transaction, limit: int) -> list[Row]:
    """Return entries that wait or are in their turn, those who came first before."""
    return transaction.rows(_OPEN, limit=limit)


def of_person(transaction: Transaction, person: str) -> list[Row]:
    """Return the person's entries that wait or are in their turn."""
    return transaction.rows(_OPEN_OF_PERSON, person=person)


def over(transaction: Transaction, device_model: str, now: int, limit: int) -> list[Row]:
    """Return entries whose turn was not taken in time."""
    return transaction.rows(_OVER, model=device_model, now=now, limit=limit)


def to_start(transaction: Transaction, now: int, asked_before: int, limit: int) -> list[Row]:
    """Return entries in their turn whose servers the hub is to be asked for, if it was not asked lately."""
    return transaction.rows(_TO_START, now=now, asked_before=asked_before, limit=limit)


def models(transaction: Transaction) -> list[str]:
    """Return the device models for which someone waits or has a turn."""
    return [row.device_model for row in transaction.rows(_MODELS)]


def count_of_model(transaction: Transaction, device_model: str) -> int:
    """Return how many wait for the model."""
    row = transaction.one(_COUNT_OF_MODEL, model=device_model)
    return int(row.entries) if row is not None else 0


def count_of_person(transaction: Transaction, person_id: int) -> int:
    """Return for how many servers the person waits."""
    row = transaction.one(_COUNT_OF_PERSON, person_id=person_id)
    return int(row.entries) if row is not None else 0


def line(transaction: Transaction, device_model: str, now: int) -> list[Row]:
    """Return all who wait for the model, in no order, with their projects' use, what is held for them, and awards."""
    return transaction.rows(_LINE, model=device_model, now=now)


def share(transaction: Transaction, project: str, now: int) -> list[Row]:
    """Return the project's use, what is held for it, and its award, as one row; none for an unknown project."""
    return transaction.rows(_SHARE, project=project, now=now)


def history(transaction: Transaction, device_model: str, limit: int) -> tuple[int, int]:
    """Return (how many of the last runs on the model there are, up to `limit`, and their seconds together)."""
    row = transaction.one(_HISTORY, model=device_model, limit=limit)
    return (int(row.runs), int(row.seconds)) if row is not None else (0, 0)


def windows(transaction: Transaction, device_model: str, now: int, limit: int) -> list[Row]:
    """Return the next windows of reservations that keep devices of the model, or will, and have not ended."""
    return transaction.rows(_WINDOWS, model=device_model, now=now, limit=limit)


def phases(transaction: Transaction, device_model: str, now: int, limit: int) -> list[Row]:
    """Return the next phases of the model's pools."""
    return transaction.rows(_PHASES, model=device_model, now=now, limit=limit)


def add(transaction: Transaction, **values: object) -> None:
    """The entry waits. Raises Conflict where the person waits for a server on the project already."""
    transaction.run(_ADD, **values)


def choose(transaction: Transaction, run_id: str, *, wish: str, mode: str) -> bool:
    """The open entry asks as firmly as `wish` says, and for what `mode` says; the hub is not asked for it yet."""
    return transaction.run(_CHOOSE, run=run_id, wish=wish, mode=mode) == 1


def block(transaction: Transaction, run_id: str, reason: str | None) -> bool:
    """The waiting entry keeps nobody from starting while `reason` keeps it; None: it does again."""
    return transaction.run(_BLOCK, run=run_id, blocked_by=reason) == 1


def to_turn(transaction: Transaction, run_id: str, now: int, until: int) -> bool:
    """The entry is in its turn until `until`; False when it waits no more."""
    return transaction.run(_TO_TURN, run=run_id, now=now, until=until) == 1


def end(transaction: Transaction, entry: Row, state: EntryState, now: int, reasons: tuple[str, str] | None) -> bool:
    """The entry has ended as `state`, for the reason in Korean and English; False when it changed meanwhile."""
    reason_ko, reason_en = reasons or (None, None)
    changed = transaction.run(
        _END,
        run=entry.run_id,
        old_state=entry.state,
        new_state=state.value,
        now=now,
        reason_ko=reason_ko,
        reason_en=reason_en,
    )
    return changed == 1


def asked(transaction: Transaction, run_id: str, now: int, asked_before: int) -> bool:
    """The hub is being asked for the server by this caller; False when it was asked since `asked_before`."""
    return transaction.run(_ASKED, run=run_id, now=now, asked_before=asked_before) == 1


def hand_over(transaction: Transaction, run_id: str, door: str, now: int) -> bool:
    """The run held for a turn is that of `door` from now on; False when it is nobody's to take any more."""
    return transaction.run(_HAND_OVER, run=run_id, door=door, now=now) == 1
