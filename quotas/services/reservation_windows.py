"""Windows of reservations open, release their unclaimed seats and end, when their time has come and once each."""

from __future__ import annotations

from collections import Counter

from quotas.domain.ledger import Posting, TransferKind
from quotas.domain.policy import Policy
from quotas.domain.priorities import Priority
from quotas.domain.reservations import ReservationState, Roster, WindowState, idle_seat_seconds, unclaimed
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.services import settlement
from quotas.services.reservation_texts import armed, called_off, seats_released
from quotas.store import admission as admission_store
from quotas.store import audit
from quotas.store import ledger as ledger_store
from quotas.store import notices as notices_store
from quotas.store import reservation_windows as store
from quotas.store import reservations as reservations_store
from quotas.store import runs as runs_store
from quotas.store.database import Database, Row, Transaction

DOOR = "reservations"
AT_ONCE = 200
"""How many windows are looked at in one call; the rest is due at the next."""
WHY_DEAD = ("the project has ended or its award was revoked", "과제가 종료되었거나 배정이 취소되었습니다")


def tick(database: Database, now: int, policy: Policy) -> Counter[str]:
    """Every window stands as it is to stand at `now`; return how many were opened, released, ended and cancelled.

    It may be called by several loops at once, and hours late. A window whose start was missed opens as soon as it can
    and keeps its seats as long as it would have; one that has passed altogether ends without having been open. Raises
    DatabaseAway.
    """
    del policy  # the windows carry their own instants since they were approved
    done: Counter[str] = Counter()
    with database.read() as transaction:
        due = store.due(transaction, now, AT_ONCE)
        behind = store.behind_their_members(transaction, now)
        dead = store.of_the_dead(transaction, now)
    for number in dead:
        with database.write() as transaction:
            done["cancelled"] += _cancel_of_the_dead(transaction, number, now)
    for window_id in due:
        with database.write() as transaction:
            done.update(_advance(transaction, window_id, now))
    for window_id in behind:
        with database.write() as transaction:
            done["followed"] += _follow(transaction, window_id, now)
    return done


def _advance(transaction: Transaction, window_id: int, now: int) -> list[str]:
    """Take the window through all that is due, in its order; return what was done."""
    done = []
    for step in (_open, _release, _end):
        window = store.one(transaction, window_id, now)
        if window is not None and step(transaction, window, now):
            done.append({_open: "opened", _release: "released", _end: "ended"}[step])
    return done


def _open(transaction: Transaction, window: Row, now: int) -> bool:
    if window.state != WindowState.SCHEDULED.value or not window.opens_at <= now < window.ends_at:
        return False
    release_at = window.release_at
    if now > window.starts_at:  # nobody could claim a seat before; that is not the roster's fault
        release_at = min(now + window.release_at - window.starts_at, window.ends_at)
    if not store.open_window(transaction, window, release_at):
        return False
    if window.roster == Roster.MEMBERS.value:
        reservations_store.follow_members(transaction, window.reservation_id, now)
    window = window._replace(release_at=release_at)
    _hold_idle_time(transaction, window, now)
    told = _tell_of_seats(transaction, window, now)
    _note(transaction, window, "window opened", now, {"seats": window.seats, "told": told})
    return True


def _follow(transaction: Transaction, window_id: int, now: int) -> int:
    """Who became a member since the opening has a seat to claim, and is told; return whether anyone came or went."""
    window = store.one(transaction, window_id, now)
    if window is None or window.state not in {WindowState.OPEN.value, WindowState.RELEASED.value}:
        return 0
    changed = reservations_store.follow_members(transaction, window.reservation_id, now)
    if window.state == WindowState.OPEN.value and changed:
        _tell_of_seats(transaction, window, now)
    return int(changed > 0)


def _tell_of_seats(transaction: Transaction, window: Row, now: int) -> int:
    text_en, text_ko = armed(window)
    return reservations_store.tell_roster(
        transaction,
        window.reservation_id,
        kind="seats_open",
        about=f"window:{window.id}",
        text_en=text_en,
        text_ko=text_ko,
        at=now,
    )


def _release(transaction: Transaction, window: Row, now: int) -> bool:
    if window.state != WindowState.OPEN.value or window.release_at > now:
        return False
    freed = unclaimed(window.seats, window.claimed)
    if not store.release(transaction, window, freed):
        return False
    charged = _charge_idle_time(transaction, window, window.release_at, now)
    _note(transaction, window, "window released", now, {"released": freed, "claimed": window.claimed, **charged})
    if freed:
        text_en, text_ko = seats_released(window, freed)
        about = f"window:{window.id}"
        notice = notices_store.Notice(window.requested_by, "seats_released", about, text_ko, text_en)
        notices_store.tell(transaction, notice, now)
    return True


def _end(transaction: Transaction, window: Row, now: int) -> bool:
    if window.state not in _COMING or window.ends_at > now:
        return False
    missed = window.state == WindowState.SCHEDULED.value
    if not store.close(transaction, window, WindowState.ENDED):
        return False
    _charge_idle_time(transaction, window, window.release_at, now)
    _note(transaction, window, "window missed" if missed else "window ended", now, {"claimed": window.claimed})
    _end_reservation(transaction, window.reservation_id, now)
    return True


