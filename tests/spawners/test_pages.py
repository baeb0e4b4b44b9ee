"""The hub's pages as a person without JavaScript uses them, on a real hub."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader, StrictUndefined
from jupyterhub._data import DATA_FILES_PATH
from sqlalchemy import update

from quotas.domain.admission import Request
from quotas.domain.people import LANGUAGES
from quotas.domain.policy import Policy
from quotas.domain.runs import RunKind, new_run_id
from quotas.domain.units import HOUR_SECONDS
from quotas.services import admission, people, projects
from quotas.settings import Settings
from quotas.store.database import Database
from quotas.store.tables import allocations, holds, runs
from spawners import pages
from spawners.language import TEMPLATES, translator
from spawners.progress import Moment, Phase
from tests import centre
from tests.platform import CPU, GPU, Platform, wait_for
from tests.spawners.visitor import Visitor

ANNOUNCED = re.compile(r"(?:src|href|action)=\"([^\"]*)\"")


@pytest.fixture
def ada(platform: Platform) -> Iterator[Visitor]:
    """The PI, who reads English."""
    with Visitor(platform.url) as visitor:
        visitor.log_in("ada")
        yield visitor


@pytest.fixture
def ben(platform: Platform) -> Iterator[Visitor]:
    """A member, who reads Korean."""
    with Visitor(platform.url) as visitor:
        visitor.log_in("ben")
        yield visitor


def wait_until_settled(platform: Platform, person: str, project: str) -> None:
    platform.wait_stopped(person, project)
    wait_for("the charge", lambda: all(run.charge is not None for run in platform.runs(project)))


def test_home_answers_first_in_the_persons_language(ada: Visitor, ben: Visitor) -> None:
    assert "<h1>You can start a server</h1>" in ada.text
    assert '<html lang="en">' in ada.text
    assert "<h1>서버를 시작할 수 있습니다</h1>" in ben.text
    assert '<html lang="ko">' in ben.text
    for text in (ada.text, ben.text):
        assert "<meter" in text
        assert " KST" in text


def test_someone_in_no_project_is_told_so_and_what_to_do(platform: Platform) -> None:
    with Visitor(platform.url) as dan:
        dan.log_in("dan")
        assert "<h1>You are in no project yet</h1>" in dan.text
        dan.visit("/hub/spawn/dan")
        assert "Ask the PI of your project to add you as a member" in dan.text
        assert [form for form in (dan.text.split("<form")) if "/hub/spawn/" in form.split(">")[0]] == []


def test_a_server_is_started_shown_opened_and_stopped_without_javascript(platform: Platform, ada: Visitor) -> None:
    ada.visit("/hub/spawn/ada")
    ada.send("/spawn/ada/vision", profile=GPU)
    platform.wait_ready("ada", "vision")
    ada.visit("/hub/home")
    assert "<h1>Your servers</h1>" in ada.text
    assert "Profile: gpu-h100 profile" in ada.text
    assert re.search(r"Time left: \d+ h", ada.text)
    assert "Limited by: the end of the award" in ada.text
    assert 'href="/user/ada/vision/"' in ada.text
    ada.visit("/hub/spawn/ada/robots")
    assert "is already open" in ada.text, "the other project's reason is folded, not hidden"
    ada.visit("/hub/home")
    ada.send("/stop/ada/vision")
    assert ada.path == "/hub/home"
    wait_until_settled(platform, "ada", "vision")
    ada.visit("/hub/home")
    assert "<h1>You can start a server</h1>" in ada.text


def test_a_refused_start_says_why_on_the_form_of_its_project(platform: Platform, ben: Visitor) -> None:
    ben.visit("/hub/spawn/ben/robots")
    answer = ben.send("/spawn/ben/robots", profile="gpu-h100")
    assert answer.status_code == 403
    assert 'data-refusal="profile_not_offered"' in ben.text
    assert "운영자에게 프로필 제공을 요청하세요." in ben.text
    assert ben.form("/spawn/ben/robots").fields["profile"] == CPU
    assert platform.runs("robots") == []


def test_nobody_stops_someone_elses_server(platform: Platform, ada: Visitor, ben: Visitor) -> None:
    platform.start_server("ada", "robots")
    platform.wait_ready("ada", "robots")
    token = ben.form("/hub/language").fields["_xsrf"]
    answer = ben.client.post("/hub/stop/ada/robots", data={"_xsrf": token})
    assert answer.status_code == 404, "as if there were none, as the hub does"
    assert ada.client.post("/hub/stop/ada/robots", data={}).status_code == 403, "a form needs its page's token"
    assert ada.client.get("/hub/stop/ada/robots").status_code == 405
    assert platform.server("ada", "robots")
    token = ada.form("/hub/language").fields["_xsrf"]
    assert ada.client.post("/hub/stop/ada/nothing", data={"_xsrf": token}).status_code == 404
    with Visitor(platform.url) as stranger:
        assert stranger.client.post("/hub/stop/ada/robots").status_code == 403
    platform.stop_server("ada", "robots")
    wait_until_settled(platform, "ada", "robots")


def test_the_language_is_switched_on_any_page_and_kept(platform: Platform, ben: Visitor) -> None:
    ben.visit("/hub/spawn/ben/vision")
    ben.send("/hub/language", language="en")
    assert ben.path == "/hub/spawn/ben/vision"
    assert '<html lang="en">' in ben.text
    found = people.person(platform.database, "ben")
    assert found is not None
    assert found.language == "en"
    ben.visit("/hub/home")
    ben.send("/hub/language", language="ko")
    assert '<html lang="ko">' in ben.text


def test_a_visitors_language_is_the_browsers_until_they_choose(platform: Platform) -> None:
    with Visitor(platform.url, "ko-KR,ko;q=0.9") as visitor:
        assert '<html lang="ko">' in visitor.text
        visitor.visit("/hub/login?next=%2Fhub%2Ftoken")
        visitor.send("/hub/language", language="en")
        assert visitor.answer.url.params["next"] == "/hub/token"
        assert '<html lang="en">' in visitor.text
    with Visitor(platform.url, "en") as visitor:
        assert '<html lang="en">' in visitor.text


def test_the_language_switch_leads_nowhere_else(ada: Visitor) -> None:
    token = ada.form("/hub/language").fields["_xsrf"]
    for referer in ("https://elsewhere.example/x", "//elsewhere.example", "", "javascript:alert(1)", "/hub/language"):
        answer = ada.client.post(
            "/hub/language",
            data={"_xsrf": token, "language": "en"},
            headers={"Referer": referer},
            follow_redirects=False,
        )
        assert (answer.status_code, answer.headers["Location"]) == (303, "/hub/home")
    for value in ("fr", "", "x" * 100_000):
        assert ada.client.post("/hub/language", data={"_xsrf": token, "language": value}).status_code == 400
    assert ada.client.post("/hub/language", data={"language": "ko"}).status_code == 403


@pytest.mark.parametrize(
    "path", ["/hub/home", "/hub/spawn/ada", "/hub/spawn/ada/vision", "/hub/token", "/hub/nowhere", "/hub/error/503"]
)
def test_every_page_loads_from_here_only_and_speaks_its_language(platform: Platform, ada: Visitor, path: str) -> None:
    for language in LANGUAGES:
        people.set_language(platform.database, "ada", language, now=1)
        ada.visit("/hub/home")
        if f'<html lang="{language}">' not in ada.text:
            ada.send("/hub/language", language=language)
        ada.visit(path)
        assert f'<html lang="{language}">' in ada.text
        addresses = ANNOUNCED.findall(ada.text)
        assert addresses
        assert [address for address in addresses if urlsplit(address).netloc or address.startswith("//")] == []
        assert "Traceback" not in ada.text
        assert ("JupyterHub" in ada.text) is False
    ada.visit("/hub/home")
    ada.send("/hub/language", language="en")


@pytest.mark.parametrize(
    ("path", "status", "heading"),
    [
        ("/hub/nowhere", 404, "There is no such page"),
        ("/hub/admin", 403, "This is not allowed"),
        ("/hub/error/503", 200, "This does not answer at the moment"),
        ("/hub/spawn/ben", 404, "There is no such page"),
        ("/user/ada/vision/", 424, "The server is not running"),
    ],
)
def test_an_error_has_a_way_on(ada: Visitor, path: str, status: int, heading: str) -> None:
    assert ada.visit(path).status_code == status
    assert re.search(rf"<h1>\s*{heading}\s*</h1>", ada.text)
    assert 'href="/hub/home"' in ada.text


def test_a_link_with_options_starts_nothing_and_says_so(platform: Platform, ada: Visitor) -> None:
    answer = ada.visit("/hub/spawn/ada/vision?profile=cpu-small")
    assert answer.status_code == 405
    assert 'data-refusal="link_may_not_start"' in ada.text
    assert platform.server("ada", "vision") is None


# The ledger's part of the home page, at chosen moments.


@pytest.fixture
def world(database: Database) -> centre.Centre:
    return centre.build(database)


def start(world: centre.Centre, profile: str = "h100") -> str:
    run_id = new_run_id()
    asked = Request(run_id, RunKind.NOTEBOOK, world.member, world.project, profile)
    admission.reserve(world.database, asked, world.now, Policy())
    return run_id


def home(world: centre.Centre, states: dict[str, str], now: int | None = None, language: str = "en") -> pages.Home:
    return pages.view(world.database, world.member, states, translator(language), now or world.now, Policy())


def test_the_time_left_ends_a_margin_before_the_limit_that_binds(world: centre.Centre) -> None:
    start(world)
    server = home(world, {"vision": "ready"}).servers[0]
    assert (server.state, server.profile) == ("ready", "h100 profile")
    assert server.remaining is not None
    assert server.remaining.limit == "the end of the award"
    assert server.remaining.seconds == world.ends_at - world.now - Policy().stop_margin
    assert server.remaining.until == "2027-02-13 16:58 KST"


def test_a_budget_that_ends_first_is_named(world: centre.Centre) -> None:
    small = centre.award(world, utilisation_ppm=20_000)
    projects.apply(world.database, centre.application(world, "small"), actor=world.pi, now=world.now)
    centre.approve(world, "small", small)
    run_id = new_run_id()
    asked = Request(run_id, RunKind.NOTEBOOK, world.pi, "small", "h100")
    admission.reserve(world.database, asked, world.now, Policy())
    view = pages.view(world.database, world.pi, {"small": "ready"}, translator("ko"), world.now, Policy())
    remaining = next(server for server in view.servers if server.project == "small").remaining
    assert remaining is not None
    assert remaining.limit == "과제의 잔여량"
    assert remaining.seconds == small.budget_gflops_seconds() // 66_900 - Policy().stop_margin


ENDS = {
    "borrowed devices are wanted back": (runs, {"preempt_at": centre.NOW + 300}, 300),
    "its devices are reserved or out of use then": (holds, {"ends_by": centre.NOW + 1_900}, 1_920 - 120),
    "the award is suspended": (allocations, {"suspended_at": centre.NOW}, 1_920 - 120),
}


@pytest.mark.parametrize("limit", ENDS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_what_ends_a_server_sooner_is_named(world: centre.Centre, limit: str, language: str) -> None:
    start(world)
    table, values, seconds = ENDS[limit]
    with world.database.write() as transaction:
        transaction.run(update(table).values(**values))
    (server,) = home(world, {"vision": "ready"}, language=language).servers
    assert server.remaining is not None
    assert (server.remaining.limit, server.remaining.seconds) == (translator(language)(limit), seconds)
    assert server.remaining.limit != limit or language == "en"


def test_a_member_who_is_taken_out_has_no_time_left(world: centre.Centre) -> None:
    start(world)
    projects.remove_member(world.database, world.project, world.member, actor=world.pi, now=world.now)
    view = home(world, {"vision": "ready"})
    assert view.projects == ()
    assert [(server.project, server.state) for server in view.servers] == [("vision", "ready")]


def test_what_only_the_ledger_has_is_being_settled(world: centre.Centre) -> None:
    start(world)
    assert [server.state for server in home(world, {}).servers] == ["settling"]


def test_the_person_is_told_what_the_ledger_told_them(world: centre.Centre) -> None:
    run_id = start(world)
    late = world.ends_at - HOUR_SECONDS // 4
    admission.extend(world.database, run_id, late, Policy())
    view = home(world, {"vision": "ready"}, late, "ko")
    assert len(view.notices) == 1
    assert "작업을 저장하세요" in view.notices[0].text


@pytest.mark.parametrize("language", LANGUAGES)
def test_without_the_ledger_home_shows_the_hubs_servers(tmp_path: Path, language: str) -> None:
    gone = Database(f"sqlite:///{tmp_path / 'missing' / 'ledger.sqlite'}")
    states = {"": "ready", "vision": "ready", "robots": "stop"}
    view = asyncio.run(pages.read(lambda: gone, "ada", states, translator(language), Policy()))
    gone.close()
    assert view.away
    assert [(server.project, server.state) for server in view.servers] == [("robots", "stop"), ("vision", "ready")]
    text = rendered("home.html", language, view)
    assert translator(language)("The ledger does not answer") in text
    assert 'action="/hub/stop/ada/vision"' in text


def rendered(name: str, language: str, view: pages.Home, **more: Any) -> str:
    """Return a page as the hub renders it: asynchronously, with the namespace that it gives to all."""
    user = SimpleNamespace(
        name="ada", json_escaped_name="ada", spawners={}, server_url=lambda name: f"/user/ada/{name}/"
    )

    async def home() -> pages.Home:
        return view

    settings = Settings(language=language)  # type: ignore[arg-type]
    given = pages.template_vars(lambda: pytest.fail("no page asks for the database while it is rendered"), settings)
    namespace = {key: value(user) if callable(value) else value for key, value in given.items()}
    namespace |= {"user": user, "base_url": "/hub/", "prefix": "/", "xsrf_token": "x", "services": [], "home": home}
    namespace |= {
        "parsed_scopes": {},
        "logout_url": "/hub/logout",
        "static_url": lambda path, **_: f"/hub/static/{path}",
    }
    namespace |= {"announcement": "", "logo_url": "", "version_hash": "", "admin_access": True}
    of_the_hub = Path(DATA_FILES_PATH) / "templates"
    loader = ChoiceLoader(
        [PrefixLoader({"templates": FileSystemLoader(of_the_hub)}), FileSystemLoader([TEMPLATES, of_the_hub])]
    )
    environment = Environment(loader=loader, autoescape=True, enable_async=True, undefined=StrictUndefined)
    return asyncio.run(environment.get_template(name).render_async(**namespace, **more))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("phase", list(Phase))
def test_the_starting_page_lists_the_phases(language: str, phase: Phase) -> None:
    moment = Moment(phase, "vision", CPU, until_at=centre.NOW, position=2, waiting=3, expected_seconds=9)
    spawner = SimpleNamespace(name="vision", moment=lambda: moment)
    text = rendered("spawn_pending.html", language, pages.away({}, centre.NOW), spawner=spawner, progress_url="/p?a=b")
    assert text.count("<li data-state=") == 6
    assert text.count('aria-current="step"') == 1
    assert 'new EventSource("/p?a=b")' in text
    assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in text
    assert 'action="/hub/stop/ada/vision"' in text


def test_a_failed_start_shows_its_refusal() -> None:
    away = pages.away({}, centre.NOW)
    more = {"server_name": "vision", "spawn_url": "/hub/spawn/ada/vision"}
    refusal = '<div data-refusal="pool_full">full</div>'
    text = rendered(
        "not_running.html", "en", away, failed=True, failed_html_message=refusal, failed_message="x", **more
    )
    assert refusal in text
    text = rendered("not_running.html", "en", away, failed=True, failed_html_message=None, failed_message=None, **more)
    assert "tell the operator this time: 20" in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_rarer_pages_are_rendered_in_both_languages(language: str) -> None:
    away, translate = pages.away({}, centre.NOW), translator(language)
    client = SimpleNamespace(description="<b>tool</b>", redirect_uri="https://tool.example/")
    described = [{"scope": "x", "description": "Read your name", "filter": "user=ada"}]
    text = rendered(
        "oauth.html", language, away, oauth_client=client, scope_descriptions=described, allowed_scopes=["x"], xsrf="x"
    )
    assert translate("It will be allowed to:") in text
    assert "&lt;b&gt;tool&lt;/b&gt;" in text
    assert '<input type="hidden" name="scopes" value="x">' in text
    assert translate("You are logged out") in rendered("logout.html", language, away, login_url="/hub/login")
    stopping = rendered("stop_pending.html", language, away, spawner=SimpleNamespace(name="vision"))
    assert translate("The server is stopping") in stopping
    assert '<meta http-equiv="refresh" content="5">' in stopping


def test_the_hubs_own_admin_page_stands_in_our_frame_with_its_scripts() -> None:
    text = rendered("admin.html", "ko", pages.away({}, centre.NOW), api_page_limit=50, server_version="6.1.1")
    assert '<html lang="ko">' in text
    for part in ("react-admin-hook", "/hub/static/js/admin-react.js", "require.js", "window.jhdata", "darkmode.js"):
        assert text.count(part) >= 1, part
