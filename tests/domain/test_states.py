"""Every state machine is a table: what it lists is allowed, anything else is refused with what is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from enum import StrEnum

import pytest

from quotas.domain import awards, changes, outcomes, projects, renewals, states
from quotas.domain.units import InvalidValue

TABLES: dict[str, Mapping[StrEnum, frozenset[StrEnum]]] = {
    "projects": projects.ALLOWED_CHANGES,
    "awards": awards.ALLOWED_CHANGES,
    "tranches": awards.TRANCHE_CHANGES,
    "changes": changes.ALLOWED_CHANGES,
    "outcomes": outcomes.ALLOWED_CHANGES,
    "renewals": renewals.ALLOWED_CHANGES,
}  # type: ignore[dict-item]
FINAL = {
    "projects": {"rejected", "ended"},
    "awards": {"closed"},
    "tranches": {"released", "forfeited"},
    "changes": {"applied", "rejected", "withdrawn"},
    "outcomes": {"verified"},
    "renewals": {"approved", "rejected", "withdrawn"},
}


@pytest.mark.parametrize("name", TABLES)
def test_what_a_table_does_not_list_is_refused(name: str) -> None:
    table = TABLES[name]
    assert set(table) == set(type(next(iter(table))))
    for old, new in itertools.product(table, repeat=2):
        if new in table[old]:
            assert states.change(table, "field", "it", old, new) is new
            continue
        with pytest.raises(InvalidValue, match=f"it is {old} and cannot become {new}; allowed: ") as caught:
            states.change(table, "field", "it", old, new)
        assert caught.value.field == "field"
        assert all(each in caught.value.message_ko for each in table[old])


@pytest.mark.parametrize("name", TABLES)
def test_what_is_final_stays(name: str) -> None:
    assert {str(state) for state, following in TABLES[name].items() if not following} == FINAL[name]
