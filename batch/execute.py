"""Runs one notebook by papermill and says honestly how it ended. A program of its own, copied into images with `cells`.

    python execute.py --input IN --output OUT --parameters PARAMS.json --record RECORD.json
                      [--kernel NAME] [--cwd DIR] [--deadline SECONDS] [--cell-timeout SECONDS]
                      [--autosave SECONDS] [--cell-output-bytes N] [--notebook-output-bytes N]

====  ===========  ==============================================================================================
exit  state        when
====  ===========  ==============================================================================================
0     succeeded    every cell ran, or a cell ended the notebook early by ``sys.exit()`` or ``sys.exit(0)``, as a
                   script would: then `ended_early` of the record names the cell, and the rest is `skipped`
1     failed       a cell raised an error, or ended by ``sys.exit`` with anything else
70    failed       not the notebook's fault: unreadable input, no room for the output
124   timed_out    the deadline, or a cell's timeout, passed
138   kernel_died  the kernel ended or was killed, mostly for want of memory
143   cancelled    SIGTERM, SIGINT or SIGHUP came; what the cell had printed is kept
====  ===========  ==============================================================================================

The record is JSON and always whole. While the notebook runs its `state` is ``running``; `cell` of `cells` counts code
cells, and `executed` those that completed. Indices (`failing_cell.index`, `ended_early`, `truncated`) count all cells
of the notebook that was given, from 0; an injected cell counts as the parameters' cell. `truncated` lists the cells
whose output went beyond the limits, `lost_messages` counts what was lost of it on the way; a note in the output says
so too. The output is written whole or not at all; until then what there is of it lies beside it as
``NAME.part.ipynb``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import keyword
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batch import cells

BEGAN_AT = time.time()
OWN_ERROR = 70


def load_beside(name: str) -> ModuleType:
    """Return the module in the file beside this one, whose folder is not to shadow packages by being on the path."""
    spec = importlib.util.spec_from_file_location(f"mudeung_{name}", Path(__file__).with_name(f"{name}.py"))
    if spec is None or spec.loader is None:
        raise ImportError(f"there is no {name}.py beside {__file__}")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


try:
    if __name__ == "__main__":
        here = str(Path(__file__).resolve().parent)
        sys.path[:] = [entry for entry in sys.path if entry != here]
        # jsonschema would read the grammar of IRIs for two thirds of a second; a notebook's schema has no IRI.
        sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from papermill.execute import prepare_notebook_metadata, raise_for_execution_errors, remove_error_markers
    from papermill.iorw import load_notebook_node, papermill_io, write_ipynb
    from papermill.parameterize import parameterize_notebook

    cells = load_beside("cells")
except (ImportError, OSError) as missing:
    sys.stderr.write(f"execute: notebooks cannot be run here: {missing}\n")
    sys.exit(OWN_ERROR)

EXIT_CODES = {"succeeded": 0, "failed": 1, "timed_out": 124, "kernel_died": 138, "cancelled": 143}
START_SECONDS = 60
INTERRUPT_SECONDS = 5
"""A cell that goes on this long after an interrupt loses its kernel."""
GIVE_UP_SECONDS = 10
"""And this long after that, the run ends with what there is."""


@dataclass
class Record:
    """What the program says of the run, in one file."""

    path: Path
    started_at: float
    cells: int = 0
    cell: int = 0
    executed: int = 0
    failing_cell: dict[str, Any] | None = None
    ended_early: int | None = None
    truncated: list[int] = field(default_factory=list)
    lost_messages: int = 0
    message: str | None = None

    def running(self) -> None:
        """Tell how far the run is. No room for it is no reason to end."""
        with contextlib.suppress(OSError):
            self._write("running", None, None)

    def ended(self, state: str, exit_code: int) -> None:
        self._write(state, exit_code, time.time())

    def _write(self, state: str, exit_code: int | None, finished_at: float | None) -> None:
        content = {"state": state, "exit_code": exit_code, "finished_at": finished_at, **vars(self)}
        del content["path"]
        text = json.dumps(content, ensure_ascii=False, indent=1)
        write_whole(self.path, text, lasting=finished_at is not None)


def write_whole(path: Path, text: str, *, lasting: bool = True) -> None:
    """Write the file whole or leave what was there; `lasting`: it also survives a power failure from here on."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", errors="replace") as file:
            file.write(text)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if lasting:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class WholeFiles:
    """papermill's input and output: local files only, read as they are and written whole or not at all."""

    def read(self, path: str) -> str:
        return Path(path).read_text("utf-8")

    def write(self, text: str, path: str) -> None:
        write_whole(Path(path), text)

    def pretty_path(self, path: str) -> str:
        return path


class Stopped(BaseException):
    """Raised out of a signal handler where there is no cell to interrupt."""


class Refused(Exception):  # noqa: N818 - named for what it says of the order
    """What was given cannot be run; nothing of it was."""


