"""An agent that is killed or cut off: every report arrives once and in its order, no instant is covered twice."""

from __future__ import annotations

import itertools
import random
import signal
import time
from collections import defaultdict
from pathlib import Path

from agent.buffer import Buffer
from tests.agent.conftest import Run
from tests.agent.platform import Platform, serving
from tests.nvml.library import Scenario

KILLS = 40


def covered_once(platform: Platform) -> float:
    """Fail where samples of a device cover an instant twice; return the seconds that are covered of the first one."""
    by_device: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for sample in platform.all("samples"):
        by_device[sample["uuid"]].append((sample["at"], sample["covers_seconds"]))
    for samples in by_device.values():
        for (before, _), (at, covers) in itertools.pairwise(samples):
            assert covers > 0
            assert round((at - covers) * 1000) >= round(before * 1000), (before, at, covers)
    return sum(covers for _, covers in next(iter(by_device.values())))


def test_kills_at_any_moment_lose_and_repeat_nothing(
    run: Run, platform: Platform, scenario: Scenario, tmp_path: Path
) -> None:
    draw = random.Random(20)  # noqa: S311 - a repeatable draw, no secret
    for number in range(KILLS):
        agent = run(module="tests.agent.hasty")
        assert agent.stdout is not None
        assert agent.stdout.readline() == "runs\n"
        scenario.gpu(0, busy=number)
        time.sleep(draw.uniform(0, 0.25))
        agent.send_signal(signal.SIGKILL)
        agent.wait(10)
    began = time.time()
    last = run()
    platform.wait(lambda it: any(report["at"] > began + 1 for report in it.reports), 60)
    last.terminate()
    assert last.wait(5) == 0
    rest = Buffer(tmp_path / "state", 3600)
    assert {report["stream"] for report in platform.reports} == {rest.stream}
    taken = [report["sequence"] for report in platform.reports]
    assert taken == list(range(1, len(taken) + 1))
    assert len(taken) + len(rest) == rest.newest
    rest.close()
    sent_again = defaultdict(set)
    for _, sequence, body in platform.bodies:
        sent_again[sequence].add(body)
    assert {len(bodies) for bodies in sent_again.values()} == {1}  # what is sent again is what was sent before
    assert len(platform.reports) > 2 * KILLS
    covered_once(platform)


def test_cut_off_from_the_platform_it_buffers_and_then_sends_all_of_it(run: Run, scenario: Scenario) -> None:
    cut = Platform()
    with serving(cut) as port:
        agent = run("--url", cut.url)
        cut.wait(lambda it: len(it.reports) >= 2)
    away = time.time()
    scenario.gpu(0, busy=77)
    time.sleep(4)
    with serving(cut, port):
        back = time.time()
        cut.wait(lambda it: any(report["at"] > back + 1 for report in it.reports))
    agent.terminate()
    assert agent.wait(5) == 0
    assert [report["sequence"] for report in cut.reports] == list(range(1, len(cut.reports) + 1))
    while_away = [report for report in cut.reports if away < report["at"] < back]
    assert len(while_away) >= 3
    of_first = [each for report in while_away for each in report["samples"] if each["uuid"] == scenario.uuid(0)]
    assert {each["busy_ppm"] for each in of_first[1:]} == {770_000}
    spent = cut.reports[-1]["at"] - cut.reports[0]["at"]
    assert spent - 0.5 < covered_once(cut) < spent + 1.5
    said = agent.stdout.read() if agent.stdout else ""
    assert said.count("the platform is away") == 1
    assert "takes reports again" in said


def test_a_pause_is_a_gap_and_no_sample_covers_it(run: Run, platform: Platform, scenario: Scenario) -> None:
    first = run()
    platform.wait(lambda it: len(it.reports) >= 3)
    first.terminate()
    assert first.wait(5) == 0
    known = len(platform.reports)
    time.sleep(4)
    second = run()
    platform.wait(lambda it: len(it.reports) >= known + 2)
    second.terminate()
    assert second.wait(5) == 0
    of_first = [each for each in platform.all("samples") if each["uuid"] == scenario.uuid(0)]
    gaps = [round(at["at"] - at["covers_seconds"] - before["at"], 3) for before, at in itertools.pairwise(of_first)]
    assert sum(gap > 2 for gap in gaps) == 1
    assert max(each["covers_seconds"] for each in of_first) <= 2
    assert [gap for gap in gaps if 0.5 < gap <= 2] == []
    covered_once(platform)


def test_it_ends_within_a_second_of_sigterm_and_nothing_is_lost(run: Run, platform: Platform, tmp_path: Path) -> None:
    platform.status = 503
    agent = run()
    platform.wait(lambda it: it.calls >= 2)
    began = time.monotonic()
    agent.terminate()
    assert agent.wait(5) == 0
    assert time.monotonic() - began < 1
    rest = Buffer(tmp_path / "state", 3600)
    waiting, newest = len(rest), rest.newest
    rest.close()
    assert waiting == newest > 0
    platform.status = 200
    again = run()
    platform.wait(lambda it: len(it.reports) >= waiting + 1)
    again.terminate()
    assert again.wait(5) == 0
    assert [report["sequence"] for report in platform.reports][:waiting] == list(range(1, waiting + 1))
