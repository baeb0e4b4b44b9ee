"""One start of a server, from the ledger's answer to the server's: made new each time, so that nothing of it is kept.

A spawner's object is used again after a start that failed; what belongs to a start lives here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import aiohttp
from jupyterhub.httpclient import fetch

from quotas.backends.port import BackendAway
from quotas.domain.admission import Admitted, Request
from quotas.domain.inventory import AssignedDevice
from quotas.domain.launch import Launch, Seen
from quotas.domain.profiles import Profile
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.domain.units import InvalidValue, show_duration
from quotas.services import assignment, placement
from quotas.store.database import DatabaseAway
from spawners.door import Answer, Door
from spawners.options import Choice
from spawners.pace import Turn
from spawners.progress import Moment, Phase
from spawners.refused import PolicyRefused

log = logging.getLogger("mudeung.gate")

SLOT_SECONDS = 30.0
"""How long a start keeps others waiting; one that takes longer waits for something else than the machine."""
ANSWER_PAUSES_SECONDS = (0.02, 0.1)
"""How soon a server that does not answer yet is asked again: first, and at last."""
ANSWER_SECONDS = 5.0
LOOK_SECONDS = 0.6
"""How often a server that does not answer yet is looked at in its backend."""
TAKE_BACK_SECONDS = 15.0
"""How long a start that failed waits until nothing is left of it; then the person is told, and it goes on behind."""
EARLIER_SECONDS = 5.0
"""How long a start waits for an earlier one of the same server to be taken back."""
AGAIN_SECONDS = (1, 2, 4, 8, *(16,) * 60)
Result = TypeVar("Result")
Devices = tuple[AssignedDevice, ...]


@dataclass(frozen=True)
class KnownRun:
    """The run of a server that starts or runs, as the hub keeps it over a restart."""

    run_id: str
    profile: str
    until_at: int | None


class Launcher(Protocol):
    """What a spawner does for its attempt."""

    def prepare(self, person: str, project: str) -> str:
        """Return the host's folder of the project's files; all that the launch needs is there. Blocks, in a thread."""

    def launch_terms(self, run_id: str, profile: Profile, folder: str, devices: Devices) -> Launch:
        """Return what is to be launched. Raises InvalidValue."""

    def launch(self, launch: Launch) -> Awaitable[tuple[str, int, Seen]]:
        """Start it; return the address and port where the hub finds the server, and what its backend sees of it.

        Raises InvalidValue.
        """


class Attempt:
    """A start by `person` on `project`, whose server has the path `base_url`."""

    def __init__(self, door: Door, person: str, project: str, base_url: str) -> None:
        self.door = door
        self.person = person
        self.project = project
        self.base_url = base_url
        self.choice = Choice("")
        self.speaks = door.settings.language
        self.phase = Phase.ASKED
        self.run: KnownRun | None = None
        self._turn: Turn | None = None
        self._flights: set[asyncio.Future[Any]] = set()
        self._answered_run = ""
        """The run that the ledger admitted, whoever still awaits the answer: that of a turn has an id of its own."""
        self.was_turn = False

    @property
    def profile_code(self) -> str:
        return self.choice.profile

    async def start(self, choice: Choice, launcher: Launcher) -> tuple[str, int]:
        """Return where the server answers. Raises whatever went wrong: `take_back` is then to be called."""
        earlier = self.door.clean_ups.get((self.person, self.project))
        if earlier is not None:
            await asyncio.wait({earlier}, timeout=EARLIER_SECONDS)
        self.choice = choice
        profile, admitted = await self._admit()
        self._turn = turn = self.door.pace.queue()
        release = None
        try:
            self.phase = Phase.WAITING
            await turn.granted.wait()
            release = asyncio.get_running_loop().call_later(SLOT_SECONDS, turn.give_back)
            self.phase = Phase.PREPARING
            host, port, seen = await self._launched(launcher, profile, admitted)
            await self.in_ledger(self.door.started, seen)
            self.phase = Phase.ANSWERING
            await self._first_answer(f"http://{host}:{port}{self.base_url}api", seen)
        finally:
            if release is not None:
                release.cancel()
            turn.give_back()
        if self.was_turn:
            await self.in_ledger(self.door.tell_of_turn, seen.run_id, None)
        self.phase = Phase.READY
        return host, port

    async def take_back(self, limit_seconds: float = TAKE_BACK_SECONDS) -> None:
        """Everything of this start is gone, or a task of the door's sees to it after `limit_seconds`."""
        run, self.run, self.phase = self.run, None, Phase.ENDED
        if run is None:
            return
        key = (self.person, self.project)
        task = asyncio.get_running_loop().create_task(self._clean_up(run.run_id))
        self.door.clean_ups[key] = task
        task.add_done_callback(lambda _done: self.door.forget_clean_up(key, task))
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task}, timeout=limit_seconds)

    def moment(self) -> Moment:
        """Return where the start is now, in numbers for the page that waits for it."""
        turn = self._turn if self.phase is Phase.WAITING else None
        return Moment(
            phase=self.phase,
            project=self.project,
            profile=self.profile_code,
            backend=self.door.settings.backend,
            until_at=self.run.until_at if self.run else None,
            position=turn.position() if turn else 0,
            waiting=self.door.pace.waiting() if turn else 0,
            expected_seconds=turn.expected_seconds() if turn else 0,
        )

    async def refusal(self, error: Exception, run_id: str) -> PolicyRefused:
        """Return the refusal that stands for `error`; the environment's faults are no faults of the hub's."""
        if isinstance(error, PolicyRefused):
            return error
        if isinstance(error, BackendAway):
            refused = Refused(Code.BACKEND_AWAY, {**self._names(), "backend": self.door.backend.name})
        elif isinstance(error, DatabaseAway):
            refused = Refused(Code.LEDGER_AWAY)
        elif isinstance(error, TimeoutError):
            limit = self.door.settings.start_timeout_seconds
            limits = {"limit_en": show_duration(limit), "limit_ko": show_duration(limit, "ko")}
            refused = Refused(Code.START_TIMEOUT, {**self._names(), **limits, "run": run_id})
        else:
            refused = self._failed("the hub's log says why", "허브 로그를 확인하세요", run_id)
        log.warning("the start of run %s failed: %s", run_id, refused.code.value, exc_info=error)
        return PolicyRefused(refused, self.speaks)

    # The steps.

    async def _admit(self) -> tuple[Profile, Admitted]:
        """Return what the ledger holds for this start; one that a killed hub left open is concluded first."""
        for last_try in (False, True):
            run_id = self.choice.turn or new_run_id()
            self.run = KnownRun(run_id, self.profile_code, None)
            request = Request(
                run_id,
                RunKind.NOTEBOOK,
                self.person,
                self.project,
                self.choice.profile,
                door=self.door.instance,
                wish=self.choice.wish,
            )
            turn_only = self.choice.turn is not None
            asked = self.door.ask_ledger(self.door.reserve, request, int(time.time()), turn_only)
            asked.add_done_callback(self._note_answer)
            answer = await self.remembered(asked)
            self.speaks, decision = answer.language, answer.decision
            if isinstance(decision, Admitted) and answer.profile is not None:
                self.run = KnownRun(decision.run_id, self.profile_code, decision.until_at)
                self.was_turn = turn_only or decision.run_id != run_id
                self.phase = Phase.HELD
                return answer.profile, decision
            if isinstance(decision, Admitted):
                raise PolicyRefused(Refused(Code.PROFILE_UNKNOWN, self._names()), self.speaks)
            self.run = None
            if decision.code is not Code.ALREADY_RUNNING or last_try:
                break
            left = str(decision.numbers["run"])
            log.warning("run %s of %s on %s was left open; it is concluded first", left, self.person, self.project)
            await self.in_backend(self.door.conclude, left, Outcome.STRAY)
        raise PolicyRefused(decision, self.speaks)

    async def _launched(self, launcher: Launcher, profile: Profile, admitted: Admitted) -> tuple[str, int, Seen]:
        """Return where the process or container is that was started with the profile's terms, and how it is seen."""
        try:
            folder = await self.in_backend(launcher.prepare, self.person, self.project)
            devices = await self.in_backend(self.door.devices_for, admitted)
            terms = launcher.launch_terms(admitted.run_id, profile, folder, devices)
            launch = await self.door.ask_ledger(placement.held, self.door.database, terms, admitted)
            self.phase = Phase.STARTING
            return await launcher.launch(launch)
        except InvalidValue as error:
            raise PolicyRefused(self._cannot_launch(error, profile), self.speaks) from error

    def _cannot_launch(self, error: InvalidValue, profile: Profile) -> Refused:
        if error.field == "devices":
            return assignment.refusal(error, self.door.backend.name, profile)
        if error.field == "image":
            return Refused(Code.IMAGE_MISSING, {**self._names(), "image": profile.image})
        return self._failed(error.in_language("en"), error.in_language("ko"), self.run.run_id if self.run else "")

    async def _first_answer(self, url: str, launched: Seen) -> None:
        """Return when the server at `url` answers. Raises PolicyRefused when it has ended instead.

        How long it may take is the limit of the whole start.
        """
        run_id = launched.run_id
        seen: Seen | None = launched
        looked_at = time.monotonic()
        pause, longest = ANSWER_PAUSES_SECONDS
        while seen is not None and seen.running:
            if await answers(url):
                return
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, longest)
            if time.monotonic() - looked_at > LOOK_SECONDS:
                with contextlib.suppress(BackendAway):
                    seen = await self.in_backend(self.door.backend.inspect, run_id)
                looked_at = time.monotonic()
        code = "?" if seen is None or seen.exit_code is None else str(seen.exit_code)
        with contextlib.suppress(BackendAway):
            printed = await self.in_backend(self.door.backend.log, run_id, 2000)
            log.warning("run %s ended before it answered (exit code %s); it printed: %s", run_id, code, printed)
        reasons = f"it ended before it answered (exit code {code})", f"응답 전에 종료되었습니다 (종료 코드 {code})"
        raise PolicyRefused(self._failed(*reasons, run_id), self.speaks)

    async def _clean_up(self, run_id: str) -> None:
        """Nothing of the run is left. While the backend or the ledger is away it is tried again, for some time."""
        if self._flights:
            # A call in a thread cannot be called back: what it starts is there only after it.
            await asyncio.wait(set(self._flights))
        run_id = self._answered_run or run_id
        failed = Outcome.FAILED_TO_START
        for pause in AGAIN_SECONDS:
            try:
                await self.door.ask_backend(self.door.conclude, run_id, failed, failed)
            except (BackendAway, DatabaseAway) as away:
                log.warning("run %s is not taken back yet: %s", run_id, away)
            except Exception:
                log.exception("run %s is not taken back yet", run_id)
            else:
                return
            await asyncio.sleep(pause)
        log.error("run %s could not be taken back; the reconciling loop will", run_id)

    def _failed(self, reason_en: str, reason_ko: str, run_id: str) -> Refused:
        numbers = {**self._names(), "reason_en": reason_en, "reason_ko": reason_ko, "run": run_id}
        return Refused(Code.START_FAILED, numbers)

    def _names(self) -> dict[str, str]:
        return {"person": self.person, "project": self.project, "profile": self.profile_code}

    # Calls in threads. What is under way is remembered, as cancelling cannot reach it.

    async def in_ledger(self, call: Callable[..., Result], *arguments: object) -> Result:
        """Return the call's result, from a thread for the ledger."""
        return await self.remembered(self.door.ask_ledger(call, *arguments))

    async def in_backend(self, call: Callable[..., Result], *arguments: object) -> Result:
        """Return the call's result, from a thread for the backend."""
        return await self.remembered(self.door.ask_backend(call, *arguments))

    async def remembered(self, future: asyncio.Future[Result]) -> Result:
        """Return the future's result; taking the start back waits for it."""
        self._flights.add(future)
        future.add_done_callback(self._landed)
        return await asyncio.shield(future)

    def _note_answer(self, future: asyncio.Future[Answer]) -> None:
        if not future.cancelled() and future.exception() is None:
            decision = future.result().decision
            self._answered_run = decision.run_id if isinstance(decision, Admitted) else ""

    def _landed(self, future: asyncio.Future[Any]) -> None:
        self._flights.discard(future)
        if not future.cancelled():
            future.exception()  # whoever awaited it may be gone; it then counts as seen


async def answers(url: str) -> bool:
    """Return whether the server at `url` answers, and is the one whose path this is."""
    limit = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    try:
        response = await fetch(url, raise_for_status=False, allow_redirects=False, timeout=limit)
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False
    response.release()
    return bool(response.status == 200)
