"""What people are told of reservations: in English and Korean, with times in the reservation's own zone."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from quotas.domain.units import show_budget, show_instant
from quotas.services.reservation_fit import Assessment
from quotas.store.database import Row


def when(starts_at: int, ends_at: int, zone: str) -> str:
    """Write a window with its zone, as in ``2027-03-02 09:00–12:00 KST``."""
    where = ZoneInfo(zone)
    first, last = (datetime.fromtimestamp(at, where) for at in (starts_at, ends_at))
    if first.date() == last.date() and first.tzname() == last.tzname():
        return f"{first:%Y-%m-%d %H:%M}–{last:%H:%M %Z}"
    return f"{show_instant(starts_at, where)} – {show_instant(ends_at, where)}"


def armed(window: Row) -> tuple[str, str]:
    """Return what the roster is told when a window opens: when it is, and how to start."""
    shown = when(window.starts_at, window.ends_at, window.zone)
    release = show_instant(window.release_at, ZoneInfo(window.zone))
    english = (
        f"{window.title_en}: {window.seats} seats are kept for you and the others, {shown}. From now on choose the"
        f" project {window.project} and the profile {window.profile_en} ({window.profile}) on the start page and press"
        f" Start. First come, first served; seats that nobody has taken by {release} are free for all."
    )
    korean = (
        f"{window.title_ko}: {shown}, {window.seats}석이 예약되어 있습니다. 지금부터 시작 페이지에서 과제"
        f" {window.project}와 프로필 {window.profile_ko}({window.profile})을 선택하고 시작을 누르세요."
        f" 선착순이며, {release}까지 사용하지 않은 좌석은 다른 사용자에게 개방됩니다."
    )
    return english, korean


def seats_released(window: Row, freed: int) -> tuple[str, str]:
    """Return what the requester is told when unclaimed seats are released."""
    shown = when(window.starts_at, window.ends_at, window.zone)
    cost = (
        ("Their time until now was charged.", "지금까지의 시간은 청구되었습니다.") if window.charge_idle else ("", "")
    )
    english = (
        f"{window.title_en}, {shown}: {freed} of {window.seats} seats were claimed by nobody and are free for all now."
        f" {window.claimed} stay yours to the end. {cost[0]}"
    )
    korean = (
        f"{window.title_ko}, {shown}: {window.seats}석 중 {freed}석이 사용되지 않아 개방되었습니다."
        f" {window.claimed}석은 끝까지 유지됩니다. {cost[1]}"
    )
    return english.strip(), korean.strip()


def called_off(row: Row, reason_en: str, reason_ko: str) -> tuple[str, str]:
    """Return what people are told of a reservation that was cancelled."""
    return (
        f"{row.title_en} ({row.project}): the reservation was cancelled: {reason_en}.",
        f"{row.title_ko} ({row.project}): 예약이 취소되었습니다: {reason_ko}.",
    )


def window_called_off(row: Row, starts_at: int, ends_at: int, reason: str) -> tuple[str, str]:
    """Return what people are told of one window that was cancelled."""
    shown = when(starts_at, ends_at, row.zone)
    return (
        f"{row.title_en} ({row.project}): the seats of {shown} were cancelled: {reason}.",
        f"{row.title_ko} ({row.project}): {shown} 좌석 예약이 취소되었습니다: {reason}.",
    )


def decided(row: Row, windows: int, first: str, *, approved: bool, reason: str) -> tuple[str, str]:
    """Return what the requester is told of the decision."""
    why_en, why_ko = (f" Reason: {reason}", f" 사유: {reason}") if reason else ("", "")
    if not approved:
        return (
            f"{row.title_en} ({row.project}): your reservation was not approved.{why_en}",
            f"{row.title_ko} ({row.project}): 예약이 승인되지 않았습니다.{why_ko}",
        )
    english = (
        f"{row.title_en} ({row.project}): your reservation is approved, {row.seats} × {row.profile}, windows:"
        f" {windows}, the first {first}.{why_en}"
    )
    korean = (
        f"{row.title_ko} ({row.project}): 예약이 승인되었습니다. {row.profile} {row.seats}석 × {windows}회,"
        f" 첫 회 {first}.{why_ko}"
    )
    return english, korean


SHOWN = 3
"""How many windows a message names; the tables have all of them."""


def conflict(assessment: Assessment) -> tuple[str, str]:
    """Return which windows do not fit, how many seats are short when, and what would fit instead."""
    asked, short = assessment.asked, assessment.conflicts
    where = ZoneInfo(asked.zone)
    named_en, named_ko = [], []
    for fit in short[:SHOWN]:
        times = [show_instant(at, where) for at in (fit.from_at, fit.to_at) if at is not None]
        shown = when(fit.window.starts_at, fit.window.ends_at, asked.zone)
        named_en.append(f"{shown}: {fit.short} of {fit.wanted} seats short from {' to '.join(times)}")
        named_ko.append(f"{shown}: {fit.wanted}석 중 {fit.short}석 부족 ({' ~ '.join(times)})")
    more = len(short) - SHOWN
    english = f"{len(short)} of {len(assessment.windows)} windows do not fit in {assessment.pool}: " + "; ".join(
        named_en
    )
    korean = f"{len(assessment.windows)}회 중 {len(short)}회가 {assessment.pool}에 맞지 않습니다: " + "; ".join(
        named_ko
    )
    if more > 0:
        english, korean = f"{english}; and {more} more", f"{korean}; 외 {more}회"
    instead_en, instead_ko = zip(*instead(assessment), strict=True)
    return (
        f"{english}. What would fit instead: {'; '.join(instead_en)}",
        f"{korean}. 대신 가능한 것: {'; '.join(instead_ko)}",
    )


def instead(assessment: Assessment) -> list[tuple[str, str]]:
    """Return each thing that would fit instead, in English and Korean; that nothing would, where so it is."""
    others, asked = assessment.alternatives, assessment.asked
    if others is None or others.nothing:
        return [("nothing of this length on these days", "해당 날짜에 이 길이로는 없습니다")]
    found = []
    if others.seats:
        found.append((f"{others.seats} seats in every window", f"모든 회차 {others.seats}석"))
    for at, english, korean in ((others.earlier_at, "earlier", "앞당겨"), (others.later_at, "later", "늦춰")):
        if at is not None:
            shown = show_instant(at, ZoneInfo(asked.zone))
            found.append((f"all seats, begun {english}, the first at {shown}", f"{korean} 시작: 첫 회 {shown}"))
    found += [(f"the pool {pool}", f"자원 {pool}") for pool in others.pools]
    found += [(f"{profile} in {pool}", f"{pool}의 {profile}") for profile, pool in others.profiles]
    return found


def warnings(assessment: Assessment) -> list[tuple[str, str]]:
    """Return what is allowed and should be known: a budget that pays less, a longer roster, windows that have begun."""
    budget, asked = assessment.budget, assessment.asked
    found = []
    if not budget.is_enough:
        cost, left = show_budget(budget.cost), show_budget(max(budget.available - budget.promised, 0))
        english = f"The budget pays {budget.payable} of {budget.windows} windows if every seat is used"
        korean = f"모든 좌석을 사용하면 {budget.windows}회 중 {budget.payable}회만 가능합니다"
        found.append((f"{english}: they cost {cost}, {left} is left.", f"{korean}. 필요: {cost}, 잔여: {left}."))
    if assessment.on_roster > asked.seats:
        found.append(
            (
                f"{assessment.on_roster} are on the roster for {asked.seats} seats: first come, first served.",
                f"명단 {assessment.on_roster}명, 좌석 {asked.seats}석입니다. 선착순으로 배정됩니다.",
            )
        )
    if assessment.passed:
        passed = assessment.passed
        found.append(
            (f"Windows that have begun, and are left out: {passed}.", f"이미 시작되어 제외되는 회차: {passed}회.")
        )
    return found
