"""Reservations: asked for, checked, approved or rejected, cancelled; their windows follow the clock by `tick`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from quotas.domain import recurrence
from quotas.domain import reservations as rules
from quotas.domain.people import MEMBERSHIP_RIGHTS, MembershipRole, PlatformRole
from quotas.domain.policy import Policy
from quotas.domain.refusals import Code, Refused
from quotas.domain.reservations import Asked, ReservationState, Roster, WindowState
from quotas.domain.room import Fit
from quotas.domain.rosters import each_once, strangers
from quotas.domain.units import InvalidValue
from quotas.services import reservation_fit as fitting
from quotas.services import reservation_windows as windows_service
from quotas.services.people import unknown
from quotas.services.reservation_fit import Assessment
from quotas.services.reservation_texts import called_off, conflict, decided, when, window_called_off
from quotas.services.reservation_views import ReservationView, view
from quotas.services.reservation_windows import tick
from quotas.store import audit, notices
from quotas.store import people as people_store
from quotas.store import reservation_windows as windows_store
from quotas.store import reservations as store
from quotas.store.database import Database, Row, Transaction
from quotas.store.keys import keys

__all__ = ["Approval", "DoesNotFit", "approve", "cancel", "cancel_window", "check", "reject", "request", "tick"]

LONGEST_REASON = 1_000
_WATCHING = frozenset({PlatformRole.OPERATOR, PlatformRole.AUDITOR})


@dataclass(eq=False)
class DoesNotFit(InvalidValue):
    """Windows of a reservation do not fit beside all else; `assessment` says which, and what would fit instead."""

    assessment: Assessment


def may_ask(database: Database, person: str, project: str) -> Refused | None:
    """Return why the person may not ask for reservations of the project, nor change them, or None.

    A project that does not exist is answered as one that the person is not a member of.
    """
    with database.read() as transaction:
        return _may_ask(transaction, person, project)


def _may_ask(transaction: Transaction, person: str, project: str) -> Refused | None:
    role = keys(transaction, person, project).role
    names = {"person": person[:80], "project": project[:80]}
    if role is None:
        return Refused(Code.NOT_A_MEMBER, names)
    if not MEMBERSHIP_RIGHTS[MembershipRole(role)].manage_members:
        return Refused(Code.ROLE_MAY_NOT, {**names, "role": role})
    return None


def may_see(database: Database, person: str, project: str) -> Refused | None:
    """Return why the person may not see that the project has reservations, and when, or None."""
    with database.read() as transaction:
        found = keys(transaction, person, project)
        known = people_store.one(transaction, person)
    if found.role is not None or (found.project_id and known is not None and known.platform_roles & _WATCHING):
        return None
    return Refused(Code.NOT_A_MEMBER, {"person": person[:80], "project": project[:80]})


def may_decide(database: Database, person: str) -> bool:
    """Return whether the person approves and rejects reservations."""
    with database.read() as transaction:
        known = people_store.one(transaction, person)
    return known is not None and PlatformRole.OPERATOR in known.platform_roles


def check(database: Database, asked: Asked, *, now: int, policy: Policy) -> Assessment:
    """Return how what is asked for would fit, and what would instead; nothing is stored.

    Raises InvalidValue, which names the field and what is allowed.
    """
    with database.read() as transaction:
        return _assessed(transaction, asked, now, policy)


def _assessed(transaction: Transaction, asked: Asked, now: int, policy: Policy) -> Assessment:
    facts = fitting.read_facts(transaction, asked, now, policy)
    found = rules.windows(asked, facts.term, now, policy)
    on_roster = len(_roster_ids(transaction, facts.project_id, asked.roster))
    return replace(fitting.assess(transaction, asked, facts, found, now=now), on_roster=on_roster)


def _roster_ids(transaction: Transaction, project_id: int, names: tuple[str, ...] | None) -> list[int]:
    """Return who is on a roster of these names, of all members for None; raise InvalidValue that names strangers."""
    members = {row.username: row.id for row in store.members(transaction, project_id)}
    if names is None:
        return list(members.values())
    wanted = each_once(names).names
    unknown_names = [name for name in wanted if name not in members]
    if unknown_names:
        raise strangers(unknown_names)
    return [members[name] for name in wanted]


def request(
    database: Database, asked: Asked, *, by: str, now: int, policy: Policy
) -> tuple[ReservationView, Assessment]:
    """The reservation waits for the operator's decision; return it, and how it fits as things stand.

    `by` is a PI or an instructor of the project. Raises InvalidValue, which names the field and what is allowed.
    """
    with database.write() as transaction:
        refused = _may_ask(transaction, by, asked.project)
        if refused is not None:
            raise InvalidValue("by", refused.message("en"), refused.message("ko"))
        assessment = _assessed(transaction, asked, now, policy)
        facts = assessment.facts
        number = store.add(
            transaction,
            {
                "project_id": facts.project_id,
                "profile_id": facts.profile_id,
                "pool_id": assessment.pool_id,
                "title_ko": asked.title_ko,
                "title_en": asked.title_en,
                "seats": asked.seats,
                "zone": asked.zone,
                "starts_at": asked.starts_at,
                "seconds": asked.seconds,
                "rrule": asked.rrule,
                "charge_idle": int(asked.charge_idle),
                "state": ReservationState.REQUESTED.value,
                "requested_at": now,
                "requested_by": keys(transaction, by, asked.project).person_id,
                "roster": (Roster.MEMBERS if asked.roster is None else Roster.LISTED).value,
            },
        )
        if asked.roster is not None:
            for person_id in _roster_ids(transaction, facts.project_id, asked.roster):
                store.put_on_roster(transaction, number, person_id, now)
        detail = {"project": asked.project, "profile": asked.profile, "seats": asked.seats}
        _note(transaction, number, "reservation requested", by, now, detail)
        return view(transaction, number), assessment


@dataclass(frozen=True)
class Approval:
    """How a reservation is approved: with other `seats` or in another `pool` than were asked for, where given.

    `leave_out`: windows that do not fit are cancelled instead of refusing all of them.
    """

    seats: int | None = None
    pool: str | None = None
    leave_out: bool = False
    reason: str = ""


def approve(
    database: Database, number: int, approval: Approval, *, actor: str, now: int, policy: Policy
) -> tuple[ReservationView, Assessment]:
    """The reservation's windows are to come: nothing is admitted into their seats any more. Windows that have begun
    are left out.

    Raises DoesNotFit, which says what would fit instead, and InvalidValue where it cannot be approved at all.
    """
    with database.write() as transaction:
        row = _existing(transaction, number)
        rules.change(number, ReservationState(row.state), ReservationState.APPROVED)
        assessment = _for_approval(transaction, row, approval, now, policy)
        if not assessment.fits and (not approval.leave_out or len(assessment.conflicts) == len(assessment.windows)):
            raise DoesNotFit("windows", *conflict(assessment), assessment)
        store.approve_as(transaction, number, assessment.asked.seats, assessment.pool_id)
        _decide(transaction, row, ReservationState.APPROVED, actor, approval.reason, now)
        for fit in assessment.windows:
            _add_window(transaction, row, assessment, fit)
        stored = _existing(transaction, number)
        left = [fit.window for fit in assessment.windows if not fit.short]
        first = when(left[0].starts_at, left[0].ends_at, row.zone)
        _tell(transaction, stored, decided(stored, len(left), first, approved=True, reason=approval.reason), now)
        detail = {"windows": len(left), "seats": assessment.asked.seats, "pool": assessment.pool}
        _note(transaction, number, "reservation approved", actor, now, detail | {"reason": approval.reason})
        return view(transaction, number), assessment


def reassess(database: Database, number: int, approval: Approval, *, now: int, policy: Policy) -> Assessment:
    """Return how a reservation that waits for its decision would fit if it were approved so now."""
    with database.read() as transaction:
        return _for_approval(transaction, _existing(transaction, number), approval, now, policy)


def _for_approval(transaction: Transaction, row: Row, approval: Approval, now: int, policy: Policy) -> Assessment:
    asked = Asked(
        project=row.project,
        profile=row.profile,
        seats=rules.seats_allowed(approval.seats or row.seats),
        zone=row.zone,
        starts_at=row.starts_at,
        seconds=row.seconds,
        title_ko=row.title_ko,
        title_en=row.title_en,
        rrule=row.rrule,
        charge_idle=bool(row.charge_idle),
        pool=approval.pool or row.pool,
    )
    facts = fitting.read_facts(transaction, asked, now, policy)
    begins = recurrence.starts(asked.zone, asked.starts_at, asked.rrule)
    coming = [begin for begin in begins if begin >= now]
    if not coming:
        raise InvalidValue("starts", "all its windows have begun", "모든 회차가 이미 시작되었습니다")
    found = rules.derived(coming, asked.seconds, policy)
    if found[-1].ends_at > facts.term.ends_at:
        shown = when(found[-1].starts_at, found[-1].ends_at, asked.zone)
        raise InvalidValue("windows", f"{shown} would end after the award", f"{shown} 회차가 배정 종료를 넘습니다")
    members = row.roster == Roster.MEMBERS.value
    people = store.members(transaction, row.project_id) if members else store.roster(transaction, row.id)
    assessment = fitting.assess(transaction, asked, facts, found, now=now, number=row.id)
    return replace(assessment, passed=len(begins) - len(coming), on_roster=len(people))


def _add_window(transaction: Transaction, row: Row, assessment: Assessment, fit: Fit) -> None:
    state = WindowState.CANCELLED if fit.short else WindowState.SCHEDULED
    values = {
        "reservation_id": row.id,
        "project_id": row.project_id,
        "profile_id": row.profile_id,
        "pool_id": assessment.pool_id,
        "device_model": assessment.facts.device_model,
        "device_count": assessment.facts.device_count,
        "seats": assessment.asked.seats,
        "opens_at": fit.window.opens_at,
        "starts_at": fit.window.starts_at,
        "release_at": fit.window.release_at,
        "ends_at": fit.window.ends_at,
        "state": state.value,
    }
    windows_store.add(transaction, values)


def reject(database: Database, number: int, *, reason: str, actor: str, now: int) -> ReservationView:
    """The reservation is rejected, and its requester told why. Raises InvalidValue."""
    if not reason.strip():
        raise InvalidValue("reason", "must say why", "사유를 입력해야 합니다")
    with database.write() as transaction:
        row = _existing(transaction, number)
        _decide(transaction, row, ReservationState.REJECTED, actor, reason, now)
        _tell(transaction, row, decided(row, 0, "", approved=False, reason=reason), now)
        _note(transaction, number, "reservation rejected", actor, now, {"reason": reason})
        return view(transaction, number)


def cancel(database: Database, number: int, *, reason: str, actor: str, now: int) -> ReservationView:
    """No window of the reservation comes any more and its seats are free for all; who has one keeps it to its end.

    Raises InvalidValue.
    """
    with database.write() as transaction:
        row = _existing(transaction, number)
        _decide(transaction, row, ReservationState.CANCELLED, actor, reason, now)
        cancelled = windows_service.cancel_all(transaction, number, actor=actor, reason=reason, now=now)
        why = reason.strip() or "-"
        _tell(transaction, row, called_off(row, why, why), now, kind="seats_cancelled", everyone=cancelled > 0)
        detail = {"reason": reason, "windows": cancelled}
        _note(transaction, number, "reservation cancelled", actor, now, detail)
        return view(transaction, number)


def cancel_window(
    database: Database, number: int, window_id: int, *, reason: str, actor: str, now: int
) -> ReservationView:
    """One window of the reservation does not come, or keeps no seats any more; the others stay. Raises InvalidValue."""
    with database.write() as transaction:
        row = _existing(transaction, number)
        found = [each for each in windows_store.of_reservation(transaction, number) if each.id == window_id]
        if not found:
            raise unknown("window", str(window_id))
        if not windows_service.cancel(transaction, window_id, actor=actor, reason=reason, now=now):
            state = found[0].state
            raise InvalidValue("window", f"{window_id} is {state}", f"{window_id}의 상태: {state}")
        texts = window_called_off(row, found[0].starts_at, found[0].ends_at, reason.strip() or "-")
        about = f"window:{window_id}"
        _tell(transaction, row, texts, now, kind="seats_cancelled", about=about, everyone=True)
        return view(transaction, number)


def _existing(transaction: Transaction, number: int) -> Row:
    row = store.one(transaction, number)
    if row is None:
        raise unknown("reservation", str(number))
    return row


def _decide(transaction: Transaction, row: Row, new: ReservationState, actor: str, reason: str, now: int) -> None:
    old = ReservationState(row.state)
    rules.change(row.id, old, new)
    text = reason.strip()[:LONGEST_REASON] or None
    if not store.change_state(transaction, row.id, old, new, actor=actor, reason=text, at=now):
        raise InvalidValue("reservation", f"{row.id} has changed meanwhile", f"{row.id}의 상태가 바뀌었습니다")


def _tell(  # noqa: PLR0913 - a notice, to whom, and when
    transaction: Transaction,
    row: Row,
    texts: tuple[str, str],
    now: int,
    *,
    kind: str = "seats_decided",
    about: str = "",
    everyone: bool = False,
) -> None:
    """The requester is told, and `everyone` on the roster; each once."""
    english, korean = texts
    about = about or f"reservation:{row.id}"
    if everyone:
        if row.roster == Roster.MEMBERS.value:
            store.follow_members(transaction, row.id, now)
        store.tell_roster(transaction, row.id, kind=kind, about=about, text_ko=korean, text_en=english, at=now)
    notices.tell(transaction, notices.Notice(row.requested_by, kind, about, korean, english), now)


def _note(transaction: Transaction, number: int, action: str, actor: str, now: int, detail: dict[str, object]) -> None:
    audit.record(transaction, now, actor, action, f"reservation:{number}", detail)


def note_refusal(database: Database, actor: str, subject: str, field: str, now: int) -> None:
    """An audit event says that what `actor` asked for was not taken, and because of which field or rule."""
    with database.write() as transaction:
        audit.record(transaction, now, actor, "reservation refused", subject, {"field": field[:80]})
