"""Free TCP ports that stay free until they are listened on."""

from __future__ import annotations

import random
import socket
from pathlib import Path

FIRST, LAST = 20_000, 32_000
"""Ports that services rarely have for their own."""
TRIES = 1_000
_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Return `count` different TCP ports of `host` that nobody listens on now.

    They lie outside the range from which Linux takes the near end of outgoing connections: a port of that range can
    be taken by any connection of the machine before it is listened on, and again between two starts of one home.
    Raises OSError for an address that is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family):
        pass  # the address is this machine's: what fails below, fails for the port
    outgoing = _outgoing()
    candidates = [port for port in range(FIRST, LAST) if port not in outgoing] or list(range(FIRST, LAST))
    found: list[int] = []
    for port in random.sample(candidates, min(TRIES, len(candidates))):
        if len(found) == count:
            break
        try:
            with socket.create_server((host, port), family=family):
                found.append(port)
        except OSError:
            continue
    if len(found) < count:
        raise OSError(f"no {count} free ports on {host} between {FIRST} and {LAST}")
    return found


def _outgoing() -> range:
    """Return the ports that outgoing connections take; where the kernel does not say, Linux's default."""
    try:
        first, last = _OUTGOING.read_text().split()
        return range(int(first), int(last) + 1)
    except (OSError, ValueError):
        return range(32_768, 61_000)
