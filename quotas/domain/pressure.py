"""Who is extended no further when a pool will have fewer devices than are held: nobody is stopped inside a hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from quotas.domain.priorities import Holder, who_gives_way


@dataclass(frozen=True)
class Held:
    """A run that holds devices of the pool. `rolls`: its hold is extended, so that it can be asked to end.

    `over_at` is when it ends without being asked: with its full length, with its award, or as it gives borrowed
    devices back.
    """

    holder: Holder
    rolls: bool
    over_at: int

    def goes_on(self, at: int) -> bool:
        """Whether it would hold its devices beyond `at`, unless it is asked to end."""
        return self.over_at > at


@dataclass(frozen=True)
class Supply:
    """From `at` on `devices` may be held by runs: those that are healthy, neither drained nor kept for seats."""

    at: int
    devices: int


def who_ends(held: Sequence[Held], supplies: Iterable[Supply]) -> dict[str, int]:
    """Return which runs are extended no further than when: run → the instant of the first shortage that asks it to.

    Nobody is asked in vain, and of those who can be asked, those who give way first by the one order are. Where all
    of them are not enough, all are asked: what is left is held at its full length, and ends with that.
    """
    ends: dict[str, int] = {}
    for supply in sorted(supplies, key=lambda each: each.at):
        going = [each for each in held if each.holder.run_id not in ends and each.goes_on(supply.at)]
        shortage = sum(each.holder.device_count for each in going) - supply.devices
        if shortage > 0:
            may_be_asked = [each.holder for each in going if each.rolls]
            chosen = who_gives_way(shortage, may_be_asked)
            ends |= {each.run_id: supply.at for each in (may_be_asked if chosen is None else chosen)}
    return ends
