"""`mudeung awards`, `renewals`, `outcomes` and the end of a project's files, from the command line."""

from __future__ import annotations

import tarfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from quotas.domain.people import PlatformRole
from quotas.domain.units import CALENDAR, DAY_SECONDS
from quotas.services import people
from tests.centre import Centre
from tests.cli.conftest import Ended
from tests.cli.test_bad_input import rows

Invoke = Callable[..., Ended]
REASON = ("--reason", "well founded")


@pytest.fixture
def judged(centre: Centre) -> Centre:
    """The centre with a reviewer, `judge`."""
    roles = frozenset({PlatformRole.REVIEWER})
    by = {"actor": "operator", "now": centre.now}
    people.add_person(centre.database, "judge", "Judge", organisation=None, platform_roles=roles, **by)
    return centre


def day(centre: Centre, days: int) -> str:
    """Return the calendar day so many days from now, as it is typed."""
    return datetime.fromtimestamp(centre.now + days * DAY_SECONDS, CALENDAR).strftime("%Y-%m-%d")


def succeed(ended: Ended) -> Ended:
    assert ended.code == 0, ended.errors
    return ended


def applied(invoke: Invoke, code: str, *words: str) -> None:
    succeed(
        invoke(
            "projects", "apply", code, "--by", "pi", "--organisation", "lab", "--title-ko", code, "--title-en", code,
            "--award", "1TF", "--starts", "2026-01-01", "--ends", "2099-01-01",
        )
    )  # fmt: skip
    succeed(invoke("projects", "approve", code, "--consent", *words))


def test_a_supplement_is_requested_and_approved(invoke: Invoke, judged: Centre) -> None:
    asked = succeed(invoke("awards", "supplement", "vision", "--rate", "10TF", *REASON, "--by", "pi"))
    assert "requested" in asked.output
    (row,) = invoke("awards", "changes", "--state", "requested", "-o", "json").json
    assert (row["kind"], row["what"], row["requested_by"]) == ("supplement", "+10 TF", "pi")
    succeed(invoke("awards", "approve", row["id"], "--by", "judge", *REASON))
    shown = invoke("awards", "change", row["id"], "-o", "json").json
    assert (shown["state"], shown["gflops"], shown["decided_by"]) == ("applied", "10000", "judge")
    (award,) = invoke("awards", "show", "vision", "-o", "json").json
    assert award["award_gflops"] == "210000"
    assert invoke("projects", "show", "vision", "-o", "json").json["award_gflops"] == "210000"
    assert int(award["granted_gflops_seconds"]) == judged.gflops * 30 * DAY_SECONDS + int(
        shown["amount_gflops_seconds"]
    )


def test_an_operator_changes_at_once(invoke: Invoke, judged: Centre) -> None:
    applied(invoke, "sound")
    succeed(invoke("awards", "extend", "vision", "--until", day(judged, 60), *REASON))
    succeed(invoke("awards", "reduce", "vision", "--budget", "1TFh", *REASON))
    succeed(invoke("awards", "move", "vision", "sound", "--budget", "2TFh", *REASON))
    rows = invoke("awards", "changes", "--project", "vision", "-o", "json").json
    assert [(row["kind"], row["state"]) for row in rows] == [
        ("extension", "applied"),
        ("reduction", "applied"),
        ("move", "applied"),
    ]
    assert rows[1]["what"] == "-1.000 TF·h"
    assert "→ sound" in rows[2]["what"]
    journal = invoke("ledger", "--project", "sound", "-o", "json").json
    assert [row["kind"] for row in journal] == ["grant", "move_in"]
    succeed(invoke("check"))


@pytest.mark.usefixtures("judged")
def test_a_rejection_and_a_withdrawal(invoke: Invoke) -> None:
    for number, words in ((1, ("reject", 1, "--by", "judge", *REASON)), (2, ("withdraw", 2, "--by", "pi"))):
        succeed(invoke("awards", "supplement", "vision", "--budget", "1TFh", *REASON, "--by", "pi"))
        succeed(invoke("awards", *words))
        state = invoke("awards", "change", number, "-o", "json").json["state"]
        assert state == {1: "rejected", 2: "withdrawn"}[number]


