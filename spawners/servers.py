"""Which spawner the hub uses, and where the hub is: both follow from the backend.

Little is imported here, since others than the hub ask where it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quotas.home import Home

if TYPE_CHECKING:
    from spawners.door import Door
    from spawners.gate import Gate

LOOPBACK = "127.0.0.1"


def server_class(door: Door) -> type[Gate]:
    """Return the class of the hub's servers, with its door."""
    server: type[Gate]
    if door.settings.backend == "docker":
        from spawners.docker import DockerServer  # noqa: PLC0415 - the Docker client loads slowly

        server = DockerServer
    elif door.home.in_cluster:
        from spawners.kubernetes import KubernetesServer  # noqa: PLC0415 - as above

        server = KubernetesServer
    else:
        from spawners.local import LocalServer  # noqa: PLC0415 - as above

        server = LocalServer
    server.door = door
    return server


def hub_url(home: Home) -> str:
    """Return the hub's own address, which its servers, the proxy and the reconciling loop use.

    Containers reach it through the gateway of their network, which is made when it is missing, pods by the name of its
    Service. Raises BackendAway when the engine is away and the network was never seen.
    """
    if home.in_cluster:
        return home.service("hub")
    host = LOOPBACK
    if home.settings.backend == "docker":
        from quotas.network import gateway  # noqa: PLC0415 - as above

        host = gateway(home)
    return f"http://{host}:{home.ports()['hub']}"


def hub_bind_url(home: Home) -> str:
    """Return the address that the hub listens on: its own, in a cluster every one of its pod. Raises BackendAway."""
    return f"http://{home.settings.host}:{home.ports()['hub']}" if home.in_cluster else hub_url(home)
