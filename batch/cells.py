"""What becomes of a notebook's cells as they run: their states, their output within limits, the record of the run.

A part of :mod:`execute`, which stands beside it wherever it is copied.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat.v4 import new_output
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NotebookExecutionManager
from traitlets import Type

IOPUB_SECONDS = 60
"""How long to wait for the rest of a cell's output; when it does not come the run fails, as some is lost."""
ERROR_TEXT_CHARACTERS = 100_000
SOURCE_CHARACTERS = 2000
TRACEBACK_LINES = 40
QUEUED_MESSAGES = 100_000
"""How many messages of a kernel may wait to be read. Beyond, and ZeroMQ's own limit is 1,000, it drops the newest."""
OUTPUT_OVERHEAD_BYTES = 64
"""What each output costs beside its text, so that a flood of single characters counts as well."""

NOTE = (
    "\n[mudeung] 이후 출력은 저장하지 않았습니다(셀당 {cell:g} MB, 노트북당 {notebook:g} MB 한도).\n"
    "[mudeung] Output from here on was not kept (limits: {cell:g} MB a cell, {notebook:g} MB a notebook).\n"
)
LOST = (
    "\n[mudeung] 출력이 너무 빨라 메시지 {lost}개를 받지 못했습니다. 많은 출력은 파일에 쓰세요.\n"
    "[mudeung] Output came too fast: {lost} messages of it were lost. Write much output to a file.\n"
)
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


@dataclass(frozen=True)
class Limits:
    """How much output is kept."""

    cell_bytes: int = 10 * 2**20
    notebook_bytes: int = 30 * 2**20


class Record(Protocol):
    """What is told of the run as it goes on."""

    cell: int
    executed: int
    failing_cell: dict[str, Any] | None
    ended_early: int | None
    truncated: list[int]
    lost_messages: int

    def running(self) -> None: ...


class Stopping(Protocol):
    """Whoever may end the run before its cells do."""

    reason: str | None

    def cells_begin(self, client: Client) -> None: ...
    def cells_end(self) -> None: ...
    def interrupt(self) -> None: ...


class Manager(NotebookExecutionManager):  # type: ignore[misc]
    """Keeps the cells' states true, tells the progress, and saves now and then into the side file."""

    def __init__(self, nb: Any, record: Record, save_part: Callable[[str], None], autosave_seconds: float) -> None:
        super().__init__(nb, progress_bar=False, autosave_cell_every=autosave_seconds)
        self.record = record
        self.save_part = save_part

    def save(self, **_: Any) -> None:
        """Write the side file when it is due; papermill asks at every turn, and would write the output in place."""
        began = self.now()
        if (began - self.last_save_time).total_seconds() < self.autosave_cell_every:
            return
        with contextlib.suppress(OSError):
            self.save_part(json.dumps(self.nb, ensure_ascii=False, indent=1))
        self.last_save_time = self.now()
        took = (self.last_save_time - began).total_seconds()
        self.autosave_cell_every = max(self.autosave_cell_every, took * 20)

    def autosave_cell(self, **_: Any) -> None:
        self.save()

    def cell_start(self, cell: Any, cell_index: int | None = None, **kwargs: Any) -> None:
        if runs(cell):
            self.record.cell += 1
            self.record.running()
        super().cell_start(cell, cell_index, **kwargs)

    def notebook_complete(self, **_: Any) -> None:
        """Finish the metadata. papermill would call every cell that was never reached completed."""
        for cell in self.nb.cells:
            if cell.metadata.papermill["status"] == self.PENDING:
                cell.metadata.papermill["status"] = "skipped"
        self.end_time = self.now()
        self.nb.metadata.papermill["end_time"] = self.end_time.isoformat()
        self.nb.metadata.papermill["duration"] = (self.end_time - self.start_time).total_seconds()


class CountingChannel(AsyncZMQSocketChannel):
    """Knows how many messages since the cell began did not come: the kernel numbers them all."""

    began_at = seen = last = 0

    async def get_msg(self, *args: Any, **kwargs: Any) -> Any:
        msg = await super().get_msg(*args, **kwargs)
        number = msg["header"]["msg_id"].rpartition("_")[2]
        self.last = int(number) if number.isdigit() else 0
        if msg["msg_type"] == "execute_input":
            self.began_at, self.seen = self.last, 0
        else:
            self.seen += self.last > self.began_at
        return msg

    def lost(self) -> int:
        """Return the number at the cell's end; one more, the cell's reply, comes by another channel."""
        return max(self.last - self.began_at - self.seen - 1, 0) if self.last else 0


