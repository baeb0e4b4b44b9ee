"""Project codes, states, awards and phases."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotas.domain.projects import (
    ALLOWED_CHANGES,
    Award,
    Phase,
    ProjectState,
    Standing,
    change_state,
    phase,
    project_code,
)
from quotas.domain.units import LARGEST, PPM, InvalidValue

NOW = 1_800_000_000
DAY = 86_400


@pytest.mark.parametrize("code", ["a", "vision", "vision-lab-2", "a" * 30, "a1-b2"])
def test_a_code_is_also_the_name_of_a_server(code: str) -> None:
    assert project_code(code) == code


@pytest.mark.parametrize(
    "code",
    [
        "",
        "1a",
        "-a",
        "a-",
        "a--b",
        "A",
        "a_b",
        "a.b",
        "a/b",
        "가",
        "a" * 31,
        "a b",
        "a\n",
        "../a",
        None,
        7,
        pytest.param("a" * 10**6, id="long"),
    ],
)
def test_any_other_code_is_refused(code: object) -> None:
    with pytest.raises(InvalidValue, match="project") as caught:
        project_code(code)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 300


def test_states_change_by_the_table_and_never_back() -> None:
    for old, new in itertools.product(ProjectState, repeat=2):
        if new in ALLOWED_CHANGES[old]:
            assert change_state("vision", old, new) is new
        else:
            with pytest.raises(InvalidValue, match="vision is"):
                change_state("vision", old, new)
    assert not ALLOWED_CHANGES[ProjectState.ENDED]
    assert not ALLOWED_CHANGES[ProjectState.REJECTED]


def award(**changes: int) -> Award:
    values = {"gflops": 80_000, "starts_at": NOW, "ends_at": NOW + DAY, **changes}
    return Award(precision="fp32", **values)  # type: ignore[arg-type]


def test_the_budget_is_rate_by_time() -> None:
    assert award().budget_gflops_seconds() == 80_000 * DAY
    assert award(utilisation_ppm=PPM // 2).budget_gflops_seconds() == 40_000 * DAY
    assert award().ceiling_gflops() == 80_000
    assert award(burst_ppm=4 * PPM).ceiling_gflops() == 320_000


@pytest.mark.parametrize(
    "changes",
    [
        {"gflops": 0},
        {"gflops": -1},
        {"gflops": LARGEST + 1},
        {"gflops": LARGEST},
        {"ends_at": NOW},
        {"ends_at": NOW - 1},
        {"burst_ppm": 0},
        {"burst_ppm": -PPM},
        {"utilisation_ppm": 0},
        {"gflops": 1, "burst_ppm": PPM - 1},
        {"gflops": 1, "ends_at": NOW + 1, "utilisation_ppm": PPM - 1},
        {"gflops": LARGEST, "ends_at": NOW + 1, "burst_ppm": 2 * PPM},
        {"ends_at": NOW + LARGEST},
    ],
)
def test_an_award_of_nothing_or_too_much_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(InvalidValue):
        award(**changes)


@given(st.integers(1, 10**12), st.integers(1, 10**9), st.integers(1, PPM))
def test_a_budget_is_never_more_than_promised(gflops: int, seconds: int, utilisation_ppm: int) -> None:
    try:
        drawn = award(gflops=gflops, ends_at=NOW + seconds, utilisation_ppm=utilisation_ppm)
    except InvalidValue:
        assert gflops * seconds * utilisation_ppm // PPM in {0} | set() or gflops * seconds > LARGEST
        return
    assert 0 < drawn.budget_gflops_seconds() <= gflops * seconds
    assert drawn.budget_gflops_seconds() <= LARGEST


@pytest.mark.parametrize(
    ("state", "now", "available", "expected"),
    [
        (ProjectState.APPLIED, NOW, 0, Phase.APPLIED),
        (ProjectState.REJECTED, NOW, 0, Phase.REJECTED),
        (ProjectState.ENDED, NOW, 1000, Phase.ENDED),
        (ProjectState.APPROVED, NOW - 1, 1000, Phase.SCHEDULED),
        (ProjectState.APPROVED, NOW, 1000, Phase.ACTIVE),
        (ProjectState.APPROVED, NOW, 101, Phase.ACTIVE),
        (ProjectState.APPROVED, NOW, 100, Phase.NEARLY_SPENT),
        (ProjectState.APPROVED, NOW, 1, Phase.NEARLY_SPENT),
        (ProjectState.APPROVED, NOW, 0, Phase.EXHAUSTED),
        (ProjectState.APPROVED, NOW + DAY - 1, 1000, Phase.ACTIVE),
        (ProjectState.APPROVED, NOW + DAY, 1000, Phase.ENDED),
    ],
)
def test_where_a_project_stands_follows_from_its_facts(
    state: ProjectState, now: int, available: int, expected: Phase
) -> None:
    ended_at = NOW if state is ProjectState.ENDED else None
    assert phase(Standing(state, NOW, NOW + DAY, 1000, available, ended_at), now) is expected


@pytest.mark.parametrize(
    ("facts", "after", "expected"),
    [
        ({}, 1, Phase.GRACE),
        ({}, 2 * DAY - 1, Phase.GRACE),
        ({}, 2 * DAY, Phase.ENDED),
        ({"suspended_at": NOW}, -1, Phase.SUSPENDED),
        ({"suspended_at": NOW}, 0, Phase.GRACE),
        ({"suspended_at": NOW, "available": 0}, -1, Phase.SUSPENDED),
        ({"revoked_at": NOW + 5, "suspended_at": NOW}, -1, Phase.REVOKED),
        ({"revoked_at": NOW + 5}, 9 * DAY, Phase.REVOKED),
        ({"state": ProjectState.ENDED, "ended_at": NOW}, 0, Phase.GRACE),
        ({"state": ProjectState.ENDED, "ended_at": NOW}, DAY, Phase.ENDED),
        ({"state": ProjectState.ENDED, "ended_at": NOW + 9 * DAY}, 2 * DAY, Phase.ENDED),
        ({"state": ProjectState.ENDED, "ended_at": NOW, "closed_at": NOW + 3 * DAY}, 9 * DAY, Phase.CLOSED),
        ({"revoked_at": NOW, "closed_at": NOW + 3 * DAY}, 9 * DAY, Phase.CLOSED),
    ],
)
def test_what_is_over_keeps_its_files_for_a_while(facts: dict[str, Any], after: int, expected: Phase) -> None:
    """The award lasts a day, and its files are kept for two; `after` is seconds after its end."""
    known = {"state": ProjectState.APPROVED, "available": 1000, **facts}
    standing = Standing(starts_at=NOW, ends_at=NOW + DAY, granted=1000, storage_grace_days=2, **known)
    assert phase(standing, NOW + DAY + after) is expected


def test_an_approved_project_without_an_award_has_ended() -> None:
    assert phase(Standing(ProjectState.APPROVED, None, None, 0, 0), NOW) is Phase.ENDED
