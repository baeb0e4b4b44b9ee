"""When a server is idle, from facts alone; and that none that works is ever called so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quotas.domain.idleness import (
    ASLEEP_PPM,
    FRESH_SECONDS,
    DeviceReading,
    Facts,
    Limits,
    Metered,
    ServerReport,
    Then,
    Verdict,
    idle_since,
    is_spared,
    last_active,
    look,
    outcome_of,
)
from quotas.domain.metering import BUCKET_SECONDS
from quotas.domain.runs import Outcome
from quotas.domain.units import PPM

HOUR = 3600
NOW = 500_000 * HOUR
BEGAN = NOW - 10 * HOUR
LIMITS = Limits(2 * HOUR, 600)
ASLEEP, BUSY = 0, 900_000
BUCKET_MS = BUCKET_SECONDS * 1000
QUIET = Facts(
    BEGAN,
    report=ServerReport(NOW - 30, 0, NOW - 5 * HOUR),
    hub_active_at=NOW,
    devices=1,
    readings=(DeviceReading(NOW - 10, ASLEEP),),
)
"""A page is open, and nothing has been done for five hours."""


def bucket(at: int, busy_ppm: int, share: float = 1.0) -> Metered:
    measured = int(BUCKET_MS * share)
    return Metered(at, measured, measured * busy_ppm // PPM)


def then(facts: Facts, stop_at: int | None = None, limits: Limits = LIMITS, now: int = NOW) -> Then:
    return look(facts, stop_at, limits, now).then


def test_a_sleeping_device_is_idle_though_a_page_is_open() -> None:
    assert idle_since(QUIET, NOW) == NOW - 5 * HOUR
    assert look(QUIET, None, LIMITS, NOW) == Verdict(Then.MARK, NOW - 5 * HOUR, NOW + 600)
    assert then(QUIET, limits=Limits(None, 600)) is Then.KEEP


def test_the_end_is_set_a_notice_before_the_limit() -> None:
    active_at = NOW - 2 * HOUR + 600
    facts = replace(QUIET, report=ServerReport(NOW, 0, active_at))
    assert look(facts, None, LIMITS, NOW) == Verdict(Then.MARK, active_at, active_at + 2 * HOUR)
    assert then(facts, now=NOW - 1) is Then.KEEP


def test_a_limit_below_twice_the_notice_is_told_after_half_of_it() -> None:
    limits = Limits(400, 600)
    facts = replace(QUIET, report=ServerReport(NOW, 0, NOW - 200))
    assert look(facts, None, limits, NOW) == Verdict(Then.MARK, NOW - 200, NOW + 600)
    assert then(facts, limits=limits, now=NOW - 1) is Then.KEEP
    later = replace(facts, report=ServerReport(NOW + 300, 0, NOW + 250))
    assert then(later, NOW + 600, limits, NOW + 300) is Then.CLEAR


WORKING = {
    "a kernel computes": replace(QUIET, report=ServerReport(NOW - 30, 1, NOW - 5 * HOUR)),
    "a kernel computed when it fell silent": replace(QUIET, report=ServerReport(NOW - 3 * HOUR, 1)),
    "a terminal did something": replace(QUIET, report=ServerReport(NOW - 30, 0, NOW - HOUR)),
    "its device is busy": replace(QUIET, readings=(DeviceReading(NOW - 10, BUSY),)),
    "one of its devices is busy": replace(
        QUIET, devices=2, readings=(DeviceReading(NOW - 10, ASLEEP), DeviceReading(NOW - 10, ASLEEP_PPM + 1))
    ),
    "its device was busy when it fell silent": replace(QUIET, readings=(DeviceReading(NOW - 9 * HOUR, BUSY),)),
    "its device was busy an hour ago": replace(QUIET, metered=(bucket(NOW - HOUR, BUSY),)),
    "its device was busy before a gap that ended just now": replace(
        QUIET, metered=(bucket(NOW - 4 * HOUR, BUSY), bucket(NOW - HOUR, ASLEEP))
    ),
    "its meters were busy, and nobody reads it": replace(QUIET, readings=(), metered=(bucket(NOW - 4 * HOUR, BUSY),)),
    "one of eight devices was busy": replace(QUIET, devices=8, metered=(bucket(NOW - HOUR, BUSY // 70),)),
    "its person needs it": replace(QUIET, kept_at=NOW - HOUR),
    "it has just started": replace(QUIET, started_at=NOW - HOUR, report=ServerReport(NOW, 0)),
    "it is being prepared": replace(QUIET, started_at=None),
    "it says nothing of itself, and the hub sees it": replace(QUIET, report=None),
    "it says nothing any more, and the hub sees it": replace(QUIET, report=ServerReport(NOW - HOUR, 0, NOW - 5 * HOUR)),
    "nobody says anything of it": replace(QUIET, report=None, hub_active_at=None),
    "nobody has said anything of it for long": replace(
        QUIET, report=ServerReport(NOW - HOUR, 0, NOW - 5 * HOUR), hub_active_at=None
    ),
}


@pytest.mark.parametrize("facts", WORKING.values(), ids=WORKING)
def test_what_works_or_may_work_is_not_idle(facts: Facts) -> None:
    assert then(facts) is Then.KEEP
    assert then(facts, NOW - 1) is Then.CLEAR
    assert then(facts, NOW + 500) is Then.CLEAR


ASLEEP_ALL_THE_SAME = {
    "its device cannot be read": replace(QUIET, readings=()),
    "its agent is silent": replace(QUIET, readings=(DeviceReading(NOW - 9 * HOUR, ASLEEP),)),
    "its device is asked now and then": replace(QUIET, readings=(DeviceReading(NOW, ASLEEP_PPM),)),
    "it has no device": replace(QUIET, devices=0, readings=()),
    "it says nothing, and the hub has not seen it for long": replace(QUIET, report=None, hub_active_at=NOW - 3 * HOUR),
    "its device was busy three hours ago": replace(QUIET, metered=(bucket(NOW - 3 * HOUR, BUSY),)),
    "only what was not measured followed": replace(
        QUIET, metered=(bucket(NOW - 4 * HOUR, ASLEEP), bucket(NOW - HOUR, BUSY, share=0.0))
    ),
    "its person needed it yesterday": replace(QUIET, kept_at=NOW - 9 * HOUR),
}


@pytest.mark.parametrize("facts", ASLEEP_ALL_THE_SAME.values(), ids=ASLEEP_ALL_THE_SAME)
def test_where_only_kernels_and_terminals_are_known_they_decide(facts: Facts) -> None:
    assert then(facts) is Then.MARK
    assert then(facts, NOW) is Then.STOP
    assert then(facts, NOW + 1) is Then.KEEP


def test_work_after_the_end_was_set_takes_it_back() -> None:
    stop_at = NOW + 600
    worked = replace(QUIET, report=ServerReport(NOW + 60, 0, NOW + 50))
    assert then(worked, stop_at, now=NOW + 60) is Then.CLEAR
    assert is_spared(worked, stop_at, LIMITS, NOW + 60)
    assert not is_spared(QUIET, stop_at, LIMITS, NOW + 60)
    assert is_spared(replace(QUIET, kept_at=NOW + 1), stop_at, LIMITS, NOW + 60)
    assert is_spared(QUIET, stop_at, Limits(None, 600), NOW)


def test_a_late_look_sees_work_in_between() -> None:
    """Nobody looked for three hours after the end was set: the work since then counts, however long ago."""
    worked = replace(QUIET, report=ServerReport(NOW + 3 * HOUR, 0, NOW + 300))
    assert then(worked, NOW + 600, now=NOW + 3 * HOUR) is Then.CLEAR
    assert then(worked, None, now=NOW + 3 * HOUR) is Then.MARK


def test_silence_of_the_hub_spares_only_who_is_known_to_work() -> None:
    alone = replace(QUIET, report=None, hub_active_at=None)
    assert not is_spared(alone, NOW + 600, LIMITS, NOW)
    assert is_spared(replace(alone, readings=(DeviceReading(NOW, BUSY),)), NOW + 600, LIMITS, NOW)


def test_clocks_that_are_ahead_are_not_believed() -> None:
    ahead = replace(QUIET, report=ServerReport(NOW + 50, 0, NOW + 10**6))
    assert last_active(ahead, NOW) == NOW


@pytest.mark.parametrize("outcome", Outcome)
def test_what_ends_after_its_idle_end_was_idle_whoever_ended_it(outcome: Outcome) -> None:
    by_anyone = outcome in {Outcome.STOPPED, Outcome.EXITED, Outcome.STRAY}
    assert outcome_of(outcome, 1000, 1000.2) is (Outcome.IDLE if by_anyone else outcome)
    assert outcome_of(outcome, 1000, 999.9) is outcome
    assert outcome_of(outcome, None, 1000.2) is outcome
    assert outcome_of(outcome, 1000, None) is outcome


INSTANTS = st.integers(BEGAN, NOW)
MAYBE = st.none() | INSTANTS


@st.composite
def any_facts(draw: st.DrawFn) -> Facts:
    """Anything that could be known of a server."""
    reports = st.builds(ServerReport, INSTANTS, st.integers(0, 3), MAYBE)
    readings = st.lists(st.builds(DeviceReading, INSTANTS, st.integers(0, PPM)), max_size=3)
    starts = st.lists(st.integers(0, 119), max_size=6, unique=True).map(sorted)
    metered = tuple(
        bucket(BEGAN + start * BUCKET_SECONDS, draw(st.integers(0, PPM)), draw(st.sampled_from([0.0, 0.5, 1.0])))
        for start in draw(starts)
    )
    return Facts(
        draw(MAYBE),
        draw(MAYBE),
        draw(st.none() | reports),
        draw(MAYBE),
        draw(st.integers(0, 8)),
        tuple(draw(readings)),
        metered,
    )


@st.composite
def working(draw: st.DrawFn) -> Facts:
    """A server of which some one fact says that it works, or worked within the time that is allowed."""
    facts = draw(any_facts())
    lately = draw(st.integers(NOW - LIMITS.told_after + 1, NOW))
    started = BEGAN if facts.started_at is None else facts.started_at
    report = facts.report or ServerReport(lately, 0)
    ways = (
        {"started_at": None},
        {"started_at": lately},
        {"kept_at": lately},
        {"report": replace(report, busy_kernels=draw(st.integers(1, 9)))},
        {"report": replace(report, active_at=lately)},
        {"readings": (*facts.readings, DeviceReading(lately, draw(st.integers(ASLEEP_PPM + 1, PPM))))},
        {"metered": (*facts.metered, bucket(lately - lately % BUCKET_SECONDS, BUSY))},
        {"report": None, "hub_active_at": lately},
        {"report": None, "hub_active_at": None},
    )
    return replace(facts, **({"started_at": started} | draw(st.sampled_from(ways))))


@settings(max_examples=1000, deadline=None)
@given(working(), st.none() | st.integers(NOW - HOUR, NOW + HOUR))
def test_a_thousand_servers_that_work_are_neither_told_nor_stopped(facts: Facts, stop_at: int | None) -> None:
    assert then(facts, stop_at) is (Then.KEEP if stop_at is None else Then.CLEAR)


@settings(max_examples=300, deadline=None)
@given(any_facts(), any_facts())
def test_to_know_of_more_work_never_makes_idle(one: Facts, other: Facts) -> None:
    """What was metered, read or said in addition can only speak for a server."""
    more = replace(one, metered=one.metered or other.metered, kept_at=one.kept_at or other.kept_at)
    before, after = last_active(one, NOW), last_active(more, NOW)
    assert (before is None) == (after is None)
    assert before is None or after is None or after >= before


@settings(max_examples=300, deadline=None)
@given(any_facts(), st.integers(60, 10 * HOUR), st.integers(1, 2 * HOUR))
def test_everyone_is_told_a_notice_before(facts: Facts, idle: int, notice: int) -> None:
    limits = Limits(idle, notice)
    verdict = look(facts, None, limits, NOW)
    if verdict.then is Then.MARK:
        assert verdict.stop_at >= NOW + notice
        assert verdict.stop_at >= verdict.since + idle
        assert then(facts, verdict.stop_at, limits) is Then.KEEP
        assert then(facts, verdict.stop_at, limits, verdict.stop_at) in {Then.STOP, Then.CLEAR}


# A server as it is, beside what is told of it.

MINUTE = 60
LENGTH = 8 * HOUR
SHORT = Limits(HOUR, 600)


@dataclass(frozen=True)
class Life:
    """What a server does from `BEGAN` on, in minutes of its life, and in which minutes its agent and it are silent."""

    kernel: frozenset[int]
    device: frozenset[int]
    no_agent: frozenset[int]
    no_report: frozenset[int]

    def facts(self, minute: int) -> Facts:
        """Return what the platform knows at the end of `minute`."""
        said = max((each for each in range(minute + 1) if each not in self.no_report), default=None)
        read = max((each for each in range(minute + 1) if each not in self.no_agent), default=None)
        report = None
        if said is not None:
            report = ServerReport(at(said), int(said in self.kernel), self._done(said))
        readings = () if read is None else (DeviceReading(at(read), BUSY if read in self.device else ASLEEP),)
        seen_by_hub = self._done(minute) or BEGAN  # which the notebook server itself tells what its kernels print
        return Facts(BEGAN, None, report, seen_by_hub, 1, readings, self.meters(minute))

    def _done(self, minute: int) -> int | None:
        """When a kernel did something last, up to the minute."""
        return max((at(each) for each in self.kernel if each <= minute), default=None)

    def meters(self, minute: int) -> tuple[Metered, ...]:
        found = []
        for first in range(0, minute + 1, 5):
            seen = [each for each in range(first, min(first + 5, minute + 1)) if each not in self.no_agent]
            busy = sum(each in self.device for each in seen)
            found.append(Metered(BEGAN + first * MINUTE, len(seen) * MINUTE * 1000, busy * MINUTE * 1000))
        return tuple(found)

    def began_unseen(self) -> bool:
        """Whether its device began to work while its agent was silent: this alone nobody can know."""
        minutes = pairwise(range(LENGTH // MINUTE))
        return any(now in self.device & self.no_agent and before not in self.device for before, now in minutes)


def at(minute: int) -> int:
    return BEGAN + (minute + 1) * MINUTE


@st.composite
def stretches(draw: st.DrawFn, most: int) -> frozenset[int]:
    found: set[int] = set()
    for _ in range(draw(st.integers(0, most))):
        first = draw(st.integers(1, LENGTH // MINUTE - 1))
        found |= set(range(first, min(first + draw(st.integers(1, 200)), LENGTH // MINUTE)))
    return frozenset(found)


LIVES = st.builds(Life, stretches(3), stretches(3), stretches(2), stretches(2)).filter(
    lambda life: not life.began_unseen()
)


@settings(max_examples=120, deadline=None)
@given(LIVES, st.integers(1, 7))
def test_over_a_whole_life_nobody_is_stopped_within_the_limit_of_work(life: Life, pace: int) -> None:
    """Looked at every few minutes, with the agent and the server silent for hours, whoever is stopped was idle.

    What began so shortly before the end that nobody could say it yet is left out.
    """
    stop_at = None
    for minute in range(0, LENGTH // MINUTE, pace):
        now, facts = at(minute), life.facts(minute)
        verdict = look(facts, stop_at, SHORT, now)
        if verdict.then is Then.STOP:
            worked = [each for each in (*life.kernel, *life.device) if at(each) < now - FRESH_SECONDS]
            assert now - at(max(worked, default=-1)) >= (SHORT.idle_seconds or 0)
            return
        if verdict.then is Then.MARK:
            stop_at = verdict.stop_at
        if verdict.then is Then.CLEAR:
            stop_at = None
    assert life.kernel or life.device or life.no_report, "what never did anything is stopped in the end"
