"""Priority classes of a run, and who gives way: by a stated order, never at random."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Priority(StrEnum):
    """How firmly a run holds its devices, the firmest first.

    `reserved`: a seat of a reservation's window. `guaranteed`: within the project's ceiling. `borrowed`: idle devices
    beyond the ceiling. `opportunistic`: idle devices, asked for as such. All are charged alike.
    """

    RESERVED = "reserved"
    GUARANTEED = "guaranteed"
    BORROWED = "borrowed"
    OPPORTUNISTIC = "opportunistic"


RANK: dict[Priority, int] = {priority: rank for rank, priority in enumerate(Priority)}
"""0 is the firmest."""

PREEMPTIBLE = frozenset({Priority.BORROWED, Priority.OPPORTUNISTIC})
BEYOND_THE_CEILING = PREEMPTIBLE
"""What counts against the borrowing limit instead of the ceiling; a reserved seat counts against neither."""


def rates_of(priority: Priority, gflops: int) -> tuple[int, int]:
    """Return what a run of this class takes of (its project's ceiling, what its project may borrow), in GFLOPS."""
    if priority is Priority.RESERVED:
        return 0, 0
    return (0, gflops) if priority in BEYOND_THE_CEILING else (gflops, 0)


WISHES = (Priority.GUARANTEED, Priority.BORROWED, Priority.OPPORTUNISTIC)
"""What a person may ask for: within the ceiling only, beyond it where that is needed, or idle devices only."""


@dataclass(frozen=True)
class Holder:
    """A run that holds devices. `fair_share` is its project's; `started_at` when it was held (seconds UTC).

    `asked`: it has been told to give way already.
    """

    run_id: str
    priority: Priority
    fair_share: float
    started_at: int
    device_count: int
    asked: bool = False


Turn = tuple[int, bool, float, int, str]
"""A turn in the order of giving way: who has the smallest goes first."""


def gives_way_before(holder: Holder) -> Turn:
    """Return the sort key of who gives way first.

    The weakest class; in it who has been told so already, as nobody is told to and fro while the shares move; then the
    project that has used most of its share; of that the run that began last, as it has least to lose; then by id, so
    that two that are alike are always taken in the same order.
    """
    return (-RANK[holder.priority], not holder.asked, holder.fair_share, -holder.started_at, holder.run_id)


def who_gives_way(needed: int, holders: Iterable[Holder]) -> tuple[Holder, ...] | None:
    """Return who must stop so that `needed` devices come free, none of them in vain; None when all are not enough."""
    chosen: list[Holder] = []
    freed = 0
    for holder in sorted(holders, key=gives_way_before):
        if freed >= needed:
            break
        chosen.append(holder)
        freed += holder.device_count
    if freed < needed:
        return None
    for holder in reversed(chosen):  # the best placed is spared first
        if freed - holder.device_count >= needed:
            chosen.remove(holder)
            freed -= holder.device_count
    return tuple(chosen)


@dataclass(frozen=True)
class Place:
    """A pool in which `needed` devices more are wanted than come free by themselves; `holders` may be asked to go.

    `begun`: somebody there has been asked to go for the same one already.
    """

    pool_id: int
    needed: int
    holders: tuple[Holder, ...]
    begun: bool = False


def where_fewest_give_way(places: Iterable[Place]) -> tuple[int, tuple[Holder, ...]] | None:
    """Return (the pool, who must stop there); None where in no pool enough can be asked to.

    It is the pool in which that has begun, else the one where fewest must; of those with as many it is the one whose
    runs give way first by the order above.
    """
    found: list[tuple[tuple[bool, int, list[Turn], int], tuple[Holder, ...]]] = []
    for place in places:
        chosen = who_gives_way(place.needed, place.holders)
        if chosen is not None:
            turns = sorted(map(gives_way_before, chosen))
            found.append(((not place.begun, len(chosen), turns, place.pool_id), chosen))
    if not found:
        return None
    key, chosen = min(found, key=lambda each: each[0])
    return key[-1], chosen
