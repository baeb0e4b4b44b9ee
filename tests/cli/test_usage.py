"""`mudeung usage`: held beside busy as a table, JSON and CSV; a run with its intervals."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

from quotas.domain.admission import Admitted, Request
from quotas.domain.policy import Policy
from quotas.domain.runs import RunKind, new_run_id
from quotas.domain.units import CALENDAR
from quotas.services import admission
from tests.centre import Centre
from tests.cli.conftest import Ended
from tests.metered import machine, samples

Invoke = Callable[..., Ended]
HOUR = 3600


@dataclass(frozen=True)
class World:
    """The member's run, of two hours, the first half of them seen, and the PI's, of one hour of which nothing is."""

    now: int
    member: str
    pi: str


@pytest.fixture
def world(centre: Centre) -> World:
    now = int(time.time())
    node = machine(centre.database, now)
    member = begin(centre, centre.member, now - 2 * HOUR)
    node.take(list(samples(node.uuids[0], now - 2 * HOUR, now - HOUR, busy_ppm=250_000)), now)
    return World(now, member, begin(centre, centre.pi, now - HOUR))


def begin(centre: Centre, person: str, at: int) -> str:
    request = Request(new_run_id(), RunKind.NOTEBOOK, person, centre.project, "h100")
    assert isinstance(admission.reserve(centre.database, request, at, Policy()), Admitted)
    admission.started(centre.database, request.run_id, at)
    return request.run_id


def test_a_line_for_each_that_is_asked_for(invoke: Invoke, world: World) -> None:
    found = invoke("usage", "-o", "json").json
    (line,) = found["lines"]
    assert line["project"] == "vision"
    assert 3 * HOUR <= line["held_seconds"] <= 3 * HOUR + 60
    assert (line["seen_seconds"], line["measured_seconds"], line["busy_seconds"]) == (HOUR, HOUR, HOUR // 4)
    assert (line["busy_ppm"], line["gap_seconds"]) == (250_000, line["held_seconds"] - HOUR)
    assert found["total"] == {name: value for name, value in line.items() if name != "project"}
    assert found["from"] < found["until"]
    by_person = invoke("usage", "--by", "person", "--by", "run", "-o", "json").json["lines"]
    assert {line["person"]: line["run"] for line in by_person} == {"member": world.member, "pi": world.pi}
    assert by_person[1]["busy_ppm"] is None
    rows = list(csv.DictReader(io.StringIO(invoke("usage", "--by", "profile", "-o", "csv").output)))
    assert [(row["profile"], row["busy_seconds"]) for row in rows] == [("h100", str(HOUR // 4))]


@pytest.mark.usefixtures("world")
def test_as_a_table_in_both_languages(invoke: Invoke) -> None:
    table = invoke("usage", "--person", "member")
    assert table.code == 0
    assert "15 min" in table.output
    assert "total" in table.output
    assert "합계" in invoke("usage", "--person", "member", "--lang", "ko").output
    assert "(none)" in invoke("usage", "--person", "nobody").output


def test_another_period(invoke: Invoke, world: World) -> None:
    today = datetime.fromtimestamp(world.now, CALENDAR).date()
    long_ago = today - timedelta(days=30)
    assert invoke("usage", "--from", long_ago, "--to", long_ago, "-o", "json").json["lines"] == []
    assert len(invoke("usage", "--from", long_ago, "--to", today, "-o", "json").json["lines"]) == 1


def test_a_run_has_its_intervals(invoke: Invoke, world: World) -> None:
    found = invoke("usage", "--run", world.member, "-o", "json").json
    assert (found["person"], found["busy_seconds"], found["most_memory_bytes"]) == ("member", HOUR // 4, 10 * 2**30)
    assert sum(each["seen_milliseconds"] for each in found["intervals"]) == HOUR * 1000
    assert sum(each["held_seconds"] for each in found["intervals"]) == found["held_seconds"]
    assert found["intervals"][-1]["seen_milliseconds"] == 0
    rows = list(csv.DictReader(io.StringIO(invoke("usage", "--run", world.member, "-o", "csv").output)))
    assert len(rows) == len(found["intervals"])
    shown = invoke("usage", "--run", world.member).output
    assert "KST" in shown
    assert world.member in shown


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--run", "nothing"), "run: there is no run 'nothing'"),
        (("--project", "nothing"), "nothing"),
        (("--from", "soon"), "from: 'soon' is not a date"),
        (("--from", "2026-11-03", "--to", "2026-11-01"), "until: must be after the beginning"),
        (("--from", "2020-01-01"), "from: a period is of at most 400 days"),
    ],
    ids=str,
)
def test_what_cannot_be_shown_is_told(invoke: Invoke, words: tuple[str, ...], message: str) -> None:
    ended = invoke("usage", *words)
    assert ended.code == 1
    assert message in ended.errors
