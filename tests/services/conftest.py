"""A small centre, ready to be used."""

from __future__ import annotations

import pytest

from quotas.store.database import Database
from tests.services import centre as small
from tests.services.centre import Centre


@pytest.fixture
def centre(database: Database) -> Centre:
    return small.found(database)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def dialect(request: pytest.FixtureRequest) -> str:
    """The tests of this folder run on both databases."""
    return str(request.param)
