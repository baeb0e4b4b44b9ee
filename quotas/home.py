"""The home folder: all state of one platform, and where each part of it lies."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from quotas import settings as settings_file
from quotas.backends.port import Backend
from quotas.ports import free_ports
from quotas.settings import Settings
from quotas.store.database import Database

VARIABLE = "MUDEUNG_HOME"
"""The environment variable by which the platform's processes know their home folder."""

PORTS = ("proxy_api", "hub", "portal")
SECRETS = ("proxy_token", "reconciler_token", "portal_token", "idleness_token", "metrics_token", "session_key")


@dataclass(frozen=True)
class Home:
    """A home folder at `path` with the settings that hold in it."""

    path: Path
    settings: Settings

    @property
    def hub(self) -> Path:
        """The hub's database, cookie secret and pid files."""
        return self.path / "hub"

    @property
    def log(self) -> Path:
        return self.path / "log"

    @property
    def projects(self) -> Path:
        """One folder for each project's files."""
        return self.path / "projects"

    @property
    def runs(self) -> Path:
        """The local backend's records."""
        return self.path / "runs"

    @property
    def batch(self) -> Path:
        """One folder for each batch run: its snapshot, parameters and record."""
        return self.path / "batch"

    def make_folders(self) -> None:
        """Every folder exists; what is secret is readable to the owner only."""
        self.path.mkdir(parents=True, exist_ok=True)
        for folder in (self.hub, self.log, self.projects, self.runs, self.batch):
            folder.mkdir(exist_ok=True)
        for folder in (self.hub, self.log, self.batch):
            folder.chmod(0o700)

    def database(self) -> Database:
        """Return the ledger's database; it connects when it is first used."""
        return Database(settings_file.database_url(self.settings, self.path))

    def backend(self) -> Backend:
        """Return the backend that the settings name."""
        if self.settings.backend == "docker":
            from quotas.backends.docker import DockerBackend  # noqa: PLC0415 - the Docker client loads slowly

            return DockerBackend(home=str(self.path))
        from quotas.backends.local import LocalBackend  # noqa: PLC0415 - psutil is not needed in a container

        return LocalBackend(self.runs)

    def project_folder(self, project: str) -> Path:
        """Return the folder of a project's files, made when it is missing."""
        folder = self.projects / project
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
            if self.settings.backend == "docker":
                from quotas.backends.docker import prepare_project_folder  # noqa: PLC0415 - as above

                prepare_project_folder(folder)
        return folder

    def secret(self, name: str) -> str:
        """Return the secret `name`, made at its first use and kept in the home folder."""
        path = self.hub / f"{name}.secret"
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
        return path.read_text()

    def ports(self) -> dict[str, int]:
        """Return the loopback ports of the inner processes, the same at every start of this home.

        Running servers know the hub by its port, so it must not change when the hub is started again.
        """
        path = self.hub / "ports.json"
        if path.exists():
            known = json.loads(path.read_text())
            if set(known) == set(PORTS):
                return {str(name): int(port) for name, port in known.items()}
        ports = free_ports(len(PORTS))
        chosen = dict(zip(PORTS, ports, strict=True))
        path.write_text(json.dumps(chosen))
        return chosen


def open_home(path: Path, **overrides: object) -> Home:
    """Return the home at `path`, its folders made. Raises SettingsError for settings that cannot be taken."""
    home = Home(path.resolve(), settings_file.read(path.resolve(), **overrides))
    home.make_folders()
    return home


def from_environment() -> Home:
    """Return the home that `MUDEUNG_HOME` names; its settings are those that `mudeung up` wrote for its processes."""
    path = Path(os.environ[VARIABLE])
    overrides = json.loads(os.environ.get("MUDEUNG_OVERRIDES", "{}"))
    return open_home(path, **overrides)
