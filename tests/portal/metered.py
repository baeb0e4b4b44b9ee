"""What a portal's ledger has to show of devices: a machine, who held its devices, and what was measured."""

from __future__ import annotations

import time
from dataclasses import dataclass

from quotas.domain.admission import Admitted, Request
from quotas.domain.node_reports import Process
from quotas.domain.people import PlatformRole
from quotas.domain.policy import Policy
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.services import admission, people
from quotas.store.database import Database
from tests.metered import Machine, machine, samples
from tests.platform import BY, GPU, PASSWORD

OPERATOR = "ola"
HOUR = 3600


@dataclass(frozen=True)
class Metered:
    """The machine, ada's run, which goes on and idles, and ben's, which has ended and of which half an hour is seen."""

    machine: Machine
    now: int
    idle: str
    ended: str


def fill(database: Database) -> Metered:
    """Two people of vision have held devices of a machine; an operator watches."""
    now = int(time.time())
    by = {"actor": BY, "now": now}
    roles = frozenset({PlatformRole.OPERATOR})
    people.add_person(database, OPERATOR, "Ola", organisation=None, language="en", platform_roles=roles, **by)
    people.set_password(database, OPERATOR, PASSWORD, **by)
    node = machine(database, now, count=4)
    idle = begin(database, "ada", now - 3 * HOUR)
    ended = begin(database, "ben", now - 2 * HOUR)
    stray = (Process(77, 2**30, "another-run"),)
    first, second = node.uuids[:2]
    node.take(list(samples(first, now - 3 * HOUR, now, busy_ppm=100_000, every=30.0, processes=stray)), now)
    node.take(list(samples(second, now - 2 * HOUR, now - 3 * HOUR // 2, busy_ppm=800_000)), now)
    end = admission.Ended(now - 2 * HOUR, now - HOUR, Outcome.STOPPED)
    admission.settle(database, ended, end, now - HOUR)
    return Metered(node, now, idle, ended)


def begin(database: Database, person: str, at: int) -> str:
    """Return the run of a server of the person's that started at `at`."""
    request = Request(new_run_id(), RunKind.NOTEBOOK, person, "vision", GPU)
    decision = admission.reserve(database, request, at, Policy())
    assert isinstance(decision, Admitted), decision
    admission.started(database, request.run_id, at)
    return request.run_id
