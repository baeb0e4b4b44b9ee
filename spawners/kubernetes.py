"""Servers as pods: KubeSpawner behind the gate.

Of KubeSpawner this takes how the hub's part of a pod is made, with what an operator adds to it. What else it does is
not taken: profiles of its own with choices in the hub's options, a watch for each namespace that can stop for good,
claims that it remembers over namespaces and deletes with a server, a pod's name that is used again. Each run has a pod
of its own, which the gate looks at, stops and removes through the backend, as batch runs have.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import Any

from kubespawner import KubeSpawner
from traitlets import default

from quotas.backends.kubernetes import KubernetesBackend
from quotas.backends.port import BackendAway
from quotas.domain.launch import Launch, Seen
from quotas.domain.people import MEMBERSHIP_RIGHTS, MembershipRole
from quotas.domain.profiles import Profile
from quotas.domain.projects import ProjectState
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import RunKind, RunState
from quotas.domain.terms_docker import HOME_FOLDER, PROJECT_FOLDER
from quotas.domain.terms_kubernetes import PORT, pod_fields, pod_name, with_what_is_added
from quotas.domain.units import InvalidValue
from quotas.services import cluster_bounds
from quotas.session_variables import session_variables
from quotas.store import runs as runs_store
from quotas.store.database import Database
from spawners.attempt import Devices
from spawners.gate import Gate
from spawners.refused import PolicyRefused

LOOK_SECONDS = 1.0
"""How often the watch is read while a pod comes to run, beside each time that it hears of the pod."""
ASK_SECONDS = 2.0
"""How often the cluster is asked instead, while the watch is not fresh."""
TROUBLE_SECONDS = 90.0
"""How long a pod may have no machine, as one may just be coming or going."""
IMAGE_SECONDS = 20.0
"""How long an image may fail to come: the first word of it can be a passing one."""
IMAGE_TROUBLE = ("ErrImage", "ImagePull", "InvalidImage", "ImageInspect", "RegistryUnavailable")
READS_ONLY = frozenset({MembershipRole.LEARNER})
"""Whose servers see the project's files and do not change them: what they make is in their own home."""


