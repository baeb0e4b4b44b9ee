"""How an open run stands when its hold is looked at, and what its person is told when it is to end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from quotas.domain.runs import Limit


class Standing(StrEnum):
    """What an extension came to."""

    KEPT = "kept"
    EXTENDED = "extended"
    ENDING = "ending"
    CLOSED = "closed"


@dataclass(frozen=True)
class Extension:
    """How an open run stands: paid until `until_at`; when `ENDING`, to be stopped at `stop_at` because of `limit`."""

    standing: Standing
    until_at: int
    stop_at: int | None = None
    limit: Limit | None = None
    warned_now: bool = False


WHY = {
    Limit.BUDGET: ("the project's budget is spent", "과제의 잔여량이 소진되었습니다"),
    Limit.AWARD_END: ("the project's award ends", "과제의 배정 기간이 끝납니다"),
    Limit.TIMEOUT: ("the run's time limit is reached", "실행 제한 시간에 도달했습니다"),
    Limit.RIGHTS: ("you may no longer run on this project", "이 과제에서 실행할 권한이 없어졌습니다"),
    Limit.WINDOW: ("its hold ends", "예약 시간이 끝납니다"),
    Limit.SUSPENDED: ("the project's award is suspended", "과제의 배정이 일시 정지되었습니다"),
    Limit.CAPACITY: ("its devices are reserved or out of use from then on", "이후 장치가 예약되었거나 중단됩니다"),
    Limit.SEAT: ("the reserved time ends", "예약된 시간이 끝납니다"),
    Limit.PREEMPTED: ("borrowed devices are wanted back", "대여한 장치를 반납해야 합니다"),
    Limit.IDLE: ("it computes nothing; extend it if you need it", "연산이 없습니다. 계속 필요하면 연장하세요"),
    Limit.SESSION: ("nobody has extended it; extend it if you need it", "연장되지 않았습니다. 필요하면 연장하세요"),
    Limit.DEVICE_LOST: (
        "it lost its device, and is not charged since; save your work and start it again",
        "장치를 사용할 수 없게 되어 그때부터 차감되지 않습니다. 저장한 뒤 다시 시작하세요",
    ),
}
"""Limit → why, in English and Korean."""