@pytest.mark.usefixtures("judged")
def test_a_tranche_is_released_by_a_verified_report(invoke: Invoke, tmp_path: Path) -> None:
    applied(invoke, "sound", "--tranches", "40%,60%")
    shown = invoke("projects", "show", "sound", "-o", "json").json
    whole = int(shown["granted_gflops_seconds"]) + int(shown["pending_gflops_seconds"])
    assert int(shown["granted_gflops_seconds"]) == whole * 4 // 10
    (report,) = invoke("outcomes", "list", "--project", "sound", "-o", "json").json
    assert (report["state"], report["tranche"], report["overdue"]) == ("due", 2, False)
    (tmp_path / "report.txt").write_text("훈련을 마쳤습니다.\nTwo models.\n")
    number = report["id"]
    succeed(
        invoke(
            "outcomes", "draft", number, "--by", "pi", "--from", "2026-01-01", "--to", "2026-06-01",
            "--file", tmp_path / "report.txt",
        )
    )  # fmt: skip
    succeed(invoke("outcomes", "submit", number, "--by", "pi"))
    succeed(invoke("outcomes", "return", number, "--by", "judge", "--reason", "which data?"))
    succeed(invoke("outcomes", "submit", number, "--by", "pi"))
    succeed(invoke("outcomes", "verify", number, "--by", "judge"))
    assert invoke("outcomes", "show", number, "-o", "json").json["summary"] == "훈련을 마쳤습니다.\nTwo models."
    after = invoke("projects", "show", "sound", "-o", "json").json
    assert (int(after["granted_gflops_seconds"]), after["pending_gflops_seconds"]) == (whole, "0")
    (award,) = invoke("awards", "show", "sound", "-o", "json").json
    assert award["tranches"][0]["state"] == "released"
    assert "released" in invoke("awards", "show", "sound").output


def test_a_required_report_is_listed(invoke: Invoke, judged: Centre) -> None:
    succeed(invoke("outcomes", "require", "vision", "--due", day(judged, 5)))
    assert "vision" in invoke("outcomes", "list").output
    assert invoke("outcomes", "list", "--overdue").output == "(none)\n"


def test_a_renewal_from_its_draft_to_the_new_award(invoke: Invoke, judged: Centre) -> None:
    words = ("--by", "pi", "--award", "50TF", "--until", day(judged, 90), "--reason", "the second study")
    succeed(invoke("renewals", "file", "vision", *words))
    succeed(invoke("renewals", "edit", 1, *words[:2], "--award", "60TF", *words[4:]))
    succeed(invoke("renewals", "submit", 1, "--by", "pi"))
    succeed(invoke("renewals", "review", 1, "--by", "judge"))
    (row,) = invoke("renewals", "list", "--state", "in_review", "-o", "json").json
    assert (row["gflops"], row["filed_by"]) == ("60000", "pi")
    succeed(invoke("renewals", "approve", 1, "--by", "judge", *REASON, "--tranches", "50%,50%", "--burst", "2"))
    shown = invoke("renewals", "show", 1, "-o", "json").json
    assert (shown["state"], shown["new_award"]) == ("approved", 2)
    old, new = invoke("awards", "show", "vision", "-o", "json").json
    assert (old["state"], new["state"]) == ("active", "scheduled")
    assert (new["starts_at"], new["ceiling_gflops"]) == (old["ends_at"], "120000")
    assert new["tranches"][0]["state"] == "pending"


def test_a_renewal_is_withdrawn_or_rejected(invoke: Invoke, judged: Centre) -> None:
    words = ("--by", "pi", "--award", "50TF", "--until", day(judged, 90), "--reason", "a")
    succeed(invoke("renewals", "file", "vision", *words))
    succeed(invoke("renewals", "withdraw", 1, "--by", "pi"))
    succeed(invoke("renewals", "file", "vision", *words))
    succeed(invoke("renewals", "submit", 2, "--by", "pi"))
    succeed(invoke("renewals", "review", 2, "--by", "judge"))
    succeed(invoke("renewals", "reject", 2, "--by", "judge", "--reason", "no results"))
    states = [row["state"] for row in invoke("renewals", "list", "--project", "vision", "-o", "json").json]
    assert states == ["withdrawn", "rejected"]


@pytest.mark.usefixtures("centre")
def test_an_award_is_suspended_resumed_and_revoked(invoke: Invoke) -> None:
    succeed(invoke("awards", "suspend", "vision", "--reason", "a leak is looked into"))
    shown = invoke("projects", "show", "vision", "-o", "json").json
    assert (shown["phase"], shown["standing_reason"]) == ("suspended", "a leak is looked into")
    succeed(invoke("awards", "resume", "vision", *REASON))
    refused = invoke("awards", "revoke", "vision", *REASON, given="yes\n")
    assert refused.code == 1
    assert "Error: confirm: a revocation is final" in refused.errors
    succeed(invoke("awards", "revoke", "vision", *REASON, given="vision\n"))
    shown = invoke("projects", "show", "vision", "-o", "json").json
    assert (shown["phase"], shown["available_gflops_seconds"]) == ("revoked", "0")
    assert shown["storage_until"] is not None


