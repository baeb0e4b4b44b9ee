"""The one decision: may this person start this profile on this project now, and how much is held for it?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from quotas.domain.people import MEMBERSHIP_RIGHTS, MembershipRole
from quotas.domain.policy import Policy
from quotas.domain.priorities import BEYOND_THE_CEILING, WISHES, Priority
from quotas.domain.projects import ProjectState
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import RunKind
from quotas.domain.units import LARGEST, PPM, InvalidValue, amount, show_budget, show_duration, show_instant, show_rate

_NEVER = 2 * LARGEST
"""Later than any instant that a request can reach."""
_LONGEST_NAME = 80
"""Longer than any name of a person, project or profile."""


def _no_name(text: str) -> str:
    """Return what no person, project or profile is called, for a text that no table could hold."""
    return text[:_LONGEST_NAME].encode("unicode_escape").decode("ascii")[: _LONGEST_NAME + 1]


@dataclass(frozen=True)
class Request:
    """Who asks for what. `run_id` is the request's identity: the same one is answered once.

    `seconds` is the full length of a batch run (its time limit), and None for a notebook, whose hold rolls. `wish` is
    what the person is content with: their ceiling, more than that where there is idle capacity, or idle capacity only.
    `in_turn`: it has waited, and nobody is before it. Raises InvalidValue for a batch run without a length, or with
    one that is not above zero, and for a wish that nobody may have.
    """

    run_id: str
    kind: RunKind
    person: str
    project: str
    profile: str
    seconds: int | None = None
    door: str = ""
    wish: Priority = Priority.GUARANTEED
    in_turn: bool = False

    def __post_init__(self) -> None:
        if self.wish not in WISHES:
            known = ", ".join(WISHES)
            raise InvalidValue("wish", f"must be one of {known}", f"다음 중 하나여야 합니다: {known}")
        if self.kind is RunKind.BATCH:
            amount("seconds", self.seconds)
        elif self.seconds is not None:
            raise InvalidValue("seconds", "a notebook has no length", "노트북에는 실행 길이를 지정할 수 없습니다")
        for field, name in (("person", self.person), ("project", self.project), ("profile", self.profile)):
            if len(name) > _LONGEST_NAME or not name.isprintable():
                object.__setattr__(self, field, _no_name(name))


@dataclass(frozen=True)
class AllocationSituation:
    """What the project's allocation allows now. Rates in GFLOPS, `available` in GFLOPS·s, instants in seconds UTC."""

    id: int
    starts_at: int
    ends_at: int
    ceiling_gflops: int
    in_use_gflops: int
    available: int
    beyond_gflops: int = 0
    suspended: bool = False
    revoked: bool = False


@dataclass(frozen=True)
class PoolEvent:
    """At `at` (seconds UTC) the pool's capacity or its reservations change: `room` devices are not spoken for then."""

    at: int
    room: int


@dataclass(frozen=True)
class PoolSituation:
    """One pool's devices of the model that the profile needs.

    `healthy` is without those that are drained; `reserved` are kept for seats that are not claimed yet; `events` are
    what changes within the longest hold that could be given now, in order of time.
    """

    id: int
    simulated: bool
    healthy: int
    in_use: int
    reserved: int = 0
    events: tuple[PoolEvent, ...] = ()

    def ends_by(self, devices: int) -> int | None:
        """Return the instant from which `devices` more do not fit; None where nothing is known to stand against it."""
        for event in self.events:
            if event.room < devices:
                return event.at
        return None


@dataclass(frozen=True)
class Seat:
    """A free seat for this person in a window of a reservation that is open now."""

    window_id: int
    pool_id: int
    ends_at: int


@dataclass(frozen=True)
class Situation:
    """All facts that the decision reads, of one moment. None stands for what there is not."""

    person_known: bool = True
    role: MembershipRole | None = None
    project_state: ProjectState | None = None
    allocation: AllocationSituation | None = None
    profile_known: bool = False
    profile_offered: bool = False
    device_model: str | None = None
    device_count: int = 0
    card_version: int | None = None
    gflops: int | None = None
    pools: tuple[PoolSituation, ...] = ()
    open_run: str | None = None
    seat: Seat | None = None
    waiting_before: int = 0
    session_seconds: int | None = None


