"""Fixtures of the HTTP/2 and gRPC tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.h2.servers import TestServer


@pytest.fixture(scope="session")
def testservice(work: Path) -> Iterator[TestServer]:
    """gRPC's test service on our server, with the limits that the proxy has."""
    with TestServer(work) as server:
        yield server
