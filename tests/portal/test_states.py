"""Every state of a run and of a reservation has words in both languages; what goes on is not drawn as a failure."""

from __future__ import annotations

import pytest
from jinja2 import Environment, FileSystemLoader

from portal.views import MARKS
from quotas.domain.reservations import ReservationState, WindowState
from quotas.domain.schedules import FINAL, ExecutionState
from quotas.language import TEMPLATES, translator

TEMPLATES_OF_STATES = {
    "portal/states.html": [*ExecutionState],
    "portal/reservation_states.html": [*ReservationState, *WindowState],
}


@pytest.mark.parametrize("template", TEMPLATES_OF_STATES)
def test_each_state_has_words_in_both_languages(template: str) -> None:
    say = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True).get_template(template).module.state
    for state in TEMPLATES_OF_STATES[template]:
        korean, english = (str(say(state.value, translator(language))).strip() for language in ("ko", "en"))
        assert english, state
        assert korean, state
        assert korean != english, state


def test_what_has_not_ended_is_not_drawn_as_a_failure() -> None:
    assert set(ExecutionState) - FINAL <= set(MARKS)
