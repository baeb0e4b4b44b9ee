"""The usage page: held beside busy, gaps in sight; everybody's for the PI, one's own and the totals for a member."""

from __future__ import annotations

import csv
import io
import re
from datetime import datetime, timedelta

import httpx
import pytest

from quotas.domain.units import CALENDAR
from tests.portal.conftest import Portal
from tests.portal.metered import HOUR, OPERATOR, Metered, fill

PAGE = "projects/vision/usage"


@pytest.fixture(scope="module")
def metered(portal: Portal) -> Metered:
    return fill(portal.platform.database)


def text(page: httpx.Response) -> str:
    """Return the words of the page."""
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]*>", " ", page.text, flags=re.S))


def rows(answer: httpx.Response) -> dict[str, dict[str, str]]:
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "attachment" in answer.headers["content-disposition"]
    return {row["run"]: row for row in csv.DictReader(io.StringIO(answer.text))}


def test_a_pi_sees_what_each_person_held_and_used(portal: Portal, metered: Metered) -> None:
    page = portal.open("ada", PAGE)
    assert page.status_code == 200
    shown = text(page)
    # ada: 3 h held, all seen, 10 % busy. ben: 1 h held, half of it seen, 80 % busy.
    assert "Devices were held for 4 h and busy for 20 % of the measured time." in shown
    assert re.search(r"Of 30 min nothing is known \(1[23] %\)\.", shown)  # 12.5 %, and ada's run goes on
    assert "By person and profile" in shown
    assert re.search(r"ada gpu-h100 3 h 18 min 10 % (none|\d+ s)", shown)  # it goes on since the last sample
    assert re.search(r"ben gpu-h100 1 h 24 min 80 % 30 min", shown)
    assert f"runs/{metered.idle}/usage" in page.text
    assert "<script>" not in page.text
    for part in ("mu-part-busy", "mu-part-gap"):
        assert f'<span class="{part}" style="width: ' in page.text


def test_a_member_sees_their_own_use_and_the_totals(portal: Portal, metered: Metered) -> None:
    page = portal.open("ben", PAGE)
    shown = text(page)
    assert "점유한 장치 시간은 4시간, 측정 시간 중 사용률은 20%입니다." in shown
    assert "내 사용 현황" in shown
    assert "ada" not in shown
    assert set(rows(portal.open("ben", f"{PAGE}.csv"))) == {metered.ended}
    assert portal.open("ben", f"runs/{metered.ended}/usage").status_code == 200
    assert portal.open("ben", f"runs/{metered.idle}/usage").status_code == 404
    assert portal.open("ben", f"runs/{metered.idle}/usage.csv").status_code == 404


@pytest.mark.parametrize("person", ["cho", "dan"])
@pytest.mark.parametrize("path", [PAGE, f"{PAGE}.csv"])
def test_others_see_nothing(portal: Portal, metered: Metered, person: str, path: str) -> None:
    del metered
    answer = portal.open(person, path)
    assert answer.status_code in {403, 404}
    assert "gpu-h100" not in answer.text


def test_the_same_as_csv(portal: Portal, metered: Metered) -> None:
    found = rows(portal.open("ada", f"{PAGE}.csv"))
    assert set(found) == {metered.idle, metered.ended}
    ben = found[metered.ended]
    assert {name: ben[name] for name in ("person", "project", "profile")} == {
        "person": "ben",
        "project": "vision",
        "profile": "gpu-h100",
    }
    figures = ("held_seconds", "seen_seconds", "measured_seconds", "busy_seconds", "gap_seconds", "busy_ppm")
    assert [int(ben[name]) for name in figures] == [HOUR, HOUR // 2, HOUR // 2, HOUR * 4 // 10, HOUR // 2, 800_000]


def test_another_period_is_chosen_by_its_days(portal: Portal, metered: Metered) -> None:
    today = datetime.fromtimestamp(metered.now, CALENDAR).date()
    before = today - timedelta(days=40)
    page = portal.open("ada", f"{PAGE}?since={before}&until={before + timedelta(days=2)}")
    assert "No device was held in this time." in text(page)
    assert rows(portal.open("ada", f"{PAGE}.csv?since={before}&until={before}")) == {}
    assert len(rows(portal.open("ada", f"{PAGE}.csv?since={before}&until={today}"))) == 2
    assert f'<th scope="row" class="mu-number">{today}</th>' in portal.open("ada", f"{PAGE}?since={today}").text


@pytest.mark.parametrize(
    "asked",
    ["since=soon", "since=2026-13-01", "since=2026-11-02&until=2026-11-01", "since=1999-01-01&until=2026-11-01"],
)
def test_a_period_that_is_none_is_refused(portal: Portal, metered: Metered, asked: str) -> None:
    del metered
    assert portal.open("ada", f"{PAGE}?{asked}").status_code == 400


def test_a_run_has_its_intervals(portal: Portal, metered: Metered) -> None:
    page = portal.open("ben", f"runs/{metered.ended}/usage")
    shown = text(page)
    assert "점유한 장치 시간은 1시간" in shown
    assert "측정되지 않은 시간: 30분 (50%)" in shown
    answer = portal.open("ben", f"runs/{metered.ended}/usage.csv")
    listed = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(listed) in {12, 13}
    assert sum(int(row["held_seconds"]) for row in listed) == HOUR
    assert sum(int(row["gap_seconds"]) for row in listed) == HOUR // 2
    assert sum(int(row["busy_milliseconds"]) for row in listed) == pytest.approx(HOUR * 400, abs=20)
    assert listed[-1]["busy_milliseconds"] == "0"
    assert portal.open(OPERATOR, f"runs/{metered.ended}/usage").status_code == 200


@pytest.mark.parametrize("run", ["nothing", "01a1fd04-3ad0-763f-b7d2-6d895f5770a0"])
def test_a_run_that_is_none_is_not_found(portal: Portal, run: str) -> None:
    assert portal.open("ada", f"runs/{run}/usage").status_code in {400, 404}


def test_the_project_leads_to_its_usage(portal: Portal) -> None:
    assert f"{PAGE}" in portal.open("ada", "projects/vision").text
