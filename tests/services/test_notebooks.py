"""Who may schedule and see a project's notebooks, what is listed, and what a refusal leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quotas.domain.people import MembershipRole, PlatformRole
from quotas.domain.refusals import Code
from quotas.domain.schedules import Timing
from quotas.domain.units import InvalidValue
from quotas.services import notebooks, people, projects, schedules
from quotas.services.schedules import NewSchedule
from tests import centre as small
from tests.centre import NOW, Centre

NOTEBOOK = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {},
    "cells": [{"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": "seed: int = 7\nname: str = 'a'"}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.ipynb").write_text(json.dumps(NOTEBOOK))
    return tmp_path


@pytest.fixture
def seeded_people(seeded: Centre) -> Centre:
    by = {"actor": "operator", "now": NOW}
    people.add_person(seeded.database, "learner", "Learner", organisation="lab", **by)
    projects.add_member(seeded.database, "vision", "learner", MembershipRole.LEARNER, **by)
    roles = frozenset({PlatformRole.AUDITOR})
    people.add_person(seeded.database, "auditor", "Auditor", organisation=None, platform_roles=roles, **by)
    roles = frozenset({PlatformRole.REVIEWER})
    people.add_person(seeded.database, "reviewer", "Reviewer", organisation=None, platform_roles=roles, **by)
    return seeded


@pytest.mark.parametrize(
    ("person", "project", "schedule", "see"),
    [
        ("pi", "vision", None, None),
        ("member", "vision", None, None),
        ("learner", "vision", Code.ROLE_MAY_NOT, Code.ROLE_MAY_NOT),
        ("outsider", "vision", Code.NOT_A_MEMBER, Code.NOT_A_MEMBER),
        ("nobody", "vision", Code.NOT_A_MEMBER, Code.NOT_A_MEMBER),
        ("member", "none", Code.NOT_A_MEMBER, Code.NOT_A_MEMBER),
        ("operator", "vision", Code.NOT_A_MEMBER, None),
        ("auditor", "vision", Code.NOT_A_MEMBER, None),
        ("auditor", "none", Code.NOT_A_MEMBER, Code.NOT_A_MEMBER),
        ("reviewer", "vision", Code.NOT_A_MEMBER, Code.NOT_A_MEMBER),
    ],
)
def test_who_may(seeded_people: Centre, person: str, project: str, schedule: Code | None, see: Code | None) -> None:
    database = seeded_people.database
    refusals = (notebooks.may_schedule(database, person, project), notebooks.may_see(database, person, project))
    assert tuple(refused and refused.code for refused in refusals) == (schedule, see)


def new(**changes: object) -> NewSchedule:
    values = {"project": "vision", "person": "member", "profile": "cpu-small", "notebook": "train.ipynb"}
    return NewSchedule(**({"timing": Timing("Asia/Seoul", cron="30 2 * * *")} | values | changes))  # type: ignore[arg-type]


def test_parameters_are_read_by_their_type_or_taken_as_they_are(seeded: Centre, folder: Path) -> None:
    texts = {"seed": "41", "name": "41"}
    made = notebooks.schedule(seeded.database, folder, new(title=" 야간 학습 "), texts, now=NOW)
    assert (made.parameters, made.title) == ({"seed": 41, "name": "41"}, "야간 학습")
    given = notebooks.schedule(seeded.database, folder, new(parameters={"seed": 3}), now=NOW)
    assert given.parameters == {"seed": 3}
    assert notebooks.one(seeded.database, "vision", given.id) == given
    with pytest.raises(InvalidValue, match="has no schedule"):
        notebooks.one(seeded.database, "other", given.id)


@pytest.mark.parametrize(
    ("changes", "texts", "field"),
    [
        ({"notebook": "../train.ipynb"}, None, "notebook"),
        ({"notebook": "none.ipynb"}, None, "notebook"),
        ({"parameters": {"seed": "41"}}, None, "seed"),
        ({"parameters": {"sead": 41}}, None, "sead"),
        ({}, {"seed": "forty"}, "seed"),
        ({"title": "a\u202eb"}, None, "title"),
        ({"timing": Timing("Asia/Seoul", cron="0 0 31 2 *")}, None, "cron"),
        ({"timing": Timing("Asia/Seoul", cron="0," * 100 + "0 * * * *")}, None, "cron"),
        ({"person": "outsider"}, None, "project"),
    ],
)
def test_a_refusal_names_the_field_and_leaves_an_event(
    seeded: Centre, folder: Path, changes: dict[str, object], texts: dict[str, str] | None, field: str
) -> None:
    with pytest.raises(InvalidValue) as refused:
        notebooks.schedule(seeded.database, folder, new(**changes), texts, now=NOW)
    assert refused.value.field == field
    assert schedules.list_schedules(seeded.database) == []
    assert small.events(seeded, "vision")[-1] == "schedule refused"


def test_notebooks_are_listed_without_what_runs_leave(tmp_path: Path) -> None:
    for path in ("b.ipynb", "a/x.ipynb", "a/runs/y.ipynb", "runs/z.ipynb", ".hidden/h.ipynb", ".h.ipynb", "a/n.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("{}")
    (tmp_path / "link").symlink_to(tmp_path)
    deep = tmp_path.joinpath(*"abcdefg")
    deep.mkdir(parents=True)
    (deep / "deep.ipynb").write_text("{}")
    assert notebooks.listed(tmp_path) == ["b.ipynb", "a/x.ipynb", "a/runs/y.ipynb"]
    (tmp_path / "many").mkdir()
    for number in range(notebooks.LISTED + 10):
        (tmp_path / "many" / f"{number}.ipynb").write_text("{}")
    assert len(notebooks.listed(tmp_path)) == notebooks.LISTED
    assert notebooks.listed(tmp_path / "none") == []
