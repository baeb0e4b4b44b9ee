"""The local backend on real processes of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from quotas.backends import local
from quotas.backends.local import LocalBackend
from quotas.backends.port import Backend, BackendAway
from quotas.domain.launch import Launch
from quotas.domain.profiles import Profile
from quotas.domain.runs import RunKind, new_run_id
from tests.backends.processes import of_run, python, until

PROFILE = Profile("cpu-small", "CPU 소형", "Small CPU", "image", 1000, 2**30, 2**30)


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[LocalBackend]:
    """A backend of its own folder; after the test nothing of its runs lives."""
    backend = LocalBackend(tmp_path / "runs")
    yield backend
    for seen in backend.list_runs():
        backend.stop(seen.run_id, 0)
        backend.remove(seen.run_id)
    assert backend.list_runs() == []


def launch_of(folder: Path, *command: str, **changes: Any) -> Launch:
    launch = Launch(new_run_id(), RunKind.BATCH, "kim", "vision", PROFILE, command, str(folder))
    return replace(launch, **changes)


def keeper_of(run_id: str) -> psutil.Process:
    return next(process for process in of_run(run_id) if process.cmdline()[1:2] == [str(local.KEEPER)])


def test_it_stands_behind_the_port(tmp_path: Path) -> None:
    backend: Backend = LocalBackend(tmp_path)
    assert backend.name == "local"
    assert backend.list_runs() == []
    assert backend.inspect(new_run_id()) is None
    assert backend.log(new_run_id(), 100) == ""
    backend.stop(new_run_id(), 0)
    backend.remove(new_run_id())


def test_a_run_from_its_start_to_its_removal(backend: LocalBackend, tmp_path: Path) -> None:
    before = time.time()
    launch = launch_of(tmp_path, *python("import time; print('hello', flush=True); time.sleep(1); raise SystemExit(7)"))
    seen = backend.launch(launch)
    assert (seen.run_id, seen.running, seen.exit_code, seen.finished_at) == (launch.run_id, True, None, None)
    assert seen.started_at == pytest.approx(before, abs=2)
    assert backend.list_runs() == [seen]
    with pytest.raises(ValueError, match="running"):
        backend.remove(launch.run_id)
    ended = until(lambda: (now := backend.inspect(launch.run_id)) and not now.running and now)
    assert ended.exit_code == 7
    assert ended.started_at == seen.started_at
    assert ended.finished_at - ended.started_at == pytest.approx(1.0, abs=0.9)
    assert backend.list_runs() == [ended]
    assert backend.log(launch.run_id, 1000) == "hello\n"
    assert backend.log(launch.run_id, 3) == "lo\n"
    backend.remove(launch.run_id)
    assert backend.inspect(launch.run_id) is None
    assert of_run(launch.run_id) == []


def test_what_a_run_is_given(backend: LocalBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder, its variables, default signals, no input, its own session, the driver; nothing secret."""
    monkeypatch.setenv("DATABASE_PASSWORD", "of the platform")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/driver/lib64")
    source = """
        import os, signal, sys
        print(os.getcwd(), os.environ["GREETING"], os.environ["MUDEUNG_RUN"], repr(os.environ["CUDA_VISIBLE_DEVICES"]))
        print(os.environ["LD_LIBRARY_PATH"], "DATABASE_PASSWORD" in os.environ)
        print(sys.stdin.read() == "", os.getsid(0) == int(sys.argv[1]))
        sys.stdout.flush()
        print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, file=sys.stderr)
    """
    folder = tmp_path / "한글 {folder}: with spaces"
    folder.mkdir()
    launch = launch_of(folder, *python(source), str(os.getsid(0)), environment={"GREETING": "안녕 $HOME"})
    backend.launch(launch)
    until(lambda: not backend.inspect(launch.run_id).running)
    assert backend.log(launch.run_id, 4000).splitlines() == [
        f"{folder} 안녕 $HOME {launch.run_id} ''",
        "/driver/lib64 False",
        "True False",
        "True",
    ]


