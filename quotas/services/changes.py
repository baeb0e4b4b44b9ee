"""Changes of awards that run: a PI requests, a reviewer decides, and what is approved is applied at once.

An operator may apply a change directly; it is the same object, requested and decided by the operator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from quotas.domain import changes as rules
from quotas.domain import states
from quotas.domain.awards import LIVING, AwardState, Programme, award_state
from quotas.domain.changes import Change, ChangeKind, ChangeState, Effect, Terms, effect
from quotas.domain.ledger import Posting, TransferKind
from quotas.domain.people import MembershipRole
from quotas.domain.texts import text
from quotas.domain.units import InvalidValue, show_instant
from quotas.services.authority import require_approved, require_pi, require_project, require_reviewer
from quotas.services.awards import LONGEST_REASON, standing, tell_members, terms
from quotas.services.grants import check_award, check_capacity
from quotas.services.people import unknown
from quotas.store import audit
from quotas.store import awards as awards_store
from quotas.store import changes as store
from quotas.store import ledger as ledger_store
from quotas.store import projects as projects_store
from quotas.store.database import Database, Row, Transaction


@dataclass(frozen=True)
class ChangeView:
    """A change as it stands. `gflops` and `amount` (GFLOPS·s) are what is added or taken; instants in seconds UTC.

    `before_ends_at` is the end that an extension has moved, once it is applied.
    """

    id: int
    kind: ChangeKind
    state: ChangeState
    project: str
    award: int
    to_project: str | None
    to_award: int | None
    gflops: int | None
    amount: int | None
    ends_at: int | None
    before_ends_at: int | None
    reason: str
    requested_at: int
    requested_by: str
    decided_at: int | None
    decided_by: str | None
    decision_reason: str | None


def request(database: Database, code: str, change: Change, *, reason: str, actor: str, now: int) -> ChangeView:
    """The change waits for a reviewer; nothing of the award has changed.

    Raises InvalidValue for someone who is no PI of the project, an award that is over, and what could not be applied
    now, capacity apart, which only the reviewer weighs.
    """
    why = text("reason", reason, LONGEST_REASON, lines=True)
    with database.write() as transaction:
        project_id = require_pi(transaction, code, actor)
        if change.to_project is not None:
            _must_be_a_neighbour(transaction, project_id, change.to_project, now)
        change_id, row, target = _stored(transaction, code, change, (why, actor), now)
        _must_fit(transaction, change, row, target, now, by_operator=False)
        detail = {"change": change_id, "kind": change.kind.value, "reason": why[:1000]}
        audit.record(transaction, now, actor, "award change requested", code, detail)
        return _view(_must_be(transaction, change_id))


def apply_directly(  # noqa: PLR0913 - an operator's decision has these parts
    database: Database, code: str, change: Change, *, reason: str, programme: Programme, actor: str, now: int
) -> ChangeView:
    """The change is applied by an operator, without a request. Raises InvalidValue, and nothing has changed."""
    why = text("reason", reason, LONGEST_REASON, lines=True)
    with database.write() as transaction:
        change_id, _, _ = _stored(transaction, code, change, (why, actor), now)
        return _apply(transaction, change_id, why, programme, actor, now, by_operator=True)


def approve(
    database: Database, change_id: int, *, reason: str, programme: Programme, actor: str, now: int
) -> ChangeView:
    """The requested change is approved and applied.

    Raises InvalidValue for someone who may not decide it, a change that does not wait for a decision, and one that
    cannot be applied as the award stands now; nothing has changed then.
    """
    why = text("reason", reason, LONGEST_REASON, lines=True)
    with database.write() as transaction:
        row = _must_be(transaction, change_id)
        require_reviewer(transaction, actor, *_projects(row))
        return _apply(transaction, change_id, why, programme, actor, now, by_operator=False)


def reject(database: Database, change_id: int, *, reason: str, actor: str, now: int) -> ChangeView:
    """The requested change is rejected, with a reason. Raises InvalidValue as `approve` does."""
    why = text("reason", reason, LONGEST_REASON, lines=True)
    with database.write() as transaction:
        row = _must_be(transaction, change_id)
        require_reviewer(transaction, actor, *_projects(row))
        return _decide(transaction, row, _Decision(ChangeState.REJECTED, actor, now, why))


def withdraw(database: Database, change_id: int, *, actor: str, now: int) -> ChangeView:
    """The requested change is withdrawn by a PI of its project. Raises InvalidValue for anyone and anything else."""
    with database.write() as transaction:
        row = _must_be(transaction, change_id)
        require_pi(transaction, row.project, actor)
        return _decide(transaction, row, _Decision(ChangeState.WITHDRAWN, actor, now))


def show(database: Database, change_id: int) -> ChangeView | None:
    """Return the change, or None."""
    with database.read() as transaction:
        row = store.one(transaction, change_id)
        return None if row is None else _view(row)


def list_changes(database: Database, project: str | None = None) -> list[ChangeView]:
    """Return the changes of one project, those that move budget to it included, or of all; oldest first."""
    with database.read() as transaction:
        if project is not None:
            require_project(transaction, project)
        return [_view(row) for row in store.changes(transaction, project)]


def _stored(
    transaction: Transaction, code: str, change: Change, why_and_who: tuple[str, str], now: int
) -> tuple[int, Row, Row | None]:
    """The change is requested; return its id, the award and, of a move, the award that budget is moved to."""
    project_id = require_approved(transaction, code)
    row = _award(transaction, project_id, code, now)
    target = None
    if change.to_project is not None:
        if change.to_project == code:
            raise InvalidValue("to", "must be another project", "다른 과제여야 합니다")
        to_id = require_approved(transaction, change.to_project, "to")
        target = _award(transaction, to_id, change.to_project, now, "to")
    reason, actor = why_and_who
    values = {
        "kind": change.kind.value,
        "project_id": project_id,
        "award_id": row.id,
        "to_project_id": None if target is None else target.project_id,
        "gflops": change.gflops,
        "amount": change.amount,
        "ends_at": change.ends_at,
        "reason": reason,
        "requested_at": now,
        "requested_by": actor[:80],
    }
    return store.add(transaction, values), row, target


def _award(transaction: Transaction, project_id: int, code: str, now: int, field: str = "project") -> Row:
    """Return the project's award that counts now. Raises InvalidValue when it is over: then it is renewed instead."""
    row = awards_store.chosen(transaction, project_id, now)
    state = AwardState.ENDED if row is None else award_state(standing(row), now)
    if row is None or state not in LIVING:
        raise InvalidValue(
            field,
            f"the award of {code} is {state}, and what is over is not changed; apply for a renewal",
            f"{code} 과제의 배정 상태는 {state}입니다. 끝난 배정은 바꿀 수 없으니 연장(갱신)을 신청하세요",
        )
    return row


