"""What cannot be taken is refused with a message that names the field, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from quotas.store import audit
from tests.centre import Centre
from tests.cli.conftest import Ended

Invoke = Callable[..., Ended]
APPLY = [
    "projects", "apply", "language", "--by", "pi", "--organisation", "lab", "--title-ko", "언어",
    "--title-en", "Language", "--award", "1TF", "--starts", "2026-01-01", "--ends", "2099-01-01",
]  # fmt: skip
APPROVE = ["projects", "approve", "language"]
PROFILE = [
    "profiles", "add", "half", "--name-ko", "절반", "--name-en", "Half", "--image", "science", "--cores", "1",
    "--memory-gib", "2", "--storage-gib", "10",
]  # fmt: skip
SCHEDULE = ["schedules", "add", "vision", "train.ipynb", "--person", "member", "--profile", "cpu-small"]


def changed(words: list[str], option: str, value: str) -> list[str]:
    """Return the words with another value of an option."""
    return [value if before == option else each for before, each in zip(["", *words], words, strict=False)]


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (changed(APPLY, "--award", "0TF"), "award"),
        (changed(APPLY, "--award", "a lot"), "award"),
        (changed(APPLY, "--award", "99999999999999999PF"), "award"),
        (changed(APPLY, "--ends", "2025-01-01"), "ends"),
        (changed(APPLY, "--starts", "tomorrow"), "starts"),
        (changed(APPLY, "--ends", "9999-12-31"), "ends"),
        (changed(APPLY, "--by", "nobody"), "applicant"),
        (changed(APPLY, "--organisation", "nowhere"), "organisation"),
        (changed(APPLY, "apply", "Language!"), "project"),
        (changed(APPLY, "--title-en", ""), "title_en"),
        ([*APPROVE, "--burst", "0"], "burst"),
        ([*APPROVE, "--burst", "-1"], "burst"),
        ([*APPROVE, "--burst", "1e999999999"], "burst"),
        ([*APPROVE, "--burst", "nan"], "burst"),
        ([*APPROVE, "--award", "2000PF", "--burst", "9000000000000"], "award ceiling"),
        ([*APPROVE, "--utilisation", "1.5"], "utilisation"),
        ([*APPROVE, "--award", "-1TF"], "award"),
        ([*APPROVE, "--precision", "fp16"], "precision"),
        ([*APPROVE, "--profiles", "cpu-small,none"], "profile"),
        ([*APPROVE, "--ends", "2026-01-01"], "ends"),
        ([*APPROVE, "--award", "1PF"], "award"),
        (["projects", "approve", "none"], "project"),
        (["projects", "reject", "vision", "--reason", "late"], "project"),
        (["projects", "show", "none"], "project"),
        (["projects", "end", "language"], "project"),
        (["projects", "members", "add", "vision", "nobody"], "username"),
        (["projects", "members", "remove", "vision", "pi"], "username"),
        (["projects", "profiles", "offer", "vision", "none"], "profile"),
        (["people", "add", "Member", "--name", "A"], "username"),
        (["people", "add", "member", "--name", "A"], "username"),
        (["people", "add", "a", "--name", "A", "--language", "fr"], "language"),
        (["people", "add", "a", "--name", "A", "--organisation", "none"], "organisation"),
        (["people", "password", "nobody", "--generate"], "username"),
        (["people", "remove", "nobody", "--yes"], "username"),
        (["people", "remove", "pi", "--yes"], "username"),
        (["people", "restore", "member"], "username"),
        (["people", "unlink", "nobody"], "username"),
        (["people", "password", "member"], "password"),
        (changed(PROFILE, "--image", "none"), "image"),
        (changed(PROFILE, "--cores", "0"), "cores"),
        (changed(PROFILE, "--cores", "nan"), "cores"),
        (changed(PROFILE, "--cores", "inf"), "cores"),
        (changed(PROFILE, "--memory-gib", "-1"), "memory_bytes"),
        (changed(PROFILE, "--memory-gib", "99999999999"), "memory_bytes"),
        ([*PROFILE, "--device", "none", "--devices", "1"], "device_model"),
        ([*PROFILE, "--device", "h100"], "device_count"),
        ([*PROFILE, "--terms", "[]"], "terms"),
        ([*PROFILE, "--terms", "{"], "terms"),
        (["profiles", "show", "none"], "profile"),
        ([*SCHEDULE], "cron"),
        ([*SCHEDULE, "--cron", "0 0 31 2 *"], "cron"),
        ([*SCHEDULE, "--cron", "every day"], "cron"),
        ([*SCHEDULE, "--cron", "0 0 * * *", "--zone", "Mars/Base"], "timezone"),
        ([*SCHEDULE, "--at", "2020-01-01"], "at"),
        ([*SCHEDULE, "--at", "2030-01-01", "--cron", "0 0 * * *"], "cron"),
        ([*SCHEDULE, "--at", "2030-01-01", "--timeout", "1"], "timeout"),
        ([*SCHEDULE, "--at", "2030-01-01", "--param", "epochs"], "param"),
        ([*SCHEDULE, "--at", "2030-01-01", "--param", "a=1", "--param", "a=2"], "param"),
        ([*SCHEDULE, "--at", "2030-01-01", "--param", "depth=1"], "depth"),
        ([*SCHEDULE, "--at", "2030-01-01", "--param", "epochs=many"], "epochs"),
        (changed([*SCHEDULE, "--at", "2030-01-01"], "vision", "none.ipynb"), "notebook"),
        (changed([*SCHEDULE, "--at", "2030-01-01"], "vision", "broken.ipynb"), "notebook"),
        (changed([*SCHEDULE, "--at", "2030-01-01"], "vision", "outside.ipynb"), "notebook"),
        (changed([*SCHEDULE, "--at", "2030-01-01"], "vision", "../../mudeung.toml"), "notebook"),
        (changed([*SCHEDULE, "--at", "2030-01-01"], "add", "none"), "project"),
        (changed([*SCHEDULE, "--at", "2030-01-01"], "--person", "outsider"), "project"),
        (changed([*SCHEDULE, "--at", "2030-01-01"], "--profile", "none"), "profile"),
        (["schedules", "pause", "99"], "schedule"),
        (["schedules", "resume", "99"], "schedule"),
        (["schedules", "run", "99"], "schedule"),
        (["schedules", "list", "--project", "none"], "project"),
        (["runs", "show", "none"], "run"),
        (["runs", "list", "--project", "none"], "project"),
        (["ledger", "--project", "none"], "project"),
        (["refund", "none", "1", "--reason", "a"], "run"),
        (["refund", "none", "0", "--reason", "a"], "amount"),
        (["refund", "none", "1.5", "--reason", "a"], "amount"),
        (["refund", "none", "99999999999999999999", "--reason", "a"], "amount"),
        (["refund", "none", "1", "--reason", " "], "reason"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else value,
)  # fmt: skip
def test_a_value_that_cannot_be_taken_is_named_and_leaves_an_event(
    invoke: Invoke, centre: Centre, words: list[str], field: str
) -> None:
    assert invoke(*APPLY).code == 0
    if words[:2] == ["projects", "apply"]:
        words = ["other" if word == "language" else word for word in words]
    before = rows(centre)
    ended = invoke(*words, given="short\n")
    assert ended.code == 1, ended
    assert ended.errors.startswith(f"Error: {field}: "), ended.errors
    assert "Traceback" not in ended.errors
    assert rows(centre) == before
    with centre.database.read() as transaction:
        event = audit.latest(transaction, 1)[0]
    assert (event.action, json.loads(event.detail)) == ("command refused", {"field": field})
    assert " ".join(["mudeung", *words]).startswith(f"{event.subject} ")
    assert event.subject.startswith(f"mudeung {words[0]}")


def rows(centre: Centre) -> list[str]:
    """Return everything that is stored but the audit, as SQL."""
    with centre.database.engine.connect() as connection:
        return [line for line in connection.connection.driver_connection.iterdump() if "audit_events" not in line]


@pytest.mark.parametrize(
    "words",
    [
        ["nothing"],
        ["projects", "show"],
        ["projects", "apply", "language"],
        ["projects", "members", "add", "vision", "member", "--role", "king"],
        ["runs", "list", "--limit", "0"],
        ["schedules", "pause", "first"],
        ["explain", "a", "b", "c", "--batch", "0"],
        ["ledger", "-o", "xml"],
        ["projects", "list", "--lang", "fr"],
        ["people", "list", "--unknown"],
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("centre")
def test_wrong_usage_ends_with_2(invoke: Invoke, words: list[str]) -> None:
    ended = invoke(*words)
    assert ended.code == 2
    assert "Error" in ended.errors


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hold_secs = 1", "hold_secs: unknown key; expected one of:"),
        ('hold_seconds = "1800"', "hold_seconds = '1800': Input should be a valid integer; expected: Length of"),
        ("hold_seconds = 0", "hold_seconds = 0: Input should be greater than 0"),
        ("port =", "not a TOML file"),
        ('backend = "cloud"', "backend = 'cloud'"),
        ('database_url = "nonsense"', "database_url"),
        ('database_url = "oracle7://x/y"', "database_url"),
        ("minimum_session_seconds = 2000", "minimum_session_seconds must be"),
    ],
)
def test_settings_that_cannot_be_taken_end_with_2_and_name_file_and_key(
    invoke: Invoke, home: Path, text: str, expected: str
) -> None:
    (home / "mudeung.toml").write_text(text + "\n")
    ended = invoke("projects", "list")
    assert ended.code == 2
    assert str(home / "mudeung.toml") in ended.errors
    assert expected in ended.errors


@pytest.mark.usefixtures("centre")
def test_messages_are_korean_where_korean_is_asked_for(invoke: Invoke) -> None:
    ended = invoke("projects", "show", "none", "--lang", "ko")
    assert ended.errors == "오류: project: 과제 'none'이(가) 없습니다\n"
