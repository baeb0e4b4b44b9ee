"""Where Docker or PostgreSQL is required, a test that needs it cannot be left out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import pytest

@pytest.mark.docker
def test_skips_itself():
    pytest.skip("no engine")

@pytest.mark.docker
@pytest.mark.skipif(True, reason="no image")
def test_is_skipped():
    pass

@pytest.mark.docker
def test_runs():
    pass

@pytest.mark.postgresql
def test_has_no_server():
    pytest.skip("no server")

def test_skips_for_another_reason():
    pytest.skip("another reason")
"""


@pytest.mark.parametrize(
    ("required", "summary"),
    [
        ("", "1 passed, 4 skipped"),
        ("network", "1 passed, 4 skipped"),
        ("docker", "1 failed, 1 passed, 2 skipped, 1 error"),
        ("network,docker", "1 failed, 1 passed, 2 skipped, 1 error"),
        ("postgresql", "1 failed, 1 passed, 3 skipped"),
        ("docker postgresql", "2 failed, 1 passed, 1 skipped, 1 error"),
    ],
)
def test_a_skipped_test_fails_where_what_it_needs_is_required(tmp_path: Path, required: str, summary: str) -> None:
    (tmp_path / "test_program.py").write_text(PROGRAM)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  docker: needs Docker\n  postgresql: needs a server\n")
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider", str(tmp_path)],
        env={**os.environ, "MUDEUNG_REQUIRE": required, "PYTHONPATH": str(root)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert summary in done.stdout, done.stdout + done.stderr
