"""Ports that are chosen now and listened on later."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from quotas import ports


def test_they_are_different_and_free() -> None:
    found = ports.free_ports(50)
    assert len(set(found)) == 50
    servers = [socket.create_server(("127.0.0.1", port)) for port in found]
    for server in servers:
        server.close()


def test_no_outgoing_connection_takes_them() -> None:
    first, last = (int(each) for each in Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert all(port < first or port > last for port in ports.free_ports(20))


def test_a_port_that_is_listened_on_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    (free,) = ports.free_ports(1)
    monkeypatch.setattr(ports, "FIRST", free)
    monkeypatch.setattr(ports, "LAST", free + 1)
    assert ports.free_ports(1) == [free]
    with socket.create_server(("127.0.0.1", free)), pytest.raises(OSError, match="no 1 free ports"):
        ports.free_ports(1)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(OSError, match="assign"):
        ports.free_ports(1, "192.0.2.1")
