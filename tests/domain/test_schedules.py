"""When a schedule fires."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from quotas.domain.schedules import FINAL, ExecutionState, Timing, check_timing, next_at, zone
from quotas.domain.units import InvalidValue

SEOUL, BERLIN = ZoneInfo("Asia/Seoul"), ZoneInfo("Europe/Berlin")


def at(zone_: ZoneInfo, *parts: int, fold: int = 0) -> int:
    return int(datetime(*parts, tzinfo=zone_, fold=fold).timestamp())  # type: ignore[misc,arg-type]


NOW = at(SEOUL, 2026, 11, 20, 12)


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("30 2 * * *", at(SEOUL, 2026, 11, 21, 2, 30)),
        ("0 0 1 * *", at(SEOUL, 2026, 12, 1)),
        ("0 9 * * 1-5", at(SEOUL, 2026, 11, 23, 9)),
        ("*/15 * * * *", at(SEOUL, 2026, 11, 20, 12, 15)),
        ("0 0 29 2 *", at(SEOUL, 2028, 2, 29)),
    ],
)
def test_a_cron_line_fires_in_its_zone(cron: str, expected: int) -> None:
    assert next_at(Timing("Asia/Seoul", cron=cron), NOW) == expected
    assert check_timing(Timing("Asia/Seoul", cron=cron), NOW) == expected


def test_the_next_instant_is_after_and_never_the_same() -> None:
    timing = Timing("Asia/Seoul", cron="0 12 * * *")
    first = next_at(timing, NOW)
    assert first == NOW + 86_400
    assert next_at(timing, first - 1) == first
    assert next_at(timing, first) == first + 86_400


def test_midnight_in_korea_is_the_afternoon_before_in_utc() -> None:
    korean = next_at(Timing("Asia/Seoul", cron="0 0 * * *"), NOW)
    assert korean == next_at(Timing("UTC", cron="0 15 * * *"), NOW)


def test_a_change_of_clocks_skips_and_repeats_nothing() -> None:
    """02:30 is not on 2027-03-28 in Berlin, and is twice on 2026-10-25."""
    timing = Timing("Europe/Berlin", cron="30 2 * * *")
    spring = next_at(timing, at(BERLIN, 2027, 3, 27, 12))
    assert spring == at(BERLIN, 2027, 3, 28, 3)
    assert next_at(timing, spring) == at(BERLIN, 2027, 3, 29, 2, 30)
    autumn = next_at(timing, at(BERLIN, 2026, 10, 24, 12))
    assert autumn == at(BERLIN, 2026, 10, 25, 2, 30)
    assert next_at(timing, autumn) == at(BERLIN, 2026, 10, 26, 2, 30)


def test_once_is_once() -> None:
    timing = Timing("Asia/Seoul", once_at=NOW + 60)
    assert check_timing(timing, NOW) == NOW + 60
    assert next_at(timing, NOW + 59) == NOW + 60
    assert next_at(timing, NOW + 60) is None
    with pytest.raises(InvalidValue, match="at: never fires"):
        check_timing(timing, NOW + 60)


@pytest.mark.parametrize("cron", ["0 0 30 2 *", "0 0 31 4 *"])
def test_a_line_that_never_fires_is_refused(cron: str) -> None:
    with pytest.raises(InvalidValue, match="cron"):
        check_timing(Timing("Asia/Seoul", cron=cron), NOW)


@pytest.mark.parametrize(
    "cron",
    [
        "",
        "* * * *",
        "60 * * * *",
        "a b c d e",
        "@reboot",
        "* * * * * * *",
        "*/0 * * * *",
        "0 0 0 * *",
        pytest.param("가" * 9999, id="long"),
    ],
)
def test_what_is_no_cron_line_is_refused_by_name(cron: str) -> None:
    with pytest.raises(InvalidValue, match="cron") as caught:
        check_timing(Timing("Asia/Seoul", cron=cron), NOW)
    assert len(caught.value.message_ko) < 300


@pytest.mark.parametrize(
    "name",
    ["Mars/Base", "", "../../etc/passwd", "/etc/localtime", "Asia/Seoul\x00", pytest.param("x" * 10_000, id="long")],
)
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(InvalidValue, match="timezone"):
        zone(name)
    with pytest.raises(InvalidValue, match="timezone"):
        check_timing(Timing(name, once_at=NOW + 60), NOW)


@pytest.mark.parametrize("timing", [Timing("UTC"), Timing("UTC", cron="* * * * *", once_at=NOW + 60)])
def test_a_schedule_is_a_line_or_an_instant(timing: Timing) -> None:
    with pytest.raises(InvalidValue, match="cron"):
        check_timing(timing, NOW)


def test_only_what_has_not_ended_is_not_final() -> None:
    assert set(ExecutionState) - FINAL == {ExecutionState.CLAIMED, ExecutionState.WAITING, ExecutionState.RUNNING}