class Stopping:
    """Ends the run when it is told to or its time is up: interrupt the cell, then kill the kernel, then give up."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.client: cells.Client | None = None
        self.ending = False
        self.killed = False

    def watch(self, deadline_seconds: float | None) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self.ask("cancelled"))
        signal.signal(signal.SIGALRM, lambda *_: self._escalate() if self.reason else self.ask("timed_out"))
        if deadline_seconds is not None:
            left = deadline_seconds - (time.time() - BEGAN_AT)
            signal.setitimer(signal.ITIMER_REAL, max(left, 0.001))

    def ask(self, reason: str) -> None:
        if self.ending or self.reason:
            return
        self.reason = reason
        if self.client is None:
            raise Stopped
        signal.setitimer(signal.ITIMER_REAL, INTERRUPT_SECONDS)
        if self.client.cell_began:
            self.interrupt()
        else:
            # An idle kernel ignores interrupts, and the cell that is on its way to it would then run on.
            self.client.interrupt_when_it_begins = True

    def interrupt(self) -> None:
        by_signal = self.client is not None and self.client.km.kernel_spec.interrupt_mode == "signal"
        self._signal_kernel(signal.SIGINT if by_signal else signal.SIGKILL)

    def cells_begin(self, client: cells.Client) -> None:
        self.client = client

    def cells_end(self) -> None:
        """From here on the run's end is known, and a signal no longer changes it."""
        self.ending = True
        signal.setitimer(signal.ITIMER_REAL, 0)

    def kill_kernel(self) -> None:
        self._signal_kernel(signal.SIGKILL)

    def _escalate(self) -> None:
        if self.killed:
            raise Stopped
        self.killed = True
        signal.setitimer(signal.ITIMER_REAL, GIVE_UP_SECONDS)
        self.kill_kernel()

    def _signal_kernel(self, number: signal.Signals) -> None:
        """The kernel leads a process group, which its own subprocesses are of."""
        provisioner = getattr(self.client.km, "provisioner", None) if self.client else None
        if provisioner and provisioner.pgid and provisioner.process and provisioner.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(provisioner.pgid, number)


class Run:
    """One notebook from its file to its output."""

    def __init__(self, order: argparse.Namespace, record: Record, stopping: Stopping) -> None:
        self.order, self.record, self.stopping = order, record, stopping
        self.part = order.output.with_name(f"{order.output.stem}.part.ipynb")
        self.nb: Any = None
        self.client: cells.Client | None = None
        self.injected_at: int | None = None

    def execute(self) -> str:
        """Run the cells and return the state in which they ended; the output is then written."""
        papermill_io.reset()
        papermill_io.register("/", WholeFiles())
        kernel_name = self._prepare()
        manager = cells.Manager(self.nb, self.record, self._save_part, self.order.autosave)
        self.record.cells = sum(map(cells.runs, self.nb.cells))
        self.record.running()
        manager.notebook_start()
        limits = cells.Limits(self.order.cell_output_bytes, self.order.notebook_output_bytes)
        timeouts = {"timeout": self.order.cell_timeout, "startup_timeout": START_SECONDS}
        self.client = cells.Client(manager, self.stopping, limits, kernel_name=kernel_name, **timeouts)
        state = self._cells()
        manager.notebook_complete()
        self.nb.metadata.papermill["exception"] = None if state == "succeeded" else True
        if self.record.failing_cell is not None:
            self.record.failing_cell = {
                "index": self._given_index(self.client.failed_at),
                **self.record.failing_cell,
            }
        if self.record.ended_early is not None:
            self.record.ended_early = self._given_index(self.record.ended_early)
        self.record.truncated = sorted({self._given_index(index) for index in self.record.truncated})
        self._write()
        return state

    def _prepare(self) -> str:
        """Read the notebook, put the parameters in, and return the name of the kernel to run it."""
        try:
            nb = load_notebook_node(str(self.order.input))
        except Exception as error:
            raise Refused(f"노트북을 읽을 수 없습니다 / the notebook cannot be read: {error}") from error
        nb = remove_error_markers(nb)
        kernel_name, language = choose_kernel(nb, self.order.kernel)
        given = len(nb.cells)
        if self.order.values:
            nb = parameterize_notebook(nb, self.order.values, kernel_name=kernel_name, language=language)
        if len(nb.cells) > given:
            tags = [cell.metadata.get("tags", []) for cell in nb.cells]
            self.injected_at = next(at for at, each in enumerate(tags) if "injected-parameters" in each)
        self.nb = prepare_notebook_metadata(nb, str(self.order.input), str(self.order.output))
        return kernel_name

    def _cells(self) -> str:
        """Run the cells; every way in which they can end has its state here."""
        client = self.client
        try:
            client.execute()
        except Stopped:
            self.stopping.client = client
            self.stopping.kill_kernel()
        except CellTimeoutError as error:
            self.record.message = str(error)[:2000]
            timed_out = "IOPub" not in str(error)
            return self.stopping.reason or ("timed_out" if timed_out else "failed")
        except (DeadKernelError, RuntimeError) as error:
            # RuntimeError: the kernel did not come up.
            self.record.message = str(error)[:2000]
            return self.stopping.reason or "kernel_died"
        return self.stopping.reason or ("failed" if client.failed_at is not None else "succeeded")

    def _save_part(self, text: str) -> None:
        write_whole(self.part, text, lasting=False)

    def _given_index(self, index: int) -> int:
        """Return the cell's place in the notebook that was given; an injected cell stands for the one before it."""
        return index - (self.injected_at is not None and index >= max(self.injected_at, 1))

    def _write(self) -> None:
        """Write the output; when there is no room for it beside the side file, without the side file."""
        for attempt in (1, 2):
            try:
                if self.client.failed_at is None:
                    write_ipynb(self.nb, str(self.order.output))
                else:
                    with contextlib.suppress(PapermillExecutionError):
                        raise_for_execution_errors(self.nb, str(self.order.output))
            except OSError:
                if attempt == 2 or not self.part.exists():
                    raise
            else:
                break
            finally:
                self.part.unlink(missing_ok=True)


