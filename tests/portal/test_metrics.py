"""The metrics: for the holder of a token, by Prometheus' conventions, true to the ledger, and all that the dashboard
asks for.
"""

from __future__ import annotations

import json
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from sqlalchemy import update

from portal.metrics import KEPT_SECONDS, TOKEN, LedgerCollector
from quotas.domain.admission import Request
from quotas.domain.policy import Policy
from quotas.domain.pools import CapacityPhase
from quotas.domain.queue import Mode
from quotas.domain.recalls import RecallPolicy
from quotas.domain.runs import RunKind, new_run_id
from quotas.home import open_home
from quotas.services import admission, periodic, pools, queue
from quotas.store.database import Database
from quotas.store.tables import nodes
from tests.metered import samples
from tests.platform import BY, GPU
from tests.portal.conftest import BASE, Portal
from tests.portal.metered import HOUR, Metered, fill

DASHBOARD = Path(__file__).resolve().parents[2] / "docs" / "grafana" / "mudeung.json"
PAGE = DASHBOARD.parent.parent / "metering.md"
NAME = re.compile(r"\bmudeung_[a-z0-9_]+")


@pytest.fixture(scope="module")
def metered(portal: Portal) -> Metered:
    """Everything that is told has happened: a refusal some time ago, someone waits, the loop has gone round."""
    database, now = portal.platform.database, int(time.time())
    asked = Request(new_run_id(), RunKind.NOTEBOOK, "dan", "vision", GPU)
    admission.reserve(database, asked, now - HOUR, Policy())
    pools.add_phase(database, "main", CapacityPhase("h100", now, 4, 4, 1), actor=BY, now=now)
    found = fill(database)
    waiting = Request(new_run_id(), RunKind.NOTEBOOK, "ben", "vision", GPU)
    queue.join(database, waiting, Mode.OFFER, now, Policy(), portal.platform.home.settings.queue_limits())
    with database.write() as transaction:
        transaction.run(update(nodes).values(reports_missed=2))
    periodic.run(database, periodic.jobs(RecallPolicy()), now)
    return found


def scrape(portal: Portal, token: str | None = None, **headers: str) -> httpx.Response:
    secret = portal.platform.home.secret(TOKEN) if token is None else token
    given = {"Authorization": f"Bearer {secret}", **headers}
    return httpx.get(f"{portal.platform.url}{BASE}metrics", headers=given, timeout=30)


def sampled(text: str) -> Iterator[Sample]:
    for family in text_string_to_metric_families(text):
        yield from family.samples


def value(text: str, name: str, **labels: str) -> float:
    found = [
        each.value for each in sampled(text) if each.name == name and labels.items() <= (each.labels or {}).items()
    ]
    assert len(found) == 1, (name, labels, found)
    return found[0]


def test_the_token_stands_in_a_file_of_the_home(portal: Portal, metered: Metered) -> None:
    del metered
    path = portal.platform.home.hub / f"{TOKEN}.secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert scrape(portal, path.read_text()).status_code == 200
    for wrong in ("guessed", path.read_text()[:-1]):
        refused = scrape(portal, wrong)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert "mudeung_" not in refused.text
    assert httpx.get(f"{portal.platform.url}{BASE}metrics", timeout=30).status_code == 401
    assert portal.open("ada", "metrics").status_code == 401
    address = f"{BASE}metrics"
    spoken = httpx.get(f"{portal.platform.url}{address}?token={path.read_text()}", timeout=30)
    assert spoken.status_code == 401


def test_the_figures_are_those_of_the_ledger(portal: Portal, metered: Metered) -> None:
    text = scrape(portal).text
    first, second = metered.machine.uuids[:2]
    place = {"pool": "main", "model": "h100"}
    assert value(text, "mudeung_devices", state="held", **place) == 1
    assert value(text, "mudeung_devices", state="available", **place) == 2
    assert value(text, "mudeung_devices", state="cleaning", **place) == 1
    assert value(text, "mudeung_device_busy_ratio", uuid=first) == 0.1
    assert value(text, "mudeung_device_power_watts", uuid=first, node="node-1", model="h100") == 600
    assert value(text, "mudeung_device_memory_used_bytes", uuid=first) == 10 * 2**30
    assert value(text, "mudeung_device_read_timestamp_seconds", uuid=second) < metered.now - HOUR
    assert second not in {each.labels["uuid"] for each in sampled(text) if each.name == "mudeung_device_busy_ratio"}
    holder = {"uuid": first, "run": metered.idle, "project": "vision", "kind": "notebook"}
    assert value(text, "mudeung_device_holder_info", **holder) == 1
    held = value(text, "mudeung_project_device_held_seconds_total", project="vision")
    assert 4 * HOUR <= held <= 4 * HOUR + 300
    assert value(text, "mudeung_project_device_seen_seconds_total", project="vision") == 3.5 * HOUR
    assert value(text, "mudeung_project_device_measured_seconds_total", project="vision") == 3.5 * HOUR
    assert value(text, "mudeung_project_device_busy_seconds_total", project="vision") == pytest.approx(0.7 * HOUR)
    assert value(text, "mudeung_project_device_energy_joules_total", project="vision") == 3.5 * HOUR * 600
    assert value(text, "mudeung_open_runs", kind="notebook", project="vision") == 1
    assert value(text, "mudeung_queue_entries", model="h100", state="waiting") == 1
    assert value(text, "mudeung_start_refusals_total", code="not_a_member") == 1
    assert value(text, "mudeung_device_events_total", kind="foreign") == 1
    assert value(text, "mudeung_node_reports_missed_total", node="node-1") == 2
    assert value(text, "mudeung_node_info", node="node-1", pool="main", agent_version="0.1.0") == 1
    assert value(text, "mudeung_node_reported_timestamp_seconds", node="node-1") == metered.now
    assert abs(value(text, "mudeung_loop_round_timestamp_seconds") - metered.now) < 60
    assert value(text, "mudeung_pool_healthy_devices", **place) == 1
    available, of_runs = (
        value(text, "mudeung_project_budget_gflops_seconds", project="vision", account=account)
        for account in ("available", "held")
    )
    assert available > of_runs > 0