@pytest.mark.parametrize("command", [("/no/such/program",), python("import os; os.kill(os.getpid(), 9)")])
def test_how_it_ended_is_recorded(backend: LocalBackend, tmp_path: Path, command: tuple[str, ...]) -> None:
    launch = launch_of(tmp_path, *command)
    backend.launch(launch)
    ended = until(lambda: (now := backend.inspect(launch.run_id)) and not now.running and now)
    assert ended.exit_code == (127 if command[0] == "/no/such/program" else 137)


def test_a_missing_folder_starts_nothing(backend: LocalBackend, tmp_path: Path) -> None:
    launch = launch_of(tmp_path / "gone", "touch", str(tmp_path / "started"))
    backend.launch(launch)
    ended = until(lambda: (now := backend.inspect(launch.run_id)) and not now.running and now)
    assert ended.exit_code == 126
    assert not (tmp_path / "started").exists()


def test_stop_lets_the_command_end_in_order(backend: LocalBackend, tmp_path: Path) -> None:
    source = """
        import signal, sys, time
        def end(*_): print("saved", flush=True); sys.exit(3)
        signal.signal(signal.SIGTERM, end)
        print("ready", flush=True)
        time.sleep(60)
    """
    launch = launch_of(tmp_path, *python(source))
    backend.launch(launch)
    until(lambda: "ready" in backend.log(launch.run_id, 100))
    began = time.monotonic()
    backend.stop(launch.run_id, 20)
    assert time.monotonic() - began < 10
    seen = backend.inspect(launch.run_id)
    assert (seen.running, seen.exit_code) == (False, 3)
    assert seen.finished_at == pytest.approx(time.time(), abs=5)
    assert "saved" in backend.log(launch.run_id, 100)
    assert of_run(launch.run_id) == []
    backend.stop(launch.run_id, 20)
    assert backend.inspect(launch.run_id) == seen


def test_stop_kills_what_does_not_listen_with_all_it_left_behind(backend: LocalBackend, tmp_path: Path) -> None:
    """A stubborn command with children: one of another session, one with an empty environment."""
    source = """
        import signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        loop = "import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
        one = subprocess.Popen([sys.executable, "-c", loop], start_new_session=True)
        two = subprocess.Popen([sys.executable, "-c", loop], env={}, start_new_session=True)
        print(one.pid, two.pid, flush=True)
        time.sleep(60)
    """
    launch = launch_of(tmp_path, *python(source))
    backend.launch(launch)
    children = [int(word) for word in until(lambda: backend.log(launch.run_id, 100).split())]
    time.sleep(0.3)
    began = time.monotonic()
    backend.stop(launch.run_id, 1)
    assert 1 <= time.monotonic() - began < 6
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in children)
    assert of_run(launch.run_id) == []
    seen = backend.inspect(launch.run_id)
    assert (seen.running, seen.exit_code) == (False, 137)


def test_a_keeper_that_was_killed(backend: LocalBackend, tmp_path: Path) -> None:
    """The run runs while its command lives; then its end is known to nobody."""
    launch = launch_of(tmp_path, *python("import time; print('ready', flush=True); time.sleep(60)"))
    started = backend.launch(launch)
    until(lambda: "ready" in backend.log(launch.run_id, 100))
    keeper_of(launch.run_id).kill()
    until(lambda: len(of_run(launch.run_id)) == 1)
    assert backend.inspect(launch.run_id) == started
    of_run(launch.run_id)[0].kill()
    ended = until(lambda: (now := backend.inspect(launch.run_id)) and not now.running and now)
    assert (ended.started_at, ended.finished_at, ended.exit_code) == (started.started_at, None, None)
    assert backend.list_runs() == [ended]


def test_stop_without_a_keeper(backend: LocalBackend, tmp_path: Path) -> None:
    """TERM goes to the command itself then; the end that the backend brought about has an instant, but no code."""
    source = """
        import signal, time
        signal.signal(signal.SIGTERM, lambda *_: exit(print("saved", flush=True)))
        print("ready", flush=True)
        time.sleep(60)
    """
    launch = launch_of(tmp_path, *python(source))
    backend.launch(launch)
    until(lambda: "ready" in backend.log(launch.run_id, 100))
    keeper_of(launch.run_id).kill()
    until(lambda: len(of_run(launch.run_id)) == 1)
    backend.stop(launch.run_id, 10)
    seen = backend.inspect(launch.run_id)
    assert (seen.running, seen.exit_code) == (False, None)
    assert seen.finished_at == pytest.approx(time.time(), abs=2)
    assert "saved" in backend.log(launch.run_id, 100)


