"""What the simulated year came to: figures by phase and of the whole, as a table and as one digest."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.centre_plan import START, Scale
from bench.centre_watch import Broken, Use
from bench.centre_year import Year
from quotas.domain.ledger import TransferKind
from quotas.domain.months import month_of
from quotas.domain.priorities import PREEMPTIBLE, Priority
from quotas.domain.recalls import RecallState
from quotas.domain.units import HOUR_SECONDS, show_budget
from quotas.services import recalls, reports
from quotas.store.database import Database


@dataclass(frozen=True)
class Figures:
    """Every figure by its name: those of each phase, those of the whole, and refusals by reason."""

    phases: dict[str, dict[str, str]]
    whole: dict[str, str]
    refusals: dict[str, dict[str, int]]
    digest: str


def jain(values: Sequence[float]) -> float:
    """Return Jain's index: 1 where all are equal, 1/n where one has all."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


def figures(year: Year) -> Figures:
    """Return what the year came to. Raises Broken where the monthly reports and the journal do not agree."""
    months = monthly(year.database, year.scale)
    entries = reports.journal(year.database)
    _must_agree(months, entries)
    tally = year.runs.tally
    refusals = {name: dict(found.most_common()) for name, found in sorted(tally.refused.items())}
    by_phase = {phase.name: _of_phase(year, phase.name, year.watch.use[phase.name]) for phase in year.phases}
    whole = _of_the_whole(year, months, len(entries))
    rows = [(entry.at, entry.project, entry.kind.value, entry.amount) for entry in entries]
    content = json.dumps([by_phase, whole, refusals, rows], sort_keys=True)
    return Figures(by_phase, whole, refusals, hashlib.sha256(content.encode()).hexdigest())


def monthly(database: Database, scale: Scale) -> list[reports.MonthlyReport]:
    """Return the report of each month from the first to the last."""
    month, found = month_of(START), []
    while month.starts_at <= scale.end:
        found.append(reports.monthly(database, str(month), now=scale.end))
        month = month.plus(1)
    return found


def _must_agree(months: list[reports.MonthlyReport], entries: list[reports.Entry]) -> None:
    charged = sum(entry.amount for entry in entries if entry.kind in {TransferKind.CHARGE, TransferKind.OVERRUN})
    refunded = sum(entry.amount for entry in entries if entry.kind is TransferKind.REFUND)
    told = {
        "used": sum(month.total.used for month in months),
        "charged": sum(month.total.charged for month in months),
        "refunded": sum(month.total.refunded for month in months),
    }
    if told != {"used": charged, "charged": charged, "refunded": refunded} or any(month.open_runs for month in months):
        raise Broken(f"the monthly reports have {told}, the journal {charged} and {refunded}")


def _of_phase(year: Year, name: str, use: Use) -> dict[str, str]:
    tally = year.runs.tally
    held, asked = sum(use.held.values()), tally.asked[name]
    refused = sum(tally.refused[name].values())
    borrowed = sum(use.held[priority] for priority in PREEMPTIBLE)
    waits = sorted(tally.waits[name])
    return {
        "days": f"{use.seconds / 86_400:.0f}",
        "healthy, PF": f"{use.healthy / max(use.seconds, 1) / 1e6:.2f}",
        "powered, PF": f"{use.powered / max(use.seconds, 1) / 1e6:.2f}",
        "awarded, PF": f"{use.awarded / max(use.seconds, 1) / 1e6:.2f}",
        "utilisation of healthy": _percent(held, use.healthy),
        "utilisation of powered": _percent(held, use.powered),
        "borrowed or opportunistic, of what was held": _percent(borrowed, held),
        "reserved, of what was held": _percent(use.held[Priority.RESERVED], held),
        "starts asked for": f"{asked:,}",
        "admitted at once": _percent(tally.at_once[name], asked),
        "refused at first": f"{refused:,}",
        "waited in the queue": f"{tally.joined[name]:,}",
        "had their turn": f"{len(waits):,}",
        "median wait": _hours(waits, 0.5),
        "95th percentile of waits": _hours(waits, 0.95),
        "waited in vain": f"{tally.in_vain[name]:,}",
        "preempted": f"{tally.preempted[name]:,}",
        "device-hours held under failed devices": f"{use.lost_devices / HOUR_SECONDS:,.1f}",
    }


