"""A short simulated year on both databases: it is whole at every step, and the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import update

from bench import centre, centre_plan
from bench.centre_figures import Figures, jain
from bench.centre_plan import Scale
from bench.centre_watch import Broken
from bench.centre_year import Year
from quotas.services import check, reports
from quotas.store.database import Database
from quotas.store.migrate import migrate
from quotas.store.tables import accounts, pool_devices
from tests.databases import Databases

SCALE = Scale(seed=3, projects=10, days=12)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, Figures]]:
    """A year that has passed on SQLite."""
    with closing(Database(f"sqlite:///{tmp_path_factory.mktemp('centre')}/centre.sqlite")) as database:
        yield database, centre.simulate(database, SCALE)


def test_the_same_seed_gives_the_same_year_on_both(databases: Databases, on_sqlite: tuple[Database, Figures]) -> None:
    fresh = databases.migrated()
    try:
        found = centre.simulate(fresh, SCALE)
        assert check.findings(fresh, SCALE.end) == []
    finally:
        databases.drop(fresh)
    assert found.phases == on_sqlite[1].phases
    assert found == on_sqlite[1]


def test_another_seed_gives_another_year(on_sqlite: tuple[Database, Figures], tmp_path: Path) -> None:
    with closing(Database(f"sqlite:///{tmp_path}/other.sqlite")) as database:
        assert centre.simulate(database, Scale(4, SCALE.projects, SCALE.days)).digest != on_sqlite[1].digest


def test_nothing_is_overspent_and_nothing_is_left_open(on_sqlite: tuple[Database, Figures]) -> None:
    database, _ = on_sqlite
    for balance in reports.balances(database):
        assert balance.held == 0
        assert min(balance.available, balance.expired) >= 0
        assert balance.spent - balance.overrun <= balance.granted
    assert reports.status(database, SCALE.end).open_runs == 0
    months = [reports.monthly(database, month, now=SCALE.end) for month in ("2027-01",)]
    spent = sum(balance.spent for balance in reports.balances(database))
    refunded = sum(month.total.refunded for month in months)
    assert sum(month.total.used for month in months) == spent + refunded > 0


def test_all_that_it_is_about_happens(on_sqlite: tuple[Database, Figures]) -> None:
    _, found = on_sqlite
    assert list(found.phases) == ["leased, 10 %", "50 %", "100 %", "power cut to 50 %"]
    for figures in found.phases.values():
        assert 0 < float(figures["utilisation of healthy"].removesuffix(" %")) <= 100
        assert int(figures["starts asked for"].replace(",", "")) > 0
    assert sum(int(figures["had their turn"]) for figures in found.phases.values()) > 10
    assert {"pool_full", "queue_ahead", "reserved_soon"} <= {code for each in found.refusals.values() for code in each}
    assert found.whole["renewals approved, rejected"] != "0, 0"
    assert found.whole["charged for seats in classes"] != "0.000 TF·h"
    assert found.whole["steps checked, days checked whole"].endswith(f", {SCALE.days}")
    page = centre.page(found, SCALE)
    assert "--seed 3 --days 12 --projects 10 --write" in page
    assert found.digest in page


def test_the_phases_and_awards_are_those_of_the_first_year() -> None:
    whole = Scale(1)
    leased, half, full, cut = centre_plan.phases(whole)
    plans = centre_plan.projects(whole)
    assert (len(plans), sum(plan.gflops for plan in plans)) == (125, 10_740_000)
    for phase, wanted in ((leased, 8_850_000), (half, 44_250_000), (full, 88_500_000), (cut, 44_250_000)):
        assert abs(phase.healthy_gflops - wanted) < centre_plan.H100_GFLOPS
    assert (leased.from_at, cut.until_at) == (centre_plan.START, whole.end)
    assert centre_plan.seats(whole) == 60


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (update(accounts).where(accounts.c.kind == "spent").values(balance=accounts.c.balance + 1), "add up to"),
        (update(pool_devices).where(pool_devices.c.device_model == "h100").values(in_use=10**6), "in use"),
    ],
)
def test_a_broken_ledger_is_noticed_at_the_next_step(tmp_path: Path, broken: object, message: str) -> None:
    with closing(Database(f"sqlite:///{tmp_path}/broken.sqlite")) as database:
        migrate(database)
        year = Year(database, SCALE)

        def break_it() -> None:
            with database.write() as transaction:
                transaction.run(broken)

        year.clock.at(SCALE.day(1) + 60, break_it)
        with pytest.raises(Broken, match=message):
            year.run()


def test_jains_index() -> None:
    assert jain([2.0, 2.0, 2.0]) == 1
    assert jain([1.0, 0.0, 0.0, 0.0]) == 0.25


def test_too_short_a_year_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        centre.main(["--days", "11"])
    assert "at least 12 days" in capsys.readouterr().err
