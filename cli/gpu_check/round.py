"""The check, step by step: inventory, capacity, servers, training, metering, a scheduled run, charges, release."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from math import floor
from typing import Any

from cli.demo.platform import OwnPlatform
from cli.demo.round import output_text
from cli.demo.story import NotDone, Step, Story
from cli.gpu_check import centre, cuda, inventory, metering, servers, training
from cli.gpu_check.centre import POOL, PROFILE, PROJECT, Agent
from cli.gpu_check.inventory import Machine
from cli.gpu_check.lives import Lives
from cli.gpu_check.metering import Figures, Watch
from cli.gpu_check.servers import Person
from quotas.home import open_home

SERVERS = 2
"""So many devices are in use at most, others are drained; the award is for one more, which then finds none."""
SCRUB_SECONDS = 180.0
METER_SECONDS = 60.0
"""Beside three intervals of the agent: until when the last sample of a run is to be there."""
LEAST_BUSY = 0.5
"""For so much of its time a training keeps the device busy, at least."""
CHARGE_SECONDS = 1.0
LIVE_SECONDS = 0.5
"""A run's end is seen so much later than it is, at most."""


@dataclass(frozen=True)
class Options:
    """How to check: how long to train, how often the agent samples, and which model (None: that of most devices)."""

    seconds: float = 60.0
    interval_seconds: int = 10
    model: str | None = None