def _must_be_a_neighbour(transaction: Transaction, project_id: int, to_project: str, now: int) -> None:
    """The other project runs, and is of the same organisation. Which others there are, nobody finds out by asking."""
    own = awards_store.chosen(transaction, project_id, now)
    found = projects_store.one(transaction, to_project)
    other = None if found is None else awards_store.chosen(transaction, found[0], now)
    if own is None or other is None or own.organisation_id != other.organisation_id:
        raise InvalidValue(
            "to",
            f"{to_project!r:.60} is no project of the same organisation; only an operator may move budget to another's",
            f"{to_project!r:.60}: 같은 기관의 과제가 아닙니다. 다른 기관으로는 운영자만 옮길 수 있습니다",
        )


def _must_fit(
    transaction: Transaction, change: Change, row: Row, target: Row | None, now: int, *, by_operator: bool
) -> Effect:
    """Return what the change comes to as the awards stand now. Raises InvalidValue, which names the field."""
    found = effect(change, Terms(terms(row), row.extra_gflops, row.available), now)
    check_award(found.award)
    if change.kind is ChangeKind.EXTENSION:
        _must_not_meet_the_next(transaction, row, found.award.ends_at)
    if target is not None:
        _must_take(row, target, now, by_operator=by_operator)
    return found


def _must_not_meet_the_next(transaction: Transaction, row: Row, ends_at: int) -> None:
    later = [
        each.starts_at
        for each in awards_store.of_project(transaction, row.project_id)
        if each.id != row.id and each.revoked_at is None and each.starts_at >= row.ends_at
    ]
    if later and ends_at > min(later):
        start = show_instant(min(later))
        raise InvalidValue(
            "until",
            f"must be at most {start}, when the project's next award starts",
            f"다음 배정이 시작되는 {start} 이전이어야 합니다",
        )


