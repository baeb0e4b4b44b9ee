"""A project's files as an archive: for its members and no one else, also after its end, and nothing beside them."""

from __future__ import annotations

import io
import os
import tarfile
import time

import httpx
import pytest

from portal import files
from quotas.services import projects, storage
from quotas.store import audit
from tests.platform import add_project
from tests.portal.conftest import Portal

PAGE = "projects/{}/files.tar.gz"


def names(answer: httpx.Response) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(answer.content), mode="r:gz") as archive:
        return sorted(archive.getnames())


@pytest.mark.parametrize("person", ["ada", "ben", "cho"])
def test_every_member_may_fetch_them(portal: Portal, person: str) -> None:
    for answer in (portal.open(person, PAGE.format("vision")), portal.call(person, "GET", "projects/vision/files")):
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/gzip"
        assert answer.headers["content-disposition"] == 'attachment; filename="vision.tar.gz"'
        assert answer.headers["cache-control"] == "no-store"
        assert "vision/train.ipynb" in names(answer)


@pytest.mark.parametrize("project", ["vision", "nothing", "..", "%2e%2e", "vision%2f..%2frobots", "x" * 81])
def test_nobody_else_may_and_finds_out_nothing(portal: Portal, project: str) -> None:
    page = portal.open("dan", PAGE.format(project))
    assert page.status_code in {400, 403, 404}
    answer = portal.call("dan", "GET", f"projects/{project}/files")
    assert answer.status_code == page.status_code
    if project in {"vision", "nothing"}:
        assert answer.json()["error"]["code"] == "not_a_member"
        assert answer.json()["error"]["message_en"] == f"dan is not a member of {project}."


def test_whoever_is_not_logged_in_is_sent_to_log_in(portal: Portal) -> None:
    url = f"{portal.platform.url}/services/portal/{PAGE.format('vision')}"
    assert httpx.get(url, timeout=30).status_code == 303
    api = f"{portal.platform.url}/services/portal/api/projects/vision/files"
    assert httpx.get(api, timeout=30).status_code == 401


def test_what_links_lead_to_is_not_in_it(portal: Portal) -> None:
    folder = portal.platform.home.project_folder("vision")
    (folder / "secret").symlink_to(portal.platform.home.path / "ledger.sqlite")
    (folder / "up").symlink_to("../robots")
    try:
        answer = portal.open("ben", PAGE.format("vision"))
    finally:
        (folder / "secret").unlink()
        (folder / "up").unlink()
    found = names(answer)
    assert "vision/secret" not in found
    assert "vision/up" not in found
    with tarfile.open(fileobj=io.BytesIO(answer.content), mode="r:gz") as archive:
        note = archive.extractfile("vision.left-out.txt")
        assert note is not None
        assert note.read() == b"secret\nup\n"


def test_they_can_be_fetched_after_the_end_until_they_are_removed(portal: Portal) -> None:
    database, home = portal.platform.database, portal.platform.home
    now = int(time.time())
    add_project(database, "shortly", now, gflops=500, profiles=("cpu-small",))
    (home.project_folder("shortly") / "result.csv").write_text("a,b\n")
    projects.end(database, "shortly", actor="tests", now=now)
    page = portal.open("ada", "projects/shortly")
    assert "Its files are kept until 20" in page.text
    assert "/services/portal/projects/shortly/files.tar.gz" in page.text
    assert names(portal.open("ada", PAGE.format("shortly"))) == ["shortly", "shortly/result.csv"]
    folder = home.projects / "shortly"
    storage.close(database, folder, "shortly", actor="tests", now=now, force=True, confirm="shortly")
    gone = portal.call("ada", "GET", "projects/shortly/files")
    assert (gone.status_code, gone.json()["error"]["field"]) == (404, "project")
    assert portal.open("ada", PAGE.format("shortly")).status_code == 404
    assert "files.tar.gz" not in portal.open("ada", "projects/shortly").text
    assert not folder.exists()


def test_a_learner_finds_them_on_the_start_page(portal: Portal) -> None:
    page = portal.open("cho")
    assert "projects/vision/files.tar.gz" in page.text
    assert 'href="/services/portal/projects/vision"' not in page.text


def test_each_fetch_leaves_an_event(portal: Portal) -> None:
    portal.call("ben", "GET", "projects/vision/files")
    with portal.platform.database.read() as transaction:
        event = next(row for row in audit.latest(transaction) if row.action == "files fetched")
    assert (event.actor, event.subject) == ("ben", "vision")


def test_only_a_few_are_made_at_the_same_time(portal: Portal) -> None:
    """Whoever comes while others are being fetched is told so, and gets theirs once one of those has gone."""
    large = portal.platform.home.project_folder("vision") / "large.bin"
    large.write_bytes(os.urandom(2**20) * 64)  # the packer looks back 32 KiB: nothing of it gets smaller
    browser = portal.platform.browser("ada")
    url = f"/services/portal/{PAGE.format('vision')}"
    try:
        held = [browser.stream("GET", url) for _ in range(files.MOST_AT_ONCE)]
        answers = [each.__enter__() for each in held]
        taken = [answer.status_code for answer in answers]
        refused = portal.call("ben", "GET", "projects/vision/files")
        for each in held:
            each.__exit__(None, None, None)
        assert taken == [200] * files.MOST_AT_ONCE
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "busy")
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if portal.call("ben", "GET", "projects/vision/files").status_code == 200:
                return
            time.sleep(0.5)
        pytest.fail("no place was given back")
    finally:
        large.unlink()
