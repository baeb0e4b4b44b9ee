"""`mudeung settings`: every setting with its value, its default and what it means."""

from __future__ import annotations

import typer

from cli.session import Session, command
from cli.tables import Column, Format, FormatOption, show
from quotas.settings import FILE_NAME, Settings

COLUMNS = (
    Column("name", "setting", "설정"),
    Column("value", "value", "현재값"),
    Column("default", "default", "기본값"),
    Column("unit", "unit", "단위"),
    Column("sentence", "meaning", "설명"),
)
_UNITS = {"_seconds": "s", "_ppm": "ppm"}


def register(app: typer.Typer) -> None:
    command(app, "settings", example="mudeung settings -o json")(list_settings)


def list_settings(session: Session, output: FormatOption = Format.TABLE) -> None:
    """List every setting of this home with its unit, default and meaning."""
    values = session.settings.model_dump(mode="json")
    rows = [
        {
            "name": name,
            "value": _shown(values[name]),
            "default": _shown(field.default),
            "unit": next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), "-"),
            "sentence": field.description,
        }
        for name, field in Settings.model_fields.items()
    ]
    show(session, COLUMNS, rows, output)
    if output is Format.TABLE:
        path = session.path / FILE_NAME
        session.say(f"Set them in {path}, one `name = value` a line.", f"{path}에 `이름 = 값` 형식으로 설정합니다.")


def _shown(value: object) -> str:
    """Return the value as it stands in the file; a text without its quotes."""
    return str(value).lower() if isinstance(value, bool) else str(value)