@dataclass
class Check:
    """One check of this machine, as far as it came."""

    platform: OwnPlatform
    story: Story
    options: Options
    machine: Machine | None = None
    model: str = ""
    rate: int = 0
    undone: int = 0
    uuids: list[str] = field(default_factory=list)
    holders: Counter[str] = field(default_factory=Counter)
    """How many runs held each device."""
    charged: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.agent = Agent(self.platform, self.options.interval_seconds)
        self.lives = Lives(self.platform)
        self.watch = Watch()

    def go(self) -> None:
        """Every step that can be done here is done, and was as it should be.

        Raises Differs at the first that was not, and NotDone where none after it can be done.
        """
        self._look_at_machine()
        with self.story.step(f"The platform starts ({self.platform.backend})", "플랫폼 시작") as step:
            self.platform.start()
            step.note(self.platform.url)
        self.lives.start()
        self._add_machine()
        self._offer()
        with servers.people(self.platform) as people:
            self._use(people)
        with self.story.step("Every invariant of the ledger holds", "원장의 모든 불변식 성립") as step:
            code, output = self.platform.command("check")
            step.expect(code == 0, "mudeung check to pass", f"exit {code}: {output}")
            step.note(f"mudeung check: {output}")
        with self.story.step("Everything ends; nothing is left running", "모두 종료, 남은 프로세스 없음") as step:
            code = self.agent.stop()
            step.expect(code == 0, "an agent that ends with 0", f"exit {code}: {self.agent.printed()}")
            code = self.platform.stop()
            step.expect(code == 0, "exit 0", f"exit {code}: {self.platform.printed()}")
            step.expect(not self.platform.left(), "no process left", self.platform.left())

    def end(self) -> None:
        """Nothing that this check started for itself goes on."""
        self.lives.end()
        self.watch.end()
        self.agent.stop()

    def _look_at_machine(self) -> None:
        with self.story.step("NVML says what this machine has", "NVML로 장비 확인") as step:
            self.machine = inventory.read(step)
        with (
            suppress(NotDone),  # it is a tool for people; NVML itself was asked
            self.story.step("nvidia-smi lists the same devices", "nvidia-smi 목록과 일치"),
        ):
            inventory.compare_with_smi(step, self.machine)

        with self.story.step("The agent reads the same devices", "에이전트가 같은 장치를 읽음") as step:
            inventory.compare_with_agent(step, self.machine)

    def _add_machine(self) -> None:
        machine = self.known_machine
        with self.story.step(
            "An operator adds this machine; its agent starts", "운영자가 장비 추가, 에이전트 시작"
        ) as step:
            token = centre.add_machine(self.platform, step)
            step.note(self.agent.start(token))
        with self.story.step("Its devices appear as NVML lists them", "장치가 NVML 목록대로 나타남") as step:
            rows = centre.wait_for_devices(self.platform, self.agent, len(machine.devices))
            if self.options.model is not None:
                rows = centre.match(self.platform, step, self.options.model)
            inventory.compare_with_platform(step, machine, rows)
            self.model = centre.choose_model(rows, self.options.model)
            step.note(f"→ {self.model}")
            self.uuids = [str(row["uuid"]) for row in rows if row["device_model"] == self.model]
        with self.story.step("They are the pool's capacity", "풀의 용량이 됨") as step:
            found = centre.capacity(self.platform, self.model)
            step.expect(found["installed"] == len(self.uuids), f"{len(self.uuids)} {self.model}", found)
            step.note(f"{POOL}: {found['installed']} × {self.model}")
        self.watch.start(self.uuids)

    def _offer(self) -> None:
        english = "A profile with one of them is rated and offered to a project"
        with self.story.step(english, "장치 1개 프로필에 요율을 정해 과제에 제공") as step:
            centre.leave_only_this_machine(self.platform, step, self.model)
            self.rate = centre.offer(self.platform, step, self.model, SERVERS + 1)
            step.note(f"{PROFILE}: {self.rate:,} GFLOPS")

    def _use(self, people: list[Person]) -> None:
        first = people[0]
        with self.story.step(f"{first.name} starts a server", f"{first.name} 서버 시작") as step:
            run = first.start(step)
            uuid = self._held(step, str(run["id"]))
        self._see(first, uuid)
        self._others(people, uuid)
        trained = self._train(first, uuid)
        with self.story.step("The server is stopped and charged", "서버 중지 및 청구") as step:
            ended = first.stop(step, str(run["id"]))
            self.charged.append(ended)
        self._meter(ended, uuid, trained)
        with self.story.step("The device is scrubbed, and can be held again", "장치를 소거하고 다시 사용 가능") as step:
            self._release(step, uuid)
        self._schedule(first, trained is not None)
        self._charges()
        with self.story.step("Every device is scrubbed, and can be held again", "모든 장치를 소거") as step:
            for each in sorted(self.holders):
                self._release(step, each)

    def _held(self, step: Step, run: str) -> str:
        """Return the one device that the run holds."""
        held = self._devices_of(run)
        step.expect(len(held) == 1, f"one device that run {run} holds", held)
        step.note(f"{run}: {held[0]}")
        self.holders[held[0]] += 1
        return held[0]

    def _devices_of(self, run: str) -> list[str]:
        return [str(row["uuid"]) for row in centre.device_rows(self.platform) if row["run"] == run]

    def _see(self, person: Person, uuid: str) -> None:
        with self.story.step("Its kernel is given exactly that device", "커널에는 그 장치만 주어짐") as step:
            with person.open_kernel(training.LOOKING, training.looking_notebook()) as kernel:
                seen = cuda.line(kernel.run(cuda.LOOK), "seen")
            self._given(step, seen, uuid)
        with suppress(NotDone), self.story.step("CUDA sees exactly that device", "CUDA에는 그 장치만 보임") as step:
            self._must_compute()
            own = [cuda.plain(uuid)]
            step.expect(seen.get("devices") == own, f"the devices {own}", seen)
            step.note(f"cuDeviceGetCount = 1, {seen['devices'][0]}")

    def _given(self, step: Step, seen: Mapping[str, Any], uuid: str) -> None:
        """By its environment, or by the container's, a process is given the device and no other."""
        name, variable = self._variable
        step.expect(seen[name] == uuid, f"{variable}={uuid}", seen)
        step.note(f"{variable}={seen[name]}")

    @property
    def _variable(self) -> tuple[str, str]:
        """By which variable a server is told its device: how the kernel's answer names it, and its own name."""
        if self.platform.backend == "docker":
            return "attached", "NVIDIA_VISIBLE_DEVICES"
        return "visible", "CUDA_VISIBLE_DEVICES"

    def _must_compute(self) -> None:
        """Raise NotDone where this machine has no driver that can compute; the check is incomplete then."""
        reason = cuda.missing()
        if reason:
            self.undone += 1
            raise NotDone(f"no CUDA driver: {reason}", f"CUDA 드라이버 없음: {reason}")

    def _others(self, people: list[Person], uuid: str) -> None:
        """A second server has another device, and with none left a start is refused; then they are as before."""
        started: list[tuple[Person, str]] = []
        if len(self.uuids) > 1:
            with self.story.step("A second server has another device", "두 번째 서버에는 다른 장치") as step:
                run = people[1].start(step)
                other = self._held(step, str(run["id"]))
                step.expect(other != uuid, f"another device than {uuid}", other)
                started.append((people[1], str(run["id"])))
        with self.story.step("With none free the next start is refused", "남은 장치가 없으면 다음 시작은 거부") as step:
            spare = len(self.uuids) - 1 - len(started)
            if spare:
                words = ("pools", "drain", POOL, self.model, str(spare), "--reason", "gpu-check")
                centre.operate(self.platform, step, *words)
            text = people[-1].refused(step)
            step.expect(self.model in text, f"a reason that names {self.model}", text)
            step.note(text)
        for person, run_id in started:
            with self.story.step("The second server is stopped and charged", "두 번째 서버 중지 및 청구") as step:
                self.charged.append(person.stop(step, run_id))

    def _train(self, person: Person, uuid: str) -> dict[str, Any] | None:
        """Train, or let the device be for as long; return the training's result, None where there is none."""
        seconds = self.options.seconds
        with suppress(NotDone):
            with self.story.step("A training notebook computes on it", "학습 노트북이 장치에서 연산") as step:
                self._must_compute()
                with person.open_kernel(training.NOTEBOOK, training.notebook()) as kernel:
                    result = training.train(kernel, seconds)
                training.check_result(step, result, uuid)
            return result
        with self.story.step(f"Its use is read for {seconds:g} s all the same", f"{seconds:g}초 동안 사용량만 측정"):
            time.sleep(seconds)
        return None

    def _meter(self, run: Mapping[str, Any], uuid: str, trained: Mapping[str, Any] | None) -> None:
        with self.story.step("What was metered is what NVML says", "측정값이 NVML과 일치") as step:
            start, end = _instant(run["started_at"]), _instant(run["finished_at"])
            polls = self.watch.of(uuid)
            own = metering.figures(polls, start, end)
            limit = METER_SECONDS + 3 * self.options.interval_seconds
            least = own.seconds - metering.unmatched(self.options.interval_seconds)
            platform = metering.of_run(self.platform, str(run["id"]), least, limit)
            watts = metering.most(polls, lambda poll: poll.power_watts)
            step.note(", ".join(f"{what}: {name}" for what, name in sorted(self.watch.sources[uuid].items())))
            compared = metering.compare(platform, own, self.options.interval_seconds, watts)
            for each in compared:
                step.note(each.sentence(self.story.session.language))
            for each in compared:
                step.expect(each.holds is not False, each.sentence("en"), f"{each.platform} and {each.nvml}")
            told = [each for each in compared if each.holds]
            step.expect(len(told) > 1, "at least one figure of use that both tell", compared)
            if trained is not None:
                self._saw_training(step, own, trained)

    @staticmethod
    def _saw_training(step: Step, own: Figures, trained: Mapping[str, Any]) -> None:
        """NVML saw the training: at least its own memory, and the device busy for most of its time."""
        least = int(trained["memory_bytes"])
        step.expect((own.most_memory_bytes or 0) >= least, f"{least} bytes or more", own.most_memory_bytes)
        if own.busy_seconds is not None:
            most_of_it = LEAST_BUSY * float(trained["seconds"])
            step.expect(own.busy_seconds >= most_of_it, f"{most_of_it:.1f} s busy or more", own.busy_seconds)

    def _release(self, step: Step, uuid: str) -> None:
        seconds = SCRUB_SECONDS + 3 * self.options.interval_seconds
        states = centre.wait_until_available(self.platform, self.agent, uuid, seconds)
        scrubs, runs = self.agent.scrubs(uuid), self.holders[uuid]
        step.expect(len(scrubs) == runs and min(scrubs) > 0, f"{runs} scrubs of {uuid}", self.agent.printed())
        step.note(f"{uuid}: {' → '.join(states)}; {len(scrubs)} × {scrubs[-1] / 2**20:,.0f} MiB")

    def _schedule(self, person: Person, trained: bool) -> None:
        """Run the notebook by schedule, on one device of the model."""
        english = "The same notebook runs by schedule" if trained else "A notebook runs by schedule"
        with self.story.step(english, "노트북 예약 실행") as step:
            path = training.NOTEBOOK if trained else training.LOOKING
            parameters = {"seconds": self.options.seconds} if trained else {}
            had: set[str] = set()
            found = training.schedule(
                person, path, parameters, self.options.seconds, lambda run: had.update(self._devices_of(run))
            )
            step.expect(found["state"] == "succeeded", "a run that succeeded", found)
            folder = open_home(self.platform.home, backend=self.platform.backend).project_folder(PROJECT)
            printed = output_text(json.loads((folder / found["output"]).read_text(encoding="utf-8")))
            if trained:
                result = cuda.line(printed, "result")
                [uuid] = [each for each in self.uuids if cuda.plain(each) == result["uuid"]] or [""]
                step.expect(uuid, f"one of {self.uuids}", result["uuid"])
                training.check_result(step, result, uuid)
            else:
                seen = cuda.line(printed, "seen")
                uuid = str(seen[self._variable[0]])
                step.expect(uuid in self.uuids, f"one of {self.uuids}", seen)
                self._given(step, seen, uuid)
            # A short run may be over before it is looked at; that its device is scrubbed afterwards says the same.
            step.expect(had <= {uuid}, f"no other device than {uuid}", had)
            self.holders[uuid] += 1
            step.note(f"{found['output']}: {uuid}")
            self.charged.append(servers.settled(self.platform, str(found["id"])))

    def _charges(self) -> None:
        with self.story.step(
            "Each run is charged its rate for its true seconds", "각 실행은 요율 × 실제 시간으로 청구"
        ) as step:
            listed = {str(row["id"]) for row in centre.runs(self.platform)}
            step.expect(listed == {str(run["id"]) for run in self.charged}, "these runs and no others", listed)
            for run in self.charged:
                life, seconds = self.lives.of(str(run["id"])), int(run["seconds"])
                charge = int(run["charge_gflops_seconds"])
                step.expect(charge == self.rate * seconds, f"{self.rate} × {seconds} s", charge)
                near = abs(seconds - life.seconds) <= CHARGE_SECONDS + LIVE_SECONDS
                step.expect(near, f"{life.seconds:.2f} s, as it lived", f"{seconds} s")
                step.note(f"{run['kind']}: {seconds} s × {self.rate:,} = {charge:,} GFLOPS·s; {life.seconds:.2f} s")

    @property
    def known_machine(self) -> Machine:
        if self.machine is None:
            raise LookupError("the machine has not been looked at")
        return self.machine


def _instant(text: str) -> float:
    return floor(datetime.fromisoformat(text).timestamp())