class TestFiles:
    """`projects kept`, `files` and `close`."""

    @pytest.fixture
    def folder(self, centre: Centre, tmp_path: Path) -> Path:
        assert centre.project == "vision"
        return tmp_path / "home" / "projects" / "vision"

    def test_a_project_is_closed_after_its_grace_only(self, invoke: Invoke, folder: Path) -> None:
        running = invoke("projects", "close", "vision", "--force", "--confirm", "vision", "--remove")
        assert running.errors.startswith("Error: project: vision is active")
        succeed(invoke("projects", "end", "vision"))
        (row,) = invoke("projects", "kept", "-o", "json").json
        assert (row["project"], row["may_be_closed"]) == ("vision", "no")
        early = invoke("projects", "close", "vision", "--remove")
        assert early.code == 1
        assert "are kept until" in early.errors
        dry = succeed(invoke("projects", "close", "vision", "--force"))
        assert "vision has 2 files" in dry.output
        assert "Nothing was done" in dry.output
        assert folder.exists()
        assert (
            "cannot be brought back" in invoke("projects", "close", "vision", "--force", "--remove", given="y\n").errors
        )
        done = succeed(invoke("projects", "close", "vision", "--force", "--remove", given="vision\n"))
        assert "vision is closed; 2 files" in done.output
        assert not folder.exists()
        assert invoke("projects", "kept", "-o", "json").json == []
        assert invoke("projects", "show", "vision", "-o", "json").json["phase"] == "closed"

    def test_where_no_grace_is_set_files_go_at_once(self, invoke: Invoke, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "home" / "mudeung.toml").write_text("storage_grace_days = 0\n")
        applied(invoke, "sound")
        sound = folder.with_name("sound")
        sound.mkdir()
        (sound / "a.txt").write_text("a")
        succeed(invoke("projects", "end", "sound"))
        time.sleep(1.1)
        succeed(invoke("projects", "close", "sound", "--remove"))
        assert not sound.exists()
        assert folder.exists()

    def test_an_operator_fetches_what_members_left(self, invoke: Invoke, folder: Path, tmp_path: Path) -> None:
        out = tmp_path / "vision.tar.gz"
        said = succeed(invoke("projects", "files", "vision", "-o", out))
        assert "2 files, 1 left out" in said.output
        with tarfile.open(out) as archive:
            assert sorted(archive.getnames()) == [
                "vision",
                "vision.left-out.txt",
                "vision/broken.ipynb",
                "vision/train.ipynb",
            ]
        assert out.stat().st_mode & 0o077 == 0
        again = invoke("projects", "files", "vision", "-o", out)
        assert again.errors.startswith("Error: output: ")
        assert not list(tmp_path.glob(".*.part"))
        assert folder.exists()

    @pytest.mark.parametrize("where", ["no/such/folder.tar.gz", "/proc/vision.tar.gz"])
    def test_an_archive_that_cannot_be_written_leaves_nothing(self, invoke: Invoke, folder: Path, where: str) -> None:
        ended = invoke("projects", "files", "vision", "-o", where)
        assert ended.errors.startswith("Error: output: cannot be written")
        assert folder.exists()


