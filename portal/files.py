"""A project's files as one archive, for its members: while it runs, and as long as they are kept after its end."""

from __future__ import annotations

import threading
from pathlib import Path as Folder
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from portal.door import AtPortal, AVisitor, Holder, Portal
from portal.errors import Problem, not_found, refusal
from portal.login import PREFIX
from quotas.archives import Archive
from quotas.services import storage

MOST_AT_ONCE = 4
"""Archives that are made at the same time: each one reads the disk as fast as its receiver takes it."""

pages = APIRouter(prefix=PREFIX.rstrip("/"), include_in_schema=False)
api = APIRouter(prefix=f"{PREFIX}api")
Project = Annotated[str, Path(max_length=80)]
_places = threading.BoundedSemaphore(MOST_AT_ONCE)


class Download(StreamingResponse):
    """An archive on its way; it gives its place back however it ends."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            _places.release()


@pages.get("/projects/{project}/files.tar.gz")
def fetch(portal: AtPortal, visitor: AVisitor, project: Project) -> Download:
    """The project's files, as a browser saves them."""
    return _download(portal, visitor.username, project)


@api.get("/projects/{project}/files", response_class=StreamingResponse)
def fetch_by_token(portal: AtPortal, holder: Holder, project: Project) -> Download:
    """Return the project's files as a gzipped tar; links that lead out of it are left out."""
    return _download(portal, holder, project)


def folder_to_fetch(portal: Portal, person: str, project: str) -> Folder | None:
    """Return the folder of a project whose files the person may fetch, or None where there is nothing for them."""
    if storage.may_fetch(portal.database, person, project) is not None:
        return None
    folder = portal.home.projects / project
    return folder if folder.is_dir() else None


def _download(portal: Portal, person: str, project: str) -> Download:
    refused = storage.may_fetch(portal.database, person, project)
    if refused is not None:
        raise refusal(refused)
    folder = folder_to_fetch(portal, person, project)
    if folder is None:
        raise not_found("project")
    if not _places.acquire(blocking=False):
        raise Problem(
            503,
            "busy",
            f"{MOST_AT_ONCE} archives are being fetched already.",
            f"이미 {MOST_AT_ONCE}개의 압축 파일을 내려받는 중입니다.",
            next_en="Try again in a few minutes.",
            next_ko="몇 분 후 다시 시도하세요.",
        )
    try:
        storage.note_fetched(portal.database, person, project, portal.now)
    except BaseException:
        _places.release()
        raise
    headers = {"Content-Disposition": f'attachment; filename="{project}.tar.gz"'}
    return Download(iter(Archive(folder, project)), media_type="application/gzip", headers=headers)
