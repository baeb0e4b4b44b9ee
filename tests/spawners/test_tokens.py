"""Tokens of the hub's API: none lasts for ever, whatever was asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.platform import CPU, Platform

LONGEST = timedelta(days=90)


@pytest.mark.parametrize("asked", [{}, {"expires_in": None}, {"expires_in": 3600}], ids=str)
def test_a_token_expires_also_when_no_end_was_asked_for(platform: Platform, asked: dict[str, int | None]) -> None:
    platform.api("ada", "GET", "/user")
    made = platform.api("ada", "POST", "/users/ada/tokens", json={"note": "tests", **asked}).raise_for_status().json()
    assert made["expires_at"]
    left = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    expected = timedelta(seconds=asked.get("expires_in") or LONGEST.total_seconds())
    assert expected - timedelta(minutes=5) < left <= expected


@pytest.mark.parametrize("asked", [LONGEST.total_seconds() + 1, 10**12])
def test_a_longer_life_is_refused(platform: Platform, asked: float) -> None:
    refused = platform.api("ada", "POST", "/users/ada/tokens", json={"note": "tests", "expires_in": int(asked)})
    assert refused.status_code == 400
    assert "must not exceed" in refused.json()["message"]


def test_a_person_who_is_not_in_the_ledger_starts_nothing_with_a_token(platform: Platform) -> None:
    """The hub lets a token pass whose person it could not refresh; the ledger is asked at each start."""
    token = platform.api("eve", "GET", "/user")
    assert token.status_code == 200
    answer = platform.start_server("eve", "vision", CPU)
    assert 400 <= answer.status_code < 500
    assert platform.runs() == []