class KubernetesServer(Gate, KubeSpawner):
    """A person's server on a project, as a pod in the project's namespace."""

    will_resume = False
    """Each start has a pod, and a token, of its own: the hub is to forget the old token."""

    @default("cmd")
    def _single_user_server(self) -> list[str]:
        return ["jupyterhub-singleuser"]

    @default("default_url")
    def _lab(self) -> str:
        return "/lab"

    @default("notebook_dir")
    def _project_folder(self) -> str:
        return PROJECT_FOLDER

    @default("events_enabled")
    def _no_events(self) -> bool:
        return False  # the pod's own status says what is wrong

    @default("delete_pvc")
    def _files_stay(self) -> bool:
        return False

    async def load_user_options(self) -> None:
        """Nothing of the hub's options reaches the pod: the gate has read them, and the ledger has decided."""

    async def delete_forever(self) -> None:
        """The files stay where a server's record goes: they are the project's and the person's."""

    def _expand_env(self, env: dict[str, Any]) -> dict[str, Any]:
        # Values with braces, as JSON has, are no templates.
        return {name: value for name, value in env.items() if isinstance(value, (list, dict, str))}

    @property
    def cluster(self) -> KubernetesBackend:
        """Return the backend, which knows the cluster."""
        backend = self.door.backend
        if not isinstance(backend, KubernetesBackend):
            raise TypeError(f"servers in pods need the Kubernetes backend, not {backend.name}")
        return backend

    def prepare(self, person: str, project: str) -> str:
        """Return the project's folder as the platform has it; its namespace is there, with its limits and rules."""
        folder = super().prepare(person, project)
        door = self.door
        self.cluster.ensure_project(
            project, cluster_bounds.of_project(door.database, project, int(time.time()), door.policy)
        )
        return folder

    def launch_terms(self, run_id: str, profile: Profile, folder: str, devices: Devices) -> Launch:
        """Return the launch; the hub's part of its environment is added by KubeSpawner. Raises InvalidValue."""
        launch = Launch(
            run_id=run_id,
            kind=RunKind.NOTEBOOK,
            person=self.user.name,
            project=self.name,
            profile=profile,
            command=(),
            project_folder=folder,
            environment=session_variables(self.door.home, run_id),
            devices=devices,
        )
        pod_fields(launch, self.cluster.site)
        return launch

    async def launch(self, launch: Launch) -> tuple[str, int, Seen]:
        """Create the pod and wait until it runs; return its address. Raises InvalidValue where it cannot.

        The ledger is asked once more, as this is the last moment before something runs: it may have changed its mind
        while the start waited for its turn.
        """
        now = int(time.time())
        found = await self.door.ask_ledger(standing, self.door.database, launch, now)
        if isinstance(found, Refused):
            raise PolicyRefused(found, self.speaks())
        launch = replace(launch, reads_only=found in READS_ONLY)
        site = self.cluster.site
        self.image, self.port = launch.profile.image, PORT
        self.pod_name, self.namespace = pod_name(launch.run_id), site.namespace_of(launch.project)
        self.notebook_dir = HOME_FOLDER if launch.reads_only else PROJECT_FOLDER
        made = self.api.api_client.sanitize_for_serialization(await self.get_pod_manifest())
        pod = with_what_is_added(pod_fields(launch, site), made)
        await self.in_backend(self.cluster.launch_pod, launch, pod)
        return await self._running(launch)

    async def _running(self, launch: Launch) -> tuple[str, int, Seen]:
        """Return where the pod is once it runs. How long that may take is the limit of the whole start."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        with self.cluster.telling(launch.run_id, lambda: loop.call_soon_threadsafe(changed.set)):
            return await self._once_running(launch, changed)

    async def _once_running(self, launch: Launch, changed: asyncio.Event) -> tuple[str, int, Seen]:
        cluster, run_id = self.cluster, launch.run_id
        since: dict[str, float] = {}
        while True:
            changed.clear()
            seen = cluster.heard_of(run_id)
            pause = LOOK_SECONDS
            if seen is None:
                seen = await self.in_backend(cluster.inspect, run_id)
                pause = ASK_SECONDS
            at = (
                await self.in_backend(cluster.whereabouts, run_id) if pause == ASK_SECONDS else cluster.heard_at(run_id)
            )
            if seen is None or at is None:
                raise BackendAway(f"kubernetes: the pod of {run_id} vanished")
            if not seen.running and seen.started_at is None:
                raise InvalidValue("profile", f"it never began: {at.trouble}", f"시작되지 않았습니다: {at.trouble}")
            if seen.started_at is not None and (at.address or not seen.running):
                return at.address, PORT, seen
            _look_at_trouble(launch, at.trouble, since)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await changed.wait()


def _look_at_trouble(launch: Launch, trouble: str, since: dict[str, float]) -> None:
    """Raises InvalidValue where what keeps the pod from running has lasted for too long to pass by itself."""
    kind = "image" if trouble.startswith(IMAGE_TROUBLE) else "profile"
    if not trouble:
        since.clear()
        return
    began = since.setdefault(kind, time.monotonic())
    if time.monotonic() - began < (IMAGE_SECONDS if kind == "image" else TROUBLE_SECONDS):
        return
    if kind == "image":
        image = launch.profile.image
        raise InvalidValue("image", f"{image}: {trouble}", f"{image}: {trouble}")
    raise InvalidValue(
        "profile",
        f"no machine of the cluster takes it: {trouble}",
        f"클러스터의 어떤 장비에도 배치되지 않습니다: {trouble}",
    )


def standing(database: Database, launch: Launch, now: int) -> MembershipRole | Refused:
    """Return the person's role where the run may begin now, else why it may not. Raises DatabaseAway."""
    with database.read() as transaction:
        row = runs_store.one(transaction, launch.run_id)
    numbers = {"person": launch.person, "project": launch.project, "run": launch.run_id}
    if row is None or row.state == RunState.SETTLED.value:
        return Refused(Code.RUN_ENDED, numbers)
    role = MembershipRole(row.role) if row.role is not None else None
    against = {
        Code.RUN_ENDED: (row.person, row.project, row.profile) != (launch.person, launch.project, launch.profile.code),
        Code.NOT_A_MEMBER: role is None,
        Code.ROLE_MAY_NOT: role is not None and not MEMBERSHIP_RIGHTS[role].start,
        Code.PROJECT_ENDED: row.project_state != ProjectState.APPROVED.value,
        Code.AWARD_REVOKED: row.revoked_at is not None and row.revoked_at <= now,
        Code.AWARD_SUSPENDED: row.suspended_at is not None and row.suspended_at <= now,
    }
    reasons = [code for code, holds in against.items() if holds]
    if reasons or role is None:
        return Refused(reasons[0], {**numbers, "role": str(role)})
    return role
