"""What tests of an award's life share: a centre with a reviewer, a second project, and the programme's settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import select

from quotas.domain.awards import Programme
from quotas.domain.people import Organisation, PlatformRole
from quotas.domain.projects import Award
from quotas.domain.units import PPM, InvalidValue
from quotas.services import check, people
from quotas.services.projects import ProjectView
from quotas.store import ledger as ledger_store
from quotas.store.tables import notices, persons
from tests.centre import NOW, Centre, applied, approve

REVIEWER = "judge"
BY = {"actor": "operator", "now": NOW - 2 * 86_400}
PROGRAMME = Programme("fp32", 2 * PPM)


def with_reviewer(centre: Centre) -> Centre:
    """The centre also has the reviewer, and an organisation `firm` with the person `boss`."""
    roles = frozenset({PlatformRole.REVIEWER})
    people.add_person(centre.database, REVIEWER, "Judge", organisation=None, platform_roles=roles, **BY)
    people.add_organisation(centre.database, Organisation("firm", "회사", "Firm", "company"), **BY)
    people.add_person(centre.database, "boss", "Boss", organisation="firm", **BY)
    return centre


def approved(centre: Centre, code: str, given: Award | None = None, **changes: object) -> ProjectView:
    """Return a second project of the centre's PI, approved with `given` or the usual award, in tranches if so asked."""
    organisation = changes.pop("organisation", centre.organisation)
    applied(centre, code, organisation=organisation)
    return approve(centre, code, given, **{"consent": True, **changes})


@contextmanager
def refused(field: str, match: str = "") -> Iterator[None]:
    """What is inside is refused with the field's name and a message in both languages."""
    with pytest.raises(InvalidValue, match=match or None) as caught:
        yield
    assert caught.value.field == field, caught.value
    assert caught.value.message_ko


def journal(centre: Centre, code: str) -> list[tuple[str, int]]:
    """Return (kind, amount) of the project's transfers that belong to no run, in order."""
    with centre.database.read() as transaction:
        rows = ledger_store.journal(transaction, code)
    return [(row.kind, row.amount) for row in rows if row.run_id is None]


def told(centre: Centre, username: str) -> list[str]:
    """Return the kinds of the notices that the person has, oldest first."""
    statement = (
        select(notices.c.kind)
        .join(persons, persons.c.id == notices.c.person_id)
        .where(persons.c.username == username)
        .order_by(notices.c.id)
    )
    with centre.database.read() as transaction:
        return [row.kind for row in transaction.rows(statement)]


def all_is_well(centre: Centre, now: int) -> None:
    assert check.findings(centre.database, now) == []
