"""How soon a server of the notebook image answers, beside one of a plain image: same base, packages and command.

Both images' containers run `jupyterhub-singleuser` as a spawner would start it. What is timed is from the engine being
told to start a created container until the server's first HTTP answer on its published port.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import docker
import httpx
from docker.models.containers import Container

from bench.measure import Result, at_most, paired

OURS = "mudeung/notebook:latest"
PLAIN = "mudeung/bench-plain:latest"
TARGET = 0.8
PAIRS = 9
ANSWER_SECONDS = 60
HUB_PORT = 9100
BASE_LABEL = "org.opencontainers.image.base.name"
FOLDER = Path(__file__).resolve().parent

# As much of a hub as a server asks for before it serves: its version.
HUB = f"""
import http.server
class Hub(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("X-JupyterHub-Version", "6.1.1")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{{}}")
    do_POST = do_GET
http.server.ThreadingHTTPServer(("", {HUB_PORT}), Hub).serve_forever()
"""


def server_environment(hub_host: str) -> dict[str, str]:
    """The environment in which a hub at `hub_host` starts the server of its user `ada`."""
    return {
        "JUPYTERHUB_API_TOKEN": "unused",
        "JUPYTERHUB_API_URL": f"http://{hub_host}:{HUB_PORT}/hub/api",
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-ada",
        "JUPYTERHUB_DEFAULT_URL": "/lab",
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES": '["access:servers!server=ada/"]',
        "JUPYTERHUB_OAUTH_CALLBACK_URL": "/user/ada/oauth_callback",
        "JUPYTERHUB_OAUTH_SCOPES": '["access:servers!server=ada/"]',
        "JUPYTERHUB_SERVICE_PREFIX": "/user/ada/",
        "JUPYTERHUB_SERVICE_URL": "http://0.0.0.0:8888/user/ada/",
        "JUPYTERHUB_USER": "ada",
    }


@contextmanager
def created(client: docker.DockerClient, image: str, **options: object) -> Iterator[Container]:
    """A container of `image` exists, not yet started; it is gone afterwards."""
    container = client.containers.create(image, init=True, **options)
    try:
        yield container
    finally:
        container.remove(force=True)


@contextmanager
def hub(client: docker.DockerClient) -> Iterator[str]:
    """A hub that says its version answers at the address given, on Docker's default bridge."""
    with created(client, OURS, command=["python", "-c", HUB]) as container:
        container.start()
        container.reload()
        yield container.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]


def seconds_to_answer(client: docker.DockerClient, image: str, environment: dict[str, str]) -> float:
    """Seconds from starting a container of `image` until its server's first answer; `TimeoutError` if none comes."""
    ports = {"8888/tcp": ("127.0.0.1", None)}
    with created(client, image, environment=environment, ports=ports) as container, httpx.Client(timeout=5) as http:
        begin = time.perf_counter()
        container.start()
        container.reload()
        port = container.ports["8888/tcp"][0]["HostPort"]
        while time.perf_counter() - begin < ANSWER_SECONDS:
            try:
                http.get(f"http://127.0.0.1:{port}/user/ada/api").raise_for_status()
            except httpx.TransportError:
                time.sleep(0.005)
            else:
                return time.perf_counter() - begin
        log = container.logs(tail=20).decode(errors="replace")
    raise TimeoutError(f"a server of {image} did not answer in {ANSWER_SECONDS} s; its log ends:\n{log}")


def build_plain(client: docker.DockerClient) -> None:
    """The plain image stands on the same base as ours and has the same lock's packages."""
    base = client.images.get(OURS).labels[BASE_LABEL]
    client.images.build(
        path=str(FOLDER.parent / "images" / "notebook"),
        dockerfile=str(FOLDER / "plain.Dockerfile"),
        buildargs={"BASE": base},
        tag=PLAIN,
        rm=True,
    )


def measure(pairs: int = PAIRS) -> Result:
    """The figure: time to the first answer, ours to the plain image's, over `pairs` pairs."""
    with closing(docker.from_env(timeout=600)) as client:
        build_plain(client)
        with hub(client) as hub_host:
            environment = server_environment(hub_host)
            ratio = paired(
                lambda: seconds_to_answer(client, OURS, environment),
                lambda: seconds_to_answer(client, PLAIN, environment),
                pairs,
            )
    return at_most("image_start", ratio, TARGET, {"unit": "seconds from start to first answer"})


def main(arguments: list[str] | None = None) -> int:
    """The figure is printed as a line of JSON; the status is 0 when it is met."""
    parser = argparse.ArgumentParser(prog="python -m bench.image_start", description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"pairs of starts to measure (default {PAIRS})")
    result = measure(parser.parse_args(arguments).pairs)
    print(result.to_json())
    return 0 if result.met else 1


if __name__ == "__main__":
    sys.exit(main())
