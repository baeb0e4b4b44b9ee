"""An agent that samples without waiting, to be killed at any moment: `python -m tests.agent.hasty`, as `agent`."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from agent.__main__ import parser
from agent.options import Options
from agent.service import Agent

PAUSE_SECONDS = 0.02


def main() -> None:
    """Rounds follow each other, and what they found is sent beside them, until the process ends."""
    chosen = parser().parse_args()
    agent = Agent(
        Options(
            chosen.url, chosen.state, None, chosen.interval, 1, root=chosen.root, proc=Path("/proc"), scrub_command=""
        )
    )
    never = threading.Event()
    threading.Thread(target=agent.sender.run, args=(never,), daemon=True).start()
    print("runs", flush=True)
    while True:
        agent.round()
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