def _must_take(row: Row, target: Row, now: int, *, by_operator: bool) -> None:
    """Budget moves between two awards that run, of one precision and, without an operator, of one organisation."""
    for each, field in ((row, "project"), (target, "to")):
        state = award_state(standing(each), now)
        if state is not AwardState.ACTIVE:
            raise InvalidValue(
                field,
                f"the award of {each.project} is {state}; budget moves between awards that run",
                f"{each.project} 과제의 배정 상태는 {state}입니다. 진행 중인 배정 사이에서만 옮길 수 있습니다",
            )
    if row.precision != target.precision:
        raise InvalidValue(
            "to",
            f"{row.project} counts in {row.precision}, {target.project} in {target.precision}; both must be the same",
            f"기준 정밀도가 다릅니다: {row.project} {row.precision}, {target.project} {target.precision}",
        )
    if row.organisation_id != target.organisation_id and not by_operator:
        raise InvalidValue(
            "to",
            f"{target.project} is of another organisation than {row.project}; only an operator may move budget there",
            f"{target.project}은(는) {row.project}와(과) 다른 기관의 과제입니다. 운영자만 옮길 수 있습니다",
        )


def _apply(  # noqa: PLR0913 - a decision has these parts
    transaction: Transaction,
    change_id: int,
    reason: str,
    programme: Programme,
    actor: str,
    now: int,
    *,
    by_operator: bool,
) -> ChangeView:
    stored = _must_be(transaction, change_id)
    states.change(rules.ALLOWED_CHANGES, "change", str(change_id), ChangeState(stored.state), ChangeState.APPLIED)
    row, target = _as_requested(transaction, stored, now)
    change = Change(ChangeKind(stored.kind), stored.gflops, stored.amount, stored.ends_at, stored.to_project)
    found = _must_fit(transaction, change, row, target, now, by_operator=by_operator)
    for promise in found.promises:
        check_capacity(transaction, promise, programme)
    values = {
        "amount": found.amount or None,
        "to_award_id": None if target is None else target.id,
        "before_ends_at": row.ends_at if change.kind is ChangeKind.EXTENSION else None,
    }
    view = _decide(transaction, stored, _Decision(ChangeState.APPLIED, actor, now, reason), values)
    if not awards_store.change_terms(transaction, row, found.award, found.extra_gflops):
        raise AssertionError("the award stands as this transaction, which is alone, has just read it")
    _post(transaction, view, row, target, now)
    return view


def _as_requested(transaction: Transaction, stored: Row, now: int) -> tuple[Row, Row | None]:
    """Return the award that the change was requested for, and the one that budget is moved to.

    Raises InvalidValue when the one is over, or not the one that counts any more; it is to be requested anew then.
    """
    project_id = require_approved(transaction, stored.project)
    row = _award(transaction, project_id, stored.project, now)
    if row.id != stored.award_id:
        raise InvalidValue(
            "change",
            f"{stored.id} was requested for an earlier award of {stored.project}; request it anew",
            f"{stored.id}: {stored.project} 과제의 이전 배정에 대한 신청입니다. 다시 신청해야 합니다",
        )
    if stored.to_project is None:
        return row, None
    to_id = require_approved(transaction, stored.to_project, "to")
    return row, _award(transaction, to_id, stored.to_project, now, "to")


