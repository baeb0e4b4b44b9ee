"""Rows shown as a table, as JSON or as CSV: one description of the columns for all three."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.session import Session
from quotas.domain.units import moment, show_budget, show_duration, show_instant, show_rate


class Format(StrEnum):
    """How a list is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


FormatOption = Annotated[Format, typer.Option("--output", "-o", help="How to write it.")]


class Kind(StrEnum):
    """What a column holds, from which follows how it is shown. `key` names the unit of an integer."""

    TEXT = "text"
    NUMBER = "number"
    AMOUNT = "amount"
    RATE = "rate"
    SECONDS = "seconds"
    INSTANT = "instant"


@dataclass(frozen=True)
class Column:
    """One column: its key in JSON and CSV, its headings, and what it holds."""

    key: str
    english: str
    korean: str
    kind: Kind = Kind.TEXT


Row = Mapping[str, Any]
NOTHING = "-"


def show(session: Session, columns: Sequence[Column], rows: Iterable[Row], output: Format = Format.TABLE) -> None:
    """Print the rows; amounts and rates are strings in JSON, as they can exceed what a double holds."""
    if output is Format.JSON:
        print(as_json([plain(columns, row) for row in rows]))
    elif output is Format.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow([column.key for column in columns])
        writer.writerows([_cell(column.kind, row[column.key]) for column in columns] for row in rows)
    else:
        _print_table(session, columns, rows)


def show_one(session: Session, columns: Sequence[Column], row: Row, output: Format = Format.TABLE) -> None:
    """Print one thing: a line for each of its columns, or one JSON object."""
    if output is Format.JSON:
        print(as_json(plain(columns, row)))
        return
    if output is Format.CSV:
        show(session, columns, [row], output)
        return
    grid = Table.grid(padding=(0, 2))
    for column in columns:
        value = readable(session, column.kind, row[column.key])
        grid.add_row(Text(session.text(column.english, column.korean), style="bold"), Text(value, overflow="fold"))
    console().print(grid)


def plain(columns: Sequence[Column], row: Row) -> dict[str, Any]:
    """Return the row as JSON has it: amounts and rates as strings, instants in ISO 8601."""
    return {column.key: _plain(column.kind, row[column.key]) for column in columns}


def as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def console() -> Console:
    """Return a console on the present output: as wide as the terminal; where no terminal is, nothing is folded."""
    return Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 1000)


def _print_table(session: Session, columns: Sequence[Column], rows: Iterable[Row]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        right = column.kind in {Kind.NUMBER, Kind.AMOUNT, Kind.RATE, Kind.SECONDS}
        heading = Text(session.text(column.english, column.korean))
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(readable(session, column.kind, row[column.key])) for column in columns))
    if table.row_count:
        console().print(table)
    else:
        session.say("(none)", "(없음)")


def readable(session: Session, kind: Kind, value: Any) -> str:
    """Return the value as people read it: with its unit or zone."""
    if value is None:
        return NOTHING
    if kind is Kind.SECONDS:
        return show_duration(int(value), session.language)
    by_kind: dict[Kind, Callable[[Any], str]] = {
        Kind.AMOUNT: show_budget,
        Kind.RATE: show_rate,
        Kind.INSTANT: show_instant,
        Kind.NUMBER: lambda number: f"{number:,}",
    }
    return by_kind[kind](value) if kind in by_kind else _printable(_joined(value))


def _joined(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _printable(text: str) -> str:
    """Show what a terminal would obey as a mark instead."""
    return "".join(each if each.isprintable() or each == "\n" else "\N{REPLACEMENT CHARACTER}" for each in text)


def _plain(kind: Kind, value: Any) -> Any:
    if value is None:
        return None
    if kind in {Kind.AMOUNT, Kind.RATE}:
        return str(value)
    if kind is Kind.INSTANT:
        return moment(value).isoformat().replace("+00:00", "Z")
    return value


def _cell(kind: Kind, value: Any) -> Any:
    """A text that a spreadsheet would take for a formula is made plain text by an apostrophe."""
    plain = _plain(kind, value)
    if plain is None:
        return ""
    if kind is not Kind.TEXT:
        return plain
    text = _joined(plain)
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text