_COMING = {WindowState.SCHEDULED.value, WindowState.OPEN.value, WindowState.RELEASED.value}


def _end_reservation(transaction: Transaction, number: int, now: int) -> None:
    if reservations_store.end(transaction, number):
        audit.record(transaction, now, "platform", "reservation ended", f"reservation:{number}")


def cancel(transaction: Transaction, window_id: int, *, actor: str, reason: str, now: int) -> bool:
    """The window keeps nothing any more and opens no more; return False for one that has ended or was cancelled.

    Who has a seat in it keeps it to its end. Idle time is charged until now.
    """
    window = store.one(transaction, window_id, now)
    if window is None or window.state not in _COMING or not store.close(transaction, window, WindowState.CANCELLED):
        return False
    charged = _charge_idle_time(transaction, window, min(now, window.release_at), now)
    _note(transaction, window, "window cancelled", now, {"reason": reason[:1000], **charged}, actor)
    _end_reservation(transaction, window.reservation_id, now)
    return True


def cancel_all(transaction: Transaction, number: int, *, actor: str, reason: str, now: int) -> int:
    """No window of the reservation is to come any more; return how many were to."""
    windows = [row.id for row in store.of_reservation(transaction, number) if row.state in _COMING]
    return sum(cancel(transaction, window, actor=actor, reason=reason, now=now) for window in windows)


def _cancel_of_the_dead(transaction: Transaction, number: int, now: int) -> int:
    row = reservations_store.one(transaction, number)
    if row is None or number not in store.of_the_dead(transaction, now):
        return 0
    reason_en, reason_ko = WHY_DEAD
    old = ReservationState(row.state)
    both = f"{reason_ko} ({reason_en})"
    if not reservations_store.change_state(
        transaction, number, old, ReservationState.CANCELLED, actor="platform", reason=both, at=now
    ):
        return 0
    cancelled = cancel_all(transaction, number, actor="platform", reason=reason_en, now=now)
    text_en, text_ko = called_off(row, reason_en, reason_ko)
    about = f"reservation:{number}"
    notices_store.tell(
        transaction, notices_store.Notice(row.requested_by, "seats_cancelled", about, text_ko, text_en), now
    )
    audit.record(transaction, now, "platform", "reservation cancelled", about, {"reason": reason_en})
    return cancelled


def _hold_idle_time(transaction: Transaction, window: Row, now: int) -> None:
    """What the seats may cost until their release is held, as far as the balance allows; nothing of it is overspent."""
    payer = store.payer(transaction, window, now) if window.charge_idle else None
    if payer is None or payer.suspended_at is not None or payer.revoked_at is not None:
        return
    until_at = min(window.release_at, payer.ends_at)
    wanted = idle_seat_seconds(window.seats, max(window.starts_at, now), until_at)
    amount = min(wanted, payer.balance // payer.gflops) * payer.gflops
    if amount <= 0:
        _note(transaction, window, "idle seats not held", now, {"available": payer.balance})
        return
    run_id = new_run_id()
    transaction.run(
        admission_store.INSERT_RUN,
        id=run_id,
        kind=RunKind.SEATS.value,
        person_id=window.requested_by,
        project_id=window.project_id,
        profile_id=window.profile_id,
        door=DOOR,
        requested_at=now,
        session_ends_at=None,
    )
    transaction.run(
        admission_store.INSERT_HOLD,
        run_id=run_id,
        allocation_id=payer.id,
        pool_id=None,
        device_model=None,
        device_count=0,
        card_version=payer.version,
        gflops=payer.gflops,
        amount=amount,
        opened_at=now,
        until_at=until_at,
        priority=Priority.RESERVED.value,
        window_id=window.id,
        ends_by=None,
    )
    posting = Posting(f"{run_id}:hold", TransferKind.HOLD, amount)
    ledger_store.post(transaction, payer.id, posting, now, run_id)


def _charge_idle_time(transaction: Transaction, window: Row, idle_to: int, now: int) -> dict[str, int]:
    """What was held for idle seats is settled: those that nobody claimed are charged from the start to `idle_to`."""
    run_id = store.seats_run(transaction, window.id)
    row = None if run_id is None else runs_store.one(transaction, run_id)
    if row is None:
        return {}
    idle_from = max(window.starts_at, row.opened_at)
    seconds = idle_seat_seconds(unclaimed(window.seats, window.claimed), idle_from, idle_to)
    closed = settlement.close(transaction, row, min(seconds, row.amount // row.gflops), now)
    if closed is None:
        raise AssertionError("the hold was read in this transaction, which is alone")
    transaction.run(
        runs_store.MARK_SETTLED,
        run=row.id,
        started_at=idle_from if closed[0] else None,
        finished_at=max(idle_to, idle_from) if closed[0] else None,
        outcome=Outcome.EXITED.value,
        exit_code=None,
    )
    return {"charged": closed[0]}


def _note(
    transaction: Transaction, window: Row, action: str, now: int, detail: dict[str, object], actor: str = "platform"
) -> None:
    subject = f"reservation:{window.reservation_id}"
    audit.record(transaction, now, actor, action, subject, {"window": window.id, "project": window.project, **detail})