CHANGE = ("--by", "pi", *REASON)
RENEWAL = ("--award", "1TF", "--until", "2090-01-01", "--reason", "more", "--by")
DRAFT = ("outcomes", "draft", "1", "--by", "pi")


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (("awards", "show", "none"), "project"),
        (("awards", "supplement", "none", "--rate", "1TF", *REASON), "project"),
        (("awards", "supplement", "vision", "--rate", "1TF", *REASON, "--by", "member"), "project"),
        (("awards", "supplement", "vision", *CHANGE), "rate"),
        (("awards", "supplement", "vision", "--rate", "-1TF", *CHANGE), "rate"),
        (("awards", "supplement", "vision", "--rate", "0TF", *CHANGE), "rate"),
        (("awards", "supplement", "vision", "--rate", "9PF", *REASON), "award"),
        (("awards", "supplement", "vision", "--budget", "-5", *CHANGE), "budget"),
        (("awards", "supplement", "vision", "--budget", "a lot", *CHANGE), "budget"),
        (("awards", "supplement", "vision", "--budget", "99999999999999999999", *CHANGE), "budget"),
        (("awards", "supplement", "vision", "--rate", "1TF", "--by", "pi", "--reason", " "), "reason"),
        (("awards", "extend", "vision", "--until", "2020-01-01", *CHANGE), "until"),
        (("awards", "extend", "vision", "--until", "soon", *CHANGE), "until"),
        (("awards", "extend", "vision", "--until", "9999-01-01", *CHANGE), "until"),
        (("awards", "reduce", "vision", "--rate", "200TF", *CHANGE), "rate"),
        (("awards", "reduce", "vision", "--budget", "900000PFh", *CHANGE), "budget"),
        (("awards", "move", "vision", "vision", "--budget", "1TFh", *REASON), "to"),
        (("awards", "move", "vision", "none", "--budget", "1TFh", *CHANGE), "to"),
        (("awards", "approve", "99", "--by", "judge", *REASON), "change"),
        (("awards", "approve", "1", "--by", "pi", *REASON), "by"),
        (("awards", "reject", "1", "--by", "nobody", *REASON), "by"),
        (("awards", "withdraw", "1", "--by", "member"), "project"),
        (("awards", "change", "99"), "change"),
        (("awards", "changes", "--project", "none"), "project"),
        (("awards", "suspend", "none", *REASON), "project"),
        (("awards", "suspend", "vision", "--reason", ""), "reason"),
        (("awards", "resume", "vision", *REASON), "project"),
        (("awards", "revoke", "vision", *REASON, "--confirm", "visio"), "confirm"),
        (("renewals", "file", "vision", *RENEWAL, "outsider"), "project"),
        (("renewals", "file", "none", *RENEWAL, "pi"), "project"),
        (("renewals", "file", "vision", *RENEWAL[:3], "2020-01-01", *RENEWAL[4:], "pi"), "until"),
        (("renewals", "file", "vision", "--award", "much", *RENEWAL[2:], "pi"), "award"),
        (("renewals", "submit", "99", "--by", "pi"), "renewal"),
        (("renewals", "show", "99"), "renewal"),
        (("renewals", "list", "--project", "none"), "project"),
        (("projects", "approve", "waiting", "--tranches", "50%,60%"), "tranches"),
        (("projects", "approve", "waiting", "--tranches", "150%"), "tranches"),
        (("projects", "approve", "waiting", "--tranches", "half"), "tranches"),
        (("projects", "approve", "waiting", "--tranches", "-50%,150%"), "tranches"),
        (("projects", "approve", "waiting", "--tranches", "0.00001%,99.99999%"), "tranches"),
        ((*DRAFT, "--from", "TOMORROW", "--to", "LATER", "--summary", "a"), "from"),
        ((*DRAFT, "--from", "TODAY", "--to", "LATER", "--summary", "a"), "to"),
        ((*DRAFT, "--from", "2020-01-01", "--to", "TOMORROW", "--summary", "a"), "from"),
        ((*DRAFT, "--from", "TOMORROW", "--to", "TOMORROW"), "summary"),
        ((*DRAFT, "--from", "TOMORROW", "--to", "TOMORROW", "--summary", "a", "--file", "b"), "summary"),
        ((*DRAFT, "--from", "TOMORROW", "--to", "TOMORROW", "--file", "none.txt"), "file"),
        ((*DRAFT, "--from", "x", "--to", "TOMORROW", "--summary", "a"), "from"),
        (("outcomes", "draft", "99", *DRAFT[3:], "--from", "TOMORROW", "--to", "TOMORROW", "--summary", "a"), "report"),
        (("outcomes", "submit", "1", "--by", "pi"), "report"),
        (("outcomes", "verify", "1", "--by", "judge"), "report"),
        (("outcomes", "verify", "1", "--by", "pi"), "by"),
        (("outcomes", "return", "1", "--by", "judge", "--reason", ""), "reason"),
        (("outcomes", "require", "vision", "--due", "2020-01-01"), "due"),
        (("outcomes", "show", "99"), "report"),
        (("outcomes", "list", "--project", "none"), "project"),
        (("projects", "close", "none"), "project"),
        (("projects", "close", "../../etc"), "project"),
        (("projects", "files", "none", "-o", "x.tar.gz"), "project"),
        (("projects", "files", "..", "-o", "x.tar.gz"), "project"),
        (("projects", "files", "waiting", "-o", "x.tar.gz"), "project"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else value,
)
def test_what_cannot_be_taken_is_named_and_changes_nothing(
    invoke: Invoke, judged: Centre, words: tuple[str, ...], field: str
) -> None:
    succeed(invoke("awards", "supplement", "vision", "--budget", "1TFh", *CHANGE))
    succeed(invoke("outcomes", "require", "vision", "--due", day(judged, 5)))
    succeed(
        invoke(
            "projects", "apply", "waiting", "--by", "pi", "--organisation", "lab", "--title-ko", "w", "--title-en",
            "w", "--award", "1TF", "--starts", "2026-01-01", "--ends", "2099-01-01",
        )
    )  # fmt: skip
    days = {"TODAY": day(judged, 0), "TOMORROW": day(judged, 1), "LATER": day(judged, 2)}
    before = rows(judged)
    ended = invoke(*[days.get(word, word) for word in words])
    assert ended.code == 1, ended
    assert ended.errors.startswith(f"Error: {field}: "), ended.errors
    assert "Traceback" not in ended.errors
    assert rows(judged) == before
    korean = invoke(*[days.get(word, word) for word in words], "--lang", "ko")
    assert korean.errors.startswith(f"오류: {field}: ")
    assert any("가" <= each <= "힣" for each in korean.errors.removeprefix(f"오류: {field}: "))
