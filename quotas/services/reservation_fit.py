"""Whether windows of seats fit into a pool beside all else, what would fit instead, and whether it can be paid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from quotas.domain import admission as rules
from quotas.domain.policy import Policy
from quotas.domain.projects import ProjectState
from quotas.domain.reservations import Asked, Term, Window
from quotas.domain.room import Bounds, Fit, Room, all_fit, fits, shifts
from quotas.domain.runs import RunKind
from quotas.domain.schedules import zone
from quotas.domain.units import DAY_SECONDS, InvalidValue, show_instant
from quotas.store import admission as admission_store
from quotas.store import reservation_room as store
from quotas.store.database import Row, Transaction


@dataclass(frozen=True)
class Facts:
    """What the project and the profile allow now: rate in GFLOPS, `available` in GFLOPS·s."""

    project_id: int
    profile_id: int
    device_model: str
    device_count: int
    gflops: int
    available: int
    term: Term


@dataclass(frozen=True)
class Budget:
    """What all windows would cost if every seat were used, in GFLOPS·s, and of how many windows that can be paid.

    `promised` is what the project's other windows to come would cost; it is taken off `available` first.
    """

    cost: int
    available: int
    promised: int
    windows: int
    payable: int

    @property
    def is_enough(self) -> bool:
        return self.payable >= self.windows


@dataclass(frozen=True)
class Alternatives:
    """What fits into every window instead. 0, None and empty: nothing of that kind does.

    `seats` of the same profile in the same pool; all of them with the first window at `earlier_at` or `later_at`
    (seconds UTC); in other `pools`; or with another profile, each with the pool.
    """

    seats: int
    earlier_at: int | None
    later_at: int | None
    pools: tuple[str, ...]
    profiles: tuple[tuple[str, str], ...]

    @property
    def nothing(self) -> bool:
        return not (self.seats or self.earlier_at or self.later_at or self.pools or self.profiles)


@dataclass(frozen=True)
class Assessment:
    """How a reservation fits: each window in `pool`; `alternatives` is None where all do.

    `passed` windows have begun already and are left out; `on_roster` persons would share the seats.
    """

    asked: Asked
    pool: str
    pool_id: int
    facts: Facts
    windows: tuple[Fit, ...]
    budget: Budget
    alternatives: Alternatives | None
    passed: int = 0
    on_roster: int = 0

    @property
    def conflicts(self) -> tuple[Fit, ...]:
        return tuple(fit for fit in self.windows if fit.short)

    @property
    def fits(self) -> bool:
        return not self.conflicts


def read_facts(transaction: Transaction, asked: Asked, now: int, policy: Policy) -> Facts:
    """Return what the project and profile allow. Raises InvalidValue for what cannot be reserved at all."""
    request = rules.Request("", RunKind.NOTEBOOK, "", asked.project, asked.profile)
    situation, keys = admission_store.read_situation(transaction, request, now, policy)
    allocation = situation.allocation
    if keys.project_id is None:
        raise _wrong("project", f"there is no {asked.project!r:.60}", f"{asked.project!r:.60}이(가) 없습니다")
    if situation.project_state is not ProjectState.APPROVED or allocation is None or allocation.revoked:
        raise _wrong("project", f"{asked.project} has no award", f"{asked.project}: 유효한 배정이 없습니다")
    if allocation.ends_at <= now:
        at = show_instant(allocation.ends_at)
        raise _wrong("project", f"the award ended at {at}", f"배정이 {at}에 종료되었습니다")
    if keys.profile_id is None:
        raise _wrong("profile", f"there is no {asked.profile!r:.60}", f"{asked.profile!r:.60}이(가) 없습니다")
    offered = [row.code for row in store.profiles_with_devices(transaction, keys.project_id, now)]
    can = (", ".join(offered) or "none", ", ".join(offered) or "없음")
    if situation.device_model is None:
        raise _wrong("profile", f"has no device to reserve; with devices: {can[0]}", f"장치가 없습니다. 가능: {can[1]}")
    if not situation.profile_offered:
        raise _wrong("profile", f"is not offered to the project; offered: {can[0]}", f"제공되지 않음. 가능: {can[1]}")
    if situation.gflops is None:
        raise _wrong("profile", f"has no published rate; with a rate: {can[0]}", f"요율이 없습니다. 가능: {can[1]}")
    return Facts(
        project_id=keys.project_id,
        profile_id=keys.profile_id,
        device_model=situation.device_model,
        device_count=situation.device_count,
        gflops=situation.gflops,
        available=allocation.available,
        term=Term(allocation.starts_at, allocation.ends_at),
    )


def assess(
    transaction: Transaction,
    asked: Asked,
    facts: Facts,
    windows: Sequence[Window],
    *,
    now: int,
    number: int = 0,
) -> Assessment:
    """Return how the windows fit into `asked.pool`, or where that is None into the pool in which most seats do.

    The reservation `number` itself does not count. Raises InvalidValue for a pool that has no such devices.
    """
    rooms = _rooms(transaction, facts.device_model, windows, now)
    if asked.pool is not None and asked.pool not in {pool.code for pool, _ in rooms}:
        known = ", ".join(pool.code for pool, _ in rooms)
        raise _wrong(
            "pool",
            f"{asked.pool!r:.60} has no {facts.device_model}; pools that have: {known or 'none'}",
            f"{asked.pool!r:.60}에 {facts.device_model}이(가) 없습니다. 가능: {known or '없음'}",
        )
    if not rooms:
        raise _wrong("pool", f"no pool has {facts.device_model}", f"{facts.device_model}이(가) 있는 자원이 없습니다")
    fitting = [(fits(room, windows, asked.seats, facts.device_count), pool, room) for pool, room in rooms]
    if asked.pool is not None:
        fitting = [each for each in fitting if each[1].code == asked.pool]
    found, pool, room = max(fitting, key=lambda each: (min(fit.fit for fit in each[0]), sum(f.fit for f in each[0])))
    assessment = Assessment(
        asked=replace(asked, pool=pool.code),
        pool=pool.code,
        pool_id=pool.id,
        facts=facts,
        windows=found,
        budget=_budget(transaction, asked, facts, len(windows), number, now),
        alternatives=None,
    )
    if assessment.fits:
        return assessment
    others = [each for each in rooms if each[0].id != pool.id]
    return replace(assessment, alternatives=_alternatives(transaction, assessment, room, others, now))


def _rooms(transaction: Transaction, device_model: str, windows: Sequence[Window], now: int) -> list[tuple[Row, Room]]:
    """Return the pools that have the model, each with its room, a day around the windows."""
    from_at = max(windows[0].opens_at - DAY_SECONDS, min(now, windows[0].opens_at))
    to_at = windows[-1].ends_at + DAY_SECONDS
    found = []
    for pool in store.pools_of(transaction, device_model):
        phases = store.phases(transaction, device_model, pool.id)
        needs = store.needs(transaction, device_model, pool.id, from_at, to_at)
        found.append((pool, Room(phases, pool.drained, needs)))
    return found


def _budget(transaction: Transaction, asked: Asked, facts: Facts, windows: int, number: int, now: int) -> Budget:
    promised = store.promised(transaction, facts.project_id, number, now)
    each = asked.seats * asked.seconds * facts.gflops
    payable = min(max(facts.available - promised, 0) // each, windows)
    return Budget(each * windows, facts.available, promised, windows, payable)


def _alternatives(
    transaction: Transaction, assessment: Assessment, room: Room, others: list[tuple[Row, Room]], now: int
) -> Alternatives:
    asked, facts = assessment.asked, assessment.facts
    windows = [fit.window for fit in assessment.windows]
    devices = asked.seats * facts.device_count
    bounds = Bounds(max(now, facts.term.starts_at), facts.term.ends_at, zone(asked.zone))
    earlier, later = shifts(room, windows, devices, bounds)
    first = windows[0].starts_at
    profiles = []
    for profile in store.profiles_with_devices(transaction, facts.project_id, now):
        if profile.code == asked.profile:
            continue
        rooms = _rooms(transaction, profile.device_model, windows, now)
        needed = asked.seats * profile.device_count
        profiles += [(profile.code, pool.code) for pool, there in rooms if all_fit(there, windows, needed)]
    return Alternatives(
        seats=min(fit.fit for fit in assessment.windows),
        earlier_at=None if earlier is None else first + earlier,
        later_at=None if later is None else first + later,
        pools=tuple(pool.code for pool, there in others if all_fit(there, windows, devices)),
        profiles=tuple(profiles),
    )


def _wrong(field: str, english: str, korean: str) -> InvalidValue:
    return InvalidValue(field, english, korean)
