"""The port: what the product asks of a backend. `local.py`, `docker.py` and `kubernetes.py` stand behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from quotas.domain.launch import Launch, Seen


class BackendAway(Exception):  # noqa: N818 - it says where the backend is
    """The backend does not answer (refused, timed out, HTTP 5xx). Nothing may be concluded about its runs."""


class Backend(Protocol):
    """Every call ends within `call_seconds` or raises BackendAway."""

    name: str
    chooses_devices: bool
    """The backend itself says which devices a run has, as the plugins of a cluster do; a launch then names none."""

    def list_runs(self) -> list[Seen]:
        """Return every run that has a process or container here, running or ended and not yet removed."""

    def inspect(self, run_id: str) -> Seen | None:
        """Return what is known of the run, or None when there is nothing here with its UUID."""

    def launch(self, launch: Launch) -> Seen:
        """Start it, detached from the caller; a second call with the same run UUID returns the first one's.

        Raises InvalidValue of `devices` where one of them cannot be attached, or is still in use here.
        """

    def stop(self, run_id: str, grace_seconds: int) -> None:
        """After the call nothing of the run is running; SIGTERM first, SIGKILL after the grace. Ended ones are left."""

    def remove(self, run_id: str) -> None:
        """Forget an ended run: its container or record is gone. A running one is not touched (raises ValueError)."""

    def log(self, run_id: str, limit_bytes: int) -> str:
        """Return the last `limit_bytes` of what the run printed, or an empty string."""

    def holders(self, uuids: Sequence[str]) -> tuple[str, ...]:
        """Return the runs that have one of these devices here: what is running of them, or may yet be started."""

    def lacks(self, run_id: str, paths: Sequence[str]) -> tuple[str, ...]:
        """Return those of the device files that the running run cannot open, as they were taken from it.

        Raises BackendAway where that cannot be told, as of a run that has ended.
        """
