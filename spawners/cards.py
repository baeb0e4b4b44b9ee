"""Offers and runs in the words of a page: everything a template shows, already written for people.

Pure: the templates only place these texts, and what a project or profile is called is escaped there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from quotas.domain.admission import Admitted
from quotas.domain.projects import Phase
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import Limit, TimeLeft
from quotas.domain.units import HOUR_SECONDS, show_budget, show_duration, show_instant
from quotas.services.offers import ProfileOffer, ProjectOffer
from quotas.services.queue_texts import Shown
from quotas.services.queue_views import Wait
from spawners.language import N_, Translator

PHASES = {
    Phase.APPLIED: N_("under review"),
    Phase.REJECTED: N_("rejected"),
    Phase.SCHEDULED: N_("not started"),
    Phase.ACTIVE: N_("active"),
    Phase.NEARLY_SPENT: N_("nearly spent"),
    Phase.EXHAUSTED: N_("spent"),
    Phase.SUSPENDED: N_("suspended"),
    Phase.REVOKED: N_("revoked"),
    Phase.GRACE: N_("ended, files kept"),
    Phase.ENDED: N_("ended"),
    Phase.CLOSED: N_("closed"),
}
ROLES = {
    "pi": N_("principal investigator"),
    "member": N_("member"),
    "instructor": N_("instructor"),
    "learner": N_("learner"),
}
LIMITS = {
    Limit.WINDOW: N_("the rolling hold"),
    Limit.BUDGET: N_("the project's budget"),
    Limit.AWARD_END: N_("the end of the award"),
    Limit.TIMEOUT: N_("the time limit"),
    Limit.RIGHTS: N_("your rights on the project"),
    Limit.SUSPENDED: N_("the award is suspended"),
    Limit.CAPACITY: N_("its devices are reserved or out of use then"),
    Limit.SEAT: N_("the reserved time ends"),
    Limit.PREEMPTED: N_("borrowed devices are wanted back"),
    Limit.IDLE: N_("it computes nothing"),
    Limit.SESSION: N_("it has to be extended by its person"),
    Limit.DEVICE_LOST: N_("it lost its device"),
}
_OF_THE_PROJECT = frozenset(
    {
        Code.PERSON_UNKNOWN,
        Code.PROJECT_UNKNOWN,
        Code.NOT_A_MEMBER,
        Code.ROLE_MAY_NOT,
        Code.PROJECT_NOT_APPROVED,
        Code.PROJECT_ENDED,
        Code.AWARD_NOT_STARTED,
        Code.AWARD_ENDED,
        Code.ALREADY_RUNNING,
    }
)
"""Refusals that hold for every profile alike, so that one sentence says it."""

_GIBIBYTE = 2**30


@dataclass(frozen=True)
class Reason:
    """A refusal as a page shows it: what and why, what to do now, and from when it would pass."""

    code: str
    message: str
    next_step: str
    earliest: str | None


@dataclass(frozen=True)
class ProfileCard:
    """One profile to choose. `facts` are (label, value) pairs; `reason` is None when it can be started."""

    code: str
    name: str
    facts: tuple[tuple[str, str], ...]
    reason: Reason | None
    chosen: bool
    has_devices: bool


@dataclass(frozen=True)
class Unavailable:
    """Profiles that cannot be started for reasons of one kind, with the one thing to do about it."""

    code: str
    next_step: str
    earliest: str | None
    profiles: tuple[ProfileCard, ...]


@dataclass(frozen=True)
class Budget:
    """A project's budget for a meter: shares of 1000, and the same in words. None of it is negative."""

    used_permille: int
    held_permille: int
    left: str
    granted: str
    held: str
    share_left: str


@dataclass(frozen=True)
class Longest:
    """For how long a project's balance lasts, with the profile that lasts longest."""

    seconds: int
    time: str
    profile: str


@dataclass(frozen=True)
class WaitCard:
    """A profile for which the person could wait, or start on idle devices: its place in the line and what to expect."""

    code: str
    name: str
    position: int
    expected: str | None
    wish: str


