"""PostgreSQL goes away and comes back: nothing starts meanwhile, nothing is half done, and nobody has to restart."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from quotas.domain.admission import Admitted
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import new_run_id
from quotas.services import admission, check
from quotas.store import postgresql as driver
from quotas.store.database import Database, DatabaseAway, Prepared, Transaction
from quotas.store.tables import charges, holds, metadata
from tests.databases import PostgreSQLDatabases
from tests.postgresql import Cluster, programs
from tests.relay import Relay
from tests.services import centre as small
from tests.services.centre import DAY, GPU_GFLOPS, START, Centre
from tests.services.dying import act
from tests.services.test_concurrency import NIGHTLY

pytestmark = [pytest.mark.postgresql, pytest.mark.timeout(0 if NIGHTLY else 300)]

NOW = START + DAY
CYCLES = 100 if NIGHTLY else 6
WHAT = ("reserve", "extend", "settle")
_ALL = [Prepared(select(table)) for table in metadata.sorted_tables]


@pytest.fixture
def dialect() -> str:
    return "postgresql"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster for these tests alone, which keeps what it has committed."""
    if programs() is None:
        pytest.skip("no PostgreSQL programs to start a server that may be killed (Debian: apt install postgresql)")
    cluster = Cluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


@pytest.fixture(scope="module")
def databases(cluster: Cluster) -> PostgreSQLDatabases:
    return PostgreSQLDatabases(cluster)


