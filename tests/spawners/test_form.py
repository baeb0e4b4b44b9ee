"""The start form as HTML: what can be had, what cannot and why, and nothing that a title could break."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from string import Formatter

import pytest

from quotas.domain.admission import Request
from quotas.domain.people import LANGUAGES
from quotas.domain.policy import Policy
from quotas.domain.pools import CapacityPhase
from quotas.domain.priorities import Priority
from quotas.domain.projects import Phase
from quotas.domain.queue import EntryState, Mode
from quotas.domain.refusals import TABLE, Code, Refused
from quotas.domain.runs import RunKind, new_run_id
from quotas.domain.units import show_instant
from quotas.domain.waiting_time import Line, Occupied, estimate
from quotas.services import admission, pools, projects
from quotas.services.offers import ProfileOffer, ProjectOffer, offers
from quotas.services.queue_entries import Entry
from quotas.services.queue_views import Place, Wait
from quotas.store.database import Database
from spawners import cards
from spawners.form import XSRF_MARK, StartPage, render_form, render_refusal
from spawners.language import translator
from spawners.options import Choice
from tests import centre

VOID = {"input", "meta", "link", "br", "img", "hr"}
NUMBERS = {
    str(name): "<i>9</i>"
    for row in TABLE.values()
    for text in (row.message_en, row.message_ko, row.next_en, row.next_ko)
    for _, name, _, _ in Formatter().parse(text)
    if name
}
"""What the messages of all refusals are filled with."""


class Page(HTMLParser):
    """The elements of a page, in order; it must be well nested."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.forms = 0
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not (tag == "form" and "form" in self.open), "a form in a form"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.elements if name == tag and attributes.items() <= found.items()]


@pytest.fixture
def found(database: Database) -> list[ProjectOffer]:
    world = centre.build(database)
    return offers(database, world.member, world.now, Policy())


def start_page(found: Sequence[ProjectOffer], language: str = "en", **more: object) -> StartPage:
    return StartPage(language, centre.NOW, Policy(), tuple(found), **more)  # type: ignore[arg-type]


def form(
    found: Sequence[ProjectOffer],
    language: str = "en",
    server_name: str = "",
    last_choices: dict[str, Choice] | None = None,
    **more: object,
) -> Page:
    page = start_page(found, language, **more)
    html = render_form(page, user_name="member", server_name=server_name, last_choices=last_choices)
    assert html.strip()
    return Page(html)


def test_each_project_has_a_form_of_its_own(found: list[ProjectOffer]) -> None:
    page = form([*found, replace(found[0], code="second")])
    assert [each["action"] for each in page.all("form")] == ["/hub/spawn/member/vision", "/hub/spawn/member/second"]
    assert {each["method"] for each in page.all("form")} == {"post"}
    assert [each["value"] for each in page.all("input", name="_xsrf")] == [XSRF_MARK, XSRF_MARK]
    names = {str(each["name"]) for each in page.all("input")}
    assert names == {"_xsrf", "profile", "wish"}
    assert len({each["id"] for each in page.all("input", name="profile")}) == 6


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_profile_says_what_it_gives_costs_and_for_how_long(found: list[ProjectOffer], language: str) -> None:
    text = form(found, language).text
    for part in ("NVIDIA H100", "66.900 TF·h", "2 GiB", "10 GiB", "696 h" if language == "en" else "696시간"):
        assert part in text
    assert ("Free now", "4") in cards.project_card(found[0], translator("en")).profiles[2].facts


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_profile_says_until_when_it_can_be_had(database: Database, language: str) -> None:
    world = centre.build(database)
    coming = CapacityPhase("h100", world.now + 1_200, 4, 4, 0)
    pools.add_phase(database, world.pool, coming, actor=world.operator, now=world.now)
    translate = translator(language)
    (project,) = offers(database, world.member, world.now, Policy())
    facts = {card.code: dict(card.facts) for card in cards.project_card(project, translate).profiles}
    assert facts["h100"][translate("Free until")] == show_instant(world.now + 1_200)
    assert translate("Free until") not in facts["h100-1g"]
    with_seat = replace(project.profiles[2], decision=replace(project.profiles[2].decision, window_id=1))
    facts_of_seat = dict(cards.project_card(replace(project, profiles=(with_seat,)), translate).profiles[0].facts)
    assert facts_of_seat[translate("A seat is kept for you until")] == show_instant(world.now + 1_200)