@dataclass(frozen=True)
class Admitted:
    """The start is admitted: hold `amount` (GFLOPS·s) of `allocation_id` until `until_at` at `gflops`, in `pool_id`.

    `window_id` is of the reservation whose seat it takes. `ends_by`: from then on its devices are spoken for.
    """

    run_id: str
    allocation_id: int
    card_version: int
    gflops: int
    amount: int
    opened_at: int
    until_at: int
    pool_id: int | None = None
    device_model: str | None = None
    device_count: int = 0
    simulated: bool = False
    priority: Priority = Priority.GUARANTEED
    window_id: int | None = None
    ends_by: int | None = None


Decision = Admitted | Refused
Rule = Callable[[Request, Situation, int, Policy], Refused | None]


def _names(request: Request) -> dict[str, str | int]:
    return {"person": request.person, "project": request.project, "profile": request.profile}


def person_is_known(request: Request, situation: Situation, _now: int, _policy: Policy) -> Refused | None:
    """The person is registered."""
    return None if situation.person_known else Refused(Code.PERSON_UNKNOWN, _names(request))


def project_exists(request: Request, situation: Situation, _now: int, _policy: Policy) -> Refused | None:
    """The project exists."""
    return None if situation.project_state else Refused(Code.PROJECT_UNKNOWN, _names(request))


def person_is_member(request: Request, situation: Situation, _now: int, _policy: Policy) -> Refused | None:
    """The person is a member of the project, in a role that may do this."""
    if situation.role is None:
        return Refused(Code.NOT_A_MEMBER, _names(request))
    rights = MEMBERSHIP_RIGHTS[situation.role]
    allowed = rights.start if request.kind is RunKind.NOTEBOOK else rights.schedule
    return None if allowed else Refused(Code.ROLE_MAY_NOT, {**_names(request), "role": situation.role.value})


def project_is_approved(request: Request, situation: Situation, _now: int, _policy: Policy) -> Refused | None:
    """The project is approved and has not ended."""
    if situation.project_state is ProjectState.APPROVED:
        return None
    if situation.project_state is ProjectState.ENDED:
        return Refused(Code.PROJECT_ENDED, _names(request))
    return Refused(Code.PROJECT_NOT_APPROVED, {**_names(request), "state": str(situation.project_state or "none")})


def award_runs(request: Request, situation: Situation, now: int, _policy: Policy) -> Refused | None:
    """The award has started, has not ended, and is neither suspended nor revoked."""
    allocation = situation.allocation
    if allocation is None:
        return Refused(Code.PROJECT_ENDED, _names(request))
    if allocation.revoked:
        return Refused(Code.AWARD_REVOKED, _names(request))
    if now < allocation.starts_at:
        numbers = {**_names(request), "starts_at": show_instant(allocation.starts_at)}
        return Refused(Code.AWARD_NOT_STARTED, numbers, earliest_at=allocation.starts_at)
    if now >= allocation.ends_at:
        return Refused(Code.AWARD_ENDED, {**_names(request), "ends_at": show_instant(allocation.ends_at)})
    return Refused(Code.AWARD_SUSPENDED, _names(request)) if allocation.suspended else None


def profile_is_offered(request: Request, situation: Situation, _now: int, _policy: Policy) -> Refused | None:
    """The profile exists, is offered to the project and has a published rate."""
    if not situation.profile_known:
        return Refused(Code.PROFILE_UNKNOWN, _names(request))
    if not situation.profile_offered:
        return Refused(Code.PROFILE_NOT_OFFERED, _names(request))
    if situation.gflops is None or situation.card_version is None:
        return Refused(Code.PROFILE_UNRATED, _names(request))
    return None


def none_is_open(request: Request, situation: Situation, _now: int, _policy: Policy) -> Refused | None:
    """No server of this person on this project is open."""
    if situation.open_run is None:
        return None
    return Refused(Code.ALREADY_RUNNING, {**_names(request), "run": situation.open_run})


