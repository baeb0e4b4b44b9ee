"""When windows begin: the wall clock of a zone over its changes, and every rule that is refused."""

from __future__ import annotations

import time
from zoneinfo import ZoneInfo

import pytest

from quotas.domain import recurrence
from quotas.domain.units import InvalidValue, parse_instant, show_instant

SEOUL = "Asia/Seoul"


def starts(first: str, rule: str | None, zone: str = SEOUL) -> list[str]:
    where = ZoneInfo(zone)
    return [show_instant(at, where) for at in recurrence.starts(zone, parse_instant("at", first, zone=where), rule)]


def test_without_a_rule_there_is_one() -> None:
    assert starts("2027-03-02T09:00", None) == ["2027-03-02 09:00 KST"]


def test_twice_a_week_for_a_term() -> None:
    found = starts("2027-03-02T09:00", "FREQ=WEEKLY;BYDAY=TU,TH;COUNT=30")
    assert len(found) == 30
    assert found[:3] == ["2027-03-02 09:00 KST", "2027-03-04 09:00 KST", "2027-03-09 09:00 KST"]
    assert found[-1] == "2027-06-10 09:00 KST"


def test_every_week_of_a_year_in_seoul_is_at_nine() -> None:
    found = starts("2027-01-04T09:00", "FREQ=WEEKLY;UNTIL=20271231")
    assert len(found) == 52
    assert {each[11:] for each in found} == {"09:00 KST"}


def test_the_wall_clock_is_kept_over_a_change_of_clocks() -> None:
    found = starts("2027-03-22T09:00", "FREQ=WEEKLY;COUNT=3", "Europe/Berlin")
    assert found == ["2027-03-22 09:00 CET", "2027-03-29 09:00 CEST", "2027-04-05 09:00 CEST"]


def test_an_hour_that_is_skipped_is_the_one_after_it() -> None:
    found = starts("2027-03-07T02:30", "FREQ=WEEKLY;COUNT=3", "America/New_York")
    assert found == ["2027-03-07 02:30 EST", "2027-03-14 03:30 EDT", "2027-03-21 02:30 EDT"]


def test_an_hour_that_comes_twice_is_its_first() -> None:
    found = starts("2027-10-31T01:30", "FREQ=WEEKLY;COUNT=3", "America/New_York")
    assert found == ["2027-10-31 01:30 EDT", "2027-11-07 01:30 EDT", "2027-11-14 01:30 EST"]


def test_one_that_begins_in_an_hour_that_comes_twice_begins_when_it_was_asked_for() -> None:
    second = parse_instant("at", "2027-11-07T01:30-05:00")
    found = recurrence.starts("America/New_York", second, "FREQ=DAILY;COUNT=2")
    assert found == (second, second + 86_400)


@pytest.mark.parametrize(
    ("rule", "last"),
    [
        ("FREQ=WEEKLY;UNTIL=20270316", "2027-03-16 09:00 KST"),
        ("FREQ=WEEKLY;UNTIL=20270316T085959", "2027-03-09 09:00 KST"),
        ("FREQ=WEEKLY;UNTIL=20270316T000000Z", "2027-03-16 09:00 KST"),
        ("FREQ=WEEKLY;UNTIL=20270315T235959Z", "2027-03-09 09:00 KST"),
        ("FREQ=MONTHLY;BYDAY=1TU;COUNT=3", "2027-05-04 09:00 KST"),
        ("FREQ=MONTHLY;BYDAY=TU;BYSETPOS=1;COUNT=3", "2027-05-04 09:00 KST"),
        ("FREQ=MONTHLY;BYMONTHDAY=-30,2;COUNT=4", "2027-05-02 09:00 KST"),
        ("FREQ=DAILY;BYHOUR=9,14;COUNT=2", "2027-03-02 14:00 KST"),
        ("FREQ=YEARLY;COUNT=3", "2029-03-02 09:00 KST"),
        ("rrule:freq=daily;count=2;", "2027-03-03 09:00 KST"),
        ("FREQ=WEEKLY;INTERVAL=2;BYDAY=TU;WKST=SU;COUNT=2", "2027-03-16 09:00 KST"),
    ],
)
def test_rules_are_those_of_the_standard(rule: str, last: str) -> None:
    assert starts("2027-03-02T09:00", rule)[-1] == last


