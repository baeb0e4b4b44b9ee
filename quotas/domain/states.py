"""States that change by a table: what it does not list is refused."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from quotas.domain.units import InvalidValue

State = TypeVar("State", bound=StrEnum)


def change(table: Mapping[State, frozenset[State]], field: str, name: str, old: State, new: State) -> State:
    """Return `new` if the table allows the change from `old`; raise InvalidValue, which says what it allows."""
    if new not in table[old]:
        allowed = ", ".join(sorted(table[old]))
        raise InvalidValue(
            field,
            f"{name} is {old} and cannot become {new}; allowed: {allowed or 'nothing'}",
            f"{name}의 상태 {old}에서 {new}(으)로 바꿀 수 없습니다. 가능: {allowed or '없음'}",
        )
    return new
