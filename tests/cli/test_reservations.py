"""`mudeung reservations`: from the check to who claimed a seat, in both languages, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from quotas.domain.admission import Admitted, Request
from quotas.domain.people import MembershipRole
from quotas.domain.policy import Policy
from quotas.domain.runs import RunKind, new_run_id
from quotas.services import admission, projects, reservations
from tests.centre import Centre

SEOUL = ZoneInfo("Asia/Seoul")


@pytest.fixture
def first(centre: Centre) -> datetime:
    """Nine in the morning in Seoul, in a few days."""
    return (datetime.fromtimestamp(centre.now, SEOUL) + timedelta(days=3)).replace(hour=9, minute=0, second=0)


@pytest.fixture
def lecture(first: datetime) -> tuple[str, ...]:
    at = first.strftime("%Y-%m-%dT%H:%M")
    return ("--profile", "h100", "--starts", at, "--length", "3h", "--rrule", "FREQ=DAILY;COUNT=3")


@pytest.fixture
def asks(invoke: Callable[..., object], centre: Centre, lecture: tuple[str, ...]) -> Callable[..., object]:
    def ask(*more: object, seats: int = 2) -> object:
        titles = ("--title-ko", "딥러닝 실습", "--title-en", "Deep learning lab")
        words = ("reservations", "request", centre.project, "--by", centre.pi, "--seats", seats)
        return invoke(*words, *titles, *lecture, *more)

    return ask


def test_a_check_says_that_it_fits_and_stores_nothing(invoke, centre, lecture) -> None:
    words = ("reservations", "check", centre.project, "--seats", 4, *lecture)
    done = invoke(*words)
    assert (done.code, done.errors) == (0, "")
    assert done.output.splitlines()[0] == "Fits in main: 3 of 3 windows."
    found = invoke(*words, "-o", "json").json
    assert (found["fits"], found["pool"], len(found["windows"]), found["instead"]) == (True, "main", 3, [])
    assert invoke("reservations", "list").output.strip() == "(none)"


def test_a_check_that_fails_says_what_would_fit_and_ends_with_one(invoke, centre, lecture, first) -> None:
    words = ("reservations", "check", centre.project, "--seats", 6, *lecture)
    done = invoke(*words)
    assert done.code == 1
    assert "Does not fit in main: 3 of 3 windows." in done.output
    assert f"{first:%Y-%m-%d} 09:00–12:00 KST" in done.output
    assert "Instead: 4 seats in every window" in done.output
    assert "Instead: h100-1g in main" in done.output
    korean = invoke(*words, "--lang", "ko")
    assert "main에 3회 중 3회가 맞지 않음." in korean.output
    assert "대신: 모든 회차 4석" in korean.output
    rows = invoke(*words, "-o", "csv").output.splitlines()
    assert rows[0] == "when,wanted,fit,short,short_from,short_to"
    assert len(rows) == 4


def test_from_the_request_to_a_claimed_seat(invoke, asks, centre, first) -> None:
    done = asks()
    assert done.code == 0, done.errors
    assert "Fits in main: 3 of 3 windows." in done.output
    assert "requested" in invoke("reservations", "list", "--project", centre.project).output
    waiting = invoke("reservations", "show", 1)
    assert "Fits in main" in waiting.output
    assert invoke("reservations", "approve", 1, "--reason", "room 3").code == 0
    opens = int(first.timestamp()) - 600
    reservations.tick(centre.database, opens, Policy())
    request = Request(new_run_id(), RunKind.NOTEBOOK, centre.member, centre.project, "h100")
    assert isinstance(admission.reserve(centre.database, request, opens, Policy()), Admitted)
    shown = invoke("reservations", "show", 1)
    assert f"Claimed seats {first:%Y-%m-%d} 09:00–12:00 KST" in shown.output
    assert centre.member in shown.output
    found = invoke("reservations", "show", 1, "-o", "json").json
    assert [each["state"] for each in found["windows"]] == ["open", "scheduled", "scheduled"]
    assert {key: found["windows"][0][key] for key in ("seats", "taken", "kept", "claimed", "released")} == {
        "seats": 2,
        "taken": 1,
        "kept": 1,
        "claimed": 1,
        "released": 0,
    }
    assert [each["username"] for each in found["claims"]] == [centre.member]
    assert invoke("reservations", "show", 1, "-o", "csv").output.count("\n") == 4
    cancelled = invoke("reservations", "cancel", 1, "--window", found["windows"][1]["id"], "--reason", "a holiday")
    assert cancelled.output.count("cancelled") == 1
    assert invoke("reservations", "cancel", 1).code == 0
    assert invoke("reservations", "list", "-o", "json").json[0]["state"] == "cancelled"


def test_an_approval_that_does_not_fit_is_refused_with_all_windows(invoke, asks) -> None:
    assert asks(seats=6).code == 0
    refused = invoke("reservations", "approve", 1)
    assert refused.code == 1
    assert "Instead: 4 seats in every window" in refused.output
    assert refused.errors.startswith("Error: windows: 3 of 3 windows do not fit in main")
    assert invoke("reservations", "approve", 1, "--lang", "ko").errors.startswith("오류: windows: 3회 중 3회가 main에")
    assert invoke("reservations", "approve", 1, "--seats", 4).code == 0
    assert invoke("reservations", "reject", 1, "--reason", "x").errors.startswith("Error: reservation: 1 is approved")


def test_warnings_come_with_what_was_asked_for(invoke, asks, centre, tmp_path: Path) -> None:
    names = tmp_path / "class.csv"
    names.write_text(f"name,username\nA,{centre.pi}\nB,{centre.member}\n")
    done = asks("--roster", names, "--free-idle", seats=1)
    assert done.code == 0
    assert "Note: 2 are on the roster for 1 seats: first come, first served." in done.output
    assert invoke("reservations", "show", 1, "-o", "json").json["charge_idle"] is False


def test_a_roster_is_previewed_imported_and_changed(invoke, asks, centre, tmp_path: Path) -> None:
    asks()
    roster = ("reservations", "roster")
    listed = invoke(*roster, "list", 1, "-o", "json").json
    assert [each["username"] for each in listed] == [centre.member, centre.pi]
    names = tmp_path / "class.csv"
    names.write_text(f"username\n{centre.member}\n{centre.member}\nnobody\n{centre.outsider}\n")
    preview = invoke(*roster, "import", 1, names, "--dry-run")
    assert preview.code == 0
    for words in ("no member of the project", "given more than once", "Nothing was changed."):
        assert words in preview.output
    refused = invoke(*roster, "import", 1, names)
    assert refused.code == 1
    assert refused.errors.strip().endswith(f"these are none: nobody, {centre.outsider}")
    projects.add_member(
        centre.database, centre.project, centre.outsider, MembershipRole.LEARNER, actor="operator", now=centre.now
    )
    done = invoke(*roster, "import", 1, "-", given=f"{centre.member}\n")
    assert "1 on the roster for 2 seats." in done.output
    assert invoke(*roster, "add", 1, centre.outsider).code == 0
    assert "already" in invoke(*roster, "add", 1, centre.outsider).output
    assert invoke(*roster, "remove", 1, centre.member).code == 0
    assert [each["username"] for each in invoke(*roster, "list", 1, "-o", "json").json] == [centre.outsider]
    assert invoke(*roster, "all-members", 1, "--lang", "ko").output.strip() == "과제의 모든 구성원이 명단에 있습니다."
    assert len(invoke(*roster, "list", 1, "-o", "json").json) == 3
    assert invoke(*roster, "import", 1, tmp_path / "none.csv").errors.startswith("Error: roster: ")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--rrule", "FREQ=DAILY"), "rrule: never ends"),
        (("--rrule", "FREQ=DAILY;COUNT=400"), "rrule: COUNT must be 1 to 366, not 400"),
        (("--length", "forever"), "length: 'forever' is no length; write hours and minutes, as in 3h"),
        (("--length", "25h"), "length: the windows at "),
        (("--length", "5m"), "length: must be 15 min to 336 h"),
        (("--starts", "yesterday"), "starts: 'yesterday' is not a date"),
        (("--starts", "2020-01-01T09:00"), "starts: must not be in the past: 2020-01-01 09:00 KST"),
        (("--zone", "Mars"), "timezone: 'Mars' is not a time zone"),
        (("--profile", "cpu-small"), "profile: has no device to reserve; with devices: h100, h100-1g"),
        (("--pool", "annex"), "pool: 'annex' has no h100; pools that have: main"),
        (("--by", "member"), "by: The role member may not do this in vision."),
        (("--title-en", ""), "title_en: must not be empty"),
        (("--seats", "0"), "seats: must be 1 to 1000, not 0"),
    ],
)
def test_bad_input_is_refused_with_the_field(invoke, asks, more: tuple[str, ...], says: str) -> None:
    done = asks(*more)
    assert done.code == 1
    assert done.errors.startswith(f"Error: {says}")
    assert invoke("reservations", "list").output.strip() == "(none)"


@pytest.mark.parametrize("name", ["list", "show", "check", "request", "approve", "reject", "cancel"])
def test_every_command_has_an_example(invoke, name: str) -> None:
    shown = invoke("reservations", name, "--help")
    assert f"Example: mudeung reservations {name}" in " ".join(shown.output.split())


@pytest.mark.parametrize("name", ["list", "import", "add", "remove", "all-members"])
def test_every_roster_command_has_an_example(invoke, name: str) -> None:
    shown = invoke("reservations", "roster", name, "--help")
    assert f"Example: mudeung reservations roster {name}" in " ".join(shown.output.split())
