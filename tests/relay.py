"""A relay between a program and a PostgreSQL server's socket, which can lose what passes through it."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

SOCKET = ".s.PGSQL.5432"


class Relay:
    """Passes everything on, from a socket in `folder` to the server's in `server`, until it is told to lose something.

    After `lose("answer")` the next COMMIT reaches the server, and its answer nobody; after `lose("commit")` not even
    the COMMIT does. Either way the connection is then closed on both sides.
    """

    def __init__(self, folder: Path, server: Path) -> None:
        self._server = server / SOCKET
        self._losing: str | None = None
        self.has_lost = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / SOCKET))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def lose(self, what: str) -> None:
        self._losing = what

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self._server))
            for way in (self._to_server, self._to_client):
                self._threads.append(threading.Thread(target=way, args=(client, server)))
                self._threads[-1].start()

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, contextlib.suppress(OSError):
            while data := client.recv(65536):
                if b"COMMIT\0" in data and self._losing == "commit":
                    self._losing, self.has_lost = None, True
                    break
                server.sendall(data)
            _end(client, server)

    def _to_client(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if b"COMMIT\0" in data and self._losing == "answer":
                    self._losing, self.has_lost = None, True
                    break
                client.sendall(data)
            _end(client, server)


def _end(client: socket.socket, server: socket.socket) -> None:
    for each in (client, server):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
