"""Pools of devices: what is installed, powered, healthy and in use."""

from __future__ import annotations

from dataclasses import dataclass, replace

from quotas.domain.devices import peaks
from quotas.domain.pools import CapacityPhase, Drain, check_drain
from quotas.domain.priorities import Priority, gives_way_before
from quotas.domain.rates import Precision
from quotas.domain.texts import code as checked_code
from quotas.domain.texts import text
from quotas.domain.units import InvalidValue, amount, show_instant
from quotas.services.people import taken, unknown
from quotas.store import audit
from quotas.store import nodes as nodes_store
from quotas.store import pools as store
from quotas.store import preemption as holders_store
from quotas.store import profiles as profiles_store
from quotas.store import rates as rates_store
from quotas.store.database import Conflict, Database, Row, Transaction


@dataclass(frozen=True)
class PoolView:
    """The devices of one model in one pool at one moment.

    `device_gflops` is the peak of one at the reference precision of the rate card in force; None where no card is, or
    no source states one.
    """

    code: str
    name_ko: str
    name_en: str
    simulated: bool
    device_model: str
    device_name: str
    installed: int
    powered: int
    healthy: int
    in_use: int
    device_gflops: int | None
    drained: int = 0
    reserved: int = 0

    @property
    def usable(self) -> int:
        """What may be held: healthy, and neither drained nor kept for seats."""
        return max(self.healthy - self.drained - self.reserved, 0)

    @property
    def powered_gflops(self) -> int:
        return self.powered * (self.device_gflops or 0)

    @property
    def healthy_gflops(self) -> int:
        return self.healthy * (self.device_gflops or 0)

    @property
    def in_use_gflops(self) -> int:
        return self.in_use * (self.device_gflops or 0)

    def name(self, language: str) -> str:
        return self.name_ko if language == "ko" else self.name_en


def add_pool(  # noqa: PLR0913 - each is one column of a pool
    database: Database, code: str, name_ko: str, name_en: str, *, simulated: bool, actor: str, now: int
) -> None:
    """The pool exists, without devices. On a simulated one no device is attached to what runs.

    Raises InvalidValue when its code is taken or a name is empty.
    """
    checked_code("pool", code)
    names = text("name_ko", name_ko, 200), text("name_en", name_en, 200)
    try:
        with database.write() as transaction:
            store.add(transaction, code, *names, simulated)
            audit.record(transaction, now, actor, "pool added", code, {"simulated": simulated})
    except Conflict:
        raise taken("pool", code) from None


def add_phase(database: Database, pool: str, phase: CapacityPhase, *, actor: str, now: int) -> None:
    """From `phase.from_at` on, until the next phase of the same model, the pool has these devices.

    Raises InvalidValue for an unknown pool or device model, for a pool with machines, for two phases that begin at the
    same instant, and for one in the past with fewer devices than are in use.
    """
    amount("from_at", phase.from_at)
    try:
        with database.write() as transaction:
            pool_id = _pool_id(transaction, pool)
            _must_have_no_machines(transaction, pool_id, pool)
            if phase.device_model not in {model.code for model in profiles_store.device_model_list(transaction)}:
                raise unknown("device_model", phase.device_model)
            _must_not_shrink_the_past(transaction, pool, phase, now)
            store.add_phase(transaction, pool_id, phase)
            detail = {
                "device": phase.device_model,
                "from_at": phase.from_at,
                "installed": phase.installed,
                "powered": phase.powered,
                "healthy": phase.healthy,
            }
            audit.record(transaction, now, actor, "capacity phase added", pool, detail)
    except Conflict:
        at = show_instant(phase.from_at)
        raise InvalidValue(
            "from_at",
            f"a phase of {phase.device_model} in {pool} begins at {at} already; two may not overlap",
            f"{at}에 시작하는 {pool}의 {phase.device_model} 단계가 이미 있습니다. 기간이 겹칠 수 없습니다",
        ) from None


def _must_have_no_machines(transaction: Transaction, pool_id: int, pool: str) -> None:
    if nodes_store.has_any(transaction, pool_id):
        raise InvalidValue(
            "pool",
            f"{pool} has machines: its capacity is what they report (mudeung nodes list); drain devices to use fewer",
            f"{pool}에는 장비가 있어 용량이 보고를 따릅니다(mudeung nodes list). 줄이려면 장치를 중단하세요",
        )


