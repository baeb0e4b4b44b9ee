"""Which devices a run is given, what may be a machine's name, and what is too old to be taken."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotas.domain.inventory import (
    AFTER_RELEASE,
    OUT_OF_USE,
    STATE_WORDS,
    Cleaning,
    DeviceState,
    FreeDevice,
    choose,
    is_recent,
    node_name,
)
from quotas.domain.units import InvalidValue

NOW = 1_800_000_000


def test_the_machine_with_the_fewest_that_suffice_is_taken() -> None:
    free = [FreeDevice(1, 1, 0), FreeDevice(2, 1, 1), FreeDevice(3, 2, 0), FreeDevice(4, 2, 1), FreeDevice(5, 2, 2)]
    assert choose(free, 1) == (1,)
    assert choose(free, 2) == (1, 2)
    assert choose(free, 3) == (3, 4, 5)
    assert choose(free, 4) is None
    assert choose([], 1) is None


def test_slices_of_a_gpu_in_use_are_taken_before_others() -> None:
    free = [FreeDevice(1, 1, 0), FreeDevice(2, 1, 1, siblings_in_use=2), FreeDevice(3, 1, 2, siblings_in_use=1)]
    assert choose(free, 2) == (2, 3)


devices = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 7), st.integers(0, 3)), max_size=20).map(
    lambda rows: [FreeDevice(number, *row) for number, row in enumerate(rows, 1)]
)


@given(devices, st.integers(1, 6))
def test_what_is_chosen_is_free_and_of_one_machine(free: list[FreeDevice], count: int) -> None:
    chosen = choose(list(free), count)
    by_id = {device.id: device for device in free}
    most = max((sum(each.node_id == node for each in free) for node in range(1, 5)), default=0)
    if chosen is None:
        assert most < count
    else:
        assert len(set(chosen)) == count
        assert len({by_id[device].node_id for device in chosen}) == 1


def test_every_state_has_its_words_and_every_cleaning_its_state() -> None:
    assert set(STATE_WORDS) == set(DeviceState)
    assert set(AFTER_RELEASE) == set(Cleaning)
    assert set(DeviceState) - OUT_OF_USE == {DeviceState.AVAILABLE, DeviceState.RETIRED}


def _first_cells(heading: str) -> list[str]:
    """Return the first cell of each row of the table below a heading of the operators' page."""
    page = (Path(__file__).parents[2] / "docs" / "devices.md").read_text(encoding="utf-8")
    part = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in part.splitlines() if line.startswith("|")]
    return [row.split("|")[1].strip().split(" ")[0].strip("`") for row in rows[2:]]


def test_the_page_for_operators_has_every_state_and_every_cleaning() -> None:
    assert _first_cells("States") == [state.value for state in DeviceState]
    assert _first_cells("Between two runs") == [cleaning.value for cleaning in Cleaning]


@pytest.mark.parametrize("name", ["a", "gpu-1", "0", "a" * 63])
def test_a_machine_s_name(name: str) -> None:
    assert node_name(name) == name


@pytest.mark.parametrize("name", ["", "-", "a-", "A", "a.b", "a" * 64, "a\n", None, 1])
def test_no_machine_s_name(name: object) -> None:
    with pytest.raises(InvalidValue):
        node_name(name)


@pytest.mark.parametrize(
    ("seconds", "taken"), [(-172_800, True), (-172_801, False), (0, True), (300, True), (300.5, False)]
)
def test_what_is_recent(seconds: float, taken: bool) -> None:
    assert is_recent(NOW + seconds, NOW) is taken