@pytest.fixture
def database(databases: PostgreSQLDatabases, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A database whose user does not wait as long as usual; it goes with its cluster."""
    monkeypatch.setattr(driver, "ANSWER_SECONDS", 1.5)
    monkeypatch.setattr(driver, "CONNECT_SECONDS", 2)
    with closing(databases.migrated()) as fresh:
        yield fresh


@pytest.fixture
def centre(database: Database) -> Centre:
    made = small.found(database)
    made.award("vision", 10**9 * GPU_GFLOPS)
    return made


def stored(database: Database) -> list[list[Any]]:
    with database.read() as transaction:
        return [transaction.rows(statement) for statement in _ALL]


def prepared(database: Database, what: str, now: int) -> str:
    """Return a run to which `what` can be done."""
    run_id = new_run_id()
    if what != "reserve":
        assert isinstance(act(database, "reserve", run_id, now), Admitted)
        admission.started(database, run_id, now)
    return run_id


def assert_away(database: Database, what: str, run_id: str, now: int) -> None:
    if what == "reserve":
        assert act(database, what, run_id, now) == Refused(Code.LEDGER_AWAY)
    else:
        with pytest.raises(DatabaseAway):
            act(database, what, run_id, now)


def assert_done(database: Database, what: str, run_id: str, now: int) -> None:
    answer = act(database, what, run_id, now)
    if what == "reserve":
        assert isinstance(answer, Admitted)
    elif what == "extend":
        assert answer.standing in {admission.Standing.EXTENDED, admission.Standing.KEPT}
    else:
        assert answer.seconds == 5000
    assert check.findings(database, now + 5000) == []


class Before:
    """In the block, `fault` happens once, before the n-th statement of the store."""

    def __init__(self, statement: int, fault: Callable[[Transaction], object]) -> None:
        self._statement = statement
        self._fault = fault
        self.happened = False

    def __enter__(self) -> Before:
        self._run, self._done = Transaction.run, 0
        before = self

        def running(self: Transaction, prepared: Any, /, **parameters: Any) -> int:
            before._done += 1
            if before._done == before._statement:
                before.happened = True
                before._fault(self)
            return before._run(self, prepared, **parameters)

        Transaction.run = running  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        Transaction.run = self._run  # type: ignore[method-assign]


Fault = tuple[Callable[[Cluster], None], Callable[[Cluster], None]]
FAULTS: dict[str, Fault] = {
    "killed": (Cluster.kill, Cluster.start),
    "stopped": (Cluster.stop, Cluster.start),
    "frozen": (Cluster.freeze, Cluster.thaw),
}


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_goes_away_in_the_middle(centre: Centre, cluster: Cluster, fault: str, what: str) -> None:
    go, come_back = FAULTS[fault]
    database, run_id = centre.database, prepared(centre.database, what, NOW)
    before = stored(database)
    with Before(4, lambda _: go(cluster)):
        assert_away(database, what, run_id, NOW)
    begun = time.monotonic()
    assert_away(database, what, run_id, NOW)
    assert_away(database, "reserve", new_run_id(), NOW)
    assert time.monotonic() - begun < 10
    come_back(cluster)
    assert stored(database) == before
    assert_done(database, what, run_id, NOW)


@pytest.mark.parametrize("what", [*WHAT, "reserve again"])
def test_a_connection_that_is_lost_before_any_statement(centre: Centre, cluster: Cluster, what: str) -> None:
    """The next call has a new connection, and does not notice."""
    database, now, statement = centre.database, NOW, 1
    while True:
        run_id = prepared(database, what, now)
        call = what.removesuffix(" again")
        before = stored(database)
        with Before(statement, lambda transaction: terminate(cluster, pid(transaction))) as fault:
            if not fault_reached(database, call, run_id, now, fault):
                break
        assert stored(database) == before
        assert_done(database, call, run_id, now)
        act(database, "settle", run_id, now)
        now, statement = now + 10_000, statement + 1
    assert statement > 2


def fault_reached(database: Database, what: str, run_id: str, now: int, fault: Before) -> bool:
    try:
        answer = act(database, what, run_id, now)
    except DatabaseAway:
        assert what != "reserve"
        return fault.happened
    assert not fault.happened or answer == Refused(Code.LEDGER_AWAY)
    return fault.happened


def pid(transaction: Transaction) -> int:
    return int(transaction.cursor.connection.info.backend_pid)


def terminate(cluster: Cluster, backend: int) -> None:
    cluster.execute(f"SELECT pg_terminate_backend({backend}, 5000)")


def test_idle_connections_that_died_are_replaced_unnoticed(centre: Centre, cluster: Cluster) -> None:
    database = centre.database
    with database.read() as one, database.read() as two, database.read() as three:
        backends = [pid(each) for each in (one, two, three)]
    for backend in backends:
        terminate(cluster, backend)
    for number in range(6):
        run_id = new_run_id()
        assert_done(database, "reserve", run_id, NOW + number * 10_000)
        act(database, "settle", run_id, NOW + number * 10_000)


class TestACommitWhoseAnswerIsLost:
    @pytest.fixture
    def folder(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="mudeung-relay-") as folder:
            yield Path(folder)

    @pytest.mark.parametrize("what", WHAT)
    @pytest.mark.parametrize("lost", ["answer", "commit"])
    def test_is_told_by_the_same_call(
        self, centre: Centre, cluster: Cluster, folder: Path, what: str, lost: str
    ) -> None:
        run_id = prepared(centre.database, what, NOW)
        before = stored(centre.database)
        relay = Relay(folder, cluster.folder)
        behind = Database(centre.database.url.replace(cluster.folder.name, folder.name))
        try:
            with behind.read():
                pass
            relay.lose(lost)
            assert_away(behind, what, run_id, NOW)
            wait_until_nobody_writes(cluster)
            assert (stored(centre.database) == before) == (lost == "commit")
            assert check.findings(centre.database, NOW) == []
            assert_done(behind, what, run_id, NOW)
            once = stored(centre.database)
            assert_done(behind, what, run_id, NOW)
            assert stored(centre.database) == once
        finally:
            behind.close()
            relay.close()
        assert relay.has_lost


def wait_until_nobody_writes(cluster: Cluster) -> None:
    """The server has noticed that a connection is gone."""
    deadline = time.monotonic() + 10
    query = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' OR wait_event = 'SyncRep'"
    while cluster.execute(query) != [(0,)]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Customer(threading.Thread):
    """Someone who starts, keeps and stops servers all the time, and remembers what was answered."""

    def __init__(self, database: Database, person: str) -> None:
        super().__init__()
        self._database = database
        self._person = person
        self.ends = threading.Event()
        self.admitted: set[str] = set()
        self.settled: set[str] = set()
        self.away = 0
        self.errors: list[BaseException] = []

    def run(self) -> None:
        now = NOW
        try:
            while not self.ends.is_set():
                now += 2_000
                self._round(now)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.errors.append(error)

    def _round(self, now: int) -> None:
        asked = small.request(person=self._person)
        decision = self._until_it_answers(lambda: admission.reserve(self._database, asked, now, small.POLICY))
        assert isinstance(decision, Admitted), decision
        self.admitted.add(asked.run_id)
        self._until_it_answers(lambda: admission.started(self._database, asked.run_id, now))
        ended = admission.Ended(now, now + 60, small.Outcome.STOPPED)
        charge = self._until_it_answers(lambda: admission.settle(self._database, asked.run_id, ended, now + 60))
        assert charge.seconds == 60
        self.settled.add(asked.run_id)

    def _until_it_answers(self, call: Callable[[], Any]) -> Any:
        while True:
            try:
                answer = call()
            except DatabaseAway:
                answer = Refused(Code.LEDGER_AWAY)
            if answer != Refused(Code.LEDGER_AWAY):
                return answer
            self.away += 1
            if self.ends.wait(0.05):
                raise TimeoutError("the database did not come back")


def test_cycles_of_loss_and_return(centre: Centre, cluster: Cluster) -> None:
    """What was acknowledged is stored, each run is charged once, and everyone goes on by themselves."""
    people = ["ada", "bob", "cho", "dae"]
    for name in people[2:]:
        centre.member("vision", name)
    customers = [Customer(centre.database, name) for name in people]
    for customer in customers:
        customer.start()
    try:
        go_round(centre, cluster, customers)
    finally:
        for customer in customers:
            customer.ends.set()
        for customer in customers:
            customer.join(60)
    assert [customer.errors for customer in customers] == [[]] * len(customers)
    assert sum(customer.away for customer in customers) >= CYCLES
    with centre.database.read() as transaction:
        held = [row.run_id for row in transaction.rows(select(holds.c.run_id))]
        charged = [row.run_id for row in transaction.rows(select(charges.c.run_id))]
    assert set(held) == set().union(*(customer.admitted for customer in customers))
    assert sorted(charged) == sorted(set().union(*(customer.settled for customer in customers)))
    assert check.findings(centre.database, NOW) == []


def go_round(centre: Centre, cluster: Cluster, customers: list[Customer]) -> None:
    """The server was lost and came back `CYCLES` times, and each customer had a full round after each time."""
    draw = random.Random(4)  # noqa: S311 - a repeatable draw, no secret
    for number in range(CYCLES):
        time.sleep(draw.uniform(0.3, 0.8))
        go, come_back = list(FAULTS.values())[number % len(FAULTS)]
        before = [len(customer.settled) for customer in customers]
        go(cluster)
        time.sleep(draw.uniform(0.1, 2.5))
        come_back(cluster)
        deadline = time.monotonic() + 30
        while any(len(each.settled) <= count + 1 for each, count in zip(customers, before, strict=True)):
            assert time.monotonic() < deadline, [customer.errors for customer in customers]
            assert all(customer.is_alive() for customer in customers), [customer.errors for customer in customers]
            time.sleep(0.05)
        assert check.findings(centre.database, NOW) == []
