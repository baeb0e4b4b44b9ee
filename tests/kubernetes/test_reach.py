"""Whom servers reach by the operator's settings, beside the platform: as a centre without the internet has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from quotas.backends.kubernetes import KubernetesBackend
from quotas.domain.terms_kubernetes_projects import Reach, reach_of
from tests.kubernetes.cluster import IMAGE, Corner, corner, until

pytestmark = pytest.mark.kubernetes

PORT = 9000
TRY = """
import socket, sys, time
time.sleep(2)
for address in sys.argv[1:]:
    for _ in range(4):  # rules come into force a moment after a pod has its address
        try:
            socket.create_connection((address, %d), 4).close()
            print("reached")
            break
        except OSError:
            time.sleep(1)
    else:
        print("not reached")
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Corner]:
    with corner() as made:
        yield made


@pytest.fixture(scope="module")
def servers(place: Corner) -> list[str]:
    """The addresses of two servers of the centre, which are pods here and no part of the platform's ports."""
    command = ["python3", "-m", "http.server", str(PORT)]
    path = f"/api/v1/namespaces/{place.site.namespace}/pods"
    for name in ("data", "mirror"):
        container = {"name": "x", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": command}
        place.api.post(path, {"metadata": {"name": name}, "spec": {"containers": [container]}})

    def addresses() -> list[str] | None:
        found = [place.api.get(f"{path}/{name}")["status"] for name in ("data", "mirror")]
        return [each["podIP"] for each in found] if all(each["phase"] == "Running" for each in found) else None

    found: list[str] = until(addresses)
    return found


def reached(place: Corner, project: str, reach: Reach, addresses: list[str]) -> list[bool]:
    """Return which of the addresses a server of the project reaches."""
    backend = KubernetesBackend(place.site, reach)
    place.backends.append(backend)
    launch = place.launch(command=("python3", "-c", TRY % PORT, *addresses), project=project)
    backend.launch(launch)
    until(lambda: (seen := backend.inspect(launch.run_id)) and not seen.running)
    printed: Any = backend.log(launch.run_id, 1000).splitlines()
    backend.remove(launch.run_id)
    assert len(printed) == len(addresses), printed
    return [line == "reached" for line in printed]


def test_a_private_address_is_reached_where_a_setting_says_so(place: Corner, servers: list[str]) -> None:
    data, mirror = servers
    assert reached(place, "closed", reach_of([], [], True), servers) == [False, False]
    assert reached(place, "opened", reach_of([data], [], False), servers) == [True, False]
    # A part of a network that is reached is kept back, and a later setting changes what a project has already.
    network = [f"{data.rsplit('.', 2)[0]}.0.0/16"]
    assert reached(place, "opened", reach_of(network, [mirror], False), servers) == [True, False]
    assert reached(place, "opened", reach_of([], [], False), servers) == [False, False]
