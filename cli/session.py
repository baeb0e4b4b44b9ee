"""One invocation of the command: which home, whose language, what moment; and how every command ends."""

from __future__ import annotations

import contextlib
import functools
import getpass
import inspect
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy
import typer

from quotas import settings as settings_file
from quotas.backends.port import BackendAway
from quotas.domain.people import LANGUAGES
from quotas.domain.units import InvalidValue
from quotas.home import VARIABLE, Home, open_home
from quotas.settings import Settings, SettingsError
from quotas.store import audit, migrate
from quotas.store.database import Database, DatabaseAway

DEFAULT_HOME = Path("home")
FAILED = 1
USAGE = 2

_HOME_HELP = "Folder of the platform's state."
RootHomeOption = Annotated[
    Path | None, typer.Option("--home", envvar=VARIABLE, show_default="./home", help=_HOME_HELP, metavar="DIR")
]
HomeOption = Annotated[Path | None, typer.Option("--home", show_default="./home", help=_HOME_HELP, metavar="DIR")]
LanguageOption = Annotated[
    str | None,
    typer.Option(
        "--lang", help="Language of messages; without it the terminal's.", metavar="ko|en", show_default=False
    ),
]


class Problem(Exception):  # noqa: N818 - it is told to a person, who calls it so
    """The command ends with this message, in both languages, and `code`."""

    def __init__(self, english: str, korean: str, code: int = FAILED) -> None:
        super().__init__(english)
        self.english = english
        self.korean = korean
        self.code = code


@dataclass
class Session:
    """What every command is given. `now` is the moment at which it began, in seconds UTC."""

    path: Path
    asked_language: str | None
    now: int
    _opened: list[Database] = field(default_factory=list, init=False, repr=False)

    @cached_property
    def language(self) -> str:
        """The language that was asked for, else that of the terminal, else that of the settings."""
        if self.asked_language is not None:
            return self.asked_language
        for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
            spoken = os.environ.get(name, "")[:2]
            if spoken in LANGUAGES:
                return spoken
        try:
            return self.settings.language
        except SettingsError:
            return "ko"

    def text(self, english: str, korean: str) -> str:
        return korean if self.language == "ko" else english

    def say(self, english: str, korean: str) -> None:
        """Print one of the two, now: a person may be waiting at the other end of a pipe."""
        print(self.text(english, korean), flush=True)

    @cached_property
    def settings(self) -> Settings:
        """The settings of this home, or the defaults where there is no home yet."""
        return settings_file.read(self.path)

    @cached_property
    def home(self) -> Home:
        """The home, which must be there: a command that only looks makes no folder."""
        if not self.path.is_dir():
            raise Problem(
                f"home: there is no folder {self.path}; `mudeung up` makes it, --home names another",
                f"home: {self.path} 폴더가 없습니다. `mudeung up`으로 만들거나 --home으로 지정하세요",
            )
        return open_home(self.path)

    @cached_property
    def database(self) -> Database:
        """The ledger at its newest schema."""
        database = self.any_database()
        found, newest = migrate.current(database), migrate.head()
        if found is None:
            raise Problem(
                f"home: there is no ledger in {self.path} yet; `mudeung up` or `mudeung migrate` makes it",
                f"home: {self.path}에 원장이 없습니다. `mudeung up` 또는 `mudeung migrate`로 만드세요",
            )
        if found not in migrate.revisions():
            raise migrate.UnknownRevision(found)
        if found != newest:
            raise Problem(
                f"home: the ledger is at revision {found}, this program needs {newest}; run `mudeung migrate`",
                f"home: 원장 버전 {found}, 필요한 버전 {newest}. `mudeung migrate`를 실행하세요",
            )
        return database

    def any_database(self) -> Database:
        """Return the ledger's database, whatever its schema."""
        try:
            database = self.home.database()
        except (sqlalchemy.exc.ArgumentError, ImportError) as error:
            where = self.home.path / settings_file.FILE_NAME
            raise SettingsError(f"{where}: database_url: {error}") from None
        self._opened.append(database)
        return database

    def close(self) -> None:
        """Every connection to the ledger is closed."""
        for database in self._opened:
            database.close()

    @property
    def actor(self) -> str:
        """Who stands in the audit for what this command changes."""
        try:
            return f"cli:{getpass.getuser()}"[:63]
        except (KeyError, OSError):
            return f"cli:{os.getuid()}"


def new_session(context: typer.Context, home: Path | None, language: str | None) -> Session:
    """Return the session; what stands after the command wins over what stands before it."""
    before = context.find_root().params
    asked = language or before.get("lang")
    if asked is not None and asked not in LANGUAGES:
        raise typer.BadParameter(f"must be one of {', '.join(LANGUAGES)}", param_hint="--lang")
    path = home or before.get("home") or DEFAULT_HOME
    return Session(Path(path).absolute(), asked, int(time.time()))


def command(app: typer.Typer, name: str, *, example: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the function as `name`: its first parameter is the session, the others are options and arguments.

    Each command takes --home and --lang, shows `example` in its help, and ends with a message instead of a traceback
    when what it was given cannot be taken.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

        @functools.wraps(function)
        def run(context: typer.Context, home: Path | None, lang: str | None, **values: Any) -> None:
            session = new_session(context, home, lang)
            with_messages(session, functools.partial(function, session, **values), context.command_path)

        shared = [
            inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
            *(each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own),
            inspect.Parameter("home", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=HomeOption),
            inspect.Parameter("lang", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=LanguageOption),
        ]
        # Typer reads a function's options off its signature.
        run.__signature__ = inspect.Signature(shared)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in shared}
        app.command(name, epilog=f"Example: {example}")(run)
        return function

    return register


def with_messages(session: Session, work: Callable[[], object], name: str) -> None:
    """Do the work of the command `name`; what a person can mend ends as a message on the error stream and a code."""
    try:
        work()
    except Problem as problem:
        _end(session, session.text(problem.english, problem.korean), problem.code)
    except InvalidValue as invalid:
        _note_refusal(session, name, invalid.field)
        _end(session, invalid.in_language(session.language), FAILED)
    except SettingsError as wrong:
        _end(session, str(wrong), USAGE)
    except migrate.UnknownRevision as newer:
        english = (
            f"the ledger is at revision {newer.revision}, which this program does not know: take the newer program"
        )
        korean = f"원장 버전 {newer.revision}은(는) 이 프로그램이 모르는 버전입니다. 더 새로운 프로그램을 쓰세요"
        _end(session, session.text(english, korean), FAILED)
    except DatabaseAway as away:
        _end(session, session.text(f"the ledger does not answer: {away}", f"원장이 응답하지 않습니다: {away}"), FAILED)
    except BackendAway as away:
        _end(session, session.text(f"the backend does not answer: {away}", f"백엔드 응답 없음: {away}"), FAILED)
    except PermissionError as denied:
        _end(session, session.text(f"no permission: {denied}", f"권한이 없습니다: {denied}"), FAILED)
    finally:
        session.close()


def _note_refusal(session: Session, name: str, field: str) -> None:
    """An audit event says which command was refused and because of which field, where there is a ledger to say it."""
    with contextlib.suppress(Problem, SettingsError, DatabaseAway), session.database.write() as transaction:
        audit.record(transaction, session.now, session.actor, "command refused", name, {"field": field[:80]})


def _end(session: Session, message: str, code: int) -> None:
    print(session.text(f"Error: {message}", f"오류: {message}"), file=sys.stderr, flush=True)
    raise typer.Exit(code)
