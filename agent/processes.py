"""Which run a process belongs to: by its container's label or pod, or, outside containers, by its environment."""

from __future__ import annotations

import logging
import os
import re
import time
from pathlib import Path
from typing import Any, Protocol

from quotas.domain.launch import RUN_LABEL, RUN_VARIABLE
from quotas.domain.terms_kubernetes import run_of_pod

CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
POD = re.compile(r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})(?![0-9a-f])")
"""A pod's UID in the path of its control group; with `_` where systemd made that."""
RUN_ID = re.compile(r"[0-9a-zA-Z-]{1,64}")
ENGINE_SECONDS = 5
ENGINE_REST_SECONDS = 60
LABELS_KEPT = 4096
READ_BYTES = 256 * 1024

log = logging.getLogger("agent.processes")


class Labels(Protocol):
    """Knows the runs of containers, by their ids, or their pods' UIDs. Raises OSError where it cannot be asked now."""

    def run_of(self, container: str) -> str: ...

    def close(self) -> None: ...


class DockerLabels:
    """The run's label as Docker's engine has it; a container that is gone or has no label is of no run."""

    def __init__(self) -> None:
        self._client: Any = None

    def run_of(self, container: str) -> str:
        try:
            import docker  # noqa: PLC0415 - it is large, and a machine may have no engine
            from requests.exceptions import RequestException  # noqa: PLC0415
        except ImportError as missing:
            raise OSError(f"{missing.name} is not installed") from None
        try:
            if self._client is None:
                self._client = docker.DockerClient.from_env(timeout=ENGINE_SECONDS)
            found = self._client.containers.get(container)
        except docker.errors.NotFound:
            return ""
        except (docker.errors.DockerException, RequestException) as error:
            raise OSError(f"Docker's engine: {error}") from None
        return str((found.labels or {}).get(RUN_LABEL, ""))

    def close(self) -> None:
        """The engine is no longer connected to."""
        if self._client is not None:
            self._client.close()
            self._client = None


class PodLogs:
    """The run of a pod's container, by the name of the folder that the kubelet keeps for the pod's logs.

    It is `NAMESPACE_NAME_UID`, root's, and there before any of the pod's containers begins.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / "var/log/pods"

    def run_of(self, container: str) -> str:
        """Return the run of the pod with this UID. Raises OSError where the folder cannot be read."""
        name = next((path.name for path in self._folder.iterdir() if path.name.endswith(f"_{container}")), "")
        _, _, pod = name.removesuffix(f"_{container}").partition("_")
        return run_of_pod(pod) or ""

    def close(self) -> None:
        """Nothing is held open."""


class Runs:
    """Processes and the runs that they belong to, as far as that can be known.

    A process is looked into once. Its folder in `/proc` is kept open: as long as a look through it succeeds, the
    process is still that one, and no other that was given its number.
    """

    def __init__(self, proc: Path, labels: Labels) -> None:
        self._proc = proc
        self._labels = labels
        self._known: dict[int, tuple[int, str | None]] = {}
        self._by_container: dict[str, str] = {}
        self._ask_again_at = 0.0

    def of(self, pid: int) -> str:
        """Return the run's UUID; an empty string for a process of none, or one that has ended."""
        known = self._known.get(pid)
        if known is not None:
            folder, run = known
            if run is not None and os.access("cgroup", os.F_OK, dir_fd=folder):
                return run
            os.close(folder)
            del self._known[pid]
        try:
            folder = os.open(self._proc / str(pid), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return ""
        found = self._find(folder)
        self._known[pid] = folder, found
        return found or ""

    def forget_others(self, pids: set[int]) -> None:
        """Only these processes are remembered."""
        for pid in self._known.keys() - pids:
            os.close(self._known.pop(pid)[0])

    def close(self) -> None:
        """Nothing is remembered, and no container is asked about."""
        self.forget_others(set())
        self._labels.close()

    def _find(self, folder: int) -> str | None:
        """Return the run, "" for none, or None where that could not be asked and should be asked again."""
        groups = _read(folder, "cgroup")
        pod = POD.search(groups)
        if pod is not None:
            return self._of_container(pod[1].replace("_", "-"))
        container = CONTAINER_ID.search(groups)
        if container is not None:
            return self._of_container(container.group())
        for pair in _read(folder, "environ").split("\0"):
            name, _, value = pair.partition("=")
            if name == RUN_VARIABLE:
                return value if RUN_ID.fullmatch(value) else ""
        return ""

    def _of_container(self, container: str) -> str | None:
        if container in self._by_container:
            return self._by_container[container]
        if time.monotonic() < self._ask_again_at:
            return None
        try:
            run = self._labels.run_of(container)
        except OSError as error:
            # An engine that hangs would hold up every sample for its whole timeout.
            self._ask_again_at = time.monotonic() + ENGINE_REST_SECONDS
            log.warning("the run of container %.12s is not known: %s", container, error)
            return None
        if len(self._by_container) >= LABELS_KEPT:
            self._by_container.clear()
        self._by_container[container] = run if RUN_ID.fullmatch(run) else ""
        return self._by_container[container]


def _read(folder: int, name: str) -> str:
    try:
        file = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return ""
    try:
        return os.read(file, READ_BYTES).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(file)
