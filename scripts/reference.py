#!/usr/bin/env python3
"""Write the reference pages that follow from tables in the code, or with --check tell which are out of date."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pydantic_core import PydanticUndefined

from quotas.domain.people import MEMBERSHIP_RIGHTS
from quotas.domain.refusals import TABLE
from quotas.settings import FILE_NAME, Settings

PAGES = Path(__file__).resolve().parent.parent / "docs" / "reference"


def settings_page() -> str:
    """Return the page of every setting, from `quotas/settings.py`."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default is PydanticUndefined else str(getattr(field.default, "value", field.default))
        unit = next((unit for unit in ("seconds", "ppm") if name.endswith(unit)), "")
        rows.append(f"| `{name}` | {unit} | `{default}` | {field.description} |")
    return "\n".join(
        [
            "# Settings",
            "",
            f"Keys of `{FILE_NAME}` in the home folder. A wrong key, type or value is refused at the start,",
            "with the file, the key and what was expected. Made by `scripts/reference.py` from `quotas/settings.py`.",
            "",
            "| key | unit | default | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def refusals_page() -> str:
    """Return the page of every refusal, from `quotas/domain/refusals.py`."""
    rows = [
        f"| `{code}` | {row.status} | {row.message_en}<br>{row.message_ko} | {row.next_en}<br>{row.next_ko} |"
        for code, row in TABLE.items()
    ]
    return "\n".join(
        [
            "# Refusals",
            "",
            "Every reason for which a start is refused.",
            "Made by `scripts/reference.py` from `quotas/domain/refusals.py`.",
            "",
            "| code | HTTP | message | what to do |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def roles_page() -> str:
    """Return the page of project roles and their rights, from `quotas/domain/people.py`."""

    def mark(allowed: bool) -> str:
        return "yes" if allowed else "no"

    rows = [
        f"| `{role}` | {mark(rights.start)} | {mark(rights.schedule)} | {mark(rights.manage_members)} |"
        for role, rights in MEMBERSHIP_RIGHTS.items()
    ]
    return "\n".join(
        [
            "# Roles in a project",
            "",
            "Made by `scripts/reference.py` from `quotas/domain/people.py`.",
            "",
            "| role | starts servers | schedules notebooks | manages members |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


MAKERS = {"settings.md": settings_page, "refusals.md": refusals_page, "roles.md": roles_page}


def stale() -> list[str]:
    """Return the pages whose text is not what the code says."""
    return [
        name
        for name, make in MAKERS.items()
        if not (PAGES / name).exists() or (PAGES / name).read_text(encoding="utf-8") != make()
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is out of date")
    if parser.parse_args().check:
        found = stale()
        print("\n".join(f"docs/reference/{name} is out of date; run scripts/reference.py" for name in found))
        return 1 if found else 0
    PAGES.mkdir(parents=True, exist_ok=True)
    for name, make in MAKERS.items():
        (PAGES / name).write_text(make(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
