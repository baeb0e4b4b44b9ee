"""The waiting queue: the states of an entry and what a person chose to happen at their turn."""

from __future__ import annotations

from enum import StrEnum


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
