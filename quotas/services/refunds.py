"""Refunds of charges, and what becomes of the rest of an award that is over."""

from __future__ import annotations

import re

from quotas.domain.ledger import Posting, TransferKind
from quotas.domain.units import InvalidValue, amount
from quotas.services import fair_use
from quotas.store import audit
from quotas.store import ledger as ledger_store
from quotas.store import refunds as store
from quotas.store.database import Database, Row, Transaction

AT_ONCE = 200
"""How many allocations expire in one transaction: a year's end must not keep starts waiting."""

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,35}")


def refund_charge(  # noqa: PLR0913 - every one is a fact of the refund
    database: Database,
    run_id: str,
    amount_gflops_seconds: int,
    *,
    reason: str,
    actor: str,
    now: int,
    key: str | None = None,
) -> int:
    """The amount of the run's charge is the project's again; return all that was ever refunded of this run.

    Together the refunds of a run never exceed what its project paid: an overrun was the operator's. Once the award is
    over, `take_rest` takes the amount in the same transaction. A call with the `key` of an earlier one changes nothing.
    Raises InvalidValue for an amount that cannot be refunded, a run without a charge, or a key of another refund.
    """
    amount("amount", amount_gflops_seconds)
    if not reason.strip():
        raise InvalidValue("reason", "must say why", "사유를 입력해야 합니다")
    if key is not None and _KEY.fullmatch(key) is None:
        raise InvalidValue(
            "key",
            f"{key!r:.60} must be 1 to 36 of A-Z, a-z, 0-9, '.', '_', '-', a letter first",
            f"{key!r:.60}: 영문자로 시작하는 영문, 숫자, '.', '_', '-' 1~36자여야 합니다",
        )
    with database.write() as transaction:
        charge = store.charge(transaction, run_id, now)
        if charge is None:
            raise InvalidValue("run", f"{run_id!r:.60} has no charge", f"{run_id!r:.60}: 청구 내역이 없습니다")
        before = store.refunded(transaction, charge.allocation_id, run_id)
        posting = Posting(f"{run_id}:refund:{key or before.times + 1}", TransferKind.REFUND, amount_gflops_seconds)
        if key is not None and _is_repeated(transaction, posting):
            return int(before.amount)
        _must_be_left(charge, int(before.amount), amount_gflops_seconds)
        ledger_store.post(transaction, charge.allocation_id, posting, now, run_id, reason[:1000])
        fair_use.count(transaction, charge.allocation_id, -amount_gflops_seconds, charge.settled_at, now)
        if charge.has_ended:
            take_rest(transaction, charge.allocation_id, now)
        detail = {"run": run_id, "amount": amount_gflops_seconds, "reason": reason[:1000]}
        audit.record(transaction, now, actor, "charge refunded", charge.project, detail)
        return int(before.amount) + amount_gflops_seconds


def _is_repeated(transaction: Transaction, posting: Posting) -> bool:
    earlier = store.by_key(transaction, posting.key)
    if earlier is not None and earlier.amount != posting.amount:
        raise InvalidValue(
            "key",
            f"{posting.key} was used for a refund of {earlier.amount}, not {posting.amount}",
            f"{posting.key}은(는) 이미 다른 금액({earlier.amount})의 환급에 사용되었습니다",
        )
    return earlier is not None


def _must_be_left(charge: Row, refunded: int, wanted: int) -> None:
    left = charge.amount - charge.overrun_amount - refunded
    if wanted > left:
        raise InvalidValue(
            "amount",
            f"must be at most {left}, which is what the project paid less earlier refunds, not {wanted}",
            f"과제가 부담한 양에서 이전 환급을 뺀 {left} 이하여야 합니다 (입력: {wanted})",
        )


def expire_ended(database: Database, now: int) -> int:
    """Nothing is available of any award that is over; return how many allocations lost something now.

    What a late settlement gives back is taken at the next call.
    """
    expired = 0
    while True:
        with database.read() as transaction:
            if not store.to_expire(transaction, now, 1):
                return expired
        with database.write() as transaction:
            for row in store.to_expire(transaction, now, AT_ONCE):
                expired += take_rest(transaction, row.id, now) > 0


def take_rest(transaction: Transaction, allocation_id: int, now: int) -> int:
    """Nothing is available of the allocation, which is over; return what was.

    The rest of an award that ended expires; that of a revoked one is the programme's again, as if never granted.
    """
    rest = store.rest(transaction, allocation_id)
    if rest.available:
        kind = TransferKind.EXPIRE if rest.revoked_at is None else TransferKind.REVOKE
        # The journal's length makes the key new for each expiry, and the same for two that race for one.
        key = f"allocation:{allocation_id}:{kind.value}:{store.newest_sequence(transaction)}"
        ledger_store.post(transaction, allocation_id, Posting(key, kind, rest.available), now)
    transaction.run(store.MARK_EXPIRED, allocation_id=allocation_id, now=now)
    return int(rest.available)
