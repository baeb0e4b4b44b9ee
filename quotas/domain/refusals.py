"""Every refusal of a start, in one table: code, HTTP status, message and what to do next, in Korean and English.

Messages are format strings over the numbers of the refusal, written already as people read them (units and zone).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Code(StrEnum):
    """The stable name of a reason to refuse; also the `reason` label of the hub's metrics."""

    PERSON_UNKNOWN = "person_unknown"
    PROJECT_UNKNOWN = "project_unknown"
    NOT_A_MEMBER = "not_a_member"
    ROLE_MAY_NOT = "role_may_not"
    PROJECT_NOT_APPROVED = "project_not_approved"
    PROJECT_ENDED = "project_ended"
    AWARD_NOT_STARTED = "award_not_started"
    AWARD_ENDED = "award_ended"
    AWARD_SUSPENDED = "award_suspended"
    AWARD_REVOKED = "award_revoked"
    PROFILE_UNKNOWN = "profile_unknown"
    PROFILE_NOT_OFFERED = "profile_not_offered"
    PROFILE_UNRATED = "profile_unrated"
    IMAGE_MISSING = "image_missing"
    DEVICE_NOT_ATTACHABLE = "device_not_attachable"
    ALREADY_RUNNING = "already_running"
    RUN_ENDED = "run_ended"
    CEILING = "ceiling"
    BORROW_LIMIT = "borrow_limit"
    POOL_FULL = "pool_full"
    SEAT_LOST = "seat_lost"
    RESERVED_SOON = "reserved_soon"
    QUEUE_AHEAD = "queue_ahead"
    QUEUE_LIMIT = "queue_limit"
    QUEUE_FULL = "queue_full"
    NOTHING_TO_WAIT_FOR = "nothing_to_wait_for"
    TURN_OVER = "turn_over"
    BUDGET_SHORT = "budget_short"
    LEDGER_AWAY = "ledger_away"
    DEFAULT_SERVER_OFF = "default_server_off"
    FORM_INVALID = "form_invalid"
    LINK_MAY_NOT_START = "link_may_not_start"
    BACKEND_AWAY = "backend_away"
    START_FAILED = "start_failed"
    START_TIMEOUT = "start_timeout"


@dataclass(frozen=True)
class Explanation:
    """One row of the table."""

    status: int
    message_en: str
    message_ko: str
    next_en: str
    next_ko: str


