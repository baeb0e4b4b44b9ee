"""The files of a project that is over: kept, fetched by its members, removed at last."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quotas.archives import Size
from quotas.domain.admission import Admitted
from quotas.domain.people import MembershipRole
from quotas.domain.projects import Phase, ProjectState
from quotas.domain.refusals import Refused
from quotas.domain.renewals import Wish
from quotas.domain.runs import Outcome
from quotas.domain.units import DAY_SECONDS
from quotas.services import admission, awards, projects, renewals, storage
from quotas.services.renewals import Given
from tests.centre import NOW, Centre, applied, award, events, shown, start
from tests.services.deciding import PROGRAMME, REVIEWER, all_is_well, approved, refused, with_reviewer

GRACE = 30 * DAY_SECONDS


@pytest.fixture
def centre(seeded: Centre) -> Centre:
    return with_reviewer(seeded)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "projects" / "vision"
    (path / "data").mkdir(parents=True)
    (path / "train.ipynb").write_text("{}")
    (path / "data" / "a.csv").write_text("a,b\n")
    return path


def close(centre: Centre, folder: Path, code: str = "vision", **changes: Any) -> storage.Closing:
    values = {"actor": "operator", "now": centre.ends_at + GRACE, **changes}
    return storage.close(centre.database, folder, code, **values)


def test_after_the_grace_the_folder_is_removed_and_the_project_closed(centre: Centre, folder: Path) -> None:
    late = centre.ends_at + GRACE
    plan = storage.preview(centre.database, folder, "vision", now=late)
    assert (plan.size, plan.is_done, plan.storage_until) == (Size(2, 6), False, late)
    assert folder.exists()
    assert shown(centre, now=late).phase is Phase.ENDED
    done = close(centre, folder)
    assert (done.size, done.is_done) == (Size(2, 6), True)
    assert not folder.exists()
    view = shown(centre, now=late)
    assert (view.phase, view.state, view.closed_at) == (Phase.CLOSED, ProjectState.ENDED, late)
    assert events(centre, "vision")[-1] == "project closed"
    assert isinstance(start(Centre(centre.database, now=late)), Refused)
    all_is_well(centre, late)


@pytest.mark.parametrize("after", [0, GRACE - 1])
def test_before_it_is_over_only_force_removes(centre: Centre, folder: Path, after: int) -> None:
    now = centre.ends_at + after
    with refused("project", "the files of vision are kept until 2027-03-15 17:00 KST; --force removes them before"):
        storage.preview(centre.database, folder, "vision", now=now)
    with refused("project", "--force"):
        close(centre, folder, now=now)
    for confirm in ("", "yes", "Vision"):
        with refused("confirm", "cannot be brought back"):
            close(centre, folder, now=now, force=True, confirm=confirm)
    assert (folder / "train.ipynb").exists()
    assert close(centre, folder, now=now, force=True, confirm="vision").is_done
    assert not folder.exists()


@pytest.mark.parametrize("force", [False, True])
def test_what_runs_or_may_run_is_never_closed(centre: Centre, folder: Path, force: bool) -> None:
    approved(centre, "later", award(centre, starts_at=NOW + 10))
    applied(centre, "robot")
    for code, phase in (("vision", "active"), ("later", "scheduled"), ("robot", "applied")):
        with refused("project", f"{code} is {phase}"):
            close(centre, folder, code, now=NOW, force=force, confirm=code)
    awards.suspend(centre.database, "vision", reason="a", actor="operator", now=NOW)
    with refused("project", "vision is suspended"):
        close(centre, folder, now=NOW, force=force, confirm="vision")
    with refused("project", "there is no 'nothing'"):
        close(centre, folder, "nothing", force=force, confirm="nothing")
    assert folder.exists()


def test_a_project_with_a_run_that_is_not_settled_waits(centre: Centre, folder: Path) -> None:
    run = start(centre)
    assert isinstance(run, Admitted)
    projects.end(centre.database, "vision", actor="operator", now=NOW)
    late = NOW + GRACE
    with refused("project", "still runs"):
        close(centre, folder, now=late)
    ended = admission.Ended(NOW, NOW + 10, Outcome.REVOKED)
    admission.settle(centre.database, run.run_id, ended, late)
    assert close(centre, folder, now=late).is_done


def test_a_renewal_that_waits_for_its_decision_keeps_the_files(centre: Centre, folder: Path) -> None:
    late = centre.ends_at + GRACE
    wish = Wish(1, "fp32", late + DAY_SECONDS)
    renewal = renewals.file(centre.database, "vision", wish, reason="a", actor="pi", now=late - 5).id
    renewals.submit(centre.database, renewal, actor="pi", now=late - 5)
    with refused("project", f"the renewal {renewal} of vision waits for a decision"):
        close(centre, folder, now=late)
    renewals.withdraw(centre.database, renewal, actor="pi", now=late)
    assert close(centre, folder, now=late).is_done


def test_a_renewed_project_is_not_closed(centre: Centre, folder: Path) -> None:
    wish = Wish(100_000, "fp32", centre.ends_at + 90 * DAY_SECONDS)
    renewal = renewals.file(centre.database, "vision", wish, reason="a", actor="pi", now=NOW).id
    renewals.submit(centre.database, renewal, actor="pi", now=NOW)
    renewals.review(centre.database, renewal, actor=REVIEWER, now=NOW)
    renewals.approve(centre.database, renewal, Given(), reason="a", programme=PROGRAMME, actor=REVIEWER, now=NOW)
    with refused("project", "vision is active"):
        close(centre, folder, force=True, confirm="vision")


def test_a_closed_project_is_not_renewed(centre: Centre, folder: Path) -> None:
    late = centre.ends_at + GRACE
    close(centre, folder)
    with refused("project", "vision is ended"):
        renewals.file(centre.database, "vision", Wish(1, "fp32", late + DAY_SECONDS), reason="a", actor="pi", now=late)


def test_what_broke_off_is_finished_by_the_next_call(
    centre: Centre, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> None:
        (path / "train.ipynb").unlink()
        raise OSError("the disk")

    monkeypatch.setattr("quotas.services.storage.shutil.rmtree", broken)
    with pytest.raises(OSError, match="the disk"):
        close(centre, folder)
    monkeypatch.undo()
    assert shown(centre, now=centre.ends_at + GRACE).phase is Phase.CLOSED
    assert close(centre, folder).size == Size(1, 4)
    assert not folder.exists()
    assert close(centre, folder).size == Size(0, 0)
    assert events(centre, "vision").count("project closed") == 2


def test_a_folder_that_is_a_link_is_left_alone(centre: Centre, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    folder.rename(other)
    folder.symlink_to(other)
    with refused("project", "is a link"):
        close(centre, folder)
    assert (other / "train.ipynb").exists()


def test_links_inside_are_removed_and_not_followed(centre: Centre, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "kept.txt").write_text("k")
    (folder / "link").symlink_to(tmp_path / "other")
    close(centre, folder)
    assert (tmp_path / "other" / "kept.txt").exists()


def end(centre: Centre) -> int:
    projects.end(centre.database, "vision", actor="operator", now=NOW)
    return NOW


def revoke(centre: Centre) -> int:
    awards.revoke(centre.database, "vision", reason="a", confirm="vision", actor="operator", now=NOW)
    return NOW


@pytest.mark.parametrize("way", [end, revoke, lambda centre: centre.ends_at], ids=["end", "revoke", "date"])
def test_those_that_are_over_are_listed_until_they_are_closed(
    centre: Centre, folder: Path, way: Callable[[Centre], int]
) -> None:
    assert storage.kept(centre.database, NOW) == []
    over_at = way(centre)
    (found,) = storage.kept(centre.database, over_at)
    assert (found.project, found.storage_until) == ("vision", over_at + GRACE)
    assert found.storage_until == shown(centre, now=over_at).storage_until
    assert len(storage.kept(centre.database, over_at + 2 * GRACE)) == 1
    close(centre, folder, now=over_at + GRACE)
    assert storage.kept(centre.database, over_at + GRACE) == []


def test_a_project_with_an_award_to_come_is_not_listed(centre: Centre) -> None:
    wish = Wish(100_000, "fp32", centre.ends_at + 5 * DAY_SECONDS)
    renewal = renewals.file(centre.database, "vision", wish, reason="a", actor="pi", now=NOW).id
    renewals.submit(centre.database, renewal, actor="pi", now=NOW)
    renewals.review(centre.database, renewal, actor=REVIEWER, now=NOW)
    renewals.approve(centre.database, renewal, Given(), reason="a", programme=PROGRAMME, actor=REVIEWER, now=NOW)
    assert storage.kept(centre.database, centre.ends_at) == []
    last = centre.ends_at + 5 * DAY_SECONDS
    assert [each.storage_until for each in storage.kept(centre.database, last)] == [last + GRACE]


@pytest.mark.parametrize(
    ("who", "may"),
    [("pi", True), ("member", True), ("learner", True), ("operator", True), ("outsider", False), (REVIEWER, False)],
)
def test_members_fetch_their_files_also_after_the_end(centre: Centre, who: str, may: bool) -> None:
    projects.add_member(centre.database, "vision", "boss", MembershipRole.LEARNER, actor="operator", now=NOW)
    projects.end(centre.database, "vision", actor="operator", now=NOW)
    person = "boss" if who == "learner" else who
    assert (storage.may_fetch(centre.database, person, "vision") is None) is may
    strangers = storage.may_fetch(centre.database, person, "nothing")
    assert strangers is not None
    assert strangers.code == "not_a_member"
