"""The fleet page: every device in a word, who holds it and how busy it is; for operators, without scripts."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import update

from quotas.store.tables import devices, nodes
from tests.portal.conftest import BASE, Portal
from tests.portal.metered import OPERATOR, Metered, fill
from tests.portal.test_usage import text


@pytest.fixture(scope="module")
def metered(portal: Portal) -> Metered:
    found = fill(portal.platform.database)
    lost = found.machine.uuids[2]
    with portal.platform.database.write() as transaction:
        transaction.run(
            update(devices).where(devices.c.uuid == lost).values(state="lost", reason="driver error 79", busy_ppm=5)
        )
    return found


def cells(page: str) -> dict[str, tuple[str, str]]:
    """Return each device's state and the words of its cell."""
    found = re.findall(r'<li class="mu-device" data-state="(\w+)" data-uuid="([^"]+)">(.*?)</li>', page, flags=re.S)
    return {uuid: (state, re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", words)).strip()) for state, uuid, words in found}


def test_an_operator_sees_every_device(portal: Portal, metered: Metered) -> None:
    page = portal.open(OPERATOR, "fleet")
    assert page.status_code == 200
    first, second, third, fourth = metered.machine.uuids
    found = cells(page.text)
    assert {uuid: state for uuid, (state, _) in found.items()} == {
        first: "held",
        second: "cleaning",
        third: "lost",
        fourth: "available",
    }
    held = found[first][1]
    for words in ("in use", "ada · vision", "busy 10 %", "memory 12 %", "KST"):
        assert words in held
    # ben's device was last read an hour ago and more: that says nothing of now.
    assert "no utilisation is known" in found[second][1]
    assert "being scrubbed" in found[second][1]
    assert "lost" in found[third][1]
    assert "available" in found[fourth][1]
    shown = text(page)
    assert "in use: 1" in shown
    assert "Nobody waits for devices." in shown
    assert "reporting" in shown
    assert "A process that is not of the run which holds the device: 77, of run another-run" in shown
    assert "<script>" not in page.text


def test_it_looks_again_by_itself_until_told_to_stop(portal: Portal, metered: Metered) -> None:
    del metered
    page = portal.open(OPERATOR, "fleet")
    assert page.headers["refresh"] == "30"
    assert f'href="{BASE}fleet?refresh=off"' in page.text
    still = portal.open(OPERATOR, "fleet?refresh=off")
    assert "refresh" not in still.headers
    assert f'href="{BASE}fleet"' in still.text
    assert portal.open(OPERATOR, "fleet?refresh=1").status_code == 400


def test_a_machine_that_is_silent_is_named_so(portal: Portal, metered: Metered) -> None:
    with portal.platform.database.write() as transaction:
        transaction.run(update(nodes).values(reported_at=metered.now - 10_000, reports_missed=3))
    shown = text(portal.open(OPERATOR, "fleet"))
    assert "silent" in shown
    assert "Reports that never came: 3" in shown


@pytest.mark.parametrize("person", ["ada", "ben", "dan"])
def test_only_operators_see_it(portal: Portal, metered: Metered, person: str) -> None:
    answer = portal.open(person, "fleet")
    assert answer.status_code == 403
    assert metered.machine.uuids[0] not in answer.text
    assert f'href="{BASE}fleet"' not in portal.open(person).text


def test_operators_find_it_from_every_page(portal: Portal, metered: Metered) -> None:
    assert metered.machine.uuids
    assert f'href="{BASE}fleet"' in portal.open(OPERATOR).text
