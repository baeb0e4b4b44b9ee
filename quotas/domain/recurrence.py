"""When the windows of a reservation begin: once, or by a recurrence rule (RFC 5545) in a time zone.

The wall clock is kept: a lecture at 09:00 is at 09:00 before and after a change of clocks. An hour that is skipped
counts as the one after it, an hour that comes twice as its first, as the RFC has it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, time, timedelta
from itertools import islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo

from dateutil import rrule

from quotas.domain.schedules import zone
from quotas.domain.units import LAST_YEAR, InvalidValue, moment, show_duration, show_instant

MOST_WINDOWS = 366
LONGEST_RULE = 300
LONGEST_SPAN_DAYS = 3 * 366
"""How long after the first window the last may begin; it bounds the search for instances, too."""
LARGEST_INTERVAL = 366

_FREQUENCIES: dict[str, Any] = {
    "DAILY": rrule.DAILY,
    "WEEKLY": rrule.WEEKLY,
    "MONTHLY": rrule.MONTHLY,
    "YEARLY": rrule.YEARLY,
}
_DAYS = {"MO": rrule.MO, "TU": rrule.TU, "WE": rrule.WE, "TH": rrule.TH, "FR": rrule.FR, "SA": rrule.SA, "SU": rrule.SU}
_NUMBERS: dict[str, tuple[int, int, bool]] = {
    "BYMONTH": (1, 12, False),
    "BYMONTHDAY": (1, 31, True),
    "BYYEARDAY": (1, 366, True),
    "BYWEEKNO": (1, 53, True),
    "BYHOUR": (0, 23, False),
    "BYSETPOS": (1, 366, True),
}
"""Lists of numbers: from, to, and whether they may count from the end."""
_PARTS = ("FREQ", "COUNT", "UNTIL", "INTERVAL", "BYDAY", *_NUMBERS, "WKST")
_DAY = re.compile(r"(?P<ordinal>[+-]?[0-9]{1,2})?(?P<day>MO|TU|WE|TH|FR|SA|SU)")


def starts(zone_name: str, starts_at: int, rule: str | None) -> tuple[int, ...]:
    """Return when each window begins (seconds UTC), the first at `starts_at`; one where `rule` is None.

    Raises InvalidValue for a zone or a rule that is none, a rule that never ends, has no instance, does not begin with
    `starts_at`, has more than `MOST_WINDOWS` instances or spans more than `LONGEST_SPAN_DAYS`.
    """
    where = zone(zone_name)
    if rule is None:
        return (starts_at,)
    parts = _parts(rule)
    first = moment(starts_at).astimezone(where).replace(tzinfo=None)
    if first.year + LONGEST_SPAN_DAYS // 365 >= LAST_YEAR:
        raise InvalidValue("starts", f"must be before the year {LAST_YEAR - 4}", f"{LAST_YEAR - 4}년 이전이어야 합니다")
    horizon = first + timedelta(days=LONGEST_SPAN_DAYS)
    count, until = _end(parts, where, horizon)
    found = _instances(parts, first, until)
    if not found:
        raise _wrong(
            "has no instance: no such day comes between the first window and its end",
            "해당하는 날짜가 없습니다. 첫 예약과 종료 사이에 그런 날이 없습니다",
        )
    if found[0] != first:
        _say_first(_instant(found[0], where), where)
    if count is not None and len(found) < min(count, MOST_WINDOWS):
        raise _wrong(
            f"has {len(found)} of its {count} instances within {LONGEST_SPAN_DAYS} days after the first; "
            f"write COUNT={len(found)} or less",
            f"첫 예약 이후 {LONGEST_SPAN_DAYS}일 안에 {count}회 중 {len(found)}회만 있습니다. "
            f"COUNT={len(found)} 이하로 쓰세요",
        )
    found = found[:count]
    if len(found) > MOST_WINDOWS:
        raise _wrong(f"has more than {MOST_WINDOWS} instances", f"{MOST_WINDOWS}회를 넘을 수 없습니다")
    return (starts_at, *(_instant(each, where) for each in found[1:]))


def canonical(rule: str) -> str:
    """Return the rule as it is stored: its parts in capitals, without ``RRULE:``. Raises InvalidValue."""
    return ";".join(f"{name}={value}" for name, value in _parts(rule).items())


def must_not_overlap(begins: tuple[int, ...], seconds: int, where: ZoneInfo) -> None:
    """No window begins before the one before it has ended. Raises InvalidValue, which says how long one may be."""
    shortest = min((later - earlier for earlier, later in pairwise(begins)), default=seconds)
    if shortest >= seconds:
        return
    earlier, later = next(pair for pair in pairwise(begins) if pair[1] - pair[0] == shortest)
    shown = show_instant(earlier, where), show_instant(later, where)
    raise InvalidValue(
        "length",
        f"the windows at {shown[0]} and {shown[1]} overlap; each may last at most {show_duration(shortest)}",
        f"{shown[0]}와 {shown[1]} 예약이 겹칩니다. 한 번에 최대 {show_duration(shortest, 'ko')}입니다",
    )


def _wrong(english: str, korean: str) -> InvalidValue:
    return InvalidValue("rrule", english, korean)


def _instant(local: datetime, where: ZoneInfo) -> int:
    return int(local.replace(tzinfo=where).timestamp())


def _say_first(instant: int, where: ZoneInfo) -> None:
    shown = show_instant(instant, where)
    raise InvalidValue(
        "starts",
        f"is not an instance of the rule; its first one after that is at {shown}",
        f"반복 규칙에 해당하는 시각이 아닙니다. 그 뒤의 첫 시각: {shown}",
    )


def _parts(rule: str) -> dict[str, str]:
    """Return the rule's parts by name, each once and known, FREQ first."""
    text = rule.strip().upper().removeprefix("RRULE:").rstrip(";")
    if not text or len(text) > LONGEST_RULE:
        raise _wrong(
            f"must be 1 to {LONGEST_RULE} characters, as in FREQ=WEEKLY;BYDAY=MO,WE;COUNT=30",
            f"1~{LONGEST_RULE}자여야 합니다. 예: FREQ=WEEKLY;BYDAY=MO,WE;COUNT=30",
        )
    found: dict[str, str] = {}
    for part in text.split(";"):
        name, equals, value = (each.strip() for each in part.partition("="))
        if not equals or not value or name not in _PARTS or name in found:
            raise _wrong(
                f"{part!r:.60} is not taken; write {', '.join(_PARTS)}, each once, as NAME=VALUE with ';' between",
                f"{part!r:.60}은(는) 쓸 수 없습니다. {', '.join(_PARTS)}를 한 번씩 이름=값으로 쓰고 ';'로 나누세요",
            )
        found[name] = value
    if found.get("FREQ") not in _FREQUENCIES:
        raise _wrong(f"FREQ must be one of {', '.join(_FREQUENCIES)}", f"FREQ는 {', '.join(_FREQUENCIES)} 중 하나")
    return {"FREQ": found.pop("FREQ"), **found}


