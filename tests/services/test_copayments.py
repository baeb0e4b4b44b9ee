"""The co-payment from runs to closed months, payments and credits, on the stored ledger."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import select

from quotas.domain.admission import Admitted, Request
from quotas.domain.copayments import DEVICE_MONTH_SECONDS, Account, LineKind
from quotas.domain.months import Month
from quotas.domain.policy import Policy
from quotas.domain.rates import Precision, Rate, RateCard, RateRule
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.domain.units import DAY_SECONDS, LARGEST, PPM, InvalidValue
from quotas.services import admission, check, copayments, rates, refunds, reports
from quotas.store.tables import copayment_statements
from tests.centre import NOW, Centre, applied, approve, award

PRICE = 100_000
JANUARY, FEBRUARY, MARCH = Month(2027, 1), Month(2027, 2), Month(2027, 3)
LATER = NOW + 400 * DAY_SECONDS
SLICE, WHOLE = 8_109, 66_900


@pytest.fixture
def priced(seeded: Centre) -> Centre:
    """The centre with a project of two years, an H100 of 100,000 KRW a month, and a slice of 1 KRW; CPU is free."""
    applied(seeded, "year", ends_at=NOW + 700 * DAY_SECONDS)
    long = award(seeded, gflops=100_000, ends_at=NOW + 700 * DAY_SECONDS, burst_ppm=4 * PPM)
    approve(seeded, "year", long, consent=True)
    publish(seeded, 2, NOW, cpu_small=0, h100_1g=1, h100=PRICE)
    return replace(seeded, project="year", member=seeded.pi)


def publish(centre: Centre, version: int, at: int, **krw: int) -> None:
    rows = (
        Rate("cpu-small", 50, RateRule.ASSIGNED, "x", "operator", krw.get("cpu_small")),
        Rate("h100-1g", SLICE, RateRule.FACT, "x", None, krw.get("h100_1g")),
        Rate("h100", WHOLE, RateRule.FACT, "x", None, krw.get("h100")),
    )
    card = RateCard(version, at, Precision.FP32, rows)
    rates.publish(centre.database, card, actor="operator", now=at)


def begin(centre: Centre, start: int, seconds: int, profile: str = "h100") -> str:
    request = Request(new_run_id(), RunKind.NOTEBOOK, centre.member, centre.project, profile, door="test")
    held = admission.reserve(centre.database, request, start, replace(Policy(), hold=seconds))
    assert isinstance(held, Admitted), held
    admission.started(centre.database, request.run_id, start)
    return request.run_id


def finish(centre: Centre, run: str, start: int, seconds: float, now: int | None = None) -> None:
    ended = admission.Ended(start, start + seconds, Outcome.STOPPED)
    admission.settle(centre.database, run, ended, now or int(start + seconds))


def use(centre: Centre, start: int, seconds: int, profile: str = "h100") -> str:
    run = begin(centre, start, seconds, profile)
    finish(centre, run, start, seconds)
    return run


def close(centre: Centre, month: Month, project: str | None = None) -> list[copayments.Statement]:
    return copayments.close(centre.database, month, project=project, actor="operator", now=LATER)


def preview(centre: Centre, month: Month) -> copayments.Statement:
    return copayments.statement(centre.database, centre.project, month, LATER)


def account(centre: Centre) -> Account:
    return copayments.accounts(centre.database)[centre.project]


def all_is_well(centre: Centre) -> None:
    assert check.findings(centre.database, LATER) == []


def test_a_month_is_billed_once_rounded_down_with_the_rest_carried(priced: Centre) -> None:
    use(priced, NOW, 3_600)
    before = preview(priced, JANUARY)
    assert (before.closed_at, before.total.amount, len(before.lines)) == (None, 138, 1)
    (closed,) = close(priced, JANUARY)
    assert (closed.closed_now, closed.total) == (True, before.total)
    assert closed.total.use == PRICE * 3_600 == 138 * DEVICE_MONTH_SECONDS + closed.total.carried_out
    assert account(priced) == Account(owed=138)
    again = close(priced, JANUARY)
    assert [(each.closed_now, each.total) for each in again] == [(False, closed.total)]
    assert preview(priced, JANUARY) == replace(closed, closed_now=False)
    assert account(priced) == Account(owed=138)
    assert [(each.kind, each.krw, each.key) for each in copayments.journal(priced.database)] == [
        ("bill", 138, f"krw:{2}:2027-01:bill")
    ]
    all_is_well(priced)


def test_a_second_of_the_smallest_slice_counts_and_adds_up(priced: Centre) -> None:
    """1 KRW for a month of a slice: each second is 1/2,592,000 KRW, and all of them together are billed."""
    at = NOW
    for _ in range(5):
        use(priced, at, 1, "h100-1g")
        at += 100
    use(priced, at, DEVICE_MONTH_SECONDS - 6, "h100-1g")
    assert preview(priced, JANUARY).total.use == 5 + JANUARY.ends_at - at
    first = close(priced, JANUARY)[0].total
    assert first.amount == 0
    assert first.carried_out == first.use
    second = close(priced, FEBRUARY)[0].total
    assert (second.carried_in, second.amount, second.carried_out) == (first.carried_out, 0, DEVICE_MONTH_SECONDS - 1)
    use(priced, MARCH.starts_at, 1, "h100-1g")
    assert close(priced, MARCH)[0].total.amount == 1
    assert account(priced) == Account(owed=1)
    all_is_well(priced)


def test_what_is_carried_over_twelve_months_is_the_exact_total(priced: Centre) -> None:
    month, seconds = JANUARY, 0
    for number in range(12):
        length = 1_000 + 7_919 * number
        use(priced, max(month.starts_at, NOW) + 50, length)
        seconds += length
        close(priced, month)
        month = month.plus(1)
    exact = PRICE * seconds
    last = preview(priced, Month(2027, 12))
    assert account(priced) == Account(owed=exact // DEVICE_MONTH_SECONDS)
    assert last.total.carried_out == exact % DEVICE_MONTH_SECONDS
    rounded_each = sum(PRICE * (1_000 + 7_919 * number) // DEVICE_MONTH_SECONDS for number in range(12))
    assert rounded_each < account(priced).owed
    all_is_well(priced)


def test_a_run_over_a_month_end_is_split_at_midnight_in_korea(priced: Centre) -> None:
    """The end of January in Korea is 2027-01-31T15:00:00Z."""
    start = 1_801_407_600 - 100
    assert JANUARY.ends_at == start + 100
    run = use(priced, start, 250)
    (january,) = close(priced, JANUARY)[0].lines
    (february,) = close(priced, FEBRUARY)[0].lines
    assert (january.line.run_id, january.line.month, january.line.seconds) == (run, JANUARY, 100)
    assert (february.line.run_id, february.line.month, february.line.seconds) == (run, FEBRUARY, 150)
    all_is_well(priced)


def test_a_run_that_ends_at_the_very_end_is_of_that_month_alone(priced: Centre) -> None:
    use(priced, JANUARY.ends_at - 60, 60)
    use(priced, JANUARY.ends_at, 60)
    assert [each.line.seconds for each in close(priced, JANUARY)[0].lines] == [60]
    assert [each.line.seconds for each in close(priced, FEBRUARY)[0].lines] == [60]


def test_a_run_that_is_still_open_comes_with_a_later_statement_under_its_months(priced: Centre) -> None:
    use(priced, NOW, 600)
    start = JANUARY.ends_at - 1_000
    run = begin(priced, start, 5_000)
    january = close(priced, JANUARY)[0]
    assert (january.open_runs, len(january.lines)) == (0, 1)
    assert preview(priced, FEBRUARY).open_runs == 1
    finish(priced, run, start, 4_000)
    february = close(priced, FEBRUARY)[0]
    assert [(each.line.month, each.line.seconds) for each in february.lines] == [(JANUARY, 1_000), (FEBRUARY, 3_000)]
    all_is_well(priced)


def test_a_settlement_that_is_written_late_is_still_found(priced: Centre) -> None:
    """Its instant lies before the end of the closed month, as that of a loop that began before."""
    use(priced, NOW, 600)
    start = JANUARY.ends_at - 500
    run = begin(priced, start, 600)
    close(priced, JANUARY)
    finish(priced, run, start, 400, now=JANUARY.ends_at - 100)
    assert [each.line.seconds for each in close(priced, FEBRUARY)[0].lines] == [400]
    all_is_well(priced)


def test_a_month_that_nobody_closed_comes_with_the_next_one(priced: Centre) -> None:
    use(priced, NOW, 600)
    use(priced, MARCH.starts_at, 600)
    march = close(priced, MARCH)[0]
    assert [each.line.month for each in march.lines] == [JANUARY, MARCH]
    with pytest.raises(InvalidValue, match="was closed for 2027-03 already"):
        close(priced, JANUARY, priced.project)
    with pytest.raises(InvalidValue, match="was closed for 2027-03 already"):
        preview(priced, JANUARY)
    assert close(priced, JANUARY) == []


def test_an_overrun_is_the_operators_in_krw_too(priced: Centre) -> None:
    policy = Policy()
    run = begin(priced, NOW, 600)
    finish(priced, run, NOW, 600 + policy.stop_margin + 50)
    assert [each.line.seconds for each in preview(priced, JANUARY).lines] == [600 + policy.stop_margin]


def test_free_unpriced_and_priced_are_three_things(priced: Centre) -> None:
    use(priced, NOW, 600, "cpu-small")
    publish(priced, 3, NOW + 1_000, h100=0)
    use(priced, NOW + 1_000, 600)
    use(priced, NOW + 2_000, 600, "h100-1g")
    found = preview(priced, JANUARY)
    assert [(each.profile, each.line.krw_per_device_month, each.line.numerator) for each in found.lines] == [
        ("h100", 0, 0)
    ]
    assert (found.unpriced_runs, found.total.amount) == (1, 0)


def test_a_new_price_changes_nothing_that_was_held_before(priced: Centre) -> None:
    run = begin(priced, NOW, 3_600)
    publish(priced, 3, NOW + 60, h100=10 * PRICE)
    finish(priced, run, NOW, 3_600)
    use(priced, NOW + 10_000, 3_600)
    prices = [each.line.krw_per_device_month for each in close(priced, JANUARY)[0].lines]
    assert sorted(prices) == [PRICE, 10 * PRICE]
    all_is_well(priced)


class TestCredits:
    def refund(self, centre: Centre, run: str, seconds: int) -> None:
        refunds.refund_charge(
            centre.database, run, seconds * WHOLE, reason="device failed", actor="operator", now=NOW + 5_000
        )

    def test_a_refund_before_the_month_is_closed_lowers_its_bill(self, priced: Centre) -> None:
        run = use(priced, NOW, 3_600)
        self.refund(priced, run, 1_800)
        closed = close(priced, JANUARY)[0]
        assert [(each.line.kind, each.line.seconds) for each in closed.lines] == [("use", 3_600), ("credit", 1_800)]
        assert closed.total.amount == PRICE * 1_800 // DEVICE_MONTH_SECONDS
        all_is_well(priced)

    def test_a_refund_after_it_lowers_what_is_owed(self, priced: Centre) -> None:
        run = use(priced, NOW, 3_600)
        close(priced, JANUARY)
        self.refund(priced, run, 3_600)
        february = close(priced, FEBRUARY)[0]
        assert (february.total.amount, february.total.carried_out) == (-138, 0)
        assert account(priced) == Account()
        all_is_well(priced)

    def test_a_refund_of_what_was_paid_is_a_credit_that_the_next_bill_uses(self, priced: Centre) -> None:
        run = use(priced, NOW, 3_600)
        close(priced, JANUARY)
        copayments.pay(priced.database, "year", 100, receipt="2027-1", actor="operator", now=LATER)
        self.refund(priced, run, 3_600)
        close(priced, FEBRUARY)
        assert account(priced) == Account(owed=0, paid=0, credit=100)
        use(priced, MARCH.starts_at, 7_200)
        assert close(priced, MARCH)[0].total.amount == 277
        assert account(priced) == Account(owed=177, paid=100, credit=0)
        all_is_well(priced)

    def test_a_credit_is_paid_back_with_a_receipt(self, priced: Centre) -> None:
        run = use(priced, NOW, 3_600)
        close(priced, JANUARY)
        copayments.pay(priced.database, "year", 138, receipt="2027-1", actor="operator", now=LATER)
        self.refund(priced, run, 3_600)
        close(priced, FEBRUARY)
        repay = {"receipt": "back-1", "actor": "operator", "now": LATER}
        with pytest.raises(InvalidValue, match="must be at most 138, which is its credit"):
            copayments.repay(priced.database, "year", 139, **repay)
        assert copayments.repay(priced.database, "year", 138, **repay) == Account()
        assert copayments.repay(priced.database, "year", 138, **repay) == Account()
        all_is_well(priced)

    def test_refunds_of_less_than_a_second_add_up(self, priced: Centre) -> None:
        run = use(priced, NOW, 3_600)
        for _ in range(3):
            refunds.refund_charge(priced.database, run, WHOLE // 2, reason="a fault", actor="operator", now=NOW + 5_000)
        credit = [each.line for each in preview(priced, JANUARY).lines if each.line.kind is LineKind.CREDIT]
        assert [each.seconds for each in credit] == [1]

    def test_refunds_in_two_months_are_credited_once_each(self, priced: Centre) -> None:
        run = use(priced, NOW, 3_600)
        close(priced, JANUARY)
        for month, seconds in ((FEBRUARY, 600), (MARCH, 900)):
            self.refund(priced, run, seconds)
            (line,) = close(priced, month)[0].lines
            assert (line.line.kind, line.line.seconds) == (LineKind.CREDIT, seconds)
        assert close(priced, Month(2027, 4)) == []
        all_is_well(priced)


class TestPayments:
    @pytest.fixture
    def billed(self, priced: Centre) -> Centre:
        use(priced, NOW, 3_600)
        close(priced, JANUARY)
        return priced

    def pay(self, centre: Centre, krw: int, receipt: str = "R-1") -> Account:
        return copayments.pay(centre.database, centre.project, krw, receipt=receipt, actor="operator", now=LATER)

    def test_is_recorded_once_by_its_receipt(self, billed: Centre) -> None:
        assert [self.pay(billed, 100) for _ in range(3)] == [Account(owed=38, paid=100)] * 3
        with pytest.raises(InvalidValue, match="was used before: pay of 100 KRW") as refused:
            self.pay(billed, 38)
        assert refused.value.field == "receipt"
        assert self.pay(billed, 38, "R-2") == Account(owed=0, paid=138)
        all_is_well(billed)

    def test_a_receipt_of_another_project_is_refused(self, billed: Centre) -> None:
        self.pay(billed, 100)
        with pytest.raises(InvalidValue, match="was used before"):
            copayments.pay(billed.database, "vision", 100, receipt="R-1", actor="operator", now=LATER)

    @pytest.mark.parametrize("krw", [0, -1, -138, LARGEST + 1, True, 1.5, "100"])
    def test_what_is_no_amount_is_refused(self, billed: Centre, krw: int) -> None:
        with pytest.raises(InvalidValue):
            self.pay(billed, krw)
        assert account(billed) == Account(owed=138)

    @pytest.mark.parametrize("krw", [139, LARGEST])
    def test_no_more_than_is_owed_can_be_paid(self, billed: Centre, krw: int) -> None:
        with pytest.raises(InvalidValue, match="must be at most 138, which is owed"):
            self.pay(billed, krw)

    @pytest.mark.parametrize("receipt", ["", " ", "a b", "-1", "1-", "가", "x" * 41, "a:b", None])
    def test_what_is_no_receipt_is_refused(self, billed: Centre, receipt: str) -> None:
        with pytest.raises(InvalidValue) as refused:
            self.pay(billed, 1, receipt)
        assert refused.value.field == "receipt"

    def test_payments_at_once_never_pay_more_than_is_owed(self, billed: Centre) -> None:
        def try_to_pay(number: int) -> bool:
            try:
                self.pay(billed, 50, f"R-{number}")
            except InvalidValue:
                return False
            return True

        with ThreadPoolExecutor(5) as threads:
            done = list(threads.map(try_to_pay, range(5)))
        assert done.count(True) == 2
        assert account(billed) == Account(owed=38, paid=100)


def test_closing_at_once_bills_once(priced: Centre) -> None:
    use(priced, NOW, 3_600)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: close(priced, JANUARY), range(4)))
    assert sum(each.closed_now for closed in found for each in closed) == 1
    assert len({closed[0].total for closed in found}) == 1
    assert account(priced) == Account(owed=138)
    all_is_well(priced)


def test_two_months_closed_at_once_bill_each_second_once(priced: Centre) -> None:
    use(priced, JANUARY.ends_at - 5_000, 10_000)

    def try_to_close(month: Month) -> None:
        try:
            close(priced, month, priced.project)
        except InvalidValue as refused:
            assert "was closed for 2027-02 already" in str(refused)  # noqa: PT017 - only this may be refused

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(try_to_close, (FEBRUARY, JANUARY)))
    assert account(priced) == Account(owed=PRICE * 10_000 // DEVICE_MONTH_SECONDS)
    all_is_well(priced)


@pytest.mark.parametrize(
    ("look", "says"),
    [
        (lambda centre: close(centre, Month(2029, 1)), "it can be closed from then on"),
        (lambda centre: preview(centre, Month(2029, 1)), "has not begun; the latest is 2028-02"),
        (lambda centre: copayments.statements(centre.database, Month(2029, 1), LATER), "has not begun"),
        (lambda centre: close(centre, JANUARY, "none"), "there is no 'none'"),
        (lambda centre: preview(replace(centre, project="none"), JANUARY), "there is no 'none'"),
    ],
)
def test_what_cannot_be_shown_or_closed_is_refused(priced: Centre, look: Callable[[Centre], object], says: str) -> None:
    with pytest.raises(InvalidValue, match=says):
        look(priced)


def test_a_month_can_be_closed_from_its_last_second_on(priced: Centre) -> None:
    use(priced, NOW, 60)
    by = {"actor": "operator", "project": None}
    with pytest.raises(InvalidValue, match="ends at 2027-02-01 00:00 KST"):
        copayments.close(priced.database, JANUARY, now=JANUARY.ends_at - 1, **by)
    assert len(copayments.close(priced.database, JANUARY, now=JANUARY.ends_at, **by)) == 1


def test_all_projects_are_listed_and_closed_and_those_without_use_are_not(priced: Centre) -> None:
    use(priced, NOW, 3_600)
    use(replace(priced, project="vision"), NOW + 10_000, 3_600)
    assert [each.project for each in copayments.statements(priced.database, JANUARY, LATER)] == ["vision", "year"]
    assert [each.project for each in close(priced, JANUARY)] == ["vision", "year"]
    assert close(priced, FEBRUARY) == []
    assert copayments.statements(priced.database, FEBRUARY, LATER) == []
    nothing = preview(priced, FEBRUARY)
    assert (nothing.lines, nothing.total.amount, nothing.total.carried_in) == ((), 0, nothing.total.carried_out)
    assert nothing.total.carried_in == PRICE * 3_600 % DEVICE_MONTH_SECONDS


def test_the_ledger_of_compute_does_not_show_krw(priced: Centre) -> None:
    use(priced, NOW, 3_600)
    before = reports.balances(priced.database), len(reports.journal(priced.database))
    close(priced, JANUARY)
    assert (reports.balances(priced.database), len(reports.journal(priced.database))) == before


def test_a_statement_that_the_store_cannot_hold_is_refused_and_closes_nothing(
    priced: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A year of 100,000 runs of 8 devices at the highest price is far below the limit; so the limit is lowered."""
    use(priced, NOW, 3_600)
    monkeypatch.setattr("quotas.domain.copayments.LARGEST", PRICE * 3_600 - 1)
    with pytest.raises(InvalidValue, match="exceeds"):
        close(priced, JANUARY)
    with priced.database.read() as transaction:
        assert transaction.rows(select(copayment_statements)) == []
    assert account(priced) == Account()
