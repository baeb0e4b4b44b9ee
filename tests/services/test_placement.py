"""Which machines of a cluster take a pool's runs is the pool's to say, from the next start on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select

from quotas.domain.admission import Admitted
from quotas.domain.launch import Launch
from quotas.domain.profiles import Profile
from quotas.domain.runs import RunKind
from quotas.domain.units import InvalidValue
from quotas.services import placement
from quotas.store.tables import audit_events
from tests.services.centre import DAY, START, Centre

NOW = START + DAY
TERMS = {"kubernetes": {"node_selector": {"hall": "own"}}}
LAUNCH = Launch("", RunKind.NOTEBOOK, "kim", "vision", Profile("gpu", "GPU", "GPU", "image", 1000, 1, 1), (), "/srv")


def admitted(centre: Centre) -> Admitted:
    centre.award("vision", 10**15)
    centre.phase(2, START + 1)
    return centre.admitted(NOW)


def test_a_run_is_launched_with_the_terms_of_the_pool_that_it_holds_devices_of(centre: Centre) -> None:
    hold = admitted(centre)
    assert placement.held(centre.database, LAUNCH, hold) == replace(LAUNCH, simulated=hold.simulated)
    placement.set_terms(centre.database, "main", TERMS, actor="operator", now=NOW)
    assert placement.terms_of(centre.database, "main") == TERMS
    assert placement.held(centre.database, LAUNCH, hold).pool_terms == TERMS
    assert placement.held(centre.database, LAUNCH, replace(hold, pool_id=None)).pool_terms == {}
    with centre.database.read() as transaction:
        said = transaction.rows(select(audit_events).where(audit_events.c.action == "pool terms set"))
    assert len(said) == 1


def test_what_cannot_be_changes_nothing(centre: Centre) -> None:
    for pool, terms in (("main", {"docker": {}}), ("nowhere", TERMS)):
        with pytest.raises(InvalidValue):
            placement.set_terms(centre.database, pool, terms, actor="operator", now=NOW)
    with pytest.raises(InvalidValue):
        placement.terms_of(centre.database, "nowhere")
    assert placement.terms_of(centre.database, "main") == {}
