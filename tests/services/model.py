"""The engine's rules again, as plain integers in dictionaries: what the real one must agree with, step by step.

Nothing here is shared with the product but names of states and codes; it is written for being read, not for speed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

HOLD, MARGIN, EXTEND_BELOW, MINIMUM = 1800, 120, 1320, 600
CLOCK = 300
BORROWING = 1
"""A project may borrow this many times its ceiling, beyond it."""
MAY_START = {"pi", "member", "instructor", "learner"}
MAY_SCHEDULE = MAY_START - {"learner"}


@dataclass
class Project:
    """A project with its one award, and the balances of its allocation."""

    code: str
    starts_at: int
    ends_at: int
    ceiling: int
    available: int
    members: dict[str, str]
    ended: bool = False
    held: int = 0
    spent: int = 0
    expired: int = 0
    in_use: int = 0
    beyond: int = 0
    suspended: bool = False

    def is_over(self, now: int) -> bool:
        return self.ended or now >= self.ends_at

    def balances(self) -> dict[str, int]:
        return {"available": self.available, "held": self.held, "spent": self.spent, "expired": self.expired}


@dataclass(frozen=True)
class Asked:
    """A request as the machine draws it."""

    run_id: str
    kind: str
    person: str
    project: str
    profile: str
    seconds: int | None
    wish: str = "guaranteed"


@dataclass
class Run:
    """A run that was admitted."""

    asked: Asked
    gflops: int
    model: str | None
    amount: int
    opened_at: int
    until_at: int
    priority: str = "guaranteed"
    ends_by: int | None = None
    is_open: bool = True
    started_at: int | None = None
    seen_at: int | None = None
    extensions: int = 0
    seconds: int = 0
    charge: int = 0
    overrun: int = 0
    refunded: int = 0

    def is_there(self, at: int, *, rolling: bool) -> bool:
        """Whether it holds its device at `at`; `rolling`: also as it will be extended so far."""
        return self.until_at > at or (rolling and self.asked.kind == "notebook" and self.ends_by is None)


@dataclass
class Model:
    """Everything that the ledger should say."""

    profiles: dict[str, str | None]
    """Profile → device model; each takes one device."""
    cards: list[tuple[int, dict[str, int]]]
    phases: dict[str, list[tuple[int, int]]]
    projects: dict[str, Project] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    devices: dict[str, int] = field(default_factory=dict)
    drained: dict[str, int] = field(default_factory=dict)
    issuance: int = 0
    overrun: int = 0

    def rate(self, profile: str, now: int) -> int | None:
        in_force = [rates for effective_from, rates in self.cards if effective_from <= now]
        return in_force[-1].get(profile) if in_force else None

    def healthy(self, model: str, now: int) -> int:
        begun = [phase for phase in self.phases.get(model, []) if phase[0] <= now]
        return (max(begun)[1] if begun else 0) - self.drained.get(model, 0)

    def spoken_for(self, model: str | None, after: int, since: int, before: int, *, new: bool) -> int | None:
        """Return the first change of capacity after `after`, from `since` on, that leaves no room for one more.

        A new one fits beside all that go on, one that is extended beside what has been extended so far.
        """
        if model is None:
            return None
        for at in sorted(at for at, _ in self.phases.get(model, []) if max(after + 1, since) <= at < before):
            going = [run for run in self.open_runs() if run.model == model and run.is_there(at, rolling=new)]
            if len(going) + 1 > self.healthy(model, at):
                return at
        return None

    def award(self, project: Project) -> None:
        self.projects[project.code] = project
        self.issuance -= project.available

    def open_runs(self) -> list[Run]:
        return [run for run in self.runs.values() if run.is_open]

    def decide(self, asked: Asked, now: int) -> Run | str:
        """Return the run as it would be held, or the code of the refusal."""
        if asked.run_id in self.runs:
            return self.runs[asked.run_id] if self.runs[asked.run_id].is_open else "run_ended"
        project = self.projects[asked.project]
        refusal = self._who(asked, project, now) or self._what(asked, project, now)
        if refusal is not None:
            return refusal
        gflops = self.rate(asked.profile, now)
        assert gflops is not None
        wanted = HOLD + MARGIN if asked.seconds is None else asked.seconds + MARGIN
        least = MINIMUM if asked.seconds is None else wanted
        model = self.profiles[asked.profile]
        ends_by = self.spoken_for(model, now, now, now + wanted, new=True)
        if ends_by is not None and ends_by < now + least:
            return "reserved_soon"
        seconds = min(wanted, project.available // gflops, project.ends_at - now)
        if seconds < least:
            return "award_ended" if project.ends_at - now < least else "budget_short"
        if ends_by is not None and ends_by < now + seconds:
            seconds = ends_by - now
        else:
            ends_by = None
        priority = self.priority(asked, project, gflops)
        return Run(asked, gflops, model, seconds * gflops, now, now + seconds, priority, ends_by)

    def priority(self, asked: Asked, project: Project, gflops: int) -> str:
        if self.profiles[asked.profile] is None or asked.wish == "guaranteed":
            return "guaranteed"
        fits = project.in_use + gflops <= project.ceiling
        return "guaranteed" if asked.wish == "borrowed" and fits else asked.wish

    def _who(self, asked: Asked, project: Project, now: int) -> str | None:
        role = project.members.get(asked.person)
        if role is None:
            return "not_a_member"
        if role not in (MAY_START if asked.kind == "notebook" else MAY_SCHEDULE):
            return "role_may_not"
        if project.ended:
            return "project_ended"
        if now < project.starts_at:
            return "award_not_started"
        if now >= project.ends_at:
            return "award_ended"
        return "award_suspended" if project.suspended else None

    def _what(self, asked: Asked, project: Project, now: int) -> str | None:
        gflops, model = self.rate(asked.profile, now), self.profiles[asked.profile]
        if gflops is None:
            return "profile_unrated"
        who = asked.person, asked.project, "notebook"
        if asked.kind == "notebook" and any(
            (run.asked.person, run.asked.project, run.asked.kind) == who for run in self.open_runs()
        ):
            return "already_running"
        if self.priority(asked, project, gflops) == "guaranteed":
            if project.in_use + gflops > project.ceiling:
                return "ceiling"
        elif project.beyond + gflops > project.ceiling * BORROWING:
            return "borrow_limit"
        if model is not None and self.devices.get(model, 0) + 1 > self.healthy(model, now):
            return "pool_full"
        return None

    def admit(self, run: Run) -> None:
        if run.asked.run_id in self.runs:
            return
        self.runs[run.asked.run_id] = replace(run)
        project = self.projects[run.asked.project]
        project.available -= run.amount
        project.held += run.amount
        self._count(project, run, 1)
        if run.model is not None:
            self.devices[run.model] = self.devices.get(run.model, 0) + 1

    @staticmethod
    def _count(project: Project, run: Run, sign: int) -> None:
        if run.priority == "guaranteed":
            project.in_use += sign * run.gflops
        else:
            project.beyond += sign * run.gflops

    def extend(self, run: Run, now: int) -> tuple[str, int]:
        """The run is extended; return (how it stands, until when it is paid)."""
        project = self.projects[run.asked.project]
        role = project.members.get(run.asked.person)
        if not run.is_open:
            return "closed", run.until_at
        allowed = MAY_START if run.asked.kind == "notebook" else MAY_SCHEDULE
        if project.ended or role not in allowed:
            return "ending", run.until_at
        if run.asked.kind == "batch":
            return ("kept" if now < run.until_at - MARGIN else "ending"), run.until_at
        if run.until_at - now >= EXTEND_BELOW:
            return "kept", run.until_at
        wanted = now + HOLD + MARGIN
        limits = [wanted, project.ends_at, run.until_at + project.available // run.gflops]
        limits += [run.ends_by] if run.ends_by is not None else []
        limits += [run.until_at] if project.suspended else []
        spoken_for = self.spoken_for(run.model, now, run.until_at, wanted, new=False)
        limits += [spoken_for] if spoken_for is not None else []
        reach = max(min(limits), run.until_at)
        if reach > run.until_at:
            more = (reach - run.until_at) * run.gflops
            project.available -= more
            project.held += more
            run.amount += more
            run.until_at = reach
            run.extensions += 1
        return ("extended" if run.until_at >= wanted else "ending"), run.until_at

    def settle(self, run: Run, started_at: int | None, finished_at: int | None, now: int) -> None:
        """The run is charged, once; `finished_at` None: until it was last seen."""
        if not run.is_open:
            return
        project = self.projects[run.asked.project]
        began = started_at if started_at is not None else run.started_at
        if began is not None:
            began = max(began, run.opened_at)
            known = finished_at is not None and finished_at <= now + CLOCK
            end = finished_at if known else (run.seen_at or began)
            assert end is not None
            run.seconds = max(end - began, 1)
        run.charge = run.seconds * run.gflops
        run.overrun = max(run.charge - run.amount, 0)
        run.is_open = False
        project.held -= run.amount
        project.spent += run.charge
        project.available += run.amount - (run.charge - run.overrun)
        self._count(project, run, -1)
        self.overrun -= run.overrun
        if run.model is not None:
            self.devices[run.model] -= 1

    def refund(self, run: Run, amount: int, now: int) -> None:
        project = self.projects[run.asked.project]
        run.refunded += amount
        project.spent -= amount
        project.available += amount
        if project.is_over(now):
            self.expire(project)

    def expire(self, project: Project) -> None:
        project.expired += project.available
        project.available = 0

    def expire_ended(self, now: int) -> int:
        over = [project for project in self.projects.values() if project.is_over(now) and project.available]
        for project in over:
            self.expire(project)
        return len(over)
