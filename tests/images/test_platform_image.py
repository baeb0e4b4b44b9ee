"""The platform's image: every program of it starts as any user, on a root file system that nobody can write to."""

import gc
import json
import re
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException, ImageNotFound
from docker.models.containers import Container

from quotas.settings import Settings
from quotas.store.migrate import head

pytestmark = pytest.mark.docker

IMAGE = "mudeung/platform:latest"
FOREIGN_USER = "4242:4343"
ROOT = Path(__file__).resolve().parents[2]
APP = "/opt/mudeung/app"
PROXY = f"{APP}/node_modules/configurable-http-proxy/bin/configurable-http-proxy"
PROGRAMS = (
    "mudeung --help",
    "mudeung migrate --help",
    "python -m jupyterhub --help",
    "python -m spawners.reconciler --help",
    "python -m spawners.idleness --help",
    "python -m batch scheduler --help",
    "python -m portal --help",
    "python -m agent --help",
    "python -m cli.prepare --help",
    f"node {PROXY} --help",
)
KEEP = "exec sleep 600"


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    """A container as the cluster runs it: another user, nothing writable but /tmp, no network, no rights."""
    try:
        client = docker.from_env(timeout=60)
        client.ping()
    except DockerException as error:
        pytest.skip(f"no Docker engine: {error}")
    with closing(client):
        try:
            client.images.get(IMAGE)
        except ImageNotFound:
            pytest.skip(f"the image {IMAGE} is not built")
        made = client.containers.run(
            IMAGE,
            ["sh", "-c", KEEP],
            detach=True,
            init=True,
            user=FOREIGN_USER,
            read_only=True,
            tmpfs={"/tmp": "mode=1777"},
            network_mode="none",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
        )
        try:
            yield made
        finally:
            made.remove(force=True)
    with warnings.catch_warnings():
        # docker-py leaves a socket of each exec to the collector.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def run(container: Container, command: str, **environment: str) -> tuple[int, str]:
    """Return the exit code, and what was printed on both streams."""
    done = container.exec_run(["sh", "-c", command], environment=environment)
    return done.exit_code, done.output.decode("utf-8", "replace")


@pytest.mark.parametrize("command", PROGRAMS)
def test_every_program_starts_as_any_user(container: Container, command: str) -> None:
    code, printed = run(container, command)
    assert code == 0, printed
    assert "sage" in printed or "JupyterHub" in printed or "Jupyter" in printed


def test_it_is_no_root_and_writes_nowhere_of_its_own(container: Container) -> None:
    assert container.image.attrs["Config"]["User"] == "1000"
    assert run(container, "id -u")[1].strip() == "4242"
    code, printed = run(container, f"touch {APP}/x || touch /opt/mudeung/venv/x || touch /var/lib/mudeung/x")
    assert code != 0
    assert "Read-only file system" in printed
    assert run(container, "find /opt/mudeung -perm -o+w -not -type l | head")[1] == ""


def test_the_ledger_is_made_where_the_home_may_be_written(container: Container) -> None:
    code, printed = run(container, "mudeung --home /tmp/home --lang en migrate")
    assert code == 0, printed
    assert f"the ledger is at {head()}" in printed
    code, printed = run(container, "mudeung settings --home /tmp/home -o json")
    assert {each["name"] for each in json.loads(printed)} == set(Settings.model_fields)


def test_without_its_secrets_a_program_says_which_is_missing(container: Container) -> None:
    settings = "printf 'backend = \"kubernetes\"\\n' > /tmp/mudeung.toml; mkdir -p /tmp/none; "
    given = {"MUDEUNG_HOME": "/tmp/other", "MUDEUNG_SETTINGS": "/tmp/mudeung.toml", "MUDEUNG_SECRETS": "/tmp/none"}
    for program, secret in (("spawners.reconciler --once", "database_url"), ("portal", "database_url")):
        code, printed = run(container, f"{settings} timeout 30 python -m {program}", **given)
        assert code not in (0, 124), printed
        assert f"the secret {secret} cannot be read" in printed


def canonical(pinned: str) -> str:
    """Return `name==version` with the name as every index writes it."""
    name, _, version = pinned.partition("==")
    return f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}"


def test_what_is_in_it_is_what_the_locks_name(container: Container) -> None:
    code, printed = run(container, "python -m pip freeze --exclude-editable")
    assert code == 0, printed
    lock = (ROOT / "images" / "platform" / "requirements.lock").read_text(encoding="utf-8")
    locked = {canonical(line.split(" ")[0]) for line in lock.splitlines() if "==" in line and not line.startswith(" ")}
    names = {canonical(each) for each in printed.split() if "==" in each}
    assert names <= locked
    package = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    wanted = package["node_modules/configurable-http-proxy"]["version"]
    assert run(container, f"node {PROXY} --version")[1].strip() == wanted
    assert run(container, "ls /opt/mudeung/app/node_modules/axe-core")[0] != 0


def test_its_bytecode_is_written_already(container: Container) -> None:
    program = (
        "import importlib.util as u, pathlib; "
        "print([n for n in ('quotas.home', 'jupyterhub.app', 'kubespawner', 'portal.app') "
        "if not pathlib.Path(u.find_spec(n).cached).exists()])"
    )
    assert run(container, f'python -c "{program}"')[1].strip() == "[]"
