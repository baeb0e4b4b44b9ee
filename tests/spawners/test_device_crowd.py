"""Two hundred random starts and stops over 8 GPUs, two of them cut into 14 slices, while hub and loop are killed.

Every server is a process, and what is compared with the ledger is what the system says of the processes.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from quotas.backends.local import FOLDER_VARIABLE, KEEPER, LocalBackend
from quotas.domain.launch import RUN_VARIABLE
from quotas.domain.people import MembershipRole
from quotas.domain.profiles import Profile
from quotas.domain.rates import Precision, Rate, RateCard, RateRule
from quotas.domain.runs import RunState, new_run_id
from quotas.services import assignment, check, people, profiles, projects, rates
from quotas.store.database import Database
from tests.devices import add_machine, cut, gpu, states
from tests.platform import BY, GIB, GPU, RATES, Platform, add_project, build_world, running, wait_for

STARTS = 200
WORKERS = 5
PERSONS = [f"p{number:02d}" for number in range(6 * WORKERS)]
"""More than there are devices, so that some are refused."""
DEVICES = [*(gpu(number) for number in range(6)), *cut(6, 7), *cut(7, 7)]
SLICE = "h100-slice"
LIMIT_SECONDS = 420
"""For all of them: on two cores that others use as well, a start and a stop take up to two seconds."""
TICKS = os.sysconf("SC_CLK_TCK")


def world(database: Database, now: int) -> None:
    """The small world with the machine, and thirty persons on the project `crowd`, which may use all of it."""
    build_world(database, now, simulated=False)
    by: dict[str, Any] = {"actor": BY, "now": now}
    add_machine(database, DEVICES, now)
    profile = Profile(SLICE, "slice", "slice", "science", 1000, GIB, GIB, "h100-mig-1g.10gb", 1)
    profiles.add_profile(database, profile, 10, **by)
    figures = {**RATES, SLICE: 8_109}
    rows = tuple(Rate(code, gflops, RateRule.ASSIGNED, "a figure for tests", BY) for code, gflops in figures.items())
    rates.publish(database, RateCard(2, now, Precision.FP32, rows), **by)
    add_project(database, "crowd", now, gflops=10_000_000, profiles=(GPU, SLICE))
    for person in PERSONS:
        people.add_person(database, person, person, organisation="lab", language="en", **by)
        projects.add_member(database, "crowd", person, MembershipRole.LEARNER, **by)


@dataclass
class Watch:
    """Looks at the system's processes all the time: which of them see which device, and how long each run lives.

    A keeper's life is its run's. It is taken by the clock of the kernel, which nobody sets.
    """

    folder: str
    shared: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    most_at_once: int = 0
    _began: dict[int, tuple[str, float]] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join(10)

    def _watch(self) -> None:
        poll = select.poll()
        while not self._ended.is_set():
            self._look(poll)
            for descriptor, _ in poll.poll(50):
                now = time.clock_gettime(time.CLOCK_BOOTTIME)
                run_id, began = self._began.pop(descriptor)
                self.seconds[run_id] = now - began
                poll.unregister(descriptor)
                os.close(descriptor)

    def _look(self, poll: select.poll) -> None:
        """Note every process of the platform's; two that see one device, and still live, share it."""
        known = {run_id for run_id, _ in self._began.values()}
        holders: dict[str, tuple[str, int]] = {}
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            process = _read(Path(entry.path), self.folder)
            if process is None:
                continue
            run_id, devices, is_keeper = process
            for device in devices:
                other, pid = holders.setdefault(device, (run_id, int(entry.name)))
                if other != run_id and _lives(pid) and _lives(int(entry.name)):
                    self.shared.append(f"{device}: {other} and {run_id}")
            self.seen.update(devices)
            if is_keeper and run_id not in known and run_id not in self.seconds:
                self._follow(int(entry.name), run_id, poll)
        self.most_at_once = max(self.most_at_once, len(holders))

    def _follow(self, pid: int, run_id: str, poll: select.poll) -> None:
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(pid)
            stat = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
            self._began[descriptor] = (run_id, int(stat[19]) / TICKS)
            poll.register(descriptor, select.POLLIN)


def _read(process: Path, folder: str) -> tuple[str, list[str], bool] | None:
    """Return a process's run, the devices that it sees, and whether it is the run's keeper; None for any other."""
    try:
        text = (process / "environ").read_bytes()
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    variables = dict(each.split("=", 1) for each in text.decode(errors="replace").split("\0") if "=" in each)
    if variables.get(FOLDER_VARIABLE) != folder or RUN_VARIABLE not in variables:
        return None
    devices = variables.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return variables[RUN_VARIABLE], [each for each in devices if each], words[1:2] == [str(KEEPER).encode()]


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    return False


