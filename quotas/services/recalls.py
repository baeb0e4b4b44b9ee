"""Which awards use too little, month by month, and the recalls that are proposed of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from quotas.domain.months import Month, ended_month
from quotas.domain.people import MEMBERSHIP_RIGHTS, MembershipRole
from quotas.domain.projects import ProjectKind
from quotas.domain.recalls import (
    Assessment,
    Decision,
    Excuse,
    MonthOfAward,
    RecallPolicy,
    RecallState,
    Standing,
    assess,
    expected,
    used,
)
from quotas.domain.units import InvalidValue
from quotas.services.people import unknown
from quotas.store import audit, keys
from quotas.store import award_use as use_store
from quotas.store import projects as projects_store
from quotas.store import recalls as store
from quotas.store.database import Conflict, Database, Row, Transaction

AT_ONCE = 200
"""Awards that are read in one transaction."""
MOST_LISTED = 500


@dataclass(frozen=True)
class Assessed:
    """What follows of an award's months; `recall` is the id of what was proposed now, None where nothing was."""

    allocation: int
    project: str
    assessment: Assessment
    recall: int | None = None


@dataclass(frozen=True)
class Recall:
    """One recall. Amounts in GFLOPS·s, instants in seconds UTC; None where it has not come to that.

    `amount` is what it is to take, `recalled` what it took, `freed_gflops` what is no longer promised from `closed_at`
    on. `months` are (month, used, expected, counted), oldest first.
    """

    id: int
    project: str
    month: str
    state: RecallState
    proposed_amount: int
    amount: int
    proposed_at: int
    proposed_by: str
    notified_at: int | None
    object_until: int | None
    objected_at: int | None
    objected_by: str | None
    objection: str | None
    decision: Decision | None
    decided_at: int | None
    decided_by: str | None
    reason: str | None
    closed_at: int | None
    recalled: int | None
    freed_gflops: int | None
    months: tuple[tuple[str, int, int, bool], ...] = ()


def propose(
    database: Database, month: str, policy: RecallPolicy, *, actor: str, now: int, dry_run: bool = False
) -> Iterator[Assessed]:
    """Yield every award that runs now with what follows of its months up to `month`; proposals are stored.

    With `dry_run` nothing is. An award gets one proposal for a month, however often this is done. Raises InvalidValue
    for what is no month, and for one that is not over.
    """
    newest = ended_month("month", month, now)
    return _propose(database, newest, policy, actor, now, dry_run)


def _propose(
    database: Database, month: Month, policy: RecallPolicy, actor: str, now: int, dry_run: bool
) -> Iterator[Assessed]:
    after: int | None = 0
    while after is not None:
        found, after = propose_some(database, month, policy, after, actor=actor, now=now, dry_run=dry_run)
        yield from found


def propose_some(  # noqa: PLR0913 - a piece of a round has these parts
    database: Database,
    month: Month,
    policy: RecallPolicy,
    after: int,
    *,
    actor: str,
    now: int,
    dry_run: bool = False,
) -> tuple[list[Assessed], int | None]:
    """Do the same for some awards of ids above `after`; return them and the last one's id, None after the last."""
    with database.read() as transaction:
        rows = use_store.living(transaction, after, now, AT_ONCE)
        found = [Assessed(row.id, row.project, _assess(transaction, row, month, policy, now)) for row in rows]
    if not dry_run:
        found = [_store(database, each, month, policy, actor, now) for each in found]
    return found, rows[-1].id if len(rows) == AT_ONCE else None


def _store(database: Database, found: Assessed, month: Month, policy: RecallPolicy, actor: str, now: int) -> Assessed:
    """Store what was found to be proposed, if it still is: another process, or the award's people, may have been."""
    if found.assessment.standing is not Standing.PROPOSED:
        return found
    try:
        with database.write() as transaction:
            rows = use_store.living(transaction, found.allocation - 1, now, 1)
            if not rows or rows[0].id != found.allocation:
                return found
            assessment = _assess(transaction, rows[0], month, policy, now)
            if assessment.standing is not Standing.PROPOSED:
                return Assessed(found.allocation, found.project, assessment)
            recall = store.add(transaction, found.allocation, assessment, actor, now)
            detail = {"recall": recall, "month": str(month), "amount": assessment.amount}
            audit.record(transaction, now, actor, "recall proposed", found.project, detail)
            return Assessed(found.allocation, found.project, assessment, recall)
    except Conflict:
        return found


