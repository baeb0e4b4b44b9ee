"""`mudeung migrate`: the ledger at its newest schema."""

from __future__ import annotations

import typer

from cli.session import Session, command
from quotas.home import open_home
from quotas.store import migrate


def register(app: typer.Typer) -> None:
    command(app, "migrate", example="mudeung migrate --home /srv/mudeung")(bring_up_to_date)


def bring_up_to_date(session: Session) -> None:
    """Bring the ledger to the newest schema, making home and ledger where there are none; harmless to repeat."""
    session.home = open_home(session.path)
    database = session.any_database()
    applied = migrate.migrate(database)
    database.close()
    newest = migrate.head()
    if applied:
        steps = ", ".join(applied)
        session.say(f"Applied {steps}; the ledger is at {newest}.", f"적용: {steps}. 원장 버전: {newest}.")
    else:
        session.say(f"The ledger is at {newest} already.", f"원장 버전은 이미 {newest}입니다.")
