"""Each command on a home with a small centre: what it prints, and how it ends."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.main import app
from quotas.domain.admission import Admitted, Request
from quotas.domain.policy import Policy
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.services import admission, people
from quotas.services.admission import Ended as RunEnded
from quotas.store import migrate
from tests.centre import Centre
from tests.cli.conftest import Ended

Invoke = Callable[..., Ended]


def commands(group: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command and group of commands."""
    for each in group.registered_commands:
        yield (*before, each.name)
    for each in group.registered_groups:
        yield (*before, each.name)
        yield from commands(each.typer_instance, (*before, each.name))


EVERY = sorted(commands(app))


def run_of(centre: Centre, seconds: int = 100) -> str:
    """Return the id of a run of the member that ran for `seconds` and was charged 50 GFLOPS for each."""
    request = Request(new_run_id(), RunKind.NOTEBOOK, centre.member, centre.project, "cpu-small", door="test")
    decision = admission.reserve(centre.database, request, centre.now, Policy())
    assert isinstance(decision, Admitted)
    ended = RunEnded(centre.now, centre.now + seconds, Outcome.STOPPED, 0)
    admission.settle(centre.database, request.run_id, ended, centre.now + seconds)
    return request.run_id


@pytest.mark.parametrize("words", [(), *EVERY], ids=" ".join)
def test_help_says_what_a_command_does_and_gives_an_example(invoke: Invoke, words: tuple[str, ...]) -> None:
    shown = invoke(*words, "--help")
    assert shown.code == 0
    assert f"Usage: {' '.join(('mudeung', *words))}" in shown.output
    has_commands = "COMMAND" in shown.output
    assert has_commands or "Example: mudeung " in shown.output


def test_every_promised_command_is_there() -> None:
    promised = """up, demo, status, migrate,
        projects list, projects show, projects apply, projects approve, projects reject,
        projects end, projects members add, projects members remove, projects members list, projects profiles offer,
        projects profiles withdraw, people list, people add, people password, profiles list, profiles show,
        profiles add, explain, ledger, schedules list, schedules add, schedules pause, schedules resume,
        schedules run, runs list, runs show, refund, check, settings"""
    assert {tuple(each.split()) for each in promised.split(",")} <= set(EVERY)


def test_version(invoke: Invoke) -> None:
    assert invoke("--version").output.startswith("mudeung 0.")


