"""What the Docker backend asks of the engine and of the machine about the devices of containers."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import docker
import docker.errors

from quotas.backends import devices
from quotas.backends.port import BackendAway
from quotas.domain.launch import Launch
from quotas.domain.terms_docker import DEVICES_LABEL, HostSide, needs_io_uring
from quotas.domain.terms_local import device_files, not_attachable
from quotas.domain.units import InvalidValue

SECCOMP = Path(__file__).with_name("seccomp") / "default.json"
NOT_ENDED = ("created", "running", "paused", "restarting")
NO_DEVICE = (
    "could not select device driver",
    "CDI device",
    "nvidia-container",
    "error gathering device information",
    "error setting rlimit",
)
"""How engines and their runtimes say that the devices of a container are not there, or cannot be attached as their
makers ask for it."""

PROBE_SECONDS = 10
PROBE = """\
n=1 m=0
for path do
    case $({ : < "$path"; } 2>&1) in
        *"not permitted"* | *"No such"* | *"Input/output error"*) m=$((m + n)) ;;
    esac
    n=$((n * 2))
done
exit $((64 + m))
"""
"""Tries to open each file for reading. Its exit code is 64 and one bit for each that could not be opened, as far from
0 as from what a shell says of itself. It calls no program."""
PROBED_AT_ONCE = 5
"""More bits would meet 126, by which an engine says that there is no shell."""
PROBE_ENVIRONMENT = {"LC_ALL": "C", "LD_PRELOAD": "", "LD_LIBRARY_PATH": "", "ENV": "", "BASH_ENV": "", "PATH": "/bin"}


def host_side(launch: Launch) -> HostSide:
    """Return what this machine adds to the launch. Raises InvalidValue of `devices` for a file that is not there."""
    groups = devices.owners(device_files(launch.devices))
    return HostSide(groups, SECCOMP.read_text("ascii") if needs_io_uring(launch.devices) else "")


def with_one_of(client: docker.APIClient, uuids: Collection[str]) -> Iterator[Mapping[str, Any]]:
    """Yield the engine's containers, whoever made them, that have one of the devices and have not ended."""
    if not uuids:
        return
    for found in client.containers(all=True, filters={"label": [DEVICES_LABEL], "status": list(NOT_ENDED)}):
        if not set(found["Labels"][DEVICES_LABEL].split()).isdisjoint(uuids):
            yield found


def refusal(error: docker.errors.APIError) -> InvalidValue | None:
    """Return what to say of a container that could not start, where that is for its devices."""
    reason = str(error.explanation or error)[:300]
    if not any(words in reason for words in NO_DEVICE):
        return None
    return not_attachable(f"Docker cannot attach it: {reason}", f"Docker가 연결할 수 없습니다: {reason}")


def in_use(names: str) -> InvalidValue:
    """Return what to say of a device that another container has."""
    return not_attachable(
        f"another container has it: {names}; stop that one first",
        f"다른 컨테이너가 사용하고 있습니다: {names}. 먼저 그 컨테이너를 중지하세요",
    )


def unopenable(client: docker.APIClient, container: Mapping[str, Any], paths: Sequence[str]) -> tuple[str, ...]:
    """Return those of the machine's device files that a process in the running container cannot open.

    It is asked by root's own shell there, as the cgroup of the container decides and not the owner of the file; the
    container's user can change neither that shell nor its environment. Raises BackendAway where there is no answer
    within `PROBE_SECONDS`.
    """
    mapped = {each["PathOnHost"]: each["PathInContainer"] for each in container["HostConfig"].get("Devices") or ()}
    deadline = time.monotonic() + PROBE_SECONDS
    gone: list[str] = []
    for first in range(0, len(paths), PROBED_AT_ONCE):
        some = paths[first : first + PROBED_AT_ONCE]
        code = _exit_code(client, container["Id"], [mapped.get(path, path) for path in some], deadline)
        bits = code - 64
        if not 0 <= bits < 2 ** len(some):
            raise BackendAway(f"docker: the devices of {container['Name']} cannot be looked at (exit code {code})")
        gone += [path for position, path in enumerate(some) if bits >> position & 1]
    return tuple(gone)


def _exit_code(client: docker.APIClient, container: str, paths: list[str], deadline: float) -> int:
    words = ["/bin/sh", "-c", PROBE, "sh", *paths]
    options: dict[str, Any] = {"user": "0", "environment": PROBE_ENVIRONMENT, "workdir": "/"}
    try:
        made = client.exec_create(container, words, stdout=False, stderr=False, **options)
        client.exec_start(made["Id"], detach=True)
        while True:
            state = client.exec_inspect(made["Id"])
            if not state["Running"] and state["ExitCode"] is not None:
                return int(state["ExitCode"])
            if time.monotonic() > deadline:
                raise BackendAway(f"docker: the devices of {container} did not answer within {PROBE_SECONDS} s")
            time.sleep(0.02)
    except docker.errors.APIError as error:
        if error.is_server_error():
            raise
        raise BackendAway(f"docker: {error}") from error  # it is gone, or has ended
