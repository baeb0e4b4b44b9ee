"""A Jupyter client: a kernel of a notebook server, and cells run in it over its websocket."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from websockets.sync.client import ClientConnection, connect

from cli.demo.browser import Browser
from cli.demo.story import Differs

CELL_SECONDS = 60.0
OPEN_SECONDS = 20.0
LARGEST_MESSAGE_BYTES = 2**24


class Kernel:
    """A running kernel with its open websocket."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.session = uuid.uuid4().hex

    def run(self, code: str, seconds: float = CELL_SECONDS) -> str:
        """Run the code; return what it printed. Raises Differs when it raises, or does not end in so many seconds."""
        asked = self._ask(code)
        printed: list[str] = []
        replied = idle = False
        deadline = time.monotonic() + seconds
        while not (replied and idle):
            try:
                message = json.loads(self.socket.recv(timeout=max(deadline - time.monotonic(), 0.01)))
            except TimeoutError:
                raise Differs(f"a cell that ends within {seconds:.0f} s", code) from None
            if message["parent_header"].get("msg_id") != asked:
                continue
            kind, content = message["header"]["msg_type"], message["content"]
            if kind == "stream":
                printed.append(content["text"])
            elif kind == "error":
                raise Differs("a cell that runs", f"{content['ename']}: {content['evalue']}\n{code}")
            replied |= kind == "execute_reply"
            idle |= kind == "status" and content["execution_state"] == "idle"
        return "".join(printed)

    def _ask(self, code: str) -> str:
        header = {
            "msg_id": uuid.uuid4().hex,
            "session": self.session,
            "username": "demo",
            "date": datetime.now(UTC).isoformat(),
            "msg_type": "execute_request",
            "version": "5.3",
        }
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False, "stop_on_error": True}
        rest: dict[str, Any] = {"parent_header": {}, "metadata": {}, "channel": "shell", "buffers": []}
        self.socket.send(json.dumps({"header": header, "content": content, **rest}))
        return str(header["msg_id"])


@contextmanager
def kernel_of(browser: Browser, server: str, notebook: str) -> Iterator[Kernel]:
    """Open a session of the notebook on the server at path `server`, as JupyterLab does; it ends with the block."""
    body = {"path": notebook, "name": notebook, "type": "notebook", "kernel": {"name": "python3"}}
    session = browser.call("POST", f"{server}/api/sessions", body)
    path = f"{server}/api/kernels/{session['kernel']['id']}/channels"
    headers = {"Cookie": browser.cookies_for(path), "Origin": browser.url}
    address = f"{browser.url.replace('http', 'ws', 1)}{path}?session_id={uuid.uuid4().hex}&_xsrf={browser.xsrf(path)}"
    try:
        with connect(
            address,
            additional_headers=headers,
            open_timeout=OPEN_SECONDS,
            close_timeout=5,
            max_size=LARGEST_MESSAGE_BYTES,
            proxy=None,
        ) as socket:
            yield Kernel(socket)
    finally:
        browser.answer("DELETE", f"{server}/api/sessions/{session['id']}")
