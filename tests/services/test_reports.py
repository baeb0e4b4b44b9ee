"""The journal, the balances and the status, read from a centre in which something happened."""

from __future__ import annotations

import csv
import io
import json

from quotas.domain.ledger import AccountKind, TransferKind
from quotas.domain.policy import Policy
from quotas.domain.projects import Phase
from quotas.services import admission, refunds, reports
from tests import centre as whole
from tests.services.centre import DAY, FIRST_HOLD, GPU_GFLOPS, START, Centre, request

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
