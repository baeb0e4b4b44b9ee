"""The platform on PostgreSQL: the commands, and a hub whose database goes away while a server runs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cli.session import FAILED
from quotas.domain.admission import Admitted
from quotas.domain.runs import Outcome, RunState
from quotas.services import runs
from quotas.store import migrate
from quotas.store.database import Conflict, Database
from quotas.store.tables import transfers
from tests import centre as small
from tests.centre import Centre
from tests.cli.conftest import Ended
from tests.databases import Databases, without_constraints
from tests.platform import CPU, running, wait_for
from tests.postgresql import Cluster, programs

pytestmark = pytest.mark.postgresql

Invoke = Callable[..., Ended]


def use(home: Path, url: str) -> None:
    """The home's settings name the database at `url`."""
    home.mkdir(exist_ok=True)
    (home / "mudeung.toml").write_text(f'database_url = "{url}"\n')


@pytest.fixture
def empty(postgresql_databases: Databases) -> Iterator[Database]:
    made = postgresql_databases.empty()
    yield made
    postgresql_databases.drop(made)


def test_migrate_says_what_it_applied_and_check_finds_nothing(empty: Database, tmp_path: Path, invoke: Invoke) -> None:
    use(tmp_path / "home", empty.url)
    assert "there is no ledger" in invoke("check").errors
    first = invoke("migrate")
    assert (first.code, first.errors) == (0, "")
    assert first.output == f"Applied {', '.join(migrate.revisions())}; the ledger is at {migrate.head()}.\n"
    assert invoke("migrate").output == f"The ledger is at {migrate.head()} already.\n"
    assert invoke("check").code == 0


def test_an_older_ledger_is_to_be_migrated_and_is(empty: Database, tmp_path: Path, invoke: Invoke) -> None:
    use(tmp_path / "home", empty.url)
    migrate.upgrade(empty, "0001")
    assert f"at revision 0001, this program needs {migrate.head()}; run `mudeung migrate`" in invoke("check").errors
    assert invoke("migrate").output.startswith("Applied 0002, ")
    assert invoke("check").code == 0


@pytest.mark.parametrize("word", ["migrate", "check", "status"])
def test_a_newer_ledger_is_left_alone(empty: Database, tmp_path: Path, invoke: Invoke, word: str) -> None:
    use(tmp_path / "home", empty.url)
    migrate.migrate(empty)
    without_constraints(empty, "UPDATE alembic_version SET version_num = '9999'")
    ended = invoke(word)
    assert ended.code == FAILED
    assert "the ledger is at revision 9999, which this program does not know" in ended.errors
    assert "9999" in invoke(word, "--lang", "ko").errors
    assert migrate.current(empty) == "9999"


def test_a_server_that_is_not_there_is_told(tmp_path: Path, invoke: Invoke) -> None:
    use(tmp_path / "home", f"postgresql://nobody@/nothing?host={tmp_path}")
    for word in ("migrate", "check"):
        ended = invoke(word)
        assert ended.code == FAILED
        assert "the ledger does not answer" in ended.errors


@pytest.mark.parametrize("dialect", ["postgresql"])
def test_a_backup_is_restored_as_the_documentation_says(
    seeded: Centre, empty: Database, tmp_path: Path, invoke: Invoke
) -> None:
    folder = programs()
    if folder is None or not (folder / "pg_dump").exists():
        pytest.skip("no PostgreSQL programs: pg_dump (Debian: apt install postgresql)")
    assert isinstance(small.start(seeded), Admitted)
    dump = tmp_path / "ledger.dump"
    run(folder / "pg_dump", "--format=custom", f"--file={dump}", seeded.database.url)
    run(folder / "pg_restore", "--exit-on-error", "--no-owner", f"--dbname={empty.url}", dump)
    use(tmp_path / "home", empty.url)
    assert invoke("migrate").output == f"The ledger is at {migrate.head()} already.\n"
    assert invoke("check").code == 0
    restored = replace(seeded, database=empty)
    assert isinstance(small.start(restored, person=seeded.pi), Admitted)
    assert len(runs.runs(empty)) == 2
    with pytest.raises(Conflict, match="never changed"), empty.write() as transaction:
        transaction.run(transfers.delete())


def run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True, timeout=60)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A cluster of the test's own, which may be stopped."""
    if programs() is None:
        pytest.skip("no PostgreSQL programs to start a server that may be stopped (Debian: apt install postgresql)")
    cluster = Cluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


def test_a_hub_survives_the_loss_of_its_database(cluster: Cluster, tmp_path: Path, invoke: Invoke) -> None:
    """Nothing starts meanwhile, what runs keeps its hold, and afterwards all goes on without a restart."""
    use(tmp_path / "home", cluster.create())
    with running(tmp_path, reconciler=True) as platform:
        assert not platform.database.is_sqlite
        platform.start_server("ada", "vision")
        platform.wait_ready("ada", "vision")
        (before,) = platform.runs()
        assert before.state is RunState.RUNNING

        cluster.stop()
        refused = platform.start_server("ben", "vision", CPU)
        assert refused.status_code == 503, refused.text
        assert platform.server("ada", "vision") is not None
        assert len(platform.backend.list_runs()) == 1

        cluster.start()
        (after,) = platform.runs()
        assert (after.id, after.state) == (before.id, RunState.RUNNING)
        assert platform.start_server("ben", "vision", CPU).status_code in {201, 202}
        platform.wait_ready("ben", "vision")
        for person in ("ada", "ben"):
            platform.stop_server(person, "vision")
            platform.wait_stopped(person, "vision")
        wait_for("the charges", lambda: all(run.state is RunState.SETTLED for run in platform.runs()))
        assert {run.outcome for run in platform.runs()} <= {Outcome.STOPPED, Outcome.EXITED}
        assert invoke("check", "--home", platform.home.path).code == 0
