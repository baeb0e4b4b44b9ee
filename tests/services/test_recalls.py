"""Which awards use too little: months by true time, shares, excuses; proposals are made once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import insert, update

from quotas.domain.ledger import Posting, TransferKind
from quotas.domain.months import Month
from quotas.domain.recalls import Decision, Excuse, RecallState, Standing
from quotas.domain.runs import RunKind
from quotas.domain.units import InvalidValue
from quotas.services import admission, check, recall_steps, recalls, refunds
from quotas.store import ledger as ledger_store
from quotas.store.tables import allocations, award_suspensions, projects, queue_entries
from tests.services.centre import DAY, GPU_GFLOPS, START, Centre
from tests.services.recall_centre import (
    APRIL,
    BUDGET,
    END,
    FEBRUARY,
    MARCH,
    NOW,
    POLICY,
    UNUSED,
    assessed,
    give_role,
    notified,
    proposed,
    shown,
    used,
)


@pytest.fixture
def yearly(centre: Centre) -> Centre:
    centre.award("vision", BUDGET, starts_at=START, ends_at=END)
    give_role(centre, "olga")
    return centre


def months(centre: Centre, now: int = NOW) -> list[tuple[str, int, int]]:
    (found,) = assessed(centre, now=now)
    return [(str(each.month), each.used, each.expected) for each in found.assessment.months]


def standing(centre: Centre, **changes: object) -> Standing:
    (found,) = assessed(centre, **changes)
    return found.assessment.standing


def excuses(centre: Centre) -> list[Excuse | None]:
    (found,) = assessed(centre)
    return [month.excuse for month in found.assessment.months]


def test_an_unused_award_is_proposed_with_its_numbers(yearly: Centre) -> None:
    (found,) = proposed(yearly)
    assert found.project == "vision"
    assert found.assessment.amount == UNUSED // 2
    recall = shown(yearly, found.recall or 0)
    assert (recall.state, recall.month, recall.proposed_amount) == (RecallState.PROPOSED, "2027-03", UNUSED // 2)
    assert recall.months == (
        ("2027-02", 0, 28 * DAY * GPU_GFLOPS, True),
        ("2027-03", 0, 31 * DAY * GPU_GFLOPS, True),
    )


def test_a_dry_run_stores_nothing(yearly: Centre) -> None:
    assert standing(yearly) is Standing.PROPOSED
    assert recalls.list_recalls(yearly.database) == []
    assert assessed(yearly)[0].recall is None


def test_an_award_gets_one_proposal_for_a_month(yearly: Centre) -> None:
    assert len(proposed(yearly)) == 1
    assert proposed(yearly) == []
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda _: proposed(yearly), range(4))) == [[]] * 4
    assert len(recalls.list_recalls(yearly.database)) == 1


def test_processes_that_propose_at_once_make_one(yearly: Centre) -> None:
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda _: len(proposed(yearly)), range(4)))
    assert sorted(made) == [0, 0, 0, 1]


def test_use_counts_in_the_month_in_which_it_ran(yearly: Centre) -> None:
    used(yearly, MARCH.starts_at - 3 * DAY, 5 * DAY)
    used(yearly, FEBRUARY.starts_at - DAY, 2 * DAY)
    used(yearly, APRIL.starts_at - DAY, 3 * DAY)
    feb, mar = (3 + 1) * DAY * GPU_GFLOPS, (2 + 1) * DAY * GPU_GFLOPS
    assert months(yearly) == [
        ("2027-02", feb, 28 * DAY * GPU_GFLOPS),
        ("2027-03", mar, 31 * DAY * GPU_GFLOPS),
    ]


def test_a_run_settled_long_after_its_month_counts_in_it(yearly: Centre) -> None:
    run_id = yearly.admitted(FEBRUARY.starts_at, kind=RunKind.BATCH, seconds=10 * DAY).run_id
    admission.started(yearly.database, run_id, FEBRUARY.starts_at)
    still = months(yearly, now=MARCH.ends_at + DAY)
    assert [use for _, use, _ in still] == [28 * DAY * GPU_GFLOPS, 31 * DAY * GPU_GFLOPS], (
        "it still runs, so far as is known"
    )
    ended = admission.Ended(FEBRUARY.starts_at, FEBRUARY.starts_at + 9 * DAY, admission.Outcome.STOPPED)
    admission.settle(yearly.database, run_id, ended, NOW)
    assert [use for _, use, _ in months(yearly)] == [9 * DAY * GPU_GFLOPS, 0]


def test_refunded_time_and_overruns_count_as_use(yearly: Centre) -> None:
    run_id = used(yearly, FEBRUARY.starts_at, 9 * DAY)
    refunds.refund_charge(
        yearly.database, run_id, 9 * DAY * GPU_GFLOPS, reason="a fault", actor="operator", now=FEBRUARY.ends_at
    )
    late = yearly.admitted(MARCH.starts_at).run_id
    yearly.settle(late, MARCH.starts_at, MARCH.starts_at + 10 * DAY)
    assert [use for _, use, _ in months(yearly)] == [9 * DAY * GPU_GFLOPS, 10 * DAY * GPU_GFLOPS]
    assert standing(yearly) is Standing.USED


@pytest.mark.parametrize(("days", "expected"), [(8, Standing.PROPOSED), (9, Standing.USED)])
def test_three_tenths_of_a_month_are_enough(yearly: Centre, days: int, expected: Standing) -> None:
    used(yearly, FEBRUARY.starts_at, days * DAY)
    assert standing(yearly) is expected
    assert len(proposed(yearly)) == int(expected is Standing.PROPOSED)


def test_a_supplement_is_no_share_of_the_months_before_it(yearly: Centre) -> None:
    with yearly.database.write() as transaction:
        for month, key in ((MARCH.starts_at, "s"), (NOW, "t")):
            posting = Posting(key, TransferKind.SUPPLEMENT, (END - month) // 2)
            ledger_store.post(transaction, 1, posting, month)
    assert [share for _, _, share in months(yearly)] == [
        28 * DAY * GPU_GFLOPS,
        31 * DAY * GPU_GFLOPS + 31 * DAY // 2,
    ]


def test_a_new_award_is_not_judged_before_it_had_two_whole_months(yearly: Centre) -> None:
    yearly.project("young", {"kim": "pi"})
    yearly.award("young", BUDGET, starts_at=FEBRUARY.starts_at + 1, ends_at=END)
    young = next(each for each in assessed(yearly) if each.project == "young")
    assert young.assessment.standing is Standing.EXCUSED
    assert [month.excuse for month in young.assessment.months] == [Excuse.NOT_WHOLE, None]
    assert [each.project for each in proposed(yearly)] == ["vision"]
    assert [each.project for each in proposed(yearly, "2027-04", APRIL.ends_at + DAY)] == ["vision", "young"]


def test_courses_are_exempt_by_a_setting(yearly: Centre) -> None:
    with yearly.database.write() as transaction:
        transaction.run(update(projects).values(kind="course"))
    assert standing(yearly) is Standing.EXEMPT
    assert proposed(yearly) == []
    assert standing(yearly, exempt_courses=False) is Standing.PROPOSED


def suspend(centre: Centre, since: int, ended_at: int | None) -> None:
    values = {"allocation_id": 1, "since": since, "ended_at": ended_at, "reason": "why", "actor": "operator"}
    with centre.database.write() as transaction:
        transaction.run(insert(award_suspensions).values(**values))


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (FEBRUARY.ends_at - 60, FEBRUARY.ends_at, [Excuse.SUSPENDED, None]),
        (FEBRUARY.ends_at - 60, FEBRUARY.ends_at + 1, [Excuse.SUSPENDED, Excuse.SUSPENDED]),
        (FEBRUARY.starts_at - 60, FEBRUARY.starts_at, [None, None]),
    ],
)
def test_a_month_of_a_suspension_does_not_count(
    yearly: Centre, since: int, until: int, expected: list[Excuse | None]
) -> None:
    suspend(yearly, since, until)
    assert excuses(yearly) == expected
    assert standing(yearly) is (Standing.EXCUSED if any(expected) else Standing.PROPOSED)


@pytest.mark.parametrize("change", ["suspended_at", "revoked_at", "ends_at", "project"])
def test_an_award_that_does_not_run_is_not_judged(yearly: Centre, change: str) -> None:
    if change == "project":
        yearly.end_project("vision")
    else:
        with yearly.database.write() as transaction:
            transaction.run(update(allocations).values({change: NOW}))
    assert assessed(yearly) == []
    assert proposed(yearly) == []


def wait(centre: Centre, joined_at: int, **changes: object) -> None:
    """Somebody of the project waited in the queue."""
    values = {
        "run_id": f"waiting-{joined_at}-{centre.count(queue_entries)}",
        "kind": "batch",
        "person_id": 1,
        "project_id": centre.projects["vision"],
        "profile_id": centre.profiles["gpu"],
        "device_model": "h100",
        "device_count": 1,
        "wish": "guaranteed",
        "mode": "start",
        "state": "waiting",
        "joined_at": joined_at,
    } | changes
    with centre.database.write() as transaction:
        transaction.run(insert(queue_entries).values(**values))


HOUR = 3600


def test_a_month_in_which_the_people_waited_for_full_pools_does_not_count(yearly: Centre) -> None:
    wait(yearly, MARCH.starts_at, turn_at=MARCH.starts_at + 6 * HOUR, ended_at=MARCH.starts_at + 20 * HOUR)
    wait(yearly, MARCH.starts_at, ended_at=MARCH.starts_at + 4 * HOUR)
    assert excuses(yearly) == [None, None], "ten hours are the limit, and a turn ends the wait"
    wait(yearly, FEBRUARY.ends_at - HOUR, ended_at=FEBRUARY.ends_at + 1)
    assert excuses(yearly) == [None, Excuse.WAITED]
    assert standing(yearly) is Standing.EXCUSED
    assert proposed(yearly) == []


def test_who_waits_still_has_waited_until_now(yearly: Centre) -> None:
    wait(yearly, MARCH.ends_at - 11 * HOUR)
    assert excuses(yearly) == [None, Excuse.WAITED]


def test_a_wait_for_the_projects_own_ceiling_is_no_excuse(yearly: Centre) -> None:
    wait(yearly, MARCH.starts_at, ended_at=MARCH.ends_at, blocked_by="ceiling")
    assert excuses(yearly) == [None, None]


def test_other_projects_waits_are_no_excuse(yearly: Centre) -> None:
    yearly.project("other", {"kim": "pi"})
    wait(yearly, MARCH.starts_at, ended_at=MARCH.ends_at)
    with yearly.database.write() as transaction:
        transaction.run(update(queue_entries).values(project_id=yearly.projects["other"]))
    assert excuses(yearly) == [None, None]


def test_a_month_is_counted_once(yearly: Centre) -> None:
    (first,) = proposed(yearly)
    (second,) = proposed(yearly, "2027-04", APRIL.ends_at + 2 * DAY)
    assert first.assessment.amount == UNUSED // 2
    assert second.assessment.amount == 30 * DAY * GPU_GFLOPS // 2
    assert [row[3] for row in shown(yearly, second.recall or 0).months] == [False, True]


def test_a_withdrawn_recall_forgives_its_months(yearly: Centre) -> None:
    recall = notified(yearly)
    recall_steps.decide(yearly.database, recall, Decision.WITHDRAWN, reason="their move", by="olga", now=NOW)
    assert proposed(yearly, "2027-04", APRIL.ends_at + 2 * DAY) == []
    found = assessed(yearly, "2027-04", APRIL.ends_at + 2 * DAY)[0]
    assert [month.excuse for month in found.assessment.months] == [Excuse.FORGIVEN, None]
    may = Month(2027, 5)
    assert len(proposed(yearly, "2027-05", may.ends_at + 2 * DAY)) == 1


def test_no_more_is_proposed_than_is_available_less_what_other_recalls_take(yearly: Centre) -> None:
    used(yearly, MARCH.ends_at, 1)
    left = UNUSED // 2 + 1000
    with yearly.database.write() as transaction:
        available = yearly_available(yearly)
        ledger_store.post(transaction, 1, Posting("less", TransferKind.REDUCE, available - left), NOW)
    (first,) = proposed(yearly)
    assert first.assessment.amount == UNUSED // 2
    (second,) = proposed(yearly, "2027-04", APRIL.ends_at + 2 * DAY)
    assert second.assessment.amount == 1000


def yearly_available(centre: Centre) -> int:
    return centre.balances(1)["available"]


@pytest.mark.parametrize(
    ("month", "allowed"),
    [
        ("2027-04", "2027-03 or an earlier month"),
        ("2030-01", "2027-03 or an earlier month"),
        ("2027-13", "as in 2027-03"),
        ("2027-3", "as in 2027-03"),
        ("march", "as in 2027-03"),
        ("1200-01", "as in 2027-03"),
        ("", "as in 2027-03"),
    ],
)
def test_a_month_that_is_not_over_is_refused_with_what_is_allowed(yearly: Centre, month: str, allowed: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        recalls.propose(yearly.database, month, POLICY, actor="operator", now=NOW)
    assert refused.value.field == "month"
    assert allowed in refused.value.message_en
    assert "2027-03" in refused.value.message_ko
    assert recalls.list_recalls(yearly.database) == []


def test_many_awards_are_read_in_pieces(yearly: Centre, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recalls, "AT_ONCE", 3)
    for number in range(7):
        yearly.project(f"project-{number}", {"ada": "pi"})
        yearly.award(f"project-{number}", BUDGET, starts_at=START, ends_at=END)
    assert len(assessed(yearly)) == 8
    assert len(proposed(yearly)) == 8
    assert check.findings(yearly.database, NOW) == []


def test_what_is_not_there_is_refused_by_name(yearly: Centre) -> None:
    with pytest.raises(InvalidValue, match="there is no recall 7") as refused:
        recalls.show(yearly.database, 7)
    assert refused.value.field == "recall"
    with pytest.raises(InvalidValue) as refused:
        recalls.list_recalls(yearly.database, "nothing")
    assert refused.value.field == "project"
    proposed(yearly)
    assert [each.project for each in recalls.list_recalls(yearly.database, "vision")] == ["vision"]
