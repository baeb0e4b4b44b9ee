"""Two people decide at once, each on what they have just read: as if one had been before the other.

An SQLite file has one writer. On PostgreSQL a transaction is the only writer too, unless it says that it shares; what
is read first and done then (a sum of promises, the last PI, what is left of a charge) relies on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from quotas.domain.admission import Admitted, Request
from quotas.domain.people import MembershipRole
from quotas.domain.policy import Policy
from quotas.domain.pools import CapacityPhase
from quotas.domain.profiles import Profile
from quotas.domain.rates import Precision, Rate, RateCard, RateRule
from quotas.domain.refusals import Refused
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.domain.schedules import Timing
from quotas.domain.units import PPM, InvalidValue
from quotas.services import admission, check, pools, profiles, projects, rates, refunds, runs, schedules
from quotas.store import notices
from tests import centre as small
from tests.centre import NOW, Centre
from tests.services.stepping import interleave

ALL = 1_000
Calls = tuple[Callable[[], Any], Callable[[], Any]]


@dataclass
class Case:
    """Two calls, prepared anew under each name, and their answers in words, sorted, of which one pair must come out."""

    name: str
    prepare: Callable[[Centre, str], Calls]
    answers: tuple[tuple[str, str], ...]


def approvals(centre: Centre, name: str) -> Calls:
    """Each asks for 200 TF, and the limit has room for 300 more than is promised."""
    names = (f"{name}-a", f"{name}-b")
    for each in names:
        small.applied(centre, each)

    def approve(code: str) -> Any:
        limit = (promised(centre) + 300_000) * PPM // powered(centre)
        return lambda: small.approve(centre, code, oversubscription_limit_ppm=limit)

    return approve(names[0]), approve(names[1])


def promised(centre: Centre) -> int:
    return sum(view.gflops or 0 for view in projects.list_projects(centre.database, centre.now))


def powered(centre: Centre) -> int:
    return sum(view.powered * (view.device_gflops or 0) for view in pools.capacity(centre.database, centre.now))


def last_pis(centre: Centre, name: str) -> Calls:
    small.applied(centre, name)
    projects.add_member(centre.database, name, centre.member, MembershipRole.PI, actor="test", now=NOW)
    return (
        lambda: projects.remove_member(centre.database, name, centre.pi, actor="test", now=NOW),
        lambda: projects.add_member(centre.database, name, centre.member, MembershipRole.MEMBER, actor="test", now=NOW),
    )


def decisions(centre: Centre, name: str) -> Calls:
    small.applied(centre, name)
    return (
        lambda: small.approve(centre, name, consent=True),
        lambda: projects.reject(centre.database, name, reason="no", actor="test", now=NOW),
    )


def new_profiles(centre: Centre, name: str) -> Calls:
    profile = Profile(name, "가", "A", "science", 1000, 1, 1, None, 0)
    return (lambda: profiles.add_profile(centre.database, profile, 9, actor="test", now=NOW),) * 2


def rate_cards(centre: Centre, name: str) -> Calls:
    last = rates.cards(centre.database)[-1]
    rows = (Rate("cpu-small", 50, RateRule.ASSIGNED, name, "test"),)
    card = RateCard(last.version + 1, max(last.effective_from, NOW) + 1, Precision.FP32, rows)
    return (lambda: rates.publish(centre.database, card, actor="test", now=NOW),) * 2


def phases(centre: Centre, name: str) -> Calls:
    phase = CapacityPhase("h100", NOW + int(name.removeprefix("case-")), 4, 4, 4)
    return (lambda: pools.add_phase(centre.database, "main", phase, actor="test", now=NOW),) * 2


def shrunk_while_started(centre: Centre, name: str) -> Calls:
    at = NOW + 10 * int(name.removeprefix("case-"))
    settle_all(centre, at)
    phase = CapacityPhase("h100", at - 1, 0, 0, 0)
    pools.add_phase(centre.database, "main", CapacityPhase("h100", at - 2, 4, 4, 4), actor="test", now=NOW)
    asked = Request(new_run_id(), RunKind.NOTEBOOK, centre.member, "vision", "h100")
    return (
        lambda: admission.reserve(centre.database, asked, at, Policy()),
        lambda: pools.add_phase(centre.database, "main", phase, actor="test", now=at),
    )


def settle_all(centre: Centre, now: int) -> None:
    for run in runs.runs(centre.database):
        if run.charge is None:
            admission.settle(centre.database, run.id, admission.Ended(None, None, Outcome.STOPPED), now)


def firings(centre: Centre, name: str) -> Calls:
    new = schedules.NewSchedule("vision", "member", "cpu-small", f"{name}.ipynb", Timing("UTC", once_at=NOW + 60))
    schedules.create(centre.database, new, actor="member", now=NOW)
    return (lambda: schedules.claim_due(centre.database, NOW + 60),) * 2


def refunded_twice(centre: Centre, name: str) -> Calls:
    decision = small.start(centre)
    run_id = decision.run_id
    began = NOW + 1_000 * int(name.removeprefix("case-"))
    ended = admission.Ended(began, began + 100, Outcome.STOPPED)
    charge = admission.settle(centre.database, run_id, ended, began + 100)

    def refund() -> None:
        refunds.refund_charge(
            centre.database, run_id, charge.amount * 2 // 3, reason=name, actor="test", now=began + 200
        )

    return refund, refund


def told_twice(centre: Centre, name: str) -> Calls:
    def tell() -> str:
        with centre.database.write() as transaction:
            return str(notices.tell(transaction, notices.Notice(1, "kind", name, "글", "text"), NOW))

    return tell, tell


def ended_while_started(centre: Centre, name: str) -> Calls:
    small.applied(centre, name)
    small.approve(centre, name, consent=True)
    asked = Request(new_run_id(), RunKind.NOTEBOOK, "pi", name, "cpu-small")
    return (
        lambda: admission.reserve(centre.database, asked, NOW, Policy()),
        lambda: projects.end(centre.database, name, actor="test", now=NOW),
    )


CASES = [
    Case("approvals", approvals, (("award", "done"),)),
    Case("last PIs", last_pis, (("done", "username"),)),
    Case("decisions", decisions, (("done", "project"),)),
    Case("profiles", new_profiles, (("done", "profile"),)),
    Case("rate cards", rate_cards, (("done", "version"),)),
    Case("phases", phases, (("done", "from_at"),)),
    Case("shrunk while started", shrunk_while_started, (("admitted", "from_at"), ("done", "pool_full"))),
    Case("firings", firings, (("0 claimed", "1 claimed"),)),
    Case("refunds", refunded_twice, (("amount", "done"),)),
    Case("notices", told_twice, (("False", "True"),)),
    Case("ended while started", ended_while_started, (("admitted", "done"), ("done", "project_ended"))),
]


def word(call: Callable[[], Any]) -> str:
    """Return what came of the call: the field that was refused, or its answer."""
    try:
        answer = call()
    except InvalidValue as refused:
        return refused.field
    if isinstance(answer, str):
        return answer
    if isinstance(answer, list):
        return f"{len(answer)} claimed"
    if isinstance(answer, Admitted):
        return "admitted"
    return answer.code.value if isinstance(answer, Refused) else "done"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_is_before_the_other(seeded: Centre, case: Case) -> None:
    number = 0
    for order in (1, -1):
        statements = ALL
        while statements:
            number += 1
            words_of = [lambda call=call: word(call) for call in case.prepare(seeded, f"case-{number}")[::order]]
            calls = interleave(seeded.database, words_of[0], words_of[1], (statements, ALL))
            words = tuple(sorted(call.join() for call in calls))
            assert words in case.answers, (order, statements, words)
            statements = min(statements, calls[0].statements + 1) - 1
    assert check.findings(seeded.database, NOW + 200_000) == []
    assert number > 4
