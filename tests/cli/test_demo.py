"""`mudeung demo`: it does the whole round on either backend, and says so when a step differs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cli.demo import pages
from cli.demo.story import Differs, Story
from cli.session import Session
from tests.cli.engine import skip_without_image

PROMISED = [
    "The platform starts",
    "logs in by the login form",
    "The start form lists",
    "The form is posted",
    "JupyterLab opens",
    "Every cell of train_digits.ipynb runs in a kernel",
    "is scheduled with other parameters",
    "It runs at its time, and succeeds",
    "The server is stopped",
    "Both runs are charged",
    "Refused: a profile that the project may not use",
    "Refused: a project whose award has ended",
    "Refused: a person who is not a member",
    "Every invariant of the ledger holds",
    "Ctrl-C ends all of it",
]


def run_demo(tmp_path: Path, *words: str, seconds: int = 240, **variables: str) -> tuple[int, str]:
    """Return the exit code and what was printed; its temporary home is made in `tmp_path`, and gone afterwards."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", "demo", "--lang", "en", *words],
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, "TMPDIR": str(tmp_path), **variables},
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def check(code: int, printed: str, tmp_path: Path) -> None:
    assert code == 0, printed
    steps = re.findall(r"^ *\d+\. ✓ (.*) \([\d.]+ s\)$", printed, re.MULTILINE)
    for promised in PROMISED:
        assert any(promised in step for step in steps), (promised, printed)
    assert "✗" not in printed
    accuracies = [float(each) for each in re.findall(r"accuracy = ([\d.]+)", printed)]
    assert len(accuracies) == 2
    assert min(accuracies) > 0.9
    assert accuracies[0] != accuracies[1]
    assert "mudeung check: Every invariant holds." in printed
    before, after, change = re.findall(r"^ *spent +([\d,]+) +([\d,]+) +\+([\d,]+)", printed, re.MULTILINE)[0]
    numbers = [int(each.replace(",", "")) for each in (before, after, change)]
    assert numbers[1] - numbers[0] == numbers[2] > 0
    assert list(tmp_path.glob("mudeung-demo-*")) == []


def test_demo_local(tmp_path: Path) -> None:
    check(*run_demo(tmp_path), tmp_path)


@pytest.mark.docker
def test_demo_docker(tmp_path: Path) -> None:
    skip_without_image()
    check(*run_demo(tmp_path, "--backend", "docker"), tmp_path)


def test_a_demo_that_differs_says_what_was_expected_and_leaves_nothing(tmp_path: Path) -> None:
    code, printed = run_demo(tmp_path, "--backend", "docker", DOCKER_HOST="tcp://127.0.0.1:1")
    assert code == 1
    assert "1. ✗ The platform starts (docker)" in printed
    assert "expected: a platform that comes up" in printed
    assert "the backend does not answer" in printed
    assert list(tmp_path.glob("mudeung-demo-*")) == []


def test_a_demo_can_keep_its_home(tmp_path: Path) -> None:
    code, printed = run_demo(tmp_path, "--backend", "docker", "--keep", DOCKER_HOST="tcp://127.0.0.1:1")
    [home] = tmp_path.glob("mudeung-demo-*")
    assert (code, f"Its home was kept: {home}" in printed) == (1, True)


def test_a_step_is_told_as_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    story = Story(Session(Path(tempfile.gettempdir()), "en", 0))
    with story.step("It rains", "비가 온다") as step:
        step.note("a little")
    with pytest.raises(Differs), story.step("It snows", "눈이 온다") as step:
        step.expect(False, "snow", "rain")
    first, note, second, expected, came = capsys.readouterr().out.splitlines()
    assert first.startswith("  1. ✓ It rains (")
    assert note.strip() == "a little"
    assert second.startswith("  2. ✗ It snows")
    assert (expected.split(), came.split()) == (["expected:", "snow"], ["came:", "rain"])


def test_a_form_is_read_as_a_browser_would() -> None:
    page = """<form method=post action="/a?x=1&amp;y=2"><input type=hidden name=_xsrf value="t">
        <input type=radio name=profile value=one checked><input type=radio name=profile value=two>
        <input type=radio name=profile value=three disabled><input type=checkbox name=c value=1></form>
        <script>var hidden = "<form>";</script><p>무등산
        입석대</p>"""
    [form] = pages.forms(page)
    assert (form.action, form.method) == ("/a?x=1&y=2", "post")
    assert form.fields == {"_xsrf": "t", "profile": "one"}
    assert form.choices == {"profile": ["one", "two"]}
    assert pages.text(page) == "무등산 입석대"
