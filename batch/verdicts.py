"""How an execution ended: from the end of its process, what its executor recorded, and why the platform stopped it.

The process's end decides. The record comes from a place that the notebook's own code can write, so it only adds what
failed where; and nothing is read from the output notebook, which says `completed` of cells that never ran.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quotas.domain.launch import Seen
from quotas.domain.runs import Outcome
from quotas.domain.schedules import ExecutionState
from quotas.domain.units import show_duration

STATES = {
    0: ExecutionState.SUCCEEDED,
    124: ExecutionState.TIMED_OUT,
    138: ExecutionState.KERNEL_DIED,
    143: ExecutionState.CANCELLED,
    137: ExecutionState.LOST,
}
"""The executor's exit codes, and that of a process that was killed; every other is a failure."""
STOPPED = frozenset({137, 143})
"""Exit codes of a process that was told to end, or killed: who did it and why is to be found elsewhere."""

OUTCOMES = {
    ExecutionState.TIMED_OUT: Outcome.LIMIT,
    ExecutionState.CANCELLED: Outcome.STOPPED,
    ExecutionState.LOST: Outcome.LOST,
}
"""What the ledger is told; every other end is a run's own."""

_LONGEST_TRACEBACK = 20_000


@dataclass(frozen=True)
class Verdict:
    """The state that is recorded, and why, in both languages; a success needs no reason. `told` is for the ledger."""

    state: ExecutionState
    reason_en: str | None = None
    reason_ko: str | None = None
    told: Outcome | None = None

    @property
    def outcome(self) -> Outcome:
        return self.told or OUTCOMES.get(self.state, Outcome.EXITED)


@dataclass(frozen=True)
class Circumstances:
    """What is known beside the process's end: the time limit, and why the platform stopped it, if it did."""

    timeout_seconds: int
    stopped_for: Outcome | None = None


NOT_STARTED = Verdict(
    ExecutionState.FAILED, "It could not be started; see the log.", "시작하지 못했습니다. 로그를 보세요."
)
REVOKED = Verdict(
    ExecutionState.CANCELLED,
    "It was stopped, as its person may no longer run on this project.",
    "이 과제에서 실행할 권한이 없어져 중지되었습니다.",
    Outcome.REVOKED,
)
PREEMPTED = Verdict(
    ExecutionState.CANCELLED,
    "Its borrowed devices were wanted back; it is not run again.",
    "대여한 장치를 반납하여 중지되었습니다. 다시 실행하지 않습니다.",
    Outcome.PREEMPTED,
)
RUN_AGAIN = Verdict(
    ExecutionState.CANCELLED,
    "Its borrowed devices were wanted back; it is run once more as soon as there are devices.",
    "대여한 장치를 반납하여 중지되었습니다. 장치가 비면 한 번 더 실행합니다.",
    Outcome.PREEMPTED,
)
STOPPED_FOR = {Outcome.REVOKED: REVOKED, Outcome.PREEMPTED: PREEMPTED}
TOO_LATE = Verdict(
    ExecutionState.LOST,
    "It was not started in time after its hold was taken; nothing was charged.",
    "배정량을 확보한 뒤 제때 시작하지 못했습니다. 차감된 것은 없습니다.",
)
NO_OUTPUT = Verdict(
    ExecutionState.FAILED,
    "It ended well but left no output notebook.",
    "정상적으로 끝났으나 출력 노트북을 남기지 않았습니다.",
)


def judge(seen: Seen | None, cell: Mapping[str, Any] | None, around: Circumstances) -> Verdict:
    """Return how the run ended. `seen` is None for one that is gone; `cell` the failing cell, where one is known."""
    if seen is None or (seen.exit_code is None and seen.started_at is not None):
        return _verdict(ExecutionState.LOST, cell, around)
    if seen.started_at is None:
        return NOT_STARTED
    if seen.out_of_memory and seen.exit_code != 0:
        return _verdict(ExecutionState.OUT_OF_MEMORY, cell, around)
    if seen.exit_code in STOPPED:
        if around.stopped_for in STOPPED_FOR:
            return STOPPED_FOR[around.stopped_for]
        if around.stopped_for is Outcome.LIMIT:
            return _verdict(ExecutionState.TIMED_OUT, cell, around)
    return _verdict(STATES.get(seen.exit_code or 0, ExecutionState.FAILED), cell, around)


def not_kept(why: str) -> Verdict:
    """Return the verdict on a run that succeeded, but whose output could not be kept."""
    return Verdict(
        ExecutionState.FAILED,
        f"It ran to its end, but its output could not be kept in the project's folder: {why}.",
        f"끝까지 실행되었으나 출력을 과제 폴더에 저장하지 못했습니다: {why}.",
    )


def _verdict(state: ExecutionState, cell: Mapping[str, Any] | None, around: Circumstances) -> Verdict:
    limit_en, limit_ko = (show_duration(around.timeout_seconds, language) for language in ("en", "ko"))
    reasons: dict[ExecutionState, tuple[str, str]] = {
        ExecutionState.FAILED: _failed(cell),
        ExecutionState.TIMED_OUT: (
            f"The time limit of {limit_en} was reached.",
            f"제한 시간 {limit_ko}에 도달했습니다.",
        ),
        ExecutionState.KERNEL_DIED: (
            "The kernel died: its process ended in the middle of a cell.",
            "커널이 종료되었습니다. 셀 실행 중 프로세스가 끝났습니다.",
        ),
        ExecutionState.OUT_OF_MEMORY: (
            "It needed more memory than its profile has.",
            "프로필의 메모리보다 많은 메모리가 필요했습니다.",
        ),
        ExecutionState.CANCELLED: ("It was stopped from outside.", "외부에서 중지되었습니다."),
        ExecutionState.LOST: ("It ended without a record of its end.", "종료 기록 없이 끝났습니다."),
    }
    return Verdict(state, *reasons.get(state, (None, None)))


def _failed(cell: Mapping[str, Any] | None) -> tuple[str, str]:
    if cell is None:
        return "It failed outside of its cells; see the log.", "셀 밖에서 실패했습니다. 로그를 보세요."
    number, what = cell["index"] + 1, f"{cell['ename']}: {cell['evalue']}"[:300]
    return f"Cell {number} failed: {what}", f"{number}번 셀에서 실패했습니다: {what}"


def failing_cell(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the failing cell of an executor's record, each field of its own type and length, or None.

    `index` counts the notebook's cells from 0; `source` is its text; `ename`, `evalue` and `traceback` (one text) are
    the exception's.
    """
    found = record.get("failing_cell")
    if not isinstance(found, dict):
        return None
    index = found.get("index")
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < 1_000_000:
        return None
    lines = found.get("traceback")
    traceback = "\n".join(map(str, lines)) if isinstance(lines, list) else ""
    return {
        "index": index,
        "source": _text(found.get("source"), 10_000),
        "ename": _text(found.get("ename"), 200),
        "evalue": _text(found.get("evalue"), 2_000),
        "traceback": traceback[-_LONGEST_TRACEBACK:],
    }


def _text(value: object, longest: int) -> str:
    return value[:longest] if isinstance(value, str) else ""
