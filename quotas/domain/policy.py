"""Lengths and limits that every decision of the engine uses; an operator sets them (see :mod:`quotas.settings`)."""

from __future__ import annotations

from dataclasses import dataclass

from quotas.domain.units import PPM


@dataclass(frozen=True)
class Policy:
    """Lengths in whole seconds, shares in parts per million.

    A notebook's hold covers `hold` + `stop_margin`; it is extended when less than `extend_below` is left of it. When
    it cannot be, the person is warned and the server is stopped `stop_margin` before its end. A first hold that
    would cover less than `minimum` is refused.

    A project may borrow idle devices up to `borrow_limit_ppm` of its ceiling beyond the ceiling. A borrowed run may be
    preempted once it has run for `borrow_minimum`, an opportunistic one at any time; both are told `preempt_notice`
    before. A turn in the queue is kept for `offer`. The seats of a reservation's window can be claimed from
    `seats_early` before its start; unclaimed ones are released `seats_release` after it. An idle server is told
    `idle_notice` before it is stopped; one that lost a device is stopped `loss_grace` after that. A machine that
    has not reported for `node_silence` is silent.
    """

    hold: int = 1800
    stop_margin: int = 120
    extend_below: int = 1320
    minimum: int = 600
    borrow_limit_ppm: int = PPM
    borrow_minimum: int = 1800
    preempt_notice: int = 300
    offer: int = 600
    seats_early: int = 600
    seats_release: int = 900
    idle_notice: int = 600
    loss_grace: int = 900
    node_silence: int = 180

    @property
    def horizon(self) -> int:
        """How far ahead a shortage of devices decides who is extended no further: nobody's hold reaches beyond."""
        return self.hold + self.stop_margin + self.preempt_notice
