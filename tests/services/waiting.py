"""People who wait for the eight devices of a pool, each on a project of their own, beside those who hold them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from sqlalchemy import select, update

from quotas.domain.admission import Decision, Request
from quotas.domain.fair_share import steady_use
from quotas.domain.priorities import Priority
from quotas.domain.queue import EntryState, Mode, QueueLimits
from quotas.domain.refusals import Refused
from quotas.domain.runs import RunKind, new_run_id
from quotas.services import check, queue, queue_steps, queue_views
from quotas.services.queue_entries import Entry
from quotas.services.queue_views import Place
from quotas.store.tables import allocations, notices, pool_devices
from tests.services.centre import GPU_GFLOPS, Centre
from tests.services.holders import BUDGET, NOW, POLICY, Holders

__all__ = ["NOW", "POLICY", "Waiters"]


@dataclass
class Waiters:
    """The centre, who holds its devices, and who waits."""

    centre: Centre
    limits: QueueLimits = field(default_factory=QueueLimits)
    holders: Holders = field(init=False)
    runs: dict[str, str] = field(default_factory=dict)
    """Person → the run that their entry becomes."""

    def __post_init__(self) -> None:
        self.holders = Holders(self.centre)

    def fill(self, devices: int = 8, wish: Priority = Priority.GUARANTEED, at: int = NOW) -> list[str]:
        """So many devices are in use; return who has them."""
        return [self.holders.start(wish, at) for _ in range(devices)]

    def stop(self, holder: str, at: int) -> None:
        """The holder's run has ended and is charged."""
        self.centre.settle(self.holders.run_of[holder], NOW, at)

    def person(self, name: str, *, used: float = 0.0, ceiling: int = 10 * GPU_GFLOPS, budget: int = BUDGET) -> int:
        """The person has a project of their own, of their name; return its allocation."""
        self.centre.project(name, {name: "pi"})
        allocation = self.centre.award(name, budget, ceiling=ceiling)
        with self.centre.database.write() as transaction:
            values = {"decayed_use": used * steady_use(ceiling), "decayed_at": NOW}
            transaction.run(update(allocations).where(allocations.c.id == allocation).values(**values))
        return allocation

    def ask(
        self,
        name: str,
        at: int = NOW,
        *,
        profile: str = "gpu",
        wish: Priority = Priority.GUARANTEED,
        mode: Mode = Mode.OFFER,
        seconds: int | None = None,
        project: str | None = None,
        used: float = 0.0,
    ) -> Entry | Refused:
        """Ask to wait; someone new has an empty project of their own."""
        if name not in self.centre.people and project is None:
            self.person(name, used=used)
        kind = RunKind.NOTEBOOK if seconds is None else RunKind.BATCH
        request = Request(new_run_id(), kind, name, project or name, profile, seconds, wish=wish)
        found = queue.join(self.centre.database, request, mode, at, POLICY, self.limits)
        if isinstance(found, Entry):
            self.runs[name] = found.run_id
        return found

    def join(self, name: str, at: int = NOW, **asked: object) -> Entry:
        """They wait."""
        found = self.ask(name, at, **asked)  # type: ignore[arg-type]
        assert isinstance(found, Entry), found
        return found

    def step(self, at: int) -> Counter[str]:
        """Make one step; afterwards the ledger is sound, and no more devices are held than there are."""
        done = queue_steps.step(self.centre.database, at, POLICY, self.limits)
        assert check.findings(self.centre.database, at) == []
        return done

    def start(self, name: str, at: int, *, profile: str = "gpu", door: str = "hub:1", **asked: object) -> Decision:
        """Ask for a server, as the hub does."""
        request = Request(new_run_id(), RunKind.NOTEBOOK, name, name, profile, door=door, **asked)  # type: ignore[arg-type]
        return queue.start(self.centre.database, request, at, POLICY)

    def place(self, name: str, at: int = NOW) -> Place:
        found = queue_views.one(self.centre.database, self.runs[name], at)
        assert found is not None
        return found

    def entry(self, name: str) -> Entry:
        return self.place(name).entry

    def state(self, name: str) -> EntryState:
        return self.entry(name).state

    def states(self) -> dict[str, str]:
        return {name: self.state(name).value for name in self.runs}

    def in_turn(self) -> list[str]:
        return [name for name, state in self.states().items() if state == "turn"]

    def told(self, name: str) -> list[tuple[str, str]]:
        """Return (kind, text in English) of what the person was told, in order."""
        with self.centre.database.read() as transaction:
            rows = transaction.rows(
                select(notices.c.kind, notices.c.text_en)
                .where(notices.c.person_id == self.centre.people[name])
                .order_by(notices.c.id)
            )
        return [(row.kind, row.text_en) for row in rows]

    def devices(self) -> int:
        """Return how many devices are in use."""
        with self.centre.database.read() as transaction:
            row = transaction.one(select(pool_devices.c.in_use).where(pool_devices.c.pool_id == 1))
        return int(row.in_use)
