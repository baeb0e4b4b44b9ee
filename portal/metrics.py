"""What Prometheus scrapes: the ledger's figures at the moment of asking, for the holder of the home's metrics token."""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from portal.door import AtPortal, Portal
from portal.login import PREFIX, bearer
from quotas.domain.units import PPM
from quotas.home import Home
from quotas.services import fleet
from quotas.services.fleet import Figures
from quotas.store.database import Database

TOKEN = "metrics_token"  # noqa: S105 - the name of a secret
KEPT_SECONDS = 5
"""Whoever asks again within so many seconds is told the same: scrapes by several do not add up in the ledger."""

router = APIRouter(prefix=PREFIX.rstrip("/"), include_in_schema=False)
Labels = tuple[str, ...]
_DEVICE_TIME = {
    "held": "Device time that runs held, from their start.",
    "seen": "The part of it that samples cover.",
    "measured": "The part of it for which a utilisation was read.",
    "busy": "Measured device time times its utilisation.",
}


@router.get("/metrics")
def metrics(portal: AtPortal, request: Request) -> Response:
    """The platform's figures, as text that Prometheus reads."""
    given = bearer(request.headers.get("authorization", ""))
    if not hmac.compare_digest(given.encode(), portal.home.secret(TOKEN).encode()):
        return PlainTextResponse("the metrics token is needed\n", 401, {"WWW-Authenticate": "Bearer"})
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(request.app.state.metrics), media_type=content_type)


def registry(portal: Portal) -> CollectorRegistry:
    """Return what collects the portal's figures when it is asked, and not before."""
    portal.home.secret(TOKEN)  # its file is there before anybody asks
    made = CollectorRegistry(auto_describe=False)
    made.register(LedgerCollector(portal.home, portal.database))
    return made


class LedgerCollector(Collector):
    """The ledger's figures as families of metrics."""

    def __init__(self, home: Home, database: Database) -> None:
        self._silence_seconds = home.settings.node_silence_seconds
        self._database = database
        self._refusals = fleet.Refusals()
        self._most: dict[tuple[str, Labels], float] = {}
        self._turn = threading.Lock()
        self._kept: tuple[float, list[Metric]] | None = None

    def describe(self) -> list[Metric]:
        """Registering asks the ledger nothing."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the families, read from the ledger anew when what is kept is too old."""
        with self._turn:
            if self._kept is None or time.monotonic() - self._kept[0] >= KEPT_SECONDS:
                now = int(time.time())
                self._refusals.go_on(self._database, now)
                figures = fleet.figures(self._database, now, self._silence_seconds)
                self._kept = (time.monotonic(), list(self._families(figures, now)))
            families = self._kept[1]
        yield from families

    def _families(self, figures: Figures, now: int) -> Iterator[Metric]:
        info = InfoMetricFamily("mudeung_build", "The platform's version.")
        info.add_metric([], {"version": version("mudeung")})
        yield info
        yield from _of_devices(figures, now)
        yield from _of_machines(figures)
        yield from _of_pools(figures)
        yield from _of_runs(figures)
        yield from self._counters(figures)

    def _counters(self, figures: Figures) -> Iterator[Metric]:
        projects = figures.projects.items()
        for name, text in _DEVICE_TIME.items():
            seconds = {(project,): float(getattr(use, f"{name}_seconds")) for project, use in projects}
            yield self._counter(f"mudeung_project_device_{name}_seconds", text, ("project",), seconds)
        joules = {(project,): use.energy_joules for project, use in projects}
        yield self._counter("mudeung_project_device_energy_joules", "Energy of held devices.", ("project",), joules)
        refused = {(code,): float(number) for code, number in self._refusals.counted.items()}
        yield self._counter("mudeung_start_refusals", "Refused starts, by the refusal's code.", ("code",), refused)
        events = {(kind,): float(number) for kind, number in figures.events.items()}
        yield self._counter("mudeung_device_events", "What befell devices, by kind.", ("kind",), events)
        missed = {(machine.name,): float(machine.reports_missed) for machine in figures.machines}
        text = "Reports of machines that were numbered and never came."
        yield self._counter("mudeung_node_reports_missed", text, ("node",), missed)

    def _counter(self, name: str, text: str, labels: Labels, values: Mapping[Any, float]) -> Metric:
        """Return the counter; it never falls, as what falls is taken for one that began anew.

        A run's start is known better at its end, so that a sum may become a second less.
        """
        family = CounterMetricFamily(name, text, labels=labels)
        for key, value in sorted(values.items()):
            most = self._most[name, key] = max(value, self._most.get((name, key), 0.0))
            family.add_metric(key, most)
        return family


