"""What the people of an award are told of it, and when: its use, its end, and the end of its files' keeping.

=============  =====================================  ================================================
topic          marks                                  told of
=============  =====================================  ================================================
award budget   80, 90 and 95 % spent or held          the sum granted: another sum may be told anew
award end      30, 14, 7 and 1 days before the end    the end: an end that was moved may be told anew
storage end    14, 7 and 1 days before                the instant until which the files are kept
=============  =====================================  ================================================

A mark is told once. Of several that were passed since the last look only the most urgent is told, and no lesser one
after it. Use counts what is spent or held of what was granted; what the operator bore (overruns) is no use of the
award. A supplement therefore makes another sum, of which nothing was told; when the sum is again what it was before
(the supplement was taken back), what was told of it is not told again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from quotas.domain.units import DAY_SECONDS, PPM, show_budget, show_instant


class Topic(StrEnum):
    """What a notice is of; also its kind."""

    BUDGET = "award budget"
    END = "award end"
    STORAGE = "storage end"


MARKS: dict[Topic, tuple[int, ...]] = {
    Topic.BUDGET: (800_000, 900_000, 950_000),
    Topic.END: (30, 14, 7, 1),
    Topic.STORAGE: (14, 7, 1),
}
"""Millionths of the granted sum, and days before: the more urgent, the later in the row."""

LOOK_SECONDS = DAY_SECONDS
"""An award whose balance does not move is looked at as often: its dates and state may have changed."""


@dataclass(frozen=True)
class Watched:
    """An award as it stands. Amounts in GFLOPS·s, instants in seconds UTC.

    `stopped`: suspended, revoked, or of a project that has ended. `ended_at` is when nothing more could run: the
    award's end, or before; None as long as something may. `kept_until` is until when the project's files are kept
    then, None where they stay for another reason, as the project's next award, which starts at `next_starts_at`.
    """

    project: str
    starts_at: int
    ends_at: int
    stopped: bool
    granted: int
    available: int
    expired: int = 0
    ended_at: int | None = None
    kept_until: int | None = None
    next_starts_at: int | None = None

    @property
    def used(self) -> int:
        """What is spent or held, without what the operator bore."""
        return self.granted - self.available - self.expired

    def runs(self, now: int) -> bool:
        return not self.stopped and self.starts_at <= now < self.ends_at


@dataclass(frozen=True)
class Due:
    """`mark` is to be told; `about` is of what: the granted sum, or the instant before which the days are counted."""

    topic: Topic
    about: int
    mark: int


Told = Mapping[tuple[Topic, int], frozenset[int]]
"""Which marks were told of a (topic, about)."""


def due(award: Watched, told: Told, now: int) -> list[Due]:
    """Return what is to be told now: of each topic at most one mark, the most urgent of those that were passed."""
    return [
        Due(topic, about, passed[-1])
        for topic, about, passed in _passed(award, now)
        if passed and not told.get((topic, about), frozenset()) & frozenset(_as_urgent(topic, passed[-1]))
    ]


def _as_urgent(topic: Topic, mark: int) -> tuple[int, ...]:
    return MARKS[topic][MARKS[topic].index(mark) :]


def _passed(award: Watched, now: int) -> Iterator[tuple[Topic, int, list[int]]]:
    if award.runs(now):
        if award.granted > 0:
            share = award.used * PPM
            yield (
                Topic.BUDGET,
                award.granted,
                [mark for mark in MARKS[Topic.BUDGET] if share >= mark * award.granted],
            )
        yield Topic.END, award.ends_at, _days_passed(Topic.END, award.starts_at, award.ends_at, now)
    elif award.ended_at is not None and award.kept_until is not None and award.ended_at <= now < award.kept_until:
        yield Topic.STORAGE, award.kept_until, _days_passed(Topic.STORAGE, award.ended_at, award.kept_until, now)


def _days_passed(topic: Topic, from_at: int, until: int, now: int) -> list[int]:
    """Return the marks that were passed since `from_at`: a week's award is never told to end in 30 days."""
    return [days for days in MARKS[topic] if from_at <= until - days * DAY_SECONDS <= now]


