"""The simulated centre is set up as a real one is: people, devices, rates, pools and awards, by the services."""

from __future__ import annotations

from itertools import pairwise

from bench.centre_plan import (
    BURST_PPM,
    CLASS_SECONDS,
    CLOUD,
    H100,
    HALL,
    SIZES,
    SLICE,
    START,
    Phase,
    ProjectPlan,
    Scale,
    phases,
    seats,
)
from bench.centre_plan import Term as ClassTerm
from quotas.domain.devices import FACTS, MODELS, counting_fact
from quotas.domain.people import MembershipRole, Organisation, PlatformRole
from quotas.domain.policy import Policy
from quotas.domain.pools import CapacityPhase
from quotas.domain.profiles import Profile
from quotas.domain.projects import Award, ProjectKind
from quotas.domain.rates import Precision, Rate, RateCard, RateRule, rate_from_fact
from quotas.domain.reservations import Asked
from quotas.domain.units import CALENDAR, DAY_SECONDS, PPM, moment
from quotas.services import people, pools, profiles, projects, rates, reservations
from quotas.services.reservations import Approval
from quotas.store.database import Database

OPERATOR, REVIEWER = "operator", "reviewer"
REFERENCE = Precision.FP32
LIMIT_PPM = 1_250_000
"""Awards may be promised up to 125 % of what is powered: 10.74 PF on 8.85 PF are 121 %."""
BEFORE = START - 30 * DAY_SECONDS
GIB = 2**30
CPU = "cpu"
SEAT = "h100-1g"
CUT_KNOWN_BEFORE = 3 * DAY_SECONDS
"""So long before it the power cut becomes known: longer than any batch run may be held."""


def gpus(devices: int) -> str:
    """Return the profile with so many whole devices."""
    return "h100" if devices == 1 else f"h100-x{devices}"


PROFILES = (
    Profile(CPU, "CPU 2코어", "CPU, 2 cores", "notebook", 2_000, 4 * GIB, 10 * GIB),
    Profile(SEAT, "H100 분할 1g", "H100 slice 1g", "notebook", 2_000, 8 * GIB, 50 * GIB, SLICE, 1),
    *(
        Profile(
            gpus(size),
            f"H100 {size}장",
            f"{size} × H100",
            "notebook",
            8_000 * size,
            64 * GIB * size,
            200 * GIB,
            H100,
            size,
        )
        for size in SIZES
    ),
)


def build(database: Database, scale: Scale, plans: list[ProjectPlan], ends: dict[str, int]) -> None:
    """The migrated, empty database has the centre as of its first day; each project's award lasts to its `ends`."""
    _people(database, plans)
    _supply(database, phases(scale))
    for plan in plans:
        _project(database, plan, ends[plan.code])


def _people(database: Database, plans: list[ProjectPlan]) -> None:
    organisation = Organisation("programme", "사업단", "The programme", "agency")
    people.add_organisation(database, organisation, actor=OPERATOR, now=BEFORE)
    for username, role in ((OPERATOR, PlatformRole.OPERATOR), (REVIEWER, PlatformRole.REVIEWER)):
        people.add_person(
            database,
            username,
            username,
            organisation="programme",
            platform_roles=frozenset({role}),
            actor=OPERATOR,
            now=BEFORE,
        )
    for plan in plans:
        for username in plan.members:
            people.add_person(database, username, username, organisation="programme", actor=OPERATOR, now=BEFORE)


def _supply(database: Database, all_phases: list[Phase]) -> None:
    by = {"actor": OPERATOR, "now": BEFORE}
    models = {model.code: model for model in MODELS}
    for code in (H100, SLICE):
        profiles.add_device_model(database, models[code], **by)
    for fact in FACTS:
        if fact.device_model == H100:
            profiles.add_fact(database, fact, **by)
    profiles.add_image(database, "notebook", "mudeung/notebook:latest", "노트북", "Notebook", **by)
    found = [Rate(CPU, 200, RateRule.ASSIGNED, "2 cores at 100 GFLOPS each", OPERATOR)]
    fact = counting_fact(H100, FACTS, REFERENCE)
    for position, profile in enumerate(PROFILES):
        profiles.add_profile(database, profile, position, **by)
        if profile.device_model is not None and fact is not None:
            model = models[profile.device_model]
            found.append(rate_from_fact(profile.code, profile.device_count, model, fact, OPERATOR))
    rates.publish(database, RateCard(1, START - DAY_SECONDS, REFERENCE, tuple(found)), **by)
    pools.add_pool(database, CLOUD, "임차 클라우드", "Leased cloud", simulated=True, **by)
    pools.add_pool(database, HALL, "자체 전산실", "Own hall", simulated=True, **by)
    add_phase(database, all_phases[0], START - DAY_SECONDS, BEFORE)
    for earlier, phase in pairwise(all_phases[:-1]):
        add_phase(database, phase, phase.from_at, BEFORE, earlier)


def add_phase(database: Database, phase: Phase, from_at: int, now: int, earlier: Phase | None = None) -> None:
    """The phase is known at `now`, as far as it differs from the one before."""
    before = set() if earlier is None else set(earlier.devices())
    for row in phase.devices():
        if row not in before:
            pool, model, *sizes = row
            pools.add_phase(database, pool, CapacityPhase(model, from_at, *sizes), actor=OPERATOR, now=now)


def _project(database: Database, plan: ProjectPlan, ends_at: int) -> None:
    pi, *others = plan.members
    application = projects.Application(
        code=plan.code,
        title_ko=plan.code,
        title_en=plan.code,
        kind=ProjectKind.COURSE if plan.is_course else ProjectKind.RESEARCH,
        organisation="programme",
        gflops=plan.gflops,
        precision=REFERENCE.value,
        starts_at=START,
        ends_at=ends_at,
    )
    projects.apply(database, application, actor=pi, now=BEFORE)
    role = MembershipRole.LEARNER if plan.is_course else MembershipRole.MEMBER
    for username in others:
        projects.add_member(database, plan.code, username, role, actor=pi, now=BEFORE)
    award = Award(plan.gflops, REFERENCE.value, START, ends_at, BURST_PPM, PPM)
    projects.approve(
        database,
        plan.code,
        award,
        profiles=[SEAT] if plan.is_course else [profile.code for profile in PROFILES],
        actor=REVIEWER,
        now=BEFORE + DAY_SECONDS,
        reference_precision=REFERENCE.value,
        oversubscription_limit_ppm=LIMIT_PPM,
    )


def reserve_term(
    database: Database, scale: Scale, course: ProjectPlan, term: ClassTerm, now: int, policy: Policy
) -> None:
    """The course's seats are reserved on each weekday of the term at 9:00, as its teacher asked."""
    last = moment(term.until_at).astimezone(CALENDAR).strftime("%Y%m%dT%H%M%S")
    asked = Asked(
        project=course.code,
        profile=SEAT,
        seats=seats(scale),
        zone="Asia/Seoul",
        starts_at=term.first_at,
        seconds=CLASS_SECONDS,
        title_ko="기계학습 기초",
        title_en="Machine learning, a first course",
        rrule=f"FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR;UNTIL={last}",
    )
    found, _ = reservations.request(database, asked, by=course.members[0], now=now, policy=policy)
    reservations.approve(database, found.number, Approval(leave_out=True), actor=OPERATOR, now=now, policy=policy)
