"""A small centre, ready to be used."""

from __future__ import annotations

import pytest

from quotas.store.database import Database
from tests.services import centre as small
from tests.services.centre import Centre


@pytest.fixture
def centre(database: Database) -> Centre:
    return small.found(database)
