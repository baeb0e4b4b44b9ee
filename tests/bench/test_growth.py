"""Small centres of the benchmark are whole, and every figure of it comes out."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from bench import growth
from quotas.store.tables import accounts
from tests import postgresql

ONCE = {name: replace(operation, times=1) for name, operation in growth.OPERATIONS.items()}


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def test_every_operation_is_compared(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "postgresql" and postgresql.missing():
        pytest.skip(str(postgresql.missing()))
    monkeypatch.setattr(growth, "OPERATIONS", ONCE)
    results = list(growth.measure(tmp_path, (10, 30), rounds=1, databases=[kind]))
    assert [result.name for result in results] == [f"growth_{name}_{kind}" for name in growth.OPERATIONS]
    for result in results:
        assert result.target == growth.TARGET
        assert set(result.detail["by_projects"]) == {10, 30}
        assert result.detail["ledger_rows"][30] > 2 * result.detail["ledger_rows"][10]
        assert math.isfinite(result.detail["slope"])


def test_the_slope_is_of_the_logarithms() -> None:
    assert growth.slope({10: 7.0, 100: 7.0, 1000: 7.0}) == 0
    assert growth.slope({10: 3.0, 100: 30.0, 1000: 300.0}) == pytest.approx(1)


def test_a_broken_ledger_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_it(self: growth.World) -> None:
        with self.database.write() as transaction:
            transaction.run(accounts.update().where(accounts.c.kind == "spent").values(balance=1))

    monkeypatch.setattr(growth, "OPERATIONS", {"balance": growth.Operation(break_it, 1)})
    with pytest.raises(RuntimeError, match="broken"):
        list(growth.measure(tmp_path, (3, 4), rounds=1, databases=["sqlite"]))
