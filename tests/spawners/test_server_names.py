"""A server's name is a project's code: nothing else becomes a server, a folder or a path."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyterhub.slugs import is_valid_safe_slug

from quotas.domain.projects import project_code
from quotas.services import check
from tests.platform import CPU, Platform

NAMES = (
    "..",
    "../robots",
    "../../etc",
    "vision/../robots",
    "vision/",
    "/vision",
    "vision\\..",
    "vision\0",
    "vision\n",
    " vision",
    "VISION",
    "v" * 31,
    "v" * 10_000,
    "비전",
    "{run}",
    "vision;rm -rf",
    "-vision",
    "vision--2",
    "ｖision",
)


@given(st.from_regex(r"[a-z](?:-?[a-z0-9]){0,29}", fullmatch=True).filter(lambda name: len(name) <= 30))
def test_every_project_code_is_a_name_that_the_hub_takes(name: str) -> None:
    assert project_code(name) == name
    assert is_valid_safe_slug(name)


def below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name)[:20])
def test_no_other_name_starts_or_makes_anything(platform: Platform, name: str) -> None:
    home = platform.home
    before = below(home.projects), below(home.runs), len(platform.runs())
    outside = sorted(path.name for path in home.path.parent.iterdir())
    for escaped in (quote(name, safe=""), quote(quote(name, safe=""), safe="")):
        answer = platform.api("ada", "POST", f"/users/ada/servers/{escaped}", json={"profile": CPU})
        assert 400 <= answer.status_code < 500, answer.text
    page = platform.browser("ada").post(
        f"/hub/spawn/ada/{quote(name, safe='')}",
        data={"profile": CPU, "_xsrf": platform.browser("ada").cookies.get("_xsrf", path="/hub/")},
    )
    assert 400 <= page.status_code < 500, page.text
    assert (below(home.projects), below(home.runs), len(platform.runs())) == before
    assert sorted(path.name for path in home.path.parent.iterdir()) == outside
    assert platform.processes["hub"].poll() is None
    assert check.findings(platform.database, int(time.time())) == []
