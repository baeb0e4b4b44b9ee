"""`mudeung rates`: cards from a file to publication, the facts, and what an award buys."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from quotas.domain.units import CALENDAR
from quotas.services import rates
from tests.centre import Centre
from tests.cli.conftest import Ended

Invoke = Callable[..., Ended]
CARD = """
effective_from = {}
reference_precision = "fp32"

[rates.cpu-small]
rule = "assigned"
gflops = 60
reason = "one core, measured against the first card's"
approver = "operator"
krw_per_device_month = 0

[rates.h100]
rule = "fact"
krw_per_device_month = 100000
"""


def later(centre: Centre, seconds: int = 3600) -> str:
    return datetime.fromtimestamp(centre.now + seconds, CALENDAR).isoformat()


@pytest.fixture
def file(centre: Centre, tmp_path: Path) -> Path:
    path = tmp_path / "next.toml"
    path.write_text(CARD.format(later(centre)), encoding="utf-8")
    return path


def test_a_dry_run_shows_what_would_change_and_changes_nothing(invoke: Invoke, centre: Centre, file: Path) -> None:
    shown = invoke("rates", "publish", file, "--dry-run", "-o", "json")
    assert shown.code == 0, shown.errors
    rows = {row["profile"]: row for row in shown.json}
    assert rows["cpu-small"] == {
        "profile": "cpu-small",
        "old_gflops": "50",
        "new_gflops": "60",
        "change_percent": "+20.00 %",
        "old_krw": None,
        "new_krw": 0,
        "note": "changed",
    }
    assert (rows["h100"]["change_percent"], rows["h100"]["new_krw"]) == ("+0.00 %", 100_000)
    assert (rows["h100-1g"]["new_gflops"], rows["h100-1g"]["note"]) == (None, "can no longer be started")
    assert len(rates.cards(centre.database)) == 1


def test_a_card_is_published_when_it_is_confirmed(invoke: Invoke, centre: Centre, file: Path) -> None:
    refused = invoke("rates", "publish", file, given="n\n")
    assert (refused.code, "nothing was done" in refused.errors) == (1, True)
    assert invoke("rates", "publish", file).code == 1  # nobody is there to be asked
    assert len(rates.cards(centre.database)) == 1
    published = invoke("rates", "publish", file, given="y\n")
    assert (published.code, "Published rate card 2." in published.output) == (0, True)
    assert "It can never be changed" in published.errors
    again = invoke("rates", "publish", file, "--yes")
    assert (again.code, "later than the last card's" in again.errors) == (1, True)
    states = [(row["version"], row["state"]) for row in invoke("rates", "list", "-o", "json").json]
    assert states == [(1, "published"), (2, "published")]


def test_a_draft_is_kept_shown_published_and_then_closed(invoke: Invoke, centre: Centre, file: Path) -> None:
    assert "Draft 1;" in invoke("rates", "draft", file).output
    assert [row["state"] for row in invoke("rates", "list", "-o", "json").json] == ["published", "draft"]
    assert [row["profile"] for row in invoke("rates", "show", "--draft", "1", "-o", "json").json] == [
        "cpu-small",
        "h100",
    ]
    invoke("rates", "draft", file)
    assert invoke("rates", "discard", "2", "--reason", "twice").code == 0
    assert invoke("rates", "publish", "--draft", "1", "--yes").code == 0
    for words in (["publish", "--draft", "1", "--yes"], ["discard", "1", "--reason", "late"]):
        assert "1 is published and cannot become" in invoke("rates", *words).errors
    assert len(rates.cards(centre.database)) == 2


def test_what_is_wrong_with_a_file_is_told_row_by_row(invoke: Invoke, centre: Centre, tmp_path: Path) -> None:
    wrong = CARD.format(later(centre)).replace("gflops = 60", "gflops = 0").replace("100000", '"a lot"')
    path = tmp_path / "wrong.toml"
    path.write_text(wrong)
    refused = invoke("rates", "publish", path, "--yes")
    assert refused.code == 1
    assert "rates.cpu-small.gflops: must be a whole number from 1" in refused.errors
    assert "rates.h100.krw_per_device_month: must be a whole number from 0 to 1,000,000,000" in refused.errors
    korean = invoke("rates", "publish", path, "--yes", "--lang", "ko").errors
    assert "rates.h100.krw_per_device_month: 0~1,000,000,000의 정수" in korean


@pytest.mark.usefixtures("centre")
def test_a_file_that_cannot_be_read_is_told(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("binary", "none.toml"):
        refused = invoke("rates", "draft", tmp_path / name)
        assert (refused.code, "file: " in refused.errors, "cannot be read" in refused.errors) == (1, True, True)
    for words in ([], [tmp_path / "binary", "--draft", "1"]):
        assert "give a file, or --draft" in invoke("rates", "publish", *words).errors


def test_a_card_is_shown_with_reasons_and_as_a_file_for_the_next(
    invoke: Invoke, centre: Centre, tmp_path: Path
) -> None:
    shown = invoke("rates", "show")
    assert "a processor core has no sourced peak" in shown.output
    assert "A price of 0 is free" in shown.output
    content = invoke("rates", "show", "1", "--toml").output
    since = datetime.fromtimestamp(centre.starts_at, CALENDAR).isoformat()
    (tmp_path / "again.toml").write_text(content.replace(since, later(centre)))
    rows = invoke("rates", "publish", tmp_path / "again.toml", "--yes", "-o", "json").json
    assert {row["note"] for row in rows} == {""}
    assert "there is no rate card 7" in invoke("rates", "show", "7").errors


@pytest.mark.usefixtures("home")
def test_before_the_first_card_none_is_shown(invoke: Invoke) -> None:
    assert "no rate card is in force yet" in invoke("rates", "show").errors
    assert invoke("rates", "list").output == "(none)\n"


@pytest.mark.usefixtures("centre")
def test_facts_with_source_and_status(invoke: Invoke) -> None:
    rows = invoke("rates", "facts", "--device", "b200", "--precision", "fp32", "-o", "json").json
    assert sorted((row["peak_gflops"], row["counts"]) for row in rows) == [
        ("75000", "yes"),
        ("80000", "no, superseded"),
    ]
    assert {row["density"] for row in rows} == {"dense"}
    assert "there are: a100" in invoke("rates", "facts", "--device", "h900").errors
    devices = {
        row["device"]: row for row in csv.DictReader(io.StringIO(invoke("rates", "devices", "-o", "csv").output))
    }
    assert (devices["h100-mig-1g.10gb"]["share"], devices["h100-mig-1g.10gb"]["share_status"]) == ("16/132", "copied")
    assert devices["b200-mig-1g.23gb"]["share_status"] == "unverified"
    assert devices["h100"]["share"] == ""


@pytest.mark.usefixtures("centre")
def test_facts_are_added_and_superseded(invoke: Invoke) -> None:
    words = ["rates", "add-fact", "t4", "--precision", "fp32", "--peak", "8.2TF", "--source", "my sheet"]
    assert invoke(*words, "--status", "official", "--date", "2019-03").code == 0
    assert "has a figure" in invoke(*words, "--status", "official").errors
    assert "source_date" in invoke(*words[:-1], "other", "--status", "official", "--date", "March").errors
    assert invoke(*words[:-1], "other", "--status", "rumoured").code == 2
    superseded = ["rates", "supersede-fact", "t4", "--precision", "fp32", "--source", "my sheet"]
    assert invoke(*superseded).code == 0
    assert "states no figure for t4" in invoke(*superseded).errors
    row = next(
        row for row in invoke("rates", "facts", "--device", "t4", "-o", "json").json if row["source"] == "my sheet"
    )
    assert (row["peak_gflops"], row["counts"], row["source_date"]) == ("8200", "no, superseded", "2019-03")


DATES = ["--starts", "2099-01-01", "--ends", "2100-01-01"]


@pytest.mark.usefixtures("centre")
def test_what_an_award_buys_in_both_languages_and_all_formats(invoke: Invoke) -> None:
    words = ["rates", "buys", "--award", "0.02PF", *DATES]
    found = invoke(*words, "-o", "json").json
    assert (found["budget_gflops_seconds"], found["ceiling_gflops"]) == (str(20_000 * 365 * 86_400), "20000")
    by_profile = {row["profile"]: row for row in found["profiles"]}
    assert (by_profile["h100"]["at_once"], by_profile["h100"]["burst_needed_ppm"]) == (0, 3_345_000)
    assert by_profile["h100-1g"]["at_once"] == 2
    assert "one is 66.9 TF: needs burst ≥ 3.35" in invoke(*words).output
    korean = invoke(*words, "--lang", "ko").output
    assert "한 개가 66.9 TF: 순간 배수(burst) 3.35 이상 필요" in korean
    assert "동시 한도 20 TF" in korean
    rows = list(csv.DictReader(io.StringIO(invoke(*words, "--burst", "3.345", "-o", "csv").output)))
    assert {row["profile"]: row["at_once"] for row in rows}["h100"] == "1"


def test_prices_of_what_an_award_buys(invoke: Invoke, file: Path) -> None:
    assert invoke("rates", "publish", file, "--yes").code == 0
    rows = invoke("rates", "buys", "--award", "66.9TF", *DATES, "-o", "json").json["profiles"]
    by_profile = {row["profile"]: row for row in rows}
    assert (by_profile["h100"]["krw_an_hour"], by_profile["h100"]["krw_of_the_award"]) == ("138.88", 1_216_666)
    assert (by_profile["cpu-small"]["krw_an_hour"], by_profile["cpu-small"]["krw_of_the_award"]) == ("0.00", 0)


def test_what_a_projects_award_buys(invoke: Invoke, centre: Centre) -> None:
    found = invoke("rates", "buys", "--project", centre.project, "-o", "json").json
    assert found["award_gflops"] == str(centre.gflops)
    assert [row["at_once"] for row in found["profiles"]] == [4_000, 24, 2]


@pytest.mark.usefixtures("centre")
@pytest.mark.parametrize(
    ("words", "field"),
    [
        ([], "award"),
        (["--award", "1TF"], "starts"),
        (["--award", "1TF", "--starts", "2099-01-01"], "ends"),
        (["--award", "0TF", *DATES], "award"),
        (["--award", "-1TF", *DATES], "award"),
        (["--award", "1TF", "--starts", "2099-01-01", "--ends", "2099-01-01"], "ends"),
        (["--award", "1TF", *DATES, "--burst", "0"], "burst"),
        (["--award", "1TF", *DATES, "--utilisation", "1.5"], "utilisation"),
        (["--award", "9000000000PF", *DATES], "award"),
        (["--award", "2000PF", *DATES, "--burst", "9000000000000"], "award ceiling"),
        (["--project", "none"], "project"),
        (["--project", "vision", "--award", "1TF"], "project"),
    ],
)
def test_an_award_that_cannot_be_is_refused_with_its_field(invoke: Invoke, words: list[str], field: str) -> None:
    refused = invoke("rates", "buys", *words)
    assert (refused.code, field in refused.errors) == (1, True)
