from __future__ import annotations

import pytest

from spawners.progress import PHASES, Moment, Phase, Progress, message

WAITING = Moment(Phase.WAITING, "vision", "cpu-small", position=3, waiting=12, expected_seconds=70)


@pytest.mark.parametrize("language", ["ko", "en"])
def test_each_phase_but_the_end_has_words_in_both_languages(language: str) -> None:
    assert set(PHASES) == set(Phase) - {Phase.ENDED}
    said = [message(Moment(phase, "vision", "cpu-small", until_at=0), language) for phase in PHASES]
    assert all(said)
    assert len(set(said)) == len(said)


def test_the_wait_names_the_place_in_the_line_and_about_how_long() -> None:
    assert message(WAITING, "en") == "Waiting for its turn: 3 of 12, about 1 min."
    assert message(WAITING, "ko") == "차례를 기다리는 중입니다: 12개 중 3번째, 약 1분."


def test_what_is_started_is_called_by_its_backend() -> None:
    assert message(Moment(Phase.STARTING, backend="docker"), "en") == "Starting the container."
    assert message(Moment(Phase.STARTING, backend="local"), "ko") == "프로세스를 시작하는 중입니다."


def test_an_event_is_sent_when_something_has_changed_and_only_then() -> None:
    progress = Progress()
    first = progress.event(WAITING, "en")
    assert first == {"progress": int(Phase.WAITING), "message": message(WAITING, "en")}
    assert progress.event(WAITING, "en") is None
    assert progress.event(Moment(Phase.STARTING), "en") is not None
    assert progress.event(Moment(Phase.ENDED), "en") is None