def next_look(award: Watched, now: int) -> int | None:
    """Return when the award is to be looked at again at the latest; None when nothing of it will be told any more.

    Whatever moves its balance has it looked at earlier.
    """
    moments = [award.starts_at, award.ends_at]
    moments += [award.ends_at - days * DAY_SECONDS for days in MARKS[Topic.END]]
    if award.ended_at is not None and award.kept_until is not None:
        moments += [award.kept_until - days * DAY_SECONDS for days in MARKS[Topic.STORAGE]] + [award.kept_until]
    to_come = [at for at in moments if at > now]
    if not to_come and now >= award.ends_at:
        return None
    return min([*to_come, now + LOOK_SECONDS])


def texts(award: Watched, told: Due, now: int) -> tuple[str, str]:
    """Return what the people are told, in Korean and in English."""
    if told.topic is Topic.BUDGET:
        return _budget(award)
    if told.topic is Topic.END:
        return _end(award, now)
    return _storage(award, now)


def _budget(award: Watched) -> tuple[str, str]:
    percent = f"{award.used * 1000 // award.granted / 10:.1f} %"
    used, granted, available = show_budget(award.used), show_budget(award.granted), show_budget(award.available)
    ends = show_instant(award.ends_at)
    korean = (
        f"{award.project} 과제: 배정량의 {percent}를 사용했습니다(사용 및 예약 {used} / 배정 {granted}, 잔여"
        f" {available}, 배정 종료 {ends}). 잔여량이 없으면 새로 시작할 수 없고 실행 중인 서버는 중지됩니다. 쓰지"
        " 않는 서버를 중지하고, 더 필요하면 추가 배정을 신청하세요."
    )
    english = (
        f"{award.project}: {percent} of the award is used ({used} spent or held of {granted}, {available} left; it"
        f" ends at {ends}). With nothing left no server starts and running ones are stopped. Stop servers that are not"
        " needed, and apply for a supplement if more is."
    )
    return korean, english


def _end(award: Watched, now: int) -> tuple[str, str]:
    days, ends, available = _days(award.ends_at - now), show_instant(award.ends_at), show_budget(award.available)
    korean = (
        f"{award.project} 과제의 배정이 {days}일 안에, {ends}에 끝납니다. 그때 실행 중인 서버는 중지되고 잔여량"
        f" {available}은(는) 소멸합니다. 그 전에 작업을 저장하세요."
    )
    english = (
        f"The award of {award.project} ends within {days} day{'s' if days > 1 else ''}, at {ends}. Running servers are"
        f" stopped then, and the {available} left expire. Save your work before."
    )
    if award.next_starts_at is not None:
        starts = show_instant(award.next_starts_at)
        return f"{korean} 다음 배정은 {starts}에 시작됩니다.", f"{english} The project's next award starts at {starts}."
    return (
        f"{korean} 더 필요하면 연구책임자가 기간 연장이나 재신청을 하세요.",
        f"{english} If it is needed longer, the PI applies for an extension or a renewal.",
    )


def _storage(award: Watched, now: int) -> tuple[str, str]:
    until = award.kept_until or now
    days, kept, ended = _days(until - now), show_instant(until), show_instant(award.ended_at or award.ends_at)
    korean = (
        f"{award.project} 과제의 배정이 {ended}에 끝났습니다. 과제의 파일은 {days}일 안에, {kept}까지만 보관됩니다."
        " 그 전에 필요한 파일을 옮기거나 재신청을 하세요."
    )
    english = (
        f"The award of {award.project} ended at {ended}. The project's files are kept for {days}"
        f" day{'s' if days > 1 else ''} at most, until {kept}. Copy what is needed before, or apply for a renewal."
    )
    return korean, english


def _days(seconds: int) -> int:
    return max(-(-seconds // DAY_SECONDS), 1)
