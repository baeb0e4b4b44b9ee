"""Every sample of the measured machine is taken once, and its hours are far fewer rows than its samples."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from bench import metering
from quotas.domain.node_reports import Sample


def test_both_figures_are_measured(tmp_path: Path) -> None:
    rows, of_core = metering.measure(tmp_path, hours=1, pairs=1, reports=2)
    assert (rows.name, rows.target, rows.met) == ("metering_rows_per_sample", 1 / 50, True)
    assert (rows.detail["devices"], rows.detail["samples"]) == (22, 22 * 360)
    assert rows.detail["rows"] == 44
    assert (of_core.name, of_core.target) == ("metering_of_a_core", 0.01)
    assert of_core.ratio == pytest.approx(of_core.detail["microseconds_of_a_sample"] / 10_000, abs=0.001)
    assert of_core.detail["microseconds_of_a_row_each"] > 0


def test_samples_that_go_astray_are_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = metering.Machine.report

    def half(self: metering.Machine, end: int) -> list[Sample]:
        return whole(self, end)[::2]

    monkeypatch.setattr(metering.Machine, "report", half)
    with pytest.raises(RuntimeError, match="were not seen"):
        metering.measure(tmp_path, hours=1, pairs=1, reports=1)


def test_the_machines_ledger_is_whole(tmp_path: Path) -> None:
    with closing(metering.Machine(tmp_path, count=3)) as machine:
        machine.take(12)
        rows, _, seen = machine.stored()
        assert (rows, seen) == (3, 3 * 360)
