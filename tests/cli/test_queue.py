"""`mudeung queue`: who waits, where, how that is estimated; joining, leaving, and one step by hand."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from quotas.domain.admission import Admitted, Request
from quotas.domain.policy import Policy
from quotas.domain.pools import CapacityPhase
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.services import admission, notices, pools, queue_views
from quotas.services.admission import Ended as RunEnded
from tests.centre import Centre
from tests.cli.conftest import Ended

Invoke = Callable[..., Ended]


@pytest.fixture
def full(centre: Centre) -> Callable[[], None]:
    """The only H100 is the PI's; return what frees it."""
    now = int(time.time())
    pools.add_phase(centre.database, "main", CapacityPhase("h100", now, 4, 4, 1), actor="tests", now=now)
    request = Request(new_run_id(), RunKind.NOTEBOOK, centre.pi, centre.project, "h100")
    assert isinstance(admission.reserve(centre.database, request, now, Policy()), Admitted)

    def free() -> None:
        ended = RunEnded(None, None, Outcome.FAILED_TO_START)
        admission.settle(centre.database, request.run_id, ended, int(time.time()))

    return free


def joined(invoke: Invoke, *words: str) -> str:
    done = invoke("queue", "join", "member", "vision", "h100", *words, "-o", "json")
    assert done.code == 0, done.errors
    return str(done.json["run"])


def test_a_person_joins_has_a_turn_and_is_seen(invoke: Invoke, full: Callable[[], None]) -> None:
    run = joined(invoke, "--mode", "offer", "--wish", "borrowed")
    (row,) = invoke("queue", "list", "-o", "json").json
    assert (row["run"], row["person"], row["state"], row["position"], row["waiting"]) == (
        run,
        "member",
        "waiting",
        1,
        1,
    )
    assert (row["wish"], row["mode"]) == ("borrowed", "offer")
    shown = invoke("queue", "show", run)
    assert "No time can be given, as no run has ended yet" in shown.output
    full()
    assert invoke("queue", "step").output.startswith("1 have their turn; 0 came to the end")
    assert invoke("queue", "show", run, "-o", "json").json["state"] == "turn"


def test_an_operator_ends_an_entry_and_its_person_is_told(
    invoke: Invoke, full: Callable[[], None], centre: Centre
) -> None:
    del full
    run = joined(invoke)
    assert invoke("queue", "cancel", run).output == f"{run} waits no more.\n"
    assert invoke("queue", "list").output == "(none)\n"
    assert invoke("queue", "show", run, "-o", "json").json["reason"] == "an operator cancelled it."
    (notice,) = notices.of_person(centre.database, "member")
    assert notice.kind == "queue ended"
    again = invoke("queue", "cancel", run)
    assert (again.code, again.errors) == (1, f"Error: entry: {run} waits no more: cancelled\n")


def test_the_list_is_of_whom_it_is_asked_for(invoke: Invoke, full: Callable[[], None]) -> None:
    del full
    joined(invoke)
    for words, count in (
        (("--person", "member"), 1),
        (("--person", "pi"), 0),
        (("--project", "vision"), 1),
        (("--device", "h100"), 1),
        (("--device", "h100-mig-1g.10gb"), 0),
    ):
        assert len(invoke("queue", "list", *words, "-o", "json").json) == count
    assert invoke("queue", "list", "--project", "nothing").code == 1


def test_what_cannot_wait_is_refused_with_the_reason(invoke: Invoke, centre: Centre) -> None:
    done = invoke("queue", "join", "member", "vision", "cpu-small")
    assert done.code == 1
    assert done.errors.startswith("Error: cpu-small can be started on vision now; there is nothing to wait for.")
    done = invoke("queue", "join", "outsider", "vision", "h100")
    assert "outsider is not a member of vision." in done.errors
    assert invoke("queue", "join", "member", "vision", "h100", "--wish", "reserved").code == 1
    assert invoke("queue", "show", "nothing").code == 1
    assert queue_views.every(centre.database, int(time.time())) == []
