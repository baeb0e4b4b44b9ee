"""The token of a run: its own and nobody else's."""

from __future__ import annotations

import pytest

from quotas.domain.runs import Limit, RunKind, new_run_id
from quotas.domain.sessions import NAMES, Remaining, extending, run_of, token_of

KEY = "a key of the platform"


def test_a_token_names_its_run() -> None:
    run_id = new_run_id()
    assert run_of(KEY, token_of(KEY, run_id)) == run_id


def test_no_other_text_is_a_token() -> None:
    run_id, other = new_run_id(), new_run_id()
    token = token_of(KEY, run_id)
    digest = token.partition(".")[2]
    forged = [
        "",
        ".",
        run_id,
        digest,
        f"{run_id}.",
        f"{other}.{digest}",
        token_of("another key", run_id),
        token.upper(),
        f"{token}0",
        token[:-1],
        f" {token}",
        f"{token}\n",
        f"{run_id}..{digest}",
        f"{run_id}.{digest}".replace("0", "٠"),
        token.replace(".", ":"),
        f"{run_id}.{'é' * 64}",
    ]
    assert [run_of(KEY, text) for text in forged] == [None] * len(forged)


def test_without_a_key_nothing_is_a_token() -> None:
    with pytest.raises(ValueError, match="no key"):
        token_of("", new_run_id())
    with pytest.raises(ValueError, match="no key"):
        run_of("", token_of(KEY, new_run_id()))


def test_every_limit_has_a_name() -> None:
    assert NAMES.keys() == set(Limit)
    assert all(english and korean and english != korean for english, korean in NAMES.values())


@pytest.mark.parametrize(
    ("kind", "before", "after", "possible"),
    [
        (RunKind.NOTEBOOK, 100, 160, True),
        (RunKind.NOTEBOOK, 100, 159, False),
        (RunKind.NOTEBOOK, 10, 1000, False),
        (RunKind.BATCH, 100, 1000, False),
    ],
)
def test_only_what_gains_a_minute_is_an_extension(kind: RunKind, before: int, after: int, *, possible: bool) -> None:
    found = extending(kind, 10, Remaining(before, Limit.IDLE), Remaining(after, Limit.SESSION))
    assert found.possible is possible
    assert found.after.stop_at == (after if possible else before)