@dataclass(frozen=True)
class ProjectCard:
    """One project: what it is, what is left of it, and its profiles. `reason` stands where nothing can start.

    `place` is where the person waits for a server on it; `waits` and `borrows` are for what they could wait, and what
    they could start now on idle devices.
    """

    code: str
    title: str
    role: str
    phase: str
    ends: str | None
    budget: Budget | None
    profiles: tuple[ProfileCard, ...]
    reason: Reason | None
    longest: Longest | None
    open_run: bool
    place: Shown | None = None
    waits: tuple[WaitCard, ...] = ()
    borrows: tuple[WaitCard, ...] = ()
    last_profile: str | None = None

    @property
    def wants_to_wait(self) -> bool:
        """Whether there is nothing else to do, or what the person asked for last is what they could wait for."""
        return not self.available or any(wait.code == self.last_profile for wait in (*self.waits, *self.borrows))

    @property
    def has_devices(self) -> bool:
        """Whether one of the profiles that can be started has devices, which can be asked for less firmly too."""
        return any(profile.has_devices for profile in self.available)

    @property
    def can_start(self) -> bool:
        return bool(self.available)

    @property
    def available(self) -> tuple[ProfileCard, ...]:
        return tuple(profile for profile in self.profiles if profile.reason is None)

    @property
    def unavailable(self) -> tuple[Unavailable, ...]:
        """The other profiles, those with the same way on together."""
        groups: dict[tuple[str, str, str | None], list[ProfileCard]] = {}
        for profile in self.profiles:
            if profile.reason is not None:
                why = profile.reason
                groups.setdefault((why.code, why.next_step, why.earliest), []).append(profile)
        return tuple(Unavailable(*key, tuple(profiles)) for key, profiles in groups.items())


@dataclass(frozen=True)
class Queue:
    """What the queue has to do with one project of the person's, at `now`."""

    now: int
    place: Shown | None = None
    waits: tuple[Wait, ...] = ()


@dataclass(frozen=True)
class Remaining:
    """How long a server can go on: the time, which limit binds, and when that is."""

    seconds: int
    time: str
    limit: str
    until: str


def reason(refused: Refused, language: str) -> Reason:
    """Return the refusal in the page's language."""
    earliest = None if refused.earliest_at is None else show_instant(refused.earliest_at)
    return Reason(refused.code.value, refused.message(language), refused.next_step(language), earliest)


def project_card(
    offer: ProjectOffer, translate: Translator, last_profile: str | None = None, queue: Queue | None = None
) -> ProjectCard:
    """Return the card of one project; `last_profile` is preselected, else the first profile that can be started."""
    chosen = _chosen(offer.profiles, last_profile)
    whole = _reason_of_all(offer.profiles)
    return ProjectCard(
        code=offer.code,
        title=offer.title_ko if translate.language == "ko" else offer.title_en,
        role=translate(ROLES[offer.role]),
        phase=translate(PHASES[offer.phase]),
        ends=None if offer.ends_at is None else show_instant(offer.ends_at),
        budget=budget(offer) if offer.granted > 0 else None,
        profiles=tuple(_profile_card(each, translate, each.code == chosen) for each in offer.profiles),
        reason=None if whole is None else reason(whole, translate.language),
        longest=_longest(offer.profiles, translate.language),
        open_run=offer.open_run is not None,
        last_profile=last_profile,
        place=None if queue is None else queue.place,
        waits=() if queue is None else tuple(_wait_cards(offer, queue, translate, starts=False)),
        borrows=() if queue is None else tuple(_wait_cards(offer, queue, translate, starts=True)),
    )


def _wait_cards(offer: ProjectOffer, queue: Queue, translate: Translator, *, starts: bool) -> Iterable[WaitCard]:
    ko = translate.language == "ko"
    names = {each.code: each.name_ko if ko else each.name_en for each in offer.profiles}
    for wait in queue.waits:
        if wait.starts is starts:
            expected = None if wait.estimate is None else wait.estimate.sentence(translate.language, queue.now)
            yield WaitCard(wait.profile, names[wait.profile], wait.position, expected, wait.wish.value)


