"""The agent as a command: it prints what the machine has, reports once, or runs."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import unicodedata
from dataclasses import asdict
from pathlib import Path

from agent.buffer import BufferInUse
from agent.monitor import Monitor
from agent.options import InvalidOption, Options
from quotas.domain.node_reports import FoundDevice

FAILED, USAGE = 1, 2
_HEADINGS = {
    "en": ("device", "kind", "name", "memory GiB", "SMs", "profile", "ECC", "files", "problem"),
    "ko": ("장치", "종류", "이름", "메모리 GiB", "SM", "프로필", "ECC", "파일", "문제"),
}
_NONE = {"en": "This machine has no accelerator that is known.", "ko": "이 장비에는 알려진 가속기가 없습니다."}
_YES_NO = {"en": ("no", "yes"), "ko": ("꺼짐", "켜짐")}


def print_inventory(root: Path, proc: Path, *, nvml: bool, output: str, language: str) -> int:
    """The devices were printed as the agent would report them, as a table or as JSON; return the status."""
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    monitor = Monitor(root, proc, nvml=nvml)
    try:
        monitor.look()
        devices = monitor.devices()
        if devices is None:
            return FAILED  # it has been said why
        if output == "json":
            print(json.dumps([asdict(device) for device in devices], ensure_ascii=False, indent=1))
        elif devices:
            print(table(devices, language))
        else:
            print(_NONE[language])
    finally:
        monitor.close()
    return 0


def table(devices: tuple[FoundDevice, ...], language: str) -> str:
    """Return the devices as a table for a terminal."""
    rows = [_HEADINGS[language], *(_row(device, language) for device in devices)]
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(text + " " * (width - _width(text)) for text, width in zip(row, widths, strict=True)) for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _row(device: FoundDevice, language: str) -> tuple[str, ...]:
    return (
        device.uuid,
        device.kind.value,
        device.name,
        f"{device.memory_bytes / 2**30:.1f}" if device.memory_bytes else "-",
        "-" if device.units is None else str(device.units),
        device.mig_profile or "-",
        "-" if device.ecc is None else _YES_NO[language][device.ecc],
        ",".join(path.removeprefix("/dev/") for path in device.paths),
        device.problem or "-",
    )


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def start(options: Options, language: str) -> int:
    """The agent ran, once or until it was told to end; return the status."""
    from agent.service import Agent  # noqa: PLC0415 - what only prints does without it

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        options.checked().token()
        agent = Agent(options)
    except InvalidOption as invalid:
        print(f"{'오류' if language == 'ko' else 'Error'}: {invalid.text(language)}", file=sys.stderr)
        return USAGE
    except BufferInUse:
        told = (f"another agent uses {options.state}", f"다른 에이전트가 {options.state}을(를) 사용 중입니다")
        print(f"--state: {told[language == 'ko']}", file=sys.stderr)
        return FAILED
    except OSError as error:
        print(f"--state: {error}", file=sys.stderr)
        return FAILED
    if options.token_is_readable_by_all():
        logging.getLogger("agent").warning("%s can be read by every user of this machine", options.token_file)
    if options.once:
        try:
            return agent.once()
        finally:
            agent.close()
    status = agent.run()
    if threading.active_count() > 1:
        # A driver that does not answer must not keep the process; everything that counts is on the disk.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status
