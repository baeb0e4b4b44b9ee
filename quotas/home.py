"""The home folder: all state of one platform, and where each part of it lies."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from quotas import settings as settings_file
from quotas.backends.port import Backend
from quotas.domain.terms_kubernetes import Site
from quotas.ports import free_ports
from quotas.settings import Settings, SettingsError
from quotas.store.database import Database

VARIABLE = "MUDEUNG_HOME"
"""The environment variable by which the platform's processes know their home folder."""

SECRETS_VARIABLE = "MUDEUNG_SECRETS"
"""The environment variable that names a folder with one file for each secret, where they are given and not made."""
CLUSTER_PORTS = {"proxy_api": 8001, "hub": 8081, "portal": 8082}
"""In a cluster each program has a Service of its own, at the same port as the program itself."""
CLUSTER_SERVICES = {"proxy_api": "proxy-api", "hub": "hub", "portal": "portal"}
BEAT_VARIABLE = "MUDEUNG_BEAT"
"""The environment variable that names the file by whose age a cluster knows that a loop still goes round."""
PORTS = ("proxy_api", "hub", "portal")
SECRETS = ("proxy_token", "reconciler_token", "portal_token", "idleness_token", "metrics_token", "session_key")
LOGIN_SECRETS = ("oidc_client_secret", "auth_state_key")
"""What the hub needs besides where people log in at an identity provider; the first one is made there."""
HUB_DATABASE = "jupyterhub.sqlite"


def _keep(path: Path, text: str) -> None:
    """The file is there, whole. Of two programs that make it at the same moment one does; both read the same."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(part, path)
    finally:
        part.unlink()


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
        """Return the ledger's database; it connects when it is first used. Raises SettingsError."""
        return Database(self.given("database_url") or settings_file.database_url(self.settings, self.path))

    def hub_database_url(self) -> str:
        """Return the SQLAlchemy URL of the hub's own database. Raises SettingsError."""
        return self.given("hub_database_url") or f"sqlite:///{self.hub / HUB_DATABASE}"

    @property
    def in_cluster(self) -> bool:
        """Whether each program is a pod of its own, reached by the name of its Service."""
        return self.settings.backend == "kubernetes"

    def backend(self) -> Backend:
        """Return the backend that the settings name."""
        if self.settings.backend == "docker":
            from quotas.backends.docker import DockerBackend  # noqa: PLC0415 - the Docker client loads slowly

            return DockerBackend(home=str(self.path))
        if self.in_cluster:
            from quotas.backends.kubernetes import KubernetesBackend  # noqa: PLC0415 - as above

            return KubernetesBackend(self.site(), self.settings.reach())
        from quotas.backends.local import LocalBackend  # noqa: PLC0415 - psutil is not needed in a container

        return LocalBackend(self.runs)

    def site(self) -> Site:
        """Return what the settings say of the cluster, and where this home lies on its volume."""
        chosen = self.settings
        return Site(
            namespace=chosen.kubernetes_namespace,
            prefix=chosen.kubernetes_namespace_prefix,
            storage_class=chosen.kubernetes_storage_class,
            home_bytes=chosen.kubernetes_home_bytes,
            project_bytes=chosen.kubernetes_project_bytes,
            files_claim=chosen.kubernetes_files_claim,
            files_root=str(self.path) if chosen.kubernetes_files_claim else "",
            queue=chosen.kubernetes_queue,
            cluster_queue=chosen.kubernetes_cluster_queue,
            priority_classes=chosen.kubernetes_priority_classes,
        )

    def project_folder(self, project: str) -> Path:
        """Return the folder of a project's files, made when it is missing."""
        folder = self.projects / project
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
            if self.settings.backend == "docker":
                from quotas.backends.docker import prepare_project_folder  # noqa: PLC0415 - as above

                prepare_project_folder(folder)
        return folder

    def given(self, name: str) -> str | None:
        """Return the secret `name` of the folder of secrets; None where there is no such folder.

        Raises SettingsError for one that is missing or empty: in a cluster another program has it as well, so that one
        made here would fit nowhere.
        """
        folder = os.environ.get(SECRETS_VARIABLE)
        if not folder:
            return None
        path = Path(folder, name)
        try:
            text = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{SECRETS_VARIABLE}: the secret {name} cannot be read: {error}") from None
        if not text:
            raise SettingsError(f"{SECRETS_VARIABLE}: the secret {name} is empty: {path}")
        return text

    def secret(self, name: str) -> str:
        """Return the secret `name`: the given one, or one made at its first use and kept in the home folder."""
        given = self.given(name)
        if given is not None:
            return given
        path = self.hub / f"{name}.secret"
        if not path.exists():
            _keep(path, secrets.token_hex(32))
        return path.read_text()

    def entrusted(self, name: str) -> str:
        """Return the secret `name` that somebody else has made: the given one, or the one put into the home folder.

        Raises SettingsError where it is missing or empty.
        """
        given = self.given(name)
        if given is not None:
            return given
        path = self.hub / f"{name}.secret"
        text = path.read_text(encoding="utf-8").strip() if path.exists() else ""
        if not text:
            raise SettingsError(f"the secret {name} is missing: write it to {path}, readable by this account only")
        return text

    def service(self, name: str) -> str:
        """Return the address of a program in a cluster, of `CLUSTER_SERVICES`, as every pod of it has it."""
        return f"http://{CLUSTER_SERVICES[name]}.{self.settings.kubernetes_namespace}.svc:{CLUSTER_PORTS[name]}"

    def proxy_api_url(self) -> str:
        """Return where the hub tells the proxy of its routes."""
        return self.service("proxy_api") if self.in_cluster else f"http://127.0.0.1:{self.ports()['proxy_api']}"

    def portal_url(self) -> str:
        """Return where the proxy, and servers that are processes, find the portal."""
        return self.service("portal") if self.in_cluster else f"http://127.0.0.1:{self.ports()['portal']}"

    def hub_api_url(self) -> str:
        """Return the hub's API as this machine reaches it through the proxy, and a cluster's pods without it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.settings.host, self.settings.host)  # noqa: S104
        host = f"[{host}]" if ":" in host else host
        return f"{self.service('hub') if self.in_cluster else f'http://{host}:{self.settings.port}'}/hub/api"

    def ports(self) -> dict[str, int]:
        """Return the loopback ports of the inner processes, the same at every start of this home.

        Running servers know the hub by its port, so it must not change when the hub is started again.
        """
        if self.in_cluster:
            return dict(CLUSTER_PORTS)
        path = self.hub / "ports.json"
        if path.exists():
            known = _read_ports(path)
            if set(known) == set(PORTS):
                return known
            path.unlink(missing_ok=True)  # an older one, with ports of other names
        _keep(path, json.dumps(dict(zip(PORTS, free_ports(len(PORTS)), strict=True))))
        return _read_ports(path)


def _read_ports(path: Path) -> dict[str, int]:
    return {str(name): int(port) for name, port in json.loads(path.read_text()).items()}


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


def beat() -> None:
    """The file that `MUDEUNG_BEAT` names says that this process has gone round just now, where one is named."""
    name = os.environ.get(BEAT_VARIABLE)
    if name:
        Path(name).touch()
