"""docs/kubernetes/data_centre.md: what it says of a ledger's first day is run as it stands, and a start is admitted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from quotas.domain.admission import Admitted, Request
from quotas.domain.devices import MODELS
from quotas.domain.policy import Policy
from quotas.domain.profiles import Profile
from quotas.domain.runs import RunKind, new_run_id
from quotas.domain.terms_kubernetes import resource_of
from quotas.services import admission, profiles
from quotas.store.database import Database
from tests.cli.conftest import Ended

PAGE = Path(__file__).resolve().parents[2] / "docs" / "kubernetes" / "data_centre.md"


def test_an_empty_ledger_is_ready_after_the_commands_of_the_page(
    home: Path, tmp_path: Path, invoke: Callable[..., Ended]
) -> None:
    text = PAGE.read_text(encoding="utf-8")
    today = datetime.now(UTC).date() - timedelta(days=1)
    for written, meant in (("2026-12-01", today), ("2027-12-01", today + timedelta(days=300))):
        text = text.replace(written, meant.isoformat())
    (block,) = re.findall(r"<!-- tests/cli/test_first_day.py .*-->\n```sh\n(.*?)```", text, re.DOTALL)
    (card,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "card.toml").write_text(card)
    commands = [shlex.split(line) for line in block.replace("/tmp/card.toml", "card.toml").splitlines()]
    assert len(commands) > 10
    for program, *words in commands:
        assert program == "mudeung"
        ended = invoke(*words)
        assert (ended.code, ended.errors) == (0, ""), words

    with closing(Database(f"sqlite:///{home}/ledger.sqlite")) as database:
        now = int(datetime.now(UTC).timestamp())
        request = Request(new_run_id(), RunKind.NOTEBOOK, "minji", "vision", "cpu-small")
        assert isinstance(admission.reserve(database, request, now, Policy()), Admitted)
        resources = {each.profile.code: resource_of(each.profile) for each in profiles.list_profiles(database, now)}
    assert resources == {"cpu-small": None, "h200": "nvidia.com/gpu", "h200-1g": "nvidia.com/mig-1g.18gb"}


def test_the_page_names_the_resource_of_every_device_model() -> None:
    """The table of devices says what the platform does."""
    text = PAGE.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (`[^|]*) \| (`[^|]*) \|", text, re.MULTILINE))
    said = {
        model: resource
        for models, resources in rows.items()
        for model, resource in zip(
            re.findall(r"`([^`]+)`", models),
            [*re.findall(r"`([^`]+)`", resources)] * 9,
            strict=False,
        )
        if "/" in resource
    }
    plain = Profile("p", "p", "p", "image", 1, 1, 1, "h100", 1)
    known = {model.code for model in MODELS}
    assert set(said) <= known
    assert {model: resource_of(replace(plain, device_model=model)) for model in said} == said
    other = {model.code for model in MODELS if model.code not in said and "-mig-" not in model.code}
    assert {resource_of(replace(plain, device_model=model)) for model in other} == {"nvidia.com/gpu"}