def test_names_and_labels_keep_to_the_conventions(portal: Portal, metered: Metered) -> None:
    text = scrape(portal).text
    families = list(text_string_to_metric_families(text))
    for family in families:
        assert family.documentation.endswith("."), family.name
        assert family.type in {"gauge", "counter"}, family.name
        for each in family.samples:
            assert each.name.startswith("mudeung_")
            assert each.name.endswith("_total") == (family.type == "counter"), each.name
            assert "le" not in each.labels
    # A label with a value for each run that ever was would grow without an end: only those that hold a device have one.
    with_runs = {each.name for each in sampled(text) if "run" in each.labels}
    assert with_runs == {"mudeung_device_holder_info"}
    assert metered.ended not in text
    answer = scrape(portal, Accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert {family.name for family in openmetrics(answer.text)} >= {"mudeung_devices", "mudeung_node"}


def expressions() -> list[str]:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return found + [each["definition"] for each in dashboard["templating"]["list"] if "definition" in each]


def test_the_dashboard_asks_for_what_is_told_and_for_all_of_it(portal: Portal, metered: Metered) -> None:
    del metered
    told = {each.name for each in sampled(scrape(portal).text)}
    asked = {name for expression in expressions() for name in NAME.findall(expression)}
    assert asked == told


def test_the_dashboards_labels_are_there(portal: Portal, metered: Metered) -> None:
    """What a legend or a selector names is a label of one of the metrics in the panel's expression."""
    del metered
    labels: dict[str, set[str]] = {}
    for each in sampled(scrape(portal).text):
        labels.setdefault(each.name, set()).update(each.labels)
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            there = set().union(*(labels[name] for name in NAME.findall(target["expr"])))
            named = re.findall(r"{{(\w+)}}", target["legendFormat"])
            named += re.findall(r"(\w+)=~?\"", target["expr"])
            grouped = re.findall(r"(?:by|on|group_left) \(([^)]*)\)", target["expr"])
            named += [label.strip() for group in grouped for label in group.split(",")]
            assert set(named) <= there, panel["title"]
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    assert len({(place["x"], place["y"]) for place in places}) == len(places)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(places)


def test_the_documentation_names_every_metric(portal: Portal, metered: Metered) -> None:
    del metered
    text = PAGE.read_text(encoding="utf-8")
    told = {each.name for each in sampled(scrape(portal).text)}
    assert set(NAME.findall(text)) == told
    assert "credentials_file" in text


def test_a_counter_never_falls_and_the_ledger_is_read_now_and_then(database: Database, tmp_path: Path) -> None:
    collector = LedgerCollector(open_home(tmp_path / "home"), database)
    family = collector._counter("mudeung_x", "X.", ("project",), {("a",): 7.0, ("b",): 1.0})
    again = collector._counter("mudeung_x", "X.", ("project",), {("a",): 6.0, ("b",): 2.0})
    assert [each.value for each in family.samples] == [7.0, 1.0]
    assert [each.value for each in again.samples] == [7.0, 2.0]
    first, second = list(collector.collect()), list(collector.collect())
    assert all(one is other for one, other in zip(first, second, strict=True))


def test_use_that_is_measured_meanwhile_is_told(portal: Portal, metered: Metered) -> None:
    before = value(scrape(portal).text, "mudeung_project_device_seen_seconds_total", project="vision")
    time.sleep(KEPT_SECONDS + 0.1)
    now = int(time.time())
    metered.machine.take(list(samples(metered.machine.uuids[0], now - 2, now)), now)
    after = value(scrape(portal).text, "mudeung_project_device_seen_seconds_total", project="vision")
    assert 0 < after - before <= 2
