"""`mudeung recalls` and `mudeung notices` on a home whose project has an unused award."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import insert, update

from quotas.domain.months import Month, month_of
from quotas.domain.recalls import RecallPolicy
from quotas.domain.units import DAY_SECONDS, show_instant
from quotas.services import check, notices, recall_rounds
from quotas.store.tables import allocations, awards, persons, platform_roles, recalls, transfers
from tests.centre import Centre
from tests.cli.conftest import Ended

Invoke = Callable[..., Ended]


@pytest.fixture
def last_month() -> Month:
    return month_of(int(time.time())).plus(-1)


@pytest.fixture
def unused(centre: Centre, last_month: Month) -> Centre:
    """The project's award has run for three whole months, unused; `judge` is a reviewer."""
    since = last_month.plus(-2).starts_at
    with centre.database.write() as transaction:
        for table in (awards, allocations):
            transaction.run(update(table).values(starts_at=since))
        person = transaction.insert(
            persons, {"username": "judge", "display_name": "Judge", "language": "en", "added_at": since}
        )
        transaction.run(insert(platform_roles).values(person_id=person, role="reviewer"))
    # The grant was made when the award was; the months are measured by when a sum was granted.
    backdate(centre, since)
    return centre


def backdate(centre: Centre, at: int) -> None:
    with centre.database.engine.connect() as connection:
        connection.exec_driver_sql("DROP TRIGGER transfers_refuse_update")
        connection.execute(update(transfers).values(at=at))


def proposed(invoke: Invoke, month: Month) -> None:
    assert invoke("recalls", "propose", "--month", month).code == 0


@pytest.mark.usefixtures("unused")
def test_a_dry_run_shows_the_numbers_and_proposes_nothing(invoke: Invoke, last_month: Month) -> None:
    done = invoke("recalls", "propose", "--month", last_month, "--dry-run", "-o", "json")
    (found,) = done.json
    assert (found["project"], found["standing"], found["recall"]) == ("vision", "proposed", None)
    assert [each["month"] for each in found["months"]] == [str(last_month.plus(-1)), str(last_month)]
    unused_both = sum(int(each["expected_gflops_seconds"]) for each in found["months"])
    assert int(found["amount_gflops_seconds"]) == unused_both // 2
    assert {each["used_gflops_seconds"] for each in found["months"]} == {"0"}
    assert invoke("recalls", "list", "-o", "json").json == []
    shown = invoke("recalls", "propose", "--month", last_month, "--dry-run", "--lang", "ko").output
    assert "회수" in shown
    assert f"{last_month} 0.000 TF·h / " in shown
    assert invoke("notices", "pi", "-o", "json").json == []


def test_why_nothing_follows_is_shown_on_request(invoke: Invoke, centre: Centre, last_month: Month) -> None:
    assert invoke("recalls", "propose", "--month", last_month, "--dry-run").output == "(none)\n"
    shown = invoke("recalls", "propose", "--month", last_month, "--dry-run", "--all").output
    assert "not a whole month of the award" in shown
    assert centre.project in shown


@pytest.mark.parametrize("month", ["this", "2027-13", "2999-01", ""])
def test_a_month_that_is_not_over_is_refused_with_what_is_allowed(
    invoke: Invoke, unused: Centre, last_month: Month, month: str
) -> None:
    given = str(last_month.plus(1)) if month == "this" else month
    done = invoke("recalls", "propose", "--month", given)
    assert done.code == 1
    assert done.errors.startswith("Error: month: ")
    assert str(last_month) in done.errors
    korean = invoke("recalls", "propose", "--month", given, "--lang", "ko").errors
    assert korean.startswith("오류: month: ")
    assert invoke("recalls", "list").output == "(none)\n"
    del unused


