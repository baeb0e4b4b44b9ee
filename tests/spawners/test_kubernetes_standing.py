"""The last look at the ledger before a pod is made: what changed while the start waited for its turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from quotas.domain.admission import Admitted
from quotas.domain.launch import Launch
from quotas.domain.people import MembershipRole
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import Outcome, RunKind
from quotas.services import admission, awards, profiles, projects
from quotas.services.admission import Ended
from spawners.kubernetes import standing
from tests.centre import Centre, start


@pytest.fixture
def held(seeded: Centre) -> Launch:
    admitted = start(seeded)
    assert isinstance(admitted, Admitted)
    profile = profiles.profile(seeded.database, "cpu-small")
    assert profile is not None
    return Launch(admitted.run_id, RunKind.NOTEBOOK, seeded.member, seeded.project, profile, (), "/x")


def test_who_may_begin_is_told_the_role(seeded: Centre, held: Launch) -> None:
    assert standing(seeded.database, held, seeded.now) is MembershipRole.MEMBER
    by = {"actor": "operator", "now": seeded.now}
    projects.add_member(seeded.database, seeded.project, seeded.member, MembershipRole.LEARNER, **by)
    assert standing(seeded.database, held, seeded.now) is MembershipRole.LEARNER


def leave(seeded: Centre, _held: Launch) -> None:
    projects.remove_member(seeded.database, seeded.project, seeded.member, actor="operator", now=seeded.now)


def suspend(seeded: Centre, _held: Launch) -> None:
    awards.suspend(seeded.database, seeded.project, reason="a check", actor="operator", now=seeded.now)


def end(seeded: Centre, _held: Launch) -> None:
    projects.end(seeded.database, seeded.project, actor="operator", now=seeded.now)


def settle(seeded: Centre, held: Launch) -> None:
    admission.settle(seeded.database, held.run_id, Ended(None, None, Outcome.STRAY), seeded.now)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (leave, Code.NOT_A_MEMBER),
        (suspend, Code.AWARD_SUSPENDED),
        (end, Code.PROJECT_ENDED),
        (settle, Code.RUN_ENDED),
    ],
)
def test_who_may_no_longer_is_refused(
    seeded: Centre, held: Launch, change: Callable[[Centre, Launch], None], code: Code
) -> None:
    change(seeded, held)
    found = standing(seeded.database, held, seeded.now + 1)
    assert isinstance(found, Refused)
    assert found.code is code
    assert found.sentence("ko")
    assert found.sentence("en")


def test_another_s_run_is_nobody_s(seeded: Centre, held: Launch) -> None:
    for forged in (replace(held, person=seeded.pi), replace(held, project="robots"), replace(held, run_id="none")):
        found = standing(seeded.database, forged, seeded.now)
        assert isinstance(found, Refused)
        assert found.code is Code.RUN_ENDED
