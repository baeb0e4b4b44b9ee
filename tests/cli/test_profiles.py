"""`mudeung profiles`: the limits of a profile's servers, as they are typed, shown and changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cli.amounts import seconds
from quotas.domain.units import InvalidValue
from tests.centre import Centre
from tests.cli.conftest import Ended

Invoke = Callable[..., Ended]
SIZES = ("--image", "science", "--cores", "1", "--memory-gib", "1", "--storage-gib", "1")


def limits(invoke: Invoke, code: str) -> tuple[Any, Any]:
    shown = invoke("profiles", "show", code, "-o", "json").json
    return shown["idle_seconds"], shown["session_seconds"]


@pytest.mark.usefixtures("centre")
def test_limits_are_given_shown_changed_and_taken_back(invoke: Invoke) -> None:
    named = ("--name-ko", "반", "--name-en", "Half")
    added = invoke("profiles", "add", "half", *named, *SIZES, "--idle", "2h", "--session", "12h")
    assert added.code == 0, added.errors
    assert limits(invoke, "half") == (7200, 43_200)
    assert "2 h" in invoke("profiles", "list").output
    assert invoke("profiles", "edit", "half", "--idle", "90min").code == 0
    assert limits(invoke, "half") == (5400, 43_200)
    assert invoke("profiles", "edit", "half", "--session", "none").code == 0
    assert limits(invoke, "half") == (5400, None)
    assert invoke("profiles", "edit", "half", "--idle", "none", "--session", "1d").code == 0
    assert limits(invoke, "half") == (None, 86_400)
    assert limits(invoke, "cpu-small") == (None, None)


@pytest.mark.usefixtures("centre")
def test_an_edit_says_what_it_means_for_servers_that_run(invoke: Invoke) -> None:
    said = invoke("profiles", "edit", "h100", "--idle", "2h")
    assert "at the next look, within 1 min, and told before" in said.output
    assert "from a server's next start or extension" in said.output
    korean = invoke("profiles", "edit", "h100", "--idle", "2h", "--lang", "ko")
    assert "1분 안에 적용되며" in korean.output


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["nothing", "--idle", "2h"], "profile"),
        (["h100"], "limits"),
        (["h100", "--idle", "2"], "idle"),
        (["h100", "--idle", "soon"], "idle"),
        (["h100", "--idle", ""], "idle"),
        (["h100", "--session", "0h"], "session"),
        (["h100", "--session", "-2h"], "session"),
        (["h100", "--idle", "367d"], "idle_seconds"),
    ],
)
def test_what_is_no_limit_is_refused_by_its_field(invoke: Invoke, centre: Centre, words: list[str], field: str) -> None:
    refused = invoke("profiles", "edit", *words)
    assert refused.code == 1
    assert refused.errors.startswith(f"Error: {field}: ")
    assert limits(invoke, centre.profiles[2]) == (None, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2h", 7200), ("90min", 5400), ("90m", 5400), ("1h30m", 5400), ("1d 2h", 93_600), ("45s", 45), ("2H", 7200)],
)
def test_lengths_of_time(text: str, expected: int) -> None:
    assert seconds("idle", text) == expected


@pytest.mark.parametrize("text", ["", "2", "h", "2h2h", "1.5h", "30m1h", "2 hours", "1000000000000h", "²h"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(InvalidValue, match="idle"):
        seconds("idle", text)
