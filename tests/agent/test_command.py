"""`python -m agent` and `mudeung agent`: what they print, and a machine without NVML."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.__main__ import parser
from agent.buffer import Buffer
from cli.main import app
from tests.agent.conftest import ROOT, Run
from tests.agent.platform import Platform
from tests.nvml.library import Scenario

RUN = "0f0e0d0c-0000-4000-8000-000000000001"


def agent(surroundings: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", *words],
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_what_the_machine_has_is_printed(surroundings: dict[str, str], scenario: Scenario, empty_root: Path) -> None:
    place = ("--root", str(empty_root), "--lang", "en")
    shown = agent(surroundings, "--print", *place)
    assert shown.returncode == 0, shown.stderr
    heading, *lines = shown.stdout.splitlines()
    assert heading.split()[:3] == ["device", "kind", "name"]
    assert [line.split()[0] for line in lines] == scenario.uuids()
    as_json = json.loads(agent(surroundings, "--print", "-o", "json", *place).stdout)
    assert [device["uuid"] for device in as_json] == scenario.uuids()
    assert as_json[6]["mig_profile"] == "1g.10gb"
    assert "장치" in agent(surroundings, "--print", "--root", str(empty_root), "--lang", "ko").stdout


def test_one_round_is_reported_and_it_ends(run: Run, platform: Platform, scenario: Scenario) -> None:
    once = run("--once")
    assert once.wait(20) == 0
    (report,) = platform.reports
    assert [device["uuid"] for device in report["devices"]] == scenario.uuids()
    assert [sample["uuid"] for sample in report["samples"]] == scenario.uuids()
    assert {sample["covers_seconds"] for sample in report["samples"]} == {1.0}
    platform.status = 503
    assert run("--once").wait(20) == 1
    platform.status = 200
    assert run("--once").wait(20) == 0
    assert [report["sequence"] for report in platform.reports] == [1, 2, 3]


def test_a_process_is_reported_with_its_run(run: Run, platform: Platform, scenario: Scenario) -> None:
    words = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    child = subprocess.Popen(words, env={"MUDEUNG_RUN": RUN}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        scenario.processes("gpu.0", {child.pid: 2**30, os.getpid(): 5})
        assert run("--once").wait(20) == 0
    finally:
        child.communicate(timeout=10)
    assert platform.all("samples")[0]["processes"] == [
        {"pid": child.pid, "memory_bytes": 2**30, "run_id": RUN},
        {"pid": os.getpid(), "memory_bytes": 5, "run_id": ""},
    ]


@pytest.mark.parametrize(("words", "variables"), [((), {"LD_LIBRARY_PATH": "/nonexistent"}), (("--no-nvml",), {})])
def test_a_machine_without_nvml_reports_that_it_has_nothing(
    run: Run, platform: Platform, words: tuple[str, ...], variables: dict[str, str]
) -> None:
    child = run("--once", *words, **variables)
    assert child.wait(20) == 0, child.stdout.read() if child.stdout else ""
    (report,) = platform.reports
    assert (report["devices"], report["samples"], report["events"]) == ([], [], [])


def test_gpus_that_went_while_it_did_not_run_are_lost(run: Run, platform: Platform, scenario: Scenario) -> None:
    assert run("--once").wait(20) == 0
    scenario.gpu(0, gone=1)
    assert run("--once").wait(20) == 0
    assert [(each["uuid"], each["kind"]) for each in platform.all("events")] == [(scenario.uuid(0), "lost")]
    assert run("--once").wait(20) == 0
    assert len(platform.all("events")) == 1
    scenario.gpu(0, gone=0)
    assert run("--once").wait(20) == 0
    assert [each["kind"] for each in platform.all("events")] == ["lost", "back"]


def test_two_agents_do_not_share_a_folder(run: Run, tmp_path: Path) -> None:
    held = Buffer(tmp_path / "state", 3600)
    second = run("--once")
    assert second.wait(20) == 1
    held.close()
    assert second.stdout is not None
    assert "another agent uses" in second.stdout.read()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "--url"),
        (("--url", "nowhere"), "--url"),
        (("--url", "http://127.0.0.1:1", "--interval", "0"), "--interval"),
        (("--url", "http://127.0.0.1:1", "--token-file", "/nonexistent"), "--token-file"),
    ],
)
def test_what_cannot_be_used_ends_it_with_status_2(
    surroundings: dict[str, str], tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    ended = agent(surroundings, "--state", str(tmp_path / "state"), *words)
    assert ended.returncode == 2
    assert told in ended.stderr
    assert not (tmp_path / "state").exists()


def test_without_a_token_it_says_how_to_give_one(surroundings: dict[str, str]) -> None:
    del surroundings["MUDEUNG_AGENT_TOKEN"]
    ended = agent(surroundings, "--url", "http://127.0.0.1:1")
    assert ended.returncode == 2
    assert "MUDEUNG_AGENT_TOKEN" in ended.stderr
    assert "--token-file" in ended.stderr


def test_both_commands_have_the_same_options() -> None:
    shown = CliRunner().invoke(app, ["agent", "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert shown.exit_code == 0
    own = {word for action in parser()._actions for word in action.option_strings if word.startswith("--")}
    assert {word for word in own if word not in shown.output} == set()


def test_the_platform_s_program_prints_and_refuses(empty_root: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    place = ["--root", str(empty_root), "--no-nvml", "--lang", "en"]
    (empty_root / "dev/rbln0").touch()
    shown = runner.invoke(app, ["agent", "--print", "-o", "json", *place])
    assert shown.exit_code == 0
    assert [device["name"] for device in json.loads(shown.output)] == ["Rebellions NPU"]
    assert runner.invoke(app, ["agent", *place]).exit_code == 2
    assert runner.invoke(app, ["agent", "--url", "x", "--state", str(tmp_path / "s"), *place]).exit_code == 2


def test_the_agent_needs_neither_the_ledger_nor_the_hub(surroundings: dict[str, str]) -> None:
    program = (
        "import sys, agent.service, agent.starting, agent.__main__, agent.scrub\n"
        "heavy = {'sqlalchemy', 'jupyterhub', 'fastapi', 'typer', 'pydantic', 'docker', 'httpx', 'pynvml'}\n"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))\n"
        "print(sorted(name for name in sys.modules if name.startswith('quotas') and not"
        " name.startswith('quotas.domain') and name != 'quotas'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=surroundings,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "[]\n[]\n"
