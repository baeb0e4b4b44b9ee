"""A small centre for tests: one organisation, four people, three profiles, one pool, one project with an award."""

from __future__ import annotations

from dataclasses import dataclass

from quotas.domain.admission import Request
from quotas.domain.devices import FACTS, MODELS
from quotas.domain.people import MembershipRole, Organisation, PlatformRole
from quotas.domain.policy import Policy
from quotas.domain.pools import CapacityPhase
from quotas.domain.profiles import Profile
from quotas.domain.projects import Award, ProjectKind
from quotas.domain.rates import Precision, Rate, RateCard, RateRule
from quotas.domain.runs import RunKind, new_run_id
from quotas.domain.units import DAY_SECONDS, PPM
from quotas.services import admission, people, pools, profiles, projects, rates
from quotas.store import audit
from quotas.store.database import Database

NOW = 1_800_000_000
"""2027-01-15T08:00:00Z."""
OPERATOR = "operator"
GIB = 2**30


@dataclass(frozen=True)
class Centre:
    """The world's names. The project's award is 200 TF from a day before `now` to 29 days after it.

    Rates in GFLOPS: cpu-small 50, h100-1g 8109, h100 66900. The pool has 4 H100 and 7 slices. `outsider` is in no
    project.
    """

    database: Database
    now: int = NOW
    operator: str = OPERATOR
    pi: str = "pi"
    member: str = "member"
    outsider: str = "outsider"
    organisation: str = "lab"
    project: str = "vision"
    pool: str = "main"
    profiles: tuple[str, ...] = ("cpu-small", "h100-1g", "h100")
    starts_at: int = NOW - DAY_SECONDS
    ends_at: int = NOW + 29 * DAY_SECONDS
    gflops: int = 200_000


def build(database: Database) -> Centre:
    """The centre is in `database`, which was empty."""
    centre = Centre(database)
    _add_people(centre)
    _add_supply(centre)
    _add_project(centre)
    return centre


def application(centre: Centre, code: str, **changes: object) -> projects.Application:
    """Return an application that would be taken, with `changes`."""
    values: dict[str, object] = {
        "code": code,
        "title_ko": "시험 과제",
        "title_en": "A test project",
        "kind": ProjectKind.RESEARCH,
        "organisation": centre.organisation,
        "gflops": centre.gflops,
        "precision": Precision.FP32.value,
        "starts_at": centre.starts_at,
        "ends_at": centre.ends_at,
    }
    return projects.Application(**(values | changes))  # type: ignore[arg-type]


def award(centre: Centre, **changes: object) -> Award:
    """Return the award of the centre's project, with `changes`."""
    values: dict[str, object] = {
        "gflops": centre.gflops,
        "precision": Precision.FP32.value,
        "starts_at": centre.starts_at,
        "ends_at": centre.ends_at,
    }
    return Award(**(values | changes))  # type: ignore[arg-type]


def approve(centre: Centre, code: str, given: Award | None = None, **changes: object) -> projects.ProjectView:
    """Approve `code` with `given`, or the usual award, as the operator does."""
    values: dict[str, object] = {
        "profiles": centre.profiles,
        "actor": centre.operator,
        "now": centre.now,
        "reference_precision": Precision.FP32.value,
        "oversubscription_limit_ppm": 2 * PPM,
    }
    return projects.approve(centre.database, code, given or award(centre), **(values | changes))  # type: ignore[arg-type]


def applied(centre: Centre, code: str, **changes: object) -> projects.ProjectView:
    """Apply for `code` as the PI does, with `changes`."""
    asked = application(centre, code, **changes)
    return projects.apply(centre.database, asked, actor=centre.pi, now=centre.now)


def shown(centre: Centre, code: str = "vision", now: int | None = None) -> projects.ProjectView:
    """Return the project as it stands at `now`, the centre's if none is given."""
    view = projects.show(centre.database, code, centre.now if now is None else now)
    assert view is not None
    return view


def start(centre: Centre, profile: str = "cpu-small", person: str | None = None) -> admission.Decision:
    """Ask for a notebook on the centre's project, as its member if nobody is named."""
    request = Request(new_run_id(), RunKind.NOTEBOOK, person or centre.member, centre.project, profile)
    return admission.reserve(centre.database, request, centre.now, Policy())


def events(centre: Centre, code: str) -> list[str]:
    """Return the actions of the audit events about `code`, oldest first."""
    with centre.database.read() as transaction:
        return [row.action for row in audit.latest(transaction) if row.subject == code][::-1]


def _add_people(centre: Centre) -> None:
    by = {"actor": OPERATOR, "now": centre.now - 2 * DAY_SECONDS}
    organisation = Organisation(centre.organisation, "시험 연구실", "Test laboratory", "university")
    people.add_organisation(centre.database, organisation, **by)
    for username in (centre.pi, centre.member, centre.outsider):
        people.add_person(centre.database, username, username.title(), organisation=centre.organisation, **by)
    roles = frozenset({PlatformRole.OPERATOR})
    people.add_person(centre.database, OPERATOR, "Operator", organisation=None, platform_roles=roles, **by)


def _add_supply(centre: Centre) -> None:
    database, by = centre.database, {"actor": OPERATOR, "now": centre.now - 2 * DAY_SECONDS}
    for model in MODELS:
        profiles.add_device_model(database, model, **by)
    for fact in FACTS:
        profiles.add_fact(database, fact, **by)
    profiles.add_image(database, "science", "mudeung/notebook:test", "과학 계산", "Scientific computing", **by)
    devices = {"cpu-small": None, "h100-1g": "h100-mig-1g.10gb", "h100": "h100"}
    for position, (code, device) in enumerate(devices.items()):
        profile = Profile(
            code,
            f"{code} 프로필",
            f"{code} profile",
            "science",
            1000,
            2 * GIB,
            10 * GIB,
            device,
            int(device is not None),
        )
        profiles.add_profile(database, profile, position, **by)
    rules = (
        Rate("cpu-small", 50, RateRule.ASSIGNED, "a processor core has no sourced peak", OPERATOR),
        Rate("h100-1g", 8_109, RateRule.FACT, "66900 × 16/132"),
        Rate("h100", 66_900, RateRule.FACT, "NVIDIA data sheet"),
    )
    rates.publish(database, RateCard(1, centre.starts_at, Precision.FP32, rules), **by)
    pools.add_pool(database, centre.pool, "주 자원", "Main pool", simulated=True, **by)
    pools.add_phase(database, centre.pool, CapacityPhase("h100", centre.starts_at, 4, 4, 4), **by)
    pools.add_phase(database, centre.pool, CapacityPhase("h100-mig-1g.10gb", centre.starts_at, 7, 7, 7), **by)


def _add_project(centre: Centre) -> None:
    by = {"actor": OPERATOR, "now": centre.now - 2 * DAY_SECONDS}
    asked = application(centre, centre.project, title_ko="자율주행 인식", title_en="Perception for driving")
    projects.apply(centre.database, asked, actor=centre.pi, now=centre.now - 2 * DAY_SECONDS)
    approve(centre, centre.project, now=centre.now - 2 * DAY_SECONDS)
    projects.add_member(centre.database, centre.project, centre.member, MembershipRole.MEMBER, **by)
