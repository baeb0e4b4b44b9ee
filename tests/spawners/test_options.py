from __future__ import annotations

from typing import Any

import pytest

from quotas.domain.priorities import Priority
from quotas.domain.queue import Mode
from quotas.domain.refusals import Code, Refused
from spawners import options
from spawners.options import Choice

MEGABYTE = "x" * 2**20
WISHES = "guaranteed, borrowed, opportunistic"


def test_a_form_with_the_one_field_is_its_options() -> None:
    assert options.from_form({"profile": ["cpu-small"], "_xsrf": ["abc"]}) == {"profile": "cpu-small"}


def test_a_wish_is_kept_where_it_is_not_the_usual_one() -> None:
    assert options.from_form({"profile": ["gpu"], "wish": ["guaranteed"]}) == {"profile": "gpu"}
    assert options.from_form({"profile": ["gpu"], "wish": ["borrowed"]}) == {"profile": "gpu", "wish": "borrowed"}
    assert options.choice_of({"profile": "gpu", "wish": "borrowed"}) == Choice("gpu", Priority.BORROWED)


def test_a_form_of_the_queue_says_what_is_to_happen_too() -> None:
    form = {"profile": ["gpu"], "wish": ["opportunistic"], "mode": ["start"], "_xsrf": ["abc"]}
    assert options.waiting_of_form(form) == (Choice("gpu", Priority.OPPORTUNISTIC), Mode.START)


@pytest.mark.parametrize(
    ("form", "field", "problem"),
    [
        ({"profile": ["gpu"]}, "mode", "is missing"),
        ({"profile": ["gpu"], "mode": ["now"]}, "mode", "must be one of start, offer"),
        ({"profile": ["gpu"], "mode": ["start", "offer"]}, "mode", "is given 2 times"),
        ({"mode": ["start"]}, "profile", "is missing"),
    ],
)
def test_a_form_of_the_queue_with_anything_else_is_refused(form: Any, field: str, problem: str) -> None:
    refused = options.waiting_of_form(form)
    assert isinstance(refused, Refused)
    assert refused.message("en") == f"The field {field} {problem}."


def test_options_with_the_one_field_name_the_profile() -> None:
    assert options.choice_of({"profile": "cpu-small"}) == Choice("cpu-small")


@pytest.mark.parametrize(
    ("form", "field", "problem"),
    [
        ({}, "profile", "is missing"),
        ({"_xsrf": ["abc"]}, "profile", "is missing"),
        ({"profile": ["cpu-small", "gpu"]}, "profile", "is given 2 times"),
        ({"profile": ["cpu-small"], "image": ["evil"]}, "image", "is unknown"),
        ({"profile": ["cpu-small"], "profile_file": [{"filename": "a", "body": b"x"}]}, "profile_file", "is unknown"),
        ({"profile": [""]}, "profile", "is not a profile code ('')"),
        ({"profile": ["Not A Code"]}, "profile", "is not a profile code (Not A Code)"),
        ({"profile": [MEGABYTE]}, "profile", f"is not a profile code ({'x' * 60}…)"),
        ({MEGABYTE: ["a"]}, "x" * 60 + "…", "is unknown"),
        ({"profile": ["cpu-small"], "wish": ["reserved"]}, "wish", f"must be one of {WISHES}"),
        ({"profile": ["cpu-small"], "wish": ["borrowed", "borrowed"]}, "wish", "is given 2 times"),
    ],
)
def test_a_form_with_anything_else_is_refused_with_the_field(form: Any, field: str, problem: str) -> None:
    refused = options.from_form(form)
    assert isinstance(refused, Refused)
    assert refused.code is Code.FORM_INVALID
    assert refused.message("en") == f"The field {field} {problem}."
    assert refused.message("ko").startswith(f"입력 항목 {field}: ")


@pytest.mark.parametrize(
    ("stored", "field", "problem"),
    [
        (None, "profile", "is missing"),
        ([], "profile", "is missing"),
        ("cpu-small", "profile", "is missing"),
        ({"profile": None}, "profile", "must be text, not NoneType"),
        ({"profile": 7}, "profile", "must be text, not int"),
        ({"profile": True}, "profile", "must be text, not bool"),
        ({"profile": ["cpu-small"]}, "profile", "must be text, not list"),
        ({"profile": {"$ne": ""}}, "profile", "must be text, not dict"),
        ({"profile": "cpu-small", "mem_limit": "1T"}, "mem_limit", "is unknown"),
        ({"profile": "cpu-small", "wish": None}, "wish", "is missing"),
        ({"profile": "cpu-small", "wish": ["borrowed"]}, "wish", "must be text, not list"),
        ({"profile": "cpu-small", "wish": MEGABYTE}, "wish", f"must be one of {WISHES}"),
        ({"profile": "cpu-small", "mode": "start"}, "mode", "is unknown"),
        ({"profile": "cpu-small", "a\u202eb\n": 1}, "a��b�"[:1] + "�b�", "is unknown"),
    ],
)
def test_options_of_another_shape_are_refused_with_the_field(stored: Any, field: str, problem: str) -> None:
    refused = options.choice_of(stored)
    assert isinstance(refused, Refused)
    assert refused.message("en") == f"The field {field} {problem}."