def priority_of(request: Request, situation: Situation) -> Priority:
    """Return the class that the run would have: a seat of the person's, else the firmest that fits their wish."""
    if situation.seat is not None:
        return Priority.RESERVED
    allocation, gflops = situation.allocation, situation.gflops
    if situation.device_model is None or request.wish is Priority.GUARANTEED or allocation is None or gflops is None:
        return Priority.GUARANTEED  # without a device nothing is borrowed from anyone
    if request.wish is Priority.OPPORTUNISTIC:
        return Priority.OPPORTUNISTIC
    within = allocation.in_use_gflops + gflops <= allocation.ceiling_gflops
    return Priority.GUARANTEED if within else Priority.BORROWED


def borrow_limit(ceiling_gflops: int, policy: Policy) -> int:
    """Return the rate in GFLOPS that may run beyond the ceiling."""
    return min(ceiling_gflops * policy.borrow_limit_ppm // PPM, LARGEST)


def ceiling_allows(request: Request, situation: Situation, _now: int, policy: Policy) -> Refused | None:
    """The profile's rate fits under the ceiling of what the project may run at once, or under what it may borrow."""
    allocation, gflops = situation.allocation, situation.gflops
    if allocation is None or gflops is None:
        return None
    priority = priority_of(request, situation)
    if priority is Priority.RESERVED:
        return None
    if priority in BEYOND_THE_CEILING:
        code, in_use = Code.BORROW_LIMIT, allocation.beyond_gflops
        ceiling = borrow_limit(allocation.ceiling_gflops, policy)
    else:
        code, in_use, ceiling = Code.CEILING, allocation.in_use_gflops, allocation.ceiling_gflops
    if in_use + gflops <= ceiling:
        return None
    numbers = {"needed": show_rate(gflops), "ceiling": show_rate(ceiling), "in_use": show_rate(in_use)}
    return Refused(code, {**_names(request), **numbers})


def longest_hold(request: Request, policy: Policy) -> int:
    """Return how many seconds a first hold covers, where nothing stands against it."""
    return (policy.hold if request.seconds is None else request.seconds) + policy.stop_margin


def free_pool(request: Request, situation: Situation, now: int, policy: Policy) -> PoolSituation | None:
    """Return the pool to take the devices from: the seat's, or the one where they can be kept longest.

    Of several that are alike it is the first, in a fixed order. None when none has them free for long enough.
    """
    needed = situation.device_count
    if situation.seat is not None:
        pools = [pool for pool in situation.pools if pool.id == situation.seat.pool_id]
        return next((pool for pool in pools if pool.in_use + needed <= pool.healthy), None)
    free = [pool for pool in situation.pools if pool.in_use + pool.reserved + needed <= pool.healthy]
    least = policy.minimum if request.seconds is None else longest_hold(request, policy)
    longest = max(free, key=lambda pool: pool.ends_by(needed) or _NEVER, default=None)
    lasts = longest is not None and (longest.ends_by(needed) or _NEVER) >= now + least
    return longest if lasts else None


def pool_has_room(request: Request, situation: Situation, now: int, policy: Policy) -> Refused | None:
    """A pool has the healthy devices that the profile needs, for long enough; a CPU profile needs none."""
    if situation.device_model is None or free_pool(request, situation, now, policy) is not None:
        return None
    needed, seat = situation.device_count, situation.seat
    pools = [pool for pool in situation.pools if seat is None or pool.id == seat.pool_id]
    numbers: dict[str, str | int] = {
        **_names(request),
        "device": situation.device_model,
        "needed": needed,
        "healthy": sum(pool.healthy for pool in pools),
        "in_use": sum(pool.in_use for pool in pools),
        "reserved": sum(pool.reserved for pool in pools),
    }
    free = [pool for pool in pools if pool.in_use + pool.reserved + needed <= pool.healthy]
    if not free or seat is not None:
        return Refused(Code.POOL_FULL if seat is None else Code.SEAT_LOST, numbers)
    until = max(pool.ends_by(needed) or 0 for pool in free)
    return Refused(Code.RESERVED_SOON, {**numbers, "until": show_instant(until)})


def nobody_waits_before(request: Request, situation: Situation, _now: int, _policy: Policy) -> Refused | None:
    """Nobody who came before waits in the queue for the same devices; a seat, and a turn, wait for nobody."""
    waiting = situation.waiting_before
    if not waiting or request.in_turn or situation.device_model is None or situation.seat is not None:
        return None
    return Refused(Code.QUEUE_AHEAD, {**_names(request), "device": situation.device_model, "waiting": waiting})


def hold_seconds(request: Request, situation: Situation, now: int, policy: Policy) -> tuple[int, int]:
    """Return (the seconds that a first hold would cover now, the least it must cover to be admitted)."""
    allocation, gflops = situation.allocation, situation.gflops
    if allocation is None or not gflops:
        return 0, 1
    wanted = longest_hold(request, policy) if situation.seat is None else situation.seat.ends_at - now
    least = min(policy.minimum, wanted) if request.seconds is None else wanted
    affordable = min(allocation.available // gflops, LARGEST // gflops, allocation.ends_at - now)
    return min(wanted, affordable), least


def budget_covers(request: Request, situation: Situation, now: int, policy: Policy) -> Refused | None:
    """The balance, and the time to the award's end, cover the least that a first hold must cover."""
    seconds, least = hold_seconds(request, situation, now, policy)
    allocation = situation.allocation
    if seconds >= least or allocation is None:
        return None
    if allocation.ends_at - now < least:
        return Refused(Code.AWARD_ENDED, {**_names(request), "ends_at": show_instant(allocation.ends_at)})
    return Refused(
        Code.BUDGET_SHORT,
        {
            **_names(request),
            "available": show_budget(allocation.available),
            "minimum": show_duration(least),
            "needed": show_budget(least * (situation.gflops or 0)),
        },
    )


RULES: tuple[Rule, ...] = (
    person_is_known,
    project_exists,
    person_is_member,
    project_is_approved,
    award_runs,
    profile_is_offered,
    none_is_open,
    ceiling_allows,
    pool_has_room,
    nobody_waits_before,
    budget_covers,
)
"""In the order in which they are asked; the first that refuses is the answer."""


def decide(request: Request, situation: Situation, now: int, policy: Policy) -> Decision:
    """Return Admitted with what is to be held, or the first rule's refusal."""
    for rule in RULES:
        refused = rule(request, situation, now, policy)
        if refused is not None:
            return refused
    allocation = situation.allocation
    if allocation is None or situation.gflops is None or situation.card_version is None:
        raise AssertionError("the rules above refuse a situation without an allocation or a rate")
    seconds, _ = hold_seconds(request, situation, now, policy)
    pool = free_pool(request, situation, now, policy) if situation.device_model else None
    ends_by = pool.ends_by(situation.device_count) if pool is not None and situation.seat is None else None
    if ends_by is not None and ends_by < now + seconds:
        seconds = ends_by - now
    else:
        ends_by = None
    return Admitted(
        run_id=request.run_id,
        allocation_id=allocation.id,
        card_version=situation.card_version,
        gflops=situation.gflops,
        amount=situation.gflops * seconds,
        opened_at=now,
        until_at=now + seconds,
        pool_id=pool.id if pool else None,
        device_model=situation.device_model,
        device_count=situation.device_count,
        simulated=bool(pool and pool.simulated),
        priority=priority_of(request, situation),
        window_id=situation.seat.window_id if situation.seat else None,
        ends_by=ends_by,
    )


def each_rule(
    request: Request, situation: Situation, now: int, policy: Policy
) -> Iterator[tuple[str, str, Refused | None]]:
    """Yield (name, what it asks, its refusal or None) for every rule, also those after the first refusal."""
    for rule in RULES:
        yield rule.__name__, (rule.__doc__ or "").strip(), rule(request, situation, now, policy)
