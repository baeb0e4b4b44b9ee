"""What a person was told, marked as read; and a recall of an award, with the PI's objection. Pages and API."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import Field

from portal.api import LARGEST_ID, Sent
from portal.bodies import NoBody, Strict, checked
from portal.door import AtPortal, AVisitor, Holder, OwnForm, Portal, Visitor
from portal.errors import Problem, invalid, not_found
from portal.login import PREFIX
from portal.views import instant
from quotas.domain.recalls import RecallState
from quotas.domain.units import PPM, InvalidValue, show_budget, show_instant, show_rate
from quotas.services import notices, people, recall_steps, recalls
from quotas.services.notices import Notice
from quotas.services.recalls import Recall

LISTED = 20
RECALL = "recall:"
"""What a notice of a recall is about begins so; the recall's number follows."""

pages = APIRouter(prefix=PREFIX.rstrip("/"), default_response_class=HTMLResponse, include_in_schema=False)
api = APIRouter(prefix=f"{PREFIX}api")
Id = Annotated[int, Path(ge=1, le=LARGEST_ID)]
Before = Annotated[int | None, Query(ge=1, le=LARGEST_ID)]


class ReadForm(Strict):
    """Everything up to the notice `newest` is read."""

    newest: Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]


class ObjectionBody(Strict):
    """Why a PI objects."""

    objection: Annotated[str, Field(max_length=recall_steps.LONGEST_TEXT)]


@pages.get("/notices")
def show_notices(portal: AtPortal, visitor: AVisitor, before: Before = None) -> HTMLResponse:
    """What the person was told, the newest first, some at a time."""
    found = _of_person(portal, visitor.username, before, LISTED + 1)
    listed = found[:LISTED]
    return portal.page(
        "notices",
        visitor,
        visitor.language,
        notices=[
            {
                "id": each.id,
                "at": show_instant(each.at),
                "text": each.text(visitor.language),
                "read": None if each.read_at is None else show_instant(each.read_at),
                "recall": _recall_of(each),
            }
            for each in listed
        ],
        newest=listed[0].id if any(each.read_at is None for each in listed) else None,
        older=listed[-1].id if len(found) > LISTED else None,
    )


@pages.post("/notices/read")
def read_all(portal: AtPortal, visitor: AVisitor, fields: OwnForm) -> RedirectResponse:
    """What the person has seen on the page is read; what came since is not."""
    newest = int(checked(ReadForm, fields).newest)
    notices.mark_all_read(portal.database, visitor.username, newest, now=portal.now)
    return RedirectResponse(f"{PREFIX}notices", 303)


@pages.post("/notices/{notice}/read")
def read_one(portal: AtPortal, visitor: AVisitor, notice: Id, fields: OwnForm) -> RedirectResponse:
    """One notice is read."""
    checked(NoBody, fields)
    _mark_read(portal, visitor.username, notice)
    return RedirectResponse(f"{PREFIX}notices", 303)


@pages.get("/recalls/{recall}")
def show_recall(portal: AtPortal, visitor: AVisitor, recall: Id) -> HTMLResponse:
    """A recall of the person's project: its numbers, and the form to object while there is time."""
    return _recall_page(portal, visitor, _seen(portal, visitor.username, recall))


@pages.post("/recalls/{recall}/objection")
def object_on_page(portal: AtPortal, visitor: AVisitor, recall: Id, fields: OwnForm) -> Any:
    """The person has objected, or the page comes back with what was wrong."""
    found = _seen(portal, visitor.username, recall)
    try:
        said = checked(ObjectionBody, fields).objection
        recall_steps.object_to(portal.database, recall, said, person=visitor.username, now=portal.now)
    except (InvalidValue, Problem) as error:
        problem = invalid(error) if isinstance(error, InvalidValue) else error
        return _recall_page(portal, visitor, found, fields.get("objection", ""), problem)
    return RedirectResponse(f"{PREFIX}recalls/{recall}", 303)


@api.get("/notices")
def list_notices(portal: AtPortal, holder: Holder, before: Before = None, unread: bool = False) -> list[dict[str, Any]]:
    """Return what the holder was told, the newest first; `before` is the id above those that follow."""
    return [_notice_json(each) for each in _of_person(portal, holder, before, notices.MOST_LISTED, unread=unread)]


