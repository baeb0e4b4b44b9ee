"""Double entry: each transfer moves one positive amount between two accounts of one asset.

====================  ==============================================
event                 debit → credit
====================  ==============================================
grant, supplement     issuance → available
tranche, move in      issuance → available
recall, revoke        available → issuance
reduce, move out      available → issuance
hold, extend          available → held
settle                held → spent, and the rest held → available
overrun               overrun → spent (the operator bears it)
refund                spent → available, or → expired after the end
end of the award      available → expired
month is closed       issuance → owed, or credit → paid
payment               owed → paid
credit of a refund    owed → issuance, or paid → credit
credit is paid back   credit → issuance
====================  ==============================================

The last four are of the asset KRW, all others of compute. A project's KRW accounts hang on its first allocation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from quotas.domain.units import amount

COMPUTE = "compute"
"""The asset in GFLOPS·s at the programme's reference precision."""
KRW = "krw"
"""The asset in whole KRW: what a project pays beside compute."""


class AccountKind(StrEnum):
    """Issuance and overrun belong to the programme and may go negative; the others to one allocation and never do.

    The KRW issuance is what was billed, less what was credited or paid back, as a negative number.
    """

    ISSUANCE = "issuance"
    OVERRUN = "overrun"
    AVAILABLE = "available"
    HELD = "held"
    SPENT = "spent"
    EXPIRED = "expired"
    OWED = "owed"
    PAID = "paid"
    CREDIT = "credit"


MAY_GO_NEGATIVE = frozenset({AccountKind.ISSUANCE, AccountKind.OVERRUN})
OF_AN_ALLOCATION = (AccountKind.AVAILABLE, AccountKind.HELD, AccountKind.SPENT, AccountKind.EXPIRED)
OF_A_PROJECT = (AccountKind.OWED, AccountKind.PAID, AccountKind.CREDIT)
"""The accounts in KRW: billed and open, billed and paid, paid and not for any bill."""


class TransferKind(StrEnum):
    """The event that a transfer records."""

    GRANT = "grant"
    HOLD = "hold"
    EXTEND = "extend"
    CHARGE = "charge"
    RELEASE = "release"
    OVERRUN = "overrun"
    REFUND = "refund"
    EXPIRE = "expire"
    SUPPLEMENT = "supplement"
    TRANCHE = "tranche"
    MOVE_IN = "move_in"
    RECALL = "recall"
    REVOKE = "revoke"
    REDUCE = "reduce"
    MOVE_OUT = "move_out"
    BILL = "bill"
    PAY = "pay"
    CREDIT = "credit"
    RETURN = "return"
    APPLY = "apply"
    REPAY = "repay"


SIDES: dict[TransferKind, tuple[AccountKind, AccountKind]] = {
    TransferKind.GRANT: (AccountKind.ISSUANCE, AccountKind.AVAILABLE),
    TransferKind.HOLD: (AccountKind.AVAILABLE, AccountKind.HELD),
    TransferKind.EXTEND: (AccountKind.AVAILABLE, AccountKind.HELD),
    TransferKind.CHARGE: (AccountKind.HELD, AccountKind.SPENT),
    TransferKind.RELEASE: (AccountKind.HELD, AccountKind.AVAILABLE),
    TransferKind.OVERRUN: (AccountKind.OVERRUN, AccountKind.SPENT),
    TransferKind.REFUND: (AccountKind.SPENT, AccountKind.AVAILABLE),
    TransferKind.EXPIRE: (AccountKind.AVAILABLE, AccountKind.EXPIRED),
    TransferKind.SUPPLEMENT: (AccountKind.ISSUANCE, AccountKind.AVAILABLE),
    TransferKind.TRANCHE: (AccountKind.ISSUANCE, AccountKind.AVAILABLE),
    TransferKind.MOVE_IN: (AccountKind.ISSUANCE, AccountKind.AVAILABLE),
    TransferKind.RECALL: (AccountKind.AVAILABLE, AccountKind.ISSUANCE),
    TransferKind.REVOKE: (AccountKind.AVAILABLE, AccountKind.ISSUANCE),
    TransferKind.REDUCE: (AccountKind.AVAILABLE, AccountKind.ISSUANCE),
    TransferKind.MOVE_OUT: (AccountKind.AVAILABLE, AccountKind.ISSUANCE),
    TransferKind.BILL: (AccountKind.ISSUANCE, AccountKind.OWED),
    TransferKind.PAY: (AccountKind.OWED, AccountKind.PAID),
    TransferKind.CREDIT: (AccountKind.OWED, AccountKind.ISSUANCE),
    TransferKind.RETURN: (AccountKind.PAID, AccountKind.CREDIT),
    TransferKind.APPLY: (AccountKind.CREDIT, AccountKind.PAID),
    TransferKind.REPAY: (AccountKind.CREDIT, AccountKind.ISSUANCE),
}
ASSETS: dict[TransferKind, str] = {
    kind: COMPUTE if set(OF_A_PROJECT).isdisjoint(sides) else KRW for kind, sides in SIDES.items()
}
"""Which asset the transfers of a kind move."""
RAISES = frozenset({TransferKind.GRANT, TransferKind.SUPPLEMENT, TransferKind.TRANCHE, TransferKind.MOVE_IN})
LOWERS = frozenset({TransferKind.RECALL, TransferKind.REVOKE, TransferKind.REDUCE, TransferKind.MOVE_OUT})
"""What was granted of an allocation is the sum of the transfers that raise it, less those that lower it."""


@dataclass(frozen=True)
class Posting:
    """One transfer to be written for an allocation. `key` is its identity: the same key is never written twice."""

    key: str
    kind: TransferKind
    amount: int

    def __post_init__(self) -> None:
        amount("amount", self.amount)

    @property
    def sides(self) -> tuple[AccountKind, AccountKind]:
        return SIDES[self.kind]

    @property
    def asset(self) -> str:
        return ASSETS[self.kind]


def settle(run_id: str, held: int, charge: int) -> list[Posting]:
    """Return the postings that turn a hold of `held` into a charge of `charge` (GFLOPS·s, both; a charge of 0 voids).

    What was used beyond the hold is a posting of its own, from the operator's overrun account; it is never clamped.
    """
    from_hold = min(held, charge)
    # The release comes first: available, held, spent is the order in which every event takes the accounts' rows.
    parts = (
        (f"{run_id}:release", TransferKind.RELEASE, held - from_hold),
        (f"{run_id}:charge", TransferKind.CHARGE, from_hold),
        (f"{run_id}:overrun", TransferKind.OVERRUN, charge - from_hold),
    )
    return [Posting(key, kind, number) for key, kind, number in parts if number > 0]


def replay(transfers: Iterable[tuple[int, int, int]]) -> Mapping[int, int]:
    """Fold (debit account, credit account, amount) rows into balances: credits minus debits, by account."""
    balances: dict[int, int] = {}
    for debit, credit, number in transfers:
        balances[debit] = balances.get(debit, 0) - number
        balances[credit] = balances.get(credit, 0) + number
    return balances
