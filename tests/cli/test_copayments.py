"""`mudeung copayments`: statements, closing, payments."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace

import pytest

from quotas.domain.admission import Admitted, Request
from quotas.domain.months import month_of
from quotas.domain.policy import Policy
from quotas.domain.rates import Precision, Rate, RateCard, RateRule
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.domain.units import CALENDAR
from quotas.services import admission, rates
from tests.centre import Centre
from tests.cli.conftest import Ended

Invoke = Callable[..., Ended]


@pytest.fixture
def month(centre: Centre) -> str:
    """The month in which an H100 ran for an hour, at 100,000 KRW a device-month."""
    price = Rate("h100", 66_900, RateRule.FACT, "x", None, 100_000)
    card = RateCard(2, centre.now, Precision.FP32, (price,))
    rates.publish(centre.database, card, actor="operator", now=centre.now)
    request = Request(new_run_id(), RunKind.NOTEBOOK, centre.member, centre.project, "h100", door="test")
    held = admission.reserve(centre.database, request, centre.now, replace(Policy(), hold=3_600))
    assert isinstance(held, Admitted)
    admission.started(centre.database, request.run_id, centre.now)
    ended = admission.Ended(centre.now, centre.now + 3_600, Outcome.STOPPED)
    admission.settle(centre.database, request.run_id, ended, centre.now + 3_600)
    return str(month_of(centre.now + 3_600))


@pytest.fixture
def next_year(centre: Centre, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command runs a year later."""
    monkeypatch.setattr("cli.session.time", SimpleNamespace(time=lambda: centre.now + 366 * 86_400))


@pytest.mark.usefixtures("next_year")
def test_a_month_is_shown_closed_once_and_paid(invoke: Invoke, centre: Centre, month: str) -> None:
    before = invoke("copayments", "statement", "--month", month, "--project", centre.project)
    assert "Preliminary; 0 runs are still open" in before.output
    dry = invoke("copayments", "close", "--month", month, "--dry-run", "-o", "json").json
    assert [(row["project"], row["krw"], row["closed_at"]) for row in dry] == [(centre.project, 138, None)]
    assert invoke("copayments", "close", "--month", month, given="n\n").code == 1
    assert invoke("copayments", "ledger").output == "(none)\n"
    closed = invoke("copayments", "close", "--month", month, given="y\n")
    assert (closed.code, f"Close {month} for 1 projects and bill 138 KRW?" in closed.errors) == (0, True)
    assert invoke("copayments", "close", "--month", month, "--yes").code == 0
    paid = [invoke("copayments", "pay", centre.project, "100", "--receipt", "R-1", "--yes") for _ in range(2)]
    assert {each.output for each in paid} == {f"{centre.project}: 38 KRW owed, 100 paid, 0 in credit.\n"}
    rows = invoke("copayments", "ledger", "--project", centre.project, "-o", "json").json
    assert [(row["kind"], row["krw"], row["debit"], row["credit"]) for row in rows] == [
        ("bill", 138, "issuance", "owed"),
        ("pay", 100, "owed", "paid"),
    ]
    assert invoke("check").code == 0
    assert "Closed" in invoke("copayments", "statement", "--month", month, "--project", centre.project).output


@pytest.mark.usefixtures("next_year")
def test_statements_as_csv_and_json_hold_whole_numbers(invoke: Invoke, centre: Centre, month: str) -> None:
    (line,) = csv.DictReader(
        io.StringIO(
            invoke("copayments", "statement", "--month", month, "--project", centre.project, "-o", "csv").output
        )
    )
    assert (line["seconds"], line["krw_per_device_month"], line["krw_seconds"]) == ("3600", "100000", "360000000")
    (row,) = csv.DictReader(io.StringIO(invoke("copayments", "statement", "--month", month, "-o", "csv").output))
    assert (row["krw"], row["use_krw_seconds"], row["carried_out_krw_seconds"]) == ("138", "360000000", "2304000")
    one = invoke("copayments", "statement", "--month", month, "--project", centre.project, "-o", "json").json
    assert (one["krw"], one["use_krw_seconds"], len(one["lines"])) == (138, "360000000", 1)
    shown = invoke("copayments", "statement", "--month", month, "--lang", "ko").output
    assert "138 + 2304000/2592000" in shown
    assert "청구(원)" in shown


@pytest.mark.usefixtures("month")
def test_a_month_that_has_not_ended_is_shown_and_not_closed(invoke: Invoke, centre: Centre) -> None:
    now = str(month_of(centre.now))
    assert invoke("copayments", "statement", "--month", now).code == 0
    refused = invoke("copayments", "close", "--month", now, "--yes")
    assert (refused.code, "it can be closed from then on" in refused.errors) == (1, True)
    following = month_of(centre.now).plus(1)
    future = invoke("copayments", "statement", "--month", following)
    assert (future.code, f"the latest is {datetime.now(CALENDAR):%Y-%m}" in future.errors) == (1, True)


@pytest.mark.usefixtures("next_year")
@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["statement", "--month", "2026-13"], "month"),
        (["statement", "--month", "2999-01"], "month"),
        (["statement", "--month", "2027-01", "--project", "none"], "project"),
        (["close", "--month", "2999-01", "--yes"], "month"),
        (["pay", "none", "5", "--receipt", "R-1", "--yes"], "project"),
        (["pay", "vision", "0", "--receipt", "R-1", "--yes"], "krw"),
        (["pay", "vision", "1", "--receipt", "R-1", "--yes"], "krw"),
        (["pay", "vision", "1", "--receipt", "R 1", "--yes"], "receipt"),
        (["repay", "vision", "1", "--receipt", "R-1", "--yes"], "krw"),
    ],
)
def test_what_cannot_be_is_refused_with_its_field(invoke: Invoke, words: list[str], field: str) -> None:
    refused = invoke("copayments", *words)
    assert (refused.code, f"Error: {field}: " in refused.errors) == (1, True), refused.errors


@pytest.mark.usefixtures("centre")
def test_a_negative_payment_is_no_amount(invoke: Invoke) -> None:
    refused = invoke("copayments", "pay", "--receipt", "R-1", "--yes", "--", "vision", "-5")
    assert (refused.code, "krw: must be above zero" in refused.errors) == (1, True)
