"""The example centre is loaded through the same use cases as real data, in the order of its days."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType

from quotas.domain.admission import Admitted, Request
from quotas.domain.devices import FACTS, MODELS, counting_fact
from quotas.domain.policy import Policy
from quotas.domain.pools import CapacityPhase
from quotas.domain.projects import Award
from quotas.domain.rates import Precision, Rate, RateCard, RateRule, rate_from_fact
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.domain.units import CALENDAR, HOUR_SECONDS, PPM, InvalidValue
from quotas.services import admission, people, pools, profiles, projects, rates
from quotas.services.example_centre import (
    NEXT_MONTH,
    ORGANISATIONS,
    PEOPLE,
    PROFILES,
    PROJECTS,
    PersonPlan,
    ProjectPlan,
    SessionPlan,
)
from quotas.store import people as people_store
from quotas.store.database import Database

OPERATOR, REVIEWER = "operator", "reviewer"
REFERENCE = Precision.FP32
POOL = "cloud"
FIRST_DAY = -420
"""The day, counted from today, on which everything was set up."""
APPLIED_DAYS_BEFORE, DECIDED_DAYS_BEFORE = 14, 3

DEVICES: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "h100": (130, 130, 128),
        "h100-mig-1g.10gb": (28, 28, 28),
        "h100-mig-3g.40gb": (2, 2, 2),
        "rngd": (8, 4, 4),
    }
)
"""Installed, powered and healthy. At FP32 the healthy ones have 128 × 66,900 + 28 × 8,109 + 2 × 30,409 =
8,851,070 GFLOPS: 8.85 PF. The 28 and 2 slices lie on 4 and 1 more H100; no source states an FP32 peak of the RNGD."""

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


@dataclass(frozen=True)
class _Step:
    """Something that happened `at` (seconds UTC)."""

    at: int
    act: Callable[[], object]


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
    calendar = _Days(now)
    start = calendar.day(FIRST_DAY)
    _set_up_people(database, start)
    _set_up_supply(database, references, start)
    steps = [step for plan in PROJECTS for step in _project_steps(database, plan, calendar)]
    for step in sorted(steps, key=lambda each: each.at):
        step.act()
    return tuple(_account(database, person, now) for person in PEOPLE if person.account_ko)


class _Days:
    """Days from the one of `now`, in the calendar's zone."""

    def __init__(self, now: int) -> None:
        self._today = datetime.fromtimestamp(now, CALENDAR).replace(hour=0, minute=0, second=0, microsecond=0)

    def day(self, number: int) -> int:
        """Return the first instant of a day, in seconds UTC."""
        if number == NEXT_MONTH:
            return int((self._today.replace(day=1) + timedelta(days=32)).replace(day=1).timestamp())
        return int((self._today + timedelta(days=number)).timestamp())


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


def _set_up_supply(database: Database, references: Mapping[str, str], at: int) -> None:
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
    rates.publish(database, RateCard(1, at, REFERENCE, tuple(_rates())), actor=OPERATOR, now=at)


def _rates() -> Iterator[Rate]:
    models = {model.code: model for model in MODELS}
    for profile in PROFILES:
        if profile.code in _ASSIGNED:
            gflops, reason = _ASSIGNED[profile.code]
            yield Rate(profile.code, gflops, RateRule.ASSIGNED, reason, REVIEWER)
            continue
        model = models[profile.device_model or ""]
        fact = counting_fact(model.parent or model.code, FACTS, REFERENCE)
        if fact is None:
            raise AssertionError(f"{profile.code} has neither an assigned rate nor a fact")
        yield rate_from_fact(profile.code, profile.device_count, model, fact, None)


def _project_steps(database: Database, plan: ProjectPlan, calendar: _Days) -> Iterator[_Step]:
    starts_at, ends_at = calendar.day(plan.first_day), calendar.day(plan.last_day)
    # What starts next month or later has been applied for in the last days.
    applied_day = min(plan.first_day, 3) - APPLIED_DAYS_BEFORE
    decided_at = calendar.day(min(plan.first_day, 3) - DECIDED_DAYS_BEFORE - 1) + 15 * HOUR_SECONDS
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
    applied_at = calendar.day(applied_day) + 10 * HOUR_SECONDS
    yield _Step(applied_at, partial(projects.apply, database, application, actor=plan.pi, now=applied_at))
    joined_at = applied_at + HOUR_SECONDS
    for username, role in plan.members:
        join = partial(projects.add_member, database, plan.code, username, role, actor=plan.pi, now=joined_at)
        yield _Step(joined_at, join)
    if plan.rejection:
        reject = partial(projects.reject, database, plan.code, reason=plan.rejection, actor=REVIEWER, now=decided_at)
        yield _Step(decided_at, reject)
    if plan.approved:
        award = Award(plan.gflops, REFERENCE.value, starts_at, ends_at, plan.burst_ppm, plan.utilisation_ppm)
        yield _Step(decided_at, partial(_approve, database, plan, award, decided_at))
    for session in plan.sessions:
        yield from _session_steps(database, plan.code, session, calendar)
    if plan.ended_day is not None:
        ended_at = calendar.day(plan.ended_day)
        yield _Step(ended_at, partial(projects.end, database, plan.code, actor=OPERATOR, now=ended_at))


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
        consent=plan.consent,
    )


def _session_steps(database: Database, project: str, session: SessionPlan, calendar: _Days) -> Iterator[_Step]:
    starts_at = calendar.day(-session.days_ago) + session.hour * HOUR_SECONDS
    seconds = session.minutes * 60
    request = Request(new_run_id(), RunKind.NOTEBOOK, session.person, project, session.profile, door="example")

    def begin() -> None:
        # One hold for the whole session, in place of one for each half hour of it.
        decision = admission.reserve(database, request, starts_at, replace(Policy(), hold=seconds))
        if not isinstance(decision, Admitted):
            raise AssertionError(f"{project}, {session}: {decision.sentence('en')}")
        admission.started(database, request.run_id, starts_at)

    def finish() -> None:
        ended = admission.Ended(starts_at, starts_at + seconds, Outcome.STOPPED)
        admission.settle(database, request.run_id, ended, starts_at + seconds)

    yield _Step(starts_at, begin)
    yield _Step(starts_at + seconds, finish)


def _account(database: Database, person: PersonPlan, now: int) -> Account:
    password = secrets.token_urlsafe(9)
    people.set_password(database, person.username, password, actor=OPERATOR, now=now)
    return Account(person.username, password, f"{person.account_ko} · {person.account_en}")
