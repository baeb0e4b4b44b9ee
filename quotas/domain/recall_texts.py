"""What people are told of a recall, in Korean and in English: its numbers, its dates with their zone, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quotas.domain.recalls import Decision
from quotas.domain.units import PPM, show_budget, show_instant, show_rate


@dataclass(frozen=True)
class Of:
    """The recall that a text is about; `amount` is what it is to take, or took, in GFLOPS·s."""

    recall: int
    project: str
    amount: int


def notified(of: Of, months: Sequence[tuple[str, int, int]], object_until: int) -> tuple[str, str]:
    """Return what is told of a recall to come; `months` are (month, used, expected)."""
    listed = ", ".join(
        f"{month} {show_budget(used)} / {show_budget(expected)} ({_percent(used, expected)})"
        for month, used, expected in months
    )
    amount, until = show_budget(of.amount), show_instant(object_until)
    korean = (
        f"{of.project} 과제의 배정 사용이 적어 미사용분 {amount}을(를) 회수할 예정입니다(회수 {of.recall}). 월별 사용 /"
        f" 월 몫: {listed}. 이의가 있으면 연구책임자가 {until} 전에 사유를 내세요. 이의가 없으면 그 뒤에 회수됩니다."
    )
    english = (
        f"Little of the award of {of.project} is used, and {amount} of what is unused is to be recalled (recall"
        f" {of.recall}). Used of each month's share: {listed}. A PI may object with a reason before {until}; without an"
        " objection it is recalled then."
    )
    return korean, english


def objected(of: Of, person: str, objection: str) -> tuple[str, str]:
    """Return what those who decide are told."""
    amount = show_budget(of.amount)
    korean = (
        f"{of.project} 과제의 {person}이(가) {amount} 회수(회수 {of.recall})에 이의를 냈습니다: {objection} 결정이"
        " 필요합니다."
    )
    english = (
        f"{person} of {of.project} objected to the recall of {amount} (recall {of.recall}): {objection} A decision is"
        " needed."
    )
    return korean, english


def decided(of: Of, decision: Decision, reason: str) -> tuple[str, str]:
    """Return what is told of a decision; `of.amount` is what it leaves to be recalled."""
    amount = show_budget(of.amount)
    korean, english = {
        Decision.UPHELD: (f"그대로 {amount}을(를) 회수합니다", f"{amount} is recalled as proposed"),
        Decision.REDUCED: (f"회수량을 {amount}(으)로 줄입니다", f"only {amount} is recalled"),
        Decision.WITHDRAWN: ("회수하지 않습니다", "nothing is recalled"),
    }[decision]
    return (
        f"{of.project} 과제의 회수 {of.recall}에 대한 결정: {korean}. 사유: {reason}",
        f"Decision on recall {of.recall} of {of.project}: {english}. Reason: {reason}",
    )


def executed(of: Of, freed_gflops: int, available: int) -> tuple[str, str]:
    """Return what is told once it was recalled."""
    amount, freed, left = show_budget(of.amount), show_rate(freed_gflops), show_budget(available)
    korean = (
        f"{of.project} 과제의 미사용분 {amount}이(가) 회수되었습니다(회수 {of.recall}). 잔여 {left}, 동시 사용 한도는"
        f" 그대로입니다. 다른 과제에 배정할 수 있게 된 용량: {freed}. 더 필요하면 추가 배정을 신청하세요."
    )
    english = (
        f"{amount} of what {of.project} did not use was recalled (recall {of.recall}). {left} is left, and as much as"
        f" before can run at once; {freed} of capacity can be awarded to others. If more is needed, apply for a"
        " supplement."
    )
    return korean, english


def _percent(part: int, whole: int) -> str:
    return f"{part * PPM // whole / 10_000:.1f} %"