def _assess(transaction: Transaction, award: Row, month: Month, policy: RecallPolicy, now: int) -> Assessment:
    row = [month.plus(-back) for back in reversed(range(policy.months))]
    since, until = row[0].starts_at, row[-1].ends_at
    grants = use_store.grants(transaction, award.id)
    ran = use_store.ran(transaction, award.id, since, until, now)
    waits = use_store.waits(transaction, award.project_id, since, until, now)
    suspensions = use_store.suspensions(transaction, award.id, now)
    counted, forgiven = _earlier(store.earlier_months(transaction, award.id))
    months = []
    for each in row:
        share = expected(grants, award.starts_at, award.ends_at, each)
        excuse: Excuse | None = None
        if award.starts_at > each.starts_at or award.ends_at < each.ends_at:
            excuse = Excuse.NOT_WHOLE
        elif _inside(suspensions, each):
            excuse = Excuse.SUSPENDED
        elif str(each) in forgiven:
            excuse = Excuse.FORGIVEN
        elif _inside(waits, each) > policy.wait_limit_seconds:
            excuse = Excuse.WAITED
        elif not share:
            excuse = Excuse.NOTHING_DUE
        months.append(MonthOfAward(each, used(ran, each), share, excuse, str(each) in counted))
    takeable = award.available - store.open_amount(transaction, award.id)
    return assess(months, policy, takeable, is_course=award.project_kind == ProjectKind.COURSE.value)


def _inside(spans: Sequence[tuple[int, int]], month: Month) -> int:
    """Return the seconds of all spans that lie in the month, together."""
    return sum(max(min(until, month.ends_at) - max(since, month.starts_at), 0) for since, until in spans)


def _earlier(rows: Sequence[Row]) -> tuple[set[str], set[str]]:
    """Return the months whose unused part an earlier recall took into account, and those that were forgiven."""
    forgiven = {row.month for row in rows if row.counted and row.state == RecallState.WITHDRAWN.value}
    return {row.month for row in rows if row.counted}, forgiven


def list_recalls(database: Database, project: str | None = None, *, limit: int = MOST_LISTED) -> list[Recall]:
    """Return the newest recalls without their months, newest first. Raises InvalidValue for an unknown project."""
    with database.read() as transaction:
        if project is not None and projects_store.one(transaction, project) is None:
            raise unknown("project", project)
        return [_recall(row) for row in store.listed(transaction, project, min(limit, MOST_LISTED))]


def show(database: Database, recall: int) -> Recall:
    """Return the recall with its months. Raises InvalidValue where there is none."""
    with database.read() as transaction:
        return _recall(must_be(transaction, recall), store.months(transaction, recall))


def of_leader(database: Database, recall: int, person: str) -> Recall | None:
    """Return the recall with its months if the person is a PI or instructor of its project; None in any other case."""
    with database.read() as transaction:
        row = store.one(transaction, recall)
        if row is None or leads(transaction, row.project, person) is None:
            return None
        return _recall(row, store.months(transaction, recall))


def leads(transaction: Transaction, project: str, person: str) -> int | None:
    """Return the id of the person, who is a PI or instructor of the project; None for any other."""
    found = keys.keys(transaction, person, project)
    if found.role is None or not MEMBERSHIP_RIGHTS[MembershipRole(found.role)].manage_members:
        return None
    return int(found.person_id)


def must_be(transaction: Transaction, recall: int) -> Row:
    """Return the recall's row. Raises InvalidValue where there is none."""
    row = store.one(transaction, recall)
    if row is None:
        raise InvalidValue("recall", f"there is no recall {recall}", f"회수 {recall}이(가) 없습니다")
    return row


def _recall(row: Row, months: Sequence[Row] = ()) -> Recall:
    return Recall(
        id=row.id,
        project=row.project,
        month=row.month,
        state=RecallState(row.state),
        proposed_amount=row.proposed_amount,
        amount=row.amount,
        proposed_at=row.proposed_at,
        proposed_by=row.proposed_by,
        notified_at=row.notified_at,
        object_until=row.object_until,
        objected_at=row.objected_at,
        objected_by=row.objector,
        objection=row.objection,
        decision=Decision(row.decision) if row.decision else None,
        decided_at=row.decided_at,
        decided_by=row.decided_by,
        reason=row.reason,
        closed_at=row.closed_at,
        recalled=row.recalled_amount,
        freed_gflops=row.freed_gflops,
        months=tuple((each.month, each.used, each.expected, bool(each.counted)) for each in months),
    )
