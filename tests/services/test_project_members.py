"""Members and profiles of a project, and how all projects are read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from quotas.domain.admission import Admitted
from quotas.domain.people import MembershipRole
from quotas.domain.refusals import Code, Refused
from quotas.domain.units import InvalidValue
from quotas.services import projects
from quotas.store.database import Transaction
from tests.centre import Centre, applied, approve, award, events, shown, start


class TestMembers:
    """A project always has a PI."""

    def test_a_new_member_may_start_and_a_removed_one_may_not(self, seeded: Centre) -> None:
        by = {"actor": seeded.pi, "now": seeded.now}
        refused = start(seeded, person=seeded.outsider)
        assert isinstance(refused, Refused)
        assert refused.code is Code.NOT_A_MEMBER
        projects.add_member(seeded.database, seeded.project, seeded.outsider, MembershipRole.MEMBER, **by)
        assert isinstance(start(seeded, person=seeded.outsider), Admitted)
        projects.remove_member(seeded.database, seeded.project, seeded.member, **by)
        assert isinstance(start(seeded, person=seeded.member), Refused)
        assert [name for name, *_ in shown(seeded).members] == ["pi", "outsider"]
        changes = [event for event in events(seeded, seeded.project) if event.startswith("member")]
        assert changes == ["member added", "member added", "member removed"]

    def test_a_role_is_changed_by_adding_it(self, seeded: Centre) -> None:
        add = {"actor": seeded.pi, "now": seeded.now}
        projects.add_member(seeded.database, seeded.project, seeded.member, MembershipRole.LEARNER, **add)
        assert ("member", "Member", MembershipRole.LEARNER) in shown(seeded).members
        with pytest.raises(InvalidValue, match="is learner of vision already"):
            projects.add_member(seeded.database, seeded.project, seeded.member, MembershipRole.LEARNER, **add)

    def test_the_last_pi_neither_leaves_nor_changes(self, seeded: Centre) -> None:
        by = {"actor": seeded.operator, "now": seeded.now}
        with pytest.raises(InvalidValue, match="last PI"):
            projects.remove_member(seeded.database, seeded.project, seeded.pi, **by)
        with pytest.raises(InvalidValue, match="last PI"):
            projects.add_member(seeded.database, seeded.project, seeded.pi, MembershipRole.MEMBER, **by)
        projects.add_member(seeded.database, seeded.project, seeded.member, MembershipRole.PI, **by)
        projects.remove_member(seeded.database, seeded.project, seeded.pi, **by)
        with pytest.raises(InvalidValue, match="last PI"):
            projects.remove_member(seeded.database, seeded.project, seeded.member, **by)
        assert shown(seeded).members == (("member", "Member", MembershipRole.PI),)

    @pytest.mark.parametrize(
        ("code", "username", "field"), [("nothing", "outsider", "project"), ("vision", "nobody", "username")]
    )
    def test_nobody_and_nothing_are_refused(self, seeded: Centre, code: str, username: str, field: str) -> None:
        by = {"actor": seeded.operator, "now": seeded.now}
        with pytest.raises(InvalidValue) as refused:
            projects.add_member(seeded.database, code, username, MembershipRole.MEMBER, **by)
        assert refused.value.field == field
        with pytest.raises(InvalidValue) as refused:
            projects.remove_member(seeded.database, code, username, **by)
        assert refused.value.field == field

    def test_someone_who_is_no_member_cannot_be_removed(self, seeded: Centre) -> None:
        with pytest.raises(InvalidValue, match="is no member of vision"):
            projects.remove_member(
                seeded.database, seeded.project, seeded.outsider, actor=seeded.operator, now=seeded.now
            )

    @pytest.mark.parametrize("closing", ["end", "reject"])
    def test_nobody_joins_a_closed_project_and_anyone_may_leave_it(self, seeded: Centre, closing: str) -> None:
        by = {"actor": seeded.operator, "now": seeded.now}
        applied(seeded, "drone")
        projects.add_member(seeded.database, "drone", seeded.member, MembershipRole.MEMBER, **by)
        if closing == "end":
            approve(seeded, "drone")
            projects.end(seeded.database, "drone", **by)
        else:
            projects.reject(seeded.database, "drone", reason="no", **by)
        with pytest.raises(InvalidValue, match="nothing of it changes"):
            projects.add_member(seeded.database, "drone", seeded.outsider, MembershipRole.MEMBER, **by)
        projects.remove_member(seeded.database, "drone", seeded.member, **by)
        assert [name for name, *_ in shown(seeded, "drone").members] == ["pi"]


class TestProfiles:
    """A project uses the profiles that are offered to it."""

    def test_one_is_withdrawn_and_offered_again(self, seeded: Centre) -> None:
        by = {"actor": seeded.operator, "now": seeded.now}
        projects.withdraw_profile(seeded.database, seeded.project, "cpu-small", **by)
        assert shown(seeded).profiles == ("h100-1g", "h100")
        refused = start(seeded)
        assert isinstance(refused, Refused)
        assert refused.code is Code.PROFILE_NOT_OFFERED
        projects.offer_profile(seeded.database, seeded.project, "cpu-small", **by)
        assert shown(seeded).profiles == ("cpu-small", "h100-1g", "h100")
        assert isinstance(start(seeded), Admitted)

    @pytest.mark.parametrize(
        ("change", "code", "profile", "field"),
        [
            (projects.offer_profile, "vision", "h900", "profile"),
            (projects.offer_profile, "vision", "h100", "profile"),
            (projects.offer_profile, "nothing", "h100", "project"),
            (projects.withdraw_profile, "vision", "h900", "profile"),
            (projects.withdraw_profile, "drone", "h100", "profile"),
            (projects.withdraw_profile, "nothing", "h100", "project"),
        ],
    )
    def test_what_cannot_be_is_refused(
        self, seeded: Centre, change: Callable[..., None], code: str, profile: str, field: str
    ) -> None:
        applied(seeded, "drone")
        with pytest.raises(InvalidValue) as refused:
            change(seeded.database, code, profile, actor=seeded.operator, now=seeded.now)
        assert refused.value.field == field


class TestReading:
    """The list shows each project as it is shown alone, in a fixed number of statements."""

    def test_the_list_agrees_with_each_project(self, seeded: Centre) -> None:
        for number in range(5):
            applied(seeded, f"drone-{number}")
        approve(seeded, "drone-1", award(seeded, gflops=10))
        projects.end(seeded.database, "drone-1", actor="operator", now=seeded.now)
        assert isinstance(start(seeded), Admitted)
        views = projects.list_projects(seeded.database, seeded.now)
        assert [view.code for view in views] == [*(f"drone-{number}" for number in range(5)), "vision"]
        assert views == [shown(seeded, view.code) for view in views]
        assert projects.show(seeded.database, "nothing", seeded.now) is None

    def test_the_list_takes_as_many_statements_for_many_as_for_one(
        self, seeded: Centre, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        statements: list[object] = []
        run = Transaction.run

        def counted(transaction: Transaction, statement: object, /, **parameters: object) -> int:
            statements.append(statement)
            return run(transaction, statement, **parameters)  # type: ignore[arg-type]

        monkeypatch.setattr(Transaction, "run", counted)
        projects.list_projects(seeded.database, seeded.now)
        for_one = len(statements)
        for number in range(10):
            applied(seeded, f"drone-{number}")
        statements.clear()
        assert len(projects.list_projects(seeded.database, seeded.now)) == 11
        assert len(statements) == for_one
