"""The one decision: may this person start this profile on this project now, and how much is held for it?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from quotas.domain.people import MEMBERSHIP_RIGHTS, MembershipRole
from quotas.domain.policy import Policy
from quotas.domain.projects import ProjectState
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import RunKind
from quotas.domain.units import LARGEST, InvalidValue, amount, show_budget, show_duration, show_instant, show_rate

_LONGEST_NAME = 80
"""Longer than any name of a person, project or profile."""


def _no_name(text: str) -> str:
    """Return what no person, project or profile is called, for a text that no table could hold."""
    return text[:_LONGEST_NAME].encode("unicode_escape").decode("ascii")[: _LONGEST_NAME + 1]


@dataclass(frozen=True)
class Request:
    """Who asks for what. `run_id` is the request's identity: the same one is answered once.

    `seconds` is the full length of a batch run (its time limit), and None for a notebook, whose hold rolls. Raises
    InvalidValue for a batch run without one, or with one that is not above zero.
    """

    run_id: str
    kind: RunKind
    person: str
    project: str
    profile: str
    seconds: int | None = None
    door: str = ""

    def __post_init__(self) -> None:
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


@dataclass(frozen=True)
class PoolSituation:
    """One pool's devices of the model that the profile needs."""

    id: int
    simulated: bool
    healthy: int
    in_use: int


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


@dataclass(frozen=True)
class Admitted:
    """The start is admitted: hold `amount` (GFLOPS·s) of `allocation_id` until `until_at` at `gflops`, in `pool_id`."""

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
    """The award has started and not ended."""
    allocation = situation.allocation
    if allocation is None:
        return Refused(Code.PROJECT_ENDED, _names(request))
    if now < allocation.starts_at:
        numbers = {**_names(request), "starts_at": show_instant(allocation.starts_at)}
        return Refused(Code.AWARD_NOT_STARTED, numbers, earliest_at=allocation.starts_at)
    if now >= allocation.ends_at:
        return Refused(Code.AWARD_ENDED, {**_names(request), "ends_at": show_instant(allocation.ends_at)})
    return None


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


def ceiling_allows(request: Request, situation: Situation, _now: int, _policy: Policy) -> Refused | None:
    """The profile's rate fits under the ceiling of what the project may run at once."""
    allocation, gflops = situation.allocation, situation.gflops
    if allocation is None or gflops is None or allocation.in_use_gflops + gflops <= allocation.ceiling_gflops:
        return None
    return Refused(
        Code.CEILING,
        {
            **_names(request),
            "needed": show_rate(gflops),
            "ceiling": show_rate(allocation.ceiling_gflops),
            "in_use": show_rate(allocation.in_use_gflops),
        },
    )


def free_pool(situation: Situation) -> PoolSituation | None:
    """Return the first pool, in a fixed order, that has the healthy devices free."""
    needed = situation.device_count
    return next((pool for pool in situation.pools if pool.in_use + needed <= pool.healthy), None)


def pool_has_room(request: Request, situation: Situation, _now: int, _policy: Policy) -> Refused | None:
    """A pool has the healthy devices that the profile needs; a CPU profile needs none."""
    if situation.device_model is None or free_pool(situation) is not None:
        return None
    return Refused(
        Code.POOL_FULL,
        {
            **_names(request),
            "device": situation.device_model,
            "needed": situation.device_count,
            "healthy": sum(pool.healthy for pool in situation.pools),
            "in_use": sum(pool.in_use for pool in situation.pools),
        },
    )


def hold_seconds(request: Request, situation: Situation, now: int, policy: Policy) -> tuple[int, int]:
    """Return (the seconds that a first hold would cover now, the least it must cover to be admitted)."""
    allocation, gflops = situation.allocation, situation.gflops
    if allocation is None or not gflops:
        return 0, 1
    wanted = policy.hold + policy.stop_margin if request.seconds is None else request.seconds + policy.stop_margin
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
    pool = free_pool(situation) if situation.device_model else None
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
    )


def each_rule(
    request: Request, situation: Situation, now: int, policy: Policy
) -> Iterator[tuple[str, str, Refused | None]]:
    """Yield (name, what it asks, its refusal or None) for every rule, also those after the first refusal."""
    for rule in RULES:
        yield rule.__name__, (rule.__doc__ or "").strip(), rule(request, situation, now, policy)
