"""The journal, the balances and the status, read from a centre in which something happened."""

from __future__ import annotations

import csv
import io
import json

import pytest

from quotas.domain.ledger import AccountKind, TransferKind
from quotas.domain.months import Month, month_of
from quotas.domain.policy import Policy
from quotas.domain.projects import Phase
from quotas.domain.recalls import used
from quotas.domain.runs import RunKind
from quotas.domain.units import InvalidValue
from quotas.services import admission, refunds, reports
from quotas.store import award_use
from tests import centre as whole
from tests.services.centre import CPU_GFLOPS, DAY, FIRST_HOLD, GPU_GFLOPS, START, Centre, request

NOW = START + DAY
BUDGET = 100_000 * GPU_GFLOPS
HOLD = FIRST_HOLD * GPU_GFLOPS


def test_the_journal_is_in_order_and_whole(centre: Centre) -> None:
    centre.award("vision", BUDGET)
    run_id, _ = centre.run(NOW, FIRST_HOLD + 5)
    entries = reports.journal(centre.database)
    assert [entry.sequence for entry in entries] == [1, 2, 3, 4]
    assert [(entry.kind, entry.debit, entry.credit, entry.amount) for entry in entries] == [
        (TransferKind.GRANT, AccountKind.ISSUANCE, AccountKind.AVAILABLE, BUDGET),
        (TransferKind.HOLD, AccountKind.AVAILABLE, AccountKind.HELD, HOLD),
        (TransferKind.CHARGE, AccountKind.HELD, AccountKind.SPENT, HOLD),
        (TransferKind.OVERRUN, AccountKind.OVERRUN, AccountKind.SPENT, 5 * GPU_GFLOPS),
    ]
    assert {entry.run_id for entry in entries[1:]} == {run_id}
    assert {entry.project for entry in entries} == {"vision"}


def test_the_journal_of_one_project_has_nothing_of_another(centre: Centre) -> None:
    centre.award("vision", BUDGET)
    centre.project("sound", {"ada": "pi"})
    centre.award("sound", 7)
    assert [entry.amount for entry in reports.journal(centre.database, "sound")] == [7]
    assert reports.journal(centre.database, "none") == []


def test_the_rows_keep_every_digit(centre: Centre) -> None:
    centre.award("vision", 2**60 + 1)
    (row,) = reports.ledger_rows(centre.database)
    assert json.loads(json.dumps(row))["amount_gflops_seconds"] == str(2**60 + 1)
    assert row["at"] == "2027-01-15T17:00:00+09:00"
    text = io.StringIO()
    writer = csv.DictWriter(text, row)
    writer.writeheader()
    writer.writerow(row)
    assert list(csv.DictReader(io.StringIO(text.getvalue()))) == [row]


def test_the_balances_of_each_project(centre: Centre) -> None:
    centre.award("vision", BUDGET, ends_at=START + 30 * DAY)
    centre.award("vision", 1000, starts_at=START + 30 * DAY, ends_at=START + 31 * DAY)
    centre.project("sound", {"ada": "pi"})
    centre.award("sound", 9, ends_at=NOW)
    centre.project("waiting", {"ada": "pi"}, state="applied")
    centre.run(NOW, FIRST_HOLD + 5)
    centre.admitted(NOW + 5000)
    refunds.expire_ended(centre.database, NOW)
    sound, vision = reports.balances(centre.database)
    assert sound == reports.Balance("sound", granted=9, available=0, held=0, spent=0, expired=9, overrun=0)
    assert vision == reports.Balance(
        "vision",
        granted=BUDGET + 1000,
        available=BUDGET + 1000 - 2 * HOLD,
        held=HOLD,
        spent=HOLD + 5 * GPU_GFLOPS,
        expired=0,
        overrun=5 * GPU_GFLOPS,
    )


