"""Row ids by the names that people use."""

from __future__ import annotations

from sqlalchemy import and_, bindparam, literal, select

from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import memberships, persons, profiles, projects

_one = select(literal(1).label("one")).subquery("one")
_KEYS = Prepared(
    select(
        persons.c.id.label("person_id"),
        projects.c.id.label("project_id"),
        profiles.c.id.label("profile_id"),
        memberships.c.role,
    )
    .select_from(_one)
    .outerjoin(persons, persons.c.username == bindparam("person"))
    .outerjoin(projects, projects.c.code == bindparam("project"))
    .outerjoin(profiles, profiles.c.code == bindparam("profile"))
    .outerjoin(memberships, and_(memberships.c.person_id == persons.c.id, memberships.c.project_id == projects.c.id))
)


def keys(transaction: Transaction, person: str, project: str, profile: str = "") -> Row:
    """Return person_id, project_id, profile_id and the membership's role; each None where there is none."""
    return transaction.one(_KEYS, person=person, project=project, profile=profile)
