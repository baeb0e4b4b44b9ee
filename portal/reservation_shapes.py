"""Reservations as pages show them: every time in the reservation's own zone."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from quotas.domain.reservations import COMING
from quotas.domain.units import show_instant
from quotas.services.reservation_fit import Assessment
from quotas.services.reservation_texts import instead, warnings, when
from quotas.services.reservation_views import ReservationView, WindowView

LISTED_WINDOWS = 40
"""How many windows a page lists."""


def listed(found: ReservationView, language: str) -> dict[str, Any]:
    """Return a reservation for a page's list."""
    return {
        "number": found.number,
        "project": found.project,
        "title": found.title(language),
        "state": found.state.value,
        "seats": found.seats,
        "profile": found.profile,
        "when": when(found.starts_at, found.starts_at + found.seconds, found.zone),
        "rrule": found.rrule,
        "next": show_instant(found.next_at, ZoneInfo(found.zone)) if found.next_at else None,
        "windows": found.window_count,
    }


def fit(found: Assessment, language: str) -> dict[str, Any]:
    """Return how a reservation fits for a page."""
    place = int(language == "ko")
    zone = found.asked.zone
    return {
        "fits": found.fits,
        "pool": found.pool,
        "count": len(found.windows),
        "short": [
            {
                "when": when(each.window.starts_at, each.window.ends_at, zone),
                "fit": each.fit,
                "short": each.short,
                "wanted": each.wanted,
                "from": show_instant(each.from_at, ZoneInfo(zone)) if each.from_at is not None else "",
                "to": show_instant(each.to_at, ZoneInfo(zone)) if each.to_at is not None else "",
            }
            for each in found.conflicts[:LISTED_WINDOWS]
        ],
        "instead": [] if found.fits else [texts[place] for texts in instead(found)],
        "warnings": [texts[place] for texts in warnings(found)],
    }


def shown_windows(found: ReservationView) -> list[WindowView]:
    """Return the windows that a page lists: those to come first, then the last that are over."""
    coming = [each for each in found.windows if each.state in COMING]
    return (coming + [each for each in reversed(found.windows) if each.state not in COMING])[:LISTED_WINDOWS]


def window(shown: WindowView, zone: str) -> dict[str, Any]:
    """Return a window with its seats for a page, its times in the reservation's zone."""
    return {
        "id": shown.id,
        "when": when(shown.starts_at, shown.ends_at, zone),
        "opens": show_instant(shown.opens_at, ZoneInfo(zone)),
        "release": show_instant(shown.release_at, ZoneInfo(zone)),
        "state": shown.state.value,
        "comes": shown.state in COMING,
        "seats": shown.seats,
        "taken": shown.taken,
        "kept": shown.kept,
        "claimed": shown.claimed,
        "released": shown.released,
    }
