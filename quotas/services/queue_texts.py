"""The queue in words, the same at every door: what can be asked for, what happens at a turn, where someone stands."""

from __future__ import annotations

from dataclasses import dataclass

from quotas.domain.policy import Policy
from quotas.domain.priorities import WISHES, Priority
from quotas.domain.queue import EntryState, Mode
from quotas.domain.units import show_duration, show_instant
from quotas.services.queue_views import Place

_WISHES: dict[Priority, tuple[tuple[str, str], tuple[str, str]]] = {
    Priority.GUARANTEED: (
        (
            "과제 한도 안에서",
            "한도 안의 실행은 다른 사람에게 장치를 내주지 않습니다.",
        ),
        (
            "Within the project's ceiling",
            "A run within the ceiling gives its devices to nobody.",
        ),
    ),
    Priority.BORROWED: (
        (
            "필요하면 한도를 넘어 유휴 장치 대여",
            (
                "한도를 넘는 실행도 똑같이 차감됩니다. {minimum} 실행 후에는 {notice} 전에 알리고 회수될 수 있으며,"
                " 열린 문서는 그 전에 저장됩니다."
            ),
        ),
        (
            "Borrow idle devices beyond the ceiling where needed",
            (
                "It is charged as any other. After {minimum} the devices may be wanted back, with {notice} notice, in"
                " which open documents are saved."
            ),
        ),
    ),
    Priority.OPPORTUNISTIC: (
        (
            "유휴 장치만 사용",
            (
                "과제 한도에 포함되지 않으며 똑같이 차감됩니다. 언제든지 {notice} 전에 알리고 회수될 수 있으며,"
                " 열린 문서는 그 전에 저장됩니다."
            ),
        ),
        (
            "Idle devices only",
            (
                "It does not count against the ceiling and is charged as any other. The devices may be wanted back at"
                " any time, with {notice} notice, in which open documents are saved."
            ),
        ),
    ),
}
_MODES: dict[Mode, tuple[tuple[str, str], tuple[str, str]]] = {
    Mode.START: (
        ("차례가 되면 서버 시작", "차례가 되면 바로 시작하고 그때부터 차감됩니다. 알림으로 알려 드립니다."),
        (
            "Start my server when it is my turn",
            "It starts at once and is charged from then on; a notice tells you.",
        ),
    ),
    Mode.OFFER: (
        (
            "차례가 되면 장치 확보",
            "{offer} 동안 장치를 확보합니다. 그 안에 직접 시작하면 됩니다. 그전에는 차감되지 않습니다.",
        ),
        (
            "Keep the devices for me when it is my turn",
            "They are kept for {offer}, in which you start the server yourself; nothing is charged before.",
        ),
    ),
}


@dataclass(frozen=True)
class Option:
    """One of several things to choose: its code, its name, and what it means."""

    value: str
    name: str
    meaning: str


@dataclass(frozen=True)
class Shown:
    """An entry as people read it. `is_turn`: its devices are held until `until`; `starts`: and it is being started.

    `position` and `expected` are None where there is none; `passed_over` says why others come first, all of them.
    """

    run_id: str
    kind: str
    project: str
    title: str
    profile: str
    profile_code: str
    device: str
    state: str
    is_turn: bool
    starts: bool
    position: int | None
    waiting: int
    expected: str | None
    passed_over: str | None
    wish: Option
    mode: Option
    other_mode: Option
    since: str
    until: str | None
    reason: str | None


def wishes(language: str, policy: Policy) -> tuple[Option, ...]:
    """Return how firmly devices can be asked for, the usual first."""
    return tuple(_wish(wish, language, policy) for wish in WISHES)


def modes(language: str, policy: Policy) -> tuple[Option, ...]:
    """Return what can happen at a turn."""
    return tuple(_mode(mode, language, policy) for mode in Mode)


def _wish(wish: Priority, language: str, policy: Policy) -> Option:
    korean, english = _WISHES[wish]
    return _option(wish.value, korean if language == "ko" else english, language, policy)


def _mode(mode: Mode, language: str, policy: Policy) -> Option:
    korean, english = _MODES[mode]
    return _option(mode.value, korean if language == "ko" else english, language, policy)


def _option(value: str, words: tuple[str, str], language: str, policy: Policy) -> Option:
    name, meaning = words
    lengths = {
        "minimum": show_duration(policy.borrow_minimum, language),
        "notice": show_duration(policy.preempt_notice, language),
        "offer": show_duration(policy.offer, language),
    }
    return Option(value, name, meaning.format_map(lengths))


def shown(place: Place, language: str, now: int, policy: Policy) -> Shown:
    """Return an entry with its place in words."""
    entry = place.entry
    other = Mode.OFFER if entry.mode is Mode.START else Mode.START
    return Shown(
        run_id=entry.run_id,
        kind=entry.kind.value,
        project=entry.project,
        title=entry.title(language),
        profile=entry.profile_name(language),
        profile_code=entry.profile,
        device=f"{entry.device_name}\u00a0×\u00a0{entry.device_count}",
        state=entry.state.value,
        is_turn=entry.state is EntryState.TURN,
        starts=entry.state is EntryState.TURN and entry.mode is Mode.START,
        position=place.position,
        waiting=place.waiting,
        expected=None if place.estimate is None else place.estimate.sentence(language, now),
        passed_over=place.passed_over(language),
        wish=_wish(entry.wish, language, policy),
        mode=_mode(entry.mode, language, policy),
        other_mode=_mode(other, language, policy),
        since=show_instant(entry.joined_at),
        until=None if entry.turn_until is None else show_instant(entry.turn_until),
        reason=entry.reason(language),
    )
