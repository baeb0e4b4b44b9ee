"""What is launched for a run, in words that every backend understands, and what is seen of it afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quotas.domain.inventory import AssignedDevice
from quotas.domain.priorities import Priority
from quotas.domain.profiles import Profile
from quotas.domain.runs import Outcome, RunKind

RUN_LABEL = "mudeung.run"
"""The container label with the run's UUID. Only the platform writes it; a user's own labels are never read."""
RUN_VARIABLE = "MUDEUNG_RUN"
"""The environment variable with the same, by which the local backend knows its processes."""


@dataclass(frozen=True)
class Mount:
    """A file or folder of the host that a container sees at `target`. A process of the host sees it where it is."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True)
class Launch:
    """One process or container to start: `command` in `folder` with `environment`, for run `run_id`.

    `project_folder` is the host's folder of the project's files: the working tree of the local backend, and mounted
    at ``/home/jovyan/project`` in a container; `mounts` are what a container sees beside it. `devices` are those that
    it holds and is to see, no others: none on a simulated pool. Of a cluster: `priority` is how firmly it holds them,
    `reads_only` that the project's files are shown to it and not given, `deadline_seconds` how long a batch run takes
    at most, `simulated` that its devices are only counted and none is asked for, `pool_terms` what its pool says of
    machines, by backend.
    """

    run_id: str
    kind: RunKind
    person: str
    project: str
    profile: Profile
    command: tuple[str, ...]
    project_folder: str
    environment: Mapping[str, str] = field(default_factory=dict)
    devices: tuple[AssignedDevice, ...] = ()
    mounts: tuple[Mount, ...] = ()
    priority: Priority = Priority.GUARANTEED
    simulated: bool = False
    pool_terms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    reads_only: bool = False
    deadline_seconds: int | None = None


@dataclass(frozen=True)
class Seen:
    """What a backend knows of a run. Instants are seconds UTC with fractions, from the backend itself, not from a door.

    `exit_code` and `finished_at` are None while it runs; `started_at` is None when it never came to run.
    `finished_at` may be None for an ended one whose end nobody recorded.
    """

    run_id: str
    running: bool
    ref: str
    started_at: float | None = None
    finished_at: float | None = None
    exit_code: int | None = None
    out_of_memory: bool = False


def ended_as(seen: Seen, outcome: Outcome) -> Outcome:
    """Return why the run ended: what ended by itself may have been ended for its memory."""
    return Outcome.OUT_OF_MEMORY if outcome is Outcome.EXITED and seen.out_of_memory else outcome
