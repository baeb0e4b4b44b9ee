"""The waiting queue: the states of an entry, who comes before whom, and which devices are kept for those before.

The order: the class of what was asked for, the firmest first; of these the project that has used least of its share;
of that who came first. It holds anew at every step, as shares change. Whoever is before all others who could start
has the devices that come free kept until they are enough: nobody behind starts on a pool's devices that one before
could use, except those who asked for idle devices only, as they can be asked to give them back.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from quotas.domain import fair_share
from quotas.domain.priorities import RANK, Priority
from quotas.domain.refusals import Code
from quotas.domain.units import DAY_SECONDS

DOOR = "queue"
"""The door of a run in its turn: no hub and no scheduler has taken it yet."""
SHORTEST_TURN_SECONDS = 60


class EntryState(StrEnum):
    """Where an entry is. In its turn its devices are held: by a run of its own id."""

    WAITING = "waiting"
    TURN = "turn"
    TAKEN = "taken"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REFUSED = "refused"


ALLOWED_CHANGES: dict[EntryState, frozenset[EntryState]] = {
    EntryState.WAITING: frozenset(
        {EntryState.TURN, EntryState.TAKEN, EntryState.CANCELLED, EntryState.EXPIRED, EntryState.REFUSED}
    ),
    EntryState.TURN: frozenset({EntryState.TAKEN, EntryState.CANCELLED, EntryState.EXPIRED, EntryState.REFUSED}),
    EntryState.TAKEN: frozenset(),
    EntryState.CANCELLED: frozenset(),
    EntryState.EXPIRED: frozenset(),
    EntryState.REFUSED: frozenset(),
}


class Mode(StrEnum):
    """What happens at the turn: the server is started, or the devices are kept until the person starts it."""

    START = "start"
    OFFER = "offer"


@dataclass(frozen=True)
class QueueLimits:
    """How long an entry may wait, in whole seconds, how many one person may have, and how many one device model."""

    wait_seconds: int = DAY_SECONDS
    per_person: int = 5
    per_model: int = 5_000


WAITABLE = frozenset({Code.POOL_FULL, Code.RESERVED_SOON, Code.QUEUE_AHEAD})
"""Refusals of what is within the project's rights: devices are wanting, and they will come."""

OWN_REASONS: dict[Code, tuple[str, str]] = {
    Code.CEILING: ("과제의 동시 한도를 모두 사용 중입니다", "the project runs as much at once as it may"),
    Code.BORROW_LIMIT: ("과제의 대여 가능량을 모두 사용 중입니다", "the project borrows as much as it may"),
    Code.BUDGET_SHORT: ("과제의 잔여량이 부족합니다", "what is left of the project's budget is too little"),
    Code.ALREADY_RUNNING: ("이 과제에서 서버가 이미 열려 있습니다", "a server on the project is open already"),
    Code.AWARD_SUSPENDED: ("과제의 배정이 일시 정지되었습니다", "the project's award is suspended"),
    Code.AWARD_NOT_STARTED: ("과제의 배정이 아직 시작되지 않았습니다", "the project's award has not started"),
}
"""What keeps an entry from its turn and nobody else, in Korean and English: others pass it until it is cured.

Every other refusal is one that waiting does not cure, and ends the entry.
"""

PASSED_OVER: dict[Code, tuple[str, str]] = {
    **OWN_REASONS,
    Code.POOL_FULL: ("지금은 한 자원에 이만큼의 장치가 없습니다", "no pool has as many devices as things stand"),
    Code.RESERVED_SOON: ("비어 있는 장치가 곧 예약됩니다", "the devices that are free are reserved soon"),
}
"""Why others pass an entry, all of them: with what no project can help."""


@dataclass(frozen=True)
class Share:
    """What a project has used, with what is held for it (GFLOPS·s, decayed to now), and its award's rate."""

    use: float
    award_gflops: int

    def with_held(self, amount: int) -> Share:
        """Return the share after `amount` more was held."""
        return Share(self.use + amount, self.award_gflops)

    @property
    def factor(self) -> float:
        """F of :mod:`quotas.domain.fair_share`: the larger, the sooner."""
        return fair_share.factor(self.use, self.award_gflops)


@dataclass(frozen=True)
class Waiting:
    """An entry as the order reads it; `seconds` is a batch run's length, `blocked_by` the project's own reason."""

    run_id: str
    project: str
    wish: Priority
    joined_at: int
    device_count: int
    seconds: int | None = None
    blocked_by: str | None = None


def in_order(waiting: Iterable[Waiting], shares: Mapping[str, Share]) -> list[Waiting]:
    """Return the entries in the order in which their turns come; a project without a share comes last of its class."""
    factors = {project: share.factor for project, share in shares.items()}

    def key(entry: Waiting) -> tuple[int, float, int, str]:
        return RANK[entry.wish], -factors.get(entry.project, 0.0), entry.joined_at, entry.run_id

    return sorted(waiting, key=key)


def looked_at(waiting: Sequence[Waiting], most: int, now: int) -> frozenset[str]:
    """Return up to `most` of the entries, drawn by the instant: in time each is asked about, wherever it stands.

    What bars an entry by its own fault, or bars it no more, is so found also while nothing is free.
    """
    if len(waiting) <= most:
        return frozenset(entry.run_id for entry in waiting)
    by_id = sorted(entry.run_id for entry in waiting)
    first = zlib.crc32(str(now).encode()) % len(by_id)
    return frozenset((by_id + by_id)[first : first + most])


@dataclass
class Place:
    """The devices of one model in one pool: how many can be used at all, and how many of them nobody has now."""

    pool_id: int
    usable: int
    free: int


@dataclass
class Room:
    """What is free at one step, and which pools' devices are kept for those who come before."""

    places: Sequence[Place]
    kept: set[int] = field(default_factory=set)
    kept_but_lent: set[int] = field(default_factory=set)
    """Kept for someone who may have them back, and for whom nothing is on its way yet."""

    def closed_to(self, entry: Waiting) -> frozenset[int]:
        """Return the pools of which the entry may take nothing."""
        if entry.wish is Priority.OPPORTUNISTIC:
            return frozenset(self.kept)
        return frozenset(self.kept | self.kept_but_lent)

    def has_room(self, entry: Waiting) -> bool:
        """Return whether a pool that is open to the entry has devices enough for it."""
        closed = self.closed_to(entry)
        return any(place.free >= entry.device_count for place in self.places if place.pool_id not in closed)

    def could_hold(self, entry: Waiting) -> bool:
        """Return whether a pool has as many devices as the entry needs, free or not."""
        return any(place.usable >= entry.device_count for place in self.places)

    def keep(self, entry: Waiting, *, lent: bool) -> None:
        """What comes free where the entry could start is kept for it; `lent`: idle devices may be used meanwhile."""
        pools = {place.pool_id for place in self.places if place.usable >= entry.device_count}
        if lent:
            self.kept_but_lent |= pools
        else:
            self.kept |= pools

    def take(self, pool_id: int | None, devices: int) -> None:
        """The devices are not free any more."""
        for place in self.places:
            if place.pool_id == pool_id:
                place.free -= devices