@api.post("/notices/{notice}/read", status_code=204)
def read(portal: AtPortal, holder: Holder, notice: Id, sent: Sent) -> None:
    """Mark a notice as read; repeated, it changes nothing."""
    checked(NoBody, sent)
    _mark_read(portal, holder, notice)


@api.get("/recalls/{recall}")
def recall_of_project(portal: AtPortal, holder: Holder, recall: Id) -> dict[str, Any]:
    """Return a recall of a project that the holder leads."""
    return _recall_json(_seen(portal, holder, recall))


@api.post("/recalls/{recall}/objection", status_code=201)
def object_by_api(portal: AtPortal, holder: Holder, recall: Id, sent: Sent) -> dict[str, Any]:
    """Object to a recall of a project that the holder leads; return it."""
    _seen(portal, holder, recall)
    said = checked(ObjectionBody, sent).objection
    recall_steps.object_to(portal.database, recall, said, person=holder, now=portal.now)
    return _recall_json(_seen(portal, holder, recall))


def _of_person(portal: Portal, username: str, before: int | None, limit: int, *, unread: bool = False) -> list[Notice]:
    if people.person(portal.database, username) is None:
        return []
    return notices.of_person(portal.database, username, before=before, limit=limit, unread=unread)


def _mark_read(portal: Portal, username: str, notice: int) -> None:
    try:
        notices.mark_read(portal.database, username, notice, now=portal.now)
    except InvalidValue:
        raise not_found("notice") from None


def _recall_of(notice: Notice) -> str | None:
    return notice.about.removeprefix(RECALL) if notice.about.startswith(RECALL) else None


def _seen(portal: Portal, username: str, recall: int) -> Recall:
    """Return a recall of a project that the person leads. Raises Problem, the same for one that there is not."""
    found = recalls.of_leader(portal.database, recall, username)
    if found is None:
        raise not_found("recall")
    return found


def _recall_page(
    portal: Portal, visitor: Visitor, found: Recall, said: str = "", problem: Problem | None = None
) -> HTMLResponse:
    in_time = found.object_until is not None and portal.now < found.object_until
    return portal.page(
        "recall",
        visitor,
        visitor.language,
        200 if problem is None else problem.status,
        recall=found,
        amount=show_budget(found.amount),
        until=show_instant(found.object_until) if found.object_until else None,
        closed=show_instant(found.closed_at) if found.closed_at else None,
        recalled=show_budget(found.recalled) if found.recalled else None,
        freed=show_rate(found.freed_gflops) if found.freed_gflops else None,
        months=[
            {
                "month": month,
                "used": show_budget(used),
                "expected": show_budget(expected),
                "percent": f"{used * PPM // expected / 10_000:.1f} %",
                "counted": counted,
            }
            for month, used, expected, counted in found.months
        ],
        may_object=found.state is RecallState.NOTIFIED and in_time,
        longest=recall_steps.LONGEST_TEXT,
        said=said,
        problem=problem,
    )


def _notice_json(notice: Notice) -> dict[str, Any]:
    return {
        "id": notice.id,
        "kind": notice.kind,
        "about": notice.about,
        "text_ko": notice.text_ko,
        "text_en": notice.text_en,
        "at": instant(notice.at),
        "read_at": instant(notice.read_at),
    }


def _recall_json(recall: Recall) -> dict[str, Any]:
    return {
        "id": recall.id,
        "project": recall.project,
        "month": recall.month,
        "state": recall.state.value,
        "amount_gflops_seconds": str(recall.amount),
        "object_until": instant(recall.object_until),
        "objected_by": recall.objected_by,
        "objection": recall.objection,
        "decision": recall.decision.value if recall.decision else None,
        "reason": recall.reason,
        "closed_at": instant(recall.closed_at),
        "recalled_gflops_seconds": None if recall.recalled is None else str(recall.recalled),
        "freed_gflops": None if recall.freed_gflops is None else str(recall.freed_gflops),
        "months": [
            {"month": month, "used_gflops_seconds": str(used), "expected_gflops_seconds": str(expected)}
            for month, used, expected, _ in recall.months
        ],
    }