def test_home_and_language_may_stand_before_or_after_the_command(invoke: Invoke, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert invoke("--home", other, "--lang", "ko", "migrate").output.startswith("적용")
    assert invoke("migrate", "--home", other, "--lang", "ko").output == f"원장 버전은 이미 {migrate.head()}입니다.\n"
    assert invoke("--home", tmp_path / "never", "people", "list", "--home", other).code == 0


def test_the_environment_names_the_home_unless_the_command_does(
    invoke: Invoke, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUDEUNG_HOME", str(tmp_path / "never"))
    assert str(tmp_path / "never") in invoke("people", "list").errors
    assert invoke("people", "list", "--home", home).code == 0


def test_a_command_that_looks_makes_no_folder(invoke: Invoke, tmp_path: Path) -> None:
    ended = invoke("projects", "list")
    assert (ended.code, list(tmp_path.iterdir())) == (1, [])
    assert "home: there is no folder" in ended.errors


@pytest.mark.usefixtures("home")
def test_a_home_without_a_ledger_is_told_from_an_empty_one(invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("projects", "list").output == "(none)\n"
    (tmp_path / "bare").mkdir()
    assert "mudeung migrate" in invoke("projects", "list", "--home", tmp_path / "bare").errors


def test_a_project_from_its_application_to_its_end(invoke: Invoke, centre: Centre) -> None:
    asked = ["--by", centre.pi, "--organisation", centre.organisation, "--title-ko", "언어", "--title-en", "Language"]
    dates = ["--award", "0.08PF", "--starts", "2026-01-01", "--ends", "2099-01-01"]
    assert invoke("projects", "apply", "language", *asked, *dates).code == 0
    assert invoke("projects", "show", "language", "-o", "json").json["phase"] == "applied"
    decided = invoke(
        "projects", "approve", "language", "--award", "0.05PF", "--precision", "fp32", "--starts", "2026-01-01",
        "--ends", "2027-01-01", "--burst", "4", "--profiles", "cpu-small,h100-1g", "--consent", "--reason", "good",
    )  # fmt: skip
    assert decided.code == 0, decided.errors
    shown = invoke("projects", "show", "language", "-o", "json").json
    assert shown["award_gflops"] == "50000"
    assert shown["ceiling_gflops"] == "200000"
    assert shown["granted_gflops_seconds"] == str(50_000 * 365 * 86_400)
    assert shown["starts_at"] == "2025-12-31T15:00:00Z"
    assert shown["profiles"] == ["cpu-small", "h100-1g"]
    assert shown["decision_reason"] == "good"
    assert shown["decided_by"].startswith("cli:")
    assert invoke("projects", "end", "language").code == 0
    ended = invoke("projects", "show", "language", "-o", "json").json
    assert (ended["phase"], ended["available_gflops_seconds"]) == ("grace", "0")
    assert ended["expired_gflops_seconds"] == shown["granted_gflops_seconds"]


def test_an_application_is_approved_as_it_stands_or_rejected(invoke: Invoke, centre: Centre) -> None:
    for code in ("first", "second"):
        invoke(
            "projects", "apply", code, "--by", centre.pi, "--organisation", centre.organisation, "--title-ko", "가",
            "--title-en", "A", "--award", "1TF", "--starts", "2026-01-01", "--ends", "2099-01-01",
        )  # fmt: skip
    assert invoke("projects", "approve", "first", "--consent").code == 0
    assert invoke("projects", "show", "first", "-o", "json").json["award_gflops"] == "1000"
    assert invoke("projects", "reject", "second", "--reason", "no plan").code == 0
    rejected = invoke("projects", "show", "second", "-o", "json").json
    assert (rejected["state"], rejected["decision_reason"]) == ("rejected", "no plan")
    listed = {row["code"]: row["phase"] for row in invoke("projects", "list", "-o", "json").json}
    assert listed == {"first": "active", "second": "rejected", centre.project: "active"}


def test_members_and_profiles_of_a_project(invoke: Invoke, centre: Centre) -> None:
    code = centre.project
    assert invoke("projects", "members", "add", code, centre.outsider, "--role", "learner").code == 0
    listed = invoke("projects", "members", "list", code, "-o", "json").json
    assert [row["role"] for row in listed if row["username"] == centre.outsider] == ["learner"]
    assert invoke("projects", "members", "remove", code, centre.outsider).code == 0
    assert "no member" in invoke("projects", "members", "remove", code, centre.outsider).errors
    assert invoke("projects", "profiles", "withdraw", code, "h100").code == 0
    assert "h100" not in invoke("projects", "show", code, "-o", "json").json["profiles"]
    assert invoke("projects", "profiles", "offer", code, "h100").code == 0
    assert "h100" in invoke("projects", "show", code).output


def test_people_organisations_and_passwords(invoke: Invoke, centre: Centre) -> None:
    names = ["--name-ko", "전남대학교", "--name-en", "Chonnam National University"]
    assert invoke("people", "add-organisation", "jnu", *names).code == 0
    assert invoke("people", "add", "minji", "--name", "김민지", "--organisation", "jnu", "--role", "reviewer").code == 0
    row = next(each for each in invoke("people", "list", "-o", "json").json if each["username"] == "minji")
    assert (row["display_name"], row["organisation"], row["roles"]) == ("김민지", "jnu", ["reviewer"])
    made = invoke("people", "password", "minji", "--generate").output.split()[-1]
    assert people.password_matches(centre.database, "minji", made)
    assert invoke("people", "password", "minji", given="무등산 입석대 서석대\n").code == 0
    assert people.password_matches(centre.database, "minji", "무등산 입석대 서석대")


def test_a_person_is_removed_and_restored(invoke: Invoke, centre: Centre) -> None:
    assert invoke("people", "add", "minji", "--name", "김민지", "--role", "operator").code == 0
    assert invoke("people", "remove", "minji", given="n\n").code != 0
    assert people.person(centre.database, "minji") is not None
    assert invoke("people", "remove", "minji", "--yes").code == 0
    assert "minji" not in {each["username"] for each in invoke("people", "list", "-o", "json").json}
    gone = invoke("people", "list", "--removed", "-o", "json").json
    assert [(each["username"], each["display_name"]) for each in gone] == [("minji", "김민지")]
    assert gone[0]["removed_at"]
    assert invoke("people", "restore", "minji").code == 0
    rows = {each["username"]: each["roles"] for each in invoke("people", "list", "-o", "json").json}
    assert rows["minji"] == []
    assert "had no account" in invoke("people", "unlink", "minji").output


@pytest.mark.usefixtures("centre")
def test_profiles(invoke: Invoke) -> None:
    sizes = ["--cores", "0.5", "--memory-gib", "2", "--storage-gib", "10"]
    named = ["--name-ko", "절반", "--name-en", "Half", "--image", "science", "--terms", '{"docker": {"shm_bytes": 1}}']
    assert invoke("profiles", "add", "half", *named, *sizes).code == 0
    shown = invoke("profiles", "show", "half", "-o", "json").json
    assert (shown["cpu_cores"], shown["rate_gflops"], shown["backend_terms"]) == (
        0.5,
        None,
        {"docker": {"shm_bytes": 1}},
    )
    rates = {row["code"]: row["rate_gflops"] for row in invoke("profiles", "list", "-o", "json").json}
    assert rates == {"cpu-small": "50", "h100-1g": "8109", "h100": "66900", "half": None}


def test_explain_gives_the_decision_each_rule_and_the_numbers(invoke: Invoke, centre: Centre) -> None:
    admitted = invoke("explain", centre.member, centre.project, "cpu-small", "-o", "json").json
    assert admitted["admitted"] is True
    assert admitted["hold_gflops_seconds"] == str(50 * 1920)
    assert all(rule["passes"] for rule in admitted["rules"])
    assert admitted["numbers"]["rate_gflops"] == "50"
    refused = invoke("explain", centre.outsider, centre.project, "h100")
    assert refused.code == 0
    assert "not_a_member" in refused.output
    assert refused.output.count("✗") == 1
    batch = invoke("explain", centre.member, centre.project, "h100", "--batch", "3600", "-o", "json").json
    assert batch["hold_gflops_seconds"] == str(66_900 * 3720)


def test_ledger_as_table_json_and_csv(invoke: Invoke, centre: Centre) -> None:
    run = run_of(centre)
    rows = invoke("ledger", "--project", centre.project, "-o", "json").json
    by_kind = {row["kind"]: row["amount_gflops_seconds"] for row in rows}
    granted = str(centre.gflops * (centre.ends_at - centre.starts_at))
    assert by_kind == {"grant": granted, "hold": "96000", "charge": "5000", "release": "91000"}
    assert {row["run"] for row in rows} == {None, run}
    assert rows[0]["at"].endswith("Z")
    lines = list(csv.DictReader(io.StringIO(invoke("ledger", "-o", "csv").output)))
    assert [line["amount_gflops_seconds"] for line in lines] == [row["amount_gflops_seconds"] for row in rows]
    assert "KST" in invoke("ledger").output
    [balance] = invoke("ledger", "--balances", "-o", "json").json
    assert balance["spent_gflops_seconds"] == "5000"
    assert int(balance["available_gflops_seconds"]) == int(balance["granted_gflops_seconds"]) - 5000


def test_a_refund_gives_back_once_by_key_and_never_more_than_was_paid(invoke: Invoke, centre: Centre) -> None:
    run = run_of(centre)
    for _ in range(2):
        assert invoke("refund", run, "3000", "--reason", "=fault", "--key", "ticket-1").code == 0
    assert invoke("ledger", "--balances", "-o", "json").json[0]["spent_gflops_seconds"] == "2000"
    too_much = invoke("refund", run, "2001", "--reason", "fault")
    assert (too_much.code, "amount: must be at most 2000" in too_much.errors) == (1, True)
    assert "'=fault" in invoke("ledger", "-o", "csv").output


def test_schedules_are_added_paused_resumed_and_fired(invoke: Invoke, centre: Centre) -> None:
    added = invoke(
        "schedules", "add", centre.project, "train.ipynb", "--person", centre.member, "--profile", "cpu-small",
        "--cron", "30 2 * * *", "--param", "epochs=5", "--param", "name=digits",
    )  # fmt: skip
    assert added.code == 0, added.errors
    [row] = invoke("schedules", "list", "--project", centre.project, "-o", "json").json
    assert row["parameters"] == {"epochs": 5, "name": "digits"}
    assert row["next_at"].endswith("T17:30:00Z")
    assert invoke("schedules", "pause", row["id"], "--reason", "moving data").code == 0
    assert "moving data" in invoke("schedules", "list").output
    assert invoke("schedules", "resume", row["id"]).code == 0
    fired = invoke("schedules", "run", row["id"])
    run = fired.output.split()[1]
    shown = invoke("runs", "show", run, "-o", "json").json
    assert (shown["execution"], shown["notebook"], shown["parameters"]) == ("claimed", "train.ipynb", row["parameters"])


def test_runs_are_listed_and_shown_with_their_charge(invoke: Invoke, centre: Centre) -> None:
    run = run_of(centre)
    [row] = invoke("runs", "list", "--project", centre.project, "-o", "json").json
    assert (row["id"], row["outcome"], row["charge_gflops_seconds"]) == (run, "stopped", "5000")
    shown = invoke("runs", "show", run, "-o", "json").json
    assert (shown["seconds"], shown["rate_gflops"], shown["overrun_gflops_seconds"]) == (100, "50", "0")
    assert "1 min" in invoke("runs", "show", run).output


def test_check_passes_and_finds_what_was_tampered_with(invoke: Invoke, centre: Centre) -> None:
    run_of(centre)
    passed = invoke("check")
    assert (passed.code, passed.output) == (0, "Every invariant holds.\n")
    with centre.database.engine.connect() as connection:
        connection.exec_driver_sql("UPDATE accounts SET balance = balance + 1 WHERE kind = 'spent'")
        connection.commit()
    failed = invoke("check")
    assert failed.code == 1
    assert "balance" in failed.output
    assert json.loads(invoke("check", "-o", "json").output)[0]["invariant"]


def test_settings_are_listed_with_unit_default_and_meaning(invoke: Invoke, home: Path) -> None:
    (home / "mudeung.toml").write_text("hold_seconds = 3600\n")
    rows = {row["name"]: row for row in invoke("settings", "-o", "json").json}
    assert rows["hold_seconds"] | {"sentence": ""} == {
        "name": "hold_seconds", "value": "3600", "default": "1800", "unit": "s", "sentence": "",
    }  # fmt: skip
    assert all(row["sentence"] for row in rows.values())


@pytest.mark.usefixtures("centre")
def test_status_of_a_platform_that_does_not_run(invoke: Invoke) -> None:
    shown = invoke("status", "-o", "json")
    assert shown.code == 1
    status = shown.json
    assert (status["running"], status["url"], status["programs"], status["servers"]) == ("no", None, [], 0)
    assert status["projects"] == {"active": 1}
    assert status["awarded_gflops"] == "200000"
    assert {(pool["device"], pool["healthy"]) for pool in status["pools"]} == {("h100", 4), ("h100-mig-1g.10gb", 7)}
    assert "active 1" in invoke("status").output