def test_the_last_choice_is_preselected_where_it_can_be_had(found: list[ProjectOffer]) -> None:
    def checked(**last: str) -> list[str | None]:
        page = form(found, last_choices={project: Choice(profile) for project, profile in last.items()})
        return [each["value"] for each in page.all("input", name="profile") if "checked" in each]

    assert checked() == ["cpu-small"]
    assert checked(vision="h100") == ["h100"]
    assert checked(vision="withdrawn") == ["cpu-small"]


def test_what_cannot_be_had_is_shown_with_its_reason_and_a_way_on(database: Database) -> None:
    world = centre.build(database)
    projects.withdraw_profile(database, world.project, "h100", actor="x", now=world.now)
    page = form(offers(database, world.member, world.now, Policy()))
    assert [each["value"] for each in page.all("input", name="profile")] == ["cpu-small", "h100-1g"]
    assert page.all("div", **{"data-refusal": "profile_not_offered"})
    assert "may not use the profile h100." in page.text
    assert "Ask the operator to offer it to the project." in page.text


def test_a_running_server_is_offered_to_open_and_not_to_start(database: Database) -> None:
    world = centre.build(database)
    asked = Request(new_run_id(), RunKind.NOTEBOOK, world.member, world.project, "cpu-small")
    admission.reserve(database, asked, world.now, Policy())
    page = form(offers(database, world.member, world.now, Policy()))
    assert page.all("form") == []
    assert page.all("a", href="/hub/user/member/vision/")
    assert page.all("div", **{"data-refusal": "already_running"})


def test_a_named_project_comes_first_and_the_others_are_folded(found: list[ProjectOffer]) -> None:
    page = form([*found, replace(found[0], code="second", title_en="The second")], server_name="second")
    assert [each["data-project"] for each in page.all("article")] == ["second", "vision"]
    assert page.all("details", **{"class": "mu-others"})
    assert "Other projects: 1" in page.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_stranger_is_told_what_to_do(language: str) -> None:
    page = form([], language)
    assert page.all("form") == []
    assert "member" in page.text
    assert ("Ask the PI" if language == "en" else "연구책임자에게") in page.text


def test_a_project_that_is_not_the_persons_is_not_offered(found: list[ProjectOffer]) -> None:
    page = form(found, server_name="robots")
    assert "You have no project robots." in page.text
    assert [each["action"] for each in page.all("form")] == ["/hub/spawn/member/vision"]


def test_markup_in_names_stays_text(found: list[ProjectOffer]) -> None:
    bad = '"><script>alert(1)</script><b>'
    profile = replace(found[0].profiles[0], name_en=bad, device_model="x", device_name=bad)
    page = form([replace(found[0], title_en=bad, profiles=(profile,))], server_name=bad)
    assert page.all("script") == []
    assert page.all("b") == []
    assert page.text.count(bad) >= 3
    odd = render_form(start_page(found), user_name="a/b c?d", server_name="")
    assert 'action="/hub/spawn/a/b%20c%3Fd/vision"' in odd.replace("%2F", "/")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("code", list(Code))
def test_every_refusal_is_rendered_with_numbers_and_a_way_on(code: Code, language: str) -> None:
    refused = Refused(code, NUMBERS, earliest_at=centre.NOW, fits_now="cpu-small")
    html = render_refusal(refused, language)
    page = Page(html)
    assert page.all("div", **{"data-refusal": code.value})
    assert page.all("i") == [], "numbers are escaped"
    assert refused.message(language) in page.text
    assert refused.next_step(language) in page.text
    assert "2027-01-15 17:00 KST" in page.text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("code", list(Code))
