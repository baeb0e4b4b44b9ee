"""What a running server is told of itself, and what it says: readings, pauses, activity, unread notices."""

from __future__ import annotations

from sqlalchemy import BigInteger, BindParameter, bindparam, case, insert, or_, select, update

from quotas.domain.runs import RunState
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import device_grants, devices, notices, profiles, run_activity, run_pauses, runs

ENDING = "run ending"
"""The kind of the notices that a run will be stopped."""
MOST_NOTICES = 5
NEVER_REPORTED = 0
"""When a server reported that has not yet; its person may have said that they need it all the same."""

_run: BindParameter[str] = bindparam("run")
_person: BindParameter[int] = bindparam("person", type_=BigInteger)
_at: BindParameter[int] = bindparam("at", type_=BigInteger)
_active: BindParameter[int] = bindparam("active", type_=BigInteger)

_PROFILE = Prepared(
    select(profiles.c.name_ko, profiles.c.name_en, profiles.c.idle_seconds, profiles.c.session_seconds)
    .join(runs, runs.c.profile_id == profiles.c.id)
    .where(runs.c.id == _run)
)
_DEVICES = Prepared(
    select(devices.c.name, devices.c.state, devices.c.busy_ppm, devices.c.read_at, device_grants.c.granted_at)
    .join(devices, devices.c.id == device_grants.c.device_id)
    .where(device_grants.c.run_id == _run, device_grants.c.released_at.is_(None))
    .order_by(devices.c.position, devices.c.id)
)
_PAUSE = Prepared(
    select(run_pauses.c.since, run_pauses.c.reason).where(run_pauses.c.run_id == _run, run_pauses.c.until_at.is_(None))
)
_ACTIVITY = Prepared(select(run_activity).where(run_activity.c.run_id == _run))
_about_it = or_(notices.c.about == _run, notices.c.about.like(bindparam("about")))
_UNREAD = Prepared(
    select(notices.c.id, notices.c.at, notices.c.text_en, notices.c.text_ko)
    .where(notices.c.person_id == _person, notices.c.read_at.is_(None), _about_it)
    .order_by(notices.c.id.desc())
    .limit(MOST_NOTICES)
)
_READ_ENDING = Prepared(
    update(notices)
    .where(notices.c.person_id == _person, notices.c.read_at.is_(None), notices.c.kind == ENDING, _about_it)
    .values(read_at=_at)
)
_KEEP = Prepared(
    update(runs)
    .where(runs.c.id == _run, runs.c.state != RunState.SETTLED.value)
    .values(idle_stop_at=None, session_ends_at=bindparam("session_ends_at", type_=BigInteger))
)
_NOTE_KEPT = Prepared(update(run_activity).where(run_activity.c.run_id == _run).values(kept_at=_at))
_NOTE_ACTIVITY = Prepared(
    update(run_activity)
    .where(run_activity.c.run_id == _run)
    .values(
        reported_at=_at,
        busy_kernels=bindparam("kernels"),
        active_at=case(
            (_active.is_(None), run_activity.c.active_at),
            (run_activity.c.active_at > _active, run_activity.c.active_at),
            else_=_active,
        ),
    )
)
_INSERT = Prepared(
    insert(run_activity).values(
        run_id=_run,
        reported_at=_at,
        busy_kernels=bindparam("kernels"),
        active_at=_active,
        kept_at=bindparam("kept", type_=BigInteger),
    )
)


def profile(transaction: Transaction, run_id: str) -> Row | None:
    """Return (name_ko, name_en, idle_seconds, session_seconds) of the run's profile."""
    return transaction.one(_PROFILE, run=run_id)


def devices_of(transaction: Transaction, run_id: str) -> list[Row]:
    """Return (name, state, busy_ppm, read_at, granted_at) of the devices that the run holds."""
    return transaction.rows(_DEVICES, run=run_id)


def pause(transaction: Transaction, run_id: str) -> Row | None:
    """Return (since, reason) of the pause of its charge that goes on, or None."""
    return transaction.one(_PAUSE, run=run_id)


def activity(transaction: Transaction, run_id: str) -> Row | None:
    """Return what the server last said of itself, or None."""
    return transaction.one(_ACTIVITY, run=run_id)


def unread(transaction: Transaction, person_id: int, run_id: str) -> list[Row]:
    """Return (id, at, text_en, text_ko) of the newest notices of the run that the person has not read."""
    return transaction.rows(_UNREAD, person=person_id, run=run_id, about=f"{run_id}:%")


def keep(transaction: Transaction, run_id: str, session_ends_at: int | None, now: int) -> bool:
    """The open run's person needs it: no idleness ends it, and its session goes on; return whether it was open."""
    if transaction.run(_KEEP, run=run_id, session_ends_at=session_ends_at) != 1:
        return False
    if transaction.run(_NOTE_KEPT, run=run_id, at=now) == 0:
        transaction.run(_INSERT, run=run_id, at=NEVER_REPORTED, kernels=0, active=None, kept=now)
    return True


def read_ending(transaction: Transaction, person_id: int, run_id: str, now: int) -> None:
    """The person has read what they were told of the run's end."""
    transaction.run(_READ_ENDING, person=person_id, run=run_id, about=f"{run_id}:%", at=now)


def note_activity(transaction: Transaction, run_id: str, kernels: int, active_at: int | None, now: int) -> None:
    """What the server says of itself is kept; its last activity never goes back. May raise Conflict the first time."""
    if transaction.run(_NOTE_ACTIVITY, run=run_id, kernels=kernels, active=active_at, at=now) == 0:
        transaction.run(_INSERT, run=run_id, at=now, kernels=kernels, active=active_at, kept=None)