def _of_the_whole(year: Year, months: list[reports.MonthlyReport], transfers: int) -> dict[str, str]:
    tally, watch = year.runs.tally, year.watch
    charged = sum(tally.charged.values())
    idle = sum(month.total.idle_device_seconds for month in months)
    seats = tally.charged[Priority.RESERVED]
    granted = {balance.project: balance.granted for balance in reports.balances(year.database)}
    shares = [tally.used[plan.code] / granted[plan.code] for plan in year.office.plans]
    eager = [
        tally.used[plan.code] / granted[plan.code]
        for plan in year.office.plans
        if plan.demand >= 1 and not plan.is_course
    ]
    found = recalls.list_recalls(year.database)
    executed = [recall for recall in found if recall.state is RecallState.EXECUTED]
    others = tally.others
    return {
        "runs": f"{tally.runs:,}",
        "transfers in the ledger": f"{transfers:,}",
        "charged": show_budget(charged),
        "overrun": f"{show_budget(tally.overrun)} in {tally.overruns} runs, {_percent(tally.overrun, charged, 4)}",
        "Jain's index of use over grant, all projects": f"{jain(shares):.3f}",
        f"Jain's index of the {len(eager)} that wanted all of it": f"{jain(eager):.3f}",
        "told to give borrowed devices back": f"{tally.told_to_give_way:,}",
        "preempted": f"{tally.outcomes['preempted']:,}",
        "charged for seats in classes": show_budget(seats),
        "idle reserved time": f"{idle / HOUR_SECONDS:,.0f} device-hours",
        "renewals approved, rejected": f"{others['renewals approved']}, {others['renewals rejected']}",
        "of these above the limit, with consent": f"{others['renewals above the limit, with consent']}",
        "recalls proposed, executed": f"{len(found)}, {len(executed)}: "
        f"{show_budget(sum(recall.recalled or 0 for recall in executed))}",
        "failures of devices, refunds": f"{others['drains']}, {others['refunds']}",
        "most devices held beyond those that could be used": f"{watch.excess_at_most}",
        "steps checked, days checked whole": f"{watch.steps:,}, {watch.days}",
        "invariants broken": "0",
    }


def _percent(part: float, whole: float, digits: int = 1) -> str:
    return f"{100 * part / whole:.{digits}f} %" if whole else "-"


def _hours(values: Sequence[int], share: float) -> str:
    if not values:
        return "-"
    value = values[min(math.ceil(share * len(values)), len(values)) - 1]
    return f"{value / HOUR_SECONDS:.1f} h"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table, its first column to the left and all others to the right."""
    lines = ["| " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) - 1)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines)


def tables(found: Figures) -> list[str]:
    """Return the figures of the phases, of the whole and the refusals as Markdown tables."""
    names = list(found.phases)
    first = found.phases[names[0]]
    reasons: dict[str, int] = {}
    for counts in found.refusals.values():
        for reason, number in counts.items():
            reasons[reason] = reasons.get(reason, 0) + number
    ranked = sorted(reasons, key=lambda reason: (-reasons[reason], reason))
    return [
        table(["", *names], ([row, *(found.phases[name][row] for name in names)] for row in first)),
        table(
            ["refused at first", *names],
            (
                [f"`{reason}`", *(f"{found.refusals.get(name, {}).get(reason, 0):,}" for name in names)]
                for reason in ranked
            ),
        ),
        table(["of the whole", ""], found.whole.items()),
    ]
