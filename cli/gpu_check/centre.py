"""What an operator does so that this machine's devices can be used, by the same commands: each is noted as it was."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cli.demo.platform import OwnPlatform
from cli.demo.story import Differs, NotDone, Step
from cli.supervision.programs import ROOT

POOL = PROFILE = PROJECT = "gpu-check"
NODE = "this-machine"
PI = "pi"
IMAGE = "scientific"
"""Both of the example centre, which every fresh evaluation platform has."""
AWARD_DAYS = 30
ASSIGNED_GFLOPS = 1_000
"""The rate where no source states the device's peak; it is for this check only."""
APPEAR_SECONDS = 90.0
END_SECONDS = 30.0
POLL_SECONDS = 1.0


@dataclass
class Agent:
    """`mudeung agent` as a process of this machine, with its token in a file of its owner's."""

    platform: OwnPlatform
    interval_seconds: int
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def folder(self) -> Path:
        return self.platform.home / "agent"

    @property
    def log(self) -> Path:
        return self.folder / "agent.log"

    def start(self, token: str) -> str:
        """It runs; return its command."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        file = self.folder / "token"
        file.touch(mode=0o600)
        file.write_text(token)
        words = ["--url", self.platform.url, "--token-file", str(file), "--state", str(self.folder / "state")]
        words += ["--interval", str(self.interval_seconds)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli", "agent", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                start_new_session=True,
            )
        return "mudeung agent " + shlex.join(words)

    def stop(self) -> int:
        """It has ended; return its exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(END_SECONDS)

    def printed(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def scrubs(self, uuid: str) -> list[int]:
        """Return how many bytes of the device were overwritten at each scrub, as its log says."""
        found = re.findall(rf"{re.escape(uuid)}: (\d+) bytes were overwritten", self.printed())
        return [int(each) for each in found]

    def check(self) -> None:
        """Raise Differs where it has ended by itself."""
        if self.process is not None and self.process.poll() is not None:
            raise Differs("an agent that goes on", f"exit {self.process.returncode}: {self.printed()[-2000:]}")


def operate(platform: OwnPlatform, step: Step, *words: str) -> str:
    """Run an operator's command, and note it; return what it printed. Raises Differs when it fails."""
    code, printed = platform.command(*words)
    step.expect(code == 0, f"mudeung {shlex.join(words)} to succeed", f"exit {code}: {printed}")
    step.note(f"mudeung {shlex.join(words)}")
    return printed


def add_machine(platform: OwnPlatform, step: Step) -> str:
    """The machine is of a new pool; return its token."""
    operate(platform, step, "pools", "add", POOL, "--name-ko", "GPU 점검", "--name-en", "GPU check")
    words = ("nodes", "add", NODE, "--pool", POOL)
    token = str(platform.read(*words)["token"])
    step.note(f"mudeung {shlex.join(words)}")
    return token


def runs(platform: OwnPlatform) -> list[dict[str, Any]]:
    """Return the runs of the project, the newest first."""
    rows: list[dict[str, Any]] = platform.read("runs", "list", "--project", PROJECT)
    return rows


def device_rows(platform: OwnPlatform) -> list[dict[str, Any]]:
    """Return the machine's devices as the platform has them."""
    rows: list[dict[str, Any]] = platform.read("nodes", "devices", "--node", NODE)
    return rows


def wait_for_devices(platform: OwnPlatform, agent: Agent, wanted: int) -> list[dict[str, Any]]:
    """Return the devices once so many have been reported."""
    deadline = time.monotonic() + APPEAR_SECONDS
    while True:
        agent.check()
        rows = device_rows(platform)
        if len(rows) >= wanted:
            return rows
        if time.monotonic() > deadline:
            raise Differs(f"{wanted} devices within {APPEAR_SECONDS:.0f} s", rows)
        time.sleep(POLL_SECONDS)


def wait_until_available(platform: OwnPlatform, agent: Agent, uuid: str, seconds: float) -> list[str]:
    """Return the states that the device went through until it can be held again."""
    states: list[str] = []
    deadline = time.monotonic() + seconds
    while True:
        agent.check()
        [row] = [each for each in device_rows(platform) if each["uuid"] == uuid]
        if not states or states[-1] != row["state"]:
            states.append(str(row["state"]))
        if states[-1] == "available":
            return states
        if states[-1] in {"lost", "quarantined"} or time.monotonic() > deadline:
            raise Differs(f"{uuid} to be available within {seconds:.0f} s", row)
        time.sleep(POLL_SECONDS)


def match(platform: OwnPlatform, step: Step, model: str) -> list[dict[str, Any]]:
    """Each device that the catalogue does not know by its name is of the model; return the devices."""
    for row in device_rows(platform):
        if row["device_model"] is None:
            operate(platform, step, "nodes", "match", str(row["uuid"]), model)
    return device_rows(platform)


def choose_model(rows: Iterable[Mapping[str, Any]], wanted: str | None) -> str:
    """Return the model to check: the wanted one, or that of most devices, a whole one before a slice.

    Raises NotDone where the catalogue knows none of the devices.
    """
    counts = Counter(str(row["device_model"]) for row in rows if row["device_model"])
    if wanted is not None and wanted not in counts:
        raise Differs(f"a {wanted} on this machine", dict(counts))
    if not counts:
        names = ", ".join(sorted({str(row["name"]) for row in rows}))
        raise NotDone(f"the catalogue knows none of these devices: {names}", f"카탈로그에 없는 장치뿐입니다: {names}")
    return wanted or min(counts, key=lambda model: ("-mig-" in model, -counts[model], model))


def capacity(platform: OwnPlatform, model: str) -> Mapping[str, Any]:
    """Return the pool's devices of the model as the platform counts them."""
    rows = [row for row in platform.read("pools", "list") if (row["pool"], row["device"]) == (POOL, model)]
    if not rows:
        raise Differs(f"{model} in the pool {POOL}", "none")
    found: Mapping[str, Any] = rows[0]
    return found


def leave_only_this_machine(platform: OwnPlatform, step: Step, model: str) -> None:
    """No other pool gives such a device: those of the example centre are simulated, and nothing is attached there."""
    for row in platform.read("pools", "list"):
        left = int(row["healthy"]) - int(row["drained"])
        if row["pool"] != POOL and row["device"] == model and left > 0:
            operate(platform, step, "pools", "drain", str(row["pool"]), model, str(left), "--reason", "gpu-check")


def offer(platform: OwnPlatform, step: Step, model: str, count: int) -> int:
    """A profile of one such device is rated and offered to a project with an award for `count`; return its rate."""
    about = ["--name-ko", "GPU 점검", "--name-en", "GPU check", "--image", IMAGE]
    size = ["--cores", "2", "--memory-gib", "8", "--storage-gib", "10", "--device", model, "--devices", "1"]
    operate(platform, step, "profiles", "add", PROFILE, *about, *size)
    card = platform.home / "gpu-check.toml"
    card.write_text(_card(platform, model), encoding="utf-8")
    operate(platform, step, "rates", "publish", str(card), "--yes")
    [profile] = [row for row in platform.read("profiles", "list") if row["code"] == PROFILE]
    rate = int(profile["rate_gflops"])
    [organisation] = [row["organisation"] for row in platform.read("people", "list") if row["username"] == PI]
    today = datetime.now(UTC).date()
    starts, ends = (today - timedelta(days=1)).isoformat(), (today + timedelta(days=AWARD_DAYS)).isoformat()
    titles = ["--title-ko", "GPU 점검", "--title-en", "GPU check", "--award", f"{rate * count}GF"]
    who = ["--by", PI, "--organisation", str(organisation), "--starts", starts, "--ends", ends]
    operate(platform, step, "projects", "apply", PROJECT, *who, *titles)
    operate(platform, step, "projects", "approve", PROJECT, "--profiles", PROFILE, "--consent")
    for person in people(platform)[1:]:
        operate(platform, step, "projects", "members", "add", PROJECT, person)
    return rate


def people(platform: OwnPlatform) -> tuple[str, ...]:
    """Return who starts servers; the last one, whose start is refused, reads the language of the report."""
    return (PI, "member", "instructor" if platform.language == "ko" else "newcomer")


def _card(platform: OwnPlatform, model: str) -> str:
    """Return the card in force, as a file, from now on and with the new profile."""
    code, printed = platform.command("rates", "show", "--toml")
    if code != 0:
        raise Differs("mudeung rates show --toml to succeed", printed)
    precision = re.search(r'^reference_precision = "(\w+)"', printed, re.MULTILINE)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    card = re.sub(r"^effective_from = .*$", f"effective_from = {now}", printed, count=1, flags=re.MULTILINE)
    device = model.partition("-mig-")[0]
    words = ["--device", device, *(("--precision", precision[1]) if precision else ())]
    stated = [row for row in platform.read("rates", "facts", *words) if row["density"] == "dense"]
    lines = ["", f"[rates.{PROFILE}]", f'approver = "{PI}"']
    if stated:
        lines += ['rule = "fact"']
    else:
        lines += ['rule = "assigned"', f"gflops = {ASSIGNED_GFLOPS}", 'reason = "no source states its peak"']
    return card + "\n".join(lines) + "\n"
