"""The centre of the benchmark is a whole one, and both figures come out of it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import update

from bench import decision
from quotas.store.tables import accounts


def test_both_figures_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision, "UNTIL_THE_LOG_TURNS", 5)
    monkeypatch.setattr(decision, "OPERATIONS", 5)
    to_transaction, growth = decision.measure(tmp_path, (3, 20), pairs=1)
    assert (to_transaction.name, to_transaction.target) == ("decision_to_transaction", 1.5)
    assert (growth.name, growth.detail["projects"]) == ("decision_growth", [20, 3])
    assert min(to_transaction.ratio, growth.ratio) > 0
    assert set(to_transaction.detail) >= {"ratio_at_3_projects", "ratio_at_20_projects", "ratio_without_a_device"}


def test_a_broken_ledger_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision, "UNTIL_THE_LOG_TURNS", 5)
    centre = decision.Centre(tmp_path, 3)
    with centre.database.write() as transaction:
        transaction.run(update(accounts).where(accounts.c.kind == "spent").values(balance=1))
    with pytest.raises(RuntimeError, match="broken"), closing(centre):
        pass
