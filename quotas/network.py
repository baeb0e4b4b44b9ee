"""The containers' own network, and the address at which they reach the platform: its gateway, this machine.

A home has one network, in which containers do not reach each other. Its gateway is kept in the home folder, since the
hub has to start, and to find its servers again, while the engine is away.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
from contextlib import closing

import docker
import docker.errors
from docker.utils import kwargs_from_env

from quotas.backends.docker import HOME_LABEL, answering
from quotas.backends.port import BackendAway
from quotas.home import Home

log = logging.getLogger("mudeung.network")

ENGINE_SECONDS = 5
"""The hub waits for it when it starts, and can do without."""
FILE_NAME = "network.json"
NO_TALK = {"com.docker.network.bridge.enable_icc": "false"}


def network_name(home: Home) -> str:
    """Return the name of the home's network: its own, as several platforms may share an engine."""
    return "mudeung-" + hashlib.sha256(str(home.path).encode()).hexdigest()[:12]


def gateway(home: Home) -> str:
    """Return the address of this machine in the network, which is made when it is missing.

    While the engine is away it is the one last seen. Raises BackendAway when there was none yet.
    """
    path = home.hub / FILE_NAME
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # engines before 25 would make two of the same name
        try:
            address = _gateway(home)
        except BackendAway as away:
            if not path.exists():
                raise
            log.warning("%s; the network's last known gateway is taken", away)
            return str(json.loads(path.read_text())["gateway"])
        path.write_text(json.dumps({"name": network_name(home), "gateway": address}))
        return address


def _gateway(home: Home) -> str:
    name = network_name(home)
    with answering(), closing(docker.APIClient(version="auto", timeout=ENGINE_SECONDS, **kwargs_from_env())) as client:
        try:
            network = client.inspect_network(name)
        except docker.errors.NotFound:
            labels = {HOME_LABEL: str(home.path)}
            try:
                client.create_network(name, driver="bridge", options=NO_TALK, check_duplicate=True, labels=labels)
            except docker.errors.APIError as error:
                # An engine has about thirty address ranges for networks, and says 404 when all are taken.
                raise BackendAway(f"docker: cannot make the network {name}: {error.explanation}") from error
            network = client.inspect_network(name)
    for part in network["IPAM"]["Config"]:
        if part.get("Gateway"):
            return str(part["Gateway"]).partition("/")[0]
    raise BackendAway(f"docker: the network {name} has no gateway; remove it, and it is made anew")


def remove(home: Home) -> None:
    """The network is gone, if no container is in it. Raises BackendAway."""
    with answering(), closing(docker.APIClient(version="auto", timeout=ENGINE_SECONDS, **kwargs_from_env())) as client:
        try:
            client.remove_network(network_name(home))
        except docker.errors.APIError as error:
            if error.status_code not in (403, 404, 409):
                raise


def known_gateway(home: Home) -> str:
    """Return the gateway as it was last seen, without asking the engine; it is asked where none was seen yet.

    Raises BackendAway when then the engine is away.
    """
    try:
        return str(json.loads((home.hub / FILE_NAME).read_text())["gateway"])
    except (FileNotFoundError, ValueError, KeyError):
        return gateway(home)