def _gauge(name: str, text: str, labels: Labels, values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def _of_devices(figures: Figures, now: int) -> Iterator[Metric]:
    labels = ("uuid", "node", "model")
    number: dict[Labels, float] = {}
    for device in figures.devices:
        key = (device.pool, device.device_model or "", fleet.state_of(device))
        number[key] = number.get(key, 0) + 1
    yield _gauge("mudeung_devices", "Devices of machines.", ("pool", "model", "state"), number)
    named = {(each.uuid, each.node, each.device_model or ""): each for each in figures.devices}
    current = {key: each for key, each in named.items() if fleet.is_current(each, now)}
    busy = {key: each.busy_ppm / PPM for key, each in current.items() if each.busy_ppm is not None}
    used = {key: float(each.used_bytes) for key, each in current.items() if each.used_bytes is not None}
    watts = {key: each.power_milliwatts / 1000 for key, each in current.items() if each.power_milliwatts is not None}
    size = {key: float(each.memory_bytes) for key, each in named.items()}
    read_at = {key: float(each.read_at) for key, each in named.items() if each.read_at is not None}
    yield _gauge("mudeung_device_busy_ratio", "Utilisation at the newest reading.", labels, busy)
    yield _gauge("mudeung_device_memory_used_bytes", "Memory in use at the newest reading.", labels, used)
    yield _gauge("mudeung_device_memory_bytes", "The device's memory.", labels, size)
    yield _gauge("mudeung_device_power_watts", "Power at the newest reading.", labels, watts)
    yield _gauge("mudeung_device_read_timestamp_seconds", "When the device was last read.", labels, read_at)
    info = InfoMetricFamily("mudeung_device_holder", "The run that holds the device.", labels=("uuid",))
    for uuid, holder in sorted(figures.holders.items()):
        info.add_metric((uuid,), {"run": holder.run, "project": holder.project, "kind": holder.kind})
    yield info


def _of_machines(figures: Figures) -> Iterator[Metric]:
    info = InfoMetricFamily("mudeung_node", "Machines and their agents.", labels=("node", "pool"))
    for machine in figures.machines:
        info.add_metric((machine.name, machine.pool), {"agent_version": machine.agent_version or ""})
    yield info
    reported = {(each.name,): float(each.reported_at) for each in figures.machines if each.reported_at is not None}
    text = "When the machine last reported."
    yield _gauge("mudeung_node_reported_timestamp_seconds", text, ("node",), reported)


def _of_pools(figures: Figures) -> Iterator[Metric]:
    labels = ("pool", "model")
    keyed = {(each.code, each.device_model): each for each in figures.pools}
    healthy = {key: float(each.healthy) for key, each in keyed.items()}
    in_use = {key: float(each.in_use) for key, each in keyed.items()}
    drained = {key: float(each.drained) for key, each in keyed.items()}
    yield _gauge("mudeung_pool_healthy_devices", "Devices that the pool's phase counts.", labels, healthy)
    yield _gauge("mudeung_pool_in_use_devices", "Devices of the pool that runs hold.", labels, in_use)
    yield _gauge("mudeung_pool_drained_devices", "Devices of the pool that are out of use.", labels, drained)


def _of_runs(figures: Figures) -> Iterator[Metric]:
    runs = {key: float(number) for key, number in figures.open_runs.items()}
    yield _gauge("mudeung_open_runs", "Runs that hold something.", ("kind", "project"), runs)
    waiting = {key: float(number) for key, number in figures.waiting.items()}
    yield _gauge("mudeung_queue_entries", "Who waits for devices, or has a turn.", ("model", "state"), waiting)
    text = "The running awards' budgets: available, and held by open runs; GFLOPS times seconds."
    budgets = {key: float(amount) for key, amount in figures.budgets.items()}
    yield _gauge("mudeung_project_budget_gflops_seconds", text, ("project", "account"), budgets)
    loop = {} if figures.loop_at is None else {(): float(figures.loop_at)}
    yield _gauge("mudeung_loop_round_timestamp_seconds", "When the platform's loop last went round.", (), loop)