def test_every_refusal_is_rendered_on_the_form(found: list[ProjectOffer], code: Code, language: str) -> None:
    refused = Refused(code, NUMBERS)
    profiles = tuple(replace(each, decision=refused) for each in found[0].profiles)
    page = form([replace(found[0], profiles=profiles)], language)
    assert page.all("form") == []
    assert page.all("div", **{"data-refusal": code.value})
    assert refused.message(language) in page.text


def test_an_answer_that_the_ledger_could_not_give_is_said_and_nothing_else() -> None:
    page = form([], error=Refused(Code.LEDGER_AWAY))
    assert page.all("div", **{"data-refusal": "ledger_away"})
    assert "You are in no project yet" not in page.text


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_phase_and_role_has_words(found: list[ProjectOffer], phase: Phase, language: str) -> None:
    for role in ("pi", "member", "instructor", "learner"):
        page = form([replace(found[0], phase=phase, role=role)], language)
        assert translator(language)(cards.PHASES[phase]) in page.text
        assert translator(language)(cards.ROLES[role]) in page.text


def test_a_budget_is_never_drawn_outside_its_meter(found: list[ProjectOffer]) -> None:
    for granted, available, held in ((10, 4, 2), (10, 0, 0), (10, 10, 0), (10**18, 1, 10**17), (3, 1, 1), (10, -1, 12)):
        drawn = cards.budget(replace(found[0], granted=granted, available=available, held=held))
        assert 0 <= drawn.used_permille <= 1000
        assert 0 <= drawn.held_permille <= 1000
    assert form([replace(found[0], granted=0)]).all("meter") == []


@pytest.mark.parametrize(
    ("seconds", "english", "korean"),
    [
        (0, "0 s", "0초"),
        (59, "59 s", "59초"),
        (5400, "1 h 30 min", "1시간 30분"),
        (36_000 * 100 + 59, "1,000 h", "1,000시간"),
    ],
)
def test_a_length_is_as_exact_as_it_matters(seconds: int, english: str, korean: str) -> None:
    assert cards.rough_duration(seconds, "en") == english
    assert cards.rough_duration(seconds, "ko") == korean


def test_a_card_without_a_rate_says_no_charge(found: list[ProjectOffer]) -> None:
    offer: ProfileOffer = replace(found[0].profiles[0], gflops=None)
    card = cards.project_card(replace(found[0], profiles=(offer,)), translator("en"))
    assert "Charge per hour" not in dict(card.profiles[0].facts)


def test_states_and_roles_in_a_refusal_are_in_the_persons_language() -> None:
    applied = Refused(Code.PROJECT_NOT_APPROVED, {"project": "vision", "state": "applied"})
    learner = Refused(Code.ROLE_MAY_NOT, {"project": "vision", "role": "learner"})
    assert "(상태: 심사 중)" in render_refusal(applied, "ko")
    assert "(state: applied)" in render_refusal(applied, "en")
    assert "수강생 역할로는" in render_refusal(learner, "ko")


def a_wait(profile: str = "h100", *, starts: bool = False) -> Wait:
    line = Line(usable=4, free=0, occupied=(Occupied(4, centre.NOW, centre.NOW + 600),))
    expected = None if starts else estimate(1, [], line, centre.NOW)
    return Wait(profile, Priority.BORROWED if starts else Priority.GUARANTEED, 1, expected, starts)


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_can_be_waited_for_has_a_form_with_place_time_and_choices(
    found: list[ProjectOffer], language: str
) -> None:
    page = form(found, language, waits={"vision": (a_wait(),)})
    assert page.all("form", action="/hub/queue/member/vision", method="post")
    assert page.all("input", name="profile", type="radio", id="vision--wait-h100", value="h100")
    assert [each["value"] for each in page.all("input", name="mode")] == ["start", "offer"]
    assert len(page.all("input", name="wish")) == 6, "the one who starts chooses it too"
    assert ("At the latest at 2027-01-15 17:10 KST" if language == "en" else "늦어도 2027-01-15 17:10 KST") in page.text
    assert ("with 5 min notice" if language == "en" else "5분 전에 알리고") in page.text
    assert page.all("details", **{"data-waiting": "vision"})
    assert "open" not in page.all("details", **{"data-waiting": "vision"})[0]


