"""Idle servers in the ledger: told once, ended in time, spared when they work; and the limits of profiles."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from quotas.domain.extension import Standing
from quotas.domain.idleness import Then
from quotas.domain.metering import BUCKET_SECONDS, Bucket, Hour, hour_of
from quotas.domain.runs import Limit, Outcome
from quotas.domain.units import DAY_SECONDS, InvalidValue
from quotas.services import admission, check, idleness, profiles
from quotas.store import audit, notices
from quotas.store import runs as runs_store
from quotas.store import sessions as activity_store
from quotas.store.database import Row
from quotas.store.tables import devices, meter_hours, nodes, pools, runs
from tests.centre import Centre as SmallCentre
from tests.services import loop
from tests.services.centre import GPU_GFLOPS, POLICY, START, Centre
from tests.services.loop import World

IDLE = 7200
TOLD_AT = START + IDLE - POLICY.idle_notice
STOP_AT = START + IDLE


class Watched:
    """A server on one GPU that the platform gave it, whose machine and whose kernels are told of."""

    def __init__(self, centre: Centre, profile: str = "gpu") -> None:
        self.centre, self.database = centre, centre.database
        profiles.set_limits(self.database, "gpu", IDLE, None, actor="operator", now=START)
        centre.award("vision", 10**12)
        with self.database.write() as transaction:
            transaction.run(update(pools).values(simulated=0))
            machine = {"name": "node-1", "pool_id": 1, "token_sha256": "0" * 64, "added_at": START, "added_by": "tests"}
            node = transaction.insert(nodes, machine)
            for position in (0, 1):
                found = {
                    "uuid": f"GPU-{position}",
                    "kind": "gpu",
                    "name": "H100",
                    "device_model": "h100",
                    "paths": "[]",
                }
                state = {"state": "available", "since": START, "found_at": START, "seen_at": START, "memory_bytes": 1}
                transaction.insert(devices, {**found, **state, "node_id": node, "position": position})
        self.run_id = centre.admitted(START, profile=profile).run_id
        admission.started(self.database, self.run_id, START)

    def read(self, at: int, busy_ppm: int | None = 0) -> None:
        """The machine's agent has read both devices."""
        with self.database.write() as transaction:
            transaction.run(update(devices).values(read_at=at, busy_ppm=busy_ppm))

    def say(self, at: int, busy_kernels: int = 0, active_at: int | None = None) -> None:
        """The server has said what its kernels do."""
        with self.database.write() as transaction:
            activity_store.note_activity(transaction, self.run_id, busy_kernels, active_at, at)

    def meter(self, at: int, busy_milliseconds: int) -> None:
        """The bucket of `at` was measured whole, and so much of it was busy."""
        hour = Hour()
        hour.add(at, Bucket(30, BUCKET_SECONDS * 1000, BUCKET_SECONDS * 1000, busy_milliseconds * 10**6))
        total = hour.total
        values = {"samples": 30, "seen_milliseconds": total.seen_milliseconds, "energy_millijoules": 0}
        more = {"measured_milliseconds": total.measured_milliseconds, "busy_milliseconds": total.busy_milliseconds}
        where = {"run_id": self.run_id, "hour_at": hour_of(at), "most_memory_bytes": 0, "buckets": hour.as_text()}
        with self.database.write() as transaction:
            transaction.run(insert(meter_hours).values(**values, **more, **where))

    def quiet(self, at: int) -> None:
        """All that can be known says that nothing works."""
        self.read(at)
        self.say(at)

    def look(self, at: int, seen_by_hub: int | None = None, person: str = "ada") -> Then:
        """Look at it while a page of it is open."""
        return idleness.look(self.database, person, "vision", at if seen_by_hub is None else seen_by_hub, at, POLICY)

    def row(self) -> Row:
        with self.database.read() as transaction:
            return runs_store.one(transaction, self.run_id)

    def told(self) -> list[Row]:
        with self.database.read() as transaction:
            return notices.of_person(transaction, "ada", 0)[::-1]

    def audited(self) -> list[tuple[str, dict[str, Any]]]:
        with self.database.read() as transaction:
            found = [row for row in audit.latest(transaction) if row.subject == self.run_id]
        return [(row.action, json.loads(row.detail)) for row in found][::-1]


