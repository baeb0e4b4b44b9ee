"""People who hold the devices of a pool, in any class and with any share used: each on a project of their own."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

from sqlalchemy import select, update

from quotas.domain.admission import Admitted, Decision, Request
from quotas.domain.fair_share import steady_use
from quotas.domain.policy import Policy
from quotas.domain.priorities import Priority
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.domain.units import PPM
from quotas.services import admission
from quotas.store.database import Row
from quotas.store.tables import allocations, holds, notices, queue_entries, reservation_windows, reservations, runs
from tests.services.centre import GPU_GFLOPS, START, Centre

POLICY = Policy(borrow_limit_ppm=2 * PPM)
NOW = START + 86_400
"""When the first of them start."""
BUDGET = 10**9 * GPU_GFLOPS
GUARANTEED, BORROWED, OPPORTUNISTIC = Priority.GUARANTEED, Priority.BORROWED, Priority.OPPORTUNISTIC


@dataclass
class Holders:
    """The centre, and who was started on its eight devices."""

    centre: Centre
    names: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    run_of: dict[str, str] = field(default_factory=dict)
    """Person → their run."""

    def ask(
        self,
        wish: Priority = GUARANTEED,
        at: int = NOW,
        *,
        devices: int = 1,
        used: float = 0.0,
        seconds: int | None = None,
        in_turn: bool = False,
    ) -> tuple[str, Decision]:
        """Ask for a notebook (a batch run with `seconds`); return the person, and the answer.

        `used` is in multiples of what steady use of the project's award comes to.
        """
        person = f"p{next(self.names):02}"
        rate = devices * GPU_GFLOPS
        self.centre.project(person, {person: "pi"})
        # A small award may not run the device within its ceiling, but may borrow twice of that.
        ceiling = rate * 6 // 10 if wish is BORROWED else 10 * rate
        allocation = self.centre.award(person, BUDGET, ceiling=ceiling)
        with self.centre.database.write() as transaction:
            values = {"decayed_use": used * steady_use(ceiling), "decayed_at": at}
            transaction.run(update(allocations).where(allocations.c.id == allocation).values(**values))
        self.run_of[person] = run_id = new_run_id()
        kind = RunKind.NOTEBOOK if seconds is None else RunKind.BATCH
        profile = "gpu" if devices == 1 else f"gpu-{devices}"
        request = Request(run_id, kind, person, person, profile, seconds, wish=wish, in_turn=in_turn)
        return person, admission.reserve(self.centre.database, request, at, POLICY)

    def start(
        self,
        wish: Priority = GUARANTEED,
        at: int = NOW,
        *,
        devices: int = 1,
        used: float = 0.0,
        seconds: int | None = None,
    ) -> str:
        """Return the person whose run began at `at`."""
        person, decision = self.ask(wish, at, devices=devices, used=used, seconds=seconds, in_turn=True)
        assert isinstance(decision, Admitted), decision
        assert decision.priority is wish
        admission.started(self.centre.database, self.run_of[person], at)
        return person

    def waits(self, devices: int = 1, at: int = NOW, *, blocked_by: str | None = None) -> str:
        """Someone waits in the queue for devices; return the run that they would become."""
        run_id = new_run_id()
        person = f"p{next(self.names):02}"
        project = self.centre.project(person, {person: "pi"})
        with self.centre.database.write() as transaction:
            transaction.insert(
                queue_entries,
                {
                    "run_id": run_id,
                    "kind": "notebook",
                    "person_id": self.centre.person(person),
                    "project_id": project,
                    "profile_id": self.centre.profiles["gpu"],
                    "device_model": "h100",
                    "device_count": devices,
                    "wish": "guaranteed",
                    "mode": "start",
                    "state": "waiting",
                    "blocked_by": blocked_by,
                    "joined_at": at,
                },
            )
        return run_id

    def waits_no_more(self, run_id: str, at: int, state: str = "cancelled") -> None:
        with self.centre.database.write() as transaction:
            values = {"state": state, "ended_at": at}
            transaction.run(update(queue_entries).where(queue_entries.c.run_id == run_id).values(**values))

    def window(self, seats: int, opens_at: int, seconds: int = 3600, *, state: str = "scheduled") -> int:
        """A class has this many seats of one device from `opens_at` on; return the window's id."""
        with self.centre.database.write() as transaction:
            starts_at = opens_at + POLICY.seats_early
            dates = {"starts_at": starts_at, "seats": seats}
            whose = {"project_id": self.centre.projects["vision"], "profile_id": self.centre.profiles["gpu"]}
            reservation = transaction.insert(
                reservations,
                {
                    **whose,
                    **dates,
                    "pool_id": 1,
                    "title_ko": "수업",
                    "title_en": "A class",
                    "zone": "Asia/Seoul",
                    "seconds": seconds,
                    "charge_idle": 0,
                    "roster": "listed",
                    "state": "approved",
                    "requested_at": START,
                    "requested_by": self.centre.people["ada"],
                },
            )
            return transaction.insert(
                reservation_windows,
                {
                    **whose,
                    **dates,
                    "reservation_id": reservation,
                    "pool_id": 1,
                    "device_model": "h100",
                    "device_count": 1,
                    "opens_at": opens_at,
                    "release_at": starts_at + POLICY.seats_release,
                    "ends_at": starts_at + seconds,
                    "state": state,
                },
            )

    def change_window(self, window: int, **values: object) -> None:
        with self.centre.database.write() as transaction:
            transaction.run(update(reservation_windows).where(reservation_windows.c.id == window).values(**values))

    def extend_all(self, now: int) -> dict[str, str]:
        """Do as the loop does: extend whoever is open; stop and charge whom that says to. Return person → outcome."""
        ended = {}
        for person, run_id in self.run_of.items():
            extension = admission.extend(self.centre.database, run_id, now, POLICY)
            if extension.stop_at is not None and extension.stop_at <= now:
                done = replace(admission.Ended(None, now, Outcome.LIMIT))
                admission.settle(self.centre.database, run_id, done, now)
                ended[person] = str(extension.limit)
        return ended

    def marks(self) -> dict[str, int]:
        """Return person → when their run ends at the latest, of those open runs that are not extended for ever."""
        return {person: row.ends_by for person, row in self._open().items() if row.ends_by is not None}

    def preempted(self) -> dict[str, int]:
        """Return person → when they give their devices back."""
        return {person: row.preempt_at for person, row in self._open().items() if row.preempt_at is not None}

    def open(self) -> set[str]:
        return set(self._open())

    def _open(self) -> dict[str, Row]:
        people = {run_id: person for person, run_id in self.run_of.items()}
        with self.centre.database.read() as transaction:
            rows = transaction.rows(
                select(runs.c.id, runs.c.preempt_at, runs.c.preempted_for, holds.c.ends_by, holds.c.until_at)
                .join(holds, holds.c.run_id == runs.c.id)
                .where(holds.c.state == "open")
            )
        return {people[row.id]: row for row in rows if row.id in people}

    def told(self, person: str) -> list[tuple[str, str]]:
        """Return (kind, text in English) of all that the person was told, in order."""
        with self.centre.database.read() as transaction:
            rows = transaction.rows(
                select(notices.c.kind, notices.c.text_en)
                .where(notices.c.person_id == self.centre.people[person])
                .order_by(notices.c.id)
            )
        return [(row.kind, row.text_en) for row in rows]
