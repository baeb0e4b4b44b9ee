"""An award is given: checked against capacity, stored, and its first tranche granted in the ledger."""

from __future__ import annotations

from collections.abc import Sequence

from quotas.domain.awards import Programme, Tranche, tranches
from quotas.domain.capacity import Promise, overcommitted
from quotas.domain.ledger import AccountKind, Posting, TransferKind
from quotas.domain.projects import Award
from quotas.domain.rates import Precision
from quotas.domain.units import LARGEST, PPM, InvalidValue, amount, show_instant, show_rate
from quotas.store import awards as store
from quotas.store import ledger as ledger_store
from quotas.store import outcomes as outcomes_store
from quotas.store import pools as pools_store
from quotas.store import projects as projects_store
from quotas.store.database import Transaction

LATEST_INSTANT = 32_503_680_000
"""3000-01-01T00:00:00Z: no award reaches further."""


def check_award(award: Award) -> None:
    """The award's dates and precision can be. Raises InvalidValue."""
    amount("starts", award.starts_at)
    amount("ends", award.ends_at)
    if award.ends_at > LATEST_INSTANT:
        latest = show_instant(LATEST_INSTANT)
        raise InvalidValue("ends", f"must be before {latest}", f"{latest} 이전이어야 합니다")
    if award.precision not in list(Precision):
        known = ", ".join(Precision)
        raise InvalidValue("precision", f"must be one of {known}", f"다음 중 하나여야 합니다: {known}")


def check_reference(award: Award, programme: Programme) -> None:
    """The award is at the precision in which the programme counts. Raises InvalidValue."""
    reference = programme.reference_precision
    if award.precision != reference:
        raise InvalidValue(
            "precision",
            f"the programme counts in {reference}; an award at {award.precision} must be converted first",
            f"사업의 기준 정밀도는 {reference}입니다. {award.precision} 기준의 협약은 먼저 환산해야 합니다",
        )


def check_capacity(transaction: Transaction, new: Promise, programme: Programme) -> None:
    """With what is newly promised all promises stay within the programme's limit, or the operator consents.

    Raises InvalidValue with the worst moment and its numbers.
    """
    if programme.consent or new.gflops <= 0 or new.ends_at <= new.starts_at:
        return
    promises = projects_store.promises(transaction, new.starts_at, new.ends_at)
    supplies = pools_store.supplies(transaction, Precision(programme.reference_precision))
    over = overcommitted(new, promises, supplies, programme.oversubscription_limit_ppm)
    if over is None:
        return
    promised, powered = show_rate(over.promised), show_rate(over.powered)
    limit, at = f"{programme.oversubscription_limit_ppm * 100 / PPM:g} %", show_instant(over.at)
    raise InvalidValue(
        "award",
        f"all awards would be {promised} at {at}, above {limit} of the {powered} powered then; this needs consent",
        f"{at} 기준 협약 합계가 {promised}로, 가동 용량 {powered}의 {limit}를 넘습니다. 초과 배정에 동의해야 합니다",
    )


def give(  # noqa: PLR0913 - each is one part of a decision
    transaction: Transaction,
    project_id: int,
    award: Award,
    shares_ppm: Sequence[int],
    programme: Programme,
    *,
    actor: str,
    now: int,
) -> int:
    """The award is the project's, its first tranche granted, and a report is due for each later one; return its id.

    Raises InvalidValue where all awards together would exceed the programme's limit or the ledger.
    """
    first, later = tranches(award, shares_ppm)
    check_capacity(transaction, Promise(award.gflops, max(award.starts_at, now), award.ends_at), programme)
    award_id, allocation_id = projects_store.add_award(
        transaction, project_id, award, programme.storage_grace_days, actor, now
    )
    ledger_store.open_accounts(transaction, allocation_id)
    _, issuance = ledger_store.account_ids(transaction, allocation_id)[AccountKind.ISSUANCE]
    if award.budget_gflops_seconds() - issuance > LARGEST:
        raise InvalidValue(
            "award",
            f"with all earlier awards the ledger would exceed {LARGEST} GFLOPS·s",
            f"이전 협약과 합하면 원장의 한도 {LARGEST} GFLOPS·s를 넘습니다",
        )
    ledger_store.post(transaction, allocation_id, Posting(f"award:{award_id}:grant", TransferKind.GRANT, first), now)
    for tranche in later:
        _await_report(transaction, project_id, award_id, tranche, actor, now)
    return award_id


def _await_report(
    transaction: Transaction, project_id: int, award_id: int, tranche: Tranche, actor: str, now: int
) -> None:
    report_id = outcomes_store.require(transaction, project_id, award_id, tranche.due_at, actor, now)
    store.add_tranche(transaction, award_id, tranche, report_id)
