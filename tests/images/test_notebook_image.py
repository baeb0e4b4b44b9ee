"""The notebook image, checked in one running container of it, as a user other than the image's own."""

import gc
import io
import json
import re
import tarfile
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import docker
import httpx
import pytest
from docker.errors import DockerException, ImageNotFound
from docker.models.containers import Container
from websockets.sync.client import connect

from bench.image_start import HUB, server_environment

pytestmark = pytest.mark.docker

IMAGE = "mudeung/notebook:latest"
FOLDER = Path(__file__).resolve().parents[2] / "images" / "notebook"
FOREIGN_USER = "4242:4343"
TOKEN = "only-here"
LAB = f"exec python -m jupyterlab --ip=0.0.0.0 --ServerApp.base_url=/user/ada/ --IdentityProvider.token={TOKEN}"
AUTHORIZATION = {"Authorization": f"token {TOKEN}"}

SERVER = """
python -c "$HUB" &
until (: > /dev/tcp/127.0.0.1/9100) 2>/dev/null; do sleep 0.05; done
exec jupyterhub-singleuser
"""

NOTEBOOK = {
    "cells": [
        {"cell_type": "code", "execution_count": None, "id": "a", "metadata": {"tags": ["parameters"]}, "outputs": []}
        | {"source": "rate = 1"},
        {"cell_type": "code", "execution_count": None, "id": "b", "metadata": {}, "outputs": []}
        | {"source": "import numpy, pandas, scipy, sklearn\nprint('rate', rate * 7)"},
    ],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}

# Printed as JSON: the installed versions, and the modules whose bytecode is missing or is checked against a time.
FACTS = """
import importlib.metadata, importlib.util, json, pathlib, sys
checked = []
for name in ("jupyterlab.labapp", "jupyter_server.serverapp", "numpy", "mudeung_late", "argparse", "asyncio.events"):
    cached = pathlib.Path(importlib.util.find_spec(name).cached)
    if not cached.exists() or cached.read_bytes()[4:8] != b"\\x01\\x00\\x00\\x00":
        checked.append(name)
ours = importlib.metadata.distributions(path=[path for path in sys.path if path.startswith("/opt/mudeung/")])
versions = {distribution.name.lower(): distribution.version for distribution in ours}
print(json.dumps({"checked": checked, "versions": versions}))
"""


@dataclass(frozen=True)
class Server:
    """A notebook server in a container, and where it answers."""

    container: Container
    url: str

    def run(self, *command: str) -> str:
        """What `command` printed in the container; it has ended well."""
        status, output = self.container.exec_run(list(command))
        assert status == 0, output.decode(errors="replace")
        return output.decode()

    def put(self, folder: str, name: str, content: bytes) -> None:
        """The file `name` is in the container's `folder`."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
        assert self.container.put_archive(folder, archive.getvalue())


def engine_or_none() -> docker.DockerClient | None:
    """A Docker client, or None where no engine answers; the socket that the failed client leaves open is gone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        with suppress(DockerException):
            return docker.from_env()
        gc.collect()
    return None


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    """A Docker client where there is an engine with the image."""
    engine = engine_or_none()
    if engine is None:
        pytest.skip("no Docker engine answers")
    with closing(engine):
        try:
            engine.images.get(IMAGE)
        except ImageNotFound:
            pytest.skip(f"no Docker image {IMAGE}: run `make image`")
        yield engine


@contextmanager
def serving(client: docker.DockerClient, script: str, **options: object) -> Iterator[Server]:
    """A container runs `script` and answers HTTP below /user/ada/; it is gone afterwards."""
    container = client.containers.run(
        IMAGE,
        ["bash", "-c", script],
        detach=True,
        init=True,
        user=FOREIGN_USER,
        ports={"8888/tcp": ("127.0.0.1", None)},
        **options,
    )
    try:
        container.reload()
        server = Server(container, f"http://127.0.0.1:{container.ports['8888/tcp'][0]['HostPort']}/user/ada")
        until = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{server.url}/api", timeout=5)
                break
            except httpx.TransportError:
                assert time.monotonic() < until, container.logs().decode(errors="replace")
                time.sleep(0.05)
        yield server
    finally:
        container.remove(force=True)


@pytest.fixture(scope="module")
def lab(client: docker.DockerClient) -> Iterator[Server]:
    """JupyterLab, without a hub."""
    with serving(client, LAB) as server:
        yield server


@pytest.fixture
def http(lab: Server) -> Iterator[httpx.Client]:
    """An HTTP client known to `lab`."""
    with httpx.Client(base_url=lab.url, headers=AUTHORIZATION, timeout=30) as session:
        yield session


def test_image_declares_an_unprivileged_user_and_no_entry_point(client: docker.DockerClient) -> None:
    config = client.images.get(IMAGE).attrs["Config"]
    assert config["User"] == "1000:100"
    assert config["WorkingDir"] == "/home/jovyan"
    assert not config["Entrypoint"]
    assert config["Cmd"] == ["jupyterhub-singleuser"]
    assert "8888/tcp" in config["ExposedPorts"]


