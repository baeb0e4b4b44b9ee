"""A project as people see it: its state, award, balances, members and profiles at one moment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from quotas.domain.people import MembershipRole
from quotas.domain.projects import Phase, ProjectKind, ProjectState, Standing, phase
from quotas.store import projects as store
from quotas.store.database import Row, Transaction


@dataclass(frozen=True)
class ProjectView:
    """A project as it stands at one moment. Rates in GFLOPS, amounts in GFLOPS·s, instants in seconds UTC.

    The fields from `gflops` to `in_use_gflops` are of the award that counts now; None, as long as nothing is awarded.
    `granted` is what that award gave, by the ledger; `spent` may exceed it by overruns, which the operator bears.
    `pending` is what later tranches will give, `forfeited` what they would have given, had the award not been over
    before. Once it is over, files are kept until `storage_until` at least. `standing_reason` says why it is suspended
    or revoked. `members` are (username, display name, role) in the order of joining.
    """

    code: str
    kind: ProjectKind
    title_ko: str
    title_en: str
    organisation: str
    state: ProjectState
    phase: Phase
    requested_gflops: int
    requested_precision: str
    requested_starts_at: int
    requested_ends_at: int
    applied_at: int
    gflops: int | None
    precision: str | None
    starts_at: int | None
    ends_at: int | None
    ceiling_gflops: int | None
    in_use_gflops: int | None
    granted: int
    pending: int
    forfeited: int
    available: int
    held: int
    spent: int
    expired: int
    members: tuple[tuple[str, str, MembershipRole], ...]
    profiles: tuple[str, ...]
    decision_reason: str | None
    decided_by: str | None
    decided_at: int | None
    ended_at: int | None
    suspended_at: int | None
    revoked_at: int | None
    standing_reason: str | None
    storage_until: int | None
    closed_at: int | None

    def title(self, language: str) -> str:
        return self.title_ko if language == "ko" else self.title_en


def one(transaction: Transaction, code: str, now: int) -> ProjectView | None:
    """Return the project as it stands at `now`, or None."""
    row = store.view(transaction, code, now)
    if row is None:
        return None
    return _view(row, store.members(transaction, row.id), store.offered(transaction, row.id), now)


def every(transaction: Transaction, now: int) -> list[ProjectView]:
    """Return all projects as they stand at `now`, by code."""
    members: defaultdict[int, list[Row]] = defaultdict(list)
    for row in store.members(transaction):
        members[row.project_id].append(row)
    offered: defaultdict[int, list[Row]] = defaultdict(list)
    for row in store.offered(transaction):
        offered[row.project_id].append(row)
    return [_view(row, members[row.id], offered[row.id], now) for row in store.views(transaction, now)]


def _view(row: Row, members: Sequence[Row], offered: Sequence[Row], now: int) -> ProjectView:
    standing = Standing(
        state=ProjectState(row.state),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        granted=row.granted or 0,
        available=row.available or 0,
        ended_at=row.ended_at,
        closed_at=row.closed_at,
        suspended_at=row.suspended_at,
        revoked_at=row.revoked_at,
        storage_grace_days=row.storage_grace_days or 0,
    )
    is_over = standing.is_over(now)
    pending = row.pending or 0
    return ProjectView(
        code=row.code,
        kind=ProjectKind(row.kind),
        title_ko=row.title_ko,
        title_en=row.title_en,
        organisation=row.organisation,
        state=standing.state,
        phase=phase(standing, now),
        requested_gflops=row.requested_gflops,
        requested_precision=row.requested_precision,
        requested_starts_at=row.requested_starts_at,
        requested_ends_at=row.requested_ends_at,
        applied_at=row.applied_at,
        gflops=row.gflops,
        precision=row.precision,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        ceiling_gflops=row.ceiling_gflops,
        in_use_gflops=row.in_use_gflops,
        granted=standing.granted,
        pending=0 if is_over else pending,
        forfeited=pending if is_over else 0,
        available=standing.available,
        held=row.held or 0,
        spent=row.spent or 0,
        expired=row.expired or 0,
        members=tuple((each.username, each.display_name, MembershipRole(each.role)) for each in members),
        profiles=tuple(each.code for each in offered),
        decision_reason=row.decision_reason,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        ended_at=row.ended_at,
        suspended_at=row.suspended_at,
        revoked_at=row.revoked_at,
        standing_reason=row.standing_reason,
        storage_until=standing.storage_until if is_over else None,
        closed_at=row.closed_at,
    )