def test_what_an_ended_command_left_in_the_background_ends_with_the_record(
    backend: LocalBackend, tmp_path: Path
) -> None:
    launch = launch_of(tmp_path, "sh", "-c", "setsid sleep 60 & echo left")
    backend.launch(launch)
    ended = until(lambda: (now := backend.inspect(launch.run_id)) and not now.running and now)
    assert ended.exit_code == 0
    until(lambda: [process.name() for process in of_run(launch.run_id)] == ["sleep"])
    backend.remove(launch.run_id)
    assert of_run(launch.run_id) == []


def test_a_second_launch_is_the_first(backend: LocalBackend, tmp_path: Path) -> None:
    """Also when twenty of them race, from two backends on one folder, and after the run has ended."""
    launch = launch_of(tmp_path, "sh", "-c", "echo began >> began; sleep 1")
    backends = [backend, LocalBackend(backend.state_folder)]
    answers = []
    gate = threading.Barrier(20)

    def race(each: LocalBackend) -> None:
        gate.wait(10)
        answers.append(each.launch(launch))

    threads = [threading.Thread(target=race, args=(backends[number % 2],)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(answers) == 20
    assert len(set(answers)) == 1
    until(lambda: not backend.inspect(launch.run_id).running)
    again = backend.launch(launch)
    assert (again.running, again.exit_code) == (False, 0)
    assert (tmp_path / "began").read_text() == "began\n"


def test_a_run_outlives_whoever_launched_it(backend: LocalBackend, tmp_path: Path) -> None:
    """The process that launched it is killed; another one finds, follows and stops the run."""
    run_id = new_run_id()
    source = f"""
        import os
        from pathlib import Path
        from quotas.backends.local import LocalBackend
        from quotas.domain.launch import Launch
        from quotas.domain.profiles import Profile
        from quotas.domain.runs import RunKind
        profile = Profile("cpu-small", "x", "x", "image", 1000, 2**30, 2**30)
        launch = Launch({run_id!r}, RunKind.BATCH, "kim", "vision", profile, ("sleep", "60"), {str(tmp_path)!r})
        LocalBackend(Path({str(backend.state_folder)!r})).launch(launch)
        os.kill(os.getpid(), 9)
    """
    assert subprocess.run(python(source), check=False, timeout=20).returncode == -signal.SIGKILL
    assert backend.inspect(run_id).running
    backend.stop(run_id, 5)
    assert backend.inspect(run_id).exit_code == 143


def test_the_keeper_under_another_parent(backend: LocalBackend, tmp_path: Path) -> None:
    """As JupyterHub's process spawner starts it: by Popen, with INT before TERM, and the exit code passed on."""
    run_id = new_run_id()
    script = "trap 'echo told; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    command = backend.keeper_command(run_id, ["sh", "-c", script])
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True) as process:
        until(lambda: "ready" in backend.log(run_id, 100))
        seen = backend.inspect(run_id)
        assert seen.running
        assert seen.started_at is not None
        second = subprocess.run(backend.keeper_command(run_id, ["touch", str(tmp_path / "twice")]), check=False)
        assert second.returncode == 75
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 9
    assert not (tmp_path / "twice").exists()
    assert backend.inspect(run_id).exit_code == 9
    assert backend.log(run_id, 100).split() == ["ready", "told"]


def test_a_keeper_told_to_end_before_it_began(backend: LocalBackend) -> None:
    """However early the signal comes, nothing is left running, and what was started has its end on record."""
    for pause in (0.0, 0.001, 0.002, 0.003, 0.005, 0.01) * 10:
        run_id = new_run_id()
        with subprocess.Popen(backend.keeper_command(run_id, ["sleep", "60"]), start_new_session=True) as process:
            time.sleep(pause)
            process.terminate()
            assert process.wait(10) in (143, -signal.SIGTERM)
        assert of_run(run_id) == []
        seen = backend.inspect(run_id)
        assert seen is None or not seen.running
        assert seen is None or seen.started_at is None or seen.exit_code in (143, None)


def test_other_platforms_on_the_same_machine_are_left_alone(backend: LocalBackend, tmp_path: Path) -> None:
    other = LocalBackend(tmp_path / "other")
    launch = launch_of(tmp_path, "sleep", "60")
    other.launch(launch)
    assert backend.list_runs() == []
    assert backend.inspect(launch.run_id) is None
    backend.stop(launch.run_id, 0)
    assert other.inspect(launch.run_id).running
    other.stop(launch.run_id, 5)


def test_a_process_id_used_again_is_left_alone(backend: LocalBackend, tmp_path: Path) -> None:
    """A record never leads to a process: only the variable does, and it is the stranger's own."""
    launch = launch_of(tmp_path, "sleep", "60")
    backend.launch(launch)
    process = keeper_of(launch.run_id)
    backend.stop(launch.run_id, 5)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        process._pid = stranger.pid
        local._signal([process], signal.SIGKILL)
        assert stranger.poll() is None
        backend.stop(launch.run_id, 0)
        assert stranger.poll() is None
        stranger.kill()


def test_a_lost_record_still_shows_what_runs(backend: LocalBackend, tmp_path: Path) -> None:
    launch = launch_of(tmp_path, "sleep", "60")
    started = backend.launch(launch)
    for path in (backend.state_folder / launch.run_id).iterdir():
        path.unlink()
    (backend.state_folder / launch.run_id).rmdir()
    (seen,) = backend.list_runs()
    assert (seen.run_id, seen.running) == (launch.run_id, True)
    assert seen.started_at == pytest.approx(started.started_at, abs=1.5)


@pytest.mark.parametrize("run_id", ["", "..", "../x", "a/b", ".", "a" * 65, "-x", "a\n"])
def test_an_id_never_leads_out_of_the_folder(backend: LocalBackend, run_id: str) -> None:
    for call in (
        backend.inspect,
        backend.remove,
        lambda name: backend.stop(name, 0),
        lambda name: backend.log(name, 1),
    ):
        with pytest.raises(ValueError, match="is not a run's id"):
            call(run_id)


def test_a_folder_that_cannot_be_written_is_no_answer_about_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    backend = LocalBackend(tmp_path / "file" / "runs")
    with pytest.raises(BackendAway, match="cannot start"):
        backend.launch(launch_of(tmp_path, "true"))


def test_processes_of_others_are_passed_over(backend: LocalBackend, tmp_path: Path) -> None:
    """Whoever may not read the environments of a run's processes sees none of them, and no error."""
    if os.getuid() != 0:
        pytest.skip("needs root to become another user")
    launch = launch_of(tmp_path, "sleep", "60")
    backend.launch(launch)
    source = f"""
        import os
        from pathlib import Path
        from quotas.backends.local import LocalBackend
        os.setgid(65534)
        os.setuid(65534)
        print(LocalBackend(Path({str(backend.state_folder)!r}))._processes())
    """
    result = subprocess.run(python(source), capture_output=True, text=True, check=False, timeout=20)
    assert (result.returncode, result.stdout.strip()) == (0, "{}"), result.stderr


def test_a_listing_is_cheap_and_one_pass(backend: LocalBackend, tmp_path: Path) -> None:
    """Thirty runs cost no more than a few times one bare look at every process's environment."""
    launches = [launch_of(tmp_path, "sleep", "60") for _ in range(30)]
    began = time.monotonic()
    for launch in launches:
        backend.launch(launch)
    assert time.monotonic() - began < 15

    def bare() -> float:
        start = time.perf_counter()
        for pid in psutil.pids():
            with contextlib.suppress(psutil.Error):
                psutil.Process(pid).environ()
        return time.perf_counter() - start

    def ours() -> float:
        start = time.perf_counter()
        assert len(backend.list_runs()) == 30
        return time.perf_counter() - start

    assert min(ours() for _ in range(5)) < 5 * min(bare() for _ in range(5)) + 0.02
