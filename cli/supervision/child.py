"""``python -m cli.supervision.child NAME``: become the program NAME, and end when the process that started it does.

On Linux the kernel tells a process of its parent's death, so that nothing of a platform goes on when its head was
killed. Elsewhere the next `mudeung up` ends what is left.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

FILE_NAME = "programs.json"
MARK = "MUDEUNG_PROGRAM"
"""The environment variable that marks a process of the platform by its program, as opposed to one of its users."""
PR_SET_PDEATHSIG = 1


def main(name: str) -> None:
    """Become the program: its command takes the place of this process."""
    file = Path(os.environ["MUDEUNG_HOME"], "hub", FILE_NAME)
    program = json.loads(file.read_text())[name]
    end_with_parent()
    command = [str(word) for word in program["command"]]
    os.execvpe(command[0], command, {**os.environ, **program["environment"]})  # noqa: S606 - no shell is wanted


def end_with_parent() -> None:
    """This process gets SIGTERM when its parent ends, in whatever way; a program that takes its place does too."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent has ended")


if __name__ == "__main__":
    main(sys.argv[1])
