"""Idle servers: their end is set and told, taken back when they work again, and said to have come.

The end itself is `runs.idle_stop_at`, which every look at a hold obeys (:mod:`quotas.services.admission`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from quotas.domain.idleness import Facts, Limits, Then, Verdict, is_spared
from quotas.domain.idleness import look as judge
from quotas.domain.policy import Policy
from quotas.domain.runs import Limit
from quotas.domain.units import show_instant
from quotas.store import audit, notices
from quotas.store import idleness as store
from quotas.store.database import Database, Row, Transaction

_CHANGES = frozenset({Then.MARK, Then.CLEAR})


def look(database: Database, person: str, project: str, hub_active_at: int | None, now: int, policy: Policy) -> Then:
    """The end of the person's server on the project is set, told or taken back as it is idle; return what was found.

    `hub_active_at` is when the hub last saw it active (seconds UTC). `STOP`: its end has come, and it may be stopped.
    `KEEP` for a server that the ledger does not know. Raises DatabaseAway.
    """
    with database.read() as transaction:
        row = store.server(transaction, person, project)
        if row is None:
            return Then.KEEP
        verdict = _verdict(transaction, row, hub_active_at, now, policy)
    if verdict.then not in _CHANGES:
        return verdict.then
    with database.write() as transaction:
        row = store.server(transaction, person, project)
        if row is None:
            return Then.KEEP
        verdict = _verdict(transaction, row, hub_active_at, now, policy)
        if verdict.then is Then.MARK and store.mark(transaction, row.id, verdict.stop_at):
            _tell(transaction, row, verdict, now)
        elif verdict.then is Then.CLEAR:
            _clear(transaction, row, now)
    return verdict.then


def spare_active(database: Database, now: int, policy: Policy, run_id: str | None = None) -> Counter[str]:
    """Servers that have worked since their end was set, or are needed by their person, are to be stopped no more.

    Only what speaks against an end is looked at, so that no hub is asked; of one run where that is given. Return how
    many were `active_again`. Raises DatabaseAway.
    """
    with database.read() as transaction:
        if not any(_is_spared(transaction, row, now, policy) for row in store.marked(transaction, run_id)):
            return Counter()
    with database.write() as transaction:
        spared = [row for row in store.marked(transaction, run_id) if _is_spared(transaction, row, now, policy)]
        return Counter(active_again=sum(_clear(transaction, row, now) for row in spared))


def _verdict(transaction: Transaction, row: Row, hub_active_at: int | None, now: int, policy: Policy) -> Verdict:
    limits = Limits(row.idle_seconds, policy.idle_notice)
    facts = store.facts(transaction, row, hub_active_at)
    verdict = judge(facts, row.idle_stop_at, limits, now)
    if verdict.then is Then.KEEP and row.idle_stop_at is None:
        return verdict
    if verdict.then is not Then.CLEAR:  # what the devices did before speaks for the server, and never against it
        verdict = judge(_with_meters(transaction, row, facts, now), row.idle_stop_at, limits, now)
    ends_anyway = row.preempt_at is not None or row.lost_stop_at is not None
    return Verdict(Then.KEEP) if verdict.then is Then.MARK and ends_anyway else verdict


def _with_meters(transaction: Transaction, row: Row, facts: Facts, now: int) -> Facts:
    if not row.device_count:
        return facts
    return replace(facts, metered=store.metered(transaction, row.id, now - (row.idle_seconds or 0)))


def _is_spared(transaction: Transaction, row: Row, now: int, policy: Policy) -> bool:
    facts = _with_meters(transaction, row, store.facts(transaction, row, None), now)
    return is_spared(facts, row.idle_stop_at, Limits(row.idle_seconds, policy.idle_notice), now)


def _clear(transaction: Transaction, row: Row, now: int) -> bool:
    """The end is not set any more; a later one is told anew. Return whether it was set."""
    if not store.clear(transaction, row.id, row.idle_stop_at):
        return False
    audit.record(transaction, now, "platform", "run not idle", row.id, {"stop": show_instant(row.idle_stop_at)})
    return True


def _tell(transaction: Transaction, row: Row, verdict: Verdict, now: int) -> None:
    """The person knows since when the server has been idle, when it is stopped, and how it is kept."""
    since, stop = show_instant(verdict.since), show_instant(verdict.stop_at)
    device = f"{row.device_count} × {row.device_model}" if row.device_count else ""
    parts_en = f"neither its kernels and terminals nor its device ({device})" if device else "no kernel and no terminal"
    parts_ko = f"커널, 터미널, 장치({device}) 모두" if device else "커널, 터미널 모두"
    notice = notices.Notice(
        person_id=row.person_id,
        kind="run ending",
        about=f"{row.id}:{Limit.IDLE}:{verdict.stop_at}",
        text_en=f"Your server on {row.project} ({row.profile}) has computed nothing since {since}: {parts_en}"
        f" did anything. It will be stopped at {stop}. To keep it, run something in it, or extend it; an open page"
        " alone does not keep it. Save your work.",
        text_ko=f"{row.project} 과제의 서버({row.profile})가 {since}부터 연산이 없습니다({parts_ko}). {stop}에"
        " 중지됩니다. 계속 쓰려면 셀을 실행하거나 연장하세요. 페이지를 열어 두는 것만으로는 유지되지 않습니다."
        " 작업을 저장하세요.",
    )
    notices.tell(transaction, notice, now)
    detail = {"limit": str(Limit.IDLE), "since": since, "stop": stop}
    audit.record(transaction, now, "platform", "run ending", row.id, detail)
