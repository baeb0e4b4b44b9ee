"""The co-payment: months of Korea, exact numerators, one rounding a month and nothing lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotas.domain.copayments import (
    DEVICE_MONTH_SECONDS,
    Account,
    Line,
    LineKind,
    RunTime,
    lines,
    numerator,
    postings,
    show_numerator,
    split,
    total,
)
from quotas.domain.ledger import TransferKind
from quotas.domain.months import Month, month_of, read_month
from quotas.domain.units import LARGEST, InvalidValue, parse_instant

PRICE = 100_000
NOVEMBER, DECEMBER = Month(2026, 11), Month(2026, 12)
MONTHS = st.builds(Month, st.integers(2000, 2100), st.integers(1, 12))
RUN = RunTime("run", NOVEMBER.starts_at, 3600, 0, 1, PRICE)


def line(krw: int, seconds: int, kind: LineKind = LineKind.USE, devices: int = 1) -> Line:
    return Line("run", kind, NOVEMBER, devices, seconds, krw)


class TestMonths:
    def test_a_month_ends_at_midnight_in_korea_which_is_15_utc(self) -> None:
        end = datetime(2026, 11, 30, 15, 0, tzinfo=UTC)
        assert NOVEMBER.ends_at == DECEMBER.starts_at == int(end.timestamp())
        assert month_of(NOVEMBER.ends_at - 1) == NOVEMBER
        assert month_of(NOVEMBER.ends_at) == DECEMBER
        assert DECEMBER.plus(1) == Month(2027, 1)

    def test_a_fiscal_year_begins_at_15_utc_of_the_last_day(self) -> None:
        assert Month(2027, 1).starts_at == parse_instant("x", "2026-12-31T15:00:00+00:00")

    def test_a_leap_day_is_in_february(self) -> None:
        assert month_of(parse_instant("x", "2028-02-29T23:59:59+09:00")) == Month(2028, 2)
        assert Month(2028, 3).starts_at - Month(2028, 2).starts_at == 29 * 86_400

    @given(MONTHS)
    def test_a_month_is_read_as_it_is_written_and_follows_the_one_before(self, month: Month) -> None:
        assert read_month("month", str(month)) == month
        assert month_of(month.starts_at) == month
        assert month < month.plus(1)
        assert str(month) < str(month.plus(1))

    @pytest.mark.parametrize(
        "text", ["", "2026", "2026-13", "2026-00", "2026-1", "26-11", "2026-11-01", "1970-01", "9999-01", "２０２６-11"]
    )
    def test_what_is_no_month_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidValue, match="write one as in 2026-11"):
            read_month("month", text)


class TestSplit:
    def test_a_run_that_spans_a_month_end_is_split_there_to_the_second(self) -> None:
        assert list(split(NOVEMBER.ends_at - 100, 250)) == [(NOVEMBER, 100), (DECEMBER, 150)]
        assert list(split(NOVEMBER.ends_at - 100, 100)) == [(NOVEMBER, 100)]
        assert list(split(NOVEMBER.ends_at, 1)) == [(DECEMBER, 1)]
        assert list(split(NOVEMBER.ends_at, 0)) == []

    @given(st.integers(10**9, 4 * 10**9), st.integers(1, 10**8))
    def test_every_second_is_in_one_month(self, starts_at: int, seconds: int) -> None:
        parts = list(split(starts_at, seconds))
        assert sum(part for _, part in parts) == seconds
        at = starts_at
        for month, part in parts:
            assert month_of(at) == month == month_of(at + part - 1)
            at += part


class TestLines:
    def test_what_was_taken_before_is_not_taken_again(self) -> None:
        run = replace(RUN, started_at=NOVEMBER.ends_at - 100, paid_seconds=250)
        assert [(each.month, each.seconds) for each in lines([run], NOVEMBER)] == [(NOVEMBER, 100)]
        after = replace(run, billed=frozenset({NOVEMBER}))
        assert lines([after], NOVEMBER) == []
        assert [(each.month, each.seconds) for each in lines([after], DECEMBER)] == [(DECEMBER, 150)]

    def test_a_run_that_was_settled_late_brings_its_earlier_months(self) -> None:
        run = replace(RUN, started_at=NOVEMBER.ends_at - 100, paid_seconds=250)
        assert [each.month for each in lines([run], DECEMBER)] == [NOVEMBER, DECEMBER]

    def test_refunded_seconds_are_credited_once(self) -> None:
        run = replace(RUN, refunded_seconds=600, billed=frozenset({NOVEMBER}))
        assert lines([run], DECEMBER) == [Line("run", LineKind.CREDIT, DECEMBER, 1, 600, PRICE)]
        assert lines([replace(run, credited_seconds=600)], DECEMBER) == []
        assert lines([replace(run, refunded_seconds=900, credited_seconds=600)], DECEMBER)[0].seconds == 300

    def test_what_was_refunded_before_it_was_billed_is_billed_and_credited(self) -> None:
        use, credit = lines([replace(RUN, refunded_seconds=600)], NOVEMBER)
        assert (use.kind, use.seconds, credit.kind, credit.seconds) == (LineKind.USE, 3600, LineKind.CREDIT, 600)

    def test_no_more_is_credited_than_was_billed(self) -> None:
        run = replace(RUN, started_at=NOVEMBER.ends_at - 100, paid_seconds=250, refunded_seconds=250)
        assert [(each.kind, each.seconds) for each in lines([run], NOVEMBER)] == [("use", 100), ("credit", 100)]
        after = replace(run, billed=frozenset({NOVEMBER}), credited_seconds=100)
        assert [(each.kind, each.seconds) for each in lines([after], DECEMBER)] == [("use", 150), ("credit", 150)]


class TestRounding:
    def test_one_second_of_the_smallest_slice_counts_and_adds_up(self) -> None:
        """A price of 1 KRW for a month of a slice: a second is far under a KRW, and 2,592,000 of them are one."""
        assert numerator(1, 1, 1) == 1
        second = line(1, 1)
        assert total(0, [second]).amount == 0
        assert total(0, [second]).carried_out == 1
        assert total(0, [second] * 2_592_000).amount == 1
        assert total(2_591_999, [second]) == replace(total(0, []), carried_in=2_591_999, use=1, amount=1)

    def test_what_is_carried_over_twelve_months_equals_the_exact_total(self) -> None:
        seconds = (1, 7, 86_399, 2_591_999, 12_345, 3, 999_983, 60, 31, 2_000_000, 5, 777_777)
        carried, billed = 0, 0
        for number in seconds:
            month = total(carried, [line(33_333, number, devices=3)])
            carried, billed = month.carried_out, billed + month.amount
        exact = 33_333 * 3 * sum(seconds)
        assert billed * DEVICE_MONTH_SECONDS + carried == exact
        assert (billed, carried) == divmod(exact, DEVICE_MONTH_SECONDS)
        lossy = sum(33_333 * 3 * number // DEVICE_MONTH_SECONDS for number in seconds)
        assert lossy < billed

    @given(st.lists(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 10**7), st.integers(1, 8)), max_size=4)))
    def test_nothing_is_ever_lost(self, months: list[list[tuple[int, int, int]]]) -> None:
        carried, billed, exact = 0, 0, 0
        for month in months:
            found = total(carried, [line(krw, seconds, devices=devices) for krw, seconds, devices in month])
            assert 0 <= found.carried_out < DEVICE_MONTH_SECONDS
            carried, billed = found.carried_out, billed + found.amount
            exact += sum(krw * seconds * devices for krw, seconds, devices in month)
        assert billed * DEVICE_MONTH_SECONDS + carried == exact

    def test_a_device_for_thirty_days_is_its_price(self) -> None:
        assert total(0, [line(PRICE, 30 * 86_400)]).amount == PRICE
        assert total(0, [line(PRICE, 30 * 86_400, devices=8)]).amount == 8 * PRICE

    def test_a_credit_rounds_down_too_and_carries_at_least_zero(self) -> None:
        found = total(5, [line(1, 1), line(1, 2_592_001, LineKind.CREDIT)])
        assert (found.amount, found.carried_out) == (-1, 5)
        assert total(0, [line(1, 1, LineKind.CREDIT)]).amount == -1

    def test_a_free_device_is_billed_nothing(self) -> None:
        assert total(0, [line(0, 10**9)]) == replace(total(0, []), use=0)

    @pytest.mark.parametrize("kind", list(LineKind))
    def test_a_sum_that_the_store_cannot_hold_is_refused_and_never_wraps_to_a_negative(self, kind: LineKind) -> None:
        most = LARGEST // 10**9
        assert total(0, [line(10**9, most, LineKind.USE)]).amount > 0
        with pytest.raises(InvalidValue, match="exceeds 9223372036854775807"):
            total(0, [line(10**9, most, kind), line(10**9, 1, kind)])
        with pytest.raises(InvalidValue, match="exceeds"):
            total(0, [line(10**9, 2**62, kind)])


RUNS = st.lists(
    st.tuples(st.integers(0, 12 * 30 * 86_400), st.integers(1, 70 * 86_400), st.integers(0, 10**6), st.integers(1, 8)),
    min_size=1,
    max_size=6,
)


@given(RUNS, st.data())
def test_however_late_runs_settle_and_refunds_come_every_second_is_billed_once(
    runs: list[tuple[int, int, int, int]], data: st.DataObject
) -> None:
    """A year of closings; each run is seen from a drawn month on, not before it ended, and refunded in another."""
    first = Month(2026, 1)
    known = {
        f"run {number}": RunTime(f"run {number}", first.starts_at + start, seconds, 0, devices, price)
        for number, (start, seconds, price, devices) in enumerate(runs)
    }
    late = {name: data.draw(st.integers(0, 2)) for name in known}
    refund = {
        name: (data.draw(st.integers(0, 20)), data.draw(st.integers(0, run.paid_seconds)))
        for name, run in known.items()
    }
    month, carried, billed, account = first, 0, 0, Account()
    for number in range(24):
        seen = [
            run
            for name, run in known.items()
            if run.started_at + run.paid_seconds <= month.ends_at - late[name] * 30 * 86_400
        ]
        seen = [
            replace(run, refunded_seconds=refund[run.run_id][1] if number >= refund[run.run_id][0] else 0)
            for run in seen
        ]
        taken = lines(seen, month)
        found = total(carried, taken)
        carried, billed = found.carried_out, billed + found.amount
        account = moved(account, found.amount)
        for line in taken:
            run = known[line.run_id]
            if line.kind is LineKind.USE:
                known[line.run_id] = replace(run, billed=run.billed | {line.month})
            else:
                known[line.run_id] = replace(run, credited_seconds=run.credited_seconds + line.seconds)
        month = month.plus(1)
    exact = sum(
        (run.paid_seconds - refund[name][1]) * run.krw_per_device_month * run.devices for name, run in known.items()
    )
    assert billed * DEVICE_MONTH_SECONDS + carried == exact
    assert account.owed + account.paid == billed


def moved(account: Account, amount: int) -> Account:
    """Return the account after a statement's transfers and a payment of half of what is owed; none goes below zero."""
    owed, paid, credit = account.owed, account.paid, account.credit
    for posting in postings("key", amount, account):
        match posting.kind:
            case TransferKind.BILL:
                owed += posting.amount
            case TransferKind.APPLY:
                credit, paid = credit - posting.amount, paid + posting.amount
            case TransferKind.CREDIT:
                owed -= posting.amount
            case TransferKind.RETURN:
                paid, credit = paid - posting.amount, credit + posting.amount
    assert min(owed, paid, credit) >= 0
    return Account(owed - owed // 2, paid + owed // 2, credit)


class TestPostings:
    @pytest.mark.parametrize(
        ("amount", "account", "expected"),
        [
            (0, Account(), {}),
            (100, Account(), {"bill": 100}),
            (100, Account(credit=30), {"apply": 30, "bill": 70}),
            (100, Account(credit=300), {"apply": 100}),
            (-100, Account(owed=100), {"credit": 100}),
            (-100, Account(owed=40, paid=60), {"credit": 40, "return": 60}),
            (-100, Account(paid=100), {"return": 100}),
        ],
    )
    def test_a_statement_is_billed_or_credited(self, amount: int, account: Account, expected: dict[str, int]) -> None:
        found = postings("krw:1:2026-11", amount, account)
        assert {posting.kind.value: posting.amount for posting in found} == expected
        assert [posting.key for posting in found] == [f"krw:1:2026-11:{kind}" for kind in expected]

    @given(st.integers(-(10**6), 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
    def test_owed_and_paid_together_move_by_the_amount(self, amount: int, owed: int, paid: int, credit: int) -> None:
        amount = max(amount, -owed - paid)
        signs = {TransferKind.BILL: 1, TransferKind.APPLY: 1, TransferKind.CREDIT: -1, TransferKind.RETURN: -1}
        found = postings("key", amount, Account(owed, paid, credit))
        assert sum(signs[posting.kind] * posting.amount for posting in found) == amount


def test_a_numerator_is_shown_with_its_part_under_one_won() -> None:
    assert show_numerator(2_592_000 * 12_345) == "12,345"
    assert show_numerator(2_592_000 * 12_345 + 67) == "12,345 + 67/2592000"
    assert show_numerator(-2_592_000) == "-1"
    assert show_numerator(-1) == "-(0 + 1/2592000)"
