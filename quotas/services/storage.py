"""The files of a project whose awards are over: kept for a while, fetched by its members, and removed at last."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quotas.archives import Size, measure
from quotas.domain.people import PlatformRole
from quotas.domain.projects import Phase, ProjectState
from quotas.domain.refusals import Code, Refused
from quotas.domain.renewals import RenewalState
from quotas.domain.units import InvalidValue, show_instant
from quotas.services import project_views
from quotas.services.authority import require_project
from quotas.services.project_views import ProjectView
from quotas.store import audit, keys
from quotas.store import awards as awards_store
from quotas.store import people as people_store
from quotas.store import projects as projects_store
from quotas.store import renewals as renewals_store
from quotas.store import storage as store
from quotas.store.database import Database, Transaction

_WITH_THE_OFFICE = frozenset({RenewalState.SUBMITTED.value, RenewalState.IN_REVIEW.value})
_OVER = frozenset({Phase.REVOKED, Phase.GRACE, Phase.ENDED, Phase.CLOSED})


@dataclass(frozen=True)
class Kept:
    """A project that is over, whose files are kept until `storage_until` at least (seconds UTC)."""

    project: str
    title_ko: str
    title_en: str
    storage_until: int


def kept(database: Database, now: int) -> list[Kept]:
    """Return every project that is over and not closed, the one whose files may be removed soonest first."""
    with database.read() as transaction:
        return [
            Kept(row.project, row.title_ko, row.title_en, row.storage_until) for row in store.kept(transaction, now)
        ]


def may_fetch(database: Database, person: str, project: str) -> Refused | None:
    """Return why the person may not fetch the project's files, or None: its members may, in whatever role.

    A project that does not exist is answered as one that the person is not a member of.
    """
    with database.read() as transaction:
        found = keys.keys(transaction, person, project)
        if found.project_id is not None:
            who = people_store.one(transaction, person)
            if found.role is not None or (who is not None and PlatformRole.OPERATOR in who.platform_roles):
                return None
    return Refused(Code.NOT_A_MEMBER, {"person": person[:80], "project": project[:80]})


def note_fetched(database: Database, person: str, project: str, now: int) -> None:
    """An audit event says that the person has fetched the project's files."""
    with database.write() as transaction:
        audit.record(transaction, now, person, "files fetched", project)


@dataclass(frozen=True)
class Closing:
    """What closing a project would remove, and has removed when `is_done`."""

    project: str
    storage_until: int | None
    size: Size
    is_done: bool


def preview(database: Database, folder: Path, code: str, *, now: int, force: bool = False) -> Closing:
    """Return what `close` would remove. Raises InvalidValue where it would refuse."""
    with database.read() as transaction:
        view, _ = _closable(transaction, code, now, force=force)
    return Closing(code, view.storage_until, measure(folder), is_done=False)


def close(  # noqa: PLR0913 - each is one part of a decision that cannot be taken back
    database: Database,
    folder: Path,
    code: str,
    *,
    actor: str,
    now: int,
    force: bool = False,
    confirm: str = "",
) -> Closing:
    """The project is closed for good, and its folder removed.

    Only once its files need not be kept any more; with `force` before, confirmed by the project's code. What was begun
    and broke off is finished by the next call. Raises InvalidValue for a project that runs, or has runs that were not
    settled, and OSError where a file cannot be removed.
    """
    if force and confirm != code:
        raise InvalidValue(
            "confirm",
            f"what is removed cannot be brought back; confirm it with the project's code, {code!r:.60}",
            f"삭제한 파일은 되돌릴 수 없습니다. 과제 코드 {code!r:.60}(으)로 확인하세요",
        )
    if folder.is_symlink():
        raise InvalidValue(
            "project",
            f"the folder of {code} is a link; remove what it leads to by hand",
            f"{code} 과제의 폴더는 링크입니다. 연결된 폴더를 직접 삭제하세요",
        )
    size = measure(folder)
    with database.write() as transaction:
        view, project_id = _closable(transaction, code, now, force=force)
        if view.state is ProjectState.APPROVED:
            values: dict[str, Any] = {"ended_at": now}
            projects_store.change_state(transaction, project_id, view.state, ProjectState.ENDED, values)
        detail = {"files": size.files, "bytes": size.bytes, "force": force}
        if projects_store.close(transaction, project_id, now) or size.files:
            audit.record(transaction, now, actor, "project closed", code, detail)
    if folder.exists():
        shutil.rmtree(folder)
    return Closing(code, view.storage_until, size, is_done=True)


def _closable(transaction: Transaction, code: str, now: int, *, force: bool) -> tuple[ProjectView, int]:
    """Return the project and its id. Raises InvalidValue where it must not be closed now."""
    project_id, _ = require_project(transaction, code)
    view = project_views.one(transaction, code, now)
    if view is None:
        raise AssertionError("the project is there: this transaction has just read it")
    if view.phase not in _OVER or _is_to_come(transaction, project_id, now):
        raise InvalidValue(
            "project",
            f"{code} is {view.phase}; only what has ended or was revoked can be closed",
            f"{code}의 상태는 {view.phase}입니다. 종료되었거나 취소된 과제만 폐쇄할 수 있습니다",
        )
    if store.open_runs(transaction, project_id):
        raise InvalidValue(
            "project",
            f"something of {code} still runs; it is stopped within a minute",
            f"{code} 과제에 아직 실행 중인 것이 있습니다. 1분 안에 중지됩니다",
        )
    if force or view.phase is Phase.CLOSED:
        return view, project_id
    if view.storage_until is not None and now < view.storage_until:
        until = show_instant(view.storage_until)
        raise InvalidValue(
            "project",
            f"the files of {code} are kept until {until}; --force removes them before",
            f"{code} 과제의 파일은 {until}까지 보관합니다. 그 전에 삭제하려면 --force를 쓰세요",
        )
    waiting = [row.id for row in renewals_store.renewals_of(transaction, code) if row.state in _WITH_THE_OFFICE]
    if waiting:
        raise InvalidValue(
            "project",
            f"the renewal {waiting[0]} of {code} waits for a decision; decide it first, or use --force",
            f"{code} 과제의 갱신 신청 {waiting[0]}이(가) 심사 중입니다. 먼저 결정하거나 --force를 쓰세요",
        )
    return view, project_id


def _is_to_come(transaction: Transaction, project_id: int, now: int) -> bool:
    return any(
        row.revoked_at is None and row.project_ended_at is None and row.ends_at > now
        for row in awards_store.of_project(transaction, project_id)
    )