class PatientKernelClient(AsyncKernelClient):
    """Lets the messages of a kernel wait where ZeroMQ would drop all beyond a thousand in silence."""

    iopub_channel_class = Type(CountingChannel)

    def _context_default(self) -> Any:
        context = super()._context_default()
        context.rcvhwm = QUEUED_MESSAGES
        return context


class Client(PapermillNotebookClient):  # type: ignore[misc]
    """papermill's client with an end that can be told, and limits to what it keeps."""

    def __init__(self, manager: Manager, stopping: Stopping, limits: Limits, **kwargs: Any) -> None:
        super().__init__(manager, raise_on_iopub_timeout=True, iopub_timeout=IOPUB_SECONDS, **kwargs)
        self.stopping = stopping
        self.limits = limits
        self.record = manager.record
        self.failed_at: int | None = None
        self.came_up = self.cell_began = False
        self.interrupt_when_it_begins = False
        self.cell_bytes = self.notebook_bytes = 0
        self.noted = False

    def create_kernel_manager(self) -> Any:
        manager = super().create_kernel_manager()
        manager.client_factory = PatientKernelClient
        return manager

    def execute(self, **_: Any) -> Any:
        try:
            self._execute()
        except RuntimeError:
            if self.came_up:
                raise
            # As when another run took a port that was free when this one chose it: once more, with other ports.
            self.km = self.kc = None
            self._execute()
        return self.nb

    def _execute(self) -> None:
        self.reset_execution_trackers()
        with self.setup_kernel():
            self.came_up = True
            # Asked before the cells: a kernel that they end could not answer, and papermill would wait for it.
            info = self.wait_for_reply(self.kc.kernel_info())
            self.nb.metadata["language_info"] = info["content"]["language_info"]
            self.stopping.cells_begin(self)
            try:
                self.papermill_execute_cells()
            finally:
                self.stopping.cells_end()
                if self.stopping.reason or self.failed_at is not None:
                    self.shutdown_kernel = "immediate"
            self.set_widgets_metadata()

    def papermill_execute_cells(self) -> None:
        """Run the cells up to the one that fails or ends the notebook, and leave the state of each as it was."""
        for index, cell in enumerate(self.nb.cells):
            if self.stopping.reason:
                return
            self.cell_began = self.interrupt_when_it_begins = self.noted = False
            self.cell_bytes = 0
            self.nb_man.cell_start(cell, index)
            try:
                self.execute_cell(cell, index)
            except CellExecutionError as error:
                if error.ename == "SystemExit" and error.evalue in ("", "0", "None"):
                    self.record.ended_early = index
                    self._complete(cell, index)
                    return
                self._fail(cell, index, error)
                return
            except BaseException as error:
                self._fail(cell, index, error)
                raise
            self._complete(cell, index)

    def _complete(self, cell: Any, index: int) -> None:
        self.record.executed += runs(cell)
        self._note_losses(cell)
        self._merge_streams(cell, index)
        self.nb_man.cell_complete(cell, index)

    def _fail(self, cell: Any, index: int, error: BaseException) -> None:
        self.failed_at = index
        self.record.failing_cell = describe_failure(cell, error, kernel_end(self))
        self._merge_streams(cell, index)
        self.nb_man.cell_exception(cell, cell_index=index, exception=error)
        self.nb_man.cell_complete(cell, index)

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        if msg["msg_type"] == "execute_input":
            self.cell_began = True
            if self.interrupt_when_it_begins:
                self.stopping.interrupt()
        return super().process_message(msg, cell, cell_index)

    def output(self, outs: list[Any], msg: Any, display_id: str | None, cell_index: int) -> Any:
        """Keep the output as long as there is room for it, and pass text on to the run's log."""
        if self.clear_before_next_output:
            self._forget_cell()
        content = msg["content"]
        if msg["msg_type"] == "error":
            content["evalue"] = str(content.get("evalue", ""))[:ERROR_TEXT_CHARACTERS]
            content["traceback"] = [str(line)[:ERROR_TEXT_CHARACTERS] for line in content.get("traceback", [])[-200:]]
            return super().output(outs, msg, display_id, cell_index)
        if self.noted:
            return None
        size, room = size_of(content), self._room()
        if size <= room:
            self._count(size)
            self._log(msg)
            return super().output(outs, msg, display_id, cell_index)
        if msg["msg_type"] == "stream" and room > 0:
            self._count(room)
            content["text"] = content["text"].encode("utf-8", "replace")[:room].decode("utf-8", "ignore")
            self._log(msg)
            super().output(outs, msg, display_id, cell_index)
        self._note(outs, cell_index)
        return None

    def _log(self, msg: Any) -> None:
        if msg["msg_type"] == "stream":
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.write(msg["content"]["text"])
                sys.stdout.flush()

    def clear_output(self, outs: list[Any], msg: Any, cell_index: int) -> None:
        super().clear_output(outs, msg, cell_index)
        if not self.clear_before_next_output:
            self._forget_cell()

    def _update_display_id(self, display_id: str, msg: Any) -> None:
        """Replace what a display shows, where the new content finds room in the old one's place."""
        shown = [
            self.nb.cells[cell].outputs[place]
            for cell, places in self._display_id_map.get(display_id, {}).items()
            for place in places
        ]
        size = size_of(msg["content"])
        growth = sum(size - size_of(output) for output in shown)
        if growth <= self._room():
            self._count(growth)
            super()._update_display_id(display_id, msg)

    def _room(self) -> int:
        return min(self.limits.cell_bytes - self.cell_bytes, self.limits.notebook_bytes - self.notebook_bytes)

    def _count(self, size: int) -> None:
        self.cell_bytes += size
        self.notebook_bytes += size

    def _forget_cell(self) -> None:
        self._count(-self.cell_bytes)
        self.noted = False

    def _note(self, outs: list[Any], cell_index: int) -> None:
        if not self.noted:
            self.noted = True
            text = NOTE.format(cell=self.limits.cell_bytes / 2**20, notebook=self.limits.notebook_bytes / 2**20)
            outs.append(new_output("stream", name="stderr", text=text))
            if cell_index not in self.record.truncated:
                self.record.truncated.append(cell_index)

    def _note_losses(self, cell: Any) -> None:
        lost = self.kc.iopub_channel.lost() if runs(cell) else 0
        if lost:
            self.record.lost_messages += lost
            cell.outputs.append(new_output("stream", name="stderr", text=LOST.format(lost=lost)))

    def _merge_streams(self, cell: Any, index: int) -> None:
        """Make one output of neighbouring pieces of one stream; a cell that prints much has thousands."""
        outputs = cell.get("outputs") or []
        merged: list[tuple[Any, list[str]]] = []
        places = []
        for output in outputs:
            is_stream = output.output_type == "stream"
            last = merged[-1][0] if merged else None
            if is_stream and last and last.output_type == "stream" and last.name == output.name:
                merged[-1][1].append(output.text)
            else:
                merged.append((output, [output.text] if is_stream else []))
            places.append(len(merged) - 1)
        for output, texts in merged:
            if texts:
                output["text"] = "".join(texts)
        if len(merged) < len(outputs):
            cell.outputs = [output for output, _ in merged]
            for cells in self._display_id_map.values():
                if index in cells:
                    cells[index] = [places[place] for place in cells[index]]


