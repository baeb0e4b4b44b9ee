"""A running server as its person sees it from within: its token, what it has left, and what extending it would do."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

from quotas.domain.extension import WHY
from quotas.domain.runs import Limit, RunKind
from quotas.domain.units import show_instant

TOKEN_VARIABLE = "MUDEUNG_SESSION_TOKEN"  # noqa: S105 - the name of a variable
URL_VARIABLE = "MUDEUNG_SESSION_URL"
"""The environment variables by which a run asks the platform about itself: see `token_of`, and the portal's API."""

API_PATH = "/services/portal/api/session"
"""Where the portal answers a run's questions about itself."""

WARN_SECONDS = (1800, 600, 300, 60)
"""How long before a server is stopped its person is warned in the notebook."""
WORTH_EXTENDING_SECONDS = 60
"""An extension that gains less is none."""
FRESH_SECONDS = 180
"""How old a device's reading may be to be told as how busy it is."""
CLOCK_SECONDS = 300
"""How far a server's clock may be ahead of ours."""
MOST_KERNELS = 10_000
LONGEST_RUN = 36
_RUN = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)

NAMES = {
    Limit.WINDOW: ("the end of its hold", "확보 시간 종료"),
    Limit.BUDGET: ("the project's budget", "과제의 잔여량"),
    Limit.AWARD_END: ("the end of the award", "배정 기간 종료"),
    Limit.TIMEOUT: ("the run's time limit", "실행 제한 시간"),
    Limit.RIGHTS: ("your right to run here", "실행 권한"),
    Limit.SUSPENDED: ("the award is suspended", "배정 일시 정지"),
    Limit.CAPACITY: ("its devices are reserved or out of use then", "장치 예약 또는 중단"),
    Limit.SEAT: ("the end of the reserved time", "예약 시간 종료"),
    Limit.PREEMPTED: ("borrowed devices are wanted back", "대여 장치 반납"),
    Limit.IDLE: ("it computes nothing", "유휴 상태"),
    Limit.SESSION: ("the length of a session", "세션 길이"),
    Limit.DEVICE_LOST: ("it lost its device", "장치 손실"),
}
"""Limit → what binds, in English and Korean."""


def token_of(key: str, run_id: str) -> str:
    """Return the token by which the run's own processes ask about it, and about nothing else."""
    return f"{run_id}.{_digest(key, run_id)}"


def run_of(key: str, token: str) -> str | None:
    """Return the run whose token it is; None for any other text. How long it takes says nothing of the right one."""
    run_id, _, digest = token.partition(".")
    if _RUN.fullmatch(run_id) is None or _DIGEST.fullmatch(digest) is None:
        return None
    return run_id if hmac.compare_digest(digest, _digest(key, run_id)) else None


def _digest(key: str, run_id: str) -> str:
    if not key:
        raise ValueError("the platform has no key for the tokens of its runs")
    return hmac.new(key.encode(), run_id.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Activity:
    """What a server says of itself: kernels that compute now, and when a kernel or terminal last did something.

    `active_at` is in seconds UTC, None where there was nothing yet.
    """

    busy_kernels: int
    active_at: int | None

    def checked(self, started_at: int | None, now: int) -> Activity:
        """Return what of it can be: no instant before the run began, and none that is still to come."""
        kernels = min(max(self.busy_kernels, 0), MOST_KERNELS)
        at = self.active_at
        if at is None or at > now + CLOCK_SECONDS or at < (started_at or 0):
            return Activity(kernels, None)
        return Activity(kernels, min(at, now))


@dataclass(frozen=True)
class Device:
    """A device that the run holds. `busy_ppm` is as read at `read_at` (seconds UTC); None: not known."""

    name: str
    state: str
    busy_ppm: int | None = None
    read_at: int | None = None


@dataclass(frozen=True)
class Remaining:
    """Until when a run goes on as things stand, in seconds UTC, and which limit binds."""

    stop_at: int
    limit: Limit

    def name(self, language: str) -> str:
        return _in(language, NAMES[self.limit])

    def why(self, language: str) -> str:
        return _in(language, WHY[self.limit])


@dataclass(frozen=True)
class Extending:
    """What extending would do: `after` is how it would then stand; not `possible` where that gains nothing."""

    possible: bool
    after: Remaining

    def sentence(self, language: str) -> str:
        """Return what extending does, or why it does nothing, for people."""
        stop, name, why = show_instant(self.after.stop_at), self.after.name(language), self.after.why(language)
        if language == "ko":
            if self.possible:
                return f"연장하면 {stop}까지 실행됩니다 ({name})."
            return f"{stop}까지 실행되며 더 연장할 수 없습니다: {why}."
        if self.possible:
            return f"Extending lets it go on until {stop} ({name})."
        return f"It goes on until {stop} and cannot be extended further: {why}."


def extending(kind: RunKind, now: int, before: Remaining, after: Remaining) -> Extending:
    """Return what an extension that leads from `before` to `after` is worth; only a server has any, while it runs."""
    gains = after.stop_at - before.stop_at >= WORTH_EXTENDING_SECONDS
    if kind is RunKind.NOTEBOOK and gains and before.stop_at > now:
        return Extending(True, after)
    return Extending(False, before)


@dataclass(frozen=True)
class Notice:
    """Something that the person was told of this run and has not read."""

    id: int
    at: int
    text_en: str
    text_ko: str


@dataclass(frozen=True)
class Facts:
    """A run as its person sees it at `now`. Amounts are GFLOPS·s, instants seconds UTC, None where there is none.

    `budget_left` is what the project has beside what its other runs hold, and `budget_seconds` how long that lasts at
    `gflops`, this profile's rate. `charged` is what it has cost so far; from `paused_since` on it costs nothing.
    `active_at` is when a kernel or terminal last did something, as far as the server has said.
    """

    run: str
    kind: RunKind
    person: str
    language: str
    project: str
    profile: str
    profile_ko: str
    profile_en: str
    device_model: str | None
    device_count: int
    simulated: bool
    devices: tuple[Device, ...]
    now: int
    started_at: int | None
    remaining: Remaining
    extending: Extending
    gflops: int
    budget_left: int
    charged: int
    paused_since: int | None
    paused_why: str
    busy_kernels: int | None
    active_at: int | None
    kept_at: int | None
    idle_seconds: int | None
    session_seconds: int | None
    notices: tuple[Notice, ...] = ()

    @property
    def seconds_left(self) -> int:
        return max(self.remaining.stop_at - self.now, 0)

    @property
    def budget_seconds(self) -> int:
        return self.budget_left // self.gflops

    @property
    def busy_ppm(self) -> int | None:
        """The mean of its devices; None where not all of them are known."""
        known = [device.busy_ppm for device in self.devices if device.busy_ppm is not None]
        return sum(known) // len(known) if known and len(known) == len(self.devices) else None

    @property
    def read_at(self) -> int | None:
        """When the oldest of those readings was taken."""
        return min((device.read_at for device in self.devices if device.read_at is not None), default=None)


def _in(language: str, words: tuple[str, str]) -> str:
    return words[1] if language == "ko" else words[0]
