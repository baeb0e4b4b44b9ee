"""What an address says of itself: whether it leads out of this machine, and whether others can answer in its place."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Return whether `host` is an address that only this machine reaches; a name other than localhost is not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_address(url: str) -> bool:
    """Return whether `url` is a scheme, http or https, and a host, and nothing else."""
    parts = urlsplit(url)
    return (
        parts.scheme in {"http", "https"}
        and bool(parts.hostname)
        and url.rstrip("/") == parts._replace(path="", query="", fragment="").geturl()
    )


def is_trustworthy(url: str) -> bool:
    """Return whether nobody between here and `url` can answer in its place: TLS, or a way within this machine."""
    parts = urlsplit(url)
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    )
