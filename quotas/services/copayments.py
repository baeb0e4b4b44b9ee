"""The co-payment in KRW: a month's statement of each project, closed once, and what was paid of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from quotas.domain.copayments import Account, Line, Total, lines, postings, total
from quotas.domain.ledger import AccountKind, Posting, TransferKind
from quotas.domain.months import Month, month_of, read_month
from quotas.domain.texts import text
from quotas.domain.units import InvalidValue, amount, show_instant
from quotas.services.people import unknown
from quotas.store import audit
from quotas.store import copayments as store
from quotas.store import ledger as ledger_store
from quotas.store.database import Conflict, Database, DatabaseAway, Row, Transaction

ATTEMPTS = 3
"""How often a month is closed, or a payment written, again when another one did so at the same time."""

_RECEIPT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,38}[A-Za-z0-9])?")


@dataclass(frozen=True)
class StatementLine:
    """The seconds of one run that a statement takes, and the run's profile."""

    line: Line
    profile: str


@dataclass(frozen=True)
class Statement:
    """A project's month. `closed_at` is None while it is preliminary: what would be closed as things stand now.

    `total` has the exact sums; `account` the project's balances in KRW. `open_runs` are not settled yet: their seconds
    come with a later statement, under the months in which they lie. `unpriced_runs` were settled since the last
    statement by a rate card without a price.
    """

    project: str
    month: Month
    total: Total
    lines: tuple[StatementLine, ...]
    account: Account
    closed_at: int | None = None
    closed_by: str | None = None
    open_runs: int = 0
    unpriced_runs: int = 0
    closed_now: bool = False


@dataclass(frozen=True)
class Entry:
    """One transfer in KRW, from the account `debit` to `credit`, at `at` (seconds UTC)."""

    sequence: int
    at: int
    project: str
    kind: TransferKind
    debit: AccountKind
    credit: AccountKind
    krw: int
    key: str
    note: str | None


def statement(database: Database, project: str, month: Month, now: int) -> Statement:
    """Return the project's statement of the month, as closed, or as it would be closed now.

    Raises InvalidValue for an unknown project, one that was never awarded anything, a month that has not begun, and
    an earlier month than the latest closed one that was not closed itself.
    """
    _check_begun(month, now)
    with database.read() as transaction:
        row = _project(transaction, project)
        _check_last(transaction, row, month)
        return _statement_or_none(transaction, row, month) or _nothing(transaction, row, month)


def statements(database: Database, month: Month, now: int) -> list[Statement]:
    """Return the month's statement of every project that has one, or has something to be put on one, by code.

    Raises InvalidValue for a month that has not begun.
    """
    _check_begun(month, now)
    with database.read() as transaction:
        found = [_statement_or_none(transaction, row, month) for row in store.every_project(transaction)]
    return [each for each in found if each is not None]


def close(database: Database, month: Month, *, project: str | None = None, actor: str, now: int) -> list[Statement]:
    """The month is closed for one project, or for all: its statement is stored and billed, once.

    Returns the statements, those included that were closed before (`closed_now` tells). A project with nothing since
    its last statement, or with a later one, gets none. Raises InvalidValue for an unknown project, a month that has
    not ended and, for one project, a month before one that is closed already.
    """
    if now < month.ends_at:
        ends = show_instant(month.ends_at)
        message = f"{month} ends at {ends}; it can be closed from then on"
        raise InvalidValue("month", message, f"{month}은(는) {ends}에 끝납니다. 그때부터 마감할 수 있습니다")
    with database.read() as transaction:
        if project is None:
            rows = store.every_project(transaction)
        else:
            rows = [_project(transaction, project)]
            _check_last(transaction, rows[0], month)
    found = [_close_once(database, row, month, actor, now) for row in rows]
    return [each for each in found if each is not None]


def _close_once(database: Database, row: Row, month: Month, actor: str, now: int) -> Statement | None:
    for _ in range(ATTEMPTS):
        try:
            with database.write() as transaction:
                return _close(transaction, row, month, actor, now)
        except Conflict:  # another one has just closed it, or opened the programme's account
            continue
    raise DatabaseAway(f"{row.code} could not be closed for {month}: it changed at every attempt")


