"""The example centre is loaded through the same use cases as real data, in the order of its days."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

from quotas.domain.devices import FACTS, MODELS, counting_fact
from quotas.domain.pools import CapacityPhase
from quotas.domain.projects import Award
from quotas.domain.rates import DeviceModel, Rate, RateCard, RateRule, rate_from_fact
from quotas.domain.units import HOUR_SECONDS, PPM, InvalidValue
from quotas.services import example_events as events
from quotas.services import people, pools, profiles, projects, rates
from quotas.services.example_centre import (
    OPERATOR,
    ORGANISATIONS,
    PEOPLE,
    PROFILES,
    PROJECTS,
    REFERENCE,
    REVIEWER,
    PersonPlan,
    ProjectPlan,
)
from quotas.services.example_days import Days, Step
from quotas.store import people as people_store
from quotas.store.database import Database

POOL, HALL = "cloud", "hall"
"""The leased cloud with all GPUs, and the centre's own hall with its NPUs, of which half have no power yet."""
FIRST_DAY = -420
"""The day, counted from today, on which everything was set up."""
APPLIED_DAYS_BEFORE, DECIDED_DAYS_BEFORE = 14, 3

DEVICES: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "h100": (130, 130, 128),
        "h100-mig-1g.10gb": (28, 28, 28),
        "h100-mig-3g.40gb": (2, 2, 2),
    }
)
"""Installed, powered and healthy. At FP32 the healthy ones have 128 × 66,900 + 28 × 8,109 + 2 × 30,409 =
8,851,070 GFLOPS: 8.85 PF. The 28 and 2 slices lie on 4 and 1 more H100."""
IN_THE_HALL: tuple[tuple[int, int, int, int], ...] = ((FIRST_DAY, 8, 4, 4), (60, 8, 8, 8))
"""The day from which on so many RNGD are installed, powered and healthy. No source states an FP32 peak of them."""

H100_MONTH_KRW = 100_000
"""The co-payment for one H100 in 30 days, of which a slice costs its share of the multiprocessors. Processors are free,
and the NPU has no price yet."""

_ASSIGNED: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        "cpu-small": (100, "1 processor core; no source states its peak, so 100 GFLOPS are set for each core"),
        "cpu-large": (400, "4 processor cores at 100 GFLOPS, as for cpu-small"),
        "npu-rngd": (17_309, "no FP32 peak; FP16 256,000 of an H100's 989,400 GFLOPS: floor(66,900 × 256/989.4)"),
    }
)


@dataclass(frozen=True)
class Account:
    """A person who can log in: shown once, as only the password's hash is stored."""

    username: str
    password: str
    role_text: str


def load(database: Database, *, now: int, image_references: Mapping[str, str] | None = None) -> tuple[Account, ...]:
    """The empty `database` has the example centre as of `now`; return its accounts with fresh random passwords.

    `image_references` gives the image of each code of the catalogue; ``scientific`` is the one that profiles use.
    Raises InvalidValue, with nothing changed, when there is an organisation or a person already.
    """
    with database.read() as transaction:
        if people_store.anyone(transaction):
            raise InvalidValue(
                "database",
                "there is data already; nothing was loaded",
                "이미 데이터가 있어 예시 자료를 불러오지 않았습니다",
            )
    references = {"scientific": "mudeung/notebook:latest"} | dict(image_references or {})
    days = Days(now)
    start = days.day(FIRST_DAY)
    _set_up_people(database, start)
    _set_up_supply(database, references, days)
    for step in sorted(_steps(database, days), key=lambda each: each.at):
        step.act()
    return tuple(_account(database, person, now) for person in PEOPLE if person.account_ko)


def _set_up_people(database: Database, at: int) -> None:
    for organisation in ORGANISATIONS:
        people.add_organisation(database, organisation, actor=OPERATOR, now=at)
    for plan in PEOPLE:
        people.add_person(
            database,
            plan.username,
            plan.display_name,
            organisation=plan.organisation,
            language=plan.language,
            platform_roles=plan.roles,
            actor=OPERATOR,
            now=at,
        )


def _set_up_supply(database: Database, references: Mapping[str, str], days: Days) -> None:
    at = days.day(FIRST_DAY)
    for model in MODELS:
        profiles.add_device_model(database, model, actor=OPERATOR, now=at)
    for fact in FACTS:
        profiles.add_fact(database, fact, actor=OPERATOR, now=at)
    for code, reference in references.items():
        profiles.add_image(database, code, reference, "과학 계산", "Scientific computing", actor=OPERATOR, now=at)
    for position, profile in enumerate(PROFILES):
        profiles.add_profile(database, profile, position, actor=OPERATOR, now=at)
    pools.add_pool(database, POOL, "AI 클라우드", "AI cloud", simulated=True, actor=OPERATOR, now=at)
    for model_code, sizes in DEVICES.items():
        pools.add_phase(database, POOL, CapacityPhase(model_code, at, *sizes), actor=OPERATOR, now=at)
    pools.add_pool(database, HALL, "자체 전산실", "Own hall", simulated=True, actor=OPERATOR, now=at)
    for day, *hall in IN_THE_HALL:
        pools.add_phase(database, HALL, CapacityPhase("rngd", days.day(day), *hall), actor=OPERATOR, now=at)
    rates.publish(database, RateCard(1, at, REFERENCE, tuple(_rates())), actor=OPERATOR, now=at)


