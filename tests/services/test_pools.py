"""Pools, their phases and what is in use."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from quotas.domain.admission import Admitted, Request
from quotas.domain.awards import Programme
from quotas.domain.capacity import Promise
from quotas.domain.months import month_of
from quotas.domain.policy import Policy
from quotas.domain.pools import CapacityPhase
from quotas.domain.projects import Award
from quotas.domain.rates import Precision
from quotas.domain.refusals import Code
from quotas.domain.runs import RunKind, new_run_id
from quotas.domain.units import DAY_SECONDS, InvalidValue
from quotas.services import admission, check, pools, portfolio
from quotas.store import audit
from tests import centre as small
from tests.centre import NOW, Centre

BY = {"actor": "operator", "now": NOW}


def asked(seeded: Centre, person: str) -> Request:
    return Request(new_run_id(), RunKind.NOTEBOOK, person, seeded.project, "h100")


def admit(seeded: Centre, person: str) -> Admitted:
    decision = admission.reserve(seeded.database, asked(seeded, person), NOW, Policy())
    assert isinstance(decision, Admitted), decision
    return decision


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


def test_drained_devices_are_not_started_on_and_come_back(seeded: Centre) -> None:
    first = pools.drain(seeded.database, seeded.pool, "h100", 3, "XID 79 on node 3", **BY)
    view = next(each for each in pools.capacity(seeded.database, NOW) if each.device_model == "h100")
    assert (view.healthy, view.drained, view.usable) == (4, 3, 1)
    assert pools.open_drains(seeded.database) == [first]
    assert admit(seeded, seeded.member).pool_id is not None
    refused = admission.reserve(seeded.database, asked(seeded, seeded.pi), NOW, Policy())
    assert getattr(refused, "code", None) is Code.POOL_FULL
    assert dict(refused.numbers)["healthy"] == 1
    left = pools.undrain(seeded.database, first.id, count=1, **BY)
    assert left is not None
    assert (left.count, left.since, left.reason) == (2, NOW, "XID 79 on node 3")
    admit(seeded, seeded.pi)
    assert pools.undrain(seeded.database, left.id, actor="operator", now=NOW + 60) is None
    assert pools.open_drains(seeded.database) == []
    assert check.findings(seeded.database, NOW + 60) == []
    with seeded.database.read() as transaction:
        actions = [event.action for event in audit.latest(transaction, 20)]
    assert actions.count("devices drained") == 1
    assert actions.count("devices in use again") == 2


@pytest.mark.parametrize(
    ("pool", "model", "count", "reason", "field", "allowed"),
    [
        ("main", "h100", 5, "a fan", "count", "allowed is 1 to 4"),
        ("main", "h100", 0, "a fan", "count", "above zero"),
        ("main", "h100", -1, "a fan", "count", "above zero"),
        ("main", "h100", 1, "  ", "reason", "not be empty"),
        ("main", "t4", 1, "a fan", "device_model", "it has: h100, h100-mig-1g.10gb"),
        ("annex", "h100", 1, "a fan", "pool", "annex"),
    ],
)
def test_a_drain_that_cannot_be_is_refused(
    seeded: Centre, pool: str, model: str, count: int, reason: str, field: str, allowed: str
) -> None:
    with pytest.raises(InvalidValue, match=allowed) as refused:
        pools.drain(seeded.database, pool, model, count, reason, **BY)
    assert refused.value.field == field
    assert pools.open_drains(seeded.database) == []


def test_never_more_is_drained_than_is_healthy_also_by_several_at_once(seeded: Centre) -> None:
    def drain(number: int) -> bool:
        try:
            pools.drain(seeded.database, seeded.pool, "h100", 1, f"by {number}", **BY)
        except InvalidValue:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(drain, range(8))) == 4
    drains = pools.open_drains(seeded.database)
    assert len(drains) == 4

    def undrain(number: int) -> bool:
        try:
            pools.undrain(seeded.database, drains[number % 4].id, **BY)
        except InvalidValue:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(undrain, range(8))) == 4
    assert sizes(seeded, NOW)["h100"] == (4, 4, 4, 0)
    assert check.findings(seeded.database, NOW) == []


@pytest.mark.parametrize(
    ("drain", "count", "field", "allowed"), [(9, None, "drain", "open are: 1"), (1, 3, "count", "allowed is 1 to 2")]
)
def test_an_end_of_a_drain_that_cannot_be_is_refused(
    seeded: Centre, drain: int, count: int | None, field: str, allowed: str
) -> None:
    assert pools.drain(seeded.database, seeded.pool, "h100", 2, "a fan", **BY).id == 1
    with pytest.raises(InvalidValue, match=allowed) as refused:
        pools.undrain(seeded.database, drain, count=count, **BY)
    assert refused.value.field == field


def test_a_phase_to_come_can_be_cancelled_one_that_has_begun_cannot(seeded: Centre) -> None:
    later = CapacityPhase("h100", NOW + DAY_SECONDS, 8, 6, 5)
    pools.add_phase(seeded.database, seeded.pool, later, **BY)
    assert [each.is_in_force for each in pools.phases(seeded.database, seeded.pool, NOW)][:2] == [True, False]
    for from_at, why in ((NOW + 5, "no phase"), (seeded.starts_at, "has begun; allowed is one after")):
        with pytest.raises(InvalidValue, match=why) as refused:
            pools.cancel_phase(seeded.database, seeded.pool, "h100", from_at, **BY)
        assert refused.value.field == "from_at"
    pools.cancel_phase(seeded.database, seeded.pool, "h100", later.from_at, **BY)
    assert sizes(seeded, later.from_at)["h100"] == (4, 4, 4, 0)
    pools.add_phase(seeded.database, seeded.pool, later, **BY)
    assert sizes(seeded, later.from_at)["h100"] == (8, 6, 5, 0)


def test_a_second_pool_takes_what_the_first_has_no_room_for(seeded: Centre) -> None:
    pools.add_pool(seeded.database, "cloud", "임차 클라우드", "Leased cloud", simulated=True, **BY)
    pools.add_phase(seeded.database, "cloud", CapacityPhase("h100", NOW, 1, 1, 1), **BY)
    pools.drain(seeded.database, "main", "h100", 3, "a rack", **BY)
    first, second = admit(seeded, seeded.member), admit(seeded, seeded.pi)
    assert {first.pool_id, second.pool_id} == {1, 2}
    there = {each.run_id: each for code in ("main", "cloud") for each in pools.holders(seeded.database, code, NOW)}
    assert set(there) == {first.run_id, second.run_id}
    assert [len(pools.holders(seeded.database, code, NOW)) for code in ("main", "cloud")] == [1, 1]


def test_the_plan_counts_promises_against_every_phase_of_every_pool(seeded: Centre) -> None:
    pools.add_pool(seeded.database, "cloud", "임차 클라우드", "Leased cloud", simulated=True, **BY)
    opens = month_of(NOW).plus(1).starts_at + 5 * DAY_SECONDS
    pools.add_phase(seeded.database, "cloud", CapacityPhase("h100", opens, 100, 50, 40), **BY)
    plan = portfolio.plan(seeded.database, NOW, Programme(Precision.FP32.value, 1_500_000), months=3)
    spans = {span.starts_at: span for span in plan.spans}
    assert len(spans) == 5, "three months, a phase within the first, and one within the second"
    main = 4 * 66_900 + 7 * 8_109
    assert (spans[opens].installed, spans[opens].powered, spans[opens].healthy) == (
        main + 100 * 66_900,
        main + 50 * 66_900,
        main + 40 * 66_900,
    )
    assert (spans[month_of(NOW).starts_at].promised, spans[month_of(NOW).starts_at].powered) == (0, 0)
    assert (spans[seeded.starts_at].promised, spans[seeded.starts_at].powered) == (seeded.gflops, main)
    award = Promise(600_000, NOW, opens + DAY_SECONDS)
    with_it = portfolio.plan(seeded.database, NOW, Programme("fp32", 1_500_000), months=3, award=award)
    assert with_it.over is not None
    assert (with_it.over.promised, with_it.over.powered) == (600_000 + seeded.gflops, main)
    assert [span.promised_with - span.promised for span in with_it.spans] == [0, 600_000, 600_000, 600_000, 0]
    with pytest.raises(InvalidValue, match="consent"):
        approve(seeded, award)


def approve(seeded: Centre, award: Promise) -> None:
    """The plan says what the approval will ask for."""
    small.applied(seeded, "other")
    given = Award(award.gflops, "fp32", award.starts_at, award.ends_at)
    small.approve(seeded, "other", given, oversubscription_limit_ppm=1_500_000)