@pytest.fixture
def server(centre: Centre) -> Iterator[Watched]:
    watched = Watched(centre)
    yield watched
    assert check.findings(watched.database, START + DAY_SECONDS) == []


def test_an_idle_server_is_told_once_and_stopped_at_the_time_that_was_told(server: Watched) -> None:
    server.quiet(TOLD_AT - 60)
    assert server.look(TOLD_AT - 60) is Then.KEEP
    assert server.row().idle_stop_at is None
    server.quiet(TOLD_AT)
    assert server.look(TOLD_AT) is Then.MARK
    assert server.row().idle_stop_at == STOP_AT
    for at in range(TOLD_AT + 60, STOP_AT, 60):
        server.quiet(at)
        assert server.look(at) is Then.KEEP
        admission.extend(server.database, server.run_id, at, POLICY)
    (notice,) = server.told()
    assert notice.kind == "run ending"
    assert notice.text_en == (
        "Your server on vision (gpu) has computed nothing since 2027-01-15 17:00 KST: neither its kernels and terminals"
        " nor its device (1 × h100) did anything. It will be stopped at 2027-01-15 19:00 KST. To keep it, run something"
        " in it, or extend it; an open page alone does not keep it. Save your work."
    )
    assert "2027-01-15 17:00 KST부터 연산이 없습니다(커널, 터미널, 장치(1 × h100) 모두)" in notice.text_ko
    assert "2027-01-15 19:00 KST에 중지됩니다. 계속 쓰려면" in notice.text_ko
    (ending,) = [detail for action, detail in server.audited() if action == "run ending"]
    assert ending == {"limit": "idle", "since": "2027-01-15 17:00 KST", "stop": "2027-01-15 19:00 KST"}
    assert server.look(STOP_AT) is Then.STOP
    extension = admission.extend(server.database, server.run_id, STOP_AT, POLICY)
    assert (extension.standing, extension.stop_at, extension.limit) == (Standing.ENDING, STOP_AT, Limit.IDLE)
    charge = server.centre.settle(server.run_id, START, STOP_AT + 1.5)
    assert (charge.seconds, charge.amount) == (IDLE + 2, (IDLE + 2) * GPU_GFLOPS)
    assert server.row().outcome == Outcome.IDLE.value
    assert server.look(STOP_AT + 60) is Then.KEEP
    assert len(server.told()) == 1


@pytest.mark.parametrize("outcome", [Outcome.STOPPED, Outcome.EXITED, Outcome.STRAY, Outcome.OUT_OF_MEMORY])
@pytest.mark.parametrize("after", [-1, 1])
def test_whoever_ends_it_after_its_end_it_was_idle(server: Watched, outcome: Outcome, after: int) -> None:
    server.quiet(TOLD_AT)
    assert server.look(TOLD_AT) is Then.MARK
    ended = admission.Ended(START, STOP_AT + after, outcome)
    admission.settle(server.database, server.run_id, ended, STOP_AT + 60)
    was_idle = after > 0 and outcome is not Outcome.OUT_OF_MEMORY
    assert server.row().outcome == (Outcome.IDLE if was_idle else outcome).value


def test_a_kernel_that_computes_keeps_it_though_its_device_sleeps_and_no_page_is_open(server: Watched) -> None:
    for at in range(START, START + 2 * DAY_SECONDS, 3600):
        server.read(at)
        server.say(at, busy_kernels=1)
        assert server.look(at, seen_by_hub=START) is Then.KEEP
    assert server.told() == []


