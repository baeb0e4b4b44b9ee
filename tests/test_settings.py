"""Settings that cannot be taken are refused with file, key and what was expected."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from threading import Barrier

import pytest

from quotas.backends.kubernetes import KubernetesBackend
from quotas.domain.policy import Policy
from quotas.domain.terms_kubernetes_projects import Reach
from quotas.home import Home, open_home
from quotas.settings import CLUSTER_SLOTS, FILE_NAME, Settings, SettingsError, read


def write(home: Path, text: str) -> Path:
    path = home / FILE_NAME
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_hold_without_a_file(tmp_path: Path) -> None:
    settings = read(tmp_path)
    assert (settings.host, settings.port, settings.backend) == ("127.0.0.1", 8000, "local")
    assert settings.policy().hold == 1800


def test_every_length_of_the_engine_is_a_setting(tmp_path: Path) -> None:
    assert read(tmp_path).policy() == Policy()
    names = {
        "hold": "hold_seconds",
        "stop_margin": "stop_margin_seconds",
        "extend_below": "extend_below_seconds",
        "minimum": "minimum_session_seconds",
        "borrow_limit_ppm": "borrow_limit_ppm",
    }
    numbers = {each.name: number for number, each in enumerate(fields(Policy), start=700)}
    numbers |= {"hold": 5000, "stop_margin": 10, "extend_below": 2000}
    write(tmp_path, "\n".join(f"{names.get(name, name + '_seconds')} = {each}" for name, each in numbers.items()))
    assert read(tmp_path).policy() == Policy(**numbers)


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    write(tmp_path, 'port = 8100\nlanguage = "en"\n')
    settings = read(tmp_path, port=8200, backend=None)
    assert (settings.port, settings.language, settings.backend) == (8200, "en", "local")


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("prt = 8000", "prt", "unknown key; expected one of: backend"),
        ('port = "8000"', "port", "valid integer"),
        ("port = 70000", "port", "less than or equal to 65535"),
        ('backend = "slurm"', "backend", "'local', 'docker' or 'kubernetes'"),
        ("hold_seconds = 0", "hold_seconds", "greater than 0"),
        ("hold_seconds = 1.5", "hold_seconds", "valid integer"),
        ("evaluation = 1", "evaluation", "valid boolean"),
        ('reference_precision = "fp31"', "reference_precision", "fp32"),
        ("hold_seconds = 1000", "", "extend_below_seconds must be below"),
        ('kubernetes_reachable_cidrs = "10.0.0.1/32"', "kubernetes_reachable_cidrs", "valid tuple"),
        ('kubernetes_reachable_cidrs = ["10.0.0.1/8"]', "kubernetes_reachable_cidrs", "host bits"),
        ('kubernetes_unreachable_cidrs = ["0.0.0.0/0"]', "kubernetes_unreachable_cidrs", "every address"),
        ("preempt_notice_seconds = 1201", "", "preempt_notice_seconds must be at most extend_below_seconds"),
        ("preempt_notice_seconds = 0", "preempt_notice_seconds", "greater than 0"),
        ("borrow_limit_ppm = -1", "borrow_limit_ppm", "greater than or equal to 0"),
        ("seats_release_seconds = 0", "seats_release_seconds", "greater than 0"),
        ("port = ", "", "not a TOML file"),
    ],
)
def test_a_bad_value_names_file_key_and_expectation(tmp_path: Path, text: str, key: str, expected: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SettingsError) as raised:
        read(tmp_path)
    message = str(raised.value)
    assert str(path) in message
    assert key in message
    assert expected in message


def test_a_cluster_s_backend_knows_whom_its_pods_reach(tmp_path: Path) -> None:
    write(
        tmp_path,
        'backend = "kubernetes"\nkubernetes_reachable_cidrs = ["10.9.0.1", "10.9.0.1/32"]\n'
        'kubernetes_unreachable_cidrs = ["192.0.2.0/24"]\nkubernetes_internet = false\nkubernetes_queue = "research"\n'
        'kubernetes_cluster_queue = "gpus"\n',
    )
    backend = open_home(tmp_path).backend()
    assert isinstance(backend, KubernetesBackend)
    assert backend.projects.reach == Reach(allowed=("10.9.0.1/32",), forbidden=("192.0.2.0/24",), internet=False)
    assert (backend.site.queue, backend.site.cluster_queue) == ("research", "gpus")


def test_a_home_keeps_its_ports_and_secrets(tmp_path: Path) -> None:
    first = open_home(tmp_path / "home")
    ports, token = first.ports(), first.secret("proxy_token")
    again = open_home(tmp_path / "home")
    assert again.ports() == ports
    assert again.secret("proxy_token") == token
    assert len(set(ports.values())) == len(ports)
    assert (again.hub / "proxy_token.secret").stat().st_mode & 0o077 == 0
    assert again.hub.stat().st_mode & 0o077 == 0


def test_how_many_servers_start_at_once_follows_from_the_machine_or_from_the_cluster() -> None:
    assert Settings().slots() == (os.cpu_count() or 1) + 2
    assert Settings(backend="kubernetes").slots() == CLUSTER_SLOTS
    assert Settings(backend="kubernetes", start_slots=3).slots() == 3


def test_programs_that_start_together_have_the_same_secret_and_ports(tmp_path: Path) -> None:
    for number in range(30):
        home = open_home(tmp_path / str(number))
        together = Barrier(8)

        def begin(_: int, home: Home = home, together: Barrier = together) -> tuple[str, str]:
            together.wait(10)
            return home.secret("session_key"), home.portal_url()

        with ThreadPoolExecutor(8) as threads:
            ((found, _),) = set(threads.map(begin, range(8)))
        assert len(found) == 64
        assert [each.name for each in home.hub.iterdir() if "session_key" in each.name] == ["session_key.secret"]
