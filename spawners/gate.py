"""The gate: every server of the hub is reserved before it starts and settled after it has ended.

`Gate` is mixed into a spawner. A server belongs to one person and one project: its name is the project's code, and the
hub's default server is off. What the hub was told (its form, its API, its stored options) names a profile and a wish,
nothing else; who may use it is read from the ledger at every start. Each start is a run of its own, whose id is
committed before anything starts and is written on the process or container, so that a hub which is killed at any moment
leaves nothing that cannot be found.

The hub's hooks are hints: it swallows their errors, and skips them when it is killed. What is charged is what the
backend says; what this hub leaves behind, the reconciling loop finishes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, ClassVar, TypeVar

from jupyterhub.spawner import Spawner
from traitlets import default

from quotas.backends.port import BackendAway
from quotas.domain.launch import Launch, Seen
from quotas.domain.profiles import Profile
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import Outcome
from quotas.store.database import DatabaseAway
from spawners import options
from spawners.attempt import TAKE_BACK_SECONDS, Attempt, Devices, KnownRun
from spawners.door import Door
from spawners.form import render_form
from spawners.options import Choice
from spawners.progress import READY_WORDS, Moment, Phase, Progress
from spawners.refused import PolicyRefused

log = logging.getLogger("mudeung.gate")

CANCEL_SECONDS = 0.5
"""How long a cancelled start keeps the hub, which gives it a second; what is left then goes on behind it."""
PROGRESS_PAUSE_SECONDS = 0.4
Result = TypeVar("Result")


class Gate(Spawner):
    """Mixed into a spawner class, before it. A subclass says how a launch becomes a process or container."""

    door: ClassVar[Door]
    """Set once, when the hub is configured."""

    def __init__(self, **kwargs: Any) -> None:
        self._attempt: Attempt | None = None
        self._restored: KnownRun | None = None
        self._ended_status: int | None = None
        super().__init__(**kwargs)

    # What a subclass adds.

    def prepare(self, person: str, project: str) -> str:
        """Return the host's folder of the project's files, made when it is missing. Called in a thread."""
        del person
        return str(self.door.home.project_folder(project))

    @abstractmethod
    def launch_terms(self, run_id: str, profile: Profile, folder: str, devices: Devices) -> Launch:
        """Return what is to be launched. Raises InvalidValue."""

    @abstractmethod
    async def launch(self, launch: Launch) -> tuple[str, int, Seen]:
        """Start it; return the address and port where the hub finds it, and what its backend sees of it.

        Nothing of an earlier start is kept.
        """

    # The form and its options.

    @default("options_form")
    def _form_of_the_gate(self) -> Callable[[Gate], Awaitable[str]]:
        return Gate.start_form

    @default("options_from_form")
    def _checked_form_of_the_gate(self) -> Callable[..., Awaitable[dict[str, str]]]:
        return self.checked_form

    @default("apply_user_options")
    def _nothing_to_apply(self) -> Callable[[Gate, object], None]:
        return lambda _spawner, _options: None  # `start` checks them; the hub wants to see them taken

    async def start_form(self) -> str:
        """Return the start page's form, never empty: with an empty one the hub would start a server on a mere GET."""
        person = self.user.name
        page = await self.door.ask_ledger(self.door.start_page, person, int(time.time()))
        return render_form(
            page,
            user_name=person,
            server_name=self.name or self.door.last_form.get(person, ""),
            last_choices=self._last_choices(),
            hub_url=self.hub.base_url,
        )

    async def checked_form(self, form: dict[str, Any]) -> dict[str, str]:
        """Return the options in the posted form; raise the refusal that names the wrong field."""
        self.door.last_form[self.user.name] = self.name
        checked = options.from_form(form)
        if isinstance(checked, Refused):
            raise await self._refusal(checked)
        return checked

    async def options_from_query(self, _query: dict[str, Any]) -> dict[str, str]:
        """Refuse: what a link starts, someone else may have made a person start."""
        raise await self._refusal(Refused(Code.LINK_MAY_NOT_START))

    def _last_choices(self) -> dict[str, Choice]:
        """Return what the person chose last on each project, as the hub has stored it."""
        stored = self.user.orm_spawners.items()
        chosen = {name: options.choice_of(each.user_options) for name, each in stored if name}
        return {name: choice for name, choice in chosen.items() if isinstance(choice, Choice)}

    async def _refusal(self, refused: Refused) -> PolicyRefused:
        """Return the refusal in the person's language, in the audit."""
        now = int(time.time())
        speaks = await self.door.ask_ledger(self.door.note_refusal, self.user.name, self.name, refused, now)
        return PolicyRefused(refused, speaks)

    # Start, stop and what is between.

    async def start(self) -> tuple[str, int]:
        """Return where the server answers: its run is held, running and answering. Raises only PolicyRefused.

        Whatever went wrong, cancelling included, nothing of this start runs or is held afterwards, or soon after.
        """
        self._ended_status = None
        self._attempt = attempt = Attempt(self.door, self.user.name, self.name, self.server.base_url)
        try:
            choice = await self._checked_choice()
            async with asyncio.timeout(self.door.settings.start_timeout_seconds):
                return await attempt.start(choice, self)
        except asyncio.CancelledError:
            await attempt.take_back(CANCEL_SECONDS)
            raise
        except Exception as error:
            run_id = attempt.run.run_id if attempt.run else ""
            away = isinstance(error, BackendAway | DatabaseAway)  # then taking back cannot be quick
            await attempt.take_back(CANCEL_SECONDS if away else TAKE_BACK_SECONDS)
            refusal = await attempt.refusal(error, run_id)
            if attempt.was_turn:
                self.door.ask_ledger(self.door.tell_of_turn, run_id, refusal.refused)
            if refusal is error:
                raise
            raise refusal from error

    async def _checked_choice(self) -> Choice:
        if not self.name:
            raise await self._refusal(Refused(Code.DEFAULT_SERVER_OFF))
        choice = options.choice_of_api(self.user_options)
        # The hub has stored them already, and would take them again for a start that names none.
        if isinstance(choice, Refused):
            self.user_options = self.orm_spawner.user_options = {}
            raise await self._refusal(choice)
        if choice.turn is not None:
            self.user_options = self.orm_spawner.user_options = choice.options()
        return choice

    async def in_backend(self, call: Callable[..., Result], *arguments: object) -> Result:
        """Return the call's result; taking this start back waits for it."""
        if self._attempt is None:
            return await self.door.ask_backend(call, *arguments)
        return await self._attempt.in_backend(call, *arguments)

    async def stop(self, now: bool = False) -> None:
        """Nothing of the server's run is running, and it is charged. Raises BackendAway when it may still run."""
        del now
        run = self.run
        if run is None:
            return
        try:
            await self.door.ask_backend(self.door.conclude, run.run_id, Outcome.STOPPED)
        except DatabaseAway as away:
            log.warning("run %s is stopped and not charged yet: %s", run.run_id, away)
        self._ended_status = 0

    async def poll(self) -> int | None:
        """Return None while the server runs or may run, else its exit code. Never raises.

        The hub stops a server whose poll fails when it starts, so that a backend which is away for a moment would end
        everyone's work: only a definite end counts.
        """
        if self._attempt is not None and self._attempt.phase < Phase.READY:
            return None
        run = self.run
        if run is None or self._ended_status is not None:
            return self._ended_status or 0
        try:
            seen = await self.door.ask_backend(self.door.backend.inspect, run.run_id)
            if seen is not None and seen.running:
                return None
            self._ended_status = _exit_status(seen)
            await self.door.ask_backend(self.door.settle, run.run_id, seen, Outcome.EXITED)
        except BackendAway as away:
            log.warning("run %s: %s; it counts as running", run.run_id, away)
        except DatabaseAway as away:
            log.warning("run %s has ended and is not charged yet: %s", run.run_id, away)
        except Exception:
            log.exception("run %s could not be looked at", run.run_id)
        return self._ended_status

    @property
    def run(self) -> KnownRun | None:
        """The run that this server is, while it starts and runs."""
        return self._attempt.run if self._attempt is not None else self._restored

    def get_state(self) -> dict[str, Any]:
        """Return what a restarted hub needs to know the run again; the reconciling loop reads `run_id` here."""
        state: dict[str, Any] = super().get_state()
        run = self.run
        if run is not None:
            state |= {"run_id": run.run_id, "profile": run.profile, "until": run.until_at}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        if state.get("run_id"):
            self._restored = KnownRun(state["run_id"], state.get("profile", ""), state.get("until"))

    def clear_state(self) -> None:
        super().clear_state()
        self._attempt = self._restored = None
        self._ended_status = None

    # What a person sees while it starts.

    def speaks(self) -> str:
        """Return the person's language as this start has read it, or the platform's."""
        return self._attempt.speaks if self._attempt is not None else self.door.settings.language

    def moment(self) -> Moment:
        """Return where the start is now."""
        return self._attempt.moment() if self._attempt is not None else Moment(Phase.ENDED, self.name)

    @default("progress_ready_hook")
    def _ready_hook(self) -> Callable[[Gate, dict[str, object]], dict[str, object]]:
        return lambda spawner, event: {**event, "message": READY_WORDS[spawner.speaks()], "html_message": ""}

    async def _generate_progress(self) -> AsyncIterator[dict[str, object]]:
        # The hub's own begins with a sentence in English.
        async for event in self.progress():
            yield event

    async def progress(self) -> AsyncIterator[dict[str, object]]:
        """Yield each phase once, in the person's language, and the place in the line as it changes, until the end."""
        said = Progress()
        deadline = time.monotonic() + self.start_timeout + self.http_timeout
        while self._spawn_pending and time.monotonic() < deadline:
            attempt = self._attempt
            event = None if attempt is None else said.event(attempt.moment(), attempt.speaks)
            if event is not None:
                yield event
            if attempt is not None and attempt.phase >= Phase.READY:
                return
            await asyncio.sleep(PROGRESS_PAUSE_SECONDS)


def _exit_status(seen: Seen | None) -> int:
    return 0 if seen is None or seen.exit_code is None else seen.exit_code
