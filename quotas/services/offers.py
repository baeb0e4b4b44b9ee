"""What a person may start now, on which project, and why not the rest; and the decision explained rule by rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from quotas.domain.admission import Admitted, Decision, Request, Situation, decide, each_rule
from quotas.domain.policy import Policy
from quotas.domain.projects import Phase, ProjectState, Standing, phase
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import RunKind
from quotas.store import admission as store
from quotas.store import offers as offers_store
from quotas.store.database import Database, Row, Transaction

_CAN_BE_CURED_BY_A_SMALLER_PROFILE = frozenset(
    {Code.CEILING, Code.POOL_FULL, Code.SEAT_LOST, Code.BUDGET_SHORT, Code.PROFILE_NOT_OFFERED, Code.PROFILE_UNRATED}
)


@dataclass(frozen=True)
class ProfileOffer:
    """One profile on one project: its decision now; `affordable_seconds` is what the balance buys of it alone."""

    code: str
    name_ko: str
    name_en: str
    device_model: str | None
    device_name: str | None
    device_count: int
    cpu_millis: int
    memory_bytes: int
    storage_bytes: int
    gflops: int | None
    affordable_seconds: int
    free_devices: int | None
    decision: Decision

    @property
    def available(self) -> bool:
        return isinstance(self.decision, Admitted)


@dataclass(frozen=True)
class ProjectOffer:
    """One of the person's projects with every profile; amounts in GFLOPS·s, rates in GFLOPS, instants seconds UTC."""

    code: str
    kind: str
    title_ko: str
    title_en: str
    role: str
    phase: Phase
    ends_at: int | None
    granted: int
    available: int
    held: int
    ceiling_gflops: int
    in_use_gflops: int
    open_run: str | None
    open_profile: str | None
    profiles: tuple[ProfileOffer, ...]


def offers(database: Database, person: str, now: int, policy: Policy) -> list[ProjectOffer]:
    """Return the person's projects, those that can start something first; empty for a stranger."""
    with database.read() as transaction:
        profiles = offers_store.profiles(transaction)
        found = [
            _project_offer(transaction, row, profiles, person, now, policy)
            for row in offers_store.memberships(transaction, person, now)
        ]
    return sorted(found, key=lambda offer: (not any(each.available for each in offer.profiles), offer.code))


def _project_offer(
    transaction: Transaction, row: Row, profiles: list[Row], person: str, now: int, policy: Policy
) -> ProjectOffer:
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
    each = [
        _profile_offer(transaction, profile, Request("", RunKind.NOTEBOOK, person, row.code, profile.code), now, policy)
        for profile in profiles
    ]
    return ProjectOffer(
        code=row.code,
        kind=row.kind,
        title_ko=row.title_ko,
        title_en=row.title_en,
        role=row.role,
        phase=phase(standing, now),
        ends_at=row.ends_at,
        granted=standing.granted,
        available=standing.available,
        held=row.held or 0,
        ceiling_gflops=row.ceiling_gflops or 0,
        in_use_gflops=row.in_use_gflops or 0,
        open_run=row.open_run,
        open_profile=row.open_profile,
        profiles=tuple(each),
    )


def _profile_offer(transaction: Transaction, profile: Row, request: Request, now: int, policy: Policy) -> ProfileOffer:
    situation, _ = store.read_situation(transaction, request, now, policy)
    allocation = situation.allocation
    affordable = 0
    if allocation is not None and situation.gflops:
        affordable = max(min(allocation.available // situation.gflops, allocation.ends_at - now), 0)
    free = sum(max(pool.healthy - pool.in_use, 0) for pool in situation.pools) if profile.device_model else None
    return ProfileOffer(
        code=profile.code,
        name_ko=profile.name_ko,
        name_en=profile.name_en,
        device_model=profile.device_model,
        device_name=profile.device_name,
        device_count=profile.device_count,
        cpu_millis=profile.cpu_millis,
        memory_bytes=profile.memory_bytes,
        storage_bytes=profile.storage_bytes,
        gflops=situation.gflops,
        affordable_seconds=affordable,
        free_devices=free,
        decision=decide(request, situation, now, policy),
    )


def with_what_fits(database: Database, request: Request, refused: Refused, now: int, policy: Policy) -> Refused:
    """Return the refusal with the largest other profile that the person could start on the project now."""
    if refused.code not in _CAN_BE_CURED_BY_A_SMALLER_PROFILE:
        return refused
    fitting: list[tuple[int, str]] = []
    with database.read() as transaction:
        for profile in offers_store.profiles(transaction):
            asked = replace(request, profile=profile.code)
            situation, _ = store.read_situation(transaction, asked, now, policy)
            if isinstance(decide(asked, situation, now, policy), Admitted):
                fitting.append((situation.gflops or 0, profile.code))
    return replace(refused, fits_now=max(fitting)[1]) if fitting else refused


@dataclass(frozen=True)
class RuleOutcome:
    """One rule of the decision: what it asks, and its refusal or None."""

    rule: str
    asks: str
    refused: Refused | None


@dataclass(frozen=True)
class Explained:
    """The decision of one moment with every rule's outcome and the numbers that were read."""

    decision: Decision
    rules: tuple[RuleOutcome, ...]
    numbers: dict[str, str | int | None]


def explain(database: Database, request: Request, now: int, policy: Policy) -> Explained:
    """Return the decision that `reserve` would take now, rule by rule; nothing is held."""
    with database.read() as transaction:
        situation, _ = store.read_situation(transaction, request, now, policy)
    decision = decide(request, situation, now, policy)
    if isinstance(decision, Refused):
        decision = with_what_fits(database, request, decision, now, policy)
    rules = tuple(RuleOutcome(*outcome) for outcome in each_rule(request, situation, now, policy))
    return Explained(decision, rules, dict(_numbers(situation)))


def _numbers(situation: Situation) -> Iterator[tuple[str, str | int | None]]:
    allocation = situation.allocation
    yield "role", situation.role.value if situation.role else None
    yield "project_state", situation.project_state.value if situation.project_state else None
    yield "rate_card", situation.card_version
    yield "rate_gflops", situation.gflops
    if allocation is not None:
        yield "award_starts_at", allocation.starts_at
        yield "award_ends_at", allocation.ends_at
        yield "ceiling_gflops", allocation.ceiling_gflops
        yield "in_use_gflops", allocation.in_use_gflops
        yield "available_gflops_seconds", allocation.available
    for pool in situation.pools:
        yield f"pool_{pool.id}_healthy", pool.healthy
        yield f"pool_{pool.id}_in_use", pool.in_use