def presses(platform: Platform, persons: list[str], seed: int, enough: threading.Event) -> None:
    """Start and stop servers of these persons at random until it is enough, whatever becomes of the hub meanwhile."""
    chance = random.Random(seed)  # noqa: S311 - nothing is kept secret by it
    up: set[str] = set()
    while not enough.is_set():
        person = chance.choice(persons)
        path = f"/users/{person}/servers/crowd"
        try:
            if person in up and chance.random() < 0.8:
                up.discard(person)
                platform.api(person, "DELETE", path)
            else:
                profile = chance.choice((GPU, SLICE, SLICE))
                if platform.api(person, "POST", path, json={"profile": profile}).status_code in (201, 202, 400):
                    up.add(person)
        except httpx.HTTPError:
            time.sleep(0.1)


def killed_again_and_again(platform: Platform, chance: random.Random) -> Counter[str]:
    """Kill hub and loop in turn, at moments of chance, until there were enough starts; return how often each."""
    killed: Counter[str] = Counter()
    deadline = time.monotonic() + LIMIT_SECONDS
    while len(platform.runs("crowd")) < STARTS:
        assert time.monotonic() < deadline, f"only {len(platform.runs('crowd'))} starts in {LIMIT_SECONDS} s"
        time.sleep(2 + 4 * chance.random())
        name = ("hub", "reconciler")[killed.total() % 2]
        platform.kill(name)
        killed[name] += 1
        assert check.findings(platform.database, int(time.time())) == []
        (platform.start_hub if name == "hub" else platform.start_reconciler)()
    return killed


@pytest.mark.timeout(600)
def test_no_device_is_ever_seen_by_two_runs_and_none_is_lost(tmp_path: Path) -> None:
    chance = random.Random(22)  # noqa: S311 - nothing is kept secret by it
    with running(tmp_path, world=world, reconciler=True) as platform:
        for person in PERSONS:
            platform.api(person, "GET", "/user")  # so that each has a token
        watch, enough = Watch(str(platform.home.runs)), threading.Event()
        workers = [
            threading.Thread(target=presses, args=(platform, PERSONS[number::WORKERS], number, enough))
            for number in range(WORKERS)
        ]
        with watch.watching():
            for worker in workers:
                worker.start()
            try:
                killed = killed_again_and_again(platform, chance)
            finally:
                enough.set()
                for worker in workers:
                    worker.join(60)
            assert min(killed["hub"], killed["reconciler"]) >= 2
            everything_ends(platform)
        assert watch.shared == []
        assert watch.most_at_once > len(DEVICES) // 2
        assert set(watch.seen) == {device.uuid for device in DEVICES}
        every_charge_is_its_life(platform, watch.seconds)


def everything_ends(platform: Platform) -> None:
    """All servers are stopped; each device can be held again."""
    for person in PERSONS:
        platform.api(person, "DELETE", f"/users/{person}/servers/crowd")
    wait_for(
        "every run's end", lambda: all(run.state is RunState.SETTLED for run in platform.runs("crowd")), seconds=60
    )
    wait_for("the end of every process", lambda: platform.backend.list_runs() == [])
    assert states(platform.database) == {device.uuid: "available" for device in DEVICES}
    assert check.findings(platform.database, int(time.time())) == []
    time.sleep(0.2)  # the watch sees the last of them go


def every_charge_is_its_life(platform: Platform, lives: dict[str, float]) -> None:
    """What lived was charged for as long, within a second; what was not charged never lived."""
    settled = {run.id: run for run in platform.runs("crowd")}
    assert len(settled) >= STARTS
    assert set(lives) <= set(settled)
    wrong = {
        run_id: (run.seconds, lives.get(run_id))
        for run_id, run in settled.items()
        if abs((run.seconds or 0) - lives.get(run_id, 0.0)) > 1
    }
    assert wrong == {}
    held = [assignment.devices_of(platform.database, run_id) for run_id in settled]
    assert {len(devices) for devices in held} == {1}


def test_the_watch_sees_what_is_shared_and_how_long_a_run_lives(tmp_path: Path) -> None:
    """What the other test relies on, shown a device that two runs do see."""
    backend, watch = LocalBackend(tmp_path), Watch(str(tmp_path.resolve()))
    shared, own = ({"CUDA_VISIBLE_DEVICES": each} for each in ("GPU-1,GPU-2", "GPU-3"))
    runs = [new_run_id() for _ in range(3)]
    with watch.watching():
        processes = [
            subprocess.Popen(backend.keeper_command(run_id, ["sleep", seconds]), env=visible)
            for run_id, visible, seconds in zip(runs, (shared, shared, own), ("0.5", "0.8", "1"), strict=True)
        ]
        for process in processes:
            process.wait(10)
        time.sleep(0.2)
    assert {each.split(":")[0] for each in watch.shared} == {"GPU-1", "GPU-2"}
    assert {run_id: round(seconds, 1) for run_id, seconds in watch.seconds.items()} == pytest.approx(
        dict(zip(runs, (0.5, 0.8, 1.0), strict=True)), abs=0.2
    )