def _number(name: str, text: str, low: int, high: int, *, negative: bool = False) -> int:
    if re.fullmatch(r"[+-]?[0-9]{1,5}", text, re.ASCII):
        value = int(text)
        if low <= value <= high or (negative and low <= -value <= high):
            return value
    also = f", or -{high} to -{low}" if negative else ""
    also_ko = f" 또는 -{high}~-{low}" if negative else ""
    raise _wrong(
        f"{name} must be {low} to {high}{also}, not {text:.20}", f"{name}: {low}~{high}{also_ko} (입력: {text:.20})"
    )


def _end(parts: dict[str, str], where: ZoneInfo, horizon: datetime) -> tuple[int | None, datetime]:
    """Return (how many instances, until when to look for them), both on the wall clock."""
    if "COUNT" in parts and "UNTIL" in parts:
        raise _wrong("has both COUNT and UNTIL; write one of them", "COUNT와 UNTIL 중 하나만 쓰세요")
    if "COUNT" in parts:
        return _number("COUNT", parts["COUNT"], 1, MOST_WINDOWS), horizon
    if "UNTIL" not in parts:
        raise _wrong(
            "never ends; add COUNT, as in COUNT=30, or UNTIL, as in UNTIL=20270620",
            "끝이 없습니다. COUNT=30처럼 횟수를, 또는 UNTIL=20270620처럼 마지막 날을 쓰세요",
        )
    until = _until(parts["UNTIL"], where)
    if until > horizon:
        last = horizon.strftime("%Y%m%d")
        raise _wrong(
            f"UNTIL must be at most {LONGEST_SPAN_DAYS} days after the first window, which is {last}",
            f"UNTIL은 첫 예약 이후 {LONGEST_SPAN_DAYS}일({last}) 이내여야 합니다",
        )
    return None, until


