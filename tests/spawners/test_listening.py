"""Where the platform listens: with printed passwords, on this machine only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from quotas.settings import Settings, SettingsError, is_loopback, read
from tests.platform import ROOT


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_loopback_is_taken(host: str) -> None:
    assert is_loopback(host)
    assert Settings(host=host).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "", "example.org", "localhost.example.org", "127.1"])  # noqa: S104
def test_any_other_address_is_refused_with_evaluation_accounts(tmp_path: Path, host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(SettingsError, match=r"no loopback address .* evaluation = true"):
        read(tmp_path, host=host)
    assert read(tmp_path, host=host, evaluation=False).host == host


def test_the_hub_does_not_start_where_it_may_not_listen(tmp_path: Path) -> None:
    (tmp_path / "mudeung.toml").write_text('host = "0.0.0.0"\n')
    words = [sys.executable, "-m", "jupyterhub", "-f", str(ROOT / "jupyterhub_config.py")]
    environment = {**os.environ, "MUDEUNG_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        words, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode != 0
    assert "mudeung.toml: host = '0.0.0.0' is no loopback address" in ended.stderr
    assert not (tmp_path / "hub" / "jupyterhub.sqlite").exists()
