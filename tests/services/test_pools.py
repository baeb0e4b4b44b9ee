"""Pools, their phases and what is in use."""

from __future__ import annotations

import pytest

from quotas.domain.admission import Admitted, Request
from quotas.domain.policy import Policy
from quotas.domain.pools import CapacityPhase
from quotas.domain.rates import Precision
from quotas.domain.runs import RunKind, new_run_id
from quotas.domain.units import DAY_SECONDS, InvalidValue
from quotas.services import admission, check, pools
from quotas.store import audit
from tests.centre import NOW, Centre

BY = {"actor": "operator", "now": NOW}


def sizes(seeded: Centre, now: int) -> dict[str, tuple[int, int, int, int]]:
    return {
        view.device_model: (view.installed, view.powered, view.healthy, view.in_use)
        for view in pools.capacity(seeded.database, now)
    }


def test_the_phase_that_has_begun_last_holds(seeded: Centre) -> None:
    later = CapacityPhase("h100", seeded.now + DAY_SECONDS, 8, 6, 5)
    pools.add_phase(seeded.database, seeded.pool, later, **BY)
    assert sizes(seeded, seeded.starts_at - 1)["h100"] == (0, 0, 0, 0)
    assert sizes(seeded, seeded.now)["h100"] == (4, 4, 4, 0)
    assert sizes(seeded, later.from_at - 1)["h100"] == (4, 4, 4, 0)
    assert sizes(seeded, later.from_at)["h100"] == (8, 6, 5, 0)


def test_what_runs_is_counted_at_its_peak(seeded: Centre) -> None:
    request = Request(new_run_id(), RunKind.NOTEBOOK, seeded.member, seeded.project, "h100")
    assert isinstance(admission.reserve(seeded.database, request, seeded.now, Policy()), Admitted)
    view = next(each for each in pools.capacity(seeded.database, seeded.now) if each.device_model == "h100")
    assert (view.in_use, view.device_gflops, view.in_use_gflops) == (1, 66_900, 66_900)
    assert (view.powered_gflops, view.healthy_gflops) == (267_600, 267_600)
    at_fp16 = pools.capacity(seeded.database, seeded.now, Precision.FP16)
    assert {each.device_model: each.device_gflops for each in at_fp16}["h100"] == 989_400


def test_a_shortage_begins_when_it_is_known(seeded: Centre) -> None:
    request = Request(new_run_id(), RunKind.NOTEBOOK, seeded.member, seeded.project, "h100")
    assert isinstance(admission.reserve(seeded.database, request, seeded.now, Policy()), Admitted)
    with pytest.raises(InvalidValue, match="1 h100 of main are in use") as raised:
        pools.add_phase(seeded.database, seeded.pool, CapacityPhase("h100", seeded.now - 60, 4, 4, 0), **BY)
    assert raised.value.field == "from_at"
    pools.add_phase(seeded.database, seeded.pool, CapacityPhase("h100", seeded.now, 4, 4, 0), **BY)
    assert check.findings(seeded.database, seeded.now) == []


def test_before_any_rate_card_no_precision_is_assumed(seeded: Centre) -> None:
    assert {view.device_gflops for view in pools.capacity(seeded.database, seeded.starts_at - 1)} == {None}


@pytest.mark.parametrize(
    ("pool", "phase", "field"),
    [
        ("main", CapacityPhase("h100", NOW - DAY_SECONDS, 9, 9, 9), "from_at"),
        ("main", CapacityPhase("h900", NOW, 9, 9, 9), "device_model"),
        ("nowhere", CapacityPhase("h100", NOW, 9, 9, 9), "pool"),
        ("main", CapacityPhase("h100", 0, 9, 9, 9), "from_at"),
        ("main", CapacityPhase("h100", 2**63, 9, 9, 9), "from_at"),
    ],
)
def test_a_phase_that_cannot_be_is_refused(seeded: Centre, pool: str, phase: CapacityPhase, field: str) -> None:
    before = sizes(seeded, seeded.now)
    with pytest.raises(InvalidValue) as refused:
        pools.add_phase(seeded.database, pool, phase, **BY)
    assert refused.value.field == field
    assert sizes(seeded, seeded.now) == before


@pytest.mark.parametrize("numbers", [(1, 2, 1), (2, 1, 2), (1, 1, -1), (-1, -1, -1)])
def test_the_three_sizes_stay_in_order(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidValue, match="healthy <= powered <= installed"):
        CapacityPhase("h100", NOW, *numbers)


def test_a_pool_is_added_once_and_leaves_an_event(seeded: Centre) -> None:
    pools.add_pool(seeded.database, "annex", "별관", "Annex", simulated=False, **BY)
    with seeded.database.read() as transaction:
        assert audit.latest(transaction, 1)[0].subject == "annex"
    for code in ("annex", "An nex"):
        with pytest.raises(InvalidValue) as refused:
            pools.add_pool(seeded.database, code, "별관", "Annex", simulated=False, **BY)
        assert refused.value.field == "pool"