def test_the_most_there_may_be() -> None:
    assert len(starts("2027-03-02T09:00", "FREQ=DAILY;COUNT=366")) == 366
    assert len(starts("2027-03-02T09:00", "FREQ=DAILY;UNTIL=20280301")) == 366


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("FREQ=WEEKLY", "rrule: never ends; add COUNT, as in COUNT=30, or UNTIL"),
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30;COUNT=3", "rrule: has no instance"),
        ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30;COUNT=3", "rrule: has no instance"),
        ("FREQ=DAILY;INTERVAL=7;BYDAY=MO;COUNT=3", "rrule: has no instance"),
        ("FREQ=DAILY;UNTIL=20270301", "rrule: has no instance"),
        ("FREQ=DAILY;UNTIL=00010101T000000Z", "rrule: has no instance"),
        ("FREQ=DAILY;COUNT=367", "rrule: COUNT must be 1 to 366, not 367"),
        ("FREQ=DAILY;COUNT=0", "rrule: COUNT must be 1 to 366, not 0"),
        ("FREQ=DAILY;COUNT=99999999999999999999", "rrule: COUNT must be 1 to 366"),
        ("FREQ=DAILY;UNTIL=20280302", "rrule: has more than 366 instances"),
        ("FREQ=DAILY;BYHOUR=9,10,11;UNTIL=20271231", "rrule: has more than 366 instances"),
        ("FREQ=YEARLY;COUNT=9", "rrule: has 4 of its 9 instances within 1098 days after the first; write COUNT=4"),
        (
            "FREQ=DAILY;UNTIL=99991231",
            "rrule: UNTIL must be at most 1098 days after the first window, which is 20300304",
        ),
        ("FREQ=DAILY;UNTIL=99991231T235959Z", "rrule: UNTIL=99991231T235959Z is no date"),
        ("FREQ=DAILY;UNTIL=20271301", "rrule: UNTIL=20271301 is no date; write UNTIL=20270620"),
        ("FREQ=DAILY;COUNT=3;UNTIL=20270401", "rrule: has both COUNT and UNTIL"),
        ("FREQ=SECONDLY;COUNT=3", "rrule: FREQ must be one of DAILY, WEEKLY, MONTHLY, YEARLY"),
        ("COUNT=3", "rrule: FREQ must be one of"),
        ("", "rrule: must be 1 to 300 characters"),
        ("FREQ=DAILY;COUNT=3;" + "X" * 300, "rrule: must be 1 to 300 characters"),
        ("every day", "rrule: 'EVERY DAY' is not taken; write FREQ, COUNT, UNTIL"),
        ("FREQ=DAILY;FREQ=DAILY;COUNT=3", "rrule: 'FREQ=DAILY' is not taken"),
        ("FREQ=DAILY;BYMINUTE=1;COUNT=3", "rrule: 'BYMINUTE=1' is not taken"),
        ("FREQ=DAILY;COUNT=3;INTERVAL=0", "rrule: INTERVAL must be 1 to 366, not 0"),
        ("FREQ=MONTHLY;BYMONTHDAY=0;COUNT=3", "rrule: BYMONTHDAY must be 1 to 31, or -31 to -1, not 0"),
        ("FREQ=MONTHLY;BYMONTHDAY=32;COUNT=3", "rrule: BYMONTHDAY must be 1 to 31"),
        ("FREQ=DAILY;BYHOUR=24;COUNT=3", "rrule: BYHOUR must be 0 to 23, not 24"),
        ("FREQ=DAILY;BYHOUR=-1;COUNT=3", "rrule: BYHOUR must be 0 to 23, not -1"),
        ("FREQ=WEEKLY;BYDAY=XX;COUNT=3", "rrule: BYDAY=XX is no day; write MO to SU"),
        ("FREQ=WEEKLY;BYDAY=2TU;COUNT=3", "rrule: BYDAY=2TU is no day"),
        ("FREQ=MONTHLY;BYDAY=99TU;COUNT=3", "rrule: BYDAY=99TU is no day"),
        ("FREQ=MONTHLY;BYDAY=0TU;COUNT=3", "rrule: BYDAY=0TU is no day"),
        ("FREQ=WEEKLY;WKST=XX;COUNT=3", "rrule: WKST must be one of MO, TU"),
        (
            "FREQ=WEEKLY;BYDAY=WE;COUNT=3",
            "starts: is not an instance of the rule; its first one after that is at 2027-03-03 09:00 KST",
        ),
    ],
)
def test_what_is_no_rule_is_refused_at_once_with_what_is_allowed(rule: str, says: str) -> None:
    begun = time.monotonic()
    with pytest.raises(InvalidValue) as refused:
        starts("2027-03-02T09:00", rule)
    assert str(refused.value).startswith(says)
    assert refused.value.message_ko != refused.value.message_en
    assert time.monotonic() - begun < 5  # dateutil alone looks for some of these up to the year 9999


def test_a_zone_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidValue, match="timezone: 'Mars' is not a time zone"):
        recurrence.starts("Mars", 1_800_000_000, None)


def test_a_first_window_at_the_end_of_time_is_refused() -> None:
    with pytest.raises(InvalidValue, match="starts: must be before the year 9994"):
        starts("9997-01-01T09:00", "FREQ=DAILY;COUNT=2")


def test_a_leap_day_and_the_turn_of_the_year() -> None:
    assert starts("2028-02-28T09:00", "FREQ=DAILY;COUNT=3")[1:] == ["2028-02-29 09:00 KST", "2028-03-01 09:00 KST"]
    assert starts("2027-12-31T09:00", "FREQ=DAILY;COUNT=2")[1] == "2028-01-01 09:00 KST"
    assert starts("2028-02-29T09:00", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=-1;COUNT=2")[1] == "2029-02-28 09:00 KST"


def test_a_rule_is_kept_in_one_form() -> None:
    assert recurrence.canonical(" rrule:count=3; freq=weekly ") == "FREQ=WEEKLY;COUNT=3"


def test_windows_that_overlap_say_how_long_one_may_be() -> None:
    begins = (0, 3600 * 24, 3600 * 26)
    recurrence.must_not_overlap(begins, 7200, ZoneInfo(SEOUL))
    with pytest.raises(InvalidValue) as refused:
        recurrence.must_not_overlap(begins, 7201, ZoneInfo(SEOUL))
    assert str(refused.value) == (
        "length: the windows at 1970-01-02 09:00 KST and 1970-01-02 11:00 KST overlap; each may last at most 2 h"
    )
