"""Rebellions' and FuriosaAI's NPUs, found by their device files and described by what their drivers say in sysfs.

Sources: ``/dev/rbln<N>`` and ``/sys/class/rebellions/rbln<N>/`` (card_name, dram_total, status) as Rebellions' device
plugin and feature discovery read them; ``/dev/rngd/npu<N>…`` with ``/sys/class/rngd_mgmt/rngd!npu<N>mgmt/``, and for
Warboy ``/dev/npu<N>…`` with ``/sys/class/npu_mgmt/npu<N>_mgmt/`` (device_uuid, device_sn), as FuriosaAI's device
library and container toolkit do.
"""

from __future__ import annotations

import re
import socket
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from quotas.domain.devices import MODELS
from quotas.domain.node_reports import DeviceKind, FoundDevice

PREFIX = "NPU-"
_REBELLIONS = re.compile(r"rbln(\d+)")
_RNGD = re.compile(r"npu(\d+)(?:mgmt|pe\d+(?:-\d+)?|ch\d+r?|dmar|bar\d+)")
_WARBOY = re.compile(r"npu(\d+)(?:_mgmt|pe\d+(?:-\d+)?|ch\d+)?")
_PCI = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_SERIALS = ("device_uuid", "uuid", "device_sn", "serial")
_FAULT = "3"
"""Of a Rebellions device's `status`: 0 ready, 1 busy, 2 starting, 3 fault, 4 finished."""
_SMALLEST_MEMORY = 2**30
_CARDS = {
    # Card names of Rebellions (docs.rbln.ai, support matrix) → the catalogue's device model.
    "rbln-ca02": "atom",
    "rbln-ca12": "atom",
    "rbln-ca22": "atom",
    "rbln-ca25": "atom-max",
}
_MEMORY = {model.code: model.memory_bytes for model in MODELS}
_MACHINE_IDS = ("etc/machine-id", "var/lib/dbus/machine-id")


def find(root: Path) -> list[FoundDevice]:
    """Return the NPUs of the machine whose ``/dev`` and ``/sys`` lie in `root`, in the order of their numbers."""
    machine = _machine_id(root)
    found = [*_rebellions(root, machine), *_rngd(root, machine), *_warboy(root, machine)]
    return [_at(device, position) for position, device in enumerate(found)]


def _at(device: FoundDevice, position: int) -> FoundDevice:
    return FoundDevice(**{**vars(device), "position": position})


def _machine_id(root: Path) -> str:
    for name in _MACHINE_IDS:
        text = _text(root / name)
        if text:
            return text
    return socket.gethostname()


def _rebellions(root: Path, machine: str) -> Iterable[FoundDevice]:
    for number, files in _by_number(root / "dev", _REBELLIONS):
        facts = root / "sys/class/rebellions" / f"rbln{number}"
        card = _text(facts / "card_name")
        model = _CARDS.get(card.lower())
        yield _npu(
            name=f"Rebellions {card}" if card else "Rebellions NPU",
            memory_bytes=_bytes(facts / "dram_total") or (0 if model is None else _MEMORY[model]),
            paths=[f"/dev/{file}" for file in files],
            serial=_serial(facts),
            machine=machine,
            problem="the driver reports a fault" if _text(facts / "status") == _FAULT else "",
        )


def _rngd(root: Path, machine: str) -> Iterable[FoundDevice]:
    for number, files in _by_number(root / "dev/rngd", _RNGD):
        facts = root / "sys/class/rngd_mgmt" / f"rngd!npu{number}mgmt"
        yield _npu(
            name="FuriosaAI RNGD",
            memory_bytes=_MEMORY["rngd"],
            paths=[f"/dev/rngd/{file}" for file in files],
            serial=_serial(facts),
            machine=machine,
        )


def _warboy(root: Path, machine: str) -> Iterable[FoundDevice]:
    for number, files in _by_number(root / "dev", _WARBOY):
        facts = root / "sys/class/npu_mgmt" / f"npu{number}_mgmt"
        yield _npu(
            name="FuriosaAI Warboy",
            memory_bytes=0,  # no source that we trust says how much it has
            paths=[f"/dev/{file}" for file in files],
            serial=_serial(facts),
            machine=machine,
        )


def _npu(
    *, name: str, memory_bytes: int, paths: list[str], serial: str, machine: str, problem: str = ""
) -> FoundDevice:
    own = serial or str(uuid.uuid5(uuid.NAMESPACE_OID, f"{machine} {paths[0]}"))
    return FoundDevice(f"{PREFIX}{own}", DeviceKind.NPU, name, memory_bytes, 0, paths=tuple(paths), problem=problem)


def _by_number(folder: Path, pattern: re.Pattern[str]) -> list[tuple[int, list[str]]]:
    """Return the files of the folder that fit, in order, by the number in their names."""
    found: dict[int, list[str]] = {}
    try:
        names = sorted(path.name for path in folder.iterdir() if not path.is_dir())
    except OSError:
        return []
    for name in names:
        fits = pattern.fullmatch(name)
        if fits is not None:
            found.setdefault(int(fits.group(1)), []).append(name)
    return sorted(found.items())


def by_plugin_ids(root: Path, found: Iterable[FoundDevice]) -> dict[str, str]:
    """Return by each id that a maker's device plugin may use for an NPU, in small letters, its UUID on this machine.

    Rebellions' plugin names a card by its file (``rbln0``), earlier releases by its address on the PCI bus; FuriosaAI's
    by the UUID that the driver gives. What it calls a part of a card is not known here.
    """
    names: dict[str, str] = {}
    for device in found:
        card, facts = _card(root, device.paths[0])
        for name in (device.uuid, device.uuid.removeprefix(PREFIX), card, _bus_address(facts)):
            if name:
                names.setdefault(name.lower(), device.uuid)
    return names


def _card(root: Path, path: str) -> tuple[str, Path]:
    """Return what the card of the device file is called, and the driver's folder of it."""
    name = path.rpartition("/")[2]
    number = "".join(re.findall(r"\d+", name)[:1])
    if name.startswith("rbln"):
        return name, root / "sys/class/rebellions" / name
    if path.startswith("/dev/rngd/"):
        return f"npu{number}", root / "sys/class/rngd_mgmt" / f"rngd!npu{number}mgmt"
    return f"npu{number}", root / "sys/class/npu_mgmt" / f"npu{number}_mgmt"


def _bus_address(facts: Path) -> str:
    """Return the card's address on the PCI bus, as ``0000:b6:00.0``; "" where its driver does not say."""
    try:
        name = (facts / "device").readlink().name
    except OSError:
        return ""
    return name if _PCI.fullmatch(name) else ""


@dataclass(frozen=True)
class User:
    """A process that has one of a device's files open."""

    pid: int
    path: str


def users(paths: Iterable[str], proc: Path) -> list[User]:
    """Return the processes that have one of the files open, as far as this process may look into them."""
    wanted, found = set(paths), []
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            links = list((folder / "fd").iterdir())
        except OSError:
            continue  # it has ended, or is not ours to look into
        opened = sorted(wanted & {_target(link) for link in links})
        found += [User(int(folder.name), path) for path in opened[:1]]
    return found


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""  # it was closed meanwhile, or is not ours to look into


def _serial(facts: Path) -> str:
    for name in _SERIALS:
        text = re.sub(r"[^0-9A-Za-z-]", "", _text(facts / name))[:64]
        if text.strip("0-"):
            return text
    return ""


def _bytes(path: Path) -> int:
    text = _text(path)
    return int(text) if text.isdigit() and int(text) >= _SMALLEST_MEMORY else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
