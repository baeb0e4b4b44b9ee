"""Schedules and runs as the API answers them and as pages show them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from quotas.domain.schedules import FINAL, ExecutionState
from quotas.domain.units import CALENDAR, show_budget, show_duration, show_instant
from quotas.language import Translator
from quotas.services import queue_views, runs
from quotas.services.queue_views import Place
from quotas.services.runs import Run
from quotas.services.schedules import Execution, Schedule
from quotas.store.database import Database

MARKS = {
    ExecutionState.SUCCEEDED: "✓",
    ExecutionState.RUNNING: "▸",
    ExecutionState.CLAIMED: "○",
    ExecutionState.WAITING: "…",
    ExecutionState.WAITING: "○",
    ExecutionState.REFUSED: "–",
}
"""States are told apart by a sign as well as by colour; every other one is a failure."""

NOTHING_SHOWN, SMALLEST_SHOWN = "0.000 TF·h", "0.001 TF·h"


def instant(at: int | None) -> str | None:
    """Write an instant as ISO 8601 in the calendar's zone, as in ``2026-11-21T09:00:00+09:00``."""
    return None if at is None else datetime.fromtimestamp(at, CALENDAR).isoformat()


def schedule_json(schedule: Schedule) -> dict[str, Any]:
    """Return a schedule as the API answers it."""
    return {
        "id": schedule.id,
        "project": schedule.project,
        "person": schedule.person,
        "profile": schedule.profile,
        "notebook": schedule.notebook,
        "title": schedule.title,
        "cron": schedule.timing.cron,
        "at": instant(schedule.timing.once_at),
        "timezone": schedule.timing.zone,
        "timeout_seconds": schedule.timeout_seconds,
        "parameters": dict(schedule.parameters),
        "wish": schedule.wish.value,
        "enabled": schedule.enabled,
        "pause_reason": schedule.pause_reason,
        "next_at": instant(schedule.next_at) if schedule.enabled else None,
        "created_at": instant(schedule.created_at),
    }


def run_json(execution: Execution, run: Run | None, *, whole: bool = False) -> dict[str, Any]:
    """Return a run as the API answers it; `whole` with its log and failing cell. Amounts are GFLOPS·s."""
    answer = {
        "id": execution.run_id,
        "schedule_id": execution.schedule_id,
        "project": execution.project,
        "person": execution.person,
        "profile": execution.profile,
        "notebook": execution.notebook,
        "notebook_sha256": execution.notebook_sha256,
        "title": execution.title,
        "state": execution.state.value,
        "reason_ko": execution.reason_ko,
        "reason_en": execution.reason_en,
        "parameters": dict(execution.parameters),
        "timeout_seconds": execution.timeout_seconds,
        "scheduled_for": instant(execution.scheduled_for),
        "claimed_at": instant(execution.claimed_at),
        "started_at": instant(run.started_at) if run else None,
        "finished_at": instant(execution.finished_at),
        "exit_code": execution.exit_code,
        "output": output_of(execution),
        "seconds": run.seconds if run else None,
        "held_gflops_seconds": run.held if run else 0,
        "charge_gflops_seconds": run.charge if run else None,
    }
    if whole:
        cell = execution.failing_cell
        answer |= {"log": execution.log, "failing_cell": dict(cell) if cell else None}
    return answer


def output_of(execution: Execution) -> str | None:
    """Return where the output notebook is; None before the end, and where there is none."""
    return (execution.output or None) if execution.state in FINAL else None


@dataclass(frozen=True)
class Row:
    """One run in a list. `sign` and `failed` draw its state."""

    id: str
    title: str
    state: str
    sign: str
    failed: bool
    person: str
    profile: str
    at: str
    duration: str
    charge: str
    reason: str


def rows(database: Database, executions: list[Execution], translate: Translator, now: int) -> list[Row]:
    """Return the executions for a page's list."""
    return [row(database, each, runs.run(database, each.run_id), translate, now) for each in executions]


def row(database: Database, execution: Execution, run: Run | None, translate: Translator, now: int) -> Row:
    """Return one execution for a page's list; of one that waits, its place is the reason."""
    state = execution.state
    reason = execution.reason_ko if translate.language == "ko" else execution.reason_en
    if state is ExecutionState.WAITING:
        reason = _place(queue_views.one(database, execution.run_id, now), translate.language, now)
    return Row(
        id=execution.run_id,
        title=execution.title,
        state=state.value,
        sign=MARKS.get(state, "×"),
        failed=state in FINAL and state not in {ExecutionState.SUCCEEDED, ExecutionState.REFUSED},
        person=execution.person,
        profile=execution.profile,
        at=show_instant((run.started_at if run else None) or execution.scheduled_for),
        duration=duration(run, translate.language, now),
        charge=charge(run),
        reason=reason or "",
    )


def _place(place: Place | None, language: str, now: int) -> str:
    if place is None or not place.entry.is_open:
        return ""
    position = "" if place.position is None else f"{place.position}/{place.waiting}"
    expected = "" if place.estimate is None else place.estimate.sentence(language, now)
    return " · ".join(part for part in (position, place.passed_over(language), expected) if part)


def duration(run: Run | None, language: str, now: int) -> str:
    """Return how long it ran, or has been running; a dash before that."""
    if run is None or run.started_at is None:
        return "–"
    return show_duration(run.seconds if run.seconds is not None else now - run.started_at, language)


def charge(run: Run | None) -> str:
    """Return what it cost, "< 0.001 TF·h" for less than can be shown; a dash before it is settled."""
    if run is None or run.charge is None:
        return "–"
    shown = show_budget(run.charge)
    return f"< {SMALLEST_SHOWN}" if run.charge and shown == NOTHING_SHOWN else shown


def lab_link(execution: Execution, viewer: str) -> str | None:
    """Return the output notebook's address in the viewer's own server on the project, or None without an output."""
    output = output_of(execution)
    if output is None:
        return None
    return f"/user/{quote(viewer)}/{quote(execution.project)}/lab/tree/{quote(output)}"
