"""A centre whose project `vision` has a year's award of one device, and what tests of recalls do with it."""

from __future__ import annotations

from sqlalchemy import insert, select

from quotas.domain.months import Month
from quotas.domain.recalls import RecallPolicy
from quotas.domain.runs import RunKind
from quotas.services import admission, recall_steps, recalls
from quotas.services.recalls import Assessed, Recall
from quotas.store.tables import notices, persons, platform_roles
from tests.services.centre import DAY, GPU_GFLOPS, START, Centre

FEBRUARY, MARCH, APRIL = Month(2027, 2), Month(2027, 3), Month(2027, 4)
"""The award begins in January: these are its first whole months."""
END = START + 365 * DAY
BUDGET = 365 * DAY * GPU_GFLOPS
NOW = MARCH.ends_at + 5 * DAY
POLICY = RecallPolicy()
UNUSED = (28 + 31) * DAY * GPU_GFLOPS
"""What the award's share of February and March comes to."""


def give_role(centre: Centre, username: str, role: str = "operator") -> None:
    person = centre.person(username)
    with centre.database.write() as transaction:
        transaction.run(insert(platform_roles).values(person_id=person, role=role))


def used(centre: Centre, start: int, seconds: int, project: str = "vision", person: str = "ada") -> str:
    """A batch run of the project used a GPU for `seconds` from `start` on; return its id."""
    asked = {"kind": RunKind.BATCH, "seconds": seconds, "project": project, "person": person}
    run_id = centre.admitted(start, **asked).run_id
    admission.started(centre.database, run_id, start)
    centre.settle(run_id, start, start + seconds)
    return run_id


def assessed(centre: Centre, month: str = "2027-03", now: int = NOW, **changes: object) -> list[Assessed]:
    """Return what a dry run says of all awards."""
    policy = RecallPolicy(**changes)  # type: ignore[arg-type]
    return list(recalls.propose(centre.database, month, policy, actor="operator", now=now, dry_run=True))


def proposed(centre: Centre, month: str = "2027-03", now: int = NOW) -> list[Assessed]:
    """Return what was proposed now."""
    found = recalls.propose(centre.database, month, POLICY, actor="operator", now=now)
    return [each for each in found if each.recall is not None]


def notified(centre: Centre) -> int:
    """Return the id of a recall of which the people know; they may object until 14 days after NOW."""
    (found,) = proposed(centre)
    assert found.recall is not None
    recall_steps.notify(centre.database, found.recall, POLICY, actor="operator", now=NOW)
    return found.recall


def due(centre: Centre) -> int:
    """Return the id of a recall that is due, 14 days after NOW."""
    recall = notified(centre)
    recall_steps.expect(centre.database, recall, now=NOW + 14 * DAY)
    return recall


def shown(centre: Centre, recall: int) -> Recall:
    return recalls.show(centre.database, recall)


def told(centre: Centre) -> list[tuple[str, str]]:
    """Return (person, kind) of the notices of recalls, oldest first."""
    statement = (
        select(persons.c.username, notices.c.kind)
        .join(persons, persons.c.id == notices.c.person_id)
        .where(notices.c.kind.like("recall %"))
        .order_by(notices.c.id)
    )
    with centre.database.read() as transaction:
        return [tuple(row) for row in transaction.rows(statement)]
