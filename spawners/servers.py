"""Which spawner the hub uses, and where the hub is: both follow from the backend."""

from __future__ import annotations

from quotas.home import Home
from spawners.door import Door
from spawners.gate import Gate

LOOPBACK = "127.0.0.1"


def server_class(door: Door) -> type[Gate]:
    """Return the class of the hub's servers, with its door."""
    if door.settings.backend == "docker":
        from spawners.docker import DockerServer as Server  # noqa: PLC0415 - the Docker client loads slowly
    else:
        from spawners.local import LocalServer as Server  # noqa: PLC0415 - and is not needed here
    Server.door = door
    return Server


def hub_url(home: Home) -> str:
    """Return the hub's own address, which its servers, the proxy and the reconciling loop use.

    Containers reach it through the gateway of their network. Raises BackendAway when that network was never seen.
    """
    host = LOOPBACK
    if home.settings.backend == "docker":
        from spawners.network import gateway  # noqa: PLC0415 - as above

        host = gateway(home)
    return f"http://{host}:{home.ports()['hub']}"
