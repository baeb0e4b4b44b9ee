"""`mudeung report`: the use of a month, written as a table, JSON and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest

from quotas.domain.admission import Admitted, Request
from quotas.domain.months import month_of
from quotas.domain.policy import Policy
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.services import admission
from tests.centre import Centre
from tests.cli.conftest import Ended

Invoke = Callable[..., Ended]


@pytest.fixture
def month(centre: Centre) -> str:
    """The month in which a member of the centre has run an H100 for ten seconds."""
    request = Request(new_run_id(), RunKind.NOTEBOOK, centre.member, centre.project, "h100", door="test")
    decision = admission.reserve(centre.database, request, centre.now, Policy())
    assert isinstance(decision, Admitted)
    ended = admission.Ended(centre.now - 10, centre.now, Outcome.STOPPED, 0)
    admission.settle(centre.database, request.run_id, ended, centre.now)
    request = Request(new_run_id(), RunKind.NOTEBOOK, centre.member, centre.project, "cpu-small", door="test")
    assert isinstance(admission.reserve(centre.database, request, centre.now, Policy()), Admitted)
    return str(month_of(centre.now))


def test_a_month_as_table_json_and_csv(invoke: Invoke, centre: Centre, month: str) -> None:
    found = invoke("report", "--month", month, "-o", "json").json
    [line] = found["lines"]
    assert (line["project"], line["device"], line["runs"], line["device_seconds"]) == (centre.project, "h100", 1, 1)
    assert line["used_gflops_seconds"] == line["charged_gflops_seconds"] == "66900"
    assert (found["month"], found["rate_cards"], found["is_final"], found["open_runs"]) == (month, ["1"], False, 1)
    assert found["total"] == {name: value for name, value in line.items() if name not in {"project", "device"}}
    assert [each["device"] for each in found["devices"]] == ["h100"]
    [row] = csv.DictReader(io.StringIO(invoke("report", "--month", month, "-o", "csv").output))
    assert (row["month"], row["journal_offset"]) == (month, str(found["journal_offset"]))
    assert row["used_gflops_seconds"] == "66900"
    shown = invoke("report", "--month", month).output
    assert "total" in shown
    assert "Not final: 1 run(s) of it not charged yet, and the month is not over." in shown
    assert "합계" in invoke("report", "--month", month, "--lang", "ko").output


def test_an_earlier_offset_gives_the_earlier_report(invoke: Invoke, month: str) -> None:
    newest = invoke("report", "--month", month, "-o", "json").json["journal_offset"]
    before = invoke("report", "--month", month, "--offset", 1, "-o", "json").json
    assert (before["lines"], before["journal_offset"]) == ([], 1)
    refused = invoke("report", "--month", month, "--offset", newest + 1)
    assert (refused.code, f"offset: must be 0 to {newest}" in refused.errors) == (1, True)


@pytest.mark.usefixtures("centre")
def test_a_month_in_the_future_is_refused_with_what_is_allowed(invoke: Invoke) -> None:
    refused = invoke("report", "--month", "2999-01")
    assert refused.code == 1
    assert "month: 2999-01 is in the future, it begins at 2999-01-01 00:00 KST; allowed is" in refused.errors
    assert "미래의 달입니다" in invoke("report", "--month", "2999-01", "--lang", "ko").errors
