"""The example centre: what there is in it, that its ledger holds, and that it never comes on top of real data."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from quotas.domain.admission import Admitted, Request
from quotas.domain.awards import Programme, TrancheState
from quotas.domain.changes import ChangeKind, ChangeState
from quotas.domain.months import month_of
from quotas.domain.outcomes import ReportState
from quotas.domain.people import Organisation, PlatformRole
from quotas.domain.policy import Policy
from quotas.domain.projects import Phase, ProjectKind, ProjectState
from quotas.domain.recalls import RecallPolicy
from quotas.domain.refusals import Code, Refused
from quotas.domain.renewals import RenewalState
from quotas.domain.reservations import ReservationState, WindowState
from quotas.domain.runs import RunKind, new_run_id
from quotas.domain.units import CALENDAR, DAY_SECONDS, InvalidValue, show_rate
from quotas.services import (
    admission,
    awards,
    changes,
    check,
    copayments,
    example,
    notices,
    outcomes,
    people,
    periodic,
    pools,
    profiles,
    projects,
    rates,
    renewals,
    reservation_views,
    reservations,
    runs,
)
from quotas.services.example_days import Days
from quotas.store.database import Database
from quotas.store.migrate import migrate

NOW = int(datetime(2026, 11, 21, 9, 41, 7, tzinfo=CALENDAR).timestamp())


@dataclass(frozen=True)
class Loaded:
    """A loaded example: its file, accounts and the seconds of work that loading took."""

    path: Path
    accounts: tuple[example.Account, ...]
    seconds: float


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    path = tmp_path_factory.mktemp("example") / "example.sqlite"
    database = Database(f"sqlite:///{path}")
    migrate(database)
    begin = time.process_time()
    accounts = example.load(database, now=NOW)
    seconds = time.process_time() - begin
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return Loaded(path, accounts, seconds)


@pytest.fixture
def town(loaded: Loaded, tmp_path: Path) -> Iterator[Database]:
    """A copy of the loaded example, to read and to change."""
    path = tmp_path / "town.sqlite"
    shutil.copyfile(loaded.path, path)
    database = Database(f"sqlite:///{path}")
    yield database
    database.close()


def start(town: Database, person: str, project: str, profile: str) -> admission.Decision:
    request = Request(new_run_id(), RunKind.NOTEBOOK, person, project, profile)
    return admission.reserve(town, request, NOW, Policy())


def test_the_healthy_devices_have_8_85_petaflops_at_fp32(town: Database) -> None:
    views = pools.capacity(town, NOW)
    assert {view.device_model: (view.healthy, view.device_gflops) for view in views} == {
        "h100": (128, 66_900),
        "h100-mig-1g.10gb": (28, 8_109),
        "h100-mig-3g.40gb": (2, 30_409),
        "rngd": (4, None),
    }
    healthy = sum(view.healthy_gflops for view in views)
    assert healthy == 128 * 66_900 + 28 * 8_109 + 2 * 30_409 == 8_851_070
    assert show_rate(healthy).startswith("8.85")
    assert {view.device_model for view in views if view.code == example.HALL} == {"rngd"}
    assert {view.code for view in views} == {example.POOL, example.HALL}
    assert all(view.simulated for view in views)


def test_the_awards_that_run_exceed_the_pool(town: Database) -> None:
    views = projects.list_projects(town, NOW)
    running = [view for view in views if view.phase in {Phase.ACTIVE, Phase.NEARLY_SPENT, Phase.EXHAUSTED}]
    assert sum(view.gflops or 0 for view in running) == 10_740_000
    assert sum(view.powered_gflops for view in pools.capacity(town, NOW)) < 10_740_000


def test_there_is_a_project_in_each_phase_and_a_course(town: Database) -> None:
    phases = {view.code: view.phase for view in projects.list_projects(town, NOW)}
    assert phases["vision-drive"] is Phase.ACTIVE
    assert phases["speech-ko"] is Phase.NEARLY_SPENT
    assert phases["storm-forecast"] is Phase.SCHEDULED
    assert phases["drug-screen"] is Phase.APPLIED
    assert phases["chat-companion"] is Phase.REJECTED
    assert phases["lidar-maps"] is Phase.ENDED
    assert phases["harbor-watch"] is Phase.GRACE
    course = projects.show(town, "ml-basics", NOW)
    assert course is not None
    assert (course.kind, course.phase) == (ProjectKind.COURSE, Phase.ACTIVE)
    assert sorted(role for _, _, role in course.members) == ["instructor", *["learner"] * 8, "pi"]


def test_the_award_of_next_month_starts_on_its_first_day(town: Database) -> None:
    view = projects.show(town, "storm-forecast", NOW)
    assert view is not None
    assert view.starts_at == int(datetime(2026, 12, 1, tzinfo=CALENDAR).timestamp())


def test_everything_in_its_ledger_holds(town: Database) -> None:
    assert check.findings(town, NOW) == []
    assert all(view.held == 0 and not view.in_use_gflops for view in projects.list_projects(town, NOW))
    assert all(view.in_use == 0 for view in pools.capacity(town, NOW))


def test_it_still_holds_a_day_later_whether_or_not_the_loop_went_round(town: Database) -> None:
    tomorrow = NOW + DAY_SECONDS
    assert check.findings(town, tomorrow) == []
    for now in (NOW, tomorrow):
        assert not reservations.tick(town, now, Policy())
        for _ in range(10):  # as many pieces as each job has to do
            periodic.run(town, periodic.jobs(RecallPolicy()), now)
    assert check.findings(town, tomorrow) == []


def test_what_was_spent_is_what_the_runs_were_charged(town: Database) -> None:
    gflops = {rate.profile: rate.gflops for rate in rates.cards(town)[0].rates}
    by_project: dict[str, int] = {}
    for run in runs.runs(town, None, 1000):
        assert run.charge == gflops[run.profile] * (run.seconds or 0)
        assert run.charge > 0
        by_project[run.project] = by_project.get(run.project, 0) + (run.charge or 0)
    spent = {view.code: view.spent for view in projects.list_projects(town, NOW) if view.spent}
    assert by_project == spent
    assert {"vision-drive", "speech-ko", "ml-basics", "lidar-maps"} == set(spent)


def test_everyone_of_a_role_can_log_in_with_the_password_that_is_shown(loaded: Loaded, town: Database) -> None:
    assert [account.username for account in loaded.accounts] == [
        *("operator", "reviewer", "auditor", "pi", "member", "instructor"),
        *(f"learner{number}" for number in range(1, 9)),
        "newcomer",
    ]
    assert len({account.password for account in loaded.accounts}) == len(loaded.accounts)
    for account in loaded.accounts:
        assert len(account.password) >= 12
        assert account.role_text
        assert people.password_matches(town, account.username, account.password)
    roles = {person.username: person.platform_roles for person in people.people(town) if person.platform_roles}
    assert roles == {role.value: frozenset({role}) for role in PlatformRole}


@pytest.mark.parametrize(
    ("person", "project", "profile"),
    [
        ("member", "vision-drive", "cpu-small"),
        ("member", "vision-drive", "cpu-large"),
        ("pi", "vision-drive", "h100-1g"),
        ("member", "vision-drive", "h100"),
        ("nari.park", "speech-ko", "h100-1g"),
        ("instructor", "ml-basics", "cpu-small"),
        ("learner3", "ml-basics", "h100-1g"),
    ],
)
def test_what_can_be_started_now(town: Database, person: str, project: str, profile: str) -> None:
    assert isinstance(start(town, person, project, profile), Admitted)


def test_the_whole_class_can_start_at_once(town: Database) -> None:
    for number in range(1, 9):
        assert isinstance(start(town, f"learner{number}", "ml-basics", "h100-1g"), Admitted)


@pytest.mark.parametrize(
    ("person", "project", "profile", "code"),
    [
        ("member", "vision-drive", "h100-x2", Code.PROFILE_NOT_OFFERED),
        ("newcomer", "vision-drive", "cpu-small", Code.NOT_A_MEMBER),
        ("learner1", "vision-drive", "cpu-small", Code.NOT_A_MEMBER),
        ("member", "lidar-maps", "cpu-small", Code.PROJECT_ENDED),
        ("member", "harbor-watch", "cpu-small", Code.AWARD_ENDED),
        ("pi", "storm-forecast", "cpu-small", Code.AWARD_NOT_STARTED),
        ("taeyang.choi", "drug-screen", "cpu-small", Code.PROJECT_NOT_APPROVED),
        ("taeyang.choi", "chat-companion", "cpu-small", Code.PROJECT_NOT_APPROVED),
    ],
)
def test_what_is_refused_now(town: Database, person: str, project: str, profile: str, code: Code) -> None:
    decision = start(town, person, project, profile)
    assert isinstance(decision, Refused)
    assert decision.code is code


def test_every_profile_has_a_rate_and_assigned_ones_say_why_and_by_whom(town: Database) -> None:
    card = rates.card_in_force(town, NOW)
    assert card is not None
    assert {rate.profile: rate.gflops for rate in card.rates} == {
        "cpu-small": 100,
        "cpu-large": 400,
        "h100-1g": 8_109,
        "h100-3g": 30_409,
        "h100": 66_900,
        "h100-x2": 133_800,
        "npu-rngd": 66_900 * 256_000 // 989_400,
    }
    assigned = {rate.profile: rate.approver for rate in card.rates if rate.rule.value == "assigned"}
    assert assigned == dict.fromkeys(("cpu-small", "cpu-large", "npu-rngd"), "reviewer")


def test_devices_have_a_price_by_their_share_of_an_h100_processors_are_free_and_the_npu_has_none(
    town: Database,
) -> None:
    card = rates.card_in_force(town, NOW)
    assert card is not None
    assert {rate.profile: rate.krw_per_device_month for rate in card.rates} == {
        "cpu-small": 0,
        "cpu-large": 0,
        "h100-1g": 100_000 * 16 // 132,
        "h100-3g": 100_000 * 60 // 132,
        "h100": 100_000,
        "h100-x2": 100_000,
        "npu-rngd": None,
    }


def test_months_with_use_are_billed_and_earlier_ones_paid(town: Database) -> None:
    account = copayments.accounts(town)["lidar-maps"]
    h100, slice_ = 480 * 60 * 100_000, 240 * 60 * 12_121
    assert (account.owed, account.paid) == (0, (h100 + slice_) // (30 * DAY_SECONDS))
    last = month_of(NOW).plus(-1)
    assert {each.project for each in copayments.statements(town, last, NOW) if each.closed_at} == {
        "speech-ko",
        "vision-drive",
    }
    going_on = copayments.statements(town, month_of(NOW), NOW)
    assert {each.project for each in going_on} == {"ml-basics", "speech-ko", "vision-drive"}
    assert all(each.closed_at is None and each.total.amount > 0 and not each.unpriced_runs for each in going_on)


def test_the_course_has_seats_every_week_and_the_last_class_left_one_unclaimed(town: Database) -> None:
    (course,) = reservation_views.latest(town)
    course = reservation_views.show(town, course.number)
    assert course.state is ReservationState.APPROVED
    assert (course.project, course.profile, course.seats) == ("ml-basics", "h100-1g", 8)
    past, *to_come = course.windows
    assert (past.state, past.claimed, past.released) == (WindowState.ENDED, 7, 1)
    assert len(to_come) == 11
    assert {window.state for window in to_come} == {WindowState.SCHEDULED}
    assert [window.starts_at for window in to_come] == [past.starts_at + 7 * n * DAY_SECONDS for n in range(1, 12)]
    (idle,) = [run for run in runs.runs(town, "ml-basics", 1000) if run.kind is RunKind.SEATS]
    assert (idle.seconds, idle.charge) == (900, 900 * 8_109)


def test_the_class_is_on_a_working_day_two_to_four_days_from_loading() -> None:
    for day in range(7):
        days = Days(NOW + day * DAY_SECONDS)
        held = datetime.fromtimestamp(days.hour(days.last_class(), 14), CALENDAR)
        assert held.weekday() < 5
        assert 2 <= days.last_class() + 7 <= 4


def test_an_award_is_granted_in_two_tranches_and_the_second_waits_for_a_report(town: Database) -> None:
    (award,) = awards.of_project(town, "vision-drive", NOW)
    (second,) = award.tranches
    assert (second.state, second.report_state) == (TrancheState.PENDING, ReportState.DUE)
    assert award.granted == second.amount == 85_920 * 365 * DAY_SECONDS // 2
    (report,) = outcomes.list_reports(town, NOW)
    assert (report.project, report.tranche, report.is_overdue) == ("vision-drive", 2, False)


def test_a_renewal_and_a_change_wait_for_the_reviewer(town: Database) -> None:
    (renewal,) = renewals.list_renewals(town)
    assert (renewal.project, renewal.filed_by, renewal.state) == ("harbor-watch", "pi", RenewalState.IN_REVIEW)
    (change,) = changes.list_changes(town)
    assert (change.project, change.requested_by) == ("vision-drive", "pi")
    assert (change.kind, change.state) == (ChangeKind.SUPPLEMENT, ChangeState.REQUESTED)


def test_the_reviewer_can_decide_both(town: Database) -> None:
    programme = Programme("fp32", 10**6, consent=True)
    by = {"reason": "as asked for", "programme": programme, "actor": "reviewer", "now": NOW}
    given = renewals.approve(town, renewals.list_renewals(town)[0].id, renewals.Given(), **by)
    assert given.state is RenewalState.APPROVED
    assert changes.approve(town, changes.list_changes(town)[0].id, **by).state is ChangeState.APPLIED
    assert isinstance(start(town, "member", "harbor-watch", "h100-1g"), Admitted)
    assert check.findings(town, NOW) == []


def test_people_were_told_of_what_happened_at_its_time(town: Database) -> None:
    told: dict[str, list[str]] = {}
    for notice in reversed(notices.latest(town, limit=200)):
        assert notice.at <= NOW
        told.setdefault(notice.person, []).append(notice.kind)
    assert told.pop("instructor") == ["seats_decided", "seats_released"]
    assert {person: told.pop(f"learner{person}") for person in range(1, 9)} == {n: ["seats_open"] for n in range(1, 9)}
    assert sorted(set(told.pop("pi"))) == ["award end", "storage end"]
    assert sorted(told.pop("nari.park")) == ["award budget", "award end"]
    assert told == {}


def test_images_may_be_given(database: Database) -> None:
    example.load(database, now=NOW, image_references={"scientific": "lab/notebook:7"})
    assert {view.profile.image for view in profiles.list_profiles(database)} == {"lab/notebook:7"}


@pytest.mark.parametrize(
    "day",
    [
        datetime(2028, 2, 29, 0, 0, 0, tzinfo=CALENDAR),
        datetime(2027, 1, 31, 23, 59, 59, tzinfo=CALENDAR),
        datetime(2026, 12, 1, 0, 0, 0, tzinfo=CALENDAR),
    ],
)
def test_it_loads_on_any_day(database: Database, day: datetime) -> None:
    now = int(day.timestamp())
    example.load(database, now=now)
    phases = {view.phase for view in projects.list_projects(database, now)}
    assert phases == set(Phase) - {Phase.EXHAUSTED, Phase.SUSPENDED, Phase.REVOKED, Phase.CLOSED}
    for at in (now, now + DAY_SECONDS):
        assert check.findings(database, at) == []


@pytest.mark.parametrize("present", ["organisation", "person"])
def test_it_never_comes_on_top_of_data(database: Database, present: str) -> None:
    by = {"actor": "operator", "now": NOW}
    if present == "organisation":
        people.add_organisation(database, Organisation("real", "실제", "Real", "agency"), **by)
    else:
        people.add_person(database, "someone", "Someone", organisation=None, **by)
    before = people.people(database)
    with pytest.raises(InvalidValue, match="there is data already; nothing was loaded"):
        example.load(database, now=NOW)
    assert people.people(database) == before
    assert projects.list_projects(database, NOW) == []


def test_it_is_loaded_once(town: Database) -> None:
    with pytest.raises(InvalidValue, match="there is data already"):
        example.load(town, now=NOW)
    assert projects.list_projects(town, NOW)[0].state in set(ProjectState)


def test_loading_takes_less_than_three_seconds_of_work(loaded: Loaded) -> None:
    assert loaded.seconds < 3
