"""``python -m portal``: the portal of the home that ``MUDEUNG_HOME`` names, on its loopback port.

In a cluster it listens on its pod's address, and the cluster's rules say who reaches it. Where servers are containers
of this machine, what their own tokens open is to be reached at the gateway of their network as well.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from portal.app import create_app
from portal.sessions import only_sessions
from quotas import home as homes
from quotas.backends.port import BackendAway
from quotas.home import Home
from quotas.settings import SettingsError

log = logging.getLogger("mudeung.portal")

LOOPBACK = "127.0.0.1"
CONNECTIONS = 200
CONTAINERS_CONNECTIONS = 500
"""Servers keep theirs for a moment after each question; they take none from people."""
END_SECONDS = 5
AGAIN_SECONDS = 5.0
"""How often the containers' network is looked for while the engine is away."""


class _Listener(uvicorn.Server):
    """One of several servers of this process: its signals are `_serve`'s to take."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main() -> int:
    """Serve until SIGTERM."""
    argparse.ArgumentParser(
        prog="python -m portal", description="The portal, with its home in MUDEUNG_HOME."
    ).parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        home = homes.from_environment()
    except (SettingsError, KeyError) as error:
        sys.stderr.write(f"set {homes.VARIABLE}\n" if isinstance(error, KeyError) else f"{error}\n")
        return 2
    asyncio.run(_serve(home))
    return 0


async def _serve(home: Home) -> None:
    app = create_app(home)
    # In a cluster people and servers come by the same address, so that the limit is one for both.
    host, connections = (home.settings.host, CONTAINERS_CONNECTIONS) if home.in_cluster else (LOOPBACK, CONNECTIONS)
    people = _Listener(_config(app, connections, host=host, port=home.ports()["portal"]))
    containers = _Listener(_config(only_sessions(app), CONTAINERS_CONNECTIONS, lifespan="off"))

    def end(number: int, frame: FrameType | None) -> None:
        for server in (people, containers):
            server.handle_exit(number, frame)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    beside = asyncio.create_task(_serve_containers(home, containers))
    await people.serve()
    containers.should_exit = True
    if not containers.started:
        beside.cancel()
    await asyncio.wait({beside}, timeout=END_SECONDS + 1)


async def _serve_containers(home: Home, server: uvicorn.Server) -> None:
    """The containers' address answers, from when there is one; until then it is looked for. Processes need none."""
    if home.settings.backend != "docker":
        return
    told = False
    while True:
        try:
            listening = await asyncio.to_thread(_listen_to_containers, home)
            break
        except (BackendAway, OSError) as error:
            if not told:
                log.warning("containers cannot ask for their time left yet: %s", error)
            told = True
            await asyncio.sleep(AGAIN_SECONDS)
    log.info("containers ask at %s:%s", *listening.getsockname()[:2])
    await server.serve(sockets=[listening])


def _listen_to_containers(home: Home) -> socket.socket:
    """Return a socket at the gateway of the containers' network. Raises BackendAway, OSError."""
    from quotas.network import gateway  # noqa: PLC0415 - the Docker client loads slowly

    address = gateway(home)
    listening = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, home.ports()["portal"]))
    except OSError:
        listening.close()
        raise
    return listening


def _config(app: ASGIApp, connections: int, **where: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=connections,
        timeout_graceful_shutdown=END_SECONDS,
        **where,  # type: ignore[arg-type]
    )


if __name__ == "__main__":
    sys.exit(main())