def _close(transaction: Transaction, row: Row, month: Month, actor: str, now: int) -> Statement | None:
    store.lock(transaction, row.id)
    found = _statement_or_none(transaction, row, month)
    if found is None or found.closed_at is not None:
        return found
    closing = store.Closing(month, found.total, tuple(each.line for each in found.lines), actor, now)
    number = store.add_statement(transaction, row.id, closing)
    store.open_account(transaction, row.allocation_id)
    for posting in postings(f"krw:{row.id}:{month}", found.total.amount, found.account):
        ledger_store.post(transaction, row.allocation_id, posting, now, note=f"statement {month}")
    detail = {"month": str(month), "krw": found.total.amount, "lines": len(found.lines)}
    audit.record(transaction, now, actor, "co-payment closed", row.code, detail)
    stored = store.statement(transaction, row.id, month)
    if stored is None or stored.id != number:
        raise AssertionError("the statement is there: this transaction has just written it")
    return _stored(transaction, row, stored, closed_now=True)


def pay(  # noqa: PLR0913 - each is a fact of the payment
    database: Database, project: str, krw: int, *, receipt: str, actor: str, now: int, note: str = ""
) -> Account:
    """The payment with this receipt is recorded, once; return the project's accounts after it.

    Raises InvalidValue for more than is owed, an unknown project, what is no receipt number, or one of another
    payment.
    """
    posting = Posting(_receipt_key(receipt), TransferKind.PAY, amount("krw", krw))
    return _record(database, project, posting, actor, now, note)


def repay(  # noqa: PLR0913 - as above
    database: Database, project: str, krw: int, *, receipt: str, actor: str, now: int, note: str = ""
) -> Account:
    """The project's credit was paid back under this receipt, once; return its accounts after it. Raises as `pay`."""
    posting = Posting(_receipt_key(receipt), TransferKind.REPAY, amount("krw", krw))
    return _record(database, project, posting, actor, now, note)


def _receipt_key(receipt: str) -> str:
    if not isinstance(receipt, str) or _RECEIPT.fullmatch(receipt) is None:
        raise InvalidValue(
            "receipt",
            f"{receipt!r:.60} must be 1 to 40 of A-Z, a-z, 0-9, '.', '_', '/', '-', not at its ends",
            f"{receipt!r:.60}: 영문, 숫자와 그 사이의 '.', '_', '/', '-' 1~40자여야 합니다",
        )
    return f"krw:receipt:{receipt}"


def _record(database: Database, project: str, posting: Posting, actor: str, now: int, note: str) -> Account:
    why = text("note", note, 1000) if note else ""
    for _ in range(ATTEMPTS):
        try:
            with database.write() as transaction:
                return _write(transaction, _project(transaction, project), posting, actor, now, why)
        except (Conflict, ledger_store.BalanceShort):  # another one was recorded: under this receipt, or of this debt
            continue
    raise DatabaseAway(f"the payment could not be recorded: the accounts of {project} changed at every attempt")


def _write(transaction: Transaction, row: Row, posting: Posting, actor: str, now: int, note: str) -> Account:
    earlier = store.by_key(transaction, posting.key)
    if earlier is not None:
        same = (posting.kind.value, posting.amount, row.allocation_id)
        if (earlier.kind, earlier.amount, earlier.allocation_id) != same:
            raise InvalidValue(
                "receipt",
                f"was used before: {earlier.kind} of {earlier.amount:,} KRW",
                f"이미 사용된 영수증 번호입니다: {earlier.kind} {earlier.amount:,}원",
            )
        return store.account(transaction, row.allocation_id)
    before = store.account(transaction, row.allocation_id)
    most = before.owed if posting.kind is TransferKind.PAY else before.credit
    if posting.amount > most:
        what_en, what_ko = ("owed", "미납액") if posting.kind is TransferKind.PAY else ("its credit", "반환할 금액")
        raise InvalidValue(
            "krw",
            f"must be at most {most:,}, which is {what_en}, not {posting.amount:,}",
            f"{what_ko} {most:,}원 이하여야 합니다 (입력: {posting.amount:,})",
        )
    ledger_store.post(transaction, row.allocation_id, posting, now, note=note)
    done = "co-payment paid" if posting.kind is TransferKind.PAY else "co-payment credit repaid"
    audit.record(transaction, now, actor, done, row.code, {"krw": posting.amount, "key": posting.key})
    return store.account(transaction, row.allocation_id)