def _longest(profiles: Iterable[ProfileOffer], language: str) -> Longest | None:
    available = [profile for profile in profiles if profile.available]
    if not available:
        return None
    best = max(available, key=lambda profile: profile.affordable_seconds)
    name = best.name_ko if language == "ko" else best.name_en
    return Longest(best.affordable_seconds, rough_duration(best.affordable_seconds, language), name)


def _chosen(profiles: Iterable[ProfileOffer], last_profile: str | None) -> str | None:
    available = [profile.code for profile in profiles if profile.available]
    if last_profile in available:
        return last_profile
    return available[0] if available else None


def _reason_of_all(profiles: Iterable[ProfileOffer]) -> Refused | None:
    refusals = [profile.decision for profile in profiles if isinstance(profile.decision, Refused)]
    first = refusals[0] if refusals else None
    return first if first is not None and first.code in _OF_THE_PROJECT else None


def budget(offer: ProjectOffer) -> Budget:
    """Return the meter of a project that was granted something."""
    held = _permille(offer.held, offer.granted)
    left = _permille(offer.available, offer.granted)
    return Budget(
        used_permille=max(1000 - held - left, 0),
        held_permille=held,
        left=show_budget(offer.available),
        granted=show_budget(offer.granted),
        held=show_budget(offer.held),
        share_left=f"{left / 10:.1f} %",
    )


def _permille(part: int, whole: int) -> int:
    return min(max(part * 1000 // whole, 0), 1000)


def _profile_card(offer: ProfileOffer, translate: Translator, chosen: bool) -> ProfileCard:
    refused = offer.decision if isinstance(offer.decision, Refused) else None
    return ProfileCard(
        code=offer.code,
        name=offer.name_ko if translate.language == "ko" else offer.name_en,
        facts=tuple(_facts(offer, translate)),
        reason=None if refused is None else reason(refused, translate.language),
        chosen=chosen,
        has_devices=offer.device_model is not None,
    )


def _facts(offer: ProfileOffer, translate: Translator) -> Iterable[tuple[str, str]]:
    if offer.device_model is not None:
        yield translate("Device"), f"{offer.device_name or offer.device_model}\u00a0×\u00a0{offer.device_count}"
    yield translate("CPU cores"), f"{offer.cpu_millis / 1000:g}"
    yield translate("Memory"), f"{offer.memory_bytes / _GIBIBYTE:,.4g} GiB"
    yield translate("Storage"), f"{offer.storage_bytes / _GIBIBYTE:,.4g} GiB"
    if offer.gflops is not None:
        yield translate("Charge per hour"), show_budget(offer.gflops * HOUR_SECONDS)
    if offer.free_devices is not None:
        yield translate("Free now"), f"{offer.free_devices}"
    if offer.available:
        yield translate("Affordable for"), rough_duration(offer.affordable_seconds, translate.language)
    if isinstance(offer.decision, Admitted) and offer.decision.window_id is not None:
        yield translate("A seat is kept for you until"), show_instant(offer.decision.until_at)
    elif isinstance(offer.decision, Admitted) and offer.decision.ends_by is not None:
        yield translate("Free until"), show_instant(offer.decision.ends_by)


def rough_duration(seconds: int, language: str) -> str:
    """Write a length of time as exactly as it matters: from ten hours on in whole hours, rounded down."""
    whole = seconds // HOUR_SECONDS
    if whole < 10:
        return show_duration(seconds, language)
    return f"{whole:,}시간" if language == "ko" else f"{whole:,} h"


def remaining(left: TimeLeft, now: int, translate: Translator) -> Remaining:
    """Return how long a run may go on as things stand at `now`, and what ends it."""
    return Remaining(
        seconds=left.seconds,
        time=rough_duration(left.seconds, translate.language),
        limit=translate(LIMITS[left.limit]),
        until=show_instant(now + left.seconds),
    )
