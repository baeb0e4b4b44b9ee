"""A refusal as the hub takes it: shown with the same words by form, progress page and API, and no fault of the hub."""

from __future__ import annotations

from collections.abc import Mapping

from jupyterhub.spawner import SpawnException

from quotas.domain.refusals import Refused
from spawners.form import render_refusal


class PolicyRefused(SpawnException):
    """The start is refused. The hub counts neither this nor any other `SpawnException` as a failure of its own.

    The API shows a `SpawnException`'s message; the form and the progress page show `jupyterhub_message`, or the text of
    the exception, which is the one for the log: so all of them are set to what the person is to read.
    """

    def __init__(self, refused: Refused, language: str) -> None:
        sentence = refused.sentence(language)
        super().__init__(sentence, reason=refused.code.value, status_code=refused.status)
        self.refused = refused
        self.jupyterhub_message = sentence
        self.jupyterhub_html_message = render_refusal(refused, language)
        self.headers: Mapping[str, str] = {"Retry-After": "60"} if refused.status == 503 else {}
