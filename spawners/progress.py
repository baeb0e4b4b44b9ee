"""The phases of a start in plain words, as the page shows them while it waits: one table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from quotas.domain.units import show_duration, show_instant


class Phase(IntEnum):
    """Where a start is; the value is how far it is, in percent."""

    ASKED = 2
    HELD = 10
    WAITING = 15
    PREPARING = 30
    STARTING = 45
    ANSWERING = 65
    READY = 95
    ENDED = 100
    """It was refused, given up or stopped; the hub says why."""


@dataclass(frozen=True)
class Words:
    """What a phase is called, as format strings over :class:`Moment`'s numbers."""

    en: str
    ko: str


PHASES: dict[Phase, Words] = {
    Phase.ASKED: Words(
        "Checking what {project} may use now.",
        "{project} 과제로 지금 사용할 수 있는지 확인하는 중입니다.",
    ),
    Phase.HELD: Words(
        "Admitted: {profile} on {project}, held until {until}.",
        "승인되었습니다: {project} 과제, {profile}, {until}까지 예약.",
    ),
    Phase.WAITING: Words(
        "Waiting for its turn: {position} of {waiting}, about {seconds}.",
        "차례를 기다리는 중입니다: {waiting}개 중 {position}번째, 약 {seconds}.",
    ),
    Phase.PREPARING: Words(
        "Preparing the project's folder and the profile's terms.",
        "과제 폴더와 프로필 설정을 준비하는 중입니다.",
    ),
    Phase.STARTING: Words("Starting the {thing}.", "{thing}를 시작하는 중입니다."),
    Phase.ANSWERING: Words(
        "Started. Waiting for the notebook's first answer, usually a few seconds.",
        "시작되었습니다. 노트북의 첫 응답을 기다리는 중입니다. 보통 몇 초 걸립니다.",
    ),
    Phase.READY: Words("The notebook answers. Opening it.", "노트북이 응답합니다. 여는 중입니다."),
}

THINGS = {
    "en": {"local": "process", "docker": "container", "kubernetes": "pod"},
    "ko": {"local": "프로세스", "docker": "컨테이너", "kubernetes": "파드"},
}


@dataclass(frozen=True)
class Moment:
    """A start at one moment. `expected_seconds` is how long its turn is expected to be away."""

    phase: Phase
    project: str = ""
    profile: str = ""
    backend: str = "local"
    until_at: int | None = None
    position: int = 0
    waiting: int = 0
    expected_seconds: int = 0


class Progress:
    """Makes the hub's events of one start, each new one once."""

    def __init__(self) -> None:
        self._last: Moment | None = None

    def event(self, moment: Moment, language: str) -> dict[str, object] | None:
        """Return the event to send for `moment`, or None when there is nothing new to say."""
        if moment == self._last or moment.phase not in PHASES:
            return None
        self._last = moment
        return {"progress": int(moment.phase), "message": message(moment, language)}


def message(moment: Moment, language: str) -> str:
    """Return what the phase is called now."""
    words = PHASES[moment.phase]
    return (words.ko if language == "ko" else words.en).format(
        project=moment.project,
        profile=moment.profile,
        until=show_instant(moment.until_at) if moment.until_at is not None else "",
        position=moment.position,
        waiting=max(moment.waiting, moment.position),
        seconds=show_duration(moment.expected_seconds, language),
        thing=THINGS["ko" if language == "ko" else "en"].get(moment.backend, moment.backend),
    )


READY_WORDS = {"en": "The server is ready.", "ko": "서버가 준비되었습니다."}
