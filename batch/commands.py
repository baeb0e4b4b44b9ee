"""What is launched for an execution: the executor's command, with every path as the run itself sees it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from batch.snapshots import RunFiles
from quotas.domain.inventory import AssignedDevice
from quotas.domain.launch import Launch, Mount
from quotas.domain.profiles import Profile
from quotas.domain.runs import RunKind
from quotas.domain.terms_docker import PROJECT_FOLDER
from quotas.services.schedules import Execution

CONTAINER_FOLDER = "/mnt/run"
"""Where a container sees the files of its run."""


@dataclass(frozen=True)
class Places:
    """Where a run finds its interpreter, the executor, its own files and the project's folder."""

    python: str
    executor: str
    files: str
    project: str
    mounts: tuple[Mount, ...] = ()


def places(backend: str, files: RunFiles, project_folder: Path) -> Places:
    """Return the paths as a run of this backend sees them: a container its own, a process those of the host."""
    if backend == "local":
        executor = Path(__file__).with_name("execute.py")
        return Places(sys.executable, str(executor), str(files.folder), str(project_folder))
    return Places(
        python="/opt/mudeung/bin/python",
        executor="/opt/mudeung/execute.py",
        files=CONTAINER_FOLDER,
        project=PROJECT_FOLDER,
        mounts=(
            Mount(str(files.folder), CONTAINER_FOLDER),
            Mount(str(files.written), f"{CONTAINER_FOLDER}/{files.written.name}", read_only=False),
        ),
    )


def command(at: Places, files: RunFiles, notebook: str, deadline_seconds: int) -> tuple[str, ...]:
    """Return the words that execute the run's notebook in the folder where the project has it."""

    def seen(path: Path) -> str:
        return f"{at.files}/{path.relative_to(files.folder).as_posix()}"

    return (
        at.python,
        "-P",
        at.executor,
        *("--input", seen(files.notebook)),
        *("--output", seen(files.output)),
        *("--parameters", seen(files.parameters)),
        *("--record", seen(files.record)),
        *("--deadline", str(deadline_seconds)),
        *("--cwd", str(PurePosixPath(at.project, notebook).parent)),
    )


def launch(  # noqa: PLR0913 - each is a fact of the launch
    backend: str,
    execution: Execution,
    profile: Profile,
    files: RunFiles,
    project_folder: Path,
    *,
    deadline_seconds: int,
    devices: tuple[AssignedDevice, ...],
) -> Launch:
    """Return what to launch for the execution."""
    at = places(backend, files, project_folder)
    return Launch(
        run_id=execution.run_id,
        kind=RunKind.BATCH,
        person=execution.person,
        project=execution.project,
        profile=profile,
        command=command(at, files, execution.notebook, deadline_seconds),
        project_folder=str(project_folder),
        devices=devices,
        deadline_seconds=deadline_seconds,
        mounts=at.mounts,
    )
