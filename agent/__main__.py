"""`python -m agent`: the agent without the rest of the platform's program; `mudeung agent` is the same."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from agent.options import DEFAULT_STATE, TOKEN_VARIABLE, Options

LANGUAGES = ("en", "ko")


def parser() -> argparse.ArgumentParser:
    """Return the options; they are those of `mudeung agent`."""
    made = argparse.ArgumentParser(
        prog="python -m agent",
        description="Report this machine's accelerators and their use to the platform.",
        epilog="Example: python -m agent --url https://notebooks.example.org --token-file /etc/mudeung/agent.token",
    )
    add = made.add_argument
    add("--url", metavar="URL", help="the platform's address (needed unless --print)")
    add("--token-file", type=Path, metavar="FILE", help=f"this machine's token; without it ${TOKEN_VARIABLE}")
    add(
        "--state", type=Path, default=DEFAULT_STATE, metavar="FOLDER", help="what is not sent yet (default %(default)s)"
    )
    add("--interval", type=int, default=10, metavar="SECONDS", help="between two samples (default %(default)s)")
    add("--buffer-hours", type=int, default=24, metavar="HOURS", help="how long reports are kept (default %(default)s)")
    add("--once", action="store_true", help="sample once, send all that waits, and end")
    add("--print", action="store_true", help="print what the machine has, and end; nothing is sent")
    add("-o", "--output", choices=("table", "json"), default="table", help="how to print (default %(default)s)")
    add("--no-nvml", action="store_true", help="do not look for NVIDIA's GPUs")
    add("--scrub-command", default="", metavar="LINE", help="scrubs what CUDA cannot: $MUDEUNG_DEVICE_UUID, …_PATHS")
    add("--root", type=Path, default=Path("/"), metavar="FOLDER", help="where /dev, /sys and /etc are (default /)")
    add("--proc", type=Path, default=Path("/proc"), metavar="FOLDER", help="where /proc is (default %(default)s)")
    add("--pod-resources", type=Path, metavar="SOCKET", help="of the kubelet, which says which pod has which device")
    add("--lang", choices=LANGUAGES, help="language of messages; without it the terminal's")
    return made


def main(arguments: list[str] | None = None) -> int:
    """The command was done; return its status."""
    from agent import starting  # noqa: PLC0415 - `--help` does without it

    read = parser()
    chosen = read.parse_args(arguments)
    language = chosen.lang or ("ko" if os.environ.get("LC_ALL", os.environ.get("LANG", "")).startswith("ko") else "en")
    if chosen.print:
        return starting.print_inventory(
            chosen.root, chosen.proc, nvml=not chosen.no_nvml, output=chosen.output, language=language
        )
    if chosen.url is None:
        read.error("--url is needed")
    options = Options(
        url=chosen.url,
        state=chosen.state,
        token_file=chosen.token_file,
        interval_seconds=chosen.interval,
        buffer_hours=chosen.buffer_hours,
        once=chosen.once,
        nvml=not chosen.no_nvml,
        scrub_command=chosen.scrub_command,
        root=chosen.root,
        proc=chosen.proc,
        pod_resources=chosen.pod_resources,
    )
    return starting.start(options, language)


if __name__ == "__main__":
    sys.exit(main())
