"""What a request may carry: forms and JSON, every field once, known and of its type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from portal.errors import NOT_A_FORM, Problem, malformed
from quotas.domain.priorities import Priority
from quotas.domain.schedules import LONGEST_CRON, Timing, zone
from quotas.domain.units import InvalidValue, parse_instant
from quotas.services.schedules import NewSchedule

MOST_FIELDS = 200
PARAMETER = "parameter."
"""A form's field of a notebook's parameter: this and its name."""
ZONE = "Asia/Seoul"

Body = TypeVar("Body", bound=BaseModel)
Text = Annotated[str, Field(min_length=1, max_length=400)]
Wish = Literal["guaranteed", "borrowed", "opportunistic"]
"""How firmly devices are asked for: a `Priority` that a person may wish for."""


class Strict(BaseModel):
    """Nothing unknown, nothing converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ScheduleBody(Strict):
    """A notebook to run by a cron line in `timezone`, or once, `at` an ISO 8601 instant (of `timezone` without one)."""

    notebook: Text
    profile: Annotated[str, Field(min_length=1, max_length=40)]
    cron: Annotated[str, Field(max_length=LONGEST_CRON)] | None = None
    at: Annotated[str, Field(max_length=40)] | None = None
    timezone: Annotated[str, Field(max_length=60)] = ZONE
    timeout_seconds: Annotated[int, Field(ge=0, le=10**9)] = 3600
    parameters: Annotated[dict[str, Any], Field(max_length=50)] = Field(default_factory=dict)
    title: Annotated[str, Field(max_length=200)] = ""
    wish: Wish = "guaranteed"


class ScheduleForm(Strict):
    """The same as a form sends it, where every field is text; `when` chooses between `cron` and `at`."""

    notebook: Text
    profile: Annotated[str, Field(min_length=1, max_length=40)]
    when: Literal["cron", "at"]
    cron: Annotated[str, Field(max_length=LONGEST_CRON)] = ""
    at: Annotated[str, Field(max_length=40)] = ""
    timezone: Annotated[str, Field(max_length=60)] = ZONE
    timeout_minutes: Annotated[str, Field(max_length=10)] = "60"
    title: Annotated[str, Field(max_length=200)] = ""
    wish: Wish = "guaranteed"


class PauseBody(Strict):
    """Why a schedule is paused; it is shown to the project's people."""

    reason: Annotated[str, Field(max_length=200)] = ""


class NoBody(Strict):
    """Nothing but the form's own token."""


def new_schedule(body: ScheduleBody, project: str, person: str) -> NewSchedule:
    """Return what the API asks to schedule. Raises InvalidValue."""
    return NewSchedule(
        project=project,
        person=person,
        profile=body.profile,
        notebook=body.notebook,
        timing=timing(body.cron, body.at, body.timezone),
        timeout_seconds=body.timeout_seconds,
        parameters=body.parameters,
        title=body.title,
        wish=Priority(body.wish),
    )


def schedule_of_form(fields: Mapping[str, str], project: str, person: str) -> tuple[NewSchedule, dict[str, str]]:
    """Return what a form asks to schedule, and its parameters as text; an empty one is left to the notebook.

    Raises Problem for fields that the form has not, InvalidValue for values that cannot be.
    """
    texts = {name.removeprefix(PARAMETER): text for name, text in fields.items() if name.startswith(PARAMETER) and text}
    form = checked(ScheduleForm, {name: text for name, text in fields.items() if not name.startswith(PARAMETER)})
    minutes = form.timeout_minutes.strip()
    if not (minutes.isascii() and minutes.isdigit()):
        raise InvalidValue("timeout_minutes", "must be a whole number of minutes", "분 단위의 정수여야 합니다")
    once = form.when == "at"
    new = NewSchedule(
        project=project,
        person=person,
        profile=form.profile,
        notebook=form.notebook,
        timing=timing(None if once else form.cron, form.at if once else None, form.timezone),
        timeout_seconds=int(minutes) * 60,
        title=form.title,
        wish=Priority(form.wish),
    )
    return new, texts


def timing(cron: str | None, at: str | None, zone_name: str) -> Timing:
    """Return when a schedule fires; an instant without a zone is one of `zone_name`. Raises InvalidValue."""
    where = zone(zone_name)
    return Timing(zone_name, cron, None if at is None else parse_instant("at", at, zone=where))


def checked(kind: type[Body], values: object) -> Body:
    """Return the values as `kind`. Raises Problem, which names the first field that is wrong."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise malformed(error.errors()) from None


async def form_fields(request: Request) -> dict[str, str]:
    """Return the fields of a plain form. Raises Problem for another type, too many fields or a doubled one."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise NOT_A_FORM()
    try:
        text = (await request.body()).decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    except ValueError:
        raise malformed([{"loc": ("body",), "type": "", "msg": "it is no form"}]) from None
    return dict(_each_once(pairs))


async def json_object(request: Request) -> dict[str, Any]:
    """Return the JSON object that was sent; without a body, an empty one. Raises Problem, for a doubled field too."""
    body = await request.body()
    if not body:
        return {}
    try:
        found = json.loads(body, object_pairs_hook=_object, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise malformed([{"loc": ("body",), "type": "json_invalid", "msg": ""}]) from None
    if not isinstance(found, dict):
        raise malformed([{"loc": ("body",), "type": "dict_type", "msg": ""}])
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(_each_once(pairs))


def _no_number(word: str) -> None:
    raise ValueError(word)


def _each_once(pairs: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise Problem(400, "invalid_value", "is given twice", "두 번 주어졌습니다", name[:80])
        seen.add(name)
    return pairs