def journal(database: Database, project: str | None = None) -> list[Entry]:
    """Return the transfers in KRW in the order in which they were written, of one project or of all."""
    with database.read() as transaction:
        return [
            Entry(
                sequence=row.sequence,
                at=row.at,
                project=row.project,
                kind=TransferKind(row.kind),
                debit=AccountKind(row.debit),
                credit=AccountKind(row.credit),
                krw=row.amount,
                key=row.key,
                note=row.note,
            )
            for row in store.journal(transaction, project)
        ]


def accounts(database: Database) -> dict[str, Account]:
    """Return the accounts in KRW of every project that was ever awarded something, by code."""
    with database.read() as transaction:
        return {row.code: store.account(transaction, row.allocation_id) for row in store.every_project(transaction)}


def _check_begun(month: Month, now: int) -> None:
    if month > (latest := month_of(now)):
        message = f"{month} has not begun; the latest is {latest}"
        raise InvalidValue("month", message, f"{month}은(는) 아직 시작되지 않았습니다. {latest}까지 볼 수 있습니다")


def _project(transaction: Transaction, code: str) -> Row:
    row = store.project(transaction, code)
    if row is None:
        raise unknown("project", code)
    return row


def _check_last(transaction: Transaction, row: Row, month: Month) -> None:
    last = store.last_statement(transaction, row.id)
    if last is None or last.month <= str(month) or store.statement(transaction, row.id, month) is not None:
        return
    raise InvalidValue(
        "month",
        f"{row.code} was closed for {last.month} already, with all that was left of earlier months",
        f"{row.code}: {last.month}까지 마감되어 그 이전 월의 사용분도 모두 포함되었습니다",
    )


def _nothing(transaction: Transaction, row: Row, month: Month) -> Statement:
    before = store.statement_before(transaction, row.id, month)
    carried = before.carried_out if before else 0
    nothing = Total(carried, 0, 0, 0, carried)
    account = store.account(transaction, row.allocation_id)
    return Statement(row.code, month, nothing, (), account, open_runs=_open_runs(transaction, row, month))


def _statement_or_none(transaction: Transaction, row: Row, month: Month) -> Statement | None:
    """None where nothing was settled or refunded since the last statement, or where that is of a later month."""
    stored = store.statement(transaction, row.id, month)
    if stored is not None:
        return _stored(transaction, row, stored)
    last = store.last_statement(transaction, row.id)
    if last is not None and last.month > str(month):
        return None
    since = read_month("month", last.month).ends_at if last else 0
    times = store.times(transaction, row.id, since, month.ends_at)
    taken = lines(times.priced, month)
    if not taken and not times.settled:
        return None
    return Statement(
        project=row.code,
        month=month,
        total=total(last.carried_out if last else 0, taken),
        lines=tuple(StatementLine(line, times.profiles[line.run_id]) for line in taken),
        account=store.account(transaction, row.allocation_id),
        open_runs=_open_runs(transaction, row, month),
        unpriced_runs=times.unpriced,
    )


def _open_runs(transaction: Transaction, row: Row, month: Month) -> int:
    return store.open_runs(transaction, row.id, month.ends_at)


def _stored(transaction: Transaction, row: Row, stored: Row, *, closed_now: bool = False) -> Statement:
    return Statement(
        project=row.code,
        month=read_month("month", stored.month),
        total=Total(
            stored.carried_in, stored.use_numerator, stored.credit_numerator, stored.amount, stored.carried_out
        ),
        lines=tuple(StatementLine(line, profile) for line, profile in store.lines(transaction, stored.id)),
        account=store.account(transaction, row.allocation_id),
        closed_at=stored.closed_at,
        closed_by=stored.closed_by,
        closed_now=closed_now,
    )
