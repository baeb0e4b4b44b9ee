"""Rosters as people hand them in: usernames, one on a line, or the column `username` of a CSV file."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from quotas.domain.units import InvalidValue

COLUMN = "username"
MOST_NAMES = 2_000
MOST_BYTES = 1_000_000
LONGEST_SHOWN = 80


@dataclass(frozen=True)
class Names:
    """The names of a roster, each once in their order; `twice` are those that were given more often."""

    names: tuple[str, ...]
    twice: tuple[str, ...] = ()


def read(data: bytes) -> Names:
    """Read a roster: UTF-8 text, with or without a header; other columns than `username` do not matter.

    Raises InvalidValue for what is no such text, has columns but none of that name, names nobody or too many.
    """
    if len(data) > MOST_BYTES:
        raise _wrong(f"must be at most {MOST_BYTES:,} bytes", f"{MOST_BYTES:,}바이트 이하여야 합니다")
    try:
        decoded = data.decode("utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(decoded, newline=""), strict=True) if any(map(str.strip, row))]
    except (UnicodeDecodeError, csv.Error):
        raise _wrong("is not a CSV file in UTF-8", "UTF-8로 된 CSV 파일이 아닙니다") from None
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    if COLUMN in header:
        place, rows = header.index(COLUMN), rows[1:]
    elif all(len(row) == 1 for row in rows):
        place = 0
    else:
        raise _wrong(
            f"has several columns and none is called {COLUMN}; its first line must name them",
            f"열이 여러 개인데 {COLUMN} 열이 없습니다. 첫 줄에 열 이름을 쓰세요",
        )
    return each_once(row[place] if place < len(row) else "" for row in rows)


def each_once(given: Iterable[str]) -> Names:
    """Return the names, each once, blanks around them left out. Raises InvalidValue for none, and for too many."""
    counted = Counter(name.strip() for name in given)
    counted.pop("", None)
    if not counted:
        raise _wrong("names nobody; leave it out for all members", "명단이 비어 있습니다. 전체 구성원이면 생략하세요")
    if len(counted) > MOST_NAMES:
        raise _wrong(f"must name at most {MOST_NAMES:,}, not {len(counted):,}", f"{MOST_NAMES:,}명 이하여야 합니다")
    return Names(tuple(counted), tuple(name for name, times in counted.items() if times > 1))


def strangers(names: Iterable[str]) -> InvalidValue:
    """Return the error that names everyone who is on the roster and no member of the project."""
    shown = ", ".join(f"{name:.{LONGEST_SHOWN}}" if name.isprintable() else f"{name!r:.82}" for name in names)
    return InvalidValue(
        "roster",
        f"only members of the project can be on it; these are none: {shown}",
        f"과제 구성원만 넣을 수 있습니다. 구성원이 아닌 사람: {shown}",
    )


def _wrong(english: str, korean: str) -> InvalidValue:
    return InvalidValue("roster", english, korean)
