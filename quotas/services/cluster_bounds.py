"""The most that a project's runs may have of a cluster at once, as the ledger would admit it: a second line of defence.

It is never narrower than what is admitted: the whole ceiling and all that may be borrowed beyond it, spent on whichever
profile has most of a kind for its rate, and every seat that is reserved for the project.
"""

from __future__ import annotations

from quotas.domain.admission import Request, borrow_limit
from quotas.domain.policy import Policy
from quotas.domain.reservations import ReservationState
from quotas.domain.runs import RunKind
from quotas.domain.terms_kubernetes_projects import Bounds, Offered, bounds
from quotas.store import admission as store
from quotas.store import profiles as profiles_store
from quotas.store import projects as projects_store
from quotas.store import reservations as reservations_store
from quotas.store.database import Database

RESERVATIONS = 1000


def of_project(database: Database, project: str, now: int, policy: Policy) -> Bounds | None:
    """Return the bounds, None for a project without an award. Raises DatabaseAway."""
    with database.read() as transaction:
        view = projects_store.view(transaction, project, now)
        if view is None or not view.ceiling_gflops:
            return None
        catalogue = {row.code: profiles_store.from_row(row) for row in profiles_store.every(transaction)}
        offered = [row.code for row in projects_store.offered(transaction, view.id)]
        rates = {}
        for code in offered:
            request = Request("", RunKind.NOTEBOOK, "", project, code)
            rates[code] = store.read_situation(transaction, request, now, policy)[0].gflops
        reserved = reservations_store.newest(transaction, project, RESERVATIONS)
    seats = [Offered(catalogue[row.profile], None, row.seats) for row in reserved if row.state == _APPROVED]
    kinds = [*(Offered(catalogue[code], rates[code]) for code in offered), *seats]
    ceiling = int(view.ceiling_gflops)
    return bounds(kinds, ceiling + borrow_limit(ceiling, policy), catalogue.values())


_APPROVED = ReservationState.APPROVED.value
