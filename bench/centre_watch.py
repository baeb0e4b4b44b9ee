"""What must hold at every step of the simulated centre, and how much of it was in use.

The simulation keeps its own books of what it was granted: which runs hold which devices, at which rate and in which
class. After each step the engine's counters must be those, its accounts must add up to nothing with none overdrawn,
and the devices in use may not be more than can be used: where some were taken out of use under a hold, they may only
become fewer. At the end of each day every invariant is checked over the whole ledger.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from sqlalchemy import func, select

from bench.centre_plan import H100_GFLOPS, SLICE, SLICE_GFLOPS, Phase
from quotas.domain.ledger import MAY_GO_NEGATIVE
from quotas.domain.priorities import Priority, rates_of
from quotas.services import check
from quotas.store.database import Database, Prepared, Row
from quotas.store.tables import accounts, allocations, pool_devices, pools


class Broken(Exception):  # noqa: N818 - named for what the ledger is then
    """An invariant does not hold."""


@dataclass
class OpenRun:
    """What the simulation knows of a run whose hold is open; `stopping` once its end is on its way."""

    id: str
    project: str
    person: str
    is_notebook: bool
    gflops: int
    priority: Priority
    until_at: int
    pool_id: int | None = None
    device_model: str | None = None
    device_count: int = 0
    has_seat: bool = False
    started_at: float | None = None
    stopping: bool = False
    is_turn: bool = False


@dataclass
class Use:
    """What one phase came to: GFLOPS·s that could have been used, and that were held, by class."""

    seconds: int = 0
    healthy: int = 0
    powered: int = 0
    awarded: int = 0
    held: Counter[Priority] = field(default_factory=Counter)
    lost_devices: int = 0
    """Device-seconds that were held although their devices were out of use."""


_of_allocations = accounts.c.kind.not_in([kind.value for kind in MAY_GO_NEGATIVE])
_COUNTERS = Prepared(
    select(
        pools.c.code,
        pool_devices.c.pool_id,
        pool_devices.c.device_model,
        pool_devices.c.in_use,
        pool_devices.c.drained,
        pool_devices.c.reserved,
        select(func.sum(accounts.c.balance)).scalar_subquery().label("all_balances"),
        select(func.min(accounts.c.balance)).where(_of_allocations).scalar_subquery().label("least_balance"),
        select(func.sum(allocations.c.in_use_gflops)).scalar_subquery().label("within"),
        select(func.sum(allocations.c.beyond_gflops)).scalar_subquery().label("beyond"),
    ).join(pools, pools.c.id == pool_devices.c.pool_id)
)
"""One row for each pool and device model; what is of the whole ledger stands in each."""


class Watch:
    """The books of what is open, and what they come to."""

    def __init__(self, database: Database, phases: list[Phase]) -> None:
        self.database = database
        self.phases = phases
        self.open: dict[str, OpenRun] = {}
        self.use: dict[str, Use] = {phase.name: Use() for phase in phases}
        self.awarded_gflops = 0
        self.steps = self.days = 0
        self.excess_at_most = 0
        self._at = phases[0].from_at
        self._devices: Counter[tuple[int, str]] = Counter()
        self._held: Counter[Priority] = Counter()
        self._within = self._beyond = 0
        self._drained: dict[tuple[str, str], int] = defaultdict(int)
        self._before: dict[tuple[int, str], int] = {}
        self._excess = 0
        self._healthy = {
            phase.name: {(pool, model): healthy for pool, model, _, _, healthy in phase.devices()} for phase in phases
        }

    def phase(self, at: int) -> Phase:
        """Return the phase in force."""
        return next(phase for phase in reversed(self.phases) if phase.from_at <= at)

    def opened(self, run: OpenRun) -> None:
        """The run holds what it was granted."""
        self.open[run.id] = run
        self._count(run, 1)

    def closed(self, run_id: str) -> OpenRun:
        """The run holds nothing any more; return it."""
        run = self.open.pop(run_id)
        self._count(run, -1)
        return run

    def _count(self, run: OpenRun, sign: int) -> None:
        within, beyond = rates_of(run.priority, run.gflops)
        self._within += sign * within
        self._beyond += sign * beyond
        if run.device_model is not None and run.pool_id is not None:
            self._devices[run.pool_id, run.device_model] += sign * run.device_count
            self._held[run.priority] += sign * run.gflops

    def until(self, at: int) -> None:
        """What is held now was held until `at`, and counts in its phase."""
        while self._at < at:
            phase = self.phase(self._at)
            seconds = min(at, phase.until_at) - self._at if self._at < phase.until_at else at - self._at
            use = self.use[phase.name]
            use.seconds += seconds
            use.healthy += seconds * self._usable(phase)
            use.powered += seconds * _gflops({(pool, model): each for pool, model, _, each, _ in phase.devices()})
            use.awarded += seconds * self.awarded_gflops
            use.lost_devices += seconds * self._excess
            for priority, gflops in self._held.items():
                use.held[priority] += seconds * gflops
            self._at += seconds

    def _usable(self, phase: Phase) -> int:
        return _gflops(self._healthy[phase.name]) - _gflops(self._drained)

    def check(self, now: int) -> None:
        """Raise Broken where the engine's counters are not as they must be after a step."""
        self.steps += 1
        with self.database.read() as transaction:
            rows = transaction.rows(_COUNTERS)
        whole = rows[0]
        if whole.all_balances != 0 or whole.least_balance < 0:
            raise Broken(f"accounts add up to {whole.all_balances}, the least is {whole.least_balance}")
        if (whole.within, whole.beyond) != (self._within, self._beyond):
            raise Broken(f"rates in use {whole.within}, {whole.beyond}; granted {self._within}, {self._beyond}")
        healthy = self._healthy[self.phase(now).name]
        usable = [healthy.get((row.code, row.device_model), 0) - row.drained for row in rows]
        self._excess = sum(self._check_devices(row, number) for row, number in zip(rows, usable, strict=True))
        self.excess_at_most = max(self.excess_at_most, self._excess)

    def _check_devices(self, row: Row, usable: int) -> int:
        """Return how many devices are held although they are out of use; raise Broken for what cannot be."""
        key = row.pool_id, row.device_model
        if row.in_use != self._devices[key]:
            raise Broken(f"{row.code} {row.device_model}: {row.in_use} in use, {self._devices[key]} granted")
        before = self._before.get(key, 0)
        if row.in_use > max(usable, before):
            raise Broken(f"{row.code} {row.device_model}: {row.in_use} in use of {usable}, {before} before")
        if row.reserved < 0:
            raise Broken(f"{row.code} {row.device_model}: {row.reserved} reserved")
        self._before[key] = row.in_use
        self._drained[row.code, row.device_model] = row.drained
        return max(int(row.in_use) - usable, 0)

    def check_all(self, now: int) -> None:
        """Raise Broken where any invariant does not hold over the whole ledger."""
        self.days += 1
        found = check.findings(self.database, now)
        if found:
            raise Broken("; ".join(f"{each.invariant}: {each.subject}: {each.detail}" for each in found[:5]))


def _gflops(devices: dict[tuple[str, str], int]) -> int:
    return sum(number * (SLICE_GFLOPS if model == SLICE else H100_GFLOPS) for (_, model), number in devices.items())