def test_a_device_that_is_busy_keeps_it_though_nothing_else_is_known(server: Watched) -> None:
    at = START + 5 * IDLE
    server.say(at)
    server.read(at, busy_ppm=20_000)
    assert server.look(at, seen_by_hub=START) is Then.KEEP
    server.read(at, busy_ppm=10_000)
    assert server.look(at, seen_by_hub=START) is Then.MARK


def test_what_the_meters_saw_counts_where_the_newest_reading_missed_it(server: Watched) -> None:
    at = hour_of(START) + 10 * 3600 + 600
    server.meter(at - 3600, busy_milliseconds=100_000)
    server.quiet(at)
    assert server.look(at) is Then.KEEP
    since = at - 3600 + BUCKET_SECONDS
    at = since + IDLE - POLICY.idle_notice
    server.quiet(at)
    assert server.look(at) is Then.MARK
    assert server.row().idle_stop_at == since + IDLE


def test_what_the_device_did_for_an_earlier_run_does_not_count(server: Watched) -> None:
    server.read(START - 10, busy_ppm=900_000)
    server.say(TOLD_AT)
    assert server.look(TOLD_AT) is Then.MARK


def test_a_device_that_cannot_be_read_leaves_it_to_kernels_and_terminals(server: Watched) -> None:
    server.read(TOLD_AT, busy_ppm=None)
    server.say(TOLD_AT, active_at=START + 100)
    assert server.look(TOLD_AT) is Then.KEEP
    assert server.look(TOLD_AT + 100) is Then.MARK


def test_where_the_server_says_nothing_the_hub_s_word_counts(server: Watched) -> None:
    server.read(TOLD_AT)
    assert server.look(TOLD_AT, seen_by_hub=TOLD_AT - 60) is Then.KEEP
    assert server.look(TOLD_AT, seen_by_hub=START) is Then.MARK
    assert idleness.look(server.database, "ada", "vision", None, TOLD_AT, POLICY) is Then.CLEAR


def test_work_takes_the_end_back_and_a_later_one_is_told_anew(server: Watched) -> None:
    server.quiet(TOLD_AT)
    assert server.look(TOLD_AT) is Then.MARK
    server.say(TOLD_AT + 60, active_at=TOLD_AT + 50)
    assert server.look(TOLD_AT + 60) is Then.CLEAR
    assert server.row().idle_stop_at is None
    assert server.look(TOLD_AT + 120) is Then.KEEP
    later = TOLD_AT + 50 + IDLE - POLICY.idle_notice
    server.quiet(later)
    assert server.look(later) is Then.MARK
    assert server.row().idle_stop_at == TOLD_AT + 50 + IDLE
    assert [row.about for row in server.told()] == [
        f"{server.run_id}:idle:{at}" for at in (STOP_AT, TOLD_AT + 50 + IDLE)
    ]
    assert [action for action, _ in server.audited()][-3:] == ["run ending", "run not idle", "run ending"]


def spare(server: Watched, at: int) -> int:
    return idleness.spare_active(server.database, at, POLICY)["active_again"]


def test_the_loop_spares_at_once_who_works_again(server: Watched) -> None:
    server.quiet(TOLD_AT)
    server.look(TOLD_AT)
    assert spare(server, TOLD_AT + 20) == 0
    server.say(TOLD_AT + 30, busy_kernels=1)
    assert spare(server, TOLD_AT + 40) == 1
    assert server.row().idle_stop_at is None
    assert spare(server, TOLD_AT + 60) == 0


def test_the_loop_spares_whom_their_person_needs_or_whose_limit_is_gone(server: Watched) -> None:
    server.quiet(TOLD_AT)
    server.look(TOLD_AT)
    with server.database.write() as transaction:
        activity_store.keep(transaction, server.run_id, None, TOLD_AT + 30)
    assert server.row().idle_stop_at is None
    server.quiet(TOLD_AT + 60)
    assert server.look(TOLD_AT + 60) is Then.KEEP
    at = TOLD_AT + IDLE
    server.quiet(at)
    assert server.look(at) is Then.MARK
    profiles.set_limits(server.database, "gpu", None, None, actor="operator", now=at)
    assert spare(server, at) == 1
    assert server.look(at) is Then.KEEP


