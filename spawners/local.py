"""Servers as processes of this machine: the hub's local process spawner behind the gate, run by a keeper.

The keeper (`quotas.backends.local`) writes down when a process began and ended, whoever was away meanwhile, and a
process is known by its environment rather than by a number that the system may give to another one. Persons are no
users of the system: all processes are of the platform's own user, which is for one's own machine.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from jupyterhub.spawner import LocalProcessSpawner
from traitlets import default

from quotas.domain.launch import Launch, Seen
from quotas.domain.profiles import Profile
from quotas.domain.runs import RunKind
from quotas.domain.terms_local import environment
from quotas.ports import free_ports
from quotas.session_variables import session_variables
from spawners.attempt import Devices
from spawners.gate import Gate

LOOPBACK = "127.0.0.1"
PEOPLE = "people"
"""The folder of the home that has one for each person."""
SETTINGS = Path(__file__).resolve().parent.parent / "images" / "notebook" / "settings"
"""What a notebook server is set to, in the image and here: what it loads, and that it saves every 20 seconds."""
LAB_EXTENSIONS = Path(__file__).resolve().parent.parent / "client" / "mudeung_session" / "labextension"
"""JupyterLab's part of what a server knows of its time; the server's own is a package beside this Python's."""


class LocalServer(Gate, LocalProcessSpawner):
    """A person's server on a project, as a process in the project's folder."""

    @default("cmd")
    def _this_python(self) -> list[str]:
        return [sys.executable, "-m", "jupyterhub.singleuser"]

    @default("args")
    def _lab_settings(self) -> list[str]:
        words = [
            f"--LabApp.app_settings_dir={SETTINGS / 'share' / 'jupyter' / 'lab' / 'settings'}",
            f"--LabApp.extra_labextensions_path={LAB_EXTENSIONS}",
        ]
        return [*words, "--allow-root"] if os.getuid() == 0 else words  # as which the whole platform runs then

    @default("default_url")
    def _lab(self) -> str:
        return "/lab"

    def make_preexec_fn(self, name: str) -> None:
        """Nothing runs between fork and exec: the process stays one of the platform's own user."""
        del name

    def user_env(self, env: dict[str, str]) -> dict[str, str]:
        """Return the environment with a home of the person's own, where the server keeps its settings and history."""
        return {**env, **person_environment(self.door.home.path / PEOPLE / self.user.name, self.user.name)}

    def prepare(self, person: str, project: str) -> str:
        """Return the project's folder; the person's own is there too."""
        (self.door.home.path / PEOPLE / person).mkdir(parents=True, exist_ok=True, mode=0o700)
        return super().prepare(person, project)

    def launch_terms(self, run_id: str, profile: Profile, folder: str, devices: Devices) -> Launch:
        """Return the launch with a port of its own. Raises InvalidValue for devices that cannot be attached."""
        self.ip, self.port = LOOPBACK, free_ports(1)[0]
        session = session_variables(self.door.home, run_id)
        launch = Launch(
            run_id=run_id,
            kind=RunKind.NOTEBOOK,
            person=self.user.name,
            project=self.name,
            profile=profile,
            command=tuple(map(str, [*self.cmd, *self.get_args()])),
            project_folder=folder,
            environment={**self.get_env(), **session, "JUPYTERHUB_ROOT_DIR": folder},
            devices=devices,
        )
        environment(launch)
        return launch

    async def launch(self, launch: Launch) -> tuple[str, int, Seen]:
        """Start the process; it has begun when this returns."""
        self.log.info("Spawning %s", shlex.join(launch.command))
        seen = await self.in_backend(self.door.backend.launch, launch)
        return self.ip, self.port, seen


def person_environment(own: Path, person: str) -> dict[str, str]:
    """Return the variables that keep a person's own files in the folder `own`."""
    data = own / ".local" / "share" / "jupyter"
    return {
        "USER": person,
        "LOGNAME": person,
        "HOME": str(own),
        "SHELL": os.environ.get("SHELL", "/bin/sh"),
        "JUPYTER_CONFIG_DIR": str(own / ".jupyter"),
        "JUPYTER_DATA_DIR": str(data),
        "JUPYTER_RUNTIME_DIR": str(data / "runtime"),
        "JUPYTER_CONFIG_PATH": str(SETTINGS / "etc" / "jupyter"),
        "IPYTHONDIR": str(own / ".ipython"),
    }
