"""Fixtures of the meters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.sysfs import FakeSysfs


@pytest.fixture
def sysfs() -> Iterator[FakeSysfs]:
    with FakeSysfs() as fake:
        yield fake
