"""A light stand-in for a notebook server: it answers as much as a hub asks for, and starts in some milliseconds.

With it the hub is what is measured or tested, not the notebook. Its environment is that of `jupyterhub-singleuser`; it
needs the quickest parts of the standard library only.
"""

import os
import signal
import socket
import sys

REPLY = (
    b"HTTP/1.1 %d %s\r\nX-JupyterHub-Version: 6.1.1\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%s"
)
WAIT_SECONDS = 5
LONGEST_REQUEST_BYTES = 65536


def address(url: str) -> tuple[str, int, str]:
    """The host, port and path of ``http://host:port/path``."""
    host, _, path = url.split("://", 1)[1].partition("/")
    name, _, port = host.rpartition(":")
    return name, int(port), "/" + path


def answer(request: bytes, prefix: str) -> bytes:
    """The whole reply to a request; what is not under `prefix` is not here."""
    path = request.split(b" ", 2)[1:2]
    found = bool(path) and path[0].decode("latin-1").startswith(prefix)
    body = b'{"version": "stand-in"}' if found else b"{}"
    return REPLY % (200 if found else 404, b"OK" if found else b"Not Found", len(body), body)


def serve() -> None:
    """Requests are answered, one after the other, until the process is told to end."""
    host, port, prefix = address(os.environ["JUPYTERHUB_SERVICE_URL"])
    with socket.create_server((host, port), backlog=64) as server:
        while True:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(WAIT_SECONDS)
                try:
                    request = connection.recv(LONGEST_REQUEST_BYTES)
                    if request:
                        connection.sendall(answer(request, prefix))
                except OSError:
                    continue


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    serve()
