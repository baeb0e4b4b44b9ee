"""One platform with light servers for the tests of a module: they end what they start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.platform import Platform, running


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("platform")) as started:
        yield started
