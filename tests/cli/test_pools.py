"""`mudeung pools`: what the operator is shown of the devices, and what is done to them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from quotas.domain.admission import Admitted, Request
from quotas.domain.policy import Policy
from quotas.domain.priorities import Priority
from quotas.domain.runs import RunKind, new_run_id
from quotas.domain.units import DAY_SECONDS, show_instant
from quotas.services import admission, check
from tests.centre import Centre
from tests.cli.conftest import Ended

Invoke = Callable[..., Ended]


def hold(centre: Centre, person: str, wish: Priority = Priority.GUARANTEED) -> str:
    request = Request(new_run_id(), RunKind.NOTEBOOK, person, centre.project, "h100", wish=wish)
    assert isinstance(admission.reserve(centre.database, request, centre.now, Policy()), Admitted)
    return request.run_id


def devices(invoke: Invoke) -> dict[str, dict[str, Any]]:
    return {f"{row['pool']} {row['device']}": row for row in invoke("pools", "list", "-o", "json").json}


def test_the_devices_of_all_pools_in_three_forms(invoke: Invoke, centre: Centre) -> None:
    hold(centre, centre.member)
    row = devices(invoke)["main h100"]
    assert (row["healthy"], row["in_use"], row["free"], row["drained"]) == (4, 1, 3, 0)
    assert row["healthy_gflops"] == str(4 * 66_900)
    table = invoke("pools", "list").output
    assert "267.6 TF" in table
    assert "정상" in invoke("pools", "list", "--lang", "ko").output
    rows = list(csv.DictReader(io.StringIO(invoke("pools", "list", "-o", "csv").output)))
    assert {each["device"]: each["in_use"] for each in rows}["h100"] == "1"


def test_a_pool_with_its_phases_drains_and_who_gives_way_first(invoke: Invoke, centre: Centre) -> None:
    firm = hold(centre, centre.pi)
    idle = hold(centre, centre.member, Priority.OPPORTUNISTIC)
    assert invoke("pools", "drain", "main", "h100", 1, "--reason", "a fan").code == 0
    shown = invoke("pools", "show", "main", "-o", "json").json
    assert [each["run"] for each in shown["holders"]] == [idle, firm]
    assert [each["turn"] for each in shown["holders"]] == [1, 2]
    assert [each["fair_share"] for each in shown["holders"]] == ["1.000", "1.000"]
    assert shown["holders"][0]["priority"] == "opportunistic"
    assert [(each["count"], each["reason"]) for each in shown["drains"]] == [(1, "a fan")]
    assert [each["now"] for each in shown["phases"] if each["device"] == "h100"] == [True]
    korean = invoke("pools", "show", "main", "--lang", "ko").output
    assert "먼저 반납하는 순서" in korean
    assert "유휴 활용" in korean
    assert "KST" in korean
    rows = list(csv.DictReader(io.StringIO(invoke("pools", "show", "main", "-o", "csv").output)))
    assert [row["run"] for row in rows] == [idle, firm]
    assert "pool" in invoke("pools", "show", "nowhere").errors


def test_a_pool_from_its_beginning_to_its_phases(invoke: Invoke, centre: Centre) -> None:
    later = centre.now + 40 * DAY_SECONDS
    assert invoke("pools", "add", "cloud", "--name-ko", "임차 클라우드", "--name-en", "Leased cloud").code == 0
    sizes = ["--installed", 16, "--powered", 8]
    began = invoke("pools", "phase", "cloud", "h100", *sizes, "--from", "2026-01-01")
    assert began.output == "From 2026-01-01 00:00 KST on cloud has 8 healthy h100.\n"
    assert devices(invoke)["cloud h100"] | {"name": ""} == {
        "pool": "cloud", "name": "", "device": "h100", "installed": 16, "powered": 8, "healthy": 8, "drained": 0,
        "reserved": 0, "in_use": 0, "free": 8, "healthy_gflops": str(8 * 66_900),
    }  # fmt: skip
    at = show_instant(later)
    iso = at.replace(" KST", "+09:00").replace(" ", "T")
    assert invoke("pools", "phase", "cloud", "h100", "--installed", 32, "--from", iso).code == 0
    again = invoke("pools", "phase", "cloud", "h100", "--installed", 48, "--from", iso)
    assert (again.code, at in again.errors, "from_at" in again.errors) == (1, True, True)
    cancelled = invoke("pools", "cancel-phase", "cloud", "h100", "--from", iso)
    assert cancelled.output == f"The phase of h100 in cloud at {at} is cancelled.\n"
    assert invoke("pools", "cancel-phase", "cloud", "h100", "--from", iso).code == 1
    begun = invoke("pools", "cancel-phase", "cloud", "h100", "--from", "2026-01-01")
    assert "has begun; allowed is one after" in begun.errors


def test_a_drain_and_its_end(invoke: Invoke, centre: Centre) -> None:
    first = invoke("pools", "drain", "main", "h100", 3, "--reason", "XID 79 on node 3")
    assert first.output == "Drain 1: 3 h100 of main are out of use.\n"
    assert devices(invoke)["main h100"]["free"] == 1
    more = invoke("pools", "drain", "main", "h100", 2, "--reason", "a fan")
    assert (more.code, "allowed is 1 to 1, not 2" in more.errors) == (1, True)
    part = invoke("pools", "undrain", 1, "--count", 1)
    assert part.output == "Drain 1 has ended; 2 h100 are left out of use as drain 2.\n"
    assert "there is no open drain 1; open are: 2" in invoke("pools", "undrain", 1).errors
    assert invoke("pools", "undrain", 2, "--lang", "ko").output == "중단 2 종료.\n"
    assert devices(invoke)["main h100"]["free"] == 4
    assert check.findings(centre.database, centre.now) == []


def test_the_machines_of_a_cluster_that_take_a_pool_s_runs(invoke: Invoke, centre: Centre) -> None:
    terms = {"kubernetes": {"node_selector": {"hall": "own"}}}
    assert invoke("pools", "terms", centre.pool, "--set", json.dumps(terms)).json == terms
    assert invoke("pools", "terms", centre.pool).json == terms
    refused = invoke("pools", "terms", centre.pool, "--set", '{"kubernetes": {"nodes": 1}}')
    assert (refused.code, "allowed: node_selector, tolerations" in refused.errors) == (1, True)
    assert invoke("pools", "terms", centre.pool).json == terms
    assert invoke("pools", "terms", centre.pool, "--set", "{}").json == {}


def test_what_is_promised_and_what_if_one_more_is(invoke: Invoke, centre: Centre) -> None:
    plain = invoke("pools", "plan", "--months", 3, "-o", "json").json
    assert (plain["precision"], plain["limit_ppm"]) == ("fp32", 1_500_000)
    assert len(plain["spans"]) >= 3
    assert "promised_with_gflops" not in plain["spans"][0]
    now = next(each for each in plain["spans"] if each["promised_gflops"] != "0")
    assert now["promised_gflops"] == str(centre.gflops)
    ends = show_instant(centre.now + 60 * DAY_SECONDS)[:10]
    fits = invoke("pools", "plan", "--award", "0.1PF", "--ends", ends, "-o", "json").json
    assert (fits["needs_consent"], fits["worst"]) == (False, None)
    large = invoke("pools", "plan", "--award", "5PF", "--ends", ends, "-o", "json").json
    assert large["needs_consent"]
    assert int(large["worst"]["promised_gflops"]) >= 5_000_000
    assert "This award needs consent: at" in invoke("pools", "plan", "--award", "5PF", "--ends", ends).output
    said = invoke("pools", "plan", "--award", "0.1PF", "--ends", ends, "--lang", "ko").output
    assert "이 배정은 한도 안에 있습니다." in said


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["plan", "--award", "0.1PF"], "ends"),
        (["plan", "--ends", "2099-01-01"], "award"),
        (["plan", "--award", "0.1PF", "--starts", "2026-02-01", "--ends", "2026-01-01"], "ends"),
        (["plan", "--award", "0.1PF", "--starts", "2020-02-01", "--ends", "2020-03-01"], "ends"),
        (["plan", "--award", "fast", "--ends", "2099-01-01"], "award"),
        (["plan", "--months", 0], "months"),
        (["drain", "main", "h100", 0, "--reason", "x"], "count"),
        (["drain", "main", "h100", 1, "--reason", " "], "reason"),
        (["drain", "main", "t4", 1, "--reason", "x"], "device_model"),
        (["drain", "nowhere", "h100", 1, "--reason", "x"], "pool"),
        (["undrain", 5], "drain"),
        (["phase", "main", "h100", "--installed", 1, "--powered", 2, "--from", "2099-01-01"], "phase"),
        (["phase", "main", "h100", "--installed", 1, "--from", "soon"], "from"),
        (["cancel-phase", "main", "h100", "--from", "2099-01-01"], "from_at"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_its_field(
    invoke: Invoke, centre: Centre, words: list[object], field: str
) -> None:
    del centre
    ended = invoke("pools", *words)
    assert ended.code == 1
    assert ended.errors.startswith(f"Error: {field}: ")
    assert ended.errors.count("\n") == 1