def runs(cell: Any) -> bool:
    """Return whether the cell is one that a kernel runs."""
    return bool(cell.cell_type == "code" and cell.source.strip())


def size_of(content: Any) -> int:
    """Return what an output costs to keep, in bytes."""
    if "text" in content:
        return len(content["text"].encode("utf-8", "replace")) + OUTPUT_OVERHEAD_BYTES
    return len(json.dumps(content.get("data", {}))) + OUTPUT_OVERHEAD_BYTES


def kernel_end(client: Client) -> str:
    """Say how the kernel's process ended, or nothing while it lives."""
    process = getattr(getattr(client.km, "provisioner", None), "process", None)
    code = process.poll() if process else None
    if code is None:
        return ""
    if code == -signal.SIGKILL:
        return "SIGKILL; 메모리가 모자라면 이렇게 끝납니다 / as when memory runs out"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def describe_failure(cell: Any, error: BaseException, kernel_ended: str) -> dict[str, Any]:
    """Return what to tell of the cell at which the run ended."""
    ename, evalue, traceback = type(error).__name__, str(error), []
    if isinstance(error, CellExecutionError):
        ename, evalue = error.ename, error.evalue
        raised = [output for output in cell.outputs if output.output_type == "error"]
        traceback = _ANSI.sub("", "\n".join(raised[-1].traceback if raised else [])).splitlines()
    elif isinstance(error, DeadKernelError):
        evalue = f"커널이 종료되었습니다 / the kernel ended ({kernel_ended})"
    return {
        "source": cell.source[:SOURCE_CHARACTERS],
        "ename": str(ename)[:200],
        "evalue": str(evalue)[:SOURCE_CHARACTERS],
        "traceback": [line[:500] for line in traceback[-TRACEBACK_LINES:]],
    }
