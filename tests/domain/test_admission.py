"""The decision, from facts alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotas.domain.admission import (
    RULES,
    Admitted,
    AllocationSituation,
    PoolSituation,
    Request,
    Situation,
    decide,
    each_rule,
    free_pool,
)
from quotas.domain.people import MembershipRole
from quotas.domain.policy import Policy
from quotas.domain.projects import ProjectState
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import RunKind
from quotas.domain.units import LARGEST, InvalidValue

NOW = 1_800_000_000
POLICY = Policy()
FIRST_HOLD = POLICY.hold + POLICY.stop_margin
ALLOCATION = AllocationSituation(7, NOW - 1000, NOW + 10**6, 100_000, 0, 10**12)
SITUATION = Situation(
    role=MembershipRole.MEMBER,
    project_state=ProjectState.APPROVED,
    allocation=ALLOCATION,
    profile_known=True,
    profile_offered=True,
    device_model="h100",
    device_count=2,
    card_version=3,
    gflops=1000,
    pools=(PoolSituation(1, False, 2, 1), PoolSituation(2, True, 4, 2)),
)
NOTEBOOK = Request("run", RunKind.NOTEBOOK, "ada", "vision", "gpu-2")


def batch(seconds: int) -> Request:
    return replace(NOTEBOOK, kind=RunKind.BATCH, seconds=seconds)


def with_allocation(**changes: int) -> Situation:
    return replace(SITUATION, allocation=replace(ALLOCATION, **changes))


def code(situation: Situation, request: Request = NOTEBOOK, now: int = NOW) -> Code | None:
    decision = decide(request, situation, now, POLICY)
    if isinstance(decision, Admitted):
        return None
    assert decision.sentence("ko")
    assert decision.sentence("en")
    return decision.code


def test_an_admission_names_all_that_is_held() -> None:
    assert decide(NOTEBOOK, SITUATION, NOW, POLICY) == Admitted(
        run_id="run",
        allocation_id=7,
        card_version=3,
        gflops=1000,
        amount=1000 * FIRST_HOLD,
        opened_at=NOW,
        until_at=NOW + FIRST_HOLD,
        pool_id=2,
        device_model="h100",
        device_count=2,
        simulated=True,
    )


def test_a_cpu_profile_needs_no_pool() -> None:
    decision = decide(NOTEBOOK, replace(SITUATION, device_model=None, device_count=0, pools=()), NOW, POLICY)
    assert isinstance(decision, Admitted)
    assert (decision.pool_id, decision.device_model, decision.simulated) == (None, None, False)


BROKEN: list[tuple[Code, Situation]] = [
    (Code.PERSON_UNKNOWN, replace(SITUATION, person_known=False)),
    (Code.PROJECT_UNKNOWN, replace(SITUATION, project_state=None)),
    (Code.NOT_A_MEMBER, replace(SITUATION, role=None)),
    (Code.PROJECT_NOT_APPROVED, replace(SITUATION, project_state=ProjectState.APPLIED)),
    (Code.PROJECT_NOT_APPROVED, replace(SITUATION, project_state=ProjectState.REJECTED)),
    (Code.PROJECT_ENDED, replace(SITUATION, project_state=ProjectState.ENDED)),
    (Code.PROJECT_ENDED, replace(SITUATION, allocation=None)),
    (Code.AWARD_NOT_STARTED, with_allocation(starts_at=NOW + 1)),
    (Code.AWARD_ENDED, with_allocation(ends_at=NOW)),
    (Code.PROFILE_UNKNOWN, replace(SITUATION, profile_known=False)),
    (Code.PROFILE_NOT_OFFERED, replace(SITUATION, profile_offered=False)),
    (Code.PROFILE_UNRATED, replace(SITUATION, gflops=None)),
    (Code.PROFILE_UNRATED, replace(SITUATION, card_version=None)),
    (Code.ALREADY_RUNNING, replace(SITUATION, open_run="other")),
    (Code.CEILING, with_allocation(in_use_gflops=99_001)),
    (Code.POOL_FULL, replace(SITUATION, pools=())),
    (Code.POOL_FULL, replace(SITUATION, pools=(PoolSituation(1, False, 2, 1), PoolSituation(2, False, 2, 1)))),
    (Code.BUDGET_SHORT, with_allocation(available=1000 * POLICY.minimum - 1)),
    (Code.AWARD_ENDED, with_allocation(ends_at=NOW + POLICY.minimum - 1)),
]


@pytest.mark.parametrize(("expected", "situation"), BROKEN)
def test_each_fact_alone_refuses(expected: Code, situation: Situation) -> None:
    assert code(situation) is expected


@pytest.mark.parametrize(("expected", "situation"), BROKEN)
def test_every_rule_is_told_also_after_the_first_refusal(expected: Code, situation: Situation) -> None:
    outcomes = list(each_rule(NOTEBOOK, situation, NOW, POLICY))
    assert [name for name, _, _ in outcomes] == [rule.__name__ for rule in RULES]
    assert all(asks for _, asks, _ in outcomes)
    refusals = [refused for _, _, refused in outcomes if refused is not None]
    assert refusals[0].code is expected


@pytest.mark.parametrize(
    ("situation", "request_", "now"),
    [
        (with_allocation(starts_at=NOW), NOTEBOOK, NOW),
        (with_allocation(ends_at=NOW + POLICY.minimum), NOTEBOOK, NOW),
        (with_allocation(in_use_gflops=99_000), NOTEBOOK, NOW),
        (with_allocation(available=1000 * POLICY.minimum), NOTEBOOK, NOW),
        (with_allocation(available=1000 * (3600 + POLICY.stop_margin)), batch(3600), NOW),
        (replace(SITUATION, pools=(PoolSituation(1, False, 2, 0),)), NOTEBOOK, NOW),
        (replace(SITUATION, open_run=None), batch(1), NOW),
    ],
)
def test_what_just_fits_is_admitted(situation: Situation, request_: Request, now: int) -> None:
    assert code(situation, request_, now) is None


def test_the_end_of_an_award_is_exclusive() -> None:
    """The last second that counts is the one before its end; a hold reaches exactly to it."""
    situation = with_allocation(ends_at=NOW + 700)
    decision = decide(NOTEBOOK, situation, NOW, POLICY)
    assert isinstance(decision, Admitted)
    assert decision.until_at == NOW + 700
    assert code(with_allocation(ends_at=NOW + 1), now=NOW + 1) is Code.AWARD_ENDED


def test_a_batch_run_gets_all_or_nothing() -> None:
    length = 3600 + POLICY.stop_margin
    assert code(with_allocation(available=1000 * length - 1), batch(3600)) is Code.BUDGET_SHORT
    assert code(with_allocation(ends_at=NOW + length - 1), batch(3600)) is Code.AWARD_ENDED
    assert code(with_allocation(ends_at=NOW + length), batch(3600)) is None


def test_a_learner_starts_servers_and_schedules_nothing() -> None:
    learner = replace(SITUATION, role=MembershipRole.LEARNER)
    assert code(learner) is None
    assert code(learner, batch(60)) is Code.ROLE_MAY_NOT


def test_the_first_pool_with_room_is_taken() -> None:
    pools = tuple(PoolSituation(number, False, 2, number % 2) for number in range(1, 5))
    found = free_pool(NOTEBOOK, replace(SITUATION, pools=pools), NOW, POLICY)
    assert found is not None
    assert found.id == 2


@pytest.mark.parametrize("seconds", [None, 0, -1, LARGEST + 1, True, 60.0, "60"])
def test_a_batch_request_has_a_length(seconds: object) -> None:
    with pytest.raises(InvalidValue, match="seconds"):
        Request("run", RunKind.BATCH, "ada", "vision", "gpu", seconds)  # type: ignore[arg-type]


def test_a_notebook_has_no_length() -> None:
    with pytest.raises(InvalidValue, match="seconds"):
        replace(NOTEBOOK, seconds=60)


@pytest.mark.parametrize("name", ["\ud83d", "a\x00", "x" * 81, "a\nb", "\u202e"])
def test_a_name_that_cannot_be_stored_becomes_one_that_nobody_has(name: str) -> None:
    asked = Request("run", RunKind.NOTEBOOK, name, "vision", "gpu")
    assert asked.person.isascii()
    assert len(asked.person) <= 81
    assert asked.person != name


@given(
    gflops=st.integers(1, LARGEST),
    available=st.integers(0, LARGEST),
    ceiling=st.integers(1, LARGEST),
    in_use=st.integers(0, LARGEST),
    lasts=st.integers(1, 10**9),
    seconds=st.none() | st.integers(1, LARGEST),
)
def test_what_is_admitted_never_exceeds_anything(
    gflops: int, available: int, ceiling: int, in_use: int, lasts: int, seconds: int | None
) -> None:
    allocation = AllocationSituation(1, NOW, NOW + lasts, ceiling, in_use, available)
    situation = replace(SITUATION, allocation=allocation, gflops=gflops)
    decision = decide(NOTEBOOK if seconds is None else batch(seconds), situation, NOW, POLICY)
    if isinstance(decision, Refused):
        assert decision.code in {Code.CEILING, Code.BUDGET_SHORT, Code.AWARD_ENDED}
        assert decision.sentence("ko")
        return
    assert 0 < decision.amount <= min(available, LARGEST)
    assert decision.amount == gflops * (decision.until_at - decision.opened_at)
    assert NOW < decision.until_at <= NOW + lasts
    assert in_use + gflops <= ceiling
    length = decision.until_at - NOW
    if seconds is None:
        assert POLICY.minimum <= length <= FIRST_HOLD
    else:
        assert length == seconds + POLICY.stop_margin