def choose_kernel(nb: Any, wanted: str | None) -> tuple[str, str]:
    """Return name and language of the kernel: the wanted one, the notebook's, or python3 for Python from elsewhere."""
    kernelspec = nb.metadata.get("kernelspec", {})
    language = nb.metadata.get("language_info", {}).get("name") or kernelspec.get("language") or "python"
    names = [wanted or kernelspec.get("name") or "python3"]
    if not wanted and language == "python":
        names.append("python3")
    for name in names:
        with contextlib.suppress(NoSuchKernel):
            return name, KernelSpecManager().get_kernel_spec(name).language or language
    raise Refused(f"커널 {names[0]}이(가) 없습니다 / there is no kernel {names[0]} here")


def read_order(arguments: list[str] | None) -> argparse.Namespace:
    """Return the order with absolute paths and checked parameters (`values`). Raises Refused."""
    parser = argparse.ArgumentParser(prog="execute", exit_on_error=False, allow_abbrev=False)
    for name in ("--input", "--output", "--parameters", "--record"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--kernel")
    parser.add_argument("--deadline", type=float, metavar="SECONDS")
    parser.add_argument("--cell-timeout", type=int, metavar="SECONDS")
    parser.add_argument("--autosave", type=float, metavar="SECONDS", default=15)
    parser.add_argument("--cell-output-bytes", type=int, default=cells.Limits.cell_bytes)
    parser.add_argument("--notebook-output-bytes", type=int, default=cells.Limits.notebook_bytes)
    parser.add_argument("--cwd", type=Path, default=Path())
    order = parser.parse_args(arguments)
    for name in ("input", "output", "parameters", "record", "cwd"):
        setattr(order, name, getattr(order, name).absolute())
    return order


def read_parameters(path: Path) -> dict[str, Any]:
    """Return the parameters. Their names become code: papermill writes them as they are, so that they are checked."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Refused(f"매개변수를 읽을 수 없습니다 / the parameters cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise Refused("매개변수는 JSON 객체여야 합니다 / the parameters must be a JSON object")
    for name in values:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise Refused(f"매개변수 이름이 아닙니다 / not a parameter's name: {name!r:.80}")
    return values


def main(arguments: list[str] | None = None) -> int:
    """Do what the order says, leave the record, and return the exit code."""
    stopping = Stopping()
    try:
        order = read_order(arguments)
    except (argparse.ArgumentError, SystemExit) as error:
        sys.stderr.write(f"execute: {error}\n")
        return OWN_ERROR
    record = Record(order.record, BEGAN_AT)
    try:
        stopping.watch(order.deadline)
        order.values = read_parameters(order.parameters)
        os.chdir(order.cwd)
        state = Run(order, record, stopping).execute()
        code = EXIT_CODES[state]
    except Stopped:
        state = str(stopping.reason)
        code = EXIT_CODES[state]
    except Exception as error:  # noqa: BLE001 - the record says what it was
        state, code = "failed", OWN_ERROR
        record.message = str(error)[:2000] if isinstance(error, Refused) else f"{type(error).__name__}: {error}"[:2000]
    stopping.cells_end()
    sys.stderr.write(f"execute: {state} ({code}){': ' + record.message if record.message else ''}\n")
    try:
        record.ended(state, code)
    except OSError as error:
        sys.stderr.write(f"execute: the record cannot be written: {error}\n")
        return OWN_ERROR
    return code


if __name__ == "__main__":
    exit_code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # The end is on record. Leaving sockets and threads of a kernel that was killed to tear down could wait for ever.
    os._exit(exit_code)
