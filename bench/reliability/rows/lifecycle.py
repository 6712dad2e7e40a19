"""E: leaving."""

from __future__ import annotations

from bench.reliability.row import Row
from bench.reliability.tested import ProvenByTests

ROWS = (
    Row(
        "E1",
        "SIGTERM under 200 streams, HTTP and gRPC",
        "not ready at once; 100 % of what fits the grace ends well; GOAWAY; the rest get a terminal error; exit 0",
        "The test sends SIGTERM to a proxy with 200 streams of four dialects, half of which fit the grace period",
        ProvenByTests(("tests/e2e/test_stop.py",)).run,
    ),
)
