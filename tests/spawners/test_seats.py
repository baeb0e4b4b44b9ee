"""A class at the hub: its window opens by the loop, learners start on their seats, the others are released."""

from __future__ import annotations

import time

from quotas.domain.policy import Policy
from quotas.domain.priorities import Priority
from quotas.domain.reservations import Asked, WindowState
from quotas.services import check, notices, reservations
from quotas.services.reservation_views import WindowView, claims, show
from quotas.services.reservations import Approval
from quotas.store import runs as runs_store
from tests.platform import GPU, Platform, wait_for

POLICY = Policy(seats_release=12)


def test_a_class_from_its_opening_to_the_release_of_unclaimed_seats(platform: Platform) -> None:
    platform.start_reconciler()
    database, now = platform.database, int(time.time())
    lecture = Asked(
        "vision", GPU, 3, "Asia/Seoul", now + 2, 900, title_ko="실습", title_en="Lab", roster=("ben", "cho")
    )
    made, _ = reservations.request(database, lecture, by="ada", now=now, policy=POLICY)
    reservations.approve(database, made.number, Approval(), actor="ola", now=now, policy=POLICY)

    def window() -> WindowView:
        return show(database, made.number).windows[0]

    wait_for("the loop opens the window", lambda: window().state is WindowState.OPEN, seconds=30)
    told = {name: [each.kind for each in notices.of_person(database, name)] for name in ("ada", "ben", "cho")}
    assert [name for name, kinds in told.items() if "seats_open" in kinds] == ["ben", "cho"]
    assert [name for name, kinds in told.items() if "seats_decided" in kinds] == ["ada"]
    for person in ("cho", "ben"):
        assert platform.start_server(person, "vision", GPU).status_code in {201, 202}
        platform.wait_ready(person, "vision")
    assert (window().taken, window().claimed) == (2, 2)
    wait_for("the loop releases what nobody claimed", lambda: window().state is WindowState.RELEASED, seconds=40)
    assert (window().kept, window().released) == (0, 1)
    platform.stop_server("cho", "vision")
    platform.wait_stopped("cho", "vision")
    wait_for("the seat is the roster's", lambda: window().kept == 1, seconds=30)
    assert platform.start_server("cho", "vision", GPU).status_code in {201, 202}
    platform.wait_ready("cho", "vision")
    seen = claims(database, made.number)
    assert [each.username for each in seen] == ["cho", "ben", "cho"]
    with database.read() as transaction:
        row = runs_store.one(transaction, seen[-1].run_id)
    assert row is not None
    assert (row.priority, row.until_at) == (Priority.RESERVED.value, now + 2 + 900)
    assert check.findings(database, int(time.time())) == []
    reservations.cancel(database, made.number, reason="", actor="ada", now=int(time.time()))
    for person in ("cho", "ben"):
        platform.stop_server(person, "vision")
        platform.wait_stopped(person, "vision")
    assert check.findings(database, int(time.time())) == []