def _rates() -> Iterator[Rate]:
    models = {model.code: model for model in MODELS}
    for profile in PROFILES:
        if profile.code in _ASSIGNED:
            gflops, reason = _ASSIGNED[profile.code]
            free = 0 if profile.device_model is None else None
            yield Rate(profile.code, gflops, RateRule.ASSIGNED, reason, REVIEWER, free)
            continue
        model = models[profile.device_model or ""]
        fact = counting_fact(model.parent or model.code, FACTS, REFERENCE)
        if fact is None:
            raise AssertionError(f"{profile.code} has neither an assigned rate nor a fact")
        rate = rate_from_fact(profile.code, profile.device_count, model, fact, None)
        yield replace(rate, krw_per_device_month=_price(model))


def _price(model: DeviceModel) -> int | None:
    """Return KRW for 30 days of one device, rounded down; None where it has no price."""
    if (model.parent or model.code) != "h100":
        return None
    return H100_MONTH_KRW * model.units // model.units_total


def _steps(database: Database, days: Days) -> Iterator[Step]:
    for plan in PROJECTS:
        yield from _project_steps(database, plan, days)
    sessions = [*_planned_sessions(days), *events.class_sessions(days)]
    for session in sessions:
        yield from events.session_steps(database, session)
    yield from events.class_steps(database, days)
    yield from events.request_steps(database, days)
    yield from events.bill_steps(database, sessions, days)
    yield from events.round_steps(database, days)


def _planned_sessions(days: Days) -> Iterator[events.Session]:
    for plan in PROJECTS:
        for each in plan.sessions:
            starts_at = days.hour(-each.days_ago, each.hour)
            yield events.Session(each.person, plan.code, each.profile, starts_at, each.minutes * 60)


def _project_steps(database: Database, plan: ProjectPlan, days: Days) -> Iterator[Step]:
    starts_at, ends_at = days.day(plan.first_day), days.day(plan.last_day)
    # What starts next month or later has been applied for in the last days.
    applied_day = min(plan.first_day, 3) - APPLIED_DAYS_BEFORE
    decided_at = days.day(min(plan.first_day, 3) - DECIDED_DAYS_BEFORE - 1) + 15 * HOUR_SECONDS
    application = projects.Application(
        plan.code,
        plan.title_ko,
        plan.title_en,
        plan.kind,
        plan.organisation,
        plan.gflops,
        REFERENCE.value,
        starts_at,
        ends_at,
    )
    applied_at = days.day(applied_day) + 10 * HOUR_SECONDS
    yield Step(applied_at, partial(projects.apply, database, application, actor=plan.pi, now=applied_at))
    joined_at = applied_at + HOUR_SECONDS
    for username, role in plan.members:
        join = partial(projects.add_member, database, plan.code, username, role, actor=plan.pi, now=joined_at)
        yield Step(joined_at, join)
    if plan.rejection:
        reject = partial(projects.reject, database, plan.code, reason=plan.rejection, actor=REVIEWER, now=decided_at)
        yield Step(decided_at, reject)
    if plan.approved:
        award = Award(plan.gflops, REFERENCE.value, starts_at, ends_at, plan.burst_ppm, plan.utilisation_ppm)
        yield Step(decided_at, partial(_approve, database, plan, award, decided_at))
    if plan.ended_day is not None:
        ended_at = days.day(plan.ended_day)
        yield Step(ended_at, partial(projects.end, database, plan.code, actor=OPERATOR, now=ended_at))


def _approve(database: Database, plan: ProjectPlan, award: Award, at: int) -> None:
    projects.approve(
        database,
        plan.code,
        award,
        profiles=plan.profiles,
        actor=REVIEWER,
        now=at,
        reference_precision=REFERENCE.value,
        oversubscription_limit_ppm=PPM,
        tranches_ppm=plan.tranches_ppm,
        consent=plan.consent,
    )


def _account(database: Database, person: PersonPlan, now: int) -> Account:
    password = secrets.token_urlsafe(9)
    people.set_password(database, person.username, password, actor=OPERATOR, now=now)
    return Account(person.username, password, f"{person.account_ko} · {person.account_en}")
