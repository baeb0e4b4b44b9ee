"""What may be sent to ask for, decide and change reservations; and what the answers look like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from portal.bodies import ZONE, Strict, checked
from portal.views import instant
from quotas.domain.reservations import Asked, parse_length
from quotas.domain.rosters import MOST_NAMES, read
from quotas.domain.schedules import zone
from quotas.domain.units import InvalidValue, parse_instant
from quotas.services.reservation_fit import Assessment
from quotas.services.reservation_texts import instead, warnings
from quotas.services.reservation_views import Claim, OnRoster, ReservationView, WindowView

DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
LONGEST_NAME = 80

Code = Annotated[str, Field(min_length=1, max_length=40)]
Title = Annotated[str, Field(max_length=200)]
Instant = Annotated[str, Field(max_length=40)]
Zone = Annotated[str, Field(max_length=60)]
Rule = Annotated[str, Field(max_length=400)]
Names = Annotated[list[Annotated[str, Field(max_length=LONGEST_NAME)]], Field(max_length=MOST_NAMES)]
Reason = Annotated[str, Field(max_length=1000)]
Username = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
Text = Annotated[str, Field(max_length=20)]


class ReservationBody(Strict):
    """`seats` of a profile for `seconds`, the first at `starts_at` (of `timezone` without one), repeated by `rrule`.

    `roster` null: all members. `pool` null: where it fits best.
    """

    profile: Code
    seats: Annotated[int, Field(ge=-(10**9), le=10**9)]
    starts_at: Instant
    seconds: Annotated[int, Field(ge=-(10**9), le=10**9)]
    timezone: Zone = ZONE
    rrule: Rule | None = None
    title_ko: Title
    title_en: Title
    charge_idle: bool = True
    pool: Code | None = None
    roster: Names | None = None


class ReservationForm(Strict):
    """The same as a form sends it; `when` chooses between once, chosen days of the week, and a rule."""

    act: Literal["check", "request"]
    profile: Code
    seats: Text
    starts: Instant
    length: Instant
    timezone: Zone = ZONE
    when: Literal["once", "weekly", "rule"] = "once"
    until: Text = ""
    rrule: Rule = ""
    title_ko: Title = ""
    title_en: Title = ""
    charge_idle: Literal["yes", "no"] = "no"
    roster: Annotated[str, Field(max_length=60_000)] = ""
    day_mo: Literal["", "on"] = ""
    day_tu: Literal["", "on"] = ""
    day_we: Literal["", "on"] = ""
    day_th: Literal["", "on"] = ""
    day_fr: Literal["", "on"] = ""
    day_sa: Literal["", "on"] = ""
    day_su: Literal["", "on"] = ""


class CancelBody(Strict):
    """Why a reservation is cancelled; `window` only this one of it."""

    reason: Reason = ""
    window: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None


class CancelForm(Strict):
    """The same as a form sends it."""

    reason: Reason = ""
    window: Annotated[str, Field(pattern=r"^[0-9]{0,9}$")] = ""


class ApprovalBody(Strict):
    """How a reservation is approved, where not as it was asked for."""

    seats: Annotated[int, Field(ge=1, le=10**9)] | None = None
    pool: Code | None = None
    leave_out: bool = False
    reason: Reason = ""


class ApprovalForm(Strict):
    """The same as a form sends it."""

    seats: Annotated[str, Field(pattern=r"^[0-9]{0,9}$")] = ""
    pool: Annotated[str, Field(max_length=40)] = ""
    leave_out: Literal["", "on"] = ""
    reason: Reason = ""


class RejectionBody(Strict):
    """Why a reservation is rejected."""

    reason: Reason


class RosterBody(Strict):
    """Who is on the roster: `names`, or null for all members; `dry_run` only says what that would change."""

    names: Names | None
    dry_run: bool = False


class RosterForm(Strict):
    """A change of a roster as a form sends it."""

    act: Literal["add", "remove", "members", "preview", "replace"]
    username: Annotated[str, Field(max_length=LONGEST_NAME)] = ""
    names: Annotated[str, Field(max_length=60_000)] = ""


def asked_of_body(body: ReservationBody, project: str) -> Asked:
    """Return what the API asks for. Raises InvalidValue."""
    return Asked(
        project=project,
        profile=body.profile,
        seats=body.seats,
        zone=body.timezone,
        starts_at=_instant(body.starts_at, body.timezone),
        seconds=body.seconds,
        title_ko=body.title_ko,
        title_en=body.title_en,
        rrule=body.rrule,
        charge_idle=body.charge_idle,
        pool=body.pool,
        roster=None if body.roster is None else tuple(body.roster),
    )


def asked_of_form(fields: Mapping[str, str], project: str) -> tuple[Asked, bool]:
    """Return what a form asks for, and whether it is only to be checked. Raises Problem and InvalidValue."""
    form = checked(ReservationForm, dict(fields))
    seats = form.seats.strip()
    if not (seats.isascii() and seats.isdigit()):
        raise InvalidValue("seats", "must be a whole number", "정수여야 합니다")
    only_checked = form.act == "check"
    asked = Asked(
        project=project,
        profile=form.profile,
        seats=int(seats),
        zone=form.timezone,
        starts_at=_instant(form.starts, form.timezone),
        seconds=parse_length(form.length),
        title_ko=form.title_ko or (project if only_checked else ""),
        title_en=form.title_en or (project if only_checked else ""),
        rrule=_rule(form),
        charge_idle=form.charge_idle == "yes",
        roster=read(form.roster.encode()).names if form.roster.strip() else None,
    )
    return asked, only_checked


def _instant(text: str, zone_name: str) -> int:
    return parse_instant("starts", text, zone=zone(zone_name))


def _rule(form: ReservationForm) -> str | None:
    if form.when == "once":
        return None
    if form.when == "rule":
        return form.rrule
    days = [day for day in DAYS if getattr(form, f"day_{day.lower()}")]
    until = form.until.replace("-", "")
    if not (len(until) == 8 and until.isascii() and until.isdigit()):
        raise InvalidValue("until", "must be the last day, as in 2027-06-20", "2027-06-20처럼 마지막 날을 입력하세요")
    return "FREQ=WEEKLY;" + (f"BYDAY={','.join(days)};" if days else "") + f"UNTIL={until}"


def reservation_json(found: ReservationView) -> dict[str, Any]:
    """Return a reservation as the API answers it."""
    return {
        "number": found.number,
        "project": found.project,
        "profile": found.profile,
        "pool": found.pool,
        "title_ko": found.title_ko,
        "title_en": found.title_en,
        "seats": found.seats,
        "starts_at": instant(found.starts_at),
        "seconds": found.seconds,
        "timezone": found.zone,
        "rrule": found.rrule,
        "charge_idle": found.charge_idle,
        "roster": found.roster.value,
        "state": found.state.value,
        "requested_by": found.requester,
        "requested_at": instant(found.requested_at),
        "decided_by": found.decided_by,
        "decided_at": instant(found.decided_at),
        "reason": found.reason,
        "next_at": instant(found.next_at),
        "window_count": found.window_count,
    }


def window_json(window: WindowView) -> dict[str, Any]:
    """Return a window with its seats as the API answers it."""
    return {
        "id": window.id,
        "opens_at": instant(window.opens_at),
        "starts_at": instant(window.starts_at),
        "release_at": instant(window.release_at),
        "ends_at": instant(window.ends_at),
        "state": window.state.value,
        "seats": window.seats,
        "in_use": window.taken,
        "kept": window.kept,
        "claimed": window.claimed,
        "released": window.released,
    }


def claim_json(claim: Claim) -> dict[str, Any]:
    """Return who claimed a seat as the API answers it."""
    return {
        "window": claim.window_id,
        "username": claim.username,
        "display_name": claim.display_name,
        "run": claim.run_id,
        "claimed_at": instant(claim.claimed_at),
        "in_use": claim.is_open,
    }


def roster_json(found: list[OnRoster]) -> list[dict[str, Any]]:
    """Return a roster as the API answers it; the role is null of one who is no member any more."""
    return [{"username": each.username, "display_name": each.display_name, "role": each.role} for each in found]


def fit_json(found: Assessment) -> dict[str, Any]:
    """Return how a reservation fits as the API answers it."""
    others = found.alternatives
    return {
        "fits": found.fits,
        "pool": found.pool,
        "windows": [
            {
                "starts_at": instant(fit.window.starts_at),
                "ends_at": instant(fit.window.ends_at),
                "seats": fit.wanted,
                "fit": fit.fit,
                "short": fit.short,
                "short_from": instant(fit.from_at),
                "short_to": instant(fit.to_at),
            }
            for fit in found.windows
        ],
        "instead": None
        if others is None
        else {
            "seats": others.seats,
            "earlier_at": instant(others.earlier_at),
            "later_at": instant(others.later_at),
            "pools": list(others.pools),
            "profiles": [{"profile": profile, "pool": pool} for profile, pool in others.profiles],
            "text_en": [english for english, _ in instead(found)],
            "text_ko": [korean for _, korean in instead(found)],
        },
        "cost_gflops_seconds": str(found.budget.cost),
        "payable_windows": found.budget.payable,
        "warnings_en": [english for english, _ in warnings(found)],
        "warnings_ko": [korean for _, korean in warnings(found)],
    }