def test_after_a_refusal_it_is_in_sight(found: list[ProjectOffer]) -> None:
    choice = Choice("h100", Priority.OPPORTUNISTIC)
    page = form(found, waits={"vision": (a_wait(),)}, last_choices={"vision": choice})
    assert "open" in page.all("details", **{"data-waiting": "vision"})[0]
    chosen = [each["value"] for each in page.all("input", name="wish") if "checked" in each]
    assert chosen == ["opportunistic", "opportunistic"]


def test_what_can_be_borrowed_now_is_started_as_such(found: list[ProjectOffer]) -> None:
    page = form(found, waits={"vision": (a_wait(starts=True),)})
    assert page.all("form", action="/hub/spawn/member/vision", **{"data-borrow": "vision"})
    assert page.all("input", name="wish", type="hidden", value="borrowed")


def place(state: EntryState = EntryState.WAITING, mode: Mode = Mode.OFFER, **changes: object) -> Place:
    values: dict[str, object] = {
        "run_id": new_run_id(),
        "kind": RunKind.NOTEBOOK,
        "person": "member",
        "project": "vision",
        "title_ko": "자율주행 인식",
        "title_en": "Perception",
        "profile": "h100",
        "name_ko": "H100",
        "name_en": "H100",
        "device_model": "h100",
        "device_name": "NVIDIA H100",
        "device_count": 1,
        "seconds": None,
        "wish": Priority.GUARANTEED,
        "mode": mode,
        "state": state,
        "blocked_by": None,
        "joined_at": centre.NOW,
        "turn_at": centre.NOW + 60 if state is EntryState.TURN else None,
        "turn_until": centre.NOW + 660 if state is EntryState.TURN else None,
        "ended_at": None,
        "reason_ko": None,
        "reason_en": None,
    }
    entry = Entry(**(values | changes))  # type: ignore[arg-type]
    return Place(entry) if state is EntryState.TURN else Place(entry, 2, 5, a_wait().estimate)


@pytest.mark.parametrize("language", LANGUAGES)
def test_one_who_waits_sees_the_place_and_may_leave_it(found: list[ProjectOffer], language: str) -> None:
    page = form(found, language, places=(place(),), waits={"vision": (a_wait(),)})
    assert page.all("section", **{"data-place": "waiting"})
    assert ("Place 2 of 5" if language == "en" else "5건 중 2번째") in page.text
    assert page.all("form", action="/hub/queue/member/vision/cancel")
    assert page.all("form", **{"data-wait": "vision"}) == [], "a second place is not offered"
    assert page.all("button", name="mode", value="start"), "the other choice is"


@pytest.mark.parametrize("language", LANGUAGES)
def test_one_whose_turn_it_is_sees_how_long_and_starts_or_gives_it_up(found: list[ProjectOffer], language: str) -> None:
    page = form(found, language, places=(place(EntryState.TURN),))
    assert [each["action"] for each in page.all("form")] == [
        "/hub/spawn/member/vision",
        "/hub/queue/member/vision/cancel",
    ]
    assert page.all("input", name="profile", type="hidden", value="h100")
    assert "2027-01-15 17:11 KST" in page.text
    starting = form(found, language, places=(place(EntryState.TURN, Mode.START),))
    assert ("is being started" if language == "en" else "서버를 시작하고 있습니다") in starting.text


def test_one_who_is_passed_over_is_told_why(found: list[ProjectOffer]) -> None:
    page = form(found, places=(place(blocked_by="ceiling"),))
    assert "Others pass you for now: the project runs as much at once as it may." in page.text


def test_a_batch_run_that_waits_is_not_a_server(found: list[ProjectOffer]) -> None:
    page = form(found, places=(place(kind=RunKind.BATCH),))
    assert page.all("section", **{"data-place": "waiting"}) == []
