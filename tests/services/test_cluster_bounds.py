"""The bounds of a project on a cluster follow from its award, what it may borrow, and the seats reserved for it."""

from __future__ import annotations

from quotas.domain.policy import Policy
from quotas.domain.terms_kubernetes_projects import Bounds
from quotas.domain.units import DAY_SECONDS
from quotas.services import cluster_bounds
from tests.centre import Centre as SmallCentre
from tests.services.centre import GPU_GFLOPS, POLICY, Centre
from tests.services.classes import LECTURE, PLENTY, approved

GIB = 2**30


def test_the_ceiling_and_what_may_be_borrowed_bound_each_thing(seeded: SmallCentre) -> None:
    """200,000 GFLOPS: 4,000 small servers, 24 slices or 2 GPUs whole, and one of each more for a mix."""
    twice, once = Policy(), Policy(borrow_limit_ppm=0)
    found = cluster_bounds.of_project(seeded.database, "vision", seeded.now, once)
    gpus = {"nvidia.com/gpu": 3, "nvidia.com/mig-1g.10gb": 25}
    assert found == Bounds(4001, 4001 * 1000, 4001 * 2 * GIB, gpus)
    borrowed = cluster_bounds.of_project(seeded.database, "vision", seeded.now, twice)
    assert borrowed is not None
    assert borrowed.devices == {"nvidia.com/gpu": 6, "nvidia.com/mig-1g.10gb": 50}


def test_there_are_none_for_what_is_no_project(seeded: SmallCentre) -> None:
    assert cluster_bounds.of_project(seeded.database, "elsewhere", seeded.now, Policy()) is None


def test_reserved_seats_come_beside_the_ceiling(centre: Centre) -> None:
    centre.award("vision", PLENTY, ceiling=2 * GPU_GFLOPS)
    before = cluster_bounds.of_project(centre.database, "vision", LECTURE - DAY_SECONDS, POLICY)
    approved(centre, seats=4)
    after = cluster_bounds.of_project(centre.database, "vision", LECTURE - DAY_SECONDS, POLICY)
    assert before is not None
    assert after is not None
    assert before.runs is not None
    assert (after.runs, sum(after.devices.values())) == (before.runs + 4, sum(before.devices.values()) + 4)