def test_foreign_user_writes_at_home_and_nowhere_in_the_installation(lab: Server) -> None:
    assert lab.run("id", "-u").strip() == "4242"
    lab.run("sh", "-c", "echo x > ~/file && echo x > ~/.local/file && mkdir -p ~/.config/deep && echo x > /tmp/file")
    assert lab.run("find", "/opt/mudeung", "-writable", "-not", "-type", "l").strip() == ""


def test_installed_versions_are_the_locks_and_bytecode_is_unchecked(lab: Server) -> None:
    facts = json.loads(lab.run("python", "-c", FACTS))
    assert facts["checked"] == []
    locked = dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+) \\$", (FOLDER / "requirements.lock").read_text(), re.MULTILINE))
    assert {"jupyterhub", "jupyterlab", "papermill"} <= locked.keys()
    installed = {re.sub(r"[._]+", "-", name): version for name, version in facts["versions"].items()}
    assert {name: installed.get(name) for name in locked} == locked


def test_papermill_runs_a_notebook_with_parameters(lab: Server) -> None:
    lab.put("/home/jovyan/project", "in.ipynb", json.dumps(NOTEBOOK).encode())
    lab.run("sh", "-c", "cd ~/project && papermill --no-progress-bar -p rate 6 in.ipynb out.ipynb")
    done = json.loads(lab.run("cat", "/home/jovyan/project/out.ipynb"))
    assert done["cells"][-1]["outputs"][0]["text"] == ["rate 42\n"]


def test_batch_runner_runs_a_notebook(lab: Server) -> None:
    lab.put("/tmp", "in.ipynb", json.dumps(NOTEBOOK).encode())
    lab.put("/tmp", "parameters.json", b'{"rate": 5}')
    files = "--input in.ipynb --output done.ipynb --parameters parameters.json --record record.json"
    lab.run("sh", "-c", f"cd /tmp && python /opt/mudeung/execute.py {files} --cwd /home/jovyan/project")
    assert json.loads(lab.run("cat", "/tmp/record.json"))["state"] == "succeeded"
    assert json.loads(lab.run("cat", "/tmp/done.ipynb"))["cells"][-1]["outputs"][0]["text"] == ["rate 35\n"]


def test_slow_module_put_off_works_when_used(lab: Server) -> None:
    code = (
        "import sys, jsonschema\n"
        "assert 'lark' not in sys.modules\n"
        "check = jsonschema.Draft202012Validator.FORMAT_CHECKER.conforms\n"
        "print(check('https://예.kr/', 'iri'), check('no address', 'iri'), 'lark' in sys.modules)"
    )
    assert lab.run("python", "-c", code).split() == ["True", "False", "True"]


def test_lab_page_opens_without_news(http: httpx.Client) -> None:
    page = http.get("/lab")
    assert page.status_code == 200
    config = json.loads(page.text.split('type="application/json">')[1].split("</script>")[0])
    assert config["news"] == {"disabled": True}
    assert http.get(re.findall(r'src="/user/ada(/static/lab/main[^"]+)"', page.text)[0]).status_code == 200


def test_notebooks_save_themselves_every_20_seconds(http: httpx.Client) -> None:
    settings = http.get("/lab/api/settings/@jupyterlab/docmanager-extension:plugin").json()
    properties = settings["schema"]["properties"]
    assert properties["autosave"]["default"] is True
    assert properties["autosaveInterval"]["default"] == 20


def test_contents_and_terminals_answer(http: httpx.Client) -> None:
    saved = http.put("/api/contents/project/한글.ipynb", json={"type": "notebook", "content": NOTEBOOK})
    assert saved.status_code == 201
    assert http.get("/api/contents/project/한글.ipynb").json()["content"]["cells"][1]["id"] == "b"
    assert http.post("/api/terminals").status_code == 200


def test_kernel_executes(lab: Server, http: httpx.Client) -> None:
    kernel = http.post("/api/kernels", json={"name": "python3"}).json()["id"]
    header = {
        "msg_id": "1",
        "msg_type": "execute_request",
        "session": "s",
        "username": "",
        "version": "5.3",
        "date": "",
    }
    content = {"code": "import os, getpass; print(os.getuid(), getpass.getuser())", "silent": False}
    request = {"header": header, "parent_header": {}, "metadata": {}, "channel": "shell", "content": content}
    address = f"{lab.url}/api/kernels/{kernel}/channels".replace("http", "ws", 1)
    with connect(address, additional_headers=AUTHORIZATION) as socket:
        socket.send(json.dumps(request))
        message = json.loads(socket.recv(timeout=30))
        while message["header"]["msg_type"] != "stream":
            message = json.loads(socket.recv(timeout=30))
    assert message["content"]["text"] == "4242 jovyan\n"
    assert http.delete(f"/api/kernels/{kernel}").status_code == 204


def test_server_of_a_hub_starts_and_sends_to_the_hubs_login(client: docker.DockerClient) -> None:
    with serving(client, SERVER, environment={"HUB": HUB, **server_environment("127.0.0.1")}) as server:
        assert httpx.get(f"{server.url}/api").headers["X-JupyterHub-Version"] == "6.1.1"
        page = httpx.get(f"{server.url}/lab")
        assert page.status_code == 302
        assert page.headers["Location"].startswith("/hub/api/oauth2/authorize?client_id=jupyterhub-user-ada")
        assert b"Error" not in server.container.logs()
