"""Reports and a platform that denies, refuses, stumbles, or asks for something."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import sending
from agent.buffer import Buffer, Carried
from agent.options import InvalidOption, Options
from agent.sending import Outcome, Sender
from agent.wire import Contents
from quotas.domain.node_reports import Answer, Report
from tests.agent.conftest import Run
from tests.agent.platform import TOKEN, Platform, serving
from tests.nvml.library import XID, Scenario

EMPTY = Report("", 0, 1.5, "1", 10)


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def buffer(tmp_path: Path) -> Iterator[Buffer]:
    made = Buffer(tmp_path / "state", 3600)
    yield made
    made.close()


@pytest.fixture
def answers() -> list[tuple[Answer, bool]]:
    return []


@pytest.fixture
def sender(
    buffer: Buffer,
    platform: Platform,
    token: Path,
    answers: list[tuple[Answer, bool]],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Sender]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    options = Options(platform.url + "/", token_file=token)
    made = Sender(buffer, options, lambda answer, newest: answers.append((answer, newest)))
    yield made
    made.close()


def write(buffer: Buffer, count: int) -> None:
    for _ in range(count):
        buffer.add(Contents(), EMPTY, Carried())


def test_all_that_waits_is_sent_in_order(
    sender: Sender, buffer: Buffer, platform: Platform, answers: list[tuple[Answer, bool]]
) -> None:
    write(buffer, 5)
    platform.scrub = ["GPU-1"]
    began = time.monotonic()
    assert sender.drain()
    assert time.monotonic() - began >= 5 / sending.SENDS_PER_SECOND
    assert [report["sequence"] for report in platform.reports] == [1, 2, 3, 4, 5]
    assert answers[-1] == (Answer(5, ("GPU-1",)), True)
    assert [newest for _, newest in answers] == [False] * 4 + [True]
    assert len(buffer) == 0


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_not_taken_is_said_so_and_everything_is_kept(
    sender: Sender, buffer: Buffer, platform: Platform, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    write(buffer, 2)
    platform.status = status
    first = buffer.oldest()
    assert first is not None
    for _ in range(3):
        assert sender.send(first) is Outcome.DENIED
    assert caplog.text.count(f"does not take this machine's token (HTTP {status})") == 1
    assert len(buffer) == 2
    platform.status = 200
    assert sender.drain()


def test_a_new_token_in_the_file_counts_at_once(
    sender: Sender, buffer: Buffer, platform: Platform, token: Path
) -> None:
    write(buffer, 1)
    token.write_text("an old one")
    assert not sender.drain()
    token.unlink()
    assert not sender.drain()
    token.write_text(TOKEN)
    assert sender.drain()
    assert len(platform.reports) == 1


def test_one_that_is_refused_is_put_aside_and_the_next_is_sent(
    sender: Sender, buffer: Buffer, platform: Platform, tmp_path: Path
) -> None:
    write(buffer, 3)
    platform.refuse_sequences = {2}
    assert not sender.drain()  # not all of it is there
    assert [report["sequence"] for report in platform.reports] == [1, 3]
    (aside,) = (tmp_path / "state/refused").glob("*.json")
    assert json.loads(aside.read_text())["sequence"] == 2
    assert "this one not" in aside.with_suffix(".answer").read_text()


@pytest.mark.parametrize("status", [404, 429, 500, 502, 503])
def test_a_platform_that_stumbles_is_away(sender: Sender, buffer: Buffer, platform: Platform, status: int) -> None:
    write(buffer, 1)
    platform.status = status
    assert not sender.drain()
    assert len(buffer) == 1
    platform.status = 200
    assert sender.drain()


def test_what_answers_without_having_taken_is_not_believed(
    sender: Sender, buffer: Buffer, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(buffer, 2)
    monkeypatch.setattr(platform, "accepted", lambda _stream: 1)
    assert not sender.drain()
    assert len(buffer) == 1
    monkeypatch.setattr(platform, "take", lambda _body, _token: (200, {"html": "a login page"}))
    assert not sender.drain()
    assert len(buffer) == 1


def test_waits_grow_to_their_limit_while_it_is_away(
    buffer: Buffer, token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Platform()
    with serving(gone):
        pass
    write(buffer, 1)
    waits: list[float] = []
    stop = threading.Event()

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        if len(waits) == 10:
            stop.set()
        return stop.is_set()

    monkeypatch.setattr(stop, "wait", wait)
    sender = Sender(buffer, Options(gone.url, token_file=token), lambda _answer, _newest: None)
    sender.run(stop)
    sender.close()
    assert waits[0] <= 1
    assert all(wait <= sending.LONGEST_WAIT_SECONDS for wait in waits)
    assert min(waits[7:]) >= 0.75 * sending.LONGEST_WAIT_SECONDS


@pytest.mark.parametrize(
    "options",
    [
        Options("ftp://x"),
        Options("x.org"),
        Options("https://x", interval_seconds=0),
        Options("https://x", buffer_hours=0),
    ],
)
def test_what_cannot_be_used_is_said_in_both_languages(options: Options) -> None:
    with pytest.raises(InvalidOption) as refused:
        options.checked()
    assert refused.value.text("en") != refused.value.text("ko")
    assert refused.value.text("en").startswith("--")


def test_a_token_that_all_can_read_is_noticed(token: Path) -> None:
    assert not Options("http://x", token_file=token).token_is_readable_by_all()
    token.chmod(0o644)
    assert Options("http://x", token_file=token).token_is_readable_by_all()
    assert not Options("http://x").token_is_readable_by_all()


def test_devices_are_sent_at_first_on_change_and_when_asked(run: Run, platform: Platform, scenario: Scenario) -> None:
    agent = run()
    platform.wait(lambda it: len(it.reports) >= 3)
    assert [len(devices) for devices in platform.devices()] == [20]
    platform.send_devices = True
    platform.wait(lambda it: len(it.devices()) == 2)
    platform.send_devices = False
    gone = scenario.uuid(6, 0)
    scenario.remove_slice(6, 0)
    platform.wait(lambda it: len(it.devices()[-1]) == 19)
    assert [(each["uuid"], each["kind"]) for each in platform.all("events")] == [(gone, "lost")]
    agent.terminate()
    assert agent.wait(5) == 0


def test_an_error_number_is_reported_before_the_next_round(run: Run, platform: Platform, scenario: Scenario) -> None:
    agent = run("--interval", "60")
    platform.wait(lambda it: len(it.reports) == 1)
    time.sleep(0.5)
    scenario.event(2, XID, 79)
    platform.wait(lambda it: bool(it.all("events")), 5)
    (event,) = platform.all("events")
    assert (event["uuid"], event["kind"], event["code"]) == (scenario.uuid(2), "xid", 79)
    assert platform.reports[-1]["samples"] == []
    agent.terminate()
    assert agent.wait(5) == 0


def test_what_is_denied_is_told_by_the_process_and_kept(run: Run, platform: Platform) -> None:
    agent = run(MUDEUNG_AGENT_TOKEN="wrong")
    platform.wait(lambda it: it.calls == 1)
    time.sleep(2.5)
    assert platform.calls == 1  # it tries again slowly
    agent.terminate()
    assert agent.wait(5) == 0
    assert agent.stdout is not None
    said = agent.stdout.read()
    assert "does not take this machine's token" in said
    assert "reports wait" in said
    again = run()
    platform.wait(lambda it: len(it.reports) >= 3)
    assert platform.reports[0]["sequence"] == 1
    again.terminate()
    assert again.wait(5) == 0
