"""The start page's form: each project a form of its own, and each refusal's text as HTML.

How the parts fit: the hub calls the spawner's `options_form` and places what it returns in `templates/spawn.html`.
`render_form` returns whole `<form>` elements, one for each project, as a server belongs to a project and its name is
part of the address that is posted to. The page places them as they are, outside any form of its own, and puts its XSRF
token in place of `XSRF_MARK`, which stands in each form's hidden field `_xsrf`. Else `profile` is posted, and `wish`
where devices can be asked for less firmly. The forms that join or leave the queue go to :mod:`spawners.queue`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from quotas.domain.policy import Policy
from quotas.domain.refusals import Refused
from quotas.domain.runs import RunKind
from quotas.services import queue_texts
from quotas.services.offers import ProjectOffer
from quotas.services.queue_views import Place, Wait
from spawners import cards
from spawners.language import TEMPLATES, translator, words
from spawners.options import Choice

XSRF_MARK = "XSRF-TOKEN-OF-THE-PAGE"
"""Stands in each form until `spawn.html` puts the token of the request there."""


@dataclass(frozen=True)
class StartPage:
    """What the start page shows at `now`: the person's projects, where they wait, and for what they could, by project.

    `error` stands in place of all that where the ledger does not answer.
    """

    language: str
    now: int
    policy: Policy
    offers: tuple[ProjectOffer, ...] = ()
    places: tuple[Place, ...] = ()
    waits: Mapping[str, tuple[Wait, ...]] = field(default_factory=dict)
    error: Refused | None = None


@cache
def environment() -> Environment:
    """Return the environment of the templates' parts: everything is escaped, an unknown name is an error."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_form(
    page: StartPage,
    *,
    user_name: str,
    server_name: str,
    last_choices: Mapping[str, Choice] | None = None,
    hub_url: str = "/hub/",
) -> str:
    """Return the start page's HTML, never an empty string (with that the hub would start a server on a mere link).

    With a `server_name`, the project of that code comes first and the others are folded away; without one, all are
    listed. `last_choices` says by project what is preselected where it can be had. The page's error is shown above
    everything, as is the want of any project.
    """
    chosen = last_choices or {}
    projects = [_project(page, offer, chosen.get(offer.code)) for offer in page.offers]
    first = [project for project in projects if project.code == server_name]
    wishes = {code: choice.wish.value for code, choice in chosen.items()}
    return (
        environment()
        .get_template("parts/start_form.html")
        .render(
            **words(page.language),
            first=first or projects,
            others=[project for project in projects if project.code != server_name] if first else [],
            unknown=server_name if server_name and not first else None,
            error=None if page.error is None else cards.reason(page.error, page.language),
            user_name=user_name,
            hub_url=hub_url,
            xsrf_mark=XSRF_MARK,
            wishes=queue_texts.wishes(page.language, page.policy),
            modes=queue_texts.modes(page.language, page.policy),
            last_wishes=wishes,
        )
    )


def _project(page: StartPage, offer: ProjectOffer, choice: Choice | None) -> cards.ProjectCard:
    place = next((each for each in page.places if each.entry.project == offer.code and is_server(each)), None)
    shown = None if place is None else queue_texts.shown(place, page.language, page.now, page.policy)
    queue = cards.Queue(page.now, shown, page.waits.get(offer.code, ()))
    return cards.project_card(offer, translator(page.language), None if choice is None else choice.profile, queue)


def is_server(place: Place) -> bool:
    """Return whether a server is waited for, and not a batch run."""
    return place.entry.kind is RunKind.NOTEBOOK


def render_refusal(refused: Refused, language: str) -> str:
    """Return the refusal as HTML for `jupyterhub_html_message`: what and why with numbers, and what to do now."""
    template = environment().get_template("parts/refusal.html")
    return template.render(**words(language), reason=cards.reason(refused, language))