TABLE: dict[Code, Explanation] = {
    Code.PERSON_UNKNOWN: Explanation(
        403,
        "{person} is not registered with the centre.",
        "{person}: 센터에 등록되지 않은 사용자입니다.",
        "Ask your PI to have you registered.",
        "연구책임자에게 사용자 등록을 요청하세요.",
    ),
    Code.PROJECT_UNKNOWN: Explanation(
        404,
        "There is no project {project}.",
        "과제 {project}이(가) 없습니다.",
        "Choose one of your projects on the start page.",
        "시작 페이지에서 본인의 과제를 선택하세요.",
    ),
    Code.NOT_A_MEMBER: Explanation(
        403,
        "{person} is not a member of {project}.",
        "{person}: {project} 과제의 구성원이 아닙니다.",
        "Ask the project's PI to add you.",
        "과제의 연구책임자에게 구성원 추가를 요청하세요.",
    ),
    Code.ROLE_MAY_NOT: Explanation(
        403,
        "The role {role} may not do this in {project}.",
        "{project} 과제에서 {role} 역할로는 할 수 없습니다.",
        "Ask the project's PI.",
        "과제의 연구책임자에게 문의하세요.",
    ),
    Code.PROJECT_NOT_APPROVED: Explanation(
        403,
        "The project {project} is not approved (state: {state}).",
        "{project} 과제는 승인되지 않았습니다 (상태: {state}).",
        "Wait for the decision, or ask the reviewer.",
        "심사 결과를 기다리거나 심사 담당자에게 문의하세요.",
    ),
    Code.PROJECT_ENDED: Explanation(
        403,
        "The project {project} has ended.",
        "{project} 과제는 종료되었습니다.",
        "Apply for a new project, or use another one.",
        "새 과제를 신청하거나 다른 과제를 사용하세요.",
    ),
    Code.AWARD_NOT_STARTED: Explanation(
        403,
        "The award of {project} starts at {starts_at}.",
        "{project} 과제의 배정은 {starts_at}에 시작됩니다.",
        "Start then.",
        "그 이후에 시작하세요.",
    ),
    Code.AWARD_ENDED: Explanation(
        403,
        "The award of {project} ended at {ends_at}.",
        "{project} 과제의 배정은 {ends_at}에 종료되었습니다.",
        "The PI can apply for a renewal.",
        "연구책임자가 연장을 신청할 수 있습니다.",
    ),
    Code.AWARD_SUSPENDED: Explanation(
        403,
        "The award of {project} is suspended.",
        "{project} 과제의 배정이 일시 정지되었습니다.",
        "Ask your PI, who was told the reason, or the operator.",
        "사유를 통보받은 연구책임자나 운영자에게 문의하세요.",
    ),
    Code.AWARD_REVOKED: Explanation(
        403,
        "The award of {project} was revoked.",
        "{project} 과제의 배정이 취소되었습니다.",
        "Ask your PI, who was told the reason, or the operator.",
        "사유를 통보받은 연구책임자나 운영자에게 문의하세요.",
    ),
    Code.PROFILE_UNKNOWN: Explanation(
        404,
        "There is no profile {profile}.",
        "프로필 {profile}이(가) 없습니다.",
        "Choose a profile on the start page.",
        "시작 페이지에서 프로필을 선택하세요.",
    ),
    Code.PROFILE_NOT_OFFERED: Explanation(
        403,
        "The project {project} may not use the profile {profile}.",
        "{project} 과제는 {profile} 프로필을 사용할 수 없습니다.",
        "Ask the operator to offer it to the project.",
        "운영자에게 프로필 제공을 요청하세요.",
    ),
    Code.PROFILE_UNRATED: Explanation(
        409,
        "The profile {profile} has no published rate.",
        "{profile} 프로필에 공시된 요율이 없습니다.",
        "The operator must publish a rate card that has it.",
        "운영자가 요율표를 공시해야 합니다.",
    ),
    Code.IMAGE_MISSING: Explanation(
        409,
        "The image {image} of the profile {profile} is not on this machine.",
        "{profile} 프로필의 이미지 {image}이(가) 이 장비에 없습니다.",
        "The operator must build or load it.",
        "운영자가 이미지를 준비해야 합니다.",
    ),
    Code.DEVICE_NOT_ATTACHABLE: Explanation(
        409,
        "The backend {backend} cannot attach the device {device} of the profile {profile}: {reason_en}.",
        "{backend} 백엔드는 {profile} 프로필의 장치 {device}을(를) 연결할 수 없습니다: {reason_ko}.",
        "Choose another profile, or tell the operator what is said here.",
        "다른 프로필을 선택하거나 이 내용을 운영자에게 알려 주세요.",
    ),
    Code.ALREADY_RUNNING: Explanation(
        409,
        "A server of {person} on {project} is already open (run {run}).",
        "{project} 과제에서 {person}의 서버가 이미 열려 있습니다 (실행 {run}).",
        "Open it, or stop it first.",
        "열린 서버를 사용하거나 먼저 중지하세요.",
    ),
    Code.RUN_ENDED: Explanation(
        409,
        "The run {run} was admitted before and has ended; a run starts once.",
        "실행 {run}은(는) 이미 시작되었다가 종료되었습니다. 한 실행은 한 번만 시작됩니다.",
        "Start anew.",
        "새로 시작하세요.",
    ),
    Code.CEILING: Explanation(
        409,
        "{profile} needs {needed}; the award of {project} allows {ceiling} at once and {in_use} is in use.",
        "{profile} 사용에 {needed} 필요, {project} 과제의 동시 한도 {ceiling} 중 {in_use} 사용 중입니다.",
        "Stop a running server, choose a smaller profile, or borrow idle devices.",
        "실행 중인 서버를 중지하거나, 더 작은 프로필을 선택하거나, 유휴 장치를 대여하세요.",
    ),
    Code.BORROW_LIMIT: Explanation(
        409,
        "{profile} needs {needed}; {project} may borrow {ceiling} beyond its ceiling and borrows {in_use}.",
        "{profile} 사용에 {needed} 필요, {project} 과제의 한도 초과 대여 가능량 {ceiling} 중 {in_use} 대여 중입니다.",
        "Stop a running server, or choose a smaller profile.",
        "실행 중인 서버를 중지하거나 더 작은 프로필을 선택하세요.",
    ),
    Code.POOL_FULL: Explanation(
        409,
        "No {device} is free: {in_use} of {healthy} are in use and {reserved} reserved; {profile} needs {needed}.",
        "{device}: 정상 {healthy}대 중 {in_use}대 사용, {reserved}대 예약. {profile}에는 {needed}대가 필요합니다.",
        "Wait in the queue, or choose another profile.",
        "대기열에서 기다리거나 다른 프로필을 선택하세요.",
    ),
    Code.SEAT_LOST: Explanation(
        409,
        "Your seat has no device: of {healthy} healthy {device}, {in_use} are in use; {profile} needs {needed}.",
        "예약 좌석에 장치가 없습니다: 정상 {device} {healthy}대 중 {in_use}대 사용 중. {profile}에는 {needed}대 필요.",
        "The pool lost devices. Tell your instructor, or choose another profile.",
        "장치가 줄었습니다. 강사에게 알리거나 다른 프로필을 선택하세요.",
    ),
    Code.RESERVED_SOON: Explanation(
        409,
        "The free {device} are reserved from {until}, too soon for {profile}.",
        "남은 {device}: {until}부터 예약되어 {profile} 프로필을 시작하기에 시간이 부족합니다.",
        "Wait in the queue, or choose another profile.",
        "대기열에서 기다리거나 다른 프로필을 선택하세요.",
    ),
    Code.QUEUE_AHEAD: Explanation(
        409,
        "{waiting} who came before wait for {device}.",
        "{device}: 먼저 온 {waiting}건이 대기 중입니다.",
        "Wait in the queue, or choose another profile.",
        "대기열에서 기다리거나 다른 프로필을 선택하세요.",
    ),
    Code.QUEUE_LIMIT: Explanation(
        409,
        "{person} waits in {waiting} places of the queue already; {limit} are allowed.",
        "{person}: 이미 {waiting}건이 대기 중입니다. 한 사람은 {limit}건까지 대기할 수 있습니다.",
        "Cancel one that is not needed.",
        "필요 없는 대기를 취소하세요.",
    ),
    Code.QUEUE_FULL: Explanation(
        409,
        "All {limit} places of the queue for {device} are taken.",
        "{device} 대기열의 자리 {limit}개가 모두 찼습니다.",
        "Try again later, or choose another profile.",
        "나중에 다시 시도하거나 다른 프로필을 선택하세요.",
    ),
    Code.NOTHING_TO_WAIT_FOR: Explanation(
        409,
        "{profile} can be started on {project} now; there is nothing to wait for.",
        "{project} 과제에서 {profile} 프로필을 지금 시작할 수 있어 기다릴 필요가 없습니다.",
        "Start it on the start page.",
        "시작 페이지에서 시작하세요.",
    ),
    Code.TURN_OVER: Explanation(
        409,
        "The turn of {person} for {profile} on {project} is over, or was given up.",
        "{project} 과제, {profile}: {person}의 차례가 지났거나 취소되었습니다.",
        "Wait in the queue again, or start it on the start page.",
        "다시 대기열에 등록하거나 시작 페이지에서 시작하세요.",
    ),
    Code.BUDGET_SHORT: Explanation(
        402,
        "{project} has {available} left; {profile} for at least {minimum} needs {needed}.",
        "{project} 과제의 잔여량: {available}. {profile} 프로필의 최소 사용({minimum})에 필요: {needed}.",
        "Choose a smaller profile, or ask the PI for a supplement.",
        "더 작은 프로필을 선택하거나 연구책임자에게 추가 배정을 요청하세요.",
    ),
    Code.LEDGER_AWAY: Explanation(
        503,
        "The ledger does not answer; nothing is started without it.",
        "원장이 응답하지 않아 시작할 수 없습니다.",
        "Try again in a minute; running servers go on.",
        "1분 후 다시 시도하세요. 실행 중인 서버는 유지됩니다.",
    ),
    Code.DEFAULT_SERVER_OFF: Explanation(
        400,
        "A server belongs to a project; there is no server without one.",
        "서버는 과제에 속합니다. 과제 없이는 시작할 수 없습니다.",
        "Choose a project on the start page.",
        "시작 페이지에서 과제를 선택하세요.",
    ),
    Code.FORM_INVALID: Explanation(
        400,
        "The field {field} {problem_en}.",
        "입력 항목 {field}: {problem_ko}.",
        "Use the start page.",
        "시작 페이지를 사용하세요.",
    ),
    Code.LINK_MAY_NOT_START: Explanation(
        405,
        "A link cannot start a server, as starting spends the project's allocation.",
        "서버 시작은 과제의 배정량을 사용하므로 링크로는 시작할 수 없습니다.",
        "Press Start on this page.",
        "이 페이지에서 시작을 누르세요.",
    ),
    Code.BACKEND_AWAY: Explanation(
        503,
        "The backend {backend} does not answer, so the server could not be started.",
        "{backend} 백엔드가 응답하지 않아 서버를 시작할 수 없습니다.",
        "Try again in a minute; running servers go on.",
        "1분 후 다시 시도하세요. 실행 중인 서버는 유지됩니다.",
    ),
    Code.START_FAILED: Explanation(
        503,
        "The server of {project} with {profile} could not be started: {reason_en}.",
        "{project} 과제의 서버({profile})를 시작하지 못했습니다: {reason_ko}.",
        "Try again, or tell the operator the run {run}.",
        "다시 시도하거나, 운영자에게 실행 번호 {run}을(를) 알려 주세요.",
    ),
    Code.START_TIMEOUT: Explanation(
        503,
        "The server of {project} with {profile} was not ready after {limit_en}.",
        "{project} 과제의 서버({profile})가 {limit_ko} 안에 준비되지 않았습니다.",
        "Try again when fewer servers start, or tell the operator the run {run}.",
        "시작하는 서버가 적을 때 다시 시도하거나, 운영자에게 실행 번호 {run}을(를) 알려 주세요.",
    ),
}


