"""A small centre for tests of the services: one organisation, a few people, profiles, a pool, projects with awards.

A project `name` has the members that are given. Amounts are small round numbers, so that a test can count by hand.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import select, update

from quotas.domain.admission import Admitted, Decision, Request
from quotas.domain.ledger import Posting, TransferKind
from quotas.domain.people import MembershipRole
from quotas.domain.policy import Policy
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.services import admission
from quotas.store import ledger as ledger_store
from quotas.store.database import Database
from quotas.store.tables import (
    allocations,
    awards,
    capacity_phases,
    device_models,
    images,
    memberships,
    organisations,
    persons,
    pool_devices,
    pools,
    profiles,
    project_profiles,
    projects,
    rate_cards,
    rates,
)

START = 1_800_000_000
"""2027-01-15T08:00:00Z; awards start here unless a test says otherwise."""
DAY = 86_400
POLICY = Policy()
FIRST_HOLD = POLICY.hold + POLICY.stop_margin
GPU_GFLOPS, CPU_GFLOPS = 1_000, 10
GPU_KRW = 30 * DAY + 1
"""A GPU costs a little more than 1 KRW a second, so that a month's statement carries something."""


@dataclass
class Centre:
    """The centre's database, and what tests do to it."""

    database: Database
    people: dict[str, int] = field(default_factory=dict)
    projects: dict[str, int] = field(default_factory=dict)
    profiles: dict[str, int] = field(default_factory=dict)
    versions: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def person(self, username: str) -> int:
        if username not in self.people:
            with self.database.write() as transaction:
                values = {"username": username, "display_name": username, "language": "ko", "added_at": START}
                self.people[username] = transaction.insert(persons, {**values, "organisation_id": 1})
        return self.people[username]

    def project(self, code: str, members: Mapping[str, str], *, state: str = "approved") -> int:
        applicant = next(self.person(name) for name in members)
        with self.database.write() as transaction:
            self.projects[code] = transaction.insert(
                projects,
                {
                    "code": code,
                    "kind": "research",
                    "title_ko": code,
                    "title_en": code,
                    "organisation_id": 1,
                    "state": state,
                    "requested_gflops": 1,
                    "requested_precision": "fp32",
                    "requested_starts_at": START,
                    "requested_ends_at": START + DAY,
                    "applied_at": START,
                    "applied_by": applicant,
                },
            )
            for profile in self.profiles.values():
                transaction.insert(project_profiles, {"project_id": self.projects[code], "profile_id": profile})
        for name, role in members.items():
            self.member(code, name, role)
        return self.projects[code]

    def member(self, code: str, username: str, role: str = MembershipRole.MEMBER.value) -> None:
        values = {"project_id": self.projects[code], "person_id": self.person(username), "role": role}
        with self.database.write() as transaction:
            transaction.insert(memberships, {**values, "added_at": START})

    def award(
        self,
        code: str,
        budget: int,
        *,
        ceiling: int = 10**9,
        starts_at: int = START,
        ends_at: int = START + 365 * DAY,
    ) -> int:
        """The project has `budget` GFLOPS·s to spend; return the allocation's id."""
        dates = {"starts_at": starts_at, "ends_at": ends_at}
        with self.database.write() as transaction:
            award = transaction.insert(
                awards,
                {
                    "project_id": self.projects[code],
                    "gflops": ceiling,
                    "precision": "fp32",
                    **dates,
                    "burst_ppm": 1_000_000,
                    "utilisation_ppm": 1_000_000,
                    "awarded_at": START,
                    "awarded_by": "reviewer",
                },
            )
            allocation = transaction.insert(
                allocations,
                {
                    "project_id": self.projects[code],
                    "award_id": award,
                    "asset": "compute",
                    **dates,
                    "ceiling_gflops": ceiling,
                },
            )
            ledger_store.open_accounts(transaction, allocation)
            if budget:
                grant = Posting(f"award:{award}:grant", TransferKind.GRANT, budget)
                ledger_store.post(transaction, allocation, grant, START)
        return allocation

    def rate_card(self, gflops: Mapping[str, int], effective_from: int = START) -> int:
        version = next(self.versions)
        with self.database.write() as transaction:
            values = {"version": version, "effective_from": effective_from, "reference_precision": "fp32"}
            transaction.insert(rate_cards, {**values, "published_at": START, "published_by": "operator"})
            for profile, rate in gflops.items():
                row = {"version": version, "profile_id": self.profiles[profile], "gflops": rate, "rule": "assigned"}
                row["krw_per_device_month"] = GPU_KRW if profile.startswith("gpu") else None
                transaction.insert(rates, {**row, "reason": "a test", "approver": "operator"})
        return version

    def phase(self, healthy: int, from_at: int = START, pool_id: int = 1) -> None:
        values = {"pool_id": pool_id, "device_model": "h100", "from_at": from_at}
        sizes = dict.fromkeys(("installed", "powered", "healthy"), healthy)
        with self.database.write() as transaction:
            transaction.insert(capacity_phases, {**values, **sizes})

    def reserve(self, now: int, **asked: object) -> Decision:
        return admission.reserve(self.database, request(**asked), now, POLICY)

    def admitted(self, now: int, **asked: object) -> Admitted:
        decision = self.reserve(now, **asked)
        assert isinstance(decision, Admitted), decision
        return decision

    def run(self, start: int, seconds: float, **asked: object) -> tuple[str, admission.Charge]:
        """Return the UUID and the charge of a run that was held and started at `start` and stopped after `seconds`."""
        run_id = self.admitted(start, **asked).run_id
        admission.started(self.database, run_id, start)
        charge = self.settle(run_id, start, start + seconds)
        return run_id, charge

    def settle(self, run_id: str, started_at: float | None, finished_at: float | None) -> admission.Charge:
        now = int(finished_at or started_at or START)
        charge = admission.settle(self.database, run_id, admission.Ended(started_at, finished_at, Outcome.STOPPED), now)
        assert charge is not None
        return charge

    def balances(self, allocation: int) -> dict[str, int]:
        with self.database.read() as transaction:
            found = ledger_store.account_ids(transaction, allocation)
        return {kind.value: found[kind][1] for kind in found}

    def in_use(self, allocation: int) -> tuple[int, int]:
        """Return (GFLOPS in use of the allocation, devices in use of the first pool)."""
        with self.database.read() as transaction:
            rate = transaction.one(select(allocations.c.in_use_gflops).where(allocations.c.id == allocation))
            devices = transaction.one(select(pool_devices.c.in_use).where(pool_devices.c.pool_id == 1))
        return rate.in_use_gflops, devices.in_use

    def count(self, table: object) -> int:
        with self.database.read() as transaction:
            return len(transaction.rows(select(table)))

    def end_project(self, code: str) -> None:
        with self.database.write() as transaction:
            transaction.run(update(projects).where(projects.c.code == code).values(state="ended"))