def _must_not_shrink_the_past(transaction: Transaction, pool: str, phase: CapacityPhase, now: int) -> None:
    """What runs was admitted to the phase of its time: a shortage begins when it is known, not before."""
    in_use = sum(
        row.in_use
        for row in store.capacity(transaction, now)
        if row.code == pool and row.device_model == phase.device_model
    )
    if phase.from_at < now and in_use > phase.healthy:
        raise InvalidValue(
            "from_at",
            f"{in_use} {phase.device_model} of {pool} are in use; a phase with {phase.healthy} begins now or later",
            f"{phase.device_model} {in_use}대 사용 중 ({pool}). 정상 {phase.healthy}대 단계는 지금 이후여야 합니다",
        )


def cancel_phase(database: Database, pool: str, device_model: str, from_at: int, *, actor: str, now: int) -> None:
    """The phase, which has not begun, will not: the one before it goes on.

    Raises InvalidValue for an unknown pool, for an instant at which no phase of the model begins, and for one that has
    begun: what was admitted to it stays as it was, and a new phase says what is so from now on.
    """
    at = show_instant(amount("from_at", from_at))
    if from_at <= now:
        raise InvalidValue(
            "from_at",
            f"the phase at {at} has begun; allowed is one after {show_instant(now)}",
            f"{at}에 시작한 단계는 취소할 수 없습니다. {show_instant(now)} 이후의 단계여야 합니다",
        )
    with database.write() as transaction:
        if not store.cancel_phase(transaction, _pool_id(transaction, pool), device_model, from_at):
            raise InvalidValue(
                "from_at",
                f"no phase of {device_model:.60} in {pool} begins at {at}",
                f"{at}에 시작하는 {pool}의 {device_model:.60} 단계가 없습니다",
            )
        audit.record(transaction, now, actor, "capacity phase cancelled", pool, {"device": device_model, "from_at": at})


def drain(  # noqa: PLR0913 - each says one thing of what is taken out of use
    database: Database, pool: str, device_model: str, count: int, reason: str, *, actor: str, now: int
) -> Drain:
    """The devices are out of use from now on, as failed or to be mended: nothing new is started on them.

    Nothing inside a hold is stopped; where too few are left, the loop extends some no further and tells them why.
    Raises InvalidValue for an unknown pool or model, a count that is not above zero or more than are healthy and not
    drained yet, and for an empty reason.
    """
    amount("count", count)
    why = text("reason", reason, 300)
    with database.write() as transaction:
        pool_id = _pool_id(transaction, pool)
        row = _devices(transaction, pool, device_model, now)
        check_drain(device_model, count, row.healthy, row.drained)
        if not store.drain(transaction, pool_id, device_model, count, now):
            raise Conflict("the devices of the pool were drained by another transaction")
        drained = Drain(0, pool, device_model, count, why, now)
        drained = replace(drained, id=store.add_drain(transaction, pool_id, drained, actor))
        detail = {"drain": drained.id, "device": device_model, "count": count, "reason": why}
        audit.record(transaction, now, actor, "devices drained", pool, detail)
        return drained


def undrain(database: Database, drain_id: int, *, count: int | None = None, actor: str, now: int) -> Drain | None:
    """`count` devices of the drain (None: all of them) are in use again; return the drain of those that are left.

    Raises InvalidValue for a drain that does not exist or has ended, and for more devices than it has.
    """
    with database.write() as transaction:
        found = store.one_drain(transaction, drain_id)
        if found is None or found.ended_at is not None:
            known = ", ".join(str(each.id) for each in store.open_drains(transaction)) or "-"
            raise InvalidValue(
                "drain",
                f"there is no open drain {drain_id}; open are: {known}",
                f"진행 중인 중단 {drain_id}이(가) 없습니다. 진행 중: {known}",
            )
        back = found.count if count is None else amount("count", count)
        if back > found.count:
            raise InvalidValue(
                "count",
                f"the drain has {found.count} devices; allowed is 1 to {found.count}, not {back}",
                f"이 중단에는 장치가 {found.count}대 있습니다. 1~{found.count}이어야 합니다 (입력: {back})",
            )
        pool_id = _pool_id(transaction, found.pool)
        ended = store.end_drain(transaction, found.id, now)
        if not ended or not store.return_devices(transaction, pool_id, found.device_model, back):
            raise Conflict("the drain was ended by another transaction")
        detail = {"drain": found.id, "device": found.device_model, "count": back}
        audit.record(transaction, now, actor, "devices in use again", found.pool, detail)
        if back == found.count:
            return None
        left = replace(found, count=found.count - back)
        return replace(left, id=store.add_drain(transaction, pool_id, left, actor))