def test_the_loop_leaves_it_to_the_culler_where_only_the_hub_could_speak_for_it(server: Watched) -> None:
    assert server.look(TOLD_AT, seen_by_hub=START) is Then.MARK
    assert spare(server, STOP_AT) == 0
    assert server.look(STOP_AT, seen_by_hub=START) is Then.STOP
    assert server.look(STOP_AT, seen_by_hub=STOP_AT - 5) is Then.CLEAR


def test_who_is_stopped_for_another_reason_is_not_told_again(server: Watched) -> None:
    server.quiet(TOLD_AT)
    with server.database.write() as transaction:
        transaction.run(update(runs).where(runs.c.id == server.run_id).values(lost_stop_at=TOLD_AT + 300))
    assert server.look(TOLD_AT) is Then.KEEP
    assert server.told() == []


def test_a_server_that_is_being_prepared_is_not_idle(centre: Centre) -> None:
    watched = Watched(centre)
    other = centre.admitted(START, person="bob").run_id
    assert watched.look(START + DAY_SECONDS, person="bob", seen_by_hub=START) is Then.KEEP
    admission.started(centre.database, other, START)
    assert watched.look(START + DAY_SECONDS, person="bob", seen_by_hub=START) is Then.MARK


@pytest.mark.parametrize(("person", "project"), [("ada", "nothing"), ("nobody", "vision"), ("", "")])
def test_what_the_ledger_does_not_know_is_left_alone(server: Watched, person: str, project: str) -> None:
    assert idleness.look(server.database, person, project, START, START + DAY_SECONDS, POLICY) is Then.KEEP


def test_a_profile_without_a_limit_has_no_idle_servers(server: Watched) -> None:
    other = server.centre.admitted(START, person="bob", profile="cpu").run_id
    admission.started(server.database, other, START)
    assert server.look(START + DAY_SECONDS, person="bob", seen_by_hub=START) is Then.KEEP


def test_a_cpu_server_is_judged_by_its_kernels_alone(centre: Centre) -> None:
    profiles.set_limits(centre.database, "cpu", IDLE, None, actor="operator", now=START)
    watched = Watched(centre, profile="cpu")
    watched.say(TOLD_AT, active_at=START + 60)
    assert watched.look(TOLD_AT) is Then.KEEP
    assert watched.look(TOLD_AT + 60) is Then.MARK
    (notice,) = watched.told()
    assert "no kernel and no terminal did anything" in notice.text_en
    assert "커널, 터미널 모두" in notice.text_ko


def test_an_end_beyond_what_is_paid_for_is_reached(server: Watched) -> None:
    """A notice longer than the hold: the hold is extended as ever until the end comes near."""
    policy = replace(POLICY, idle_notice=3480)
    found = []
    for at in range(START + 60, STOP_AT, 60):
        server.quiet(at)
        found.append(idleness.look(server.database, "ada", "vision", at, at, policy))
        extension = admission.extend(server.database, server.run_id, at, policy)
        assert extension.until_at >= at + POLICY.stop_margin
        assert extension.stop_at in {None, STOP_AT}
    assert found.count(Then.MARK) == 1
    assert found.index(Then.MARK) == (IDLE - 3480) // 60 - 1
    assert (extension.stop_at, extension.limit) == (STOP_AT, Limit.IDLE)
    assert len(server.told()) == 1


def test_of_many_that_look_at_once_one_tells(server: Watched) -> None:
    server.quiet(TOLD_AT)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: server.look(TOLD_AT), range(16)))
    assert set(found) <= {Then.MARK, Then.KEEP}
    assert Then.MARK in found
    assert len(server.told()) == 1


# Beside real processes.


@pytest.fixture
def world(seeded: SmallCentre, tmp_path: Path) -> Iterator[World]:
    profiles.set_limits(seeded.database, "h100", 3000, None, actor="operator", now=seeded.now)
    yield from loop.in_a_folder(seeded, tmp_path)