def test_a_recall_from_its_proposal_to_its_transfer(invoke: Invoke, unused: Centre, last_month: Month) -> None:
    proposed(invoke, last_month)
    (listed,) = invoke("recalls", "list", "-o", "json").json
    assert (listed["project"], listed["state"], listed["month"]) == ("vision", "notified", str(last_month))
    (told,) = invoke("notices", "pi", "-o", "json").json
    assert (told["kind"], told["about"], told["read_at"]) == ("recall notice", "recall:1", None)
    assert "회수할 예정입니다" in told["text_ko"]

    assert invoke("recalls", "execute", 1).errors.startswith("Error: recall: recall 1 is notified and cannot become")
    assert invoke("recalls", "object", 1, "--by", "member", "--text", "no").errors.startswith("Error: person: ")
    assert invoke("recalls", "object", 1, "--by", "pi", "--text", " ").errors.startswith("Error: objection: ")
    assert invoke("recalls", "object", 1, "--by", "pi", "--text", "The data comes in May").code == 0
    assert "The data comes in May" in invoke("notices", "judge").output

    decide = ("recalls", "decide", 1)
    reduced = (*decide, "reduced", "--by", "judge", "--reason", "a half")
    assert invoke(*reduced).errors.startswith("Error: amount: ")
    assert invoke(*decide, "upheld", "--by", "pi", "--reason", "mine").errors.startswith("Error: by: ")
    assert invoke(*decide, "upheld", "--by", "judge", "--reason", "").errors.startswith("Error: reason: ")
    assert invoke(*reduced, "--amount", "1TFh").output == "Recall 1: reduced, now due.\n"
    assert invoke("recalls", "execute", 1).output.startswith("Recalled: 1.000 TF·h; ")
    assert invoke("recalls", "execute", 1, "--lang", "ko").output.startswith("이미 회수되었습니다: 1.000 TF·h")

    shown = invoke("recalls", "show", 1, "-o", "json").json
    assert (shown["state"], shown["recalled_gflops_seconds"]) == ("executed", str(1000 * 3600))
    assert [each["counted"] for each in shown["months"]] == [True, True]
    assert shown["reason"] == "a half"
    journal = invoke("ledger", "--project", "vision", "-o", "json").json
    assert [(each["kind"], each["amount_gflops_seconds"]) for each in journal][-1] == ("recall", "3600000")
    assert check.findings(unused.database, int(time.time())) == []
    table = invoke("recalls", "show", 1).output
    assert "a half" in table
    assert str(last_month) in table


def test_without_an_objection_the_rounds_execute_it(invoke: Invoke, unused: Centre, last_month: Month) -> None:
    proposed(invoke, last_month)
    proposed(invoke, last_month)
    assert len(invoke("recalls", "list", "-o", "json").json) == 1
    later = int(time.time()) + 15 * DAY_SECONDS
    for _ in range(3):
        recall_rounds.advance(unused.database, RecallPolicy(), later)
    (listed,) = invoke("recalls", "list", "--state", "executed", "--project", "vision", "-o", "json").json
    assert listed["recalled_gflops_seconds"] == listed["amount_gflops_seconds"]


def test_settings_say_when_use_is_too_little(invoke: Invoke, unused: Centre, last_month: Month, tmp_path: Path) -> None:
    settings = tmp_path / "home" / "mudeung.toml"
    settings.write_text("recall_months = 3\nrecall_share_ppm = 1_000_000\nrecall_objection_days = 3\n")
    (found,) = invoke("recalls", "propose", "--month", last_month, "-o", "json").json
    assert len(found["months"]) == 3
    whole = sum(int(each["expected_gflops_seconds"]) for each in found["months"])
    assert int(found["amount_gflops_seconds"]) == whole
    with unused.database.read() as transaction:
        (row,) = transaction.rows(recalls.select())
    assert row.object_until - row.notified_at == 3 * DAY_SECONDS
    settings.write_text("recall_threshold_ppm = 1_000_001\n")
    done = invoke("recalls", "propose", "--month", last_month)
    assert done.code == 2
    assert "recall_threshold_ppm" in done.errors


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["recalls", "show", 9], "recall"),
        (["recalls", "execute", 9], "recall"),
        (["recalls", "object", 9, "--by", "pi", "--text", "why"], "recall"),
        (["recalls", "decide", 9, "upheld", "--by", "operator", "--reason", "why"], "recall"),
        (["recalls", "decide", 9, "reduced", "--by", "operator", "--reason", "why", "--amount", "much"], "amount"),
        (["recalls", "list", "--project", "none"], "project"),
        (["notices", "nobody"], "person"),
        (["notices", "--unread"], "person"),
        (["notices", "--mark-read"], "person"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_its_field(
    invoke: Invoke, centre: Centre, words: list[object], field: str
) -> None:
    done = invoke(*words)
    assert done.code == 1
    assert done.errors.startswith(f"Error: {field}: ")
    assert invoke(*words, "--lang", "ko").errors.startswith(f"오류: {field}: ")
    del centre


def test_notices_are_listed_newest_first_and_marked_as_read(invoke: Invoke, unused: Centre, last_month: Month) -> None:
    proposed(invoke, last_month)
    assert invoke("recalls", "decide", 1, "withdrawn", "--by", "judge", "--reason", "vacation").code == 0
    listed = invoke("notices", "pi", "-o", "json").json
    assert [each["kind"] for each in listed] == ["recall decision", "recall notice"]
    assert [each["person"] for each in invoke("notices", "-o", "json").json] == ["pi", "pi"]
    table = invoke("notices", "pi", "--limit", 1, "--unread", "--mark-read").output
    assert "vacation" in table
    assert "KST" in table
    assert [each["kind"] for each in invoke("notices", "pi", "--unread", "-o", "json").json] == ["recall notice"]
    with_time = invoke("notices", "pi", "--limit", 1).output
    assert show_instant(int(time.time()))[:10] in with_time
    assert [each.read_at is None for each in notices.of_person(unused.database, "pi")] == [False, True]
