"""Pools of devices: what is installed, powered, healthy and in use."""

from __future__ import annotations

from dataclasses import dataclass

from quotas.domain.devices import peaks
from quotas.domain.pools import CapacityPhase
from quotas.domain.rates import Precision
from quotas.domain.texts import code as checked_code
from quotas.domain.texts import text
from quotas.domain.units import InvalidValue, amount, show_instant
from quotas.services.people import taken, unknown
from quotas.store import audit
from quotas.store import pools as store
from quotas.store import profiles as profiles_store
from quotas.store import rates as rates_store
from quotas.store.database import Conflict, Database, Transaction


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

    Raises InvalidValue for an unknown pool or device model, for two phases that begin at the same instant, and for one
    in the past with fewer devices than are in use.
    """
    amount("from_at", phase.from_at)
    try:
        with database.write() as transaction:
            pool_id = store.pool_id(transaction, pool)
            if pool_id is None:
                raise unknown("pool", pool)
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
        )
        for row in store.capacity(transaction, now)
    ]