def look(world: World, seen_by_hub: int) -> Then:
    return idleness.look(world.centre.database, "member", "vision", seen_by_hub, world.now, world.loop.policy)


def test_the_loop_ends_an_idle_server_and_keeps_one_that_works(world: World) -> None:
    run_id = world.hold("h100")
    world.start(run_id)
    began = world.now
    for _ in range(2400 // 300):
        assert "stopped" not in world.tick(300)
    assert look(world, began) is Then.MARK
    with world.centre.database.write() as transaction:
        activity_store.note_activity(transaction, run_id, 1, None, world.now)
    assert world.tick(600) == {"active_again": 1, "extended": 1}
    assert world.alive(run_id)
    with world.centre.database.write() as transaction:
        activity_store.note_activity(transaction, run_id, 0, world.now, world.now)
    active_at = world.now
    for _ in range(2400 // 300):
        world.tick(300)
    assert look(world, active_at) is Then.MARK
    assert world.tick(300) == {"ending": 1}
    assert world.tick(301) == {"stopped": 1}
    assert world.alive(run_id) == []
    row = world.row(run_id)
    assert (row.outcome, row.idle_stop_at) == ("idle", active_at + 3000)
    assert world.told("member") == ["run ending", "run ending"]


def test_the_loop_s_part_finds_nobody_where_nobody_is_idle(world: World) -> None:
    world.start(world.hold("h100"))
    assert idleness.spare_active(world.centre.database, world.now, POLICY) == {}


# Limits of profiles.


def limits(seeded: SmallCentre, code: str) -> tuple[int | None, int | None]:
    found = profiles.profile(seeded.database, code)
    assert found is not None
    return found.idle_seconds, found.session_seconds


def test_limits_are_set_and_audited(seeded: SmallCentre) -> None:
    profiles.set_limits(seeded.database, "h100", 7200, 43_200, actor="operator", now=seeded.now)
    assert limits(seeded, "h100") == (7200, 43_200)
    assert limits(seeded, "h100-1g") == (None, None)
    profiles.set_limits(seeded.database, "h100", None, 43_200, actor="operator", now=seeded.now)
    assert limits(seeded, "h100") == (None, 43_200)
    with seeded.database.read() as transaction:
        events = [row for row in audit.latest(transaction) if row.action == "profile limits set"]
    assert [(row.actor, row.subject, json.loads(row.detail)) for row in events[::-1]] == [
        ("operator", "h100", {"idle_seconds": 7200, "session_seconds": 43_200}),
        ("operator", "h100", {"idle_seconds": None, "session_seconds": 43_200}),
    ]


@pytest.mark.parametrize(
    ("code", "idle", "session", "field"),
    [
        ("nothing", 7200, None, "profile"),
        ("h100", 0, None, "idle_seconds"),
        ("h100", None, -1, "session_seconds"),
        ("h100", 367 * DAY_SECONDS, None, "idle_seconds"),
        ("h100", None, 2**63, "session_seconds"),
    ],
)
def test_what_is_no_limit_is_refused(
    seeded: SmallCentre, code: str, idle: int | None, session: int | None, field: str
) -> None:
    with pytest.raises(InvalidValue) as refused:
        profiles.set_limits(seeded.database, code, idle, session, actor="operator", now=seeded.now)
    assert refused.value.field == field
    assert limits(seeded, "h100") == (None, None)


def test_a_session_limit_holds_from_the_next_start(centre: Centre) -> None:
    watched = Watched(centre)
    profiles.set_limits(centre.database, "gpu", IDLE, 43_200, actor="operator", now=START)
    assert watched.row().session_ends_at is None
    centre.settle(watched.run_id, START, START + 60)
    again = centre.admitted(START + 100).run_id
    with centre.database.read() as transaction:
        found = transaction.one(select(runs.c.session_ends_at).where(runs.c.id == again))
    assert found.session_ends_at == START + 100 + 43_200