def test_the_status_of_a_centre(seeded: whole.Centre) -> None:
    asked = request(person=seeded.pi, project=seeded.project, profile="h100")
    admission.reserve(seeded.database, asked, seeded.now, Policy())
    now = reports.status(seeded.database, seeded.now)
    assert now.projects == {Phase.ACTIVE: 1}
    assert (now.awarded_gflops, now.open_runs, now.in_use_gflops) == (200_000, 1, 66_900)
    by_model = {pool.device_model: pool for pool in now.pools}
    assert (by_model["h100"].healthy, by_model["h100"].in_use, by_model["h100"].device_gflops) == (4, 1, 66_900)
    assert now.healthy_gflops == 4 * 66_900 + 7 * (66_900 * 16 // 132)
    assert reports.status(seeded.database, seeded.ends_at).awarded_gflops == 0


def test_the_status_of_an_empty_centre(centre: Centre) -> None:
    now = reports.status(centre.database, START - 1)
    assert (now.awarded_gflops, now.healthy_gflops, now.open_runs, now.in_use_gflops) == (0, 0, 0, 0)


def test_runs_are_newest_first_and_limited(centre: Centre) -> None:
    centre.award("vision", BUDGET)
    ids = [centre.run(NOW + 100 * number, 10)[0] for number in range(3)]
    assert [run.id for run in reports.runs(centre.database, limit=2)] == sorted(ids)[:0:-1]
    assert reports.runs(centre.database, "none") == []


NOVEMBER = Month(2027, 11)
SINCE, UNTIL = NOVEMBER.starts_at, NOVEMBER.ends_at


def _month(centre: Centre, now: int = UNTIL + DAY, **asked: int) -> reports.MonthlyReport:
    return reports.monthly(centre.database, "2027-11", now=now, **asked)


def _long_run(centre: Centre, start: int, seconds: int, profile: str = "gpu") -> str:
    """Return the UUID of a batch run that ran so long, held in one piece."""
    run_id = centre.admitted(start, kind=RunKind.BATCH, seconds=seconds, profile=profile).run_id
    admission.started(centre.database, run_id, start)
    centre.settle(run_id, start, start + seconds)
    return run_id


def test_a_months_use_is_split_at_its_bounds(centre: Centre) -> None:
    """Time counts in the month in which it ran, charges in the month in which they were written."""
    centre.award("vision", BUDGET * 100)
    _long_run(centre, SINCE - 600, 1000)
    _long_run(centre, SINCE + DAY, 3600, "gpu-2")
    _long_run(centre, UNTIL - 50, 600, "cpu")
    report = _month(centre)
    assert report.lines == (
        reports.MonthlyUse("vision", None, runs=1, used=50 * CPU_GFLOPS),
        reports.MonthlyUse(
            "vision",
            "h100",
            runs=2,
            device_seconds=400 + 2 * 3600,
            used=400 * GPU_GFLOPS + 3600 * 2 * GPU_GFLOPS,
            charged=1000 * GPU_GFLOPS + 3600 * 2 * GPU_GFLOPS,
        ),
    )
    (whole,) = report.by_project()
    assert (whole.runs, whole.used) == (3, report.total.used)
    assert [line.device_model for line in report.by_device()] == [None, "h100"]
    months = [reports.monthly(centre.database, f"2027-{number}", now=UNTIL + 40 * DAY) for number in (10, 11, 12)]
    assert sum(month.total.used for month in months) == sum(month.total.charged for month in months)
    assert [month.total.runs for month in months] == [1, 3, 1]


def test_a_run_of_many_months_counts_in_each(centre: Centre) -> None:
    centre.award("vision", BUDGET * 1000, ends_at=START + 700 * DAY)
    _long_run(centre, SINCE - 60 * DAY, UNTIL - SINCE + 120 * DAY)
    now = UNTIL + 90 * DAY
    (line,) = _month(centre, now).lines
    assert (line.runs, line.device_seconds, line.charged) == (1, 30 * DAY, 0)
    months = [month_of(SINCE).plus(number) for number in range(-3, 4)]
    found = [reports.monthly(centre.database, str(month), now=now).total for month in months]
    assert sum(each.device_seconds for each in found) == UNTIL - SINCE + 120 * DAY
    assert sum(each.used for each in found) == sum(each.charged for each in found)


def test_overruns_and_refunds_are_of_the_month_in_which_they_were_written(centre: Centre) -> None:
    centre.award("vision", BUDGET)
    run_id, charge = centre.run(SINCE - DAY, FIRST_HOLD + 7)
    give_back = {"reason": "a device failed", "actor": "operator", "now": SINCE + 5}
    refunds.refund_charge(centre.database, run_id, 3 * GPU_GFLOPS, **give_back)
    assert charge.overrun == 7 * GPU_GFLOPS
    assert _month(centre).lines == (reports.MonthlyUse("vision", "h100", refunded=3 * GPU_GFLOPS),)
    before = reports.monthly(centre.database, "2027-10", now=UNTIL).total
    assert (before.overrun, before.charged, before.refunded) == (charge.overrun, charge.amount, 0)


def test_the_same_month_at_the_same_offset_is_always_the_same(centre: Centre) -> None:
    centre.award("vision", BUDGET * 10)
    centre.run(SINCE, 100)
    first = _month(centre)
    centre.run(SINCE + DAY, 200)
    run_id, _ = centre.run(SINCE + 2 * DAY, 50)
    refunds.refund_charge(centre.database, run_id, 5, reason="a fault", actor="operator", now=SINCE + 3 * DAY)
    centre.rate_card({"gpu": 3 * GPU_GFLOPS}, effective_from=SINCE + 4 * DAY)
    centre.run(SINCE + 5 * DAY, 70)
    later = _month(centre)
    assert (first.total.runs, first.card_versions) == (1, (1,))
    assert (later.total.runs, later.card_versions, later.offset) == (4, (1, 2), first.offset + 10)
    assert _month(centre, offset=first.offset) == first
    assert _month(centre, offset=0).lines == ()
    assert reports.journal(centre.database)[-1].sequence == later.offset


def test_the_report_says_whether_anything_is_missing(centre: Centre) -> None:
    centre.award("vision", BUDGET * 10)
    run_id = centre.admitted(UNTIL - 100).run_id
    admission.started(centre.database, run_id, UNTIL - 100)
    now = _month(centre, UNTIL - 1)
    after = _month(centre, UNTIL + 60)
    assert (now.is_over, now.open_runs, now.is_final) == (False, 1, False)
    assert (after.is_over, after.open_runs, after.is_final) == (True, 1, False)
    centre.settle(run_id, UNTIL - 100, UNTIL + 100)
    closed = _month(centre, UNTIL + 200)
    assert closed.is_final
    assert closed.total.device_seconds == 100
    assert reports.monthly(centre.database, "2027-12", now=UNTIL + 200).total.device_seconds == 100


def test_a_report_agrees_with_what_recalls_read_of_an_award(centre: Centre) -> None:
    allocation = centre.award("vision", BUDGET * 1000, ends_at=START + 700 * DAY)
    for start, seconds in ((SINCE - 3 * DAY, 5 * DAY), (SINCE + 40, 7), (UNTIL - 9 * DAY, 100), (UNTIL - 5, 3600)):
        _long_run(centre, start, seconds)
    with centre.database.read() as transaction:
        ran = award_use.ran(transaction, allocation, SINCE, UNTIL, UNTIL + DAY)
    assert _month(centre).total.used == used(ran, NOVEMBER) > 0


@pytest.mark.parametrize(
    ("month", "message"),
    [
        ("2028-01", "month: 2028-01 is in the future, it begins at 2028-01-01 00:00 KST; allowed is 2027-12 or"),
        ("2027-13", "month: '2027-13' is no month; write one as in 2027-12"),
    ],
)
def test_a_report_for_the_future_is_refused(centre: Centre, month: str, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        reports.monthly(centre.database, month, now=UNTIL + 30 * DAY)


@pytest.mark.parametrize("offset", [-1, 2])
def test_an_offset_that_the_journal_has_not_reached_is_refused(centre: Centre, offset: int) -> None:
    centre.award("vision", 7)
    with pytest.raises(InvalidValue, match=f"offset: must be 0 to 1, .* not {offset}"):
        _month(centre, offset=offset)