def _post(transaction: Transaction, change: ChangeView, row: Row, target: Row | None, now: int) -> None:
    """What the change moves is in the ledger."""
    amount = change.amount
    if amount is None:
        return
    kinds = {
        ChangeKind.SUPPLEMENT: TransferKind.SUPPLEMENT,
        ChangeKind.EXTENSION: TransferKind.SUPPLEMENT,
        ChangeKind.REDUCTION: TransferKind.REDUCE,
        ChangeKind.MOVE: TransferKind.MOVE_OUT,
    }
    out = Posting(transfer_key(change.id, kinds[change.kind]), kinds[change.kind], amount)
    ledger_store.post(transaction, row.allocation_id, out, now)
    if target is not None:
        into = Posting(transfer_key(change.id, TransferKind.MOVE_IN), TransferKind.MOVE_IN, amount)
        ledger_store.post(transaction, target.allocation_id, into, now)


def transfer_key(change_id: int, kind: TransferKind) -> str:
    """Return the key of a change's transfer; a move has two, one in each allocation."""
    return f"change:{change_id}:{kind.value}"


@dataclass(frozen=True)
class _Decision:
    """How a change is decided, by whom and why."""

    state: ChangeState
    actor: str
    now: int
    reason: str | None = None


def _decide(
    transaction: Transaction, stored: Row, decision: _Decision, values: Mapping[str, int | None] | None = None
) -> ChangeView:
    new, now = decision.state, decision.now
    states.change(rules.ALLOWED_CHANGES, "change", str(stored.id), ChangeState(stored.state), new)
    decided = {"decided_at": now, "decided_by": decision.actor[:80], "decision_reason": decision.reason}
    if not store.decide(transaction, stored.id, new, {**decided, **(values or {})}):
        raise AssertionError("the change stands as this transaction, which is alone, has just read it")
    view = _view(_must_be(transaction, stored.id))
    detail = {
        "change": view.id,
        "kind": view.kind.value,
        "gflops": view.gflops,
        "amount": view.amount,
        "ends_at": view.ends_at,
        "to": view.to_project,
        "reason": (decision.reason or "")[:1000],
    }
    audit.record(transaction, now, decision.actor, f"award change {new.value}", view.project, detail)
    if new is not ChangeState.WITHDRAWN:
        _tell(transaction, stored, view, now)
    return view


_WORDS = {
    ChangeKind.SUPPLEMENT: ("supplement", "추가 배정"),
    ChangeKind.EXTENSION: ("extension", "기간 연장"),
    ChangeKind.REDUCTION: ("reduction", "감축"),
    ChangeKind.MOVE: ("move of budget", "예산 이동"),
}
_ENDS = {ChangeState.APPLIED: ("was applied", "적용"), ChangeState.REJECTED: ("was rejected", "반려")}


def _tell(transaction: Transaction, stored: Row, view: ChangeView, now: int) -> None:
    """The PIs of the projects know how it was decided."""
    (what_en, what_ko), (end_en, end_ko) = _WORDS[view.kind], _ENDS[view.state]
    of = ("award change", f"change:{view.id}")
    english = f"The {what_en} of the award of {view.project} (change {view.id}) {end_en}: {view.decision_reason}"
    korean = f"{view.project} 과제의 {what_ko}(변경 {view.id}): {end_ko}. {view.decision_reason}"
    for project_id in {stored.project_id, stored.to_project_id} - {None}:
        tell_members(transaction, project_id, of, korean, english, now, role=MembershipRole.PI)


def _projects(row: Row) -> list[str]:
    return [code for code in (row.project, row.to_project) if code is not None]


def _must_be(transaction: Transaction, change_id: int) -> Row:
    row = store.one(transaction, change_id)
    if row is None:
        raise unknown("change", str(change_id))
    return row


def _view(row: Row) -> ChangeView:
    return ChangeView(
        id=row.id,
        kind=ChangeKind(row.kind),
        state=ChangeState(row.state),
        project=row.project,
        award=row.award_id,
        to_project=row.to_project,
        to_award=row.to_award_id,
        gflops=row.gflops,
        amount=row.amount,
        ends_at=row.ends_at,
        before_ends_at=row.before_ends_at,
        reason=row.reason,
        requested_at=row.requested_at,
        requested_by=row.requested_by,
        decided_at=row.decided_at,
        decided_by=row.decided_by,
        decision_reason=row.decision_reason,
    )
