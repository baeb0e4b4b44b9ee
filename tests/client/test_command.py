"""The command in a terminal: what it says in either language, that it extends, and that no shell waits for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from mudeung_session import command
from mudeung_session.platform import answer_of, from_environment

from tests.client.conftest import NOW, StandIn

BANNER = Path(command.__file__).with_name("etc") / "terminal.sh"
BIN = Path(sys.executable).parent


def ran(platform: StandIn | None, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    known = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "http_proxy": "http://127.0.0.1:1"}
    given = platform.environment if platform else {}
    program = [sys.executable, "-m", "mudeung_session", *words]
    environment = {**known, **given, **variables}
    return subprocess.run(program, env=environment, capture_output=True, text=True, timeout=30, check=False)


def test_it_says_what_is_left_in_the_persons_language(platform: StandIn) -> None:
    found = ran(platform)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.splitlines() == [
        "과제: vision, H100 프로필",
        "남은 시간: 9분 (2027-01-15 17:09 KST 종료)",
        "제한: 유휴 상태",
        "장치: NVIDIA H100, 사용률 83%",
        "과제 잔여량: 669.000 TF·h (이 프로필 기준 10시간)",
        "알림: 중지됩니다.",
        "연장하면 2027-01-15 21:00 KST까지 실행됩니다 (세션 길이).",
    ]


@pytest.mark.parametrize(("words", "variables"), [(["--language", "en"], {}), ([], {"LANG": "en_US.UTF-8"})])
def test_it_speaks_english_where_that_is_asked_for(
    platform: StandIn, words: list[str], variables: dict[str, str]
) -> None:
    found = ran(platform, *words, **variables).stdout.splitlines()
    assert found[1:5] == [
        "Time left: 9 min (until 2027-01-15 17:09 KST)",
        "Limited by: it computes nothing",
        "Device: NVIDIA H100, busy 83%",
        "Budget left: 669.000 TF·h (on this profile 10 h)",
    ]


def test_it_extends_and_says_whether_that_gained_anything(platform: StandIn) -> None:
    first = ran(platform, "--extend", "--language", "en")
    assert first.returncode == 0
    assert first.stdout.splitlines()[0] == "Extended."
    assert "Time left: 4 h (until 2027-01-15 21:00 KST)" in first.stdout
    again = ran(platform, "--extend", "--language", "ko")
    assert again.returncode == 3
    assert again.stdout.splitlines()[0] == "불가."
    assert platform.times("POST", "/extend") == 2


def test_it_prints_the_platforms_answer_for_programs(platform: StandIn) -> None:
    told = json.loads(ran(platform, "--json").stdout)
    assert (told["seconds_left"], told["limit"], told["device"]["busy_ppm"]) == (540, "idle", 830_000)


def test_a_pause_a_lost_device_and_none_are_said(platform: StandIn) -> None:
    devices = (replace(platform.facts.devices[0], state="lost"),)
    platform.facts = replace(platform.facts, devices=devices, paused_since=NOW - 60, paused_why="Xid 79")
    found = ran(platform, "--language", "en").stdout
    assert "Device: NVIDIA H100, lost" in found
    assert "Not charged since: 2027-01-15 16:59 KST: Xid 79" in found
    platform.facts = replace(platform.facts, device_model=None, device_count=0, devices=())
    assert "Device: none" in ran(platform, "--language", "en").stdout


def test_what_goes_wrong_is_said(platform: StandIn) -> None:
    assert ran(None, "--language", "en").returncode == 2
    assert "no server of a Mudeung platform" in ran(None).stderr
    platform.status = 410
    ended = ran(platform, "--language", "ko")
    assert (ended.returncode, ended.stderr) == (1, "이 실행은 종료되었습니다.\n")
    platform.status = 500
    assert "does not answer" in ran(platform, "--language", "en").stderr
    platform.stop()
    away = ran(platform, "--language", "ko")
    assert (away.returncode, away.stdout) == (1, "")
    assert "응답하지 않습니다" in away.stderr


def test_no_other_address_is_asked() -> None:
    assert from_environment({"MUDEUNG_SESSION_TOKEN": "x", "MUDEUNG_SESSION_URL": "file:///etc/passwd"}) is None
    assert from_environment({"MUDEUNG_SESSION_TOKEN": "", "MUDEUNG_SESSION_URL": "http://127.0.0.1:1/"}) is None
    assert answer_of(204, b"") == {}


def shell(environment: dict[str, str], *options: str) -> tuple[str, float]:
    """Return what an interactive shell says before its first command, and how long it took to get there."""
    bash = shutil.which("bash")
    assert bash
    known = {"PATH": f"{BIN}:{os.environ['PATH']}", "LANG": "C.UTF-8", "HOME": "/nonexistent"}
    words = [bash, "--norc", "--noprofile", *options, "-c", f". {BANNER}; . {BANNER}"]
    began = time.monotonic()
    found = subprocess.run(words, env={**known, **environment}, capture_output=True, text=True, timeout=30, check=True)
    return found.stdout, time.monotonic() - began


def test_a_terminal_begins_with_one_line(platform: StandIn) -> None:
    for _ in range(5):  # a busy machine may take longer than the banner waits
        said, _ = shell(platform.environment, "-i")
        if said:
            break
    assert said == "이 서버의 남은 시간: 9분 (유휴 상태). 자세히: mudeung-session\n"
    assert shell(platform.environment)[0] == "", "a script's shell says nothing"
    assert shell({}, "-i")[0] == ""


def test_no_shell_waits_for_a_platform_that_does_not_answer(platform: StandIn) -> None:
    platform.pause_seconds = 5
    bare = min(shell({}, "-i")[1] for _ in range(3))
    said, seconds = min((shell(platform.environment, "-i") for _ in range(3)), key=lambda each: each[1])
    assert said == ""
    assert seconds - bare < 0.3 + 0.15, "the limit, and as much again as starting the two programs may take"
