"""Units of the core, all integers.

==================  =======================================================================
rate                GFLOPS at the programme's reference precision
compute budget      GFLOPS·s at that precision
device time         whole seconds
instants            whole seconds since 1970-01-01T00:00:00Z; an end is exclusive
memory, storage     bytes
money               KRW
fractions           parts per million (``_ppm``)
==================  =======================================================================

Rounding happens in two published places only: a rate row (floor, see :mod:`quotas.domain.rates`) and a run's
seconds (ceiling, once, when the run is settled).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from zoneinfo import ZoneInfo

GFLOPS_PER_TFLOPS = 10**3
GFLOPS_PER_PFLOPS = 10**6
PPM = 10**6
HOUR_SECONDS = 3600
DAY_SECONDS = 86_400
LARGEST = 2**63 - 1
"""The largest amount that the store can hold; anything above is refused, never wrapped."""

FIRST_YEAR, LAST_YEAR = 1971, 9998
"""Years that can be typed: in any zone an instant of theirs is after 1970 and can be shown."""

CALENDAR = ZoneInfo("Asia/Seoul")
"""The zone of calendar rules: a day of an award starts at 00:00 there."""


@dataclass(eq=False)
class InvalidValue(Exception):  # noqa: N818 - named for what it says of a value
    """A value that a person gave cannot be taken. `field` names it; the messages say what is allowed."""

    field: str
    message_en: str
    message_ko: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message_en}"

    def in_language(self, language: str) -> str:
        return f"{self.field}: {self.message_ko if language == 'ko' else self.message_en}"


def amount(field: str, value: object) -> int:
    """Return `value` as a positive amount that fits the store.

    Raises InvalidValue for a bool, a non-integer, zero, a negative number or one above 2**63 - 1.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        shown = f"{value!r:.60}"
        raise InvalidValue(field, f"must be a whole number, not {shown}", f"정수여야 합니다 (입력: {shown})")
    if value <= 0:
        number = max(value, -LARGEST)
        raise InvalidValue(field, f"must be above zero, not {number}", f"0보다 커야 합니다 (입력: {number})")
    if value > LARGEST:
        raise InvalidValue(field, f"must be at most {LARGEST}", f"{LARGEST} 이하여야 합니다")
    return value


_RATE = re.compile(
    r"(?P<whole>[0-9]{1,20})(?:\.(?P<part>[0-9]{1,20}))?\s*(?P<unit>PF|TF|GF)(?:LOPS)?", re.IGNORECASE | re.ASCII
)
_RATE_GFLOPS = {"PF": GFLOPS_PER_PFLOPS, "TF": GFLOPS_PER_TFLOPS, "GF": 1}


def parse_rate_gflops(field: str, text: str) -> int:
    """Read ``0.08 PF``, ``80TF`` or ``80000 GFLOPS`` as whole GFLOPS; a part of a GFLOPS is refused, not rounded."""
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise InvalidValue(
            field,
            f"{text!r:.60} is not a rate; write a number and PF, TF or GF, as in 0.08PF",
            f"{text!r:.60}은(는) 연산 속도가 아닙니다. 숫자와 PF, TF 또는 GF를 쓰세요. 예: 0.08PF",
        )
    part = match["part"] or ""
    gflops, rest = divmod(int(match["whole"] + part) * _RATE_GFLOPS[match["unit"].upper()], 10 ** len(part))
    if rest:
        raise InvalidValue(field, "must be whole GFLOPS", "GFLOPS 단위의 정수여야 합니다")
    return amount(field, gflops)


def parse_instant(field: str, text: str, *, zone: ZoneInfo = CALENDAR) -> int:
    """Read ``2026-12-31`` (00:00 of that day in `zone`) or an ISO 8601 instant as whole seconds UTC."""
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            moment = datetime.combine(date.fromisoformat(text), time(), zone)
        else:
            moment = datetime.fromisoformat(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=zone)
        if not FIRST_YEAR <= moment.year <= LAST_YEAR:
            raise ValueError("no year of ours")
    except ValueError:
        raise InvalidValue(
            field,
            f"{text!r:.60} is not a date; write 2026-12-31 or 2026-12-31T09:00+09:00",
            f"{text!r:.60}은(는) 날짜가 아닙니다. 2026-12-31 또는 2026-12-31T09:00+09:00처럼 쓰세요",
        ) from None
    return int(moment.timestamp())


def moment(instant: int) -> datetime:
    """Return the instant as an aware UTC datetime."""
    return datetime.fromtimestamp(instant, UTC)


def show_instant(instant: int, zone: ZoneInfo = CALENDAR) -> str:
    """Write an instant with its zone, as in ``2026-11-21 09:00 KST``."""
    return datetime.fromtimestamp(instant, zone).strftime("%Y-%m-%d %H:%M %Z")


def show_duration(seconds: int, language: str = "en") -> str:
    """Write whole seconds as people say them: ``2 h 10 min``, ``2시간 10분``; under a minute in seconds."""
    hours, rest = divmod(max(seconds, 0), HOUR_SECONDS)
    minutes, rest = divmod(rest, 60)
    units = ("시간", "분", "초") if language == "ko" else (" h", " min", " s")
    parts = [f"{number}{unit}" for number, unit in zip((hours, minutes), units[:2], strict=True) if number]
    return " ".join(parts) if parts else f"{rest}{units[2]}"


def show_rate(gflops: int) -> str:
    """Write a rate in the largest unit that keeps it readable: ``8.85 PF``, ``66.9 TF``, ``50 GF``."""
    for unit, size in (("PF", GFLOPS_PER_PFLOPS), ("TF", GFLOPS_PER_TFLOPS)):
        if gflops >= size:
            return f"{Decimal(gflops) / size:,.3f}".rstrip("0").rstrip(".") + f" {unit}"
    return f"{gflops:,} GF"


def show_budget(gflops_seconds: int) -> str:
    """Write a budget in PF·h (three decimals) or, when smaller, TF·h: ``752.678 PF·h``."""
    hours = Decimal(gflops_seconds) / HOUR_SECONDS
    size, unit = (GFLOPS_PER_PFLOPS, "PF·h") if abs(hours) >= GFLOPS_PER_PFLOPS else (GFLOPS_PER_TFLOPS, "TF·h")
    return f"{hours / size:,.3f} {unit}"
