"""What happened in the example centre beside what its plans say: a class, requests, bills, the loop's rounds.

All of it is done through the use cases that do it in a real centre: what people were told comes from these alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from quotas.domain.admission import Admitted, Request
from quotas.domain.changes import Change, ChangeKind
from quotas.domain.months import Month, month_of
from quotas.domain.policy import Policy
from quotas.domain.recalls import RecallPolicy
from quotas.domain.renewals import Wish
from quotas.domain.reservations import Asked, Term, windows
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.domain.units import DAY_SECONDS, HOUR_SECONDS
from quotas.services import admission, changes, copayments, periodic, renewals, reservations
from quotas.services.example_centre import DEMO_PROJECT, LEARNERS, OPERATOR, REFERENCE, REVIEWER
from quotas.services.example_days import Days, Step
from quotas.store.database import Database

INSTRUCTOR, PI = "instructor", "pi"
CLASS = Asked(
    project="ml-basics",
    profile="h100-1g",
    seats=LEARNERS,
    zone="Asia/Seoul",
    starts_at=0,
    seconds=2 * HOUR_SECONDS,
    title_ko="기계학습 기초 실습",
    title_en="Machine learning, a first course",
    rrule="FREQ=WEEKLY;COUNT=12",
    roster=tuple(f"learner{number}" for number in range(1, LEARNERS + 1)),
)
"""The weekly class; on which day of the week, follows from the day of loading."""
CLASS_HOUR = 14
PRESENT = LEARNERS - 1
"""So many learners came to the last class: one seat was kept for nobody."""

RENEWED_PROJECT = "harbor-watch"
RENEWED_GFLOPS, RENEWED_DAYS = 40_000, 365
MORE_GFLOPS = 20_000
"""What the PI of the project to try has applied for."""

ROUND_DAYS = (-28, -21, -14, -7, -1)
"""On these mornings, and when all was loaded, the loop looked at the awards."""
BILLED_DAYS, PAID_DAYS = 1, 20
"""How long after a month's end its statements are closed, and what is owed is paid."""


@dataclass(frozen=True)
class Session:
    """A run of the past: `person` on `profile` of `project`, for `seconds` from `starts_at` (seconds UTC) on."""

    person: str
    project: str
    profile: str
    starts_at: int
    seconds: int

    @property
    def ends_at(self) -> int:
        return self.starts_at + self.seconds


def session_steps(database: Database, session: Session) -> Iterator[Step]:
    """Yield its start and its end."""
    request = Request(new_run_id(), RunKind.NOTEBOOK, session.person, session.project, session.profile, door="example")

    def begin() -> None:
        # One hold for the whole session, in place of one for each half hour of it.
        policy = replace(Policy(), hold=session.seconds)
        decision = admission.reserve(database, request, session.starts_at, policy)
        if not isinstance(decision, Admitted):
            raise AssertionError(f"{session}: {decision.sentence('en')}")
        admission.started(database, request.run_id, session.starts_at)

    def finish() -> None:
        ended = admission.Ended(session.starts_at, session.ends_at, Outcome.STOPPED)
        admission.settle(database, request.run_id, ended, session.ends_at)

    yield Step(session.starts_at, begin)
    yield Step(session.ends_at, finish)


def class_sessions(days: Days) -> Iterator[Session]:
    """Yield what the learners ran on their seats in the last class."""
    starts_at = days.hour(days.last_class(), CLASS_HOUR)
    for number, person in enumerate((CLASS.roster or ())[:PRESENT], start=1):
        yield Session(person, CLASS.project, CLASS.profile, starts_at, (42 + number) * 60)


def class_steps(database: Database, days: Days) -> Iterator[Step]:
    """Yield how the class came by its seats for twelve weeks, and how the first of them went by."""
    policy, last = Policy(), days.last_class()
    asked = replace(CLASS, starts_at=days.hour(last, CLASS_HOUR))
    asked_at, approved_at = days.hour(last - 4, 10), days.hour(last - 3, 11)
    numbers: list[int] = []

    def ask() -> None:
        view, _ = reservations.request(database, asked, by=INSTRUCTOR, now=asked_at, policy=policy)
        numbers.append(view.number)

    def approve() -> None:
        approval = reservations.Approval()
        reservations.approve(database, numbers[0], approval, actor=OPERATOR, now=approved_at, policy=policy)

    yield Step(asked_at, ask)
    yield Step(approved_at, approve)
    first = windows(asked, Term(asked_at, asked.starts_at + 366 * DAY_SECONDS), asked_at, policy)[0]
    for at in (first.opens_at, first.release_at, first.ends_at):
        yield Step(at, partial(reservations.tick, database, at, policy))


def request_steps(database: Database, days: Days) -> Iterator[Step]:
    """Yield what PIs asked for and reviewers have not decided yet: a renewal, and a change of an award."""
    filed_at, submitted_at, review_at = days.hour(-15, 14), days.hour(-14, 9), days.hour(-5, 10)
    wish = Wish(RENEWED_GFLOPS, REFERENCE.value, days.day(RENEWED_DAYS))
    reason = "카메라가 두 곳 늘어 야간 영상의 학습이 남았습니다. Two more cameras; training on night images is left."
    numbers: list[int] = []

    def file() -> None:
        filed = renewals.file(database, RENEWED_PROJECT, wish, reason=reason, actor=PI, now=filed_at)
        numbers.append(filed.id)

    yield Step(filed_at, file)
    yield Step(submitted_at, lambda: renewals.submit(database, numbers[0], actor=PI, now=submitted_at))
    yield Step(review_at, lambda: renewals.review(database, numbers[0], actor=REVIEWER, now=review_at))
    asked_at = days.hour(-2, 16)
    more = Change(ChangeKind.SUPPLEMENT, gflops=MORE_GFLOPS)
    why = "비 오는 밤의 주행 자료가 들어옵니다. Data of drives in rain at night is coming in."
    yield Step(asked_at, partial(changes.request, database, DEMO_PROJECT, more, reason=why, actor=PI, now=asked_at))


def bill_steps(database: Database, sessions: Iterable[Session], days: Days) -> Iterator[Step]:
    """Yield the closing of each month with use, of each project, and the payment, as far as their days have come."""
    used = {(month_of(session.ends_at - 1), session.project) for session in sessions}
    for month, project in sorted(used):
        closed_at = month.ends_at + BILLED_DAYS * DAY_SECONDS + 10 * HOUR_SECONDS
        paid_at = month.ends_at + PAID_DAYS * DAY_SECONDS + 10 * HOUR_SECONDS
        if closed_at < days.now:
            close = partial(copayments.close, database, month, project=project, actor=OPERATOR, now=closed_at)
            yield Step(closed_at, close)
        if paid_at < days.now:
            yield Step(paid_at, partial(_pay, database, month, project, paid_at))


def _pay(database: Database, month: Month, project: str, at: int) -> None:
    owed = copayments.statement(database, project, month, at).account.owed
    if owed:
        copayments.pay(database, project, owed, receipt=f"{month}/{project}", actor=OPERATOR, now=at)


def round_steps(database: Database, days: Days) -> Iterator[Step]:
    """Yield the loop's rounds in which people are told how their awards stand."""
    jobs = tuple(job for job in periodic.jobs(RecallPolicy()) if job.name == "award notices")
    for at in (*(days.hour(number, 9) for number in ROUND_DAYS), days.now):
        yield Step(at, partial(periodic.run, database, jobs, at))
