"""The table of transfers, the postings of a settlement, and the replay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotas.domain import ledger
from quotas.domain.ledger import (
    ASSETS,
    COMPUTE,
    KRW,
    MAY_GO_NEGATIVE,
    OF_A_PROJECT,
    OF_AN_ALLOCATION,
    SIDES,
    AccountKind,
    Posting,
    TransferKind,
)
from quotas.domain.units import LARGEST, InvalidValue

AMOUNTS = st.integers(0, LARGEST)


def test_every_event_has_two_different_sides() -> None:
    assert set(SIDES) == set(TransferKind)
    assert all(debit is not credit for debit, credit in SIDES.values())


def test_every_account_is_the_programmes_or_an_allocations() -> None:
    assert MAY_GO_NEGATIVE | set(OF_AN_ALLOCATION) | set(OF_A_PROJECT) == set(AccountKind)
    assert len(MAY_GO_NEGATIVE) + len(OF_AN_ALLOCATION) + len(OF_A_PROJECT) == len(AccountKind)


def test_a_transfer_stays_within_its_asset() -> None:
    of_compute = {*OF_AN_ALLOCATION, AccountKind.ISSUANCE, AccountKind.OVERRUN}
    of_krw = {*OF_A_PROJECT, AccountKind.ISSUANCE}
    for kind, sides in SIDES.items():
        assert set(sides) <= (of_compute if ASSETS[kind] == COMPUTE else of_krw), kind
    assert ASSETS[TransferKind.REFUND] == Posting("key", TransferKind.GRANT, 1).asset == COMPUTE
    assert ASSETS[TransferKind.BILL] == ASSETS[TransferKind.PAY] == KRW


@pytest.mark.parametrize("amount", [0, -1, LARGEST + 1, True, 1.5, "1"])
def test_a_posting_of_no_amount_is_none(amount: object) -> None:
    with pytest.raises(InvalidValue):
        Posting("key", TransferKind.HOLD, amount)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("held", "charge", "expected"),
    [
        (100, 100, {"charge": 100}),
        (100, 60, {"release": 40, "charge": 60}),
        (100, 0, {"release": 100}),
        (100, 130, {"charge": 100, "overrun": 30}),
    ],
)
def test_a_settlement_is_charge_release_and_overrun(held: int, charge: int, expected: dict[str, int]) -> None:
    postings = ledger.settle("run", held, charge)
    assert {posting.kind.value: posting.amount for posting in postings} == expected
    assert [posting.key for posting in postings] == [f"run:{kind}" for kind in expected]


@given(st.integers(1, LARGEST), AMOUNTS)
def test_a_settlement_empties_the_hold_and_charges_all_of_it(held: int, charge: int) -> None:
    balances = dict.fromkeys(AccountKind, 0) | {AccountKind.HELD: held}
    for posting in ledger.settle("run", held, charge):
        debit, credit = posting.sides
        balances[debit] -= posting.amount
        balances[credit] += posting.amount
        assert balances[AccountKind.HELD] >= 0
    assert balances[AccountKind.HELD] == 0
    assert balances[AccountKind.SPENT] == charge
    assert -balances[AccountKind.OVERRUN] == max(charge - held, 0)
    assert sum(balances.values()) == held


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(6, 9), st.integers(1, LARGEST)), max_size=50))
def test_a_replay_sums_to_zero(transfers: list[tuple[int, int, int]]) -> None:
    balances = ledger.replay(transfers)
    assert sum(balances.values()) == 0
    for account, balance in balances.items():
        credits_ = sum(amount for _, credit, amount in transfers if credit == account)
        debits = sum(amount for debit, _, amount in transfers if debit == account)
        assert balance == credits_ - debits
