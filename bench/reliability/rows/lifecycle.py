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
    Row(
        "E2",
        "100 reloads in 60 s, ten of them invalid, under load",
        "0 failed requests; an invalid file changes nothing and is explained; memory within 5 %",
        "A signal, a changed file, a request; every kind of change under steady load; then a hundred reloads beside 100"
        " requests a second (a quick run leaves those out)",
        ProvenByTests(("tests/e2e/test_reload.py",), with_long=True).run,
    ),
    Row(
        "E3",
        "restart by socket hand-over at 200 a second",
        "0 refused, 0 reset, 0 failed",
        "Successor after successor takes the sockets over beside HTTP requests on new and kept connections and a gRPC"
        " channel; a minute and 26 times of it at 200 requests a second (a quick run leaves that out)",
        ProvenByTests(("tests/e2e/test_take_over.py",), with_long=True).run,
    ),
)