def open_drains(database: Database) -> list[Drain]:
    """Return the open drains of all pools, oldest first."""
    with database.read() as transaction:
        return store.open_drains(transaction)


def _pool_id(transaction: Transaction, pool: str) -> int:
    pool_id = store.pool_id(transaction, pool)
    if pool_id is None:
        raise unknown("pool", pool)
    return pool_id


def _devices(transaction: Transaction, pool: str, device_model: str, now: int) -> Row:
    """Return the pool's devices of the model as they are now. Raises InvalidValue where it has none."""
    there = [row for row in store.capacity(transaction, now) if row.code == pool]
    found = next((row for row in there if row.device_model == device_model), None)
    if found is None:
        known = ", ".join(row.device_model for row in there) or "-"
        raise InvalidValue(
            "device_model",
            f"{pool} has no {device_model!r:.60}; it has: {known}",
            f"{pool}에 {device_model!r:.60}이(가) 없습니다. 있는 장치: {known}",
        )
    return found


@dataclass(frozen=True)
class PhaseView:
    """A dated phase of one pool; `is_in_force` when it is the one that holds now."""

    pool: str
    phase: CapacityPhase
    is_in_force: bool


def phases(database: Database, pool: str, now: int) -> list[PhaseView]:
    """Return all phases of the pool, by model and time. Raises InvalidValue for an unknown pool."""
    with database.read() as transaction:
        _pool_id(transaction, pool)
        rows = [row for row in store.every_phase(transaction) if row.code == pool]
    newest: dict[str, int] = {}
    for row in rows:
        if row.from_at <= now:
            newest[row.device_model] = row.from_at
    rows.sort(key=lambda row: (row.device_model, row.from_at))
    return [
        PhaseView(
            pool,
            CapacityPhase(row.device_model, row.from_at, row.installed, row.powered, row.healthy),
            newest.get(row.device_model) == row.from_at,
        )
        for row in rows
    ]


@dataclass(frozen=True)
class HolderView:
    """A run that holds devices of the pool; `fair_share` is its project's F. Instants in seconds UTC.

    `ends_by`: it is extended no further. `preempt_at`: it gives its devices back then.
    """

    run_id: str
    kind: str
    project: str
    profile: str
    device_model: str
    device_count: int
    priority: Priority
    fair_share: float
    opened_at: int
    until_at: int
    ends_by: int | None
    preempt_at: int | None


def holders(database: Database, pool: str, now: int) -> list[HolderView]:
    """Return who holds devices of the pool, by model, in the order in which they would give way.

    Raises InvalidValue for an unknown pool.
    """
    with database.read() as transaction:
        pool_id = _pool_id(transaction, pool)
        models = [row.device_model for row in store.capacity(transaction, now) if row.code == pool]
        rows = [row for model in models for row in holders_store.open_holds(transaction, model)]
    found = [
        (holders_store.holder(row, now, asked=row.ends_by is not None or row.preempt_at is not None), row)
        for row in rows
        if row.pool_id == pool_id
    ]
    found.sort(key=lambda each: (each[1].device_model, gives_way_before(each[0])))
    return [
        HolderView(
            run_id=row.id,
            kind=row.kind,
            project=row.project,
            profile=row.profile,
            device_model=row.device_model,
            device_count=row.device_count,
            priority=each.priority,
            fair_share=each.fair_share,
            opened_at=row.opened_at,
            until_at=row.until_at,
            ends_by=row.ends_by,
            preempt_at=row.preempt_at,
        )
        for each, row in found
    ]


def capacity(database: Database, now: int, precision: Precision | None = None) -> list[PoolView]:
    """Return the devices of every pool and model as of `now`; `precision` None is that of the rate card in force."""
    with database.read() as transaction:
        return views(transaction, now, precision)


def views(transaction: Transaction, now: int, precision: Precision | None = None) -> list[PoolView]:
    """Return the same, of a transaction's moment."""
    card = rates_store.in_force(transaction, now)
    precision = precision or (card.reference_precision if card else None)
    models, facts = profiles_store.device_model_list(transaction), profiles_store.facts(transaction)
    peak = peaks(models, facts, precision) if precision else {}
    return [
        PoolView(
            code=row.code,
            name_ko=row.name_ko,
            name_en=row.name_en,
            simulated=bool(row.simulated),
            device_model=row.device_model,
            device_name=row.device_name,
            installed=row.installed,
            powered=row.powered,
            healthy=row.healthy,
            in_use=row.in_use,
            device_gflops=peak.get(row.device_model),
            drained=row.drained,
            reserved=row.reserved,
        )
        for row in store.capacity(transaction, now)
    ]