def _until(text: str, where: ZoneInfo) -> datetime:
    """Return the wall clock of UNTIL: a whole day, a local time, or an instant in UTC."""
    kinds: tuple[tuple[str, str, Callable[[datetime], datetime]], ...] = (
        (r"\d{8}", "%Y%m%d", lambda day: datetime.combine(day, time(23, 59, 59))),
        (r"\d{8}T\d{6}", "%Y%m%dT%H%M%S", lambda local: local),
        (r"\d{8}T\d{6}Z", "%Y%m%dT%H%M%S%z", lambda utc: utc.astimezone(where).replace(tzinfo=None)),
    )
    for shape, format_, as_local in kinds:
        if re.fullmatch(shape, text, re.ASCII):
            try:
                return as_local(datetime.strptime(text, format_))  # noqa: DTZ007 - a wall clock has no zone
            except (ValueError, OverflowError):
                break
    raise _wrong(
        f"UNTIL={text:.20} is no date; write UNTIL=20270620 or UNTIL=20270620T000000Z",
        f"UNTIL={text:.20}은(는) 날짜가 아닙니다. UNTIL=20270620 또는 UNTIL=20270620T000000Z로 쓰세요",
    )


def _instances(parts: dict[str, str], first: datetime, until: datetime) -> list[datetime]:
    """Return the first instances until then, at most one more than is taken.

    dateutil looks for one up to the year 9999, which takes seconds where there is none. The calendar repeats itself
    after 400 years, to the weekday: the rule is followed in the last such years.
    """
    later = (LAST_YEAR - LONGEST_SPAN_DAYS // 365 - first.year) // 400 * 400
    if until < first:
        return []
    found = islice(
        _rule(parts, first.replace(year=first.year + later), until.replace(year=until.year + later)), MOST_WINDOWS + 1
    )
    return [each.replace(year=each.year - later) for each in found]


def _rule(parts: dict[str, str], first: datetime, until: datetime) -> rrule.rrule:
    given: dict[str, Any] = {}
    for name, (low, high, negative) in _NUMBERS.items():
        if name in parts:
            values = parts[name].split(",")
            given[name.lower()] = [_number(name, each, low, high, negative=negative) for each in values]
    if "BYDAY" in parts:
        given["byweekday"] = [_weekday(each, parts["FREQ"]) for each in parts["BYDAY"].split(",")]
    if parts.get("WKST", "MO") not in _DAYS:
        raise _wrong(f"WKST must be one of {', '.join(_DAYS)}", f"WKST는 {', '.join(_DAYS)} 중 하나")
    return rrule.rrule(
        _FREQUENCIES[parts["FREQ"]],
        dtstart=first,
        until=until,
        interval=_number("INTERVAL", parts.get("INTERVAL", "1"), 1, LARGEST_INTERVAL),
        wkst=_DAYS[parts.get("WKST", "MO")],
        **given,
    )


def _weekday(text: str, frequency: str) -> rrule.weekday:
    match = _DAY.fullmatch(text)
    ordinal = int((match and match["ordinal"]) or 0) if match else 0
    if match is None or (match["ordinal"] and (frequency not in {"MONTHLY", "YEARLY"} or not 1 <= abs(ordinal) <= 53)):
        raise _wrong(
            f"BYDAY={text:.20} is no day; write MO to SU, by month or year also as in 2TU or -1FR",
            f"BYDAY={text:.20}은(는) 요일이 아닙니다. MO~SU로, 매월·매년은 2TU, -1FR처럼도 쓸 수 있습니다",
        )
    day = _DAYS[match["day"]]
    return day(ordinal) if ordinal else day
