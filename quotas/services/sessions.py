"""A running server as its person sees it from within, what it says of itself, and its extension by its person."""

from __future__ import annotations

from dataclasses import dataclass

from quotas.domain.people import MembershipRole
from quotas.domain.policy import Policy
from quotas.domain.runs import HoldState, RunKind
from quotas.domain.sessions import (
    FRESH_SECONDS,
    Activity,
    Device,
    Extending,
    Facts,
    Notice,
    Remaining,
    extending,
)
from quotas.services import admission, time_left
from quotas.store import audit, grants, keys
from quotas.store import runs as runs_store
from quotas.store import sessions as store
from quotas.store.database import Conflict, Database, DatabaseAway, Row, Transaction

ATTEMPTS = 3


@dataclass(frozen=True)
class Extended:
    """How the run stands after its person asked to extend it; `extended` where that gained something."""

    facts: Facts
    extended: bool


def facts(database: Database, run_id: str, now: int, policy: Policy) -> Facts | None:
    """Return how the open run stands; None for one that has ended, or that there is not."""
    with database.read() as transaction:
        row = _open(transaction, run_id)
        return None if row is None else _facts(transaction, row, now, policy)


def extend(database: Database, run_id: str, now: int, policy: Policy) -> Extended | None:
    """The person needs the server: no idleness ends it, its session begins anew, its hold reaches as far as it may.

    What was told of its end before is read. None for a run that has ended, or that there is not; one that is being
    stopped, and a batch run, stay as they are.
    """
    with database.write() as transaction:
        row = _open(transaction, run_id)
        if row is None:
            return None
        profile = store.profile(transaction, run_id)
        before, found = _standing(transaction, row, profile, now, policy)
        if row.kind == RunKind.NOTEBOOK.value and before.stop_at > now:
            store.keep(transaction, run_id, _session_end(profile, now), now)
        if found.possible:
            if row.ends_by is None:  # the loss of its devices is told once, whatever its person does
                transaction.run(runs_store.UNMARK_WARNED, run=run_id)
            store.read_ending(transaction, row.person_id, run_id, now)
            audit.record(transaction, now, row.person, "session extended", run_id, {"limit": before.limit.value})
    if found.possible:
        admission.extend(database, run_id, now, policy)
    stands = facts(database, run_id, now, policy)
    return None if stands is None else Extended(stands, found.possible)


def note_activity(database: Database, run_id: str, said: Activity, now: int) -> bool:
    """What an open run says of itself is kept; return False, and keep nothing, where it is not open."""
    for _ in range(ATTEMPTS):
        try:
            with database.write(shared=True) as transaction:
                row = _open(transaction, run_id)
                if row is None:
                    return False
                checked = said.checked(row.started_at or row.opened_at, now)
                store.note_activity(transaction, run_id, checked.busy_kernels, checked.active_at, now)
                return True
        except Conflict:  # its person has just extended it: there is a row now
            continue
    raise DatabaseAway("what a server says of itself could not be kept: it changed at every attempt")


def owner(database: Database, viewer: str, run_id: str) -> str | None:
    """Return whose run it is, to that person and to the PIs of its project; None to anyone else."""
    with database.read() as transaction:
        row = runs_store.one(transaction, run_id)
        if row is None:
            return None
        is_pi = keys.keys(transaction, viewer, row.project).role == MembershipRole.PI.value
    return str(row.person) if is_pi or row.person == viewer else None


def _open(transaction: Transaction, run_id: str) -> Row | None:
    row = runs_store.one(transaction, run_id)
    return row if row is not None and row.hold_state == HoldState.OPEN.value else None


def _facts(transaction: Transaction, row: Row, now: int, policy: Policy) -> Facts:
    profile = store.profile(transaction, row.id)
    remaining, found = _standing(transaction, row, profile, now, policy)
    charged = _charged(transaction, row, now)
    pause = store.pause(transaction, row.id)
    said = store.activity(transaction, row.id)
    has_reported = said is not None and said.reported_at != store.NEVER_REPORTED
    return Facts(
        run=row.id,
        kind=RunKind(row.kind),
        person=row.person,
        language=row.language,
        project=row.project,
        profile=row.profile,
        profile_ko=row.profile if profile is None else profile.name_ko,
        profile_en=row.profile if profile is None else profile.name_en,
        device_model=row.device_model,
        device_count=row.device_count,
        simulated=bool(row.simulated),
        devices=tuple(_device(each, now) for each in store.devices_of(transaction, row.id)),
        now=now,
        started_at=row.started_at,
        remaining=remaining,
        extending=found,
        gflops=row.gflops,
        budget_left=row.available + max(row.amount - charged, 0),
        charged=charged,
        paused_since=None if pause is None else pause.since,
        paused_why="" if pause is None else pause.reason,
        busy_kernels=said.busy_kernels if said is not None and has_reported else None,
        active_at=said.active_at if said is not None else None,
        kept_at=said.kept_at if said is not None else None,
        idle_seconds=None if profile is None else profile.idle_seconds,
        session_seconds=None if profile is None else profile.session_seconds,
        notices=tuple(
            Notice(each.id, each.at, each.text_en, each.text_ko)
            for each in store.unread(transaction, row.person_id, row.id)
        ),
    )


def _standing(
    transaction: Transaction, row: Row, profile: Row | None, now: int, policy: Policy
) -> tuple[Remaining, Extending]:
    """Return how the run stands, and how it would once it is extended: the same rules, on the row as it would be."""
    left = time_left.of_open_run(transaction, row, now, policy)
    before = Remaining(now + left.seconds, left.limit)
    kept = row._replace(idle_stop_at=None, session_ends_at=_session_end(profile, now))
    extended = time_left.of_open_run(transaction, kept, now, policy)
    return before, extending(RunKind(row.kind), now, before, Remaining(now + extended.seconds, extended.limit))


def _session_end(profile: Row | None, now: int) -> int | None:
    return None if profile is None or profile.session_seconds is None else now + int(profile.session_seconds)


def _charged(transaction: Transaction, row: Row, now: int) -> int:
    """Return what the run would be charged if it ended now."""
    if row.started_at is None:
        return 0
    paused = grants.paused_seconds(transaction, row.id, row.started_at, now)
    return int(max(now - row.started_at - paused, 0) * row.gflops)


def _device(row: Row, now: int) -> Device:
    """Return a device with its reading, where that is of this run and not too old."""
    if row.read_at is None or row.read_at < max(row.granted_at, now - FRESH_SECONDS):
        return Device(row.name, row.state)
    return Device(row.name, row.state, row.busy_ppm, row.read_at)
