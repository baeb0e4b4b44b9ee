"""The start page's form: each project a form of its own, and each refusal's text as HTML.

How the parts fit: the hub calls the spawner's `options_form` and places what it returns in `templates/spawn.html`.
`render_form` returns whole `<form>` elements, one for each project, as a server belongs to a project and its name is
part of the address that is posted to. The page places them as they are, outside any form of its own, and puts its XSRF
token in place of `XSRF_MARK`, which stands in each form's hidden field `_xsrf`. Else the one field `profile` is posted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from quotas.domain.refusals import Refused
from quotas.services.offers import ProjectOffer
from spawners import cards
from spawners.language import TEMPLATES, translator, words

XSRF_MARK = "XSRF-TOKEN-OF-THE-PAGE"
"""Stands in each form until `spawn.html` puts the token of the request there."""


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


def render_form(  # noqa: PLR0913 - each is a fact of one page, given by its name
    offers: Sequence[ProjectOffer],
    *,
    user_name: str,
    server_name: str,
    language: str,
    last_profiles: Mapping[str, str] | None = None,
    error: Refused | None = None,
    hub_url: str = "/hub/",
) -> str:
    """Return the start page's HTML, never an empty string (with that the hub would start a server on a mere link).

    With a `server_name`, the project of that code comes first and the others are folded away; without one, all are
    listed. `last_profiles` names by project what is preselected where it can be started. `error` is shown above
    everything, as is the want of any project.
    """
    translate = translator(language)
    chosen = last_profiles or {}
    projects = [cards.project_card(offer, translate, chosen.get(offer.code)) for offer in offers]
    first = [project for project in projects if project.code == server_name]
    return (
        environment()
        .get_template("parts/start_form.html")
        .render(
            **words(language),
            first=first or projects,
            others=[project for project in projects if project.code != server_name] if first else [],
            unknown=server_name if server_name and not first else None,
            error=None if error is None else cards.reason(error, language),
            user_name=user_name,
            hub_url=hub_url,
            xsrf_mark=XSRF_MARK,
        )
    )


def render_refusal(refused: Refused, language: str) -> str:
    """Return the refusal as HTML for `jupyterhub_html_message`: what and why with numbers, and what to do now."""
    template = environment().get_template("parts/refusal.html")
    return template.render(**words(language), reason=cards.reason(refused, language))