_KOREAN: dict[str, dict[str | int, str]] = {
    "role": {"pi": "연구책임자", "member": "구성원", "instructor": "강사", "learner": "수강생"},
    "state": {"applied": "심사 중", "rejected": "반려", "approved": "승인", "ended": "종료", "none": "없음"},
}
"""Numbers that are words of ours, as the Korean messages say them."""


@dataclass(frozen=True)
class Refused:
    """A start is refused: which rule, with its numbers, and what would fit instead.

    `earliest_at` is the first instant (seconds UTC) at which this rule would let it pass, where that is known;
    `fits_now` the code of the largest cheaper profile that the same person could start on the same project now.
    """

    code: Code
    numbers: Mapping[str, str | int] = field(default_factory=dict)
    earliest_at: int | None = None
    fits_now: str | None = None

    @property
    def status(self) -> int:
        return TABLE[self.code].status

    def message(self, language: str) -> str:
        """Return what was refused and why, with its numbers."""
        row = TABLE[self.code]
        if language != "ko":
            return row.message_en.format_map(dict(self.numbers))
        return row.message_ko.format_map({name: _KOREAN.get(name, {}).get(it, it) for name, it in self.numbers.items()})

    def next_step(self, language: str) -> str:
        """Return what the person can do now."""
        row = TABLE[self.code]
        text = (row.next_ko if language == "ko" else row.next_en).format_map(dict(self.numbers))
        if self.fits_now:
            text += f" 지금 가능한 프로필: {self.fits_now}." if language == "ko" else f" Fits now: {self.fits_now}."
        return text

    def sentence(self, language: str) -> str:
        return f"{self.message(language)} {self.next_step(language)}"