def request(
    *,
    run_id: str | None = None,
    kind: RunKind = RunKind.NOTEBOOK,
    person: str = "ada",
    project: str = "vision",
    profile: str = "gpu",
    seconds: int | None = None,
    door: str = "test",
) -> Request:
    return Request(run_id or new_run_id(), kind, person, project, profile, seconds, door)


def found(database: Database) -> Centre:
    """Return a centre with the project `vision` of ada (PI) and bob, 8 devices and a rate card; no award yet."""
    centre = Centre(database)
    with database.write() as transaction:
        transaction.insert(organisations, {"code": "lab", "name_ko": "연구소", "name_en": "Lab", "kind": "university"})
        transaction.insert(
            device_models,
            {"code": "h100", "name": "H100", "kind": "gpu", "memory_bytes": 1, "units": 1, "units_total": 1},
        )
        transaction.insert(
            images, {"code": "notebook", "reference": "notebook", "title_ko": "노트북", "title_en": "Notebook"}
        )
        for position, (code, model, count) in enumerate((("gpu", "h100", 1), ("gpu-2", "h100", 2), ("cpu", None, 0))):
            centre.profiles[code] = transaction.insert(
                profiles,
                {
                    "code": code,
                    "name_ko": code,
                    "name_en": code,
                    "image_code": "notebook",
                    "device_model": model,
                    "device_count": count,
                    "cpu_millis": 1000,
                    "memory_bytes": 1,
                    "storage_bytes": 1,
                    "backend_terms": "{}",
                    "position": position,
                },
            )
        transaction.insert(pools, {"code": "main", "name_ko": "주", "name_en": "Main", "simulated": 1})
        transaction.insert(pool_devices, {"device_model": "h100", "pool_id": 1})
    centre.phase(8)
    centre.rate_card({"gpu": GPU_GFLOPS, "gpu-2": 2 * GPU_GFLOPS, "cpu": CPU_GFLOPS})
    centre.project("vision", {"ada": "pi", "bob": "member"})
    return centre
